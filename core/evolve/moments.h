/* Second moments of a convolution's inputs and of a target that its sums are to follow: all that the local search and
 * the fit of a requantiser need to know of the images. Exact integers. */
#ifndef QE_EVOLVE_MOMENTS_H
#define QE_EVOLVE_MOMENTS_H

#include "core/dispatch/dispatch.h"
#include "core/evolve/trace.h"

typedef struct qe_moments {
  int32_t inputs, outputs; /* K: inputs of an output, O */
  int64_t count;           /* n: positions, of all images */
  int64_t *gram;           /* [K, K]: sum of a a' */
  int64_t *input;          /* [K]: sum of a */
  int64_t *cross;          /* [O, K]: sum of q a */
  int64_t *target;         /* [O]: sum of q */
  int64_t *square;         /* [O]: sum of q^2 */
} qe_moments;

/* Of convolution `conv` (of one group), its input in the trace, and q: s32 [images, H, W, O]. */
QE_CHECKED qe_status qe_moments_new(const qe_trace *trace, int32_t conv, qe_buffer *q, qe_moments *moments);
void qe_moments_free(qe_moments *moments); /* of zeros is fine */

/* Moments about the means, so that an offset is always the best: gram, cross and square lose what the sums explain,
 * rounded to integers; the sums stay. */
void qe_moments_centre(qe_moments *moments);
/* The target less a constant in each output [O]. */
void qe_moments_less(qe_moments *moments, const int64_t *constant);

/* Per-channel sums of values and of their squares: s64 [C] each; value: codes or s32. */
QE_CHECKED qe_status qe_channel_moments(qe_queue *queue, qe_desc desc, qe_buffer *value, int64_t *sum, int64_t *square);

#endif
