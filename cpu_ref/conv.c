/* References: two-dimensional convolution and its gradients.
 *
 * x [N,H,W,I], w [O,kh,kw,I/groups], y [N,Ho,Wo,O]; output channels o of group g = o / (O/groups) read the input
 * channels g * I/groups + c. Cross-correlation (the kernel is not flipped); padding is zero, that is it adds nothing.
 */
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

/* First input channel that output channel `o` reads. */
static int64_t first_input(const qe_window *window, int64_t o, int64_t inputs_of_group) {
  return o / (window->channels / window->groups) * inputs_of_group;
}

static double conv_point(const qe_call *call, int64_t n, int64_t i, int64_t j, int64_t o) {
  const qe_window *window = &call->attrs.window;
  const qe_desc *xd = desc_of(call, 0), *wd = desc_of(call, 1);
  const float *x = f32_of(call, 0), *w = f32_of(call, 1);
  int64_t first = first_input(window, o, wd->dim[QE_C]);
  double sum = 0;
  for (int64_t r = 0; r < wd->dim[QE_H]; r++)
    for (int64_t s = 0; s < wd->dim[QE_W]; s++) {
      int64_t h = tap_input(window, 0, i, r), v = tap_input(window, 1, j, s);
      if (!inside(h, xd->dim[QE_H]) || !inside(v, xd->dim[QE_W])) continue;
      for (int64_t c = 0; c < wd->dim[QE_C]; c++)
        sum += (double)x[at(xd, n, h, v, first + c)] * (double)w[at(wd, o, r, s, c)];
    }
  return sum;
}

/* y[n][i][j][o] = sum over r, s, c of x[n][i*stride - pad + r*dilation][j...s...][first(o) + c] * w[o][r][s][c] */
qe_status qe_ref_conv2d(const qe_call *call) {
  const qe_desc *yd = desc_of(call, 2);
  float *y = f32_of(call, 2);
  for (int64_t n = 0; n < yd->dim[QE_N]; n++)
    for (int64_t i = 0; i < yd->dim[QE_H]; i++)
      for (int64_t j = 0; j < yd->dim[QE_W]; j++)
        for (int64_t o = 0; o < yd->dim[QE_C]; o++) y[at(yd, n, i, j, o)] = (float)conv_point(call, n, i, j, o);
  return QE_OK;
}

static double conv_grad_x_point(const qe_call *call, int64_t n, int64_t h, int64_t v, int64_t channel) {
  const qe_window *window = &call->attrs.window;
  const qe_desc *yd = desc_of(call, 0), *wd = desc_of(call, 1);
  const float *dy = f32_of(call, 0), *w = f32_of(call, 1);
  int64_t outputs_of_group = window->channels / window->groups;
  int64_t group = channel / wd->dim[QE_C], c = channel % wd->dim[QE_C];
  double sum = 0;
  for (int64_t r = 0; r < wd->dim[QE_H]; r++)
    for (int64_t s = 0; s < wd->dim[QE_W]; s++) {
      int64_t i = tap_output(window, 0, h, r, yd->dim[QE_H]), j = tap_output(window, 1, v, s, yd->dim[QE_W]);
      if (i < 0 || j < 0) continue;
      for (int64_t o = group * outputs_of_group; o < (group + 1) * outputs_of_group; o++)
        sum += (double)dy[at(yd, n, i, j, o)] * (double)w[at(wd, o, r, s, c)];
    }
  return sum;
}

/* dx: for every input element the sum of dy * w over all (output, tap) pairs that read it; 0 where no window does. */
qe_status qe_ref_conv2d_grad_x(const qe_call *call) {
  const qe_desc *xd = desc_of(call, 2);
  float *dx = f32_of(call, 2);
  for (int64_t n = 0; n < xd->dim[QE_N]; n++)
    for (int64_t h = 0; h < xd->dim[QE_H]; h++)
      for (int64_t v = 0; v < xd->dim[QE_W]; v++)
        for (int64_t c = 0; c < xd->dim[QE_C]; c++) dx[at(xd, n, h, v, c)] = (float)conv_grad_x_point(call, n, h, v, c);
  return QE_OK;
}

static double conv_grad_w_point(const qe_call *call, int64_t o, int64_t r, int64_t s, int64_t c) {
  const qe_window *window = &call->attrs.window;
  const qe_desc *yd = desc_of(call, 0), *xd = desc_of(call, 1);
  const float *dy = f32_of(call, 0), *x = f32_of(call, 1);
  int64_t channel = first_input(window, o, desc_of(call, 2)->dim[QE_C]) + c;
  double sum = 0;
  for (int64_t n = 0; n < yd->dim[QE_N]; n++)
    for (int64_t i = 0; i < yd->dim[QE_H]; i++)
      for (int64_t j = 0; j < yd->dim[QE_W]; j++) {
        int64_t h = tap_input(window, 0, i, r), v = tap_input(window, 1, j, s);
        if (!inside(h, xd->dim[QE_H]) || !inside(v, xd->dim[QE_W])) continue;
        sum += (double)dy[at(yd, n, i, j, o)] * (double)x[at(xd, n, h, v, channel)];
      }
  return sum;
}

/* dw[o][r][s][c] = sum over n, i, j of dy[n][i][j][o] * the x that tap (r, s, c) reads there */
qe_status qe_ref_conv2d_grad_w(const qe_call *call) {
  const qe_desc *wd = desc_of(call, 2);
  float *dw = f32_of(call, 2);
  for (int64_t o = 0; o < wd->dim[QE_N]; o++)
    for (int64_t r = 0; r < wd->dim[QE_H]; r++)
      for (int64_t s = 0; s < wd->dim[QE_W]; s++)
        for (int64_t c = 0; c < wd->dim[QE_C]; c++) dw[at(wd, o, r, s, c)] = (float)conv_grad_w_point(call, o, r, s, c);
  return QE_OK;
}
