/* The searcher `distribution`: each variable has a distribution of its own, which moves towards the best quarter of
 * what was drawn: PBIL (Baluja, 1994) with more than two values and the least probabilities that CatCMA with margin
 * keeps (arXiv 2504.07884), a normal distribution for reals and for integers of many values. */
#include "core/base/alloc.h"
#include "core/search/searcher_parts.h"

#include <math.h>
#include <string.h>

enum { TABLE_MOST = 256, NORMAL = 2 }; /* values of a variable with a table; mean and deviation */
static const double own_width[] = {[QE_SEARCH_INTEGER] = 0.3, [QE_SEARCH_REAL] = 0.3, [QE_SEARCH_CHOICE] = 0.5};
static const double own_rate = 0.2, elite = 0.25;

typedef struct own {
  int64_t *first; /* [n + 1]: where a variable's probabilities, or mean and deviation, begin */
  double *part;   /* [first[n]] */
  double *next;   /* [first[n]]: what a generation makes of them */
} own;

static bool has_table(const qe_search_variable *v) {
  return v->kind == QE_SEARCH_CHOICE || (v->kind == QE_SEARCH_INTEGER && qe_search_range(v) < TABLE_MOST);
}

static int64_t values_of(const qe_search_variable *v) {
  return (int64_t)qe_search_range(v) + 1;
}

/* Each probability at least its floor, the sum 1. */
static void keep_floor(int64_t variables, double *p, int64_t values) {
  if (values < 2) return;
  double floor = fmin(1.0 / ((double)variables * (double)(values - 1)), 0.25 / (double)values), above = 0;
  for (int64_t k = 0; k < values; k++) above += fmax(0, p[k] - floor);
  for (int64_t k = 0; k < values; k++)
    p[k] = floor + (above > 0 ? fmax(0, p[k] - floor) / above : 1.0 / (double)values) * (1 - floor * (double)values);
}

static void begin_table(const qe_searcher *s, const qe_search_variable *v, double *p) {
  int64_t values = values_of(v);
  double width = s->options.width > 0 ? s->options.width : own_width[v->kind], sum = 0;
  for (int64_t k = 0; k < values; k++) {
    double away = v->low + (double)k - v->start, deviation = fmax(width * qe_search_range(v), 1e-3);
    bool here = away == 0; /* NOLINT: whole numbers */
    p[k] = v->kind == QE_SEARCH_CHOICE ? width / (double)values + (here ? 1 - width : 0)
                                       : exp(-0.5 * away * away / (deviation * deviation));
    sum += p[k];
  }
  for (int64_t k = 0; k < values; k++) p[k] /= sum;
  keep_floor(s->n, p, values);
}

static void begin(const qe_searcher *s, own *o) {
  for (int64_t i = 0; i < s->n; i++) {
    const qe_search_variable *v = &s->variable[i];
    double *p = o->part + o->first[i], width = s->options.width > 0 ? s->options.width : own_width[v->kind];
    if (has_table(v)) {
      begin_table(s, v, p);
      continue;
    }
    p[0] = v->start;
    p[1] = width * qe_search_range(v);
  }
}

static void close_distribution(qe_searcher *s) {
  own *o = s->own;
  if (!o) return;
  qe_free(o->first);
  qe_free(o->part);
  qe_free(o->next);
  qe_free(o);
}

static qe_status open_distribution(qe_searcher *s) {
  own *o = s->own = QE_NEW(own);
  if (!o) return QE_NO_MEMORY;
  o->first = QE_NEW_ARRAY(int64_t, s->n + 1);
  if (!o->first) return QE_NO_MEMORY;
  for (int64_t i = 0; i < s->n; i++) {
    if (s->variable[i].kind == QE_SEARCH_CHOICE && qe_search_range(&s->variable[i]) >= 1 << 20)
      return qe_fail(QE_USAGE, "variable %lld: a choice of more than 2^20", (long long)i);
    o->first[i + 1] = o->first[i] + (has_table(&s->variable[i]) ? values_of(&s->variable[i]) : NORMAL);
  }
  o->part = QE_NEW_ARRAY(double, o->first[s->n]);
  o->next = QE_NEW_ARRAY(double, o->first[s->n]);
  if (!o->part || !o->next) return QE_NO_MEMORY;
  if (s->options.population == 0) s->options.population = 8 + 4 * (int32_t)sqrt((double)s->n);
  if (!(s->options.rate > 0)) s->options.rate = own_rate;
  begin(s, o);
  return QE_OK;
}

/* ---- asking ---- */

static double draw(qe_search_draws *draws, const qe_search_variable *v, const double *p) {
  if (!has_table(v)) return qe_search_place(v, p[0] + p[1] * qe_search_normal(draws));
  double u = qe_search_uniform(draws);
  int64_t k = 0, last = values_of(v) - 1;
  while (k < last && (u -= p[k]) >= 0) k++;
  return v->low + (double)k;
}

