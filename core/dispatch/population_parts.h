/* The generic engine of populations, which every device can run; only population*.c include this. */
#ifndef QE_DISPATCH_POPULATION_PARTS_H
#define QE_DISPATCH_POPULATION_PARTS_H

#include "core/dispatch/network_program.h"
#include "core/dispatch/population.h"

/* Op by op: candidates are the population axis of a program. Takes every network. */
extern const qe_network_engine qe_engine_op_by_op;

/* Several engines that take a network, the first `count` of the list best first where nothing is measured: each call
 * runs on the one that was fastest on calls like it. QE_REFUSED when none of them can be opened. */
enum { QE_CHOICE_MOST = 4 };
extern const qe_network_engine qe_engine_choice; /* opened by qe_choice_open */
QE_CHECKED qe_status qe_choice_open(qe_queue *queue, const qe_network *network, const qe_genome_layout *layout,
                                    const qe_population_options *options, const qe_network_engine *const *list,
                                    int count, void **state);
/* The name of the engine that ran last; of the first before. */
const char *qe_choice_engine(const void *state);

enum { QE_OPS_CANDIDATES = 16 };

/* Layers start...stop-1 for `population` candidates, or for the parent. */
typedef struct qe_ops_program {
  int32_t start, stop, population;
  bool parent;
  qe_program *load, *run; /* packed weights to codes; the layers */
  qe_value logits;
  int32_t made_for; /* candidates of the last tensor: 1 where nothing before it varies */
  int64_t runs;
} qe_ops_program;

/* How much is done at a time, and the bytes of each kind of memory for that. */
typedef struct qe_ops_chunk {
  int32_t candidates, batch;
  bool parent; /* room for the tensors that candidates take over */
  size_t own, shared, staged, tensors, arena;
} qe_ops_chunk;

typedef struct qe_ops_engine {
  qe_queue *queue;
  const qe_network *network;
  const qe_genome_layout *layout;
  size_t memory;
  int32_t most_batch;
  bool *varies, *narrow; /* [layers] */
  int32_t *last_reader;  /* [layers]: of each tensor */
  qe_ops_chunk asked, size;
  qe_buffer *own, *shared, *staged, *tensors, *arena, *index, *labels, *loss, *hits;
  qe_constant_places *own_place, *shared_place; /* [layers] */
  qe_tensor_place *tensor_place, *used_place;   /* [layers]; those that one program uses */
  size_t *staged_at;                            /* [genes] */
  char *host_staged;
  int32_t *rows, *logits; /* host: index, labels [batch], loss, hits [candidates, batch]; logits */
  qe_ops_program *program;
  size_t programs, program_capacity;
  /* The candidates whose weights are in place. */
  const qe_ops_program *loaded_by;
  const void *loaded[QE_OPS_CANDIDATES];
} qe_ops_engine;

static inline int32_t qe_ops_classes(const qe_ops_engine *e) {
  return e->network->layer[e->network->layers - 1].output.dim[QE_C];
}

/* What network and layout fix, and whether the least chunk fits the memory. */
QE_CHECKED qe_status qe_ops_prepare(qe_ops_engine *e);
/* Memory for a call; what is there is kept where it was made for as much. */
QE_CHECKED qe_status qe_ops_make_room(qe_ops_engine *e, const qe_population_call *call);
/* All of it, and the programs that lie in it. */
void qe_ops_drop_memory(qe_ops_engine *e);
/* Bytes of a chunk in all. */
size_t qe_ops_total(const qe_ops_engine *e, const qe_ops_chunk *size);

#endif
