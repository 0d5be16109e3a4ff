/* Which implementations an op has: CLBlast's where it was there at build time, then the portable kernels. */
#include "backends/opencl/opencl.h"

#ifdef OPENCL_CLBLAST
#include "backends/opencl/blas.h"

static const qe_impl *const blas_first[QE_OPS][3] = {
#define X(op) [QE_OP_##op] = {&opencl_blas_##op, &portable_impl, &portable_plain_impl},
    OPENCL_BLAS_OPS(X)
#undef X
};

const qe_impl *const *opencl_impls(const qe_device *device, qe_op op, int *count) {
  const qe_impl *const *list = portable_impls(device, op, count);
  if (!((const opencl_device *)device)->blas || !blas_first[op][0]) return list;
  ++*count;
  return blas_first[op];
}

#else

const qe_impl *const *opencl_impls(const qe_device *device, qe_op op, int *count) {
  return portable_impls(device, op, count);
}

#endif
