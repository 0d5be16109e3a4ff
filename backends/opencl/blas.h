/* Float ops through CLBlast: matrix products, and convolutions as such. */
#ifndef QE_BACKENDS_OPENCL_BLAS_H
#define QE_BACKENDS_OPENCL_BLAS_H

#include "backends/opencl/opencl.h"

/* Floats in rows, `at` and `pitch` in floats; the matrices of a batch are `stride` floats apart. */
typedef struct blas_matrix {
  qe_buffer *buffer;
  size_t at, pitch, stride;
} blas_matrix;

/* c [m,n] = a [m,k] b [k,n], `add`: plus c; a `turn`ed factor is stored transposed. The same `batches` times (0: once).
 */
typedef struct blas_product {
  int64_t m, n, k;
  bool turn_a, turn_b, add;
  blas_matrix a, b, c;
  int batches;
} blas_product;

/* QE_REFUSED when CLBlast's kernels do not fit the device, of which opencl_blas_refuse then knows, or when it finds no
 * memory for itself. */
QE_CHECKED qe_status opencl_gemm(qe_queue *queue, const blas_product *product);
const char *opencl_blas_refuse(const qe_device *device, const qe_call *call);
/* After QE_REFUSED: the call by the portable kernels, if they take it. Other statuses come back as they are. */
QE_CHECKED qe_status opencl_blas_instead(qe_status status, qe_queue *queue, const qe_call *call);
blas_matrix opencl_matrix(const qe_operand *operand, size_t pitch);
/* CLBlast keeps programs by the context's address, which a later context may have. */
void opencl_blas_forget(void);

/* Each stands before the portable kernels; BLAS_OP(op). */
#define OPENCL_BLAS_OPS(X) X(linear) X(linear_grad_x) X(linear_grad_w) X(conv2d) X(conv2d_grad_x) X(conv2d_grad_w)
#define X(op) extern const qe_impl opencl_blas_##op;
OPENCL_BLAS_OPS(X)
#undef X

#endif
