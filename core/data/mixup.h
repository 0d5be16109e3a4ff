/* Mixup (Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018): which images of a batch are mixed, and
 * with which shares. All in integers, so that every machine draws the same. */
#ifndef QE_DATA_MIXUP_H
#define QE_DATA_MIXUP_H

#include "core/base/op.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_MIXUP_ONE = 65536, QE_MIXUP_MOST = 16 * QE_MIXUP_ONE }; /* alpha = 1, the largest alpha */

/* The distribution Beta(alpha, alpha), rounded to 256ths. */
typedef struct qe_mixup {
  uint32_t bound[QE_SHARE_ALL]; /* 2^32 times the probability of a share up to this one */
} qe_mixup;

/* `alpha` in 65536ths, 1...QE_MIXUP_MOST; else QE_USAGE. */
QE_CHECKED qe_status qe_mixup_init(qe_mixup *mixup, int32_t alpha);

/* For a batch of `count` images whose draws start at `position` (the op augment's counter): image i keeps share[i] of
 * 256 parts, the rest is image other[i] of the batch. other[i] = (i + d) mod count, with one d in 1...count-1 for the
 * batch (0 for a single image); shares are drawn image by image. */
void qe_mixup_draw(const qe_mixup *mixup, uint64_t seed, uint64_t position, int32_t count, int32_t *other,
                   int32_t *share);

#ifdef __cplusplus
}
#endif
#endif
