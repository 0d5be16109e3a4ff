/* Float programs of a surface. */
#include "core/surface/programs.h"

#include "core/base/alloc.h"
#include "core/graph/layers.h"

#include <math.h>
#include <string.h>

enum { NORM_BATCH = 128, SCORE_BATCH = 200 };

/* ---- opening ---- */

static qe_status make_twin(const qe_model *model, bool rounded, qe_model **twin) {
  QE_TRY(qe_model_requantize(model, &model->spec.bits, twin));
  for (size_t i = 0; i < (*twin)->graph->nodes; i++) {
    qe_node_info *node = &(*twin)->graph->node[i];
    bool weighted = node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
    if (weighted && !rounded) node->quantizer.bits = QE_FLOAT_BITS;
    if (node->layer == &qe_layer_batch_norm) node->attrs.momentum = 1;
  }
  return QE_OK;
}

static bool has_batch_norm(const qe_graph *graph) {
  for (size_t i = 0; i < graph->nodes; i++)
    if (graph->node[i].layer == &qe_layer_batch_norm) return true;
  return false;
}

static size_t state_bytes(const qe_graph *graph) {
  return graph->group_offset[QE_GROUP_STATE + 1] - graph->group_offset[QE_GROUP_STATE];
}

static qe_status open_norm(qe_surface_programs *p) {
  const qe_surface_images_used *images = p->images;
  const qe_graph *graph = p->twin->graph;
  if (images->norm < 2 || !has_batch_norm(graph)) return QE_OK;
  int32_t batches = (images->norm + NORM_BATCH - 1) / NORM_BATCH;
  size_t statistics = state_bytes(graph) / sizeof(float);
  p->state = qe_alloc(state_bytes(graph));
  p->mean = QE_NEW_ARRAY(double, statistics);
  p->spread = QE_NEW_ARRAY(double, statistics);
  p->order = QE_NEW_ARRAY(int32_t, images->norm);
  if (!p->state || !p->mean || !p->spread || !p->order) return QE_NO_MEMORY;
  for (int32_t i = 0; i < images->norm; i++) p->order[i] = images->train + i;
  qe_lower_options lower = {.batch = images->norm / batches, .training = true};
  return qe_session_new(p->queue, graph, &lower, p->params, NULL, &p->store[0], &p->norm);
}

static qe_status open_scores(qe_surface_programs *p, int32_t batch) {
  for (int part = 0; part < 2; part++) {
    int32_t count = part == 0 ? p->images->train : p->images->test, most = batch > 0 ? batch : SCORE_BATCH;
    qe_lower_options lower = {.batch = count < most ? count : most};
    QE_TRY(qe_session_new(p->queue, p->twin->graph, &lower, p->params, NULL, &p->store[part], &p->score[part]));
  }
  return QE_OK;
}

static qe_status open_all(qe_surface_programs *p, qe_device *device, const qe_model *model, int32_t batch, bool rounded,
                          bool scores) {
  QE_TRY(make_twin(model, rounded, &p->twin));
  QE_TRY(qe_queue_new(device, &p->queue));
  QE_TRY(qe_buffer_new(device, qe_graph_param_bytes(p->twin->graph), &p->params));
  for (int part = 0; part < 2; part++)
    QE_TRY(qe_image_store_new(p->queue, p->images->data, part == 1, &p->store[part]));
  if (scores) QE_TRY(open_scores(p, batch));
  return open_norm(p);
}

qe_status qe_surface_programs_open(qe_device *device, const qe_model *model, const qe_surface_images_used *images,
                                   int32_t batch, bool rounded, bool scores, qe_surface_programs *p) {
  *p = (qe_surface_programs){.images = images};
  qe_status status = open_all(p, device, model, batch, rounded, scores);
  if (status != QE_OK) qe_surface_programs_close(p);
  return status;
}

