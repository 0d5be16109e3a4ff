/* Acceptance of proposals by the true fitness. */
#include "core/evolve/accept.h"

#include "core/base/alloc.h"
#include "core/base/wide.h"

enum { PARTS = 16 }; /* of the held-out batch, whose differences tell the standard error */

static int32_t confirm_images(const qe_fitness *fitness, const qe_accept_options *options) {
  return options->confirm > 0 ? options->confirm : qe_fitness_images(fitness, QE_FITNESS_HELD_OUT);
}

int64_t qe_accept_cost(const qe_fitness *fitness, const qe_accept_options *options, int32_t proposals) {
  return ((int64_t)proposals + 1) * options->check + 2 * (int64_t)confirm_images(fitness, options);
}

/* The proposal with the least loss on the check's batch, below the context's; -1: none. */
static qe_status find_best(qe_fitness *fitness, const qe_fitness_batch *batch, size_t bytes, const void *genomes,
                           int32_t proposals, int64_t *loss, qe_verdict *verdict) {
  const char *first = (const char *)genomes + bytes;
  QE_TRY(qe_fitness_run(fitness, batch, genomes, 1, NULL, INT64_MAX, loss, NULL));
  QE_TRY(qe_fitness_run(fitness, batch, first, proposals, genomes, loss[0], loss + 1, NULL));
  int32_t best = 0;
  for (int32_t i = 1; i <= proposals; i++)
    if (loss[i] < loss[best]) best = i;
  verdict->winner = best - 1;
  verdict->context = loss[0] / batch->count;
  verdict->best = best > 0 ? loss[best] / batch->count : QE_DROPPED;
  return QE_OK;
}

/* Whether the sum of the differences is below 0 by `margin` quarters of its standard error, which their own spread
 * tells: sum^2 >= (margin / 4)^2 * PARTS / (PARTS - 1) * sum of (difference - mean)^2. */
static bool is_better(const int64_t before[PARTS], const int64_t after[PARTS], int32_t margin) {
  int64_t sum = 0;
  qe_s128 spread = 0;
  for (int k = 0; k < PARTS; k++) sum += after[k] - before[k];
  for (int k = 0; k < PARTS; k++) { /* in units of 1 / PARTS */
    qe_s128 off = (qe_s128)(after[k] - before[k]) * PARTS - sum;
    spread += off * off;
  }
  return sum < 0 && (qe_s128)sum * sum * (16 * PARTS * (PARTS - 1)) >= spread * margin * margin;
}

static qe_status confirm(qe_fitness *fitness, const qe_fitness_batch *batch, int32_t margin, size_t bytes,
                         const void *genomes, qe_verdict *verdict) {
  int64_t before[PARTS] = {0}, after[PARTS] = {0}, sum[2] = {0};
  int32_t parts = batch->count < PARTS ? 1 : PARTS; /* fewer images: no standard error */
  const char *best = (const char *)genomes + bytes * (size_t)(verdict->winner + 1);
  QE_TRY(qe_fitness_run_parts(fitness, batch, parts, genomes, 1, NULL, before));
  QE_TRY(qe_fitness_run_parts(fitness, batch, parts, best, 1, NULL, after));
  for (int k = 0; k < parts; k++) {
    sum[0] += before[k];
    sum[1] += after[k];
  }
  verdict->before = sum[0] / batch->count;
  verdict->after = sum[1] / batch->count;
  if (!is_better(before, after, parts > 1 ? margin : 0)) verdict->winner = -1;
  return QE_OK;
}

qe_status qe_accept(qe_fitness *fitness, const qe_accept_options *options, uint64_t number,
                    const qe_genome_layout *layout, const void *genomes, int32_t proposals, qe_verdict *verdict) {
  qe_fitness_batch check = {QE_FITNESS_TRAIN, number, options->check, options->augmented};
  qe_fitness_batch held = {QE_FITNESS_HELD_OUT, number, confirm_images(fitness, options), options->varied};
  *verdict = (qe_verdict){.winner = -1, .before = -1, .after = -1};
  int64_t *loss = QE_NEW_ARRAY(int64_t, (size_t)proposals + 1);
  if (!loss) return QE_NO_MEMORY;
  qe_status status = find_best(fitness, &check, layout->bytes, genomes, proposals, loss, verdict);
  qe_free(loss);
  if (status == QE_OK && verdict->winner >= 0)
    status = confirm(fitness, &held, options->margin, layout->bytes, genomes, verdict);
  return status;
}
