/* Trials of allocations: what networks of one model's weights lose at these and those bits, without any training.
 *
 * An allocation becomes an integer network by the steps kept for its bits and batch norm's statistics on one batch, and
 * is evaluated through the population entry on batches that all allocations share: several networks together, so that
 * leading layers in which they agree run once (qe_population_run_together). Losses by batch are exact integers and
 * kept, so that an allocation that comes again is evaluated on new batches only, and a run that was resumed, with
 * nothing kept, goes on with the same numbers. */
#ifndef QE_METHODS_ALLOCATION_TRIALS_H
#define QE_METHODS_ALLOCATION_TRIALS_H

#include "core/evolve/fitness.h"
#include "core/models/allocation.h"
#include "core/models/step_bank.h"
#include "core/train/norms.h"

typedef struct qe_trials_setup {
  qe_device *device;
  const qe_dataset *data;     /* held in memory */
  const qe_model *model;      /* its weights; its bits stand for nothing */
  const qe_bit_map *map;      /* of the model's network */
  const qe_step_bank *bank;   /* steps of all bits that will come */
  qe_fitness_options fitness; /* loss, split, augmentation */
  qe_fitness_part part;       /* where batches come from */
  bool augmented;
  int32_t batch;       /* images */
  int32_t norm_images; /* 0: the model's running statistics */
} qe_trials_setup;

typedef struct qe_trials qe_trials;

/* All that the setup points to must outlive it and stay as it is. */
QE_CHECKED qe_status qe_trials_new(const qe_trials_setup *setup, qe_trials **trials);
void qe_trials_free(qe_trials *trials); /* NULL is fine */

typedef struct qe_trial_score {
  double loss; /* mean of an image, nats */
  double top1; /* per cent */
} qe_trial_score;

/* Scores [count] of allocations bits [count, places] on the batches first...first + batches - 1. */
QE_CHECKED qe_status qe_trials_run(qe_trials *trials, const int32_t *bits, int32_t count, int64_t first,
                                   int32_t batches, qe_trial_score *score);

/* The network of an allocation as it is evaluated: a model with steps and statistics of its own. */
QE_CHECKED qe_status qe_trials_model(qe_trials *trials, const int32_t *bits, qe_model **model);

/* Candidate-images asked for, known ones too; networks that were made for them; allocations that were known in whole.
 */
int64_t qe_trials_spent(const qe_trials *trials);
void qe_trials_set_spent(qe_trials *trials, int64_t spent); /* of a run before */
int64_t qe_trials_made(const qe_trials *trials);
int64_t qe_trials_known(const qe_trials *trials);
/* Of the multiply-adds of the networks that were evaluated, the part that was another one's: 0...1. */
double qe_trials_reused(const qe_trials *trials);

#endif
