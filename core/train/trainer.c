/* The trainer: buffers, programs, epochs of steps. State and evaluation are in trainer_state.c. */
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
                            .flip = true};
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

static qe_status check_options(const qe_train_options *options, const qe_dataset *data) {
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

static qe_status new_buffers(qe_trainer *trainer) {
  size_t bytes = qe_graph_param_bytes(trainer->model->graph);
  trainer->trained_bytes = trainer->model->graph->group_offset[QE_GROUP_STATE];
  if (trainer->trained_bytes == 0) return qe_fail(QE_USAGE, "the model has no parameters to train");
  trainer->state = qe_alloc(bytes - trainer->trained_bytes);
  if (trainer->options.accumulate > 1) trainer->zeros = qe_calloc(trainer->trained_bytes, 1);
  if (!trainer->state || (trainer->options.accumulate > 1 && !trainer->zeros)) return QE_NO_MEMORY;
  QE_TRY(qe_buffer_new(trainer->device, bytes, &trainer->params));
  QE_TRY(qe_buffer_new(trainer->device, bytes, &trainer->gradients));
  QE_TRY(qe_buffer_new(trainer->device, bytes, &trainer->momentum));
  if (trainer->options.optimizer == QE_OPTIMIZER_ADAM) QE_TRY(qe_buffer_new(trainer->device, bytes, &trainer->second));
  if (trainer->options.accumulate > 1) QE_TRY(qe_buffer_new(trainer->device, bytes, &trainer->total));
  if (trainer->options.ema > 0) QE_TRY(qe_buffer_new(trainer->device, bytes, &trainer->average));
  QE_TRY(qe_buffer_new(trainer->device, 2 * QE_HYPERS * sizeof(float), &trainer->hyper));
  QE_TRY(qe_buffer_new(trainer->device, sizeof(float), &trainer->square));
  return qe_trainer_upload(trainer);
}

static qe_value bind(qe_program *program, const char *name, qe_buffer *buffer, size_t start, size_t end,
                     qe_status *status) {
  qe_value value = -1;
  if (*status == QE_OK)
    *status = qe_program_bind(program, name, qe_vector(QE_F32, (int32_t)((end - start) / sizeof(float))), buffer, start,
                              &value);
  return value;
}

static qe_buffer *update_source(const qe_trainer *trainer) {
  return trainer->total ? trainer->total : trainer->gradients;
}

/* The optimizer's call for one group of parameters. */
static qe_status add_group_update(qe_trainer *trainer, qe_group group) {
  const qe_graph *graph = trainer->model->graph;
  size_t start = graph->group_offset[group], end = graph->group_offset[group + 1];
  if (start == end) return QE_OK;
  qe_program *program = trainer->update;
  qe_status status = QE_OK;
  bool adam = trainer->options.optimizer == QE_OPTIMIZER_ADAM;
  size_t hyper = group == QE_GROUP_WEIGHT ? 0 : QE_HYPERS * sizeof(float);
  qe_value values[5] = {
      bind(program, "gradient", update_source(trainer), start, end, &status),
      bind(program, "hyper", trainer->hyper, hyper, hyper + QE_HYPERS * sizeof(float), &status),
      bind(program, "param", trainer->params, start, end, &status),
      bind(program, "momentum", trainer->momentum, start, end, &status),
      adam ? bind(program, "second", trainer->second, start, end, &status) : -1,
  };
  QE_TRY(status);
  QE_TRY(qe_program_call(program, adam ? QE_OP_adam : QE_OP_sgd, NULL, values));
  if (group != QE_GROUP_STEP) return QE_OK;
  qe_attrs positive = {.low = 1e-7f, .high = INFINITY};
  return qe_program_call(program, QE_OP_clamp, &positive, (qe_value[]){values[2], values[2]});
}

/* The moving average is of the whole vector: running statistics belong to the weights they were gathered under. */
static qe_status add_average(qe_trainer *trainer) {
  size_t bytes = qe_graph_param_bytes(trainer->model->graph);
  qe_status status = QE_OK;
  qe_value values[3] = {
      bind(trainer->update, "params", trainer->params, 0, bytes, &status),
      bind(trainer->update, "hyper", trainer->hyper, 0, QE_HYPERS * sizeof(float), &status),
      bind(trainer->update, "average", trainer->average, 0, bytes, &status),
  };
  QE_TRY(status);
  return qe_program_call(trainer->update, QE_OP_ema, NULL, values);
}

static qe_status new_programs(qe_trainer *trainer) {
  size_t end = trainer->trained_bytes;
  qe_status status = QE_OK;
  QE_TRY(qe_program_new(trainer->device, "gradient norm", &trainer->norm));
  qe_value source = bind(trainer->norm, "gradient", update_source(trainer), 0, end, &status);
  qe_value square = bind(trainer->norm, "square", trainer->square, 0, sizeof(float), &status);
  QE_TRY(status);
  QE_TRY(qe_program_call(trainer->norm, QE_OP_square_sum, NULL, (qe_value[]){source, square}));
  QE_TRY(qe_program_plan(trainer->norm, NULL));

  QE_TRY(qe_program_new(trainer->device, "update", &trainer->update));
  if (trainer->options.clip_norm > 0) {
    square = bind(trainer->update, "square", trainer->square, 0, sizeof(float), &status);
    qe_value hyper = bind(trainer->update, "hyper", trainer->hyper, 0, QE_HYPERS * sizeof(float), &status);
    source = bind(trainer->update, "gradient", update_source(trainer), 0, end, &status);
    QE_TRY(status);
    QE_TRY(qe_program_call(trainer->update, QE_OP_clip_norm, NULL, (qe_value[]){square, hyper, source}));
  }
  for (int group = 0; group < QE_GROUP_STATE; group++) QE_TRY(add_group_update(trainer, (qe_group)group));
  if (trainer->average) QE_TRY(add_average(trainer));
  QE_TRY(qe_program_plan(trainer->update, NULL));

  if (!trainer->total) return QE_OK;
  QE_TRY(qe_program_new(trainer->device, "accumulate", &trainer->accumulate));
  source = bind(trainer->accumulate, "gradient", trainer->gradients, 0, end, &status);
  qe_value total = bind(trainer->accumulate, "total", trainer->total, 0, end, &status);
  QE_TRY(status);
  QE_TRY(qe_program_call(trainer->accumulate, QE_OP_accumulate, NULL, (qe_value[]){source, total}));
  return qe_program_plan(trainer->accumulate, NULL);
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
  qe_session_free(&trainer->train);
  trainer->running = graph;
  return qe_session_new(trainer->queue, graph, &lower, trainer->params, trainer->gradients, &trainer->train_images,
                        &trainer->train);
}

qe_status qe_trainer_new(qe_device *device, qe_model *model, const qe_dataset *data, const qe_train_options *options,
                         qe_trainer **out) {
  QE_TRY(check_options(options, data));
  qe_trainer *trainer = QE_NEW(qe_trainer);
  if (!trainer) return QE_NO_MEMORY;
  trainer->device = device;
  trainer->model = model;
  trainer->data = data;
  trainer->options = *options;
  for (size_t i = 0; !options->plain && i < model->graph->params; i++) model->graph->param[i].initialised = true;
  qe_status status = qe_queue_new(device, &trainer->queue);
  if (status == QE_OK) status = new_data(trainer);
  if (status == QE_OK) status = new_buffers(trainer);
  if (status == QE_OK) status = new_programs(trainer);
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
  qe_session_free(&trainer->train);
  qe_gates_free(trainer->gates);
  qe_program_free(trainer->norm);
  qe_program_free(trainer->update);
  qe_program_free(trainer->accumulate);
  qe_image_store_free(&trainer->train_images);
  qe_image_store_free(&trainer->test_images);
  qe_buffer *const buffers[] = {trainer->params, trainer->gradients, trainer->total, trainer->momentum,
                                trainer->second, trainer->average,   trainer->hyper, trainer->square};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) qe_buffer_free(buffers[i]);
  qe_free(trainer->kept);
  qe_free(trainer->held);
  qe_free(trainer->order);
  qe_free(trainer->state);
  qe_free(trainer->zeros);
  qe_free(trainer->varied);
  qe_free(trainer);
}

