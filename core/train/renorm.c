/* Running statistics anew: forward passes in which they are each batch's own, read back and summed. */
#include "core/train/renorm.h"

#include "core/base/alloc.h"
#include "core/data/split.h"
#include "core/graph/layers.h"
#include "core/train/session.h"

typedef struct renorm {
  qe_model *model;
  const qe_renorm_options *options;
  qe_queue *queue;
  qe_buffer *params;
  qe_image_store store;
  qe_session session;
  int32_t *order; /* training images that are not held out, shuffled */
  int32_t images;
  size_t start;  /* of the state group in the flat vector, bytes */
  int64_t count; /* its values */
  float *state;
  double *sum;
} renorm;

static bool has_norm(const qe_graph *graph) {
  bool has = false;
  for (size_t i = 0; i < graph->nodes; i++) has |= graph->node[i].layer == &qe_layer_batch_norm;
  return has;
}

static qe_status make_order(renorm *r, const qe_dataset *data) {
  int32_t held = r->options->held_out, count = data->train_images - held;
  if (held < 0 || count < 1)
    return qe_fail(QE_USAGE, "%d images held out of %d: some must be left for the statistics", held,
                   data->train_images);
  int32_t *kept = QE_NEW_ARRAY(int32_t, count), *out = QE_NEW_ARRAY(int32_t, held + 1);
  r->order = QE_NEW_ARRAY(int32_t, count);
  r->images = count;
  qe_status status = kept && out && r->order ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK)
    status = qe_split(r->options->seed, data->train_labels, data->train_images, data->classes, held, kept, out);
  if (status == QE_OK) qe_shuffle(r->options->seed, UINT32_MAX - 1, r->order, count);
  for (int32_t i = 0; status == QE_OK && i < count; i++) r->order[i] = kept[r->order[i]];
  qe_free(kept);
  qe_free(out);
  return status;
}

static qe_status open_renorm(renorm *r, qe_device *device, const qe_dataset *data) {
  const qe_graph *graph = r->model->graph;
  size_t bytes = qe_graph_param_bytes(graph);
  r->start = graph->group_offset[QE_GROUP_STATE];
  r->count = (int64_t)((bytes - r->start) / sizeof(float));
  r->state = QE_NEW_ARRAY(float, r->count);
  r->sum = QE_NEW_ARRAY(double, r->count);
  if (!r->state || !r->sum) return QE_NO_MEMORY;
  QE_TRY(make_order(r, data));
  int32_t batch = r->options->batch > 0 ? r->options->batch : 128;
  qe_lower_options lower = {
      .batch = batch < r->images ? batch : r->images, .training = true, .plain = r->options->plain, .last_batch = true};
  QE_TRY(qe_queue_new(device, &r->queue));
  QE_TRY(qe_buffer_new(device, bytes, &r->params));
  QE_TRY(qe_queue_write(r->queue, r->params, 0, r->model->values, bytes));
  QE_TRY(qe_image_store_new(r->queue, data, false, &r->store));
  return qe_session_new(r->queue, graph, &lower, r->params, NULL, &r->store, &r->session);
}

static void close_renorm(renorm *r) {
  qe_queue_free(r->queue); /* waits */
  qe_session_free(&r->session);
  qe_image_store_free(&r->store);
  qe_buffer_free(r->params);
  qe_free(r->order);
  qe_free(r->state);
  qe_free(r->sum);
}

static void put_mean(const renorm *r, int param, int64_t batches) {
  const qe_param *info = &r->model->graph->param[param];
  float *values = qe_model_values(r->model, param);
  int64_t first = (int64_t)((info->offset - r->start) / sizeof(float)), count = qe_count(&info->desc);
  for (int64_t i = 0; i < count; i++) values[i] = (float)(r->sum[first + i] / (double)batches);
}

static qe_status run_batches(renorm *r) {
  int32_t batch = r->session.batch, wanted = r->options->images;
  int64_t batches = (wanted > 0 && wanted < r->images ? wanted : r->images) / batch;
  if (batches < 1) batches = 1;
  QE_TRY(qe_session_expect(&r->session, r->order, batches * batch, r->options->seed, 0));
  for (int64_t b = 0; b < batches; b++) {
    double loss = 0;
    int64_t hits = 0;
    QE_TRY(qe_session_run(&r->session, r->order + b * batch, batch, r->options->seed, (uint64_t)(b * batch), &loss,
                          &hits));
    QE_TRY(qe_queue_read(r->queue, r->params, r->start, r->state, (size_t)r->count * sizeof(float)));
    QE_TRY(qe_queue_wait(r->queue));
    for (int64_t i = 0; i < r->count; i++) r->sum[i] += (double)r->state[i];
  }
  const qe_graph *graph = r->model->graph;
  for (size_t i = 0; i < graph->nodes; i++) {
    if (graph->node[i].layer != &qe_layer_batch_norm) continue;
    put_mean(r, graph->node[i].param[QE_BN_MEAN], batches);
    put_mean(r, graph->node[i].param[QE_BN_VAR], batches);
  }
  return QE_OK;
}

qe_status qe_renorm(qe_device *device, qe_model *model, const qe_dataset *data, const qe_renorm_options *options) {
  renorm r = {.model = model, .options = options};
  if (!has_norm(model->graph)) return QE_OK;
  qe_status status = open_renorm(&r, device, data);
  if (status == QE_OK) status = run_batches(&r);
  close_renorm(&r);
  return status;
}
