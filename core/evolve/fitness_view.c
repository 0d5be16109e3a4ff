/* A fitness batch for stages that run networks of their own: its images, and the loss of one of them. */
#include "core/base/fixed.h"
#include "core/evolve/fitness_parts.h"

qe_status qe_fitness_look(qe_fitness *f, const qe_fitness_batch *batch, qe_fitness_view *view) {
  QE_TRY(qe_fitness_draw(f, batch));
  const qe_fitness_worker *worker = &f->worker[0];
  const qe_fitness_drawn *drawn = &f->drawn;
  *view = (qe_fitness_view){.queue = worker->queue,
                            .images = batch->augmented ? worker->augmented : worker->images,
                            .image_count = batch->augmented ? batch->count : f->data->train_images,
                            .index = batch->augmented ? drawn->row : drawn->index,
                            .labels = drawn->labels,
                            .target = drawn->target,
                            .entropy = drawn->entropy,
                            .temperature = f->options.temperature,
                            .count = batch->count,
                            .classes = f->data->classes,
                            .loss = f->options.loss};
  return QE_OK;
}

/* As the op int_loss has it. */
static int64_t label_loss(const int32_t *logits, int32_t classes, int32_t label) {
  int64_t top = logits[0], sum = 0;
  for (int32_t j = 1; j < classes; j++)
    if (logits[j] > top) top = logits[j];
  for (int32_t j = 0; j < classes; j++) sum += qe_exp2_negative(top - logits[j]);
  int64_t loss = qe_log2_q30(sum) + (top - logits[label]) * 256;
  return loss > INT32_MAX ? INT32_MAX : loss;
}

int64_t qe_fitness_loss_of(const qe_fitness_view *view, int32_t i, const int32_t *logits) {
  int64_t loss = 0;
  if (view->loss != QE_FITNESS_TEACHER) loss += label_loss(logits, view->classes, view->labels[i]);
  if (view->loss != QE_FITNESS_LABELS)
    loss += qe_fitness_divergence(logits, view->target + (int64_t)i * view->classes, view->entropy[i], view->classes,
                                  view->temperature);
  return loss;
}
