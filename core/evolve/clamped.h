/* Passes of the local search with a target that knows the clamp behind the requantiser. */
#ifndef QE_EVOLVE_CLAMPED_H
#define QE_EVOLVE_CLAMPED_H

#include "core/evolve/species.h"

/* After qe_species_improve, its result in the network and the convolution run: options.clamped more passes of search
 * and fit, each towards the target of qe_target_clamped. Every channel keeps the codes, gain and offset of the pass
 * that left it the least error after the clamp. `q`: the target of qe_target_new. */
QE_CHECKED qe_status qe_clamped_improve(qe_species *species, qe_guided *walk, qe_buffer *q);

#endif
