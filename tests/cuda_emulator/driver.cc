/* The emulated driver: initialisation, the device, its context and errors. */
#include "tests/cuda_emulator/driver.h"

#include "tests/cuda_emulator/block.h"
#include "tests/cuda_emulator/memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

driver_state &driver = *new driver_state(); /* never destroyed: calls may come at the end of the process */

namespace {

enum { UNITS = 2 };

CUcontext const primary = reinterpret_cast<CUcontext>(&driver);
thread_local CUcontext current;

struct error_row {
  CUresult error;
  const char *name, *text;
};

const error_row errors[] = {
#define ROW(error, text) {error, #error, text},
    ROW(CUDA_SUCCESS, "no error") ROW(CUDA_ERROR_INVALID_VALUE, "invalid argument")
        ROW(CUDA_ERROR_OUT_OF_MEMORY, "out of memory") ROW(CUDA_ERROR_NOT_INITIALIZED, "initialization error") ROW(
            CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected") ROW(CUDA_ERROR_INVALID_DEVICE,
                                                                            "invalid device ordinal")
            ROW(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid") ROW(
                CUDA_ERROR_INVALID_CONTEXT, "invalid device context") ROW(CUDA_ERROR_INVALID_HANDLE,
                                                                          "invalid resource handle")
                ROW(CUDA_ERROR_NOT_FOUND, "named symbol not found") ROW(CUDA_ERROR_NOT_READY, "device not ready") ROW(
                    CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")
                    ROW(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch") ROW(
                        CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure") ROW(CUDA_ERROR_NOT_SUPPORTED,
                                                                                    "operation not supported")
                        ROW(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing")
                            ROW(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
                                "operation failed due to a previous error during capture")
                                ROW(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED,
                                    "capture was not ended in the stream that it was started in")
                                    ROW(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capture has streams that were not joined")
                                        ROW(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
                                            "capture was not ended by the thread that started it")
                                            ROW(CUDA_ERROR_ILLEGAL_STATE,
                                                "the operation cannot be performed in the present state")
#undef ROW
};

const error_row *find_error(CUresult error) {
  for (const error_row &row : errors)
    if (row.error == error) return &row;
  return nullptr;
}

/* Major and minor of EMULATED_CUDA_CAPABILITY, "9.0" when it is not set. */
int capability(int part) {
  const char *text = getenv("EMULATED_CUDA_CAPABILITY");
  int numbers[2] = {9, 0};
  if (text && text[0] && sscanf(text, "%d.%d", &numbers[0], &numbers[1]) < 1) numbers[0] = 9;
  return numbers[part];
}

/* Opt-in shared memory of a block, by capability (CUDA C++ Programming Guide, technical specifications). */
int shared_optin() {
  int number = 10 * capability(0) + capability(1);
  if (number >= 90 && number < 120) return SHARED_MOST;
  if (number >= 80) return number % 10 == 0 && number < 90 ? 163 << 10 : 99 << 10;
  return 64 << 10;
}

struct attribute_row {
  CUdevice_attribute attribute;
  int value;
};

bool find_attribute(CUdevice_attribute attribute, int *value) {
  const attribute_row rows[] = {
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, capability(0)},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, capability(1)},
      {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, UNITS},
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, BLOCK_MOST},
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2 * BLOCK_MOST},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32},
      {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
      {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 0x7fffffff},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
      {CU_DEVICE_ATTRIBUTE_WARP_SIZE, WARP},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 48 << 10},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, shared_optin()},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, shared_optin() + (1 << 10)},
      {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1 << 10},
      {CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 64 << 10},
      {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 4 << 20},
      {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1000000},
      {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1000000},
      {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 256},
      {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 2},
      {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
      {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
      {CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 0},
      {CU_DEVICE_ATTRIBUTE_INTEGRATED, 0},
      {CU_DEVICE_ATTRIBUTE_ECC_ENABLED, 0},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, CU_COMPUTEMODE_DEFAULT},
      {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 0},
      {CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 0},
  };
  for (const attribute_row &row : rows)
    if (row.attribute == attribute) {
      *value = row.value;
      return true;
    }
  return false;
}

} // namespace

