/* Layers with weights: convolution and linear, with their weight quantisers and biases. */
#include "core/graph/layers.h"

static bool is_quantized(const qe_lowering *lowering, const qe_node_info *info) {
  return info->quantizer.bits != QE_FLOAT_BITS && !lowering->plain;
}

/* DoReFa quantises tanh(w) / max|tanh(w)|; the other rules the weight itself. */
static qe_status weight_to_quantise(qe_lowering *lowering, qe_node node, qe_value *value) {
  const qe_node_info *info = &lowering->graph->node[node];
  qe_value weight = lowering->param[info->param[QE_CONV_WEIGHT]];
  *value = weight;
  if (info->quantizer.rule != QE_RULE_DOREFA) return QE_OK;
  QE_TRY(qe_lower_temp(lowering, node, "tanh", &lowering->graph->param[info->param[QE_CONV_WEIGHT]].desc, value));
  return qe_lower_call(lowering, QE_OP_tanh_norm, NULL, (qe_value[]){weight, *value});
}

static qe_status weight_forward(qe_lowering *lowering, qe_node node, qe_value *value) {
  const qe_node_info *info = &lowering->graph->node[node];
  const qe_desc *desc = &lowering->graph->param[info->param[QE_CONV_WEIGHT]].desc;
  *value = lowering->param[info->param[QE_CONV_WEIGHT]];
  if (!is_quantized(lowering, info)) return QE_OK;
  qe_value source;
  QE_TRY(weight_to_quantise(lowering, node, &source));
  QE_TRY(qe_lower_temp(lowering, node, "weight_quantised", desc, value));
  qe_attrs attrs = qe_quant_attrs(&info->quantizer, desc);
  return qe_lower_quant(lowering, node, &attrs, source, lowering->param[info->param[QE_CONV_STEP]], *value);
}

/* From the gradient of the weight as used, that of the weight and of its step. */
static qe_status weight_backward(qe_lowering *lowering, qe_node node, qe_value used, qe_value target) {
  const qe_node_info *info = &lowering->graph->node[node];
  const qe_desc *desc = &lowering->graph->param[info->param[QE_CONV_WEIGHT]].desc;
  qe_value source, dstep, through = target;
  QE_TRY(weight_to_quantise(lowering, node, &source));
  QE_TRY(qe_lower_param_gradient(lowering, node, info->param[QE_CONV_STEP], &dstep));
  bool dorefa = info->quantizer.rule == QE_RULE_DOREFA;
  if (dorefa) QE_TRY(qe_lower_temp(lowering, node, "dtanh", desc, &through));
  qe_attrs attrs = qe_quant_attrs(&info->quantizer, desc);
  const qe_value given[3] = {used, source, lowering->param[info->param[QE_CONV_STEP]]};
  QE_TRY(qe_lower_quant_grad(lowering, node, &attrs, given, through, dstep));
  if (!dorefa) return QE_OK;
  return qe_lower_call(lowering, QE_OP_tanh_norm_grad, NULL,
                       (qe_value[]){through, lowering->param[info->param[QE_CONV_WEIGHT]], target});
}

static qe_status weighted_forward(qe_lowering *lowering, qe_node node, qe_op op, qe_value *output) {
  const qe_node_info *info = &lowering->graph->node[node];
  int bias = info->params > QE_CONV_BIAS ? info->param[QE_CONV_BIAS] : -1;
  qe_value x, y;
  QE_TRY(qe_lower_output(lowering, info->input[0], &x));
  QE_TRY(weight_forward(lowering, node, &lowering->weight[node]));
  QE_TRY(qe_lower_temp(lowering, node, "y", NULL, &y));
  QE_TRY(qe_lower_call(lowering, op, &info->attrs, (qe_value[]){x, lowering->weight[node], y}));
  *output = y;
  if (bias < 0) return QE_OK;
  QE_TRY(qe_lower_temp(lowering, node, "biased", NULL, output));
  return qe_lower_call(lowering, QE_OP_bias_add, NULL, (qe_value[]){y, lowering->param[bias], *output});
}

static qe_status weighted_backward(qe_lowering *lowering, qe_node node, qe_op grad_w, qe_op grad_x, qe_value gradient) {
  const qe_node_info *info = &lowering->graph->node[node];
  int weight = info->param[QE_CONV_WEIGHT], bias = info->params > QE_CONV_BIAS ? info->param[QE_CONV_BIAS] : -1;
  qe_value x, dw, used, dbias, dx;
  if (bias >= 0) {
    QE_TRY(qe_lower_param_gradient(lowering, node, bias, &dbias));
    QE_TRY(qe_lower_call(lowering, QE_OP_channel_sum, NULL, (qe_value[]){gradient, dbias}));
  }
  QE_TRY(qe_lower_output(lowering, info->input[0], &x));
  QE_TRY(qe_lower_param_gradient(lowering, node, weight, &dw));
  used = dw;
  bool quantized = is_quantized(lowering, info);
  if (quantized) QE_TRY(qe_lower_temp(lowering, node, "dweight", &lowering->graph->param[weight].desc, &used));
  QE_TRY(qe_lower_call(lowering, grad_w, &info->attrs, (qe_value[]){gradient, x, used}));
  if (quantized) QE_TRY(weight_backward(lowering, node, used, dw));
  /* The input's gradient comes last, next to the element-wise calls that will read it. */
  if (!qe_lower_needs_gradient(lowering, info->input[0])) return QE_OK;
  qe_desc desc = qe_lower_desc(lowering, &lowering->graph->node[info->input[0]].output);
  QE_TRY(qe_lower_temp(lowering, node, "dx", &desc, &dx));
  QE_TRY(qe_lower_call(lowering, grad_x, &info->attrs, (qe_value[]){gradient, lowering->weight[node], dx}));
  return qe_lower_add_gradient(lowering, info->input[0], dx);
}

static qe_status conv_infer(qe_graph *graph, qe_node_info *node) {
  qe_desc desc[QE_MAX_OPERANDS];
  QE_TRY(qe_op_shapes(QE_OP_conv2d, &node->attrs, &graph->node[node->input[0]].output, desc));
  node->output = desc[2];
  return QE_OK;
}
static qe_status conv_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  return weighted_forward(lowering, node, QE_OP_conv2d, output);
}
static qe_status conv_backward(qe_lowering *lowering, qe_node node, qe_value gradient) {
  return weighted_backward(lowering, node, QE_OP_conv2d_grad_w, QE_OP_conv2d_grad_x, gradient);
}
const qe_layer qe_layer_conv = {
    .name = "conv", .reads_input = true, .infer = conv_infer, .forward = conv_forward, .backward = conv_backward};

static qe_status linear_infer(qe_graph *graph, qe_node_info *node) {
  qe_desc desc[QE_MAX_OPERANDS];
  QE_TRY(qe_op_shapes(QE_OP_linear, &node->attrs, &graph->node[node->input[0]].output, desc));
  node->output = desc[2];
  return QE_OK;
}
static qe_status linear_forward(qe_lowering *lowering, qe_node node, qe_value *output) {
  return weighted_forward(lowering, node, QE_OP_linear, output);
}
static qe_status linear_backward(qe_lowering *lowering, qe_node node, qe_value gradient) {
  return weighted_backward(lowering, node, QE_OP_linear_grad_w, QE_OP_linear_grad_x, gradient);
}
const qe_layer qe_layer_linear = {.name = "linear",
                                  .reads_input = true,
                                  .infer = linear_infer,
                                  .forward = linear_forward,
                                  .backward = linear_backward};
