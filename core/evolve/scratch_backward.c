/* Errors backward, and votes. */
#include "core/evolve/scratch_build_internal.h"

/* ---- errors ---- */

static qe_status refuse(const qe_scratch_builder *b, const qe_scratch_unit *unit, const char *why) {
  return qe_fail(QE_REFUSED, "training from scratch, layer %.80s: %s", b->plan->network->layer[unit->requant].name,
                 why);
}

static qe_status deliver(qe_scratch_builder *b, int32_t unit, qe_error_part from) {
  qe_error_target *to = &b->target[unit];
  if (to->count == (b->plan->unit[unit].above.channels ? 3 : 2))
    return refuse(b, &b->plan->unit[unit], "its output is read more than twice");
  to->from[to->count++] = from;
  return QE_OK;
}

static qe_status call_back(qe_scratch_builder *b, qe_value error, const qe_window *window, qe_value weight,
                           qe_desc input, qe_value *sums) {
  qe_attrs attrs = {.window = *window};
  qe_desc codes = qe_program_desc(b->program, weight);
  b->macs +=
      qe_count(&codes) * qe_program_desc(b->program, error).dim[QE_H] * qe_program_desc(b->program, error).dim[QE_W];
  input.dtype = QE_S32;
  QE_TRY(qe_program_temp(b->program, "back", input, sums));
  return qe_program_call(b->program, QE_OP_int_conv2d_grad_x, &attrs, (qe_value[]){error, weight, *sums});
}

/* The convolution's input as its op reads it. */
qe_status qe_scratch_conv_input(const qe_scratch_builder *b, const qe_network_layer *conv, qe_value *x) {
  *x = b->tensor[conv->input[0]];
  qe_desc desc = qe_program_desc(b->program, *x);
  if (desc.dim[QE_C] == conv->weight_desc.dim[QE_C]) return QE_OK;
  desc.dim[QE_H] = desc.dim[QE_W] = 1;
  desc.dim[QE_C] = conv->weight_desc.dim[QE_C];
  return qe_program_view(b->program, *x, "flat", desc, x);
}

/* Through the convolution to the unit that made its input. */
static qe_status push_conv(qe_scratch_builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  const qe_network_layer *conv = &b->plan->network->layer[unit->conv];
  int32_t source = conv->input[0], to = b->plan->unit_of[source];
  const qe_network_layer *input = &b->plan->network->layer[source];
  qe_error_part from = {.unit = (int32_t)at};
  qe_value weight, x;
  if (!qe_scratch_wants(b->trainer, to, unit)) return QE_OK;
  if (input->op == QE_OP_int_subsample) return refuse(b, unit, "reads a moved map, which has no rule for errors");
  QE_TRY(qe_scratch_conv_input(b, conv, &x));
  QE_TRY(qe_scratch_bind_block(b, "weight", conv->weight_desc, &b->trainer->constants,
                               b->trainer->place[unit->conv].at[0], &weight));
  QE_TRY(call_back(b, b->target[at].error, &conv->attrs.window, weight, qe_program_desc(b->program, x), &from.value));
  qe_desc shape = qe_program_desc(b->program, b->tensor[source]);
  shape.dtype = QE_S32;
  if (shape.dim[QE_C] != conv->weight_desc.dim[QE_C])
    QE_TRY(qe_program_view(b->program, from.value, "map", shape, &from.value));
  if (source != b->plan->unit[to].requant) {
    from.coarser = input->attrs.requant.shift;
    QE_TRY(qe_scratch_gate(b, from.value, b->tensor[source], -1, input->attrs.requant.high, &from.value));
  }
  return deliver(b, to, from);
}

/* A sum pool gives its error to every place of the window. */
static qe_status push_pool(qe_scratch_builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  const qe_network_layer *pool = &b->plan->network->layer[unit->sums];
  int32_t to = b->plan->unit_of[pool->input[0]];
  qe_error_part from = {.unit = (int32_t)at};
  if (!qe_scratch_wants(b->trainer, to, unit)) return QE_OK;
  qe_desc map = qe_program_desc(b->program, b->tensor[pool->input[0]]);
  map.dtype = QE_S8;
  QE_TRY(qe_program_temp(b->program, "spread", map, &from.value));
  QE_TRY(qe_program_call(b->program, QE_OP_int_spread, &pool->attrs, (qe_value[]){b->target[at].error, from.value}));
  return deliver(b, to, from);
}

/* The derivative of a subsample is that of a 1x1 convolution whose weights are 0 and 1. */
static qe_status call_subsample_back(qe_scratch_builder *b, const qe_network_layer *moved, qe_value error,
                                     qe_value *sums) {
  int32_t outputs = moved->output.dim[QE_C];
  qe_desc input = b->plan->network->layer[moved->input[0]].output;
  qe_window window = {.kernel = {1, 1},
                      .stride = {moved->attrs.window.stride[0], moved->attrs.window.stride[1]},
                      .dilation = {1, 1},
                      .groups = 1,
                      .channels = outputs};
  int32_t inputs = input.dim[QE_C];
  qe_value weight;
  QE_TRY(qe_scratch_bind_block(b, "moved", qe_map(QE_S8, outputs, 1, 1, inputs), &b->trainer->errors,
                               b->trainer->moves[moved - b->plan->network->layer], &weight));
  input.dim[QE_N] = (int32_t)b->trainer->options.batch;
  return call_back(b, error, &window, weight, input, sums);
}

