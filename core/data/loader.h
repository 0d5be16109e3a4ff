/* The loader: decodes the images of coming batches on threads of its own while the device computes.
 *
 * The pixels of a batch are a function of its images, the seed and the position alone: not of the number of threads,
 * nor of what was announced. */
#ifndef QE_DATA_LOADER_H
#define QE_DATA_LOADER_H

#include "core/data/image_set.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_loader qe_loader;

/* Of a part of a data set with `images`, which must outlive it. `augmented`: random-resized crops where the set's
 * options have them. Holds options.prefetch + 1 batches of `batch` images, and what the threads need to decode one
 * image each. */
QE_CHECKED qe_status qe_loader_new(const qe_dataset *data, bool test, bool augmented, int32_t batch,
                                   qe_loader **loader);
/* Ends the threads; what they work on is dropped. NULL is fine. */
void qe_loader_free(qe_loader *loader);

/* Announce the images to come, `count` of them, in batches of `batch`, the last perhaps smaller: their decoding begins.
 * Image i of the list is drawn at `position` + i. The list is copied. Drops what was announced before. */
QE_CHECKED qe_status qe_loader_expect(qe_loader *loader, const int32_t *index, int64_t count, uint64_t seed,
                                      uint64_t position);

/* The next batch: `count` images (1 to batch) of `index`, image i drawn at `position` + i. When it is not the one that
 * was announced next, the announcement is dropped and the batch decoded now. *pixels [count, height, width, 3] stays
 * until the next call. QE_FORMAT, QE_IO, QE_NOT_FOUND: an image cannot be read; of several the first in the batch is
 * named. */
QE_CHECKED qe_status qe_loader_take(qe_loader *loader, const int32_t *index, int32_t count, uint64_t seed,
                                    uint64_t position, const uint8_t **pixels);

/* Images index [count] of a part as they are evaluated, to pixels [count, height, width, channels], wherever they are:
 * for a few. Errors as of qe_loader_take. */
QE_CHECKED qe_status qe_loader_copy(const qe_dataset *data, bool test, const int32_t *index, int32_t count,
                                    uint8_t *pixels);

/* Seconds that qe_loader_take has waited so far. */
double qe_loader_waited(const qe_loader *loader);
int qe_loader_threads(const qe_loader *loader);

#ifdef __cplusplus
}
#endif
#endif
