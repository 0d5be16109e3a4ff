/* Training a low-bit integer network from random codes, with integers only: votes, sums of low-bit errors times the
 * codes that a layer reads, move integer counters behind the codes; every requantiser is calibrated anew each step.
 * Where the errors come from is an option. */
#ifndef QE_EVOLVE_SCRATCH_H
#define QE_EVOLVE_SCRATCH_H

#include "core/evolve/evolution.h"

#ifdef __cplusplus
extern "C" {
#endif

#define QE_SCRATCH_SOURCE_LIST(X)                                                                                      \
  X(HEADS, "heads")       /* each block's own small classifier on its pooled codes: the exact local error */           \
  X(FEEDBACK, "feedback") /* matrices learned by node perturbation carry the softmax error to every layer */           \
  X(BACKPROP, "backprop") /* integer back-propagation of low-bit errors, straight through */                           \
  X(NODES, "nodes")       /* node perturbation: noise on activations, times the change of loss */                      \
  X(RANK1, "rank1")       /* rank-one perturbation of the weights: the sign of the change of the batch's loss */

typedef enum qe_scratch_source {
#define X(id, name) QE_SCRATCH_##id,
  QE_SCRATCH_SOURCE_LIST(X)
#undef X
      QE_SCRATCH_SOURCES
} qe_scratch_source;

/* scratch_options.def says what each is. */
typedef struct qe_scratch_options {
#define QE_SCRATCH_INT(field, name, initial, least, most, help) int64_t field;
#include "core/evolve/scratch_options.def"
#undef QE_SCRATCH_INT
  qe_scratch_source source;
  int32_t pad; /* augmentation */
  bool flip;
  int32_t cutout, jitter[QE_JITTERS];
} qe_scratch_options;

/* By name, QE_SCRATCH_SOURCES when there is none. */
qe_scratch_source qe_scratch_source_find(const char *name);

/* Trains a network of the context's layers and grids from random codes; augmentation by evolution->measure. Needs a
 * budget. QE_REFUSED names a layer that has no rule. */
QE_CHECKED qe_status qe_scratch_run(qe_evolution *evolution, const qe_scratch_options *options);

#ifdef __cplusplus
}
#endif
#endif
