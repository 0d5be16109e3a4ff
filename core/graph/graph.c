/* Building a graph: nodes, parameters, and the layout of the flat parameter vector. */
#include "core/graph/graph.h"

#include "core/base/alloc.h"
#include "core/graph/layers.h"

#include <string.h>

static const char *const rule_names[QE_RULES] = {
#define X(id, name, text) name,
    QE_RULE_LIST(X)
#undef X
};
static const char *const grid_names[QE_GRIDS] = {"symmetric", "signed", "odd", "unsigned"};

const char *qe_rule_name(qe_rule rule) {
  return rule_names[rule];
}
const char *qe_grid_name(qe_grid grid) {
  return grid_names[grid];
}

void qe_grid_range(qe_grid grid, int bits, int32_t *low, int32_t *high) {
  int32_t half = 1 << (bits - 1);
  const int32_t range[QE_GRIDS][2] = {
      {-(half - 1), half - 1}, {-half, half - 1}, {-(2 * half - 1), 2 * half - 1}, {0, 2 * half - 1}};
  *low = range[grid][0];
  *high = range[grid][1];
}

bool qe_same_quantizer(const qe_quantizer *a, const qe_quantizer *b) {
  return a->bits == b->bits && a->rule == b->rule && a->grid == b->grid && a->per_channel == b->per_channel &&
         a->step_shift == b->step_shift;
}

qe_grid qe_weight_grid(qe_rule rule, int bits) {
  static const qe_grid grid_of[QE_RULES] = {
      [QE_RULE_LSQ] = QE_GRID_SIGNED,   [QE_RULE_PACT] = QE_GRID_SYMMETRIC, [QE_RULE_DOREFA] = QE_GRID_ODD,
      [QE_RULE_L2] = QE_GRID_SYMMETRIC, [QE_RULE_L2_ODD] = QE_GRID_ODD,     [QE_RULE_MAX] = QE_GRID_SYMMETRIC};
  /* One bit has no zero between two codes, on any rule's grid. Odd codes of 8 bits would not fit s8; the rule l2-odd
   * asks for the best grid of its size, and there the signed one has a step as fine. */
  if (bits == 1) return QE_GRID_ODD;
  return rule == QE_RULE_L2_ODD && bits == 8 ? QE_GRID_SIGNED : grid_of[rule];
}

qe_window qe_square(int32_t kernel, int32_t stride, int32_t pad, int32_t channels) {
  return (qe_window){{kernel, kernel}, {stride, stride}, {1, 1}, {pad, pad, pad, pad}, 1, channels};
}

qe_status qe_graph_new(qe_graph **out) {
  qe_graph *graph = QE_NEW(qe_graph);
  if (!graph) return QE_NO_MEMORY;
  *out = graph;
  return QE_OK;
}

void qe_graph_free(qe_graph *graph) {
  if (!graph) return;
  for (size_t i = 0; i < graph->nodes; i++) qe_free(graph->node[i].name);
  for (size_t i = 0; i < graph->params; i++) qe_free(graph->param[i].name);
  qe_free(graph->node);
  qe_free(graph->param);
  qe_free(graph->error);
  qe_free(graph);
}

/* The first failure sticks, with its message, so that a model can be checked once at its end. */
static qe_node stick(qe_graph *graph, qe_status status) {
  if (graph->status == QE_OK) {
    graph->status = status;
    graph->error = qe_strdup(qe_message());
  }
  return -1;
}

