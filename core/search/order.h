/* Orders of integer keys, the same everywhere: ascending, equal keys by the lowest index. */
#ifndef QE_SEARCH_ORDER_H
#define QE_SEARCH_ORDER_H

#include "core/base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the indices 0...count-1 of `key` [count] to order [count], smallest key first. QE_NO_MEMORY. */
QE_CHECKED qe_status qe_order_ascending(const int64_t *key, int64_t count, int32_t *order);

#ifdef __cplusplus
}
#endif
#endif
