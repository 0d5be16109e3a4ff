/* Kernels of integer ops of training that go over memory once: gates, pooling and its way back, subsampling, errors of
 * the loss.
 * Compiled once an instruction set. */
#include "backends/cpu/kernels_isa.h"
#include "core/base/fixed.h"

/* ---- int_gate ---- */

#define GATE(name, error, code)                                                                                        \
  CPU_INLINE void name(const qe_call *call, int64_t first, int64_t last) {                                             \
    const error *e = call->operand[0].data;                                                                            \
    const code *y = call->operand[1].data;                                                                             \
    error *to = call->operand[2].data;                                                                                 \
    int32_t low = call->attrs.requant.low, high = call->attrs.requant.high;                                            \
    CPU_SIMD for (int64_t k = first; k < last; k++) to[k] = (error)(y[k] > low && y[k] < high ? e[k] : 0);             \
  }
GATE(gate_bytes_u8, uint8_t, uint8_t)
GATE(gate_bytes_s8, uint8_t, int8_t)
GATE(gate_bytes_s32, uint8_t, int32_t)
GATE(gate_words_u8, int32_t, uint8_t)
GATE(gate_words_s8, int32_t, int8_t)
GATE(gate_words_s32, int32_t, int32_t)

void CPU_NAME(int_gate_rows)(const qe_call *call, int64_t first, int64_t last) {
  qe_dtype code = call->operand[1].desc.dtype;
  bool words = call->operand[0].desc.dtype == QE_S32;
  int64_t channels = call->operand[0].desc.dim[QE_C];
  first *= channels, last *= channels;
  if (code == QE_U8)
    words ? gate_words_u8(call, first, last) : gate_bytes_u8(call, first, last);
  else if (code == QE_S8)
    words ? gate_words_s8(call, first, last) : gate_bytes_s8(call, first, last);
  else
    words ? gate_words_s32(call, first, last) : gate_bytes_s32(call, first, last);
}

/* The library's function costs more than the few bytes of a pixel. */
CPU_INLINE void copy_pixel(uint8_t *to, const uint8_t *from, int64_t channels) {
  enum { PIECE = 16 };
  int64_t c = 0;
  for (; c + PIECE <= channels; c += PIECE) memcpy(to + c, from + c, PIECE);
  for (; c < channels; c++) to[c] = from[c];
}

/* ---- int_subsample ---- */

/* Rows are lines of y. Codes are bytes, signed or not. */
void CPU_NAME(int_subsample_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_operand *x = &call->operand[0], *y = &call->operand[1];
  const int32_t *in = x->desc.dim, *out = y->desc.dim, *stride = call->attrs.window.stride;
  const int32_t *pad = call->attrs.pad_channels;
  int64_t channels = in[QE_C];
  uint8_t *to = (uint8_t *)y->data + first * out[QE_W] * out[QE_C];
  for (int64_t row = first; row < last; row++) {
    int64_t line = row / out[QE_H] * in[QE_H] + row % out[QE_H] * stride[0];
    const uint8_t *from = (const uint8_t *)x->data + line * in[QE_W] * channels;
    for (int64_t j = 0; j < out[QE_W]; j++, to += out[QE_C]) {
      memset(to, 0, (size_t)out[QE_C]);
      copy_pixel(to + pad[0], from + j * stride[1] * channels, channels);
    }
  }
}

/* ---- int_spread ---- */

/* Windows along an axis that hold coordinate `at` (padding counted): *first...*last. */
CPU_INLINE void windows_of(const qe_window *window, int axis, int32_t at, int32_t extent, int32_t *first,
                           int32_t *last) {
  int32_t kernel = window->kernel[axis], stride = window->stride[axis], end = at / stride;
  *first = at < kernel ? 0 : (at - kernel) / stride + 1;
  *last = end < extent ? end : extent - 1;
}

