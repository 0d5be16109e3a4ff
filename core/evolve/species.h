/* One convolution with its requantiser under local search: one species an output channel. What a channel's
 * gain * (w a) + offset leaves of its target q is, about the means,
 *   gain^2 (w'Gw - 2 w'c / gain) + sum q^2,   G = sum a a', c = sum q a,
 * so that the codes are searched with r = Gw - c / gain and the gain fitted as w'c / w'Gw, in turn. */
#ifndef QE_EVOLVE_SPECIES_H
#define QE_EVOLVE_SPECIES_H

#include "core/evolve/local.h"
#include "core/evolve/moments.h"
#include "core/evolve/target.h"

typedef struct qe_species {
  qe_local_options options;
  qe_network_layer *conv; /* its codes are searched in place */
  qe_guided_place place;
  qe_moments moments;
  qe_scales scales; /* of the requantiser; fitted here, put into it by qe_scales_put */
} qe_species;

/* With the target q of qe_target_new. */
QE_CHECKED qe_status qe_species_new(qe_species *species, const qe_guided *walk, const qe_guided_place *place,
                                    const qe_local_options *options, qe_buffer *q);
void qe_species_free(qe_species *species); /* of zeros is fine */

/* Each channel from options.starts different gains, options.rounds of search and fit from each; the best is kept, never
 * worse than what was there. */
QE_CHECKED qe_status qe_species_improve(qe_species *species);
/* The sum over channels and positions of the squared error, in squares of the target's unit. */
QE_CHECKED qe_status qe_species_error(const qe_species *species, qe_s128 *error);

#endif
