/* Training a low-bit integer network from random codes, with integers only: votes, sums of low-bit errors times the
 * codes that a layer reads, move integer counters behind the codes; every requantiser is calibrated anew each step.
 * Where the errors come from is an option. */
#ifndef QE_EVOLVE_SCRATCH_H
#define QE_EVOLVE_SCRATCH_H

#include "core/base/safetensors.h"
#include "core/data/dataset.h"
#include "core/dispatch/dispatch.h"
#include "core/dispatch/network.h"

#ifdef __cplusplus
extern "C" {
#endif

#define QE_VOTES_LIST(X)                                                                                               \
  X(HEADS, "heads")       /* each block's own small classifier on its pooled codes: the exact local error */           \
  X(FEEDBACK, "feedback") /* matrices learned by node perturbation carry the softmax error to every layer */           \
  X(BACKPROP, "backprop") /* integer back-propagation of low-bit errors, straight through */                           \
  X(NODES, "nodes")       /* node perturbation: noise on activations, times the change of loss */                      \
  X(RANK1, "rank1")       /* weight perturbation of rank one, times the sign of the change of loss */

typedef enum qe_votes_from {
#define X(id, name) QE_VOTES_##id,
  QE_VOTES_LIST(X)
#undef X
      QE_VOTES_SOURCES
} qe_votes_from;

typedef struct qe_scratch_options {
  qe_votes_from votes_from;
  int32_t batch;      /* images a step */
  int32_t rate;       /* units of a counter a step at the start, times 256; it falls linearly to 0 over the budget */
  int32_t error_bits; /* 2...8 */
  int32_t span;       /* random codes spread over span / 256 of their grid */
  int32_t cells;      /* local heads see the map as cells x cells means */
  int32_t pad;        /* augmentation */
  bool flip;
} qe_scratch_options;

#ifdef __cplusplus
}
#endif
#endif
