/* Lowering a graph to a program: forward calls in order, then the backward pass in reverse.
 *
 * Memory: outputs of convolutions, linear layers and pools are kept for the backward pass, and so is what they read;
 * the cheap layers between (batch norm, clamp, quantiser, add) are computed again where their values are needed, in
 * the same fused pass over memory as the gradients that need them. */
#include "core/graph/lower.h"

#include "core/base/alloc.h"
#include "core/graph/layers.h"

#include <string.h>

qe_desc qe_lower_desc(const qe_lowering *lowering, const qe_desc *image) {
  qe_desc desc = *image;
  desc.dim[QE_N] = lowering->batch;
  return desc;
}

qe_status qe_lower_temp(qe_lowering *lowering, qe_node node, const char *what, const qe_desc *desc, qe_value *value) {
  const qe_node_info *info = &lowering->graph->node[node];
  qe_desc batch = desc ? *desc : qe_lower_desc(lowering, &info->output);
  char *name = qe_format("%s%s.%s", lowering->prefix, info->name, what);
  if (!name) return QE_NO_MEMORY;
  qe_status status = qe_program_temp(lowering->program, name, batch, value);
  qe_free(name);
  return status;
}

qe_status qe_lower_call(qe_lowering *lowering, qe_op op, const qe_attrs *attrs, const qe_value *values) {
  return qe_program_call(lowering->program, op, attrs, values);
}

qe_status qe_lower_quant(qe_lowering *lowering, qe_node node, const qe_attrs *attrs, qe_value x, qe_value step,
                         qe_value y) {
  qe_value gate = lowering->gate[node];
  if (gate == QE_NO_VALUE) return qe_lower_call(lowering, QE_OP_quant, attrs, (qe_value[]){x, step, y});
  return qe_lower_call(lowering, QE_OP_quant_gate, attrs, (qe_value[]){x, step, gate, y});
}

qe_status qe_lower_quant_grad(qe_lowering *lowering, qe_node node, const qe_attrs *attrs, const qe_value dy_x_step[3],
                              qe_value dx, qe_value dstep) {
  qe_value gate = lowering->gate[node], values[6] = {dy_x_step[0], dy_x_step[1], dy_x_step[2], dx, dstep};
  if (gate == QE_NO_VALUE) return qe_lower_call(lowering, QE_OP_quant_grad, attrs, values);
  values[3] = gate;
  values[4] = dx;
  values[5] = dstep;
  return qe_lower_call(lowering, QE_OP_quant_gate_grad, attrs, values);
}

qe_status qe_lower_output(qe_lowering *lowering, qe_node node, qe_value *value) {
  if (lowering->output[node] != QE_NO_VALUE) {
    *value = lowering->output[node];
    return QE_OK;
  }
  return lowering->graph->node[node].layer->forward(lowering, node, value);
}

bool qe_lower_needs_gradient(const qe_lowering *lowering, qe_node node) {
  return lowering->needs_gradient[node];
}

static bool is_trained(const qe_graph *graph, const qe_node_info *info) {
  for (int i = 0; i < info->params; i++)
    if (info->param[i] >= 0 && graph->param[info->param[i]].group != QE_GROUP_STATE) return true;
  return false;
}

static void find_gradients(qe_lowering *lowering) {
  const qe_graph *graph = lowering->graph;
  for (size_t n = 0; n < graph->nodes; n++) {
    bool needs = is_trained(graph, &graph->node[n]);
    for (int i = 0; i < graph->node[n].inputs; i++) needs |= lowering->needs_gradient[graph->node[n].input[i]];
    lowering->needs_gradient[n] = needs;
  }
}

