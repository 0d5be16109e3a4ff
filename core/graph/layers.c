/* Layers without weights: input, batch norm, clamp, activation quantiser, add, concatenation, pools, flatten,
 * subsample. Convolution and linear are in layers_weighted.c. */
#include "core/graph/layers.h"

#include <math.h>

static qe_status input_value(qe_lowering *lowering, qe_node node, int which, qe_value *value) {
  return qe_lower_output(lowering, lowering->graph->node[node].input[which], value);
}

/* Shapes of a layer that is one op: from the op's own shape rule, so the two cannot differ. */
static qe_status infer_by_op(qe_graph *graph, qe_node_info *node, qe_op op) {
  qe_desc desc[QE_MAX_OPERANDS];
  QE_TRY(qe_op_shapes(op, &node->attrs, &graph->node[node->input[0]].output, desc));
  node->output = desc[qe_op_get_info(op)->operands - 1];
  return QE_OK;
}

static qe_status infer_same(qe_graph *graph, qe_node_info *node) {
  node->output = graph->node[node->input[0]].output;
  return QE_OK;
}

/* Forward of a layer with one input that is one op. */
static qe_status forward_unary(qe_lowering *lowering, qe_node node, qe_op op, qe_value *output) {
  qe_value x;
  QE_TRY(input_value(lowering, node, 0, &x));
  QE_TRY(qe_lower_temp(lowering, node, "y", NULL, output));
  return qe_lower_call(lowering, op, &lowering->graph->node[node].attrs, (qe_value[]){x, *output});
}

/* Backward of such a layer; `reads_x`: the gradient op takes the input's values too. */
static qe_status backward_unary(qe_lowering *lowering, qe_node node, qe_op op, bool reads_x, qe_value gradient) {
  const qe_node_info *info = &lowering->graph->node[node];
  if (!qe_lower_needs_gradient(lowering, info->input[0])) return QE_OK;
  qe_value x = QE_NO_VALUE, dx;
  if (reads_x) QE_TRY(input_value(lowering, node, 0, &x));
  qe_desc desc = qe_lower_desc(lowering, &lowering->graph->node[info->input[0]].output);
  QE_TRY(qe_lower_temp(lowering, node, "dx", &desc, &dx));
  if (reads_x)
    QE_TRY(qe_lower_call(lowering, op, &info->attrs, (qe_value[]){gradient, x, dx}));
  else
    QE_TRY(qe_lower_call(lowering, op, &info->attrs, (qe_value[]){gradient, dx}));
  return qe_lower_add_gradient(lowering, info->input[0], dx);
}

/* ---- input ---- */

static qe_status input_infer(qe_graph *graph, qe_node_info *node) {
  if (graph->nodes != 0) return qe_fail(QE_USAGE, "the input must be the first node, and the only input");
  if (qe_count(&node->output) == 0) return qe_fail(QE_SHAPE, "the input needs positive extents");
  return QE_OK;
}

static qe_status input_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  *output = lowering->output[node];
  return QE_OK;
}

const qe_layer qe_layer_input = {.name = "input", .infer = input_infer, .forward = input_forward};

/* ---- batch norm ---- */

static qe_status batch_norm_statistics(qe_lowering *lowering, qe_node node, qe_value x, qe_value *mean, qe_value *var) {
  const qe_node_info *info = &lowering->graph->node[node];
  if (!lowering->training) {
    *mean = lowering->param[info->param[QE_BN_MEAN]];
    *var = lowering->param[info->param[QE_BN_VAR]];
    return QE_OK;
  }
  if (!lowering->recomputing) {
    qe_desc vector = qe_vector(QE_F32, info->output.dim[QE_C]);
    QE_TRY(qe_lower_temp(lowering, node, "mean", &vector, &lowering->saved[0][node]));
    QE_TRY(qe_lower_temp(lowering, node, "var", &vector, &lowering->saved[1][node]));
    *mean = lowering->saved[0][node];
    *var = lowering->saved[1][node];
    QE_TRY(qe_lower_call(lowering, QE_OP_bn_stats, &info->attrs, (qe_value[]){x, *mean, *var}));
    if (lowering->silent) return QE_OK;
    qe_attrs attrs = info->attrs;
    if (lowering->last_batch) attrs.momentum = 1;
    return qe_lower_call(lowering, QE_OP_bn_running, &attrs,
                         (qe_value[]){x, *mean, *var, lowering->param[info->param[QE_BN_MEAN]],
                                      lowering->param[info->param[QE_BN_VAR]]});
  }
  *mean = lowering->saved[0][node];
  *var = lowering->saved[1][node];
  return QE_OK;
}

