/* An integer network run layer by layer over one set of images. */
#include "core/evolve/trace.h"

#include "core/base/alloc.h"

#include <string.h>

qe_status qe_trace_call(qe_queue *queue, qe_call *call) {
  qe_bound_call bound;
  call->operands = qe_op_get_info(call->op)->operands;
  QE_TRY(qe_call_check(call));
  QE_TRY(qe_call_bind(queue->device, call, NULL, &bound));
  qe_status status = qe_call_run(queue, call, &bound);
  if (status == QE_OK) status = qe_queue_wait(queue);
  qe_call_release(&bound);
  return status;
}

qe_status qe_trace_upload(qe_queue *queue, const void *data, size_t bytes, qe_buffer **buffer) {
  QE_TRY(qe_buffer_new(queue->device, bytes, buffer));
  qe_status status = qe_queue_write(queue, *buffer, 0, data, bytes);
  if (status == QE_OK) status = qe_queue_wait(queue);
  if (status == QE_OK) return QE_OK;
  qe_buffer_free(*buffer);
  *buffer = NULL;
  return status;
}

/* ---- open and close ---- */

static void find_last(qe_trace *trace) {
  const qe_network *network = trace->network;
  for (size_t i = 0; i < network->layers; i++) trace->last[i] = INT32_MAX;
  for (int32_t i = 0; i < (int32_t)network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    for (int k = 0; k < layer->inputs; k++) {
      const qe_network_layer *source = &network->layer[layer->input[k]];
      trace->last[layer->input[k]] = i;
      if (source->weight && trace->last[source->input[0]] < i) trace->last[source->input[0]] = i;
    }
  }
}

qe_status qe_trace_open(qe_trace *trace, qe_queue *queue, const qe_network *network, qe_buffer *pixels,
                        int32_t images) {
  *trace = (qe_trace){.queue = queue, .network = network, .pixels = pixels, .images = images};
  trace->tensor = QE_NEW_ARRAY(qe_buffer *, network->layers);
  trace->last = QE_NEW_ARRAY(int32_t, network->layers);
  if (trace->tensor && trace->last) {
    find_last(trace);
    return QE_OK;
  }
  qe_trace_close(trace);
  return QE_NO_MEMORY;
}

void qe_trace_close(qe_trace *trace) {
  for (size_t i = 0; trace->tensor && i < trace->network->layers; i++) qe_buffer_free(trace->tensor[i]);
  qe_free(trace->tensor);
  qe_free(trace->last);
  memset(trace, 0, sizeof *trace);
}

void qe_trace_forget(qe_trace *trace, int32_t at) {
  for (int32_t i = 0; i <= at; i++) {
    if (trace->last[i] > at) continue;
    qe_buffer_free(trace->tensor[i]);
    trace->tensor[i] = NULL;
  }
}

qe_desc qe_trace_desc(const qe_trace *trace, int32_t at) {
  qe_desc desc = trace->network->layer[at].output;
  desc.dim[QE_N] = trace->images;
  return desc;
}

/* ---- layers ---- */

static qe_status gather(qe_trace *trace, qe_buffer *result) {
  qe_desc images = qe_trace_desc(trace, 0), output = images;
  images.dtype = QE_U8;
  int32_t *order = QE_NEW_ARRAY(int32_t, trace->images);
  qe_buffer *index = NULL;
  if (!order) return QE_NO_MEMORY;
  for (int32_t i = 0; i < trace->images; i++) order[i] = i;
  qe_call call = {.op = QE_OP_int_gather, .attrs = {.images = trace->images}};
  qe_status status = qe_trace_upload(trace->queue, order, (size_t)trace->images * sizeof *order, &index);
  if (status == QE_OK) {
    qe_operand_set(&call.operand[0], images, trace->pixels, 0);
    qe_operand_set(&call.operand[1], qe_map(QE_S32, trace->images, 1, 1, 1), index, 0);
    qe_operand_set(&call.operand[2], output, result, 0);
    status = qe_trace_call(trace->queue, &call);
  }
  qe_buffer_free(index);
  qe_free(order);
  return status;
}

qe_desc qe_trace_input_desc(const qe_trace *trace, const qe_network_layer *layer) {
  qe_desc desc = qe_trace_desc(trace, layer->input[0]);
  int32_t inputs = layer->weight_desc.dim[QE_C] * layer->attrs.window.groups;
  if (desc.dim[QE_C] == inputs) return desc;
  return qe_map(desc.dtype, trace->images, 1, 1, inputs);
}

