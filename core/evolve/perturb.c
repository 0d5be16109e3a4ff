/* Node perturbation of one convolution's outputs. */
#include "core/evolve/perturb.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/base/wide.h"
#include "core/evolve/cut.h"
#include "core/evolve/trace_view.h"

#include <string.h>

enum { MOST_PAIRS = 64, MOST_ERROR = 127, MEAN_ERROR = 12 };

struct qe_perturb {
  qe_perturb_options options;
  const qe_network *network;
  int32_t conv, at; /* the convolution, and the requantiser whose codes are perturbed */
  qe_noise noise;
  qe_queue *queue;
  qe_cut cut;
  qe_population *rest;
  int32_t shift;  /* unit of errors: 2^shift; -1: not known yet */
  qe_trace trace; /* of the last vote: holds the convolution's input */
  qe_buffer *codes, *counter, *noisy, *drawn;
  uint8_t *joined, *kept;      /* [images, ...] of the cut, of one kept tensor */
  int8_t *noise_of, *error_of; /* [images, pairs, outputs], [images, outputs] */
  int32_t *sum_of;             /* [images, outputs] */
  int32_t *rows, *labels, *logits;
  int64_t *difference; /* [images, pairs] */
};

/* ---- making ---- */

/* The requantiser that reads a convolution's sums. */
static qe_status find_requantiser(qe_perturb *p) {
  const qe_network *network = p->network;
  const qe_network_layer *conv = &network->layer[p->conv];
  if (conv->op != QE_OP_int_conv2d || conv->attrs.window.groups != 1)
    return qe_fail(QE_REFUSED, "%s is no convolution of one group: it cannot be perturbed", conv->name);
  for (size_t i = (size_t)p->conv + 1; i < network->layers; i++)
    for (int k = 0; k < network->layer[i].inputs; k++)
      if (network->layer[i].input[k] == p->conv) {
        p->at = (int32_t)i;
        if (network->layer[i].output.dtype == QE_U8) return QE_OK;
      }
  return qe_fail(QE_REFUSED, "%s: its sums do not become u8 codes: it cannot be perturbed", conv->name);
}

static void set_noise(qe_perturb *p) {
  const qe_network_layer *layer = &p->network->layer[p->at];
  const qe_requant *requant = &layer->attrs.requant;
  int32_t size = p->options.size > 0 ? p->options.size : (requant->high - requant->low + 1) / 32;
  p->noise = (qe_noise){.draws = 2 * p->options.pairs,
                        .antithetic = 1,
                        .chance = p->options.chance,
                        .size = size > 0 ? size : 1,
                        .block = {p->options.block[0], p->options.block[1]},
                        .channels = layer->output.dim[QE_C],
                        .low = requant->low,
                        .high = requant->high};
}

static qe_status make_buffers(qe_perturb *p) {
  qe_device *device = p->queue->device;
  size_t images = (size_t)p->options.images, draws = images * (size_t)p->noise.draws;
  size_t joined = qe_bytes(&p->cut.desc), outputs = qe_bytes(&p->network->layer[p->at].output);
  QE_TRY(qe_buffer_new(device, images * joined, &p->codes));
  QE_TRY(qe_buffer_new(device, 4 * sizeof(int32_t), &p->counter));
  QE_TRY(qe_buffer_new(device, draws * joined, &p->noisy));
  return qe_buffer_new(device, draws / 2 * outputs, &p->drawn);
}

