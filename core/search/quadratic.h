/* Coordinate descent on a quadratic form over the codes of a grid: which codes leave the least squared error.
 *
 * The error of codes w + D against that of w is D'GD + 2 r'D, with G the Gram matrix of the inputs and r the
 * correlation of inputs and residual at w. Nothing but G and r is needed, and the arithmetic is exact. */
#ifndef QE_SEARCH_QUADRATIC_H
#define QE_SEARCH_QUADRATIC_H

#include "core/base/pack.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_quadratic {
  int32_t size;        /* K */
  const int64_t *gram; /* [K, K], symmetric, no negative diagonal */
  qe_code_grid grid;
  bool pairs;       /* also moves of two codes at a time, where no single one helps */
  int32_t restarts; /* perturbed starts from the best codes, kept where they end better */
  uint64_t seed;    /* of the perturbations */
} qe_quadratic;

/* QE_REFUSED where sums of `rows` vectors `residual` [rows, K] with this matrix could pass 63 bits. */
QE_CHECKED qe_status qe_quadratic_check(const qe_quadratic *q, const int64_t *residual, int64_t rows);

/* Improves one row's codes [K] (on the grid) by moves to the next code, the best move first, the lowest index among
 * equals, until no move helps. `residual` [K]: r at the given codes; receives r at those found. `row` tells the draws
 * of rows apart. *change: of the squared error, 0 or less; *moves (or NULL): codes that changed. What
 * qe_quadratic_check refuses must not come here. */
QE_CHECKED qe_status qe_quadratic_descend(const qe_quadratic *q, uint64_t row, int8_t *codes, int64_t *residual,
                                          int64_t *change, int64_t *moves);

#ifdef __cplusplus
}
#endif
#endif
