/* The stage `neighbours`: moves to neighbouring codes, tried by the true fitness. The simplest honest local search,
 * with which other proposals are compared.
 *
 * Each generation takes one layer, drawn in proportion to its weights. Every candidate moves some of its weights, drawn
 * at random and disjoint from the other candidates', one code up or down. Those that a fresh batch finds better than
 * the context are proposed: the best, the best quarter, the best half and all of them together; the true fitness
 * accepts (accept.h). Candidates move more weights after an acceptance, fewer after a refusal. */
#ifndef QE_EVOLVE_NEIGHBOURS_H
#define QE_EVOLVE_NEIGHBOURS_H

#include "core/evolve/accept.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_neighbours_options {
  int32_t candidates;  /* a generation */
  int32_t batch;       /* images they are tried on */
  int32_t moves;       /* weights that a candidate moves at first */
  int32_t generations; /* at most; 0: no bound */
  int32_t patience;    /* generations without an acceptance that end it; 0: no end */
  bool augmented;      /* candidates are tried on augmented images */
  qe_accept_options accept;
} qe_neighbours_options;

/* QE_USAGE when no weights are among what evolves. */
QE_CHECKED qe_status qe_neighbours_run(qe_evolution *evolution, const qe_neighbours_options *options);

#ifdef __cplusplus
}
#endif
#endif
