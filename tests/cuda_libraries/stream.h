/* The emulated driver, for the stand-ins: device memory is host memory, and what a stream was given is done once it has
 * been waited for, which a stream that captures refuses. */
#ifndef QE_TESTS_CUDA_LIBRARIES_STREAM_H
#define QE_TESTS_CUDA_LIBRARIES_STREAM_H

#include <cuda.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool stream_wait(CUstream stream) {
  __typeof__(cuStreamSynchronize) *wait = NULL;
  void *driver = dlopen(getenv("QEVO_CUDA_DRIVER"), RTLD_NOW | RTLD_LOCAL); /* loaded already */
  void *address = driver ? dlsym(driver, "cuStreamSynchronize") : NULL;
  memcpy(&wait, &address, sizeof address);
  bool done = wait && wait(stream) == CUDA_SUCCESS;
  if (driver) (void)dlclose(driver);
  return done;
}

#endif