static qe_status batch_norm_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  const qe_node_info *info = &lowering->graph->node[node];
  qe_value x, mean, var;
  QE_TRY(input_value(lowering, node, 0, &x));
  QE_TRY(batch_norm_statistics(lowering, node, x, &mean, &var));
  QE_TRY(qe_lower_temp(lowering, node, "y", NULL, output));
  return qe_lower_call(lowering, QE_OP_bn_norm, &info->attrs,
                       (qe_value[]){x, mean, var, lowering->param[info->param[QE_BN_GAMMA]],
                                    lowering->param[info->param[QE_BN_BETA]], *output});
}

static qe_status batch_norm_backward(qe_lowering *lowering, qe_node node, qe_value gradient) {
  const qe_node_info *info = &lowering->graph->node[node];
  if (!lowering->training) return qe_fail(QE_USAGE, "gradients need batch statistics: lower with training set");
  qe_value x, dgamma, dbeta, dx, mean = lowering->saved[0][node], var = lowering->saved[1][node];
  QE_TRY(input_value(lowering, node, 0, &x));
  QE_TRY(qe_lower_param_gradient(lowering, node, info->param[QE_BN_GAMMA], &dgamma));
  QE_TRY(qe_lower_param_gradient(lowering, node, info->param[QE_BN_BETA], &dbeta));
  QE_TRY(
      qe_lower_call(lowering, QE_OP_bn_grad_sums, &info->attrs, (qe_value[]){gradient, x, mean, var, dgamma, dbeta}));
  if (!qe_lower_needs_gradient(lowering, info->input[0])) return QE_OK;
  QE_TRY(qe_lower_temp(lowering, node, "dx", NULL, &dx));
  QE_TRY(qe_lower_call(
      lowering, QE_OP_bn_grad_x, &info->attrs,
      (qe_value[]){gradient, x, mean, var, lowering->param[info->param[QE_BN_GAMMA]], dgamma, dbeta, dx}));
  return qe_lower_add_gradient(lowering, info->input[0], dx);
}

const qe_layer qe_layer_batch_norm = {.name = "batch_norm",
                                      .cheap = true,
                                      .reads_input = true,
                                      .infer = infer_same,
                                      .forward = batch_norm_forward,
                                      .backward = batch_norm_backward};

/* ---- clamp (ReLU) ---- */

static qe_status clamp_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  return forward_unary(lowering, node, QE_OP_clamp, output);
}

static qe_status clamp_backward(qe_lowering *lowering, qe_node node, qe_value gradient) {
  return backward_unary(lowering, node, QE_OP_clamp_grad, true, gradient);
}

const qe_layer qe_layer_clamp = {.name = "clamp",
                                 .cheap = true,
                                 .reads_input = true,
                                 .infer = infer_same,
                                 .forward = clamp_forward,
                                 .backward = clamp_backward};

/* ---- activation quantiser ---- */

qe_attrs qe_quant_attrs(const qe_quantizer *quantizer, const qe_desc *desc) {
  static const qe_step_grad gradient_of[QE_RULES] = {
      [QE_RULE_LSQ] = QE_STEP_LSQ,  [QE_RULE_PACT] = QE_STEP_PACT,    [QE_RULE_DOREFA] = QE_STEP_FIXED,
      [QE_RULE_L2] = QE_STEP_FIXED, [QE_RULE_L2_ODD] = QE_STEP_FIXED, [QE_RULE_MAX] = QE_STEP_FIXED};
  qe_attrs attrs = {.quant = {.odd = quantizer->grid == QE_GRID_ODD,
                              .round_up = quantizer->round_up,
                              .step_shift = quantizer->step_shift,
                              .per_channel = quantizer->per_channel,
                              .step_grad = gradient_of[quantizer->rule],
                              .grad_scale = 1.0f}};
  qe_grid_range(quantizer->grid, quantizer->bits, &attrs.quant.low, &attrs.quant.high);
  if (quantizer->rule == QE_RULE_LSQ) { /* 1 / sqrt(N Qp), N the values (of an image) that share the step */
    int64_t values = qe_count(desc) / (quantizer->per_channel ? desc->dim[QE_N] : 1);
    attrs.quant.grad_scale = (float)(1.0 / sqrt((double)values * (attrs.quant.high > 0 ? attrs.quant.high : 1)));
  }
  return attrs;
}

/* With quantisers off, the quantiser of a non-negative grid is the ReLU that it replaced. */
static const qe_attrs relu = {.low = 0, .high = INFINITY};

