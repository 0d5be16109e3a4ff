/* The program of a training step: images, the network and its local heads forward, errors backward, votes. */
#include "core/base/alloc.h"
#include "core/evolve/scratch_build_internal.h"

#include <string.h>

/* ---- calls ---- */

qe_status qe_scratch_bind_block(const qe_scratch_builder *b, const char *name, qe_desc desc, const qe_block *block,
                                size_t at, qe_value *value) {
  return qe_program_bind(b->program, name, desc, block->buffer, at, value);
}

/* Sums of a value by channel and of its products with another. */
static qe_status call_sums(const qe_scratch_builder *b, qe_value value, qe_value with, const qe_value sums[2]) {
  qe_attrs attrs = {.requant = {.from = qe_program_desc(b->program, with).dtype}};
  return qe_program_call(b->program, QE_OP_int_channel_sums, &attrs, (qe_value[]){value, with, sums[0], sums[1]});
}

qe_status qe_scratch_sums(const qe_scratch_builder *b, qe_value value, size_t at, qe_value sums[2]) {
  qe_desc channels = qe_vector(QE_S64, qe_program_desc(b->program, value).dim[QE_C]);
  qe_value own[2];
  QE_TRY(qe_scratch_bind_block(b, "sums", channels, &b->trainer->results, at, &own[0]));
  QE_TRY(qe_scratch_bind_block(b, "squares", channels, &b->trainer->results, at + qe_bytes(&channels), &own[1]));
  for (int k = 0; sums && k < 2; k++) sums[k] = own[k];
  return call_sums(b, value, value, own);
}

/* e where the code of `y` lies between low and high. */
qe_status qe_scratch_gate(const qe_scratch_builder *b, qe_value e, qe_value y, int32_t low, int32_t high,
                          qe_value *gated) {
  qe_desc desc = qe_program_desc(b->program, e);
  qe_attrs attrs = {.requant = {.low = low, .high = high, .from = qe_program_desc(b->program, y).dtype}};
  QE_TRY(qe_program_temp(b->program, "gated", desc, gated));
  return qe_program_call(b->program, QE_OP_int_gate, &attrs, (qe_value[]){e, y, *gated});
}

/* Values of a maker's requantiser. */
typedef struct maker_values {
  qe_value input[2], m[2], offset;
} maker_values;

static qe_status call_maker(const qe_scratch_builder *b, const qe_error_maker *maker, const maker_values *of,
                            qe_value *made) {
  qe_desc desc = qe_program_desc(b->program, of->input[0]);
  int32_t most = qe_error_most(maker);
  qe_requant requant = {.shift = QE_ERROR_SHIFT, .low = -most, .high = most, .to = QE_S8, .from = QE_S8};
  if (maker->inputs == 2) requant.from = qe_program_desc(b->program, of->input[1]).dtype;
  qe_attrs attrs = {.requant = requant};
  desc.dtype = QE_S8;
  QE_TRY(qe_program_temp(b->program, "error", desc, made));
  if (maker->inputs == 1)
    return qe_program_call(b->program, QE_OP_int_requant, &attrs,
                           (qe_value[]){of->input[0], of->m[0], of->offset, *made});
  return qe_program_call(b->program, QE_OP_int_requant_add, &attrs,
                         (qe_value[]){of->input[0], of->m[0], of->input[1], of->m[1], of->offset, *made});
}

static qe_status bind_multiplier(const qe_scratch_builder *b, const qe_error_maker *maker, int input, qe_value *m) {
  return qe_scratch_bind_block(b, "m", qe_vector(QE_S32, maker->channels), &b->trainer->errors,
                               maker->multiplier[input], m);
}

qe_status qe_scratch_maker(const qe_scratch_builder *b, const qe_error_maker *maker, const qe_value *input,
                           qe_value *made) {
  maker_values of = {.input = {input[0], maker->inputs == 2 ? input[1] : QE_NONE}};
  for (int k = 0; k < maker->inputs; k++) QE_TRY(bind_multiplier(b, maker, k, &of.m[k]));
  QE_TRY(qe_scratch_bind_block(b, "offset", qe_vector(QE_S64, maker->channels), &b->trainer->errors, maker->offset,
                               &of.offset));
  return call_maker(b, maker, &of, made);
}