static qe_status append_node(qe_graph *graph, const qe_node_info *node, const char *name, qe_node *out) {
  if (graph->finished) return qe_fail(QE_USAGE, "the graph is finished; node %s comes too late", name);
  if (qe_graph_find_node(graph, name) >= 0) return qe_fail(QE_USAGE, "two nodes are called %s", name);
  for (int i = 0; i < node->inputs; i++)
    if (node->input[i] < 0 || (size_t)node->input[i] >= graph->nodes)
      return qe_fail(QE_USAGE, "node %s: input %d is no node of this graph", name, i);
  QE_TRY(qe_reserve(&graph->node, &graph->node_capacity, graph->nodes + 1, sizeof *graph->node));
  qe_node_info *added = &graph->node[graph->nodes];
  *added = *node;
  for (int i = 0; i < QE_MAX_NODE_PARAMS; i++) added->param[i] = -1;
  added->name = qe_strdup(name);
  if (!added->name) return QE_NO_MEMORY;
  qe_status status = added->layer->infer(graph, added);
  if (status != QE_OK) {
    qe_free(added->name);
    return qe_fail_within(status, "node %s", name);
  }
  for (int i = 0; i < node->inputs; i++) graph->node[node->input[i]].consumers++;
  *out = (qe_node)graph->nodes++;
  return QE_OK;
}

static qe_node add_node(qe_graph *graph, const qe_node_info *node, const char *name) {
  qe_node at = -1;
  if (graph->status != QE_OK) return -1;
  qe_status status = append_node(graph, node, name, &at);
  return status == QE_OK ? at : stick(graph, status);
}

static void add_param(qe_graph *graph, qe_node node, int place, const char *suffix, qe_desc desc, qe_group group) {
  if (graph->status != QE_OK || node < 0) return;
  qe_param param = {.desc = desc, .group = group, .node = node};
  qe_status status = qe_reserve(&graph->param, &graph->param_capacity, graph->params + 1, sizeof param);
  if (status == QE_OK) param.name = qe_format("%s.%s", graph->node[node].name, suffix);
  if (!param.name) {
    stick(graph, QE_NO_MEMORY);
    return;
  }
  graph->param[graph->params] = param;
  graph->node[node].param[place] = (int)graph->params++;
  if (graph->node[node].params <= place) graph->node[node].params = place + 1;
}

static qe_group step_group(qe_rule rule) {
  return rule == QE_RULE_LSQ || rule == QE_RULE_PACT ? QE_GROUP_STEP : QE_GROUP_STATE;
}

static bool check_quantizer(qe_graph *graph, const char *name, const qe_quantizer *quantizer) {
  if (quantizer->bits == QE_FLOAT_BITS) return true;
  int32_t low, high = 0;
  bool known = quantizer->bits >= 1 && quantizer->bits <= 8;
  if (known) qe_grid_range(quantizer->grid, quantizer->bits, &low, &high);
  if (high > 0) return true;
  if (!known)
    stick(graph, qe_fail(QE_USAGE, "node %s: %d bits; 1 to 8, or 32 for float", name, quantizer->bits));
  else
    stick(graph, qe_fail(QE_USAGE, "node %s: 1 bit on the %s grid has no positive code; take the odd one", name,
                         qe_grid_name(quantizer->grid)));
  return false;
}

qe_node qe_graph_input(qe_graph *graph, const char *name, int32_t height, int32_t width, int32_t channels) {
  qe_node_info node = {.layer = &qe_layer_input, .output = qe_map(QE_F32, 1, height, width, channels)};
  return add_node(graph, &node, name);
}

/* Weight, bias and step of a convolution or linear layer. */
static void add_weights(qe_graph *graph, qe_node node, qe_desc weight, bool bias) {
  if (graph->status != QE_OK) return;
  int32_t outputs = weight.dim[QE_N];
  qe_quantizer quantizer = graph->node[node].quantizer;
  add_param(graph, node, QE_CONV_WEIGHT, "weight", weight, QE_GROUP_WEIGHT);
  if (bias) add_param(graph, node, QE_CONV_BIAS, "bias", qe_vector(QE_F32, outputs), QE_GROUP_SCALE);
  if (quantizer.bits != QE_FLOAT_BITS)
    add_param(graph, node, QE_CONV_STEP, "weight_step", qe_map(QE_F32, quantizer.per_channel ? outputs : 1, 1, 1, 1),
              step_group(quantizer.rule == QE_RULE_PACT ? QE_RULE_MAX : quantizer.rule));
}

