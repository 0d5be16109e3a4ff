/* Fixed-point powers and logarithms, and the loss of integer logits; contracts in core/base/fixed.h and
 * cpu_ref/integer.c. */
#ifndef QK_LOSS_H
#define QK_LOSS_H

TABLE int qk_exp2_table[256] = {
#include "core/base/fixed_exp2.def"
};
TABLE int qk_log2_table[257] = {
#include "core/base/fixed_log2.def"
};

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

#endif
