/* The searcher `pareto`: NSGA-II (Deb, Pratap, Agarwal, Meyarivan, "A Fast and Elitist Multiobjective Genetic
 * Algorithm: NSGA-II", IEEE Trans. Evol. Comput. 6(2), 2002), with its domination under constraints (section VI).
 *
 * The first generation: the start, points with every variable at the same part of its range, and points drawn. */
#include "core/base/alloc.h"
#include "core/search/order_real.h"
#include "core/search/searcher_parts.h"

#include <math.h>
#include <string.h>

enum { OWN_POPULATION = 32, POPULATION_MOST = 4096, POPULATION_LEAST = 4, TRIES = 8 };
static const double crossover = 0.9, spread_index = 10; /* NSGA-II's eta_c */

/* Points with their values: parents, and in a tell the children behind them. */
typedef struct own {
  int64_t parents;                    /* 0 before the first generation was told */
  int64_t again;                      /* the next ask is for the parents' values */
  double *at, *value, *excess;        /* [2 population, ...] */
  int32_t *rank;                      /* [2 population]: 0 is the front */
  double *crowding;                   /* [2 population]: distance to the neighbours on the own front */
  int32_t *beaten_by, *front, *order; /* [2 population]: room to sort in */
  int64_t *key;
  double *kept; /* [population, n]: of a selection */
} own;

static void close_pareto(qe_searcher *s) {
  own *o = s->own;
  if (!o) return;
  void *list[] = {o->at,    o->value, o->excess, o->rank, o->crowding, o->beaten_by, o->front,
                  o->order, o->key,   o->kept,   o};
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) qe_free(list[i]);
}

static qe_status open_pareto(qe_searcher *s) {
  own *o = s->own = QE_NEW(own);
  if (!o) return QE_NO_MEMORY;
  if (s->options.population == 0) s->options.population = OWN_POPULATION;
  int64_t population = s->options.population, all = 2 * population;
  if (population < POPULATION_LEAST || population > POPULATION_MOST)
    return qe_fail(QE_USAGE, "population %lld: pareto takes %d...%d", (long long)population, (int)POPULATION_LEAST,
                   (int)POPULATION_MOST);
  o->at = QE_NEW_ARRAY(double, all * s->n);
  o->value = QE_NEW_ARRAY(double, all * s->objectives);
  o->excess = QE_NEW_ARRAY(double, all);
  o->rank = QE_NEW_ARRAY(int32_t, all);
  o->crowding = QE_NEW_ARRAY(double, all);
  o->beaten_by = QE_NEW_ARRAY(int32_t, all);
  o->front = QE_NEW_ARRAY(int32_t, all);
  o->order = QE_NEW_ARRAY(int32_t, all);
  o->key = QE_NEW_ARRAY(int64_t, all);
  o->kept = QE_NEW_ARRAY(double, population *(s->n + s->objectives));
  bool there = o->at && o->value && o->excess && o->rank && o->crowding && o->beaten_by && o->front && o->order &&
               o->key && o->kept;
  return there ? QE_OK : QE_NO_MEMORY;
}

static double *point(const qe_searcher *s, const own *o, int64_t k) {
  return o->at + k * s->n;
}
static double *value_of(const qe_searcher *s, const own *o, int64_t k) {
  return o->value + k * s->objectives;
}

/* ---- order (section III) ---- */

/* Constrained domination: what exceeds less, else by all objectives. */
static bool beats(const qe_searcher *s, const own *o, int64_t a, int64_t b) {
  if (o->excess[a] > 0 || o->excess[b] > 0) return o->excess[a] < o->excess[b];
  return qe_search_dominates(value_of(s, o, a), value_of(s, o, b), s->objectives);
}

