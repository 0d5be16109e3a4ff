/* The table of data sets and the order of the places where one is looked for. */
#include "core/data/dataset.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/nearest.h"
#include "core/data/class_names.h"
#include "core/data/image_set.h"

#include <stdlib.h>
#include <string.h>

#define CIFAR10_SUBSET "built-in subset (1,000 training and 500 test images of CIFAR-10)"

static const qe_dataset_kind kinds[] = {
    {.name = "cifar10",
     .classes = QE_CIFAR10_CLASSES,
     .height = QE_CIFAR_SIDE,
     .width = QE_CIFAR_SIDE,
     .channels = QE_CIFAR_CHANNELS,
     .class_names = qe_cifar10_classes,
     .folder = "cifar-10-batches-bin",
     .marker = "data_batch_1.bin",
     .cure = "run 'qevo-gpu data get cifar10'",
     .read = qe_cifar10_read,
     .read_builtin = qe_cifar10_read_subset,
     .builtin_source = CIFAR10_SUBSET},
    {.name = "cifar10-subset",
     .classes = QE_CIFAR10_CLASSES,
     .height = QE_CIFAR_SIDE,
     .width = QE_CIFAR_SIDE,
     .channels = QE_CIFAR_CHANNELS,
     .class_names = qe_cifar10_classes,
     .read_builtin = qe_cifar10_read_subset,
     .builtin_source = CIFAR10_SUBSET},
    {.name = "cifar100",
     .classes = QE_CIFAR100_CLASSES,
     .height = QE_CIFAR_SIDE,
     .width = QE_CIFAR_SIDE,
     .channels = QE_CIFAR_CHANNELS,
     .class_names = qe_cifar100_classes,
     .folder = "cifar-100-binary",
     .marker = "train.bin",
     .cure = "run 'qevo-gpu data get cifar100'",
     .read = qe_cifar100_read},
    {.name = "mnist",
     .classes = QE_MNIST_CLASSES,
     .height = QE_MNIST_SIDE,
     .width = QE_MNIST_SIDE,
     .channels = 1,
     .class_names = qe_mnist_classes,
     .folder = "mnist",
     .marker = "train-images-idx3-ubyte",
     .cure = "run 'qevo-gpu data get mnist'",
     .read = qe_mnist_read},
    {.name = "fashion-mnist",
     .classes = QE_MNIST_CLASSES,
     .height = QE_MNIST_SIDE,
     .width = QE_MNIST_SIDE,
     .channels = 1,
     .class_names = qe_fashion_mnist_classes,
     .folder = "fashion-mnist",
     .marker = "train-images-idx3-ubyte",
     .cure = "run 'qevo-gpu data get fashion-mnist'",
     .read = qe_fashion_mnist_read},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

const qe_dataset_kind *qe_dataset_kinds(size_t *count) {
  *count = KINDS;
  return kinds;
}

static qe_status find_kind(const char *name, const qe_dataset_kind **kind) {
  for (size_t at = 0; at < KINDS; at++)
    if (strcmp(kinds[at].name, name) == 0) {
      *kind = &kinds[at];
      return QE_OK;
    }
  char known[256] = "", hint[QE_NEAREST_TEXT];
  qe_nearest nearest = {.word = name};
  for (size_t at = 0; at < KINDS; at++) qe_nearest_offer(&nearest, kinds[at].name);
  for (size_t at = 0, used = 0; at < KINDS && used < sizeof known; at++) {
    const char *comma = at ? ", " : "";
    if (used + strlen(comma) + strlen(kinds[at].name) >= sizeof known) break;
    used = (size_t)(stpcpy(stpcpy(known + used, comma), kinds[at].name) - known);
  }
  if (qe_folder_exists(name))
    return qe_fail(QE_USAGE, "no data set is called '%s', which is a folder: if it holds images write folder:%s", name,
                   name);
  return qe_fail(QE_USAGE, "no data set is called '%s'; known are: %s, and folder:PATH for a folder of images%s", name,
                 known, qe_nearest_hint(&nearest, "", hint));
}

/* The folder of the kind's data in `place`; NULL in *folder when they are not there. */
static qe_status look_in(const char *place, const qe_dataset_kind *kind, char **folder) {
  qe_status status = QE_OK;
  char *inner = qe_path_join(place, kind->folder);
  if (!inner) return QE_NO_MEMORY;
  if (qe_folder_exists(inner)) {
    *folder = inner;
    return QE_OK;
  }
  qe_free(inner);
  for (int packed = 0; packed < 2 && status == QE_OK && !*folder; packed++) {
    char *marker = qe_format("%s/%s%s", place, kind->marker, packed ? ".gz" : "");
    if (!marker) return QE_NO_MEMORY;
    if (qe_file_exists(marker)) {
      *folder = qe_strdup(place);
      if (!*folder) status = QE_NO_MEMORY;
    }
    qe_free(marker);
  }
  return status;
}

/* ~/.cache/qevo-gpu (qe_free); NULL in *cache where there is no home. */
static qe_status cache_folder(char **cache) {
  const char *home = getenv("HOME");
  *cache = NULL;
  if (!home || !home[0]) return QE_OK;
  *cache = qe_path_join(home, ".cache/qevo-gpu");
  return *cache ? QE_OK : QE_NO_MEMORY;
}

qe_status qe_dataset_find(const qe_dataset_kind *kind, const char *data_dir, char **folder) {
  *folder = NULL;
  if (data_dir && data_dir[0]) {
    QE_TRY(look_in(data_dir, kind, folder));
    if (*folder) return QE_OK;
    return qe_fail(
        QE_NOT_FOUND,
        "%s: no %s here: neither the folder %s nor the file %s is in it; give another --data-dir, or %s with this one",
        data_dir, kind->name, kind->folder, kind->marker, kind->cure);
  }
  const char *place = getenv("QEVO_DATA_DIR");
  if (place && place[0]) {
    QE_TRY(look_in(place, kind, folder));
    if (*folder) return QE_OK;
  }
  char *cache;
  QE_TRY(cache_folder(&cache));
  qe_status status = cache ? look_in(cache, kind, folder) : QE_OK;
  qe_free(cache);
  return status;
}

qe_status qe_dataset_place(const char *data_dir, char **place) {
  const char *named = data_dir && data_dir[0] ? data_dir : getenv("QEVO_DATA_DIR");
  if (named && named[0]) {
    *place = qe_strdup(named);
    return *place ? QE_OK : QE_NO_MEMORY;
  }
  QE_TRY(cache_folder(place));
  return *place ? QE_OK : qe_fail(QE_USAGE, "no home folder is known (HOME): say where data go with --data-dir");
}

/* Fill the data set from `folder`, which it takes over even when this fails, or from what is built in when that is
 * NULL. */
static qe_status read_from(const qe_dataset_kind *kind, char *folder, qe_dataset *dataset) {
  if (folder) {
    dataset->source = folder;
    return kind->read(folder, dataset);
  }
  if (!kind->read_builtin) return qe_fail(QE_NOT_FOUND, "%s is not on this machine: %s", kind->name, kind->cure);
  dataset->subset = true;
  dataset->source = qe_strdup(kind->builtin_source);
  if (!dataset->source) return QE_NO_MEMORY;
  return kind->read_builtin(dataset);
}

/* One of the kinds, into `dataset`. */
static qe_status open_kind(const char *name, const char *data_dir, qe_dataset *dataset) {
  const qe_dataset_kind *kind;
  char *folder = NULL;
  QE_TRY(find_kind(name, &kind));
  if (kind->folder) QE_TRY(qe_dataset_find(kind, data_dir, &folder));
  dataset->classes = kind->classes;
  dataset->height = kind->height;
  dataset->width = kind->width;
  dataset->channels = kind->channels;
  dataset->class_names = kind->class_names;
  return read_from(kind, folder, dataset);
}

/* Shells do not expand the ~ of folder:~/PATH. */
static qe_status open_folder(const char *path, const qe_image_options *options, qe_dataset *dataset) {
  const qe_image_options usual = qe_image_defaults();
  const char *home = getenv("HOME");
  bool below_home = strncmp(path, "~/", 2) == 0 && home;
  dataset->source = below_home ? qe_path_join(home, path + 2) : qe_strdup(path);
  return dataset->source ? qe_image_set_open(dataset->source, options ? options : &usual, dataset) : QE_NO_MEMORY;
}

qe_status qe_dataset_open_images(const char *name, const char *data_dir, const qe_image_options *options,
                                 qe_dataset **out) {
  const size_t prefix = strlen(QE_FOLDER_PREFIX);
  *out = NULL;
  qe_dataset *dataset = QE_NEW(qe_dataset);
  if (!dataset) return QE_NO_MEMORY;
  dataset->name = qe_strdup(name);
  qe_status status = !dataset->name                                 ? QE_NO_MEMORY
                     : strncmp(name, QE_FOLDER_PREFIX, prefix) == 0 ? open_folder(name + prefix, options, dataset)
                                                                    : open_kind(name, data_dir, dataset);
  if (status == QE_OK) {
    *out = dataset;
    return QE_OK;
  }
  qe_dataset_free(dataset);
  return status;
}

qe_status qe_dataset_open(const char *name, const char *data_dir, qe_dataset **out) {
  QE_TRY(qe_dataset_open_images(name, data_dir, NULL, out));
  qe_status status = qe_dataset_hold(*out, QE_HOLD_BYTES);
  if (status == QE_OK) return QE_OK;
  qe_dataset_free(*out);
  *out = NULL;
  return status;
}

qe_status qe_dataset_alloc(qe_dataset *dataset, int train_images, int test_images) {
  size_t pixels = (size_t)dataset->height * (size_t)dataset->width * (size_t)dataset->channels;
  dataset->train_images = train_images;
  dataset->test_images = test_images;
  dataset->train_pixels = qe_alloc((size_t)train_images * pixels);
  dataset->test_pixels = qe_alloc((size_t)test_images * pixels);
  dataset->train_labels = QE_NEW_ARRAY(int32_t, train_images);
  dataset->test_labels = QE_NEW_ARRAY(int32_t, test_images);
  bool all = dataset->train_pixels && dataset->test_pixels && dataset->train_labels && dataset->test_labels;
  return all ? QE_OK : QE_NO_MEMORY;
}

void qe_dataset_free(qe_dataset *dataset) {
  if (!dataset) return;
  qe_image_set_free(dataset->images);
  for (int i = 0; dataset->own_names && i < dataset->classes; i++) qe_free(dataset->own_names[i]);
  qe_free(dataset->own_names);
  qe_free(dataset->name);
  qe_free(dataset->source);
  qe_free(dataset->train_pixels);
  qe_free(dataset->test_pixels);
  qe_free(dataset->train_labels);
  qe_free(dataset->test_labels);
  qe_free(dataset);
}
