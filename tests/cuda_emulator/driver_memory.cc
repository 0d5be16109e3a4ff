/* The emulated driver: memory, copies and fills. */
#include "tests/cuda_emulator/driver.h"

#include "tests/cuda_emulator/memory.h"

#include <cstring>

namespace {

void *pointer(CUdeviceptr address) {
  return reinterpret_cast<void *>(static_cast<uintptr_t>(address));
}

bool on_device(CUdeviceptr address, size_t bytes) {
  return memory_holds(memory_device, pointer(address), bytes);
}

/* Copies run late: the source is read, and the target written, when somebody waits. The real device may be as late when
 * the host's memory is pinned. */
CUresult copy(CUstream stream, void *target, const void *source, size_t bytes) {
  return stream_add(stream, [=] { memcpy(target, source, bytes); });
}

CUresult copy_now(void *target, const void *source, size_t bytes) {
  CUresult refused = stream_refuse_in_capture();
  if (refused != CUDA_SUCCESS) return refused;
  CUresult error = copy(nullptr, target, source, bytes);
  if (error == CUDA_SUCCESS) stream_run(stream_of(nullptr), driver.legacy.queued);
  return error == CUDA_SUCCESS ? driver.lost : error;
}

} // namespace

CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
  DRIVER_ENTER();
  CUresult refused = stream_refuse_in_capture();
  if (refused != CUDA_SUCCESS) return refused;
  if (!bytes) return CUDA_ERROR_INVALID_VALUE;
  void *at = memory_new(memory_device, bytes);
  if (!at) return CUDA_ERROR_OUT_OF_MEMORY;
  *address = reinterpret_cast<uintptr_t>(at);
  return CUDA_SUCCESS;
}

/* Waits for the device first, as the real one does. */
CUresult cuMemFree(CUdeviceptr address) {
  DRIVER_ENTER();
  if (!address) return CUDA_SUCCESS;
  CUresult refused = stream_refuse_in_capture();
  if (refused != CUDA_SUCCESS) return refused;
  stream_run_all();
  return memory_free(memory_device, pointer(address)) ? driver.lost : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemGetInfo(size_t *available, size_t *total) {
  DRIVER_ENTER();
  *total = memory_limit(memory_device);
  *available = *total - memory_used(memory_device);
  return CUDA_SUCCESS;
}

CUresult cuMemAllocHost(void **at, size_t bytes) {
  DRIVER_ENTER();
  CUresult refused = stream_refuse_in_capture();
  if (refused != CUDA_SUCCESS) return refused;
  if (!bytes) return CUDA_ERROR_INVALID_VALUE;
  *at = memory_new(memory_pinned, bytes);
  return *at ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemHostAlloc(void **at, size_t bytes, unsigned) {
  return cuMemAllocHost(at, bytes);
}

CUresult cuMemFreeHost(void *at) {
  DRIVER_ENTER();
  CUresult refused = stream_refuse_in_capture();
  if (refused != CUDA_SUCCESS) return refused;
  stream_run_all();
  return memory_free(memory_pinned, at) ? driver.lost : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr target, const void *source, size_t bytes, CUstream stream) {
  DRIVER_ENTER();
  if (!on_device(target, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return copy(stream, pointer(target), source, bytes);
}

CUresult cuMemcpyDtoHAsync(void *target, CUdeviceptr source, size_t bytes, CUstream stream) {
  DRIVER_ENTER();
  if (!on_device(source, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return copy(stream, target, pointer(source), bytes);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream) {
  DRIVER_ENTER();
  if (!on_device(source, bytes) || !on_device(target, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return copy(stream, pointer(target), pointer(source), bytes);
}

CUresult cuMemcpyHtoD(CUdeviceptr target, const void *source, size_t bytes) {
  DRIVER_ENTER();
  if (!on_device(target, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return copy_now(pointer(target), source, bytes);
}

CUresult cuMemcpyDtoH(void *target, CUdeviceptr source, size_t bytes) {
  DRIVER_ENTER();
  if (!on_device(source, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return copy_now(target, pointer(source), bytes);
}

CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t bytes, CUstream stream) {
  DRIVER_ENTER();
  if (!on_device(target, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return stream_add(stream, [=] { memset(pointer(target), value, bytes); });
}

CUresult cuMemsetD32Async(CUdeviceptr target, unsigned value, size_t count, CUstream stream) {
  DRIVER_ENTER();
  if (target % 4 || !on_device(target, 4 * count)) return CUDA_ERROR_INVALID_VALUE;
  return stream_add(stream, [=] {
    for (size_t i = 0; i < count; i++) memcpy(static_cast<char *>(pointer(target)) + 4 * i, &value, sizeof value);
  });
}
