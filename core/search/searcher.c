/* Searchers: what all of them do: checks, the best, the front, asking and telling, state. */
#include "core/base/alloc.h"
#include "core/search/order_real.h"
#include "core/search/searcher_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct row {
  const char *name, *text;
  const qe_search_way *way;
} row;

static const row rows[QE_SEARCHERS] = {
    [QE_SEARCHER_CMA] = {.way = &qe_search_way_cma},
    [QE_SEARCHER_RANDOM] = {.way = &qe_search_way_random},
    [QE_SEARCHER_GREEDY] = {.way = &qe_search_way_greedy},
    [QE_SEARCHER_DISTRIBUTION] = {.way = &qe_search_way_distribution},
    [QE_SEARCHER_PARETO] = {.way = &qe_search_way_pareto},
};
static const row texts[QE_SEARCHERS] = {
#define X(id, name, text) {name, text, NULL},
    QE_SEARCHER_LIST(X)
#undef X
};

const char *qe_searcher_name(qe_searcher_kind kind) {
  return texts[kind].name;
}
const char *qe_searcher_text(qe_searcher_kind kind) {
  return texts[kind].text;
}
qe_searcher_kind qe_searcher_find(const char *name) {
  int32_t i = 0;
  while (i < QE_SEARCHERS && strcmp(texts[i].name, name) != 0) i++;
  return (qe_searcher_kind)i;
}

/* ---- making ---- */

static qe_status check_variable(const qe_search_variable *v, int32_t i) {
  char name[96];
  const double most = 2147483648.0;
  snprintf(name, sizeof name, "variable %d%s%.64s", i, v->name ? " " : "", v->name ? v->name : "");
  if ((int)v->kind < 0 || v->kind > QE_SEARCH_CHOICE) return qe_fail(QE_USAGE, "%s: no such kind", name);
  if (!isfinite(v->low) || !isfinite(v->high) || v->low > v->high || (v->kind == QE_SEARCH_REAL && !(v->low < v->high)))
    return qe_fail(QE_USAGE, "%s: range %g...%g: must be finite, the low end below the high one", name, v->low,
                   v->high);
  if (!(v->start >= v->low && v->start <= v->high))
    return qe_fail(QE_USAGE, "%s: start %g must lie in its range %g...%g", name, v->start, v->low, v->high);
  if (v->kind == QE_SEARCH_REAL) return QE_OK;
  bool whole =
      v->low == floor(v->low) && v->high == floor(v->high) && v->start == floor(v->start); /* NOLINT: exactly */
  if (!whole || v->low < -most || v->high > most)
    return qe_fail(QE_USAGE, "%s: range %g...%g and start %g must be whole, within +-2^31", name, v->low, v->high,
                   v->start);
  return QE_OK;
}

static qe_status check(const qe_search_space *space, const qe_searcher_options *o) {
  if ((int)o->kind < 0 || o->kind >= QE_SEARCHERS) return qe_fail(QE_USAGE, "searcher %d: no such kind", (int)o->kind);
  if (space->n < 1 || space->n > QE_SEARCH_VARIABLES)
    return qe_fail(QE_USAGE, "%d variables: must be 1...%d", space->n, QE_SEARCH_VARIABLES);
  if (space->objectives < 1 || space->objectives > QE_SEARCH_OBJECTIVES)
    return qe_fail(QE_USAGE, "%d objectives: must be 1...%d", space->objectives, QE_SEARCH_OBJECTIVES);
  if (space->objectives > 1 && o->kind != QE_SEARCHER_PARETO)
    return qe_fail(QE_USAGE, "the searcher %s takes one objective, not %d: %s takes several", texts[o->kind].name,
                   space->objectives, texts[QE_SEARCHER_PARETO].name);
  if (o->population < 0 || o->population > QE_SEARCH_POPULATION)
    return qe_fail(QE_USAGE, "population %d: must be 1...%d, or 0 for the searcher's own", o->population,
                   QE_SEARCH_POPULATION);
  if (isnan(o->width) || o->width < 0 || o->width > 1)
    return qe_fail(QE_USAGE, "width %g: must be above 0 and at most 1, or 0 for the searcher's own", o->width);
  if (isnan(o->rate) || o->rate < 0 || o->rate > 1)
    return qe_fail(QE_USAGE, "rate %g: must be above 0 and at most 1, or 0 for the default", o->rate);
  for (int32_t i = 0; i < space->n; i++) QE_TRY(check_variable(&space->variable[i], i));
  return QE_OK;
}