qe_status qe_scratch_norm_maker(const qe_scratch_builder *b, const qe_error_maker *maker, qe_value error, qe_value sums,
                                const qe_value stats[2], qe_value *made) {
  qe_desc map = qe_program_desc(b->program, error), channels = qe_vector(QE_S64, maker->channels);
  qe_attrs attrs = {.images = (int32_t)(qe_count(&map) / maker->channels), .requant = {.shift = QE_ERROR_SHIFT}};
  maker_values of = {.input = {error, sums}};
  qe_value products[2];
  for (int k = 0; k < 2; k++) QE_TRY(qe_program_temp(b->program, "error sums", channels, &products[k]));
  QE_TRY(call_sums(b, error, sums, products));
  QE_TRY(bind_multiplier(b, maker, 0, &of.m[0]));
  QE_TRY(qe_program_temp(b->program, "slope", qe_vector(QE_S32, maker->channels), &of.m[1]));
  QE_TRY(qe_program_temp(b->program, "offset", channels, &of.offset));
  QE_TRY(qe_program_call(b->program, QE_OP_int_norm_grad, &attrs,
                         (qe_value[]){products[0], products[1], stats[0], stats[1], of.m[0], of.m[1], of.offset}));
  return call_maker(b, maker, &of, made);
}

/* ---- forward ---- */

qe_status qe_scratch_images(qe_scratch_builder *b) {
  const qe_scratch *t = b->trainer;
  const qe_dataset *data = t->data;
  int32_t batch = (int32_t)t->options.batch;
  qe_desc map = qe_map(QE_U8, batch, data->height, data->width, data->channels), codes = map, store = map;
  qe_desc row = qe_map(QE_S32, batch, 1, 1, 1);
  qe_attrs augment = {
      .images = data->train_images, .pad = t->options.pad, .flip = t->options.flip, .cutout = t->options.cutout};
  qe_attrs gather = {.images = batch};
  qe_value images, index, iota, counter, x;
  codes.dtype = QE_S8;
  store.dim[QE_N] = data->train_images;
  QE_TRY(qe_program_bind(b->program, "images", store, t->pixels, 0, &images));
  QE_TRY(qe_scratch_bind_block(b, "index", row, &t->batch, t->index, &index));
  QE_TRY(qe_scratch_bind_block(b, "iota", row, &t->batch, t->iota, &iota));
  QE_TRY(qe_scratch_bind_block(b, "labels", row, &t->batch, t->labels, &b->labels));
  QE_TRY(qe_scratch_bind_block(b, "counter", qe_vector(QE_S32, 4), &t->batch, t->counter, &counter));
  QE_TRY(qe_program_temp(b->program, "augmented", map, &x));
  QE_TRY(qe_program_temp(b->program, "input", codes, &b->tensor[0]));
  memcpy(augment.jitter, t->options.jitter, sizeof augment.jitter);
  QE_TRY(qe_program_call(b->program, QE_OP_int_augment, &augment, (qe_value[]){images, index, counter, x}));
  return qe_program_call(b->program, QE_OP_int_gather, &gather, (qe_value[]){x, iota, b->tensor[0]});
}

/* Whether a requantiser's sums fit 32 bits whatever the codes are: its multipliers are bounded (scratch_norm.c). */
static bool is_narrow(const qe_scratch_plan *plan, size_t at) {
  const qe_network_layer *layer = &plan->network->layer[at];
  const qe_scratch_unit *unit = NULL;
  for (size_t i = 0; i < plan->units; i++)
    if (plan->unit[i].requant == (int32_t)at) unit = &plan->unit[i];
  if (!unit) return layer->attrs.requant.narrow;
  if (unit->conv == QE_NONE || qe_unit_is_logits(plan, unit)) return false;
  const qe_network_layer *conv = &plan->network->layer[unit->conv];
  const qe_network_layer *input = &plan->network->layer[conv->input[0]];
  int64_t code = input->high > -input->low ? input->high : -input->low;
  int64_t weight = conv->grid.high > -conv->grid.low ? conv->grid.high : -conv->grid.low;
  int64_t reach = qe_count(&conv->weight_desc) / conv->weight_desc.dim[QE_N] * code * weight;
  return reach * QE_MOST_MULTIPLIER < INT64_C(1) << 30;
}

