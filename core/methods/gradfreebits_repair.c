/* Allocations moved onto the budgets, so that a search compares only what could be chosen, and none that leaves bits
 * unused. */
#include "core/methods/gradfreebits_parts.h"

#include "core/base/hash.h"
#include "core/base/rng.h"

/* What is to be changed first: of equal bits the order is drawn, for each allocation another. */
typedef struct turn {
  uint64_t seed, hash;
} turn;

static int64_t key_of(const turn *t, const int32_t *bits, int32_t place, bool fewest) {
  const int64_t step = INT64_C(1) << 32;
  uint32_t drawn = qe_philox_draw(t->seed, QE_STREAM_BITS, t->hash + (uint64_t)place).word[2];
  return (fewest ? -bits[place] : bits[place]) * step + (int64_t)drawn;
}

/* The place with the greatest key below `below` that may still be changed by `step`; -1: none. */
static int32_t next_place(const qe_gradfreebits *s, const turn *t, const int32_t *bits, int32_t step, int64_t below,
                          int64_t *key) {
  int32_t found = -1;
  for (int32_t i = 0; i < s->variables; i++) {
    int32_t at = s->variable[i], least = s->map->place[at].least;
    if (least < s->options->least) least = s->options->least;
    if (bits[at] + step < least || bits[at] + step > s->options->most) continue;
    int64_t own = key_of(t, bits, at, step > 0);
    if (own >= below || (found >= 0 && own <= *key)) continue;
    found = at;
    *key = own;
  }
  return found;
}

/* One bit less where there are most, of places that make it cheaper; false: none does. */
static bool lower(const qe_gradfreebits *s, const turn *t, int32_t *bits) {
  double before = qe_budgets_penalty(&s->budgets, s->costs, bits);
  int64_t key = INT64_MAX;
  for (;;) {
    int32_t at = next_place(s, t, bits, -1, key, &key);
    if (at < 0) return false;
    bits[at]--;
    if (qe_budgets_penalty(&s->budgets, s->costs, bits) < before) return true;
    bits[at]++;
  }
}

/* One bit more where there are fewest, of places where the budgets allow it; false: nowhere. */
static bool raise_one(const qe_gradfreebits *s, const turn *t, int32_t *bits) {
  int64_t key = INT64_MAX;
  for (;;) {
    int32_t at = next_place(s, t, bits, 1, key, &key);
    if (at < 0) return false;
    bits[at]++;
    if (qe_budgets_excess(&s->budgets, s->costs, bits) <= 0) return true;
    bits[at]--;
  }
}

void qe_gfb_repair(const qe_gradfreebits *s, int32_t *bits) {
  turn t = {s->setting->options.seed, qe_hash(QE_HASH_START, bits, (size_t)s->map->places * sizeof *bits)};
  if (s->budgets.count == 0) return;
  while (qe_budgets_excess(&s->budgets, s->costs, bits) > 0)
    if (!lower(s, &t, bits)) return;
  while (raise_one(s, &t, bits)) continue;
}
