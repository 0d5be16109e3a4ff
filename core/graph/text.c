/* Descriptions of graphs: the table of keys, the table of layers with how each becomes a node, and writing. */
#include "core/graph/text.h"

#include "core/graph/text_parts.h"

#include <math.h>
#include <stdlib.h>

const qe_text_line qe_text_line_empty = {
    .window = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1}, .step = -1, .high = INFINITY};

const qe_text_key qe_text_keys[QE_TEXT_KEY_COUNT] = {
#define X(id, name, kind, member) {name, QE_TEXT_KIND_##kind, offsetof(qe_text_line, member)},
    QE_TEXT_KEYS(X)
#undef X
};

const char *qe_text_bits_name(qe_text_bits bits) {
  static const char *const names[QE_TEXT_BITS] = {"weight", "act", "first-last", "residual"};
  return names[bits];
}

/* ---- layers ---- */

static qe_node add_input(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  (void)input;
  return qe_graph_input(graph, name, line->shape[0], line->shape[1], line->shape[2]);
}

static qe_node add_conv(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  qe_window window = line->window;
  window.channels = line->channels;
  return qe_graph_conv(graph, name, input[0], &window, line->bias, &line->quantizer);
}

static qe_node add_linear(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  return qe_graph_linear(graph, name, input[0], line->channels, line->bias, &line->quantizer);
}

static qe_node add_batch_norm(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  return qe_graph_batch_norm(graph, name, input[0], line->epsilon, line->momentum);
}

static qe_node add_clamp(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  return qe_graph_clamp(graph, name, input[0], line->low, line->high);
}

/* Without bits it is the ReLU that it stands for, or nothing at all. */
static qe_node add_quant(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  if (line->quantizer.bits != QE_FLOAT_BITS) return qe_graph_quant(graph, name, input[0], &line->quantizer, line->step);
  return qe_graph_clamp(graph, name, input[0], line->quantizer.grid == QE_GRID_UNSIGNED ? 0 : -INFINITY, INFINITY);
}

static qe_node add_add(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  (void)line;
  return qe_graph_add(graph, name, input[0], input[1]);
}

static qe_node add_concat(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  (void)line;
  return qe_graph_concat(graph, name, input[0], input[1]);
}

static qe_node add_max_pool(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  return qe_graph_max_pool(graph, name, input[0], &line->window);
}

static qe_node add_avg_pool(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  return qe_graph_avg_pool(graph, name, input[0], &line->window);
}

static qe_node add_global_pool(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  (void)line;
  return qe_graph_global_pool(graph, name, input[0]);
}

static qe_node add_flatten(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  (void)line;
  return qe_graph_flatten(graph, name, input[0]);
}

static qe_node add_subsample(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line) {
  return qe_graph_subsample(graph, name, input[0], line->window.stride[0], line->channels);
}

#define KEY(id) (1u << QE_TEXT_KEY_##id)
#define WINDOW (KEY(KERNEL) | KEY(STRIDE) | KEY(PAD))
#define WEIGHTS (KEY(BIAS) | KEY(BITS) | KEY(RULE) | KEY(GRID) | KEY(PER_CHANNEL))
#define CODES (KEY(BITS) | KEY(RULE) | KEY(GRID) | KEY(STEP_SHIFT) | KEY(ROUND_UP) | KEY(STEP))

/* clang-format off */
const qe_text_layer qe_text_layers[] = {
    {"input",       &qe_layer_input,      0, KEY(SHAPE), 0, add_input},
    {"conv",        &qe_layer_conv,       1, KEY(SHAPE) | KEY(CHANNELS) | WINDOW | KEY(DILATION) | KEY(GROUPS) | WEIGHTS, KEY(CHANNELS) | KEY(KERNEL), add_conv},
    {"linear",      &qe_layer_linear,     1, KEY(SHAPE) | KEY(CHANNELS) | WEIGHTS, KEY(CHANNELS), add_linear},
    {"batch_norm",  &qe_layer_batch_norm, 1, KEY(SHAPE) | KEY(EPSILON) | KEY(MOMENTUM), 0, add_batch_norm},
    {"clamp",       &qe_layer_clamp,      1, KEY(SHAPE) | KEY(LOW) | KEY(HIGH), KEY(LOW) | KEY(HIGH), add_clamp},
    {"quant",       &qe_layer_quant,      1, KEY(SHAPE) | CODES, 0, add_quant},
    {"add",         &qe_layer_add,        2, KEY(SHAPE), 0, add_add},
    {"concat",      &qe_layer_concat,     2, KEY(SHAPE), 0, add_concat},
    {"max_pool",    &qe_layer_max_pool,   1, KEY(SHAPE) | WINDOW, KEY(KERNEL) | KEY(STRIDE), add_max_pool},
    {"avg_pool",    &qe_layer_avg_pool,   1, KEY(SHAPE) | WINDOW, KEY(KERNEL) | KEY(STRIDE), add_avg_pool},
    {"flatten",     &qe_layer_flatten,    1, KEY(SHAPE), 0, add_flatten},
    {"subsample",   &qe_layer_subsample,  1, KEY(SHAPE) | KEY(CHANNELS) | KEY(STRIDE), KEY(CHANNELS), add_subsample},
    {"relu",        NULL,                 1, KEY(SHAPE), 0, add_clamp},
    {"global_pool", NULL,                 1, KEY(SHAPE), 0, add_global_pool},
    {NULL, NULL, 0, 0, 0, NULL},
};
/* clang-format on */

