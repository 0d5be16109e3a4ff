/* What a graph costs, and how it looks: parameters, multiply-adds, bit-operations, text and Graphviz dumps. */
#include "core/graph/graph.h"
#include "core/graph/layers.h"

static bool is_weighted(const qe_node_info *node) {
  return node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
}

int qe_graph_bits(const qe_graph *graph, qe_node node) {
  const qe_node_info *info = &graph->node[node];
  if (info->layer == &qe_layer_quant) return info->quantizer.bits;
  if (info->layer == &qe_layer_input) return 8;
  bool carries =
      info->layer == &qe_layer_max_pool || info->layer == &qe_layer_flatten || info->layer == &qe_layer_subsample;
  return carries ? qe_graph_bits(graph, info->input[0]) : QE_FLOAT_BITS;
}

static qe_cost node_cost(const qe_graph *graph, qe_node node) {
  const qe_node_info *info = &graph->node[node];
  qe_cost cost = {0};
  for (int i = 0; i < info->params; i++) {
    if (info->param[i] < 0 || graph->param[info->param[i]].node != node) continue;
    const qe_param *param = &graph->param[info->param[i]];
    if (param->group != QE_GROUP_WEIGHT && param->group != QE_GROUP_SCALE) continue;
    int64_t count = qe_count(&param->desc);
    cost.params += count;
    cost.bits += count * (param->group == QE_GROUP_WEIGHT ? info->quantizer.bits : QE_FLOAT_BITS);
  }
  if (is_weighted(info)) {
    const qe_desc *weight = &graph->param[info->param[QE_CONV_WEIGHT]].desc;
    cost.macs = qe_count(weight) * info->output.dim[QE_H] * info->output.dim[QE_W];
    cost.bit_ops = cost.macs * info->quantizer.bits * qe_graph_bits(graph, info->input[0]);
  }
  return cost;
}

qe_cost qe_graph_cost(const qe_graph *graph, qe_node node) {
  if (node >= 0) return node_cost(graph, node);
  qe_cost sum = {0};
  for (size_t i = 0; i < graph->nodes; i++) {
    qe_cost cost = node_cost(graph, (qe_node)i);
    sum.params += cost.params;
    sum.macs += cost.macs;
    sum.bit_ops += cost.bit_ops;
    sum.bits += cost.bits;
  }
  return sum;
}

static void print_window(const qe_window *window, FILE *file) {
  fprintf(file, " kernel=%dx%d stride=%dx%d", window->kernel[0], window->kernel[1], window->stride[0],
          window->stride[1]);
  if (window->pad[0] || window->pad[1] || window->pad[2] || window->pad[3])
    fprintf(file, " pad=%d,%d,%d,%d", window->pad[0], window->pad[1], window->pad[2], window->pad[3]);
  if (window->dilation[0] != 1 || window->dilation[1] != 1)
    fprintf(file, " dilation=%dx%d", window->dilation[0], window->dilation[1]);
  if (window->groups > 1) fprintf(file, " groups=%d", window->groups);
}

static void print_quantizer(const qe_graph *graph, const qe_node_info *info, FILE *file) {
  const qe_quantizer *quantizer = &info->quantizer;
  if (quantizer->bits == QE_FLOAT_BITS || quantizer->bits == 0) return;
  fprintf(file, " bits=%d rule=%s grid=%s", quantizer->bits, qe_rule_name(quantizer->rule),
          qe_grid_name(quantizer->grid));
  if (quantizer->per_channel) fputs(" per_channel", file);
  if (quantizer->step_shift) fprintf(file, " step_shift=%d", quantizer->step_shift);
  if (quantizer->round_up) fputs(" round_up", file);
  if (info->layer == &qe_layer_quant) fprintf(file, " step=%s", graph->param[info->param[QE_QUANT_STEP]].name);
}

void qe_graph_dump(const qe_graph *graph, FILE *file) {
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *info = &graph->node[i];
    fprintf(file, "%s = %s(", info->name, info->layer->name);
    for (int k = 0; k < info->inputs; k++) fprintf(file, "%s%s", k ? ", " : "", graph->node[info->input[k]].name);
    fprintf(file, ") shape=%dx%dx%d", info->output.dim[QE_H], info->output.dim[QE_W], info->output.dim[QE_C]);
    if (info->attrs.window.kernel[0]) print_window(&info->attrs.window, file);
    if (info->layer == &qe_layer_subsample) fprintf(file, " stride=%d", info->attrs.window.stride[0]);
    if (info->layer == &qe_layer_clamp)
      fprintf(file, " low=%g high=%g", (double)info->attrs.low, (double)info->attrs.high);
    if (is_weighted(info) && info->param[QE_CONV_BIAS] >= 0) fputs(" bias", file);
    print_quantizer(graph, info, file);
    fputc('\n', file);
  }
}

static const char *colour(const qe_node_info *info) {
  if (is_weighted(info)) return "#cfe3ff";
  if (info->layer == &qe_layer_quant) return "#ffe2b8";
  if (info->layer == &qe_layer_input) return "#d8f5d0";
  return "#f2f2f2";
}

void qe_graph_dot(const qe_graph *graph, FILE *file) {
  fputs("digraph network {\n  rankdir=TB;\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n",
        file);
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *info = &graph->node[i];
    fprintf(file, "  n%zu [fillcolor=\"%s\", label=\"%s\\n%s %dx%dx%d", i, colour(info), info->name, info->layer->name,
            info->output.dim[QE_H], info->output.dim[QE_W], info->output.dim[QE_C]);
    if (info->quantizer.bits && info->quantizer.bits != QE_FLOAT_BITS)
      fprintf(file, "\\n%d bits", info->quantizer.bits);
    fputs("\"];\n", file);
    for (int k = 0; k < info->inputs; k++) fprintf(file, "  n%d -> n%zu;\n", info->input[k], i);
  }
  fputs("}\n", file);
}
