/* Search over moves of requantisers: what the stages `layers` and `requant` have in common.
 *
 * Each generation tries pairs of candidates, every gene up in one and down in the other by a random sign; the pairs'
 * ranked differences of loss on one fresh batch are votes for each gene, which a momentum gathers. Proposals move the
 * genes with the most votes: all, a part, few of them; the best candidate stands among them. The true fitness accepts
 * (accept.h). Amplitudes grow with every acceptance and shrink with every refusal. */
#ifndef QE_EVOLVE_MOVE_SEARCH_H
#define QE_EVOLVE_MOVE_SEARCH_H

#include "core/evolve/accept.h"
#include "core/evolve/evolution.h"
#include "core/evolve/moves.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_move_search_options {
  int32_t pairs;                    /* of candidates, a generation */
  int32_t batch;                    /* images they are tried on */
  int32_t amplitude[QE_MOVE_KINDS]; /* of a usual move, in the units of moves.h */
  int32_t generations;              /* at most; 0: no bound */
  int32_t patience;                 /* generations without an acceptance that end it; 0: no end */
  bool augmented;                   /* candidates are tried on augmented images */
  qe_accept_options accept;
} qe_move_search_options;

/* Changes the evolution's network by moves of these kinds; its genome, layout and fitness are made anew at the end. */
QE_CHECKED qe_status qe_move_search(qe_evolution *evolution, const qe_moves_options *kinds,
                                    const qe_move_search_options *options);

#ifdef __cplusplus
}
#endif
#endif
