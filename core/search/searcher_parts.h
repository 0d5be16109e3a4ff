/* Searchers: what their files share. */
#ifndef QE_SEARCH_SEARCHER_PARTS_H
#define QE_SEARCH_SEARCHER_PARTS_H

#include "core/search/searcher.h"

/* What a searcher is made of; `own` is its state. Functions that are NULL do nothing. */
typedef struct qe_search_way {
  qe_status (*open)(qe_searcher *s);
  void (*close)(qe_searcher *s);    /* own may be NULL */
  qe_status (*ask)(qe_searcher *s); /* fills what qe_search_room made; depends on what `save` keeps alone */
  qe_status (*tell)(qe_searcher *s, const double *value); /* no NaN in it; QE_NO_MEMORY changes nothing */
  qe_status (*changed)(qe_searcher *s);
  const char *(*stopped)(const qe_searcher *s);
  void (*centre)(const qe_searcher *s, double *at); /* reals as they are */
  void (*deviation)(const qe_searcher *s, double *deviation);
  qe_status (*save)(const qe_searcher *s, qe_tensors *state);
  qe_status (*load)(qe_searcher *s, const qe_tensors *state);
} qe_search_way;

extern const qe_search_way qe_search_way_cma, qe_search_way_random, qe_search_way_greedy, qe_search_way_distribution,
    qe_search_way_pareto;

/* Numbers of every searcher that its state has, in this order. */
#define SEARCH_NUMBER_LIST(X)                                                                                          \
  X(kind)                                                                                                              \
  X(n)                                                                                                                 \
  X(objectives)                                                                                                        \
  X(population)                                                                                                        \
  X(trials)                                                                                                            \
  X(generations)                                                                                                       \
  X(has_best)                                                                                                          \
  X(fronts)

struct qe_searcher {
  qe_searcher_options options;
  const qe_search_way *way;
  void *own;
  qe_search_variable *variable; /* [n] */
  double (*excess)(void *context, const double *x);
  void *context;
#define X(name) int64_t name;
  SEARCH_NUMBER_LIST(X)
#undef X
  bool asked;
  double *candidate; /* [count, n] */
  int32_t count;
  size_t capacity;    /* candidates */
  double best_excess; /* 0 or below: it is allowed */
  double *best, *best_value;
  double *front_at, *front_value; /* [fronts, n], [fronts, objectives]; none is better than another in all */
  size_t at_capacity, value_capacity;
};

/* ---- candidates ---- */

/* Makes room for the candidates of an ask. */
QE_CHECKED qe_status qe_search_room(qe_searcher *s, int32_t count);
static inline double *qe_search_candidate(const qe_searcher *s, int32_t k) {
  return s->candidate + (int64_t)k * s->n;
}
/* 0: x is allowed. */
double qe_search_excess(const qe_searcher *s, const double *x);
/* The nearest value that the variable can have. */
double qe_search_place(const qe_search_variable *v, double x);
double qe_search_range(const qe_search_variable *v); /* high - low */
void qe_search_start(const qe_searcher *s, double *x);

/* ---- draws: one sequence for each number of a trial ---- */

typedef struct qe_search_draws {
  uint64_t seed, index;
  uint32_t word[4];
  uint32_t used; /* 64 bits each */
} qe_search_draws;
qe_search_draws qe_search_draws_of(const qe_searcher *s, int64_t trial);
double qe_search_uniform(qe_search_draws *draws); /* in (0, 1) */
double qe_search_normal(qe_search_draws *draws);
int64_t qe_search_below(qe_search_draws *draws, int64_t bound); /* 0...bound - 1 */
double qe_search_anywhere(qe_search_draws *draws, const qe_search_variable *v);
/* Another value of the variable: of integers most often a neighbour, of reals one nearby, of choices any. */
double qe_search_other(qe_search_draws *draws, const qe_search_variable *v, double x);
/* Changes x by single steps of variables drawn at random, taking those that exceed less, until it is allowed or none is
 * found. */
void qe_search_repair(const qe_searcher *s, qe_search_draws *draws, double *x);

/* ---- state: reals as the bits of doubles ---- */

QE_CHECKED qe_status qe_search_put(qe_tensors *state, const char *name, int64_t count, const void *data);
/* QE_FORMAT unless the tensor is there and has `count` elements. */
QE_CHECKED qe_status qe_search_get(const qe_tensors *state, const char *name, int64_t count, void *data);
/* QE_FORMAT unless points [count, n] lie in the space. */
QE_CHECKED qe_status qe_search_check(const qe_searcher *s, const char *name, const double *at, int64_t count);

/* The candidates of the ask, those that exceed less first, then by their first value: order [count]. */
QE_CHECKED qe_status qe_search_order(const qe_searcher *s, const double *value, int32_t *order);

/* Whether a is nowhere worse than b and somewhere better. */
bool qe_search_dominates(const double *a, const double *b, int64_t objectives);
/* Whether two points are the same. */
bool qe_search_same(const double *a, const double *b, int64_t n);

#endif
