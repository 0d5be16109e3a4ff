/* Reading descriptions of graphs: lines become nodes. One pass over the bytes, which need not end in a 0; memory grows
 * with the number of nodes only. Every failure says where it is and, for a word that is not known, which is nearest. */
#include "core/base/nearest.h"
#include "core/graph/text_reader_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NODES_MOST = 10000, PARAMS_MOST = 1 << 30 };

/* ---- lines ---- */

static qe_status need(qe_text_reader *r, char byte, const char *what) {
  qe_text_skip_blanks(r);
  if (!qe_text_take(r, byte)) return qe_text_fail_expected(r, what);
  qe_text_skip_blanks(r);
  return QE_OK;
}

static qe_status read_layer(qe_text_reader *r, const qe_text_layer **layer) {
  const char *start = r->at;
  char word[QE_TEXT_WORD];
  QE_TRY(qe_text_read_word(r, "a layer is needed, as in conv(input)", word));
  qe_nearest nearest = {.word = word};
  for (*layer = qe_text_layers; (*layer)->name; (*layer)++) {
    if (strcmp(word, (*layer)->name) == 0) return QE_OK;
    qe_nearest_offer(&nearest, (*layer)->name);
  }
  return qe_text_fail_unknown(r, start, "no layer is called", &nearest);
}

static qe_status read_inputs(qe_text_reader *r, const qe_text_layer *layer, qe_node *input) {
  QE_TRY(need(r, '(', "'(' and the layer's inputs are needed"));
  const char *start = r->at;
  int count = 0;
  while (!(count == 0 && r->at < r->end && *r->at == ')')) {
    char word[QE_TEXT_WORD];
    const char *where = r->at;
    QE_TRY(qe_text_read_word(r, "the name of an input is needed", word));
    if (count < layer->inputs) QE_TRY(qe_text_find_node(r, where, word, &input[count]));
    count++;
    qe_text_skip_blanks(r);
    if (!qe_text_take(r, ',')) break;
    qe_text_skip_blanks(r);
  }
  QE_TRY(need(r, ')', "',' or ')' is needed"));
  if (count == layer->inputs) return QE_OK;
  return qe_text_fail_at(r, start, qe_fail(QE_FORMAT, "%s takes %d inputs, not %d", layer->name, layer->inputs, count));
}

static qe_status read_key(qe_text_reader *r, const qe_text_layer *layer, unsigned *given, qe_text_line *line) {
  const char *start = r->at;
  char word[QE_TEXT_WORD];
  QE_TRY(qe_text_read_word(r, "a key is needed, as in kernel=3x3", word));
  qe_nearest nearest = {.word = word};
  int id = 0;
  for (; id < QE_TEXT_KEY_COUNT; id++) {
    if (!(layer->keys >> id & 1)) continue;
    if (strcmp(word, qe_text_keys[id].name) == 0) break;
    qe_nearest_offer(&nearest, qe_text_keys[id].name);
  }
  if (id == QE_TEXT_KEY_COUNT) {
    char what[64];
    snprintf(what, sizeof what, "%s has no key", layer->name);
    return qe_text_fail_unknown(r, start, what, &nearest);
  }
  if (*given >> id & 1) return qe_text_fail_at(r, start, qe_fail(QE_FORMAT, "%s is given twice", word));
  *given |= 1u << id;
  if (qe_text_keys[id].kind != QE_TEXT_KIND_FLAG && !qe_text_take(r, '='))
    return qe_text_fail_expected(r, "'=' and a value are needed");
  return qe_text_read_value(r, &qe_text_keys[id], line);
}

static qe_status read_keys(qe_text_reader *r, const qe_text_layer *layer, unsigned *given, qe_text_line *line) {
  while (!qe_text_at_line_end(r)) {
    QE_TRY(read_key(r, layer, given, line));
    const char *after = r->at;
    qe_text_skip_blanks(r);
    if (r->at == after && !qe_text_at_line_end(r)) return qe_text_fail_expected(r, "a blank is needed behind a value");
  }
  for (int id = 0; id < QE_TEXT_KEY_COUNT; id++)
    if ((layer->needed & ~*given) >> id & 1) {
      char what[64];
      snprintf(what, sizeof what, "%s needs %s=", layer->name, qe_text_keys[id].name);
      return qe_text_fail_expected(r, what);
    }
  return QE_OK;
}

