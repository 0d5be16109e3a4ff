/* Which implementations an op has on this backend, best first: a library's, where the device has
 * the library, then the portable kernel. */
#include "backends/cuda/library.h"

static const qe_impl *const own[QE_OPS] = {
#if HAS_CUDNN
    [QE_OP_conv2d] = &cuda_cudnn_impl,         [QE_OP_conv2d_grad_x] = &cuda_cudnn_impl,
    [QE_OP_conv2d_grad_w] = &cuda_cudnn_impl,
#endif
#if HAS_CUBLASLT
    [QE_OP_linear] = &cuda_cublas_impl,        [QE_OP_linear_grad_x] = &cuda_cublas_impl,
    [QE_OP_linear_grad_w] = &cuda_cublas_impl,
#endif
};

enum { MOST = 4 };
static const qe_impl *list[QE_OPS][MOST];
static int listed[QE_OPS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_lists(void) {
  for (int op = 0; op < QE_OPS; op++) {
    int count = 0;
    const qe_impl *const *portable = portable_impls(NULL, (qe_op)op, &count);
    if (own[op]) list[op][listed[op]++] = own[op];
    for (int i = 0; i < count && listed[op] < MOST; i++) list[op][listed[op]++] = portable[i];
  }
}

static bool is_open(const cuda_device *device, const qe_impl *impl) {
#if HAS_CUDNN
  if (impl == &cuda_cudnn_impl) return device->cudnn != NULL;
#endif
#if HAS_CUBLASLT
  if (impl == &cuda_cublas_impl) return device->cublas != NULL;
#endif
  (void)device;
  return impl != NULL;
}

const qe_impl *const *cuda_impls(const qe_device *device, qe_op op, int *count) {
  (void)pthread_once(&once, make_lists);
  int skipped = own[op] && !is_open((const cuda_device *)device, own[op]);
  *count = listed[op] - skipped;
  return &list[op][skipped];
}
