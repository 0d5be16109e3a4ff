/* The trainer: data, programs, epochs of steps. State and evaluation are in trainer_state.c. */
#include "core/train/trainer.h"

#include "core/base/alloc.h"
#include "core/data/split.h"
#include "core/train/trainer_parts.h"

#include <math.h>
#include <string.h>
#include <time.h>

qe_train_options qe_train_defaults(void) {
  return (qe_train_options){.seed = 1,
                            .epochs = 30,
                            .batch = 128,
                            .accumulate = 1,
                            .schedule = {.kind = QE_SCHEDULE_COSINE, .rate = 0.1, .gamma = 0.1, .cycle = 10},
                            .momentum = 0.9,
                            .beta2 = 0.999,
                            .epsilon = 1e-8,
                            .nesterov = true,
                            .weight_decay = 5e-4,
                            .pad = 4,
                            .flip = true,
                            .distill = qe_distill_defaults()};
}

static qe_status check_augmentation(const qe_train_options *options) {
  static const char *const names[QE_JITTERS] = {"brightness", "contrast", "saturation"};
  for (int k = 0; k < QE_JITTERS; k++)
    if (!(options->jitter[k] >= 0 && options->jitter[k] <= 1))
      return qe_fail(QE_USAGE, "%s %g: must be in 0...1", names[k], options->jitter[k]);
  if (!(options->mixup >= 0 && options->mixup <= (double)QE_MIXUP_MOST / QE_MIXUP_ONE))
    return qe_fail(QE_USAGE, "mixup %g: must be in 0...%d", options->mixup, QE_MIXUP_MOST / QE_MIXUP_ONE);
  if (options->mixup > 0 && options->batch < 2)
    return qe_fail(QE_USAGE, "mixup mixes images of a batch, which has one only; make batch larger");
  return QE_OK;
}

qe_status qe_train_check(const qe_train_options *options, const qe_dataset *data) {
  if (options->epochs < 1) return qe_fail(QE_USAGE, "epochs %d: must be at least 1", options->epochs);
  if (options->batch < 1 || options->accumulate < 1)
    return qe_fail(QE_USAGE, "batch %d, accumulate %d: each must be at least 1", options->batch, options->accumulate);
  const qe_schedule *schedule = &options->schedule;
  if (!isfinite(schedule->rate) || schedule->rate < 0 || !(schedule->warmup >= 0))
    return qe_fail(QE_USAGE, "learning rate %g, warm-up %g: each must be at least 0", schedule->rate, schedule->warmup);
  if (qe_schedule_has_cycles(schedule->kind) && !(schedule->cycle > 0))
    return qe_fail(QE_USAGE, "cycle %g: the schedule %s needs epochs above 0", schedule->cycle,
                   qe_schedule_name(schedule->kind));
  if (options->held_out < 0 || options->held_out >= data->train_images)
    return qe_fail(QE_USAGE, "%d images held out of %d: some must be left to train on", options->held_out,
                   data->train_images);
  QE_TRY(check_augmentation(options));
  QE_TRY(qe_distill_check(&options->distill));
  if (options->distill.mode == QE_DISTILL_AVERAGE && !(options->ema > 0))
    return qe_fail(QE_USAGE, "distillation from the moving average of the network needs one: set ema above 0");
  if ((int64_t)options->batch * options->accumulate > data->train_images - options->held_out)
    return qe_fail(QE_USAGE, "batch %d x accumulate %d is more than the %d training images; make it smaller",
                   options->batch, options->accumulate, data->train_images - options->held_out);
  return QE_OK;
}

static qe_status new_data(qe_trainer *trainer) {
  const qe_dataset *data = trainer->data;
  int32_t held = trainer->options.held_out;
  trainer->kept_count = data->train_images - held;
  trainer->kept = QE_NEW_ARRAY(int32_t, trainer->kept_count);
  trainer->held = QE_NEW_ARRAY(int32_t, held + 1);
  trainer->order = QE_NEW_ARRAY(int32_t, trainer->kept_count);
  if (!trainer->kept || !trainer->held || !trainer->order) return QE_NO_MEMORY;
  QE_TRY(qe_split(trainer->options.seed, data->train_labels, data->train_images, data->classes, held, trainer->kept,
                  trainer->held));
  /* Whole updates only: what is left of an epoch comes first in nobody's order twice, for orders differ. */
  int64_t per_update = (int64_t)trainer->options.batch * trainer->options.accumulate;
  trainer->epoch_steps = trainer->kept_count / per_update * trainer->options.accumulate;
  trainer->updates_total = trainer->epoch_steps / trainer->options.accumulate * trainer->options.epochs;
  QE_TRY(qe_image_store_new(trainer->queue, data, false, &trainer->train_images));
  return qe_image_store_new(trainer->queue, data, true, &trainer->test_images);
}

