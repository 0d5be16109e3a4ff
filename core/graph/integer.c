/* Lowering a graph to its integer network. Each node's value is followed as a sum of integer tensors times a real scale
 * a channel, plus a real bias a channel; a quantiser turns that into integers again. */
#include "core/graph/integer.h"

#include "core/base/alloc.h"
#include "core/graph/codes.h"
#include "core/graph/integer_parts.h"
#include "core/graph/layers.h"

#include <math.h>
#include <string.h>

static int32_t channels_of(const qe_int_lowering *l, qe_node node) {
  return l->graph->node[node].output.dim[QE_C];
}

static void form_free(qe_int_form *f) {
  for (int b = 0; b < QE_INT_BRANCHES; b++) qe_free(f->scale[b]);
  qe_free(f->bias);
  memset(f, 0, sizeof *f);
}

static qe_status form_new(qe_int_form *f, int branches, int32_t channels) {
  memset(f, 0, sizeof *f);
  f->branches = branches;
  f->bias = QE_NEW_ARRAY(double, channels);
  for (int b = 0; b < branches; b++)
    if (!(f->scale[b] = QE_NEW_ARRAY(double, channels))) return QE_NO_MEMORY;
  return f->bias ? QE_OK : QE_NO_MEMORY;
}

static qe_status form_copy(qe_int_form *to, const qe_int_form *from, int32_t channels) {
  QE_TRY(form_new(to, from->branches, channels));
  to->rectified = from->rectified;
  memcpy(to->bias, from->bias, (size_t)channels * sizeof *to->bias);
  for (int b = 0; b < from->branches; b++) {
    to->tensor[b] = from->tensor[b];
    memcpy(to->scale[b], from->scale[b], (size_t)channels * sizeof *to->scale[b]);
  }
  return QE_OK;
}

qe_status qe_int_form_codes(qe_int_form *f, int tensor, double scale, int32_t channels) {
  QE_TRY(form_new(f, 1, channels));
  f->tensor[0] = tensor;
  for (int32_t c = 0; c < channels; c++) f->scale[0][c] = scale;
  return QE_OK;
}

bool qe_int_is_codes(const qe_int_form *f, int32_t channels) {
  if (f->branches != 1 || f->rectified) return false;
  for (int32_t c = 0; c < channels; c++)
    if (f->bias[c] < 0 || f->bias[c] > 0 || f->scale[0][c] < f->scale[0][0] || f->scale[0][c] > f->scale[0][0])
      return false;
  return true;
}

static qe_status need_codes(const qe_int_lowering *l, qe_node node, const qe_int_form **f) {
  *f = &l->form[node];
  if (qe_int_is_codes(*f, channels_of(l, node))) return QE_OK;
  return qe_fail(QE_REFUSED,
                 "reads the output of %s, which is not on an integer grid: quantise it (act-bits, "
                 "residual-bits below 32)",
                 l->graph->node[node].name);
}

float *qe_int_param(const qe_int_lowering *l, int param) {
  return (float *)(uintptr_t)(l->values + l->graph->param[param].offset / sizeof(float));
}

/* ---- adding layers ---- */

qe_unit qe_int_unit(double step) {
  enum { MANTISSA_BITS = 31 };
  int exponent;
  double fraction = frexp(step, &exponent);
  return (qe_unit){(int32_t)ldexp(fraction, MANTISSA_BITS), exponent - MANTISSA_BITS};
}

qe_status qe_int_add_layer(qe_int_lowering *l, const qe_node_info *node, qe_network_layer *layer, int *tensor) {
  layer->name = qe_strdup(node->name);
  qe_status status = layer->name ? qe_network_add(l->network, layer) : QE_NO_MEMORY;
  if (status != QE_OK) {
    qe_network_layer_clear(layer);
    return status;
  }
  *tensor = (int)l->network->layers - 1;
  qe_network_prove_layer(l->network, (size_t)*tensor);
  return QE_OK;
}

