/* Steps of a training from scratch: batches in, statistics and votes out, counters and constants moved on the host. */
#include "core/base/alloc.h"
#include "core/data/split.h"
#include "core/evolve/scratch_parts.h"

#include <string.h>

/* ---- start ---- */

static const qe_code_grid bias_grid = {.bits = 5, .low = -15, .spacing = 1, .high = 15};
enum { BIAS_FRACTION = 8, BIAS_SLOWER = 4 /* than weights: every image votes on a bias many times */ };

/* Random weights, whatever codes the network had. */
static qe_status draw_unit(qe_scratch *t, qe_scratch_unit *unit, uint64_t *first) {
  qe_scratch_plan *plan = t->plan;
  int32_t channels = plan->network->layer[unit->requant].output.dim[QE_C];
  bool logits = qe_unit_is_logits(plan, unit);
  if (unit->conv != QE_NONE) {
    qe_network_layer *conv = &plan->network->layer[unit->conv];
    int64_t count = qe_count(&conv->weight_desc);
    int32_t span = logits ? (int32_t)t->options.span / 4 : (int32_t)t->options.span;
    QE_TRY(qe_counters_new(&conv->grid, count, *first, t->seed, span, &unit->weights));
    qe_counters_codes(&unit->weights, conv->weight);
    *first += (uint64_t)count;
  }
  if (!logits) {
    QE_TRY(qe_counters_new(&bias_grid, channels, *first, t->seed, 0, &unit->bias));
    unit->bias.fraction = BIAS_FRACTION;
    memset(unit->bias.value, 0, (size_t)channels * sizeof *unit->bias.value);
    *first += (uint64_t)channels;
  }
  if (unit->source == QE_ERROR_FEEDBACK) {
    unit->feedback_count = (int64_t)channels * plan->network->layer[plan->own - 1].output.dim[QE_C];
    unit->feedback = QE_NEW_ARRAY(int32_t, unit->feedback_count);
    if (!unit->feedback) return QE_NO_MEMORY;
  }
  const qe_desc *output = &plan->network->layer[unit->requant].output;
  unit->error.count = unit->wide.count = unit->above.count = qe_count(output) * t->options.batch;
  unit->error.bits = unit->conv == QE_NONE || logits ? 8 : (int32_t)t->options.error_bits;
  unit->wide.bits = unit->above.bits = 8;
  return qe_norm_new(plan, unit);
}

static qe_status open_trainer(qe_scratch *t, const qe_network *network) {
  const qe_dataset *data = t->data;
  size_t bytes = (size_t)data->train_images * (size_t)(data->height * data->width * data->channels);
  uint64_t first = 0;
  QE_TRY(qe_scratch_plan_new(network, &t->options, &t->plan));
  for (size_t i = 0; i < t->plan->units; i++) QE_TRY(draw_unit(t, &t->plan->unit[i], &first));
  qe_network_prove(t->plan->network);
  t->order = QE_NEW_ARRAY(int32_t, t->images);
  if (!t->order) return QE_NO_MEMORY;
  t->epoch = -1;
  t->warm = (int64_t)t->plan->own;
  QE_TRY(qe_buffer_new(t->queue->device, bytes, &t->pixels));
  QE_TRY(qe_queue_write(t->queue, t->pixels, 0, data->train_pixels, bytes));
  QE_TRY(qe_queue_wait(t->queue));
  return qe_scratch_build(t);
}

qe_status qe_scratch_new(qe_queue *queue, const qe_network *network, const qe_dataset *data, const int32_t *kept,
                         int32_t images, const qe_scratch_options *options, uint64_t seed, qe_scratch **out) {
  qe_scratch *t = QE_NEW(qe_scratch);
  if (!t) return QE_NO_MEMORY;
  t->options = *options;
  t->seed = seed;
  t->queue = queue;
  t->data = data;
  t->kept = kept;
  t->images = images;
  qe_status status = open_trainer(t, network);
  if (status == QE_OK)
    *out = t;
  else
    qe_scratch_free(t);
  return status;
}

static void free_block(qe_block *block) {
  qe_buffer_free(block->buffer);
  qe_free(block->host);
}

void qe_scratch_free(qe_scratch *t) {
  if (!t) return;
  qe_program_free(t->program);
  qe_program_free(t->pair_program);
  qe_buffer_free(t->pixels);
  free_block(&t->batch);
  free_block(&t->constants);
  free_block(&t->errors);
  free_block(&t->results);
  free_block(&t->pair);
  free_block(&t->pair_results);
  qe_scratch_plan_free(t->plan);
  qe_free(t->order);
  qe_free(t->moves);
  qe_free(t->place);
  qe_free(t->pair_place);
  qe_free(t->pattern);
  qe_free(t);
}

/* ---- a step ---- */

enum { RUNNING_PARTS = 8 /* running means over so many batches, about */ };

