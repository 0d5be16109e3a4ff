/* Lists of tensors within lists, under a prefix. */
#include "core/base/alloc.h"
#include "core/base/safetensors.h"

#include <string.h>

static qe_status put_tensor(qe_tensors *list, const char *prefix, const qe_named_tensor *tensor) {
  char *name = qe_format("%s.%s", prefix, tensor->name);
  qe_status status =
      name ? qe_tensors_add(list, name, tensor->dtype, tensor->rank, tensor->shape, tensor->data) : QE_NO_MEMORY;
  qe_free(name);
  return status;
}

static qe_status put_meta(qe_tensors *list, const char *prefix, const qe_meta *meta) {
  char *key = qe_format("%s.%s", prefix, meta->key);
  qe_status status = key ? qe_tensors_set_meta(list, key, meta->value) : QE_NO_MEMORY;
  qe_free(key);
  return status;
}

qe_status qe_tensors_put(qe_tensors *list, const char *prefix, const qe_tensors *other) {
  for (size_t i = 0; i < other->count; i++) QE_TRY(put_tensor(list, prefix, &other->items[i]));
  for (size_t i = 0; i < other->meta_count; i++) QE_TRY(put_meta(list, prefix, &other->meta[i]));
  return QE_OK;
}

/* What follows "PREFIX." in a name; NULL when it does not begin so. */
static const char *after(const char *name, const char *prefix) {
  size_t length = strlen(prefix);
  return strncmp(name, prefix, length) == 0 && name[length] == '.' ? name + length + 1 : NULL;
}

static qe_status pick_all(const qe_tensors *list, const char *prefix, qe_tensors *other) {
  for (size_t i = 0; i < list->count; i++) {
    const qe_named_tensor *tensor = &list->items[i];
    const char *name = after(tensor->name, prefix);
    if (name) QE_TRY(qe_tensors_add(other, name, tensor->dtype, tensor->rank, tensor->shape, tensor->data));
  }
  for (size_t i = 0; i < list->meta_count; i++) {
    const char *key = after(list->meta[i].key, prefix);
    if (key) QE_TRY(qe_tensors_set_meta(other, key, list->meta[i].value));
  }
  return QE_OK;
}

qe_status qe_tensors_pick(const qe_tensors *list, const char *prefix, qe_tensors **out) {
  qe_tensors *other = qe_tensors_new();
  if (!other) return QE_NO_MEMORY;
  qe_status status = pick_all(list, prefix, other);
  if (status != QE_OK) {
    qe_tensors_free(other);
    return status;
  }
  *out = other;
  return QE_OK;
}