static qe_status lower_input(qe_int_lowering *l, qe_node node, qe_int_form *out) {
  qe_network_layer layer = {
      .op = QE_OP_int_gather, .output = l->graph->node[node].output, .unit = qe_int_unit(1.0 / 64)};
  layer.output.dtype = QE_S8;
  int tensor;
  QE_TRY(qe_int_add_layer(l, &l->graph->node[node], &layer, &tensor));
  return qe_int_form_codes(out, tensor, 1.0 / 64, channels_of(l, node));
}

/* ---- convolution and linear ---- */

qe_status qe_graph_weight_codes(const qe_graph *graph, const float *values, qe_node at, int8_t **codes,
                                qe_code_grid *grid) {
  qe_weight_codes from;
  if (!qe_weight_codes_of(graph, values, at, &from))
    return qe_fail(QE_REFUSED, "its weights are float; give it 1 to 8 weight bits");
  if (from.low < -128 || from.high > 127)
    return qe_fail(QE_REFUSED, "its weight codes %d...%d do not fit 8 bits; use fewer bits or another quantiser",
                   from.low, from.high);
  *grid = (qe_code_grid){.bits = from.bits, .low = from.low, .spacing = from.spacing, .high = from.high};
  *codes = qe_alloc((size_t)from.count);
  if (!*codes) return QE_NO_MEMORY;
  for (int64_t i = 0; i < from.count; i++) (*codes)[i] = (int8_t)qe_weight_code(&from, i);
  return QE_OK;
}

static qe_status make_weights(qe_int_lowering *l, qe_node at, qe_network_layer *layer) {
  layer->weight_desc = l->graph->param[l->graph->node[at].param[QE_CONV_WEIGHT]].desc;
  layer->weight_desc.dtype = QE_S8;
  return qe_graph_weight_codes(l->graph, l->values, at, &layer->weight, &layer->grid);
}

/* The scale and bias that weights at their steps, over codes at theirs, leave the sums with. */
static qe_status weighted_form(const qe_int_lowering *l, qe_node at, int tensor, double input_step, qe_int_form *out) {
  const qe_node_info *node = &l->graph->node[at];
  const float *step = qe_int_param(l, node->param[QE_CONV_STEP]);
  int bias = node->param[QE_CONV_BIAS];
  int32_t channels = channels_of(l, at);
  QE_TRY(form_new(out, 1, channels));
  out->tensor[0] = tensor;
  for (int32_t c = 0; c < channels; c++) {
    out->scale[0][c] = input_step * (double)step[node->quantizer.per_channel ? c : 0];
    out->bias[c] = bias >= 0 ? (double)qe_int_param(l, bias)[c] : 0;
  }
  return QE_OK;
}

static qe_status lower_weighted(qe_int_lowering *l, qe_node at, qe_int_form *out) {
  const qe_node_info *node = &l->graph->node[at];
  const qe_int_form *in;
  if (node->quantizer.bits == QE_FLOAT_BITS)
    return qe_fail(QE_REFUSED, "its weights are float; give it 1 to 8 weight bits");
  QE_TRY(need_codes(l, node->input[0], &in));
  const qe_network_layer *source = &l->network->layer[in->tensor[0]];
  if (source->output.dtype == QE_S32)
    return qe_fail(QE_REFUSED, "reads sums (of a pool) directly; quantise between them (first-last-bits below 32)");
  qe_network_layer layer = {
      .op = QE_OP_int_conv2d, .inputs = 1, .input = {in->tensor[0]}, .attrs = node->attrs, .output = node->output};
  const qe_desc *weight = &l->graph->param[node->param[QE_CONV_WEIGHT]].desc;
  int64_t products = qe_count(weight) / weight->dim[QE_N];
  if (products > INT32_MAX / (255 * 128))
    return qe_fail(QE_REFUSED, "a sum of %lld products can pass 32 bits", (long long)products);
  if (node->layer == &qe_layer_linear) layer.attrs.window = qe_square(1, 1, 0, node->attrs.window.channels);
  layer.output.dtype = QE_S32;
  QE_TRY(make_weights(l, at, &layer));
  int tensor;
  QE_TRY(qe_int_add_layer(l, node, &layer, &tensor));
  return weighted_form(l, at, tensor, in->scale[0][0], out);
}

