/* A training from scratch: the network cut into units, local heads, and where each unit's error comes from. */
#include "core/base/alloc.h"
#include "core/evolve/scratch_parts.h"

#include <string.h>

/* ---- units ---- */

static bool is_sums(const qe_scratch_plan *plan, int32_t layer) {
  return plan->network->layer[layer].output.dtype == QE_S32;
}

static qe_status refuse(const qe_network_layer *layer, const char *why) {
  return qe_fail(QE_REFUSED, "training from scratch, layer %.80s: %s", layer->name, why);
}

static qe_status add_unit(qe_scratch_plan *plan, int32_t at) {
  const qe_network_layer *layer = &plan->network->layer[at];
  qe_scratch_unit unit = {.requant = at, .skip = QE_NONE, .local = (size_t)at >= plan->own};
  if (layer->inputs == 2) {
    if (is_sums(plan, layer->input[0]) == is_sums(plan, layer->input[1]))
      return refuse(layer, "sums must meet codes there, not other sums; use shortcut A");
    unit.branch = is_sums(plan, layer->input[1]);
    unit.skip = layer->input[1 - unit.branch];
  }
  unit.sums = layer->input[unit.branch];
  unit.conv = plan->network->layer[unit.sums].weight ? unit.sums : QE_NONE;
  unit.depth = unit.skip != QE_NONE;
  for (size_t i = 0; i < plan->units; i++)
    if (!unit.local && plan->unit[i].skip != QE_NONE && unit.skip != QE_NONE) unit.depth++;
  QE_TRY(qe_reserve(&plan->unit, &plan->capacity, plan->units + 1, sizeof unit));
  plan->unit_of[at] = (int32_t)plan->units;
  plan->unit[plan->units++] = unit;
  return QE_OK;
}

/* Ops that errors pass as they are, or by their own rule. */
static bool passes(qe_op op) {
  static const bool does[QE_OPS] = {[QE_OP_int_gather] = true,
                                    [QE_OP_int_subsample] = true,
                                    [QE_OP_int_sum_pool] = true,
                                    [QE_OP_int_conv2d] = true,
                                    [QE_OP_int_requant] = true};
  return does[op];
}

static qe_status take_layer(qe_scratch_plan *plan, int32_t at) {
  const qe_network_layer *layer = &plan->network->layer[at];
  plan->unit_of[at] = layer->inputs ? plan->unit_of[layer->input[0]] : QE_NONE;
  if (layer->op == QE_OP_int_requant_add || (layer->op == QE_OP_int_requant && is_sums(plan, layer->input[0])))
    return add_unit(plan, at);
  if (!passes(layer->op)) return refuse(layer, "its op has no rule for errors");
  if (layer->weight && layer->attrs.window.groups != 1) return refuse(layer, "convolutions of groups have no votes");
  return QE_OK;
}

/* ---- boundaries and heads ---- */

static bool passed_by(const qe_scratch_plan *plan, const qe_scratch_unit *unit) {
  for (size_t i = 0; i < plan->units; i++) {
    const qe_scratch_unit *other = &plan->unit[i];
    if (other->skip == QE_NONE || other->requant <= unit->requant) continue;
    int32_t from = plan->unit_of[other->skip];
    if (from == QE_NONE || plan->unit[from].requant < unit->requant) return true;
  }
  return false;
}

/* The last unit with weights before the logits that is a boundary: the network's own classifier is its head. */
static size_t last_boundary(const qe_scratch_plan *plan) {
  size_t last = plan->units;
  for (size_t i = 0; i + 1 < plan->units; i++)
    if (plan->unit[i].boundary && plan->unit[i].conv != QE_NONE) last = i;
  return last;
}

static qe_status add_layer(qe_scratch_plan *plan, const qe_scratch_unit *unit, const char *part,
                           qe_network_layer *layer) {
  int32_t channels = layer->output.dim[QE_C];
  layer->name = qe_format("head.%s.%s", plan->network->layer[unit->requant].name, part);
  bool failed = !layer->name;
  if (layer->op == QE_OP_int_requant) {
    failed |= !(layer->multiplier[0] = QE_NEW_ARRAY(int32_t, channels));
    failed |= !(layer->offset = QE_NEW_ARRAY(int64_t, channels));
  }
  if (layer->op == QE_OP_int_conv2d) failed |= !(layer->weight = qe_calloc((size_t)qe_count(&layer->weight_desc), 1));
  qe_status status = failed ? QE_NO_MEMORY : qe_network_add(plan->network, layer);
  if (status != QE_OK) qe_network_layer_clear(layer);
  return status;
}

