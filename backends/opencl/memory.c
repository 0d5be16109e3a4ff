/* Buffers: memory of the device, zeroed there. */
#include "backends/opencl/opencl.h"

#include "core/base/alloc.h"

enum { FILL_MOST = 64 << 20 }; /* bytes filled by one command */

/* Arguments of "%zu.%zu": MiB and tenths, without a floating-point instruction (tests/integers). */
#define TENTHS(bytes) ((((size_t)(bytes) >> 10) * 10 + 512) >> 10)
#define MIB(bytes) TENTHS(bytes) / 10, TENTHS(bytes) % 10

static qe_status refused(const opencl_device *device, size_t bytes, size_t limit, const char *what) {
  return qe_fail(
      QE_NO_MEMORY,
      "%s: %zu.%zu MiB are wanted and %zu.%zu MiB are in use, of at most %zu.%zu MiB (%s): use a smaller batch "
      "or chunk, or another device",
      device->portable.base.name, MIB(bytes), MIB(atomic_load(&device->used)), MIB(limit), what);
}

/* Counts the bytes in; they must be counted out again when the buffer is freed or could not be made. */
static qe_status reserve(opencl_device *device, size_t bytes) {
  const portable_limits *limits = &device->portable.limits;
  if (bytes > limits->allocation_most) return refused(device, bytes, limits->allocation_most, "one buffer");
  if (atomic_fetch_add(&device->used, bytes) + bytes <= limits->memory_bytes) return QE_OK;
  atomic_fetch_sub(&device->used, bytes);
  return refused(device, bytes, limits->memory_bytes, "the device's memory");
}

/* Drivers may find memory only when it is first used: then this fails. NVIDIA's hangs in fills of 2 GiB and more: what
 * is behind the first part is copied from it. */
static cl_int zero(opencl_device *device, cl_mem memory, size_t bytes) {
  static const unsigned char zeros[16];
  size_t pattern = sizeof zeros, first = bytes < FILL_MOST ? bytes : FILL_MOST;
  while (first % pattern) pattern /= 2;
  cl_int error = clEnqueueFillBuffer(device->zeroing, memory, zeros, pattern, 0, first, 0, NULL, NULL);
  for (size_t at = first; at < bytes && error == CL_SUCCESS; at += first)
    error = clEnqueueCopyBuffer(device->zeroing, memory, memory, 0, at, bytes - at < first ? bytes - at : first, 0,
                                NULL, NULL);
  cl_int finished = clFinish(device->zeroing); /* in any case: nothing may use memory that is given back */
  return error == CL_SUCCESS ? finished : error;
}

static qe_status make(opencl_device *device, size_t bytes, cl_mem *memory) {
  cl_int error;
  *memory = clCreateBuffer(device->context, CL_MEM_READ_WRITE, bytes, NULL, &error);
  if (error == CL_SUCCESS) {
    error = zero(device, *memory, bytes);
    if (error == CL_SUCCESS) return QE_OK;
    clReleaseMemObject(*memory);
  }
  qe_status status = opencl_check(error, "the allocation of a buffer");
  if (status != QE_NO_MEMORY) return status;
  return refused(device, bytes, device->portable.limits.memory_bytes, opencl_error_name(error));
}

qe_status opencl_buffer_new(qe_device *base, size_t bytes, qe_buffer **out) {
  opencl_device *device = (opencl_device *)base;
  opencl_buffer *buffer = QE_NEW(opencl_buffer);
  if (!buffer) return QE_NO_MEMORY;
  qe_status status = reserve(device, bytes);
  if (status == QE_OK) {
    status = make(device, bytes, &buffer->memory);
    if (status != QE_OK) atomic_fetch_sub(&device->used, bytes);
  }
  if (status != QE_OK) {
    qe_free(buffer);
    return status;
  }
  buffer->base.device = base;
  buffer->base.bytes = bytes;
  opencl_device_hold(device);
  *out = &buffer->base;
  return QE_OK;
}

void opencl_buffer_free(qe_buffer *base) {
  opencl_device *device = (opencl_device *)base->device;
  clReleaseMemObject(((opencl_buffer *)base)->memory);
  atomic_fetch_sub(&device->used, base->bytes);
  qe_free(base);
  opencl_device_drop(device);
}
