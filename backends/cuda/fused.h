/* The engine `fused`: a whole CIFAR-size integer network by one kernel, activations in shared memory.
 *
 * fused_plan.c: stages and maps of the network, what the kernel reads of them. fused_constants.c: constants and how
 * they are prepared. fused.c: populations in chunks. The kernels are kernels_cu/fused.cu and fused_prepare.cu. */
#ifndef QE_BACKENDS_CUDA_FUSED_H
#define QE_BACKENDS_CUDA_FUSED_H

#include "backends/cuda/cuda.h"
#include "core/dispatch/population.h"
#include "core/dispatch/stages.h"
#include "kernels_cu/fused.h"

/* A tensor's codes in shared memory. */
typedef struct fused_map {
  bool stored;
  int32_t height, width, channels;
  int32_t words;         /* of a pixel; one that holds all channels only where QK_FUSED_PIXELS */
  int32_t ring[4];       /* top, left, bottom, right */
  int64_t row, pixel;    /* bytes */
  int64_t bytes, offset; /* of the whole with its ring, in the arena */
  int32_t first, last;   /* stages */
  int32_t root;          /* tensor whose place it takes over, or itself */
} fused_map;

typedef struct fused_plan {
  const qe_network *network;
  const qe_genome_layout *layout;
  qe_stages *stages;
  bool *evolves;  /* [layers] */
  fused_map *map; /* [layers] */
  int32_t *chunk; /* offsets of a window's chunks of 16 codes, by stage; equal ones once */
  size_t chunks, chunk_capacity;
  int32_t *place; /* which part of a window a chunk is, by stage (kernels_cu/fused.h) */
  size_t places, place_capacity;
  size_t shared_bytes; /* of a thread block */
  size_t own_bytes, common_bytes;
  qk_params_fused params;
  /* Convolutions and requantisers whose constants come from a genome, and convolutions of the network itself. */
  qk_params_fused_weights own_weights, common_weights;
  qk_params_fused_constants own_constants;
  int32_t own_layers, common_layers, own_requants;
  size_t packed_bytes; /* of the network's own weights */
} fused_plan;

/* NULL, or why no plan can be made (static text), whatever evolves. */
const char *fused_refuse(const qe_device *base, const qe_network *network);
/* QE_REFUSED where it needs more shared memory than the device has. */
QE_CHECKED qe_status fused_plan_new(const cuda_device *device, const qe_network *network,
                                    const qe_genome_layout *layout, fused_plan **plan);
void fused_plan_free(fused_plan *plan); /* NULL is fine */

/* fused_constants.c: fills what the stage's kernel reads of the requantiser; and of the weights, whose places start at
 * `place`. */
void fused_plan_requant(fused_plan *plan, const qe_stage *stage, qk_fused_stage *to);
void fused_plan_weights(fused_plan *plan, const qe_stage_source *from, qk_int place, qk_fused_source *to);
/* The network's own constants: common [plan->common_bytes], all but weights; packed [plan->packed_bytes], the weights.
 */
void fused_fill_common(const fused_plan *plan, void *common, void *packed);

extern const qe_network_engine cuda_fused_engine;

#endif
