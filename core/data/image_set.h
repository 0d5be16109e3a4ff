/* Data sets of encoded images: folders and tar shards of JPEG and PNG, whose images are decoded when they are needed.
 */
#ifndef QE_DATA_IMAGE_SET_H
#define QE_DATA_IMAGE_SET_H

#include "core/data/dataset.h"
#include "core/data/image_list.h"

#ifdef __cplusplus
extern "C" {
#endif

#define QE_FOLDER_PREFIX "folder:"

/* What becomes of an image, and how the work is done; the latter changes no pixel. */
typedef struct qe_image_options {
  int side;          /* of the square that the network sees; 1 to QE_MAX_SIDE */
  int resize;        /* shorter side before the middle is taken, at least `side`; 0: chosen by qe_image_resize */
  double least_area; /* training: the least part of the area that a random-resized crop takes; 1: the middle, no crop */
  int threads;       /* that decode; 0: one a core */
  int prefetch;      /* batches prepared ahead, at least 1 */
} qe_image_options;

enum { QE_MAX_SIDE = 4096 };

qe_image_options qe_image_defaults(void);
/* The shorter side that goes with `side` when nothing is asked for: 256 for 224, in this proportion; up to 64 pixels,
 * where whole images are small, the side itself. */
int qe_image_resize(int side);

/* Of a data set whose images are not in memory. */
typedef struct qe_image_set {
  qe_image_options options;
  qe_class_names classes;
  qe_image_list part[2]; /* training, test */
} qe_image_set;

/* The data set in folder `path`: folders `train` and `val` (or valid, validation, test) as qe_image_list_read takes
 * them, or tar shards with these words in their names. Labels are known after this, no image has been looked at. */
QE_CHECKED qe_status qe_image_set_open(const char *path, const qe_image_options *options, qe_dataset *dataset);
void qe_image_set_free(qe_image_set *set); /* NULL is fine */

/* Bytes that the images of the data set take in memory at the size at which they are used. */
size_t qe_dataset_bytes(const qe_dataset *dataset);
/* Decode all images that are not in memory yet, as in evaluation, and keep them there: for searches and for sets that
 * fit. QE_USAGE when that takes more than `limit` bytes. */
QE_CHECKED qe_status qe_dataset_hold(qe_dataset *dataset, size_t limit);

#ifdef __cplusplus
}
#endif
#endif
