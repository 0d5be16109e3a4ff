/* Options of the stages that search requantisers and neighbouring codes. */
#include "tools/search_options.h"

#include <stdio.h>

static int32_t number(const qe_options *options, const char *stage, const char *name) {
  char full[64];
  snprintf(full, sizeof full, "%s-%s", stage, name);
  return (int32_t)qe_option_int(options, full);
}

static qe_accept_options read_accept(const qe_options *options, const char *stage, bool augmented) {
  return (qe_accept_options){
      .check = number(options, stage, "check"), .confirm = number(options, stage, "confirm"), .augmented = augmented};
}

static void read_moves(const qe_options *options, const char *stage, bool augmented, qe_move_search_options *search) {
  search->pairs = number(options, stage, "pairs");
  search->batch = number(options, stage, "batch");
  search->generations = number(options, stage, "generations");
  search->patience = number(options, stage, "patience");
  search->amplitude[QE_MOVE_GAIN] = number(options, stage, "gain");
  search->amplitude[QE_MOVE_OFFSET] = number(options, stage, "offset");
  search->augmented = augmented;
  search->accept = read_accept(options, stage, augmented);
}

void qe_read_gene_stages(const qe_options *options, qe_evolution_options *to) {
  read_moves(options, "layers", to->augmented, &to->layers.search);
  to->layers.search.amplitude[QE_MOVE_STEP] = number(options, "layers", "step");
  to->layers.steps = to->layers.search.amplitude[QE_MOVE_STEP] > 0;
  to->layers.gains = to->layers.search.amplitude[QE_MOVE_GAIN] > 0;
  to->layers.offsets = to->layers.search.amplitude[QE_MOVE_OFFSET] > 0;
  read_moves(options, "requant", to->augmented, &to->requant.search);
  to->requant.gains = to->requant.search.amplitude[QE_MOVE_GAIN] > 0;
  to->requant.offsets = to->requant.search.amplitude[QE_MOVE_OFFSET] > 0;
  to->neighbours = (qe_neighbours_options){.candidates = number(options, "neighbours", "candidates"),
                                           .batch = number(options, "neighbours", "batch"),
                                           .moves = number(options, "neighbours", "moves"),
                                           .generations = number(options, "neighbours", "generations"),
                                           .patience = number(options, "neighbours", "patience"),
                                           .augmented = to->augmented,
                                           .accept = read_accept(options, "neighbours", to->augmented)};
}
