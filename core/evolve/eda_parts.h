/* What the files of the stage `eda` share; nobody else includes this. */
#ifndef QE_EVOLVE_EDA_PARTS_H
#define QE_EVOLVE_EDA_PARTS_H

#include "core/evolve/eda.h"
#include "core/search/eda.h"

/* Where a variable's field lies in a genome. A field spans two bytes at most. */
typedef struct qe_eda_place {
  uint32_t byte;
  uint8_t shift, bits;
  uint16_t unit; /* what groups may lie in: number of the layer or block, 0 without such */
} qe_eda_place;

/* The weights of a layout, gene by gene. Values are fields: codes counted from the grid's lowest. */
typedef struct qe_eda_variables {
  int64_t count;
  qe_eda_place *place; /* [count] */
  int64_t *start;      /* [genes + 1]: first variable of each gene */
} qe_eda_variables;

QE_CHECKED qe_status qe_eda_variables_new(const qe_network *network, const qe_genome_layout *layout,
                                          qe_eda_grouping grouping, qe_eda_variables *variables);
void qe_eda_variables_free(qe_eda_variables *variables);
uint8_t qe_eda_get(const qe_eda_place *place, const uint8_t *genome);
void qe_eda_put(const qe_eda_place *place, uint8_t *genome, uint8_t value);

/* Where the stage stands; numbers only, so that they are saved as they are. */
typedef struct qe_eda_position {
  int64_t cycle, generation; /* from 1; 0: none yet */
  int64_t chosen;            /* variables of the cycle */
  int64_t at, count;         /* the group's place among them, and its variables */
  int64_t inside;            /* generations of the group that are done; 0: the next begins a group */
  int64_t size;              /* variables of the next group */
  int64_t accepted, idle;    /* proposals taken in this cycle; cycles without one */
  int64_t elite;             /* 1: there is a best individual */
  int64_t context_loss;      /* of the context on all held-out images; -1: not known */
} qe_eda_position;

typedef struct qe_eda_search {
  qe_evolution *evolution;
  qe_eda_options options;
  qe_eda_position position;
  qe_eda_variables variables;
  qe_eda *distribution;
  uint8_t *context; /* [variables]: the context's values */
  int32_t *order;   /* [variables]: those of the cycle, group after group */
  int32_t rate;     /* in units of 1 / QE_EDA_ONE */

  /* of the group */
  uint8_t *elite;  /* [variables] candidates; of the group's variables */
  uint8_t *choice; /* [individuals, variables of the group] candidates */
  size_t choices;  /* room there */

  int64_t *slope; /* [variables of the group]; none without options.ladder */
  size_t slopes;  /* room there */

  /* of the generation */
  uint8_t *genomes;        /* [individuals, or proposals and the context] */
  int64_t *loss, *partial; /* [individuals]: summed over the races; of one */
  int32_t *rank;           /* [individuals]: the best first */
  int64_t *confidence;     /* [genes, QE_CONFIDENCE_BINS] */
} qe_eda_search;

/* The start's probabilities by where the teacher's weights lie between two codes; layers that it lacks stay. */
QE_CHECKED qe_status qe_eda_lean_to(qe_eda_search *s, const qe_network *teacher);

/* Images of a race; those of all races are the batch. */
int32_t qe_eda_race_images(const qe_eda_options *options, int32_t race);
/* Proposals of a group at most. */
int32_t qe_eda_proposals(const qe_eda_options *options);
/* Candidate-images of a generation, and of the comparison after a group at most. */
int64_t qe_eda_generation_cost(const qe_eda_search *s);
int64_t qe_eda_acceptance_cost(const qe_eda_search *s);

/* Seed of all draws: another one where the stage runs again in a search. */
uint64_t qe_eda_seed(const qe_eda_search *s);
/* Chooses the variables of the next cycle and their order. None: chosen is 0. */
QE_CHECKED qe_status qe_eda_begin_cycle(qe_eda_search *s);
/* Cuts the next group. */
QE_CHECKED qe_status qe_eda_begin_group(qe_eda_search *s);
/* One generation of the group: samples, ranks, updates. */
QE_CHECKED qe_status qe_eda_generation(qe_eda_search *s, qe_evolution_report *report);
/* The context with the group's variables as these candidates [position.count] say; how many of them differ from it. */
int64_t qe_eda_write(const qe_eda_search *s, const uint8_t *candidate, uint8_t *genome);

/* The context's value of the group's variable j as a candidate. */
int32_t qe_eda_context_candidate(const qe_eda_search *s, int64_t j);

/* How many slopes the group has: those of its variables, or 0 where none are kept. */
size_t qe_eda_slopes(const qe_eda_search *s);
QE_CHECKED qe_status qe_eda_begin_slopes(qe_eda_search *s);
/* Of the individuals rank [runners], which have these losses on one batch. */
void qe_eda_add_slopes(qe_eda_search *s, const int64_t *loss, int32_t runners);
/* Genomes with more and more of the variables a step down their slopes, the steepest first; `rungs` of options.ladder
 * at most. `candidate` is the context as candidates of the group, and is changed. */
QE_CHECKED qe_status qe_eda_descend(const qe_eda_search *s, uint8_t *candidate, void *genomes, int32_t *rungs);

/* The end of a group: proposals against the context. */
QE_CHECKED qe_status qe_eda_conclude(qe_eda_search *s, qe_evolution_report *report);

/* The state of the stage as tensors, and back. `stage`: qe_eda_search. */
qe_status qe_eda_save(const void *stage, qe_tensors *state);
QE_CHECKED qe_status qe_eda_load(qe_eda_search *s, const qe_tensors *state);

#endif
