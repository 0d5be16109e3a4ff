/* What the files of the method gradfreebits share; nobody else includes this. */
#ifndef QE_METHODS_GRADFREEBITS_PARTS_H
#define QE_METHODS_GRADFREEBITS_PARTS_H

#include "core/methods/allocation_trials.h"
#include "core/methods/phase.h"
#include "core/models/bit_cost.h"

#define QE_GFB_PRETRAIN "pretrain"
#define QE_GFB_RANDOM "random"
/* In the run's folder: the present allocation, and all that searches found (read by the report). */
#define QE_GFB_BITS_FILE "bits.txt"
#define QE_GFB_ROUNDS_FILE "rounds.json"

/* An allocation that a search has met, and its losses' mean. */
typedef struct qe_gfb_found {
  int32_t *bits; /* [places] */
  double sum;    /* of its losses, with penalties */
  int64_t count;
} qe_gfb_found;

typedef struct qe_gradfreebits {
  const qe_setting *setting;
  const qe_gradfreebits_options *options;
  qe_bit_map *map;
  qe_bit_costs *costs;
  qe_budgets budgets;
  int32_t *variable; /* [variables]: the places that are searched */
  int32_t variables;
  int32_t *bits; /* [places]: the present allocation */
  qe_model *model;
  qe_step_bank *bank; /* steps that were trained */
  char *history;      /* what rounds.json says of the rounds so far: JSON objects with commas between */
  char **phases;      /* all names in order, NULL past the last: float, pretrain, random, search 1, train 1, … */
} qe_gradfreebits;

/* ---- gradfreebits.c ---- */

/* All of it for a setting; to be closed whether it fails or not. */
QE_CHECKED qe_status qe_gfb_open(qe_gradfreebits *s, const qe_setting *setting);
void qe_gfb_close(qe_gradfreebits *s);

/* ---- gradfreebits_state.c ---- */

/* Names of a round's two phases, rounds from 1. */
const char *qe_gfb_search_phase(const qe_gradfreebits *s, int round);
const char *qe_gfb_train_phase(const qe_gradfreebits *s, int round);
/* Allocation, bank and history added to `state`; and back. */
QE_CHECKED qe_status qe_gfb_give(const qe_gradfreebits *s, qe_tensors *state);
QE_CHECKED qe_status qe_gfb_take(qe_gradfreebits *s, const qe_tensors *state, const char *file);
/* The same in a file of the run's folder that says where a round's training begins. */
QE_CHECKED qe_status qe_gfb_keep_round(const qe_gradfreebits *s, int round);
QE_CHECKED qe_status qe_gfb_read_round(qe_gradfreebits *s, int round);
/* bits.txt and rounds.json as things stand. */
QE_CHECKED qe_status qe_gfb_write_files(const qe_gradfreebits *s, int round);
/* The model becomes one at s->bits with the bank's steps, as far as it has them. */
QE_CHECKED qe_status qe_gfb_set_bits(qe_gradfreebits *s, const qe_step_bank *bank);

/* ---- gradfreebits_bank.c ---- */

/* A new bank of all that s->bank has and, for bits of the search that it lacks, steps fitted to the model. */
QE_CHECKED qe_status qe_gfb_fill_bank(const qe_gradfreebits *s, qe_step_bank **bank);

/* ---- gradfreebits_random.c ---- */

/* The phase of random bits: s->model and s->bank hold what it has trained. */
QE_CHECKED qe_status qe_gfb_train_random(qe_gradfreebits *s);

/* ---- gradfreebits_repair.c ---- */

/* Takes bits away where there are most until the allocation is within the budgets, then adds some where there are
 * fewest, as far as they allow. */
void qe_gfb_repair(const qe_gradfreebits *s, int32_t *bits);

/* ---- gradfreebits_search.c ---- */

/* How a search's trials are made, but for bank and weights. */
qe_trials_setup qe_gfb_trials_setup(const qe_gradfreebits *s, const qe_step_bank *bank);
/* One round's search: s->bits and s->model become those of the best allocation that was found. */
QE_CHECKED qe_status qe_gfb_search(qe_gradfreebits *s, int round);

/* ---- gradfreebits_choose.c ---- */

/* What a search found so far, best first. */
typedef struct qe_gfb_list {
  qe_gfb_found *found;
  size_t count, capacity;
} qe_gfb_list;

QE_CHECKED qe_status qe_gfb_list_add(qe_gfb_list *list, int32_t places, const int32_t *bits, double value);
void qe_gfb_list_free(qe_gfb_list *list);
QE_CHECKED qe_status qe_gfb_list_give(const qe_gfb_list *list, int32_t places, qe_tensors *state);
QE_CHECKED qe_status qe_gfb_list_take(qe_gfb_list *list, int32_t places, const qe_tensors *state, const char *file);
/* Allocations of a search with several objectives that none is better than in all. */
typedef struct qe_gfb_front {
  int32_t *bits; /* [count, places] */
  int32_t count;
  int64_t first; /* batch of the super-batch that they were tried on */
} qe_gfb_front;

/* Compares the best of the list and the present allocation once more; s->bits becomes the best that is within the
 * budgets, and the round goes into s->history, the front with it. */
QE_CHECKED qe_status qe_gfb_choose(qe_gradfreebits *s, qe_trials *trials, const qe_gfb_list *list,
                                   const qe_gfb_front *front, int round);

#endif
