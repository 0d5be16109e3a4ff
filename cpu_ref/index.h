/* Access to operands and index arithmetic shared by the references. */
#ifndef QE_CPU_REF_INDEX_H
#define QE_CPU_REF_INDEX_H

#include "core/base/op.h"

static inline const qe_desc *desc_of(const qe_call *call, int operand) {
  return &call->operand[operand].desc;
}
static inline float *f32_of(const qe_call *call, int operand) {
  return (float *)call->operand[operand].data;
}
static inline int32_t *s32_of(const qe_call *call, int operand) {
  return (int32_t *)call->operand[operand].data;
}

/* Offset, in elements, of [0, n, h, w, c]. */
static inline int64_t at(const qe_desc *desc, int64_t n, int64_t h, int64_t w, int64_t c) {
  return ((n * desc->dim[QE_H] + h) * desc->dim[QE_W] + w) * desc->dim[QE_C] + c;
}

/* Rows of a map seen as a matrix [N * H * W, C]. */
static inline int64_t rows_of(const qe_desc *desc) {
  return (int64_t)desc->dim[QE_N] * desc->dim[QE_H] * desc->dim[QE_W];
}

/* Input coordinate under kernel tap `tap` of the window at output coordinate `out` (axis 0: height, 1: width); it may
 * lie outside the image, in the padding. */
static inline int64_t tap_input(const qe_window *window, int axis, int64_t out, int64_t tap) {
  return out * window->stride[axis] - window->pad[axis] + tap * window->dilation[axis];
}

/* The inverse: the output coordinate whose window has input coordinate `in` under `tap`; -1 when there is none. */
static inline int64_t tap_output(const qe_window *window, int axis, int64_t in, int64_t tap, int64_t extent) {
  int64_t start = in + window->pad[axis] - tap * window->dilation[axis];
  if (start < 0 || start % window->stride[axis] != 0 || start / window->stride[axis] >= extent) return -1;
  return start / window->stride[axis];
}

static inline bool inside(int64_t coordinate, int64_t extent) {
  return coordinate >= 0 && coordinate < extent;
}

#endif
