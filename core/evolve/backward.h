/* Integer back-propagation through a whole network: the rival that votes by perturbation are compared with. Errors of
 * the logits go back straight through every requantiser whose code is not clamped, and through convolutions as errors
 * of 8 bits; exponents keep what scales differ by. */
#ifndef QE_EVOLVE_BACKWARD_H
#define QE_EVOLVE_BACKWARD_H

#include "core/evolve/fitness.h"

/* Whether errors can come back to this convolution: no max-pool, groups or s8 codes of a residual path in between. */
bool qe_backward_can(const qe_network *network, int32_t conv);
/* Votes of images first...first + count - 1 of the view on the convolution's weights, as qe_perturb_vote; gram (or
 * NULL) as qe_perturb_gram. *exponent: unit of the votes, 2^*exponent; INT32_MIN asks for that of these images, else
 * votes come in the unit that is given. */
QE_CHECKED qe_status qe_backward_vote(qe_device *device, const qe_network *network, int32_t conv,
                                      const qe_fitness_view *view, int32_t first, int32_t count, int32_t *exponent,
                                      int64_t *votes, int64_t *gram);
/* What that costs in candidate-images: forward once, back as much as two forward runs of what lies behind. */
int64_t qe_backward_cost(const qe_network *network, int32_t conv, int64_t count);

#endif
