/* Cases as text: "OP seed=N", then optionally KEY=VALUE for anything that was drawn. */
#include "core/base/alloc.h"
#include "tests/parity/parity.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct case_field {
  const char *name;
  size_t at;
  bool real;
} case_field;

#define INTEGER(name, member)                                                                                          \
  { name, offsetof(parity_case, member), false }
#define REAL(name, member)                                                                                             \
  { name, offsetof(parity_case, member), true }

static const case_field fields[] = {
    INTEGER("type", principal.dtype),
    INTEGER("p", principal.dim[QE_P]),
    INTEGER("n", principal.dim[QE_N]),
    INTEGER("h", principal.dim[QE_H]),
    INTEGER("w", principal.dim[QE_W]),
    INTEGER("c", principal.dim[QE_C]),
    INTEGER("kernel_h", attrs.window.kernel[0]),
    INTEGER("kernel_w", attrs.window.kernel[1]),
    INTEGER("stride_h", attrs.window.stride[0]),
    INTEGER("stride_w", attrs.window.stride[1]),
    INTEGER("dilation_h", attrs.window.dilation[0]),
    INTEGER("dilation_w", attrs.window.dilation[1]),
    INTEGER("pad_top", attrs.window.pad[0]),
    INTEGER("pad_left", attrs.window.pad[1]),
    INTEGER("pad_bottom", attrs.window.pad[2]),
    INTEGER("pad_right", attrs.window.pad[3]),
    INTEGER("groups", attrs.window.groups),
    INTEGER("channels", attrs.window.channels),
    INTEGER("low_code", attrs.quant.low),
    INTEGER("high_code", attrs.quant.high),
    INTEGER("odd", attrs.quant.odd),
    INTEGER("round_up", attrs.quant.round_up),
    INTEGER("step_shift", attrs.quant.step_shift),
    INTEGER("per_channel", attrs.quant.per_channel),
    INTEGER("step_grad", attrs.quant.step_grad),
    REAL("grad_scale", attrs.quant.grad_scale),
    INTEGER("draws", attrs.noise.draws),
    INTEGER("antithetic", attrs.noise.antithetic),
    INTEGER("chance", attrs.noise.chance),
    INTEGER("size", attrs.noise.size),
    INTEGER("block_h", attrs.noise.block[0]),
    INTEGER("block_w", attrs.noise.block[1]),
    INTEGER("noise_channels", attrs.noise.channels),
    INTEGER("noise_low", attrs.noise.low),
    INTEGER("noise_high", attrs.noise.high),
    INTEGER("population", attrs.population),
    INTEGER("bits", attrs.grid.bits),
    INTEGER("grid_low", attrs.grid.low),
    INTEGER("grid_high", attrs.grid.high),
    INTEGER("spacing", attrs.grid.spacing),
    INTEGER("shift", attrs.requant.shift),
    INTEGER("clamp_low", attrs.requant.low),
    INTEGER("clamp_high", attrs.requant.high),
    INTEGER("narrow", attrs.requant.narrow),
    INTEGER("shared", attrs.requant.shared),
    INTEGER("from", attrs.requant.from),
    INTEGER("to", attrs.requant.to),
    INTEGER("other", attrs.other),
    INTEGER("pad_before", attrs.pad_channels[0]),
    INTEGER("pad_after", attrs.pad_channels[1]),
    INTEGER("images", attrs.images),
    INTEGER("pad", attrs.pad),
    INTEGER("flip", attrs.flip),
    INTEGER("cutout", attrs.cutout),
    INTEGER("brightness", attrs.jitter[QE_JITTER_BRIGHTNESS]),
    INTEGER("contrast", attrs.jitter[QE_JITTER_CONTRAST]),
    INTEGER("saturation", attrs.jitter[QE_JITTER_SATURATION]),
    REAL("low", attrs.low),
    REAL("high", attrs.high),
    REAL("epsilon", attrs.epsilon),
    REAL("momentum", attrs.momentum),
    REAL("smoothing", attrs.smoothing),
    REAL("scale", attrs.scale),
    REAL("temperature", attrs.temperature),
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

static const char *const fill_names[PARITY_FILLS] = {
#define X(id, name) name,
    PARITY_FILL_LIST(X)
#undef X
};

_Static_assert(sizeof(qe_dtype) == sizeof(int32_t) && sizeof(qe_step_grad) == sizeof(int32_t),
               "an enum field is set as an int32_t");

static int32_t get_integer(const parity_case *from, const case_field *field) {
  int32_t value;
  memcpy(&value, (const char *)from + field->at, sizeof value);
  return value;
}

static float get_real(const parity_case *from, const case_field *field) {
  float value;
  memcpy(&value, (const char *)from + field->at, sizeof value);
  return value;
}

char *parity_case_full_text(const parity_case *from, char *text) {
  size_t used = (size_t)snprintf(text, PARITY_FULL_TEXT, "%s seed=%" PRIu64 " fill=%s", qe_op_get_info(from->op)->name,
                                 from->seed, fill_names[from->fill]);
  for (int i = 0; i < FIELDS && used < PARITY_FULL_TEXT; i++) {
    const case_field *field = &fields[i];
    float real = get_real(from, field);
    if (field->real ? (real < 0 || real > 0) : get_integer(from, field) != 0)
      used +=
          (size_t)(field->real ? snprintf(text + used, PARITY_FULL_TEXT - used, " %s=%.9g", field->name, (double)real)
                               : snprintf(text + used, PARITY_FULL_TEXT - used, " %s=%d", field->name,
                                          get_integer(from, field)));
  }
  return text;
}

char *parity_case_text(const parity_case *from, char *text) {
  parity_case drawn;
  char original[PARITY_FULL_TEXT];
  parity_case_draw(from->op, from->seed, &drawn);
  if (strcmp(parity_case_full_text(&drawn, original), parity_case_full_text(from, text)) == 0)
    snprintf(text, PARITY_FULL_TEXT, "%s seed=%" PRIu64, qe_op_get_info(from->op)->name, from->seed);
  return text;
}

static qe_status set_field(parity_case *parsed, const char *key, const char *value) {
  char *end = NULL;
  if (strcmp(key, "fill") == 0) {
    for (int fill = 0; fill < PARITY_FILLS; fill++)
      if (strcmp(fill_names[fill], value) == 0) return parsed->fill = fill, QE_OK;
    return qe_fail(QE_USAGE, "there is no fill '%s'", value);
  }
  for (int i = 0; i < FIELDS; i++) {
    if (strcmp(fields[i].name, key) != 0) continue;
    float real = strtof(value, &end);
    if (*value == 0 || *end != 0) return qe_fail(QE_USAGE, "%s needs a number, not '%s'", key, value);
    int32_t integer = (int32_t)strtol(value, NULL, 10);
    if (fields[i].real)
      memcpy((char *)parsed + fields[i].at, &real, sizeof real);
    else
      memcpy((char *)parsed + fields[i].at, &integer, sizeof integer);
    return QE_OK;
  }
  return qe_fail(QE_USAGE, "a case has no field '%s'", key);
}

qe_status parity_case_parse(const char *text, parity_case *parsed) {
  qe_status status = QE_OK;
  char *place = NULL, *copy = qe_strdup(text);
  if (!copy) return QE_NO_MEMORY;
  const char *name = strtok_r(copy, " \t", &place);
  qe_op op = name ? qe_op_find(name) : QE_OPS;
  if (op == QE_OPS) {
    status = qe_fail(QE_USAGE, "case '%s': there is no such op; write 'conv2d seed=123'", text);
    goto done;
  }
  parity_case_draw(op, 1, parsed);
  for (char *word = strtok_r(NULL, " \t", &place); word; word = strtok_r(NULL, " \t", &place)) {
    char *equals = strchr(word, '=');
    if (!equals) {
      status = qe_fail(QE_USAGE, "case '%s': '%s' is not KEY=VALUE", text, word);
      goto done;
    }
    *equals = 0;
    if (strcmp(word, "seed") == 0)
      parity_case_draw(op, strtoull(equals + 1, NULL, 10), parsed);
    else
      QE_TRY_DONE(set_field(parsed, word, equals + 1));
  }
done:
  qe_free(copy);
  return status;
}
