/* Learning-rate finder: a short training with a rate that rises exponentially, after Smith, "Cyclical Learning Rates
 * for Training Neural Networks" (2017), section 3.3. */
#ifndef QE_TRAIN_FIND_RATE_H
#define QE_TRAIN_FIND_RATE_H

#include "core/train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_rate_range {
  double low, high; /* above 0 */
  int32_t steps;    /* parameter updates from low to high, at least 2 */
} qe_rate_range;

/* What suits an optimizer: 100 updates over seven powers of ten. */
qe_rate_range qe_rate_range_default(qe_optimizer optimizer);

typedef struct qe_rate_point {
  double rate, loss, smooth; /* loss of the batches before the update; its moving average (0.9), started fairly */
} qe_rate_point;

typedef struct qe_rate_sweep {
  qe_rate_point *point;
  int32_t points;
  double lowest;    /* the rate at the smoothed loss's lowest point */
  double edge;      /* the largest rate at which it is still within 5 % of that */
  double suggested; /* a tenth of the edge: as the largest rate of a schedule */
  bool diverged;    /* it ended before the highest rate: the smoothed loss passed 4 times its lowest, or broke down */
} qe_rate_sweep;

/* Trains on `model` from its values, which stay as they are. `progress` (may be NULL) is called after every batch.
 * QE_USAGE for a bad range; other statuses as qe_trainer_epoch, but divergence is a result. */
QE_CHECKED qe_status qe_find_rate(qe_device *device, qe_model *model, const qe_dataset *data,
                                  const qe_train_options *options, const qe_rate_range *range,
                                  qe_progress_function progress, void *context, qe_rate_sweep *sweep);
void qe_rate_sweep_free(qe_rate_sweep *sweep);

/* The rates of a sweep's points, from their losses. */
void qe_rate_sweep_judge(qe_rate_sweep *sweep);

#ifdef __cplusplus
}
#endif
#endif