static bool passes_through(const qe_lowering *lowering, const qe_node_info *info) {
  return lowering->plain && info->quantizer.grid != QE_GRID_UNSIGNED;
}

static qe_status quant_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  const qe_node_info *info = &lowering->graph->node[node];
  qe_value x;
  QE_TRY(input_value(lowering, node, 0, &x));
  if (passes_through(lowering, info)) {
    *output = x;
    return QE_OK;
  }
  QE_TRY(qe_lower_kept_output(lowering, node, output));
  if (lowering->plain) return qe_lower_call(lowering, QE_OP_clamp, &relu, (qe_value[]){x, *output});
  qe_attrs attrs = qe_quant_attrs(&info->quantizer, &info->output);
  return qe_lower_quant(lowering, node, &attrs, x, lowering->param[info->param[QE_QUANT_STEP]], *output);
}

static qe_status quant_backward(qe_lowering *lowering, qe_node node, qe_value gradient) {
  const qe_node_info *info = &lowering->graph->node[node];
  if (passes_through(lowering, info)) return qe_lower_add_gradient(lowering, info->input[0], gradient);
  qe_value x, dx, dstep;
  QE_TRY(input_value(lowering, node, 0, &x));
  QE_TRY(qe_lower_temp(lowering, node, "dx", NULL, &dx));
  if (lowering->plain) {
    QE_TRY(qe_lower_call(lowering, QE_OP_clamp_grad, &relu, (qe_value[]){gradient, x, dx}));
  } else {
    qe_attrs attrs = qe_quant_attrs(&info->quantizer, &info->output);
    QE_TRY(qe_lower_param_gradient(lowering, node, info->param[QE_QUANT_STEP], &dstep));
    const qe_value given[3] = {gradient, x, lowering->param[info->param[QE_QUANT_STEP]]};
    QE_TRY(qe_lower_quant_grad(lowering, node, &attrs, given, dx, dstep));
  }
  return qe_lower_add_gradient(lowering, info->input[0], dx);
}

const qe_layer qe_layer_quant = {.name = "quant",
                                 .cheap = true,
                                 .reads_input = true,
                                 .infer = infer_same,
                                 .forward = quant_forward,
                                 .backward = quant_backward};

/* ---- add, concatenation ---- */

static qe_status add_infer(qe_graph *graph, qe_node_info *node) {
  const qe_desc *a = &graph->node[node->input[0]].output, *b = &graph->node[node->input[1]].output;
  if (!qe_same_desc(a, b)) {
    char first[QE_DESC_TEXT], second[QE_DESC_TEXT];
    return qe_fail(QE_SHAPE, "add of %s and %s: shapes must be equal", qe_desc_text(a, first), qe_desc_text(b, second));
  }
  return infer_same(graph, node);
}

static qe_status add_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  qe_value a, b;
  QE_TRY(input_value(lowering, node, 0, &a));
  QE_TRY(input_value(lowering, node, 1, &b));
  QE_TRY(qe_lower_temp(lowering, node, "y", NULL, output));
  return qe_lower_call(lowering, QE_OP_add, NULL, (qe_value[]){a, b, *output});
}

static qe_status add_backward(qe_lowering *lowering, qe_node node, qe_value gradient) {
  const qe_node_info *info = &lowering->graph->node[node];
  for (int i = 0; i < 2; i++)
    if (qe_lower_needs_gradient(lowering, info->input[i]))
      QE_TRY(qe_lower_add_gradient(lowering, info->input[i], gradient));
  return QE_OK;
}

const qe_layer qe_layer_add = {
    .name = "add", .cheap = true, .infer = add_infer, .forward = add_forward, .backward = add_backward};

static qe_status concat_infer(qe_graph *graph, qe_node_info *node) {
  const qe_desc *b = &graph->node[node->input[1]].output;
  node->attrs.other = b->dim[QE_C];
  qe_desc desc[QE_MAX_OPERANDS];
  QE_TRY(qe_op_shapes(QE_OP_concat, &node->attrs, &graph->node[node->input[0]].output, desc));
  if (!qe_same_desc(&desc[1], b)) {
    char first[QE_DESC_TEXT], second[QE_DESC_TEXT];
    return qe_fail(QE_SHAPE, "concatenation: the second map is %s, must be %s", qe_desc_text(b, first),
                   qe_desc_text(&desc[1], second));
  }
  node->output = desc[2];
  return QE_OK;
}

