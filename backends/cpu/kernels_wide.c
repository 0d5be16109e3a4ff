/* Forms with s32 sums of any codes: `wide` (products of s16 by pmaddwd), `vnni` (four products of bytes at a time) and
 * `plain` (one channel at a time, any groups). */
#include "backends/cpu/form_tools.h"
#include "backends/cpu/forms.h"

/* Both halves of each output's sums, as lanes.h orders them. */
typedef struct halves {
  vec low, high;
} halves;

CPU_INLINE void store_sums(uint8_t *sums, const halves *sum, const int outputs) {
#pragma GCC unroll 8
  for (int o = 0; o < outputs; o++) {
    vec_store(sums + 2 * o * VEC, sum[o].low);
    vec_store(sums + (2 * o + 1) * VEC, sum[o].high);
  }
}

CPU_INLINE void load_starts(const uint8_t *start, halves *sum, const int outputs) {
#pragma GCC unroll 8
  for (int o = 0; o < outputs; o++) sum[o].low = sum[o].high = vec_broadcast32(start + FORM_WORD * o);
}

/* ---- wide ---- */

CPU_INLINE void wide_block(const form_site *site, const int outputs) {
  halves sum[FORM_OUTPUTS];
  const uint8_t *weights = site->weights, *in = site->in;
  const int64_t *offset = site->offset, *end = offset + site->steps;
  load_starts(weights, sum, outputs);
#pragma GCC unroll 1
  for (; offset < end; offset++) {
    vec bytes = vec_load(in + *offset);
    halves code = {vec_unpacklo8(bytes, vec_zero()), vec_unpackhi8(bytes, vec_zero())};
    weights += FORM_WORD * outputs;
#pragma GCC unroll 8
    for (int o = 0; o < outputs; o++) {
      vec weight = vec_broadcast32(weights + FORM_WORD * o);
      sum[o].low = vec_add32(sum[o].low, vec_madd16(code.low, weight));
      sum[o].high = vec_add32(sum[o].high, vec_madd16(code.high, weight));
    }
  }
  store_sums(site->sums, sum, outputs);
}

#define KERNEL(form, outputs)                                                                                          \
  TARGET static void form##_##outputs(const form_site *site) {                                                         \
    form##_block(site, outputs);                                                                                       \
  }
