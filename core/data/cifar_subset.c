/* The subset of CIFAR-10 that is built in: lossless mosaics of 32x32 images, a row of the mosaic for each class. */
#include "core/data/cifar.h"

#include "core/base/alloc.h"

#include <png.h>
#include <string.h>

enum { TRAIN_PER_CLASS = 100, TEST_PER_CLASS = 50, TILE_ROW = QE_CIFAR_SIDE * QE_CIFAR_CHANNELS };

/* From subset/subset.S. */
#define HIDDEN __attribute__((visibility("hidden")))
extern const uint8_t qe_subset_train_png[] HIDDEN, qe_subset_test_png[] HIDDEN;
extern const uint64_t qe_subset_png_bytes[2] HIDDEN; /* of the training and of the test mosaic */

/* Decode a mosaic to rgb [10 * 32, per_class * 32, 3]. */
static qe_status decode_mosaic(const uint8_t *png, uint64_t bytes, int per_class, uint8_t *rgb) {
  png_image image;
  memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  bool good = png_image_begin_read_from_memory(&image, png, (size_t)bytes) != 0;
  if (good && (image.width != (png_uint_32)(per_class * QE_CIFAR_SIDE) ||
               image.height != (png_uint_32)(QE_CIFAR10_CLASSES * QE_CIFAR_SIDE))) {
    qe_status status =
        qe_fail(QE_FORMAT, "built-in CIFAR-10 subset: mosaic of %ux%u pixels, %dx%d expected", image.width,
                image.height, per_class * QE_CIFAR_SIDE, QE_CIFAR10_CLASSES * QE_CIFAR_SIDE);
    png_image_free(&image);
    return status;
  }
  image.format = PNG_FORMAT_RGB;
  good = good && png_image_finish_read(&image, NULL, rgb, 0, NULL) != 0;
  if (!good) return qe_fail(QE_FORMAT, "built-in CIFAR-10 subset: libpng says: %s", image.message);
  return QE_OK;
}

/* Mosaic to pixels [10 * per_class, 32, 32, 3] and labels. */
static qe_status read_mosaic(const uint8_t *png, uint64_t bytes, int per_class, uint8_t *pixels, int32_t *labels) {
  size_t stride = (size_t)per_class * TILE_ROW;
  uint8_t *rgb = qe_alloc(QE_CIFAR10_CLASSES * QE_CIFAR_SIDE * stride);
  if (!rgb) return QE_NO_MEMORY;
  qe_status status = decode_mosaic(png, bytes, per_class, rgb);
  for (int image = 0; image < QE_CIFAR10_CLASSES * per_class && status == QE_OK; image++) {
    int label = image / per_class, column = image % per_class;
    labels[image] = label;
    for (int y = 0; y < QE_CIFAR_SIDE; y++)
      memcpy(pixels + ((size_t)image * QE_CIFAR_SIDE + (size_t)y) * TILE_ROW,
             rgb + (size_t)(label * QE_CIFAR_SIDE + y) * stride + (size_t)column * TILE_ROW, TILE_ROW);
  }
  qe_free(rgb);
  return status;
}

qe_status qe_cifar10_read_subset(qe_dataset *dataset) {
  QE_TRY(qe_dataset_alloc(dataset, QE_CIFAR10_CLASSES * TRAIN_PER_CLASS, QE_CIFAR10_CLASSES * TEST_PER_CLASS));
  QE_TRY(read_mosaic(qe_subset_train_png, qe_subset_png_bytes[0], TRAIN_PER_CLASS, dataset->train_pixels,
                     dataset->train_labels));
  return read_mosaic(qe_subset_test_png, qe_subset_png_bytes[1], TEST_PER_CLASS, dataset->test_pixels,
                     dataset->test_labels);
}