/* ---- what a line leaves open ---- */

static int bits_for(qe_text_reader *r, int given, bool weights) {
  if (given > 0) return given;
  const int *bits = r->values->bits;
  qe_text_bits usual = weights ? QE_TEXT_WEIGHT : QE_TEXT_ACT, word = given ? (qe_text_bits)(-1 - given) : usual;
  r->used |= 1u << word;
  if (word == QE_TEXT_FIRST_LAST) return bits[usual] == QE_FLOAT_BITS || !bits[word] ? bits[usual] : bits[word];
  if (word == QE_TEXT_RESIDUAL && bits[QE_TEXT_ACT] == QE_FLOAT_BITS) return QE_FLOAT_BITS;
  return bits[word];
}

static void settle_quantizer(qe_text_reader *r, const qe_text_layer *layer, qe_text_line *line) {
  qe_quantizer *quantizer = &line->quantizer;
  bool codes = layer->layer == &qe_layer_quant;
  quantizer->bits = bits_for(r, quantizer->bits, !codes);
  if (!line->rule_given) {
    quantizer->rule = codes ? r->values->act_rule : r->values->weight_rule;
    if (!codes) quantizer->per_channel |= r->values->per_channel;
  }
  if (!line->grid_given) quantizer->grid = codes ? QE_GRID_UNSIGNED : qe_weight_grid(quantizer->rule, quantizer->bits);
}

static void settle_line(qe_text_reader *r, const qe_text_layer *layer, unsigned given, qe_text_line *line) {
  if (layer->keys >> QE_TEXT_KEY_BITS & 1) settle_quantizer(r, layer, line);
  if (!(given >> QE_TEXT_KEY_EPSILON & 1)) line->epsilon = 1e-5f;
  if (!(given >> QE_TEXT_KEY_MOMENTUM & 1)) line->momentum = 0.1f;
  if (layer->layer == &qe_layer_input && !(given >> QE_TEXT_KEY_SHAPE & 1)) {
    line->shape[0] = r->values->height;
    line->shape[1] = r->values->width;
    line->shape[2] = r->values->channels;
  }
}

static qe_status check_line(const qe_text_reader *r, const char *start, const qe_text_layer *layer, unsigned given,
                            const qe_text_line *line) {
  const int32_t *stride = line->window.stride;
  if (layer->layer == &qe_layer_subsample && stride[0] != stride[1])
    return qe_text_fail_at(
        r, start, qe_fail(QE_FORMAT, "subsample has one stride for both axes, not %dx%d", stride[0], stride[1]));
  if (layer->layer == &qe_layer_batch_norm &&
      !(line->epsilon >= 0 && isfinite(line->epsilon) && line->momentum >= 0 && line->momentum <= 1))
    return qe_text_fail_at(r, start, qe_fail(QE_FORMAT, "epsilon must not be negative, momentum 0 to 1"));
  if (layer->layer == &qe_layer_quant && line->quantizer.step_shift > 16)
    return qe_text_fail_at(r, start, qe_fail(QE_FORMAT, "step_shift must be 0 to 16"));
  if (given >> QE_TEXT_KEY_LOW & 1 && !(line->low < line->high))
    return qe_text_fail_at(r, start, qe_fail(QE_FORMAT, "low must be below high"));
  return QE_OK;
}

/* The node itself; a failure of the graph gets the line's place. */
static qe_status add_line(qe_text_reader *r, const char *start, const char *name, const qe_text_layer *layer,
                          const qe_node *input, unsigned given, const qe_text_line *line) {
  qe_graph *graph = r->graph;
  qe_node node = layer->add(graph, name, input, line);
  if (node < 0 || graph->status != QE_OK) {
    qe_status status = graph->status == QE_NO_MEMORY ? QE_NO_MEMORY : QE_FORMAT;
    return qe_text_fail_at(r, start, qe_fail(status, "%s", graph->error ? graph->error : "out of memory"));
  }
  const int32_t *dim = &graph->node[node].output.dim[QE_H];
  if (given >> QE_TEXT_KEY_SHAPE & 1 && memcmp(dim, line->shape, sizeof line->shape) != 0)
    return qe_text_fail_at(r, start,
                           qe_fail(QE_FORMAT, "%s gives %dx%dx%d, not %dx%dx%d (shape= may be left out)", name, dim[0],
                                   dim[1], dim[2], line->shape[0], line->shape[1], line->shape[2]));
  return QE_OK;
}