qe_status qe_lower_add_gradient(qe_lowering *lowering, qe_node node, qe_value value) {
  qe_value *gradient = &lowering->gradient[node];
  if (*gradient == QE_NO_VALUE) {
    *gradient = value;
    return QE_OK;
  }
  qe_value sum;
  QE_TRY(qe_lower_temp(lowering, node, "gradient_sum", NULL, &sum));
  QE_TRY(qe_lower_call(lowering, QE_OP_add, NULL, (qe_value[]){*gradient, value, sum}));
  *gradient = sum;
  return QE_OK;
}

qe_status qe_lower_param_gradient(qe_lowering *lowering, qe_node node, int param, qe_value *value) {
  const qe_param *info = &lowering->graph->param[param];
  if (!lowering->param_gradient_used[param] && lowering->param_gradient[param] != QE_NO_VALUE) {
    lowering->param_gradient_used[param] = true;
    *value = lowering->param_gradient[param];
    return QE_OK;
  }
  QE_TRY(qe_lower_temp(lowering, node, "param_gradient", &info->desc, value));
  if (lowering->param_gradient[param] == QE_NO_VALUE) return QE_OK; /* not trained: computed, then dropped */
  QE_TRY(qe_reserve(&lowering->late, &lowering->late_capacity, lowering->lates + 2, sizeof *lowering->late));
  lowering->late[lowering->lates++] = *value;
  lowering->late[lowering->lates++] = lowering->param_gradient[param];
  return QE_OK;
}

/* A cheap output is kept when several consumers share it, or when a consumer that is not cheap reads it. */
static bool is_kept(const qe_lowering *lowering, qe_node node, bool keep_outputs) {
  const qe_graph *graph = lowering->graph;
  const qe_node_info *info = &graph->node[node];
  if (!info->layer->cheap || info->consumers != 1 || keep_outputs) return true;
  for (size_t i = (size_t)node + 1; i < graph->nodes; i++)
    for (int k = 0; k < graph->node[i].inputs; k++)
      if (graph->node[i].input[k] == node) return graph->node[i].layer->reads_input && !graph->node[i].layer->cheap;
  return true;
}

qe_status qe_lower_forward(qe_lowering *lowering) {
  QE_TRY(qe_lower_take_kept(lowering));
  for (size_t i = (size_t)lowering->start; i < lowering->graph->nodes; i++) {
    qe_status status = lowering->graph->node[i].layer->forward(lowering, (qe_node)i, &lowering->output[i]);
    if (status != QE_OK) return qe_fail_within(status, "node %s", lowering->graph->node[i].name);
  }
  return QE_OK;
}

qe_status qe_lower_backward(qe_lowering *lowering, qe_value gradient, bool keep_outputs) {
  const qe_graph *graph = lowering->graph;
  qe_node last = qe_graph_output(graph);
  for (size_t i = 0; i < graph->nodes; i++)
    if (!is_kept(lowering, (qe_node)i, keep_outputs)) lowering->output[i] = QE_NO_VALUE;
  lowering->recomputing = true;
  lowering->gradient[last] = gradient;
  for (qe_node node = last; node >= 0; node--) {
    if (lowering->pairing) QE_TRY(qe_lower_hint_gradients(lowering, node));
    if (lowering->gradient[node] == QE_NO_VALUE || !graph->node[node].layer->backward) continue;
    qe_status status = graph->node[node].layer->backward(lowering, node, lowering->gradient[node]);
    if (status != QE_OK) return qe_fail_within(status, "gradient of node %s", graph->node[node].name);
  }
  for (size_t i = 0; i < lowering->lates; i += 2)
    QE_TRY(qe_lower_call(lowering, QE_OP_accumulate, NULL, &lowering->late[i]));
  return QE_OK;
}

static qe_status bind_row(qe_lowering *lowering, const char *name, qe_dtype dtype, qe_buffer *buffer, qe_value *value) {
  return qe_program_bind(lowering->program, name, qe_map(dtype, lowering->batch, 1, 1, 1), buffer, 0, value);
}

