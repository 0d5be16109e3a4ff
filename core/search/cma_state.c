/* CMA-ES: the state as tensors and back. Reals lie in them as the bits of doubles, which are exact. */
#include "core/search/cma_internal.h"

#include "core/base/alloc.h"

#include <math.h>
#include <string.h>

enum {
#define X(name) NUMBER_##name,
  CMA_NUMBER_LIST(X)
#undef X
      NUMBERS
};

enum {
#define X(name) REAL_##name,
  CMA_REAL_LIST(X)
#undef X
      REALS
};

_Static_assert(sizeof(double) == sizeof(int64_t), "a double is kept as the bits of an s64");

typedef struct part {
  const char *name;
  double *data;
  int64_t count;
} part;

enum { PARTS = 10 };

static void list_parts(const qe_cma *cma, part *list) {
  int64_t n = cma->n, matrix = cma->options.diagonal ? n : n * n, span = cma->set.stagnation_span;
  part parts[PARTS] = {{"cma.mean", cma->mean, n},
                       {"cma.path_sigma", cma->path_sigma, n},
                       {"cma.path", cma->path, n},
                       {"cma.stretch", cma->stretch, n},
                       {"cma.best", cma->best, n},
                       {"cma.covariance", cma->covariance, matrix},
                       {"cma.root", cma->root, matrix},
                       {"cma.inverse", cma->inverse, matrix},
                       {"cma.best_history", cma->best_history, span},
                       {"cma.median_history", cma->median_history, span}};
  memcpy(list, parts, sizeof parts);
}

qe_status qe_cma_save(const qe_cma *cma, qe_tensors *state) {
  const int64_t number[] = {
#define X(name) cma->name,
      CMA_NUMBER_LIST(X)
#undef X
  };
  const double real[] = {
#define X(name) cma->name,
      CMA_REAL_LIST(X)
#undef X
  };
  const int64_t numbers = NUMBERS, reals = REALS;
  part list[PARTS];
  list_parts(cma, list);
  QE_TRY(qe_tensors_add(state, "cma.numbers", QE_S64, 1, &numbers, number));
  QE_TRY(qe_tensors_add(state, "cma.reals", QE_S64, 1, &reals, real));
  for (int32_t i = 0; i < PARTS; i++)
    QE_TRY(qe_tensors_add(state, list[i].name, QE_S64, 1, &list[i].count, list[i].data));
  return QE_OK;
}

static qe_status find(const qe_tensors *state, const char *name, int64_t count, void *to) {
  const qe_named_tensor *t = qe_tensors_find(state, name);
  if (!t) return qe_fail(QE_FORMAT, "the state has no tensor '%s': it is not one of this search", name);
  if (t->dtype != QE_S64 || t->rank != 1 || t->shape[0] != count)
    return qe_fail(QE_FORMAT, "tensor '%s' is not s64[%lld]: the state is damaged or of a search with other options",
                   name, (long long)count);
  memcpy(to, t->data, (size_t)count * sizeof(int64_t));
  return QE_OK;
}

static qe_status check_numbers(const int64_t *number, const qe_cma_options *options) {
  const char *bad = NULL;
  for (int32_t i = 0; i < NUMBERS; i++)
    if (number[i] < 0 || number[i] > INT64_C(1) << 40) bad = "a number below 0 or above 2^40";
  if (number[NUMBER_run] >= INT32_MAX || (number[NUMBER_run] > 0 && options->restarts == QE_CMA_NO_RESTARTS))
    bad = "the run";
  for (int32_t i = 0; i < 2; i++) {
    int64_t population = number[i ? NUMBER_large_population : NUMBER_population];
    if (population < 4 || population > QE_CMA_POPULATION) bad = "the population";
  }
  if (number[NUMBER_run] == 0 && number[NUMBER_population] != options->population) bad = "the population";
  if (number[NUMBER_stop] >= QE_CMA_STOPS || number[NUMBER_last_stop] >= QE_CMA_STOPS) bad = "the reason to stop";
  if (number[NUMBER_small] > 1 || number[NUMBER_has_best] > 1) bad = "a yes or no";
  if (number[NUMBER_decomposed] > number[NUMBER_generation]) bad = "the generation";
  if (!bad) return QE_OK;
  return qe_fail(QE_FORMAT, "tensor 'cma.numbers': %s is wrong: the state is damaged or of a search with other options",
                 bad);
}

/* Of a run that has stopped anything may be in them; of one that goes on all must be finite. */
static qe_status check_reals(const qe_cma *cma, const part *list) {
  if (cma->stop != QE_CMA_RUNNING) return QE_OK;
  bool sound = isfinite(cma->sigma) && cma->sigma > 0 && isfinite(cma->first_sigma) && cma->first_sigma > 0;
  if (!sound || isnan(cma->best_fitness)) return qe_fail(QE_FORMAT, "tensor 'cma.reals': the state is damaged");
  for (int32_t p = 0; p < PARTS - 2; p++) /* not the histories */
    for (int64_t i = 0; i < list[p].count; i++)
      if (!isfinite(list[p].data[i]))
        return qe_fail(QE_FORMAT, "tensor '%s': element %lld is not finite: the state is damaged", list[p].name,
                       (long long)i);
  for (int32_t i = 0; i < cma->n; i++)
    if (!(qe_cma_variance(cma, i) > 0) || !(cma->stretch[i] > 0))
      return qe_fail(QE_FORMAT,
                     "tensor 'cma.covariance' or 'cma.stretch': variable %d has no variance: the state is damaged", i);
  return QE_OK;
}

qe_status qe_cma_load(qe_cma *cma, const qe_tensors *state) {
  int64_t number[NUMBERS];
  double real[REALS];
  part list[PARTS];
  QE_TRY(find(state, "cma.numbers", NUMBERS, number));
  QE_TRY(find(state, "cma.reals", REALS, real));
  QE_TRY(check_numbers(number, &cma->options));
  QE_TRY(qe_cma_fit(cma, (int32_t)number[NUMBER_population]));
#define X(name) cma->name = number[NUMBER_##name];
  CMA_NUMBER_LIST(X)
#undef X
#define X(name) cma->name = real[REAL_##name];
  CMA_REAL_LIST(X)
#undef X
  cma->asked = false;
  list_parts(cma, list);
  for (int32_t i = 0; i < PARTS; i++) QE_TRY(find(state, list[i].name, list[i].count, list[i].data));
  return check_reals(cma, list);
}
