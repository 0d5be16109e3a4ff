/* CMA-ES: when a run ends, and what the next one is. */
#include "core/search/cma_internal.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the end of a run (Tutorial, B.3, and CEC 2005, with the limits that pycma has) ---- */

static int compare(const void *a, const void *b) {
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

/* The median of the third of the ring that starts at `generation`. */
static double median_of(const qe_cma *cma, const double *ring, int64_t generation, double *sorted) {
  int32_t span = cma->set.stagnation_span, count = span * 3 / 10;
  for (int32_t i = 0; i < count; i++) sorted[i] = ring[(generation + i) % span];
  qsort(sorted, (size_t)count, sizeof *sorted, compare);
  return sorted[count / 2];
}

/* Neither the best nor the median of generations is better than `stagnation_span` generations ago. Asked seldom: it
 * sorts. */
static bool stagnant(const qe_cma *cma) {
  int32_t span = cma->set.stagnation_span, part = span * 3 / 10;
  if (cma->generation < span || cma->generation % (span / 10) != 0) return false;
  double *sorted = cma->median_history + span;
  bool better = false;
  for (int32_t which = 0; which < 2 && !better; which++) {
    const double *ring = which ? cma->median_history : cma->best_history;
    better =
        median_of(cma, ring, cma->generation - part, sorted) < median_of(cma, ring, cma->generation - span, sorted);
  }
  return !better;
}

static bool flat(const qe_cma *cma) {
  int32_t span = cma->set.flat_span;
  if (cma->generation < span) return false;
  double least = HUGE_VAL, most = -HUGE_VAL;
  for (int64_t g = cma->generation - span; g < cma->generation; g++) {
    double value = cma->best_history[g % cma->set.stagnation_span];
    least = fmin(least, value);
    most = fmax(most, value);
  }
  return !(least < HUGE_VAL) || most - least <= 1e-12;
}

/* A variable that is an integer with margin never gets narrow. */
static bool has_floor(const qe_cma *cma, int32_t i) {
  return cma->variable[i].integer && cma->options.integers == QE_CMA_MARGIN;
}

/* Where there are such ones, the best value may be the same for long before one changes: only stagnation ends a run. */
static bool any_floor(const qe_cma *cma) {
  for (int32_t i = 0; i < cma->n; i++)
    if (has_floor(cma, i)) return true;
  return false;
}

static bool narrow(const qe_cma *cma) {
  for (int32_t i = 0; i < cma->n; i++) {
    double limit = 1e-11 * cma->first_sigma * cma->variable[i].spread;
    if (has_floor(cma, i) || cma->sigma * sqrt(qe_cma_variance(cma, i)) > limit) return false;
    if (cma->sigma * fabs(cma->path[i]) > limit) return false;
  }
  return true;
}

static bool wide(const qe_cma *cma) {
  if (!isfinite(cma->sigma)) return true;
  for (int32_t i = 0; i < cma->n; i++) {
    double now = cma->sigma * sqrt(qe_cma_variance(cma, i));
    if (!(now < 1e4 * cma->first_sigma * cma->variable[i].spread) && !has_floor(cma, i)) return true;
    if (!isfinite(cma->mean[i]) || !isfinite(now)) return true;
  }
  return false;
}

qe_cma_stop qe_cma_judge(qe_cma *cma, double best, double median) {
  int64_t at = (cma->generation - 1) % cma->set.stagnation_span;
  cma->best_history[at] = isnan(best) ? HUGE_VAL : best;
  cma->median_history[at] = isnan(median) ? HUGE_VAL : median;
  if (wide(cma)) return QE_CMA_WIDE;
  if (cma->small && cma->run > 0 && 2 * cma->run_evaluations >= cma->large_run && cma->large_run > 0)
    return QE_CMA_BUDGET;
  bool valued = best < HUGE_VAL;
  if (flat(cma) && !(valued && any_floor(cma))) return QE_CMA_FLAT;
  if (narrow(cma)) return QE_CMA_NARROW;
  return stagnant(cma) ? QE_CMA_STAGNATION : QE_CMA_RUNNING;
}

/* ---- the start of a run ---- */

static int32_t integers_of(const qe_cma *cma) {
  int32_t count = 0;
  for (int32_t i = 0; i < cma->n; i++) count += cma->variable[i].integer;
  return count;
}

qe_status qe_cma_fit(qe_cma *cma, int32_t population) {
  cma_settings set;
  int64_t size = (int64_t)population * cma->n;
  double *weight = QE_NEW_ARRAY(double, population), *step = QE_NEW_ARRAY(double, size);
  double *candidate = QE_NEW_ARRAY(double, size), *best = NULL, *median = NULL;
  int32_t *order = QE_NEW_ARRAY(int32_t, population);
  int64_t *key = QE_NEW_ARRAY(int64_t, population);
  bool there = weight && step && candidate && order && key;
  if (there) {
    qe_cma_set(cma->n, integers_of(cma), population, &cma->options, &set, weight);
    best = QE_NEW_ARRAY(double, set.stagnation_span);
    median = QE_NEW_ARRAY(double, 2 * set.stagnation_span); /* its second half: room to sort */
    there = best && median;
  }
  void *list[] = {weight, step, candidate, order, key, best, median};
  if (there) {
    void *old[] = {cma->weight, cma->step,         cma->candidate,     cma->order,
                   cma->key,    cma->best_history, cma->median_history};
    memcpy(list, old, sizeof list);
    cma->set = set;
    cma->weight = weight;
    cma->step = step;
    cma->candidate = candidate;
    cma->order = order;
    cma->key = key;
    cma->best_history = best;
    cma->median_history = median;
  }
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) qe_free(list[i]);
  return there ? QE_OK : QE_NO_MEMORY;
}