/* Pixels are augmented, then mixed on their way to the network's input. */
static qe_status lower_mixed(qe_lowering *lowering, const qe_attrs *attrs, const qe_lower_buffers *buffers,
                             const qe_value *from) {
  qe_desc pixels = qe_lower_desc(lowering, &lowering->graph->node[0].output);
  pixels.dtype = QE_U8;
  qe_value augmented, rows, other, share;
  QE_TRY(qe_lower_temp(lowering, 0, "augmented", &pixels, &augmented));
  QE_TRY(qe_lower_call(lowering, QE_OP_int_augment, attrs, (qe_value[]){from[0], from[1], from[2], augmented}));
  QE_TRY(bind_row(lowering, "rows", QE_S32, buffers->rows, &rows));
  QE_TRY(bind_row(lowering, "other", QE_S32, buffers->other, &other));
  QE_TRY(bind_row(lowering, "share", QE_S32, buffers->share, &share));
  qe_attrs batch = {.images = lowering->batch};
  return qe_lower_call(lowering, QE_OP_mix, &batch, (qe_value[]){augmented, rows, other, share, from[3]});
}

static qe_status lower_batch(qe_lowering *lowering, const qe_lower_options *options, const qe_lower_buffers *buffers) {
  const qe_graph *graph = lowering->graph;
  qe_desc x = qe_lower_desc(lowering, &graph->node[0].output);
  qe_desc images = qe_map(QE_U8, options->images, x.dim[QE_H], x.dim[QE_W], x.dim[QE_C]);
  qe_value from, index, counter;
  QE_TRY(qe_program_bind(lowering->program, "images", images, buffers->images, 0, &from));
  QE_TRY(bind_row(lowering, "index", QE_S32, buffers->index, &index));
  QE_TRY(qe_program_bind(lowering->program, "counter", qe_vector(QE_S32, 4), buffers->counter, 0, &counter));
  QE_TRY(qe_lower_temp(lowering, 0, "x", NULL, &lowering->output[0]));
  qe_attrs attrs = {.images = options->images, .pad = options->pad, .flip = options->flip, .cutout = options->cutout};
  memcpy(attrs.jitter, options->jitter, sizeof attrs.jitter);
  const qe_value values[] = {from, index, counter, lowering->output[0]};
  return options->mixup > 0 ? lower_mixed(lowering, &attrs, buffers, values)
                            : qe_lower_call(lowering, QE_OP_augment, &attrs, values);
}

/* The operands that both loss ops read: logits and label, of mixed images also the other label and the share. */
static qe_status bind_answers(qe_lowering *lowering, bool mixed, const qe_lower_buffers *buffers, qe_value *values) {
  values[0] = lowering->output[qe_graph_output(lowering->graph)];
  QE_TRY(bind_row(lowering, "labels", QE_S32, buffers->labels, &values[1]));
  if (!mixed) return QE_OK;
  QE_TRY(bind_row(lowering, "other_labels", QE_S32, buffers->other_labels, &values[2]));
  return bind_row(lowering, "share", QE_S32, buffers->share, &values[3]);
}

qe_status qe_lower_loss(qe_lowering *lowering, const qe_lower_options *options, const qe_lower_buffers *buffers,
                        float scale, qe_value *gradient) {
  bool mixed = options->mixup > 0;
  int read = mixed ? 4 : 2;
  qe_value values[QE_MAX_OPERANDS];
  QE_TRY(bind_answers(lowering, mixed, buffers, values));
  QE_TRY(bind_row(lowering, "loss", QE_F32, buffers->loss, &values[read]));
  QE_TRY(bind_row(lowering, "hits", QE_S32, buffers->hits, &values[read + 1]));
  qe_attrs attrs = {.smoothing = options->smoothing};
  QE_TRY(qe_lower_call(lowering, mixed ? QE_OP_mix_xent : QE_OP_softmax_xent, &attrs, values));
  if (!options->backward) return QE_OK;
  attrs.scale = scale;
  QE_TRY(qe_lower_temp(lowering, qe_graph_output(lowering->graph), "gradient", NULL, gradient));
  values[read] = *gradient;
  return qe_lower_call(lowering, mixed ? QE_OP_mix_xent_grad : QE_OP_softmax_xent_grad, &attrs, values);
}

