/* What a convolution's sums are to follow: the teacher's value at the same requantiser, before its clamp, in the
 * student's units. */
#ifndef QE_EVOLVE_TARGET_H
#define QE_EVOLVE_TARGET_H

#include "core/evolve/guided.h"
#include "core/evolve/requantiser.h"

enum { QE_TARGET_BITS = 8 }; /* of fraction */

/* q: s32 [images, H, W, C] in student's output codes * 2^-QE_TARGET_BITS: what gain * sum + offset of branch
 * place->branch should be. With `skip_error` the teacher's whole value less what the student's other branch adds, so
 * that the error which that one has gathered is made good; without it the teacher's own branch. */
QE_CHECKED qe_status qe_target_new(const qe_guided *walk, const qe_guided_place *place, bool skip_error, qe_buffer **q);

/* A target that knows the clamp: where student and teacher are both beyond the same end of the codes' range, nothing is
 * left to do. *clamped: what the convolution's share is now, more the difference of the two values after the clamp
 * (*error, s32 as the target). Least squares to it never raises the error after the clamp. `q` is of qe_target_new; the
 * student's convolution has run with its present codes. */
QE_CHECKED qe_status qe_target_clamped(const qe_guided *walk, const qe_guided_place *place, qe_buffer *q,
                                       qe_buffer **clamped, qe_buffer **error);

/* s32 [images, H, W, C]: what a requantiser makes, before its clamp, in its codes * 2^-QE_TARGET_BITS. */
QE_CHECKED qe_status qe_target_value(const qe_trace *trace, int32_t at, qe_buffer **value);

/* Codes of the student's requantiser that one code of the teacher's is worth, ratio [C]: by their units, or where one
 * has none, by the second moments of each channel's values before the clamp, 1 where there are none. */
QE_CHECKED qe_status qe_target_ratios(const qe_guided *walk, const qe_guided_place *place, qe_gain *ratio);

#endif