qe_status qe_searcher_new(const qe_search_space *space, const qe_searcher_options *options, qe_searcher **out) {
  QE_TRY(check(space, options));
  qe_searcher *s = QE_NEW(qe_searcher);
  if (!s) return QE_NO_MEMORY;
  qe_status status = QE_NO_MEMORY;
  s->options = *options;
  s->way = rows[options->kind].way;
  s->excess = space->excess;
  s->context = space->context;
  s->kind = options->kind;
  s->n = space->n;
  s->objectives = space->objectives;
  s->variable = QE_NEW_ARRAY(qe_search_variable, s->n);
  s->best = QE_NEW_ARRAY(double, s->n);
  s->best_value = QE_NEW_ARRAY(double, s->objectives);
  if (!s->variable || !s->best || !s->best_value) goto done;
  memcpy(s->variable, space->variable, (size_t)s->n * sizeof *s->variable);
  QE_TRY_DONE(s->way->open(s));
  s->population = s->options.population; /* its own by now */
  *out = s;
  s = NULL;
done:
  qe_searcher_free(s);
  return status;
}

void qe_searcher_free(qe_searcher *s) {
  if (!s) return;
  s->way->close(s);
  void *list[] = {s->variable, s->best, s->best_value, s->candidate, s->front_at, s->front_value, s};
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) qe_free(list[i]);
}

qe_status qe_search_room(qe_searcher *s, int32_t count) {
  QE_TRY(qe_reserve(&s->candidate, &s->capacity, (size_t)count, (size_t)s->n * sizeof *s->candidate));
  s->count = count;
  return QE_OK;
}

/* ---- asking and telling ---- */

const char *qe_searcher_stopped(const qe_searcher *s) {
  return s->way->stopped ? s->way->stopped(s) : NULL;
}

qe_status qe_searcher_ask(qe_searcher *s, const double **candidates, int32_t *count) {
  const char *stopped = qe_searcher_stopped(s);
  if (stopped) return qe_fail(QE_USAGE, "the search has stopped: %s", stopped);
  if (!s->asked) QE_TRY(s->way->ask(s));
  s->asked = true;
  *candidates = s->candidate;
  *count = s->count;
  return QE_OK;
}

double qe_search_excess(const qe_searcher *s, const double *x) {
  double excess = s->excess ? s->excess(s->context, x) : 0;
  return isnan(excess) ? HUGE_VAL : fmax(excess, 0);
}

bool qe_search_dominates(const double *a, const double *b, int64_t objectives) {
  bool better = false;
  for (int64_t m = 0; m < objectives; m++) {
    if (a[m] > b[m]) return false;
    better |= a[m] < b[m];
  }
  return better;
}

qe_status qe_search_order(const qe_searcher *s, const double *value, int32_t *order) {
  int64_t *key = QE_NEW_ARRAY(int64_t, 2 * (int64_t)s->count);
  int32_t *by_value = QE_NEW_ARRAY(int32_t, s->count);
  qe_status status = key && by_value ? QE_OK : QE_NO_MEMORY;
  for (int32_t k = 0; status == QE_OK && k < s->count; k++) key[k] = qe_order_key(value[k * s->objectives]);
  if (status == QE_OK) status = qe_order_ascending(key, s->count, by_value);
  for (int32_t k = 0; status == QE_OK && k < s->count; k++)
    key[s->count + k] = qe_order_key(qe_search_excess(s, qe_search_candidate(s, by_value[k])));
  if (status == QE_OK) status = qe_order_ascending(key + s->count, s->count, order); /* stable */
  for (int32_t k = 0; status == QE_OK && k < s->count; k++) order[k] = by_value[order[k]];
  qe_free(by_value);
  qe_free(key);
  return status;
}

bool qe_search_same(const double *a, const double *b, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (a[i] < b[i] || a[i] > b[i]) return false;
  return true;
}

static void keep_best(qe_searcher *s, const double *x, const double *value, double excess) {
  bool better = !s->has_best || excess < s->best_excess || (!(excess > s->best_excess) && value[0] < s->best_value[0]);
  if (!(value[0] < HUGE_VAL) || !better) return;
  s->has_best = 1;
  s->best_excess = excess;
  memcpy(s->best, x, (size_t)s->n * sizeof *x);
  memcpy(s->best_value, value, (size_t)s->objectives * sizeof *value);
}

