/* The places of a network whose bits can be chosen, found by building it with changed bits and looking what changes. */
#include "core/models/allocation.h"

#include "core/base/alloc.h"
#include "core/graph/layers.h"

#include <stdio.h>
#include <string.h>

static int32_t code_bits(const qe_graph *graph, const char *layer) {
  qe_node node = qe_graph_find_node(graph, layer);
  return node < 0 ? 0 : qe_graph_bits(graph, graph->node[node].input[0]);
}

static int32_t weight_bits(const qe_graph *graph, const char *layer) {
  qe_node node = qe_graph_find_node(graph, layer);
  return node < 0 ? 0 : graph->node[node].quantizer.bits;
}

/* ---- making ---- */

typedef struct maker {
  const qe_model_spec *spec;
  const qe_graph *graph;
  qe_bit_map *map;
  qe_node *coder; /* [places]: of codes; -1 for weights */
} maker;

static qe_status count_layers(const qe_graph *graph, maker *m) {
  int32_t layers = 0;
  for (size_t i = 0; i < graph->nodes; i++) layers += qe_node_is_weighted(&graph->node[i]);
  m->map->layer = QE_NEW_ARRAY(qe_bit_layer, layers + 1);
  m->map->place = QE_NEW_ARRAY(qe_bit_place, 2 * layers + 1);
  m->coder = QE_NEW_ARRAY(qe_node, 2 * layers + 1);
  return m->map->layer && m->map->place && m->coder ? QE_OK : QE_NO_MEMORY;
}

static qe_status add_place(maker *m, const char *layer, qe_bit_place place, qe_node coder, int32_t *at) {
  qe_bit_map *map = m->map;
  m->coder[map->places] = coder;
  map->place[map->places] = place;
  map->place[map->places].layer = qe_strdup(layer);
  if (!map->place[map->places].layer) return QE_NO_MEMORY;
  *at = map->places++;
  return QE_OK;
}

/* The place of the code that a layer reads; a new one unless another layer reads the same. */
static qe_status add_code(maker *m, const qe_node_info *node, int32_t *at) {
  const qe_graph *graph = m->graph;
  qe_node input = node->input[0], coder = qe_graph_coder(graph, input);
  for (int32_t p = 0; coder >= 0 && p < m->map->places; p++) {
    if (m->coder[p] != coder || m->map->place[p].letter != 'a') continue;
    *at = p;
    return QE_OK;
  }
  bool quantized = coder >= 0 && graph->node[coder].layer == &qe_layer_quant;
  bool has_sign = quantized && graph->node[coder].quantizer.grid != QE_GRID_UNSIGNED;
  qe_bit_place place = {.letter = 'a',
                        .bits = qe_graph_bits(graph, input),
                        .least = has_sign ? 2 : 1,
                        .count = qe_count(&graph->node[coder >= 0 ? coder : input].output)};
  return add_place(m, node->name, place, coder, at);
}

static qe_status add_layers(maker *m) {
  const qe_graph *graph = m->graph;
  QE_TRY(count_layers(graph, m));
  m->map->fixed_bits = qe_graph_cost(graph, -1).bits;
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *node = &graph->node[i];
    if (!qe_node_is_weighted(node)) continue;
    qe_bit_layer *layer = &m->map->layer[m->map->layers];
    *layer = (qe_bit_layer){.macs = qe_graph_cost(graph, (qe_node)i).macs, .node = (qe_node)i};
    qe_bit_place weights = {.letter = 'w',
                            .bits = node->quantizer.bits,
                            .open = node->quantizer.bits != QE_FLOAT_BITS,
                            .least = 1,
                            .count = qe_count(&graph->param[node->param[QE_CONV_WEIGHT]].desc)};
    m->map->fixed_bits -= weights.count * weights.bits;
    QE_TRY(add_place(m, node->name, weights, -1, &layer->weight));
    layer->name = m->map->place[layer->weight].layer;
    QE_TRY(add_code(m, node, &layer->input));
    m->map->layers++;
  }
  return QE_OK;
}

/* Whether the layer's name decides the code's bits: the network builds with other ones only then. */
static qe_status try_decider(const maker *m, const char *layer, int32_t bits, bool *decides) {
  const char *old = m->spec->bits.layers;
  qe_model_spec spec = *m->spec;
  qe_graph *graph = NULL;
  char *text = qe_format("%s=a%d%s%s", layer, bits == 4 ? 3 : 4, old && *old ? "," : "", old ? old : "");
  if (!text) return QE_NO_MEMORY;
  spec.bits.layers = text;
  qe_status status = qe_model_build(&spec, &graph);
  *decides = status == QE_OK;
  qe_graph_free(graph);
  qe_free(text);
  return status == QE_NO_MEMORY ? status : QE_OK;
}

