/* Tensor descriptors: sizes, comparison, text. */
#include "core/base/tensor.h"

#include <stdio.h>
#include <string.h>

static const struct {
  const char *name;
  size_t bytes;
} types[QE_DTYPES] = {
#define X(id, name, bytes) {name, bytes},
    QE_DTYPE_LIST(X)
#undef X
};

size_t qe_dtype_bytes(qe_dtype dtype) {
  return types[dtype].bytes;
}

const char *qe_dtype_name(qe_dtype dtype) {
  return types[dtype].name;
}

int64_t qe_count(const qe_desc *desc) {
  int64_t count = 1;
  for (int axis = 0; axis < QE_AXES; axis++) {
    if (desc->dim[axis] <= 0 || count > (INT64_C(1) << 40) / desc->dim[axis]) return 0;
    count *= desc->dim[axis];
  }
  return count;
}

size_t qe_bytes(const qe_desc *desc) {
  return (size_t)qe_count(desc) * qe_dtype_bytes(desc->dtype);
}

bool qe_same_shape(const qe_desc *a, const qe_desc *b) {
  return memcmp(a->dim, b->dim, sizeof a->dim) == 0;
}

bool qe_same_desc(const qe_desc *a, const qe_desc *b) {
  return a->dtype == b->dtype && qe_same_shape(a, b);
}

char *qe_desc_text(const qe_desc *desc, char *text) {
  const int32_t *dim = desc->dim;
  snprintf(text, QE_DESC_TEXT, "%s[%d,%d,%d,%d,%d]", qe_dtype_name(desc->dtype), dim[QE_P], dim[QE_N], dim[QE_H],
           dim[QE_W], dim[QE_C]);
  return text;
}
