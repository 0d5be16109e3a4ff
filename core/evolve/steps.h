/* The steps of activations: how much one code of a requantiser's output is worth, and so where its values are clipped,
 * chosen by the error that the next convolution, searched and fitted for it, is left with. */
#ifndef QE_EVOLVE_STEPS_H
#define QE_EVOLVE_STEPS_H

#include "core/evolve/local.h"
#include "core/evolve/target.h"

/* At requantiser `at`, its branches made and itself not run yet. Where a convolution reads its output, as it is or on a
 * grid coarser by a shift, the step grows or shrinks by eighths as long as that convolution's error falls. */
QE_CHECKED qe_status qe_steps_choose(qe_guided *walk, int32_t at, const qe_local_options *options);

/* One code of tensor `at`, which a requantiser makes, is to be worth `ratio` of what it is now: its constants, and
 * those of the requantisers behind that read it, are changed, so that but for rounding and the clamp nothing is. */
QE_CHECKED qe_status qe_steps_scale(qe_network *network, int32_t at, qe_gain ratio);

/* Whether a requantiser only makes a coarser grid of codes. */
bool qe_steps_is_shift(const qe_network *network, const qe_network_layer *layer);

#endif
