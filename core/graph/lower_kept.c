/* Programs that begin in the middle of a graph, from what the activation quantisers of another program have left. */
#include "core/base/alloc.h"
#include "core/graph/layers.h"
#include "core/graph/lower_parts.h"

static bool is_kept(const qe_graph *graph, qe_node node) {
  return graph->node[node].layer == &qe_layer_quant;
}

/* Places of the kept nodes before `node`, one after the other. */
static size_t bytes_before(const qe_graph *graph, int32_t batch, qe_node node) {
  size_t bytes = 0;
  for (qe_node i = 0; i < node; i++) {
    size_t own = qe_bytes(&graph->node[i].output) * (size_t)batch;
    if (is_kept(graph, i)) bytes += (own + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
  }
  return bytes;
}

size_t qe_lower_kept_bytes(const qe_graph *graph, int32_t batch) {
  return bytes_before(graph, batch, (qe_node)graph->nodes);
}

/* Whether all that nodes from `start` on read of those before it is kept. */
static bool can_start(const qe_graph *graph, qe_node start) {
  for (size_t i = (size_t)start; i < graph->nodes; i++)
    for (int k = 0; k < graph->node[i].inputs; k++)
      if (graph->node[i].input[k] < start && !is_kept(graph, graph->node[i].input[k])) return false;
  return true;
}

qe_node qe_lower_start(const qe_graph *graph, qe_node most) {
  if (most > qe_graph_output(graph)) most = qe_graph_output(graph);
  while (most > 0 && !can_start(graph, most)) most--;
  return most;
}

qe_status qe_lower_kept_output(qe_lowering *lowering, qe_node node, qe_value *value) {
  const qe_node_info *info = &lowering->graph->node[node];
  if (!lowering->kept) return qe_lower_temp(lowering, node, "y", NULL, value);
  return qe_program_bind(lowering->program, info->name, qe_lower_desc(lowering, &info->output), lowering->kept,
                         bytes_before(lowering->graph, lowering->batch, node), value);
}

qe_status qe_lower_take_kept(qe_lowering *lowering) {
  for (qe_node i = 0; i < lowering->start; i++)
    if (is_kept(lowering->graph, i)) QE_TRY(qe_lower_kept_output(lowering, i, &lowering->output[i]));
  return QE_OK;
}
