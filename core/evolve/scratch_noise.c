/* Errors from noise. A second pass with noise on the units' codes changes each image's loss; the sign of the change
 * times the noise says how the loss goes with a code (node perturbation). Averaged over images for each class and
 * channel, with the softmax error, it becomes a feedback matrix, which carries the error of every image to the layer.
 */
#include "core/base/alloc.h"
#include "core/evolve/scratch_build_internal.h"

#include <string.h>

enum {
  NOISE_CHANCE = 77,   /* of 256: 0.3 */
  NOISE_BLOCKS = 4,    /* node perturbation: blocks a side of a map */
  FEEDBACK_SHIFT = 8,  /* the matrices forget 1/256 a step */
  FEEDBACK_MOST = 127, /* largest code of a matrix */
  STEP_SHIFT = 36,     /* the noise of a step, and of a unit, has positions of its own */
  UNIT_SHIFT = 28
};

static bool is_noisy(const qe_scratch_unit *unit) {
  return unit->source == QE_ERROR_FEEDBACK || unit->source == QE_ERROR_NOISE;
}

void qe_scratch_place_noise(qe_scratch *t, qe_scratch_unit *unit) {
  const int32_t channels = t->plan->network->layer[unit->requant].output.dim[QE_C];
  const int32_t classes = t->plan->network->layer[t->plan->own - 1].output.dim[QE_C];
  if (!is_noisy(unit)) return;
  unit->counter = qe_block_place(&t->batch, 4 * sizeof(int32_t));
  if (unit->source != QE_ERROR_FEEDBACK) return;
  unit->noise = qe_block_place(&t->results, (size_t)t->options.batch * (size_t)channels * sizeof(int32_t));
  unit->feedback_codes = qe_block_place(&t->errors, (size_t)classes * (size_t)channels);
}

void qe_scratch_place_signs(qe_scratch *t) {
  t->one = qe_block_place(&t->errors, sizeof(int32_t));
  t->minus_one = qe_block_place(&t->errors, sizeof(int32_t));
  t->zeros = qe_block_place(&t->errors, (size_t)t->options.batch * sizeof(int64_t));
  t->noisy_loss = qe_block_place(&t->results, (size_t)t->options.batch * sizeof(int32_t));
  t->noisy_hits = qe_block_place(&t->results, (size_t)t->options.batch * sizeof(int32_t));
}

/* ---- the second pass ---- */

static qe_status call_perturb(qe_scratch_builder *b, size_t at, qe_value *codes) {
  const qe_scratch *t = b->trainer;
  const qe_scratch_unit *unit = &b->plan->unit[at];
  const qe_requant *clamp = &b->plan->network->layer[unit->requant].attrs.requant;
  qe_desc desc = qe_program_desc(b->program, *codes), noise = desc;
  bool whole = unit->source == QE_ERROR_FEEDBACK;
  int32_t parts = whole ? 1 : NOISE_BLOCKS, size = unit->norm.spread / 5;
  qe_attrs attrs = {.noise = {.draws = 1,
                              .chance = NOISE_CHANCE,
                              .size = size > 0 ? size : 1,
                              .block = {(desc.dim[QE_H] + parts - 1) / parts, (desc.dim[QE_W] + parts - 1) / parts},
                              .channels = desc.dim[QE_C],
                              .low = clamp->low,
                              .high = clamp->high}};
  qe_value counter, noisy;
  noise.dtype = QE_S8;
  QE_TRY(qe_scratch_bind_block(b, "counter", qe_vector(QE_S32, 4), &t->batch, unit->counter, &counter));
  QE_TRY(qe_program_temp(b->program, "noisy", desc, &noisy));
  QE_TRY(qe_program_temp(b->program, "noise", noise, &b->target[at].noise));
  QE_TRY(qe_program_call(b->program, QE_OP_int_perturb, &attrs,
                         (qe_value[]){*codes, counter, noisy, b->target[at].noise}));
  *codes = noisy;
  return QE_OK;
}

/* Sums of the noise over the map, for the host. */
static qe_status call_noise_sums(const qe_scratch_builder *b, size_t at) {
  const qe_scratch_unit *unit = &b->plan->unit[at];
  qe_desc map = qe_program_desc(b->program, b->target[at].noise);
  qe_window window = {.kernel = {map.dim[QE_H], map.dim[QE_W]},
                      .stride = {1, 1},
                      .dilation = {1, 1},
                      .groups = 1,
                      .channels = map.dim[QE_C]};
  qe_attrs attrs = {.window = window};
  qe_value sums;
  QE_TRY(qe_scratch_bind_block(b, "noise sums", qe_map(QE_S32, map.dim[QE_N], 1, 1, map.dim[QE_C]),
                               &b->trainer->results, unit->noise, &sums));
  return qe_program_call(b->program, QE_OP_int_sum_pool, &attrs, (qe_value[]){b->target[at].noise, sums});
}

