/* What the ops augment and int_augment have in common: the pixels of an augmented image. */
#ifndef QE_CPU_REF_PIXELS_H
#define QE_CPU_REF_PIXELS_H

#include "core/base/op.h"

/* Image n of the batch of a call of augment or int_augment into `pixels` [H, W, C]; `work` has room for as many. */
void qe_ref_augmented(const qe_call *call, int64_t n, uint8_t *work, uint8_t *pixels);

#endif
