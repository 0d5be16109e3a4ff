/* An evolution: a network under search and what every stage of the search shares. Stages run one after the other, each
 * from the network that the one before has left; all of it in integers. */
#ifndef QE_EVOLVE_EVOLUTION_H
#define QE_EVOLVE_EVOLUTION_H

#include "core/base/safetensors.h"
#include "core/evolve/fitness.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A line of a search's progress: one a generation (or sweep, or layer: the stage says what). */
typedef struct qe_evolution_report {
  const char *stage;
  int64_t generation;           /* of the stage, from 1 */
  int64_t spent, budget;        /* candidate-images of the whole search; budget 0: none */
  int64_t best, mean;           /* loss an image, Q16 bits: of the generation's candidates; -1: none were evaluated */
  int64_t held_out;             /* loss an image of the context on held-out images, Q16 bits; -1: not evaluated */
  int32_t confident_per_myriad; /* variables that count as confident, of 10,000; -1: the stage has none */
  int64_t changed;              /* codes (or other genes) of the context that differ from before */
  bool accepted;                /* the context changed */
} qe_evolution_report;

typedef struct qe_evolution qe_evolution;

/* What a search tells its caller; any function may be NULL. */
typedef struct qe_evolution_events {
  void *context;
  /* After every generation; QE_INTERRUPTED ends the search there, its state saved. */
  qe_status (*generation)(void *context, const qe_evolution *evolution, const qe_evolution_report *report);
  void (*note)(void *context, const char *text);
  /* A point at which the search can be taken up again: evolution->state holds all that is needed. */
  qe_status (*checkpoint)(void *context, const qe_evolution *evolution);
} qe_evolution_events;

struct qe_evolution {
  qe_device *const *device; /* [devices]; the first also does what only one does */
  int devices;
  const qe_dataset *data;
  qe_network *network;       /* the context: the best known network, sound and proven */
  qe_genome_layout *layout;  /* what evolves of it */
  void *genome;              /* the context as a genome of layout->bytes bytes */
  const qe_network *teacher; /* NULL: none */
  qe_fitness *fitness;
  uint64_t seed;
  int64_t budget;    /* candidate-images of the whole search; 0: no bound */
  const char *stage; /* that runs */
  qe_tensors *state; /* of the stage that runs, for checkpoints; NULL until it saves one */
  qe_evolution_events events;
};

#ifdef __cplusplus
}
#endif
#endif