qe_node qe_graph_conv(qe_graph *graph, const char *name, qe_node input, const qe_window *window, bool bias,
                      const qe_quantizer *weights) {
  if (graph->status != QE_OK || !check_quantizer(graph, name, weights)) return -1;
  qe_node_info node = {.layer = &qe_layer_conv, .inputs = 1, .input = {input}, .quantizer = *weights};
  node.attrs.window = *window;
  qe_node at = add_node(graph, &node, name);
  if (at >= 0) {
    int32_t inputs = graph->node[input].output.dim[QE_C] / window->groups;
    add_weights(graph, at, qe_map(QE_F32, window->channels, window->kernel[0], window->kernel[1], inputs), bias);
  }
  return at;
}

qe_node qe_graph_linear(qe_graph *graph, const char *name, qe_node input, int32_t outputs, bool bias,
                        const qe_quantizer *weights) {
  if (graph->status != QE_OK || !check_quantizer(graph, name, weights)) return -1;
  qe_node_info node = {.layer = &qe_layer_linear, .inputs = 1, .input = {input}, .quantizer = *weights};
  node.attrs.window.channels = outputs;
  qe_node at = add_node(graph, &node, name);
  if (at >= 0) add_weights(graph, at, qe_map(QE_F32, outputs, 1, 1, graph->node[input].output.dim[QE_C]), bias);
  return at;
}

qe_node qe_graph_batch_norm(qe_graph *graph, const char *name, qe_node input, float epsilon, float momentum) {
  qe_node_info node = {.layer = &qe_layer_batch_norm, .inputs = 1, .input = {input}};
  node.attrs.epsilon = epsilon;
  node.attrs.momentum = momentum;
  qe_node at = add_node(graph, &node, name);
  if (at < 0) return at;
  qe_desc vector = qe_vector(QE_F32, graph->node[at].output.dim[QE_C]);
  add_param(graph, at, QE_BN_GAMMA, "gamma", vector, QE_GROUP_SCALE);
  add_param(graph, at, QE_BN_BETA, "beta", vector, QE_GROUP_SCALE);
  add_param(graph, at, QE_BN_MEAN, "running_mean", vector, QE_GROUP_STATE);
  add_param(graph, at, QE_BN_VAR, "running_var", vector, QE_GROUP_STATE);
  return at;
}

qe_node qe_graph_clamp(qe_graph *graph, const char *name, qe_node input, float low, float high) {
  qe_node_info node = {.layer = &qe_layer_clamp, .inputs = 1, .input = {input}};
  node.attrs.low = low;
  node.attrs.high = high;
  return add_node(graph, &node, name);
}

qe_node qe_graph_quant(qe_graph *graph, const char *name, qe_node input, const qe_quantizer *activations,
                       qe_node share) {
  if (graph->status != QE_OK || !check_quantizer(graph, name, activations)) return -1;
  if (activations->bits == QE_FLOAT_BITS)
    return stick(graph, qe_fail(QE_USAGE, "node %s: a quantiser of 32 bits; leave it out", name));
  if (activations->per_channel)
    return stick(graph, qe_fail(QE_USAGE, "node %s: steps per channel are for weights only", name));
  qe_node_info node = {.layer = &qe_layer_quant, .inputs = 1, .input = {input}, .quantizer = *activations};
  qe_node at = add_node(graph, &node, name);
  if (at < 0) return at;
  if (share < 0) {
    add_param(graph, at, QE_QUANT_STEP, "step", qe_map(QE_F32, 1, 1, 1, 1), step_group(activations->rule));
    return at;
  }
  if (share >= at || graph->node[share].layer != &qe_layer_quant)
    return stick(graph, qe_fail(QE_USAGE, "node %s shares the step of a node that is no quantiser", name));
  graph->node[at].param[QE_QUANT_STEP] = graph->node[share].param[QE_QUANT_STEP];
  graph->node[at].params = 1;
  return at;
}

static qe_node add_binary(qe_graph *graph, const qe_layer *layer, const char *name, qe_node a, qe_node b) {
  qe_node_info node = {.layer = layer, .inputs = 2, .input = {a, b}};
  return add_node(graph, &node, name);
}

