/* Requantisers from gains: 128-bit ratios, and the search for the shift. */
#include "core/evolve/requantiser.h"

#include "core/base/alloc.h"

#include <string.h>

enum { MANTISSA = 31, MOST_BITS = 100, NARROW_SHIFT = 30, WIDE_SHIFT = 46, CODE_SHARE = 128 };

/* ---- gains ---- */

static qe_u128 magnitude(qe_s128 value) {
  return value < 0 ? -(qe_u128)value : (qe_u128)value;
}

static int bits_of(qe_u128 value) {
  uint64_t high = (uint64_t)(value >> 64), low = (uint64_t)value;
  return high ? 128 - __builtin_clzll(high) : low ? 64 - __builtin_clzll(low) : 0;
}

/* value * 2^shift; what falls off at the low end is cut off. */
static qe_u128 shifted(qe_u128 value, int shift) {
  return shift >= 128 || shift <= -128 ? 0 : shift >= 0 ? value << shift : value >> -shift;
}

qe_gain qe_gain_ratio(qe_s128 numerator, qe_s128 denominator, int32_t exponent) {
  enum { ABOVE = 126, BELOW = 126 - MANTISSA };
  if (numerator == 0 || denominator == 0) return (qe_gain){0, 0};
  qe_u128 above = magnitude(numerator), below = magnitude(denominator);
  int up = ABOVE - bits_of(above), down = BELOW - bits_of(below);
  qe_u128 divisor = shifted(below, down);
  if (divisor == 0) return (qe_gain){0, 0};                   /* never: its highest bit is at its place */
  int64_t quotient = (int64_t)(shifted(above, up) / divisor); /* 31 or 32 bits */
  return (qe_gain){(numerator < 0) == (denominator < 0) ? quotient : -quotient, exponent - up + down};
}

qe_gain qe_gain_times(qe_gain a, qe_gain b) {
  return qe_gain_ratio((qe_s128)a.mantissa * b.mantissa, 1, a.exponent + b.exponent);
}

qe_gain qe_gain_root(qe_gain gain) {
  enum { SQUARE_BITS = 124 };
  if (gain.mantissa <= 0) return (qe_gain){0, 0};
  int up = SQUARE_BITS - bits_of((qe_u128)gain.mantissa);
  if ((gain.exponent - up) % 2) up--;
  int64_t root = qe_integer_root((qe_s128)gain.mantissa << up);
  return (qe_gain){root >> MANTISSA, (gain.exponent - up) / 2 + MANTISSA};
}

qe_gain qe_gain_of_units(qe_unit from, qe_unit to) {
  return qe_gain_ratio(from.mantissa, to.mantissa, from.exponent - to.exponent);
}

qe_s128 qe_gain_apply(qe_gain gain, qe_s128 value, int32_t shift) {
  const qe_s128 most = (qe_s128)1 << MOST_BITS;
  qe_u128 product = magnitude(gain.mantissa);
  int exponent = gain.exponent + shift, spare = bits_of(product) - MANTISSA - 1;
  if (spare > 0) { /* to 32 bits, so that the product fits */
    product >>= spare;
    exponent += spare;
  }
  product *= magnitude(value);
  if (exponent >= 0)
    product = bits_of(product) + exponent > MOST_BITS ? (qe_u128)most : product << exponent;
  else
    product = exponent < -127 ? 0 : (product + ((qe_u128)1 << (-exponent - 1))) >> -exponent;
  if (product > (qe_u128)most) product = (qe_u128)most;
  return (gain.mantissa < 0) == (value < 0) ? (qe_s128)product : -(qe_s128)product;
}

/* ---- scales ---- */

void qe_scales_free(qe_scales *scales) {
  qe_free(scales->gain[0]);
  qe_free(scales->gain[1]);
  qe_free(scales->offset);
  memset(scales, 0, sizeof *scales);
}

qe_status qe_scales_new(int branches, int32_t channels, qe_scales *scales) {
  *scales = (qe_scales){.offset = QE_NEW_ARRAY(qe_gain, channels), .channels = channels};
  bool all = scales->offset != NULL;
  for (int b = 0; b < branches; b++) all = (scales->gain[b] = QE_NEW_ARRAY(qe_gain, channels)) && all;
  if (all) return QE_OK;
  qe_scales_free(scales);
  return QE_NO_MEMORY;
}

static int64_t half_of(int32_t shift) {
  return shift > 0 ? INT64_C(1) << (shift - 1) : 0;
}

