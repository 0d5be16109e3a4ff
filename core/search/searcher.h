/* Searchers: one interface of all that look for good values of variables by trying them, whatever the variables are.
 *
 *   QE_TRY(qe_searcher_new(&space, &options, &searcher));
 *   while (!qe_searcher_stopped(searcher) && trials are left) {
 *     QE_TRY(qe_searcher_ask(searcher, &candidates, &count));
 *     for (k = 0; k < count; k++) evaluate candidates + k * n into value + k * objectives;
 *     QE_TRY(qe_searcher_tell(searcher, value));
 *   }
 *
 * Candidates are vectors of doubles in which integers and choices are whole. Candidates may repeat earlier ones: who
 * evaluates keeps what it knows. Draws depend on the seed and the number of the trial alone, so the same values give
 * the same search on one machine. No call uses more than the calling thread. */
#ifndef QE_SEARCH_SEARCHER_H
#define QE_SEARCH_SEARCHER_H

#include "core/base/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qe_search_kind {
  QE_SEARCH_INTEGER, /* ordered: low, low + 1, …, high */
  QE_SEARCH_REAL,
  QE_SEARCH_CHOICE /* of things without an order, numbered low…high */
} qe_search_kind;

typedef struct qe_search_variable {
  const char *name; /* for messages; may be NULL */
  qe_search_kind kind;
  double low,
      high;     /* inclusive and finite; integers and choices: whole, within +-2^31, low <= high; reals: low < high */
  double start; /* where the search begins, within the bounds */
} qe_search_variable;

enum { QE_SEARCH_VARIABLES = 4096, QE_SEARCH_OBJECTIVES = 8, QE_SEARCH_POPULATION = 1 << 16 }; /* at most */

typedef struct qe_search_space {
  int32_t n;
  const qe_search_variable *variable; /* [n], copied; names stay the caller's */
  int32_t objectives;                 /* 1…QE_SEARCH_OBJECTIVES; more than one: pareto only. All are minimised */
  /* How far x [n] is beyond what is allowed, 0 or below: it is allowed. Costs next to nothing and depends on x alone;
   * NULL: all is allowed. random, distribution and pareto ask only for what is allowed where they find such, as greedy
   * does when it proposes; its single changes may exceed. cma does not look at it: add a penalty to the values. */
  double (*excess)(void *context, const double *x);
  void *context;
} qe_search_space;

/* The searchers: identifier, name, what it is. */
#define QE_SEARCHER_LIST(X)                                                                                            \
  X(CMA, "cma", "CMA-ES with margin: an adapting normal distribution")                                                 \
  X(RANDOM, "random", "independent draws, the start first")                                                            \
  X(GREEDY, "greedy", "single changes first, then steps in the order of their loss for what they save")                \
  X(DISTRIBUTION, "distribution", "probabilities of the values of each variable, learned from the best of each draw")  \
  X(PARETO, "pareto", "NSGA-II: several objectives, a front of what none is better than in all")

typedef enum qe_searcher_kind {
#define X(id, name, text) QE_SEARCHER_##id,
  QE_SEARCHER_LIST(X)
#undef X
      QE_SEARCHERS
} qe_searcher_kind;

/* The names with | before each. */
#define QE_SEARCHER_BARRED(id, name, text) "|" name
#define QE_SEARCHER_WORDS QE_SEARCHER_LIST(QE_SEARCHER_BARRED)

typedef struct qe_searcher_options {
  qe_searcher_kind kind;
  int32_t population; /* candidates of a generation, at most QE_SEARCH_POPULATION; 0: the searcher's own. greedy: of an
                         ask at most */
  double width;       /* of the first draws, in parts of each variable's range: (0, 1]; 0: the searcher's own */
  double rate;        /* distribution: how much a generation teaches, (0, 1]; 0: 0.2. Others: not used */
  uint64_t seed;
} qe_searcher_options;

typedef struct qe_searcher qe_searcher;

const char *qe_searcher_name(qe_searcher_kind kind);
const char *qe_searcher_text(qe_searcher_kind kind);
/* The searcher of that name, or QE_SEARCHERS. */
qe_searcher_kind qe_searcher_find(const char *name);

/* QE_USAGE with the variable or the option that is out of its bounds. */
QE_CHECKED qe_status qe_searcher_new(const qe_search_space *space, const qe_searcher_options *options,
                                     qe_searcher **searcher);
void qe_searcher_free(qe_searcher *searcher); /* NULL is fine */

/* The candidates [count, n] of the next trial: the same ones until qe_searcher_tell, valid until then. Counts differ
 * from ask to ask. QE_USAGE where the search has stopped; QE_NO_MEMORY changes nothing. */
QE_CHECKED qe_status qe_searcher_ask(qe_searcher *searcher, const double **candidates, int32_t *count);
/* Their values [count, objectives], smaller is better; NaN is worse than anything. QE_USAGE unless candidates were
 * asked for; QE_NO_MEMORY changes nothing. */
QE_CHECKED qe_status qe_searcher_tell(qe_searcher *searcher, const double *value);
/* The function has changed (the network was trained on, other images): values told so far count no more. Distributions
 * stay; where a searcher keeps single points (greedy, pareto), it asks for them again. Candidates that were asked for
 * and not told are asked for anew. */
QE_CHECKED qe_status qe_searcher_changed(qe_searcher *searcher);

/* Why there is nothing more to ask; NULL: there is. */
const char *qe_searcher_stopped(const qe_searcher *searcher);

/* The best candidate [n] by the first objective among those that are allowed (where none is: that exceeds least), and
 * its values [objectives] (may be NULL); NULL before there is one below infinity. */
const double *qe_searcher_best(const qe_searcher *searcher, double *value);
/* Where the next draws lie: their mean, whole numbers rounded; choices: the likeliest. at [n]. */
void qe_searcher_centre(const qe_searcher *searcher, double *at);
/* How much the next draws of each variable differ: standard deviation; choices: 1 - the largest probability. [n] */
void qe_searcher_deviation(const qe_searcher *searcher, double *deviation);

/* The allowed candidates that no other told one is better than in all objectives, by the first objective; each once.
 * One objective: the best. Valid until the next call that changes the searcher. */
typedef struct qe_search_front {
  int32_t count;
  const double *at;    /* [count, n] */
  const double *value; /* [count, objectives] */
} qe_search_front;
qe_search_front qe_searcher_front(const qe_searcher *searcher);

int64_t qe_searcher_trials(const qe_searcher *searcher); /* candidates told */
int64_t qe_searcher_generations(const qe_searcher *searcher);

/* All that the next candidates depend on, as tensors "search.…" and "cma.…" added to `state`; and back, into a searcher
 * made with the same space and options, which then goes on with the same bits. Candidates asked for and not told are
 * asked for again. qe_searcher_load: QE_FORMAT with the tensor where the state is damaged or of another search; it, and
 * QE_NO_MEMORY, leave a searcher that only fits qe_searcher_free or another qe_searcher_load. */
QE_CHECKED qe_status qe_searcher_save(const qe_searcher *searcher, qe_tensors *state);
QE_CHECKED qe_status qe_searcher_load(qe_searcher *searcher, const qe_tensors *state);

#ifdef __cplusplus
}
#endif
#endif