/* Mean of each cell of the map, a requantiser, a linear layer, logits. */
static qe_status add_head(qe_scratch_plan *plan, const qe_scratch_unit *unit, int32_t cells, int32_t classes) {
  const qe_network_layer *from = &plan->network->layer[unit->requant];
  int32_t next = (int32_t)plan->network->layers, height = from->output.dim[QE_H], width = from->output.dim[QE_W];
  int32_t channels = from->output.dim[QE_C], rows = height % cells ? 1 : cells, columns = width % cells ? 1 : cells;
  qe_window cell = {.kernel = {height / rows, width / columns},
                    .stride = {height / rows, width / columns},
                    .dilation = {1, 1},
                    .groups = 1,
                    .channels = channels};
  qe_window whole = {.kernel = {rows, columns}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .channels = classes};
  qe_requant codes = {.high = UINT8_MAX, .from = QE_S32, .to = QE_U8};
  qe_requant logits = {.low = -(1 << 24), .high = 1 << 24, .from = QE_S32, .to = QE_S32};
  qe_network_layer pool = {.op = QE_OP_int_sum_pool, .inputs = 1, .input = {unit->requant}, .attrs = {.window = cell}};
  qe_network_layer quant = {.op = QE_OP_int_requant, .inputs = 1, .input = {next}, .attrs = {.requant = codes}};
  qe_network_layer linear = {.op = QE_OP_int_conv2d, .inputs = 1, .input = {next + 1}, .attrs = {.window = whole}};
  qe_network_layer last = {.op = QE_OP_int_requant, .inputs = 1, .input = {next + 2}, .attrs = {.requant = logits}};
  pool.output = qe_map(QE_S32, 1, rows, columns, channels);
  quant.output = qe_map(QE_U8, 1, rows, columns, channels);
  linear.output = last.output = qe_map(QE_S32, 1, 1, 1, classes);
  linear.weight_desc = qe_map(QE_S8, classes, rows, columns, channels);
  linear.grid = (qe_code_grid){.bits = 8, .low = -INT8_MAX, .spacing = 1, .high = INT8_MAX};
  QE_TRY(add_layer(plan, unit, "pool", &pool));
  QE_TRY(add_layer(plan, unit, "pool_quant", &quant));
  QE_TRY(add_layer(plan, unit, "fc", &linear));
  return add_layer(plan, unit, "logits", &last);
}

static qe_status add_heads(qe_scratch_plan *plan, int32_t cells) {
  size_t last = last_boundary(plan), own = plan->units;
  int32_t classes = plan->network->layer[plan->own - 1].output.dim[QE_C];
  for (size_t i = 0; i + 1 < own; i++) {
    qe_scratch_unit *unit = &plan->unit[i];
    if (!unit->boundary || unit->conv == QE_NONE || i == last) continue;
    unit->headed = true;
    QE_TRY(add_head(plan, unit, cells, classes));
  }
  size_t layers = plan->network->layers;
  int32_t *grown = qe_realloc(plan->unit_of, layers, sizeof *plan->unit_of);
  if (!grown) return QE_NO_MEMORY;
  plan->unit_of = grown;
  for (size_t i = plan->own; i < layers; i++) QE_TRY(take_layer(plan, (int32_t)i));
  return QE_OK;
}

/* ---- sources of errors ---- */

static void choose_sources(qe_scratch_plan *plan, qe_scratch_source from) {
  size_t last = last_boundary(plan);
  for (size_t i = 0; i < plan->units; i++) {
    qe_scratch_unit *unit = &plan->unit[i];
    bool logits = plan->network->layer[unit->requant].output.dtype == QE_S32;
    bool hidden = !unit->local && unit->conv != QE_NONE && !logits;
    unit->source = logits ? QE_ERROR_LOSS : QE_ERROR_ABOVE;
    if (from == QE_SCRATCH_FEEDBACK && hidden && i != last) unit->source = QE_ERROR_FEEDBACK;
    if (from == QE_SCRATCH_RANK1) unit->source = QE_ERROR_NONE;
    if (from == QE_SCRATCH_NODES && hidden) unit->source = QE_ERROR_NOISE;
  }
}

static qe_status fill_plan(qe_scratch_plan *plan, const qe_network *network, const qe_scratch_options *options) {
  QE_TRY(qe_network_copy(network, &plan->network));
  plan->own = network->layers;
  plan->unit_of = qe_realloc(NULL, plan->own, sizeof *plan->unit_of);
  if (!plan->unit_of) return QE_NO_MEMORY;
  for (size_t i = 0; i < plan->own; i++) QE_TRY(take_layer(plan, (int32_t)i));
  plan->own_logits = plan->units - 1;
  for (size_t i = 0; i < plan->units; i++) plan->unit[i].boundary = !passed_by(plan, &plan->unit[i]);
  if (options->source == QE_SCRATCH_HEADS) QE_TRY(add_heads(plan, (int32_t)options->cells));
  choose_sources(plan, options->source);
  return QE_OK;
}

qe_status qe_scratch_plan_new(const qe_network *network, const qe_scratch_options *options, qe_scratch_plan **out) {
  qe_scratch_plan *plan = QE_NEW(qe_scratch_plan);
  qe_status status = plan ? fill_plan(plan, network, options) : QE_NO_MEMORY;
  if (status == QE_OK)
    *out = plan;
  else
    qe_scratch_plan_free(plan);
  return status;
}

void qe_scratch_plan_free(qe_scratch_plan *plan) {
  if (!plan) return;
  for (size_t i = 0; i < plan->units; i++) {
    qe_scratch_unit *unit = &plan->unit[i];
    qe_free(unit->norm.mean);
    qe_free(unit->norm.square);
    qe_free(unit->feedback);
    qe_counters_free(&unit->weights);
    qe_counters_free(&unit->bias);
  }
  qe_free(plan->unit);
  qe_free(plan->unit_of);
  qe_network_free(plan->network);
  qe_free(plan);
}
