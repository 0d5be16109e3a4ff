/* The program of a training step: images, the network and its local heads forward, errors backward, votes. */
#include "core/base/alloc.h"
#include "core/evolve/scratch_parts.h"

/* An error on its way to a unit's output. */
typedef struct contribution {
  qe_value value;
  int32_t unit; /* it comes from */
  bool skip;
  int32_t coarser;
} contribution;

typedef struct target {
  contribution from[2];
  int count;
  qe_value error; /* of the unit's sums, s8 */
  qe_value wide;  /* of its output codes, s8 */
} target;

typedef struct builder {
  qe_scratch *trainer;
  qe_scratch_plan *plan;
  qe_program *program;
  qe_value *tensor;    /* [layers] */
  int32_t *population; /* [layers] */
  target *target;      /* [units] */
  qe_value labels;
  int64_t macs; /* of an image */
} builder;

/* ---- memory ---- */

static size_t place(qe_block *block, size_t bytes) {
  size_t at = block->bytes;
  block->bytes += (bytes + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
  return at;
}

static qe_status make_block(const qe_scratch *trainer, qe_block *block) {
  block->host = qe_calloc(block->bytes, 1);
  if (!block->host) return QE_NO_MEMORY;
  return qe_buffer_new(trainer->queue->device, block->bytes, &block->buffer);
}

static bool wants(const qe_scratch_plan *plan, int32_t unit, const qe_scratch_unit *from) {
  if (unit == QE_NONE || plan->unit[unit].source != QE_ERROR_ABOVE) return false;
  return !plan->unit[unit].headed || from->local;
}

static void place_maker(qe_scratch *trainer, qe_error_maker *maker, int32_t channels) {
  maker->channels = channels;
  maker->step = UINT64_C(1) << QE_STEP_BITS;
  for (int b = 0; b < 2; b++) maker->multiplier[b] = place(&trainer->errors, (size_t)channels * sizeof(int32_t));
  maker->offset = place(&trainer->errors, (size_t)channels * sizeof(int64_t));
  maker->sums = place(&trainer->results, 2 * (size_t)channels * sizeof(int64_t));
}

/* Weights that stand for the network's subsamples. */
static void place_moves(qe_scratch *trainer) {
  const qe_network *network = trainer->plan->network;
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    if (layer->op != QE_OP_int_subsample) continue;
    size_t codes = (size_t)layer->output.dim[QE_C] * (size_t)network->layer[layer->input[0]].output.dim[QE_C];
    trainer->moves[i] = place(&trainer->errors, codes);
  }
}

static void fill_moves(const qe_scratch *trainer) {
  const qe_network *network = trainer->plan->network;
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    if (layer->op != QE_OP_int_subsample) continue;
    int32_t inputs = network->layer[layer->input[0]].output.dim[QE_C];
    uint8_t *weight = trainer->errors.host + trainer->moves[i];
    for (int32_t c = 0; c < inputs; c++) {
      int32_t to = c + layer->attrs.pad_channels[0];
      if (to < layer->output.dim[QE_C]) weight[to * inputs + c] = 1;
    }
  }
}

static void place_all(qe_scratch *trainer) {
  place_moves(trainer);
  qe_scratch_plan *plan = trainer->plan;
  size_t row = (size_t)trainer->options.batch * sizeof(int32_t);
  trainer->index = place(&trainer->batch, row);
  trainer->iota = place(&trainer->batch, row);
  trainer->labels = place(&trainer->batch, row);
  trainer->counter = place(&trainer->batch, 4 * sizeof(int32_t));
  trainer->loss = place(&trainer->results, row);
  trainer->hits = place(&trainer->results, row);
  for (size_t i = 0; i < plan->units; i++) {
    qe_scratch_unit *unit = &plan->unit[i];
    int32_t channels = plan->network->layer[unit->requant].output.dim[QE_C];
    unit->stats = place(&trainer->results, 2 * (size_t)channels * sizeof(int64_t));
    place_maker(trainer, &unit->error, channels);
    if (unit->skip != QE_NONE && wants(plan, plan->unit_of[unit->skip], unit))
      place_maker(trainer, &unit->wide, channels);
    if (unit->conv == QE_NONE) continue;
    const qe_desc *weight = &plan->network->layer[unit->conv].weight_desc;
    unit->votes = place(&trainer->results, (size_t)qe_count(weight) * sizeof(int64_t));
  }
  trainer->constants.bytes = qe_network_place_constants(plan->network, 1, trainer->place);
}

/* ---- calls ---- */

static qe_status bind_block(const builder *b, const char *name, qe_desc desc, const qe_block *block, size_t at,
                            qe_value *value) {
  return qe_program_bind(b->program, name, desc, block->buffer, at, value);
}

/* Sums and sums of products with itself of a value, to the results. */
static qe_status call_sums(const builder *b, qe_value value, size_t at) {
  qe_desc desc = qe_program_desc(b->program, value);
  qe_desc channels = qe_vector(QE_S64, desc.dim[QE_C]);
  qe_attrs attrs = {.requant = {.from = desc.dtype}};
  qe_value sum, product;
  QE_TRY(bind_block(b, "sums", channels, &b->trainer->results, at, &sum));
  QE_TRY(bind_block(b, "squares", channels, &b->trainer->results, at + qe_bytes(&channels), &product));
  return qe_program_call(b->program, QE_OP_int_channel_sums, &attrs, (qe_value[]){value, value, sum, product});
}

/* e where the code of `y` lies between low and high. */
static qe_status call_gate(const builder *b, qe_value e, qe_value y, int32_t low, int32_t high, qe_value *gated) {
  qe_desc desc = qe_program_desc(b->program, e);
  qe_attrs attrs = {.requant = {.low = low, .high = high, .from = qe_program_desc(b->program, y).dtype}};
  QE_TRY(qe_program_temp(b->program, "gated", desc, gated));
  return qe_program_call(b->program, QE_OP_int_gate, &attrs, (qe_value[]){e, y, *gated});
}

static qe_status call_maker(const builder *b, const qe_error_maker *maker, const qe_value *input, qe_value *made) {
  const qe_block *block = &b->trainer->errors;
  qe_desc desc = qe_program_desc(b->program, input[0]);
  int32_t most = qe_error_most(maker);
  qe_requant requant = {.shift = QE_ERROR_SHIFT, .low = -most, .high = most, .to = QE_S8, .from = QE_S8};
  if (maker->inputs == 2) requant.from = qe_program_desc(b->program, input[1]).dtype;
  qe_attrs attrs = {.requant = requant};
  qe_value m[2], offset;
  desc.dtype = QE_S8;
  for (int k = 0; k < maker->inputs; k++)
    QE_TRY(bind_block(b, "m", qe_vector(QE_S32, maker->channels), block, maker->multiplier[k], &m[k]));
  QE_TRY(bind_block(b, "offset", qe_vector(QE_S64, maker->channels), block, maker->offset, &offset));
  QE_TRY(qe_program_temp(b->program, "error", desc, made));
  if (maker->inputs == 1)
    return qe_program_call(b->program, QE_OP_int_requant, &attrs, (qe_value[]){input[0], m[0], offset, *made});
  return qe_program_call(b->program, QE_OP_int_requant_add, &attrs,
                         (qe_value[]){input[0], m[0], input[1], m[1], offset, *made});
}

/* ---- forward ---- */