static qe_status make_arrays(qe_perturb *p) {
  size_t images = (size_t)p->options.images, draws = images * (size_t)p->noise.draws;
  size_t joined = qe_bytes(&p->cut.desc), outputs = qe_bytes(&p->network->layer[p->at].output);
  int32_t classes = p->network->layer[p->network->layers - 1].output.dim[QE_C];
  p->joined = qe_alloc(images * joined);
  p->kept = qe_alloc(images * joined);
  p->noise_of = qe_alloc(draws / 2 * outputs);
  p->error_of = qe_alloc(images * outputs);
  p->sum_of = QE_NEW_ARRAY(int32_t, images * outputs);
  p->rows = QE_NEW_ARRAY(int32_t, draws);
  p->labels = QE_NEW_ARRAY(int32_t, draws);
  p->logits = QE_NEW_ARRAY(int32_t, draws * (size_t)classes);
  p->difference = QE_NEW_ARRAY(int64_t, draws / 2);
  if (!p->joined || !p->kept || !p->noise_of || !p->error_of || !p->sum_of || !p->rows || !p->labels || !p->logits ||
      !p->difference)
    return QE_NO_MEMORY;
  for (size_t i = 0; i < draws; i++) p->rows[i] = (int32_t)i;
  return QE_OK;
}

static qe_status make(qe_perturb *p, qe_device *device) {
  qe_population_options options = {.memory = p->options.memory};
  if (p->options.pairs < 1 || p->options.pairs > MOST_PAIRS || p->options.images < 1)
    return qe_fail(QE_USAGE, "%d pairs of draws of %d images; give 1 to %d of at least one", p->options.pairs,
                   p->options.images, MOST_PAIRS);
  QE_TRY(find_requantiser(p));
  set_noise(p);
  QE_TRY(qe_cut_new(p->network, p->at, &p->cut));
  QE_TRY(qe_queue_new(device, &p->queue));
  QE_TRY(qe_population_new(p->queue, p->cut.rest, NULL, &options, &p->rest));
  QE_TRY(make_buffers(p));
  return make_arrays(p);
}

qe_status qe_perturb_new(qe_device *device, const qe_network *network, int32_t conv, const qe_perturb_options *options,
                         qe_perturb **perturb) {
  qe_perturb *p = QE_NEW(qe_perturb);
  if (!p) return QE_NO_MEMORY;
  p->options = *options;
  p->network = network;
  p->conv = conv;
  p->shift = -1;
  qe_status status = make(p, device);
  if (status == QE_OK)
    *perturb = p;
  else
    qe_perturb_free(p);
  return status;
}

void qe_perturb_free(qe_perturb *p) {
  if (!p) return;
  qe_buffer *const buffers[] = {p->codes, p->counter, p->noisy, p->drawn};
  void *const arrays[] = {p->joined, p->kept,   p->noise_of, p->error_of,  p->sum_of,
                          p->rows,   p->labels, p->logits,   p->difference};
  qe_trace_close(&p->trace);
  qe_population_free(p->rest);
  qe_queue_free(p->queue);
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) qe_buffer_free(buffers[i]);
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) qe_free(arrays[i]);
  qe_cut_free(&p->cut);
  qe_free(p);
}

/* ---- what is known beforehand ---- */

bool qe_perturb_can(const qe_network *network, int32_t conv) {
  qe_perturb p = {.network = network, .conv = conv};
  bool can = find_requantiser(&p) == QE_OK && qe_cut_new(network, p.at, &p.cut) == QE_OK;
  qe_cut_free(&p.cut);
  if (!can) qe_message_clear();
  return can;
}

int64_t qe_perturb_cost(const qe_network *network, int32_t conv, int64_t count, int32_t pairs) {
  int64_t all = 0, rest = 0;
  for (size_t i = 0; i < network->layers; i++) {
    int64_t macs = qe_network_macs(network, i);
    all += macs;
    if ((int32_t)i > conv) rest += macs;
  }
  if (all == 0) return count;
  return count + (int64_t)(((qe_s128)2 * pairs * count * rest + all - 1) / all);
}

/* ---- the network up to the cut ---- */

