/* Ops that only move values; contracts in cpu_ref/concat.c and, for int_subsample, cpu_ref/integer.c. */
#include "kernels_cl/index.h"

KERNEL(qk_concat)(BUFFER(a), BUFFER(b), BUFFER(y), const qk_params_concat p) {
  OPERAND(const uint, a);
  OPERAND(const uint, b);
  OPERAND(uint, y);
  ulong first = (ulong)p.a_channels, second = (ulong)p.b_channels, channels = first + second;
  for (ulong i = flat_start(); i < (ulong)p.rows * channels; i += flat_stride()) {
    ulong c, row = qk_split(i, channels, &c);
    y[i] = c < first ? a[row * first + c] : b[row * second + c - first];
  }
}

KERNEL(qk_concat_grad)(BUFFER(dy), BUFFER(da), BUFFER(db), const qk_params_concat p) {
  OPERAND(const uint, dy);
  OPERAND(uint, da);
  OPERAND(uint, db);
  ulong first = (ulong)p.a_channels, second = (ulong)p.b_channels, channels = first + second;
  for (ulong i = flat_start(); i < (ulong)p.rows * channels; i += flat_stride()) {
    ulong c, row = qk_split(i, channels, &c);
    if (c < first)
      da[row * first + c] = dy[i];
    else
      db[row * second + c - first] = dy[i];
  }
}

/* Values of 4 bytes or 1. */
#define SUBSAMPLE(name, type)                                                                                          \
  KERNEL(name)(BUFFER(x), BUFFER(y), const qk_params_subsample p) {                                                    \
    OPERAND(const type, x);                                                                                            \
    OPERAND(type, y);                                                                                                  \
    for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {                                             \
      qk_place at = qk_place_of(i, p.y_height, p.y_width, p.y_channels);                                               \
      long c = (long)at.c - p.before;                                                                                  \
      ulong row = (at.image * (ulong)p.x_height + (ulong)at.row * (ulong)p.stride_h) * (ulong)p.x_width;               \
      ulong from = (row + (ulong)at.column * (ulong)p.stride_w) * (ulong)p.x_channels;                                 \
      y[i] = c >= 0 && c < p.x_channels ? x[from + (ulong)c] : 0;                                                      \
    }                                                                                                                  \
  }
SUBSAMPLE(qk_subsample, uint)
SUBSAMPLE(qk_int_subsample, uchar)

KERNEL(qk_subsample_grad)(BUFFER(dy), BUFFER(dx), const qk_params_subsample p) {
  OPERAND(const uint, dy);
  OPERAND(uint, dx);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    qk_place at = qk_place_of(i, p.x_height, p.x_width, p.x_channels);
    int row = at.row / p.stride_h, column = at.column / p.stride_w;
    int taken = row * p.stride_h == at.row && column * p.stride_w == at.column;
    ulong pixel = (at.image * (ulong)p.y_height + (ulong)row) * (ulong)p.y_width + (ulong)column;
    dx[i] = taken ? dy[pixel * (ulong)p.y_channels + (ulong)p.before + at.c] : 0;
  }
}
