/* Held-out split by class and epoch order, both drawn by counter. */
#include "core/data/split.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"

#include <stdbool.h>

/* How many of each class to hold out, by largest remainder: quota [classes] from total [classes]. */
static void share(const int32_t *total, int classes, int count, int held_out, int32_t *quota) {
  int missing = held_out;
  for (int class = 0; class < classes; class ++) {
    quota[class] = (int32_t)((int64_t)total[class] * held_out / count);
    missing -= quota[class];
  }
  for (; missing > 0; missing--) {
    int best = 0;
    int64_t best_remainder = INT64_MIN;
    for (int class = 0; class < classes; class ++) {
      int64_t remainder = (int64_t)total[class] * held_out - (int64_t)quota[class] * count;
      if (remainder > best_remainder) {
        best = class;
        best_remainder = remainder;
      }
    }
    quota[best]++;
  }
}

/* Move a random choice of `quota` of the `total` members to their front; `class` keeps the draws of two apart.
 */
static void choose(uint64_t seed, uint32_t class, int32_t *members, int32_t total, int32_t quota) {
  for (int32_t at = 0; at < quota; at++) {
    qe_philox draw = qe_philox_draw(seed, QE_STREAM_SPLIT, (uint64_t) class << 32 | (uint32_t)at);
    int32_t from = at + (int32_t)qe_below(draw.word[0], (uint32_t)(total - at));
    int32_t chosen = members[from];
    members[from] = members[at];
    members[at] = chosen;
  }
}

static qe_status check(const int32_t *labels, int count, int classes, int held_out) {
  if (count < 1 || held_out < 0 || held_out > count)
    return qe_fail(QE_USAGE, "%d images cannot be held out of %d; give a number from 0 to %d", held_out, count, count);
  for (int at = 0; at < count; at++)
    if (labels[at] < 0 || labels[at] >= classes)
      return qe_fail(QE_FORMAT, "label %d of image %d is not from 0 to %d", (int)labels[at], at, classes - 1);
  return QE_OK;
}

qe_status qe_split(uint64_t seed, const int32_t *labels, int count, int classes, int held_out, int32_t *kept,
                   int32_t *held) {
  QE_TRY(check(labels, count, classes, held_out));
  qe_status status = QE_NO_MEMORY;
  int32_t *members = QE_NEW_ARRAY(int32_t, count); /* image indices, the classes in turn */
  int32_t *total = QE_NEW_ARRAY(int32_t, classes), *quota = QE_NEW_ARRAY(int32_t, classes);
  int32_t *next = QE_NEW_ARRAY(int32_t, classes); /* the place in members of a class's next image */
  bool *is_held = QE_NEW_ARRAY(bool, count);
  if (!members || !total || !quota || !next || !is_held) goto done;
  status = QE_OK;
  for (int at = 0; at < count; at++) total[labels[at]]++;
  share(total, classes, count, held_out, quota);
  for (int class = 1; class < classes; class ++) next[class] = next[class - 1] + total[class - 1];
  for (int at = 0; at < count; at++) members[next[labels[at]]++] = at;
  for (int class = 0; class < classes; class ++) {
    int32_t *first = members + next[class] - total[class];
    choose(seed, (uint32_t) class, first, total[class], quota[class]);
    for (int32_t at = 0; at < quota[class]; at++) is_held[first[at]] = true;
  }
  for (int32_t at = 0; at < count; at++) *(is_held[at] ? held++ : kept++) = at;
done:
  qe_free(members);
  qe_free(total);
  qe_free(quota);
  qe_free(next);
  qe_free(is_held);
  return status;
}

void qe_shuffle(uint64_t seed, uint64_t epoch, int32_t *order, int count) {
  for (int at = 0; at < count; at++) order[at] = at;
  for (int at = 0; at < count - 1; at++) {
    qe_philox draw = qe_philox_draw(seed, QE_STREAM_SHUFFLE, (epoch << 32) + (uint32_t)at);
    int from = at + (int)qe_below(draw.word[0], (uint32_t)(count - at));
    int32_t chosen = order[from];
    order[from] = order[at];
    order[at] = chosen;
  }
}
