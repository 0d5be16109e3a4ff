/* Pooling, float and integer, and the gradients as gathers; contracts in cpu_ref/pool.c and cpu_ref/integer.c. */
#include "kernels_cl/index.h"

/* First and last + 1 tap of a window at `start` (its first input coordinate) that lies in the image. */
DEVICE int first_tap(int start) {
  return start < 0 ? -start : 0;
}
DEVICE int end_tap(int start, int taps, int extent) {
  return extent - start < taps ? extent - start : taps;
}

/* x[...][c] of input (row, column) of the image of `at`. */
DEVICE ulong input_of(const qk_params_pool p, ulong image, int row, int column, ulong c) {
  ulong pixel = (image * (ulong)p.x_height + (ulong)row) * (ulong)p.x_width + (ulong)column;
  return pixel * (ulong)p.channels + c;
}

DEVICE ulong output_of(const qk_params_pool p, ulong image, int row, int column, ulong c) {
  ulong pixel = (image * (ulong)p.y_height + (ulong)row) * (ulong)p.y_width + (ulong)column;
  return pixel * (ulong)p.channels + c;
}

/* Index of the first maximum of the window at output (row, column): x > best ? x : best from the first element on. */
DEVICE ulong first_maximum(const qk_params_pool p, GLOBAL const float *x, ulong image, int row, int column, ulong c) {
  int top = row * p.stride_h - p.pad_top, left = column * p.stride_w - p.pad_left;
  int last_r = end_tap(top, p.kernel_h, p.x_height), last_s = end_tap(left, p.kernel_w, p.x_width);
  ulong best = input_of(p, image, top + first_tap(top), left + first_tap(left), c);
  float largest = x[best];
  for (int r = first_tap(top); r < last_r; r++)
    for (int s = first_tap(left); s < last_s; s++) {
      ulong k = input_of(p, image, top + r, left + s, c);
      float value = x[k];
      if (value > largest) {
        largest = value;
        best = k;
      }
    }
  return best;
}

KERNEL(qk_max_pool)(BUFFER(x), BUFFER(y), const qk_params_pool p) {
  OPERAND(const float, x);
  OPERAND(float, y);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    qk_place at = qk_place_of(i, p.y_height, p.y_width, p.channels);
    y[i] = x[first_maximum(p, x, at.image, at.row, at.column, at.c)];
  }
}

KERNEL(qk_max_pool_grad)(BUFFER(dy), BUFFER(x), BUFFER(dx), const qk_params_pool p) {
  OPERAND(const float, dy);
  OPERAND(const float, x);
  OPERAND(float, dx);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    qk_place at = qk_place_of(i, p.x_height, p.x_width, p.channels);
    float sum = 0;
    for (int r = 0; r < p.kernel_h; r++)
      for (int s = 0; s < p.kernel_w; s++) {
        int row = qk_tap_output(at.row + p.pad_top - r, p.stride_h, p.y_height);
        int column = qk_tap_output(at.column + p.pad_left - s, p.stride_w, p.y_width);
        if (row >= 0 && column >= 0 && first_maximum(p, x, at.image, row, column, at.c) == i)
          sum += dy[output_of(p, at.image, row, column, at.c)];
      }
    dx[i] = sum;
  }
}

/* Sums go by rows of the window, so that rounding grows with its sides and not with its area. */
KERNEL(qk_avg_pool)(BUFFER(x), BUFFER(y), const qk_params_pool p) {
  OPERAND(const float, x);
  OPERAND(float, y);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    qk_place at = qk_place_of(i, p.y_height, p.y_width, p.channels);
    int top = at.row * p.stride_h - p.pad_top, left = at.column * p.stride_w - p.pad_left;
    int last_r = end_tap(top, p.kernel_h, p.x_height), last_s = end_tap(left, p.kernel_w, p.x_width);
    float sum = 0;
    for (int r = first_tap(top); r < last_r; r++) {
      float line = 0;
      for (int s = first_tap(left); s < last_s; s++) line += x[input_of(p, at.image, top + r, left + s, at.c)];
      sum += line;
    }
    y[i] = qk_divide(sum, (float)p.kernel_h * (float)p.kernel_w);
  }
}

