/* References: fully connected layer and its gradients. x [N,C], w [O,C], y [N,O] (H = W = 1), no bias. */
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

/* y[n][o] = sum over c of x[n][c] * w[o][c] */
qe_status qe_ref_linear(const qe_call *call) {
  int64_t images = desc_of(call, 2)->dim[QE_N], outputs = desc_of(call, 2)->dim[QE_C];
  int64_t inputs = desc_of(call, 0)->dim[QE_C];
  const float *x = f32_of(call, 0), *w = f32_of(call, 1);
  float *y = f32_of(call, 2);
  for (int64_t n = 0; n < images; n++)
    for (int64_t o = 0; o < outputs; o++) {
      double sum = 0;
      for (int64_t c = 0; c < inputs; c++) sum += (double)x[n * inputs + c] * (double)w[o * inputs + c];
      y[n * outputs + o] = (float)sum;
    }
  return QE_OK;
}

/* dx[n][c] = sum over o of dy[n][o] * w[o][c] */
qe_status qe_ref_linear_grad_x(const qe_call *call) {
  int64_t images = desc_of(call, 0)->dim[QE_N], outputs = desc_of(call, 0)->dim[QE_C];
  int64_t inputs = desc_of(call, 2)->dim[QE_C];
  const float *dy = f32_of(call, 0), *w = f32_of(call, 1);
  float *dx = f32_of(call, 2);
  for (int64_t n = 0; n < images; n++)
    for (int64_t c = 0; c < inputs; c++) {
      double sum = 0;
      for (int64_t o = 0; o < outputs; o++) sum += (double)dy[n * outputs + o] * (double)w[o * inputs + c];
      dx[n * inputs + c] = (float)sum;
    }
  return QE_OK;
}

/* dw[o][c] = sum over n of dy[n][o] * x[n][c] */
qe_status qe_ref_linear_grad_w(const qe_call *call) {
  int64_t images = desc_of(call, 0)->dim[QE_N], outputs = desc_of(call, 0)->dim[QE_C];
  int64_t inputs = desc_of(call, 1)->dim[QE_C];
  const float *dy = f32_of(call, 0), *x = f32_of(call, 1);
  float *dw = f32_of(call, 2);
  for (int64_t o = 0; o < outputs; o++)
    for (int64_t c = 0; c < inputs; c++) {
      double sum = 0;
      for (int64_t n = 0; n < images; n++) sum += (double)dy[n * outputs + o] * (double)x[n * inputs + c];
      dw[o * inputs + c] = (float)sum;
    }
  return QE_OK;
}
