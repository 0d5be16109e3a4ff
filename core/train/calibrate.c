/* The start of quantisation-aware training: steps from weights, and from the activations of the float network or of the
 * one that was trained before. */
#include "core/base/alloc.h"
#include "core/data/split.h"
#include "core/graph/layers.h"
#include "core/train/fit_step.h"
#include "core/train/session.h"

#include <math.h>
#include <string.h>

enum { CALIBRATION_IMAGES = 128, SAMPLES = 1 << 16, WEIGHT_SAMPLES = 1 << 18 };
static const int64_t kept_most = INT64_C(1) << 30; /* values of all nodes of all images that are kept at once */

static float step_for(qe_rule rule, const float *values, int64_t count, const qe_attrs *attrs) {
  if (rule == QE_RULE_DOREFA) return 1.0f / (float)attrs->quant.high;
  if (rule == QE_RULE_MAX) return qe_max_step(values, count, attrs->quant.high);
  return qe_fit_step(values, count, attrs->quant.low, attrs->quant.high, attrs->quant.odd);
}

static bool step_missing(const qe_model *model, int param) {
  return param >= 0 && !model->graph->param[param].initialised;
}

/* Of large layers every so many weights decide: the least squared error takes a hundred passes over them. */
static float weight_step(qe_rule rule, float *sample, const float *values, int64_t count, const qe_attrs *attrs) {
  if (!sample || count <= WEIGHT_SAMPLES) return step_for(rule, values, count, attrs);
  int64_t stride = count / WEIGHT_SAMPLES + 1, samples = 0;
  stride += stride % 2 == 0; /* odd, so that all taps are met */
  for (int64_t i = 0; i < count; i += stride) sample[samples++] = values[i];
  return step_for(rule, sample, samples, attrs);
}

static qe_status fit_weights(qe_model *model, const qe_node_info *node) {
  int at = node->param[QE_CONV_STEP];
  const qe_param *weight = &model->graph->param[node->param[QE_CONV_WEIGHT]];
  const float *values = qe_model_values(model, node->param[QE_CONV_WEIGHT]);
  float *step = qe_model_values(model, at);
  qe_attrs attrs = qe_quant_attrs(&node->quantizer, &weight->desc);
  int64_t steps = qe_count(&model->graph->param[at].desc), each = qe_count(&weight->desc) / steps;
  qe_rule rule = node->quantizer.rule == QE_RULE_PACT ? QE_RULE_MAX : node->quantizer.rule;
  bool samples = each > WEIGHT_SAMPLES && rule != QE_RULE_MAX;
  float *sample = samples ? QE_NEW_ARRAY(float, WEIGHT_SAMPLES) : NULL;
  if (samples && !sample) return QE_NO_MEMORY;
  for (int64_t i = 0; i < steps; i++) step[i] = weight_step(rule, sample, values + i * each, each, &attrs);
  qe_free(sample);
  model->graph->param[at].initialised = true;
  return QE_OK;
}

/* Of the quantisers that share a step, the one with the fewest bits decides. */
static bool decides(const qe_graph *graph, qe_node node) {
  const qe_node_info *info = &graph->node[node];
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *other = &graph->node[i];
    if (other->layer != &qe_layer_quant || other->param[QE_QUANT_STEP] != info->param[QE_QUANT_STEP]) continue;
    if (other->quantizer.bits < info->quantizer.bits) return false;
  }
  return true;
}

/* `from`: the node of the network that runs whose output the quantiser gets. */
static qe_status fit_activations(qe_model *model, const qe_session *session, qe_node node, qe_node from) {
  const qe_node_info *info = &model->graph->node[node];
  qe_value value = session->lowered.output[from];
  qe_desc desc = qe_program_desc(session->lowered.program, value);
  int64_t count = qe_count(&desc), stride = count / SAMPLES + 1, samples = 0;
  stride += stride % 2 == 0; /* odd, so that all channels are met */
  float *values = qe_alloc(qe_bytes(&desc));
  if (!values) return QE_NO_MEMORY;
  qe_status status = qe_program_read(session->lowered.program, session->queue, value, values);
  for (int64_t i = 0; i < count; i += stride) values[samples++] = values[i];
  qe_attrs attrs = qe_quant_attrs(&info->quantizer, &info->output);
  int at = info->param[QE_QUANT_STEP];
  if (status == QE_OK)
    *qe_model_values(model, at) =
        ldexpf(step_for(info->quantizer.rule, values, samples, &attrs), info->quantizer.step_shift);
  model->graph->param[at].initialised = true;
  qe_free(values);
  return status;
}

