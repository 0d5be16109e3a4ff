/* Errors of few bits: what a code of an error is worth, and the requantisers that make it. Steps are kept as
 * fixed-point numbers and follow the errors' mean square, so that few codes are clipped and few are lost. */
#include "core/evolve/scratch_parts.h"

enum { MOST_MULTIPLIER = 1 << 30 };

/* Largest code squared by the mean square that is aimed at: errors have heavy tails, and few bits no room for them. */
static int32_t headroom_of(const qe_error_maker *maker) {
  return maker->bits > 6 ? 64 : 16;
}

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

void qe_error_fill(const qe_scratch *trainer, const qe_scratch_unit *unit, const qe_error_maker *maker) {
  const qe_scratch_plan *plan = trainer->plan;
  uint8_t *constants = trainer->errors.host;
  const qe_network_layer *layer = &plan->network->layer[unit->requant];
  int64_t *offset = (int64_t *)(void *)(constants + maker->offset);
  for (int32_t c = 0; c < maker->channels; c++) offset[c] = 1 << (QE_ERROR_SHIFT - 1);
  for (int b = 0; b < (maker->of_sums ? 1 : maker->inputs); b++) {
    int32_t *multiplier = (int32_t *)(void *)(constants + maker->multiplier[b]);
    qe_s128 value = value_of(trainer, maker, b) << QE_ERROR_SHIFT;
    for (int32_t c = 0; c < maker->channels; c++) {
      qe_s128 scaled = value;
      if (maker->of_sums) scaled = scaled * layer->multiplier[unit->branch][c] >> layer->attrs.requant.shift;
      scaled /= (qe_s128)maker->step;
      multiplier[c] = scaled > MOST_MULTIPLIER ? MOST_MULTIPLIER : (int32_t)scaled;
    }
  }
}

void qe_error_adapt(qe_error_maker *maker, const int64_t *squares, bool fast) {
  int64_t total = 0, most = qe_error_most(maker);
  for (int32_t c = 0; c < maker->channels; c++) total += squares[c];
  qe_s128 ratio = ((qe_s128)total << 32) * headroom_of(maker) / ((qe_s128)maker->count * most * most); /* Q32 */
  qe_s128 limit = (qe_s128)1 << 40;
  uint64_t root = (uint64_t)qe_integer_root(ratio > limit ? limit : ratio); /* Q16 */
  uint64_t factor = fast ? root : (7 * 65536 + root) / 8;
  if (factor < 4096) factor = 4096;
  qe_s128 step = (qe_s128)maker->step * factor >> 16;
  maker->step = step < 1 ? 1 : step >> 60 ? UINT64_C(1) << 60 : (uint64_t)step;
}