/* Room is there. Of points that are the same the newest value counts. */
static void keep_front(qe_searcher *s, const double *x, const double *value, double excess) {
  int64_t kept = 0, n = s->n, m = s->objectives;
  if (excess > 0) return;
  for (int64_t k = 0; k < m; k++)
    if (!(value[k] < HUGE_VAL)) return;
  for (int64_t i = 0; i < s->fronts; i++)
    if (!qe_search_same(s->front_at + i * n, x, n) && !qe_search_dominates(value, s->front_value + i * m, m)) {
      memmove(s->front_at + kept * n, s->front_at + i * n, (size_t)n * sizeof *x);
      memmove(s->front_value + kept * m, s->front_value + i * m, (size_t)m * sizeof *value);
      kept++;
    }
  s->fronts = kept;
  int64_t at = 0;
  for (int64_t i = 0; i < kept; i++) {
    if (qe_search_dominates(s->front_value + i * m, value, m)) return;
    at += s->front_value[i * m] <= value[0];
  }
  memmove(s->front_at + (at + 1) * n, s->front_at + at * n, (size_t)((kept - at) * n) * sizeof *x);
  memmove(s->front_value + (at + 1) * m, s->front_value + at * m, (size_t)((kept - at) * m) * sizeof *value);
  memcpy(s->front_at + at * n, x, (size_t)n * sizeof *x);
  memcpy(s->front_value + at * m, value, (size_t)m * sizeof *value);
  s->fronts++;
}

static qe_status make_front_room(qe_searcher *s) {
  size_t needed = (size_t)(s->fronts + s->count + 1);
  if (s->objectives == 1) return QE_OK;
  QE_TRY(qe_reserve(&s->front_at, &s->at_capacity, needed, (size_t)s->n * sizeof *s->front_at));
  return qe_reserve(&s->front_value, &s->value_capacity, needed, (size_t)s->objectives * sizeof *s->front_value);
}

/* NaN becomes infinity. */
static qe_status copy_values(const qe_searcher *s, const double *value, double **out) {
  int64_t count = s->count * s->objectives;
  double *copy = QE_NEW_ARRAY(double, count);
  if (!copy) return QE_NO_MEMORY;
  for (int64_t i = 0; i < count; i++) copy[i] = isnan(value[i]) ? HUGE_VAL : value[i];
  *out = copy;
  return QE_OK;
}

qe_status qe_searcher_tell(qe_searcher *s, const double *value) {
  double *sound = NULL;
  if (!s->asked) return qe_fail(QE_USAGE, "values of candidates that were not asked for: call qe_searcher_ask first");
  QE_TRY(make_front_room(s));
  QE_TRY(copy_values(s, value, &sound));
  qe_status status = s->way->tell(s, sound);
  if (status == QE_OK) {
    for (int32_t k = 0; k < s->count; k++) {
      const double *x = qe_search_candidate(s, k), *own = sound + k * s->objectives;
      double excess = qe_search_excess(s, x);
      keep_best(s, x, own, excess);
      if (s->objectives > 1) keep_front(s, x, own, excess);
    }
    s->asked = false;
    s->trials += s->count;
    s->generations++;
  }
  qe_free(sound);
  return status;
}

qe_status qe_searcher_changed(qe_searcher *s) {
  if (s->way->changed) QE_TRY(s->way->changed(s));
  s->asked = false;
  s->has_best = s->fronts = 0;
  return QE_OK;
}

/* ---- reading ---- */

const double *qe_searcher_best(const qe_searcher *s, double *value) {
  if (!s->has_best) return NULL;
  if (value) memcpy(value, s->best_value, (size_t)s->objectives * sizeof *value);
  return s->best;
}

void qe_searcher_centre(const qe_searcher *s, double *at) {
  s->way->centre(s, at);
  for (int64_t i = 0; i < s->n; i++) at[i] = qe_search_place(&s->variable[i], at[i]);
}

void qe_searcher_deviation(const qe_searcher *s, double *deviation) {
  s->way->deviation(s, deviation);
}

qe_search_front qe_searcher_front(const qe_searcher *s) {
  if (s->objectives == 1)
    return (qe_search_front){.count = s->has_best && !(s->best_excess > 0), .at = s->best, .value = s->best_value};
  return (qe_search_front){.count = (int32_t)s->fronts, .at = s->front_at, .value = s->front_value};
}

int64_t qe_searcher_trials(const qe_searcher *s) {
  return s->trials;
}
int64_t qe_searcher_generations(const qe_searcher *s) {
  return s->generations;
}
