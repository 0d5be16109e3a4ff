/* Where a training step diverged: the first layer whose output, or the last whose gradient, is not finite. */
#include "core/base/alloc.h"
#include "core/train/trainer_parts.h"

#include <math.h>

static bool all_finite(const float *values, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!isfinite(values[i])) return false;
  return true;
}

/* The parameter nearest the output whose gradient is not finite: gradients go wrong from the output backwards. */
static qe_status find_gradient(const qe_learner *learner, const char **name) {
  const qe_graph *graph = learner->model->graph;
  float *values = qe_alloc(qe_graph_param_bytes(graph));
  if (!values) return QE_NO_MEMORY;
  qe_status status = qe_queue_read(learner->queue, learner->gradients, 0, values, learner->trained_bytes);
  if (status == QE_OK) status = qe_queue_wait(learner->queue);
  for (size_t i = graph->params; status == QE_OK && !*name && i-- > 0;) {
    const qe_param *param = &graph->param[i];
    if (param->group == QE_GROUP_STATE) continue;
    if (!all_finite(values + param->offset / sizeof(float), qe_count(&param->desc))) *name = param->name;
  }
  qe_free(values);
  return status;
}

/* Run the batch again with every output kept and find the first that is not finite. */
static qe_status find_output(qe_trainer *trainer, const qe_learner *learner, const int32_t *index, uint64_t position,
                             const char **name) {
  const qe_graph *graph = learner->model->graph;
  const qe_train_options *options = &trainer->options;
  qe_lower_options lower = qe_trainer_lowering(trainer);
  lower.keep_outputs = true;
  qe_session session;
  QE_TRY(qe_session_new(trainer->queue, graph, &lower, learner->params, NULL, &trainer->train_images, &session));
  double loss = 0;
  int64_t hits = 0;
  qe_status status = qe_session_run(&session, index, options->batch, options->seed, position, &loss, &hits);
  for (size_t i = 0; status == QE_OK && !*name && i < graph->nodes; i++) {
    qe_value value = session.lowered.output[i];
    qe_desc desc = qe_program_desc(session.lowered.program, value);
    float *values = qe_alloc(qe_bytes(&desc));
    status = values ? qe_program_read(session.lowered.program, trainer->queue, value, values) : QE_NO_MEMORY;
    if (status == QE_OK && !all_finite(values, qe_count(&desc))) *name = graph->node[i].name;
    qe_free(values);
  }
  qe_session_free(&session);
  return status;
}

qe_status qe_trainer_diagnose(qe_trainer *trainer, const int32_t *index, uint64_t position, double loss) {
  const char *output = NULL, *gradient = NULL;
  const qe_learner *learner = &trainer->own;
  double mean = loss / trainer->options.batch;
  bool twin = qe_trainer_trains_twin(trainer) && mean <= qe_trainer_loss_limit(trainer) &&
              isfinite(learner->host_square); /* its fault, then */
  if (twin) {
    learner = &trainer->twin;
    mean = trainer->train.twin.sums.loss / trainer->options.batch;
  }
  QE_TRY(find_output(trainer, learner, index, position, &output));
  if (!output) QE_TRY(find_gradient(learner, &gradient));
  static const char cure[] = "lower the learning rate, warm up longer, or clip the gradient norm";
  const char *how = output || gradient ? "not finite" : "too large";
  const char *what = output                                   ? "the output of layer "
                     : gradient                               ? "the gradient of "
                     : mean <= qe_trainer_loss_limit(trainer) ? "the gradient norm"
                                                              : "the loss";
  const char *name = output ? output : gradient ? gradient : "";
  return qe_fail(QE_DIVERGED, "training diverged in epoch %d, step %lld (batch loss %g): %s is %s%s%s; %s",
                 trainer->epoch + 1, (long long)trainer->step + 1, mean, how, what, name,
                 twin ? " of the second network" : "", cure);
}
