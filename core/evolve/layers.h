/* The stage `layers`: activation steps, clips, weight steps and offsets of whole layers. */
#ifndef QE_EVOLVE_LAYERS_H
#define QE_EVOLVE_LAYERS_H

#include "core/evolve/move_search.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Layer-level genes: the activation step (and with it the clip) of every code tensor, the weights' step of every layer,
 * a whole layer's offset. Some dozens of genes, so that whole networks are evaluated for each of them together. */
typedef struct qe_layers_options {
  bool steps, gains, offsets; /* kinds of moves (moves.h) */
  qe_move_search_options search;
} qe_layers_options;

QE_CHECKED qe_status qe_layers_run(qe_evolution *evolution, const qe_layers_options *options);

#ifdef __cplusplus
}
#endif
#endif
