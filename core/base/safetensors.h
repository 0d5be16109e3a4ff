/* Named tensors in memory and in the safetensors format (github.com/huggingface/safetensors, README "Format"). */
#ifndef QE_BASE_SAFETENSORS_H
#define QE_BASE_SAFETENSORS_H

#include "core/base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_MAX_RANK = 8 };

typedef struct qe_named_tensor {
  char *name;
  qe_dtype dtype;
  int rank; /* 0: one element */
  int64_t shape[QE_MAX_RANK];
  void *data; /* dense, the last axis contiguous; aligned to QE_ALIGNMENT */
  size_t bytes;
} qe_named_tensor;

typedef struct qe_meta {
  char *key, *value;
} qe_meta;

typedef struct qe_tensors {
  qe_named_tensor *items;
  size_t count, capacity;
  qe_meta *meta;
  size_t meta_count, meta_capacity;
} qe_tensors;

/* NULL with a message when there is no memory. */
qe_tensors *qe_tensors_new(void);
void qe_tensors_free(qe_tensors *list); /* NULL is fine */

/* Append a tensor; name and data are copied. `data` NULL: zeros. QE_USAGE when the name is taken, or the shape bad. */
QE_CHECKED qe_status qe_tensors_add(qe_tensors *list, const char *name, qe_dtype dtype, int rank, const int64_t *shape,
                                    const void *data);
/* The tensor called `name`, or NULL. Valid until the next qe_tensors_add. */
qe_named_tensor *qe_tensors_find(const qe_tensors *list, const char *name);

/* Set or replace a metadata string. */
QE_CHECKED qe_status qe_tensors_set_meta(qe_tensors *list, const char *key, const char *value);
/* The metadata string, or NULL. */
const char *qe_tensors_get_meta(const qe_tensors *list, const char *key);

/* A new list from a file, in the order of its header. Anything the format does not allow is QE_FORMAT with file, tensor
 * and reason; memory use is bounded by a small multiple of the file's size. */
QE_CHECKED qe_status qe_tensors_read(const char *path, qe_tensors **list);
/* The same of a file's bytes; `name` stands for it in messages. */
QE_CHECKED qe_status qe_tensors_parse(const char *name, const void *bytes, size_t count, qe_tensors **list);
/* Replace `path` atomically. The same list gives the same bytes; every tensor starts at a multiple of its element. */
QE_CHECKED qe_status qe_tensors_write(const qe_tensors *list, const char *path);

/* Append the tensors and metadata of another list, "PREFIX." before their names; and a new list of those that have it,
 * the prefix taken off. */
QE_CHECKED qe_status qe_tensors_put(qe_tensors *list, const char *prefix, const qe_tensors *other);
QE_CHECKED qe_status qe_tensors_pick(const qe_tensors *list, const char *prefix, qe_tensors **other);

/* Elements of a shape times element size; false when a size is negative, the rank bad or the product overflows. */
bool qe_tensor_bytes(qe_dtype dtype, int rank, const int64_t *shape, size_t *bytes);
/* The format's name of a type ("F32"); the type with that name, or QE_DTYPES. */
const char *qe_safetensors_dtype(qe_dtype dtype);
qe_dtype qe_safetensors_dtype_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif
