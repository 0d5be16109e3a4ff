/* Gradient clipping and the optimizers' updates; contracts in cpu_ref/optimize.c. hyper: indexed by QK_HYPER_... */
#include "kernels_cl/sums.h"

KERNEL(qk_square_sum)(BUFFER(x), BUFFER(partial), const qk_params_flat p) {
  LOCAL_ARRAY(float, high, QK_GROUP);
  LOCAL_ARRAY(float, low, QK_GROUP);
  OPERAND(const float, x);
  OPERAND(float, partial);
  qk_sum sum = qk_sum_of(0.0f, 0.0f);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) sum = qk_sum_add(sum, x[i] * x[i]);
  sum = qk_sum_group(high, low, sum);
  if (local_id(0) != 0) return;
  partial[2 * group_id(0)] = sum.high;
  partial[2 * group_id(0) + 1] = sum.low;
}

/* One group. */
KERNEL(qk_square_sum_end)(BUFFER(partial), BUFFER(sum), const qk_params_flat p) {
  LOCAL_ARRAY(float, high, QK_GROUP);
  LOCAL_ARRAY(float, low, QK_GROUP);
  OPERAND(const float, partial);
  OPERAND(float, sum);
  qk_sum own = qk_sum_of(0.0f, 0.0f);
  for (int i = (int)local_id(0); i < p.parts; i += QK_GROUP)
    own = qk_sum_merge(own, qk_sum_of(partial[2 * i], partial[2 * i + 1]));
  own = qk_sum_group(high, low, own);
  if (local_id(0) == 0) sum[0] = qk_sum_value(own);
}

KERNEL(qk_clip_norm)(BUFFER(square_sum), BUFFER(hyper), BUFFER(g), const qk_params_flat p) {
  OPERAND(const float, square_sum);
  OPERAND(const float, hyper);
  OPERAND(float, g);
  float clip = hyper[QK_HYPER_CLIP], factor = clip / (sqrt(square_sum[0]) + 1e-6f);
  if (!(clip > 0.0f && factor < 1.0f)) return;
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) g[i] *= factor;
}

KERNEL(qk_sgd)(BUFFER(g), BUFFER(hyper), BUFFER(w), BUFFER(m), const qk_params_flat p) {
  OPERAND(const float, g);
  OPERAND(const float, hyper);
  OPERAND(float, w);
  OPERAND(float, m);
  float rate = hyper[QK_HYPER_RATE], momentum = hyper[QK_HYPER_MOMENTUM], decay = hyper[QK_HYPER_DECAY];
  bool nesterov = hyper[QK_HYPER_NESTEROV] > 0.0f;
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    float gradient = g[i] + decay * w[i], velocity = momentum * m[i] + gradient;
    m[i] = velocity;
    w[i] -= rate * (nesterov ? gradient + momentum * velocity : velocity);
  }
}

KERNEL(qk_adam)(BUFFER(g), BUFFER(hyper), BUFFER(w), BUFFER(m), BUFFER(v), const qk_params_flat p) {
  OPERAND(const float, g);
  OPERAND(const float, hyper);
  OPERAND(float, w);
  OPERAND(float, m);
  OPERAND(float, v);
  float rate = hyper[QK_HYPER_RATE], epsilon = hyper[QK_HYPER_EPSILON], keep = 1.0f - rate * hyper[QK_HYPER_DECAY];
  float beta1 = hyper[QK_HYPER_MOMENTUM], beta2 = hyper[QK_HYPER_BETA2];
  float correction1 = hyper[QK_HYPER_CORRECTION1], correction2 = hyper[QK_HYPER_CORRECTION2];
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    float first = beta1 * m[i] + (1.0f - beta1) * g[i], second = beta2 * v[i] + (1.0f - beta2) * g[i] * g[i];
    m[i] = first;
    v[i] = second;
    w[i] = w[i] * keep - rate * (first * correction1) / (sqrt(second * correction2) + epsilon);
  }
}

KERNEL(qk_ema)(BUFFER(w), BUFFER(hyper), BUFFER(average), const qk_params_flat p) {
  OPERAND(const float, w);
  OPERAND(const float, hyper);
  OPERAND(float, average);
  float keep = hyper[QK_HYPER_AVERAGE], take = 1.0f - keep;
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) average[i] = keep * average[i] + take * w[i];
}