static int64_t values_of_an_image(const qe_graph *graph) {
  int64_t values = 1;
  for (size_t i = 0; i < graph->nodes; i++) values += qe_count(&graph->node[i].output);
  return values;
}

/* What the quantiser `node` of `graph` gets, in the graph `in` of the same network at other bits: the values before any
 * rounding. -1: there is no such node. */
static qe_node unrounded_input(const qe_graph *graph, qe_node node, const qe_graph *in) {
  if (in == graph) return graph->node[node].input[0];
  while (graph->node[node].layer == &qe_layer_quant) node = graph->node[node].input[0];
  return qe_graph_find_node(in, graph->node[node].name);
}

static qe_status fit_from(const qe_session *session, const qe_graph *running, qe_model *model) {
  for (size_t i = 0; i < model->graph->nodes; i++) {
    const qe_node_info *node = &model->graph->node[i];
    if (node->layer != &qe_layer_quant || !step_missing(model, node->param[QE_QUANT_STEP])) continue;
    qe_node from = unrounded_input(model->graph, (qe_node)i, running);
    if (from >= 0 && decides(model->graph, (qe_node)i)) QE_TRY(fit_activations(model, session, (qe_node)i, from));
  }
  return QE_OK;
}

/* Runs the network `running`, without its quantisers if it is the model itself. */
static qe_status fit_all_activations(qe_queue *queue, const qe_graph *running, qe_model *model, qe_buffer *params,
                                     const qe_image_store *store, uint64_t seed) {
  int32_t images = store->images < CALIBRATION_IMAGES ? store->images : CALIBRATION_IMAGES;
  int64_t most = kept_most / values_of_an_image(running);
  if (images > most) images = most > 0 ? (int32_t)most : 1;
  qe_lower_options lower = {.batch = images, .plain = running == model->graph, .keep_outputs = true};
  qe_session session;
  QE_TRY(qe_session_new(queue, running, &lower, params, NULL, store, &session));
  double loss = 0;
  int64_t hits = 0;
  int32_t *order = QE_NEW_ARRAY(int32_t, store->images);
  qe_status status = order ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) {
    qe_shuffle(seed, UINT32_MAX, order, store->images);
    status = qe_session_run(&session, order, images, seed, 0, &loss, &hits);
  }
  if (status == QE_OK) status = fit_from(&session, running, model);
  qe_free(order);
  qe_session_free(&session);
  return status;
}

/* Missing steps of weights; *activations: whether some of activations are missing, too. */
static qe_status fit_all_weights(qe_model *model, bool *activations) {
  *activations = false;
  for (size_t i = 0; i < model->graph->nodes; i++) {
    const qe_node_info *node = &model->graph->node[i];
    if (node->layer == &qe_layer_quant) *activations |= step_missing(model, node->param[QE_QUANT_STEP]);
    bool weighted = node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
    if (weighted && step_missing(model, node->param[QE_CONV_STEP])) QE_TRY(fit_weights(model, node));
  }
  return QE_OK;
}

static qe_status fit_steps(qe_device *device, const qe_model *running, qe_model *model, const qe_dataset *data,
                           uint64_t seed) {
  bool activations;
  QE_TRY(fit_all_weights(model, &activations));
  if (!activations) return QE_OK;
  qe_queue *queue = NULL;
  qe_buffer *params = NULL;
  qe_image_store store = {0};
  size_t bytes = qe_graph_param_bytes(running->graph);
  qe_status status = qe_queue_new(device, &queue);
  if (status == QE_OK) status = qe_buffer_new(device, bytes, &params);
  if (status == QE_OK) status = qe_queue_write(queue, params, 0, running->values, bytes);
  if (status == QE_OK) status = qe_image_store_new(queue, data, false, &store);
  if (status == QE_OK) status = fit_all_activations(queue, running->graph, model, params, &store, seed);
  qe_queue_free(queue); /* waits */
  qe_image_store_free(&store);
  qe_buffer_free(params);
  return status;
}

qe_status qe_fit_steps(qe_device *device, qe_model *model, const qe_dataset *data, uint64_t seed) {
  return fit_steps(device, model, model, data, seed);
}

qe_status qe_refit_steps(qe_device *device, const qe_model *from, qe_model *model, const qe_dataset *data,
                         uint64_t seed) {
  QE_TRY(fit_steps(device, from, model, data, seed));
  return qe_fit_steps(device, model, data, seed); /* of quantisers that `from` has no place for */
}