driver_entry::driver_entry() : guard(driver.lock), error(CUDA_SUCCESS) {
  if (!driver.initialised)
    error = CUDA_ERROR_NOT_INITIALIZED;
  else if (current != primary || !driver.retained)
    error = CUDA_ERROR_INVALID_CONTEXT;
  else
    error = driver.lost;
}

void driver_lose(CUresult error, const char *message) {
  if (driver.lost == CUDA_SUCCESS) driver.lost = error;
  fprintf(stderr, "emulated CUDA device: %s\n", message);
}

bool driver_traces() {
  static const char *set = getenv("EMULATED_CUDA_TRACE");
  return set && set[0] && strcmp(set, "0") != 0;
}

/* ---- errors ---- */

CUresult cuGetErrorName(CUresult error, const char **name) {
  const error_row *row = find_error(error);
  *name = row ? row->name : nullptr;
  return row ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
  const error_row *row = find_error(error);
  *text = row ? row->text : nullptr;
  return row ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- the device ---- */

CUresult cuInit(unsigned flags) {
  std::lock_guard<std::recursive_mutex> guard(driver.lock);
  if (flags) return CUDA_ERROR_INVALID_VALUE;
  driver.initialised = true;
  return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) {
  const char *text = getenv("EMULATED_CUDA_VERSION");
  *version = text && atoi(text) > 0 ? atoi(text) : CUDA_VERSION;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
  if (!driver.initialised) return CUDA_ERROR_NOT_INITIALIZED;
  *count = 1;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  if (!driver.initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (ordinal != 0) return CUDA_ERROR_INVALID_DEVICE;
  *device = 0;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  if (bytes < 1) return CUDA_ERROR_INVALID_VALUE;
  snprintf(name, static_cast<size_t>(bytes), "emulated CUDA device");
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  if (find_attribute(attribute, value)) return CUDA_SUCCESS;
  fprintf(stderr, "emulated CUDA device: attribute %d is not in its table (driver.cc)\n", static_cast<int>(attribute));
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  *bytes = memory_limit(memory_device);
  return CUDA_SUCCESS;
}

/* ---- its context ---- */

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  std::lock_guard<std::recursive_mutex> guard(driver.lock);
  if (!driver.initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  driver.retained++;
  *context = primary;
  return CUDA_SUCCESS;
}

/* The last release ends the context; what it still holds is told, as compute-sanitizer's leak check would. */
CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  std::lock_guard<std::recursive_mutex> guard(driver.lock);
  if (device != 0) return CUDA_ERROR_INVALID_DEVICE;
  if (!driver.retained) return CUDA_ERROR_INVALID_CONTEXT;
  if (--driver.retained) return CUDA_SUCCESS;
  stream_run_all();
  size_t device_count = memory_count(memory_device), host_count = memory_count(memory_pinned);
  if (device_count + host_count + driver.streams.size() + driver.events.size() + driver.execs.size())
    fprintf(
        stderr,
        "emulated CUDA device: released with %zu device and %zu pinned allocations, %zu streams, %zu events and %zu "
        "graphs not freed\n",
        device_count, host_count, driver.streams.size(), driver.events.size(), driver.execs.size());
  memory_clear(memory_device);
  memory_clear(memory_pinned);
  stream_clear();
  driver.lost = CUDA_SUCCESS;
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  if (!driver.initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if (context && context != primary) return CUDA_ERROR_INVALID_CONTEXT;
  current = context;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  if (!driver.initialised) return CUDA_ERROR_NOT_INITIALIZED;
  *context = current;
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
  DRIVER_ENTER();
  CUresult refused = stream_refuse_in_capture();
  if (refused != CUDA_SUCCESS) return refused;
  stream_run_all();
  return driver.lost;
}
