/* For the sources that are compiled once an instruction set: CPU_ISA names it, CPU_NAME makes symbols of its own. */
#ifndef QE_BACKENDS_CPU_KERNELS_ISA_H
#define QE_BACKENDS_CPU_KERNELS_ISA_H

#include "backends/cpu/kernels.h"

#include <string.h>

#define CPU_JOIN_(a, b) cpu_##a##_##b
#define CPU_JOIN(a, b) CPU_JOIN_(a, b)
#define CPU_NAME(name) CPU_JOIN(name, CPU_ISA)

/* The loop's iterations do not depend on each other, whether or not operands share memory element by element. */
#define CPU_SIMD _Pragma("omp simd")
#define CPU_INLINE static inline __attribute__((always_inline))

/* Ops with a kernel, named CPU_NAME(op_tile) and CPU_NAME(op_rows). */
#define CPU_TILE_OPS(X)                                                                                                \
  X(bias_add)                                                                                                          \
  X(channel_sum)                                                                                                       \
  X(bn_stats)                                                                                                          \
  X(bn_norm)                                                                                                           \
  X(bn_grad_sums)                                                                                                      \
  X(bn_grad_x)                                                                                                         \
  X(clamp)                                                                                                             \
  X(clamp_grad)                                                                                                        \
  X(add)                                                                                                               \
  X(accumulate)                                                                                                        \
  X(quant)                                                                                                             \
  X(quant_grad)                                                                                                        \
  X(quant_gate)                                                                                                        \
  X(quant_gate_grad)                                                                                                   \
  X(square_sum)                                                                                                        \
  X(clip_norm)                                                                                                         \
  X(sgd)                                                                                                               \
  X(adam)                                                                                                              \
  X(ema)

#define CPU_ROWS_OPS(X)                                                                                                \
  X(concat)                                                                                                            \
  X(concat_grad)                                                                                                       \
  X(max_pool)                                                                                                          \
  X(max_pool_grad)                                                                                                     \
  X(avg_pool)                                                                                                          \
  X(avg_pool_grad)                                                                                                     \
  X(subsample)                                                                                                         \
  X(subsample_grad)                                                                                                    \
  X(quant)                                                                                                             \
  X(quant_grad)                                                                                                        \
  X(quant_gate)                                                                                                        \
  X(quant_gate_grad)                                                                                                   \
  X(softmax_xent)                                                                                                      \
  X(softmax_xent_grad)                                                                                                 \
  X(mix_xent)                                                                                                          \
  X(mix_xent_grad)                                                                                                     \
  X(kl_div)                                                                                                            \
  X(kl_div_grad)                                                                                                       \
  X(hint_square)                                                                                                       \
  X(hint_square_grad)                                                                                                  \
  X(hint_attention)                                                                                                    \
  X(hint_attention_grad)                                                                                               \
  X(augment)                                                                                                           \
  X(mix)                                                                                                               \
  X(int_requant)                                                                                                       \
  X(int_requant_add)                                                                                                   \
  X(int_perturb)                                                                                                       \
  X(int_augment)                                                                                                       \
  X(int_mix)                                                                                                           \
  X(int_softmax_error)                                                                                                 \
  X(int_gate)                                                                                                          \
  X(int_sum_pool)                                                                                                      \
  X(int_spread)                                                                                                        \
  X(int_subsample)                                                                                                     \
  X(int_pack)                                                                                                          \
  X(int_unpack)

#define X(op) void CPU_NAME(op##_tile)(const cpu_tile *tile);
CPU_TILE_OPS(X)
#undef X
#define X(op) void CPU_NAME(op##_rows)(const qe_call *call, int64_t first, int64_t last);
CPU_ROWS_OPS(X)
#undef X
void CPU_NAME(int_conv)(const qe_call *call, const cpu_int_conv *conv, int64_t first, int64_t last);
extern const cpu_outer_kernels CPU_NAME(outer_kernels);
extern const cpu_dots_kernels CPU_NAME(dots_kernels);
/* Image n of the batch of augment or int_augment as pixels. */
void CPU_NAME(augmented)(const qe_call *call, int64_t n, uint8_t *x);
void CPU_NAME(channel_sums)(const qe_call *call, int64_t first, int64_t last, uint64_t *sum, uint64_t *product);
float CPU_NAME(largest)(const float *x, int64_t count);
void CPU_NAME(tanh)(const float *x, float *y, float factor, int64_t count);
void CPU_NAME(tanh_grad)(const float *dy, const float *x, float *dx, float factor, int64_t count);

CPU_INLINE int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* rintf and floorf in forms that become a few vector instructions. */
#if defined(__SSE4_1__) || !defined(__x86_64__)
CPU_INLINE float round_even(float v) {
  return __builtin_rintf(v);
}
CPU_INLINE float round_down(float v) {
  return __builtin_floorf(v);
}
#else
CPU_INLINE float round_even(float v) {
  const float whole = 8388608.0f; /* from here on every float is an integer */
  float size = __builtin_fabsf(v);
  float rounded = __builtin_copysignf((size + whole) - whole, v);
  return size < whole ? rounded : v;
}
CPU_INLINE float round_down(float v) {
  float rounded = round_even(v);
  return rounded - (rounded > v ? 1.0f : 0.0f);
}
#endif

#endif