static qe_status second_pass(qe_scratch_builder *b, qe_value *tensor) {
  qe_scratch *t = b->trainer;
  int32_t start = 0;
  for (size_t i = 0; i < b->plan->units; i++) {
    const qe_scratch_unit *unit = &b->plan->unit[i];
    if (!is_noisy(unit)) continue;
    if (start > 0) QE_TRY(qe_scratch_layers(b, start, unit->requant + 1, tensor));
    QE_TRY(call_perturb(b, i, &tensor[unit->requant]));
    if (unit->source == QE_ERROR_FEEDBACK) QE_TRY(call_noise_sums(b, i));
    start = unit->requant + 1;
  }
  if (start == 0) return QE_OK;
  QE_TRY(qe_scratch_layers(b, start, (int32_t)b->plan->own, tensor));
  for (size_t i = 0; i < b->plan->own; i++)
    if (tensor[i] != b->tensor[i]) b->macs += qe_network_macs(b->plan->network, i);
  return qe_scratch_loss(b, tensor[b->plan->own - 1], t->noisy_loss, t->noisy_hits);
}

qe_status qe_scratch_noise(qe_scratch_builder *b) {
  size_t layers = b->plan->network->layers;
  qe_value *tensor = QE_NEW_ARRAY(qe_value, layers);
  if (!tensor) return QE_NO_MEMORY;
  memcpy(tensor, b->tensor, layers * sizeof *tensor);
  qe_status status = second_pass(b, tensor);
  qe_free(tensor);
  return status;
}

/* ---- node perturbation ---- */

/* The sign of each image's change of loss, s32 [batch, 1, 1, 1]. */
static qe_status call_signs(const qe_scratch_builder *b, qe_value *signs) {
  const qe_scratch *t = b->trainer;
  qe_desc row = qe_map(QE_S32, (int32_t)t->options.batch, 1, 1, 1);
  qe_attrs attrs = {.requant = {.low = -1, .high = 1, .from = QE_S32, .to = QE_S32}};
  qe_value after, before, one, minus_one, zero;
  QE_TRY(qe_scratch_bind_block(b, "noisy loss", row, &t->results, t->noisy_loss, &after));
  QE_TRY(qe_scratch_bind_block(b, "loss", row, &t->results, t->loss, &before));
  QE_TRY(qe_scratch_bind_block(b, "1", qe_vector(QE_S32, 1), &t->errors, t->one, &one));
  QE_TRY(qe_scratch_bind_block(b, "-1", qe_vector(QE_S32, 1), &t->errors, t->minus_one, &minus_one));
  QE_TRY(qe_scratch_bind_block(b, "0", qe_vector(QE_S64, 1), &t->errors, t->zeros, &zero));
  QE_TRY(qe_program_temp(b->program, "signs", row, signs));
  return qe_program_call(b->program, QE_OP_int_requant_add, &attrs,
                         (qe_value[]){after, one, before, minus_one, zero, *signs});
}

/* Noise times its image's sign: images as candidates, each with a multiplier of its own. */
qe_status qe_scratch_noise_error(qe_scratch_builder *b, size_t at) {
  const qe_scratch *t = b->trainer;
  qe_desc map = qe_program_desc(b->program, b->target[at].noise), each = map, many = {QE_S32, {0, 1, 1, 1, 1}};
  int32_t images = map.dim[QE_N];
  qe_attrs attrs = {.population = images, .requant = {.low = -1, .high = 1, .from = QE_S8, .to = QE_S8}};
  qe_value signs, noise, zeros, signed_noise;
  QE_TRY(call_signs(b, &signs));
  each.dim[QE_P] = many.dim[QE_P] = images;
  each.dim[QE_N] = each.dim[QE_C] = 1;
  each.dim[QE_W] = map.dim[QE_W] * map.dim[QE_C];
  QE_TRY(qe_program_view(b->program, b->target[at].noise, "noise by image", each, &noise));
  QE_TRY(qe_program_view(b->program, signs, "sign by image", many, &signs));
  many.dtype = QE_S64;
  QE_TRY(qe_scratch_bind_block(b, "zeros", many, &t->errors, t->zeros, &zeros));
  QE_TRY(qe_program_temp(b->program, "signed noise", each, &signed_noise));
  QE_TRY(qe_program_call(b->program, QE_OP_int_requant, &attrs, (qe_value[]){noise, signs, zeros, signed_noise}));
  QE_TRY(qe_program_view(b->program, signed_noise, "noise error", map, &signed_noise));
  return qe_scratch_to_sums(b, at, signed_noise);
}

