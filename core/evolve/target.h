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

/* Codes of the student's requantiser that one code of the teacher's is worth: by their units, or where one has none,
 * by the second moments of their values before the clamp. */
QE_CHECKED qe_status qe_target_ratio(const qe_guided *walk, const qe_guided_place *place, qe_gain *ratio);

#endif
