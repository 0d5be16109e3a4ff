/* Lowering a graph to its integer network. Each node's value is followed as a sum of integer tensors times a real scale
 * a channel, plus a real bias a channel; a quantiser turns that into integers again. */
#include "core/graph/integer.h"

#include "core/base/alloc.h"
#include "core/graph/layers.h"

#include <math.h>
#include <string.h>

enum { BRANCHES = 2, LOGIT_UNITS = 256 };

/* value[c] = sum_b scale[b][c] * tensor[b] + bias[c] */
typedef struct form {
  int branches;
  int tensor[BRANCHES];
  double *scale[BRANCHES]; /* [C] */
  double *bias;            /* [C] */
  bool rectified;          /* then max(0, .) of it */
} form;

typedef struct lowering {
  const qe_graph *graph;
  const float *values;
  qe_integer *integer;
  form *form; /* of each node */
} lowering;

static int32_t channels_of(const lowering *l, qe_node node) {
  return l->graph->node[node].output.dim[QE_C];
}

static void form_free(form *f) {
  for (int b = 0; b < BRANCHES; b++) qe_free(f->scale[b]);
  qe_free(f->bias);
  memset(f, 0, sizeof *f);
}

static qe_status form_new(form *f, int branches, int32_t channels) {
  memset(f, 0, sizeof *f);
  f->branches = branches;
  f->bias = QE_NEW_ARRAY(double, channels);
  for (int b = 0; b < branches; b++)
    if (!(f->scale[b] = QE_NEW_ARRAY(double, channels))) return QE_NO_MEMORY;
  return f->bias ? QE_OK : QE_NO_MEMORY;
}

static qe_status form_copy(form *to, const form *from, int32_t channels) {
  QE_TRY(form_new(to, from->branches, channels));
  to->rectified = from->rectified;
  memcpy(to->bias, from->bias, (size_t)channels * sizeof *to->bias);
  for (int b = 0; b < from->branches; b++) {
    to->tensor[b] = from->tensor[b];
    memcpy(to->scale[b], from->scale[b], (size_t)channels * sizeof *to->scale[b]);
  }
  return QE_OK;
}

/* One tensor at one scale, nothing added: codes on a grid. */
static qe_status form_codes(form *f, int tensor, double scale, int32_t channels) {
  QE_TRY(form_new(f, 1, channels));
  f->tensor[0] = tensor;
  for (int32_t c = 0; c < channels; c++) f->scale[0][c] = scale;
  return QE_OK;
}

static bool is_codes(const form *f, int32_t channels) {
  if (f->branches != 1 || f->rectified) return false;
  for (int32_t c = 0; c < channels; c++)
    if (f->bias[c] < 0 || f->bias[c] > 0 || f->scale[0][c] < f->scale[0][0] || f->scale[0][c] > f->scale[0][0])
      return false;
  return true;
}

static qe_status need_codes(const lowering *l, qe_node node, const form **f) {
  *f = &l->form[node];
  if (is_codes(*f, channels_of(l, node))) return QE_OK;
  return qe_fail(QE_REFUSED,
                 "reads the output of %s, which is not on an integer grid: quantise it (act-bits, "
                 "residual-bits below 32)",
                 l->graph->node[node].name);
}

static float *param_values(const lowering *l, int param) {
  return (float *)(uintptr_t)(l->values + l->graph->param[param].offset / sizeof(float));
}

/* ---- adding layers ---- */

static qe_status add_layer(lowering *l, const qe_node_info *node, const qe_int_layer *layer, int *tensor) {
  qe_integer *to = l->integer;
  QE_TRY(qe_reserve(&to->layer, &to->capacity, to->layers + 1, sizeof *layer));
  to->layer[to->layers] = *layer;
  to->layer[to->layers].name = qe_strdup(node->name);
  *tensor = (int)to->layers++; /* from here on freed with the network */
  return to->layer[*tensor].name ? QE_OK : QE_NO_MEMORY;
}

static qe_status lower_input(lowering *l, qe_node node, form *out) {
  qe_int_layer layer = {.op = QE_OP_int_gather, .output = l->graph->node[node].output, .low = -128, .high = 127};
  layer.output.dtype = QE_S8;
  int tensor;
  QE_TRY(add_layer(l, &l->graph->node[node], &layer, &tensor));
  return form_codes(out, tensor, 1.0 / 64, channels_of(l, node));
}

/* ---- convolution and linear ---- */

/* Weight codes as the fake quantiser gives them, in its single-precision arithmetic (cpu_ref/quant.c). */
static int32_t weight_code(const qe_quant *quant, float value, float step) {
  float v = value / step, high = (float)quant->high;
  float code = quant->odd ? 2.0f * rintf((v + high) / 2.0f) - high : rintf(v);
  return code < (float)quant->low ? quant->low : code > high ? quant->high : (int32_t)code;
}

static float tanh_factor(const float *values, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; i++) largest = fmaxf(largest, fabsf(tanhf(values[i])));
  return largest > 0 ? 1 / largest : 0;
}

static qe_status make_weights(lowering *l, const qe_node_info *node, qe_int_layer *layer) {
  const qe_desc *desc = &l->graph->param[node->param[QE_CONV_WEIGHT]].desc;
  const float *values = param_values(l, node->param[QE_CONV_WEIGHT]);
  const float *step = param_values(l, node->param[QE_CONV_STEP]);
  qe_attrs attrs = qe_quant_attrs(&node->quantizer, desc);
  if (attrs.quant.low < -128 || attrs.quant.high > 127)
    return qe_fail(QE_REFUSED, "its weight codes %d...%d do not fit 8 bits; use fewer bits or another quantiser",
                   attrs.quant.low, attrs.quant.high);
  int64_t count = qe_count(desc), each = count / desc->dim[QE_N];
  bool dorefa = node->quantizer.rule == QE_RULE_DOREFA;
  float factor = dorefa ? tanh_factor(values, count) : 1;
  layer->weight_desc = *desc;
  layer->weight_desc.dtype = QE_S8;
  layer->weight_bits = node->quantizer.bits;
  layer->weight = qe_alloc((size_t)count);
  if (!layer->weight) return QE_NO_MEMORY;
  for (int64_t i = 0; i < count; i++) {
    float value = dorefa ? tanhf(values[i]) * factor : values[i];
    layer->weight[i] = (int8_t)weight_code(&attrs.quant, value, step[node->quantizer.per_channel ? i / each : 0]);
  }
  return QE_OK;
}

/* Least and largest sum of one output channel, from the input's range; padding adds code 0. */
static void sum_range(const qe_int_layer *layer, int64_t channel, int64_t low, int64_t high, int64_t *least,
                      int64_t *most) {
  int64_t each = qe_count(&layer->weight_desc) / layer->weight_desc.dim[QE_N];
  if (low > 0) low = 0;
  if (high < 0) high = 0;
  *least = *most = 0;
  for (int64_t i = channel * each; i < (channel + 1) * each; i++) {
    int64_t w = layer->weight[i];
    *least += w * (w > 0 ? low : high);
    *most += w * (w > 0 ? high : low);
  }
}

static qe_status lower_weighted(lowering *l, qe_node at, form *out) {
  const qe_node_info *node = &l->graph->node[at];
  const form *in;
  if (node->quantizer.bits == QE_FLOAT_BITS)
    return qe_fail(QE_REFUSED, "its weights are float; give it 1 to 8 weight bits");
  QE_TRY(need_codes(l, node->input[0], &in));
  const qe_int_layer *source = &l->integer->layer[in->tensor[0]];
  if (source->output.dtype == QE_S32)
    return qe_fail(QE_REFUSED, "reads sums (of a pool) directly; quantise between them (first-last-bits below 32)");
  qe_int_layer layer = {
      .op = QE_OP_int_conv2d, .inputs = 1, .input = {in->tensor[0]}, .attrs = node->attrs, .output = node->output};
  int32_t low = source->low, high = source->high, channels = channels_of(l, at);
  if (node->layer == &qe_layer_linear) layer.attrs.window = qe_square(1, 1, 0, node->attrs.window.channels);
  layer.output.dtype = QE_S32;
  QE_TRY(make_weights(l, node, &layer));
  int64_t lowest = 0, highest = 0;
  for (int32_t c = 0; c < channels; c++) {
    int64_t least, most;
    sum_range(&layer, c, low, high, &least, &most);
    if (least < lowest) lowest = least;
    if (most > highest) highest = most;
  }
  qe_status status = QE_OK;
  if (lowest < INT32_MIN || highest > INT32_MAX)
    status = qe_fail(QE_REFUSED, "its sums can reach %lld, beyond 32 bits", (long long)highest);
  layer.low = (int32_t)lowest;
  layer.high = (int32_t)highest;
  int tensor = 0;
  if (status == QE_OK) status = add_layer(l, node, &layer, &tensor);
  if (status != QE_OK) {
    if (tensor == 0) qe_free(layer.weight);
    return status;
  }
  QE_TRY(form_new(out, 1, channels));
  out->tensor[0] = tensor;
  const float *step = param_values(l, node->param[QE_CONV_STEP]);
  int bias = node->param[QE_CONV_BIAS];
  for (int32_t c = 0; c < channels; c++) {
    out->scale[0][c] = in->scale[0][0] * (double)step[node->quantizer.per_channel ? c : 0];
    out->bias[c] = bias >= 0 ? (double)param_values(l, bias)[c] : 0;
  }
  return QE_OK;
}

/* ---- layers that only change the form ---- */

static qe_status lower_batch_norm(lowering *l, qe_node at, form *out) {
  const qe_node_info *node = &l->graph->node[at];
  const form *in = &l->form[node->input[0]];
  int32_t channels = channels_of(l, at);
  if (in->rectified) return qe_fail(QE_REFUSED, "a batch norm after a float ReLU has no integer form");
  QE_TRY(form_copy(out, in, channels));
  const float *gamma = param_values(l, node->param[QE_BN_GAMMA]), *beta = param_values(l, node->param[QE_BN_BETA]);
  const float *mean = param_values(l, node->param[QE_BN_MEAN]), *var = param_values(l, node->param[QE_BN_VAR]);
  for (int32_t c = 0; c < channels; c++) {
    double factor = (double)gamma[c] / sqrt((double)var[c] + (double)node->attrs.epsilon);
    for (int b = 0; b < out->branches; b++) out->scale[b][c] *= factor;
    out->bias[c] = (out->bias[c] - (double)mean[c]) * factor + (double)beta[c];
  }
  return QE_OK;
}

static qe_status lower_clamp(lowering *l, qe_node at, form *out) {
  const qe_node_info *node = &l->graph->node[at];
  QE_TRY(form_copy(out, &l->form[node->input[0]], channels_of(l, at)));
  if (node->attrs.low < 0 || node->attrs.low > 0 || isfinite(node->attrs.high))
    return qe_fail(QE_REFUSED, "only ReLU has an integer form, not a clamp to %g...%g", (double)node->attrs.low,
                   (double)node->attrs.high);
  bool already = is_codes(out, channels_of(l, at)) && l->integer->layer[out->tensor[0]].low >= 0;
  out->rectified = !already;
  return QE_OK;
}

static qe_status lower_add(lowering *l, qe_node at, form *out) {
  const qe_node_info *node = &l->graph->node[at];
  int32_t channels = channels_of(l, at);
  QE_TRY(form_copy(out, &l->form[node->input[0]], channels));
  const form *other = &l->form[node->input[1]];
  if (out->rectified || other->rectified)
    return qe_fail(QE_REFUSED, "a float skip connection has no integer form; set residual-bits to 8");
  for (int b = 0; b < other->branches; b++) {
    int same = 0;
    while (same < out->branches && out->tensor[same] != other->tensor[b]) same++;
    if (same == BRANCHES) return qe_fail(QE_REFUSED, "more than two branches meet here; quantise one of them before");
    if (same == out->branches) {
      if (!(out->scale[same] = QE_NEW_ARRAY(double, channels))) return QE_NO_MEMORY;
      out->tensor[same] = other->tensor[b];
      out->branches++;
    }
    for (int32_t c = 0; c < channels; c++) out->scale[same][c] += other->scale[b][c];
  }
  for (int32_t c = 0; c < channels; c++) out->bias[c] += other->bias[c];
  return QE_OK;
}

