/* Training of variants of a network in turn: what lies around a batch. */
#include "core/base/alloc.h"
#include "core/train/trainer_parts.h"

#include <string.h>

qe_status qe_trainer_vary(qe_trainer *trainer, const qe_train_variants *variants) {
  if (trainer->options.ema > 0)
    return qe_fail(QE_USAGE, "a moving average over steps of different bits has no meaning; set ema to 0");
  if (trainer->gates)
    return qe_fail(QE_USAGE, "variants of a network have quantisers of their own, for which there are no gates; switch "
                             "stochastic precision off");
  if (trainer->options.distill.mode != QE_DISTILL_NONE)
    return qe_fail(QE_USAGE, "variants of a network have nodes of their own, to which no teacher's are paired; switch "
                             "distillation off");
  if (!trainer->varied) trainer->varied = qe_calloc(qe_graph_param_bytes(trainer->model->graph), 1);
  if (!trainer->own.zeros) trainer->own.zeros = qe_calloc(trainer->own.trained_bytes, 1);
  if (!trainer->varied || !trainer->own.zeros) return QE_NO_MEMORY;
  trainer->variants = *variants;
  return QE_OK;
}

/* The groups that variants have of their own: steps, and what is not trained. */
typedef struct own_part {
  size_t first, bytes, steps; /* in the flat vector; `steps` of them are the steps */
} own_part;

static own_part own_of(const qe_trainer *trainer) {
  const size_t *offset = trainer->model->graph->group_offset;
  return (own_part){offset[QE_GROUP_STEP], offset[QE_GROUPS] - offset[QE_GROUP_STEP],
                    offset[QE_GROUP_STATE] - offset[QE_GROUP_STEP]};
}

static qe_status read_own(qe_trainer *trainer) {
  own_part own = own_of(trainer);
  QE_TRY(qe_queue_read(trainer->queue, trainer->own.params, own.first, (char *)trainer->varied + own.first, own.bytes));
  return qe_queue_wait(trainer->queue);
}

static qe_status write_own(qe_trainer *trainer) {
  own_part own = own_of(trainer);
  QE_TRY(
      qe_queue_write(trainer->queue, trainer->own.params, own.first, (char *)trainer->varied + own.first, own.bytes));
  return qe_queue_wait(trainer->queue);
}

qe_status qe_trainer_enter(qe_trainer *trainer) {
  const qe_graph *graph = trainer->running;
  own_part own = own_of(trainer);
  if (!trainer->variants.enter || own.bytes == 0) return QE_OK;
  QE_TRY(read_own(trainer));
  QE_TRY(trainer->variants.enter(trainer->variants.context, trainer->updates, trainer->varied, &graph));
  QE_TRY(write_own(trainer));
  if (own.steps > 0 && trainer->own.momentum)
    QE_TRY(qe_queue_write(trainer->queue, trainer->own.momentum, own.first, trainer->own.zeros, own.steps));
  return graph == trainer->running ? QE_OK : qe_trainer_lower(trainer, graph);
}

qe_status qe_trainer_leave(qe_trainer *trainer) {
  if (!trainer->variants.enter || own_of(trainer).bytes == 0) return QE_OK;
  QE_TRY(read_own(trainer));
  QE_TRY(trainer->variants.leave(trainer->variants.context, trainer->varied));
  return write_own(trainer);
}
