/* References: integer ops of search and training, exact. No function here has a floating-point operation. Where a sum
 * can pass its type, it is the sum modulo 2^64, so that every backend gives the same bits. */
#include "core/base/alloc.h"
#include "core/base/fixed.h"
#include "cpu_ref/codes.h"
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

#include <string.h>

/* The codes under the window at output position (i, j) of image n, in the order of a weight's axes (kernel row, kernel
 * column, channel); padding is code 0. */
static void gather_patch(const qe_operand *x, const qe_window *window, int64_t n, int64_t i, int64_t j,
                         int64_t *patch) {
  const int32_t *in = x->desc.dim;
  for (int64_t kh = 0; kh < window->kernel[0]; kh++)
    for (int64_t kw = 0; kw < window->kernel[1]; kw++) {
      int64_t row = tap_input(window, 0, i, kh), column = tap_input(window, 1, j, kw);
      bool within = inside(row, in[QE_H]) && inside(column, in[QE_W]);
      for (int64_t c = 0; c < in[QE_C]; c++) *patch++ = within ? value_at(x, at(&x->desc, n, row, column, c)) : 0;
    }
}

/* gram[a][b] = sum over images and output positions of patch[a] * patch[b], both halves written. It fits s64: fewer
 * than 2^47 products of 8-bit codes. */
qe_status qe_ref_int_gram(const qe_call *call) {
  const qe_operand *x = &call->operand[0];
  const qe_window *window = &call->attrs.window;
  int64_t size = call->operand[1].desc.dim[QE_C], *gram = call->operand[1].data;
  int64_t height = qe_window_extent(window, 0, x->desc.dim[QE_H]);
  int64_t width = qe_window_extent(window, 1, x->desc.dim[QE_W]);
  int64_t *patch = QE_NEW_ARRAY(int64_t, (size_t)size);
  if (!patch) return QE_NO_MEMORY;
  memset(gram, 0, (size_t)(size * size) * sizeof *gram);
  for (int64_t n = 0; n < x->desc.dim[QE_N]; n++)
    for (int64_t i = 0; i < height; i++)
      for (int64_t j = 0; j < width; j++) {
        gather_patch(x, window, n, i, j, patch);
        for (int64_t a = 0; a < size; a++)
          for (int64_t b = 0; b < size; b++) gram[a * size + b] += patch[a] * patch[b];
      }
  qe_free(patch);
  return QE_OK;
}

/* dw[o][k] = sum over images and output positions of dy[o] * patch[k], modulo 2^64. */
qe_status qe_ref_int_conv2d_grad_w(const qe_call *call) {
  const qe_operand *dy = &call->operand[0], *x = &call->operand[1];
  const int32_t *out = dy->desc.dim;
  uint64_t *dw = call->operand[2].data;
  int64_t count = qe_count(&call->operand[2].desc), size = count / out[QE_C];
  int64_t *patch = QE_NEW_ARRAY(int64_t, (size_t)size);
  if (!patch) return QE_NO_MEMORY;
  memset(dw, 0, (size_t)count * sizeof *dw);
  for (int64_t n = 0; n < out[QE_N]; n++)
    for (int64_t i = 0; i < out[QE_H]; i++)
      for (int64_t j = 0; j < out[QE_W]; j++) {
        gather_patch(x, &call->attrs.window, n, i, j, patch);
        for (int64_t o = 0; o < out[QE_C]; o++) {
          int64_t error = value_at(dy, at(&dy->desc, n, i, j, o));
          for (int64_t k = 0; k < size; k++) dw[o * size + k] += (uint64_t)(error * patch[k]);
        }
      }
  qe_free(patch);
  return QE_OK;
}

/* dx[n][h][w][c] = sum over the output positions that read it, and over o, of dy[o] * w[o][tap][c]; s32, which the
 * shape rule keeps from overflowing. */
