/* Running means of models. */
#include "core/models/average.h"

#include "core/base/alloc.h"
#include "core/graph/codes.h"
#include "core/graph/layers.h"

#include <string.h>

/* The sum of a parameter's values: one of the three. */
typedef struct cell {
  int32_t *codes; /* weights on a grid */
  float *steps;   /* of such a grid: the same in all models */
  double *reals;
} cell;

struct qe_average {
  qe_average_of of;
  qe_model *base; /* network and bits of the models; without values */
  cell *cell;     /* [params] */
  int32_t count;
};

qe_status qe_average_new(qe_average_of of, qe_average **out) {
  *out = QE_NEW(qe_average);
  if (!*out) return QE_NO_MEMORY;
  (*out)->of = of;
  return QE_OK;
}

static void drop_sums(qe_average *average) {
  for (size_t i = 0; average->cell && i < average->base->graph->params; i++) {
    qe_free(average->cell[i].codes);
    qe_free(average->cell[i].steps);
    qe_free(average->cell[i].reals);
  }
  qe_free(average->cell);
  qe_model_free(average->base);
  average->cell = NULL;
  average->base = NULL;
}

void qe_average_free(qe_average *average) {
  if (!average) return;
  drop_sums(average);
  qe_free(average);
}

int32_t qe_average_count(const qe_average *average) {
  return average->count;
}

static bool is_coded(const qe_node_info *node) {
  bool weighted = node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
  return weighted && node->quantizer.bits != QE_FLOAT_BITS;
}

/* ---- the first model decides ---- */

static qe_status check_grid(const qe_graph *graph, const qe_node_info *node, const char *name) {
  if (node->quantizer.rule == QE_RULE_DOREFA || graph->param[node->param[QE_CONV_STEP]].group != QE_GROUP_STATE)
    return qe_fail(QE_USAGE,
                   "%s: the weights of %s have no grid that stays (weight quantiser %s), so that their codes cannot "
                   "be averaged; train with --weight-quantizer l2, l2-odd or max",
                   name, node->name, qe_rule_name(node->quantizer.rule));
  return QE_OK;
}

static qe_status make_cells(qe_average *average, const qe_model *model, const char *name) {
  const qe_graph *graph = average->base->graph;
  average->cell = QE_NEW_ARRAY(cell, graph->params + 1);
  if (!average->cell) return QE_NO_MEMORY;
  for (size_t i = 0; average->of == QE_AVERAGE_CODES && i < graph->nodes; i++) {
    const qe_node_info *node = &graph->node[i];
    if (!is_coded(node)) continue;
    QE_TRY(check_grid(graph, node, name));
    int weight = node->param[QE_CONV_WEIGHT], step = node->param[QE_CONV_STEP];
    int64_t steps = qe_count(&graph->param[step].desc);
    cell *weights = &average->cell[weight], *own = &average->cell[step];
    weights->codes = QE_NEW_ARRAY(int32_t, qe_count(&graph->param[weight].desc));
    own->steps = QE_NEW_ARRAY(float, steps);
    if (!weights->codes || !own->steps) return QE_NO_MEMORY;
    memcpy(own->steps, qe_model_values(model, step), (size_t)steps * sizeof(float));
  }
  for (size_t i = 0; i < graph->params; i++) {
    cell *c = &average->cell[i];
    if (!c->codes && !c->steps && !(c->reals = QE_NEW_ARRAY(double, qe_count(&graph->param[i].desc))))
      return QE_NO_MEMORY;
  }
  return QE_OK;
}

static qe_status begin(qe_average *average, const qe_model *model, const char *name) {
  QE_TRY(qe_model_new(&model->spec, 0, &average->base));
  qe_free(average->base->values);
  average->base->values = NULL;
  qe_status status = make_cells(average, model, name);
  if (status != QE_OK) drop_sums(average);
  return status;
}

/* ---- adding ---- */

bool qe_model_is_alike(const qe_model *one, const qe_model *other) {
  const qe_graph *a = one->graph, *b = other->graph;
  if (a->nodes != b->nodes || a->params != b->params) return false;
  for (size_t i = 0; i < a->nodes; i++)
    if (a->node[i].layer != b->node[i].layer || strcmp(a->node[i].name, b->node[i].name) != 0 ||
        !qe_same_quantizer(&a->node[i].quantizer, &b->node[i].quantizer))
      return false;
  for (size_t i = 0; i < a->params; i++)
    if (strcmp(a->param[i].name, b->param[i].name) != 0 || qe_bytes(&a->param[i].desc) != qe_bytes(&b->param[i].desc))
      return false;
  return true;
}