void qe_train_augment(const qe_train_options *options, qe_lower_options *lower) {
  lower->pad = options->pad;
  lower->flip = options->flip;
  lower->cutout = options->cutout;
  for (int k = 0; k < QE_JITTERS; k++) lower->jitter[k] = (int32_t)lround(options->jitter[k] * QE_JITTER_ALL);
  lower->mixup = options->mixup > 0 ? (int32_t)fmax(1, round(options->mixup * QE_MIXUP_ONE)) : 0;
}

qe_lower_options qe_trainer_lowering(const qe_trainer *trainer) {
  const qe_train_options *options = &trainer->options;
  qe_lower_options lower = {.batch = options->batch, .training = true, .plain = options->plain};
  if (trainer->gates) lower.gates = (qe_lower_gates){trainer->gates->of_node, trainer->gates->buffer};
  qe_train_augment(options, &lower);
  return lower;
}

qe_status qe_trainer_lower(qe_trainer *trainer, const qe_graph *graph) {
  const qe_train_options *options = &trainer->options;
  if (options->gates.unit != QE_GATE_OFF && !options->plain)
    QE_TRY(qe_gates_new(trainer->device, trainer->model->graph, &options->gates, &trainer->gates));
  qe_lower_options lower = qe_trainer_lowering(trainer);
  lower.backward = true;
  lower.smoothing = options->smoothing;
  lower.scale = 1.0f / (float)((int64_t)options->batch * options->accumulate);
  qe_lower_twin twin;
  qe_hint hint[QE_MOST_HINTS];
  qe_session_free(&trainer->train);
  trainer->running = graph;
  if (options->distill.mode != QE_DISTILL_NONE) {
    QE_TRY(qe_trainer_lower_twin(trainer, &twin, hint));
    lower.twin = &twin;
  }
  return qe_session_new(trainer->queue, graph, &lower, trainer->own.params, trainer->own.gradients,
                        &trainer->train_images, &trainer->train);
}

qe_status qe_trainer_new(qe_device *device, qe_model *model, const qe_dataset *data, const qe_train_options *options,
                         qe_trainer **out) {
  QE_TRY(qe_train_check(options, data));
  qe_trainer *trainer = QE_NEW(qe_trainer);
  if (!trainer) return QE_NO_MEMORY;
  trainer->device = device;
  trainer->model = model;
  trainer->data = data;
  trainer->options = *options;
  if (options->plain) trainer->options.distill.mode = QE_DISTILL_NONE;
  for (size_t i = 0; !options->plain && i < model->graph->params; i++) model->graph->param[i].initialised = true;
  qe_status status = qe_queue_new(device, &trainer->queue);
  if (status == QE_OK) status = new_data(trainer);
  if (status == QE_OK) status = qe_learner_new(trainer->queue, model, &trainer->options, true, &trainer->own);
  if (status == QE_OK) status = qe_trainer_new_twin(trainer);
  if (status == QE_OK) status = qe_trainer_lower(trainer, model->graph);
  if (status != QE_OK) {
    qe_trainer_free(trainer);
    return status;
  }
  *out = trainer;
  return QE_OK;
}

