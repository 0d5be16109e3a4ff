/* Node perturbation: which way the weights of one convolution should go, from forward passes alone. Noise of one code
 * on the convolution's requantised outputs, different in every image, changes the loss; noise times change, summed over
 * draws, is an error at every output, and error times input code a vote on every weight.
 *
 * The network up to these outputs runs once an image; the rest runs for every draw, on any engine. */
#ifndef QE_EVOLVE_PERTURB_H
#define QE_EVOLVE_PERTURB_H

#include "core/evolve/fitness.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_perturb_options {
  int32_t pairs;    /* antithetic pairs of draws an image, 1...64 */
  int32_t chance;   /* of 256 noise values as many are not 0 */
  int32_t size;     /* codes that the noise adds; 0: 1/32 of their range, at least 1 */
  int32_t block[2]; /* rows and columns that share a value */
  bool signs;       /* of a pair's loss difference only the sign counts */
  int32_t images;   /* of a call of qe_perturb_vote at most */
  size_t memory;    /* as qe_population_options.memory */
} qe_perturb_options;

typedef struct qe_perturb qe_perturb;

/* Of the network as it is now; it must not change before qe_perturb_free. `conv`: its layer, an int_conv2d of one
 * group. QE_REFUSED where its sums do not become u8 codes of one requantiser, or the network cannot be cut there. */
QE_CHECKED qe_status qe_perturb_new(qe_device *device, const qe_network *network, int32_t conv,
                                    const qe_perturb_options *options, qe_perturb **perturb);
void qe_perturb_free(qe_perturb *perturb); /* NULL is fine */

/* Votes of images first...first + count - 1 of the view, [weights of the convolution]: positive where a larger code
 * raises the loss. Noise depends on seed and on an image's place in the view. The unit of the loss differences is that
 * of the first call, so that votes of one qe_perturb can be added. */
QE_CHECKED qe_status qe_perturb_vote(qe_perturb *perturb, const qe_fitness_view *view, uint64_t seed, int32_t first,
                                     int32_t count, int64_t *votes);
/* The Gram matrix of the convolution's inputs in the images of the last vote, [K, K] as the op int_gram has it. */
QE_CHECKED qe_status qe_perturb_gram(const qe_perturb *perturb, int64_t *gram);
/* Whether qe_perturb_new takes the layer. */
bool qe_perturb_can(const qe_network *network, int32_t conv);
/* What a vote of `count` images with `pairs` pairs of draws costs in candidate-images: one for each, and for each draw
 * the share of the network's multiply-adds that lie behind the layer. */
int64_t qe_perturb_cost(const qe_network *network, int32_t conv, int64_t count, int32_t pairs);

#ifdef __cplusplus
}
#endif
#endif