/* ---- layers that move codes ---- */

static qe_status lower_moving(lowering *l, qe_node at, qe_op op, double scale, form *out) {
  const qe_node_info *node = &l->graph->node[at];
  const form *in;
  QE_TRY(need_codes(l, node->input[0], &in));
  const qe_int_layer *source = &l->integer->layer[in->tensor[0]];
  int64_t window = op == QE_OP_int_sum_pool ? (int64_t)node->attrs.window.kernel[0] * node->attrs.window.kernel[1] : 1;
  if (source->output.dtype == QE_S32) return qe_fail(QE_REFUSED, "reads sums; quantise them before");
  int64_t low = source->low * window, high = source->high * window;
  if (low < INT32_MIN || high > INT32_MAX) return qe_fail(QE_REFUSED, "its sums can pass 32 bits");
  if (op == QE_OP_int_subsample && low > 0) low = 0;
  qe_int_layer layer = {.op = op,
                        .inputs = 1,
                        .input = {in->tensor[0]},
                        .attrs = node->attrs,
                        .output = node->output,
                        .low = (int32_t)low,
                        .high = (int32_t)high};
  layer.output.dtype = op == QE_OP_int_sum_pool ? QE_S32 : source->output.dtype;
  double step = in->scale[0][0] * scale;
  int tensor;
  QE_TRY(add_layer(l, node, &layer, &tensor));
  return form_codes(out, tensor, step, channels_of(l, at));
}

static qe_status lower_sum_pool(lowering *l, qe_node at, form *out) {
  const qe_window *window = &l->graph->node[at].attrs.window;
  return lower_moving(l, at, QE_OP_int_sum_pool, 1.0 / ((double)window->kernel[0] * window->kernel[1]), out);
}

static qe_status lower_max_pool(lowering *l, qe_node at, form *out) {
  return lower_moving(l, at, QE_OP_int_max_pool, 1, out);
}

static qe_status lower_subsample(lowering *l, qe_node at, form *out) {
  return lower_moving(l, at, QE_OP_int_subsample, 1, out);
}

/* The same memory; every value of the image becomes a channel. */
static qe_status lower_flatten(lowering *l, qe_node at, form *out) {
  const form *in;
  QE_TRY(need_codes(l, l->graph->node[at].input[0], &in));
  return form_codes(out, in->tensor[0], in->scale[0][0], channels_of(l, at));
}

/* ---- requantisers ---- */

/* Largest multiplier and largest partial sum that shift `s` gives. */
static void measure(const form *f, const qe_integer *integer, int32_t channels, double step, int s, double *multiplier,
                    double *sum) {
  double unit = ldexp(1 / step, s);
  *multiplier = *sum = 0;
  for (int32_t c = 0; c < channels; c++) {
    double total = fabs(f->bias[c] * unit) + ldexp(1, s);
    for (int b = 0; b < f->branches; b++) {
      const qe_int_layer *layer = &integer->layer[f->tensor[b]];
      double reach = fmax(fabs((double)layer->low), fabs((double)layer->high)), m = fabs(f->scale[b][c] * unit) + 1;
      *multiplier = fmax(*multiplier, m);
      total += reach * m;
    }
    *sum = fmax(*sum, total);
  }
}

/* The largest shift whose multipliers and sums stay within the limits; below 0: none. */
static int largest_shift(const form *f, const qe_integer *integer, int32_t channels, double step, int most,
                         double multiplier_limit, double sum_limit) {
  for (int s = most; s >= 0; s--) {
    double multiplier, sum;
    measure(f, integer, channels, step, s, &multiplier, &sum);
    if (multiplier <= multiplier_limit && sum <= sum_limit) return s;
  }
  return -1;
}

/* Largest error, in output codes, that rounding the multipliers at shift s can make. */
static double rounding_error(const form *f, const qe_integer *integer, int s) {
  double error = 0.5;
  for (int b = 0; b < f->branches; b++) {
    const qe_int_layer *layer = &integer->layer[f->tensor[b]];
    error += 0.5 * fmax(fabs((double)layer->low), fabs((double)layer->high));
  }
  return ldexp(error, -s);
}