static qe_status read_line(qe_text_reader *r) {
  qe_text_skip_blanks(r);
  if (qe_text_at_line_end(r)) return QE_OK;
  const char *start = r->at;
  char name[QE_TEXT_WORD];
  const qe_text_layer *layer;
  qe_node input[QE_MAX_INPUTS] = {-1, -1};
  unsigned given = 0;
  qe_text_line line = qe_text_line_empty;
  if (r->graph->nodes == NODES_MOST)
    return qe_text_fail_at(r, start, qe_fail(QE_FORMAT, "more than %d nodes", NODES_MOST));
  QE_TRY(qe_text_read_word(r, "a line begins with a name, as in conv1 = conv(input)", name));
  QE_TRY(need(r, '=', "'=' is needed behind the name"));
  QE_TRY(read_layer(r, &layer));
  QE_TRY(read_inputs(r, layer, input));
  QE_TRY(read_keys(r, layer, &given, &line));
  settle_line(r, layer, given, &line);
  QE_TRY(check_line(r, start, layer, given, &line));
  return add_line(r, start, name, layer, input, given, &line);
}

static qe_status check_whole(const qe_text_reader *r) {
  int64_t count = 0;
  for (size_t i = 0; i < r->graph->params; i++) {
    count += qe_count(&r->graph->param[i].desc);
    if (count > PARAMS_MOST)
      return qe_fail(QE_FORMAT, "%s: more than 2^30 parameters, from %s on", r->name, r->graph->param[i].name);
  }
  if (r->graph->nodes < 2) return qe_fail(QE_FORMAT, "%s: it describes no network; a line is a node", r->name);
  const qe_node_info *first = &r->graph->node[0], *last = &r->graph->node[r->graph->nodes - 1];
  if (first->layer != &qe_layer_input)
    return qe_fail(QE_FORMAT, "%s: the first node, %s, must be the input", r->name, first->name);
  if (last->output.dim[QE_H] != 1 || last->output.dim[QE_W] != 1)
    return qe_fail(QE_FORMAT, "%s: the last node, %s, gives the logits: it must be of one pixel, not %dx%d", r->name,
                   last->name, last->output.dim[QE_H], last->output.dim[QE_W]);
  for (size_t i = 0; i + 1 < r->graph->nodes; i++)
    if (r->graph->node[i].consumers == 0)
      return qe_fail(QE_FORMAT, "%s: nothing reads %s; only the last node's output may be left over", r->name,
                     r->graph->node[i].name);
  return QE_OK;
}

static qe_status read_all(qe_text_reader *r) {
  for (;;) {
    QE_TRY(read_line(r));
    while (r->at < r->end && *r->at != '\n') r->at++;
    if (r->at == r->end) break;
    r->line_start = ++r->at;
    r->line++;
  }
  QE_TRY(check_whole(r));
  return qe_graph_finish(r->graph);
}

qe_status qe_graph_read_text(const char *name, const char *text, size_t bytes, const qe_text_values *values,
                             unsigned *used, qe_graph **graph) {
  qe_text_reader r = {.name = name, .at = text, .end = text + bytes, .line_start = text, .line = 1, .values = values};
  if (bytes > QE_TEXT_LIMIT)
    return qe_fail(QE_FORMAT, "%s: %zu bytes; a description has at most %d", name, bytes, QE_TEXT_LIMIT);
  QE_TRY(qe_graph_new(&r.graph));
  qe_status status = read_all(&r);
  if (status != QE_OK) {
    qe_graph_free(r.graph);
    return status;
  }
  *used = r.used;
  *graph = r.graph;
  return QE_OK;
}
