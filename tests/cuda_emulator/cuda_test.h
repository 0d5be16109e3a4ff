/* What the tests of the emulated device share: a context and a stream, memory, launches by name. */
#ifndef EMULATOR_CUDA_TEST_H
#define EMULATOR_CUDA_TEST_H

#include <cuda.h>

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <vector>

#include <setjmp.h>

extern "C" {
#include <cmocka.h>
}

enum { GARBAGE = static_cast<int>(0xcbcbcbcb) }; /* content of new memory */

struct cuda_fixture {
  CUstream stream;
  CUmodule module;
};

struct cuda_size {
  unsigned x, y = 1, z = 1;
};

inline void start(cuda_fixture *cuda) {
  CUcontext context = nullptr;
  assert_int_equal(cuInit(0), CUDA_SUCCESS);
  assert_int_equal(cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
  assert_int_equal(cuCtxSetCurrent(context), CUDA_SUCCESS);
  assert_int_equal(cuStreamCreate(&cuda->stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  assert_int_equal(cuModuleLoadData(&cuda->module, "an image"), CUDA_SUCCESS);
}

/* Ends the context: memory, streams and a lost device are forgotten. */
inline void restart(cuda_fixture *cuda) {
  assert_int_equal(cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
  start(cuda);
}

inline int cuda_setup(void **state) {
  auto *cuda = new cuda_fixture();
  start(cuda);
  *state = cuda;
  return 0;
}

inline int cuda_teardown(void **state) {
  assert_int_equal(cuDevicePrimaryCtxRelease(0), CUDA_SUCCESS);
  delete static_cast<cuda_fixture *>(*state);
  return 0;
}

#define CUDA_TEST(name) cmocka_unit_test_setup_teardown(name, cuda_setup, cuda_teardown)

inline cuda_fixture *fixture(void **state) {
  return static_cast<cuda_fixture *>(*state);
}

inline CUdeviceptr new_memory(size_t bytes) {
  CUdeviceptr at = 0;
  assert_int_equal(cuMemAlloc(&at, bytes), CUDA_SUCCESS);
  return at;
}

/* The vector must live until the stream has been waited for. */
template <class T> CUdeviceptr upload(cuda_fixture *cuda, const std::vector<T> &values) {
  CUdeviceptr at = new_memory(values.size() * sizeof(T));
  assert_int_equal(cuMemcpyHtoDAsync(at, values.data(), values.size() * sizeof(T), cuda->stream), CUDA_SUCCESS);
  return at;
}

template <class T> std::vector<T> read(cuda_fixture *cuda, CUdeviceptr at, size_t count) {
  std::vector<T> values(count);
  assert_int_equal(cuMemcpyDtoHAsync(values.data(), at, count * sizeof(T), cuda->stream), CUDA_SUCCESS);
  assert_int_equal(cuStreamSynchronize(cuda->stream), CUDA_SUCCESS);
  return values;
}

inline void launch(cuda_fixture *cuda, const char *name, cuda_size grid, cuda_size block, unsigned shared_bytes,
                   std::initializer_list<void *> arguments) {
  std::vector<void *> pointers(arguments);
  CUfunction function = nullptr;
  assert_int_equal(cuModuleGetFunction(&function, cuda->module, name), CUDA_SUCCESS);
  assert_int_equal(cuLaunchKernel(function, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_bytes,
                                  cuda->stream, pointers.data(), nullptr),
                   CUDA_SUCCESS);
}

#endif
