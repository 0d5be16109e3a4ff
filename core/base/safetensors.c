/* The list of named tensors, and its writing in the safetensors format. Reading: safetensors_read.c. */
#include "core/base/safetensors.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian and so is this code");

static const char *const type_names[QE_DTYPES] = {
    [QE_F32] = "F32", [QE_S32] = "I32", [QE_S8] = "I8", [QE_U8] = "U8", [QE_S16] = "I16", [QE_S64] = "I64",
};

const char *qe_safetensors_dtype(qe_dtype dtype) {
  return type_names[dtype];
}

qe_dtype qe_safetensors_dtype_find(const char *name) {
  int type = 0;
  while (type < QE_DTYPES && strcmp(type_names[type], name) != 0) type++;
  return (qe_dtype)type;
}

bool qe_tensor_bytes(qe_dtype dtype, int rank, const int64_t *shape, size_t *bytes) {
  int64_t total = (int64_t)qe_dtype_bytes(dtype);
  if (rank < 0 || rank > QE_MAX_RANK) return false;
  for (int axis = 0; axis < rank; axis++)
    if (shape[axis] < 0 || __builtin_mul_overflow(total, shape[axis], &total)) return false;
  *bytes = (size_t)total;
  return true;
}

/* ---- the list ---- */

qe_tensors *qe_tensors_new(void) {
  return QE_NEW(qe_tensors);
}

void qe_tensors_free(qe_tensors *list) {
  if (!list) return;
  for (size_t i = 0; i < list->count; i++) {
    qe_free(list->items[i].name);
    qe_free(list->items[i].data);
  }
  for (size_t i = 0; i < list->meta_count; i++) {
    qe_free(list->meta[i].key);
    qe_free(list->meta[i].value);
  }
  qe_free(list->items);
  qe_free(list->meta);
  qe_free(list);
}

qe_status qe_tensors_add(qe_tensors *list, const char *name, qe_dtype dtype, int rank, const int64_t *shape,
                         const void *data) {
  size_t bytes;
  if ((unsigned)dtype >= QE_DTYPES || !qe_tensor_bytes(dtype, rank, shape, &bytes))
    return qe_fail(QE_USAGE, "tensor \"%s\": bad type, rank (%d, must be 0…%d) or shape", name, rank, QE_MAX_RANK);
  if (strcmp(name, "__metadata__") == 0 || qe_tensors_find(list, name))
    return qe_fail(QE_USAGE, "tensor \"%s\": the name is taken", name);
  QE_TRY(qe_reserve(&list->items, &list->capacity, list->count + 1, sizeof *list->items));
  qe_named_tensor tensor = {.dtype = dtype, .rank = rank, .bytes = bytes};
  if (rank) memcpy(tensor.shape, shape, (size_t)rank * sizeof *shape);
  tensor.name = qe_strdup(name);
  tensor.data = data ? qe_alloc(bytes) : qe_calloc(bytes, 1);
  if (!tensor.name || !tensor.data) {
    qe_free(tensor.name);
    qe_free(tensor.data);
    return QE_NO_MEMORY;
  }
  if (data && bytes) memcpy(tensor.data, data, bytes);
  list->items[list->count++] = tensor;
  return QE_OK;
}

qe_named_tensor *qe_tensors_find(const qe_tensors *list, const char *name) {
  for (size_t i = 0; i < list->count; i++)
    if (strcmp(list->items[i].name, name) == 0) return &list->items[i];
  return NULL;
}

static qe_meta *find_meta(const qe_tensors *list, const char *key) {
  for (size_t i = 0; i < list->meta_count; i++)
    if (strcmp(list->meta[i].key, key) == 0) return &list->meta[i];
  return NULL;
}

qe_status qe_tensors_set_meta(qe_tensors *list, const char *key, const char *value) {
  qe_meta *old = find_meta(list, key);
  qe_meta meta = {NULL, qe_strdup(value)};
  if (!meta.value) return QE_NO_MEMORY;
  if (old) {
    qe_free(old->value);
    old->value = meta.value;
    return QE_OK;
  }
  qe_status status = qe_reserve(&list->meta, &list->meta_capacity, list->meta_count + 1, sizeof *list->meta);
  if (status == QE_OK && !(meta.key = qe_strdup(key))) status = QE_NO_MEMORY;
  if (status == QE_OK)
    list->meta[list->meta_count++] = meta;
  else
    qe_free(meta.value);
  return status;
}

const char *qe_tensors_get_meta(const qe_tensors *list, const char *key) {
  qe_meta *meta = find_meta(list, key);
  return meta ? meta->value : NULL;
}

/* ---- writing ---- */

/* Where tensor i's bytes lie. Larger elements first, so that every tensor is aligned though the format has no gaps. */
static void lay_out(const qe_tensors *list, size_t *begin, size_t *order) {
  size_t placed = 0, at = 0;
  for (size_t size = 8; size > 0; size /= 2)
    for (size_t i = 0; i < list->count; i++) {
      if (qe_dtype_bytes(list->items[i].dtype) != size) continue;
      order[placed++] = i;
      begin[i] = at;
      at += list->items[i].bytes;
    }
}

static void write_entry(qe_json *json, const qe_named_tensor *tensor, size_t begin) {
  qe_json_open_object(json, tensor->name);
  qe_json_text(json, "dtype", qe_safetensors_dtype(tensor->dtype));
  qe_json_open_array(json, "shape");
  for (int axis = 0; axis < tensor->rank; axis++) qe_json_int(json, NULL, tensor->shape[axis]);
  qe_json_close(json);
  qe_json_open_array(json, "data_offsets");
  qe_json_int(json, NULL, (int64_t)begin);
  qe_json_int(json, NULL, (int64_t)(begin + tensor->bytes));
  qe_json_close(json);
  qe_json_close(json);
}

static qe_status header_text(const qe_tensors *list, const size_t *begin, char **text, size_t *length) {
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  if (list->meta_count) {
    qe_json_open_object(&json, "__metadata__");
    for (size_t i = 0; i < list->meta_count; i++) qe_json_text(&json, list->meta[i].key, list->meta[i].value);
    qe_json_close(&json);
  }
  for (size_t i = 0; i < list->count; i++) write_entry(&json, &list->items[i], begin[i]);
  qe_json_close(&json);
  return qe_json_finish(&json, text, length);
}

qe_status qe_tensors_write(const qe_tensors *list, const char *path) {
  qe_status status = QE_NO_MEMORY;
  char *header = NULL;
  size_t length = 0;
  size_t *begin = QE_NEW_ARRAY(size_t, list->count), *order = QE_NEW_ARRAY(size_t, list->count);
  qe_span *spans = QE_NEW_ARRAY(qe_span, list->count + 3);
  if (!begin || !order || !spans) goto done;
  lay_out(list, begin, order);
  QE_TRY_DONE(header_text(list, begin, &header, &length));
  size_t pad = (8 - length % 8) % 8;
  uint64_t padded = length + pad;
  spans[0] = (qe_span){&padded, sizeof padded};
  spans[1] = (qe_span){header, length};
  spans[2] = (qe_span){"       ", pad};
  for (size_t i = 0; i < list->count; i++)
    spans[3 + i] = (qe_span){list->items[order[i]].data, list->items[order[i]].bytes};
  status = qe_file_write_spans(path, spans, list->count + 3);
done:
  qe_free(header);
  qe_free(begin);
  qe_free(order);
  qe_free(spans);
  return status;
}