static void rank_points(const qe_searcher *s, own *o, int64_t count) {
  int64_t begin = 0, end = 0;
  for (int64_t a = 0; a < count; a++) {
    o->beaten_by[a] = 0;
    for (int64_t b = 0; b < count; b++) o->beaten_by[a] += beats(s, o, b, a);
    if (o->beaten_by[a] == 0) o->front[end++] = (int32_t)a;
  }
  for (int32_t rank = 0; begin < end; rank++) {
    int64_t stop = end;
    for (int64_t i = begin; i < stop; i++) o->rank[o->front[i]] = rank;
    for (int64_t i = begin; i < stop; i++)
      for (int64_t b = 0; b < count; b++)
        if (beats(s, o, o->front[i], b) && --o->beaten_by[b] == 0) o->front[end++] = (int32_t)b;
    begin = stop;
  }
}

/* Adds one objective's share to the crowding distances of `count` points of a front. */
static qe_status add_crowding(const qe_searcher *s, own *o, const int32_t *front, int64_t count, int64_t objective) {
  for (int64_t i = 0; i < count; i++) o->key[i] = qe_order_key(value_of(s, o, front[i])[objective]);
  QE_TRY(qe_order_ascending(o->key, count, o->order));
  double low = value_of(s, o, front[o->order[0]])[objective],
         high = value_of(s, o, front[o->order[count - 1]])[objective];
  o->crowding[front[o->order[0]]] = o->crowding[front[o->order[count - 1]]] = HUGE_VAL;
  for (int64_t i = 1; i + 1 < count && high > low && high < HUGE_VAL; i++) {
    double gap = value_of(s, o, front[o->order[i + 1]])[objective] - value_of(s, o, front[o->order[i - 1]])[objective];
    o->crowding[front[o->order[i]]] += gap / (high - low);
  }
  return QE_OK;
}

/* Rank and crowding of the first `count` points; o->front: they by rank. */
static qe_status rate(const qe_searcher *s, own *o, int64_t count) {
  rank_points(s, o, count);
  for (int64_t k = 0; k < count; k++) o->crowding[k] = 0;
  for (int64_t begin = 0, end; begin < count; begin = end) {
    for (end = begin; end < count && o->rank[o->front[end]] == o->rank[o->front[begin]];) end++;
    for (int64_t m = 0; m < s->objectives; m++) QE_TRY(add_crowding(s, o, o->front + begin, end - begin, m));
  }
  return QE_OK;
}

/* By rank, then the least crowded first, into o->order. */
static qe_status sort(own *o, int64_t count) {
  for (int64_t begin = 0, end; begin < count; begin = end) {
    for (end = begin; end < count && o->rank[o->front[end]] == o->rank[o->front[begin]]; end++)
      o->key[end] = qe_order_key(-o->crowding[o->front[end]]);
    QE_TRY(qe_order_ascending(o->key + begin, end - begin, o->order + begin));
    for (int64_t i = begin; i < end; i++) o->order[i] = o->front[begin + o->order[i]];
  }
  return QE_OK;
}

/* ---- asking ---- */

static void first_point(const qe_searcher *s, int32_t k, double *x) {
  int32_t even = s->count / 4; /* points with all variables at the same part of their range */
  qe_search_draws draws = qe_search_draws_of(s, s->trials + k);
  for (int64_t i = 0; i < s->n; i++) {
    const qe_search_variable *v = &s->variable[i];
    double part = even > 1 ? (double)(k - 1) / (even - 1) : 0.5;
    x[i] = k <= even ? qe_search_place(v, v->low + part * qe_search_range(v)) : qe_search_anywhere(&draws, v);
  }
  if (k == 0) qe_search_start(s, x);
  if (k > 0) qe_search_repair(s, &draws, x);
}

/* The better of two parents drawn. */
static int64_t tournament(const own *o, qe_search_draws *draws) {
  int64_t a = qe_search_below(draws, o->parents), b = qe_search_below(draws, o->parents);
  if (o->rank[a] != o->rank[b]) return o->rank[a] < o->rank[b] ? a : b;
  return o->crowding[a] >= o->crowding[b] ? a : b;
}

