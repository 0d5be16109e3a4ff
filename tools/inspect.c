/* Histograms of weights, layer by layer: counted, printed as bars, written as JSON. */
#include "tools/inspect.h"

#include "core/base/alloc.h"
#include "core/graph/integer.h"
#include "core/graph/layers.h"

#include <math.h>
#include <string.h>

enum { VALUE_BINS = 32 };

/* ---- counting ---- */

static void conclude(qe_inspect_layer *layer) {
  layer->weights = 0;
  layer->entropy = 0;
  for (int i = 0; i < layer->bins; i++) layer->weights += layer->count[i];
  for (int i = 0; i < layer->bins; i++) {
    double share = (double)layer->count[i] / (double)layer->weights;
    if (layer->count[i]) layer->entropy -= share * log2(share);
  }
}

static void count_codes(const int8_t *codes, const qe_code_grid *grid, qe_inspect_layer *layer) {
  int64_t count = qe_count(&layer->weight), zeros = 0;
  layer->codes = true;
  layer->low = grid->low;
  layer->high = grid->high;
  layer->spacing = grid->spacing;
  layer->bins = (grid->high - grid->low) / grid->spacing + 1;
  for (int64_t i = 0; i < count; i++) {
    layer->count[(codes[i] - grid->low) / grid->spacing]++;
    zeros += codes[i] == 0;
  }
  layer->zeros = (double)zeros / (double)count;
  conclude(layer);
}

static void count_values(const float *values, qe_inspect_layer *layer) {
  int64_t count = qe_count(&layer->weight), zeros = 0;
  layer->bins = VALUE_BINS;
  layer->least = layer->largest = values[0];
  for (int64_t i = 0; i < count; i++) {
    layer->least = fminf(layer->least, values[i]);
    layer->largest = fmaxf(layer->largest, values[i]);
    zeros += values[i] == 0;
  }
  float range = layer->largest - layer->least;
  for (int64_t i = 0; i < count; i++) {
    int bin = range > 0 ? (int)((values[i] - layer->least) / range * VALUE_BINS) : 0;
    layer->count[bin < VALUE_BINS ? bin : VALUE_BINS - 1]++;
  }
  layer->zeros = (double)zeros / (double)count;
  conclude(layer);
}

static qe_status add(qe_inspect_layers *layers, const char *name, const qe_desc *weight, const qe_desc *output,
                     qe_inspect_layer **layer) {
  QE_TRY(qe_reserve(&layers->layer, &layers->capacity, layers->count + 1, sizeof **layer));
  *layer = &layers->layer[layers->count++];
  memset(*layer, 0, sizeof **layer);
  (*layer)->name = name;
  (*layer)->weight = *weight;
  (*layer)->output = *output;
  return QE_OK;
}

/* Codes where the node has bits and a step; else, and where codes do not fit 8 bits, the values. */
static qe_status inspect_node(const qe_model *model, qe_node at, qe_inspect_layers *layers) {
  const qe_graph *graph = model->graph;
  const qe_node_info *node = &graph->node[at];
  int weight = node->param[QE_CONV_WEIGHT], step = node->param[QE_CONV_STEP];
  qe_inspect_layer *layer;
  QE_TRY(add(layers, node->name, &graph->param[weight].desc, &node->output, &layer));
  bool stepped = node->quantizer.bits != QE_FLOAT_BITS && step >= 0 && graph->param[step].initialised;
  int8_t *codes = NULL;
  qe_code_grid grid;
  qe_status status = stepped ? qe_graph_weight_codes(graph, model->values, at, &codes, &grid) : QE_REFUSED;
  if (status == QE_OK)
    count_codes(codes, &grid, layer);
  else if (status == QE_REFUSED)
    count_values(qe_model_values(model, weight), layer);
  qe_free(codes);
  return status == QE_REFUSED ? QE_OK : status;
}

static qe_status inspect_nodes(const qe_model *model, qe_inspect_layers *layers) {
  for (size_t i = 0; i < model->graph->nodes; i++) {
    const qe_node_info *node = &model->graph->node[i];
    if (node->layer == &qe_layer_conv || node->layer == &qe_layer_linear)
      QE_TRY(inspect_node(model, (qe_node)i, layers));
  }
  return QE_OK;
}

qe_status qe_inspect_model(const qe_model *model, qe_inspect_layers *layers) {
  memset(layers, 0, sizeof *layers);
  qe_status status = inspect_nodes(model, layers);
  if (status != QE_OK) qe_inspect_free(layers);
  return status;
}

