/* Learners: buffers and programs of one network's updates, and its state as tensors. */
#include "core/train/learner.h"

#include "core/base/alloc.h"

#include <math.h>
#include <string.h>

static size_t param_bytes(const qe_learner *learner) {
  return qe_graph_param_bytes(learner->model->graph);
}

static qe_status new_buffers(qe_learner *learner) {
  qe_device *device = learner->queue->device;
  const qe_train_options *options = learner->options;
  size_t bytes = param_bytes(learner);
  learner->trained_bytes = learner->model->graph->group_offset[QE_GROUP_STATE];
  if (learner->trained_bytes == 0) return qe_fail(QE_USAGE, "the model has no parameters to train");
  learner->state = qe_alloc(bytes - learner->trained_bytes);
  if (options->accumulate > 1) learner->zeros = qe_calloc(learner->trained_bytes, 1);
  if (!learner->state || (options->accumulate > 1 && !learner->zeros)) return QE_NO_MEMORY;
  QE_TRY(qe_buffer_new(device, bytes, &learner->gradients));
  QE_TRY(qe_buffer_new(device, bytes, &learner->momentum));
  if (options->optimizer == QE_OPTIMIZER_ADAM) QE_TRY(qe_buffer_new(device, bytes, &learner->second));
  if (options->accumulate > 1) QE_TRY(qe_buffer_new(device, bytes, &learner->total));
  if (options->ema > 0) QE_TRY(qe_buffer_new(device, bytes, &learner->average));
  QE_TRY(qe_buffer_new(device, 2 * QE_HYPERS * sizeof(float), &learner->hyper));
  return qe_buffer_new(device, sizeof(float), &learner->square);
}

static qe_value bind(qe_program *program, const char *name, qe_buffer *buffer, size_t start, size_t end,
                     qe_status *status) {
  qe_value value = -1;
  if (*status == QE_OK)
    *status = qe_program_bind(program, name, qe_vector(QE_F32, (int32_t)((end - start) / sizeof(float))), buffer, start,
                              &value);
  return value;
}

static qe_buffer *update_source(const qe_learner *learner) {
  return learner->total ? learner->total : learner->gradients;
}

/* The optimizer's call for one group of parameters. */
static qe_status add_group_update(qe_learner *learner, qe_group group) {
  const qe_graph *graph = learner->model->graph;
  size_t start = graph->group_offset[group], end = graph->group_offset[group + 1];
  if (start == end) return QE_OK;
  qe_program *program = learner->update;
  qe_status status = QE_OK;
  bool adam = learner->options->optimizer == QE_OPTIMIZER_ADAM;
  size_t hyper = group == QE_GROUP_WEIGHT ? 0 : QE_HYPERS * sizeof(float);
  qe_value values[5] = {
      bind(program, "gradient", update_source(learner), start, end, &status),
      bind(program, "hyper", learner->hyper, hyper, hyper + QE_HYPERS * sizeof(float), &status),
      bind(program, "param", learner->params, start, end, &status),
      bind(program, "momentum", learner->momentum, start, end, &status),
      adam ? bind(program, "second", learner->second, start, end, &status) : -1,
  };
  QE_TRY(status);
  QE_TRY(qe_program_call(program, adam ? QE_OP_adam : QE_OP_sgd, NULL, values));
  if (group != QE_GROUP_STEP) return QE_OK;
  qe_attrs positive = {.low = 1e-7f, .high = INFINITY};
  return qe_program_call(program, QE_OP_clamp, &positive, (qe_value[]){values[2], values[2]});
}

/* The moving average is of the whole vector: running statistics belong to the weights they were gathered under. */
static qe_status add_average(qe_learner *learner) {
  size_t bytes = qe_graph_param_bytes(learner->model->graph);
  qe_status status = QE_OK;
  qe_value values[3] = {
      bind(learner->update, "params", learner->params, 0, bytes, &status),
      bind(learner->update, "hyper", learner->hyper, 0, QE_HYPERS * sizeof(float), &status),
      bind(learner->update, "average", learner->average, 0, bytes, &status),
  };
  QE_TRY(status);
  return qe_program_call(learner->update, QE_OP_ema, NULL, values);
}