/* Simulated binary crossover of a real: one of the two children (Deb and Agrawal, 1995). */
static double blend(qe_search_draws *draws, double a, double b) {
  double u = qe_search_uniform(draws), power = 1 / (spread_index + 1);
  double beta = u < 0.5 ? pow(2 * u, power) : pow(1 / (2 - 2 * u), power);
  return 0.5 * ((1 + beta) * a + (1 - beta) * b);
}

static void cross(const qe_searcher *s, qe_search_draws *draws, const double *other, double *x) {
  for (int64_t i = 0; i < s->n; i++) {
    if (qe_search_uniform(draws) < 0.5) continue;
    const qe_search_variable *v = &s->variable[i];
    x[i] = v->kind == QE_SEARCH_REAL ? qe_search_place(v, blend(draws, x[i], other[i])) : other[i];
  }
}

/* One variable in n changes, one at least. */
static void mutate(const qe_searcher *s, qe_search_draws *draws, double *x) {
  int64_t sure = qe_search_below(draws, s->n);
  for (int64_t i = 0; i < s->n; i++)
    if (i == sure || qe_search_uniform(draws) * (double)s->n < 1) x[i] = qe_search_other(draws, &s->variable[i], x[i]);
}

static bool is_known(const qe_searcher *s, const own *o, int32_t k, const double *x) {
  for (int64_t i = 0; i < o->parents; i++)
    if (qe_search_same(point(s, o, i), x, s->n)) return true;
  for (int32_t i = 0; i < k; i++)
    if (qe_search_same(qe_search_candidate(s, i), x, s->n)) return true;
  return false;
}

static void child(const qe_searcher *s, const own *o, int32_t k) {
  qe_search_draws draws = qe_search_draws_of(s, s->trials + k);
  double *x = qe_search_candidate(s, k);
  memcpy(x, point(s, o, tournament(o, &draws)), (size_t)s->n * sizeof *x);
  const double *other = point(s, o, tournament(o, &draws));
  if (qe_search_uniform(&draws) < crossover) cross(s, &draws, other, x);
  for (int32_t attempt = 0; attempt == 0 || (attempt < TRIES && is_known(s, o, k, x)); attempt++) {
    mutate(s, &draws, x);
    qe_search_repair(s, &draws, x);
  }
}

static qe_status ask(qe_searcher *s) {
  own *o = s->own;
  if (o->again) {
    QE_TRY(qe_search_room(s, (int32_t)o->parents));
    memcpy(s->candidate, o->at, (size_t)(o->parents * s->n) * sizeof *o->at);
    return QE_OK;
  }
  QE_TRY(qe_search_room(s, s->options.population));
  if (o->parents > 0) QE_TRY(rate(s, o, o->parents));
  for (int32_t k = 0; k < s->count; k++)
    if (o->parents > 0)
      child(s, o, k);
    else
      first_point(s, k, qe_search_candidate(s, k));
  return QE_OK;
}

/* ---- telling ---- */

static void take(const qe_searcher *s, own *o, int64_t at, const double *value) {
  memcpy(point(s, o, at), s->candidate, (size_t)(s->count * s->n) * sizeof *value);
  memcpy(value_of(s, o, at), value, (size_t)(s->count * s->objectives) * sizeof *value);
  for (int32_t k = 0; k < s->count; k++) o->excess[at + k] = qe_search_excess(s, qe_search_candidate(s, k));
}

/* The best of parents and children are the next parents. */
static qe_status select_parents(const qe_searcher *s, own *o, int64_t count) {
  int64_t keep = s->options.population < count ? s->options.population : count;
  QE_TRY(rate(s, o, count));
  QE_TRY(sort(o, count));
  double *value = o->kept + keep * s->n;
  for (int64_t k = 0; k < keep; k++) {
    memcpy(o->kept + k * s->n, point(s, o, o->order[k]), (size_t)s->n * sizeof *o->kept);
    memcpy(value + k * s->objectives, value_of(s, o, o->order[k]), (size_t)s->objectives * sizeof *value);
  }
  memcpy(o->at, o->kept, (size_t)(keep * s->n) * sizeof *o->at);
  memcpy(o->value, value, (size_t)(keep * s->objectives) * sizeof *value);
  for (int64_t k = 0; k < keep; k++) o->excess[k] = qe_search_excess(s, point(s, o, k));
  o->parents = keep;
  return QE_OK;
}

