/* The stage `requant`: its genes handed to the search over moves. */
#include "core/evolve/requant.h"

qe_status qe_requant_run(qe_evolution *evolution, const qe_requant_options *options) {
  qe_moves_options kinds = {.kind = {[QE_MOVE_GAIN] = options->gains, [QE_MOVE_OFFSET] = options->offsets},
                            .by_channel = true};
  return qe_move_search(evolution, &kinds, &options->search);
}