#define KERNELS(form, outputs) KERNEL(form, outputs)
#define LIST_(form, outputs)                                                                                           \
  { form##_##outputs, form##_##outputs }
#define LIST(form, outputs) LIST_(form, outputs)
#define TARGET
KERNELS(wide, FORM_OUTPUTS)
KERNELS(wide, 4)
KERNELS(wide, 2)
KERNELS(wide, 1)

static const form_kernels wide_kernels = {
    .kernel = {LIST(wide, FORM_OUTPUTS), LIST(wide, 4), LIST(wide, 2), LIST(wide, 1)},
    .sites = 1,
    .step_bytes = FORM_WORD,
    .sum_bytes = 2 * VEC,
    .step_vectors = 1,
};

static bool wide_takes(const cpu_conv_shape *shape) {
  return form_whole_vectors(shape);
}

static size_t wide_prepared_bytes(const cpu_conv_shape *shape) {
  return form_prepared_bytes(shape, &wide_kernels);
}

static size_t wide_scratch_bytes(const cpu_conv_shape *shape, int32_t sites) {
  (void)sites;
  return form_scratch_bytes(shape, &wide_kernels);
}

/* Step by step, channels channel...channel + step_channels - 1 of each output of the block, 4 bytes each. */
static void prepare_wide_block(const cpu_conv_shape *shape, const int8_t *weights, int32_t first, int32_t block,
                               int32_t step_channels, uint8_t *to) {
  for (int32_t tap = 0; tap < form_taps(shape); tap++) {
    for (int32_t channel = 0; channel < 2 * form_vectors(shape); channel += step_channels) {
      for (int32_t o = 0; o < block; o++, to += FORM_WORD) {
        int32_t w[FORM_WORD] = {0};
        for (int32_t i = 0; i < step_channels; i++) w[i] = form_weight(shape, weights, first + o, tap, channel + i);
        if (step_channels == 2)
          form_store_words(to, w[0], w[1]);
        else
          for (int32_t i = 0; i < FORM_WORD; i++) to[i] = (uint8_t)w[i];
      }
    }
  }
}

static void prepare_wide(const cpu_conv_shape *shape, const int8_t *weights, const form_kernels *kernels, uint8_t *to,
                         int32_t *centre) {
  int64_t steps = form_taps(shape) * form_padded_vectors(shape, kernels->step_vectors) / kernels->step_vectors;
  for (int32_t first = 0, block; first < shape->window.channels; first += block) {
    block = form_block(shape, first);
    for (int32_t o = 0; o < block; o++) {
      centre[first + o] = 0;
      form_store_long(to + FORM_WORD * o, -shape->zero * form_output_range(shape, weights, first + o).total);
    }
    prepare_wide_block(shape, weights, first, block, 2 * kernels->step_vectors, to + FORM_WORD * block);
    to += FORM_WORD * block * (steps + 1);
  }
}

static bool wide_prepare(const cpu_conv_shape *shape, const int8_t *weights, void *prepared, int32_t *centre) {
  prepare_wide(shape, weights, &wide_kernels, prepared, centre);
  return true;
}

static void wide_run(const cpu_conv_task *task) {
  form_run(task, &wide_kernels);
}

const cpu_form CPU_NAME(form_wide) = {
    .name = "wide",
    .packing = CPU_PAIRS,
    .sums = CPU_SUMS_S32,
    .rows = 1,
    .positions = true,
    .takes = wide_takes,
    .prepared_bytes = wide_prepared_bytes,
    .scratch_bytes = wide_scratch_bytes,
    .prepare = wide_prepare,
    .run = wide_run,
};

/* ---- vnni ---- */

#if defined(__AVX512BW__)
#undef TARGET
#define TARGET __attribute__((target("avx512vnni")))

bool CPU_NAME(has_vnni)(void) {
  return __builtin_cpu_supports("avx512vnni");
}

/* A step is two vectors, their pairs interleaved to four channels an image. */
TARGET CPU_INLINE void vnni_block(const form_site *site, const int outputs) {
  halves sum[FORM_OUTPUTS];
  const uint8_t *weights = site->weights, *in = site->in;
  const int64_t *offset = site->offset, *end = offset + 2 * site->steps;
  load_starts(weights, sum, outputs);
#pragma GCC unroll 1
  for (; offset < end; offset += 2) {
    vec a = vec_load(in + offset[0]), b = vec_load(in + offset[1]);
    halves code = {vec_unpacklo16(a, b), vec_unpackhi16(a, b)};
    weights += FORM_WORD * outputs;
#pragma GCC unroll 8
    for (int o = 0; o < outputs; o++) {
      vec weight = vec_broadcast32(weights + FORM_WORD * o);
      sum[o].low = _mm512_dpbusd_epi32(sum[o].low, code.low, weight);
      sum[o].high = _mm512_dpbusd_epi32(sum[o].high, code.high, weight);
    }
  }
  store_sums(site->sums, sum, outputs);
}

KERNELS(vnni, FORM_OUTPUTS)
KERNELS(vnni, 4)
KERNELS(vnni, 2)
KERNELS(vnni, 1)

static const form_kernels vnni_kernels = {
    .kernel = {LIST(vnni, FORM_OUTPUTS), LIST(vnni, 4), LIST(vnni, 2), LIST(vnni, 1)},
    .sites = 1,
    .step_bytes = FORM_WORD,
    .sum_bytes = 2 * VEC,
    .step_vectors = 2,
};

static size_t vnni_prepared_bytes(const cpu_conv_shape *shape) {
  return form_prepared_bytes(shape, &vnni_kernels);
}

static size_t vnni_scratch_bytes(const cpu_conv_shape *shape, int32_t sites) {
  (void)sites;
  return form_scratch_bytes(shape, &vnni_kernels);
}

static bool vnni_prepare(const cpu_conv_shape *shape, const int8_t *weights, void *prepared, int32_t *centre) {
  prepare_wide(shape, weights, &vnni_kernels, prepared, centre);
  return true;
}

static void vnni_run(const cpu_conv_task *task) {
  form_run(task, &vnni_kernels);
}

const cpu_form CPU_NAME(form_vnni) = {
    .name = "vnni",
    .packing = CPU_PAIRS,
    .sums = CPU_SUMS_S32,
    .rows = 1,
    .positions = true,
    .takes = wide_takes,
    .prepared_bytes = vnni_prepared_bytes,
    .scratch_bytes = vnni_scratch_bytes,
    .prepare = vnni_prepare,
    .run = vnni_run,
};
#else
bool CPU_NAME(has_vnni)(void) {
  return false;
}
#endif

/* ---- plain ---- */

static int32_t plain_inputs(const cpu_conv_shape *shape) {
  return shape->inputs / shape->window.groups;
}

/* Of each output: its start as s32, then its weights as they come. */
static size_t plain_output_bytes(const cpu_conv_shape *shape) {
  return FORM_WORD + ((size_t)form_taps(shape) * (size_t)plain_inputs(shape) + 3) / FORM_WORD * FORM_WORD;
}

static bool plain_takes(const cpu_conv_shape *shape) {
  (void)shape;
  return true;
}

static size_t plain_prepared_bytes(const cpu_conv_shape *shape) {
  return plain_output_bytes(shape) * (size_t)shape->window.channels;
}

static size_t plain_scratch_bytes(const cpu_conv_shape *shape, int32_t sites) {
  (void)shape;
  (void)sites;
  return 0;
}

static bool plain_prepare(const cpu_conv_shape *shape, const int8_t *weights, void *prepared, int32_t *centre) {
  size_t count = (size_t)form_taps(shape) * (size_t)plain_inputs(shape);
  uint8_t *to = prepared;
  for (int32_t o = 0; o < shape->window.channels; o++, to += plain_output_bytes(shape)) {
    centre[o] = 0;
    form_store_long(to, -shape->zero * form_output_range(shape, weights, o).total);
    memcpy(to + FORM_WORD, weights + (size_t)o * count, count);
  }
  return true;
}

/* sum[image] += code * weight of channels first...first + count - 1 of one pixel, modulo 2^32. */
static void plain_pixel(const uint8_t *pixel, int64_t in_vector, int32_t first, int32_t count, const int8_t *weight,
                        uint32_t *sum) {
  for (int32_t c = first; c < first + count; c++) {
    const uint8_t *code = pixel + c / 2 * in_vector + c % 2;
    int32_t w = *weight++;
    for (int32_t i = 0; i < LANES; i++) sum[i] += (uint32_t)(code[2 * i] * w);
  }
}

static void plain_output(const cpu_conv_task *task, const uint8_t *in, int32_t output, uint32_t *to) {
  const cpu_conv_shape *shape = task->shape;
  const int32_t *kernel = shape->window.kernel;
  const uint8_t *prepared = (const uint8_t *)task->prepared + plain_output_bytes(shape) * (size_t)output;
  const int8_t *weight = (const int8_t *)prepared + FORM_WORD;
  int32_t inputs = plain_inputs(shape), group = output / (shape->window.channels / shape->window.groups);
  uint32_t sum[LANES], start;
  memcpy(&start, prepared, sizeof start);
  for (int32_t i = 0; i < LANES; i++) sum[i] = start;
  for (int32_t kh = 0; kh < kernel[0]; kh++) {
    for (int32_t kw = 0; kw < kernel[1]; kw++, weight += inputs)
      plain_pixel(in + kh * task->in_row + kw * task->in_pixel, task->in_vector, group * inputs, inputs, weight, sum);
  }
  for (int32_t i = 0; i < LANES; i++) to[i / 4 % 2 * (LANES / 2) + i / 8 * 4 + i % 4] = sum[i];
}

static void plain_run(const cpu_conv_task *task) {
  uint32_t *to = task->sums;
  for (int32_t row = 0; row < task->rows; row++) {
    for (int32_t site = 0; site < task->sites; site++) {
      const uint8_t *in = task->in + row * task->in_line + site * task->in_site;
      for (int32_t o = 0; o < task->shape->window.channels; o++, to += LANES) plain_output(task, in, o, to);
    }
  }
}

const cpu_form CPU_NAME(form_plain) = {
    .name = "plain",
    .packing = CPU_PAIRS,
    .sums = CPU_SUMS_S32,
    .rows = 1,
    .positions = true,
    .takes = plain_takes,
    .prepared_bytes = plain_prepared_bytes,
    .scratch_bytes = plain_scratch_bytes,
    .prepare = plain_prepare,
    .run = plain_run,
};
