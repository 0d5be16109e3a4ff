/* Calibration: requantisers from the sums that the network really makes, its codes untouched, layer by layer. What
 * re-estimating batch norm is to a float network, in integers. */
#ifndef QE_EVOLVE_CALIBRATE_H
#define QE_EVOLVE_CALIBRATE_H

#include "core/dispatch/dispatch.h"
#include "core/dispatch/network.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Without a teacher: a convolution's share of each requantiser gets this mean and standard deviation in every channel,
 * both in shares of the largest code; requantisers that give s32 logits: mean 0 and a deviation in their own units. */
typedef struct qe_calibrate_options {
  int32_t mean[2], deviation[2]; /* numerator, denominator */
  int32_t logits;
} qe_calibrate_options;

/* Mean 0, a third of the range: 5 of 15; logits of 2 bits. */
qe_calibrate_options qe_calibrate_defaults(void);

/* With a teacher (of the same model; `options` are not used then): mean and deviation of each channel of each
 * convolution's share of its requantiser become the teacher's, in the network's units. `options` NULL: the defaults.
 * Channels whose sums never vary keep their multipliers. `pixels`: u8 [images, H, W, C] on the queue's device, as layer
 * 0 has them. QE_USAGE when the teacher is not of the same model. */
QE_CHECKED qe_status qe_calibrate(qe_queue *queue, qe_network *network, const qe_network *teacher, qe_buffer *pixels,
                                  int32_t images, const qe_calibrate_options *options);

#ifdef __cplusplus
}
#endif
#endif
