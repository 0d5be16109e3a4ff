/* Second moments of a convolution's inputs and of a target. */
#include "core/evolve/moments.h"

#include "core/base/alloc.h"
#include "core/base/wide.h"

#include <string.h>

void qe_moments_free(qe_moments *moments) {
  qe_free(moments->gram);
  qe_free(moments->input);
  qe_free(moments->cross);
  qe_free(moments->target);
  qe_free(moments->square);
  memset(moments, 0, sizeof *moments);
}

qe_status qe_channel_moments(qe_queue *queue, qe_desc desc, qe_buffer *value, int64_t *sum, int64_t *square) {
  qe_desc sums = qe_vector(QE_S64, desc.dim[QE_C]);
  qe_call call = {.op = QE_OP_int_channel_sums, .attrs = {.requant = {.from = desc.dtype}}};
  qe_buffer *result = NULL;
  QE_TRY(qe_buffer_new(queue->device, 2 * qe_bytes(&sums), &result));
  qe_operand_set(&call.operand[0], desc, value, 0);
  qe_operand_set(&call.operand[1], desc, value, 0);
  qe_operand_set(&call.operand[2], sums, result, 0);
  qe_operand_set(&call.operand[3], sums, result, qe_bytes(&sums));
  qe_status status = qe_trace_call(queue, &call);
  if (status == QE_OK) status = qe_queue_read(queue, result, 0, sum, qe_bytes(&sums));
  if (status == QE_OK) status = qe_queue_read(queue, result, qe_bytes(&sums), square, qe_bytes(&sums));
  if (status == QE_OK) status = qe_queue_wait(queue);
  qe_buffer_free(result);
  return status;
}

/* One call over a convolution's inputs: op(errors, x) or op(x) into sums s64 [count] on the host. */
static qe_status window_sums(const qe_trace *trace, const qe_network_layer *layer, qe_op op, const qe_desc *error,
                             qe_buffer *errors, int64_t *sums) {
  qe_call call = {.op = op, .attrs = layer->attrs};
  qe_desc input = qe_trace_input_desc(trace, layer), desc[QE_MAX_OPERANDS];
  qe_buffer *result = NULL;
  if (error) {
    call.attrs.window.channels = error->dim[QE_C];
    call.attrs.requant.from = error->dtype;
  }
  int at = 0;
  QE_TRY(qe_op_shapes(op, &call.attrs, &input, desc));
  if (error) qe_operand_set(&call.operand[at++], *error, errors, 0);
  qe_operand_set(&call.operand[at++], input, trace->tensor[layer->input[0]], 0);
  QE_TRY(qe_buffer_new(trace->queue->device, qe_bytes(&desc[at]), &result));
  qe_operand_set(&call.operand[at], desc[at], result, 0);
  qe_status status = qe_trace_call(trace->queue, &call);
  if (status == QE_OK) status = qe_queue_read(trace->queue, result, 0, sums, qe_bytes(&desc[at]));
  if (status == QE_OK) status = qe_queue_wait(trace->queue);
  qe_buffer_free(result);
  return status;
}

/* Sums of the inputs themselves: correlation with a map of ones. */
static qe_status input_sums(const qe_trace *trace, const qe_network_layer *layer, qe_desc error, int64_t *sums) {
  error.dtype = QE_S8;
  error.dim[QE_C] = 1;
  int8_t *ones = qe_alloc(qe_bytes(&error));
  qe_buffer *errors = NULL;
  if (!ones) return QE_NO_MEMORY;
  memset(ones, 1, qe_bytes(&error));
  qe_status status = qe_trace_upload(trace->queue, ones, qe_bytes(&error), &errors);
  if (status == QE_OK) status = window_sums(trace, layer, QE_OP_int_conv2d_grad_w, &error, errors, sums);
  qe_buffer_free(errors);
  qe_free(ones);
  return status;
}

static qe_status take(const qe_trace *trace, int32_t conv, qe_buffer *q, qe_moments *moments) {
  const qe_network_layer *layer = &trace->network->layer[conv];
  qe_desc error = qe_trace_desc(trace, conv);
  QE_TRY(window_sums(trace, layer, QE_OP_int_gram, NULL, NULL, moments->gram));
  QE_TRY(window_sums(trace, layer, QE_OP_int_conv2d_grad_w, &error, q, moments->cross));
  QE_TRY(input_sums(trace, layer, error, moments->input));
  return qe_channel_moments(trace->queue, error, q, moments->target, moments->square);
}

qe_status qe_moments_new(const qe_trace *trace, int32_t conv, qe_buffer *q, qe_moments *moments) {
  const qe_network_layer *layer = &trace->network->layer[conv];
  const int32_t *out = layer->output.dim, outputs = layer->weight_desc.dim[QE_N];
  int32_t inputs = (int32_t)(qe_count(&layer->weight_desc) / outputs);
  *moments = (qe_moments){.inputs = inputs,
                          .outputs = outputs,
                          .count = (int64_t)trace->images * out[QE_H] * out[QE_W],
                          .gram = QE_NEW_ARRAY(int64_t, (int64_t)inputs * inputs),
                          .input = QE_NEW_ARRAY(int64_t, inputs),
                          .cross = QE_NEW_ARRAY(int64_t, (int64_t)outputs * inputs),
                          .target = QE_NEW_ARRAY(int64_t, outputs),
                          .square = QE_NEW_ARRAY(int64_t, outputs)};
  bool all = moments->gram && moments->input && moments->cross && moments->target && moments->square;
  qe_status status = all ? QE_OK : QE_NO_MEMORY;
  if (all) status = take(trace, conv, q, moments);
  if (status != QE_OK) qe_moments_free(moments);
  return status;
}

/* ---- about the means ---- */

/* a * b / n, to nearest. */
static int64_t product_over(int64_t a, int64_t b, int64_t n) {
  qe_s128 product = (qe_s128)a * b, half = n / 2;
  return (int64_t)((product + (product < 0 ? -half : half)) / n);
}

void qe_moments_centre(qe_moments *m) {
  for (int64_t k = 0; k < m->inputs; k++)
    for (int64_t j = 0; j < m->inputs; j++)
      m->gram[k * m->inputs + j] -= product_over(m->input[k], m->input[j], m->count);
  for (int64_t o = 0; o < m->outputs; o++) {
    for (int64_t k = 0; k < m->inputs; k++)
      m->cross[o * m->inputs + k] -= product_over(m->target[o], m->input[k], m->count);
    m->square[o] -= product_over(m->target[o], m->target[o], m->count);
  }
}

void qe_moments_less(qe_moments *m, const int64_t *constant) {
  for (int64_t o = 0; o < m->outputs; o++) {
    for (int64_t k = 0; k < m->inputs; k++) m->cross[o * m->inputs + k] -= constant[o] * m->input[k];
    m->square[o] += constant[o] * (constant[o] * m->count - 2 * m->target[o]);
    m->target[o] -= constant[o] * m->count;
  }
}
