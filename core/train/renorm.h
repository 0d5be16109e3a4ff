/* Batch norm's running statistics of the weights that a model has now: after weights were averaged, quantised anew or
 * changed in any other way than by training. */
#ifndef QE_TRAIN_RENORM_H
#define QE_TRAIN_RENORM_H

#include "core/train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_renorm_options {
  uint64_t seed;
  int32_t held_out; /* as in training: images held out are not looked at */
  int32_t batch;    /* images a forward pass */
  int32_t images;   /* in whole batches, at least one; 0: all training images */
  bool plain;       /* of the float network of a quantised graph's parameters */
} qe_renorm_options;

/* Replaces running means and variances by the means, over batches of training images without augmentation (streamed
 * images: with their random crops), of what these batches have; each layer sees the others on batch statistics, as in
 * training. Sums are in double precision, batches in an order of the seed: two calls give the same bits on a device
 * whose passes do. A model without batch norm stays as it is. */
QE_CHECKED qe_status qe_renorm(qe_device *device, qe_model *model, const qe_dataset *data,
                               const qe_renorm_options *options);

#ifdef __cplusplus
}
#endif
#endif