/* Runs the layers up to the cut and puts the kept tensors side by side. The convolution's input stays in the trace. */
static qe_status run_prefix(const qe_perturb *p, qe_trace *trace) {
  int32_t input = p->network->layer[p->conv].input[0];
  if (trace->last[input] <= p->at) trace->last[input] = p->at + 1;
  for (int32_t i = 1; i <= p->at; i++) {
    QE_TRY(qe_trace_run(trace, i));
    qe_trace_forget(trace, i);
  }
  for (int k = 0; k < p->cut.tensors; k++) {
    qe_desc desc = qe_trace_desc(trace, p->cut.tensor[k]);
    QE_TRY(qe_queue_read(p->queue, trace->tensor[p->cut.tensor[k]], 0, p->kept, qe_bytes(&desc)));
    QE_TRY(qe_queue_wait(p->queue));
    qe_cut_join(&p->cut, p->network, k, p->kept, trace->images, p->joined);
  }
  QE_TRY(qe_queue_write(p->queue, p->codes, 0, p->joined, (size_t)trace->images * qe_bytes(&p->cut.desc)));
  return qe_queue_wait(p->queue);
}

/* ---- noise and losses ---- */

static qe_desc of_images(qe_desc desc, int64_t images) {
  desc.dim[QE_N] = (int32_t)images;
  return desc;
}

static qe_status draw_noise(const qe_perturb *p, uint64_t seed, int32_t first, int32_t count) {
  const qe_desc *output = &p->network->layer[p->at].output;
  int64_t down = (output->dim[QE_H] - 1) / p->noise.block[0] + 1,
          across = (output->dim[QE_W] - 1) / p->noise.block[1] + 1;
  uint64_t words = (uint64_t)(down * across * p->noise.channels + 7) / 8;
  uint64_t position = (uint64_t)first * (uint64_t)p->options.pairs * words;
  const uint32_t counter[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)position, (uint32_t)(position >> 32)};
  QE_TRY(qe_queue_write(p->queue, p->counter, 0, counter, sizeof counter));
  QE_TRY(qe_queue_wait(p->queue));
  qe_desc drawn = of_images(*output, (int64_t)count * p->options.pairs);
  drawn.dtype = QE_S8;
  qe_call call = {.op = QE_OP_int_perturb, .attrs = {.noise = p->noise}};
  qe_operand_set(&call.operand[0], of_images(p->cut.desc, count), p->codes, 0);
  qe_operand_set(&call.operand[1], qe_vector(QE_S32, 4), p->counter, 0);
  qe_operand_set(&call.operand[2], of_images(p->cut.desc, (int64_t)count * p->noise.draws), p->noisy, 0);
  qe_operand_set(&call.operand[3], drawn, p->drawn, 0);
  QE_TRY(qe_trace_call(p->queue, &call));
  QE_TRY(qe_queue_read(p->queue, p->drawn, 0, p->noise_of, qe_bytes(&drawn)));
  return qe_queue_wait(p->queue);
}

/* difference[image][pair] = loss with the noise less loss with its negative. */
static qe_status find_differences(const qe_perturb *p, const qe_fitness_view *view, int32_t first, int32_t count) {
  int32_t draws = p->noise.draws;
  int64_t loss, hits;
  for (int32_t i = 0; i < count * draws; i++) p->labels[i] = view->labels[first + i / draws];
  qe_population_call call = {.images = p->noisy,
                             .image_count = count * draws,
                             .index = p->rows,
                             .labels = p->labels,
                             .count = (int64_t)count * draws,
                             .candidates = 1,
                             .bound = INT64_MAX};
  qe_population_result result = {&loss, &hits, p->logits};
  QE_TRY(qe_population_run(p->rest, &call, &result));
  for (int64_t i = 0; i < (int64_t)count * p->options.pairs; i++) {
    const int32_t *logits = p->logits + 2 * i * view->classes;
    int32_t image = first + (int32_t)(i / p->options.pairs);
    p->difference[i] =
        qe_fitness_loss_of(view, image, logits) - qe_fitness_loss_of(view, image, logits + view->classes);
  }
  return QE_OK;
}

/* ---- errors and votes ---- */

