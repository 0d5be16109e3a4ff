/* Form `direct`: sums of few-bit codes in 16 bits. maddubs adds two products, which must fit s16; the sums are taken
 * modulo 2^16, and are exact less their centre when an output's range is at most 65535 wide. */
#include "backends/cpu/form_tools.h"
#include "backends/cpu/forms.h"

enum { SITES = 2 };

CPU_INLINE void direct_block(const form_site *site, const int sites, const int outputs) {
  vec sum[SITES * FORM_OUTPUTS];
  const uint8_t *weights = site->weights, *in = site->in;
  const int64_t in_site = site->in_site, *offset = site->offset, *end = offset + site->steps;
  uint8_t *sums = site->sums;
  const int64_t sums_site = site->sums_site;
#pragma GCC unroll 8
  for (int o = 0; o < outputs; o++)
#pragma GCC unroll 8
    for (int s = 0; s < sites; s++) sum[s * outputs + o] = vec_broadcast32(weights + FORM_WORD * o);
#pragma GCC unroll 1
  for (; offset < end; offset++) {
    vec code[SITES];
    weights += FORM_WORD * outputs;
#pragma GCC unroll 8
    for (int s = 0; s < sites; s++) code[s] = vec_load(in + *offset + s * in_site);
#pragma GCC unroll 8
    for (int o = 0; o < outputs; o++) {
      vec weight = vec_broadcast32(weights + FORM_WORD * o);
#pragma GCC unroll 8
      for (int s = 0; s < sites; s++) form_add16(&sum[s * outputs + o], vec_maddubs(code[s], weight));
    }
  }
#pragma GCC unroll 8
  for (int s = 0; s < sites; s++)
#pragma GCC unroll 8
    for (int o = 0; o < outputs; o++) vec_store(sums + s * sums_site + o * VEC, sum[s * outputs + o]);
}

#define KERNEL(outputs, name, sites)                                                                                   \
  static void direct_##outputs##_##name(const form_site *site) {                                                       \
    direct_block(site, sites, outputs);                                                                                \
  }
#define KERNELS(outputs) KERNEL(outputs, one, 1) KERNEL(outputs, many, SITES)
KERNELS(FORM_OUTPUTS)
KERNELS(4)
KERNELS(2)
KERNELS(1)

#define LIST_(outputs)                                                                                                 \
  { direct_##outputs##_many, direct_##outputs##_one }
#define LIST(outputs) LIST_(outputs)
static const form_kernels kernels = {
    .kernel = {LIST(FORM_OUTPUTS), LIST(4), LIST(2), LIST(1)},
    .sites = SITES,
    .step_bytes = FORM_WORD,
    .sum_bytes = VEC,
    .step_vectors = 1,
};

static bool takes(const cpu_conv_shape *shape) {
  return form_whole_vectors(shape);
}

static size_t prepared_bytes(const cpu_conv_shape *shape) {
  return form_prepared_bytes(shape, &kernels);
}

static size_t scratch_bytes(const cpu_conv_shape *shape, int32_t sites) {
  (void)sites;
  return form_scratch_bytes(shape, &kernels);
}

/* The steps of one output into its block; false when a pair of products could saturate. */
static bool prepare_output(const cpu_conv_shape *shape, const int8_t *weights, int64_t output, int32_t block,
                           uint8_t *to) {
  for (int32_t tap = 0; tap < form_taps(shape); tap++) {
    for (int32_t channel = 0; channel < 2 * form_vectors(shape); channel += 2) {
      int32_t a = form_weight(shape, weights, output, tap, channel);
      int32_t b = form_weight(shape, weights, output, tap, channel + 1);
      if (!form_pair_fits(shape->most, a, b)) return false;
      to += FORM_WORD * block;
      form_store_bytes(to, a, b);
    }
  }
  return true;
}

static bool prepare(const cpu_conv_shape *shape, const int8_t *weights, void *prepared, int32_t *centre) {
  int64_t steps = (int64_t)form_taps(shape) * form_vectors(shape);
  uint8_t *to = prepared;
  for (int32_t first = 0, block; first < shape->window.channels; first += block) {
    block = form_block(shape, first);
    for (int32_t o = 0; o < block; o++) {
      form_range range = form_output_range(shape, weights, first + o);
      if (range.most - range.least > UINT16_MAX) return false;
      centre[first + o] = form_centre(range);
      int64_t start = -shape->zero * range.total - centre[first + o];
      form_store_words(to + FORM_WORD * o, start, start);
      if (!prepare_output(shape, weights, first + o, block, to + FORM_WORD * o)) return false;
    }
    to += FORM_WORD * block * (steps + 1);
  }
  return true;
}

static void run(const cpu_conv_task *task) {
  form_run(task, &kernels);
}

const cpu_form CPU_NAME(form_direct) = {
    .name = "direct",
    .packing = CPU_PAIRS,
    .sums = CPU_SUMS_S16,
    .rows = 1,
    .positions = true,
    .takes = takes,
    .prepared_bytes = prepared_bytes,
    .scratch_bytes = scratch_bytes,
    .prepare = prepare,
    .run = run,
};
