/* Element-wise ops that look at the whole tensor first; contracts in cpu_ref/element.c. The others are steps of
 * chain.cl. */
#include "kernels_cl/sums.h"

/* partial[group] = largest |x| of the group's share; NaN are passed over. */
KERNEL(qk_largest)(BUFFER(x), BUFFER(partial), const qk_params_flat p) {
  LOCAL_ARRAY(float, shared, QK_GROUP);
  OPERAND(const float, x);
  OPERAND(float, partial);
  float largest = 0.0f;
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride())
    largest = fabs(x[i]) > largest ? fabs(x[i]) : largest;
  largest = qk_group_largest(shared, largest);
  if (local_id(0) == 0) partial[group_id(0)] = largest;
}

/* tanh of the largest of partial[0...p.parts): tanh is monotonic and odd. */
DEVICE float tanh_of_largest(LOCAL float *shared, GLOBAL const float *partial, int parts) {
  float largest = 0.0f;
  for (int i = (int)local_id(0); i < parts; i += QK_GROUP) largest = partial[i] > largest ? partial[i] : largest;
  return tanh(qk_group_largest(shared, largest));
}

KERNEL(qk_tanh_norm)(BUFFER(x), BUFFER(y), BUFFER(partial), const qk_params_flat p) {
  LOCAL_ARRAY(float, shared, QK_GROUP);
  OPERAND(const float, x);
  OPERAND(float, y);
  OPERAND(const float, partial);
  float bound = tanh_of_largest(shared, partial, p.parts);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride())
    y[i] = bound > 0.0f ? qk_divide(tanh(x[i]), bound) : x[i] * 0.0f; /* NaN stays NaN */
}

/* 1 - tanh(x)^2 = 4 e / (1 + e)^2, e = exp(-2 |x|), without cancellation */
KERNEL(qk_tanh_norm_grad)(BUFFER(dy), BUFFER(x), BUFFER(dx), BUFFER(partial), const qk_params_flat p) {
  LOCAL_ARRAY(float, shared, QK_GROUP);
  OPERAND(const float, dy);
  OPERAND(const float, x);
  OPERAND(float, dx);
  OPERAND(const float, partial);
  float bound = tanh_of_largest(shared, partial, p.parts);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    float e = exp(-2.0f * fabs(x[i])), slope = 4.0f * e / ((1.0f + e) * (1.0f + e));
    dx[i] = bound > 0.0f ? dy[i] * slope / bound : dy[i] * slope * 0.0f;
  }
}
