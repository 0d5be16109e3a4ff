/* References: max and average pooling over windows of an image, and their gradients. x [N,H,W,C], y [N,Ho,Wo,C]. */
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

/* Where the first maximum of the window at output (i, j) lies, in row-major order, starting from the first element
 * inside the image: x > best ? x : best (so a NaN is passed over unless it comes first). */
static int64_t first_maximum(const qe_window *window, const qe_desc *xd, const float *x, int64_t n, int64_t i,
                             int64_t j, int64_t c) {
  int64_t best = -1;
  for (int64_t r = 0; r < window->kernel[0]; r++)
    for (int64_t s = 0; s < window->kernel[1]; s++) {
      int64_t h = tap_input(window, 0, i, r), v = tap_input(window, 1, j, s);
      if (!inside(h, xd->dim[QE_H]) || !inside(v, xd->dim[QE_W])) continue;
      int64_t k = at(xd, n, h, v, c);
      if (best < 0 || x[k] > x[best]) best = k;
    }
  return best;
}

/* y[n][i][j][c] = largest x of the window; padding adds nothing: elements outside the image are skipped */
qe_status qe_ref_max_pool(const qe_call *call) {
  const qe_desc *xd = desc_of(call, 0), *yd = desc_of(call, 1);
  const float *x = f32_of(call, 0);
  float *y = f32_of(call, 1);
  for (int64_t n = 0; n < yd->dim[QE_N]; n++)
    for (int64_t i = 0; i < yd->dim[QE_H]; i++)
      for (int64_t j = 0; j < yd->dim[QE_W]; j++)
        for (int64_t c = 0; c < yd->dim[QE_C]; c++)
          y[at(yd, n, i, j, c)] = x[first_maximum(&call->attrs.window, xd, x, n, i, j, c)];
  return QE_OK;
}

/* Sum of dy over the windows that read input (h, v); `x` not NULL: only those whose first maximum it is. */
static double windows_sum(const qe_window *window, const qe_desc *yd, const float *dy, const qe_desc *xd,
                          const float *x, int64_t n, int64_t h, int64_t v, int64_t c) {
  double sum = 0;
  for (int64_t r = 0; r < window->kernel[0]; r++)
    for (int64_t s = 0; s < window->kernel[1]; s++) {
      int64_t i = tap_output(window, 0, h, r, yd->dim[QE_H]), j = tap_output(window, 1, v, s, yd->dim[QE_W]);
      if (i < 0 || j < 0) continue;
      if (!x || first_maximum(window, xd, x, n, i, j, c) == at(xd, n, h, v, c)) sum += (double)dy[at(yd, n, i, j, c)];
    }
  return sum;
}

/* dx = sum of dy over the windows of which x is the first maximum in row-major order; overlapping windows add up */
qe_status qe_ref_max_pool_grad(const qe_call *call) {
  const qe_desc *yd = desc_of(call, 0), *xd = desc_of(call, 2);
  const float *dy = f32_of(call, 0), *x = f32_of(call, 1);
  float *dx = f32_of(call, 2);
  for (int64_t n = 0; n < xd->dim[QE_N]; n++)
    for (int64_t h = 0; h < xd->dim[QE_H]; h++)
      for (int64_t v = 0; v < xd->dim[QE_W]; v++)
        for (int64_t c = 0; c < xd->dim[QE_C]; c++)
          dx[at(xd, n, h, v, c)] = (float)windows_sum(&call->attrs.window, yd, dy, xd, x, n, h, v, c);
  return QE_OK;
}

static double window_sum(const qe_window *window, const qe_desc *xd, const float *x, int64_t n, int64_t i, int64_t j,
                         int64_t c) {
  double sum = 0;
  for (int64_t r = 0; r < window->kernel[0]; r++)
    for (int64_t s = 0; s < window->kernel[1]; s++) {
      int64_t h = tap_input(window, 0, i, r), v = tap_input(window, 1, j, s);
      if (inside(h, xd->dim[QE_H]) && inside(v, xd->dim[QE_W])) sum += (double)x[at(xd, n, h, v, c)];
    }
  return sum;
}

/* y[n][i][j][c] = sum of the window inside the image / full kernel area: padding counts as zeros */
qe_status qe_ref_avg_pool(const qe_call *call) {
  const qe_desc *xd = desc_of(call, 0), *yd = desc_of(call, 1);
  const qe_window *window = &call->attrs.window;
  double area = (double)window->kernel[0] * window->kernel[1];
  float *y = f32_of(call, 1);
  for (int64_t n = 0; n < yd->dim[QE_N]; n++)
    for (int64_t i = 0; i < yd->dim[QE_H]; i++)
      for (int64_t j = 0; j < yd->dim[QE_W]; j++)
        for (int64_t c = 0; c < yd->dim[QE_C]; c++)
          y[at(yd, n, i, j, c)] = (float)(window_sum(window, xd, f32_of(call, 0), n, i, j, c) / area);
  return QE_OK;
}

/* dx = sum of dy over the windows that read x / full kernel area */
qe_status qe_ref_avg_pool_grad(const qe_call *call) {
  const qe_desc *yd = desc_of(call, 0), *xd = desc_of(call, 1);
  const qe_window *window = &call->attrs.window;
  double area = (double)window->kernel[0] * window->kernel[1];
  float *dx = f32_of(call, 1);
  for (int64_t n = 0; n < xd->dim[QE_N]; n++)
    for (int64_t h = 0; h < xd->dim[QE_H]; h++)
      for (int64_t v = 0; v < xd->dim[QE_W]; v++)
        for (int64_t c = 0; c < xd->dim[QE_C]; c++)
          dx[at(xd, n, h, v, c)] = (float)(windows_sum(window, yd, f32_of(call, 0), xd, NULL, n, h, v, c) / area);
  return QE_OK;
}
