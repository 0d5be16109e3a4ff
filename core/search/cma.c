/* CMA-ES: making, asking, telling, reading. */
#include "core/search/cma_internal.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/search/order_real.h"

#include <math.h>
#include <string.h>

/* ---- making ---- */

static qe_status check_variable(const qe_cma_variable *v, int32_t i) {
  if (isnan(v->low) || isnan(v->high) || !(v->low < v->high))
    return qe_fail(QE_USAGE, "variable %d: bounds %g...%g: low must be below high", i, v->low, v->high);
  if (!isfinite(v->start) || v->start < v->low || v->start > v->high)
    return qe_fail(QE_USAGE, "variable %d: start %g must lie within its bounds %g...%g", i, v->start, v->low, v->high);
  if (!isfinite(v->spread) || v->spread < 0)
    return qe_fail(QE_USAGE, "variable %d: spread %g must be finite, and above 0 or 0 for 1", i, v->spread);
  if (!v->integer) return QE_OK;
  for (int32_t side = 0; side < 2; side++) {
    double bound = side ? v->high : v->low;
    if (isfinite(bound) && (bound != floor(bound) || fabs(bound) > 0x1p52)) /* NOLINT: exactly an integer */
      return qe_fail(QE_USAGE, "variable %d: bound %g of an integer must be one, within +-2^52", i, bound);
  }
  return QE_OK;
}

static qe_status check_options(int32_t n, const qe_cma_options *o) {
  int32_t most = o->diagonal ? QE_CMA_DIAGONAL_VARIABLES : QE_CMA_FULL_VARIABLES;
  if (n < 1 || n > most)
    return qe_fail(QE_USAGE, "%d variables: must be 1...%d%s", n, most,
                   o->diagonal ? "" : "; the diagonal form takes more");
  if (!isfinite(o->sigma) || o->sigma <= 0) return qe_fail(QE_USAGE, "step size %g: must be above 0", o->sigma);
  if (o->population != 0 && (o->population < 4 || o->population > QE_CMA_POPULATION))
    return qe_fail(QE_USAGE, "population %d: must be 4...%d, or 0 for the default", o->population, QE_CMA_POPULATION);
  if (isnan(o->margin) || o->margin < 0 || o->margin >= 0.5)
    return qe_fail(QE_USAGE, "margin %g: must be above 0 and below 0.5, or 0 for the default", o->margin);
  if (o->integers != QE_CMA_MARGIN && o->integers != QE_CMA_ROUND)
    return qe_fail(QE_USAGE, "integers %d: must be QE_CMA_MARGIN or QE_CMA_ROUND", (int)o->integers);
  if (o->restarts != QE_CMA_NO_RESTARTS && o->restarts != QE_CMA_IPOP && o->restarts != QE_CMA_BIPOP)
    return qe_fail(QE_USAGE, "restarts %d: must be QE_CMA_NO_RESTARTS, _IPOP or _BIPOP", (int)o->restarts);
  if (o->runs < 0) return qe_fail(QE_USAGE, "%d runs: must be 1 at least, or 0 for the default", o->runs);
  return QE_OK;
}

static qe_status allocate(qe_cma *cma) {
  int64_t n = cma->n, matrix = cma->options.diagonal ? n : n * n;
  int64_t work = cma->options.diagonal ? n : 1 + 6 * n + 2 * n * n;
  struct {
    double **place;
    int64_t count;
  } list[] = {{&cma->mean, n},      {&cma->path_sigma, n},  {&cma->path, n},
              {&cma->stretch, n},   {&cma->best, n},        {&cma->shift, n},
              {&cma->standard, n},  {&cma->work, work},     {&cma->covariance, matrix},
              {&cma->root, matrix}, {&cma->inverse, matrix}};
  for (size_t i = 0; i < sizeof list / sizeof *list; i++)
    if (!(*list[i].place = QE_NEW_ARRAY(double, list[i].count))) return QE_NO_MEMORY;
  if (cma->options.diagonal) return QE_OK;
  cma->vectors = QE_NEW_ARRAY(double, matrix);
  cma->values = QE_NEW_ARRAY(double, n);
  cma->whole_work = QE_NEW_ARRAY(int32_t, 3 + 5 * n);
  return cma->vectors && cma->values && cma->whole_work ? QE_OK : QE_NO_MEMORY;
}