/* Rows are pixels of dx. */
void CPU_NAME(int_spread_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_operand *dy = &call->operand[0], *dx = &call->operand[1];
  const qe_window *window = &call->attrs.window;
  const int32_t *out = dy->desc.dim, *in = dx->desc.dim;
  bool is_signed = dx->desc.dtype == QE_S8;
  int32_t least = is_signed ? INT8_MIN : 0, most = is_signed ? INT8_MAX : UINT8_MAX;
  int64_t channels = in[QE_C];
  for (int64_t pixel = first; pixel < last; pixel++) {
    int32_t column = (int32_t)(pixel % in[QE_W]), row = (int32_t)(pixel / in[QE_W] % in[QE_H]), i0, i1, j0, j1;
    const uint8_t *image = (const uint8_t *)dy->data + pixel / in[QE_W] / in[QE_H] * out[QE_H] * out[QE_W] * channels;
    uint8_t *to = (uint8_t *)dx->data + pixel * channels;
    windows_of(window, 0, row + window->pad[0], out[QE_H], &i0, &i1);
    windows_of(window, 1, column + window->pad[1], out[QE_W], &j0, &j1);
    if (i0 == i1 && j0 == j1) {
      copy_pixel(to, image + (i0 * out[QE_W] + j0) * channels, channels);
      continue;
    }
    for (int64_t c = 0; c < channels; c++) {
      int32_t sum = 0;
      for (int32_t i = i0; i <= i1; i++)
        for (int32_t j = j0; j <= j1; j++) {
          uint8_t code = image[(i * out[QE_W] + j) * channels + c];
          sum += is_signed ? (int8_t)code : code;
        }
      to[c] = (uint8_t)(sum < least ? least : sum > most ? most : sum);
    }
  }
}

/* ---- int_sum_pool ---- */

#define ADD_PIXEL(name, code)                                                                                          \
  CPU_INLINE void name(int32_t *sum, const void *from, int64_t first, int64_t channels) {                              \
    const code *pixel = (const code *)from + first;                                                                    \
    CPU_SIMD for (int64_t c = 0; c < channels; c++) sum[c] += pixel[c];                                                \
  }
ADD_PIXEL(add_u8, uint8_t)
ADD_PIXEL(add_s8, int8_t)

/* Rows are pixels of the sums. */
void CPU_NAME(int_sum_pool_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_operand *x = &call->operand[0], *sums = &call->operand[1];
  const qe_window *window = &call->attrs.window;
  const int32_t *in = x->desc.dim, *out = sums->desc.dim;
  int64_t channels = in[QE_C];
  for (int64_t pixel = first; pixel < last; pixel++) {
    int64_t top = pixel / out[QE_W] % out[QE_H] * window->stride[0] - window->pad[0];
    int64_t left = pixel % out[QE_W] * window->stride[1] - window->pad[1];
    int64_t image = pixel / out[QE_W] / out[QE_H] * in[QE_H];
    int32_t *to = (int32_t *)sums->data + pixel * channels;
    memset(to, 0, (size_t)channels * sizeof *to);
    for (int64_t row = top < 0 ? 0 : top; row < smaller(top + window->kernel[0], in[QE_H]); row++)
      for (int64_t column = left < 0 ? 0 : left; column < smaller(left + window->kernel[1], in[QE_W]); column++) {
        int64_t at = ((image + row) * in[QE_W] + column) * channels;
        if (x->desc.dtype == QE_U8)
          add_u8(to, x->data, at, channels);
        else
          add_s8(to, x->data, at, channels);
      }
  }
}

/* ---- int_softmax_error ---- */

void CPU_NAME(int_softmax_error_rows)(const qe_call *call, int64_t first, int64_t last) {
  const int32_t *label = call->operand[1].data;
  int64_t classes = call->operand[0].desc.dim[QE_C], shift = call->attrs.requant.shift;
  for (int64_t n = first; n < last; n++) {
    const int32_t *z = (const int32_t *)call->operand[0].data + n * classes;
    int8_t *error = (int8_t *)call->operand[2].data + n * classes;
    int64_t top = z[0], sum = 0;
    for (int64_t j = 1; j < classes; j++) top = z[j] > top ? z[j] : top;
    for (int64_t j = 0; j < classes; j++) sum += qe_exp2_negative(top - z[j]);
    int64_t twice = sum > 0 ? 2 * sum : 1; /* the largest logit's part alone is 2^30 */
    for (int64_t j = 0; j < classes; j++) {
      int64_t part = qe_exp2_negative(top - z[j]) << shift;
      int64_t rounded = (2 * part + sum) / twice - (j == label[n] ? INT64_C(1) << shift : 0);
      error[j] = (int8_t)(rounded > 127 ? 127 : rounded);
    }
  }
}
