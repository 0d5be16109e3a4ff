/* Histograms of a network's weights: of codes on their grid, of float weights over their range. */
#include "core/base/alloc.h"
#include "core/graph/integer.h"
#include "core/graph/layers.h"
#include "core/report/report_parts.h"

#include <math.h>

enum { FLOAT_BINS = 41 };

void qe_layer_weights_free(qe_layer_weights *weights) {
  qe_free(weights->count);
  qe_free(weights->before);
}

/* Takes over the counts of `more`, whatever happens. */
static qe_status add_layer(qe_report_run *run, qe_layer_weights *more, qe_status status) {
  if (status == QE_OK) status = qe_reserve(&run->layer, &run->layer_capacity, run->layers + 1, sizeof *run->layer);
  if (status == QE_OK)
    run->layer[run->layers++] = *more;
  else
    qe_layer_weights_free(more);
  return status;
}

static int64_t *count_codes(const int8_t *code, int64_t weights, const qe_code_grid *grid, int bins) {
  int64_t *count = QE_NEW_ARRAY(int64_t, bins);
  for (int64_t i = 0; count && i < weights; i++) {
    int bin = (code[i] - grid->low) / grid->spacing;
    if (bin >= 0 && bin < bins) count[bin]++;
  }
  return count;
}

static qe_layer_weights codes_of(const char *name, const int8_t *code, int64_t weights, const qe_code_grid *grid) {
  int bins = (grid->high - grid->low) / grid->spacing + 1;
  return (qe_layer_weights){.name = name,
                            .codes = true,
                            .bits = grid->bits,
                            .bins = bins,
                            .count = count_codes(code, weights, grid, bins),
                            .low = grid->low,
                            .high = grid->high,
                            .weights = weights};
}

/* ---- models ---- */

static void find_steps(const qe_report_run *run, const qe_node_info *node, qe_layer_weights *layer) {
  const qe_param *param = &run->model->graph->param[node->param[QE_CONV_STEP]];
  const float *step = qe_model_values(run->model, node->param[QE_CONV_STEP]);
  layer->step[0] = layer->step[1] = (double)step[0];
  for (int64_t i = 1; i < qe_count(&param->desc); i++) {
    layer->step[0] = fmin(layer->step[0], (double)step[i]);
    layer->step[1] = fmax(layer->step[1], (double)step[i]);
  }
}

static qe_status float_weights(const qe_node_info *node, const float *value, int64_t weights, qe_layer_weights *layer) {
  float high = 0;
  *layer = (qe_layer_weights){.name = node->name, .bits = QE_FLOAT_BITS, .bins = FLOAT_BINS, .weights = weights};
  layer->count = QE_NEW_ARRAY(int64_t, FLOAT_BINS);
  if (!layer->count) return QE_NO_MEMORY;
  for (int64_t i = 0; i < weights; i++)
    if (isfinite(value[i])) high = fmaxf(high, fabsf(value[i]));
  layer->high = (double)high;
  layer->low = -layer->high;
  for (int64_t i = 0; i < weights; i++) {
    double place = high > 0 ? ((double)value[i] / layer->high + 1) / 2 * FLOAT_BINS : FLOAT_BINS / 2.0;
    if (isfinite(place)) layer->count[(int)fmin(fmax(place, 0), FLOAT_BINS - 1)]++;
  }
  return QE_OK;
}

static qe_status model_layer(qe_report_run *run, qe_node at) {
  const qe_graph *graph = run->model->graph;
  const qe_node_info *node = &graph->node[at];
  const qe_desc *desc = &graph->param[node->param[QE_CONV_WEIGHT]].desc;
  qe_layer_weights layer = {0};
  qe_code_grid grid;
  int8_t *code = NULL;
  qe_status status = QE_REFUSED;
  if (node->quantizer.bits != QE_FLOAT_BITS)
    status = qe_graph_weight_codes(graph, run->model->values, at, &code, &grid);
  if (status == QE_OK) {
    layer = codes_of(node->name, code, qe_count(desc), &grid);
    find_steps(run, node, &layer);
  } else if (status == QE_REFUSED) { /* float, or codes beyond 8 bits */
    qe_message_clear();
    status = float_weights(node, qe_model_values(run->model, node->param[QE_CONV_WEIGHT]), qe_count(desc), &layer);
  }
  qe_free(code);
  if (status == QE_OK && !layer.count) status = QE_NO_MEMORY;
  return add_layer(run, &layer, status);
}

/* ---- integer networks ---- */

/* The same layer of the network that the search began with, if it is on the same grid. */
static const qe_network_layer *start_of(const qe_report_run *run, size_t at) {
  if (!run->start || at >= run->start->layers) return NULL;
  const qe_network_layer *old = &run->start->layer[at], *now = &run->network->layer[at];
  bool same = old->weight && old->grid.low == now->grid.low && old->grid.high == now->grid.high &&
              old->grid.spacing == now->grid.spacing && qe_count(&old->weight_desc) == qe_count(&now->weight_desc);
  return same ? old : NULL;
}

static qe_status network_layer(qe_report_run *run, size_t at) {
  const qe_network_layer *now = &run->network->layer[at], *old = start_of(run, at);
  int64_t weights = qe_count(&now->weight_desc);
  qe_layer_weights layer = codes_of(now->name, now->weight, weights, &now->grid);
  if (old) layer.before = count_codes(old->weight, weights, &now->grid, layer.bins);
  for (int64_t i = 0; old && i < weights; i++) layer.changed += old->weight[i] != now->weight[i];
  return add_layer(run, &layer, layer.count && (!old || layer.before) ? QE_OK : QE_NO_MEMORY);
}

qe_status qe_report_count_weights(qe_report_run *run) {
  const qe_graph *graph = run->model ? run->model->graph : NULL;
  for (size_t i = 0; graph && i < graph->nodes; i++)
    if (graph->node[i].layer == &qe_layer_conv || graph->node[i].layer == &qe_layer_linear)
      QE_TRY(model_layer(run, (qe_node)i));
  for (size_t i = 0; run->network && i < run->network->layers; i++)
    if (run->network->layer[i].weight) QE_TRY(network_layer(run, i));
  return QE_OK;
}