static qe_status check_network(const qe_average *average, const qe_model *model, const char *name) {
  if (qe_model_is_alike(average->base, model)) return QE_OK;
  return qe_fail(QE_USAGE,
                 "%s is of another network or other bits than the models before it: average models of one run", name);
}

static bool same_floats(const float *a, const float *b, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (a[i] < b[i] || a[i] > b[i]) return false;
  return true;
}

static qe_status check_steps(const qe_average *average, const qe_model *model, const char *name) {
  for (size_t i = 0; i < model->graph->params; i++) {
    const float *steps = average->cell[i].steps;
    if (steps && !same_floats(steps, qe_model_values(model, (int)i), qe_count(&model->graph->param[i].desc)))
      return qe_fail(QE_USAGE,
                     "%s: %s differs from that of the models before it, so that codes cannot be summed: average "
                     "models of one run, whose weight steps stay",
                     name, model->graph->param[i].name);
  }
  return QE_OK;
}

static void add_values(const qe_average *average, const qe_model *model) {
  const qe_graph *graph = model->graph;
  for (size_t i = 0; i < graph->params; i++) {
    double *sum = average->cell[i].reals;
    const float *values = qe_model_values(model, (int)i);
    for (int64_t k = 0, count = qe_count(&graph->param[i].desc); sum && k < count; k++) sum[k] += (double)values[k];
  }
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *node = &graph->node[i];
    int32_t *sum = is_coded(node) ? average->cell[node->param[QE_CONV_WEIGHT]].codes : NULL;
    qe_weight_codes codes;
    if (!sum || !qe_weight_codes_of(graph, model->values, (qe_node)i, &codes)) continue;
    for (int64_t k = 0; k < codes.count; k++) sum[k] += qe_weight_code(&codes, k);
  }
}

qe_status qe_average_add(qe_average *average, const qe_model *model, const char *name) {
  enum { MOST = 1 << 22 }; /* codes reach 255 at most: no sum passes 32 bits */
  if (average->count == MOST) return qe_fail(QE_USAGE, "%s: at most %d models are averaged", name, MOST);
  if (!average->base) QE_TRY(begin(average, model, name));
  QE_TRY(check_network(average, model, name));
  QE_TRY(check_steps(average, model, name));
  add_values(average, model);
  average->count++;
  return QE_OK;
}

/* ---- the mean ---- */

static void put_mean(const qe_average *average, const qe_model *model) {
  for (size_t i = 0; i < model->graph->params; i++) {
    const cell *c = &average->cell[i];
    float *values = qe_model_values(model, (int)i);
    int64_t count = qe_count(&model->graph->param[i].desc);
    model->graph->param[i].initialised = true;
    for (int64_t k = 0; k < count && c->reals; k++) values[k] = (float)(c->reals[k] / average->count);
    if (c->steps) memcpy(values, c->steps, (size_t)count * sizeof *values);
  }
  for (size_t i = 0; i < model->graph->nodes; i++) {
    const qe_node_info *node = &model->graph->node[i];
    const cell *weights = is_coded(node) ? &average->cell[node->param[QE_CONV_WEIGHT]] : NULL;
    if (!weights || !weights->codes) continue;
    const float *step = average->cell[node->param[QE_CONV_STEP]].steps;
    float *values = qe_model_values(model, node->param[QE_CONV_WEIGHT]);
    int64_t count = qe_count(&model->graph->param[node->param[QE_CONV_WEIGHT]].desc);
    int64_t each = count / qe_count(&model->graph->param[node->param[QE_CONV_STEP]].desc);
    for (int64_t k = 0; k < count; k++)
      values[k] = (float)((double)weights->codes[k] * (double)step[k / each] / average->count);
  }
}

static qe_status check_any(const qe_average *average) {
  return average->count > 0 ? QE_OK : qe_fail(QE_USAGE, "no model to average: name at least one");
}

qe_status qe_average_mean(const qe_average *average, qe_model **mean) {
  QE_TRY(check_any(average));
  QE_TRY(qe_model_new(&average->base->spec, 0, mean));
  put_mean(average, *mean);
  return QE_OK;
}

/* ---- the wide grid ---- */

/* Where the sums of a layer's codes lie. */
typedef struct wide_grid {
  int bits;
  qe_grid grid;
  bool exact;
  int unit; /* the step is the common one * unit / models */
} wide_grid;

/* Sums of an even number of odd codes are even: half of them is as good, on a grid with a zero. */
static bool halves(const qe_average *average, const qe_node_info *node) {
  return node->quantizer.grid == QE_GRID_ODD && average->count % 2 == 0;
}