/* Images of the step: the epochs' orders one after the other. */
static void choose_images(qe_scratch *t) {
  int32_t batch = (int32_t)t->options.batch;
  int32_t *index = (int32_t *)(void *)(t->batch.host + t->index);
  int32_t *labels = (int32_t *)(void *)(t->batch.host + t->labels);
  int64_t position = t->step * batch;
  for (int32_t i = 0; i < batch; i++) {
    int64_t epoch = (position + i) / t->images;
    if (epoch != t->epoch) qe_shuffle(t->seed, (uint64_t)epoch, t->order, t->images);
    t->epoch = epoch;
    index[i] = t->kept[t->order[(position + i) % t->images]];
    labels[i] = t->data->train_labels[index[i]];
  }
  uint64_t counter[2] = {t->seed, (uint64_t)position};
  memcpy(t->batch.host + t->counter, counter, sizeof counter);
}

static void fill_constants(const qe_scratch *t) {
  const qe_network *network = t->plan->network;
  for (size_t i = 0; i < network->layers; i++)
    for (int k = 0; k < QE_NETWORK_CONSTANTS; k++) {
      qe_constant constant = qe_network_constant(&network->layer[i], k);
      if (constant.data) memcpy(t->constants.host + t->place[i].at[k], constant.data, qe_bytes(&constant.desc));
    }
}

static void fill_errors(const qe_scratch *t) {
  for (size_t i = 0; i < t->plan->units; i++) {
    const qe_scratch_unit *unit = &t->plan->unit[i];
    if (unit->above.inputs) qe_error_fill(t, unit, &unit->above);
    if (unit->wide.inputs) qe_error_fill(t, unit, &unit->wide);
    if (unit->error.inputs) qe_error_fill(t, unit, &unit->error);
    if (unit->feedback) qe_scratch_fill_feedback(t, unit);
  }
}

static qe_status send(const qe_scratch *t, const qe_block *block) {
  return qe_queue_write(t->queue, block->buffer, 0, block->host, block->bytes);
}

static qe_status run_step(qe_scratch *t) {
  choose_images(t);
  fill_constants(t);
  fill_errors(t);
  qe_scratch_fill_noise(t);
  QE_TRY(send(t, &t->batch));
  QE_TRY(send(t, &t->constants));
  QE_TRY(send(t, &t->errors));
  QE_TRY(qe_program_run(t->program, t->queue));
  QE_TRY(qe_queue_read(t->queue, t->results.buffer, 0, t->results.host, t->results.bytes));
  return qe_queue_wait(t->queue);
}

static const int64_t *result_at(const qe_scratch *t, size_t at) {
  return (const int64_t *)(const void *)(t->results.host + at);
}

static void adapt(const qe_scratch *t, qe_error_maker *maker, bool fast) {
  if (maker->inputs) qe_error_adapt(maker, result_at(t, maker->sums) + maker->channels, fast);
}

/* The requantiser takes the sums' mean away, and with it the mean of what each weight reads: votes are sums of errors
 * times the distance of the codes from their mean. Without this the weights of a channel drift together, as nothing
 * holds them. */
static void centre_votes(const qe_scratch *t, const qe_scratch_unit *unit) {
  const qe_network_layer *conv = &t->plan->network->layer[unit->conv];
  const int32_t *dim = conv->weight_desc.dim;
  const int64_t *errors = result_at(t, unit->error.sums), *inputs = result_at(t, unit->inputs);
  int64_t taps = (int64_t)dim[QE_H] * dim[QE_W], channels = dim[QE_C];
  int64_t count = qe_count(&t->plan->network->layer[conv->input[0]].output) / channels * t->options.batch;
  int64_t *votes = (int64_t *)(void *)(t->results.host + unit->votes);
  for (int64_t o = 0; o < dim[QE_N]; o++)
    for (int64_t c = 0; c < channels; c++) {
      int64_t mean = (int64_t)((qe_s128)errors[o] * inputs[c] / count);
      for (int64_t tap = 0; tap < taps; tap++) votes[(o * taps + tap) * channels + c] -= mean;
    }
}

/* Sums are divided by their deviation channel by channel, logits by one for all: their weights' size says nothing. The
 * patterns of rank1 are of the grid's size, and their counters may be, too. */
static void vote_weights(const qe_scratch *t, qe_scratch_unit *unit, int32_t rate) {
  int64_t channels = t->plan->network->layer[unit->conv].weight_desc.dim[QE_N];
  int64_t group = qe_unit_is_logits(t->plan, unit) ? unit->weights.count : unit->weights.count / channels;
  if (unit->source != QE_ERROR_NONE) centre_votes(t, unit);
  qe_counters_vote(&unit->weights, result_at(t, unit->votes), (int32_t)t->options.momentum, rate, t->seed,
                   (uint64_t)t->step);
  if (unit->source != QE_ERROR_NONE) qe_counters_hold(&unit->weights, group, t->seed, (uint64_t)t->step);
}

