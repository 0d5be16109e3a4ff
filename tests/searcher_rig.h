/* What the tests of searchers share: functions whose best is known, a space, one turn of ask and tell. */
#ifndef QE_TESTS_SEARCHER_RIG_H
#define QE_TESTS_SEARCHER_RIG_H

#include "core/search/searcher.h"
#include "tests/fixture.h"

enum { MOST = 40, POPULATION_MOST = 4096 };

/* ---- functions ---- */

/* Bits of layers: noise power falls by four with each bit; layers are differently sensitive. */
static inline double sensitivity(int32_t i) {
  return 1 + 9.0 * ((i * 7) % 5);
}
static inline double noise(const double *x, int32_t n) {
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += sensitivity(i) * pow(0.25, x[i]);
  return sum;
}
static inline double mean(const double *x, int32_t n) {
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += x[i];
  return sum / n;
}

/* Least where x[i] is this. */
static inline double hidden(int32_t i) {
  return (i * 5 + 3) % 7;
}
static inline double apart(const double *x, int32_t n) {
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += x[i] < hidden(i) || x[i] > hidden(i);
  return sum;
}
static inline double bowl(const double *x, int32_t n) {
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += (x[i] - hidden(i)) * (x[i] - hidden(i));
  return sum;
}

/* Mean bits over 3. */
typedef struct limit {
  int32_t n;
  double most;
} limit;
static inline double over(void *context, const double *x) {
  const limit *l = context;
  return mean(x, l->n) / l->most - 1 - 1e-12;
}

/* ---- rig ---- */

typedef struct rig {
  qe_search_variable variable[MOST];
  qe_search_space space;
  limit most;
  qe_searcher *searcher;
} rig;

static inline void open_rig(rig *r, int32_t n, qe_search_kind kind, double low, double high, double start,
                            const qe_searcher_options *options, int32_t objectives, double most) {
  memset(r, 0, sizeof *r);
  for (int32_t i = 0; i < n; i++)
    r->variable[i] = (qe_search_variable){.kind = kind, .low = low, .high = high, .start = start};
  r->most = (limit){n, most};
  r->space = (qe_search_space){.n = n, .variable = r->variable, .objectives = objectives, .context = &r->most};
  if (most > 0) r->space.excess = over;
  OK(qe_searcher_new(&r->space, options, &r->searcher));
}

typedef void (*function)(const double *x, int32_t n, double *value);
static inline void f_noise(const double *x, int32_t n, double *value) {
  *value = noise(x, n);
}
static inline void f_apart(const double *x, int32_t n, double *value) {
  *value = apart(x, n);
}
static inline void f_bowl(const double *x, int32_t n, double *value) {
  *value = bowl(x, n);
}
/* With a penalty for what a budget of 3 bits exceeds. */
static inline void f_penalty(const double *x, int32_t n, double *value) {
  *value = noise(x, n) + 100 * fmax(0, mean(x, n) / 3 - 1);
}
static inline void f_two(const double *x, int32_t n, double *value) {
  value[0] = noise(x, n);
  value[1] = mean(x, n);
}

/* One ask and tell. */
static inline void turn(rig *r, function f) {
  static double value[POPULATION_MOST * 2];
  const double *x;
  int32_t count;
  OK(qe_searcher_ask(r->searcher, &x, &count));
  assert_true(count >= 1 && count <= POPULATION_MOST);
  for (int32_t k = 0; k < count; k++) {
    for (int32_t i = 0; i < r->space.n; i++) {
      double at = x[k * r->space.n + i];
      assert_true(at >= r->variable[i].low && at <= r->variable[i].high);
      if (r->variable[i].kind != QE_SEARCH_REAL) assert_true(at == floor(at));
    }
    f(x + k * r->space.n, r->space.n, value + k * r->space.objectives);
  }
  OK(qe_searcher_tell(r->searcher, value));
}

/* The best value after so many trials. */
static inline double run(rig *r, function f, int64_t trials) {
  double best = HUGE_VAL;
  while (!qe_searcher_stopped(r->searcher) && qe_searcher_trials(r->searcher) < trials) turn(r, f);
  double values[QE_SEARCH_OBJECTIVES];
  if (qe_searcher_best(r->searcher, values)) best = values[0];
  return best;
}

#endif
