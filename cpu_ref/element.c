/* References: element-wise ops. Those with error bound 0 are computed in single precision, as every backend does. */
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

#include <math.h>

/* y = x < low ? low : x > high ? high : x; NaN stays NaN and -0 stays -0 when a bound is 0. ReLU: low 0, high inf. */
qe_status qe_ref_clamp(const qe_call *call) {
  float low = call->attrs.low, high = call->attrs.high;
  const float *x = f32_of(call, 0);
  float *y = f32_of(call, 1);
  for (int64_t k = 0; k < qe_count(desc_of(call, 0)); k++) y[k] = x[k] < low ? low : x[k] > high ? high : x[k];
  return QE_OK;
}

/* dx = dy where low < x < high, else 0 (NaN x: 0) */
qe_status qe_ref_clamp_grad(const qe_call *call) {
  float low = call->attrs.low, high = call->attrs.high;
  const float *dy = f32_of(call, 0), *x = f32_of(call, 1);
  float *dx = f32_of(call, 2);
  for (int64_t k = 0; k < qe_count(desc_of(call, 0)); k++) dx[k] = x[k] > low && x[k] < high ? dy[k] : 0.0f;
  return QE_OK;
}

/* y = a + b */
qe_status qe_ref_add(const qe_call *call) {
  const float *a = f32_of(call, 0), *b = f32_of(call, 1);
  float *y = f32_of(call, 2);
  for (int64_t k = 0; k < qe_count(desc_of(call, 0)); k++) y[k] = a[k] + b[k];
  return QE_OK;
}

/* sum += x */
qe_status qe_ref_accumulate(const qe_call *call) {
  const float *x = f32_of(call, 0);
  float *sum = f32_of(call, 1);
  for (int64_t k = 0; k < qe_count(desc_of(call, 0)); k++) sum[k] += x[k];
  return QE_OK;
}

/* Largest |tanh(x)| of the tensor. */
static double largest_tanh(const float *x, int64_t count) {
  double largest = 0;
  for (int64_t k = 0; k < count; k++) largest = fmax(largest, fabs(tanh((double)x[k])));
  return largest;
}

/* y = tanh(x) / max |tanh(x)| over the whole tensor, in -1...1; y = 0 when all x are 0. Source: Zhou et al.,
 * "DoReFa-Net", 2016, eq. 9, before its quantiser, whose [0, 1] is mapped to the odd grid of -1...1. */
qe_status qe_ref_tanh_norm(const qe_call *call) {
  int64_t count = qe_count(desc_of(call, 0));
  const float *x = f32_of(call, 0);
  float *y = f32_of(call, 1);
  double largest = largest_tanh(x, count), scale = largest > 0 ? 1 / largest : 0;
  for (int64_t k = 0; k < count; k++) y[k] = (float)(tanh((double)x[k]) * scale);
  return QE_OK;
}

/* dx = dy * (1 - tanh(x)^2) / max |tanh(x)|, the maximum taken for a constant; 0 when all x are 0 */
qe_status qe_ref_tanh_norm_grad(const qe_call *call) {
  int64_t count = qe_count(desc_of(call, 0));
  const float *dy = f32_of(call, 0), *x = f32_of(call, 1);
  float *dx = f32_of(call, 2);
  double largest = largest_tanh(x, count), scale = largest > 0 ? 1 / largest : 0;
  for (int64_t k = 0; k < count; k++) {
    double y = tanh((double)x[k]);
    dx[k] = (float)((double)dy[k] * (1 - y * y) * scale);
  }
  return QE_OK;
}
