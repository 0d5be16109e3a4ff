/* Estimation of distribution: a probability for each candidate value of every variable, in integers.
 *
 * Variables take values 0...most. A variable's candidates are consecutive values; its probabilities are counts with the
 * exact sum QE_EDA_ONE. Update as in Baluja, "Population-based incremental learning", 1994, and Muehlenbein, "The
 * equation for response to selection", 1997 (UMDA), with more than two values. */
#ifndef QE_SEARCH_EDA_H
#define QE_SEARCH_EDA_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  QE_EDA_ONE = 32768,        /* probability 1 */
  QE_EDA_CANDIDATES = 16,    /* of a variable at most */
  QE_EDA_INDIVIDUALS = 2048, /* of a sample at most */
  QE_EDA_SPREAD = 4096,      /* largest qe_eda_prior.spread */
  QE_EDA_FLOOR = 1024,       /* largest qe_eda_prior.floor */
  QE_EDA_STEP = 256          /* from a value to the next, for qe_eda_lean */
};

/* What a distribution is before anything is known. */
typedef struct qe_eda_prior {
  int32_t radius; /* candidates: values at most so far from the centre; 0: all, as far as QE_EDA_CANDIDATES reach */
  int32_t spread; /* probability of each neighbour of the centre, half of it one value further, and so on */
  int32_t floor;  /* least probability of a candidate, at the start and after any update */
  bool uniform;   /* all candidates alike instead */
} qe_eda_prior;

typedef struct qe_eda {
  int64_t count; /* variables; at most 2^28 */
  int32_t width; /* places for probabilities that each variable has: its candidates are at most so many */
  qe_eda_prior prior;
  uint16_t *share;     /* [count, width] in units of 1 / QE_EDA_ONE; places beyond the candidates are 0 */
  uint8_t *first;      /* [count]: value of candidate 0 */
  uint8_t *candidates; /* [count] */
  uint8_t *most;       /* [count]: largest value */
} qe_eda;

/* What a random choice is for: draws with the same numbers are the same. */
typedef struct qe_eda_draw {
  uint64_t seed;
  uint32_t stream;
  uint32_t number; /* below 2^28 */
} qe_eda_draw;

/* most, centre: [count], centre <= most. QE_USAGE where the prior is out of its bounds. */
QE_CHECKED qe_status qe_eda_new(int64_t count, const uint8_t *most, const uint8_t *centre, const qe_eda_prior *prior,
                                qe_eda **eda);
void qe_eda_free(qe_eda *eda); /* NULL is fine */

/* Make a variable's candidates those around `centre`. Its probabilities must then be made anew by qe_eda_flatten. */
void qe_eda_recentre(qe_eda *eda, int64_t variable, int32_t centre);
/* Make a variable's probabilities the prior around `value`, one of its candidates. */
void qe_eda_flatten(qe_eda *eda, int64_t variable, int32_t value);

/* The same where it is known that the true value lies `lean` / QE_EDA_STEP beside `value`, between -QE_EDA_STEP and
 * QE_EDA_STEP: a neighbour gets 4 p^2 times what the prior gives it, p = 1/2 + lean towards it, 0...1, so that values
 * on the edge between two are the least confident. */
void qe_eda_lean(qe_eda *eda, int64_t variable, int32_t value, int32_t lean);

/* Candidates (not values) of `individuals` independent samples of the variables list [count] to choice [individuals,
 * count]. What a variable gets depends on the draw, the variable and the individual alone. */
void qe_eda_sample(const qe_eda *eda, const qe_eda_draw *draw, const int32_t *list, int64_t count, int32_t individuals,
                   uint8_t *choice);
/* P <- (1 - rate) P + rate * frequency among the individuals best [chosen], but for the floor: what lies above it moves
 * so. rate 0...QE_EDA_ONE; choice as sampled. QE_NO_MEMORY changes nothing. */
QE_CHECKED qe_status qe_eda_update(qe_eda *eda, const int32_t *list, int64_t count, const uint8_t *choice,
                                   const int32_t *best, int32_t chosen, int32_t rate);

/* The most probable candidate, the lowest of equal ones, and its probability: the confidence in its value. */
int32_t qe_eda_argmax(const qe_eda *eda, int64_t variable);
int32_t qe_eda_confidence(const qe_eda *eda, int64_t variable);
/* How many of the variables start...stop-1 have confidences in each of `bins` equal parts of 0...QE_EDA_ONE. */
void qe_eda_histogram(const qe_eda *eda, int64_t start, int64_t stop, int64_t *bin, int32_t bins);
/* All variables, the least confident first, equal ones in random order; order [count]. */
QE_CHECKED qe_status qe_eda_by_confidence(const qe_eda *eda, const qe_eda_draw *draw, int32_t *order);
/* A word for one variable of a draw, for random orders. */
uint32_t qe_eda_word(const qe_eda_draw *draw, int64_t variable);

/* QE_FORMAT with the variable where the arrays, filled in from a checkpoint, are no distribution. */
QE_CHECKED qe_status qe_eda_check(const qe_eda *eda);

#ifdef __cplusplus
}
#endif
#endif
