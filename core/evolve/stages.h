/* The stages of a search, and running a list of them.
 *
 * To add a stage NAME:
 * 1. core/evolve/NAME.h declares `qe_NAME_options` and `qe_status qe_NAME_run(qe_evolution *, const qe_NAME_options
 * *)`.
 * 2. Here: include it, and add `qe_NAME_options NAME;` to qe_evolution_options.
 * 3. stages.c: a function of the table's type that hands the stage its options, and a row.
 * 4. core/evolve/NAME_options.def, as eda_options.def is: its options, "NAME-…" in the command; tools/option_table.c
 * and tools/search_options.c include it.
 *
 * A stage starts from the context (evolution->network, ->genome), and from evolution->state when that is not NULL: what
 * it saved in a run that was stopped. It ends each generation (or layer, or sweep) by qe_evolution_generation, changes
 * the context by qe_evolution_take or, for more than the genome, qe_evolution_renew, and returns QE_OK when it is done
 * or qe_evolution_left does not pay its next generation. */
#ifndef QE_EVOLVE_STAGES_H
#define QE_EVOLVE_STAGES_H

#include "core/evolve/eda.h"
#include "core/evolve/evolution.h"
#include "core/evolve/local.h"
#include "core/evolve/move_search.h"
#include "core/evolve/neighbours.h"
#include "core/evolve/scratch.h"
#include "core/evolve/votes.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_evolution_options {
  bool augmented;         /* fitness batches are augmented images */
  qe_local_options local; /* of the stage `calibrate`, too */
  qe_move_search_options layers, requant;
  qe_neighbours_options neighbours;
  qe_eda_options eda;
  qe_votes_options votes;
  qe_scratch_options scratch;
} qe_evolution_options;

typedef struct qe_search_stage {
  const char *name, *summary;
  qe_status (*run)(qe_evolution *evolution, const qe_evolution_options *options);
} qe_search_stage;

/* By number; NULL past the last. */
const qe_search_stage *qe_search_stage_get(int index);

enum { QE_MOST_STAGES = 32 };
/* The stages of a text such as "local,eda", in this order, into stage [QE_MOST_STAGES], NULL past the last; "": none.
 * QE_USAGE names the nearest stage for one that does not exist. */
QE_CHECKED qe_status qe_search_stages_find(const char *names, const qe_search_stage *stage[QE_MOST_STAGES]);

/* Runs the stages (NULL past the last) one after the other, from evolution->stages_done on: a resumed one takes up the
 * search where it was saved. `between` (may be NULL) is called with events.context before the first stage and after
 * every stage, each time before events.checkpoint; neither is called again when resumed. */
QE_CHECKED qe_status qe_evolution_run(qe_evolution *evolution, const qe_search_stage *const *stage,
                                      const qe_evolution_options *options,
                                      qe_status (*between)(void *context, qe_evolution *evolution));

#ifdef __cplusplus
}
#endif
#endif