/* `gradients` NULL: none are wanted. */
static qe_status bind_param(qe_lowering *lowering, size_t i, qe_buffer *params, qe_buffer *gradients) {
  const qe_param *param = &lowering->graph->param[i];
  char *name = qe_format("%s%s", lowering->prefix, param->name);
  if (!name) return QE_NO_MEMORY;
  lowering->param_gradient[i] = QE_NO_VALUE;
  qe_status status = qe_program_bind(lowering->program, name, param->desc, params, param->offset, &lowering->param[i]);
  if (status == QE_OK && gradients && param->group != QE_GROUP_STATE)
    status =
        qe_program_bind(lowering->program, name, param->desc, gradients, param->offset, &lowering->param_gradient[i]);
  qe_free(name);
  return status;
}

static qe_status bind_gates(qe_lowering *lowering, const qe_lower_gates *gates) {
  for (size_t i = 0; i < lowering->graph->nodes && gates->of_node && !lowering->plain; i++) {
    if (gates->of_node[i] < 0) continue;
    QE_TRY(qe_program_bind(lowering->program, "gate", qe_vector(QE_S32, 1), gates->buffer,
                           (size_t)gates->of_node[i] * sizeof(int32_t), &lowering->gate[i]));
  }
  return QE_OK;
}

void qe_lowering_end(qe_lowering *lowering) {
  qe_free(lowering->output);
  qe_free(lowering->gradient);
  qe_free(lowering->param);
  qe_free(lowering->param_gradient);
  qe_free(lowering->param_gradient_used);
  qe_free(lowering->weight);
  qe_free(lowering->saved[0]);
  qe_free(lowering->saved[1]);
  qe_free(lowering->gate);
  qe_free(lowering->late);
  qe_free(lowering->needs_gradient);
}

static qe_status init_lowering(qe_lowering *lowering) {
  size_t nodes = lowering->graph->nodes, params = lowering->graph->params;
  qe_value **of_node[] = {&lowering->output,   &lowering->gradient, &lowering->weight,
                          &lowering->saved[0], &lowering->saved[1], &lowering->gate};
  for (size_t k = 0; k < sizeof of_node / sizeof *of_node; k++) {
    *of_node[k] = QE_NEW_ARRAY(qe_value, nodes);
    if (!*of_node[k]) return QE_NO_MEMORY;
    for (size_t i = 0; i < nodes; i++) (*of_node[k])[i] = QE_NO_VALUE;
  }
  lowering->needs_gradient = QE_NEW_ARRAY(bool, nodes);
  if (!lowering->needs_gradient) return QE_NO_MEMORY;
  find_gradients(lowering);
  lowering->param = QE_NEW_ARRAY(qe_value, params + 1);
  lowering->param_gradient = QE_NEW_ARRAY(qe_value, params + 1);
  lowering->param_gradient_used = QE_NEW_ARRAY(bool, params + 1);
  return lowering->param && lowering->param_gradient && lowering->param_gradient_used ? QE_OK : QE_NO_MEMORY;
}

qe_status qe_lowering_begin(qe_lowering *lowering, qe_buffer *params, qe_buffer *gradients) {
  QE_TRY(init_lowering(lowering));
  for (size_t i = 0; i < lowering->graph->params; i++) QE_TRY(bind_param(lowering, i, params, gradients));
  return QE_OK;
}

