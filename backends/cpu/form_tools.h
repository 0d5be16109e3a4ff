/* What the forms that read maps of pairs share: a convolution as steps of one vector each, its weights in blocks of
 * outputs, and the ranges of its sums. Included by the kernels, after lane_vec.h. */
#ifndef QE_BACKENDS_CPU_FORM_TOOLS_H
#define QE_BACKENDS_CPU_FORM_TOOLS_H

#include "backends/cpu/lane_vec.h"

/* Outputs of a whole block: with two sites, as many as leave the accumulators in registers; found by measurement. */
#if defined(__AVX512BW__)
#define FORM_OUTPUTS 8
#else
#define FORM_OUTPUTS 6
#endif
enum { FORM_WORD = 4 };

CPU_INLINE int32_t form_taps(const cpu_conv_shape *shape) {
  return shape->window.kernel[0] * shape->window.kernel[1];
}
/* Depthwise: two groups of one channel are taken as one of two, half of whose weights are 0. */
CPU_INLINE bool form_depthwise(const cpu_conv_shape *shape) {
  return shape->window.groups > 1 && shape->inputs == shape->window.groups;
}
/* Whether every group reads whole vectors, or there is one group. */
CPU_INLINE bool form_whole_vectors(const cpu_conv_shape *shape) {
  const qe_window *window = &shape->window;
  return window->groups == 1 || shape->inputs / window->groups % 2 == 0 || form_depthwise(shape);
}
CPU_INLINE int32_t form_groups(const cpu_conv_shape *shape) {
  return form_depthwise(shape) ? (shape->window.groups + 1) / 2 : shape->window.groups;
}
/* Outputs of a group; the last has as many as are left. */
CPU_INLINE int32_t form_group_outputs(const cpu_conv_shape *shape) {
  return shape->window.channels / shape->window.groups * (form_depthwise(shape) ? 2 : 1);
}
/* Vectors of one pixel that a group reads. */
CPU_INLINE int32_t form_vectors(const cpu_conv_shape *shape) {
  return (shape->inputs / shape->window.groups + 1) / 2;
}

/* Outputs of the block that starts with output `first`. */
CPU_INLINE int32_t form_block(const cpu_conv_shape *shape, int32_t first) {
  int32_t group = form_group_outputs(shape), left = group - first % group;
  left = (int32_t)smaller(left, shape->window.channels - first);
  if (left >= FORM_OUTPUTS && (left != 8 || FORM_OUTPUTS == 8)) return FORM_OUTPUTS;
  return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}
/* Row of a table of kernels by their block of outputs. */
CPU_INLINE int form_block_index(int32_t outputs) {
  return outputs > 4 ? 0 : outputs == 4 ? 1 : outputs == 2 ? 2 : 3;
}

/* Weight of an output, a tap and a channel of what its group reads; 0 for the missing partner of an odd channel. */
CPU_INLINE int32_t form_weight(const cpu_conv_shape *shape, const int8_t *weights, int64_t output, int64_t tap,
                               int32_t channel) {
  int32_t inputs = shape->inputs / shape->window.groups;
  if (form_depthwise(shape)) channel = channel == output / (shape->window.channels / shape->window.groups) % 2 ? 0 : 1;
  return channel < inputs ? weights[(output * form_taps(shape) + tap) * inputs + channel] : 0;
}

typedef struct form_range {
  int64_t least, most; /* of an output's true sum */
  int64_t total;       /* sum of its weights */
} form_range;

CPU_INLINE form_range form_output_range(const cpu_conv_shape *shape, const int8_t *weights, int64_t output) {
  enum { RUN = 1 << 16 }; /* weights whose sums fit s32 */
  int64_t count = (int64_t)form_taps(shape) * (shape->inputs / shape->window.groups), total = 0, size = 0;
  const int8_t *weight = weights + output * count;
  for (int64_t from = 0; from < count; from += RUN) {
    int32_t run_total = 0, run_size = 0;
    for (int64_t i = from; i < smaller(from + RUN, count); i++) {
      run_total += weight[i];
      run_size += weight[i] < 0 ? -weight[i] : weight[i];
    }
    total += run_total;
    size += run_size;
  }
  int64_t positive = (size + total) / 2, negative = (size - total) / 2;
  int64_t high = shape->most - shape->zero, low = shape->zero;
  return (form_range){-low * positive - high * negative, high * positive + low * negative, positive - negative};
}

/* The middle of a range that is at most 65535 wide: sum - centre fits s16. */
CPU_INLINE int32_t form_centre(form_range range) {
  return (int32_t)(range.least + (range.most - range.least + 1) / 2);
}

/* Whether `most` times each of two weights, added, fits s16. */
CPU_INLINE bool form_pair_fits(int32_t most, int32_t a, int32_t b) {
  int32_t positive = (a > 0 ? a : 0) + (b > 0 ? b : 0), negative = (a < 0 ? -a : 0) + (b < 0 ? -b : 0);
  return most * positive <= INT16_MAX && most * negative <= INT16_MAX;
}

