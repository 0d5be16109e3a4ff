/* Images in a tar shard: where they lie in it, and the classes that files beside them or their folders give. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/data/image_list.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CLASS_TEXT = 32, MAX_MEMBER = 1 << 28 };

/* A file of the shard that matters here. */
typedef struct member {
  size_t path; /* text */
  uint64_t offset;
  uint32_t bytes;
} member;

typedef struct shard {
  const uint8_t *bytes;
  size_t count;
  const char *file;
  qe_texts paths;
  member *members;
  size_t members_count, capacity;
} shard;

/* ---- the tar ---- */

static const char *packed_as(const uint8_t *bytes, size_t count) {
  static const struct {
    const char *magic, *name;
  } kinds[] = {{"\x1f\x8b", "gzip"},
               {"\x28\xb5\x2f\xfd", "zstd"},
               {"\xfd"
                "7zXZ",
                "xz"},
               {"BZh", "bzip2"}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (count >= strlen(kinds[i].magic) && memcmp(bytes, kinds[i].magic, strlen(kinds[i].magic)) == 0)
      return kinds[i].name;
  return NULL;
}

static bool ends_in_cls(const char *path) {
  size_t length = strlen(path);
  return length > 4 && strcmp(path + length - 4, ".cls") == 0;
}

/* The data of a plain tar are handed out where they lie. */
static qe_status add_member(shard *s, struct archive *tar, struct archive_entry *entry, const char *path) {
  const void *data = NULL;
  size_t got = 0;
  la_int64_t at = 0, size = archive_entry_size(entry);
  unsigned long long header = (unsigned long long)archive_read_header_position(tar);
  if (size < 1 || size > MAX_MEMBER)
    return qe_fail(QE_FORMAT, "%s: %s has %lld bytes, in the header at offset %llu; 1 to %d are read", s->file, path,
                   (long long)size, header, MAX_MEMBER);
  int code = archive_read_data_block(tar, &data, &got, &at);
  const uint8_t *start = data;
  bool inside = code == ARCHIVE_OK && start >= s->bytes && start < s->bytes + s->count;
  if (inside && at == 0 && got >= (size_t)size) {
    member m = {.offset = (uint64_t)(start - s->bytes), .bytes = (uint32_t)size};
    QE_TRY(qe_texts_add(&s->paths, path, &m.path));
    QE_TRY(qe_reserve(&s->members, &s->capacity, s->members_count + 1, sizeof *s->members));
    s->members[s->members_count++] = m;
    return QE_OK;
  }
  if (code == ARCHIVE_OK && !inside)
    return qe_fail(QE_FORMAT,
                   "%s: %s cannot be read where it lies (header at offset %llu): pack the shard again with tar",
                   s->file, path, header);
  return qe_fail(QE_FORMAT, "%s: cut short in %s, whose header is at offset %llu: replace the shard or remove it",
                 s->file, path, header);
}

static qe_status list_members(shard *s, struct archive *tar) {
  struct archive_entry *entry;
  for (;;) {
    int code = archive_read_next_header(tar, &entry);
    if (code == ARCHIVE_EOF) return QE_OK;
    if (code != ARCHIVE_OK && code != ARCHIVE_WARN)
      return qe_fail(QE_FORMAT, "%s: not a tar file, or damaged, at offset %lld: %s: replace the shard or remove it",
                     s->file, (long long)archive_read_header_position(tar), archive_error_string(tar));
    const char *path = archive_entry_pathname(entry);
    if (!path || archive_entry_filetype(entry) != AE_IFREG || qe_path_name(path)[0] == '.') continue;
    if (qe_is_image_path(path) || ends_in_cls(path)) QE_TRY(add_member(s, tar, entry, path));
  }
}

static qe_status open_tar(shard *s) {
  const char *packed = packed_as(s->bytes, s->count);
  if (packed)
    return qe_fail(QE_FORMAT,
                   "%s: compressed by %s, so that images cannot be read in any order: unpack it to a plain .tar",
                   s->file, packed);
  struct archive *tar = archive_read_new();
  if (!tar) return qe_fail(QE_NO_MEMORY, "%s: no memory to read it", s->file);
  qe_status status = QE_OK;
  if (archive_read_support_format_tar(tar) != ARCHIVE_OK ||
      archive_read_open_memory(tar, s->bytes, s->count) != ARCHIVE_OK)
    status = qe_fail(QE_FORMAT, "%s: not a tar file: %s", s->file, archive_error_string(tar));
  if (status == QE_OK) status = list_members(s, tar);
  archive_read_free(tar);
  return status;
}

/* ---- samples ---- */

/* Bytes of the path up to the first dot of its name. */
static size_t key_length(const char *path) {
  const char *name = qe_path_name(path), *dot = strchr(name, '.');
  return dot ? (size_t)(dot - path) : strlen(path);
}

static bool same_key(const char *a, const char *b) {
  size_t length = key_length(a);
  return length == key_length(b) && memcmp(a, b, length) == 0;
}

static qe_status read_class_number(const shard *s, const member *m, qe_class_names *classes, int32_t *label) {
  char text[MAX_CLASS_TEXT + 1] = "", where[1024];
  int number = 0, used = 0;
  const char *path = s->paths.bytes + m->path;
  snprintf(where, sizeof where, "%s: %s (at offset %llu)", s->file, path, (unsigned long long)m->offset);
  if (m->bytes <= MAX_CLASS_TEXT) memcpy(text, s->bytes + m->offset, m->bytes);
  if (sscanf(text, "%9d %n", &number, &used) != 1 || text[used])
    return qe_fail(QE_FORMAT, "%s: not the number of a class: '%.32s'", where, text);
  *label = number;
  return qe_class_names_number(classes, number, where);
}

/* The folder that holds the image. */
static qe_status find_folder_class(const shard *s, const char *path, qe_class_names *classes, int32_t *label) {
  char where[1024];
  snprintf(where, sizeof where, "%s: %s", s->file, path);
  char *folder = qe_path_folder(path);
  if (!folder) return QE_NO_MEMORY;
  const char *name = qe_path_name(folder);
  qe_status status = strcmp(name, ".") == 0 && !classes->numbers
                         ? qe_fail(QE_FORMAT, "%s: neither a .cls file nor a folder says its class: add one", where)
                         : qe_class_names_find(classes, name, where, label);
  qe_free(folder);
  return status;
}

/* Members first to last - 1 have one key. With a class file they are one sample and have one image. */
static qe_status add_sample(const shard *s, size_t first, size_t last, size_t file, qe_class_names *classes,
                            qe_image_list *list) {
  const member *class_file = NULL;
  int32_t label = -1, images = 0;
  for (size_t i = first; i < last; i++)
    if (ends_in_cls(s->paths.bytes + s->members[i].path)) class_file = &s->members[i];
  if (class_file) QE_TRY(read_class_number(s, class_file, classes, &label));
  for (size_t i = first; i < last; i++) {
    const member *m = &s->members[i];
    const char *path = s->paths.bytes + m->path;
    if (m == class_file || ends_in_cls(path)) continue;
    if (class_file && strchr(path + key_length(path) + 1, '.')) continue; /* key.mask.png: not the image itself */
    if (class_file && images++)
      return qe_fail(QE_FORMAT, "%s: %s (at offset %llu): a second image of one sample: keep one", s->file, path,
                     (unsigned long long)m->offset);
    if (!class_file) QE_TRY(find_folder_class(s, path, classes, &label));
    qe_image_entry entry = {.file = file, .offset = m->offset, .bytes = m->bytes, .label = label};
    QE_TRY(qe_texts_add(&list->texts, path, &entry.inner));
    QE_TRY(qe_image_list_add(list, &entry));
  }
  return QE_OK;
}

static qe_status add_samples(const shard *s, qe_class_names *classes, qe_image_list *list) {
  size_t file, none;
  if (list->texts.count == 0) QE_TRY(qe_texts_add(&list->texts, "", &none));
  QE_TRY(qe_texts_add(&list->texts, s->file, &file));
  for (size_t first = 0, last; first < s->members_count; first = last) {
    const char *key = s->paths.bytes + s->members[first].path;
    for (last = first + 1; last < s->members_count; last++)
      if (!same_key(key, s->paths.bytes + s->members[last].path)) break;
    QE_TRY(add_sample(s, first, last, file, classes, list));
  }
  return QE_OK;
}

qe_status qe_image_list_add_tar(const uint8_t *bytes, size_t count, const char *file, qe_class_names *classes,
                                qe_image_list *list) {
  shard s = {.bytes = bytes, .count = count, .file = file};
  qe_status status = open_tar(&s);
  if (status == QE_OK && s.members_count == 0)
    status = qe_fail(QE_FORMAT, "%s: no JPEG or PNG file in it: replace the shard or remove it", file);
  if (status == QE_OK) status = add_samples(&s, classes, list);
  qe_free(s.paths.bytes);
  qe_free(s.members);
  return status;
}
