/* Searchers: draws, values that variables can have, and points that are made to fit what is allowed. */
#include "core/base/rng.h"
#include "core/search/searcher_parts.h"

#include <math.h>
#include <string.h>

double qe_search_range(const qe_search_variable *v) {
  return v->high - v->low;
}

double qe_search_place(const qe_search_variable *v, double x) {
  if (v->kind != QE_SEARCH_REAL) x = floor(x + 0.5);
  return fmin(fmax(x, v->low), v->high);
}

void qe_search_start(const qe_searcher *s, double *x) {
  for (int64_t i = 0; i < s->n; i++) x[i] = s->variable[i].start;
}

/* ---- draws ---- */

/* A trial's sequence has 2^24 draws. */
qe_search_draws qe_search_draws_of(const qe_searcher *s, int64_t trial) {
  return (qe_search_draws){.seed = s->options.seed, .index = (uint64_t)trial << 24, .used = 2};
}

double qe_search_uniform(qe_search_draws *draws) {
  if (draws->used == 2) {
    qe_philox r = qe_philox_draw(draws->seed, QE_STREAM_SEARCH, draws->index++);
    memcpy(draws->word, r.word, sizeof draws->word);
    draws->used = 0;
  }
  const uint32_t *word = draws->word + 2 * draws->used++;
  return ((double)(((uint64_t)word[0] << 32 | word[1]) >> 11) + 0.5) * 0x1p-53;
}

double qe_search_normal(qe_search_draws *draws) { /* Box and Muller, 1958 */
  double radius = sqrt(-2 * log(qe_search_uniform(draws)));
  return radius * cos(6.28318530717958647693 * qe_search_uniform(draws));
}

int64_t qe_search_below(qe_search_draws *draws, int64_t bound) {
  int64_t at = (int64_t)(qe_search_uniform(draws) * (double)bound);
  return at < bound ? at : bound - 1;
}

double qe_search_anywhere(qe_search_draws *draws, const qe_search_variable *v) {
  double u = qe_search_uniform(draws);
  if (v->kind == QE_SEARCH_REAL) return v->low + u * (v->high - v->low);
  return fmin(v->low + floor(u * (v->high - v->low + 1)), v->high);
}

/* Steps of 1 with probability 1/2, of 2 with 1/4, and so on. */
static double other_integer(qe_search_draws *draws, const qe_search_variable *v, double x) {
  double step = 1;
  while (step < qe_search_range(v) && qe_search_uniform(draws) < 0.5) step++;
  if (qe_search_uniform(draws) < 0.5) step = -step;
  if (x + step < v->low || x + step > v->high) step = -step;
  return qe_search_place(v, x + step);
}

double qe_search_other(qe_search_draws *draws, const qe_search_variable *v, double x) {
  if (v->kind == QE_SEARCH_REAL) return qe_search_place(v, x + 0.1 * qe_search_range(v) * qe_search_normal(draws));
  if (!(v->low < v->high)) return x;
  if (v->kind == QE_SEARCH_INTEGER) return other_integer(draws, v, x);
  double other = v->low + (double)qe_search_below(draws, (int64_t)qe_search_range(v));
  return other < x ? other : other + 1;
}

/* ---- repair ---- */

/* The next value down or up; of a choice any. */
static double neighbour(qe_search_draws *draws, const qe_search_variable *v, double x, bool up) {
  if (v->kind == QE_SEARCH_CHOICE) return qe_search_other(draws, v, x);
  double step = v->kind == QE_SEARCH_REAL ? 0.05 * qe_search_range(v) : 1;
  return qe_search_place(v, up ? x + step : x - step);
}

void qe_search_repair(const qe_searcher *s, qe_search_draws *draws, double *x) {
  double excess = qe_search_excess(s, x);
  int64_t failed = 0;
  while (excess > 0 && failed < 8 * s->n + 64) {
    int64_t i = qe_search_below(draws, s->n);
    double old = x[i];
    bool up = qe_search_uniform(draws) < 0.5;
    x[i] = neighbour(draws, &s->variable[i], old, up);
    double now = qe_search_excess(s, x);
    failed = now < excess ? 0 : failed + 1;
    if (now < excess)
      excess = now;
    else
      x[i] = old;
  }
}
