/* Integer back-propagation through a whole network. */
#include "core/evolve/backward.h"

#include "core/base/alloc.h"
#include "core/evolve/fitness_parts.h"
#include "core/evolve/trace_view.h"

#include <string.h>

enum { ERROR_BITS = 24, MEAN_ERROR = 12, MOST_ERROR = 127, TARGET_ONE = 1 << 16 };

/* Errors of a tensor, value * 2^exponent; value NULL: none yet. */
typedef struct tensor_error {
  int32_t *value;
  int32_t exponent;
} tensor_error;

typedef struct backward {
  const qe_network *network;
  qe_trace trace;
  int32_t conv;
  bool *depends;       /* [layers]: on the convolution's sums */
  tensor_error *error; /* [layers] */
} backward;

static int64_t magnitude(int64_t value) {
  return value < 0 ? -value : value;
}

static int64_t values_of(const backward *b, int32_t tensor) {
  return (int64_t)b->trace.images * qe_count(&b->network->layer[tensor].output);
}

/* value / 2^shift, halves away from 0. */
static int64_t shifted(int64_t value, int32_t shift) {
  if (shift <= 0) return value;
  int64_t half = INT64_C(1) << (shift - 1);
  return value < 0 ? -((half - value) >> shift) : (half + value) >> shift;
}

static int32_t bits_of(int64_t value) {
  int32_t bits = 0;
  for (; value > 0; value >>= 1) bits++;
  return bits;
}

static int64_t largest_of(const int32_t *value, int64_t count) {
  int64_t most = 0;
  for (int64_t i = 0; i < count; i++) most = magnitude(value[i]) > most ? magnitude(value[i]) : most;
  return most;
}

/* ---- adding errors up ---- */

/* Adds errors of a tensor and takes over their memory. */
static void add_error(backward *b, int32_t tensor, int32_t *value, int32_t exponent) {
  tensor_error *to = &b->error[tensor];
  int64_t count = values_of(b, tensor);
  if (to->value) {
    int32_t unit = exponent > to->exponent ? exponent : to->exponent;
    int32_t own = unit - to->exponent < 31 ? unit - to->exponent : 31,
            other = unit - exponent < 31 ? unit - exponent : 31;
    for (int64_t i = 0; i < count; i++) value[i] = (int32_t)(shifted(to->value[i], own) + shifted(value[i], other));
    exponent = unit;
    qe_free(to->value);
  }
  int32_t excess = bits_of(largest_of(value, count)) - ERROR_BITS;
  for (int64_t i = 0; excess > 0 && i < count; i++) value[i] = (int32_t)shifted(value[i], excess);
  *to = (tensor_error){value, excess > 0 ? exponent + excess : exponent};
}

/* As s8 with a mean of about MEAN_ERROR; *shift by what. */
static int8_t *to_codes(const tensor_error *error, int64_t count, int32_t *shift) {
  int8_t *codes = qe_alloc((size_t)count);
  int64_t sum = 0;
  for (int64_t i = 0; i < count; i++) sum += magnitude(error->value[i]);
  for (*shift = 0; sum >> *shift > 2 * MEAN_ERROR * count;) ++*shift;
  for (int64_t i = 0; codes && i < count; i++) {
    int64_t code = shifted(error->value[i], *shift);
    codes[i] = (int8_t)(code > MOST_ERROR ? MOST_ERROR : code < -MOST_ERROR ? -MOST_ERROR : code);
  }
  return codes;
}

/* ---- layers ---- */

