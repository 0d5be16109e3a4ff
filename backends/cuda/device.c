/* The backend `cuda`: devices, their limits, memory. */
#include "backends/cuda/fused.h"
#include "backends/cuda/library.h"
#include "backends/portable/engine.h"

#include "core/base/alloc.h"

#include <stdio.h>
#include <string.h>

qe_status cuda_enter(const cuda_device *device) {
  return cuda_check(cuda.cuCtxSetCurrent(device->context), "cuCtxSetCurrent");
}

/* ---- memory ---- */

static qe_status no_memory(const cuda_device *device, size_t bytes) {
  size_t left = 0, all = 0;
  if (cuda.cuMemGetInfo(&left, &all) != CUDA_SUCCESS) left = all = 0;
  return qe_fail(QE_NO_MEMORY,
                 "%s has no room for a buffer of %zu MiB: %zu of %zu MiB are free; a smaller batch needs less, and so "
                 "may other programs that use the GPU",
                 device->portable.base.name, bytes >> 20, left >> 20, all >> 20);
}

static qe_status allocate_zeroed(const cuda_device *device, size_t bytes, CUdeviceptr *memory) {
  QE_TRY(cuda_enter(device));
  CUresult error = cuda.cuMemAlloc(memory, bytes);
  if (error == CUDA_ERROR_OUT_OF_MEMORY) return no_memory(device, bytes);
  QE_TRY(cuda_check(error, "cuMemAlloc"));
  qe_status status = cuda_check(cuda.cuMemsetD8Async(*memory, 0, bytes, device->stream), "cuMemsetD8Async");
  if (status == QE_OK) status = cuda_check(cuda.cuStreamSynchronize(device->stream), "cuStreamSynchronize");
  if (status != QE_OK) (void)cuda.cuMemFree(*memory);
  return status;
}

qe_status cuda_buffer_new(qe_device *base, size_t bytes, qe_buffer **out) {
  qe_buffer *buffer = QE_NEW(qe_buffer);
  if (!buffer) return QE_NO_MEMORY;
  CUdeviceptr memory = 0;
  qe_status status = allocate_zeroed((const cuda_device *)base, bytes, &memory);
  if (status != QE_OK) {
    qe_free(buffer);
    return status;
  }
  *buffer = (qe_buffer){base, bytes, (void *)(uintptr_t)memory};
  *out = buffer;
  return QE_OK;
}

void cuda_buffer_free(qe_buffer *buffer) {
  (void)cuda.cuCtxSetCurrent(((const cuda_device *)buffer->device)->context);
  (void)cuda.cuMemFree(cuda_address(buffer, 0));
  qe_free(buffer);
}

/* ---- which devices there are ---- */

enum { MAX_DEVICES = 64 };

static int attribute(CUdevice id, CUdevice_attribute which) {
  int value = 0;
  return cuda.cuDeviceGetAttribute(&value, which, id) == CUDA_SUCCESS ? value : 0;
}