/* The first run starts where it was told to; later ones anywhere in variables with two bounds. */
static double start_of(const qe_cma *cma, int32_t i) {
  const qe_cma_variable *v = &cma->variable[i];
  if (cma->run == 0 || !isfinite(v->low) || !isfinite(v->high)) return v->start;
  uint64_t index = (uint64_t)cma->run << 32 | (uint64_t)i;
  qe_philox r = qe_philox_draw(cma->options.seed, QE_STREAM_CMA_RUN, index);
  double at = qe_cma_uniform(r.word[0], r.word[1]);
  if (v->integer) return v->low + floor(at * (v->high - v->low + 1));
  return v->low + at * (v->high - v->low);
}

static void reset(qe_cma *cma, double sigma) {
  int64_t n = cma->n, matrix = cma->options.diagonal ? n : n * n, stride = cma->options.diagonal ? 1 : n + 1;
  double *zero[] = {cma->covariance, cma->root, cma->inverse, cma->path, cma->path_sigma};
  for (int32_t i = 0; i < 5; i++) memset(zero[i], 0, (size_t)(i < 3 ? matrix : n) * sizeof **zero);
  for (int32_t i = 0; i < n; i++) {
    double spread = cma->variable[i].spread;
    cma->covariance[i * stride] = spread * spread;
    cma->root[i * stride] = spread;
    cma->inverse[i * stride] = 1 / spread;
    cma->stretch[i] = 1;
    cma->mean[i] = start_of(cma, i);
  }
  cma->sigma = cma->first_sigma = sigma;
  cma->population = cma->set.population;
  cma->generation = cma->decomposed = cma->run_evaluations = 0;
  cma->stop = QE_CMA_RUNNING;
  cma->asked = false;
}

qe_status qe_cma_begin(qe_cma *cma) {
  QE_TRY(qe_cma_fit(cma, cma->options.population));
  cma->large_population = cma->options.population;
  cma->small = 1; /* the first run counts as one, so that a large one follows */
  reset(cma, cma->options.sigma);
  return QE_OK;
}

/* BIPOP: a small run as long as small ones have had fewer evaluations than large ones; of a random population between
 * the first one and half that of the last large run, and a step size down to a hundredth. */
qe_status qe_cma_restart(qe_cma *cma) {
  int64_t small_spent = cma->small_spent + (cma->small ? cma->run_evaluations : 0);
  int64_t large_spent = cma->large_spent + (cma->small ? 0 : cma->run_evaluations);
  bool small = cma->options.restarts == QE_CMA_BIPOP && small_spent < large_spent;
  double sigma = cma->options.sigma, first = cma->options.population, population = 2.0 * (double)cma->large_population;
  if (small) {
    qe_philox r = qe_philox_draw(cma->options.seed, QE_STREAM_CMA_RUN, (uint64_t)(cma->run + 1) << 32 | UINT32_MAX);
    double u = qe_cma_uniform(r.word[0], r.word[1]);
    sigma *= pow(10, -2 * qe_cma_uniform(r.word[2], r.word[3]));
    population = floor(first * pow(0.5 * (double)cma->large_population / first, u * u));
  }
  if (population > QE_CMA_POPULATION) population = QE_CMA_POPULATION;
  QE_TRY(qe_cma_fit(cma, (int32_t)population));
  if (!cma->small) cma->large_run = cma->run_evaluations;
  if (!small) cma->large_population = (int64_t)population;
  cma->small_spent = small_spent;
  cma->large_spent = large_spent;
  cma->small = small;
  cma->run++;
  reset(cma, sigma);
  return QE_OK;
}
