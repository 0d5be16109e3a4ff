/* What several files of kernels share: tables and random numbers (the host's text), index arithmetic, codes of a type
 * known at run time. In front of every file, after platform.h and params.h; the build of backends/opencl puts the
 * included texts in their places. */
#ifndef QK_COMMON_H
#define QK_COMMON_H

TABLE int qk_exp2_table[256] = {
#include "core/base/fixed_exp2.def"
};
TABLE int qk_log2_table[257] = {
#include "core/base/fixed_log2.def"
};

#include "core/base/rng.h"

/* Four values that move at once: at places that are multiples of 16 bytes. */
typedef struct __attribute__((aligned(16))) qk_uints {
  uint of[4];
} qk_uints;
typedef struct __attribute__((aligned(16))) qk_floats {
  float of[4];
} qk_floats;

/* i / d, with what is left in *rest; in 32 bits where they do, since 64-bit divisions are slow on GPUs. */
DEVICE ulong qk_split(ulong i, ulong d, ulong *rest) {
  if (((i | d) >> 32) == 0) {
    uint quotient = (uint)i / (uint)d;
    *rest = (uint)i - quotient * (uint)d;
    return quotient;
  }
  ulong quotient = i / d;
  *rest = i - quotient * d;
  return quotient;
}

/* Place of output i of a map [images, height, width, channels]; the images may be those of all candidates. */
typedef struct qk_place {
  ulong image, c;
  int row, column;
} qk_place;

DEVICE qk_place qk_place_of(ulong i, int height, int width, int channels) {
  qk_place place;
  ulong row, column;
  i = qk_split(i, (ulong)channels, &place.c);
  i = qk_split(i, (ulong)width, &column);
  place.image = qk_split(i, (ulong)height, &row);
  place.row = (int)row;
  place.column = (int)column;
  return place;
}

/* A coordinate that no tap brings into an image. */
#define QK_NOWHERE (-1073741824)

/* Output coordinate whose window has input coordinate `in` under a tap; -1 when there is none.
 * start = in + pad - tap * dilation. */
DEVICE int qk_tap_output(int start, int stride, int extent) {
  if (start < 0) return -1;
  if (stride == 1) return start < extent ? start : -1;
  int out = start / stride;
  return out * stride == start && out < extent ? out : -1;
}

/* Value i of an operand of a type of params.h. */
DEVICE int qk_code(GLOBAL const uchar *memory, int type, ulong i) {
  if (type == QK_TYPE_U8) return memory[i];
  if (type == QK_TYPE_S8) return ((GLOBAL const schar *)memory)[i];
  return ((GLOBAL const int *)memory)[i];
}

DEVICE void qk_store_code(GLOBAL uchar *memory, int type, ulong i, int value) {
  if (type == QK_TYPE_S32)
    ((GLOBAL int *)memory)[i] = value;
  else
    memory[i] = (uchar)value;
}


/* 2^(-x / 256) in Q30 for x >= 0. */
DEVICE long qk_exp2_negative(long x) {
  long whole = x >> 8;
  return whole > 30 ? 0 : (long)(qk_exp2_table[x & 255] >> whole);
}

/* log2(x / 2^30) in Q16 for 2^30 <= x < 2^62. */
DEVICE long qk_log2_q30(long x) {
  int octave = 63 - (int)qk_leading_zeros(x);
  long mantissa = octave >= 24 ? x >> (octave - 24) : x << (24 - octave); /* 1.24 */
  int index = (int)(mantissa >> 16) & 255;
  long rest = mantissa & 65535, low = qk_log2_table[index], high = qk_log2_table[index + 1];
  return (long)(octave - 30) * 65536 + low + (((high - low) * rest) >> 16);
}

/* Loss of one row of logits in Q16, at most 2^31 - 1; *hit: whether the first largest is the label's. */
DEVICE int qk_row_loss(GLOBAL const int *z, int classes, int label, int *hit) {
  int best = 0, top = z[0];
  for (int j = 1; j < classes; j++)
    if (z[j] > top) {
      best = j;
      top = z[j];
    }
  long sum = 0;
  for (int j = 0; j < classes; j++) sum += qk_exp2_negative((long)top - z[j]);
  long bits = qk_log2_q30(sum) + ((long)top - z[label]) * 256;
  *hit = best == label;
  return bits > 2147483647 ? 2147483647 : (int)bits;
}

/* ---- stages of whole networks ---- */

#define NET_BUFFERS                                                                                                    \
  BUFFER(x), BUFFER(w), BUFFER(x2), BUFFER(w2), BUFFER(m), BUFFER(n), BUFFER(offset), BUFFER(skip), BUFFER(fine),     \
      BUFFER(coarse), BUFFER(slots)

/* A slot's part of a map. */
DEVICE GLOBAL uchar *net_slot(GLOBAL uchar *memory, const qk_net_map map, int slot) {
  return memory + (slot < map.own ? (qk_long)slot * map.slot : 0);
}

/* Codes of a group of eight are stored at 1, 2, 4 or 8 bits, the first in the lowest. */
DEVICE int net_code(GLOBAL const uchar *pixel, int c, int bits, int is_signed) {
  int code = pixel[c * bits >> 3] >> (c * bits & 7) & ((1 << bits) - 1);
  int sign = 1 << (bits - 1);
  return is_signed ? (code ^ sign) - sign : code;
}

DEVICE void net_store_eight(GLOBAL uchar *group, int bits, const int *code) {
  ulong word = 0;
  for (int k = 0; k < 8; k++) word |= (ulong)(code[k] & ((1 << bits) - 1)) << (k * bits);
  for (int k = 0; k < bits; k++) group[k] = (uchar)(word >> (8 * k));
}

/* Adds in 32 bits where that is proven to do: unsigned, since an intermediate sum may wrap around. */
DEVICE int net_requantised(const qk_params_stage p, int v, int m, int u, int n, qk_long offset) {
  if (p.sum_width == QK_NARROW) {
    int code = (int)((uint)v * (uint)m + (uint)u * (uint)n + (uint)(int)offset) >> p.shift;
    return code < p.low ? p.low : code > p.high ? p.high : code;
  }
  qk_long code = ((qk_long)v * m + (qk_long)u * n + offset) >> p.shift;
  return (int)(code < p.low ? p.low : code > p.high ? p.high : code);
}

/* The coarser code: a shift with halves up. */
DEVICE int net_coarser(const qk_params_stage p, int code) {
  int coarse = (code + ((1 << p.coarse_shift) >> 1)) >> p.coarse_shift;
  return coarse < p.coarse_low ? p.coarse_low : coarse > p.coarse_high ? p.coarse_high : coarse;
}

#endif
