/* What a graph costs, and how it looks: parameters, multiply-adds, bit-operations, Graphviz dumps (text: text.c). */
#include "core/graph/graph.h"
#include "core/graph/layers.h"

bool qe_node_is_weighted(const qe_node_info *node) {
  return node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
}

qe_node qe_graph_coder(const qe_graph *graph, qe_node node) {
  const qe_node_info *info = &graph->node[node];
  if (info->layer == &qe_layer_quant || info->layer == &qe_layer_input) return node;
  bool carries =
      info->layer == &qe_layer_max_pool || info->layer == &qe_layer_flatten || info->layer == &qe_layer_subsample;
  return carries ? qe_graph_coder(graph, info->input[0]) : -1;
}

int qe_graph_bits(const qe_graph *graph, qe_node node) {
  qe_node coder = qe_graph_coder(graph, node);
  if (coder < 0) return QE_FLOAT_BITS;
  return graph->node[coder].layer == &qe_layer_input ? 8 : graph->node[coder].quantizer.bits;
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
  if (qe_node_is_weighted(info)) {
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

static const char *colour(const qe_node_info *info) {
  if (qe_node_is_weighted(info)) return "#cfe3ff";
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