static qe_status push_skip(qe_scratch_builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  int32_t to = b->plan->unit_of[unit->skip];
  const qe_network_layer *skip = &b->plan->network->layer[unit->skip];
  qe_error_part from = {.value = b->target[at].wide, .unit = (int32_t)at, .skip = true};
  if (!qe_scratch_wants(b->trainer, to, unit)) return QE_OK;
  if (skip->op == QE_OP_int_subsample) QE_TRY(call_subsample_back(b, skip, from.value, &from.value));
  return deliver(b, to, from);
}

static void take_source(qe_error_maker *maker, int k, const qe_error_part *from) {
  maker->from[k].unit = from->unit;
  maker->from[k].skip = from->skip;
  maker->from[k].coarser = from->coarser;
  maker->from[k].above = from->above;
}

/* Where a head has given its error first, those of the units above become one beside it. */
static qe_status join_above(qe_scratch_builder *b, size_t at) {
  qe_scratch_unit *unit = &b->plan->unit[at];
  qe_error_target *to = &b->target[at];
  qe_value input[2], joined;
  if (!unit->above.channels || to->count < 2) return QE_OK;
  unit->above.inputs = to->count - 1;
  for (int k = 0; k < unit->above.inputs; k++) {
    input[k] = to->from[k + 1].value;
    take_source(&unit->above, k, &to->from[k + 1]);
  }
  QE_TRY(qe_scratch_maker(b, &unit->above, input, &joined));
  QE_TRY(qe_scratch_sums(b, joined, unit->above.sums, NULL));
  to->from[1] = (qe_error_part){.value = joined, .unit = (int32_t)at, .above = true};
  to->count = 2;
  return QE_OK;
}

qe_status qe_scratch_to_sums(qe_scratch_builder *b, size_t at, qe_value error) {
  qe_scratch_unit *unit = &b->plan->unit[at];
  qe_error_target *to = &b->target[at];
  const qe_requant *clamp = &b->plan->network->layer[unit->requant].attrs.requant;
  QE_TRY(qe_scratch_gate(b, error, b->tensor[unit->requant], clamp->low, clamp->high, &to->wide));
  QE_TRY(qe_scratch_sums(b, to->wide, unit->wide.sums, NULL));
  unit->error.inputs = 2;
  unit->error.of_sums = true;
  unit->error.from[0].unit = (int32_t)at;
  unit->error.from[0].wide = true;
  return qe_scratch_norm_maker(b, &unit->error, to->wide, b->tensor[unit->sums], to->stats, &to->error);
}

/* The error of a unit's sums, of what was delivered to its output. */
static qe_status make_error(qe_scratch_builder *b, size_t at) {
  qe_scratch_unit *unit = &b->plan->unit[at];
  qe_error_target *to = &b->target[at];
  qe_value input[2], made;
  if (to->count == 0) return refuse(b, unit, "no error reaches its output");
  QE_TRY(join_above(b, at));
  for (int k = 0; k < to->count; k++) {
    input[k] = to->from[k].value;
    take_source(&unit->wide, k, &to->from[k]);
  }
  unit->wide.inputs = to->count;
  QE_TRY(qe_scratch_maker(b, &unit->wide, input, &made));
  return qe_scratch_to_sums(b, at, made);
}

static qe_status call_softmax_error(qe_scratch_builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  qe_value logits = b->tensor[unit->requant], *error = &b->target[at].error;
  qe_desc desc = qe_program_desc(b->program, logits);
  qe_attrs attrs = {.requant = {.shift = QE_SOFTMAX_BITS}};
  desc.dtype = QE_S8;
  if (at == b->plan->own_logits)
    QE_TRY(qe_scratch_bind_block(b, "softmax error", desc, &b->trainer->results, b->trainer->softmax, error));
  else
    QE_TRY(qe_program_temp(b->program, "softmax error", desc, error));
  return qe_program_call(b->program, QE_OP_int_softmax_error, &attrs, (qe_value[]){logits, b->labels, *error});
}

static qe_status call_votes(qe_scratch_builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  const qe_network_layer *conv = &b->plan->network->layer[unit->conv];
  qe_desc desc = conv->weight_desc;
  qe_attrs attrs = {.window = conv->attrs.window, .requant = {.from = QE_S8}};
  qe_value x, votes;
  desc.dtype = QE_S64;
  QE_TRY(qe_scratch_conv_input(b, conv, &x));
  QE_TRY(qe_scratch_sums(b, x, unit->inputs, NULL));
  QE_TRY(qe_scratch_bind_block(b, "votes", desc, &b->trainer->results, unit->votes, &votes));
  b->macs += qe_network_macs(b->plan->network, (size_t)unit->conv);
  return qe_program_call(b->program, QE_OP_int_conv2d_grad_w, &attrs, (qe_value[]){b->target[at].error, x, votes});
}

qe_status qe_scratch_errors(qe_scratch_builder *b, size_t at) {
  static qe_status (*const error_of[])(qe_scratch_builder *, size_t) = {[QE_ERROR_LOSS] = call_softmax_error,
                                                                        [QE_ERROR_ABOVE] = make_error,
                                                                        [QE_ERROR_FEEDBACK] = qe_scratch_feedback_error,
                                                                        [QE_ERROR_NOISE] = qe_scratch_noise_error};
  const qe_scratch_unit *unit = &b->plan->unit[at];
  QE_TRY(qe_scratch_sums(b, b->tensor[unit->sums], unit->stats, b->target[at].stats));
  if (unit->source == QE_ERROR_NONE) return QE_OK;
  QE_TRY(error_of[unit->source](b, at));
  QE_TRY(qe_scratch_sums(b, b->target[at].error, unit->error.sums, NULL));
  if (unit->skip != QE_NONE) QE_TRY(push_skip(b, at));
  if (unit->conv == QE_NONE) return push_pool(b, at);
  QE_TRY(push_conv(b, at));
  return call_votes(b, at);
}
