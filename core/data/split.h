/* Which training images are held out, and the order of the images in an epoch: pure functions of a seed. */
#ifndef QE_DATA_SPLIT_H
#define QE_DATA_SPLIT_H

#include "core/base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Hold out `held_out` of `count` images (0 to count), the classes in the proportions of `labels` [count], each from 0
 * to classes - 1: every class gives the whole part of its share, the classes with the largest remainders (the lower
 * class first) one more. Writes the indices of the images that are kept to kept [count - held_out] and of the others to
 * held [held_out], both ascending. Which ones depends on seed and labels only. */
QE_CHECKED qe_status qe_split(uint64_t seed, const int32_t *labels, int count, int classes, int held_out, int32_t *kept,
                              int32_t *held);

/* Write a permutation of 0 to count - 1 to order [count] that depends on seed, epoch (below 2^32) and count only. */
void qe_shuffle(uint64_t seed, uint64_t epoch, int32_t *order, int count);

#ifdef __cplusplus
}
#endif
#endif