static qe_status new_programs(qe_learner *learner) {
  size_t end = learner->trained_bytes;
  qe_status status = QE_OK;
  QE_TRY(qe_program_new(learner->queue->device, "gradient norm", &learner->norm));
  qe_value source = bind(learner->norm, "gradient", update_source(learner), 0, end, &status);
  qe_value square = bind(learner->norm, "square", learner->square, 0, sizeof(float), &status);
  QE_TRY(status);
  QE_TRY(qe_program_call(learner->norm, QE_OP_square_sum, NULL, (qe_value[]){source, square}));
  QE_TRY(qe_program_plan(learner->norm, NULL));

  QE_TRY(qe_program_new(learner->queue->device, "update", &learner->update));
  if (learner->options->clip_norm > 0) {
    square = bind(learner->update, "square", learner->square, 0, sizeof(float), &status);
    qe_value hyper = bind(learner->update, "hyper", learner->hyper, 0, QE_HYPERS * sizeof(float), &status);
    source = bind(learner->update, "gradient", update_source(learner), 0, end, &status);
    QE_TRY(status);
    QE_TRY(qe_program_call(learner->update, QE_OP_clip_norm, NULL, (qe_value[]){square, hyper, source}));
  }
  for (int group = 0; group < QE_GROUP_STATE; group++) QE_TRY(add_group_update(learner, (qe_group)group));
  if (learner->average) QE_TRY(add_average(learner));
  QE_TRY(qe_program_plan(learner->update, NULL));

  if (!learner->total) return QE_OK;
  QE_TRY(qe_program_new(learner->queue->device, "accumulate", &learner->accumulate));
  source = bind(learner->accumulate, "gradient", learner->gradients, 0, end, &status);
  qe_value total = bind(learner->accumulate, "total", learner->total, 0, end, &status);
  QE_TRY(status);
  QE_TRY(qe_program_call(learner->accumulate, QE_OP_accumulate, NULL, (qe_value[]){source, total}));
  return qe_program_plan(learner->accumulate, NULL);
}

static void fill_hyper(const qe_learner *learner, double rate, int64_t updates, float *hyper) {
  const qe_train_options *options = learner->options;
  double t = (double)updates + 1;
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

qe_status qe_learner_update(qe_learner *learner, double rate, int64_t updates) {
  fill_hyper(learner, rate, updates, learner->host_hyper);
  QE_TRY(qe_queue_write(learner->queue, learner->hyper, 0, learner->host_hyper, sizeof learner->host_hyper));
  QE_TRY(qe_program_run(learner->update, learner->queue));
  return learner->total ? qe_queue_write(learner->queue, learner->total, 0, learner->zeros, learner->trained_bytes)
                        : QE_OK;
}

/* ---- a step ---- */

qe_status qe_learner_keep_state(qe_learner *learner) {
  return qe_queue_read(learner->queue, learner->params, learner->trained_bytes, learner->state,
                       param_bytes(learner) - learner->trained_bytes);
}

qe_status qe_learner_restore_state(qe_learner *learner) {
  QE_TRY(qe_queue_write(learner->queue, learner->params, learner->trained_bytes, learner->state,
                        param_bytes(learner) - learner->trained_bytes));
  return qe_queue_wait(learner->queue);
}

qe_status qe_learner_gather(qe_learner *learner, bool last) {
  if (learner->total) QE_TRY(qe_program_run(learner->accumulate, learner->queue));
  if (!last) return QE_OK;
  QE_TRY(qe_program_run(learner->norm, learner->queue));
  return qe_queue_read(learner->queue, learner->square, 0, &learner->host_square, sizeof learner->host_square);
}

/* ---- life ---- */

qe_status qe_learner_new(qe_queue *queue, qe_model *model, const qe_train_options *options, bool trained,
                         qe_learner *learner) {
  *learner = (qe_learner){.queue = queue, .model = model, .options = options};
  QE_TRY(qe_buffer_new(queue->device, param_bytes(learner), &learner->params));
  if (trained) QE_TRY(new_buffers(learner));
  QE_TRY(qe_learner_upload(learner));
  return trained ? new_programs(learner) : QE_OK;
}

void qe_learner_free(qe_learner *learner) {
  qe_program_free(learner->norm);
  qe_program_free(learner->update);
  qe_program_free(learner->accumulate);
  qe_buffer *const buffers[] = {learner->params, learner->gradients, learner->total, learner->momentum,
                                learner->second, learner->average,   learner->hyper, learner->square};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) qe_buffer_free(buffers[i]);
  qe_free(learner->state);
  qe_free(learner->zeros);
  memset(learner, 0, sizeof *learner);
}

