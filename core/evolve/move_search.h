/* Search over moves of requantisers: the stages `layers` and `requant`.
 *
 * Each generation tries pairs of candidates, genes up in one and down in the other by random signs; the pairs'
 * ranked differences of loss on one fresh batch are votes for each gene, which a momentum gathers. Proposals move the
 * genes with the most votes: all, a part, few of them; the best candidate stands among them. The true fitness accepts
 * (accept.h). Before all that the scale of the logits is fitted where it is a gene. Amplitudes grow with every
 * acceptance and shrink with every refusal. */
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
  int32_t amplitude[QE_MOVE_KINDS]; /* of a usual move, in the units of moves.h; 0: there are none */
  int32_t spread;                   /* one gene of so many moves in a pair; 1: all do */
  int32_t generations;              /* at most; 0: no bound */
  int32_t patience;                 /* generations without an acceptance that end it; 0: no end */
  bool augmented;                   /* candidates are tried on augmented images */
  qe_accept_options accept;
} qe_move_search_options;

/* The stages. They change the evolution's network by moves of the kinds that have an amplitude; its genome, layout and
 * fitness are made anew at the end.
 * `layers`: genes of whole layers, some dozens. `requant`: the multiplier of every branch and the offset of every
 * channel, some thousands; no steps, which the channels of a code tensor share. */
QE_CHECKED qe_status qe_layers_run(qe_evolution *evolution, const qe_move_search_options *options);
QE_CHECKED qe_status qe_requant_run(qe_evolution *evolution, const qe_move_search_options *options);

#ifdef __cplusplus
}
#endif
#endif
