/* The engine `lanes`: a whole integer network on chunks of images that stay in cache, images in vector lanes.
 *
 * plan: the network's layers become stages, each a producer of sums with its requantiser, or a move of codes, and maps
 * in lanes between them. weights: a candidate's codes in the forms that the kernels read. run: stages over one chunk of
 * images. engine: candidates, chunks and threads. */
#ifndef QE_BACKENDS_CPU_NETWORK_H
#define QE_BACKENDS_CPU_NETWORK_H

#include "backends/cpu/cpu.h"
#include "backends/cpu/lanes.h"
#include "core/base/alloc.h"
#include "core/dispatch/population.h"
#include "core/dispatch/stages.h"

#include <stdatomic.h>

enum { CPU_MAX_FORMS = 12, CPU_NONE = QE_NO_LAYER };

/* Rounded up to whole cache lines. */
static inline size_t cpu_aligned(size_t bytes) {
  return (bytes + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
}

/* Codes of one tensor for a chunk of images, in lanes; all strides and offsets in bytes. */
typedef struct cpu_lane_map {
  int32_t height, width, channels;
  int32_t zero, most; /* stored value of code 0, largest stored value */
  cpu_packing packing;
  int32_t ring[4]; /* pixels of code 0: top, left, bottom, right */
  int32_t vectors; /* a pixel */
  bool planes;     /* one image, its positions in lanes: a plane a pair of channels */
  int32_t pitch;   /* pixels from a row to the next */
  int64_t row, pixel, vector;
  size_t bytes, origin;  /* of the whole; of pixel (0, 0) */
  int32_t written, read; /* stage that writes it, last stage that reads it */
  size_t offset;         /* in the arena */
} cpu_lane_map;

/* What makes sums, or moves codes, of one map. */
typedef struct cpu_producer {
  int32_t layer;                       /* of the network; CPU_NONE: there is no such producer */
  int32_t input;                       /* map */
  cpu_conv_shape shape;                /* the window on it */
  const cpu_form *form[CPU_MAX_FORMS]; /* convolutions: best first, the last takes all weights */
  int32_t forms;
  size_t prepared_bytes;
  bool columns; /* planes: the window's taps are copied out first, one plane set a tap */
} cpu_producer;

typedef struct cpu_stage {
  qe_stage_kind kind;
  cpu_producer from[2]; /* the second where sums of two convolutions meet */
  int32_t requant;      /* layer of the requantiser; CPU_NONE: none */
  int32_t coarser;      /* layer of a second requantiser, a shift of the first one's codes; CPU_NONE: none */
  int32_t skip;         /* map */
  int32_t sums_branch;  /* 0 or 1: which branch of the requantiser the sums of from[0] are */
  int32_t output[2];    /* maps of the requantiser's codes and of the coarser ones; moves: output[0] */
  int32_t rows, block;  /* output rows and sites of a run */
  size_t requant_bytes;
} cpu_stage;

typedef struct cpu_network {
  const qe_network *network;
  const cpu_lane_kernels *kernels;
  cpu_stage *stage;
  cpu_lane_map *map;
  size_t stages, maps, map_capacity;
  bool single;       /* one image a chunk: maps of more than one pixel are planes */
  int32_t *map_of;   /* [layers]: map of the layer's codes, CPU_NONE where there is none */
  int32_t *stage_of; /* [layers]: stage that a layer is part of */
  int32_t classes;
  size_t arena_bytes;                              /* maps of one chunk */
  size_t sums_bytes, scratch_bytes, columns_bytes; /* of one thread */
} cpu_network;

/* form_order.c: QE_USAGE when $QEVO_CPU_FORM names no form. */
QE_CHECKED qe_status cpu_form_check(const cpu_lane_kernels *kernels);
/* All forms, the ones to try first in front; returns how many. `order` has CPU_MAX_FORMS places. */
int32_t cpu_form_order(const cpu_lane_kernels *kernels, const cpu_conv_shape *shape, bool single,
                       const cpu_form **order);

/* NULL, or why the engine does not take the network. */
const char *cpu_network_refuse(const qe_network *network);
/* `evolves` [layers]: layers whose constants differ between candidates. `single`: a plan for one image at a time;
 * QE_REFUSED where the network has no such form. */
QE_CHECKED qe_status cpu_network_new(const qe_network *network, const bool *evolves, const cpu_lane_kernels *kernels,
                                     bool single, cpu_network **plan);
void cpu_network_free(cpu_network *plan);

/* Constants of one stage as its kernels read them. */
typedef struct cpu_stage_weights {
  const cpu_form *form[2]; /* of each producer that is a convolution */
  void *prepared[2], *requant;
} cpu_stage_weights;

/* What a stage's constants are made from: the network's own, or a candidate's. */
typedef struct cpu_stage_source {
  const int8_t *weight[2];
  const int32_t *multiplier[2];
  const int64_t *offset;
} cpu_stage_source;

cpu_stage_source cpu_stage_source_of(const cpu_network *plan, const cpu_stage *stage);
/* Bytes of a stage's constants; 0 when it has none. */
size_t cpu_stage_weight_bytes(const cpu_stage *stage);
/* Fill `memory` (cpu_stage_weight_bytes, aligned to QE_ALIGNMENT). */
QE_CHECKED qe_status cpu_stage_prepare(const cpu_network *plan, const cpu_stage *stage, const cpu_stage_source *source,
                                       void *memory, cpu_stage_weights *weights);

/* Memory of one thread. `arena` and `parent` [arena_bytes] start with the maps' rings filled (cpu_network_rings). */
typedef struct cpu_workspace {
  uint8_t *arena, *parent;
  void *sums[2], *scratch;
  uint8_t *columns;
  int32_t *logits; /* [classes][lanes] */
} cpu_workspace;

size_t cpu_workspace_bytes(const cpu_network *plan);
/* Lay the parts out in cpu_workspace_bytes of memory and fill the rings. */
void cpu_workspace_set(const cpu_network *plan, void *memory, cpu_workspace *workspace);

typedef struct cpu_chunk {
  const uint8_t *image[CPU_MAX_LANES]; /* NULL: the lane is not used */
} cpu_chunk;

/* Stages first...last-1 into `arena`; maps that stages before `first` wrote are read from `before`. */
void cpu_network_run(const cpu_network *plan, const cpu_stage_weights *weights, const cpu_workspace *workspace,
                     const cpu_chunk *chunk, size_t first, size_t last, uint8_t *arena, const uint8_t *before);

/* network_machine.c: a plan with the network's own constants, and memory for each thread, made when it first runs. */
typedef struct cpu_machine {
  cpu_network *plan;
  cpu_stage_weights *base; /* [stages] */
  void *base_memory;
  cpu_workspace *workspace; /* [threads]; NULL: it has not run */
  void *workspace_memory;
  size_t bytes; /* of all these */
} cpu_machine;

/* In this order, from zeros; to be closed whether one fails or not. ready: again is fine. */
QE_CHECKED qe_status cpu_machine_plan(const cpu_device *device, const qe_network *network, const bool *evolves,
                                      bool single, cpu_machine *machine);
QE_CHECKED qe_status cpu_machine_prepare(cpu_machine *machine);
QE_CHECKED qe_status cpu_machine_ready(const cpu_device *device, cpu_machine *machine);
void cpu_machine_close(cpu_machine *machine);

/* network_planes.c: what differs for one image. */
QE_CHECKED qe_status cpu_planes_choose(cpu_network *plan);
/* Positions of a stage's output from its first pixel to its last, in rows of its maps' pitch. */
int32_t cpu_planes_positions(const cpu_network *plan, const cpu_stage *stage);
/* Code 0 again in what vectors of positions wrote beside and behind a map's rows. */
void cpu_planes_clear(const cpu_lane_map *map, uint8_t *origin);
void cpu_planes_gather(const uint8_t *image, const cpu_lane_map *to, uint8_t *origin);
void cpu_planes_subsample(const cpu_lane_map *from, const uint8_t *in, const qe_attrs *attrs, const cpu_lane_map *to,
                          uint8_t *out);
void cpu_planes_max_pool(const cpu_lane_map *from, const uint8_t *in, const cpu_conv_shape *shape,
                         const cpu_lane_map *to, uint8_t *out);
/* Sums of windows into s32 sums [sites][channels] in lanes, the image in lane 0. */
void cpu_planes_sum_pool(const cpu_lane_map *from, const uint8_t *in, const cpu_conv_shape *shape, int32_t lanes,
                         int32_t *sums);
/* The taps of a window, each as a plane set in rows of the output's pitch. */
void cpu_planes_columns(const cpu_lane_map *from, const uint8_t *in, const cpu_conv_shape *shape, int32_t pitch,
                        int64_t plane, uint8_t *columns);

/* network_together.c: a network of several that run together. */
typedef struct cpu_kin {
  const cpu_network *plan; /* in chunks of images */
  const cpu_stage_weights *weights;
  int32_t number; /* as the caller counts them */
  _Atomic int64_t loss, hits;
  /* Filled there: leading stages that it shares with the one before it in the order; of that order. */
  size_t shared;
  int32_t group, size;
} cpu_kin;

/* Adds up loss and hits of each network on the call's images; the networks may come back in another order. QE_REFUSED,
 * and nothing done, where `memory` bytes are too few. `reused`: multiply-adds of an image that were not made again. */
QE_CHECKED qe_status cpu_networks_run(const cpu_device *device, cpu_kin *kin, int32_t count,
                                      const qe_population_call *call, size_t memory, int64_t *reused);

extern const qe_network_engine cpu_network_engine;

#endif
