/* The trainer's parameters in and out, evaluation, and its state as tensors of a checkpoint. */
#include "core/base/alloc.h"
#include "core/train/trainer_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TWIN "twin"

qe_status qe_trainer_upload(qe_trainer *trainer) {
  if (trainer->twin.model) QE_TRY(qe_learner_upload(&trainer->twin));
  return qe_learner_upload(&trainer->own);
}

qe_status qe_trainer_download(qe_trainer *trainer, bool averaged) {
  if (qe_trainer_trains_twin(trainer)) QE_TRY(qe_learner_download(&trainer->twin, averaged));
  return qe_learner_download(&trainer->own, averaged);
}

qe_status qe_trainer_eval_session(qe_trainer *trainer, bool test, bool averaged, qe_session **out) {
  qe_session *session = &trainer->eval[2 * test + averaged];
  *out = session;
  if (session->queue) return QE_OK;
  qe_lower_options lower = {.batch = trainer->options.eval_batch > 0 ? trainer->options.eval_batch : 200,
                            .plain = trainer->options.plain};
  return qe_session_new(trainer->queue, trainer->model->graph, &lower,
                        averaged ? trainer->own.average : trainer->own.params, NULL,
                        test ? &trainer->test_images : &trainer->train_images, session);
}

qe_status qe_trainer_evaluate(qe_trainer *trainer, qe_split_part part, bool averaged, qe_score *score) {
  if (part == QE_PART_HELD_OUT && trainer->options.held_out == 0)
    return qe_fail(QE_USAGE, "no images are held out; set held-out above 0");
  if (averaged && !trainer->own.average) return qe_fail(QE_USAGE, "no moving average is kept; set ema above 0");
  qe_session *session;
  QE_TRY(qe_trainer_eval_session(trainer, part == QE_PART_TEST, averaged, &session));
  if (part == QE_PART_TEST) return qe_session_score(session, NULL, trainer->data->test_images, score);
  if (part == QE_PART_HELD_OUT) return qe_session_score(session, trainer->held, trainer->options.held_out, score);
  return qe_session_score(session, trainer->kept, trainer->kept_count, score);
}

/* ---- state ---- */

static qe_status give_number(qe_tensors *tensors, const char *key, int64_t value) {
  char text[32];
  snprintf(text, sizeof text, "%lld", (long long)value);
  return qe_tensors_set_meta(tensors, key, text);
}

/* Hexadecimal: exact. */
static qe_status give_real(qe_tensors *tensors, const char *key, double value) {
  char text[64];
  snprintf(text, sizeof text, "%a", value);
  return qe_tensors_set_meta(tensors, key, text);
}

static double take_real(const qe_tensors *tensors, const char *key) {
  const char *text = qe_tensors_get_meta(tensors, key);
  return text ? strtod(text, NULL) : 0;
}

/* The second network under the prefix "twin". */
static qe_status give_twin(qe_trainer *trainer, qe_tensors *tensors) {
  const qe_twin_sums *sums = &trainer->twin_sums;
  if (trainer->options.distill.mode == QE_DISTILL_NONE) return QE_OK;
  QE_TRY(qe_tensors_set_meta(tensors, "distill", qe_distill_name(trainer->options.distill.mode)));
  QE_TRY(give_real(tensors, "position.guidance", sums->guidance));
  QE_TRY(give_real(tensors, "position.hints", sums->hints));
  QE_TRY(give_real(tensors, "position.twin_loss", sums->loss));
  QE_TRY(give_number(tensors, "position.twin_hits", sums->hits));
  if (!trainer->twin.model) return QE_OK;
  qe_tensors *twin = qe_tensors_new();
  qe_status status = twin ? qe_learner_give(&trainer->twin, twin) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_tensors_put(tensors, TWIN, twin);
  qe_tensors_free(twin);
  return status;
}

qe_status qe_trainer_give(qe_trainer *trainer, qe_tensors *tensors) {
  char seed[32];
  QE_TRY(qe_learner_give(&trainer->own, tensors));
  if (trainer->variants.enter) QE_TRY(trainer->variants.give(trainer->variants.context, tensors));
  QE_TRY(give_twin(trainer, tensors));
  QE_TRY(give_number(tensors, "position.epoch", trainer->epoch));
  QE_TRY(give_number(tensors, "position.step", trainer->step));
  QE_TRY(give_number(tensors, "position.updates", trainer->updates));
  QE_TRY(give_number(tensors, "position.hits", trainer->hits));
  snprintf(seed, sizeof seed, "%llu", (unsigned long long)trainer->options.seed);
  QE_TRY(qe_tensors_set_meta(tensors, "position.seed", seed));
  QE_TRY(give_number(tensors, "position.epoch_steps", trainer->epoch_steps));
  QE_TRY(give_number(tensors, "position.images", trainer->kept_count));
  QE_TRY(give_real(tensors, "position.loss_sum", trainer->loss_sum));
  QE_TRY(give_real(tensors, "position.rate", trainer->rate));
  return give_real(tensors, "position.gradient_norm", trainer->gradient_norm);
}

