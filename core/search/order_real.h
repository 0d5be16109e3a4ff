/* Orders of reals: keys for qe_order_ascending. */
#ifndef QE_SEARCH_ORDER_REAL_H
#define QE_SEARCH_ORDER_REAL_H

#include "core/search/order.h"

#include <math.h>
#include <string.h>

/* A key in the order of the numbers; NaN last. */
static inline int64_t qe_order_key(double value) {
  int64_t bits;
  if (isnan(value)) return INT64_MAX;
  value += 0.0; /* -0 */
  memcpy(&bits, &value, sizeof bits);
  return bits >= 0 ? bits : INT64_MIN - bits;
}

#endif
