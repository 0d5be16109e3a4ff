/* Stages of an integer network: what an engine runs as one kernel. A stage is a producer of sums with the requantiser
 * that reads them, the skip connection that meets them there and the coarser code made from the result; or a move of
 * codes. Tensors are named by the number of the layer that makes them. */
#ifndef QE_DISPATCH_STAGES_H
#define QE_DISPATCH_STAGES_H

#include "core/dispatch/network.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_NO_LAYER = -1 };

typedef enum qe_stage_kind {
  QE_STAGE_GATHER,    /* images to codes; always stage 0 */
  QE_STAGE_CONV,      /* sums of one convolution or two, requantised */
  QE_STAGE_SUM_POOL,  /* sums of a window, requantised */
  QE_STAGE_LOAD,      /* codes of one tensor or two, requantised */
  QE_STAGE_MAX_POOL,  /* codes to codes */
  QE_STAGE_SUBSAMPLE, /* codes to codes */
} qe_stage_kind;

/* What makes sums, or moves codes. */
typedef struct qe_stage_source {
  int32_t layer;    /* of the network; QE_NO_LAYER: there is none */
  int32_t tensor;   /* that it reads */
  qe_window window; /* as it is applied to that tensor: a linear layer on a flattened map has the whole map as kernel */
} qe_stage_source;

typedef struct qe_stage {
  qe_stage_kind kind;
  qe_stage_source from[2]; /* the second where sums of two convolutions meet */
  int32_t requant;         /* layer of the requantiser; QE_NO_LAYER: none */
  int32_t coarser;         /* layer of a second requantiser, a shift with halves up of the first one's codes */
  int32_t skip;            /* tensor of the other branch of the requantiser where that is codes; else QE_NO_LAYER */
  int32_t sums_branch;     /* 0 or 1: which branch of the requantiser from[0]'s sums are; from[1] is the other */
  int32_t output[2];       /* tensors that must be stored: the requantiser's (or the move's) codes, the coarser ones */
} qe_stage;

typedef struct qe_stages {
  const qe_network *network;
  qe_stage *stage; /* in the order of the layers; the last one gives the logits */
  size_t stages, capacity;
  int32_t *stage_of; /* [layers]: the stage that a layer is part of */
  int32_t *reader;   /* [layers]: last stage that reads the layer's tensor; QE_NO_LAYER: it is not stored or not read */
} qe_stages;

/* NULL, or why a network cannot be cut into stages (static text): sums that are not read by one requantiser, ... */
const char *qe_stages_refuse(const qe_network *network);
/* `evolves` [layers]: layers whose constants are a genome's; a coarser requantiser that evolves is no part of its
 * source's stage. NULL: none does. The network must not be refused. */
QE_CHECKED qe_status qe_stages_new(const qe_network *network, const bool *evolves, qe_stages **stages);
void qe_stages_free(qe_stages *stages); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
