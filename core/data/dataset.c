/* The table of data sets and the order of the places where one is looked for. */
#include "core/data/dataset.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/data/cifar.h"

#include <stdlib.h>
#include <string.h>

#define CIFAR10_SUBSET "built-in subset (1,000 training and 500 test images of CIFAR-10)"

static const char *const cifar10_classes[QE_CIFAR10_CLASSES] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                                                "dog",      "frog",       "horse", "ship", "truck"};

static const qe_dataset_kind kinds[] = {
    {.name = "cifar10",
     .classes = QE_CIFAR10_CLASSES,
     .height = QE_CIFAR_SIDE,
     .width = QE_CIFAR_SIDE,
     .channels = QE_CIFAR_CHANNELS,
     .class_names = cifar10_classes,
     .folder = "cifar-10-batches-bin",
     .marker = "data_batch_1.bin",
     .cure = "run tools/get-cifar10",
     .read = qe_cifar10_read,
     .read_builtin = qe_cifar10_read_subset,
     .builtin_source = CIFAR10_SUBSET},
    {.name = "cifar10-subset",
     .classes = QE_CIFAR10_CLASSES,
     .height = QE_CIFAR_SIDE,
     .width = QE_CIFAR_SIDE,
     .channels = QE_CIFAR_CHANNELS,
     .class_names = cifar10_classes,
     .read_builtin = qe_cifar10_read_subset,
     .builtin_source = CIFAR10_SUBSET},
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
  char known[256] = "";
  for (size_t at = 0, used = 0; at < KINDS && used < sizeof known; at++) {
    const char *comma = at ? ", " : "";
    if (used + strlen(comma) + strlen(kinds[at].name) >= sizeof known) break;
    used = (size_t)(stpcpy(stpcpy(known + used, comma), kinds[at].name) - known);
  }
  return qe_fail(QE_USAGE, "no data set is called '%s'; known are: %s", name, known);
}

/* The folder of the kind's data in `place`; NULL in *folder when they are not there. */
static qe_status look_in(const char *place, const qe_dataset_kind *kind, char **folder) {
  qe_status status = QE_OK;
  char *marker = NULL, *inner = qe_path_join(place, kind->folder);
  if (!inner) return QE_NO_MEMORY;
  if (qe_folder_exists(inner)) {
    *folder = inner;
    return QE_OK;
  }
  qe_free(inner);
  marker = qe_path_join(place, kind->marker);
  if (!marker) return QE_NO_MEMORY;
  if (qe_file_exists(marker)) {
    *folder = qe_strdup(place);
    if (!*folder) status = QE_NO_MEMORY;
  }
  qe_free(marker);
  return status;
}

/* The folder of the kind's data in the fixed order of places; NULL in *folder when none has them. */
static qe_status look_up(const qe_dataset_kind *kind, const char *data_dir, char **folder) {
  *folder = NULL;
  if (data_dir && data_dir[0]) {
    QE_TRY(look_in(data_dir, kind, folder));
    if (*folder) return QE_OK;
    return qe_fail(QE_NOT_FOUND,
                   "%s: no %s here: neither the folder %s nor the file %s is in it; give another --data-dir, or %s",
                   data_dir, kind->name, kind->folder, kind->marker, kind->cure);
  }
  const char *place = getenv("QEVO_DATA_DIR");
  if (place && place[0]) {
    QE_TRY(look_in(place, kind, folder));
    if (*folder) return QE_OK;
  }
  const char *home = getenv("HOME");
  if (!home || !home[0]) return QE_OK;
  char *cache = qe_path_join(home, ".cache/qevo-gpu");
  if (!cache) return QE_NO_MEMORY;
  qe_status status = look_in(cache, kind, folder);
  qe_free(cache);
  return status;
}

/* Fill the data set from `folder`, which it takes over, or from what is built in when that is NULL. */
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

qe_status qe_dataset_open(const char *name, const char *data_dir, qe_dataset **out) {
  const qe_dataset_kind *kind;
  char *folder = NULL;
  *out = NULL;
  QE_TRY(find_kind(name, &kind));
  if (kind->folder) QE_TRY(look_up(kind, data_dir, &folder));
  qe_status status = QE_NO_MEMORY;
  qe_dataset *dataset = QE_NEW(qe_dataset);
  if (!dataset) goto done;
  dataset->classes = kind->classes;
  dataset->height = kind->height;
  dataset->width = kind->width;
  dataset->channels = kind->channels;
  dataset->class_names = kind->class_names;
  dataset->name = qe_strdup(kind->name);
  if (!dataset->name) goto done;
  status = read_from(kind, folder, dataset);
  folder = NULL;
  if (status == QE_OK) {
    *out = dataset;
    dataset = NULL;
  }
done:
  qe_free(folder);
  qe_dataset_free(dataset);
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
  qe_free(dataset->name);
  qe_free(dataset->source);
  qe_free(dataset->train_pixels);
  qe_free(dataset->test_pixels);
  qe_free(dataset->train_labels);
  qe_free(dataset->test_labels);
  qe_free(dataset);
}