qe_status qe_inspect_network(const qe_network *network, qe_inspect_layers *layers) {
  memset(layers, 0, sizeof *layers);
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *from = &network->layer[i];
    qe_inspect_layer *layer;
    if (!from->weight) continue;
    qe_status status = add(layers, from->name, &from->weight_desc, &from->output, &layer);
    if (status != QE_OK) {
      qe_inspect_free(layers);
      return status;
    }
    count_codes(from->weight, &from->grid, layer);
  }
  return QE_OK;
}

void qe_inspect_free(qe_inspect_layers *layers) {
  qe_free(layers->layer);
  memset(layers, 0, sizeof *layers);
}

/* ---- showing ---- */

/* A column stands for one bin, or for several where there are more bins than columns; its height is in eighths of the
 * tallest, at least one where there is anything. */
static void print_bars(const qe_inspect_layer *layer, int columns, FILE *file) {
  static const char *const bar[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  int each = (layer->bins + columns - 1) / columns;
  int64_t tallest = 1, sum[QE_INSPECT_BINS] = {0};
  for (int i = 0; i < layer->bins; i++) {
    sum[i / each] += layer->count[i];
    if (sum[i / each] > tallest) tallest = sum[i / each];
  }
  for (int i = 0; i * each < layer->bins; i++) fputs(bar[(sum[i] * 8 + tallest - 1) / tallest], file);
}

static void weight_text(const qe_desc *desc, char *text, size_t bytes) {
  const int32_t *dim = desc->dim;
  if (dim[QE_H] == 1 && dim[QE_W] == 1)
    snprintf(text, bytes, "%dx%d", dim[QE_N], dim[QE_C]);
  else
    snprintf(text, bytes, "%dx%dx%dx%d", dim[QE_N], dim[QE_H], dim[QE_W], dim[QE_C]);
}

static void print_layer(const qe_inspect_layer *layer, int columns, FILE *file) {
  char weight[64], output[64], range[64];
  weight_text(&layer->weight, weight, sizeof weight);
  snprintf(output, sizeof output, "%dx%dx%d", layer->output.dim[QE_H], layer->output.dim[QE_W],
           layer->output.dim[QE_C]);
  if (layer->codes)
    snprintf(range, sizeof range, "%d … %d", layer->low, layer->high);
  else
    snprintf(range, sizeof range, "%.3g … %.3g", (double)layer->least, (double)layer->largest);
  /* The dots of `range` are three bytes and one column. */
  fprintf(file, "%-24s %14s %11s %7.1f %7.2f %19s ", layer->name, weight, output, 100 * layer->zeros, layer->entropy,
          range);
  print_bars(layer, columns, file);
  fputc('\n', file);
}

void qe_inspect_print(const qe_inspect_layers *layers, int width, FILE *file) {
  enum { BEFORE = 86, LEAST = 16, MOST = 64 };
  int columns = width - BEFORE < LEAST ? LEAST : width - BEFORE > MOST ? MOST : width - BEFORE;
  fprintf(file, "%-24s %14s %11s %7s %7s %17s histogram\n", "layer", "weights", "output", "zeros %", "entropy",
          "range");
  for (size_t i = 0; i < layers->count; i++) print_layer(&layers->layer[i], columns, file);
}

static void json_shape(qe_json *json, const char *key, const qe_desc *desc, int first) {
  qe_json_open_array(json, key);
  for (int axis = first; axis <= QE_C; axis++) qe_json_int(json, NULL, desc->dim[axis]);
  qe_json_close(json);
}

void qe_inspect_json(const qe_inspect_layers *layers, qe_json *json) {
  qe_json_open_array(json, "weights");
  for (size_t i = 0; i < layers->count; i++) {
    const qe_inspect_layer *layer = &layers->layer[i];
    qe_json_open_object(json, NULL);
    qe_json_text(json, "layer", layer->name);
    json_shape(json, "shape", &layer->weight, QE_N);
    json_shape(json, "output", &layer->output, QE_H);
    qe_json_text(json, "bins", layer->codes ? "codes" : "values");
    if (layer->codes) qe_json_int(json, "spacing", layer->spacing);
    qe_json_real(json, "low", layer->codes ? layer->low : (double)layer->least);
    qe_json_real(json, "high", layer->codes ? layer->high : (double)layer->largest);
    qe_json_real(json, "zeros_percent", 100 * layer->zeros);
    qe_json_real(json, "entropy_bits", layer->entropy);
    qe_json_open_array(json, "histogram");
    for (int bin = 0; bin < layer->bins; bin++) qe_json_int(json, NULL, layer->count[bin]);
    qe_json_close(json);
    qe_json_close(json);
  }
  qe_json_close(json);
}