static qe_status call_images(builder *b) {
  const qe_scratch *t = b->trainer;
  const qe_dataset *data = t->data;
  int32_t batch = (int32_t)t->options.batch;
  qe_desc map = qe_map(QE_U8, batch, data->height, data->width, data->channels), codes = map, store = map;
  qe_desc row = qe_map(QE_S32, batch, 1, 1, 1);
  qe_attrs augment = {.images = data->train_images, .pad = t->options.pad, .flip = t->options.flip};
  qe_attrs gather = {.images = batch};
  qe_value images, index, iota, counter, x;
  codes.dtype = QE_S8;
  store.dim[QE_N] = data->train_images;
  QE_TRY(qe_program_bind(b->program, "images", store, t->pixels, 0, &images));
  QE_TRY(bind_block(b, "index", row, &t->batch, t->index, &index));
  QE_TRY(bind_block(b, "iota", row, &t->batch, t->iota, &iota));
  QE_TRY(bind_block(b, "labels", row, &t->batch, t->labels, &b->labels));
  QE_TRY(bind_block(b, "counter", qe_vector(QE_S32, 4), &t->batch, t->counter, &counter));
  QE_TRY(qe_program_temp(b->program, "augmented", map, &x));
  QE_TRY(qe_program_temp(b->program, "input", codes, &b->tensor[0]));
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

static qe_status call_network(builder *b) {
  qe_scratch *t = b->trainer;
  size_t layers = b->plan->network->layers;
  bool *varies = QE_NEW_ARRAY(bool, layers), *narrow = QE_NEW_ARRAY(bool, layers);
  qe_tensor_place *nowhere = QE_NEW_ARRAY(qe_tensor_place, layers);
  qe_network_part part = {.network = b->plan->network,
                          .start = 1,
                          .stop = (int32_t)layers,
                          .population = 1,
                          .batch = (int32_t)t->options.batch,
                          .varies = varies,
                          .narrow = narrow,
                          .shared = t->constants.buffer,
                          .own = t->constants.buffer,
                          .shared_place = t->place,
                          .own_place = t->place,
                          .tensor = nowhere};
  for (size_t i = 0; narrow && i < layers; i++) narrow[i] = b->plan->network->layer[i].offset && is_narrow(b->plan, i);
  qe_status status =
      varies && narrow && nowhere ? qe_network_program_add(b->program, &part, b->tensor, b->population) : QE_NO_MEMORY;
  qe_free(varies);
  qe_free(narrow);
  qe_free(nowhere);
  return status;
}

static qe_status call_loss(builder *b) {
  const qe_scratch *t = b->trainer;
  qe_desc row = qe_map(QE_S32, (int32_t)t->options.batch, 1, 1, 1);
  qe_value loss, hits;
  qe_attrs attrs = {0};
  QE_TRY(bind_block(b, "loss", row, &t->results, t->loss, &loss));
  QE_TRY(bind_block(b, "hits", row, &t->results, t->hits, &hits));
  return qe_program_call(b->program, QE_OP_int_loss, &attrs,
                         (qe_value[]){b->tensor[b->plan->own - 1], b->labels, loss, hits});
}

/* ---- errors ---- */

static qe_status refuse(const builder *b, const qe_scratch_unit *unit, const char *why) {
  return qe_fail(QE_REFUSED, "training from scratch, layer %.80s: %s", b->plan->network->layer[unit->requant].name,
                 why);
}

static qe_status deliver(builder *b, int32_t unit, contribution from) {
  target *to = &b->target[unit];
  if (to->count == 2) return refuse(b, &b->plan->unit[unit], "its output is read more than twice");
  to->from[to->count++] = from;
  return QE_OK;
}

static qe_status call_back(builder *b, qe_value error, const qe_window *window, qe_value weight, qe_desc input,
                           qe_value *sums) {
  qe_attrs attrs = {.window = *window};
  qe_desc codes = qe_program_desc(b->program, weight);
  b->macs +=
      qe_count(&codes) * qe_program_desc(b->program, error).dim[QE_H] * qe_program_desc(b->program, error).dim[QE_W];
  input.dtype = QE_S32;
  QE_TRY(qe_program_temp(b->program, "back", input, sums));
  return qe_program_call(b->program, QE_OP_int_conv2d_grad_x, &attrs, (qe_value[]){error, weight, *sums});
}

/* The convolution's input as its op reads it. */
static qe_status conv_input(builder *b, const qe_network_layer *conv, qe_value *x) {
  *x = b->tensor[conv->input[0]];
  qe_desc desc = qe_program_desc(b->program, *x);
  if (desc.dim[QE_C] == conv->weight_desc.dim[QE_C]) return QE_OK;
  desc.dim[QE_H] = desc.dim[QE_W] = 1;
  desc.dim[QE_C] = conv->weight_desc.dim[QE_C];
  return qe_program_view(b->program, *x, "flat", desc, x);
}

/* Through the convolution to the unit that made its input. */
static qe_status push_conv(builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  const qe_network_layer *conv = &b->plan->network->layer[unit->conv];
  int32_t source = conv->input[0], to = b->plan->unit_of[source];
  const qe_network_layer *input = &b->plan->network->layer[source];
  contribution from = {.unit = (int32_t)at};
  qe_value weight, x;
  if (!wants(b->plan, to, unit)) return QE_OK;
  if (input->op == QE_OP_int_subsample) return refuse(b, unit, "reads a moved map, which has no rule for errors");
  QE_TRY(conv_input(b, conv, &x));
  QE_TRY(
      bind_block(b, "weight", conv->weight_desc, &b->trainer->constants, b->trainer->place[unit->conv].at[0], &weight));
  QE_TRY(call_back(b, b->target[at].error, &conv->attrs.window, weight, qe_program_desc(b->program, x), &from.value));
  qe_desc shape = qe_program_desc(b->program, b->tensor[source]);
  shape.dtype = QE_S32;
  if (shape.dim[QE_C] != conv->weight_desc.dim[QE_C])
    QE_TRY(qe_program_view(b->program, from.value, "map", shape, &from.value));
  if (source != b->plan->unit[to].requant) {
    from.coarser = input->attrs.requant.shift;
    QE_TRY(call_gate(b, from.value, b->tensor[source], -1, input->attrs.requant.high, &from.value));
  }
  return deliver(b, to, from);
}

/* A sum pool gives its error to every place of the window. */
static qe_status push_pool(builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  const qe_network_layer *pool = &b->plan->network->layer[unit->sums];
  int32_t to = b->plan->unit_of[pool->input[0]];
  contribution from = {.unit = (int32_t)at};
  if (!wants(b->plan, to, unit)) return QE_OK;
  qe_desc map = qe_program_desc(b->program, b->tensor[pool->input[0]]);
  map.dtype = QE_S8;
  QE_TRY(qe_program_temp(b->program, "spread", map, &from.value));
  QE_TRY(qe_program_call(b->program, QE_OP_int_spread, &pool->attrs, (qe_value[]){b->target[at].error, from.value}));
  return deliver(b, to, from);
}

/* The derivative of a subsample is that of a 1x1 convolution whose weights are 0 and 1. */
static qe_status call_subsample_back(builder *b, const qe_network_layer *moved, qe_value error, qe_value *sums) {
  int32_t outputs = moved->output.dim[QE_C];
  qe_desc input = b->plan->network->layer[moved->input[0]].output;
  qe_window window = {.kernel = {1, 1},
                      .stride = {moved->attrs.window.stride[0], moved->attrs.window.stride[1]},
                      .dilation = {1, 1},
                      .groups = 1,
                      .channels = outputs};
  int32_t inputs = input.dim[QE_C];
  qe_value weight;
  QE_TRY(bind_block(b, "moved", qe_map(QE_S8, outputs, 1, 1, inputs), &b->trainer->errors,
                    b->trainer->moves[moved - b->plan->network->layer], &weight));
  input.dim[QE_N] = (int32_t)b->trainer->options.batch;
  return call_back(b, error, &window, weight, input, sums);
}

static qe_status push_skip(builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  int32_t to = b->plan->unit_of[unit->skip];
  const qe_network_layer *skip = &b->plan->network->layer[unit->skip];
  contribution from = {.value = b->target[at].wide, .unit = (int32_t)at, .skip = true};
  if (!wants(b->plan, to, unit)) return QE_OK;
  if (skip->op == QE_OP_int_subsample) QE_TRY(call_subsample_back(b, skip, from.value, &from.value));
  return deliver(b, to, from);
}

/* The error of a unit's sums, of what was delivered to its output. */
static qe_status make_error(builder *b, size_t at) {
  qe_scratch_unit *unit = &b->plan->unit[at];
  target *to = &b->target[at];
  const qe_network_layer *requant = &b->plan->network->layer[unit->requant];
  const qe_requant *clamp = &requant->attrs.requant;
  qe_error_maker *first = unit->wide.channels ? &unit->wide : &unit->error;
  qe_value input[2], made;
  if (to->count == 0) return refuse(b, unit, "no error reaches its output");
  for (int k = 0; k < to->count; k++) {
    input[k] = to->from[k].value;
    first->from[k].unit = to->from[k].unit;
    first->from[k].skip = to->from[k].skip;
    first->from[k].coarser = to->from[k].coarser;
  }
  first->inputs = to->count;
  first->of_sums = first == &unit->error;
  QE_TRY(call_maker(b, first, input, &made));
  QE_TRY(call_gate(b, made, b->tensor[unit->requant], clamp->low, clamp->high, &made));
  to->error = to->wide = made;
  if (first == &unit->error) return QE_OK;
  QE_TRY(call_sums(b, made, unit->wide.sums));
  unit->error.inputs = 1;
  unit->error.of_sums = true;
  unit->error.from[0].unit = (int32_t)at;
  unit->error.from[0].wide = true;
  return call_maker(b, &unit->error, &to->wide, &to->error);
}

static qe_status call_softmax_error(builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  qe_value logits = b->tensor[unit->requant], *error = &b->target[at].error;
  qe_desc desc = qe_program_desc(b->program, logits);
  qe_attrs attrs = {.requant = {.shift = QE_SOFTMAX_BITS}};
  desc.dtype = QE_S8;
  QE_TRY(qe_program_temp(b->program, "softmax error", desc, error));
  return qe_program_call(b->program, QE_OP_int_softmax_error, &attrs, (qe_value[]){logits, b->labels, *error});
}

static qe_status call_votes(builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  const qe_network_layer *conv = &b->plan->network->layer[unit->conv];
  qe_desc desc = conv->weight_desc;
  qe_attrs attrs = {.window = conv->attrs.window, .requant = {.from = QE_S8}};
  qe_value x, votes;
  desc.dtype = QE_S64;
  QE_TRY(conv_input(b, conv, &x));
  QE_TRY(bind_block(b, "votes", desc, &b->trainer->results, unit->votes, &votes));
  b->macs += qe_network_macs(b->plan->network, (size_t)unit->conv);
  return qe_program_call(b->program, QE_OP_int_conv2d_grad_w, &attrs, (qe_value[]){b->target[at].error, x, votes});
}

static qe_status call_errors(builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  QE_TRY(call_sums(b, b->tensor[unit->sums], unit->stats));
  if (unit->source == QE_ERROR_NONE) return QE_OK;
  QE_TRY(unit->source == QE_ERROR_LOSS ? call_softmax_error(b, at) : make_error(b, at));
  if (unit->source != QE_ERROR_LOSS) QE_TRY(call_sums(b, b->target[at].error, unit->error.sums));
  if (unit->skip != QE_NONE) QE_TRY(push_skip(b, at));
  if (unit->conv == QE_NONE) return push_pool(b, at);
  QE_TRY(push_conv(b, at));
  return call_votes(b, at);
}

/* ---- the whole ---- */

static qe_status build(builder *b) {
  const qe_network *network = b->plan->network;
  for (size_t i = 0; i < network->layers; i++) b->tensor[i] = QE_NONE;
  QE_TRY(call_images(b));
  QE_TRY(call_network(b));
  QE_TRY(call_loss(b));
  for (size_t i = b->plan->units; i-- > 0;) QE_TRY(call_errors(b, i));
  int64_t own = 0;
  for (size_t i = 0; i < network->layers; i++) {
    b->macs += qe_network_macs(network, i);
    if (i < b->plan->own) own += qe_network_macs(network, i);
  }
  b->trainer->cost = (b->trainer->options.batch * b->macs + own / 2) / own;
  return qe_program_plan(b->program, NULL);
}

static qe_status make_memory(qe_scratch *trainer) {
  place_all(trainer);
  QE_TRY(make_block(trainer, &trainer->batch));
  QE_TRY(make_block(trainer, &trainer->constants));
  QE_TRY(make_block(trainer, &trainer->errors));
  QE_TRY(make_block(trainer, &trainer->results));
  int32_t *iota = (int32_t *)(void *)(trainer->batch.host + trainer->iota);
  for (int32_t i = 0; i < trainer->options.batch; i++) iota[i] = i;
  fill_moves(trainer);
  return QE_OK;
}

qe_status qe_scratch_build(qe_scratch *trainer) {
  qe_scratch_plan *plan = trainer->plan;
  builder b = {.trainer = trainer, .plan = plan};
  size_t layers = plan->network->layers;
  trainer->place = QE_NEW_ARRAY(qe_constant_places, layers);
  trainer->moves = QE_NEW_ARRAY(size_t, layers);
  b.tensor = QE_NEW_ARRAY(qe_value, layers);
  b.population = QE_NEW_ARRAY(int32_t, layers);
  b.target = QE_NEW_ARRAY(target, plan->units);
  qe_status status = trainer->place && trainer->moves && b.tensor && b.population && b.target ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) status = make_memory(trainer);
  if (status == QE_OK) status = qe_program_new(trainer->queue->device, "training step", &trainer->program);
  b.program = trainer->program;
  if (status == QE_OK) status = build(&b);
  qe_free(b.tensor);
  qe_free(b.population);
  qe_free(b.target);
  return status;
}