/* ---- layers that only change the form ---- */

static qe_status lower_batch_norm(qe_int_lowering *l, qe_node at, qe_int_form *out) {
  const qe_node_info *node = &l->graph->node[at];
  const qe_int_form *in = &l->form[node->input[0]];
  int32_t channels = channels_of(l, at);
  if (in->rectified) return qe_fail(QE_REFUSED, "a batch norm after a float ReLU has no integer form");
  QE_TRY(form_copy(out, in, channels));
  const float *gamma = qe_int_param(l, node->param[QE_BN_GAMMA]), *beta = qe_int_param(l, node->param[QE_BN_BETA]);
  const float *mean = qe_int_param(l, node->param[QE_BN_MEAN]), *var = qe_int_param(l, node->param[QE_BN_VAR]);
  for (int32_t c = 0; c < channels; c++) {
    double factor = (double)gamma[c] / sqrt((double)var[c] + (double)node->attrs.epsilon);
    for (int b = 0; b < out->branches; b++) out->scale[b][c] *= factor;
    out->bias[c] = (out->bias[c] - (double)mean[c]) * factor + (double)beta[c];
  }
  return QE_OK;
}

static qe_status lower_clamp(qe_int_lowering *l, qe_node at, qe_int_form *out) {
  const qe_node_info *node = &l->graph->node[at];
  QE_TRY(form_copy(out, &l->form[node->input[0]], channels_of(l, at)));
  if (node->attrs.low < 0 || node->attrs.low > 0 || isfinite(node->attrs.high))
    return qe_fail(QE_REFUSED, "only ReLU has an integer form, not a clamp to %g...%g", (double)node->attrs.low,
                   (double)node->attrs.high);
  bool already = qe_int_is_codes(out, channels_of(l, at)) && l->network->layer[out->tensor[0]].low >= 0;
  out->rectified = !already;
  return QE_OK;
}

static qe_status lower_add(qe_int_lowering *l, qe_node at, qe_int_form *out) {
  const qe_node_info *node = &l->graph->node[at];
  int32_t channels = channels_of(l, at);
  QE_TRY(form_copy(out, &l->form[node->input[0]], channels));
  const qe_int_form *other = &l->form[node->input[1]];
  if (out->rectified || other->rectified)
    return qe_fail(QE_REFUSED, "a float skip connection has no integer form; set residual-bits to 8");
  for (int b = 0; b < other->branches; b++) {
    int same = 0;
    while (same < out->branches && out->tensor[same] != other->tensor[b]) same++;
    if (same == QE_INT_BRANCHES)
      return qe_fail(QE_REFUSED, "more than two branches meet here; quantise one of them before");
    if (same == out->branches) {
      if (!(out->scale[same] = QE_NEW_ARRAY(double, channels))) return QE_NO_MEMORY;
      out->tensor[same] = other->tensor[b];
      out->branches++;
    }
    for (int32_t c = 0; c < channels; c++) out->scale[same][c] += other->scale[b][c];
  }
  for (int32_t c = 0; c < channels; c++) out->bias[c] += other->bias[c];
  return QE_OK;
}

/* ---- layers that move codes ---- */

static qe_status lower_moving(qe_int_lowering *l, qe_node at, qe_op op, double scale, qe_int_form *out) {
  const qe_node_info *node = &l->graph->node[at];
  const qe_int_form *in;
  QE_TRY(need_codes(l, node->input[0], &in));
  const qe_network_layer *source = &l->network->layer[in->tensor[0]];
  int64_t window = op == QE_OP_int_sum_pool ? (int64_t)node->attrs.window.kernel[0] * node->attrs.window.kernel[1] : 1;
  if (source->output.dtype == QE_S32) return qe_fail(QE_REFUSED, "reads sums; quantise them before");
  if (window > INT32_MAX >> 8) return qe_fail(QE_REFUSED, "its sums can pass 32 bits");
  qe_network_layer layer = {
      .op = op, .inputs = 1, .input = {in->tensor[0]}, .attrs = node->attrs, .output = node->output};
  layer.output.dtype = op == QE_OP_int_sum_pool ? QE_S32 : source->output.dtype;
  double step = in->scale[0][0] * scale;
  layer.unit = qe_int_unit(step);
  int tensor;
  QE_TRY(qe_int_add_layer(l, node, &layer, &tensor));
  return qe_int_form_codes(out, tensor, step, channels_of(l, at));
}

