/* The integer square root. */
#ifndef QE_EVOLVE_INTEGER_ROOT_H
#define QE_EVOLVE_INTEGER_ROOT_H

#include <stdint.h>

/* The largest integer whose square is at most `value`, which is not negative. */
static inline int64_t qe_integer_root(__int128 value) {
  int64_t root = 0;
  for (int bit = 62; bit >= 0; bit--) {
    int64_t next = root | INT64_C(1) << bit;
    if ((__int128)next * next <= value) root = next;
  }
  return root;
}

#endif
