/* The idx files of MNIST and Fashion-MNIST. An idx file is 00 00 08 (bytes) and the number of dimensions, the
 * dimensions as 32-bit big-endian numbers, and the values. */
#define ZLIB_CONST /* zlib does not write to its input */
#include "core/data/idx.h"

#include "core/base/alloc.h"
#include "core/base/file.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum { HEADER = 4, MAX_HEADER = 16, MAX_FILE = 1 << 30, GZIP_WINDOW = 16 + MAX_WBITS, MAX_RATIO = 1032 };

/* ---- bytes ---- */

/* Where the values come from: the file's bytes, or what they unpack to. */
typedef struct source {
  const uint8_t *bytes;
  size_t count, at; /* at: offset of the values, if not packed */
  const char *file;
  bool packed;
  z_stream stream;
} source;

static qe_status fail_unpack(const source *from, int code) {
  const char *why = code == Z_OK || code == Z_BUF_ERROR ? "the compressed data end too early"
                    : from->stream.msg                  ? from->stream.msg
                                                        : "the compressed data are damaged";
  size_t offset = from->count - from->stream.avail_in;
  return qe_fail(code == Z_MEM_ERROR ? QE_NO_MEMORY : QE_FORMAT, "%s: %s at offset %zu", from->file, why, offset);
}

/* The next `count` bytes; fewer are an error. */
static qe_status take(source *from, uint8_t *target, size_t count) {
  if (!from->packed) {
    if (from->count - from->at < count)
      return qe_fail(QE_FORMAT, "%s: cut short: ends at offset %zu, %zu more bytes expected", from->file, from->count,
                     count - (from->count - from->at));
    memcpy(target, from->bytes + from->at, count);
    from->at += count;
    return QE_OK;
  }
  from->stream.next_out = target;
  from->stream.avail_out = (uInt)count;
  int code = Z_OK;
  while (from->stream.avail_out > 0 && code == Z_OK) code = inflate(&from->stream, Z_NO_FLUSH);
  if (from->stream.avail_out == 0) return QE_OK;
  if (code == Z_STREAM_END)
    return qe_fail(QE_FORMAT, "%s: cut short: unpacks to %lu bytes, %u more expected", from->file,
                   from->stream.total_out, from->stream.avail_out);
  return fail_unpack(from, code);
}

/* Nothing may follow the values; of a packed file this checks the checksum too. */
static qe_status expect_end(source *from) {
  uint8_t more;
  if (!from->packed) {
    if (from->at == from->count) return QE_OK;
    return qe_fail(QE_FORMAT, "%s: wrong size: %zu bytes follow the last value at offset %zu", from->file,
                   from->count - from->at, from->at);
  }
  from->stream.next_out = &more;
  from->stream.avail_out = 1;
  int code = inflate(&from->stream, Z_FINISH);
  if (from->stream.avail_out == 0)
    return qe_fail(QE_FORMAT, "%s: wrong size: it unpacks to more than the %lu bytes of its values", from->file,
                   from->stream.total_out - 1);
  return code == Z_STREAM_END ? QE_OK : fail_unpack(from, code);
}

/* ---- header ---- */

static uint32_t big_endian(const uint8_t *byte) {
  return (uint32_t)byte[0] << 24 | (uint32_t)byte[1] << 16 | (uint32_t)byte[2] << 8 | byte[3];
}

/* The dimensions, and the number of values, which the file must be able to hold. */
static qe_status read_header(source *from, int dims, qe_idx *idx, size_t *values) {
  uint8_t header[MAX_HEADER];
  QE_TRY(take(from, header, HEADER));
  if (header[0] || header[1] || header[2] != 8 || header[3] != dims)
    return qe_fail(QE_FORMAT, "%s: wrong magic number 0x%08x at offset 0, 0x%08x expected: not an idx file of %s",
                   from->file, big_endian(header), 0x800u + (unsigned)dims, dims == 1 ? "labels" : "images");
  QE_TRY(take(from, header + HEADER, (size_t)dims * 4));
  size_t room = from->packed ? from->count * MAX_RATIO : from->count;
  *values = 1;
  idx->dims = dims;
  for (int i = 0; i < dims; i++) {
    idx->dim[i] = big_endian(header + HEADER + i * 4);
    bool fits = !__builtin_mul_overflow(*values, (size_t)idx->dim[i], values) && *values <= room && *values < UINT_MAX;
    if (idx->dim[i] == 0 || !fits)
      return qe_fail(QE_FORMAT, "%s: %u in dimension %d at offset %d does not go with a file of %zu bytes: cut short",
                     from->file, idx->dim[i], i, HEADER + i * 4, from->count);
  }
  return QE_OK;
}

static qe_status read_values(source *from, int dims, qe_idx *idx) {
  size_t values = 0;
  QE_TRY(read_header(from, dims, idx, &values));
  idx->values = qe_alloc(values);
  if (!idx->values) return QE_NO_MEMORY;
  QE_TRY(take(from, idx->values, values));
  return expect_end(from);
}

