/* What several files of kernels share: tables and random numbers (the host's text), index arithmetic, codes of a type
 * known at run time, compensated sums, the quantiser. In front of every file, after platform.h and params.h; the build
 * of backends/opencl puts the included texts in their places. */
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

/* ---- compensated sums ---- */

/* A sum and what rounding has lost of it (Knuth's two-sum): about twice the digits of a float, without doubles. */
typedef struct qk_sum {
  float high, low;
} qk_sum;

DEVICE qk_sum qk_sum_of(float high, float low) {
  qk_sum sum;
  sum.high = high;
  sum.low = low;
  return sum;
}

DEVICE qk_sum qk_sum_add(qk_sum sum, float x) {
  float total = sum.high + x, x_part = total - sum.high;
  float lost = (sum.high - (total - x_part)) + (x - x_part);
  return qk_sum_of(total, sum.low + lost);
}

DEVICE qk_sum qk_sum_merge(qk_sum a, qk_sum b) {
  qk_sum sum = qk_sum_add(a, b.high);
  return qk_sum_of(sum.high, sum.low + b.low);
}

/* Once `high` is infinite, `low` is NaN. */
DEVICE float qk_sum_value(qk_sum sum) {
  float value = sum.high + sum.low;
  return value == value ? value : sum.high;
}

/* x * y, exactly but for underflow. */
DEVICE qk_sum qk_product(float x, float y) {
  float high = x * y;
  return qk_sum_of(high, fma(x, y, -high));
}

/* Work-items stand in rows of `width`, column by column: the sum of each column, valid in row 0. Work-items beyond
 * rows * width take no part. Every work-item of the group must call it; `high` and `low` have QK_GROUP places. */
DEVICE qk_sum qk_sum_columns(LOCAL float *high, LOCAL float *low, qk_sum own, uint width, uint rows) {
  uint lane = local_id(0), row = lane / width, gap = 1;
  while (gap < rows) gap *= 2;
  BARRIER();
  high[lane] = own.high;
  low[lane] = own.low;
  BARRIER();
  for (gap /= 2; gap > 0; gap /= 2) {
    if (row < gap && row + gap < rows) {
      uint other = lane + gap * width;
      qk_sum sum = qk_sum_merge(qk_sum_of(high[lane], low[lane]), qk_sum_of(high[other], low[other]));
      high[lane] = sum.high;
      low[lane] = sum.low;
    }
    BARRIER();
  }
  return qk_sum_of(high[lane], low[lane]);
}

/* The sum over the whole group, valid in work-item 0. */
DEVICE qk_sum qk_sum_group(LOCAL float *high, LOCAL float *low, qk_sum own) {
  return qk_sum_columns(high, low, own, 1, QK_GROUP);
}

/* The largest of all work-items' values, which are not negative; valid in all. As above, for `shared`. */
DEVICE float qk_group_largest(LOCAL float *shared, float own) {
  uint lane = local_id(0);
  BARRIER();
  shared[lane] = own;
  BARRIER();
  for (uint gap = QK_GROUP / 2; gap > 0; gap /= 2) {
    if (lane < gap && shared[lane + gap] > shared[lane]) shared[lane] = shared[lane + gap];
    BARRIER();
  }
  return shared[0];
}

/* ---- places ---- */

/* The buffers that a kernel was given; a place (params.h) names one of them and the bytes from its start. */
typedef struct qk_memory {
  GLOBAL uchar *buffer0, *buffer1, *buffer2, *buffer3, *buffer4, *buffer5;
} qk_memory;

DEVICE GLOBAL float *qk_floats_at(qk_memory memory, qk_long place) {
  uint which = (uint)((ulong)place >> 56);
  GLOBAL uchar *low = which == 0 ? memory.buffer0 : which == 1 ? memory.buffer1 : memory.buffer2;
  GLOBAL uchar *high = which == 3 ? memory.buffer3 : which == 4 ? memory.buffer4 : memory.buffer5;
  return (GLOBAL float *)((which < 3 ? low : high) + ((ulong)place & 0xFFFFFFFFFFFFFFul));
}

/* ---- batch norm and quantisers: cpu_ref/norm.c, cpu_ref/quant.c ---- */

DEVICE float qk_inverse_deviation(float var, float epsilon) {
  return 1.0f / sqrt(var + epsilon);
}

/* `grid`: QK_GRID_... */
DEVICE float qk_quant_code(int grid, float v, float low, float high, float half_up) {
  float code = grid == QK_GRID_ODD  ? 2.0f * rint((v + high) * 0.5f) - high
               : grid == QK_GRID_UP ? floor(v + half_up)
                                    : rint(v);
  return code < low ? low : code > high ? high : code;
}

/* What one element adds to the step's gradient for dy = 1; `rule`: QK_RULE_... */
DEVICE float qk_step_slope(int rule, int grid, float v, float low, float high, float half_up) {
  if (rule == QK_RULE_FIXED) return 0.0f;
  if (v >= high) return high;
  if (v <= low) return low;
  return rule == QK_RULE_LSQ ? qk_quant_code(grid, v, low, high, half_up) - v : 0.0f;
}

#endif