void qe_surface_programs_close(qe_surface_programs *p) {
  qe_queue_free(p->queue); /* waits */
  for (int part = 0; part < 2; part++) qe_session_free(&p->score[part]);
  qe_session_free(&p->norm);
  for (int part = 0; part < 2; part++) qe_image_store_free(&p->store[part]);
  qe_buffer_free(p->params);
  qe_model_free(p->twin);
  qe_free(p->state);
  qe_free(p->mean);
  qe_free(p->spread);
  qe_free(p->order);
  memset(p, 0, sizeof *p);
}

/* ---- batch-norm statistics ---- */

/* Where a parameter's values begin in the group that is not trained. */
static size_t place_in_state(const qe_graph *graph, int param) {
  return (graph->param[param].offset - graph->group_offset[QE_GROUP_STATE]) / sizeof(float);
}

/* Sums of the means and of the mean squares of one batch. */
static void add_batch(qe_surface_programs *p) {
  const qe_graph *graph = p->twin->graph;
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *node = &graph->node[i];
    if (node->layer != &qe_layer_batch_norm) continue;
    size_t mean = place_in_state(graph, node->param[QE_BN_MEAN]), var = place_in_state(graph, node->param[QE_BN_VAR]);
    for (int32_t c = 0; c < node->output.dim[QE_C]; c++) {
      double m = (double)p->state[mean + (size_t)c], v = (double)p->state[var + (size_t)c];
      p->mean[mean + (size_t)c] += m;
      p->spread[var + (size_t)c] += v + m * m;
    }
  }
}

static void put_statistics(const qe_surface_programs *p, int32_t batches, float *values) {
  const qe_graph *graph = p->twin->graph;
  float *state = values + graph->group_offset[QE_GROUP_STATE] / sizeof(float);
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *node = &graph->node[i];
    if (node->layer != &qe_layer_batch_norm) continue;
    size_t mean = place_in_state(graph, node->param[QE_BN_MEAN]), var = place_in_state(graph, node->param[QE_BN_VAR]);
    for (int32_t c = 0; c < node->output.dim[QE_C]; c++) {
      double m = p->mean[mean + (size_t)c] / batches;
      state[mean + (size_t)c] = (float)m;
      state[var + (size_t)c] = (float)fmax(p->spread[var + (size_t)c] / batches - m * m, 0);
    }
  }
}

qe_status qe_surface_programs_estimate(qe_surface_programs *p, float *values) {
  const qe_graph *graph = p->twin->graph;
  if (!p->state) return QE_OK;
  int32_t batch = p->norm.batch, batches = p->images->norm / batch;
  memset(p->mean, 0, state_bytes(graph) / sizeof(float) * sizeof *p->mean);
  memset(p->spread, 0, state_bytes(graph) / sizeof(float) * sizeof *p->spread);
  QE_TRY(qe_queue_write(p->queue, p->params, 0, values, qe_graph_param_bytes(graph)));
  for (int32_t b = 0; b < batches; b++) {
    double loss = 0;
    int64_t hits = 0;
    QE_TRY(qe_session_run(&p->norm, p->order + b * batch, batch, 0, 0, &loss, &hits));
    QE_TRY(qe_queue_read(p->queue, p->params, graph->group_offset[QE_GROUP_STATE], p->state, state_bytes(graph)));
    QE_TRY(qe_queue_wait(p->queue));
    add_batch(p);
  }
  put_statistics(p, batches, values);
  return QE_OK;
}

/* ---- losses ---- */

qe_status qe_surface_programs_score(qe_surface_programs *p, const float *values, float score[QE_SURFACE_VALUES]) {
  QE_TRY(qe_queue_write(p->queue, p->params, 0, values, qe_graph_param_bytes(p->twin->graph)));
  for (int part = 0; part < 2; part++) {
    qe_score found;
    int32_t count = part == 0 ? p->images->train : p->images->test;
    QE_TRY(qe_session_score(&p->score[part], NULL, count, &found));
    score[2 * part] = (float)found.loss;
    score[2 * part + 1] = (float)(100 - found.top1);
  }
  return QE_OK;
}
