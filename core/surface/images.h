/* The images on which a surface is evaluated: a small data set of their own, drawn from a whole one. */
#ifndef QE_SURFACE_IMAGES_H
#define QE_SURFACE_IMAGES_H

#include "core/data/dataset.h"

/* `images` training and test images each (at most; 0: all), then `more` further training images (at most, from the
 * other end of the same order, so that they are others where there are enough). Which ones depends on the seed and the
 * numbers of images only. Train_images counts the further ones as well. */
QE_CHECKED qe_status qe_surface_images(const qe_dataset *data, int32_t images, int32_t more, uint64_t seed,
                                       qe_dataset **chosen);

#endif