qe_node qe_graph_add(qe_graph *graph, const char *name, qe_node a, qe_node b) {
  return add_binary(graph, &qe_layer_add, name, a, b);
}

qe_node qe_graph_concat(qe_graph *graph, const char *name, qe_node a, qe_node b) {
  return add_binary(graph, &qe_layer_concat, name, a, b);
}

static qe_node add_windowed(qe_graph *graph, const qe_layer *layer, const char *name, qe_node input,
                            const qe_window *window) {
  qe_node_info node = {.layer = layer, .inputs = 1, .input = {input}};
  node.attrs.window = *window;
  return add_node(graph, &node, name);
}

qe_node qe_graph_max_pool(qe_graph *graph, const char *name, qe_node input, const qe_window *window) {
  return add_windowed(graph, &qe_layer_max_pool, name, input, window);
}

qe_node qe_graph_avg_pool(qe_graph *graph, const char *name, qe_node input, const qe_window *window) {
  return add_windowed(graph, &qe_layer_avg_pool, name, input, window);
}

qe_node qe_graph_global_pool(qe_graph *graph, const char *name, qe_node input) {
  if (graph->status != QE_OK) return -1;
  if (input < 0 || (size_t)input >= graph->nodes)
    return stick(graph, qe_fail(QE_USAGE, "node %s: the input is no node of this graph", name));
  const int32_t *dim = graph->node[input].output.dim;
  qe_window window = {{dim[QE_H], dim[QE_W]}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1, 0};
  return qe_graph_avg_pool(graph, name, input, &window);
}

qe_node qe_graph_flatten(qe_graph *graph, const char *name, qe_node input) {
  qe_node_info node = {.layer = &qe_layer_flatten, .inputs = 1, .input = {input}};
  return add_node(graph, &node, name);
}

qe_node qe_graph_subsample(qe_graph *graph, const char *name, qe_node input, int32_t stride, int32_t channels) {
  if (graph->status != QE_OK) return -1;
  if (input < 0 || (size_t)input >= graph->nodes)
    return stick(graph, qe_fail(QE_USAGE, "node %s: the input is no node of this graph", name));
  qe_node_info node = {.layer = &qe_layer_subsample, .inputs = 1, .input = {input}};
  int32_t extra = channels - graph->node[input].output.dim[QE_C];
  node.attrs.window.stride[0] = node.attrs.window.stride[1] = stride;
  node.attrs.pad_channels[0] = extra / 2;
  node.attrs.pad_channels[1] = extra - extra / 2;
  return add_node(graph, &node, name);
}

qe_status qe_graph_finish(qe_graph *graph) {
  if (graph->status != QE_OK) return qe_fail(graph->status, "%s", graph->error ? graph->error : "out of memory");
  if (graph->nodes == 0) return qe_fail(QE_USAGE, "the graph has no node");
  if (graph->finished) return QE_OK;
  size_t offset = 0;
  for (int group = 0; group < QE_GROUPS; group++) {
    graph->group_offset[group] = offset;
    for (size_t i = 0; i < graph->params; i++) {
      if ((int)graph->param[i].group != group) continue;
      graph->param[i].offset = offset;
      offset += (qe_bytes(&graph->param[i].desc) + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
    }
  }
  graph->group_offset[QE_GROUPS] = offset;
  graph->finished = true;
  return QE_OK;
}

int qe_graph_find_param(const qe_graph *graph, const char *name) {
  for (size_t i = 0; i < graph->params; i++)
    if (strcmp(graph->param[i].name, name) == 0) return (int)i;
  return -1;
}

qe_node qe_graph_find_node(const qe_graph *graph, const char *name) {
  for (size_t i = 0; i < graph->nodes; i++)
    if (strcmp(graph->node[i].name, name) == 0) return (qe_node)i;
  return -1;
}

size_t qe_graph_param_bytes(const qe_graph *graph) {
  return graph->group_offset[QE_GROUPS];
}
