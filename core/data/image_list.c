/* Lists of images: their texts, their classes, and the bytes of one of them. */
#include "core/data/image_list.h"

#include "core/base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_IMAGE = 1 << 28, MAX_CLASSES = 1 << 20 };

qe_status qe_texts_add(qe_texts *texts, const char *text, size_t *at) {
  size_t bytes = strlen(text) + 1;
  QE_TRY(qe_reserve(&texts->bytes, &texts->capacity, texts->count + bytes, 1));
  memcpy(texts->bytes + texts->count, text, bytes);
  *at = texts->count;
  texts->count += bytes;
  return QE_OK;
}

void qe_image_list_free(qe_image_list *list) {
  qe_free(list->texts.bytes);
  qe_free(list->entry);
  memset(list, 0, sizeof *list);
}

qe_status qe_image_list_add(qe_image_list *list, const qe_image_entry *entry) {
  if (list->count == INT32_MAX) return qe_fail(QE_FORMAT, "more than %d images: take fewer", INT32_MAX);
  QE_TRY(qe_reserve(&list->entry, &list->capacity, list->count + 1, sizeof *list->entry));
  list->entry[list->count++] = *entry;
  return QE_OK;
}

bool qe_is_image_path(const char *path) {
  const char *dot = strrchr(path, '.');
  return dot && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 || strcasecmp(dot, ".png") == 0);
}

/* ---- classes ---- */

void qe_class_names_free(qe_class_names *classes) {
  for (int32_t i = 0; classes->name && i < classes->count; i++) qe_free(classes->name[i]);
  qe_free(classes->name);
  qe_free(classes->sorted);
  memset(classes, 0, sizeof *classes);
}

/* The place of the name in `sorted`, or where it would have to stand. */
static int32_t place_of(const qe_class_names *classes, const char *name) {
  int32_t low = 0, high = classes->count;
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    if (strcmp(classes->name[classes->sorted[middle]], name) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static qe_status add_class(qe_class_names *classes, const char *name, int32_t place) {
  size_t count = (size_t)classes->count;
  if (count == MAX_CLASSES)
    return qe_fail(QE_FORMAT, "more than %d classes: is this a folder for each class?", MAX_CLASSES);
  QE_TRY(qe_reserve(&classes->name, &classes->name_capacity, count + 1, sizeof *classes->name));
  QE_TRY(qe_reserve(&classes->sorted, &classes->sorted_capacity, count + 1, sizeof *classes->sorted));
  classes->name[count] = qe_strdup(name);
  if (!classes->name[count]) return QE_NO_MEMORY;
  memmove(classes->sorted + place + 1, classes->sorted + place, (count - (size_t)place) * sizeof *classes->sorted);
  classes->sorted[place] = classes->count++;
  return QE_OK;
}

qe_status qe_class_names_find(qe_class_names *classes, const char *name, const char *where, int32_t *number) {
  if (classes->numbers)
    return qe_fail(QE_FORMAT, "%s: no .cls file goes with it, as with the images before it: add one", where);
  int32_t place = place_of(classes, name);
  if (place == classes->count || strcmp(classes->name[classes->sorted[place]], name) != 0) {
    if (classes->closed)
      return qe_fail(QE_FORMAT, "%s: class '%s' has no training images: add some, or remove the class", where, name);
    QE_TRY(add_class(classes, name, place));
  }
  *number = classes->sorted[place];
  return QE_OK;
}

qe_status qe_class_names_number(qe_class_names *classes, int32_t number, const char *where) {
  if (!classes->numbers && classes->count > 0)
    return qe_fail(QE_FORMAT, "%s: classes are given by folders before it and by .cls files here: use one of the two",
                   where);
  if (number < 0 || number >= MAX_CLASSES || (classes->closed && number >= classes->count))
    return qe_fail(QE_FORMAT, "%s: class %d is not from 0 to %d: correct it", where, number,
                   (classes->closed ? classes->count : MAX_CLASSES) - 1);
  classes->numbers = true;
  if (number >= classes->count) classes->count = number + 1;
  return QE_OK;
}

qe_status qe_class_names_close(qe_class_names *classes, qe_image_list *list) {
  classes->closed = true;
  if (classes->numbers || classes->count == 0) return QE_OK;
  int32_t *rank = QE_NEW_ARRAY(int32_t, classes->count);
  char **name = QE_NEW_ARRAY(char *, classes->count);
  qe_status status = rank && name ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) {
    for (int32_t i = 0; i < classes->count; i++) {
      rank[classes->sorted[i]] = i;
      name[i] = classes->name[classes->sorted[i]];
    }
    for (size_t i = 0; i < list->count; i++) list->entry[i].label = rank[list->entry[i].label];
    for (int32_t i = 0; i < classes->count; i++) {
      classes->name[i] = name[i];
      classes->sorted[i] = i;
    }
  }
  qe_free(rank);
  qe_free(name);
  return status;
}

/* ---- one image ---- */

void qe_image_list_name(const qe_image_list *list, size_t entry, char *text, size_t bytes) {
  const qe_image_entry *of = &list->entry[entry];
  const char *file = list->texts.bytes + of->file, *inner = list->texts.bytes + of->inner;
  if (*inner)
    snprintf(text, bytes, "%s: %s (at offset %llu)", file, inner, (unsigned long long)of->offset);
  else
    snprintf(text, bytes, "%s", file);
}

static qe_status read_exactly(int fd, const char *file, uint64_t offset, uint8_t *target, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t got = pread(fd, target + done, bytes - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return qe_fail(QE_IO, "%s: cannot be read at offset %llu: %s", file, (unsigned long long)(offset + done),
                     strerror(errno));
    if (got == 0)
      return qe_fail(QE_FORMAT, "%s: ends at offset %llu: it has become shorter; restore it", file,
                     (unsigned long long)(offset + done));
    done += (size_t)got;
  }
  return QE_OK;
}

static qe_status load_open(const qe_image_entry *of, int fd, const char *file, bool shard, uint8_t **data,
                           size_t *capacity, size_t *bytes) {
  struct stat info;
  *bytes = of->bytes;
  if (!shard) {
    if (fstat(fd, &info) != 0) return qe_fail(QE_IO, "%s: %s", file, strerror(errno));
    if (!S_ISREG(info.st_mode)) return qe_fail(QE_FORMAT, "%s: not a plain file: remove it", file);
    if (info.st_size > MAX_IMAGE)
      return qe_fail(QE_FORMAT, "%s: %lld bytes; an image may have %d: make it smaller", file, (long long)info.st_size,
                     MAX_IMAGE);
    *bytes = (size_t)info.st_size;
  }
  QE_TRY(qe_reserve(data, capacity, *bytes, 1));
  return read_exactly(fd, file, of->offset, *data, *bytes);
}

qe_status qe_image_list_load(const qe_image_list *list, size_t entry, uint8_t **data, size_t *capacity, size_t *bytes) {
  const qe_image_entry *of = &list->entry[entry];
  const char *file = list->texts.bytes + of->file;
  int fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return qe_fail(errno == ENOENT ? QE_NOT_FOUND : QE_IO,
                   "%s: cannot be opened: %s; it was there when the run started", file, strerror(errno));
  qe_status status = load_open(of, fd, file, list->texts.bytes[of->inner] != 0, data, capacity, bytes);
  close(fd);
  return status;
}