/* The rule that the wide model's weights have, in its spec as well. */
static qe_rule wide_rule(const qe_average *average) {
  qe_rule rule = average->base->spec.bits.weight_rule;
  return rule == QE_RULE_L2_ODD && average->count % 2 == 0 ? QE_RULE_L2 : rule;
}

static wide_grid find_grid(const qe_average *average, const qe_node_info *node) {
  int32_t low, high;
  qe_rule rule = node->quantizer.rule == QE_RULE_L2_ODD ? wide_rule(average) : node->quantizer.rule;
  qe_grid_range(node->quantizer.grid, node->quantizer.bits, &low, &high);
  wide_grid wide = {.unit = halves(average, node) ? 2 : 1, .bits = node->quantizer.bits};
  int64_t least = (int64_t)low * average->count / wide.unit, most = (int64_t)high * average->count / wide.unit;
  for (; wide.bits <= 8; wide.bits++) {
    int32_t from, to;
    wide.grid = average->count == 1 ? node->quantizer.grid : qe_weight_grid(rule, wide.bits);
    qe_grid_range(wide.grid, wide.bits, &from, &to);
    bool parity = wide.grid != QE_GRID_ODD || node->quantizer.grid == QE_GRID_ODD;
    wide.exact = parity && wide.unit * (wide.grid == QE_GRID_ODD) != 2 && least >= from && most <= to;
    if (wide.exact) return wide;
  }
  return (wide_grid){.bits = 8, .grid = qe_weight_grid(rule, 8), .unit = 1};
}

/* "layer=w4a8,…" for all layers with weights: bits of the wide grids, inputs as they are. New text. */
static qe_status layer_bits(const qe_average *average, char **text) {
  const qe_graph *graph = average->base->graph;
  *text = qe_strdup("");
  for (size_t i = 0; *text && i < graph->nodes; i++) {
    const qe_node_info *node = &graph->node[i];
    if (node->layer != &qe_layer_conv && node->layer != &qe_layer_linear) continue;
    int bits = is_coded(node) ? find_grid(average, node).bits : QE_FLOAT_BITS;
    char *longer =
        qe_format("%s%s%s=w%da%d", *text, **text ? "," : "", node->name, bits, qe_graph_bits(graph, node->input[0]));
    qe_free(*text);
    *text = longer;
  }
  return *text ? QE_OK : QE_NO_MEMORY;
}

static qe_status new_wide(const qe_average *average, qe_model **wide) {
  qe_model_spec spec = average->base->spec;
  char *bits = NULL;
  spec.bits.weight_rule = wide_rule(average);
  if (!spec.net) {
    QE_TRY(layer_bits(average, &bits));
    spec.bits.layers = bits;
  }
  qe_status status = qe_model_new(&spec, 0, wide);
  qe_free(bits);
  return status;
}

static void widen(const qe_average *average, const qe_model *model, qe_node_info *node, qe_wide_layer *layer) {
  wide_grid wide = find_grid(average, node);
  int at = node->param[QE_CONV_STEP];
  float *step = qe_model_values(model, at);
  if (node->quantizer.rule == QE_RULE_L2_ODD) node->quantizer.rule = wide_rule(average);
  node->quantizer.bits = wide.bits;
  node->quantizer.grid = wide.grid;
  for (int64_t k = 0; k < qe_count(&model->graph->param[at].desc); k++)
    step[k] = (float)((double)step[k] * wide.unit / average->count);
  model->graph->param[at].initialised = wide.exact;
  *layer = (qe_wide_layer){node->name, wide.bits, wide.exact};
}

qe_status qe_average_wide(const qe_average *average, qe_model **out, qe_wide_layer **layers, size_t *count) {
  qe_model *wide;
  QE_TRY(check_any(average));
  QE_TRY(new_wide(average, &wide));
  const qe_graph *graph = average->base->graph;
  qe_wide_layer *list = QE_NEW_ARRAY(qe_wide_layer, graph->nodes);
  size_t found = 0;
  if (list) put_mean(average, wide);
  for (size_t i = 0; list && i < graph->nodes; i++) {
    if (!is_coded(&graph->node[i])) continue;
    wide->graph->node[i].quantizer = graph->node[i].quantizer; /* of the models, from which the wide one follows */
    widen(average, wide, &wide->graph->node[i], &list[found++]);
  }
  if (!list) {
    qe_model_free(wide);
    return QE_NO_MEMORY;
  }
  *out = wide;
  if (layers) *layers = list;
  if (layers) *count = found;
  if (!layers) qe_free(list);
  return QE_OK;
}
