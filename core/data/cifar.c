/* The CIFAR-10 and CIFAR-100 binary files. A record is one label byte (CIFAR-100: two, the coarse one first) and 3
 * planes (red, green, blue) of 32 rows of 32 bytes. Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary
 * version". */
#include "core/data/cifar.h"

#include "core/base/alloc.h"
#include "core/base/file.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

enum { PLANE = QE_CIFAR_SIDE * QE_CIFAR_SIDE, IMAGE = QE_CIFAR_CHANNELS * PLANE, MAX_FILES = 6 };

/* The files of a data set; the last one holds the test images. */
typedef struct layout {
  int files;
  const char *file[MAX_FILES];
  int labels;  /* bytes before the planes; the last of them is the class */
  int classes; /* of that byte */
  const char *needed, *cure;
} layout;

static const layout cifar10 = {
    .files = 6,
    .file = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin",
             "test_batch.bin"},
    .labels = 1,
    .classes = QE_CIFAR10_CLASSES,
    .needed = "all of data_batch_1.bin to data_batch_5.bin and test_batch.bin",
    .cure = "get it again with 'qevo-gpu data get cifar10 --force', or name another folder with --data-dir"};
static const layout cifar100 = {
    .files = 2,
    .file = {"train.bin", "test.bin"},
    .labels = 2,
    .classes = QE_CIFAR100_CLASSES,
    .needed = "train.bin and test.bin",
    .cure = "get it again with 'qevo-gpu data get cifar100 --force', or name another folder with --data-dir"};

static int record_bytes(const layout *of) {
  return of->labels + IMAGE;
}

/* The number of records of a batch file, from its size. */
static qe_status count_records(const layout *of, const char *path, int64_t *records) {
  struct stat info;
  int record = record_bytes(of);
  if (stat(path, &info) != 0) {
    qe_status status = errno == ENOENT ? QE_NOT_FOUND : QE_IO;
    return qe_fail(status, "%s: %s; %s are needed: %s", path, strerror(errno), of->needed, of->cure);
  }
  if (!S_ISREG(info.st_mode)) return qe_fail(QE_FORMAT, "%s: not a plain file: %s", path, of->cure);
  int64_t bytes = info.st_size;
  if (bytes == 0)
    return qe_fail(QE_FORMAT, "%s: empty at offset 0, a record of %d bytes expected: %s", path, record, of->cure);
  if (bytes % record != 0)
    return qe_fail(QE_FORMAT,
                   "%s: cut short or not CIFAR-%d: %lld bytes are no whole number of %d-byte records, the one at "
                   "offset %lld has only %lld: %s",
                   path, of->classes, (long long)bytes, record, (long long)(bytes - bytes % record),
                   (long long)(bytes % record), of->cure);
  *records = bytes / record;
  return QE_OK;
}

/* Planes of one byte a pixel to height x width x channel. */
static void interleave(const uint8_t *restrict planar, uint8_t *restrict pixels) {
  for (int at = 0; at < PLANE; at++)
    for (int channel = 0; channel < QE_CIFAR_CHANNELS; channel++)
      pixels[at * QE_CIFAR_CHANNELS + channel] = planar[channel * PLANE + at];
}

/* Exactly `records` records of a batch file to pixels [records, 32, 32, 3] and labels [records]. */
static qe_status read_batch(const layout *of, const char *path, int64_t records, uint8_t *pixels, int32_t *labels) {
  char *data = NULL;
  size_t bytes, expected = (size_t)records * (size_t)record_bytes(of);
  QE_TRY(qe_file_read(path, expected, &data, &bytes));
  qe_status status = QE_OK;
  if (bytes != expected)
    status = qe_fail(QE_IO, "%s: ended at offset %zu of %zu: the file is being changed by another program; try again",
                     path, bytes, expected);
  for (int64_t at = 0; at < records && status == QE_OK; at++) {
    int64_t offset = at * record_bytes(of) + of->labels - 1;
    const uint8_t *label = (const uint8_t *)data + offset;
    if (*label >= of->classes)
      status = qe_fail(QE_FORMAT, "%s: label %d at offset %lld is not from 0 to %d: %s", path, *label,
                       (long long)offset, of->classes - 1, of->cure);
    labels[at] = *label;
    interleave(label + 1, pixels + at * IMAGE);
  }
  qe_free(data);
  return status;
}

/* Read the files of `paths` into the data set. */
static qe_status read_files(const layout *of, char *const *paths, const char *folder, qe_dataset *dataset) {
  int64_t records[MAX_FILES], train = 0;
  int last = of->files - 1;
  for (int file = 0; file < of->files; file++) QE_TRY(count_records(of, paths[file], &records[file]));
  for (int file = 0; file < last; file++) train += records[file];
  if (train > INT_MAX || records[last] > INT_MAX)
    return qe_fail(QE_FORMAT, "%s: more than %d images: %s", folder, INT_MAX, of->cure);
  QE_TRY(qe_dataset_alloc(dataset, (int)train, (int)records[last]));
  int64_t first = 0;
  for (int file = 0; file < last; file++) {
    QE_TRY(read_batch(of, paths[file], records[file], dataset->train_pixels + first * IMAGE,
                      dataset->train_labels + first));
    first += records[file];
  }
  return read_batch(of, paths[last], records[last], dataset->test_pixels, dataset->test_labels);
}

static qe_status read_folder(const layout *of, const char *folder, qe_dataset *dataset) {
  char *paths[MAX_FILES] = {NULL};
  qe_status status = QE_OK;
  for (int file = 0; file < of->files && status == QE_OK; file++) {
    paths[file] = qe_path_join(folder, of->file[file]);
    if (!paths[file]) status = QE_NO_MEMORY;
  }
  if (status == QE_OK) status = read_files(of, paths, folder, dataset);
  for (int file = 0; file < of->files; file++) qe_free(paths[file]);
  return status;
}

qe_status qe_cifar10_read(const char *folder, qe_dataset *dataset) {
  return read_folder(&cifar10, folder, dataset);
}

qe_status qe_cifar100_read(const char *folder, qe_dataset *dataset) {
  return read_folder(&cifar100, folder, dataset);
}
