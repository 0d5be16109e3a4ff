/* Points of a surface through float programs: batch-norm statistics made anew, losses and errors. */
#ifndef QE_SURFACE_PROGRAMS_H
#define QE_SURFACE_PROGRAMS_H

#include "core/surface/surface.h"
#include "core/train/session.h"

/* What one set of images is for: losses, or batch-norm statistics. */
typedef struct qe_surface_images_used {
  const qe_dataset *data; /* of qe_surface_images: the further training images lie behind the others */
  int32_t train, test, norm;
} qe_surface_images_used;

typedef struct qe_surface_programs {
  const qe_surface_images_used *images;
  qe_model *twin; /* the graph as it is lowered: batch norms keep nothing of what they had */
  qe_queue *queue;
  qe_buffer *params;
  qe_image_store store[2]; /* training, test */
  qe_session score[2], norm;
  float *state; /* of one batch: what batch norm leaves behind */
  double *mean; /* [running statistics]: sums over the batches */
  double *spread;
  int32_t *order;
} qe_surface_programs;

/* For models like this one. `rounded`: weights are quantised, else they are taken as they are; activations are
 * quantised as the model has it, either way. `scores`: losses are wanted, not statistics alone. */
QE_CHECKED qe_status qe_surface_programs_open(qe_device *device, const qe_model *model,
                                              const qe_surface_images_used *images, int32_t batch, bool rounded,
                                              bool scores, qe_surface_programs *programs);
void qe_surface_programs_close(qe_surface_programs *programs); /* of zeros is fine */

/* Running statistics of `values` made anew from the images kept for it, each batch normalised by its own. */
QE_CHECKED qe_status qe_surface_programs_estimate(qe_surface_programs *programs, float *values);
QE_CHECKED qe_status qe_surface_programs_score(qe_surface_programs *programs, const float *values,
                                               float score[QE_SURFACE_VALUES]);

#endif