/* ---- feedback ---- */

/* The matrix times the softmax error, to every place of the map. */
qe_status qe_scratch_feedback_error(qe_scratch_builder *b, size_t at) {
  qe_scratch_unit *unit = &b->plan->unit[at];
  qe_desc map = qe_program_desc(b->program, b->tensor[unit->requant]);
  int32_t channels = map.dim[QE_C], images = map.dim[QE_N];
  qe_value softmax = b->target[b->plan->own_logits].error, codes, sums, error, wide;
  int32_t classes = qe_program_desc(b->program, softmax).dim[QE_C];
  qe_attrs attrs = {.window = {{1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1, classes}};
  qe_attrs spread = {.window = {.kernel = {map.dim[QE_H], map.dim[QE_W]},
                                .stride = {1, 1},
                                .dilation = {1, 1},
                                .groups = 1,
                                .channels = channels}};
  map.dtype = QE_S8;
  unit->wide.inputs = 1;
  unit->wide.from[0].unit = QE_NONE;
  QE_TRY(qe_scratch_bind_block(b, "feedback", qe_map(QE_S8, classes, 1, 1, channels), &b->trainer->errors,
                               unit->feedback_codes, &codes));
  QE_TRY(qe_program_temp(b->program, "fed back", qe_map(QE_S32, images, 1, 1, channels), &sums));
  QE_TRY(qe_program_call(b->program, QE_OP_int_conv2d_grad_x, &attrs, (qe_value[]){softmax, codes, sums}));
  QE_TRY(qe_scratch_maker(b, &unit->wide, &sums, &error));
  QE_TRY(qe_program_temp(b->program, "spread", map, &wide));
  QE_TRY(qe_program_call(b->program, QE_OP_int_spread, &spread, (qe_value[]){error, wide}));
  return qe_scratch_to_sums(b, at, wide);
}

/* ---- on the host ---- */

void qe_scratch_fill_noise(const qe_scratch *t) {
  int32_t one = 1, minus_one = -1;
  memcpy(t->errors.host + t->one, &one, sizeof one);
  memcpy(t->errors.host + t->minus_one, &minus_one, sizeof minus_one);
  for (size_t i = 0; i < t->plan->units; i++) {
    if (!is_noisy(&t->plan->unit[i])) continue;
    uint64_t counter[2] = {t->seed, ((uint64_t)t->step << STEP_SHIFT) + ((uint64_t)i << UNIT_SHIFT)};
    memcpy(t->batch.host + t->plan->unit[i].counter, counter, sizeof counter);
  }
}

/* Codes of a matrix: its largest element becomes FEEDBACK_MOST. */
void qe_scratch_fill_feedback(const qe_scratch *t, const qe_scratch_unit *unit) {
  int8_t *codes = (int8_t *)(t->errors.host + unit->feedback_codes);
  int64_t most = 1;
  for (int64_t i = 0; i < unit->feedback_count; i++) {
    int64_t size = unit->feedback[i] < 0 ? -(int64_t)unit->feedback[i] : unit->feedback[i];
    if (size > most) most = size;
  }
  for (int64_t i = 0; i < unit->feedback_count; i++)
    codes[i] = (int8_t)((int64_t)unit->feedback[i] * FEEDBACK_MOST / most);
}

void qe_scratch_learn_feedback(const qe_scratch *t, qe_scratch_unit *unit) {
  const int32_t *loss = (const int32_t *)(const void *)(t->results.host + t->loss);
  const int32_t *noisy = (const int32_t *)(const void *)(t->results.host + t->noisy_loss);
  const int32_t *noise = (const int32_t *)(const void *)(t->results.host + unit->noise);
  const int8_t *error = (const int8_t *)(t->results.host + t->softmax);
  int64_t classes = t->plan->network->layer[t->plan->own - 1].output.dim[QE_C];
  int64_t channels = unit->feedback_count / classes;
  for (int64_t i = 0; i < unit->feedback_count; i++) {
    int64_t j = i / channels, c = i % channels, sum = 0;
    for (int64_t n = 0; n < t->options.batch; n++) {
      int32_t sign = (noisy[n] > loss[n]) - (noisy[n] < loss[n]), direction = noise[n * channels + c];
      sum += sign * ((direction > 0) - (direction < 0)) * error[n * classes + j];
    }
    int64_t moved = unit->feedback[i] + sum - (unit->feedback[i] >> FEEDBACK_SHIFT);
    unit->feedback[i] = moved > INT32_MAX ? INT32_MAX : moved < -INT32_MAX ? -INT32_MAX : (int32_t)moved;
  }
}