static int32_t capability_of(CUdevice id) {
  return attribute(id, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) * 10 +
         attribute(id, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
}

/* Devices that the kernels run on; the older ones are passed over. 0: then why[bytes] says why. */
static int find_devices(CUdevice list[MAX_DEVICES], char *why, size_t bytes) {
  if (!cuda_driver_load(why, bytes)) return 0;
  int present = 0, count = 0;
  if (cuda.cuDeviceGetCount(&present) != CUDA_SUCCESS || present == 0) {
    snprintf(why, bytes, "an NVIDIA driver is there but no GPU");
    return 0;
  }
  for (int i = 0; i < present && count < MAX_DEVICES; i++) {
    char name[64] = "?";
    if (cuda.cuDeviceGet(&list[count], i) != CUDA_SUCCESS) continue;
    int32_t capability = capability_of(list[count]);
    (void)cuda.cuDeviceGetName(name, sizeof name, list[count]);
    if (capability >= CUDA_OLDEST)
      count++;
    else
      snprintf(why, bytes, "%s has compute capability %d.%d; %d.%d or newer is needed", name, capability / 10,
               capability % 10, CUDA_OLDEST / 10, CUDA_OLDEST % 10);
  }
  return count;
}

static int backend_count(char *why, size_t bytes) {
  CUdevice list[MAX_DEVICES];
  return find_devices(list, why, bytes);
}

static void describe(CUdevice id, char *text, size_t bytes) {
  char name[64] = "?", libraries[64];
  size_t memory = 0;
  int version = cuda_driver_version();
  int32_t capability = capability_of(id);
  (void)cuda.cuDeviceGetName(name, sizeof name, id);
  (void)cuda.cuDeviceTotalMem(&memory, id);
  cuda_libraries_describe(libraries, sizeof libraries);
  snprintf(text, bytes, "%s, compute %d.%d, %zu MiB, CUDA %d.%d%s", name, capability / 10, capability % 10,
           memory >> 20, version / 1000, version % 1000 / 10, libraries);
}

static void backend_describe(int index, char *text, size_t bytes) {
  CUdevice list[MAX_DEVICES];
  char why[160];
  if (bytes) text[0] = 0;
  if (index < find_devices(list, why, sizeof why)) describe(list[index], text, bytes);
}

/* ---- opening ---- */

static void device_close(qe_device *base) {
  cuda_device *device = (cuda_device *)base;
  if (device->context && cuda.cuCtxSetCurrent(device->context) == CUDA_SUCCESS) {
    cuda_libraries_close(device);
    cuda_modules_free(device);
    if (device->stream) (void)cuda.cuStreamDestroy(device->stream);
    (void)cuda.cuCtxSetCurrent(NULL);
  }
  if (device->context) (void)cuda.cuDevicePrimaryCtxRelease(device->id);
  (void)pthread_mutex_destroy(&device->lock);
  qe_free(device);
}

static const qe_network_engine *const *cuda_engines(const qe_device *device, int *count) {
  static const qe_network_engine *const engines[] = {&cuda_fused_engine, &portable_network_engine};
  (void)device;
  *count = sizeof engines / sizeof *engines;
  return engines;
}

static const qe_device_table table = {
    .close = device_close,
    .buffer_new = cuda_buffer_new,
    .buffer_free = cuda_buffer_free,
    .queue_new = cuda_queue_new,
    .queue_free = cuda_queue_free,
    .write = cuda_queue_write,
    .read = cuda_queue_read,
    .wait = cuda_queue_wait,
    .impls = cuda_impls,
    .fusions = portable_fusions,
    .engines = cuda_engines,
    .measure = portable_measure,
    .capture_begin = cuda_capture_begin,
    .capture_end = cuda_capture_end,
    .replay = cuda_replay,
    .captured_free = cuda_captured_free,
};

static qe_status backend_open(int index, const qe_open_options *options, qe_device **out);

static const qe_backend backend = {
    .api = QE_BACKEND_API,
    .name = "cuda",
    .summary = "NVIDIA GPUs: portable kernels, cuDNN and cuBLASLt where installed, captured programs",
    .preference = 20,
    .precisions = 1u << QE_TF32 | 1u << QE_BF16,
    .count = backend_count,
    .describe = backend_describe,
    .open = backend_open,
};

static void read_limits(cuda_device *device) {
  CUdevice id = device->id;
  portable_limits *limits = &device->portable.limits;
  size_t memory = 0;
  (void)cuda.cuDeviceTotalMem(&memory, id);
  limits->group = 256;
  limits->group_most = (size_t)attribute(id, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  limits->local_bytes = CUDA_STATIC_SHARED;
  limits->memory_bytes = limits->allocation_most = memory;
  limits->units = attribute(id, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  limits->dot = true;
  device->capability = capability_of(id);
  device->shared_most = (size_t)attribute(id, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  device->shared_unit = (size_t)attribute(id, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
  device->cache_bytes = (size_t)attribute(id, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
}

static qe_status start(cuda_device *device) {
  QE_TRY(cuda_check(cuda.cuDevicePrimaryCtxRetain(&device->context, device->id), "cuDevicePrimaryCtxRetain"));
  QE_TRY(cuda_enter(device));
  QE_TRY(cuda_check(cuda.cuStreamCreate(&device->stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate"));
  QE_TRY(cuda_libraries_open(device));
  cuda_impls_choose(device);
  return QE_OK;
}

static qe_status backend_open(int index, const qe_open_options *options, qe_device **out) {
  CUdevice list[MAX_DEVICES];
  char why[256] = "it has fewer";
  if (index < 0 || index >= find_devices(list, why, sizeof why))
    return qe_fail(QE_DEVICE, "CUDA has no device %d: %s", index, why);
  cuda_device *device = QE_NEW(cuda_device);
  if (!device) return QE_NO_MEMORY;
  (void)pthread_mutex_init(&device->lock, NULL);
  device->portable.base = (qe_device){.table = &table, .backend = &backend, .index = index};
  device->portable.driver = &cuda_portable_driver;
  device->id = list[index];
  device->precision = options->precision;
  describe(device->id, device->portable.base.name, sizeof device->portable.base.name);
  read_limits(device);
  qe_status status = start(device);
  if (status != QE_OK) {
    device_close(&device->portable.base);
    return status;
  }
  *out = &device->portable.base;
  return QE_OK;
}

__attribute__((visibility("default"))) const qe_backend *qe_backend_entry(void);

const qe_backend *qe_backend_entry(void) {
  return &backend;
}
