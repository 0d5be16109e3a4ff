/* Flips: moves of codes to the next code, proposed by noisy votes. */
#include "core/search/flips.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/search/order.h"

#include <string.h>

/* ---- sums ---- */

qe_status qe_vote_sums_new(int64_t count, qe_vote_sums *sums) {
  *sums = (qe_vote_sums){.count = count};
  sums->sum = QE_NEW_ARRAY(int64_t, count);
  sums->square = QE_NEW_ARRAY(qe_u128, count);
  if (sums->sum && sums->square) return QE_OK;
  qe_vote_sums_free(sums);
  return QE_NO_MEMORY;
}

void qe_vote_sums_free(qe_vote_sums *sums) {
  qe_free(sums->sum);
  qe_free(sums->square);
  *sums = (qe_vote_sums){0};
}

static uint64_t magnitude(int64_t value) {
  return value < 0 ? -(uint64_t)value : (uint64_t)value;
}

void qe_vote_sums_add(qe_vote_sums *sums, const int64_t *votes) {
  for (int64_t i = 0; i < sums->count; i++) {
    uint64_t size = magnitude(votes[i]);
    sums->sum[i] += votes[i];
    sums->square[i] += (qe_u128)size * size;
  }
}

/* ---- which codes flip ---- */

static int32_t direction_of(const qe_vote_sums *sums, int64_t i) {
  return sums->sum[i] > 0 ? -1 : sums->sum[i] < 0;
}

static bool can_move(const qe_code_grid *grid, int8_t code, int32_t direction) {
  int32_t to = code + direction * grid->spacing;
  return direction != 0 && to >= grid->low && to <= grid->high;
}

/* sum^2 >= (least / 16)^2 square, with sums shortened where their squares would not fit. */
bool qe_flips_is_sure(const qe_vote_sums *sums, int64_t i, int32_t least) {
  uint64_t sum = magnitude(sums->sum[i]);
  qe_u128 square = sums->square[i], factor = (qe_u128)least * (qe_u128)least;
  while (sum >> 52 || square >> 100) {
    sum >>= 1;
    square >>= 2;
  }
  return (qe_u128)sum * sum * 256 >= factor * square;
}

static int64_t strength_of(uint64_t sum, int32_t scale) {
  const uint64_t most = INT64_MAX >> 15;
  return (int64_t)(sum < most ? sum : most) * scale;
}

qe_status qe_flips_rank(const qe_vote_sums *sums, const qe_code_grid *grid, const int8_t *codes, const int32_t *scale,
                        int64_t rows, int32_t least, int32_t *order, int64_t *flips) {
  int64_t *key = QE_NEW_ARRAY(int64_t, sums->count), each = sums->count / rows;
  if (!key) return QE_NO_MEMORY;
  *flips = 0;
  for (int64_t i = 0; i < sums->count; i++) {
    bool taken = can_move(grid, codes[i], direction_of(sums, i)) && qe_flips_is_sure(sums, i, least);
    key[i] = taken ? -1 - strength_of(magnitude(sums->sum[i]), scale ? scale[i / each] : 1) : 0;
    *flips += taken;
  }
  qe_status status = qe_order_ascending(key, sums->count, order);
  qe_free(key);
  return status;
}

/* Bit `at` of the choice's random half. */
static bool is_drawn(const qe_flips_choice *choice, int64_t at) {
  qe_philox draw = qe_philox_draw(choice->seed, QE_STREAM_VOTES, choice->variant << 40 | (uint64_t)(at / 128));
  return draw.word[at / 32 % 4] >> (at % 32) & 1;
}

int64_t qe_flips_make(const qe_vote_sums *sums, const qe_code_grid *grid, const int32_t *order, int64_t flips,
                      const qe_flips_choice *choice, int8_t *codes) {
  int64_t moved = 0, last = choice->variant ? 2 * choice->flips : choice->flips;
  for (int64_t at = 0; at < flips && at < last; at++) {
    if (choice->variant && !is_drawn(choice, at)) continue;
    int32_t i = order[at];
    codes[i] = (int8_t)(codes[i] + direction_of(sums, i) * grid->spacing);
    moved++;
  }
  return moved;
}