/* A loss difference as it is summed up: a sign, or in units of 2^-12 bits, so bounded that all pairs fit s32. */
static int32_t weight_of(const qe_perturb *p, int64_t difference) {
  const int64_t most = 1 << 24;
  if (p->options.signs) return (difference > 0) - (difference < 0);
  difference /= 16;
  return (int32_t)(difference > most ? most : difference < -most ? -most : difference);
}

/* sum[image][output] = sum over pairs of difference * noise. */
static void sum_noise(const qe_perturb *p, int32_t count) {
  int64_t each = qe_count(&p->network->layer[p->at].output);
  memset(p->sum_of, 0, (size_t)(count * each) * sizeof *p->sum_of);
  for (int64_t pair = 0; pair < (int64_t)count * p->options.pairs; pair++) {
    int32_t *sum = p->sum_of + pair / p->options.pairs * each, weight = weight_of(p, p->difference[pair]);
    const int8_t *noise = p->noise_of + pair * each;
    for (int64_t i = 0; i < each; i++) sum[i] += weight * noise[i];
  }
}

/* The unit in which the mean of the sums is about MEAN_ERROR. */
static void set_unit(qe_perturb *p, int64_t count) {
  if (p->shift >= 0) return;
  int64_t total = 0;
  for (int64_t i = 0; i < count; i++) total += p->sum_of[i] < 0 ? -(int64_t)p->sum_of[i] : p->sum_of[i];
  for (p->shift = 0; total >> p->shift > 2 * MEAN_ERROR * count;) p->shift++;
}

static int8_t in_units(int32_t sum, int32_t shift) {
  int64_t size = sum < 0 ? -(int64_t)sum : sum;
  size = (2 * size + (INT64_C(1) << shift)) >> (shift + 1);
  if (size > MOST_ERROR) size = MOST_ERROR;
  return (int8_t)(sum < 0 ? -size : size);
}

/* Errors of sums: against the sign of the channel's multiplier, and 0 where the code is clamped: no small change of the
 * sum can change it there. */
static void find_errors(qe_perturb *p, int32_t count) {
  const qe_network_layer *layer = &p->network->layer[p->at];
  int branch = layer->input[0] == p->conv ? 0 : 1;
  int64_t all = count * qe_count(&layer->output), channels = layer->output.dim[QE_C], joined = p->cut.desc.dim[QE_C];
  sum_noise(p, count);
  set_unit(p, all);
  for (int64_t i = 0; i < all; i++) {
    int32_t code = p->joined[i / channels * joined + i % channels], m = layer->multiplier[branch][i % channels];
    bool open = code > layer->attrs.requant.low && code < layer->attrs.requant.high;
    int8_t error = open && m != 0 ? in_units(p->sum_of[i], p->shift) : 0;
    p->error_of[i] = (int8_t)(m < 0 ? -error : error);
  }
}

static qe_status vote(qe_perturb *p, qe_trace *trace, const qe_fitness_view *view, uint64_t seed, int32_t first,
                      int64_t *votes) {
  QE_TRY(run_prefix(p, trace));
  QE_TRY(draw_noise(p, seed, first, trace->images));
  QE_TRY(find_differences(p, view, first, trace->images));
  find_errors(p, trace->images);
  return qe_trace_votes(trace, p->conv, p->error_of, votes);
}

qe_status qe_perturb_vote(qe_perturb *p, const qe_fitness_view *view, uint64_t seed, int32_t first, int32_t count,
                          int64_t *votes) {
  if (count < 1 || count > p->options.images || first < 0 || first > view->count - count)
    return qe_fail(QE_SHAPE, "votes of %d images from %d on; the batch has %d, a call at most %d", count, first,
                   view->count, p->options.images);
  qe_trace_close(&p->trace);
  QE_TRY(qe_trace_open_view(&p->trace, p->queue, p->network, view, first, count));
  return vote(p, &p->trace, view, seed, first, votes);
}

qe_status qe_perturb_gram(const qe_perturb *p, int64_t *gram) {
  return qe_trace_gram(&p->trace, p->conv, gram);
}