/* Narrow where 16-bit multipliers are exact enough, else wide: at two bits the network magnifies every flipped code. */
static const double NARROW_ERROR = 1.0 / 128; /* of an output code */

static qe_status choose_shift(const form *f, const qe_integer *integer, int32_t channels, double step,
                              qe_requant *requant) {
  int s = largest_shift(f, integer, channels, step, 30, 32767, 2147483647.0);
  requant->narrow = s >= 0 && requant->to != QE_S32 && rounding_error(f, integer, s) <= NARROW_ERROR;
  if (!requant->narrow) s = largest_shift(f, integer, channels, step, 46, 2147483647.0, 4.6e18);
  if (s < 0) return qe_fail(QE_REFUSED, "its multipliers do not fit 32 bits; is a step or batch norm degenerate?");
  requant->shift = s;
  return QE_OK;
}

/* Codes of a coarser grid, 2^k wider: multiplier 1, so that the requantiser is a shift. */
static bool is_shift(const form *f, int32_t channels, double step, int *k) {
  if (!is_codes(f, channels)) return false;
  int exponent;
  double mantissa = frexp(step / f->scale[0][0], &exponent);
  *k = exponent - 1;
  return mantissa <= 0.5 && *k >= 0 && *k <= 16;
}

static qe_status fill_requant(const form *f, int32_t channels, double step, qe_int_layer *layer) {
  layer->offset = QE_NEW_ARRAY(int64_t, channels);
  if (!layer->offset) return QE_NO_MEMORY;
  double unit = ldexp(1 / step, layer->attrs.requant.shift);
  int64_t half = layer->attrs.requant.shift > 0 ? INT64_C(1) << (layer->attrs.requant.shift - 1) : 0;
  for (int b = 0; b < f->branches; b++) {
    layer->multiplier[b] = QE_NEW_ARRAY(int32_t, channels);
    if (!layer->multiplier[b]) return QE_NO_MEMORY;
    for (int32_t c = 0; c < channels; c++) layer->multiplier[b][c] = (int32_t)llrint(f->scale[b][c] * unit);
  }
  for (int32_t c = 0; c < channels; c++) layer->offset[c] = llrint(f->bias[c] * unit) + half;
  return QE_OK;
}

static void free_constants(qe_int_layer *layer) {
  qe_free(layer->weight);
  qe_free(layer->multiplier[0]);
  qe_free(layer->multiplier[1]);
  qe_free(layer->offset);
}

/* A requantiser of the form to the grid of `step`. */
static qe_status add_requant(lowering *l, const qe_node_info *node, const form *f, double step, int32_t low,
                             int32_t high, qe_dtype to, int *tensor) {
  int32_t channels = node->output.dim[QE_C];
  qe_integer *integer = l->integer;
  qe_int_layer layer = {.op = f->branches == 2 ? QE_OP_int_requant_add : QE_OP_int_requant,
                        .inputs = f->branches,
                        .input = {f->tensor[0], f->tensor[f->branches - 1]},
                        .output = node->output,
                        .low = low,
                        .high = high};
  qe_requant *requant = &layer.attrs.requant;
  *requant = (qe_requant){.low = low, .high = high, .to = to};
  requant->from = integer->layer[layer.input[1]].output.dtype;
  layer.output.dtype = to;
  int k;
  if (to != QE_S32 && is_shift(f, channels, step, &k)) {
    requant->shift = k;
    requant->narrow = 1;
  } else {
    QE_TRY(choose_shift(f, integer, channels, step, requant));
  }
  qe_status status = fill_requant(f, channels, step, &layer);
  size_t before = integer->layers;
  if (status == QE_OK) status = add_layer(l, node, &layer, tensor);
  if (status != QE_OK && integer->layers == before) free_constants(&layer);
  return status;
}

