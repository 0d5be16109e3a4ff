/* The searcher `random`: the start, then points drawn from the whole space and made to fit what is allowed. */
#include "core/search/searcher_parts.h"

#include <math.h>

enum { OWN_POPULATION = 16 };

static qe_status open_random(qe_searcher *s) {
  if (s->options.population == 0) s->options.population = OWN_POPULATION;
  return QE_OK;
}

static void close_random(qe_searcher *s) {
  (void)s;
}

static qe_status ask(qe_searcher *s) {
  QE_TRY(qe_search_room(s, s->options.population));
  for (int32_t k = 0; k < s->count; k++) {
    qe_search_draws draws = qe_search_draws_of(s, s->trials + k);
    double *x = qe_search_candidate(s, k);
    if (s->trials + k == 0) {
      qe_search_start(s, x);
      continue;
    }
    for (int64_t i = 0; i < s->n; i++) x[i] = qe_search_anywhere(&draws, &s->variable[i]);
    qe_search_repair(s, &draws, x);
  }
  return QE_OK;
}

static qe_status tell(qe_searcher *s, const double *value) {
  (void)s;
  (void)value;
  return QE_OK;
}

static void centre(const qe_searcher *s, double *at) {
  for (int64_t i = 0; i < s->n; i++) at[i] = (s->variable[i].low + s->variable[i].high) / 2;
}

static void deviation(const qe_searcher *s, double *out) {
  for (int64_t i = 0; i < s->n; i++) {
    const qe_search_variable *v = &s->variable[i];
    double values = qe_search_range(v) + 1;
    if (v->kind == QE_SEARCH_REAL) out[i] = qe_search_range(v) / sqrt(12);
    if (v->kind == QE_SEARCH_INTEGER) out[i] = sqrt((values * values - 1) / 12);
    if (v->kind == QE_SEARCH_CHOICE) out[i] = 1 - 1 / values;
  }
}

const qe_search_way qe_search_way_random = {
    .open = open_random, .close = close_random, .ask = ask, .tell = tell, .centre = centre, .deviation = deviation};
