/* Reading the safetensors format. The file may come from anywhere: nothing in it is believed before it is checked. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/json_read.h"
#include "core/base/safetensors.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { HEADER_LIMIT = 16 << 20, NAME_TEXT = 96 };
static const size_t file_limit = (size_t)1 << 36;
static const int64_t whole_limit = INT64_C(1) << 53; /* JSON numbers are exact integers up to here */

/* A tensor as the header gives it; the data lies at data[begin, end). */
typedef struct entry {
  const char *name;
  qe_dtype dtype;
  int rank;
  int64_t shape[QE_MAX_RANK];
  int64_t begin, end;
} entry;

typedef struct reader {
  const char *path;
  const char *data; /* after the header */
  int64_t data_bytes;
  entry *entries;
  size_t count;
  const entry **order;
} reader;

/* ---- messages ---- */

/* A name from the file, fit to be shown: cut, and without control characters. */
static const char *shown(const char *name, char text[NAME_TEXT]) {
  size_t used = 0;
  while (*name && used + 8 < NAME_TEXT) {
    int length = qe_utf8_length(name);
    bool plain = length > 0 && (unsigned char)*name >= 0x20 && *name != 0x7F;
    if (length < 1) length = 1;
    if (plain)
      memcpy(text + used, name, (size_t)length);
    else
      memset(text + used, '?', (size_t)length);
    used += (size_t)length;
    name += length;
  }
  memcpy(text + used, *name ? "…" : "", *name ? sizeof "…" : 1);
  return text;
}

static qe_status bad_file(const reader *r, const char *reason) {
  return qe_fail(QE_FORMAT, "%s: not a safetensors file: %s", r->path, reason);
}

static qe_status bad_tensor(const reader *r, const char *name, const char *reason) {
  char text[NAME_TEXT];
  return qe_fail(QE_FORMAT, "%s: tensor \"%s\": %s", r->path, shown(name, text), reason);
}

/* ---- header ---- */

static bool whole_number(const cJSON *item, int64_t *value) {
  return qe_json_whole(item, 0, whole_limit, value);
}

static qe_status read_shape(const reader *r, const cJSON *item, entry *e) {
  if (!cJSON_IsArray(item)) return bad_tensor(r, e->name, "\"shape\" is not a list");
  const cJSON *size;
  cJSON_ArrayForEach(size, item) {
    if (e->rank == QE_MAX_RANK) return bad_tensor(r, e->name, "more than 8 axes");
    if (!whole_number(size, &e->shape[e->rank++])) return bad_tensor(r, e->name, "a size that is not a whole number");
  }
  return QE_OK;
}

static qe_status read_offsets(const reader *r, const cJSON *item, entry *e) {
  const cJSON *first = cJSON_IsArray(item) ? item->child : NULL;
  const cJSON *second = first ? first->next : NULL;
  if (!second || second->next || !whole_number(first, &e->begin) || !whole_number(second, &e->end))
    return bad_tensor(r, e->name, "\"data_offsets\" is not a list of two whole numbers");
  if (e->begin > e->end) return bad_tensor(r, e->name, "its data ends before it begins");
  if (e->end > r->data_bytes) return bad_tensor(r, e->name, "its data lies beyond the end of the file");
  return QE_OK;
}

static qe_status read_type(const reader *r, const cJSON *item, entry *e) {
  if (!cJSON_IsString(item)) return bad_tensor(r, e->name, "\"dtype\" is not a text");
  e->dtype = qe_safetensors_dtype_find(item->valuestring);
  if (e->dtype == QE_DTYPES) return bad_tensor(r, e->name, "a type other than F32, I64, I32, I16, I8 and U8");
  return QE_OK;
}

static qe_status read_entry(const reader *r, const cJSON *item, entry *e) {
  static const struct {
    const char *key;
    qe_status (*read)(const reader *, const cJSON *, entry *);
  } parts[] = {{"dtype", read_type}, {"shape", read_shape}, {"data_offsets", read_offsets}};
  enum { PARTS = sizeof parts / sizeof *parts };
  int seen[PARTS] = {0};
  e->name = item->string;
  if (!cJSON_IsObject(item)) return bad_tensor(r, e->name, "its entry is not an object");
  const cJSON *child;
  cJSON_ArrayForEach(child, item) {
    for (int i = 0; i < PARTS; i++) {
      if (strcmp(child->string, parts[i].key) != 0) continue;
      if (seen[i]++) return bad_tensor(r, e->name, "a key of its entry is given twice");
      QE_TRY(parts[i].read(r, child, e));
    }
  }
  for (int i = 0; i < PARTS; i++)
    if (!seen[i]) return bad_tensor(r, e->name, "\"dtype\", \"shape\" or \"data_offsets\" is missing");
  size_t bytes;
  if (!qe_tensor_bytes(e->dtype, e->rank, e->shape, &bytes)) return bad_tensor(r, e->name, "its size overflows");
  if (bytes != (size_t)(e->end - e->begin))
    return bad_tensor(r, e->name, "its shape and type do not give the number of its bytes");
  return QE_OK;
}

static qe_status read_metadata(const reader *r, const cJSON *item, qe_tensors *list) {
  if (!cJSON_IsObject(item)) return bad_file(r, "\"__metadata__\" is not an object");
  const cJSON *child;
  cJSON_ArrayForEach(child, item) {
    if (!cJSON_IsString(child)) return bad_file(r, "\"__metadata__\" holds something that is not a text");
    if (list->meta_count == 4096) return bad_file(r, "more than 4096 metadata keys");
    if (qe_tensors_get_meta(list, child->string)) return bad_file(r, "a metadata key is given twice");
    QE_TRY(qe_tensors_set_meta(list, child->string, child->valuestring));
  }
  return QE_OK;
}