static qe_status lower_quant(lowering *l, qe_node at, form *out) {
  const qe_node_info *node = &l->graph->node[at];
  const form *in = &l->form[node->input[0]];
  qe_attrs attrs = qe_quant_attrs(&node->quantizer, &node->output);
  if (in->rectified && attrs.quant.low < 0)
    return qe_fail(QE_REFUSED, "a signed quantiser after a float ReLU has no integer form");
  double step = ldexp((double)*param_values(l, node->param[QE_QUANT_STEP]), -attrs.quant.step_shift);
  int tensor;
  QE_TRY(
      add_requant(l, node, in, step, attrs.quant.low, attrs.quant.high, attrs.quant.low < 0 ? QE_S8 : QE_U8, &tensor));
  return form_codes(out, tensor, step, channels_of(l, at));
}

static qe_status lower_logits(lowering *l) {
  qe_node last = qe_graph_output(l->graph);
  const form *f = &l->form[last];
  if (f->rectified) return qe_fail(QE_REFUSED, "logits behind a float ReLU have no integer form");
  int tensor;
  double log2_of_e = 1.4426950408889634;
  return add_requant(l, &l->graph->node[last], f, 1 / (LOGIT_UNITS * log2_of_e), -(1 << 24), 1 << 24, QE_S32, &tensor);
}

/* ---- the whole ---- */

static const struct {
  const qe_layer *layer;
  qe_status (*lower)(lowering *l, qe_node node, form *out);
} rules[] = {
    {&qe_layer_input, lower_input},
    {&qe_layer_conv, lower_weighted},
    {&qe_layer_linear, lower_weighted},
    {&qe_layer_batch_norm, lower_batch_norm},
    {&qe_layer_clamp, lower_clamp},
    {&qe_layer_quant, lower_quant},
    {&qe_layer_add, lower_add},
    {&qe_layer_max_pool, lower_max_pool},
    {&qe_layer_avg_pool, lower_sum_pool},
    {&qe_layer_flatten, lower_flatten},
    {&qe_layer_subsample, lower_subsample},
};

static qe_status lower_node(lowering *l, qe_node node) {
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
    if (rules[i].layer == l->graph->node[node].layer) return rules[i].lower(l, node, &l->form[node]);
  return qe_fail(QE_REFUSED, "a %s layer has no integer form", l->graph->node[node].layer->name);
}

static qe_status lower_nodes(lowering *l) {
  for (size_t i = 0; i < l->graph->nodes; i++) {
    qe_status status = lower_node(l, (qe_node)i);
    if (status != QE_OK) return qe_fail_within(status, "integer network, layer %s", l->graph->node[i].name);
  }
  qe_status status = lower_logits(l);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "integer network, logits");
}

qe_status qe_integer_new(const qe_graph *graph, const float *values, qe_integer **out) {
  lowering l = {.graph = graph, .values = values, .integer = QE_NEW(qe_integer)};
  l.form = QE_NEW_ARRAY(form, graph->nodes);
  qe_status status = l.integer && l.form ? lower_nodes(&l) : QE_NO_MEMORY;
  for (size_t i = 0; l.form && i < graph->nodes; i++) form_free(&l.form[i]);
  qe_free(l.form);
  if (status != QE_OK) {
    qe_integer_free(l.integer);
    return status;
  }
  *out = l.integer;
  return QE_OK;
}

void qe_integer_free(qe_integer *integer) {
  if (!integer) return;
  for (size_t i = 0; i < integer->layers; i++) {
    qe_free(integer->layer[i].name);
    free_constants(&integer->layer[i]);
  }
  qe_free(integer->layer);
  qe_free(integer);
}

void qe_integer_dump(const qe_integer *integer, FILE *file) {
  for (size_t i = 0; i < integer->layers; i++) {
    const qe_int_layer *layer = &integer->layer[i];
    char text[QE_DESC_TEXT];
    fprintf(file, "%zu %s = %s(", i, layer->name, qe_op_get_info(layer->op)->name);
    for (int k = 0; k < layer->inputs; k++) fprintf(file, "%s%d", k ? ", " : "", layer->input[k]);
    fprintf(file, ") %s %d...%d", qe_desc_text(&layer->output, text), layer->low, layer->high);
    if (layer->weight) fprintf(file, " weight_bits=%d", layer->weight_bits);
    if (layer->offset)
      fprintf(file, " shift=%d %s", layer->attrs.requant.shift, layer->attrs.requant.narrow ? "narrow" : "wide");
    fputc('\n', file);
  }
}