void qe_trainer_free(qe_trainer *trainer) {
  if (!trainer) return;
  qe_queue_free(trainer->queue); /* waits */
  for (int i = 0; i < QE_EVALS; i++) qe_session_free(&trainer->eval[i]);
  for (int i = 0; i < 2; i++) qe_session_free(&trainer->twin_eval[i]);
  qe_session_free(&trainer->train);
  qe_gates_free(trainer->gates);
  qe_image_store_free(&trainer->train_images);
  qe_image_store_free(&trainer->test_images);
  qe_learner_free(&trainer->own);
  qe_learner_free(&trainer->twin);
  qe_model_free(trainer->made);
  qe_free(trainer->kept);
  qe_free(trainer->held);
  qe_free(trainer->order);
  qe_free(trainer->varied);
  qe_free(trainer);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double qe_trainer_loss_limit(const qe_trainer *trainer) {
  return 100 * log((double)trainer->data->classes);
}

/* Running statistics have moved with the forward pass, and move with the diagnosis: put them back. */
static qe_status diverged(qe_trainer *trainer, const int32_t *index, uint64_t position, double loss) {
  qe_status status = qe_trainer_diagnose(trainer, index, position, loss);
  QE_TRY(qe_learner_restore_state(&trainer->own));
  if (qe_trainer_trains_twin(trainer)) QE_TRY(qe_learner_restore_state(&trainer->twin));
  return status;
}

/* What the draws of the running epoch, of its running batch, and of that batch's first image are numbered by. */
static uint64_t epoch_number(const qe_trainer *trainer) {
  return (uint64_t)trainer->options.epochs_before + (uint64_t)trainer->epoch;
}
static uint64_t batch_number(const qe_trainer *trainer) {
  return epoch_number(trainer) * (uint64_t)trainer->epoch_steps + (uint64_t)trainer->step;
}
static uint64_t batch_position(const qe_trainer *trainer) {
  return batch_number(trainer) * (uint64_t)trainer->options.batch;
}

/* Of all batches of the phase, the part that is done. */
static double phase_done(const qe_trainer *trainer) {
  int64_t done = trainer->epoch * trainer->epoch_steps + trainer->step;
  return (double)done / ((double)trainer->epoch_steps * trainer->options.epochs);
}

double qe_trainer_quantised(const qe_trainer *trainer) {
  return trainer->gates ? qe_gates_portion(&trainer->gates->options, phase_done(trainer)) : -1;
}

/* What part of the network is quantised in the running batch. */
static qe_status draw_gates(qe_trainer *trainer) {
  qe_gates *gates = trainer->gates;
  qe_gates_draw(gates, trainer->options.seed, batch_number(trainer), phase_done(trainer));
  return qe_queue_write(trainer->queue, gates->buffer, 0, gates->host, (size_t)gates->count * sizeof(int32_t));
}

/* Forward, backward and, at the end of an accumulation, the squared gradient norm; one wait for all. */
static qe_status run_passes(qe_trainer *trainer, const int32_t *order, uint64_t position, bool last, double *loss,
                            int64_t *hits) {
  const qe_train_options *options = &trainer->options;
  qe_learner *twin = qe_trainer_trains_twin(trainer) ? &trainer->twin : NULL;
  QE_TRY(qe_learner_keep_state(&trainer->own));
  if (twin) QE_TRY(qe_learner_keep_state(twin));
  if (trainer->gates) QE_TRY(draw_gates(trainer));
  QE_TRY(qe_session_start(&trainer->train, order, options->batch, options->seed, position));
  QE_TRY(qe_learner_gather(&trainer->own, last));
  if (twin) QE_TRY(qe_learner_gather(twin, last));
  return qe_session_finish(&trainer->train, order, options->batch, loss, hits);
}

/* Whether what came of a batch can be gone on with; `loss`: its sum. */
static bool is_sound(const qe_trainer *trainer, bool last, double loss) {
  double limit = qe_trainer_loss_limit(trainer) * trainer->options.batch;
  bool sound = loss <= limit && (!last || isfinite(trainer->own.host_square));
  if (!qe_trainer_trains_twin(trainer)) return sound;
  return sound && trainer->train.twin.sums.loss <= limit && (!last || isfinite(trainer->twin.host_square));
}

/* One batch: both passes and, at the end of an accumulation, the parameter update. Loss and norm are checked before
 * parameters change: a step that diverged leaves them as they were. */
static qe_status run_step(qe_trainer *trainer) {
  const qe_train_options *options = &trainer->options;
  const int32_t *order = trainer->order + trainer->step * options->batch;
  uint64_t position = batch_position(trainer);
  bool last = (trainer->step + 1) % options->accumulate == 0;
  double loss = 0;
  int64_t hits = 0;
  QE_TRY(qe_trainer_enter(trainer));
  QE_TRY(run_passes(trainer, order, position, last, &loss, &hits));
  if (!is_sound(trainer, last, loss)) return diverged(trainer, order, position, loss);
  if (last) {
    trainer->rate = qe_schedule_rate(&options->schedule, trainer->updates, trainer->updates_total,
                                     trainer->epoch_steps / options->accumulate);
    trainer->gradient_norm = sqrt((double)trainer->own.host_square);
    QE_TRY(qe_learner_update(&trainer->own, trainer->rate, trainer->updates));
    if (qe_trainer_trains_twin(trainer))
      QE_TRY(qe_learner_update(&trainer->twin, trainer->rate * options->distill.twin_rate, trainer->updates));
    trainer->updates++;
  }
  QE_TRY(qe_trainer_leave(trainer));
  qe_twin_sums_add(&trainer->twin_sums, &trainer->train.twin.sums);
  trainer->loss_sum += loss;
  trainer->hits += hits;
  trainer->step++;
  return QE_OK;
}

static void fill_progress(const qe_trainer *trainer, double since, int64_t done, qe_train_progress *progress) {
  int64_t images = trainer->step * trainer->options.batch;
  progress->step = trainer->step;
  progress->rate = trainer->rate;
  progress->gradient_norm = trainer->gradient_norm;
  progress->train.images = images;
  progress->train.loss = trainer->loss_sum / (double)images;
  progress->distill = qe_trainer_distill_score(trainer, images);
  double parts = trainer->train.mix.on ? QE_SHARE_ALL : 1;
  progress->train.top1 = 100.0 * (double)trainer->hits / (parts * (double)images);
  double elapsed = seconds() - since;
  progress->images_per_second = elapsed > 0 ? (double)(done * trainer->options.batch) / elapsed : 0;
}

qe_status qe_trainer_epoch(qe_trainer *trainer, qe_progress_function report, void *context) {
  qe_train_progress progress = {
      .epoch = trainer->epoch + 1, .epochs = trainer->options.epochs, .steps = trainer->epoch_steps};
  if (trainer->epoch >= trainer->options.epochs)
    return qe_fail(QE_USAGE, "all %d epochs are done; ask for more epochs", trainer->options.epochs);
  qe_shuffle(trainer->options.seed, epoch_number(trainer), trainer->order, trainer->kept_count);
  for (int32_t i = 0; i < trainer->kept_count; i++) trainer->order[i] = trainer->kept[trainer->order[i]];
  int64_t batch = trainer->options.batch;
  QE_TRY(qe_session_expect(&trainer->train, trainer->order + trainer->step * batch,
                           (trainer->epoch_steps - trainer->step) * batch, trainer->options.seed,
                           batch_position(trainer)));
  double since = seconds();
  if (trainer->step == trainer->epoch_steps) { /* resumed behind the last batch: its score is all there is to tell */
    fill_progress(trainer, since, 0, &progress);
    if (report) QE_TRY(report(context, &progress));
  }
  for (int64_t done = 1; trainer->step < trainer->epoch_steps; done++) {
    QE_TRY(run_step(trainer));
    fill_progress(trainer, since, done, &progress);
    if (report) QE_TRY(report(context, &progress));
  }
  trainer->epoch++;
  trainer->step = 0;
  trainer->loss_sum = 0;
  trainer->hits = 0;
  trainer->twin_sums = (qe_twin_sums){0};
  return QE_OK;
}

int qe_trainer_epochs_done(const qe_trainer *trainer) {
  return trainer->epoch;
}

int64_t qe_trainer_steps_done(const qe_trainer *trainer) {
  return trainer->step;
}

int64_t qe_trainer_epoch_steps(const qe_trainer *trainer) {
  return trainer->epoch_steps;
}

void qe_trainer_explain(const qe_trainer *trainer, FILE *file) {
  qe_program_explain(trainer->train.lowered.program, file);
  qe_program_explain(trainer->own.norm, file);
  qe_program_explain(trainer->own.update, file);
}

qe_status qe_trainer_profile(qe_trainer *trainer, int runs, FILE *file) {
  QE_TRY(qe_program_profile(trainer->train.lowered.program, trainer->queue, runs, file));
  QE_TRY(qe_program_profile(trainer->own.norm, trainer->queue, runs, file));
  return qe_program_profile(trainer->own.update, trainer->queue, runs, file);
}

size_t qe_trainer_bytes(const qe_trainer *trainer) {
  const qe_buffer *const buffers[] = {trainer->train_images.pixels, trainer->test_images.pixels, trainer->train.staged};
  size_t bytes = qe_program_arena_bytes(trainer->train.lowered.program) + qe_learner_bytes(&trainer->own) +
                 qe_learner_bytes(&trainer->twin);
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) bytes += buffers[i] ? buffers[i]->bytes : 0;
  return bytes;
}
