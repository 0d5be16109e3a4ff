/* Tensor descriptors: a type and five named axes, population first. */
#ifndef QE_BASE_TENSOR_H
#define QE_BASE_TENSOR_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QE_DTYPE_LIST(X)                                                                                               \
  X(F32, "f32", 4)                                                                                                     \
  X(S32, "s32", 4)                                                                                                     \
  X(S8, "s8", 1)                                                                                                       \
  X(U8, "u8", 1)                                                                                                       \
  X(S16, "s16", 2)                                                                                                     \
  X(S64, "s64", 8)

typedef enum qe_dtype {
#define X(id, name, bytes) QE_##id,
  QE_DTYPE_LIST(X)
#undef X
      QE_DTYPES
} qe_dtype;

/* Dense, the last axis contiguous. Activations are [P, N, H, W, C]; convolution weights put output channels on N, the
 * kernel on H and W, input channels (of one group) on C; matrices are N rows by C columns; vectors lie on C. */
enum { QE_P, QE_N, QE_H, QE_W, QE_C, QE_AXES };

typedef struct qe_desc {
  qe_dtype dtype;
  int32_t dim[QE_AXES];
} qe_desc;

static inline qe_desc qe_map(qe_dtype dtype, int32_t n, int32_t h, int32_t w, int32_t c) {
  return (qe_desc){dtype, {1, n, h, w, c}};
}
static inline qe_desc qe_vector(qe_dtype dtype, int32_t c) {
  return qe_map(dtype, 1, 1, 1, c);
}

size_t qe_dtype_bytes(qe_dtype dtype);
const char *qe_dtype_name(qe_dtype dtype);
/* Elements of a tensor; 0 when an axis is not positive or the product passes 2^40. */
int64_t qe_count(const qe_desc *desc);
size_t qe_bytes(const qe_desc *desc);
bool qe_same_shape(const qe_desc *a, const qe_desc *b);
bool qe_same_desc(const qe_desc *a, const qe_desc *b);

enum { QE_DESC_TEXT = 80 };
/* "f32[1,128,32,32,16]" into text (QE_DESC_TEXT bytes); returns text. */
char *qe_desc_text(const qe_desc *desc, char *text);

#ifdef __cplusplus
}
#endif
#endif
