/* The searcher `greedy`: levels of variables, and the point that its model likes best. */
#include "core/base/alloc.h"
#include "core/search/searcher_greedy_parts.h"

#include <math.h>
#include <string.h>

enum { LEVELS_MOST = 17, LEVELS_COARSE = 9, EXCHANGES_MOST = 1024 }; /* levels up to which exchanges are tried */

static int64_t levels_of(const qe_search_variable *v) {
  double values = qe_search_range(v) + 1;
  return v->kind == QE_SEARCH_REAL || values > LEVELS_MOST ? LEVELS_COARSE : (int64_t)values;
}

qe_status qe_greedy_model_new(const qe_searcher *s, qe_greedy_model *model) {
  model->first = QE_NEW_ARRAY(int64_t, s->n + 1);
  model->base = QE_NEW_ARRAY(double, s->n);
  model->level = QE_NEW_ARRAY(int32_t, s->n);
  if (!model->first || !model->base || !model->level) return QE_NO_MEMORY;
  for (int64_t i = 0; i < s->n; i++) model->first[i + 1] = model->first[i] + levels_of(&s->variable[i]);
  model->change = QE_NEW_ARRAY(double, model->first[s->n]);
  return model->change ? QE_OK : QE_NO_MEMORY;
}

void qe_greedy_model_free(qe_greedy_model *model) {
  qe_free(model->first);
  qe_free(model->base);
  qe_free(model->change);
  qe_free(model->level);
}

void qe_greedy_model_forget(const qe_searcher *s, qe_greedy_model *model) {
  memset(model->change, 0, (size_t)model->first[s->n] * sizeof *model->change);
}

void qe_greedy_model_finish(const qe_searcher *s, qe_greedy_model *model, double base_value) {
  for (int64_t at = 0; at < model->first[s->n]; at++) {
    double change = model->change[at] - base_value;
    model->change[at] = qe_greedy_is_base(s, model, at) ? 0 : isnan(change) ? HUGE_VAL : change;
  }
}

int64_t qe_greedy_variable(const qe_searcher *s, const qe_greedy_model *model, int64_t level) {
  int64_t low = 0, high = s->n;
  while (high - low > 1) {
    int64_t middle = (low + high) / 2;
    if (model->first[middle] <= level)
      low = middle;
    else
      high = middle;
  }
  return low;
}

double qe_greedy_level(const qe_searcher *s, const qe_greedy_model *model, int64_t variable, int64_t level) {
  const qe_search_variable *v = &s->variable[variable];
  int64_t levels = model->first[variable + 1] - model->first[variable];
  double part = levels > 1 ? (double)(level - model->first[variable]) / (double)(levels - 1) : 0;
  return qe_search_place(v, v->low + part * qe_search_range(v));
}

bool qe_greedy_is_base(const qe_searcher *s, const qe_greedy_model *model, int64_t level) {
  int64_t variable = qe_greedy_variable(s, model, level);
  double at = qe_greedy_level(s, model, variable, level), base = model->base[variable];
  return !(at < base) && !(at > base);
}

/* ---- proposals ---- */

/* A proposal in the making: x, the level of each variable, and how far it exceeds. */
typedef struct proposal {
  const qe_searcher *s;
  const qe_greedy_model *model;
  const double *change;
  double *x, excess;
} proposal;

static double change_now(const proposal *p, int64_t variable) {
  int32_t level = p->model->level[variable];
  return level < 0 ? 0 : p->change[level];
}

static void set(proposal *p, int64_t variable, int64_t level) {
  p->model->level[variable] = (int32_t)level;
  p->x[variable] = level < 0 ? p->model->base[variable] : qe_greedy_level(p->s, p->model, variable, level);
}

static double excess_with(proposal *p, int64_t variable, int64_t level) {
  int32_t old = p->model->level[variable];
  set(p, variable, level);
  double excess = qe_search_excess(p->s, p->x);
  set(p, variable, old);
  return excess;
}

/* Each variable at the level that adds least. */
static void start(proposal *p) {
  for (int64_t i = 0; i < p->s->n; i++) {
    int64_t best = -1;
    for (int64_t at = p->model->first[i]; at < p->model->first[i + 1]; at++)
      if (p->change[at] < (best < 0 ? 0 : p->change[best])) best = at;
    set(p, i, best);
  }
  p->excess = qe_search_excess(p->s, p->x);
}

/* The step that adds least for what it saves; false: none saves anything. */
static bool step_down(proposal *p) {
  double best_price = HUGE_VAL;
  int64_t best = -1;
  for (int64_t i = 0; i < p->s->n; i++)
    for (int64_t at = p->model->first[i]; at < p->model->first[i + 1]; at++) {
      if (at == p->model->level[i] || !(p->change[at] < HUGE_VAL)) continue;
      double saved = p->excess - excess_with(p, i, at);
      if (!(saved > 0)) continue;
      double added = p->change[at] - change_now(p, i), price = added < 0 ? added * saved : added / saved;
      if (best >= 0 && price >= best_price) continue;
      best_price = price;
      best = at;
    }
  if (best < 0) return false;
  set(p, qe_greedy_variable(p->s, p->model, best), best);
  p->excess = qe_search_excess(p->s, p->x);
  return true;
}

/* The allowed change of one variable that gains most; false: none gains. */
static bool step_up(proposal *p) {
  double best_gain = 0;
  int64_t best = -1;
  for (int64_t i = 0; i < p->s->n; i++)
    for (int64_t at = p->model->first[i]; at < p->model->first[i + 1]; at++) {
      double gain = change_now(p, i) - p->change[at];
      if (!(gain > best_gain) || excess_with(p, i, at) > 0) continue;
      best_gain = gain;
      best = at;
    }
  if (best >= 0) set(p, qe_greedy_variable(p->s, p->model, best), best);
  return best >= 0;
}

/* The first allowed change of two variables that gains: one for the better, one for the worse. */
static bool exchange(proposal *p) {
  for (int64_t i = 0; i < p->s->n; i++)
    for (int64_t at = p->model->first[i]; at < p->model->first[i + 1]; at++) {
      double gain = change_now(p, i) - p->change[at];
      int32_t old = p->model->level[i];
      if (!(gain > 0)) continue;
      set(p, i, at);
      for (int64_t k = 0; k < p->s->n; k++)
        for (int64_t to = p->model->first[k]; k != i && to < p->model->first[k + 1]; to++) {
          double loss = p->change[to] - change_now(p, k);
          if (!(loss < gain) || excess_with(p, k, to) > 0) continue;
          set(p, k, to);
          return true;
        }
      set(p, i, old);
    }
  return false;
}

void qe_greedy_propose(const qe_searcher *s, const qe_greedy_model *model, const double *change, double *x) {
  proposal p = {.s = s, .model = model, .change = change, .x = x};
  int64_t exchanges = model->first[s->n] <= EXCHANGES_MOST ? 2 * s->n : 0;
  start(&p);
  while (p.excess > 0 && step_down(&p)) {
  }
  if (p.excess > 0) return;
  while (step_up(&p)) {
  }
  while (exchanges-- > 0 && exchange(&p))
    while (step_up(&p)) {
    }
}
