/* Images drawn from a data set, wherever they are. */
#include "core/surface/images.h"

#include "core/base/alloc.h"
#include "core/data/loader.h"
#include "core/data/split.h"

#include <string.h>

static int32_t fewer(int32_t a, int32_t b) {
  return a < b ? a : b;
}

/* The first `images` of the order, then the last `more`. */
static qe_status take(const qe_dataset *data, bool test, int32_t images, int32_t more, uint64_t seed, uint8_t *pixels,
                      int32_t *labels) {
  int32_t all = test ? data->test_images : data->train_images;
  const int32_t *from = test ? data->test_labels : data->train_labels;
  int32_t *order = QE_NEW_ARRAY(int32_t, all), *index = QE_NEW_ARRAY(int32_t, images + more);
  qe_status status = order && index ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) {
    qe_shuffle(seed, UINT32_MAX, order, all);
    memcpy(index, order, (size_t)images * sizeof *index);
    memcpy(index + images, order + all - more, (size_t)more * sizeof *index);
    for (int32_t i = 0; i < images + more; i++) labels[i] = from[index[i]];
    status = qe_loader_copy(data, test, index, images + more, pixels);
  }
  qe_free(index);
  qe_free(order);
  return status;
}

qe_status qe_surface_images(const qe_dataset *data, int32_t images, int32_t more, uint64_t seed, qe_dataset **out) {
  int32_t train = images > 0 ? fewer(images, data->train_images) : data->train_images;
  int32_t test = images > 0 ? fewer(images, data->test_images) : data->test_images;
  qe_dataset *chosen = QE_NEW(qe_dataset);
  if (!chosen) return QE_NO_MEMORY;
  chosen->classes = data->classes;
  chosen->height = data->height;
  chosen->width = data->width;
  chosen->channels = data->channels;
  more = fewer(more, data->train_images);
  qe_status status = qe_dataset_alloc(chosen, train + more, test);
  if (status == QE_OK) status = take(data, false, train, more, seed, chosen->train_pixels, chosen->train_labels);
  if (status == QE_OK) status = take(data, true, test, 0, seed, chosen->test_pixels, chosen->test_labels);
  if (status == QE_OK)
    *out = chosen;
  else
    qe_dataset_free(chosen);
  return status;
}
