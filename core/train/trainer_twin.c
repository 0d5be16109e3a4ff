/* The trainer's second network: its parameters, what the training program is to know of it, its scores. */
#include "core/train/trainer_parts.h"

qe_status qe_trainer_new_twin(qe_trainer *trainer) {
  const qe_distill_options *distill = &trainer->options.distill;
  if (!qe_distill_has_model(distill->mode)) return QE_OK;
  if (!distill->twin) QE_TRY(qe_twin_new(trainer->model, distill, &trainer->made));
  qe_model *twin = distill->twin ? distill->twin : trainer->made;
  return qe_learner_new(trainer->queue, twin, &trainer->options, distill->mode == QE_DISTILL_JOINT, &trainer->twin);
}

bool qe_trainer_trains_twin(const qe_trainer *trainer) {
  return trainer->options.distill.mode == QE_DISTILL_JOINT;
}

const qe_model *qe_trainer_twin(const qe_trainer *trainer) {
  return trainer->twin.model;
}

qe_status qe_trainer_lower_twin(const qe_trainer *trainer, qe_lower_twin *twin, qe_hint *hint) {
  const qe_distill_options *distill = &trainer->options.distill;
  bool own = !qe_distill_has_model(distill->mode), average = distill->mode == QE_DISTILL_AVERAGE;
  const qe_graph *graph = own ? trainer->running : trainer->twin.model->graph;
  *twin = (qe_lower_twin){.graph = graph,
                          .params = average ? trainer->own.average
                                    : own   ? trainer->own.params
                                            : trainer->twin.params,
                          .gradients = trainer->twin.gradients,
                          .training = distill->mode == QE_DISTILL_JOINT || distill->mode == QE_DISTILL_SELF,
                          .silent = distill->mode == QE_DISTILL_SELF,
                          .plain = distill->mode == QE_DISTILL_SELF,
                          .guide = distill->loss,
                          .temperature = (float)distill->temperature,
                          .label_weight = {(float)distill->label_weight, (float)distill->twin_label_weight},
                          .guide_weight = {(float)distill->weight, (float)distill->twin_weight},
                          .hint_weight = {(float)distill->hint_weight, (float)distill->twin_hint_weight},
                          .hint_form = distill->hint,
                          .hint = hint};
  return qe_hints_find(trainer->running, graph, distill->hint, distill->hint_at, hint, &twin->hints);
}

qe_distill_score qe_trainer_distill_score(const qe_trainer *trainer, int64_t images) {
  const qe_distill_options *distill = &trainer->options.distill;
  const qe_twin_sums *sums = &trainer->twin_sums;
  qe_distill_score score = {.guidance = -1, .hints = -1};
  double all = (double)images, parts = trainer->train.mix.on ? QE_SHARE_ALL : 1;
  if (distill->mode == QE_DISTILL_NONE) return score;
  score.guidance = sums->guidance / all;
  if (distill->hint != QE_HINT_NONE) score.hints = sums->hints / all;
  if (qe_trainer_trains_twin(trainer))
    score.twin = (qe_score){sums->loss / all, 100.0 * (double)sums->hits / (parts * all), images};
  return score;
}

qe_status qe_trainer_evaluate_twin(qe_trainer *trainer, bool averaged, qe_score *score) {
  const qe_learner *twin = &trainer->twin;
  if (!twin->model) return qe_fail(QE_USAGE, "the training has no second network with parameters of its own");
  averaged = averaged && twin->average;
  qe_session *session = &trainer->twin_eval[averaged];
  qe_lower_options lower = {.batch = trainer->options.eval_batch > 0 ? trainer->options.eval_batch : 200};
  if (!session->queue)
    QE_TRY(qe_session_new(trainer->queue, twin->model->graph, &lower, averaged ? twin->average : twin->params, NULL,
                          &trainer->test_images, session));
  return qe_session_score(session, NULL, trainer->data->test_images, score);
}
