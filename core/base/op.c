/* The op table and what can be asked of it. */
#include "core/base/op.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define IN(operand_name, kind_id)                                                                                      \
  { QE_READ, QE_KIND_##kind_id, #operand_name }
#define UP(operand_name, kind_id)                                                                                      \
  { QE_UPDATE, QE_KIND_##kind_id, #operand_name }
#define OUT(operand_name, kind_id)                                                                                     \
  { QE_WRITE, QE_KIND_##kind_id, #operand_name }
#define INPLACE QE_FLAG_INPLACE
#define COUNT_OPERANDS(...) (int)(sizeof((qe_operand_info[]){__VA_ARGS__}) / sizeof(qe_operand_info))

static const qe_op_info table[QE_OPS] = {
#define QE_OP(op_name, class_id, principal_at, error_bound, op_flags, ...)                                             \
  {.name = #op_name,                                                                                                   \
   .shape_class = QE_CLASS_##class_id,                                                                                 \
   .principal = (principal_at),                                                                                        \
   .bound = (error_bound),                                                                                             \
   .flags = (op_flags),                                                                                                \
   .operands = COUNT_OPERANDS(__VA_ARGS__),                                                                            \
   .operand = {__VA_ARGS__}},
#include "core/ops.def"
#undef QE_OP
};

const qe_op_info *qe_op_get_info(qe_op op) {
  return &table[op];
}

qe_op qe_op_find(const char *name) {
  int op = 0;
  while (op < QE_OPS && strcmp(table[op].name, name) != 0) op++;
  return (qe_op)op;
}

qe_status qe_call_check(const qe_call *call) {
  if ((unsigned)call->op >= QE_OPS) return qe_fail(QE_SHAPE, "there is no op number %d", (int)call->op);
  const qe_op_info *info = &table[call->op];
  if (call->operands != info->operands)
    return qe_fail(QE_SHAPE, "%s takes %d operands, %d given", info->name, info->operands, call->operands);
  qe_desc wanted[QE_MAX_OPERANDS];
  QE_TRY(qe_op_shapes(call->op, &call->attrs, &call->operand[info->principal].desc, wanted));
  for (int i = 0; i < info->operands; i++) {
    if (!qe_same_desc(&wanted[i], &call->operand[i].desc)) {
      char given[QE_DESC_TEXT], needed[QE_DESC_TEXT];
      return qe_fail(QE_SHAPE, "%s: operand %s is %s, must be %s", info->name, info->operand[i].name,
                     qe_desc_text(&call->operand[i].desc, given), qe_desc_text(&wanted[i], needed));
    }
  }
  return QE_OK;
}

int32_t qe_kind_limit(qe_kind kind, const qe_attrs *attrs, const qe_desc *principal) {
  switch (kind) {
  case QE_KIND_LABEL:
    return principal->dim[QE_C];
  case QE_KIND_INDEX:
    return attrs->images;
  case QE_KIND_SHARE:
    return QE_SHARE_ALL + 1;
  case QE_KIND_GATE:
    return 2;
  default:
    return 0;
  }
}

qe_status qe_call_check_values(const qe_call *call) {
  const qe_op_info *info = &table[call->op];
  for (int i = 0; i < info->operands; i++) {
    const qe_operand *operand = &call->operand[i];
    int32_t limit = qe_kind_limit(info->operand[i].kind, &call->attrs, &call->operand[info->principal].desc);
    const int32_t *value = operand->data;
    for (int32_t n = 0; limit > 0 && n < operand->desc.dim[QE_N]; n++)
      if (value[n] < 0 || value[n] >= limit)
        return qe_fail(QE_SHAPE, "%s: %s[%d] is %d, must be in 0...%d", info->name, info->operand[i].name, n, value[n],
                       limit - 1);
  }
  return QE_OK;
}

typedef struct text_buffer {
  char *text;
  size_t used, size;
} text_buffer;

static void append(text_buffer *to, const char *format, ...) QE_PRINTF(2, 3);
static void append(text_buffer *to, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int length = vsnprintf(to->text + to->used, to->size - to->used, format, args);
  va_end(args);
  if (length > 0) to->used += (size_t)length;
  if (to->used >= to->size) to->used = to->size - 1;
}

static void append_number(text_buffer *to, const char *name, double value) {
  if (value < 0 || value > 0) append(to, " %s=%g", name, value);
}

char *qe_call_text(const qe_call *call, char *text) {
  const qe_op_info *info = &table[call->op];
  text_buffer to = {text, 0, QE_CALL_TEXT};
  append(&to, "%s", info->name);
  for (int i = 0; i < call->operands; i++) {
    char desc[QE_DESC_TEXT];
    append(&to, " %s=%s", info->operand[i].name, qe_desc_text(&call->operand[i].desc, desc));
  }
  const qe_attrs *attrs = &call->attrs;
  const qe_window *window = &attrs->window;
  if (window->kernel[0])
    append(&to, " kernel=%dx%d stride=%dx%d dilation=%dx%d pad=%d,%d,%d,%d groups=%d", window->kernel[0],
           window->kernel[1], window->stride[0], window->stride[1], window->dilation[0], window->dilation[1],
           window->pad[0], window->pad[1], window->pad[2], window->pad[3], window->groups);
  if (info->shape_class == QE_CLASS_QUANT)
    append(&to, " codes=%d..%d odd=%d up=%d shift=%d per_channel=%d rule=%d grad_scale=%g", attrs->quant.low,
           attrs->quant.high, attrs->quant.odd, attrs->quant.round_up, attrs->quant.step_shift,
           attrs->quant.per_channel, (int)attrs->quant.step_grad, (double)attrs->quant.grad_scale);
  if (info->shape_class == QE_CLASS_PERTURB)
    append(&to, " draws=%d antithetic=%d chance=%d size=%d block=%dx%d channels=%d codes=%d..%d", attrs->noise.draws,
           attrs->noise.antithetic, attrs->noise.chance, attrs->noise.size, attrs->noise.block[0],
           attrs->noise.block[1], attrs->noise.channels, attrs->noise.low, attrs->noise.high);
  if (info->shape_class == QE_CLASS_PACK)
    append(&to, " bits=%d codes=%d..%d spacing=%d", attrs->grid.bits, attrs->grid.low, attrs->grid.high,
           attrs->grid.spacing);
  append_number(&to, "stride_h", info->shape_class == QE_CLASS_SUBSAMPLE ? window->stride[0] : 0);
  append_number(&to, "pad_before", attrs->pad_channels[0]);
  append_number(&to, "pad_after", attrs->pad_channels[1]);
  append_number(&to, "images", attrs->images);
  append_number(&to, "pad", attrs->pad);
  append_number(&to, "flip", attrs->flip);
  append_number(&to, "cutout", attrs->cutout);
  append_number(&to, "brightness", attrs->jitter[QE_JITTER_BRIGHTNESS]);
  append_number(&to, "contrast", attrs->jitter[QE_JITTER_CONTRAST]);
  append_number(&to, "saturation", attrs->jitter[QE_JITTER_SATURATION]);
  append_number(&to, "low", (double)attrs->low);
  append_number(&to, "high", (double)attrs->high);
  append_number(&to, "epsilon", (double)attrs->epsilon);
  append_number(&to, "momentum", (double)attrs->momentum);
  append_number(&to, "smoothing", (double)attrs->smoothing);
  append_number(&to, "scale", (double)attrs->scale);
  append_number(&to, "temperature", (double)attrs->temperature);
  return text;
}