/* ---- writing ---- */

static bool is_weighted(const qe_node_info *node) {
  return node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
}

/* The node whose parameter the quantiser's step is; -1: its own. */
static qe_node step_owner(const qe_graph *graph, qe_node node) {
  const qe_node_info *info = &graph->node[node];
  if (info->layer != &qe_layer_quant) return -1;
  qe_node owner = graph->param[info->param[QE_QUANT_STEP]].node;
  return owner == node ? -1 : owner;
}

static qe_text_line line_of(const qe_graph *graph, qe_node node) {
  const qe_node_info *info = &graph->node[node];
  const qe_attrs *attrs = &info->attrs;
  qe_text_line line = {.window = attrs->window,
                       .channels = info->output.dim[QE_C],
                       .low = attrs->low,
                       .high = attrs->high,
                       .epsilon = attrs->epsilon,
                       .momentum = attrs->momentum,
                       .bias = is_weighted(info) && info->param[QE_CONV_BIAS] >= 0,
                       .quantizer = info->quantizer,
                       .step = step_owner(graph, node)};
  for (int axis = 0; axis < 3; axis++) line.shape[axis] = info->output.dim[QE_H + axis];
  return line;
}

/* Nothing is written of what a line without the key means as well. */
static bool is_default(qe_text_key_id id, const qe_text_line *line) {
  const qe_window *window = &line->window;
  bool real = line->quantizer.bits == QE_FLOAT_BITS;
  switch (id) {
  case QE_TEXT_KEY_PAD:
    return !window->pad[0] && !window->pad[1] && !window->pad[2] && !window->pad[3];
  case QE_TEXT_KEY_DILATION:
    return window->dilation[0] == 1 && window->dilation[1] == 1;
  case QE_TEXT_KEY_GROUPS:
    return window->groups == 1;
  case QE_TEXT_KEY_BIAS:
    return !line->bias;
  case QE_TEXT_KEY_RULE:
  case QE_TEXT_KEY_GRID:
    return real;
  case QE_TEXT_KEY_PER_CHANNEL:
    return real || !line->quantizer.per_channel;
  case QE_TEXT_KEY_STEP_SHIFT:
    return !line->quantizer.step_shift;
  case QE_TEXT_KEY_ROUND_UP:
    return !line->quantizer.round_up;
  case QE_TEXT_KEY_STEP:
    return line->step < 0;
  default:
    return false;
  }
}

/* As few digits as give the same value again. */
static void print_real(float value, FILE *file) {
  char text[32];
  for (int digits = 6; digits <= 9; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, (double)value);
    float back = strtof(text, NULL);
    if (!(back < value) && !(back > value)) break;
  }
  fputs(text, file);
}

static void print_numbers(const int32_t *number, int count, char between, FILE *file) {
  for (int i = 0; i < count; i++) {
    if (i) fputc(between, file);
    fprintf(file, "%d", number[i]);
  }
}

static void print_value(const qe_graph *graph, const qe_text_key *key, const qe_text_line *line, FILE *file) {
  const void *place = (const char *)line + key->place;
  fprintf(file, " %s", key->name);
  if (key->kind == QE_TEXT_KIND_FLAG) return;
  fputc('=', file);
  switch (key->kind) {
  case QE_TEXT_KIND_SHAPE:
    print_numbers(place, 3, 'x', file);
    break;
  case QE_TEXT_KIND_PAIR:
    print_numbers(place, 2, 'x', file);
    break;
  case QE_TEXT_KIND_PADS:
    print_numbers(place, 4, ',', file);
    break;
  case QE_TEXT_KIND_REAL:
    print_real(*(const float *)place, file);
    break;
  case QE_TEXT_KIND_RULE:
    fputs(qe_rule_name(line->quantizer.rule), file);
    break;
  case QE_TEXT_KIND_GRID:
    fputs(qe_grid_name(line->quantizer.grid), file);
    break;
  case QE_TEXT_KIND_STEP:
    fprintf(file, "%s.step", graph->node[line->step].name);
    break;
  default:
    print_numbers(place, 1, ' ', file);
  }
}

static const qe_text_layer *row_of(const qe_layer *layer) {
  const qe_text_layer *row = qe_text_layers;
  while (row->layer != layer) row++;
  return row;
}

void qe_graph_dump(const qe_graph *graph, FILE *file) {
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *info = &graph->node[i];
    const qe_text_layer *row = row_of(info->layer);
    qe_text_line line = line_of(graph, (qe_node)i);
    fprintf(file, "%s = %s(", info->name, row->name);
    for (int k = 0; k < info->inputs; k++) fprintf(file, "%s%s", k ? ", " : "", graph->node[info->input[k]].name);
    fputc(')', file);
    for (int id = 0; id < QE_TEXT_KEY_COUNT; id++)
      if ((row->keys >> id & 1) && !is_default((qe_text_key_id)id, &line))
        print_value(graph, &qe_text_keys[id], &line, file);
    fputc('\n', file);
  }
}