qe_status qe_cma_new(int32_t n, const qe_cma_variable *variable, const qe_cma_options *options, qe_cma **out) {
  QE_TRY(check_options(n, options));
  for (int32_t i = 0; i < n; i++) QE_TRY(check_variable(&variable[i], i));
  qe_status status = QE_NO_MEMORY;
  qe_cma *cma = QE_NEW(qe_cma);
  if (!cma) return QE_NO_MEMORY;
  cma->n = n;
  cma->options = *options;
  if (cma->options.population == 0) cma->options.population = qe_cma_default_population(n);
  if (cma->options.runs == 0) cma->options.runs = 10;
  cma->variable = QE_NEW_ARRAY(qe_cma_variable, n);
  if (!cma->variable) goto done;
  memcpy(cma->variable, variable, (size_t)n * sizeof *variable);
  for (int32_t i = 0; i < n; i++)
    if (!(variable[i].spread > 0)) cma->variable[i].spread = 1;
  QE_TRY_DONE(allocate(cma));
  QE_TRY_DONE(qe_cma_begin(cma));
  *out = cma;
  cma = NULL;
done:
  qe_cma_free(cma);
  return status;
}

void qe_cma_free(qe_cma *cma) {
  if (!cma) return;
  void *list[] = {cma->variable,
                  cma->mean,
                  cma->path_sigma,
                  cma->path,
                  cma->stretch,
                  cma->best,
                  cma->shift,
                  cma->standard,
                  cma->work,
                  cma->covariance,
                  cma->root,
                  cma->inverse,
                  cma->vectors,
                  cma->values,
                  cma->whole_work,
                  cma->best_history,
                  cma->median_history,
                  cma->step,
                  cma->candidate,
                  cma->weight,
                  cma->order,
                  cma->key,
                  cma};
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) qe_free(list[i]);
}

/* ---- asking ---- */

double qe_cma_uniform(uint32_t high, uint32_t low) {
  return ((double)(((uint64_t)high << 32 | low) >> 11) + 0.5) * 0x1p-53;
}

/* n normal numbers (Box and Muller, 1958) that depend on the seed and the number of the evaluation alone. */
static void draw_normal(const qe_cma *cma, int64_t evaluation, double *out) {
  int64_t pairs = (cma->n + 1) / 2;
  for (int64_t j = 0; j < pairs; j++) {
    qe_philox r = qe_philox_draw(cma->options.seed, QE_STREAM_CMA, (uint64_t)(evaluation * pairs + j));
    double radius = sqrt(-2 * log(qe_cma_uniform(r.word[0], r.word[1])));
    double angle = 6.28318530717958647693 * qe_cma_uniform(r.word[2], r.word[3]);
    out[2 * j] = radius * cos(angle);
    if (2 * j + 1 < cma->n) out[2 * j + 1] = radius * sin(angle);
  }
}

/* A real outside of its bounds is reflected at them, so that the function goes on evenly behind them: as good there as
 * in the mirror, and a sample across a bound is worth as much as one inside. */
static double reflect(const qe_cma_variable *v, double x) {
  if (x >= v->low && x <= v->high) return x;
  if (!isfinite(v->high)) return 2 * v->low - x;
  if (!isfinite(v->low)) return 2 * v->high - x;
  double range = v->high - v->low, turn = fmod(fabs(x - v->low), 2 * range);
  return fmin(fmax(v->low + (turn <= range ? turn : 2 * range - turn), v->low), v->high);
}

static double place(const qe_cma_variable *v, double x) {
  return v->integer ? fmin(fmax(floor(x + 0.5), v->low), v->high) : reflect(v, x);
}

static void sample(qe_cma *cma, int32_t k) {
  int32_t n = cma->n;
  double *step = cma->step + (int64_t)k * n, *candidate = cma->candidate + (int64_t)k * n;
  draw_normal(cma, cma->evaluations + k, cma->standard);
  qe_cma_multiply(cma, cma->root, cma->standard, step);
  for (int32_t i = 0; i < n; i++)
    candidate[i] = place(&cma->variable[i], cma->mean[i] + cma->sigma * cma->stretch[i] * step[i]);
}

