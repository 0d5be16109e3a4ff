/* Requantisers made anew from gains that are not bound to a shift: which multipliers, offsets and shift. */
#ifndef QE_EVOLVE_REQUANTISER_H
#define QE_EVOLVE_REQUANTISER_H

#include "core/base/wide.h"
#include "core/dispatch/network.h"

/* mantissa * 2^exponent */
typedef struct qe_gain {
  int64_t mantissa;
  int32_t exponent;
} qe_gain;

/* numerator / denominator * 2^exponent to 31 bits or more of the mantissa; 0 for a denominator of 0. */
qe_gain qe_gain_ratio(qe_s128 numerator, qe_s128 denominator, int32_t exponent);
/* The product, to as many bits. */
qe_gain qe_gain_times(qe_gain a, qe_gain b);
/* The square root of a gain that is not negative. */
qe_gain qe_gain_root(qe_gain gain);
/* value * gain * 2^shift, rounded to nearest; saturates at +-2^100. |value| is below 2^96. */
qe_s128 qe_gain_apply(qe_gain gain, qe_s128 value, int32_t shift);
/* How many codes of `to` one code of `from` is worth; both known. */
qe_gain qe_gain_of_units(qe_unit from, qe_unit to);

/* Output codes = sum_b gain[b][c] v_b + offset[c], rounded to nearest, halves up, and clamped. */
typedef struct qe_scales {
  qe_gain *gain[2]; /* [C] of each branch; [1] NULL with one */
  qe_gain *offset;  /* [C] */
  int32_t channels;
} qe_scales;

QE_CHECKED qe_status qe_scales_new(int branches, int32_t channels, qe_scales *scales);
void qe_scales_free(qe_scales *scales); /* of zeros is fine */
/* What a requantiser does; `scales` is of its branches and channels. */
void qe_scales_get(const qe_network_layer *layer, qe_scales *scales);

/* Multipliers, offsets and shift of a requantiser layer, whose branches reach at most `reach` in magnitude: the largest
 * shift that is narrow where that is exact to 1/128 of a code, as core/graph lowers them, else the largest wide one.
 * QE_REFUSED when not even shift 0 fits; the layer is then unchanged. */
QE_CHECKED qe_status qe_scales_set(const qe_scales *scales, const int64_t reach[2], qe_network_layer *layer);
/* The same for a network's layer `at`, ranges before it proven; its own is proven anew. */
QE_CHECKED qe_status qe_scales_put(const qe_scales *scales, qe_network *network, int32_t at);

#endif
