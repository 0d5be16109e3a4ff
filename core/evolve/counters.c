/* Counters: random start, votes, codes. */
#include "core/evolve/counters.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"

enum { COUNTER_BITS = 12, DRAWS = 8 /* 16-bit numbers a Philox draw */ };

/* Deviation of a normal distribution over the end of its grid, in 256ths, where a uniform grid of so many bits has the
 * least squared error (Max 1960). */
static const int32_t deviation_of_bits[9] = {0, 256, 171, 125, 102, 88, 78, 71, 65};

int32_t qe_counters_fraction(const qe_code_grid *grid) {
  return COUNTER_BITS - grid->bits;
}

static uint32_t draw_of(const qe_philox *draw, int at) {
  return draw->word[at >> 1] >> (16 * (at & 1)) & 0xffff;
}

static uint64_t draw_index(const qe_counters *counters, int64_t at, uint64_t step) {
  return (step << 32) + counters->first + (uint64_t)at / DRAWS;
}

void qe_counters_free(qe_counters *counters) {
  qe_free(counters->value);
  qe_free(counters->momentum);
  *counters = (qe_counters){0};
}

qe_status qe_counters_new(const qe_code_grid *grid, int64_t count, uint64_t first, uint64_t seed, int32_t span,
                          qe_counters *counters) {
  *counters = (qe_counters){.grid = *grid, .fraction = qe_counters_fraction(grid), .count = count, .first = first};
  counters->value = QE_NEW_ARRAY(int16_t, count);
  counters->momentum = QE_NEW_ARRAY(int64_t, count);
  if (!counters->value || !counters->momentum) {
    qe_counters_free(counters);
    return QE_NO_MEMORY;
  }
  int32_t unit = 1 << counters->fraction, width = (grid->high - grid->low) * unit;
  int32_t inner = (int32_t)((int64_t)width * span / 256), low = grid->low * unit + (width - inner) / 2;
  qe_philox draw = {{0}};
  for (int64_t i = 0; i < count; i++) {
    if (i % DRAWS == 0) draw = qe_philox_draw(seed, QE_STREAM_COUNTERS, draw_index(counters, i, 0));
    counters->value[i] = (int16_t)(low + (int32_t)(draw_of(&draw, (int)(i % DRAWS)) * (uint64_t)(inner + 1) >> 16));
  }
  return QE_OK;
}

void qe_counters_vote(qe_counters *counters, const int64_t *votes, int32_t decay, int32_t rate, uint64_t seed,
                      uint64_t step) {
  int32_t low = counters->grid.low * (1 << counters->fraction), high = counters->grid.high * (1 << counters->fraction);
  int32_t whole = rate >> 8, rest = (rate & 255) << 8;
  int64_t half = (INT64_C(1) << decay) >> 1;
  qe_philox draw = {{0}};
  for (int64_t i = 0; i < counters->count; i++) {
    if (i % DRAWS == 0) draw = qe_philox_draw(seed, QE_STREAM_COUNTERS, draw_index(counters, i, step + 1));
    int64_t m = counters->momentum[i];
    m += votes[i] - ((m + half) >> decay);
    counters->momentum[i] = m;
    int32_t move = whole + ((int32_t)draw_of(&draw, (int)(i % DRAWS)) < rest);
    int32_t value = counters->value[i] + (m > 0 ? -move : m < 0 ? move : 0);
    counters->value[i] = (int16_t)(value < low ? low : value > high ? high : value);
  }
}

/* Counters first...first+group-1, less `share` / 2^16 of each, rounded at random. */
static void shrink(qe_counters *counters, int64_t first, int64_t group, int32_t share, uint64_t seed, uint64_t step) {
  qe_philox draw = {{0}};
  for (int64_t i = first; i < first + group; i++) {
    if (i == first || i % DRAWS == 0) draw = qe_philox_draw(seed, QE_STREAM_SHRINK, draw_index(counters, i, step + 1));
    int32_t less = (counters->value[i] * share + (int32_t)draw_of(&draw, (int)(i % DRAWS))) >> 16;
    counters->value[i] = (int16_t)(counters->value[i] - less);
  }
}

void qe_counters_hold(qe_counters *counters, int64_t group, uint64_t seed, uint64_t step) {
  int64_t end = (int64_t)counters->grid.high << counters->fraction;
  int64_t deviation = end * deviation_of_bits[counters->grid.bits] / 256, wanted = deviation * deviation * group;
  for (int64_t first = 0; first < counters->count; first += group) {
    int64_t squares = 0;
    for (int64_t i = first; i < first + group; i++) squares += (int64_t)counters->value[i] * counters->value[i];
    if (squares > 0 && squares > wanted)
      shrink(counters, first, group, (int32_t)((squares - wanted) * (1 << 15) / squares), seed, step);
  }
}

bool qe_counters_sound(const qe_counters *counters) {
  int32_t low = counters->grid.low * (1 << counters->fraction), high = counters->grid.high * (1 << counters->fraction);
  for (int64_t i = 0; i < counters->count; i++)
    if (counters->value[i] < low || counters->value[i] > high) return false;
  return true;
}

/* Place of a counter on the grid, in units, from the lower edge of code `low`; and the units between two codes. */
static int32_t place_of(const qe_counters *counters, int64_t i, int32_t spacing) {
  return counters->value[i] - counters->grid.low * (1 << counters->fraction) + spacing / 2;
}

void qe_counters_codes(const qe_counters *counters, int8_t *codes) {
  int32_t spacing = counters->grid.spacing << counters->fraction;
  for (int64_t i = 0; i < counters->count; i++)
    codes[i] = (int8_t)(counters->grid.low + counters->grid.spacing * (place_of(counters, i, spacing) / spacing));
}

int64_t qe_counters_confident(const qe_counters *counters) {
  int32_t spacing = counters->grid.spacing << counters->fraction;
  int64_t confident = 0;
  for (int64_t i = 0; i < counters->count; i++) {
    int32_t rest = place_of(counters, i, spacing) % spacing;
    confident += 4 * rest >= spacing && 4 * rest <= 3 * spacing;
  }
  return confident;
}
