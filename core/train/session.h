/* A lowered program with the buffers it reads its batches from: what training, evaluation and calibration share. */
#ifndef QE_TRAIN_SESSION_H
#define QE_TRAIN_SESSION_H

#include "core/data/loader.h"
#include "core/data/mixup.h"
#include "core/graph/lower.h"
#include "core/train/trainer.h"

/* Images of one part of a data set: in device memory, or to be decoded by the loaders of its sessions. */
typedef struct qe_image_store {
  qe_buffer *pixels;     /* NULL: they are decoded when needed */
  const int32_t *labels; /* host */
  int32_t images;
  const qe_dataset *data;
  bool test;
} qe_image_store;

QE_CHECKED qe_status qe_image_store_new(qe_queue *queue, const qe_dataset *data, bool test, qe_image_store *store);
void qe_image_store_free(qe_image_store *store);

/* Images mixed in pairs: what the program reads, and the same on the host. */
typedef struct qe_session_mix {
  bool on;
  qe_mixup draws;
  qe_buffer *rows, *other, *share, *labels;
  int32_t *host_other, *host_share, *host_labels; /* one block, host_other's */
} qe_session_mix;

/* Losses of a batch, summed over its images, of a program with a second network. */
typedef struct qe_twin_sums {
  double loss, guidance, hints;
  int64_t hits;
} qe_twin_sums;

void qe_twin_sums_add(qe_twin_sums *sums, const qe_twin_sums *of);

/* Where the program leaves them, and the same on the host; NULL: the program has no such thing. */
typedef struct qe_session_twin {
  bool on;
  qe_buffer *guidance, *hints, *loss, *hits;
  float *host_guidance, *host_hints, *host_loss; /* one block, host_guidance's */
  int32_t *host_hits;
  qe_twin_sums sums; /* of the last batch that was finished */
} qe_session_twin;

typedef struct qe_session {
  qe_queue *queue;
  int32_t batch;
  qe_lowered lowered;
  const qe_image_store *store;
  qe_loader *loader; /* NULL: the store's images are in device memory */
  qe_buffer *staged; /* with a loader: the images of the batch */
  qe_buffer *index, *counter, *labels, *loss, *hits;
  int32_t *host_index, *host_labels, *host_hits;
  int32_t host_counter[4];
  float *host_loss;
  qe_session_mix mix;
  qe_session_twin twin;
  qe_answer *answers; /* NULL, or the caller's [images of the store]: qe_session_run puts that of each image there */
  float *host_logits; /* [batch, classes] while there is `answers` */
} qe_session;

/* `params`, `gradients` (or NULL) and the store stay the caller's. options.images is set here; options.mixup: alpha as
 * for qe_mixup_init, 0: no mixing. A store whose images are to be decoded gets a loader, with random-resized crops when
 * options.training. */
QE_CHECKED qe_status qe_session_new(qe_queue *queue, const qe_graph *graph, const qe_lower_options *options,
                                    qe_buffer *params, qe_buffer *gradients, const qe_image_store *store,
                                    qe_session *session);
void qe_session_free(qe_session *session);

/* With a loader: announce `count` images to come in batches, so that they are ready when they are asked for (see
 * qe_loader_expect). Changes no result. */
QE_CHECKED qe_status qe_session_expect(qe_session *session, const int32_t *index, int64_t count, uint64_t seed,
                                       uint64_t position);

/* Enqueue one batch: images index[0..count), the rest of the batch filled with the first of them. Augmentation draws
 * start at `position`. The next start comes after a finish. */
QE_CHECKED qe_status qe_session_start(qe_session *session, const int32_t *index, int32_t count, uint64_t seed,
                                      uint64_t position);
/* Wait for it and for all that was enqueued since; adds loss sum and hits of the count images to *loss and *hits. Hits
 * of mixed images are in 256ths, as the op mix_xent counts them. */
QE_CHECKED qe_status qe_session_finish(qe_session *session, const int32_t *index, int32_t count, double *loss,
                                       int64_t *hits);
/* Both. */
QE_CHECKED qe_status qe_session_run(qe_session *session, const int32_t *index, int32_t count, uint64_t seed,
                                    uint64_t position, double *loss, int64_t *hits);

/* Mean loss and top-1 over `count` images, in batches. `index` NULL: images 0 to count - 1. */
QE_CHECKED qe_status qe_session_score(qe_session *session, const int32_t *index, int32_t count, qe_score *score);

#endif
