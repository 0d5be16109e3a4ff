/* Statistics of batch norm over one batch. */
#include "core/train/norms.h"

#include "core/base/alloc.h"
#include "core/data/split.h"
#include "core/graph/layers.h"

#include <string.h>

enum { NORM_ORDER = 0x6e6f726d }; /* "norm": of the orders that epochs do not have */

static qe_status fill_store(qe_norms *norms, const qe_dataset *data, const int32_t *order) {
  size_t image = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  norms->labels = QE_NEW_ARRAY(int32_t, norms->images);
  norms->index = QE_NEW_ARRAY(int32_t, norms->images);
  uint8_t *pixels = qe_alloc((size_t)norms->images * image);
  qe_status status = norms->labels && norms->index && pixels ? QE_OK : QE_NO_MEMORY;
  for (int32_t i = 0; status == QE_OK && i < norms->images; i++) {
    norms->index[i] = i;
    norms->labels[i] = data->train_labels[order[i]];
    memcpy(pixels + (size_t)i * image, data->train_pixels + (size_t)order[i] * image, image);
  }
  norms->store = (qe_image_store){.labels = norms->labels, .images = norms->images, .data = data};
  if (status == QE_OK)
    status = qe_buffer_new(norms->queue->device, (size_t)norms->images * image, &norms->store.pixels);
  if (status == QE_OK)
    status = qe_queue_write(norms->queue, norms->store.pixels, 0, pixels, (size_t)norms->images * image);
  if (status == QE_OK) status = qe_queue_wait(norms->queue);
  qe_free(pixels);
  return status;
}

qe_status qe_norms_open(qe_device *device, const qe_dataset *data, uint64_t seed, int32_t images, qe_norms *norms) {
  *norms = (qe_norms){.images = images < data->train_images ? images : data->train_images};
  if (!data->train_pixels) return qe_fail(QE_USAGE, "statistics of batch norm need images that are held in memory");
  int32_t *order = QE_NEW_ARRAY(int32_t, data->train_images);
  qe_status status = order ? qe_queue_new(device, &norms->queue) : QE_NO_MEMORY;
  if (status == QE_OK) {
    qe_shuffle(seed, NORM_ORDER, order, data->train_images);
    status = fill_store(norms, data, order);
  }
  qe_free(order);
  if (status != QE_OK) qe_norms_close(norms);
  return status;
}

void qe_norms_close(qe_norms *norms) {
  qe_queue_free(norms->queue); /* waits */
  qe_image_store_free(&norms->store);
  qe_buffer_free(norms->params);
  qe_buffer_free(norms->arena);
  qe_buffer_free(norms->kept);
  qe_free(norms->labels);
  qe_free(norms->index);
  memset(norms, 0, sizeof *norms);
}

/* ---- what agrees with the model before ---- */

static bool same_bits(const void *a, const void *b, size_t bytes) {
  return memcmp(a, b, bytes) == 0;
}

/* Statistics are what is estimated: they need not agree. */
static bool same_param(const qe_model *a, const qe_model *b, int at, int other) {
  if (at < 0 || other < 0) return at == other;
  const qe_param *x = &a->graph->param[at], *y = &b->graph->param[other];
  size_t bytes = qe_bytes(&x->desc);
  return x->group == y->group && bytes == qe_bytes(&y->desc) &&
         (x->group == QE_GROUP_STATE || same_bits(qe_model_values(a, at), qe_model_values(b, other), bytes));
}

static bool same_node(const qe_model *a, const qe_model *b, size_t at) {
  const qe_node_info *x = &a->graph->node[at], *y = &b->graph->node[at];
  bool same = x->layer == y->layer && strcmp(x->name, y->name) == 0 && x->inputs == y->inputs &&
              x->params == y->params && qe_same_quantizer(&x->quantizer, &y->quantizer) &&
              x->quantizer.round_up == y->quantizer.round_up;
  for (int k = 0; same && k < x->inputs; k++) same = x->input[k] == y->input[k];
  for (int k = 0; same && k < x->params; k++) same = same_param(a, b, x->param[k], y->param[k]);
  return same;
}

static qe_node agreement(const qe_model *a, const qe_model *b) {
  size_t most = a->graph->nodes < b->graph->nodes ? a->graph->nodes : b->graph->nodes, at = 0;
  while (at < most && same_node(a, b, at)) at++;
  return (qe_node)at;
}

static void take_statistics(const qe_model *from, qe_model *model, qe_node stop) {
  static const int statistic[] = {QE_BN_MEAN, QE_BN_VAR};
  for (qe_node i = 0; i < stop; i++) {
    const qe_node_info *node = &model->graph->node[i];
    for (int k = 0; node->layer == &qe_layer_batch_norm && k < 2; k++) {
      int param = node->param[statistic[k]];
      memcpy(qe_model_values(model, param), qe_model_values(from, from->graph->node[i].param[statistic[k]]),
             qe_bytes(&model->graph->param[param].desc));
    }
  }
}

/* ---- the batch ---- */

static qe_status at_least(const qe_norms *norms, qe_buffer **buffer, size_t bytes) {
  if (*buffer && (*buffer)->bytes >= bytes) return QE_OK;
  qe_buffer_free(*buffer);
  *buffer = NULL;
  return qe_buffer_new(norms->queue->device, bytes, buffer);
}

/* Each model has a program of its own; that all lie in one arena spares most of what making one takes. */
static qe_status run_batch(qe_norms *norms, qe_model *model, qe_node start) {
  qe_lower_options lower = {.batch = norms->images,
                            .training = true,
                            .last_batch = true,
                            .arena = norms->arena,
                            .kept = norms->kept,
                            .start = start};
  qe_session session;
  double loss = 0;
  int64_t hits = 0;
  QE_TRY(qe_session_new(norms->queue, model->graph, &lower, norms->params, NULL, &norms->store, &session));
  qe_status status = qe_session_run(&session, norms->index, norms->images, 0, 0, &loss, &hits);
  size_t bytes = qe_program_arena_bytes(session.lowered.program);
  qe_session_free(&session);
  return status == QE_OK ? at_least(norms, &norms->arena, bytes) : status;
}

qe_status qe_norms_estimate(qe_norms *norms, const qe_model *before, qe_model *model) {
  const qe_graph *graph = model->graph;
  size_t bytes = qe_graph_param_bytes(graph), first = graph->group_offset[QE_GROUP_STATE];
  size_t kept = qe_lower_kept_bytes(graph, norms->images);
  bool left = before && norms->kept && norms->kept->bytes >= kept;
  qe_node start = left ? qe_lower_start(graph, agreement(before, model)) : 0;
  if (bytes == first) return QE_OK;
  if (start > 0) take_statistics(before, model, start);
  QE_TRY(at_least(norms, &norms->params, bytes));
  if (kept > 0) QE_TRY(at_least(norms, &norms->kept, kept));
  QE_TRY(qe_queue_write(norms->queue, norms->params, 0, model->values, bytes));
  QE_TRY(run_batch(norms, model, start));
  QE_TRY(qe_queue_read(norms->queue, norms->params, first, (char *)model->values + first, bytes - first));
  return qe_queue_wait(norms->queue);
}
