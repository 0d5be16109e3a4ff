/* Images in folders: a folder for each class, or a folder of tar shards. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/data/image_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 16 };

/* ---- folders ---- */

/* The names in a folder that do not begin with a dot, in their order. */
typedef struct names {
  char **name;
  size_t count, capacity;
} names;

static void free_names(names *of) {
  for (size_t i = 0; i < of->count; i++) qe_free(of->name[i]);
  qe_free(of->name);
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static qe_status add_name(names *of, const char *name) {
  QE_TRY(qe_reserve(&of->name, &of->capacity, of->count + 1, sizeof *of->name));
  of->name[of->count] = qe_strdup(name);
  if (!of->name[of->count]) return QE_NO_MEMORY;
  of->count++;
  return QE_OK;
}

static qe_status list_folder(const char *path, names *of) {
  memset(of, 0, sizeof *of);
  DIR *folder = opendir(path);
  if (!folder) {
    qe_status status = errno == ENOENT ? QE_NOT_FOUND : QE_IO;
    return qe_fail(status, "%s: cannot be listed: %s; check the path and its permissions", path, strerror(errno));
  }
  qe_status status = QE_OK;
  errno = 0;
  for (struct dirent *at = readdir(folder); at && status == QE_OK; at = readdir(folder)) {
    if (at->d_name[0] != '.') status = add_name(of, at->d_name);
    errno = 0;
  }
  if (status == QE_OK && errno) status = qe_fail(QE_IO, "%s: cannot be listed: %s", path, strerror(errno));
  closedir(folder);
  if (status != QE_OK) free_names(of);
  if (status == QE_OK && of->count) qsort(of->name, of->count, sizeof *of->name, by_name);
  return status;
}

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcasecmp(text + length - tail, end) == 0;
}

/* ---- a folder for each class ---- */

/* What others read as images and this does not: leaving it out silently would change the data set. */
static bool is_other_image(const char *name) {
  static const char *const ends[] = {".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"};
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
    if (ends_with(name, ends[i])) return true;
  return false;
}

static qe_status read_class(const char *path, int32_t label, int depth, qe_image_list *list);

static qe_status read_member(const char *path, int32_t label, int depth, qe_image_list *list) {
  if (is_other_image(path))
    return qe_fail(QE_FORMAT, "%s: only JPEG and PNG are read: convert it, or remove it from the data set", path);
  if (qe_is_image_path(path)) {
    qe_image_entry entry = {.label = label};
    QE_TRY(qe_texts_add(&list->texts, path, &entry.file));
    return qe_image_list_add(list, &entry);
  }
  return qe_folder_exists(path) ? read_class(path, label, depth + 1, list) : QE_OK;
}

/* All images below `path`. */
static qe_status read_class(const char *path, int32_t label, int depth, qe_image_list *list) {
  names members;
  if (depth > MAX_DEPTH) return qe_fail(QE_FORMAT, "%s: folders in folders, more than %d deep", path, MAX_DEPTH);
  QE_TRY(list_folder(path, &members));
  qe_status status = QE_OK;
  for (size_t i = 0; i < members.count && status == QE_OK; i++) {
    char *member = qe_path_join(path, members.name[i]);
    status = member ? read_member(member, label, depth, list) : QE_NO_MEMORY;
    qe_free(member);
  }
  free_names(&members);
  return status;
}

static qe_status read_class_folder(const char *path, const char *name, qe_class_names *classes, qe_image_list *list) {
  int32_t label = 0;
  size_t before = list->count;
  bool training = !classes->closed;
  QE_TRY(qe_class_names_find(classes, name, path, &label));
  QE_TRY(read_class(path, label, 1, list));
  if (training && list->count == before)
    return qe_fail(QE_FORMAT, "%s: no JPEG or PNG file in this class's folder: add some, or remove the folder", path);
  return QE_OK;
}

static qe_status read_classes(const char *place, const names *members, qe_class_names *classes, qe_image_list *list) {
  qe_status status = QE_OK;
  for (size_t i = 0; i < members->count && status == QE_OK; i++) {
    char *path = qe_path_join(place, members->name[i]);
    if (!path) return QE_NO_MEMORY;
    if (qe_folder_exists(path)) status = read_class_folder(path, members->name[i], classes, list);
    qe_free(path);
  }
  return status;
}

/* ---- shards ---- */

static bool is_shard(const char *name) {
  static const char *const ends[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2"};
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
    if (ends_with(name, ends[i])) return true;
  return false;
}

static bool has_word(const char *name, const char *const *words) {
  if (!words) return true;
  for (; *words; words++)
    if (strstr(name, *words)) return true;
  return false;
}

/* Only the pages of its headers are read. */
static qe_status read_shard(const char *path, qe_class_names *classes, qe_image_list *list) {
  struct stat info;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &info) != 0) {
    int error = errno;
    if (fd >= 0) close(fd);
    return qe_fail(QE_IO, "%s: cannot be opened: %s", path, strerror(error));
  }
  if (info.st_size == 0) {
    close(fd);
    return qe_fail(QE_FORMAT, "%s: empty: replace it or remove it", path);
  }
  void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  int error = errno;
  close(fd);
  if (bytes == MAP_FAILED) return qe_fail(QE_IO, "%s: cannot be mapped to memory: %s", path, strerror(error));
  qe_status status = qe_image_list_add_tar(bytes, (size_t)info.st_size, path, classes, list);
  munmap(bytes, (size_t)info.st_size);
  return status;
}

static qe_status read_shards(const char *place, const names *members, const char *const *words, qe_class_names *classes,
                             qe_image_list *list) {
  qe_status status = QE_OK;
  for (size_t i = 0; i < members->count && status == QE_OK; i++) {
    if (!is_shard(members->name[i]) || !has_word(members->name[i], words)) continue;
    char *path = qe_path_join(place, members->name[i]);
    status = path ? read_shard(path, classes, list) : QE_NO_MEMORY;
    qe_free(path);
  }
  return status;
}

/* ---- either ---- */

static qe_status start_list(qe_image_list *list) {
  size_t none;
  return list->texts.count ? QE_OK : qe_texts_add(&list->texts, "", &none);
}

qe_status qe_image_list_read_shards(const char *place, const char *const *words, qe_class_names *classes,
                                    qe_image_list *list) {
  names members;
  QE_TRY(start_list(list));
  QE_TRY(list_folder(place, &members));
  qe_status status = read_shards(place, &members, words, classes, list);
  free_names(&members);
  return status;
}

qe_status qe_image_list_read(const char *place, qe_class_names *classes, qe_image_list *list) {
  names members;
  QE_TRY(start_list(list));
  QE_TRY(list_folder(place, &members));
  bool shards = false;
  for (size_t i = 0; i < members.count; i++) shards |= is_shard(members.name[i]);
  qe_status status =
      shards ? read_shards(place, &members, NULL, classes, list) : read_classes(place, &members, classes, list);
  free_names(&members);
  if (status == QE_OK && list->count == 0)
    status = qe_fail(QE_FORMAT,
                     "%s: no images: a folder for each class with JPEG or PNG files in it is expected, or tar "
                     "files of them",
                     place);
  return status;
}