/* Distribution of the logits less the target's. */
static qe_status start(backward *b, const qe_fitness_view *view, int32_t first) {
  int32_t last = (int32_t)b->network->layers - 1, classes = view->classes,
          *share = QE_NEW_ARRAY(int32_t, view->classes);
  int64_t count = values_of(b, last);
  int32_t *logits = QE_NEW_ARRAY(int32_t, count), *value = QE_NEW_ARRAY(int32_t, count);
  qe_status status = logits && value && share ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK)
    status = qe_queue_read(b->trace.queue, b->trace.tensor[last], 0, logits, (size_t)count * sizeof *logits);
  if (status == QE_OK) status = qe_queue_wait(b->trace.queue);
  for (int64_t i = 0; status == QE_OK && i < b->trace.images; i++) {
    int32_t *to = value + i * classes;
    qe_fitness_distribution(logits + i * classes, classes, 1, share);
    for (int32_t j = 0; view->loss != QE_FITNESS_TEACHER && j < classes; j++)
      to[j] += share[j] - (view->labels[first + i] == j ? TARGET_ONE : 0);
    if (view->loss == QE_FITNESS_LABELS) continue;
    qe_fitness_distribution(logits + i * classes, classes, view->temperature, share);
    for (int32_t j = 0; j < classes; j++)
      to[j] += view->temperature * (share[j] - view->target[(first + i) * classes + j]);
  }
  qe_free(logits);
  qe_free(share);
  if (status == QE_OK)
    add_error(b, last, value, 0);
  else
    qe_free(value);
  return status;
}

/* 1 where a requantiser's code lies between the ends of its clamp. */
static qe_status find_open(const backward *b, int32_t at, uint8_t *open) {
  const qe_network_layer *layer = &b->network->layer[at];
  int64_t count = values_of(b, at);
  memset(open, 1, (size_t)count);
  if (layer->output.dtype == QE_S32) return QE_OK;
  QE_TRY(qe_queue_read(b->trace.queue, b->trace.tensor[at], 0, open, (size_t)count));
  QE_TRY(qe_queue_wait(b->trace.queue));
  for (int64_t i = 0; i < count; i++) {
    int32_t code = layer->output.dtype == QE_S8 ? (int8_t)open[i] : open[i];
    open[i] = code > layer->attrs.requant.low && code < layer->attrs.requant.high;
  }
  return QE_OK;
}

static qe_status through_requant(backward *b, int32_t at) {
  const qe_network_layer *layer = &b->network->layer[at];
  const tensor_error *from = &b->error[at];
  int64_t count = values_of(b, at), channels = layer->output.dim[QE_C];
  uint8_t *open = qe_alloc((size_t)count);
  qe_status status = open ? find_open(b, at, open) : QE_NO_MEMORY;
  for (int k = 0; status == QE_OK && k < layer->inputs; k++) {
    const int32_t *m = layer->multiplier[k];
    if (!b->depends[layer->input[k]]) continue;
    int32_t *value = QE_NEW_ARRAY(int32_t, count);
    int32_t shift = bits_of(largest_of(m, channels)) + bits_of(largest_of(from->value, count)) - ERROR_BITS;
    if (shift < 0) shift = 0;
    for (int64_t i = 0; value && i < count; i++)
      value[i] = open[i] ? (int32_t)shifted((int64_t)from->value[i] * m[i % channels], shift) : 0;
    if (value)
      add_error(b, layer->input[k], value, from->exponent + shift - layer->attrs.requant.shift);
    else
      status = QE_NO_MEMORY;
  }
  qe_free(open);
  return status;
}

