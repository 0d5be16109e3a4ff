/* Blends of parameter vectors, quantised weights as such, random directions. */
#include "core/surface/blend.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/graph/codes.h"
#include "core/graph/layers.h"

#include <math.h>
#include <string.h>

static const double reach = 8;

/* ---- blends ---- */

static void mark_positive(const qe_node_info *node, bool *positive) {
  bool weighted = node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
  int at = weighted                              ? node->param[QE_CONV_STEP]
           : node->layer == &qe_layer_quant      ? node->param[QE_QUANT_STEP]
           : node->layer == &qe_layer_batch_norm ? node->param[QE_BN_VAR]
                                                 : -1;
  if (at >= 0) positive[at] = true;
}

static double blend_linear(const qe_blend *blend, const double value[QE_BLEND_MODELS]) {
  double sum = value[0];
  for (int m = 1; m < QE_BLEND_MODELS; m++) sum += blend->share[m] * (value[m] - value[0]);
  return sum;
}

static double blend_logarithms(const qe_blend *blend, const double value[QE_BLEND_MODELS]) {
  const double least = 1e-30;
  double low = value[0], high = value[0], sum = 0;
  for (int m = 1; m < QE_BLEND_MODELS; m++) {
    sum += blend->share[m] * log(fmax(value[m], least) / fmax(value[0], least));
    low = fmin(low, value[m]);
    high = fmax(high, value[m]);
  }
  return fmin(fmax(value[0] * exp(sum), low / reach), high * reach);
}

static void blend_param(const qe_blend_space *space, const qe_blend *blend, const qe_param *param, bool positive,
                        float *values) {
  size_t first = param->offset / sizeof(float), count = (size_t)qe_count(&param->desc);
  for (size_t i = first; i < first + count; i++) {
    double value[QE_BLEND_MODELS], sum;
    for (int m = 0; m < QE_BLEND_MODELS; m++) value[m] = (double)space->values[blend->model[m]][i];
    sum = positive ? blend_logarithms(blend, value) : blend_linear(blend, value);
    for (int d = 0; d < QE_BLEND_DIRECTIONS && param->group == QE_GROUP_WEIGHT; d++)
      if (space->direction[d]) sum += blend->along[d] * (double)space->direction[d][i];
    values[i] = (float)sum;
  }
}

qe_status qe_blend_values(const qe_blend_space *space, const qe_blend *blend, float *values) {
  const qe_graph *graph = space->graph;
  bool *positive = QE_NEW_ARRAY(bool, graph->params);
  if (!positive) return QE_NO_MEMORY;
  for (size_t i = 0; i < graph->nodes; i++) mark_positive(&graph->node[i], positive);
  memcpy(values, space->values[blend->model[0]], qe_graph_param_bytes(graph));
  for (size_t i = 0; i < graph->params; i++) blend_param(space, blend, &graph->param[i], positive[i], values);
  qe_free(positive);
  return QE_OK;
}

/* ---- weights ---- */

int64_t qe_blend_weights(const qe_graph *graph) {
  return (int64_t)((graph->group_offset[QE_GROUP_WEIGHT + 1] - graph->group_offset[QE_GROUP_WEIGHT]) / sizeof(float));
}

static qe_status round_weights(const qe_graph *graph, float *values, qe_node node) {
  qe_weight_codes codes;
  if (!qe_weight_codes_of(graph, values, node, &codes)) return QE_OK;
  if (codes.tanh)
    return qe_fail(QE_REFUSED,
                   "layer %s: weights that DoReFa's rule has quantised are not rounded to themselves by it; take the "
                   "plane through the weights before quantisation",
                   graph->node[node].name);
  const qe_param *weight = &graph->param[graph->node[node].param[QE_CONV_WEIGHT]];
  float *target = values + weight->offset / sizeof(float);
  for (int64_t i = 0; i < codes.count; i++) target[i] = (float)qe_weight_code(&codes, i) * codes.step[i / codes.each];
  return QE_OK;
}

qe_status qe_blend_round_weights(const qe_graph *graph, float *values) {
  for (size_t i = 0; i < graph->nodes; i++) QE_TRY(round_weights(graph, values, (qe_node)i));
  return QE_OK;
}

/* ---- directions ---- */

/* Two normal values of a draw by Box-Muller. */
static void draw_normal(uint64_t seed, int which, float *values, int64_t count) {
  for (int64_t i = 0; i < count; i += 2) {
    qe_philox draw = qe_philox_draw(seed, QE_STREAM_SURFACE + (uint32_t)which, (uint64_t)i / 2);
    double radius = sqrt(-2 * log((double)qe_uniform(draw.word[0])));
    double angle = 2 * 3.14159265358979323846 * (double)qe_uniform(draw.word[1]);
    values[i] = (float)(radius * cos(angle));
    if (i + 1 < count) values[i + 1] = (float)(radius * sin(angle));
  }
}

static double norm_of(const float *values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += (double)values[i] * (double)values[i];
  return sqrt(sum);
}

static void scale_to(const float *values, int64_t count, float *direction) {
  double own = norm_of(direction, count), factor = own > 0 ? norm_of(values, count) / own : 0;
  for (int64_t i = 0; i < count; i++) direction[i] = (float)(factor * (double)direction[i]);
}

void qe_blend_direction(const qe_graph *graph, const float *values, uint64_t seed, int which, bool by_filter,
                        float *direction) {
  int64_t weights = qe_blend_weights(graph);
  draw_normal(seed, which, direction, weights);
  if (!by_filter) scale_to(values, weights, direction);
  for (size_t i = 0; by_filter && i < graph->params; i++) {
    const qe_param *param = &graph->param[i];
    if (param->group != QE_GROUP_WEIGHT) continue;
    int64_t filters = param->desc.dim[QE_N], each = qe_count(&param->desc) / filters;
    int64_t first = (int64_t)(param->offset / sizeof(float));
    for (int64_t f = 0; f < filters; f++) scale_to(values + first + f * each, each, direction + first + f * each);
  }
}
