/* Which part of an image becomes a network's input, and the resampling that makes it. */
#ifndef QE_DATA_CROP_H
#define QE_DATA_CROP_H

#include "core/data/image.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A part of an image, the size that this part is resampled to, and the window of it that is kept. */
typedef struct qe_crop {
  int x, y, width, height; /* of the image */
  int to_width, to_height;
  int at_x, at_y; /* the window's corner; its size is the network's */
} qe_crop;

/* Evaluation: the whole image so that its shorter side is `resize`, and the middle of it, `side` x `side`; resize is at
 * least side. */
qe_crop qe_crop_middle(int width, int height, int resize, int side);

/* Training: a rectangle of at least `least` / 65536 of the area (up to all of it) and 3/4 to 4/3 times as wide as high,
 * resampled to `side` x `side` (torchvision's RandomResizedCrop: ten tries, then the middle). A function of seed and
 * `position` only, the same on every machine. */
qe_crop qe_crop_random(int width, int height, uint32_t least, int side, uint64_t seed, uint64_t position);

/* The largest of 1, 2, 4, 8 by which the image may be reduced so that nothing has to be enlarged for that, and the crop
 * of the reduced image. */
int qe_crop_reduce(const qe_crop *crop);
qe_crop qe_crop_of_reduced(const qe_crop *crop, int reduce, int width, int height);

/* Scratch of resampling, for one thread; starts as all 0. */
typedef struct qe_resampler {
  uint8_t *rows;
  int16_t *weights;
  int32_t *taps;
  size_t rows_capacity, weights_capacity, taps_capacity;
} qe_resampler;

void qe_resampler_free(qe_resampler *resampler);

/* What qe_resample reads of the image for it. */
qe_region qe_crop_needs(const qe_crop *crop, int side);

/* Fill target [side, side, 3]. Bilinear, over wider supports where the picture gets smaller (as Pillow's BILINEAR,
 * within one step of 255), in integers. The crop must lie within the image and its window within what it is resampled
 * to; the picture must hold qe_crop_needs. */
QE_CHECKED qe_status qe_resample(qe_resampler *resampler, const qe_picture *picture, const qe_crop *crop, int side,
                                 uint8_t *target);

#ifdef __cplusplus
}
#endif
#endif