static qe_status concat_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  qe_value a, b;
  QE_TRY(input_value(lowering, node, 0, &a));
  QE_TRY(input_value(lowering, node, 1, &b));
  QE_TRY(qe_lower_temp(lowering, node, "y", NULL, output));
  return qe_lower_call(lowering, QE_OP_concat, &lowering->graph->node[node].attrs, (qe_value[]){a, b, *output});
}

static qe_status concat_backward(qe_lowering *lowering, qe_node node, qe_value gradient) {
  const qe_node_info *info = &lowering->graph->node[node];
  qe_value part[2];
  for (int i = 0; i < 2; i++) {
    qe_desc desc = qe_lower_desc(lowering, &lowering->graph->node[info->input[i]].output);
    QE_TRY(qe_lower_temp(lowering, node, i ? "db" : "da", &desc, &part[i]));
  }
  QE_TRY(qe_lower_call(lowering, QE_OP_concat_grad, &info->attrs, (qe_value[]){gradient, part[0], part[1]}));
  for (int i = 0; i < 2; i++)
    if (qe_lower_needs_gradient(lowering, info->input[i]))
      QE_TRY(qe_lower_add_gradient(lowering, info->input[i], part[i]));
  return QE_OK;
}

const qe_layer qe_layer_concat = {
    .name = "concat", .infer = concat_infer, .forward = concat_forward, .backward = concat_backward};

/* ---- pools, subsample, flatten ---- */

static qe_status max_pool_infer(qe_graph *graph, qe_node_info *node) {
  return infer_by_op(graph, node, QE_OP_max_pool);
}
static qe_status max_pool_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  return forward_unary(lowering, node, QE_OP_max_pool, output);
}
static qe_status max_pool_backward(qe_lowering *lowering, qe_node node, qe_value gradient) {
  return backward_unary(lowering, node, QE_OP_max_pool_grad, true, gradient);
}
const qe_layer qe_layer_max_pool = {.name = "max_pool",
                                    .reads_input = true,
                                    .infer = max_pool_infer,
                                    .forward = max_pool_forward,
                                    .backward = max_pool_backward};

static qe_status avg_pool_infer(qe_graph *graph, qe_node_info *node) {
  return infer_by_op(graph, node, QE_OP_avg_pool);
}
static qe_status avg_pool_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  return forward_unary(lowering, node, QE_OP_avg_pool, output);
}
static qe_status avg_pool_backward(qe_lowering *lowering, qe_node node, qe_value gradient) {
  return backward_unary(lowering, node, QE_OP_avg_pool_grad, false, gradient);
}
const qe_layer qe_layer_avg_pool = {
    .name = "avg_pool", .infer = avg_pool_infer, .forward = avg_pool_forward, .backward = avg_pool_backward};

static qe_status subsample_infer(qe_graph *graph, qe_node_info *node) {
  return infer_by_op(graph, node, QE_OP_subsample);
}
static qe_status subsample_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  return forward_unary(lowering, node, QE_OP_subsample, output);
}
static qe_status subsample_backward(qe_lowering *lowering, qe_node node, qe_value gradient) {
  return backward_unary(lowering, node, QE_OP_subsample_grad, false, gradient);
}
const qe_layer qe_layer_subsample = {
    .name = "subsample", .infer = subsample_infer, .forward = subsample_forward, .backward = subsample_backward};

static qe_status flatten_infer(qe_graph *graph, qe_node_info *node) {
  const qe_desc *in = &graph->node[node->input[0]].output;
  if (qe_count(in) > INT32_MAX) return qe_fail(QE_SHAPE, "flatten: more than 2^31 values an image");
  node->output = qe_vector(QE_F32, (int32_t)qe_count(in));
  return QE_OK;
}

static qe_status flatten_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  const qe_node_info *info = &lowering->graph->node[node];
  qe_value x;
  QE_TRY(input_value(lowering, node, 0, &x));
  return qe_program_view(lowering->program, x, info->name, qe_lower_desc(lowering, &info->output), output);
}

static qe_status flatten_backward(qe_lowering *lowering, qe_node node, qe_value gradient) {
  const qe_node_info *info = &lowering->graph->node[node];
  if (!qe_lower_needs_gradient(lowering, info->input[0])) return QE_OK;
  qe_value dx;
  qe_desc desc = qe_lower_desc(lowering, &lowering->graph->node[info->input[0]].output);
  QE_TRY(qe_program_view(lowering->program, gradient, info->name, desc, &dx));
  return qe_lower_add_gradient(lowering, info->input[0], dx);
}

const qe_layer qe_layer_flatten = {
    .name = "flatten", .infer = flatten_infer, .forward = flatten_forward, .backward = flatten_backward};