/* The pass of the network itself; its twin's backward pass comes after its own, so that its memory is free by then. */
static qe_status lower_all(qe_lowering *lowering, const qe_lower_options *options, const qe_lower_buffers *buffers) {
  const qe_pairing *pairing = lowering->pairing;
  float scale = options->scale > 0 ? options->scale : 1.0f / (float)lowering->batch;
  qe_value gradient = QE_NO_VALUE;
  QE_TRY(qe_lowering_begin(lowering, buffers->params, options->backward ? buffers->gradients : NULL));
  QE_TRY(bind_gates(lowering, &options->gates));
  QE_TRY(lower_batch(lowering, options, buffers));
  if (pairing) QE_TRY(qe_lower_twin_forward(pairing));
  QE_TRY(qe_lower_forward(lowering));
  qe_program_keep(lowering->program, lowering->output[qe_graph_output(lowering->graph)]);
  if (pairing) scale *= pairing->twin->label_weight[QE_NET_OWN];
  QE_TRY(qe_lower_loss(lowering, options, buffers, scale, &gradient));
  if (pairing) QE_TRY(qe_lower_guidance(pairing, buffers));
  if (pairing) QE_TRY(qe_lower_guide_gradient(pairing, QE_NET_OWN, &gradient));
  if (options->backward) QE_TRY(qe_lower_backward(lowering, gradient, options->keep_outputs));
  if (pairing) QE_TRY(qe_lower_twin_backward(pairing, options, buffers));
  for (size_t i = 0; options->keep_outputs && i < lowering->graph->nodes; i++)
    qe_program_keep(lowering->program, lowering->output[i]);
  qe_plan_options plan = {.arena = options->arena};
  return qe_program_plan(lowering->program, &plan);
}

/* With a second network beside it. */
static qe_status lower_pair(qe_lowering *lowering, const qe_lower_options *options, const qe_lower_buffers *buffers) {
  const qe_lower_twin *twin = options->twin;
  qe_lowering other = {.graph = twin->graph,
                       .prefix = "twin.",
                       .program = lowering->program,
                       .batch = options->batch,
                       .training = twin->training,
                       .silent = twin->silent,
                       .plain = twin->plain};
  qe_pairing pairing = {.twin = twin,
                        .side = {lowering, &other},
                        .scale = options->scale > 0 ? options->scale : 1.0f / (float)options->batch};
  lowering->pairing = other.pairing = &pairing;
  qe_status status = lower_all(lowering, options, buffers);
  qe_lowering_end(&other);
  lowering->pairing = NULL;
  return status;
}

qe_status qe_lower(const qe_graph *graph, qe_device *device, const qe_lower_options *options,
                   const qe_lower_buffers *buffers, qe_lowered *lowered) {
  if (!graph->finished || graph->node[0].layer != &qe_layer_input)
    return qe_fail(QE_USAGE, "a graph must be finished, and its first node the input, before it is lowered");
  if (options->batch < 1) return qe_fail(QE_USAGE, "batch %d: must be at least 1", options->batch);
  memset(lowered, 0, sizeof *lowered);
  qe_lowering lowering = {.graph = graph,
                          .prefix = "",
                          .batch = options->batch,
                          .training = options->training,
                          .plain = options->plain,
                          .last_batch = options->last_batch,
                          .kept = options->backward ? NULL : options->kept,
                          .start = options->backward ? 0 : options->start};
  bool pair = options->twin && options->backward;
  QE_TRY(qe_program_new(device,
                        options->backward   ? "train"
                        : options->training ? "calibrate"
                                            : "eval",
                        &lowering.program));
  qe_status status = (pair ? lower_pair : lower_all)(&lowering, options, buffers);
  if (status == QE_OK) {
    *lowered = (qe_lowered){lowering.program, lowering.output, graph->nodes};
    lowering.output = NULL;
  } else {
    qe_program_free(lowering.program);
  }
  qe_lowering_end(&lowering);
  return status;
}

void qe_lowered_free(qe_lowered *lowered) {
  qe_program_free(lowered->program);
  qe_free(lowered->output);
  memset(lowered, 0, sizeof *lowered);
}
