/* The stage `layers`: its genes handed to the search over moves. */
#include "core/evolve/layers.h"

qe_status qe_layers_run(qe_evolution *evolution, const qe_layers_options *options) {
  qe_moves_options kinds = {
      .kind = {[QE_MOVE_STEP] = options->steps, [QE_MOVE_GAIN] = options->gains, [QE_MOVE_OFFSET] = options->offsets}};
  return qe_move_search(evolution, &kinds, &options->search);
}