static qe_status lower_sum_pool(qe_int_lowering *l, qe_node at, qe_int_form *out) {
  const qe_window *window = &l->graph->node[at].attrs.window;
  return lower_moving(l, at, QE_OP_int_sum_pool, 1.0 / ((double)window->kernel[0] * window->kernel[1]), out);
}

static qe_status lower_max_pool(qe_int_lowering *l, qe_node at, qe_int_form *out) {
  return lower_moving(l, at, QE_OP_int_max_pool, 1, out);
}

static qe_status lower_subsample(qe_int_lowering *l, qe_node at, qe_int_form *out) {
  return lower_moving(l, at, QE_OP_int_subsample, 1, out);
}

/* The same memory; every value of the image becomes a channel. */
static qe_status lower_flatten(qe_int_lowering *l, qe_node at, qe_int_form *out) {
  const qe_int_form *in;
  QE_TRY(need_codes(l, l->graph->node[at].input[0], &in));
  return qe_int_form_codes(out, in->tensor[0], in->scale[0][0], channels_of(l, at));
}

/* ---- the whole ---- */

static const struct {
  const qe_layer *layer;
  qe_status (*lower)(qe_int_lowering *l, qe_node node, qe_int_form *out);
} rules[] = {
    {&qe_layer_input, lower_input},
    {&qe_layer_conv, lower_weighted},
    {&qe_layer_linear, lower_weighted},
    {&qe_layer_batch_norm, lower_batch_norm},
    {&qe_layer_clamp, lower_clamp},
    {&qe_layer_quant, qe_int_lower_quant},
    {&qe_layer_add, lower_add},
    {&qe_layer_max_pool, lower_max_pool},
    {&qe_layer_avg_pool, lower_sum_pool},
    {&qe_layer_flatten, lower_flatten},
    {&qe_layer_subsample, lower_subsample},
};

static qe_status lower_node(qe_int_lowering *l, qe_node node) {
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
    if (rules[i].layer == l->graph->node[node].layer) return rules[i].lower(l, node, &l->form[node]);
  return qe_fail(QE_REFUSED, "a %s layer has no integer form", l->graph->node[node].layer->name);
}

static qe_status lower_nodes(qe_int_lowering *l) {
  for (size_t i = 0; i < l->graph->nodes; i++) {
    qe_status status = lower_node(l, (qe_node)i);
    if (status != QE_OK) return qe_fail_within(status, "integer network, layer %s", l->graph->node[i].name);
  }
  qe_status status = qe_int_lower_logits(l);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "integer network, logits");
}

static qe_status lower_and_check(qe_int_lowering *l) {
  QE_TRY(lower_nodes(l));
  qe_status status = qe_network_check(l->network);
  return status == QE_FORMAT ? qe_fail_within(QE_REFUSED, "this graph") : status;
}

qe_status qe_network_from_graph(const qe_graph *graph, const float *values, qe_network **network) {
  qe_int_lowering l = {.graph = graph, .values = values, .network = QE_NEW(qe_network)};
  l.form = QE_NEW_ARRAY(qe_int_form, graph->nodes);
  qe_status status = l.network && l.form ? lower_and_check(&l) : QE_NO_MEMORY;
  for (size_t i = 0; l.form && i < graph->nodes; i++) form_free(&l.form[i]);
  qe_free(l.form);
  if (status == QE_OK)
    *network = l.network;
  else
    qe_network_free(l.network);
  return status;
}
