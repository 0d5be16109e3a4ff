/* Flips: moves of codes to the next code of their grid, proposed by noisy votes. A vote of a group of samples on a code
 * is positive where a larger code raises the loss; the sum over the groups says which way and how strongly, the sum of
 * squares how sure that is. */
#ifndef QE_SEARCH_FLIPS_H
#define QE_SEARCH_FLIPS_H

#include "core/base/pack.h"
#include "core/base/status.h"
#include "core/base/wide.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_vote_sums {
  int64_t count;   /* codes */
  int64_t *sum;    /* [count], below 2^62 in magnitude */
  qe_u128 *square; /* [count], of the groups' votes */
} qe_vote_sums;

QE_CHECKED qe_status qe_vote_sums_new(int64_t count, qe_vote_sums *sums);
void qe_vote_sums_free(qe_vote_sums *sums); /* of zeros is fine */
void qe_vote_sums_add(qe_vote_sums *sums, const int64_t *votes);

/* The codes that can go against their votes and whose votes are at least `least` / 16 standard deviations from 0 (of a
 * mean of 0 and the groups' own spread), strongest first, ties by the lowest index; order [count]. Strength is |sum|
 * times the row's scale, 0...2^15; scale [rows], the codes' rows are equally long; NULL: all 1. *flips: how many. */
QE_CHECKED qe_status qe_flips_rank(const qe_vote_sums *sums, const qe_code_grid *grid, const int8_t *codes,
                                   const int32_t *scale, int64_t rows, int32_t least, int32_t *order, int64_t *flips);

/* A proposal. Flips of a variant other than 0 are a random half of twice as many, so that proposals differ. */
typedef struct qe_flips_choice {
  int64_t flips; /* that are wanted */
  uint64_t seed, variant;
} qe_flips_choice;

/* The codes' curvature: moves D of a row change the loss by about sum * D + pull * D'GD / (2 scale), with one unknown
 * pull for all rows. */
typedef struct qe_flips_curve {
  int64_t rows;
  const int64_t *gram;  /* [K, K], K = codes of a row */
  const int32_t *scale; /* [rows], as above, not NULL */
  int32_t least;        /* as above: less sure votes count as 0 */
} qe_flips_curve;

/* Moves codes to a local minimum of this form (quadratic.h). The pull is such that about `flips` codes would gain by a
 * move of their own, and doubles from step to step. *moved: codes that changed; 0 where sums do not fit.
 */
QE_CHECKED qe_status qe_flips_descend(const qe_vote_sums *sums, const qe_code_grid *grid, const qe_flips_curve *curve,
                                      int64_t flips, int32_t step, int8_t *codes, int64_t *moved);
/* Whether a vote is sure enough, as above. */
bool qe_flips_is_sure(const qe_vote_sums *sums, int64_t i, int32_t least);

/* Codes with the first ones of order [flips] moved one code against their votes. Returns how many moved. */
int64_t qe_flips_make(const qe_vote_sums *sums, const qe_code_grid *grid, const int32_t *order, int64_t flips,
                      const qe_flips_choice *choice, int8_t *codes);

#ifdef __cplusplus
}
#endif
#endif
