/* Learning-rate finder. */
#include "core/train/find_rate.h"

#include "core/base/alloc.h"
#include "core/train/trainer_parts.h"

#include <math.h>
#include <string.h>

static const double memory = 0.9, break_down = 4, within = 1.05, share = 0.1;

qe_rate_range qe_rate_range_default(qe_optimizer optimizer) {
  bool adam = optimizer == QE_OPTIMIZER_ADAM;
  return (qe_rate_range){.low = adam ? 1e-7 : 1e-6, .high = adam ? 1 : 10, .steps = 100};
}

/* ---- judging ---- */

void qe_rate_sweep_judge(qe_rate_sweep *sweep) {
  int32_t best = 0;
  for (int32_t i = 1; i < sweep->points; i++)
    if (sweep->point[i].smooth < sweep->point[best].smooth) best = i;
  int32_t edge = best;
  while (edge + 1 < sweep->points && sweep->point[edge + 1].smooth <= within * sweep->point[best].smooth) edge++;
  sweep->lowest = sweep->point[best].rate;
  sweep->edge = sweep->point[edge].rate;
  sweep->suggested = share * sweep->edge;
}

/* ---- sweeping ---- */

typedef struct walk {
  qe_trainer *trainer;
  const qe_rate_range *range;
  qe_rate_sweep *sweep;
  double loss_before, sum, average, least; /* average: without its fair start; sum: of the update's batches so far */
  int32_t batches;
  qe_progress_function progress;
  void *context;
} walk;

static double rate_of(const qe_rate_range *range, int32_t update) {
  return range->low * pow(range->high / range->low, (double)update / (range->steps - 1));
}

/* The loss is that of the parameters before the update, so the point has the rate of the update before it: what that
 * rate has led to. The first shows the start. */
static bool add_point(walk *w, double loss) {
  qe_rate_sweep *sweep = w->sweep;
  int32_t at = sweep->points;
  w->average = memory * w->average + (1 - memory) * loss;
  double smooth = w->average / (1 - pow(memory, at + 1));
  sweep->point[sweep->points++] =
      (qe_rate_point){.rate = rate_of(w->range, at > 0 ? at - 1 : 0), .loss = loss, .smooth = smooth};
  if (at == 0 || smooth < w->least) w->least = smooth;
  sweep->diverged = !isfinite(smooth) || smooth > break_down * w->least;
  return sweep->diverged || sweep->points > w->range->steps;
}

static qe_status on_batch(void *context, const qe_train_progress *progress) {
  walk *w = context;
  const qe_train_options *options = &w->trainer->options;
  double all = progress->train.loss * (double)progress->train.images;
  w->sum += all - (progress->step == 1 ? 0 : w->loss_before);
  w->loss_before = all;
  if (w->progress) {
    qe_train_progress shown = *progress;
    shown.epoch = shown.epochs = 1;
    shown.step = (int64_t)w->sweep->points * options->accumulate + w->batches + 1;
    shown.steps = (int64_t)(w->range->steps + 1) * options->accumulate;
    QE_TRY(w->progress(w->context, &shown));
  }
  if (++w->batches < options->accumulate) return QE_OK;
  bool done = add_point(w, w->sum / ((double)options->batch * options->accumulate));
  w->trainer->options.schedule.rate =
      rate_of(w->range, w->sweep->points - 1 < w->range->steps ? w->sweep->points : w->range->steps - 1);
  w->sum = 0;
  w->batches = 0;
  return done ? QE_INTERRUPTED : QE_OK;
}

/* Until the walk is done: QE_INTERRUPTED by the caller's wish is told apart by the walk not being done. */
static qe_status run_walk(walk *w) {
  qe_status status = QE_OK;
  while (status == QE_OK) status = qe_trainer_epoch(w->trainer, on_batch, w);
  bool done = w->sweep->diverged || w->sweep->points > w->range->steps;
  if (status == QE_DIVERGED && w->sweep->points > 1) {
    w->sweep->diverged = true;
    return QE_OK;
  }
  return status == QE_INTERRUPTED && done ? QE_OK : status;
}

qe_status qe_find_rate(qe_device *device, qe_model *model, const qe_dataset *data, const qe_train_options *options,
                       const qe_rate_range *range, qe_progress_function progress, void *context, qe_rate_sweep *sweep) {
  enum { PLENTY = 1000000 };
  memset(sweep, 0, sizeof *sweep);
  if (!(range->low > 0) || !(range->high > range->low) || !isfinite(range->high) || range->steps < 2)
    return qe_fail(QE_USAGE, "rates from %g to %g in %d steps: must rise from above 0 in at least 2", range->low,
                   range->high, range->steps);
  qe_train_options swept = *options;
  swept.epochs = PLENTY; /* never reached */
  swept.schedule = (qe_schedule){.kind = QE_SCHEDULE_CONSTANT, .rate = range->low};
  walk w = {.range = range, .sweep = sweep, .progress = progress, .context = context};
  sweep->point = QE_NEW_ARRAY(qe_rate_point, range->steps + 1);
  qe_status status = sweep->point ? qe_trainer_new(device, model, data, &swept, &w.trainer) : QE_NO_MEMORY;
  if (status == QE_OK) status = run_walk(&w);
  qe_trainer_free(w.trainer);
  if (status == QE_OK)
    qe_rate_sweep_judge(sweep);
  else
    qe_rate_sweep_free(sweep);
  return status;
}

void qe_rate_sweep_free(qe_rate_sweep *sweep) {
  qe_free(sweep->point);
  memset(sweep, 0, sizeof *sweep);
}