static void fill_hyper(const qe_trainer *trainer, double rate, float *hyper) {
  const qe_train_options *options = &trainer->options;
  double t = (double)trainer->updates + 1;
  for (int with_decay = 0; with_decay < 2; with_decay++) {
    float *row = hyper + (with_decay ? 0 : QE_HYPERS);
    memset(row, 0, QE_HYPERS * sizeof *row);
    row[QE_HYPER_RATE] = (float)rate;
    row[QE_HYPER_MOMENTUM] = (float)options->momentum;
    row[QE_HYPER_BETA2] = (float)options->beta2;
    row[QE_HYPER_EPSILON] = (float)options->epsilon;
    row[QE_HYPER_DECAY] = with_decay ? (float)options->weight_decay : 0;
    row[QE_HYPER_NESTEROV] = options->nesterov;
    row[QE_HYPER_CORRECTION1] = (float)(1 / (1 - pow(options->momentum, t)));
    row[QE_HYPER_CORRECTION2] = (float)(1 / (1 - pow(options->beta2, t)));
    row[QE_HYPER_CLIP] = (float)options->clip_norm;
    /* Early on a shorter memory, so that the start does not linger in the average. */
    row[QE_HYPER_AVERAGE] = (float)fmin(options->ema, t / (t + 9));
  }
}

