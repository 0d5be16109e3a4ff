/* Merge sort of indices by their keys: stable, so that equal keys stay in the order of their indices. */
#include "core/search/order.h"

#include "core/base/alloc.h"

#include <stdbool.h>

/* Two neighbouring runs of `from`, start...middle-1 and middle...stop-1, into one run of `to`. */
static void merge(const int64_t *key, const int32_t *from, int64_t start, int64_t middle, int64_t stop, int32_t *to) {
  int64_t left = start, right = middle;
  for (int64_t at = start; at < stop; at++) {
    bool take_left = left < middle && (right >= stop || key[from[left]] <= key[from[right]]);
    to[at] = take_left ? from[left++] : from[right++];
  }
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

qe_status qe_order_ascending(const int64_t *key, int64_t count, int32_t *order) {
  for (int64_t i = 0; i < count; i++) order[i] = (int32_t)i;
  if (count < 2) return QE_OK;
  int32_t *scratch = QE_NEW_ARRAY(int32_t, count), *from = order, *to = scratch;
  if (!scratch) return QE_NO_MEMORY;
  for (int64_t run = 1; run < count; run *= 2) {
    for (int64_t start = 0; start < count; start += 2 * run)
      merge(key, from, start, least(start + run, count), least(start + 2 * run, count), to);
    int32_t *sorted = to;
    to = from;
    from = sorted;
  }
  for (int64_t i = 0; from != order && i < count; i++) order[i] = from[i];
  qe_free(scratch);
  return QE_OK;
}
