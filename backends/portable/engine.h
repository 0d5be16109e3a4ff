/* The engine `batched`: populations of whole networks, a kernel a stage, candidates as a dimension of each launch.
 *
 * A slot is a place for one candidate in each launch; slot 0 is the parent's where there is one. A unit is what lies
 * together of a tensor: an image (layout `rows`: pixels of packed codes, channels in groups of eight) or a block of 16
 * (layout `lanes`, for processors: a byte a code, images in the lanes of vectors). Tensors of stages before a candidate
 * differs from the parent are the parent's: slots are in the order of their first own stage, so that the slots which
 * have a tensor of their own are always the first ones (qk_net_map.own).
 *
 * engine_plan: what network, layout and device fix. engine_room: how many slots and units fit the memory.
 * engine_stage: launches. engine: groups of candidates, chunks of images, bounds. */
#ifndef QE_BACKENDS_PORTABLE_ENGINE_H
#define QE_BACKENDS_PORTABLE_ENGINE_H

#include "backends/portable/portable.h"
#include "core/dispatch/population.h"
#include "core/dispatch/stages.h"

typedef struct net_engine net_engine;

/* A kernel for the convolutions of a stage. */
typedef struct net_variant {
  const char *name;
  qk_kernel kernel;
  int32_t pixels, channels; /* that a work-group makes; channels 0: a flat launch, one work-item makes eight channels */
  int32_t block;            /* > 0: a work-item makes as much of pixels times channels; pixels is then a qk_tunable */
  int32_t items;            /* of a work-group where block is 0 */
  size_t shared_bytes;      /* CUDA: dynamic shared memory */
  bool (*takes)(const net_engine *engine, const struct net_variant *variant, const qe_stage *stage);
} net_variant;

/* Tiles of variant->channels channels: as wide as the stage's, or the widest; groups of channels are left to others. */
bool net_takes_tile(const net_engine *engine, const net_variant *variant, const qe_stage *stage);

/* How tensors lie and which kernels read them so. */
typedef struct net_form {
  const char *name;
  int32_t unit; /* images */
  bool ring;    /* maps have code 0 around them where windows of convolutions reach */
  bool unpacks; /* weights are s16 in device memory, made from packed ones once a group of candidates */
  qk_kernel gather, sums, move;
  const net_variant *variant;
  int32_t variants;
} net_form;

extern const net_form net_rows, net_lanes;

typedef struct net_tensor {
  qk_net_map map;        /* slot and own are set when it runs */
  int32_t ring[4];       /* pixels: top, left, bottom, right */
  int64_t origin;        /* bytes from a unit's start to pixel (0, 0) */
  int32_t written, read; /* stages; read < 0: it is not stored */
  bool shared;           /* the same for all candidates */
  size_t offset;         /* in the arena */
} net_tensor;

/* Where a layer's constants of some kind lie: in the genomes, or once for all. */
typedef struct net_constant {
  bool evolves;
  size_t offset; /* in a genome, or in net_engine.constants */
} net_constant;

typedef struct net_stage {
  const net_variant *variant; /* NULL: sums one by one, or a move */
  int32_t width;              /* QK_WIDE, QK_NARROW or QK_LIMBS */
  int32_t limb;
  size_t unpacked[2]; /* of each source's weights, in a genome's unpacked weights or in net_engine.fixed_weights */
} net_stage;

enum { NET_WEIGHT, NET_M, NET_N, NET_OFFSET, NET_CONSTANTS };

/* What is done at a time, and the bytes for it. */
typedef struct net_size {
  int32_t slots;   /* with the parent's */
  int32_t parents; /* 1, or 0: one candidate alone, which is slot 0 */
  int32_t units;
  size_t arena, logits, genomes, weights, total;
} net_size;

struct net_engine {
  qe_queue *queue;
  const qe_network *network;
  const qe_genome_layout *layout;
  const net_form *form;
  const char *forced; /* a variant's name that goes first where it takes the stage; NULL: none */
  size_t memory;
  int32_t most_units;
  qe_stages *stages;
  net_stage *stage;                                   /* [stages] */
  net_tensor *tensor;                                 /* [layers] */
  net_constant (*constant)[NET_CONSTANTS];            /* [layers] */
  void *base_genome;                                  /* of the layout: the network's own values */
  size_t constant_bytes, unpacked_bytes, fixed_bytes; /* of constants, of a genome's weights, of those that stay */
  size_t slack;                                       /* bytes behind the arena that kernels may read */
  int32_t first_evolving;                             /* stage */
  net_size size;
  qe_buffer *constants, *fixed_weights, *arena, *logits, *genomes, *weights, *index, *labels, *slots, *totals;
  int32_t *slot_genome, *slot_first; /* [slots] */
  int64_t *host_totals;              /* [slots, 2] */
  int32_t *host_logits;
  int64_t launches;
};

static inline int32_t net_classes(const net_engine *e) {
  return e->network->layer[e->network->layers - 1].output.dim[QE_C];
}

/* engine_plan.c: fills what does not depend on a call. */
QE_CHECKED qe_status net_plan(net_engine *engine);
void net_plan_free(net_engine *engine);
/* Stage from which on a genome's tensors differ from the parent's, at least 1; the last stage for equal genomes. */
int32_t net_first_stage(const net_engine *engine, const void *genome, const void *parent);

/* engine_room.c: memory for at most this many candidates and images at a time; what is there is kept where it does. */
QE_CHECKED qe_status net_make_room(net_engine *engine, int32_t candidates, bool alone, int64_t images);
void net_drop_room(net_engine *engine);
/* Bytes that one candidate, its parent and one unit need. */
QE_CHECKED qe_status net_least_room(net_engine *engine);

/* engine_stage.c. */
QE_CHECKED qe_status net_run_gather(net_engine *engine, const qe_buffer *images, int32_t count);
/* Stage `at` for `slots` slots from `first` on; those before `own` have tensors of their own from here on. */
QE_CHECKED qe_status net_run_stage(net_engine *engine, size_t at, int32_t first, int32_t slots, int32_t own,
                                   int32_t images);
QE_CHECKED qe_status net_run_loss(net_engine *engine, int32_t first, int32_t slots, int32_t images);
/* Unpacked weights of the genomes in the device's memory (evolving), or of the network (fixed). */
QE_CHECKED qe_status net_run_unpack(net_engine *engine, bool evolving, int32_t genomes);

extern const qe_network_engine portable_network_engine;

#endif