size_t qe_learner_bytes(const qe_learner *learner) {
  const qe_buffer *const buffers[] = {learner->params,   learner->gradients, learner->total,
                                      learner->momentum, learner->second,    learner->average};
  size_t bytes = 0;
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) bytes += buffers[i] ? buffers[i]->bytes : 0;
  return bytes;
}

/* ---- values ---- */

qe_status qe_learner_upload(qe_learner *learner) {
  size_t bytes = param_bytes(learner);
  QE_TRY(qe_queue_write(learner->queue, learner->params, 0, learner->model->values, bytes));
  if (learner->average) QE_TRY(qe_queue_write(learner->queue, learner->average, 0, learner->model->values, bytes));
  return qe_queue_wait(learner->queue);
}

qe_status qe_learner_download(qe_learner *learner, bool averaged) {
  qe_buffer *source = averaged && learner->average ? learner->average : learner->params;
  QE_TRY(qe_queue_read(learner->queue, source, 0, learner->model->values, param_bytes(learner)));
  return qe_queue_wait(learner->queue);
}

/* What a checkpoint holds beside the parameters. */
typedef struct kept_buffer {
  const char *name;
  qe_buffer *buffer; /* NULL: the options have none */
} kept_buffer;

enum { KEPT = 4 };

static void list_kept(const qe_learner *learner, kept_buffer *kept) {
  const kept_buffer list[KEPT] = {{"optimizer.momentum", learner->momentum},
                                  {"optimizer.second", learner->second},
                                  {"optimizer.total", learner->total},
                                  {"average", learner->average}};
  memcpy(kept, list, sizeof list);
}

static qe_status give_buffer(const qe_learner *learner, const kept_buffer *kept, qe_tensors *tensors) {
  if (!kept->buffer) return QE_OK;
  int64_t shape[1] = {(int64_t)(kept->buffer->bytes / sizeof(float))};
  QE_TRY(qe_tensors_add(tensors, kept->name, QE_F32, 1, shape, NULL));
  QE_TRY(qe_queue_read(learner->queue, kept->buffer, 0, qe_tensors_find(tensors, kept->name)->data,
                       (size_t)shape[0] * sizeof(float)));
  return qe_queue_wait(learner->queue);
}

static qe_status take_buffer(const qe_learner *learner, const kept_buffer *kept, const qe_tensors *tensors,
                             const char *file) {
  if (!kept->buffer) return QE_OK;
  const qe_named_tensor *tensor = qe_tensors_find(tensors, kept->name);
  if (!tensor || tensor->dtype != QE_F32 || tensor->bytes > kept->buffer->bytes ||
      tensor->bytes + QE_ALIGNMENT <= param_bytes(learner))
    return qe_fail(QE_FORMAT, "%s has no fitting tensor %s: resume with the options of the run (model, optimizer, ema)",
                   file, kept->name);
  QE_TRY(qe_queue_write(learner->queue, kept->buffer, 0, tensor->data, tensor->bytes));
  return qe_queue_wait(learner->queue);
}

qe_status qe_learner_give(qe_learner *learner, qe_tensors *tensors) {
  kept_buffer kept[KEPT];
  QE_TRY(qe_learner_download(learner, false));
  QE_TRY(qe_model_give(learner->model, tensors));
  list_kept(learner, kept);
  for (int i = 0; i < KEPT; i++) QE_TRY(give_buffer(learner, &kept[i], tensors));
  return QE_OK;
}

qe_status qe_learner_take(qe_learner *learner, const qe_tensors *tensors, const char *file) {
  kept_buffer kept[KEPT];
  QE_TRY(qe_model_check_spec(learner->model, tensors, file));
  QE_TRY(qe_model_take(learner->model, tensors, file));
  QE_TRY(qe_learner_upload(learner));
  list_kept(learner, kept);
  for (int i = 0; i < KEPT; i++) QE_TRY(take_buffer(learner, &kept[i], tensors, file));
  return QE_OK;
}
