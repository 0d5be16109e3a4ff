/* Parameters that the host hands to kernels by value: one text for the host's C, OpenCL C and CUDA. Members are 4 bytes
 * each (qk_int, float) or qk_long in front, so that all three lay them out alike. */
#ifndef QK_PARAMS_H
#define QK_PARAMS_H

#if defined(__OPENCL_VERSION__)
typedef int qk_int;
typedef long qk_long;
#else
typedef int qk_int;
typedef long long qk_long;
#endif

/* Element-wise ops on `count` values. */
typedef struct qk_params_flat {
  qk_long count;
  float low, high; /* clamp */
} qk_params_flat;

#endif
