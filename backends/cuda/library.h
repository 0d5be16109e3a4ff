/* cuDNN and cuBLASLt, loaded when a device is opened: without them the portable kernels do the work.
 * No GPU has run what calls them yet. */
#ifndef QE_BACKENDS_CUDA_LIBRARY_H
#define QE_BACKENDS_CUDA_LIBRARY_H

#include "backends/cuda/cuda.h"

/* ---- plans: what a library has decided for calls of one shape, made once and kept by the device ---- */

enum { CUDA_PLAN_KEY = 24, CUDA_ALIGNED = 16 };

/* First member of a library's own plan. */
typedef struct cuda_plan {
  struct cuda_plan *next;
  int32_t key[CUDA_PLAN_KEY]; /* op, shapes, window */
  const char *why;            /* why the library does not take such calls; NULL: it does */
} cuda_plan;

/* The plan of calls like this one, made by `make` if there is none; NULL without memory. From any thread. */
cuda_plan *cuda_plan_find(cuda_device *device, cuda_plan **list, const qe_call *call,
                          cuda_plan *(*make)(cuda_device *device, const qe_call *call));
/* Every operand lies where vectors of CUDA_ALIGNED bytes can be read. */
bool cuda_is_aligned(const qe_call *call);

/* ---- the libraries ---- */

/* The library called `usual`, or the one that the environment variable names; NULL: it is not there, or the driver is
 * not NVIDIA's and no other library is named. */
void *cuda_library_load(const char *variable, const char *usual);

/* Into text[bytes] what is used, as ", cuDNN 9.1.0, cuBLASLt 13.0.0"; what is missing is named too. */
void cuda_libraries_describe(char *text, size_t bytes);
/* QE_NO_MEMORY, or QE_DEVICE when the device's precision needs a library that is not there. The context is current. */
QE_CHECKED qe_status cuda_libraries_open(cuda_device *device);
void cuda_libraries_close(cuda_device *device);
/* Destroys what the queue's runs have made. */
void cuda_libraries_leave(cuda_queue *queue);

/* What one library brings; a build without its header has none of it. */
typedef struct cuda_library {
  const char *name;
  /* 0: cannot be loaded; else its version as 10000 major + 100 minor + patch. From any thread. */
  int (*version)(void);
  /* QE_DEVICE where it does not start: then it refuses every call. */
  qe_status (*open)(cuda_device *device);
  void (*close)(cuda_device *device);
  void (*leave)(cuda_queue *queue);
} cuda_library;

extern const cuda_library cuda_cudnn, cuda_cublas;
extern const qe_impl cuda_cudnn_impl;  /* conv2d, conv2d_grad_x, conv2d_grad_w */
extern const qe_impl cuda_cublas_impl; /* linear, linear_grad_x, linear_grad_w */

#endif