static qe_status tell(qe_searcher *s, const double *value) {
  own *o = s->own;
  if (o->again) {
    take(s, o, 0, value);
    o->again = 0;
    return QE_OK;
  }
  take(s, o, o->parents, value);
  return select_parents(s, o, o->parents + s->count);
}

static qe_status changed(qe_searcher *s) {
  own *o = s->own;
  o->again = o->parents > 0;
  return QE_OK;
}

/* ---- reading ---- */

static void centre(const qe_searcher *s, double *at) {
  const own *o = s->own;
  qe_search_start(s, at);
  for (int64_t i = 0; i < s->n && o->parents > 0; i++) {
    if (s->variable[i].kind == QE_SEARCH_CHOICE) {
      at[i] = point(s, o, 0)[i];
      continue;
    }
    at[i] = 0;
    for (int64_t k = 0; k < o->parents; k++) at[i] += point(s, o, k)[i] / (double)o->parents;
  }
}

static void deviation(const qe_searcher *s, double *out) {
  const own *o = s->own;
  for (int64_t i = 0; i < s->n; i++) {
    double mean = 0, square = 0, same = 0, count = (double)(o->parents > 0 ? o->parents : 1);
    for (int64_t k = 0; k < o->parents; k++) mean += point(s, o, k)[i] / count;
    for (int64_t k = 0; k < o->parents; k++) {
      double away = point(s, o, k)[i] - mean, beside = point(s, o, k)[i] - point(s, o, 0)[i];
      square += away * away / count;
      same += fabs(beside) < 0.5;
    }
    out[i] = s->variable[i].kind == QE_SEARCH_CHOICE ? 1 - fmax(same, o->parents ? 0 : count) / count : sqrt(square);
  }
}

/* ---- state ---- */

static qe_status save(const qe_searcher *s, qe_tensors *state) {
  const own *o = s->own;
  const int64_t number[] = {o->parents, o->again};
  QE_TRY(qe_search_put(state, "search.pareto", 2, number));
  if (o->parents == 0) return QE_OK;
  QE_TRY(qe_search_put(state, "search.parent_at", o->parents * s->n, o->at));
  return qe_search_put(state, "search.parent_value", o->parents * s->objectives, o->value);
}

static qe_status load(qe_searcher *s, const qe_tensors *state) {
  own *o = s->own;
  int64_t number[2];
  QE_TRY(qe_search_get(state, "search.pareto", 2, number));
  bool sound = number[0] >= 0 && number[0] <= s->options.population && (number[1] == 0 || number[1] == 1) &&
               (number[0] > 0 || number[1] == 0);
  if (!sound) return qe_fail(QE_FORMAT, "tensor 'search.pareto': the state is damaged");
  o->parents = number[0];
  o->again = number[1];
  if (o->parents == 0) return QE_OK;
  QE_TRY(qe_search_get(state, "search.parent_at", o->parents * s->n, o->at));
  QE_TRY(qe_search_get(state, "search.parent_value", o->parents * s->objectives, o->value));
  QE_TRY(qe_search_check(s, "search.parent_at", o->at, o->parents));
  for (int64_t i = 0; i < o->parents * s->objectives; i++)
    if (isnan(o->value[i])) return qe_fail(QE_FORMAT, "tensor 'search.parent_value': element %lld", (long long)i);
  for (int64_t k = 0; k < o->parents; k++) o->excess[k] = qe_search_excess(s, point(s, o, k));
  return QE_OK;
}

const qe_search_way qe_search_way_pareto = {.open = open_pareto,
                                            .close = close_pareto,
                                            .ask = ask,
                                            .tell = tell,
                                            .changed = changed,
                                            .centre = centre,
                                            .deviation = deviation,
                                            .save = save,
                                            .load = load};
