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
  /* NULL: not this time. Else, once a cycle, how sure the variables are: of each gene of the layout how many have the
   * probability of their likeliest value in which hundredth; [layout->genes][QE_CONFIDENCE_BINS], a row of 0: none. */
  const int64_t *confidence;
} qe_evolution_report;

enum { QE_CONFIDENCE_BINS = 100 };

typedef struct qe_evolution qe_evolution;

/* What a search tells its caller; any function may be NULL. */
typedef struct qe_evolution_events {
  void *context;
  /* After every generation; QE_INTERRUPTED ends the search there, its state saved. */
  qe_status (*generation)(void *context, const qe_evolution *evolution, const qe_evolution_report *report);
  void (*note)(void *context, const char *text);
  /* A point at which the search can be taken up again: evolution->state holds all that is needed. */
  qe_status (*checkpoint)(void *context, const qe_evolution *evolution);
  bool (*due)(void *context); /* whether a checkpoint is wanted now, beside those of save_every */
} qe_evolution_events;

struct qe_evolution {
  qe_device *const *device; /* [devices]; the first also does what only one does */
  int devices;
  const qe_dataset *data;
  qe_network *network;        /* the context: the best known network, sound and proven; the evolution's own */
  bool *evolves;              /* [layers] of qe_genome_layout_new */
  qe_genome_layout *layout;   /* what evolves of it */
  void *genome;               /* the context as a genome of layout->bytes bytes */
  const qe_network *teacher;  /* NULL: none */
  qe_fitness_options measure; /* what `fitness` was made with */
  qe_fitness *fitness;
  uint64_t seed;
  int64_t budget;     /* candidate-images of the whole search; 0: no bound */
  int32_t save_every; /* generations between checkpoints; 0: only when the search is interrupted */
  bool interim;       /* the checkpoint being made is beside those: of an interruption, or since it was due */
  int stages_done;    /* of the list that qe_evolution_run got: the number of the one that runs */
  bool resumed;       /* it goes on with a search that was stopped */
  const char *stage;  /* that runs */
  qe_tensors *state;  /* of the stage that runs: at its start what it saved before the run was stopped, or NULL */
  qe_evolution_events events;
};

/* ---- for who starts a search ---- */

typedef struct qe_evolution_setup {
  qe_device *const *device;
  int devices;
  const qe_dataset *data;
  const bool *evolves; /* [layers], as in qe_genome_layout_new; NULL: the weights of every layer */
  const qe_network *teacher;
  qe_fitness_options measure; /* seed and teacher are taken from here, not from it */
  uint64_t seed;
  int64_t budget;
  int32_t save_every;
  qe_evolution_events events;
} qe_evolution_setup;

/* `network` is sound and proven, and the evolution's from here on, also when this fails. Devices, data and teacher must
 * outlive it. */
QE_CHECKED qe_status qe_evolution_new(const qe_evolution_setup *setup, qe_network *network, qe_evolution **evolution);
void qe_evolution_free(qe_evolution *evolution); /* NULL is fine */

/* Where the search stands, added to the tensors of a checkpoint; and taken from it, before qe_evolution_run. QE_FORMAT
 * with `file` when it is of another search. */
QE_CHECKED qe_status qe_evolution_give(const qe_evolution *evolution, qe_tensors *tensors);
QE_CHECKED qe_status qe_evolution_resume(qe_evolution *evolution, const qe_tensors *tensors, const char *file);

/* ---- for stages ---- */

/* The genome becomes the context, `network` and `genome` both; `changed` (may be NULL): how many of its values are new.
 * QE_FORMAT as qe_genome_to_network. */
QE_CHECKED qe_status qe_evolution_take(qe_evolution *evolution, const void *genome, int64_t *changed);
/* After a stage has changed `network` itself (multipliers, offsets, shifts, codes): proves it, and makes genome, layout
 * and fitness anew for it. The number of spent candidate-images stays. What pointed into these is void. */
QE_CHECKED qe_status qe_evolution_renew(qe_evolution *evolution);

/* Candidate-images spent by the whole search, and left of its budget (INT64_MAX: no bound; never below 0). A stage ends
 * when what is left does not pay its next generation. */
int64_t qe_evolution_spent(const qe_evolution *evolution);
int64_t qe_evolution_left(const qe_evolution *evolution);

/* Puts all that a stage needs to go on into `state`, as it stands between two generations. */
typedef qe_status (*qe_stage_save)(const void *stage, qe_tensors *state);

/* Ends a generation: fills stage, spent and budget into the report, tells the caller, and saves a checkpoint by `save`
 * (of `stage`, the stage's own data) when one is due. QE_INTERRUPTED, after a checkpoint, when the search is to end:
 * the stage frees what it has and returns that. `save` NULL (short stages): resumed, the stage starts anew from the
 * network that it began with. */
QE_CHECKED qe_status qe_evolution_generation(qe_evolution *evolution, const qe_evolution_report *report,
                                             qe_stage_save save, const void *stage);

/* An option of a stage and what it may be. */
typedef struct qe_option_bound {
  const char *name;
  int64_t value, least, most;
} qe_option_bound;
/* QE_USAGE that names the option, as the command does, and its bounds. */
QE_CHECKED qe_status qe_evolution_check(const char *stage, const qe_option_bound *bound, size_t count);

/* Tell a sentence (no %f here). */
void qe_evolution_note(const qe_evolution *evolution, const char *format, ...) QE_PRINTF(2, 3);

#ifdef __cplusplus
}
#endif
#endif
