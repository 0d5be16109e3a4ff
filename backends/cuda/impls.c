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

static bool is_open(const cuda_device *device, const qe_impl *impl) {
#if HAS_CUDNN
  if (impl == &cuda_cudnn_impl) return device->cudnn != NULL;
#endif
#if HAS_CUBLASLT
  if (impl == &cuda_cublas_impl) return device->cublas != NULL;
#endif
  (void)device;
  return false;
}

void cuda_impls_choose(cuda_device *device) {
  for (int op = 0; op < QE_OPS; op++) {
    cuda_impl_list *list = &device->impls[op];
    int count = 0;
    const qe_impl *const *portable = portable_impls(&device->portable.base, (qe_op)op, &count);
    if (is_open(device, own[op])) list->impl[list->count++] = own[op];
    for (int i = 0; i < count && list->count < CUDA_MAX_IMPLS; i++) list->impl[list->count++] = portable[i];
  }
}

const qe_impl *const *cuda_impls(const qe_device *device, qe_op op, int *count) {
  const cuda_impl_list *list = &((const cuda_device *)device)->impls[op];
  *count = list->count;
  return list->impl;
}