static qe_status convolve(qe_trace *trace, const qe_network_layer *layer, qe_desc output, qe_buffer *result) {
  qe_buffer *weight = NULL;
  qe_call call = {.op = layer->op, .attrs = layer->attrs};
  qe_status status = qe_trace_upload(trace->queue, layer->weight, qe_bytes(&layer->weight_desc), &weight);
  if (status == QE_OK) {
    qe_operand_set(&call.operand[0], qe_trace_input_desc(trace, layer), trace->tensor[layer->input[0]], 0);
    qe_operand_set(&call.operand[1], layer->weight_desc, weight, 0);
    qe_operand_set(&call.operand[2], output, result, 0);
    status = qe_trace_call(trace->queue, &call);
  }
  qe_buffer_free(weight);
  return status;
}

static qe_status requantise(qe_trace *trace, const qe_network_layer *layer, qe_buffer *result) {
  qe_desc desc[2] = {qe_trace_desc(trace, layer->input[0]), qe_trace_desc(trace, layer->input[layer->inputs - 1])};
  qe_buffer *value[2] = {trace->tensor[layer->input[0]], trace->tensor[layer->input[layer->inputs - 1]]};
  qe_trace_requant how = {.multiplier = {layer->multiplier[0], layer->multiplier[1]},
                          .offset = layer->offset,
                          .requant = layer->attrs.requant};
  return qe_trace_requantise(trace->queue, layer->inputs, desc, value, &how, result);
}

/* Ops without constants: codes in, codes or sums out. */
static qe_status move(qe_trace *trace, const qe_network_layer *layer, qe_desc output, qe_buffer *result) {
  qe_call call = {.op = layer->op, .attrs = layer->attrs};
  qe_operand_set(&call.operand[0], qe_trace_desc(trace, layer->input[0]), trace->tensor[layer->input[0]], 0);
  qe_operand_set(&call.operand[1], output, result, 0);
  return qe_trace_call(trace->queue, &call);
}

qe_status qe_trace_requantise(qe_queue *queue, int branches, const qe_desc desc[2], qe_buffer *const value[2],
                              const qe_trace_requant *how, qe_buffer *result) {
  int32_t channels = desc[0].dim[QE_C];
  qe_desc vector = qe_vector(QE_S32, channels), offsets = qe_vector(QE_S64, channels), output = desc[0];
  qe_buffer *multiplier[2] = {NULL, NULL}, *offset = NULL;
  qe_call call = {.op = branches == 2 ? QE_OP_int_requant_add : QE_OP_int_requant, .attrs = {.requant = how->requant}};
  call.attrs.requant.from = desc[branches - 1].dtype;
  output.dtype = how->requant.to;
  int at = 0;
  qe_status status = qe_trace_upload(queue, how->offset, qe_bytes(&offsets), &offset);
  for (int b = 0; status == QE_OK && b < branches && b < 2; b++) {
    status = qe_trace_upload(queue, how->multiplier[b], qe_bytes(&vector), &multiplier[b]);
    if (status != QE_OK) break;
    qe_operand_set(&call.operand[at++], desc[b], value[b], 0);
    qe_operand_set(&call.operand[at++], vector, multiplier[b], 0);
  }
  if (status == QE_OK) {
    qe_operand_set(&call.operand[at++], offsets, offset, 0);
    qe_operand_set(&call.operand[at], output, result, 0);
    status = qe_trace_call(queue, &call);
  }
  qe_buffer_free(multiplier[0]);
  qe_buffer_free(multiplier[1]);
  qe_buffer_free(offset);
  return status;
}

qe_status qe_trace_run(qe_trace *trace, int32_t at) {
  const qe_network_layer *layer = &trace->network->layer[at];
  qe_desc output = qe_trace_desc(trace, at);
  if (!trace->tensor[at]) QE_TRY(qe_buffer_new(trace->queue->device, qe_bytes(&output), &trace->tensor[at]));
  qe_buffer *result = trace->tensor[at];
  qe_status status = layer->inputs == 0 ? gather(trace, result)
                     : layer->weight    ? convolve(trace, layer, output, result)
                     : layer->offset    ? requantise(trace, layer, result)
                                        : move(trace, layer, output, result);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "integer layer %s", layer->name);
}