void qe_scales_get(const qe_network_layer *layer, qe_scales *scales) {
  int32_t shift = layer->attrs.requant.shift;
  for (int32_t c = 0; c < scales->channels; c++) {
    for (int b = 0; b < layer->inputs; b++) scales->gain[b][c] = (qe_gain){layer->multiplier[b][c], -shift};
    scales->offset[c] = (qe_gain){layer->offset[c] - half_of(shift), -shift};
  }
}

/* ---- the shift ---- */

/* The constants at the layer's shift; whether they fit their types. */
static bool fill(const qe_scales *scales, qe_network_layer *layer) {
  int32_t shift = layer->attrs.requant.shift;
  for (int32_t c = 0; c < scales->channels; c++) {
    for (int b = 0; b < layer->inputs; b++) {
      qe_s128 m = qe_gain_apply(scales->gain[b][c], 1, shift);
      if (magnitude(m) > INT32_MAX) return false;
      layer->multiplier[b][c] = (int32_t)m;
    }
    qe_s128 offset = qe_gain_apply(scales->offset[c], 1, shift);
    if (magnitude(offset) > INT64_MAX / 4) return false;
    layer->offset[c] = (int64_t)offset + half_of(shift);
  }
  return true;
}

static qe_sum_width width_at(const qe_scales *scales, const int64_t reach[2], qe_network_layer *layer, int32_t shift) {
  const int32_t *const multiplier[2] = {layer->multiplier[0], layer->multiplier[1]};
  layer->attrs.requant.shift = shift;
  return fill(scales, layer) ? qe_requant_width(layer, multiplier, layer->offset, reach) : QE_SUM_OVERFLOWS;
}

/* Rounding a multiplier is at most half a unit in 2^shift for each code of its branch. */
static bool is_exact(const qe_network_layer *layer, const int64_t reach[2]) {
  qe_s128 error = 1;
  for (int b = 0; b < layer->inputs; b++) error += reach[b];
  return error * (CODE_SHARE / 2) <= (qe_s128)1 << layer->attrs.requant.shift;
}

static bool choose(const qe_scales *scales, const int64_t reach[2], qe_network_layer *layer) {
  layer->attrs.requant.narrow = 0;
  int32_t shift = layer->attrs.requant.to == QE_S32 ? -1 : NARROW_SHIFT;
  while (shift >= 0 && width_at(scales, reach, layer, shift) != QE_SUM_NARROW) shift--;
  if (shift >= 0 && is_exact(layer, reach)) {
    layer->attrs.requant.narrow = 1;
    return true;
  }
  shift = WIDE_SHIFT;
  while (shift >= 0 && width_at(scales, reach, layer, shift) == QE_SUM_OVERFLOWS) shift--;
  return shift >= 0;
}

qe_status qe_scales_set(const qe_scales *scales, const int64_t reach[2], qe_network_layer *layer) {
  qe_network_layer made = *layer;
  made.offset = QE_NEW_ARRAY(int64_t, scales->channels);
  for (int b = 0; b < layer->inputs; b++) made.multiplier[b] = QE_NEW_ARRAY(int32_t, scales->channels);
  bool all = made.offset && made.multiplier[0] && (layer->inputs == 1 || made.multiplier[1]), found = false;
  if (all) found = choose(scales, reach, &made);
  for (int b = 0; found && b < layer->inputs; b++)
    memcpy(layer->multiplier[b], made.multiplier[b], (size_t)scales->channels * sizeof *made.multiplier[b]);
  if (found) {
    memcpy(layer->offset, made.offset, (size_t)scales->channels * sizeof *made.offset);
    layer->attrs.requant = made.attrs.requant;
  }
  qe_free(made.offset);
  for (int b = 0; b < layer->inputs; b++) qe_free(made.multiplier[b]);
  if (!all) return QE_NO_MEMORY;
  return found ? QE_OK : qe_fail(QE_REFUSED, "%s: no shift holds its multipliers and offsets", layer->name);
}

qe_status qe_scales_put(const qe_scales *scales, qe_network *network, int32_t at) {
  qe_network_layer *layer = &network->layer[at];
  int64_t reach[2] = {0};
  for (int b = 0; b < layer->inputs; b++) {
    const qe_network_layer *source = &network->layer[layer->input[b]];
    reach[b] = -(int64_t)source->low > source->high ? -(int64_t)source->low : source->high;
  }
  QE_TRY(qe_scales_set(scales, reach, layer));
  qe_network_prove_layer(network, (size_t)at);
  return QE_OK;
}
