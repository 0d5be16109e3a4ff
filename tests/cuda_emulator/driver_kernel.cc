/* The emulated driver: modules, kernels and launches. A module is any image that is not null: kernels are those that
 * the emulator was built with, by name. */
#include "tests/cuda_emulator/driver.h"

#include "tests/cuda_emulator/block.h"

#include <cstdio>
#include <cstring>

struct CUmod_st {
  const void *image;
};

namespace {

enum { BLOCK_Z_MOST = 64, GRID_MOST = 65535, UNIT_THREADS = 2048, UNIT_BLOCKS = 32 };

emulated_kernel *kernels;

emulated_kernel *kernel_of(CUfunction function) {
  for (emulated_kernel *kernel = kernels; kernel; kernel = kernel->next)
    if (reinterpret_cast<CUfunction>(kernel) == function) return kernel;
  return nullptr;
}

int shared_optin() {
  int bytes = 0;
  return cuDeviceGetAttribute(&bytes, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 0) == CUDA_SUCCESS ? bytes
                                                                                                                : 0;
}

/* Arguments may ask for more alignment than numbers need, as tensor maps do. */
struct alignas(64) argument_piece {
  unsigned char bytes[64];
};

/* A launch on a queue, with arguments of its own. */
struct queued_launch {
  emulated_kernel *kernel;
  dim3 grid, block;
  size_t shared_bytes;
  std::vector<std::vector<argument_piece>> arguments;

  void operator()() {
    std::vector<void *> pointers;
    for (auto &argument : arguments) pointers.push_back(argument.data());
    std::string failure = grid_run({kernel, pointers.data(), grid, block, shared_bytes});
    if (!failure.empty()) driver_lose(CUDA_ERROR_LAUNCH_FAILED, failure.c_str());
  }
};

CUresult check_launch(const emulated_kernel *kernel, dim3 grid, dim3 block, unsigned shared_bytes) {
  uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (!threads || !grid.x || !grid.y || !grid.z) return CUDA_ERROR_INVALID_VALUE;
  if (threads > BLOCK_MOST || block.z > BLOCK_Z_MOST) return CUDA_ERROR_INVALID_VALUE;
  if (grid.x > 0x7fffffff || grid.y > GRID_MOST || grid.z > GRID_MOST) return CUDA_ERROR_INVALID_VALUE;
  return shared_bytes > static_cast<unsigned>(kernel->dynamic_most) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

void trace(const queued_launch &launch) {
  fprintf(stderr, "emulated CUDA device: launch %s (%u, %u, %u) x (%u, %u, %u), %zu bytes of shared memory\n",
          launch.kernel->name, launch.grid.x, launch.grid.y, launch.grid.z, launch.block.x, launch.block.y,
          launch.block.z, launch.shared_bytes);
}

} // namespace

void emulated_register(emulated_kernel *kernel) {
  kernel->next = kernels;
  kernels = kernel;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  DRIVER_ENTER();
  CUresult refused = stream_refuse_in_capture();
  if (refused != CUDA_SUCCESS) return refused;
  if (!image) return CUDA_ERROR_INVALID_VALUE;
  *module = new CUmod_st{image};
  driver.modules.insert(*module);
  return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module) {
  DRIVER_ENTER();
  return handle_destroy(&driver.modules, module, CUDA_ERROR_INVALID_HANDLE);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  DRIVER_ENTER();
  if (!driver.modules.count(module)) return CUDA_ERROR_INVALID_HANDLE;
  for (emulated_kernel *kernel = kernels; kernel; kernel = kernel->next)
    if (!strcmp(kernel->name, name)) {
      *function = reinterpret_cast<CUfunction>(kernel);
      return CUDA_SUCCESS;
    }
  fprintf(stderr, "emulated CUDA device: it was built without the kernel %s\n", name);
  return CUDA_ERROR_NOT_FOUND;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  DRIVER_ENTER();
  emulated_kernel *kernel = kernel_of(function);
  if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
  if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) return CUDA_SUCCESS;
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_ERROR_INVALID_VALUE;
  if (value < 0 || value > shared_optin()) return CUDA_ERROR_INVALID_VALUE;
  kernel->dynamic_most = value;
  return CUDA_SUCCESS;
}

/* Registers and static shared memory are not known on the host: 32 and what launches have shown. */
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
  DRIVER_ENTER();
  const emulated_kernel *kernel = kernel_of(function);
  if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
  switch (attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    *value = BLOCK_MOST;
    break;
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    *value = kernel->dynamic_most;
    break;
  case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
    *value = 0;
    break;
  case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    *value = 0;
    break;
  case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
    *value = 0;
    break;
  case CU_FUNC_ATTRIBUTE_NUM_REGS:
    *value = 32;
    break;
  default:
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t shared) {
  DRIVER_ENTER();
  if (!kernel_of(function) || threads < 1) return CUDA_ERROR_INVALID_VALUE;
  *blocks = 0;
  if (threads > BLOCK_MOST) return CUDA_SUCCESS;
  auto by_shared = static_cast<int>((static_cast<size_t>(shared_optin()) + 1024) / (shared + 1024));
  int by_threads = UNIT_THREADS / ((threads + WARP - 1) / WARP * WARP);
  *blocks = by_shared < by_threads ? by_shared : by_threads;
  if (*blocks > UNIT_BLOCKS) *blocks = UNIT_BLOCKS;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **arguments,
                        void **extra) {
  DRIVER_ENTER();
  emulated_kernel *kernel = kernel_of(function);
  if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
  if (extra) return CUDA_ERROR_NOT_SUPPORTED;
  queued_launch launch = {kernel, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, {}};
  CUresult error = check_launch(kernel, launch.grid, launch.block, shared_bytes);
  if (error != CUDA_SUCCESS) return error;
  for (int i = 0; i < kernel->arguments; i++) {
    if (!arguments || !arguments[i]) return CUDA_ERROR_INVALID_VALUE;
    std::vector<argument_piece> copy(kernel->sizes[i] / sizeof(argument_piece) + 1);
    memcpy(copy.data(), arguments[i], kernel->sizes[i]);
    launch.arguments.push_back(std::move(copy));
  }
  if (driver_traces()) trace(launch);
  return stream_add(stream, std::move(launch));
}
