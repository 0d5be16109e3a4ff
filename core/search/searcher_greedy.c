/* The searcher `greedy`: the values of single changes of a base point give a sum as a model of the function; from the
 * point that the model likes best it takes the steps that cost least for what they save, until it is allowed
 * (sensitivity-ordered allocation). Proposals of the model, and of models with drawn errors, are tried; the best one
 * becomes the next base. */
#include "core/base/alloc.h"
#include "core/search/searcher_greedy_parts.h"

#include <math.h>
#include <string.h>

enum { OWN_PROPOSALS = 8, MOST_FAILURES = 3, MOST_PROBES = 4096 }; /* of an ask; in a row */

#define GREEDY_NUMBER_LIST(X)                                                                                          \
  X(proposing) /* else: measuring single changes */                                                                    \
  X(next)      /* change to measure; 0: the base itself */                                                             \
  X(failures)  /* asks in a row whose proposals were no better than the base */

enum {
#define X(name) NUMBER_##name,
  GREEDY_NUMBER_LIST(X)
#undef X
      NUMBERS
};

typedef struct own {
#define X(name) int64_t name;
  GREEDY_NUMBER_LIST(X)
#undef X
  double base_value;
  qe_greedy_model model;
  double *noisy;  /* [levels]: changes with drawn errors */
  int32_t *asked; /* [population]: levels of an ask; -1: the base */
} own;

static void close_greedy(qe_searcher *s) {
  own *o = s->own;
  if (!o) return;
  qe_greedy_model_free(&o->model);
  qe_free(o->noisy);
  qe_free(o->asked);
  qe_free(o);
}

static qe_status open_greedy(qe_searcher *s) {
  own *o = s->own = QE_NEW(own);
  if (!o) return QE_NO_MEMORY;
  QE_TRY(qe_greedy_model_new(s, &o->model));
  int64_t levels = o->model.first[s->n], probes = s->options.population ? s->options.population : MOST_PROBES;
  o->noisy = QE_NEW_ARRAY(double, levels);
  o->asked = QE_NEW_ARRAY(int32_t, probes);
  if (!o->noisy || !o->asked) return QE_NO_MEMORY;
  qe_search_start(s, o->model.base);
  return QE_OK;
}

/* ---- asking ---- */

/* Levels to measure from `next` on, into asked; how many. */
static int32_t list_probes(const qe_searcher *s, const own *o) {
  int32_t count = 0, most = s->options.population ? s->options.population : MOST_PROBES;
  int64_t levels = o->model.first[s->n];
  if (o->next == 0) o->asked[count++] = -1;
  for (int64_t at = o->next > 0 ? o->next - 1 : 0; at < levels && count < most; at++)
    if (!qe_greedy_is_base(s, &o->model, at)) o->asked[count++] = (int32_t)at;
  return count;
}

static qe_status ask_probes(qe_searcher *s, const own *o) {
  QE_TRY(qe_search_room(s, list_probes(s, o)));
  for (int32_t k = 0; k < s->count; k++) {
    double *x = qe_search_candidate(s, k);
    memcpy(x, o->model.base, (size_t)s->n * sizeof *x);
    if (o->asked[k] >= 0) {
      int64_t variable = qe_greedy_variable(s, &o->model, o->asked[k]);
      x[variable] = qe_greedy_level(s, &o->model, variable, o->asked[k]);
    }
  }
  return QE_OK;
}

/* The first proposal is the model's own; the others of models whose changes are some 1.5 times larger or smaller. */
static qe_status ask_proposals(qe_searcher *s, const own *o) {
  int64_t levels = o->model.first[s->n];
  QE_TRY(qe_search_room(s, s->options.population ? s->options.population : OWN_PROPOSALS));
  for (int32_t k = 0; k < s->count; k++) {
    qe_search_draws draws = qe_search_draws_of(s, s->trials + k);
    bool plain = k == 0 && o->failures == 0;
    for (int64_t at = 0; at < levels; at++)
      o->noisy[at] = o->model.change[at] * (plain ? 1 : exp(0.4 * qe_search_normal(&draws)));
    qe_greedy_propose(s, &o->model, o->noisy, qe_search_candidate(s, k));
  }
  return QE_OK;
}

static qe_status ask(qe_searcher *s) {
  const own *o = s->own;
  return o->proposing ? ask_proposals(s, o) : ask_probes(s, o);
}