static qe_status read_header(reader *r, const cJSON *root, qe_tensors *list) {
  const cJSON *child;
  bool has_metadata = false;
  size_t count = 0;
  if (!cJSON_IsObject(root)) return bad_file(r, "its header is not a JSON object");
  cJSON_ArrayForEach(child, root) count++;
  r->entries = QE_NEW_ARRAY(entry, count);
  r->order = QE_NEW_ARRAY(const entry *, count);
  if (!r->entries || !r->order) return QE_NO_MEMORY;
  cJSON_ArrayForEach(child, root) {
    if (strcmp(child->string, "__metadata__") != 0) {
      QE_TRY(read_entry(r, child, &r->entries[r->count]));
      r->order[r->count] = &r->entries[r->count];
      r->count++;
    } else if (has_metadata) {
      return bad_file(r, "\"__metadata__\" is given twice");
    } else {
      has_metadata = true;
      QE_TRY(read_metadata(r, child, list));
    }
  }
  return QE_OK;
}

/* ---- the whole ---- */

static int by_name(const void *a, const void *b) {
  const entry *const *x = a, *const *y = b;
  return strcmp((*x)->name, (*y)->name);
}

static int by_place(const void *a, const void *b) {
  const entry *const *x = a, *const *y = b;
  if ((*x)->begin != (*y)->begin) return (*x)->begin < (*y)->begin ? -1 : 1;
  return ((*x)->end > (*y)->end) - ((*x)->end < (*y)->end);
}

/* Names differ, and the tensors cover the data without gap or overlap. */
static qe_status check_places(reader *r) {
  if (r->count) qsort(r->order, r->count, sizeof *r->order, by_name);
  for (size_t i = 1; i < r->count; i++)
    if (strcmp(r->order[i - 1]->name, r->order[i]->name) == 0)
      return bad_tensor(r, r->order[i]->name, "the name is given twice");
  if (r->count) qsort(r->order, r->count, sizeof *r->order, by_place);
  int64_t at = 0;
  for (size_t i = 0; i < r->count; i++) {
    if (r->order[i]->begin < at) return bad_tensor(r, r->order[i]->name, "its data overlaps another tensor's");
    if (r->order[i]->begin > at) return bad_tensor(r, r->order[i]->name, "a gap before its data");
    at = r->order[i]->end;
  }
  return at == r->data_bytes ? QE_OK : bad_file(r, "bytes after the last tensor");
}

static qe_status copy_tensors(const reader *r, qe_tensors *list) {
  list->items = QE_NEW_ARRAY(qe_named_tensor, r->count);
  if (!list->items) return QE_NO_MEMORY;
  list->capacity = r->count;
  for (; list->count < r->count; list->count++) {
    const entry *e = &r->entries[list->count];
    qe_named_tensor *tensor = &list->items[list->count];
    *tensor = (qe_named_tensor){.dtype = e->dtype, .rank = e->rank, .bytes = (size_t)(e->end - e->begin)};
    memcpy(tensor->shape, e->shape, sizeof e->shape);
    tensor->name = qe_strdup(e->name);
    tensor->data = tensor->name ? qe_alloc(tensor->bytes) : NULL;
    if (!tensor->data) {
      qe_free(tensor->name);
      return QE_NO_MEMORY;
    }
    memcpy(tensor->data, r->data + e->begin, tensor->bytes);
  }
  return QE_OK;
}

static qe_status read_list(reader *r, const char *file, size_t bytes, qe_tensors *list) {
  uint64_t length;
  if (bytes < sizeof length) return bad_file(r, "shorter than 8 bytes");
  memcpy(&length, file, sizeof length);
  if (length > bytes - sizeof length) return bad_file(r, "its header is longer than the file");
  if (length > HEADER_LIMIT) return bad_file(r, "its header is longer than 16 MiB");
  r->data = file + sizeof length + length;
  r->data_bytes = (int64_t)(bytes - sizeof length - (size_t)length);
  cJSON *root = qe_json_parse(file + sizeof length, (size_t)length);
  if (!root) return bad_file(r, "its header is not JSON");
  qe_status status = read_header(r, root, list);
  if (status == QE_OK) status = check_places(r);
  if (status == QE_OK) status = copy_tensors(r, list);
  cJSON_Delete(root);
  return status;
}

qe_status qe_tensors_parse(const char *name, const void *bytes, size_t count, qe_tensors **list) {
  reader r = {.path = name};
  *list = NULL;
  qe_tensors *made = qe_tensors_new();
  qe_status status = made ? read_list(&r, bytes, count, made) : QE_NO_MEMORY;
  if (status == QE_NO_MEMORY) status = qe_fail_within(status, "%s", name);
  if (status == QE_OK)
    *list = made;
  else
    qe_tensors_free(made);
  qe_free(r.entries);
  qe_free(r.order);
  return status;
}

/* /dev/zero, say; pipes end. */
static bool is_endless(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode));
}

qe_status qe_tensors_read(const char *path, qe_tensors **list) {
  char *file = NULL;
  size_t bytes = 0;
  *list = NULL;
  if (is_endless(path)) return qe_fail(QE_FORMAT, "%s: a device, no file: name a file", path);
  QE_TRY(qe_file_read(path, file_limit, &file, &bytes));
  qe_status status = qe_tensors_parse(path, file, bytes, list);
  qe_free(file);
  return status;
}