static qe_status ask(qe_searcher *s) {
  const own *o = s->own;
  QE_TRY(qe_search_room(s, s->options.population));
  for (int32_t k = 0; k < s->count; k++) {
    qe_search_draws draws = qe_search_draws_of(s, s->trials + k);
    double *x = qe_search_candidate(s, k);
    if (s->trials + k == 0) {
      qe_search_start(s, x);
      continue;
    }
    for (int64_t i = 0; i < s->n; i++) x[i] = draw(&draws, &s->variable[i], o->part + o->first[i]);
    qe_search_repair(s, &draws, x);
  }
  return QE_OK;
}

/* ---- learning ---- */

/* What the best say of a variable, into next. */
static void learn(const qe_searcher *s, const own *o, int64_t i, const int32_t *order, int32_t best) {
  const qe_search_variable *v = &s->variable[i];
  double rate = s->options.rate, *next = o->next + o->first[i];
  const double *now = o->part + o->first[i];
  int64_t count = o->first[i + 1] - o->first[i];
  if (has_table(v)) {
    for (int64_t k = 0; k < count; k++) next[k] = (1 - rate) * now[k];
    for (int32_t k = 0; k < best; k++) next[(int64_t)(qe_search_candidate(s, order[k])[i] - v->low)] += rate / best;
    keep_floor(s->n, next, count);
    return;
  }
  double mean = 0, square = 0; /* about the old mean, so that a distribution that moves does not shrink */
  for (int32_t k = 0; k < best; k++) {
    double away = qe_search_candidate(s, order[k])[i] - now[0];
    mean += away / best;
    square += away * away / best;
  }
  double least = v->kind == QE_SEARCH_REAL ? 1e-12 * qe_search_range(v) : 0.3;
  next[0] = now[0] + rate * mean;
  next[1] = fmax(least, sqrt((1 - rate) * now[1] * now[1] + rate * square));
}

static qe_status tell(qe_searcher *s, const double *value) {
  own *o = s->own;
  int32_t *order = QE_NEW_ARRAY(int32_t, s->count), best = (int32_t)ceil(elite * s->count), told = 0;
  if (!order) return QE_NO_MEMORY;
  qe_status status = qe_search_order(s, value, order);
  if (status == QE_OK) {
    while (told < best && value[order[told]] < HUGE_VAL) told++;
    for (int64_t i = 0; told > 0 && i < s->n; i++) learn(s, o, i, order, told);
    if (told > 0) memcpy(o->part, o->next, (size_t)o->first[s->n] * sizeof *o->part);
  }
  qe_free(order);
  return status;
}

/* ---- reading ---- */

static int64_t likeliest(const double *p, int64_t values) {
  int64_t best = 0;
  for (int64_t k = 1; k < values; k++)
    if (p[k] > p[best]) best = k;
  return best;
}

static double mean_of(const double *p, int64_t values) {
  double mean = 0;
  for (int64_t k = 0; k < values; k++) mean += p[k] * (double)k;
  return mean;
}

static void centre(const qe_searcher *s, double *at) {
  const own *o = s->own;
  for (int64_t i = 0; i < s->n; i++) {
    const qe_search_variable *v = &s->variable[i];
    const double *p = o->part + o->first[i];
    if (!has_table(v))
      at[i] = p[0];
    else
      at[i] = v->low + (v->kind == QE_SEARCH_CHOICE ? (double)likeliest(p, values_of(v)) : mean_of(p, values_of(v)));
  }
}

static void deviation(const qe_searcher *s, double *out) {
  const own *o = s->own;
  for (int64_t i = 0; i < s->n; i++) {
    const qe_search_variable *v = &s->variable[i];
    const double *p = o->part + o->first[i];
    out[i] = has_table(v) ? 1 - p[likeliest(p, values_of(v))] : p[1];
    if (!has_table(v) || v->kind == QE_SEARCH_CHOICE) continue;
    double mean = mean_of(p, values_of(v)), square = 0;
    for (int64_t k = 0; k < values_of(v); k++) square += p[k] * ((double)k - mean) * ((double)k - mean);
    out[i] = sqrt(square);
  }
}

static qe_status save(const qe_searcher *s, qe_tensors *state) {
  const own *o = s->own;
  return qe_search_put(state, "search.distribution", o->first[s->n], o->part);
}

static bool is_sound(const qe_search_variable *v, const double *p) {
  if (!has_table(v)) return p[0] >= v->low && p[0] <= v->high && p[1] >= 0 && p[1] <= 16 * qe_search_range(v) + 1;
  double sum = 0;
  for (int64_t k = 0; k < values_of(v); k++) {
    if (!(p[k] >= 0)) return false;
    sum += p[k];
  }
  return fabs(sum - 1) < 1e-6;
}

static qe_status load(qe_searcher *s, const qe_tensors *state) {
  own *o = s->own;
  QE_TRY(qe_search_get(state, "search.distribution", o->first[s->n], o->part));
  for (int64_t i = 0; i < s->n; i++)
    if (!is_sound(&s->variable[i], o->part + o->first[i]))
      return qe_fail(QE_FORMAT, "tensor 'search.distribution': variable %lld has no distribution: the state is damaged",
                     (long long)i);
  return QE_OK;
}

const qe_search_way qe_search_way_distribution = {.open = open_distribution,
                                                  .close = close_distribution,
                                                  .ask = ask,
                                                  .tell = tell,
                                                  .centre = centre,
                                                  .deviation = deviation,
                                                  .save = save,
                                                  .load = load};