qe_status qe_ref_int_conv2d_grad_x(const qe_call *call) {
  const qe_operand *dy = &call->operand[0], *w = &call->operand[1], *dx = &call->operand[2];
  const qe_window *window = &call->attrs.window;
  const int32_t *out = dy->desc.dim, *in = dx->desc.dim, *kernel = w->desc.dim;
  int64_t place = 0;
  for (int64_t n = 0; n < in[QE_N]; n++)
    for (int64_t h = 0; h < in[QE_H]; h++)
      for (int64_t v = 0; v < in[QE_W]; v++)
        for (int64_t c = 0; c < in[QE_C]; c++) {
          int64_t sum = 0;
          for (int64_t kh = 0; kh < kernel[QE_H]; kh++)
            for (int64_t kw = 0; kw < kernel[QE_W]; kw++) {
              int64_t i = tap_output(window, 0, h, kh, out[QE_H]), j = tap_output(window, 1, v, kw, out[QE_W]);
              for (int64_t o = 0; i >= 0 && j >= 0 && o < out[QE_C]; o++)
                sum += value_at(dy, at(&dy->desc, n, i, j, o)) * value_at(w, at(&w->desc, o, kh, kw, c));
            }
          store_at(dx, place++, sum);
        }
  return QE_OK;
}

/* sum[c] = sum of a, product[c] = sum of a * b over images and positions, modulo 2^64; a and b may be the same value.
 */
qe_status qe_ref_int_channel_sums(const qe_call *call) {
  const qe_operand *a = &call->operand[0], *b = &call->operand[1];
  uint64_t *sum = call->operand[2].data, *product = call->operand[3].data;
  int64_t channels = a->desc.dim[QE_C];
  memset(sum, 0, (size_t)channels * sizeof *sum);
  memset(product, 0, (size_t)channels * sizeof *product);
  for (int64_t i = 0, count = qe_count(&a->desc); i < count; i++) {
    sum[i % channels] += (uint64_t)value_at(a, i);
    product[i % channels] += (uint64_t)(value_at(a, i) * value_at(b, i));
  }
  return QE_OK;
}

/* x / values, in units of 2^-8. */
static int64_t mean_of(int64_t sum, int64_t values) {
  return (int64_t)((uint64_t)(sum / values) * 256 + (uint64_t)(sum % values * 256 / values));
}

/* a b >> 8, of the product modulo 2^64. */
static int64_t scaled(int64_t a, int64_t b) {
  return (int64_t)((uint64_t)a * (uint64_t)b) >> 8;
}

static int64_t within(int64_t value, int64_t most) {
  return value < -most ? -most : value > most ? most : value;
}

/* The error of a normalisation's input, of the error e of its output: e less its mean and less its slope on the input s
 * (Ioffe and Szegedy 2015), as a requantiser (e m + s n + offset) >> shift; from the sums over a channel's
 * attrs.images values of e, e s, s and s s. With means in units of 2^-8 and products modulo 2^64:
 *   slope = ((mean(es) - mean(e) mean(s)) << 20) / (mean(ss) - mean(s)^2), 0 where that is not positive, within 2^31
 *   n = -(slope m) >> 20, within 2^30;  offset = 2^(shift - 1) - (mean(e) m + mean(s) n) >> 8 */
qe_status qe_ref_int_norm_grad(const qe_call *call) {
  const int64_t *e = call->operand[0].data, *es = call->operand[1].data;
  const int64_t *s = call->operand[2].data, *ss = call->operand[3].data;
  const int32_t *m = call->operand[4].data;
  int32_t *n = call->operand[5].data;
  int64_t *offset = call->operand[6].data, values = call->attrs.images;
  for (int32_t c = 0; c < call->operand[0].desc.dim[QE_C]; c++) {
    int64_t error = mean_of(e[c], values), mean = mean_of(s[c], values);
    int64_t variance = (int64_t)((uint64_t)mean_of(ss[c], values) - (uint64_t)scaled(mean, mean));
    uint64_t covariance = (uint64_t)mean_of(es[c], values) - (uint64_t)scaled(mean, error);
    int64_t slope = variance > 0 ? (int64_t)(covariance << 20) / variance : 0;
    int64_t back = -(within(slope, INT64_C(1) << 31) * m[c]) >> 20;
    n[c] = (int32_t)within(back, 1 << 30);
    uint64_t taken = (uint64_t)error * (uint64_t)m[c] + (uint64_t)mean * (uint64_t)n[c];
    offset[c] = (INT64_C(1) << (call->attrs.requant.shift - 1)) - ((int64_t)taken >> 8);
  }
  return QE_OK;
}

