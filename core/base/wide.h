/* Integers of 128 bits, for products and ratios of 64-bit sums on the host. */
#ifndef QE_BASE_WIDE_H
#define QE_BASE_WIDE_H

#include <stdint.h>

__extension__ typedef __int128 qe_s128;
__extension__ typedef unsigned __int128 qe_u128;

/* The largest integer whose square is at most `value`, which is not negative. */
static inline int64_t qe_integer_root(qe_s128 value) {
  int64_t root = 0;
  for (int bit = 62; bit >= 0; bit--) {
    int64_t next = root | INT64_C(1) << bit;
    if ((qe_s128)next * next <= value) root = next;
  }
  return root;
}

#endif
