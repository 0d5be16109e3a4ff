/* Batch norm's statistics of a network whose quantisers have changed: means and variances over one batch of training
 * images, which take the place of the running ones. */
#ifndef QE_TRAIN_NORMS_H
#define QE_TRAIN_NORMS_H

#include "core/train/session.h"

typedef struct qe_norms {
  qe_queue *queue;
  qe_image_store store;             /* the batch alone */
  qe_buffer *params, *arena, *kept; /* NULL before the first estimate; kept: codes of the last one's model */
  int32_t *labels, *index;          /* of the batch; the store's labels are these */
  int32_t images;
} qe_norms;

/* A batch of so many training images, drawn by the seed. The data set must be held in memory. */
QE_CHECKED qe_status qe_norms_open(qe_device *device, const qe_dataset *data, uint64_t seed, int32_t images,
                                   qe_norms *norms);
void qe_norms_close(qe_norms *norms); /* of zeros is fine */
/* The model's running statistics become the batch's; nothing else of it changes. Steps must have values. `before`: the
 * model of the last estimate as that has left it, or NULL: leading nodes in which both agree are not computed again,
 * which changes no bit. */
QE_CHECKED qe_status qe_norms_estimate(qe_norms *norms, const qe_model *before, qe_model *model);

#endif