static void vote(const qe_scratch *t, qe_scratch_unit *unit, int32_t rate) {
  if (unit->conv != QE_NONE) vote_weights(t, unit, rate);
  if (unit->bias.value && unit->source != QE_ERROR_NONE)
    qe_counters_vote(&unit->bias, result_at(t, unit->wide.channels ? unit->wide.sums : unit->error.sums),
                     (int32_t)t->options.momentum, (rate + BIAS_SLOWER - 1) / BIAS_SLOWER, t->seed, (uint64_t)t->step);
}

void qe_scratch_refresh(const qe_scratch *t, qe_scratch_unit *unit) {
  if (unit->conv != QE_NONE) qe_counters_codes(&unit->weights, t->plan->network->layer[unit->conv].weight);
  qe_norm_apply(t->plan, unit);
  if (unit->source != QE_ERROR_LOSS) return;
  const qe_network_layer *logits = &t->plan->network->layer[unit->requant];
  unit->error.step = ((uint64_t)logits->multiplier[0][0] << QE_STEP_BITS) >> logits->attrs.requant.shift;
}

static void take_stats(const qe_scratch *t, qe_scratch_unit *unit, int32_t parts) {
  const qe_desc *output = &t->plan->network->layer[unit->requant].output;
  int32_t channels = output->dim[QE_C];
  const int64_t *stats = result_at(t, unit->stats);
  qe_norm_take(&unit->norm, stats, stats + channels, channels, qe_count(output) / channels * t->options.batch, parts);
}

static void move_unit(const qe_scratch *t, qe_scratch_unit *unit, int32_t rate) {
  take_stats(t, unit, rate == 0 ? 1 : RUNNING_PARTS);
  if (unit->feedback) qe_scratch_learn_feedback(t, unit);
  adapt(t, &unit->above, rate == 0);
  adapt(t, &unit->wide, rate == 0);
  adapt(t, &unit->error, rate == 0);
  if (rate > 0) vote(t, unit, rate);
  qe_scratch_refresh(t, unit);
}

static void read_score(const qe_scratch *t, qe_scratch_score *score) {
  const int32_t *loss = (const int32_t *)(const void *)(t->results.host + t->loss);
  const int32_t *hits = (const int32_t *)(const void *)(t->results.host + t->hits);
  for (int32_t i = 0; i < t->options.batch; i++) {
    score->loss += loss[i];
    score->hits += hits[i];
  }
  score->images += t->options.batch;
}

int64_t qe_scratch_cost(const qe_scratch *t) {
  bool pairs = t->pair_program && t->step >= t->warm;
  return t->cost + (pairs ? QE_PAIR * t->options.directions * t->options.batch : 0);
}

qe_status qe_scratch_step(qe_scratch *t, int32_t rate, qe_scratch_score *score) {
  QE_TRY(run_step(t));
  if (rate > 0 && t->pair_program) QE_TRY(qe_scratch_rank_votes(t));
  for (size_t i = 0; i < t->plan->units; i++) move_unit(t, &t->plan->unit[i], rate);
  read_score(t, score);
  t->step++;
  return QE_OK;
}

qe_status qe_scratch_settle(qe_scratch *t, int32_t steps) {
  for (int32_t n = 0; n < steps; n++) {
    QE_TRY(run_step(t));
    for (size_t i = 0; i < t->plan->units; i++) {
      take_stats(t, &t->plan->unit[i], n + 1);
      qe_scratch_refresh(t, &t->plan->unit[i]);
    }
    t->step++;
  }
  return QE_OK;
}

/* ---- results ---- */

void qe_scratch_give_network(const qe_scratch *t, qe_network *network) {
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *from = &t->plan->network->layer[i];
    qe_network_layer *to = &network->layer[i];
    to->attrs.requant.shift = from->attrs.requant.shift;
    if (to->weight) memcpy(to->weight, from->weight, (size_t)qe_count(&to->weight_desc));
    for (int b = 0; b < 2; b++)
      if (to->multiplier[b])
        memcpy(to->multiplier[b], from->multiplier[b], (size_t)to->output.dim[QE_C] * sizeof(int32_t));
    if (to->offset) memcpy(to->offset, from->offset, (size_t)to->output.dim[QE_C] * sizeof(int64_t));
  }
  qe_network_prove(network);
}

int32_t qe_scratch_confident(const qe_scratch *t) {
  int64_t confident = 0, all = 0;
  for (size_t i = 0; i < t->plan->units; i++) {
    const qe_scratch_unit *unit = &t->plan->unit[i];
    if (unit->conv == QE_NONE || unit->local) continue;
    confident += qe_counters_confident(&unit->weights);
    all += unit->weights.count;
  }
  return all ? (int32_t)(confident * 10000 / all) : -1;
}
