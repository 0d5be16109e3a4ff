/* Fixed-point powers and logarithms of base 2, the same bits on every backend (numerics of the integer fitness).
 * Kernels include the same tables. */
#ifndef QE_BASE_FIXED_H
#define QE_BASE_FIXED_H

#include <stdint.h>

static const int32_t qe_exp2_table[256] = {
#include "core/base/fixed_exp2.def"
};
static const int32_t qe_log2_table[257] = {
#include "core/base/fixed_log2.def"
};

/* 2^(-x / 256) in Q30 for x >= 0. */
static inline int64_t qe_exp2_negative(int64_t x) {
  int64_t whole = x >> 8;
  return whole > 30 ? 0 : (int64_t)qe_exp2_table[x & 255] >> whole;
}

/* log2(x / 2^30) in Q16 for 2^30 <= x < 2^62, by linear interpolation between 256 points an octave. */
static inline int64_t qe_log2_q30(int64_t x) {
  int octave = 63 - __builtin_clzll((unsigned long long)x);
  int64_t mantissa = octave >= 24 ? x >> (octave - 24) : x << (24 - octave); /* 1.24 */
  int64_t index = (mantissa >> 16) & 255, rest = mantissa & 65535;
  int64_t low = qe_log2_table[index], high = qe_log2_table[index + 1];
  return ((int64_t)(octave - 30) << 16) + low + (((high - low) * rest) >> 16);
}

#endif