/* Logits z in units of 2^-8 bits, f = attrs.requant.shift: error = round(p 2^f) - (j is the label) 2^f, at most 127,
 * where p_j = 2^(z_j - z_max) / sum by the tables of fixed.h, and halves round up. */
qe_status qe_ref_int_softmax_error(const qe_call *call) {
  const qe_operand *logits = &call->operand[0], *error = &call->operand[2];
  const int32_t *label = s32_of(call, 1), *dim = logits->desc.dim;
  int64_t shift = call->attrs.requant.shift;
  for (int64_t n = 0; n < dim[QE_N]; n++) {
    int64_t first = n * dim[QE_C], top = INT32_MIN, sum = 0;
    if (!inside(label[n], dim[QE_C]))
      return qe_fail(QE_SHAPE, "int_softmax_error: label %d is outside 0...%d", label[n], dim[QE_C] - 1);
    for (int64_t j = 0; j < dim[QE_C]; j++)
      if (value_at(logits, first + j) > top) top = value_at(logits, first + j);
    for (int64_t j = 0; j < dim[QE_C]; j++) sum += qe_exp2_negative(top - value_at(logits, first + j));
    for (int64_t j = 0; j < dim[QE_C]; j++) {
      int64_t part = qe_exp2_negative(top - value_at(logits, first + j)) << shift;
      int64_t rounded = (2 * part + sum) / (2 * sum) - (j == label[n] ? INT64_C(1) << shift : 0);
      store_at(error, first + j, rounded > 127 ? 127 : rounded);
    }
  }
  return QE_OK;
}

/* e where attrs.requant.low < y < attrs.requant.high, else 0: the derivative of a clamp, straight through. */
qe_status qe_ref_int_gate(const qe_call *call) {
  const qe_operand *e = &call->operand[0], *y = &call->operand[1];
  const qe_requant *requant = &call->attrs.requant;
  for (int64_t i = 0, count = qe_count(&e->desc); i < count; i++) {
    int64_t code = value_at(y, i);
    store_at(&call->operand[2], i, code > requant->low && code < requant->high ? value_at(e, i) : 0);
  }
  return QE_OK;
}

/* dx = the sum of dy over the windows that hold the place, clamped to the codes' type: the derivative of int_sum_pool.
 */
qe_status qe_ref_int_spread(const qe_call *call) {
  const qe_operand *dy = &call->operand[0], *dx = &call->operand[1];
  const qe_window *window = &call->attrs.window;
  const int32_t *out = dy->desc.dim, *in = dx->desc.dim;
  int64_t least = dx->desc.dtype == QE_U8 ? 0 : INT8_MIN, most = dx->desc.dtype == QE_U8 ? UINT8_MAX : INT8_MAX;
  int64_t place = 0;
  for (int64_t n = 0; n < (int64_t)in[QE_P] * in[QE_N]; n++)
    for (int64_t h = 0; h < in[QE_H]; h++)
      for (int64_t v = 0; v < in[QE_W]; v++)
        for (int64_t c = 0; c < in[QE_C]; c++) {
          int64_t sum = 0;
          for (int64_t kh = 0; kh < window->kernel[0]; kh++)
            for (int64_t kw = 0; kw < window->kernel[1]; kw++) {
              int64_t i = tap_output(window, 0, h, kh, out[QE_H]), j = tap_output(window, 1, v, kw, out[QE_W]);
              if (i >= 0 && j >= 0) sum += value_at(dy, at(&dy->desc, n, i, j, c));
            }
          store_at(dx, place++, sum < least ? least : sum > most ? most : sum);
        }
  return QE_OK;
}