/* ---- telling ---- */

static void take_probes(const qe_searcher *s, own *o, const double *value) {
  for (int32_t k = 0; k < s->count; k++) {
    if (o->asked[k] < 0)
      o->base_value = value[k];
    else
      o->model.change[o->asked[k]] = value[k]; /* the base's own value is taken off when all are there */
    o->next = o->asked[k] + 2;
  }
  o->proposing = list_probes(s, o) == 0;
  if (o->proposing) qe_greedy_model_finish(s, &o->model, o->base_value);
}

/* Room for `order` is there. */
static void take_proposals(const qe_searcher *s, own *o, const double *value, const int32_t *order) {
  const double *best = qe_search_candidate(s, order[0]);
  double now = qe_search_excess(s, o->model.base), then = qe_search_excess(s, best);
  bool better = then < now || (!(then > now) && value[order[0]] < o->base_value);
  if (!better) {
    o->failures++;
    return;
  }
  memcpy(o->model.base, best, (size_t)s->n * sizeof *best);
  o->base_value = value[order[0]];
  qe_greedy_model_forget(s, &o->model);
  o->failures = o->proposing = 0;
  o->next = 1;
}

static qe_status tell(qe_searcher *s, const double *value) {
  own *o = s->own;
  if (!o->proposing) {
    take_probes(s, o, value);
    return QE_OK;
  }
  int32_t *order = QE_NEW_ARRAY(int32_t, s->count);
  if (!order) return QE_NO_MEMORY;
  qe_status status = qe_search_order(s, value, order);
  if (status == QE_OK) take_proposals(s, o, value, order);
  qe_free(order);
  return status;
}

static qe_status changed(qe_searcher *s) {
  own *o = s->own;
  o->proposing = o->next = o->failures = 0;
  qe_greedy_model_forget(s, &o->model);
  return QE_OK;
}

static const char *stopped(const qe_searcher *s) {
  return ((const own *)s->own)->failures < MOST_FAILURES ? NULL
                                                         : "no proposal is better than the point it was made from";
}

static void centre(const qe_searcher *s, double *at) {
  memcpy(at, ((const own *)s->own)->model.base, (size_t)s->n * sizeof *at);
}

static void deviation(const qe_searcher *s, double *out) {
  memset(out, 0, (size_t)s->n * sizeof *out);
}

/* ---- state ---- */

static qe_status save(const qe_searcher *s, qe_tensors *state) {
  const own *o = s->own;
  const int64_t number[] = {
#define X(name) o->name,
      GREEDY_NUMBER_LIST(X)
#undef X
  };
  QE_TRY(qe_search_put(state, "search.greedy", NUMBERS, number));
  QE_TRY(qe_search_put(state, "search.base", s->n, o->model.base));
  QE_TRY(qe_search_put(state, "search.base_value", 1, &o->base_value));
  return qe_search_put(state, "search.change", o->model.first[s->n], o->model.change);
}

static qe_status load(qe_searcher *s, const qe_tensors *state) {
  own *o = s->own;
  int64_t number[NUMBERS], levels = o->model.first[s->n];
  QE_TRY(qe_search_get(state, "search.greedy", NUMBERS, number));
  QE_TRY(qe_search_get(state, "search.base", s->n, o->model.base));
  QE_TRY(qe_search_get(state, "search.base_value", 1, &o->base_value));
  QE_TRY(qe_search_get(state, "search.change", levels, o->model.change));
  QE_TRY(qe_search_check(s, "search.base", o->model.base, 1));
#define X(name) o->name = number[NUMBER_##name];
  GREEDY_NUMBER_LIST(X)
#undef X
  bool sound = (o->proposing == 0 || o->proposing == 1) && o->next >= 0 && o->next <= levels + 1 && o->failures >= 0 &&
               o->failures <= MOST_FAILURES && (o->proposing || list_probes(s, o) > 0) && !isnan(o->base_value);
  return sound ? QE_OK : qe_fail(QE_FORMAT, "tensor 'search.greedy': the state is damaged");
}

const qe_search_way qe_search_way_greedy = {.open = open_greedy,
                                            .close = close_greedy,
                                            .ask = ask,
                                            .tell = tell,
                                            .changed = changed,
                                            .stopped = stopped,
                                            .centre = centre,
                                            .deviation = deviation,
                                            .save = save,
                                            .load = load};
