/* Requantisers of a training from scratch: z = (sum - mean) * spread / deviation + bias, from integer running means.
 * Where a skip connection of depth k meets the sums both are scaled, by sqrt(k / (k + 1)) and sqrt(1 / (k + 1)), so
 * that the stream keeps its range however many blocks there are. */
#include "core/base/alloc.h"
#include "core/evolve/scratch_parts.h"

enum {
  MULTIPLIER_BITS = 11,  /* of the multipliers that are expected */
  SKIP_SHIFT = 14,       /* at most where a skip connection's multiplier must fit 16 bits */
  SHARE_BITS = 14,       /* fraction bits of the shares of skip and sums */
  LOGIT_SPREAD = 512,    /* two bits, in units of 2^-8 bits */
  BIAS_UNITS = 5 * 256,  /* of the spread */
  IMAGE_SQUARE = 64 * 64 /* mean square of an image's codes */
};

bool qe_unit_is_logits(const qe_scratch_plan *plan, const qe_scratch_unit *unit) {
  return plan->network->layer[unit->requant].output.dtype == QE_S32;
}

/* ---- spread and shift ---- */

/* The shift of the coarser code that is made of a unit's output; 0: none is made. `high`: its largest code. */
static int32_t coarser_of(const qe_scratch_plan *plan, const qe_scratch_unit *unit, int32_t *high) {
  for (size_t i = 0; i < plan->own; i++) {
    const qe_network_layer *layer = &plan->network->layer[i];
    if (layer->op != QE_OP_int_requant || layer->input[0] != unit->requant) continue;
    *high = layer->attrs.requant.high;
    return layer->attrs.requant.shift;
  }
  return 0;
}

static int32_t spread_of(const qe_scratch_plan *plan, const qe_scratch_unit *unit) {
  int32_t high = plan->network->layer[unit->requant].attrs.requant.high;
  if (qe_unit_is_logits(plan, unit)) return LOGIT_SPREAD;
  if (unit->conv == QE_NONE) return high / 6 > 0 ? high / 6 : 1;
  int32_t coarser = coarser_of(plan, unit, &high);
  int32_t sigmas = high > 15 && !coarser ? 6 : 3;
  return (high > sigmas ? high / sigmas : 1) * (1 << coarser);
}

/* Mean square of the codes that a layer reads, as they are expected: rectified around 0. */
static int64_t square_of(const qe_scratch_plan *plan, int32_t tensor) {
  int32_t unit = plan->unit_of[tensor];
  if (unit == QE_NONE) return IMAGE_SQUARE;
  const qe_requant *requant = &plan->network->layer[tensor].attrs.requant;
  bool coarser = tensor != plan->unit[unit].requant && plan->network->layer[tensor].op == QE_OP_int_requant;
  int64_t spread = plan->unit[unit].norm.spread >> (coarser ? requant->shift : 0);
  return spread * spread / 2 + 1;
}

static int64_t expected_deviation(const qe_scratch_plan *plan, const qe_scratch_unit *unit) {
  const qe_network_layer *sums = &plan->network->layer[unit->sums];
  int64_t square = square_of(plan, sums->input[0]);
  if (unit->conv == QE_NONE)
    return (int64_t)sums->attrs.window.kernel[0] * sums->attrs.window.kernel[1] * qe_integer_root(square) / 3 + 1;
  int64_t weights = qe_count(&sums->weight_desc), total = 0;
  for (int64_t i = 0; i < weights; i++) total += sums->weight[i] * sums->weight[i];
  return qe_integer_root(total / sums->weight_desc.dim[QE_N] * square) + 1;
}

qe_status qe_norm_new(qe_scratch_plan *plan, qe_scratch_unit *unit) {
  qe_network_layer *layer = &plan->network->layer[unit->requant];
  int32_t channels = layer->output.dim[QE_C];
  qe_scratch_norm *norm = &unit->norm;
  norm->spread = spread_of(plan, unit);
  norm->centre = unit->conv == QE_NONE ? norm->spread : 0;
  norm->mean = QE_NEW_ARRAY(int64_t, channels);
  norm->square = QE_NEW_ARRAY(int64_t, channels);
  if (!norm->mean || !norm->square) return QE_NO_MEMORY;
  int64_t deviation = expected_deviation(plan, unit);
  int32_t shift = 0, most = unit->skip == QE_NONE ? 24 : SKIP_SHIFT;
  while (shift < most && ((int64_t)norm->spread << shift) / deviation < 1 << MULTIPLIER_BITS) shift++;
  layer->attrs.requant.shift = shift;
  for (int32_t c = 0; c < channels; c++) norm->square[c] = deviation * deviation << QE_NORM_BITS;
  qe_norm_apply(plan, unit);
  return QE_OK;
}

