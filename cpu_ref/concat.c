/* References: ops that only move values: concatenation along channels, and the subsampling shortcut. */
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

/* y[row] = a[row] followed by b[row], row over N * H * W */
qe_status qe_ref_concat(const qe_call *call) {
  int64_t rows = rows_of(desc_of(call, 0)), ca = desc_of(call, 0)->dim[QE_C], cb = desc_of(call, 1)->dim[QE_C];
  const float *a = f32_of(call, 0), *b = f32_of(call, 1);
  float *y = f32_of(call, 2);
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t c = 0; c < ca; c++) y[row * (ca + cb) + c] = a[row * ca + c];
    for (int64_t c = 0; c < cb; c++) y[row * (ca + cb) + ca + c] = b[row * cb + c];
  }
  return QE_OK;
}

/* da[row] = the first channels of dy[row], db[row] = the rest */
qe_status qe_ref_concat_grad(const qe_call *call) {
  int64_t rows = rows_of(desc_of(call, 1)), ca = desc_of(call, 1)->dim[QE_C], cb = desc_of(call, 2)->dim[QE_C];
  const float *dy = f32_of(call, 0);
  float *da = f32_of(call, 1), *db = f32_of(call, 2);
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t c = 0; c < ca; c++) da[row * ca + c] = dy[row * (ca + cb) + c];
    for (int64_t c = 0; c < cb; c++) db[row * cb + c] = dy[row * (ca + cb) + ca + c];
  }
  return QE_OK;
}

/* Shortcut option A of He et al., "Deep Residual Learning", 2016: y[n][i][j][before + c] = x[n][i*stride][j*stride][c],
 * the pad_channels before and after are 0. */
qe_status qe_ref_subsample(const qe_call *call) {
  const qe_desc *xd = desc_of(call, 0), *yd = desc_of(call, 1);
  const int32_t *stride = call->attrs.window.stride;
  const float *x = f32_of(call, 0);
  float *y = f32_of(call, 1);
  for (int64_t n = 0; n < yd->dim[QE_N]; n++)
    for (int64_t i = 0; i < yd->dim[QE_H]; i++)
      for (int64_t j = 0; j < yd->dim[QE_W]; j++)
        for (int64_t k = 0; k < yd->dim[QE_C]; k++) {
          int64_t c = k - call->attrs.pad_channels[0];
          y[at(yd, n, i, j, k)] = inside(c, xd->dim[QE_C]) ? x[at(xd, n, i * stride[0], j * stride[1], c)] : 0.0f;
        }
  return QE_OK;
}

/* dx[n][i*stride][j*stride][c] = dy[n][i][j][before + c]; 0 at the positions that were left out */
qe_status qe_ref_subsample_grad(const qe_call *call) {
  const qe_desc *yd = desc_of(call, 0), *xd = desc_of(call, 1);
  const int32_t *stride = call->attrs.window.stride;
  const float *dy = f32_of(call, 0);
  float *dx = f32_of(call, 1);
  for (int64_t n = 0; n < xd->dim[QE_N]; n++)
    for (int64_t h = 0; h < xd->dim[QE_H]; h++)
      for (int64_t w = 0; w < xd->dim[QE_W]; w++)
        for (int64_t c = 0; c < xd->dim[QE_C]; c++) {
          bool taken = h % stride[0] == 0 && w % stride[1] == 0;
          int64_t from = taken ? at(yd, n, h / stride[0], w / stride[1], call->attrs.pad_channels[0] + c) : 0;
          dx[at(xd, n, h, w, c)] = taken ? dy[from] : 0.0f;
        }
  return QE_OK;
}
