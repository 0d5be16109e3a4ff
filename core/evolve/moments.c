/* Second moments of a convolution's inputs and of a target. */
#include "core/evolve/moments.h"

#include "core/base/alloc.h"
#include "core/base/wide.h"

#include <stdlib.h>
#include <string.h>

void qe_moments_free(qe_moments *moments) {
  qe_free(moments->gram);
  qe_free(moments->input);
  qe_free(moments->cross);
  qe_free(moments->target);
  qe_free(moments->square);
  memset(moments, 0, sizeof *moments);
}

/* TEMPORARY host forms */
static void patch(const qe_network_layer *layer, qe_desc in, const uint8_t *x, bool is_signed, int64_t n, int64_t i,
                  int64_t j, int16_t *to, int64_t stride) {
  const qe_window *w = &layer->attrs.window;
  for (int64_t kh = 0; kh < w->kernel[0]; kh++)
    for (int64_t kw = 0; kw < w->kernel[1]; kw++) {
      int64_t row = i * w->stride[0] - w->pad[0] + kh, col = j * w->stride[1] - w->pad[1] + kw;
      for (int64_t c = 0; c < in.dim[QE_C]; c++, to += stride) {
        *to = 0;
        if (row < 0 || col < 0 || row >= in.dim[QE_H] || col >= in.dim[QE_W]) continue;
        uint8_t v = x[((n * in.dim[QE_H] + row) * in.dim[QE_W] + col) * in.dim[QE_C] + c];
        *to = is_signed ? (int16_t)(int8_t)v : (int16_t)v;
      }
    }
}

enum { ROWS = 1024 };
static void flush(qe_moments *m, const int16_t *a, const int32_t *q, int64_t rows) {
  for (int64_t k = 0; k < m->inputs; k++) {
    const int16_t *x = a + k * ROWS;
    for (int64_t l = 0; l <= k; l++) {
      const int16_t *y = a + l * ROWS;
      int32_t sum = 0;
      for (int r = 0; r < ROWS; r++) sum += x[r] * y[r];
      m->gram[k * m->inputs + l] += sum;
    }
    int32_t s = 0;
    for (int r = 0; r < ROWS; r++) s += x[r];
    m->input[k] += s;
  }
  for (int64_t o = 0; o < m->outputs; o++) {
    const int32_t *t = q + o * ROWS;
    int32_t high[ROWS];
    int16_t lo[ROWS], hi[ROWS];
    (void)high;
    for (int r = 0; r < ROWS; r++) {
      int32_t h = (t[r] + (1 << 11)) >> 12;
      hi[r] = (int16_t)h;
      lo[r] = (int16_t)(t[r] - h * 4096);
    }
    for (int64_t k = 0; k < m->inputs; k++) {
      const int16_t *x = a + k * ROWS;
      int32_t s0 = 0, s1 = 0;
      for (int r = 0; r < ROWS; r++) {
        s0 += x[r] * lo[r];
        s1 += x[r] * hi[r];
      }
      m->cross[o * m->inputs + k] += (int64_t)s0 + (int64_t)s1 * 4096;
    }
    for (int64_t r = 0; r < rows; r++) {
      m->target[o] += t[r];
      m->square[o] += (int64_t)t[r] * t[r];
    }
  }
}

static qe_status host_moments(const qe_trace *trace, const qe_network_layer *layer, qe_buffer *q, qe_moments *m) {
  qe_desc in = qe_trace_desc(trace, layer->input[0]), out = layer->output;
  if (in.dim[QE_C] != layer->weight_desc.dim[QE_C])
    in = qe_map(in.dtype, trace->images, 1, 1, layer->weight_desc.dim[QE_C]);
  out.dim[QE_N] = trace->images;
  uint8_t *x = qe_alloc(qe_bytes(&in));
  int32_t *t = qe_alloc(qe_bytes(&out));
  int16_t *a = QE_NEW_ARRAY(int16_t, (int64_t)m->inputs * ROWS);
  int32_t *b = QE_NEW_ARRAY(int32_t, (int64_t)m->outputs * ROWS);
  if (!x || !t || !a || !b) return QE_NO_MEMORY;
  QE_TRY(qe_queue_read(trace->queue, trace->tensor[layer->input[0]], 0, x, qe_bytes(&in)));
  QE_TRY(qe_queue_read(trace->queue, q, 0, t, qe_bytes(&out)));
  QE_TRY(qe_queue_wait(trace->queue));
  int64_t at = 0, p = 0;
  for (int64_t n = 0; n < trace->images; n++)
    for (int64_t i = 0; i < out.dim[QE_H]; i++)
      for (int64_t j = 0; j < out.dim[QE_W]; j++, p++) {
        patch(layer, in, x, in.dtype == QE_S8, n, i, j, a + at, ROWS);
        for (int64_t o = 0; o < m->outputs; o++) b[o * ROWS + at] = t[p * m->outputs + o];
        if (++at == ROWS) {
          flush(m, a, b, at);
          at = 0;
        }
      }
  if (at) {
    for (int64_t k = 0; k < m->inputs; k++)
      for (int64_t r = at; r < ROWS; r++) a[k * ROWS + r] = 0;
    flush(m, a, b, at);
  }
  for (int64_t k = 0; k < m->inputs; k++)
    for (int64_t l = 0; l < k; l++) m->gram[l * m->inputs + k] = m->gram[k * m->inputs + l];
  qe_free(x);
  qe_free(t);
  qe_free(a);
  qe_free(b);
  return QE_OK;
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
  if (all) status = getenv("HOSTM") ? host_moments(trace, layer, q, moments) : take(trace, conv, q, moments);
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