/* Nothing waits: the next step's batch goes up while this runs, and its failure shows at the next wait. */
static qe_status update(qe_trainer *trainer, double rate) {
  fill_hyper(trainer, rate, trainer->host_hyper);
  QE_TRY(qe_queue_write(trainer->queue, trainer->hyper, 0, trainer->host_hyper, sizeof trainer->host_hyper));
  QE_TRY(qe_program_run(trainer->update, trainer->queue));
  trainer->updates++;
  return trainer->total ? qe_queue_write(trainer->queue, trainer->total, 0, trainer->zeros, trainer->trained_bytes)
                        : QE_OK;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double qe_trainer_loss_limit(const qe_trainer *trainer) {
  return 100 * log((double)trainer->data->classes);
}

static size_t state_bytes(const qe_trainer *trainer) {
  return qe_graph_param_bytes(trainer->model->graph) - trainer->trained_bytes;
}

/* Running statistics have moved with the forward pass, and move with the diagnosis: put them back. */
static qe_status diverged(qe_trainer *trainer, const int32_t *index, uint64_t position, double loss) {
  qe_status status = qe_trainer_diagnose(trainer, index, position, loss);
  QE_TRY(qe_queue_write(trainer->queue, trainer->params, trainer->trained_bytes, trainer->state, state_bytes(trainer)));
  QE_TRY(qe_queue_wait(trainer->queue));
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
  qe_queue *queue = trainer->queue;
  QE_TRY(qe_queue_read(queue, trainer->params, trainer->trained_bytes, trainer->state, state_bytes(trainer)));
  if (trainer->gates) QE_TRY(draw_gates(trainer));
  QE_TRY(qe_session_start(&trainer->train, order, options->batch, options->seed, position));
  if (trainer->total) QE_TRY(qe_program_run(trainer->accumulate, queue));
  if (last) QE_TRY(qe_program_run(trainer->norm, queue));
  if (last) QE_TRY(qe_queue_read(queue, trainer->square, 0, &trainer->host_square, sizeof trainer->host_square));
  return qe_session_finish(&trainer->train, order, options->batch, loss, hits);
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
  bool finite = !last || isfinite(trainer->host_square);
  if (!finite || !(loss / options->batch <= qe_trainer_loss_limit(trainer)))
    return diverged(trainer, order, position, loss);
  if (last) {
    trainer->rate = qe_schedule_rate(&options->schedule, trainer->updates, trainer->updates_total,
                                     trainer->epoch_steps / options->accumulate);
    trainer->gradient_norm = sqrt((double)trainer->host_square);
    QE_TRY(update(trainer, trainer->rate));
  }
  QE_TRY(qe_trainer_leave(trainer));
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
  qe_program_explain(trainer->norm, file);
  qe_program_explain(trainer->update, file);
}

qe_status qe_trainer_profile(qe_trainer *trainer, int runs, FILE *file) {
  QE_TRY(qe_program_profile(trainer->train.lowered.program, trainer->queue, runs, file));
  QE_TRY(qe_program_profile(trainer->norm, trainer->queue, runs, file));
  return qe_program_profile(trainer->update, trainer->queue, runs, file);
}

size_t qe_trainer_bytes(const qe_trainer *trainer) {
  const qe_buffer *const buffers[] = {trainer->params,
                                      trainer->gradients,
                                      trainer->total,
                                      trainer->momentum,
                                      trainer->second,
                                      trainer->average,
                                      trainer->train_images.pixels,
                                      trainer->test_images.pixels,
                                      trainer->train.staged};
  size_t bytes = qe_program_arena_bytes(trainer->train.lowered.program);
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) bytes += buffers[i] ? buffers[i]->bytes : 0;
  return bytes;
}
