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
 * both as numerator / denominator of output codes. */
typedef struct qe_calibrate_options {
  int32_t mean[2], deviation[2];
} qe_calibrate_options;

/* For codes 0...high: mean 0, deviation a third of the range: 5 of 15. */
qe_calibrate_options qe_calibrate_defaults(int32_t high);

/* With a teacher (of the same model; `options` may be NULL): mean and deviation of each channel of each convolution's
 * share of its requantiser become the teacher's, in the network's units. Channels whose sums never vary keep their
 * multipliers. `pixels`: u8 [images, H, W, C] on the queue's device, as layer 0 has them. QE_USAGE when the teacher is
 * not of the same model. */
QE_CHECKED qe_status qe_calibrate(qe_queue *queue, qe_network *network, const qe_network *teacher, qe_buffer *pixels,
                                  int32_t images, const qe_calibrate_options *options);

#ifdef __cplusplus
}
#endif
#endif
