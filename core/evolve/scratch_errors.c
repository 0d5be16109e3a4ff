/* Errors of few bits: what a code of an error is worth, and the requantisers that make it. Steps are kept as
 * fixed-point numbers and follow the errors' mean square, so that few codes are clipped and few are lost. */
#include "core/evolve/scratch_parts.h"

enum { MOST_MULTIPLIER = 1 << 30, TARGET = 16 /* largest code squared by the mean square that is aimed at */ };

int32_t qe_error_most(const qe_error_maker *maker) {
  return (1 << (maker->bits - 1)) - 1;
}

/* Real value of one unit of an input, 2^-QE_STEP_BITS units. */
static qe_s128 value_of(const qe_scratch *trainer, const qe_error_maker *maker, int which) {
  const qe_scratch_plan *plan = trainer->plan;
  int32_t from = maker->from[which].unit;
  if (from == QE_NONE) return (qe_s128)1 << QE_STEP_BITS;
  const qe_scratch_unit *unit = &plan->unit[from];
  const qe_network_layer *layer = &plan->network->layer[unit->requant];
  if (maker->from[which].wide) return unit->wide.step;
  if (maker->from[which].above) return (qe_s128)unit->above.step >> (trainer->options.borders - 1);
  if (!maker->from[which].skip) return (qe_s128)unit->error.step >> maker->from[which].coarser;
  return (qe_s128)unit->wide.step * layer->multiplier[1 - unit->branch][0] >> layer->attrs.requant.shift;
}

/* The requantiser takes the sums' mean away and divides by their deviation. So an error of what it gives is an error of
 * the sums less its mean and less its slope on the sums, as far as running means tell these. Without the slope votes
 * have a part along the weights. */
static void fill_slopes(const qe_scratch_unit *unit, const qe_error_maker *maker, uint8_t *constants) {
  const int32_t *first = (const int32_t *)(const void *)(constants + maker->multiplier[0]);
  int32_t *second = (int32_t *)(void *)(constants + maker->multiplier[1]);
  int64_t *offset = (int64_t *)(void *)(constants + maker->offset);
  for (int32_t c = 0; c < maker->channels; c++) {
    qe_s128 mean = unit->norm.mean[c], error = unit->slopes.mean[c];
    qe_s128 variance = ((qe_s128)unit->norm.square[c] * (1 << QE_NORM_BITS)) - mean * mean;
    qe_s128 product = ((qe_s128)unit->slopes.square[c] * (1 << QE_NORM_BITS)) - mean * error;
    qe_s128 slope = variance > 0 ? -product * first[c] / variance : 0;
    if (slope > MOST_MULTIPLIER) slope = MOST_MULTIPLIER;
    if (slope < -MOST_MULTIPLIER) slope = -MOST_MULTIPLIER;
    second[c] = (int32_t)slope;
    offset[c] -= (int64_t)((error * first[c] + mean * slope) >> QE_NORM_BITS);
  }
}

void qe_error_fill(const qe_scratch *trainer, const qe_scratch_unit *unit, const qe_error_maker *maker) {
  const qe_scratch_plan *plan = trainer->plan;
  uint8_t *constants = trainer->errors.host;
  const qe_network_layer *layer = &plan->network->layer[unit->requant];
  int64_t *offset = (int64_t *)(void *)(constants + maker->offset);
  for (int32_t c = 0; c < maker->channels; c++) offset[c] = 1 << (QE_ERROR_SHIFT - 1);
  for (int b = 0; b < (maker->normed ? 1 : maker->inputs); b++) {
    int32_t *multiplier = (int32_t *)(void *)(constants + maker->multiplier[b]);
    qe_s128 value = value_of(trainer, maker, b) << QE_ERROR_SHIFT;
    for (int32_t c = 0; c < maker->channels; c++) {
      qe_s128 scaled = value;
      if (maker->of_sums) scaled = scaled * layer->multiplier[unit->branch][c] >> layer->attrs.requant.shift;
      scaled /= (qe_s128)maker->step;
      multiplier[c] = scaled > MOST_MULTIPLIER ? MOST_MULTIPLIER : (int32_t)scaled;
    }
  }
  if (maker->normed) fill_slopes(unit, maker, constants);
}

void qe_error_adapt(qe_error_maker *maker, const int64_t *squares, bool fast) {
  int64_t total = 0, most = qe_error_most(maker);
  for (int32_t c = 0; c < maker->channels; c++) total += squares[c];
  qe_s128 ratio = ((qe_s128)total << 32) * TARGET / ((qe_s128)maker->count * most * most); /* Q32 */
  qe_s128 limit = (qe_s128)1 << 40;
  uint64_t root = (uint64_t)qe_integer_root(ratio > limit ? limit : ratio); /* Q16 */
  uint64_t factor = fast ? root : (7 * 65536 + root) / 8;
  if (factor < 4096) factor = 4096;
  qe_s128 step = (qe_s128)maker->step * factor >> 16;
  maker->step = step < 1 ? 1 : step >> 60 ? UINT64_C(1) << 60 : (uint64_t)step;
}
