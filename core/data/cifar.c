/* The CIFAR-10 binary files. A record is one label byte and 3 planes (red, green, blue) of 32 rows of 32 bytes.
 * Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version". */
#include "core/data/cifar.h"

#include "core/base/alloc.h"
#include "core/base/file.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

enum { PLANE = QE_CIFAR_SIDE * QE_CIFAR_SIDE, IMAGE = QE_CIFAR_CHANNELS * PLANE, RECORD = 1 + IMAGE };
enum { TRAIN_FILES = 5, FILES = TRAIN_FILES + 1 };

static const char *const file_names[FILES] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                              "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"};

#define CURE "get CIFAR-10 again with 'qevo-gpu data get cifar10 --force', or name another folder with --data-dir"

/* The number of records of a batch file, from its size. */
static qe_status count_records(const char *path, int64_t *records) {
  struct stat info;
  if (stat(path, &info) != 0) {
    qe_status status = errno == ENOENT ? QE_NOT_FOUND : QE_IO;
    return qe_fail(status, "%s: %s; all of data_batch_1.bin to data_batch_5.bin and test_batch.bin are needed: " CURE,
                   path, strerror(errno));
  }
  if (!S_ISREG(info.st_mode)) return qe_fail(QE_FORMAT, "%s: not a plain file: " CURE, path);
  int64_t bytes = info.st_size;
  if (bytes == 0)
    return qe_fail(QE_FORMAT, "%s: empty at offset 0, a record of %d bytes expected: " CURE, path, RECORD);
  if (bytes % RECORD != 0)
    return qe_fail(QE_FORMAT,
                   "%s: cut short or not CIFAR-10: %lld bytes are no whole number of %d-byte records, the one at "
                   "offset %lld has only %lld: " CURE,
                   path, (long long)bytes, RECORD, (long long)(bytes - bytes % RECORD), (long long)(bytes % RECORD));
  *records = bytes / RECORD;
  return QE_OK;
}

/* Planes of one byte a pixel to height x width x channel. */
static void interleave(const uint8_t *restrict planar, uint8_t *restrict pixels) {
  for (int at = 0; at < PLANE; at++)
    for (int channel = 0; channel < QE_CIFAR_CHANNELS; channel++)
      pixels[at * QE_CIFAR_CHANNELS + channel] = planar[channel * PLANE + at];
}

/* Exactly `records` records of a batch file to pixels [records, 32, 32, 3] and labels [records]. */
static qe_status read_batch(const char *path, int64_t records, uint8_t *pixels, int32_t *labels) {
  char *data = NULL;
  size_t bytes;
  QE_TRY(qe_file_read(path, (size_t)records * RECORD, &data, &bytes));
  qe_status status = QE_OK;
  if (bytes != (size_t)records * RECORD)
    status = qe_fail(QE_IO, "%s: ended at offset %zu of %lld: the file is being changed by another program; try again",
                     path, bytes, (long long)records * RECORD);
  for (int64_t at = 0; at < records && status == QE_OK; at++) {
    const uint8_t *record = (const uint8_t *)data + at * RECORD;
    if (record[0] >= QE_CIFAR10_CLASSES)
      status = qe_fail(QE_FORMAT, "%s: label %d at offset %lld is not from 0 to %d: " CURE, path, record[0],
                       (long long)at * RECORD, QE_CIFAR10_CLASSES - 1);
    labels[at] = record[0];
    interleave(record + 1, pixels + at * IMAGE);
  }
  qe_free(data);
  return status;
}

/* Read the files of `paths` into the data set. */
static qe_status read_files(char *const *paths, const char *folder, qe_dataset *dataset) {
  int64_t records[FILES], train = 0;
  for (int file = 0; file < FILES; file++) QE_TRY(count_records(paths[file], &records[file]));
  for (int file = 0; file < TRAIN_FILES; file++) train += records[file];
  if (train > INT_MAX || records[TRAIN_FILES] > INT_MAX)
    return qe_fail(QE_FORMAT, "%s: more than %d images: " CURE, folder, INT_MAX);
  QE_TRY(qe_dataset_alloc(dataset, (int)train, (int)records[TRAIN_FILES]));
  int64_t first = 0;
  for (int file = 0; file < TRAIN_FILES; file++) {
    QE_TRY(
        read_batch(paths[file], records[file], dataset->train_pixels + first * IMAGE, dataset->train_labels + first));
    first += records[file];
  }
  return read_batch(paths[TRAIN_FILES], records[TRAIN_FILES], dataset->test_pixels, dataset->test_labels);
}

qe_status qe_cifar10_read(const char *folder, qe_dataset *dataset) {
  char *paths[FILES] = {NULL};
  qe_status status = QE_OK;
  for (int file = 0; file < FILES && status == QE_OK; file++) {
    paths[file] = qe_path_join(folder, file_names[file]);
    if (!paths[file]) status = QE_NO_MEMORY;
  }
  if (status == QE_OK) status = read_files(paths, folder, dataset);
  for (int file = 0; file < FILES; file++) qe_free(paths[file]);
  return status;
}