static qe_status grad_x(backward *b, int32_t at, const int8_t *codes, int32_t *value) {
  const qe_network_layer *layer = &b->network->layer[at];
  qe_desc errors = qe_trace_desc(&b->trace, at), input = qe_trace_input_desc(&b->trace, layer);
  qe_queue *queue = b->trace.queue;
  qe_buffer *error = NULL, *weight = NULL, *result = NULL;
  errors.dtype = QE_S8;
  input.dtype = QE_S32;
  qe_call call = {.op = QE_OP_int_conv2d_grad_x, .attrs = {.window = layer->attrs.window}};
  qe_status status = qe_trace_upload(queue, codes, qe_bytes(&errors), &error);
  if (status == QE_OK) status = qe_trace_upload(queue, layer->weight, qe_bytes(&layer->weight_desc), &weight);
  if (status == QE_OK) status = qe_buffer_new(queue->device, qe_bytes(&input), &result);
  if (status == QE_OK) {
    call.attrs.requant.from = QE_S8;
    qe_operand_set(&call.operand[0], errors, error, 0);
    qe_operand_set(&call.operand[1], layer->weight_desc, weight, 0);
    qe_operand_set(&call.operand[2], input, result, 0);
    status = qe_trace_call(queue, &call);
  }
  if (status == QE_OK) status = qe_queue_read(queue, result, 0, value, qe_bytes(&input));
  if (status == QE_OK) status = qe_queue_wait(queue);
  qe_buffer_free(error);
  qe_buffer_free(weight);
  qe_buffer_free(result);
  return status;
}

static qe_status through_conv(backward *b, int32_t at) {
  int32_t input = b->network->layer[at].input[0], shift;
  int8_t *codes = to_codes(&b->error[at], values_of(b, at), &shift);
  int32_t *value = QE_NEW_ARRAY(int32_t, values_of(b, input));
  qe_status status = codes && value ? grad_x(b, at, codes, value) : QE_NO_MEMORY;
  qe_free(codes);
  if (status == QE_OK)
    add_error(b, input, value, b->error[at].exponent + shift);
  else
    qe_free(value);
  return status;
}

/* Of one output pixel to the input pixels that it was made of: a window's, or one. */
static void spread(const backward *b, int32_t at, int64_t image, int64_t row, int64_t column, int32_t *value) {
  const qe_network_layer *layer = &b->network->layer[at];
  const int32_t *in = b->network->layer[layer->input[0]].output.dim, *out = layer->output.dim;
  const qe_window *window = &layer->attrs.window;
  bool pool = layer->op == QE_OP_int_sum_pool;
  const int32_t *error = b->error[at].value + ((image * out[QE_H] + row) * out[QE_W] + column) * out[QE_C];
  int64_t before = pool ? 0 : layer->attrs.pad_channels[0];
  for (int64_t kh = 0; kh < (pool ? window->kernel[0] : 1); kh++)
    for (int64_t kw = 0; kw < (pool ? window->kernel[1] : 1); kw++) {
      int64_t h = row * window->stride[0] - (pool ? window->pad[0] : 0) + kh;
      int64_t w = column * window->stride[1] - (pool ? window->pad[1] : 0) + kw;
      if (h < 0 || h >= in[QE_H] || w < 0 || w >= in[QE_W]) continue;
      int32_t *to = value + ((image * in[QE_H] + h) * in[QE_W] + w) * in[QE_C];
      for (int64_t c = 0; c < in[QE_C]; c++) to[c] += error[c + before];
    }
}

/* Windows that overlap could add up to more than fits; ERROR_BITS leave room for 64. */
static qe_status through_move(backward *b, int32_t at) {
  int32_t input = b->network->layer[at].input[0];
  const int32_t *out = b->network->layer[at].output.dim;
  int32_t *value = QE_NEW_ARRAY(int32_t, values_of(b, input));
  if (!value) return QE_NO_MEMORY;
  for (int64_t image = 0; image < b->trace.images; image++)
    for (int64_t row = 0; row < out[QE_H]; row++)
      for (int64_t column = 0; column < out[QE_W]; column++) spread(b, at, image, row, column, value);
  add_error(b, input, value, b->error[at].exponent);
  return QE_OK;
}

static qe_status through(backward *b, int32_t at) {
  const qe_network_layer *layer = &b->network->layer[at];
  if (layer->offset) return through_requant(b, at);
  return layer->weight ? through_conv(b, at) : through_move(b, at);
}

/* ---- the whole ---- */

