/* Searchers: the state as tensors and back. */
#include "core/base/alloc.h"
#include "core/search/searcher_parts.h"

#include <math.h>
#include <string.h>

enum {
#define X(name) NUMBER_##name,
  SEARCH_NUMBER_LIST(X)
#undef X
      NUMBERS
};

_Static_assert(sizeof(double) == sizeof(int64_t), "a double is kept as the bits of an s64");

qe_status qe_search_put(qe_tensors *state, const char *name, int64_t count, const void *data) {
  return qe_tensors_add(state, name, QE_S64, 1, &count, data);
}

qe_status qe_search_get(const qe_tensors *state, const char *name, int64_t count, void *data) {
  const qe_named_tensor *t = qe_tensors_find(state, name);
  if (!t) return qe_fail(QE_FORMAT, "the state has no tensor '%s': it is not one of this search", name);
  if (t->dtype != QE_S64 || t->rank != 1 || t->shape[0] != count)
    return qe_fail(QE_FORMAT, "tensor '%s' is not s64[%lld]: the state is damaged or of a search with other options",
                   name, (long long)count);
  memcpy(data, t->data, (size_t)count * sizeof(int64_t));
  return QE_OK;
}

qe_status qe_search_check(const qe_searcher *s, const char *name, const double *at, int64_t count) {
  for (int64_t k = 0; k < count * s->n; k++) {
    const qe_search_variable *v = &s->variable[k % s->n];
    bool inside = at[k] >= v->low && at[k] <= v->high;
    if (!inside || (v->kind != QE_SEARCH_REAL && at[k] != floor(at[k]))) /* NOLINT: exactly */
      return qe_fail(QE_FORMAT, "tensor '%s': element %lld lies outside of its range: the state is damaged", name,
                     (long long)k);
  }
  return QE_OK;
}

static qe_status put_front(const qe_searcher *s, qe_tensors *state) {
  if (s->fronts == 0) return QE_OK;
  QE_TRY(qe_search_put(state, "search.front_at", s->fronts * s->n, s->front_at));
  return qe_search_put(state, "search.front_value", s->fronts * s->objectives, s->front_value);
}

qe_status qe_searcher_save(const qe_searcher *s, qe_tensors *state) {
  const int64_t number[] = {
#define X(name) s->name,
      SEARCH_NUMBER_LIST(X)
#undef X
  };
  QE_TRY(qe_search_put(state, "search.numbers", NUMBERS, number));
  QE_TRY(qe_search_put(state, "search.best", s->n, s->best));
  QE_TRY(qe_search_put(state, "search.best_value", s->objectives, s->best_value));
  QE_TRY(put_front(s, state));
  return s->way->save ? s->way->save(s, state) : QE_OK;
}

static qe_status check_numbers(const qe_searcher *s, const int64_t *number) {
  if (number[NUMBER_kind] != s->kind)
    return qe_fail(QE_FORMAT, "tensor 'search.numbers': the state is of another searcher than %s",
                   qe_searcher_name((qe_searcher_kind)s->kind));
  bool same = number[NUMBER_n] == s->n && number[NUMBER_objectives] == s->objectives &&
              number[NUMBER_population] == s->population;
  bool sound = number[NUMBER_trials] >= 0 && number[NUMBER_trials] < INT64_C(1) << 40 &&
               number[NUMBER_generations] >= 0 && number[NUMBER_generations] <= number[NUMBER_trials] &&
               (number[NUMBER_has_best] == 0 || number[NUMBER_has_best] == 1) && number[NUMBER_fronts] >= 0 &&
               number[NUMBER_fronts] <= number[NUMBER_trials] && number[NUMBER_fronts] <= INT32_MAX;
  if (same && sound) return QE_OK;
  return qe_fail(QE_FORMAT, "tensor 'search.numbers': the state is damaged or of a search with other options");
}

static qe_status load_front(qe_searcher *s, int64_t fronts, const qe_tensors *state) {
  s->fronts = 0;
  if (fronts == 0) return QE_OK;
  const qe_named_tensor *t = qe_tensors_find(state, "search.front_value"); /* no memory that the state has not */
  if (s->objectives == 1 || !t || t->rank != 1 || t->shape[0] != fronts * s->objectives)
    return qe_fail(QE_FORMAT, "tensor 'search.front_value': the state is damaged");
  size_t needed = (size_t)fronts;
  QE_TRY(qe_reserve(&s->front_at, &s->at_capacity, needed, (size_t)s->n * sizeof *s->front_at));
  QE_TRY(qe_reserve(&s->front_value, &s->value_capacity, needed, (size_t)s->objectives * sizeof *s->front_value));
  QE_TRY(qe_search_get(state, "search.front_at", fronts * s->n, s->front_at));
  QE_TRY(qe_search_get(state, "search.front_value", fronts * s->objectives, s->front_value));
  QE_TRY(qe_search_check(s, "search.front_at", s->front_at, fronts));
  for (int64_t i = 0; i < fronts * s->objectives; i++)
    if (!(s->front_value[i] < HUGE_VAL))
      return qe_fail(QE_FORMAT, "tensor 'search.front_value': element %lld is no value", (long long)i);
  s->fronts = fronts;
  return QE_OK;
}

qe_status qe_searcher_load(qe_searcher *s, const qe_tensors *state) {
  int64_t number[NUMBERS];
  QE_TRY(qe_search_get(state, "search.numbers", NUMBERS, number));
  QE_TRY(check_numbers(s, number));
  s->asked = false;
  s->trials = number[NUMBER_trials];
  s->generations = number[NUMBER_generations];
  s->has_best = 0;
  QE_TRY(qe_search_get(state, "search.best", s->n, s->best));
  QE_TRY(qe_search_get(state, "search.best_value", s->objectives, s->best_value));
  if (number[NUMBER_has_best]) {
    QE_TRY(qe_search_check(s, "search.best", s->best, 1));
    if (!(s->best_value[0] < HUGE_VAL)) return qe_fail(QE_FORMAT, "tensor 'search.best_value': the state is damaged");
    s->best_excess = qe_search_excess(s, s->best);
  }
  s->has_best = number[NUMBER_has_best];
  QE_TRY(load_front(s, number[NUMBER_fronts], state));
  return s->way->load ? s->way->load(s, state) : QE_OK;
}
