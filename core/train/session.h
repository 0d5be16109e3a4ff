/* A lowered program with the buffers it reads its batches from: what training, evaluation and calibration share. */
#ifndef QE_TRAIN_SESSION_H
#define QE_TRAIN_SESSION_H

#include "core/data/dataset.h"
#include "core/graph/lower.h"
#include "core/train/trainer.h"

/* Images of one part of a data set in device memory. */
typedef struct qe_image_store {
  qe_buffer *pixels;
  const int32_t *labels; /* host */
  int32_t images;
} qe_image_store;

QE_CHECKED qe_status qe_image_store_new(qe_queue *queue, const qe_dataset *data, bool test, qe_image_store *store);
void qe_image_store_free(qe_image_store *store);

typedef struct qe_session {
  qe_queue *queue;
  int32_t batch;
  qe_lowered lowered;
  const qe_image_store *store;
  qe_buffer *index, *counter, *labels, *loss, *hits;
  int32_t *host_index, *host_labels, *host_hits;
  int32_t host_counter[4];
  float *host_loss;
  qe_answer *answers; /* NULL, or the caller's [images of the store]: qe_session_run puts that of each image there */
  float *host_logits; /* [batch, classes] while there is `answers` */
} qe_session;

/* `params`, `gradients` (or NULL) and the store stay the caller's. options.images is set here. */
QE_CHECKED qe_status qe_session_new(qe_queue *queue, const qe_graph *graph, const qe_lower_options *options,
                                    qe_buffer *params, qe_buffer *gradients, const qe_image_store *store,
                                    qe_session *session);
void qe_session_free(qe_session *session);

/* Enqueue one batch: images index[0..count), the rest of the batch filled with the first of them. Augmentation draws
 * start at `position`. The next start comes after a finish. */
QE_CHECKED qe_status qe_session_start(qe_session *session, const int32_t *index, int32_t count, uint64_t seed,
                                      uint64_t position);
/* Wait for it and for all that was enqueued since; adds loss sum and hits of the count images to *loss and *hits. */
QE_CHECKED qe_status qe_session_finish(qe_session *session, const int32_t *index, int32_t count, double *loss,
                                       int64_t *hits);
/* Both. */
QE_CHECKED qe_status qe_session_run(qe_session *session, const int32_t *index, int32_t count, uint64_t seed,
                                    uint64_t position, double *loss, int64_t *hits);

/* Mean loss and top-1 over `count` images, in batches. `index` NULL: images 0 to count - 1. */
QE_CHECKED qe_status qe_session_score(qe_session *session, const int32_t *index, int32_t count, qe_score *score);

#endif