/* What depends on the convolution's sums; false where errors cannot come back through some of it. */
static bool find_dependent(const qe_network *network, int32_t conv, bool *depends) {
  for (int32_t i = 0; i < (int32_t)network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    depends[i] = i == conv;
    for (int k = 0; k < layer->inputs; k++) depends[i] = depends[i] || depends[layer->input[k]];
    if (!depends[i]) continue;
    if (layer->op == QE_OP_int_max_pool || (layer->weight && layer->attrs.window.groups != 1)) return false;
  }
  return depends[network->layers - 1] && network->layer[network->layers - 1].output.dim[QE_C] <= 64;
}

bool qe_backward_can(const qe_network *network, int32_t conv) {
  bool *depends = QE_NEW_ARRAY(bool, network->layers);
  bool can = depends && network->layer[conv].op == QE_OP_int_conv2d && find_dependent(network, conv, depends);
  qe_free(depends);
  return can;
}

int64_t qe_backward_cost(const qe_network *network, int32_t conv, int64_t count) {
  int64_t all = 1, rest = 0;
  for (size_t i = 0; i < network->layers; i++) {
    int64_t macs = qe_network_macs(network, i);
    all += macs;
    if ((int32_t)i >= conv) rest += macs;
  }
  return count + (int64_t)(2 * (rest >> 8) * count / ((all >> 8) + 1)) + 1;
}

static qe_status vote(backward *b, const qe_fitness_view *view, int32_t first, int32_t *exponent, int64_t *votes) {
  int32_t shift;
  for (int32_t i = 1; i < (int32_t)b->network->layers; i++) QE_TRY(qe_trace_run(&b->trace, i));
  QE_TRY(start(b, view, first));
  for (int32_t i = (int32_t)b->network->layers - 1; i > b->conv; i--)
    if (b->depends[i] && b->error[i].value) QE_TRY(through(b, i));
  int8_t *codes = to_codes(&b->error[b->conv], values_of(b, b->conv), &shift);
  qe_status status = codes ? qe_trace_votes(&b->trace, b->conv, codes, votes) : QE_NO_MEMORY;
  qe_free(codes);
  if (status != QE_OK) return status;
  int32_t unit = b->error[b->conv].exponent + shift, up = 0;
  if (*exponent == INT32_MIN) *exponent = unit;
  up = unit - *exponent > 16 ? 16 : unit - *exponent;
  for (int64_t i = 0; i < qe_count(&b->network->layer[b->conv].weight_desc); i++)
    votes[i] = up >= 0 ? votes[i] * (INT64_C(1) << up) : shifted(votes[i], up < -62 ? 62 : -up);
  return QE_OK;
}

qe_status qe_backward_vote(qe_device *device, const qe_network *network, int32_t conv, const qe_fitness_view *view,
                           int32_t first, int32_t count, int32_t *exponent, int64_t *votes, int64_t *gram) {
  backward b = {.network = network, .conv = conv};
  qe_queue *queue = NULL;
  b.depends = QE_NEW_ARRAY(bool, network->layers);
  b.error = QE_NEW_ARRAY(tensor_error, network->layers);
  qe_status status = b.depends && b.error ? qe_queue_new(device, &queue) : QE_NO_MEMORY;
  if (status == QE_OK && !find_dependent(network, conv, b.depends))
    status = qe_fail(QE_REFUSED, "%s: errors cannot come back to it", network->layer[conv].name);
  if (status == QE_OK) status = qe_trace_open_view(&b.trace, queue, network, view, first, count);
  if (status == QE_OK) status = vote(&b, view, first, exponent, votes);
  if (status == QE_OK && gram) status = qe_trace_gram(&b.trace, conv, gram);
  qe_trace_close(&b.trace);
  qe_queue_free(queue);
  for (size_t i = 0; b.error && i < network->layers; i++) qe_free(b.error[i].value);
  qe_free(b.error);
  qe_free(b.depends);
  return status;
}