/* A pair of bytes, or of s16, twice or once: what vec_broadcast32 reads. */
CPU_INLINE void form_store_bytes(uint8_t *to, int32_t a, int32_t b) {
  to[0] = to[2] = (uint8_t)a;
  to[1] = to[3] = (uint8_t)b;
}
CPU_INLINE void form_store_words(uint8_t *to, int64_t a, int64_t b) {
  uint16_t word[2] = {(uint16_t)a, (uint16_t)b};
  memcpy(to, word, sizeof word);
}
CPU_INLINE void form_store_long(uint8_t *to, int64_t a) {
  uint32_t word = (uint32_t)a;
  memcpy(to, &word, sizeof word);
}

/* Vectors of the steps, in the order of the weights: tap by tap, a pixel's vectors filled up to whole steps. */
CPU_INLINE int64_t form_padded_vectors(const cpu_conv_shape *shape, int32_t step_vectors) {
  return (form_vectors(shape) + step_vectors - 1) / step_vectors * step_vectors;
}

/* Byte offsets of those vectors from a site's first tap; what fills up is the last vector again. */
CPU_INLINE void form_offsets(const cpu_conv_task *task, int32_t step_vectors, int64_t *offset) {
  const int32_t *kernel = task->shape->window.kernel;
  int64_t vectors = form_vectors(task->shape), padded = form_padded_vectors(task->shape, step_vectors);
  for (int32_t kh = 0; kh < kernel[0]; kh++)
    for (int32_t kw = 0; kw < kernel[1]; kw++)
      for (int64_t v = 0; v < padded; v++)
        *offset++ = kh * task->in_row + kw * task->in_pixel + smaller(v, vectors - 1) * task->in_vector;
}

/* sum += a, in 16 bits, in the register of `sum`: gcc 12 else copies accumulators that are used behind the loop, and
 * spills them. */
CPU_INLINE void form_add16(vec *sum, vec a) {
#ifdef VEC_OP
  __asm__("vpaddw %1, %0, %0" : "+v"(*sum) : "v"(a));
#else
  *sum = vec_add16(*sum, a);
#endif
}

/* A block of outputs at some neighbouring sites: where the kernels of blocks read and write. */
typedef struct form_site {
  const uint8_t *in;     /* first tap of the group's first vector */
  int64_t in_site;       /* bytes */
  const int64_t *offset; /* of each step's vectors */
  int64_t steps;
  const uint8_t *weights; /* of the block */
  uint8_t *sums;          /* of the block's first output */
  int64_t sums_site;      /* bytes */
} form_site;

typedef void (*form_kernel)(const form_site *site);

/* Kernels for blocks of outputs (form_block_index) by `wide` sites and by one. */
typedef struct form_kernels {
  form_kernel kernel[4][2];
  int32_t sites;      /* of a wide kernel */
  int64_t step_bytes; /* of a step's weights of an output; a block begins with one more such item an output */
  int64_t sum_bytes;  /* of an output's sums */
  int32_t step_vectors;
} form_kernels;

CPU_INLINE size_t form_prepared_bytes(const cpu_conv_shape *shape, const form_kernels *kernels) {
  int64_t steps = form_taps(shape) * form_padded_vectors(shape, kernels->step_vectors) / kernels->step_vectors;
  return (size_t)((steps + 1) * shape->window.channels * kernels->step_bytes);
}
CPU_INLINE size_t form_scratch_bytes(const cpu_conv_shape *shape, const form_kernels *kernels) {
  return (size_t)(form_taps(shape) * form_padded_vectors(shape, kernels->step_vectors)) * sizeof(int64_t);
}

/* All sites of the task, all blocks of outputs at each, so that a site's input stays in the first cache. */
CPU_INLINE void form_run(const cpu_conv_task *task, const form_kernels *kernels) {
  const cpu_conv_shape *shape = task->shape;
  int32_t per_group = form_group_outputs(shape), outputs = shape->window.channels;
  form_site at = {.in_site = task->in_site, .offset = task->scratch, .sums_site = outputs * kernels->sum_bytes};
  int64_t group_bytes = form_vectors(shape) * task->in_vector;
  form_offsets(task, kernels->step_vectors, task->scratch);
  at.steps = form_taps(shape) * form_padded_vectors(shape, kernels->step_vectors) / kernels->step_vectors;
  for (int32_t row = 0; row < task->rows; row++) {
    for (int32_t site = 0, many; site < task->sites; site += many) {
      bool wide = task->sites - site >= kernels->sites;
      many = wide ? kernels->sites : 1;
      const uint8_t *in = task->in + row * task->in_line + site * task->in_site;
      at.sums = (uint8_t *)task->sums + ((int64_t)row * task->sites + site) * at.sums_site;
      at.weights = task->prepared;
      for (int32_t first = 0, count; first < outputs; first += count) {
        count = form_block(shape, first);
        at.in = in + first / per_group * group_bytes;
        kernels->kernel[form_block_index(count)][wide ? 0 : 1](&at);
        at.weights += (at.steps + 1) * count * kernels->step_bytes;
        at.sums += count * kernels->sum_bytes;
      }
    }
  }
}

#endif