static qe_status take_number(const qe_tensors *tensors, const char *file, const char *key, int64_t most,
                             int64_t *value) {
  const char *text = qe_tensors_get_meta(tensors, key);
  char *end = NULL;
  errno = 0;
  long long number = text ? strtoll(text, &end, 10) : 0;
  if (!text || errno || end == text || *end || number < 0 || number > most)
    return qe_fail(QE_FORMAT, "%s: metadata '%s' is '%s'; not a checkpoint of this run", file, key,
                   text ? text : "missing");
  *value = number;
  return QE_OK;
}

/* Another split would train on images that were held out before. Checkpoints of older versions do not say. */
static qe_status check_images(const qe_trainer *trainer, const qe_tensors *tensors, const char *file) {
  int64_t images = trainer->kept_count;
  if (!qe_tensors_get_meta(tensors, "position.images")) return QE_OK;
  QE_TRY(take_number(tensors, file, "position.images", INT32_MAX, &images));
  if (images == trainer->kept_count) return QE_OK;
  return qe_fail(QE_USAGE,
                 "%s was made with %lld training images, this run has %d: resume with the options of the run (data, "
                 "held-out)",
                 file, (long long)images, trainer->kept_count);
}

static qe_status take_position(qe_trainer *trainer, const qe_tensors *tensors, const char *file) {
  int64_t epoch, step, updates, hits, epoch_steps;
  char own_seed[32];
  const int64_t most = INT64_C(1) << 53; /* more than can be counted to, and far from an overflow */
  QE_TRY(take_number(tensors, file, "position.epoch", INT32_MAX - 1, &epoch));
  QE_TRY(take_number(tensors, file, "position.step", trainer->epoch_steps, &step));
  QE_TRY(take_number(tensors, file, "position.updates", most, &updates));
  QE_TRY(take_number(tensors, file, "position.hits", most, &hits));
  QE_TRY(take_number(tensors, file, "position.epoch_steps", most, &epoch_steps));
  const char *seed = qe_tensors_get_meta(tensors, "position.seed");
  snprintf(own_seed, sizeof own_seed, "%llu", (unsigned long long)trainer->options.seed);
  if (!seed || strcmp(seed, own_seed) != 0 || epoch_steps != trainer->epoch_steps)
    return qe_fail(
        QE_USAGE,
        "%s was made with seed %s and %lld steps an epoch, this run has %s and %lld: resume with the options "
        "of the run (seed, batch, data, held-out)",
        file, seed ? seed : "unknown", (long long)epoch_steps, own_seed, (long long)trainer->epoch_steps);
  QE_TRY(check_images(trainer, tensors, file));
  trainer->loss_sum = take_real(tensors, "position.loss_sum");
  trainer->rate = take_real(tensors, "position.rate");
  trainer->gradient_norm = take_real(tensors, "position.gradient_norm");
  trainer->epoch = (int)epoch;
  trainer->step = step;
  trainer->updates = updates;
  trainer->hits = hits;
  return QE_OK;
}

static qe_status take_twin(qe_trainer *trainer, const qe_tensors *tensors, const char *file) {
  qe_distill mode = trainer->options.distill.mode;
  const char *was = qe_tensors_get_meta(tensors, "distill");
  if (strcmp(was ? was : qe_distill_name(QE_DISTILL_NONE), qe_distill_name(mode)) != 0)
    return qe_fail(QE_USAGE,
                   "%s was made with distillation '%s', this run has '%s': resume with the options of the run", file,
                   was ? was : qe_distill_name(QE_DISTILL_NONE), qe_distill_name(mode));
  if (mode == QE_DISTILL_NONE) return QE_OK;
  qe_twin_sums *sums = &trainer->twin_sums;
  sums->guidance = take_real(tensors, "position.guidance");
  sums->hints = take_real(tensors, "position.hints");
  sums->loss = take_real(tensors, "position.twin_loss");
  QE_TRY(take_number(tensors, file, "position.twin_hits", INT64_C(1) << 53, &sums->hits));
  if (!trainer->twin.model) return QE_OK;
  qe_tensors *twin = NULL;
  QE_TRY(qe_tensors_pick(tensors, TWIN, &twin));
  qe_status status = qe_learner_take(&trainer->twin, twin, file);
  qe_tensors_free(twin);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "the second network");
}

qe_status qe_trainer_take(qe_trainer *trainer, const qe_tensors *tensors, const char *file) {
  QE_TRY(qe_learner_take(&trainer->own, tensors, file));
  if (trainer->variants.enter) QE_TRY(trainer->variants.take(trainer->variants.context, tensors, file));
  QE_TRY(take_twin(trainer, tensors, file));
  return take_position(trainer, tensors, file);
}