qe_status qe_idx_parse(const uint8_t *bytes, size_t count, const char *file, int dims, qe_idx *idx) {
  source from = {.bytes = bytes, .count = count, .file = file};
  memset(idx, 0, sizeof *idx);
  from.packed = count > 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
  if (count > MAX_FILE) return qe_fail(QE_FORMAT, "%s: %zu bytes: not an idx file of this data set", file, count);
  if (from.packed) {
    if (inflateInit2(&from.stream, GZIP_WINDOW) != Z_OK) return qe_fail(QE_NO_MEMORY, "%s: no memory to unpack", file);
    from.stream.next_in = bytes;
    from.stream.avail_in = (uInt)count;
  }
  qe_status status = read_values(&from, dims, idx);
  if (from.packed) inflateEnd(&from.stream);
  if (status != QE_OK) {
    qe_free(idx->values);
    idx->values = NULL;
  }
  return status;
}

/* ---- data sets ---- */

/* New text (qe_free): the path of the file called `name` in one of the forms that are in use. */
static qe_status find_file(const char *folder, const char *name, int dims, char **path) {
  static const char *const forms[][2] = {{"-", ""}, {".", ""}, {"-", ".gz"}, {".", ".gz"}};
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    *path = qe_format("%s/%s%sidx%d-ubyte%s", folder, name, forms[i][0], dims, forms[i][1]);
    if (!*path) return QE_NO_MEMORY;
    if (qe_file_exists(*path)) return QE_OK;
    qe_free(*path);
    *path = NULL;
  }
  return qe_fail(QE_NOT_FOUND, "%s: no file %s-idx%d-ubyte or %s-idx%d-ubyte.gz", folder, name, dims, name, dims);
}

static qe_status read_idx(const char *folder, const char *name, int dims, qe_idx *idx, char **path) {
  char *data = NULL;
  size_t bytes;
  QE_TRY(find_file(folder, name, dims, path));
  QE_TRY(qe_file_read(*path, MAX_FILE, &data, &bytes));
  qe_status status = qe_idx_parse((const uint8_t *)data, bytes, *path, dims, idx);
  qe_free(data);
  return status;
}

/* A part of the data set: images and labels that go together. */
typedef struct part {
  qe_idx images, labels;
  char *images_path, *labels_path;
} part;

static void free_part(part *p) {
  qe_free(p->images.values);
  qe_free(p->labels.values);
  qe_free(p->images_path);
  qe_free(p->labels_path);
}

static qe_status read_part(const char *folder, const char *images, const char *labels, part *p) {
  QE_TRY(read_idx(folder, images, 3, &p->images, &p->images_path));
  QE_TRY(read_idx(folder, labels, 1, &p->labels, &p->labels_path));
  const uint32_t *dim = p->images.dim;
  if (dim[1] != QE_MNIST_SIDE || dim[2] != QE_MNIST_SIDE)
    return qe_fail(QE_FORMAT, "%s: images of %ux%u pixels at offset 8, %dx%d expected", p->images_path, dim[1], dim[2],
                   QE_MNIST_SIDE, QE_MNIST_SIDE);
  if (dim[0] != p->labels.dim[0] || dim[0] > INT_MAX)
    return qe_fail(QE_FORMAT, "%s: %u labels for the %u images of %s", p->labels_path, p->labels.dim[0], dim[0],
                   p->images_path);
  for (uint32_t i = 0; i < dim[0]; i++)
    if (p->labels.values[i] >= QE_MNIST_CLASSES)
      return qe_fail(QE_FORMAT, "%s: label %d is not from 0 to %d: value %u, at offset %u once unpacked",
                     p->labels_path, p->labels.values[i], QE_MNIST_CLASSES - 1, i, i + 8);
  return QE_OK;
}

static void copy_part(const part *p, uint8_t *pixels, int32_t *labels) {
  size_t images = p->images.dim[0];
  memcpy(pixels, p->images.values, images * QE_MNIST_SIDE * QE_MNIST_SIDE);
  for (size_t i = 0; i < images; i++) labels[i] = p->labels.values[i];
}

static qe_status read_set(const char *folder, const char *get, qe_dataset *dataset) {
  part train = {0}, test = {0};
  qe_status status = read_part(folder, "train-images", "train-labels", &train);
  if (status == QE_OK) status = read_part(folder, "t10k-images", "t10k-labels", &test);
  if (status == QE_FORMAT || status == QE_NOT_FOUND) {
    char what[1024];
    snprintf(what, sizeof what, "%s", qe_message());
    status =
        qe_fail(status, "%s: get the files again with 'qevo-gpu data get %s', or name another folder with --data-dir",
                what, get);
  }
  if (status == QE_OK) status = qe_dataset_alloc(dataset, (int)train.images.dim[0], (int)test.images.dim[0]);
  if (status == QE_OK) copy_part(&train, dataset->train_pixels, dataset->train_labels);
  if (status == QE_OK) copy_part(&test, dataset->test_pixels, dataset->test_labels);
  free_part(&train);
  free_part(&test);
  return status;
}

qe_status qe_mnist_read(const char *folder, qe_dataset *dataset) {
  return read_set(folder, "mnist", dataset);
}

qe_status qe_fashion_mnist_read(const char *folder, qe_dataset *dataset) {
  return read_set(folder, "fashion-mnist", dataset);
}