qe_status qe_scratch_layers(qe_scratch_builder *b, int32_t start, int32_t stop, qe_value *tensor) {
  qe_scratch *t = b->trainer;
  size_t layers = b->plan->network->layers;
  bool *varies = QE_NEW_ARRAY(bool, layers), *narrow = QE_NEW_ARRAY(bool, layers);
  qe_tensor_place *nowhere = QE_NEW_ARRAY(qe_tensor_place, layers);
  qe_network_part part = {.network = b->plan->network,
                          .start = start,
                          .stop = stop,
                          .population = b->candidates,
                          .batch = (int32_t)t->options.batch,
                          .varies = varies,
                          .narrow = narrow,
                          .shared = t->constants.buffer,
                          .own = b->constants->buffer,
                          .shared_place = t->place,
                          .own_place = b->place,
                          .tensor = nowhere};
  for (size_t i = 0; narrow && varies && i < layers; i++) {
    narrow[i] = b->plan->network->layer[i].offset && is_narrow(b->plan, i);
    varies[i] = b->candidates > 1 && b->plan->network->layer[i].weight;
  }
  qe_status status =
      varies && narrow && nowhere ? qe_network_program_add(b->program, &part, tensor, b->population) : QE_NO_MEMORY;
  qe_free(varies);
  qe_free(narrow);
  qe_free(nowhere);
  return status;
}

qe_status qe_scratch_loss(const qe_scratch_builder *b, qe_value logits, size_t loss, size_t hits) {
  const qe_scratch *t = b->trainer;
  qe_desc row = qe_map(QE_S32, (int32_t)t->options.batch, 1, 1, 1);
  qe_value losses, right;
  qe_attrs attrs = {0};
  QE_TRY(qe_scratch_bind_block(b, "loss", row, &t->results, loss, &losses));
  QE_TRY(qe_scratch_bind_block(b, "hits", row, &t->results, hits, &right));
  return qe_program_call(b->program, QE_OP_int_loss, &attrs, (qe_value[]){logits, b->labels, losses, right});
}

/* ---- the whole ---- */

static qe_status build(qe_scratch_builder *b) {
  const qe_network *network = b->plan->network;
  for (size_t i = 0; i < network->layers; i++) b->tensor[i] = QE_NONE;
  QE_TRY(qe_scratch_images(b));
  QE_TRY(qe_scratch_layers(b, 1, (int32_t)network->layers, b->tensor));
  QE_TRY(qe_scratch_loss(b, b->tensor[b->plan->own - 1], b->trainer->loss, b->trainer->hits));
  QE_TRY(qe_scratch_noise(b));
  for (size_t i = b->plan->units; i-- > 0;) QE_TRY(qe_scratch_errors(b, i));
  int64_t own = 0;
  for (size_t i = 0; i < network->layers; i++) {
    b->macs += qe_network_macs(network, i);
    if (i < b->plan->own) own += qe_network_macs(network, i);
  }
  if (own < 1) own = 1; /* a network without convolutions */
  b->trainer->cost = (b->trainer->options.batch * b->macs + own / 2) / own;
  return qe_program_plan(b->program, NULL);
}

qe_status qe_scratch_build(qe_scratch *trainer) {
  qe_scratch_plan *plan = trainer->plan;
  qe_scratch_builder b = {.trainer = trainer, .plan = plan, .candidates = 1, .constants = &trainer->constants};
  size_t layers = plan->network->layers;
  trainer->place = QE_NEW_ARRAY(qe_constant_places, layers);
  trainer->moves = QE_NEW_ARRAY(size_t, layers);
  b.place = trainer->place;
  b.tensor = QE_NEW_ARRAY(qe_value, layers);
  b.population = QE_NEW_ARRAY(int32_t, layers);
  b.target = QE_NEW_ARRAY(qe_error_target, plan->units);
  qe_status status = trainer->place && trainer->moves && b.tensor && b.population && b.target ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_scratch_memory(trainer);
  if (status == QE_OK) status = qe_program_new(trainer->queue->device, "training step", &trainer->program);
  b.program = trainer->program;
  if (status == QE_OK) status = build(&b);
  if (status == QE_OK && trainer->options.source == QE_SCRATCH_RANK1) status = qe_scratch_build_pair(trainer);
  qe_free(b.tensor);
  qe_free(b.population);
  qe_free(b.target);
  return status;
}
