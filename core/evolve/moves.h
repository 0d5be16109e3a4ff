/* Moves of requantisers: the integers of a network that are no weights, as genes.
 *
 * An integer network has no steps, only multipliers M, offsets B and shifts S. What a step was is found in them again:
 * - STEP: the step of a code tensor times 2^(v / 256). Its requantiser's M and B (but for the rounding half) are
 * divided by that, and M of every requantiser's branch that reads the codes is multiplied: through convolutions, pools,
 * moves and coarser codes made by a shift, which are scaled with it. The function stays but for rounding; the clip,
 * which is the step times the largest code, moves. Of the logits it is their scale.
 * - GAIN: M of one branch times 2^(v / 256), nothing else: the step of the weights before it, or of one channel's.
 * - OFFSET: B plus v / 64 of a code: of the coarser code where one is made by a shift, else of a code, but at least of
 *   1/16 of the range. */
#ifndef QE_EVOLVE_MOVES_H
#define QE_EVOLVE_MOVES_H

#include "core/dispatch/genome.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qe_move_kind { QE_MOVE_STEP, QE_MOVE_GAIN, QE_MOVE_OFFSET, QE_MOVE_KINDS } qe_move_kind;

typedef struct qe_move {
  qe_move_kind kind;
  int32_t layer;   /* the requantiser */
  int32_t branch;  /* GAIN */
  int32_t channel; /* -1: all */
} qe_move;

typedef struct qe_moves {
  qe_move *move; /* in the order of the layers */
  size_t moves, capacity;
  qe_genome_layout *layout; /* every requantiser's M and B but those of coarser codes, no weight */
  int32_t *coarse;   /* [layers]: shift of the coarser code made of a tensor; -1: the layer itself is such a shift */
  int32_t *exponent; /* [layers], scratch */
  size_t layers;
} qe_moves;

typedef struct qe_moves_options {
  bool kind[QE_MOVE_KINDS]; /* which there are */
  bool by_channel;          /* GAIN and OFFSET of every channel for itself, of both branches; else of the layer, of the
                               branches that are sums */
} qe_moves_options;

/* QE_USAGE when there is nothing to move. */
QE_CHECKED qe_status qe_moves_new(const qe_network *network, const qe_moves_options *options, qe_moves **moves);
void qe_moves_free(qe_moves *moves); /* NULL is fine */

/* The network's M and B after moves `value` [moves->moves], as a genome of moves->layout. False, and the network's own
 * values in the genome, where sums could then pass 64 bits. */
bool qe_moves_apply(const qe_moves *moves, const qe_network *network, const int32_t *value, void *genome);

#ifdef __cplusplus
}
#endif
#endif
