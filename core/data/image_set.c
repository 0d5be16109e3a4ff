/* Data sets in folders and tar shards: their parts and classes, and how they come into memory where they fit. */
#include "core/data/image_set.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/data/loader.h"

#include <string.h>

enum { HOLD_BATCH = 64 };

static const char *const training_words[] = {"train", NULL};
static const char *const test_words[] = {"val", "test", NULL};

qe_image_options qe_image_defaults(void) {
  return (qe_image_options){.side = 224, .least_area = 0.08, .prefetch = 3};
}

int qe_image_resize(int side) {
  return side <= 64 ? side : (side * 8 + 3) / 7;
}

void qe_image_set_free(qe_image_set *set) {
  if (!set) return;
  qe_class_names_free(&set->classes);
  for (int part = 0; part < 2; part++) qe_image_list_free(&set->part[part]);
  qe_free(set);
}

/* ---- opening ---- */

static qe_status check_options(const qe_image_options *options) {
  if (options->side < 1 || options->side > QE_MAX_SIDE)
    return qe_fail(QE_USAGE, "image size %d: must be from 1 to %d", options->side, QE_MAX_SIDE);
  if (options->resize < options->side || options->resize > 2 * QE_MAX_SIDE)
    return qe_fail(QE_USAGE, "resize %d: must be from the image size, %d, to %d", options->resize, options->side,
                   2 * QE_MAX_SIDE);
  if (!(options->least_area > 0 && options->least_area <= 1))
    return qe_fail(QE_USAGE, "crop area %g: must be above 0 and at most 1", options->least_area);
  if (options->threads < 0 || options->prefetch < 1)
    return qe_fail(QE_USAGE, "%d loader threads, %d batches ahead: must be at least 0 and 1", options->threads,
                   options->prefetch);
  return QE_OK;
}

/* The folder of a part, by the first of its usual names that is there; *found says whether one is. */
static qe_status read_part_folder(const char *path, const char *const *names, qe_image_set *set, int part,
                                  bool *found) {
  for (*found = false; *names && !*found; names++) {
    char *folder = qe_path_join(path, *names);
    if (!folder) return QE_NO_MEMORY;
    *found = qe_folder_exists(folder);
    qe_status status = *found ? qe_image_list_read(folder, &set->classes, &set->part[part]) : QE_OK;
    qe_free(folder);
    QE_TRY(status);
  }
  return QE_OK;
}

static qe_status read_part(const char *path, qe_image_set *set, int part) {
  static const char *const training[] = {"train", NULL}, *const test[] = {"val", "valid", "validation", "test", NULL};
  bool found;
  QE_TRY(read_part_folder(path, part ? test : training, set, part, &found));
  if (!found)
    QE_TRY(qe_image_list_read_shards(path, part ? test_words : training_words, &set->classes, &set->part[part]));
  if (set->part[part].count == 0)
    return qe_fail(
        QE_NOT_FOUND,
        "%s: no %s images: %s is expected in it (a folder for each class, or tar shards), or tar shards with "
        "%s in their names",
        path, part ? "test" : "training", part ? "a folder val or test" : "a folder train",
        part ? "val or test" : "train");
  return part == 0 ? qe_class_names_close(&set->classes, &set->part[part]) : QE_OK;
}

static qe_status copy_labels(const qe_image_list *list, int32_t **labels) {
  *labels = QE_NEW_ARRAY(int32_t, list->count);
  if (!*labels) return QE_NO_MEMORY;
  for (size_t i = 0; i < list->count; i++) (*labels)[i] = list->entry[i].label;
  return QE_OK;
}

qe_status qe_image_set_open(const char *path, const qe_image_options *options, qe_dataset *dataset) {
  qe_image_set *set = dataset->images = QE_NEW(qe_image_set);
  if (!set) return QE_NO_MEMORY;
  set->options = *options;
  if (set->options.resize == 0) set->options.resize = qe_image_resize(options->side);
  QE_TRY(check_options(&set->options));
  if (!qe_folder_exists(path))
    return qe_fail(QE_NOT_FOUND,
                   "%s: no such folder; --data " QE_FOLDER_PREFIX "PATH takes one with train and val in it", path);
  for (int part = 0; part < 2; part++) QE_TRY(read_part(path, set, part));
  dataset->classes = set->classes.count;
  if (!set->classes.numbers) dataset->class_names = (const char *const *)set->classes.name;
  dataset->height = dataset->width = options->side;
  dataset->channels = 3;
  dataset->train_images = (int)set->part[0].count;
  dataset->test_images = (int)set->part[1].count;
  QE_TRY(copy_labels(&set->part[0], &dataset->train_labels));
  return copy_labels(&set->part[1], &dataset->test_labels);
}

/* ---- into memory ---- */

size_t qe_dataset_bytes(const qe_dataset *dataset) {
  size_t image = (size_t)dataset->height * (size_t)dataset->width * (size_t)dataset->channels;
  return ((size_t)dataset->train_images + (size_t)dataset->test_images) * image;
}

static qe_status hold_part(const qe_dataset *dataset, bool test, uint8_t **pixels) {
  int images = test ? dataset->test_images : dataset->train_images;
  size_t image = (size_t)dataset->height * (size_t)dataset->width * (size_t)dataset->channels;
  *pixels = qe_alloc((size_t)images * image);
  if (!*pixels) return QE_NO_MEMORY;
  qe_loader *loader = NULL;
  int32_t *index = QE_NEW_ARRAY(int32_t, images);
  qe_status status = index ? qe_loader_new(dataset, test, false, HOLD_BATCH, &loader) : QE_NO_MEMORY;
  for (int i = 0; status == QE_OK && i < images; i++) index[i] = i;
  if (status == QE_OK) status = qe_loader_expect(loader, index, images, 0, 0);
  for (int first = 0; status == QE_OK && first < images; first += HOLD_BATCH) {
    const uint8_t *batch;
    int count = images - first < HOLD_BATCH ? images - first : HOLD_BATCH;
    status = qe_loader_take(loader, index + first, count, 0, (uint64_t)first, &batch);
    if (status == QE_OK) memcpy(*pixels + (size_t)first * image, batch, (size_t)count * image);
  }
  qe_loader_free(loader);
  qe_free(index);
  return status;
}

qe_status qe_dataset_hold(qe_dataset *dataset, size_t limit) {
  if (!dataset->images) return QE_OK;
  size_t bytes = qe_dataset_bytes(dataset);
  if (bytes > limit)
    return qe_fail(QE_USAGE,
                   "%s: %d images of %dx%d take %zu MiB, more than the %zu MiB that may be held in memory: make "
                   "--image-size smaller or --data-memory larger",
                   dataset->source, dataset->train_images + dataset->test_images, dataset->width, dataset->height,
                   bytes >> 20, limit >> 20);
  uint8_t *train = NULL, *test = NULL;
  qe_status status = hold_part(dataset, false, &train);
  if (status == QE_OK) status = hold_part(dataset, true, &test);
  if (status != QE_OK) {
    qe_free(train);
    qe_free(test);
    return status;
  }
  dataset->train_pixels = train;
  dataset->test_pixels = test;
  dataset->own_names = dataset->images->classes.name; /* class_names points there */
  dataset->images->classes.name = NULL;
  qe_image_set_free(dataset->images);
  dataset->images = NULL;
  return QE_OK;
}