/* ---- means ---- */

static int64_t mean_of(int64_t sum, int64_t count) {
  return (int64_t)((qe_s128)sum * (1 << QE_NORM_BITS) / count);
}

void qe_norm_take(qe_scratch_norm *norm, const int64_t *sums, const int64_t *squares, int32_t channels, int64_t count,
                  int32_t parts) {
  for (int32_t c = 0; c < channels; c++) {
    int64_t mean = mean_of(sums[c], count), square = mean_of(squares[c], count);
    norm->mean[c] += (mean - norm->mean[c]) / parts;
    norm->square[c] += (square - norm->square[c]) / parts;
  }
}

/* Standard deviation in units of 2^-QE_NORM_BITS, at least 1. */
static int64_t deviation_of(const qe_scratch_norm *norm, int32_t c) {
  qe_s128 square = (qe_s128)norm->mean[c] * norm->mean[c];
  qe_s128 variance = ((qe_s128)norm->square[c] << QE_NORM_BITS) - square;
  if (variance <= 0) return 1;
  int64_t root = qe_integer_root(variance);
  return root > 0 ? root : 1;
}

/* ---- constants ---- */

/* spread * 2^shift / deviation, times the share of the sums. */
static int32_t multiplier_of(const qe_scratch_unit *unit, int64_t deviation, int32_t shift, int64_t share) {
  qe_s128 scaled = ((qe_s128)unit->norm.spread * share) << (shift + QE_NORM_BITS - SHARE_BITS + 8);
  int64_t multiplier = (int64_t)((scaled / deviation + 128) >> 8);
  return multiplier < 1 ? 1 : multiplier > QE_MOST_MULTIPLIER ? QE_MOST_MULTIPLIER : (int32_t)multiplier;
}

/* Logits have one multiplier for all classes: by their mean deviation, so that the network can be sure, and not without
 * bound. */
static int32_t logit_multiplier(const qe_scratch_unit *unit, int32_t classes, int32_t shift) {
  int64_t total = 0;
  for (int32_t c = 0; c < classes; c++) total += deviation_of(&unit->norm, c);
  return multiplier_of(unit, total / classes + 1, shift, 1 << SHARE_BITS);
}

void qe_norm_apply(const qe_scratch_plan *plan, qe_scratch_unit *unit) {
  qe_network_layer *layer = &plan->network->layer[unit->requant];
  int32_t shift = layer->attrs.requant.shift, depth = unit->depth;
  int64_t one = INT64_C(1) << shift, half = shift > 0 ? one >> 1 : 0;
  uint64_t share = (UINT64_C(1) << 2 * SHARE_BITS) / (uint64_t)(depth + 1);
  int64_t of_sums = depth ? qe_integer_root(share) : 1 << SHARE_BITS, of_skip = qe_integer_root(share * depth);
  bool logits = qe_unit_is_logits(plan, unit);
  int32_t of_logits = logits ? logit_multiplier(unit, layer->output.dim[QE_C], shift) : 0;
  for (int32_t c = 0; c < layer->output.dim[QE_C]; c++) {
    int32_t m = logits ? of_logits : multiplier_of(unit, deviation_of(&unit->norm, c), shift, of_sums);
    int64_t bias = unit->bias.value ? unit->bias.value[c] : 0;
    layer->multiplier[unit->branch][c] = m;
    if (unit->skip != QE_NONE) layer->multiplier[1 - unit->branch][c] = (int32_t)(of_skip * one >> SHARE_BITS);
    layer->offset[c] = half + unit->norm.centre * one + bias * unit->norm.spread * one / BIAS_UNITS -
                       (unit->norm.mean[c] * m >> QE_NORM_BITS);
  }
}