KERNEL(qk_avg_pool_grad)(BUFFER(dy), BUFFER(dx), const qk_params_pool p) {
  OPERAND(const float, dy);
  OPERAND(float, dx);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    qk_place at = qk_place_of(i, p.x_height, p.x_width, p.channels);
    float sum = 0;
    for (int r = 0; r < p.kernel_h; r++) {
      int row = qk_tap_output(at.row + p.pad_top - r, p.stride_h, p.y_height);
      float line = 0;
      for (int s = 0; s < p.kernel_w && row >= 0; s++) {
        int column = qk_tap_output(at.column + p.pad_left - s, p.stride_w, p.y_width);
        if (column >= 0) line += dy[output_of(p, at.image, row, column, at.c)];
      }
      sum += line;
    }
    dx[i] = qk_divide(sum, (float)p.kernel_h * (float)p.kernel_w);
  }
}

/* ---- codes ---- */

KERNEL(qk_int_sum_pool)(BUFFER(x), BUFFER(sum), const qk_params_pool p) {
  OPERAND(const uchar, x);
  OPERAND(int, sum);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    qk_place at = qk_place_of(i, p.y_height, p.y_width, p.channels);
    int top = at.row * p.stride_h - p.pad_top, left = at.column * p.stride_w - p.pad_left, total = 0;
    int last_r = end_tap(top, p.kernel_h, p.x_height), last_s = end_tap(left, p.kernel_w, p.x_width);
    for (int r = first_tap(top); r < last_r; r++)
      for (int s = first_tap(left); s < last_s; s++)
        total += qk_code(x, p.type, input_of(p, at.image, top + r, left + s, at.c));
    sum[i] = total;
  }
}

KERNEL(qk_int_max_pool)(BUFFER(x), BUFFER(y), const qk_params_pool p) {
  OPERAND(const uchar, x);
  OPERAND(uchar, y);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    qk_place at = qk_place_of(i, p.y_height, p.y_width, p.channels);
    int top = at.row * p.stride_h - p.pad_top, left = at.column * p.stride_w - p.pad_left, largest = -128;
    int last_r = end_tap(top, p.kernel_h, p.x_height), last_s = end_tap(left, p.kernel_w, p.x_width);
    for (int r = first_tap(top); r < last_r; r++)
      for (int s = first_tap(left); s < last_s; s++) {
        int code = qk_code(x, p.type, input_of(p, at.image, top + r, left + s, at.c));
        largest = code > largest ? code : largest;
      }
    y[i] = (uchar)largest;
  }
}

/* The windows that hold a place are those of rows first...last and columns likewise. */
KERNEL(qk_int_spread)(BUFFER(dy), BUFFER(dx), const qk_params_pool p) {
  OPERAND(const uchar, dy);
  OPERAND(uchar, dx);
  int least = p.type == QK_TYPE_U8 ? 0 : -128, most = p.type == QK_TYPE_U8 ? 255 : 127;
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    qk_place at = qk_place_of(i, p.x_height, p.x_width, p.channels);
    int top = at.row + p.pad_top, left = at.column + p.pad_left, total = 0;
    int row = top < p.kernel_h ? 0 : (top - p.kernel_h) / p.stride_h + 1;
    int start = left < p.kernel_w ? 0 : (left - p.kernel_w) / p.stride_w + 1;
    for (; row < p.y_height && row * p.stride_h <= top; row++)
      for (int column = start; column < p.y_width && column * p.stride_w <= left; column++)
        total += qk_code(dy, p.type, output_of(p, at.image, row, column, at.c));
    total = total < least ? least : total;
    dx[i] = (uchar)(total > most ? most : total);
  }
}