qe_status qe_cma_ask(qe_cma *cma, const double **candidates, int32_t *count) {
  qe_cma_stop stop = qe_cma_stopped(cma);
  if (stop != QE_CMA_RUNNING) return qe_fail(QE_USAGE, "the search has stopped: %s", qe_cma_stop_text(stop));
  if (cma->stop != QE_CMA_RUNNING) QE_TRY(qe_cma_restart(cma));
  if (!cma->asked)
    for (int32_t k = 0; k < cma->set.population; k++) sample(cma, k);
  cma->asked = true;
  *candidates = cma->candidate;
  *count = cma->set.population;
  return QE_OK;
}

/* ---- telling ---- */

static void keep_best(qe_cma *cma, const double *fitness) {
  int32_t first = cma->order[0];
  if (!(fitness[first] < (cma->has_best ? cma->best_fitness : HUGE_VAL))) return;
  cma->has_best = 1;
  cma->best_fitness = fitness[first];
  memcpy(cma->best, cma->candidate + (int64_t)first * cma->n, (size_t)cma->n * sizeof *cma->best);
}

qe_status qe_cma_tell(qe_cma *cma, const double *fitness) {
  if (!cma->asked) return qe_fail(QE_USAGE, "fitness of candidates that were not asked for: call qe_cma_ask first");
  int32_t count = cma->set.population;
  for (int32_t k = 0; k < count; k++) cma->key[k] = qe_order_key(fitness[k]);
  QE_TRY(qe_order_ascending(cma->key, count, cma->order));
  double best = fitness[cma->order[0]], median = fitness[cma->order[count / 2]];
  keep_best(cma, fitness);
  cma->asked = false;
  cma->evaluations += count;
  cma->run_evaluations += count;
  bool sound = true;
  if (best < HUGE_VAL) {
    qe_cma_centre_integers(cma);
    qe_cma_learn(cma);
    qe_cma_keep_margin(cma);
  }
  cma->generation++;
  if (best < HUGE_VAL) sound = qe_cma_decompose(cma);
  cma->stop = sound ? qe_cma_judge(cma, best, median) : QE_CMA_CONDITION;
  if (cma->stop != QE_CMA_RUNNING) cma->last_stop = cma->stop;
  return QE_OK;
}

void qe_cma_forget_values(qe_cma *cma) {
  cma->has_best = 0;
  cma->asked = false;
  for (int32_t i = 0; i < cma->set.stagnation_span; i++) cma->best_history[i] = cma->median_history[i] = HUGE_VAL;
}

/* ---- reading ---- */

qe_cma_stop qe_cma_stopped(const qe_cma *cma) {
  bool more = cma->options.restarts != QE_CMA_NO_RESTARTS && cma->run + 1 < cma->options.runs;
  return more ? QE_CMA_RUNNING : (qe_cma_stop)cma->stop;
}

qe_cma_stop qe_cma_last_stop(const qe_cma *cma) {
  return (qe_cma_stop)cma->last_stop;
}

const char *qe_cma_stop_text(qe_cma_stop stop) {
  static const char *const texts[] = {
#define X(id, text) text,
      QE_CMA_STOP_LIST(X)
#undef X
  };
  return (size_t)stop < sizeof texts / sizeof *texts ? texts[stop] : "unknown";
}

const double *qe_cma_best(const qe_cma *cma, double *fitness) {
  if (!cma->has_best) return NULL;
  if (fitness) *fitness = cma->best_fitness;
  return cma->best;
}

int64_t qe_cma_evaluations(const qe_cma *cma) {
  return cma->evaluations;
}

int64_t qe_cma_generations(const qe_cma *cma) {
  return cma->generation;
}

int32_t qe_cma_run(const qe_cma *cma) {
  return (int32_t)cma->run;
}

double qe_cma_sigma(const qe_cma *cma) {
  return cma->sigma;
}

void qe_cma_mean(const qe_cma *cma, double *mean) {
  for (int32_t i = 0; i < cma->n; i++) {
    const qe_cma_variable *v = &cma->variable[i];
    mean[i] = v->integer ? fmin(fmax(cma->mean[i], v->low), v->high) : reflect(v, cma->mean[i]);
  }
}

void qe_cma_deviation(const qe_cma *cma, double *deviation) {
  for (int32_t i = 0; i < cma->n; i++) deviation[i] = cma->sigma * cma->stretch[i] * sqrt(qe_cma_variance(cma, i));
}

double qe_cma_covariance(const qe_cma *cma, int32_t row, int32_t column) {
  if (cma->options.diagonal) return row == column ? cma->covariance[row] : 0;
  return cma->covariance[(int64_t)row * cma->n + column];
}
