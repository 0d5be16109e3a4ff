/* The searcher `cma`: CMA-ES with margin (cma.h) over the variables that have more than one value. Choices are taken in
 * the order of their numbers. Runs that end are started again with twice the population. */
#include "core/base/alloc.h"
#include "core/search/cma.h"
#include "core/search/searcher_parts.h"

#include <math.h>
#include <string.h>

enum { FULL_MOST = 512 }; /* variables; beyond them the diagonal form */
static const double own_width[] = {
    [QE_SEARCH_INTEGER] = 0.15, [QE_SEARCH_REAL] = 0.3, [QE_SEARCH_CHOICE] = 0.3}; /* 2...8 bits: 0.9 of a bit */

typedef struct own {
  qe_cma *cma;
  int32_t free;      /* variables that CMA-ES has */
  int32_t *variable; /* [free] */
  double *scratch;   /* [free] */
} own;

static void close_cma(qe_searcher *s) {
  own *o = s->own;
  if (!o) return;
  qe_cma_free(o->cma);
  qe_free(o->variable);
  qe_free(o->scratch);
  qe_free(o);
}

static qe_status make_variables(const qe_searcher *s, own *o, qe_cma_variable *list) {
  for (int32_t i = 0; i < s->n; i++) {
    const qe_search_variable *v = &s->variable[i];
    if (!(v->low < v->high)) continue;
    double width = s->options.width > 0 ? s->options.width : own_width[v->kind];
    list[o->free] = (qe_cma_variable){.start = v->start,
                                      .spread = width * qe_search_range(v),
                                      .low = v->low,
                                      .high = v->high,
                                      .integer = v->kind != QE_SEARCH_REAL};
    o->variable[o->free++] = i;
  }
  return o->free > 0 ? QE_OK : qe_fail(QE_USAGE, "all variables have one value: there is nothing to search");
}

static qe_status open_cma(qe_searcher *s) {
  own *o = s->own = QE_NEW(own);
  if (!o) return QE_NO_MEMORY;
  qe_cma_variable *list = QE_NEW_ARRAY(qe_cma_variable, s->n);
  o->variable = QE_NEW_ARRAY(int32_t, s->n);
  o->scratch = QE_NEW_ARRAY(double, s->n);
  qe_status status = list && o->variable && o->scratch ? make_variables(s, o, list) : QE_NO_MEMORY;
  if (status == QE_OK) {
    qe_cma_options options = {.sigma = 1,
                              .population = s->options.population,
                              .diagonal = o->free > FULL_MOST,
                              .restarts = QE_CMA_IPOP,
                              .seed = s->options.seed};
    status = qe_cma_new(o->free, list, &options, &o->cma);
  }
  qe_free(list);
  return status;
}

static qe_status ask(qe_searcher *s) {
  own *o = s->own;
  const double *from;
  int32_t count;
  QE_TRY(qe_cma_ask(o->cma, &from, &count));
  QE_TRY(qe_search_room(s, count));
  for (int32_t k = 0; k < count; k++) {
    double *x = qe_search_candidate(s, k);
    qe_search_start(s, x);
    for (int32_t i = 0; i < o->free; i++) x[o->variable[i]] = from[(int64_t)k * o->free + i];
  }
  return QE_OK;
}

static qe_status tell(qe_searcher *s, const double *value) {
  return qe_cma_tell(((own *)s->own)->cma, value);
}

static qe_status changed(qe_searcher *s) {
  qe_cma_forget_values(((own *)s->own)->cma);
  return QE_OK;
}

static const char *stopped(const qe_searcher *s) {
  qe_cma_stop stop = qe_cma_stopped(((const own *)s->own)->cma);
  return stop == QE_CMA_RUNNING ? NULL : qe_cma_stop_text(stop);
}

static void centre(const qe_searcher *s, double *at) {
  const own *o = s->own;
  qe_search_start(s, at);
  qe_cma_mean(o->cma, o->scratch);
  for (int32_t i = 0; i < o->free; i++) at[o->variable[i]] = o->scratch[i];
}

static void deviation(const qe_searcher *s, double *out) {
  const own *o = s->own;
  memset(out, 0, (size_t)s->n * sizeof *out);
  qe_cma_deviation(o->cma, o->scratch);
  for (int32_t i = 0; i < o->free; i++) out[o->variable[i]] = o->scratch[i];
}

static qe_status save(const qe_searcher *s, qe_tensors *state) {
  return qe_cma_save(((const own *)s->own)->cma, state);
}

static qe_status load(qe_searcher *s, const qe_tensors *state) {
  return qe_cma_load(((own *)s->own)->cma, state);
}

const qe_search_way qe_search_way_cma = {.open = open_cma,
                                         .close = close_cma,
                                         .ask = ask,
                                         .tell = tell,
                                         .changed = changed,
                                         .stopped = stopped,
                                         .centre = centre,
                                         .deviation = deviation,
                                         .save = save,
                                         .load = load};
