/* Traces over images of a fitness batch. */
#include "core/evolve/trace_view.h"

#include <string.h>

qe_status qe_trace_open_view(qe_trace *trace, qe_queue *queue, const qe_network *network, const qe_fitness_view *view,
                             int32_t first, int32_t count) {
  memset(trace, 0, sizeof *trace);
  QE_TRY(qe_trace_open(trace, queue, network, view->images, count));
  qe_desc output = qe_trace_desc(trace, 0), images = output;
  images.dtype = QE_U8;
  images.dim[QE_N] = view->image_count;
  qe_buffer *index = NULL;
  QE_TRY(qe_buffer_new(queue->device, qe_bytes(&output), &trace->tensor[0]));
  QE_TRY(qe_trace_upload(queue, view->index + first, (size_t)count * sizeof *view->index, &index));
  qe_call call = {.op = QE_OP_int_gather, .attrs = {.images = view->image_count}};
  qe_operand_set(&call.operand[0], images, view->images, 0);
  qe_operand_set(&call.operand[1], qe_map(QE_S32, count, 1, 1, 1), index, 0);
  qe_operand_set(&call.operand[2], output, trace->tensor[0], 0);
  qe_status status = qe_trace_call(queue, &call);
  qe_buffer_free(index);
  return status;
}

/* A call whose last operand is the result, read to host memory. */
static qe_status run_to_host(const qe_trace *trace, qe_call *call, int operand, qe_desc desc, void *target) {
  qe_buffer *result = NULL;
  QE_TRY(qe_buffer_new(trace->queue->device, qe_bytes(&desc), &result));
  qe_operand_set(&call->operand[operand], desc, result, 0);
  qe_status status = qe_trace_call(trace->queue, call);
  if (status == QE_OK) status = qe_queue_read(trace->queue, result, 0, target, qe_bytes(&desc));
  if (status == QE_OK) status = qe_queue_wait(trace->queue);
  qe_buffer_free(result);
  return status;
}

qe_status qe_trace_gram(const qe_trace *trace, int32_t at, int64_t *gram) {
  const qe_network_layer *conv = &trace->network->layer[at];
  int32_t size = (int32_t)(qe_count(&conv->weight_desc) / conv->weight_desc.dim[QE_N]);
  qe_call call = {.op = QE_OP_int_gram, .attrs = {.window = conv->attrs.window}};
  qe_operand_set(&call.operand[0], qe_trace_input_desc(trace, conv), trace->tensor[conv->input[0]], 0);
  return run_to_host(trace, &call, 1, (qe_desc){QE_S64, {1, size, 1, 1, size}}, gram);
}

qe_status qe_trace_votes(const qe_trace *trace, int32_t at, const int8_t *error, int64_t *votes) {
  const qe_network_layer *conv = &trace->network->layer[at];
  qe_desc errors = qe_trace_desc(trace, at), sums = conv->weight_desc;
  qe_buffer *buffer = NULL;
  errors.dtype = QE_S8;
  sums.dtype = QE_S64;
  QE_TRY(qe_trace_upload(trace->queue, error, qe_bytes(&errors), &buffer));
  qe_call call = {.op = QE_OP_int_conv2d_grad_w, .attrs = {.window = conv->attrs.window}};
  call.attrs.requant.from = QE_S8;
  qe_operand_set(&call.operand[0], errors, buffer, 0);
  qe_operand_set(&call.operand[1], qe_trace_input_desc(trace, conv), trace->tensor[conv->input[0]], 0);
  qe_status status = run_to_host(trace, &call, 2, sums, votes);
  qe_buffer_free(buffer);
  return status;
}