static qe_status rename_place(qe_bit_map *map, int32_t at, const char *layer) {
  if (strcmp(map->place[at].layer, layer) == 0) return QE_OK;
  char *name = qe_strdup(layer);
  if (!name) return QE_NO_MEMORY;
  qe_free(map->place[at].layer);
  map->place[at].layer = name;
  return QE_OK;
}

/* Of the layers that read a code one decides its bits, or none does. */
static qe_status find_deciders(maker *m) {
  qe_bit_map *map = m->map;
  for (int32_t i = 0; i < map->layers; i++) {
    qe_bit_place *code = &map->place[map->layer[i].input];
    qe_node coder = m->coder[map->layer[i].input];
    bool quantized = coder >= 0 && m->graph->node[coder].layer == &qe_layer_quant;
    if (code->open || !quantized) continue;
    QE_TRY(try_decider(m, map->layer[i].name, code->bits, &code->open));
    if (code->open) QE_TRY(rename_place(map, map->layer[i].input, map->layer[i].name));
  }
  return QE_OK;
}

/* The edges are what has three bits in a network of two bits whose edges have three. */
static qe_status mark_edges(maker *m) {
  qe_model_spec spec = *m->spec;
  qe_graph *graph = NULL;
  if (spec.bits.edges == 0) return QE_OK;
  spec.bits.weights = spec.bits.activations = 2;
  spec.bits.edges = 3;
  spec.bits.residual = 8;
  spec.bits.layers = NULL;
  QE_TRY(qe_model_build(&spec, &graph));
  for (int32_t p = 0; p < m->map->places; p++) {
    qe_bit_place *place = &m->map->place[p];
    int32_t bits = place->letter == 'w' ? weight_bits(graph, place->layer) : code_bits(graph, place->layer);
    place->edge = bits == 3;
  }
  qe_graph_free(graph);
  return QE_OK;
}

qe_status qe_bit_map_new(const qe_model_spec *spec, qe_bit_map **out) {
  if (spec->net)
    return qe_fail(QE_USAGE, "%s says the bits of its layers itself: a search of bits needs a model of the zoo",
                   spec->name);
  qe_graph *graph = NULL;
  QE_TRY(qe_model_build(spec, &graph));
  qe_bit_map *map = QE_NEW(qe_bit_map);
  maker m = {.spec = spec, .graph = graph, .map = map};
  qe_status status = map ? add_layers(&m) : QE_NO_MEMORY;
  if (status == QE_OK) status = find_deciders(&m);
  if (status == QE_OK) status = mark_edges(&m);
  if (status == QE_OK)
    *out = map;
  else
    qe_bit_map_free(map);
  qe_free(m.coder);
  qe_graph_free(graph);
  return status;
}

void qe_bit_map_free(qe_bit_map *map) {
  if (!map) return;
  for (int32_t p = 0; map->place && p < map->places; p++) qe_free(map->place[p].layer);
  qe_free(map->place);
  qe_free(map->layer);
  qe_free(map);
}

/* ---- vectors and text ---- */

void qe_bit_map_default(const qe_bit_map *map, int32_t *bits) {
  for (int32_t p = 0; p < map->places; p++) bits[p] = map->place[p].bits;
}

void qe_bit_map_of_graph(const qe_bit_map *map, const qe_graph *graph, int32_t *bits) {
  for (int32_t p = 0; p < map->places; p++) {
    const qe_bit_place *place = &map->place[p];
    bits[p] = place->letter == 'w' ? weight_bits(graph, place->layer) : code_bits(graph, place->layer);
  }
}

/* "LAYER=w3a4," of one layer onto the text; "" where none of its places is open. */
static int layer_text(const qe_bit_map *map, const qe_bit_layer *layer, const int32_t *bits, char *text, size_t room) {
  const qe_bit_place *weight = &map->place[layer->weight], *code = &map->place[layer->input];
  bool decides = code->open && strcmp(code->layer, layer->name) == 0;
  if (!weight->open && !decides) return 0;
  char w[16] = "", a[16] = "";
  if (weight->open) snprintf(w, sizeof w, "w%d", bits[layer->weight]);
  if (decides) snprintf(a, sizeof a, "a%d", bits[layer->input]);
  return snprintf(text, room, "%s=%s%s,", layer->name, w, a);
}

qe_status qe_bit_map_text(const qe_bit_map *map, const int32_t *bits, char **text) {
  size_t room = 1, used = 0;
  for (int32_t i = 0; i < map->layers; i++) room += strlen(map->layer[i].name) + 32;
  char *list = qe_calloc(room, 1);
  if (!list) return QE_NO_MEMORY;
  for (int32_t i = 0; i < map->layers; i++)
    used += (size_t)layer_text(map, &map->layer[i], bits, list + used, room - used);
  if (used) list[used - 1] = 0; /* the last comma */
  *text = list;
  return QE_OK;
}
