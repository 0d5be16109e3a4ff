/* The backend `opencl`: devices of every installed driver, buffers, in-order queues, launches. */
#include "backends/opencl/opencl.h"

#include "core/base/alloc.h"

#include <stdio.h>
#include <string.h>

qe_status opencl_check(cl_int error, const char *what) {
  if (error == CL_SUCCESS) return QE_OK;
  bool memory = error == CL_MEM_OBJECT_ALLOCATION_FAILURE || error == CL_OUT_OF_RESOURCES ||
                error == CL_OUT_OF_HOST_MEMORY || error == CL_INVALID_BUFFER_SIZE;
  return qe_fail(memory ? QE_NO_MEMORY : QE_DEVICE, "OpenCL error %d from %s", error, what);
}

/* ---- buffers ---- */

static qe_status buffer_new(qe_device *base, size_t bytes, qe_buffer **out) {
  opencl_device *device = (opencl_device *)base;
  opencl_buffer *buffer = QE_NEW(opencl_buffer);
  if (!buffer) return QE_NO_MEMORY;
  cl_int error;
  void *zeros = qe_calloc(1, bytes);
  if (!zeros) {
    qe_free(buffer);
    return QE_NO_MEMORY;
  }
  buffer->base.device = base;
  buffer->base.bytes = bytes;
  buffer->memory = clCreateBuffer(device->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, bytes, zeros, &error);
  qe_free(zeros);
  if (error != CL_SUCCESS) {
    qe_free(buffer);
    return opencl_check(error, "clCreateBuffer");
  }
  *out = &buffer->base;
  return QE_OK;
}

static void buffer_free(qe_buffer *base) {
  clReleaseMemObject(((opencl_buffer *)base)->memory);
  qe_free(base);
}

/* ---- queues ---- */

static void queue_free(qe_queue *base) {
  opencl_queue *queue = (opencl_queue *)base;
  if (queue->commands) clFinish(queue->commands);
  portable_queue_close(&queue->portable);
  for (int k = 0; k < QK_KERNELS; k++)
    if (queue->kernel[k]) clReleaseKernel(queue->kernel[k]);
  if (queue->commands) clReleaseCommandQueue(queue->commands);
  qe_free(queue);
}

static qe_status queue_new(qe_device *base, qe_queue **out) {
  opencl_device *device = (opencl_device *)base;
  opencl_queue *queue = QE_NEW(opencl_queue);
  if (!queue) return QE_NO_MEMORY;
  cl_int error;
  queue->portable.base.device = base;
  queue->commands = clCreateCommandQueue(device->context, device->id, 0, &error);
  qe_status status = opencl_check(error, "clCreateCommandQueue");
  if (status == QE_OK) status = portable_queue_open(&queue->portable);
  if (status != QE_OK) {
    queue_free(&queue->portable.base);
    return status;
  }
  *out = &queue->portable.base;
  return QE_OK;
}

static cl_command_queue commands_of(const qe_queue *queue) {
  return ((const opencl_queue *)queue)->commands;
}

static qe_status queue_write(qe_queue *queue, qe_buffer *buffer, size_t offset, const void *source, size_t bytes) {
  if (!bytes) return QE_OK;
  return opencl_check(clEnqueueWriteBuffer(commands_of(queue), ((opencl_buffer *)buffer)->memory, CL_FALSE, offset,
                                           bytes, source, 0, NULL, NULL),
                      "clEnqueueWriteBuffer");
}

static qe_status queue_read(qe_queue *queue, qe_buffer *buffer, size_t offset, void *target, size_t bytes) {
  if (!bytes) return QE_OK;
  return opencl_check(clEnqueueReadBuffer(commands_of(queue), ((opencl_buffer *)buffer)->memory, CL_FALSE, offset,
                                          bytes, target, 0, NULL, NULL),
                      "clEnqueueReadBuffer");
}

static qe_status queue_wait(qe_queue *queue) {
  QE_TRY(opencl_check(clFinish(commands_of(queue)), "clFinish"));
  return portable_queue_faults((portable_queue *)queue);
}

/* ---- launches ---- */

static qe_status set_arguments(cl_kernel kernel, const portable_launch *launch) {
  cl_uint at = 0;
  cl_int error = CL_SUCCESS;
  for (int i = 0; i < launch->operands && error == CL_SUCCESS; i++) {
    const portable_operand *operand = &launch->operand[i];
    cl_mem memory = operand->buffer ? ((opencl_buffer *)operand->buffer)->memory : NULL;
    cl_ulong offset = operand->offset;
    error = clSetKernelArg(kernel, at++, sizeof memory, &memory);
    if (error == CL_SUCCESS) error = clSetKernelArg(kernel, at++, sizeof offset, &offset);
  }
  if (error == CL_SUCCESS) error = clSetKernelArg(kernel, at, launch->params_bytes, launch->params);
  return opencl_check(error, portable_kernel[launch->kernel].name);
}

static qe_status launch_kernel(qe_queue *base, const portable_launch *launch) {
  opencl_queue *queue = (opencl_queue *)base;
  cl_kernel kernel;
  size_t global[3];
  QE_TRY(opencl_kernel(queue, launch->kernel, &kernel));
  QE_TRY(set_arguments(kernel, launch));
  for (int i = 0; i < 3; i++) global[i] = launch->groups[i] * launch->local[i];
  return opencl_check(
      clEnqueueNDRangeKernel(queue->commands, kernel, 3, NULL, global, launch->local, 0, NULL, NULL),
      portable_kernel[launch->kernel].name);
}

/* ---- devices ---- */

enum { MAX_PLATFORMS = 16, MAX_DEVICES = 64 };

typedef struct found {
  cl_platform_id platform;
  cl_device_id id;
} found;

static int find_devices(found *list, char *why, size_t bytes) {
  cl_platform_id platform[MAX_PLATFORMS];
  cl_uint platforms = 0;
  int count = 0;
  if (clGetPlatformIDs(MAX_PLATFORMS, platform, &platforms) != CL_SUCCESS || platforms == 0) {
    snprintf(why, bytes, "no OpenCL driver is installed (Debian: pocl-opencl-icd for the CPU)");
    return 0;
  }
  for (cl_uint p = 0; p < platforms && p < MAX_PLATFORMS; p++) {
    cl_device_id id[MAX_DEVICES];
    cl_uint ids = 0;
    if (clGetDeviceIDs(platform[p], CL_DEVICE_TYPE_ALL, MAX_DEVICES, id, &ids) != CL_SUCCESS) continue;
    for (cl_uint d = 0; d < ids && count < MAX_DEVICES; d++) list[count++] = (found){platform[p], id[d]};
  }
  if (!count) snprintf(why, bytes, "OpenCL drivers are installed but have no device");
  return count;
}

static int backend_count(char *why, size_t bytes) {
  found list[MAX_DEVICES];
  return find_devices(list, why, bytes);
}

static void backend_describe(int index, char *text, size_t bytes) {
  found list[MAX_DEVICES];
  char why[160], name[96] = "?", version[96] = "?";
  if (index >= find_devices(list, why, sizeof why)) return;
  (void)clGetDeviceInfo(list[index].id, CL_DEVICE_NAME, sizeof name, name, NULL);
  (void)clGetDeviceInfo(list[index].id, CL_DEVICE_VERSION, sizeof version, version, NULL);
  snprintf(text, bytes, "%s, %s", name, version);
}

static void device_close(qe_device *base) {
  opencl_device *device = (opencl_device *)base;
  opencl_programs_free(device);
  if (device->context) clReleaseContext(device->context);
  qe_free(device);
}

static const qe_device_table table = {
    .close = device_close,
    .buffer_new = buffer_new,
    .buffer_free = buffer_free,
    .queue_new = queue_new,
    .queue_free = queue_free,
    .write = queue_write,
    .read = queue_read,
    .wait = queue_wait,
    .impls = portable_impls,
};

static const portable_driver driver = {.launch = launch_kernel};

static void read_limits(opencl_device *device) {
  portable_limits *limits = &device->portable.limits;
  cl_ulong value = 0;
  size_t group = 1;
  cl_uint units = 1;
  cl_device_type type = 0;
  cl_device_fp_config config = 0;
  (void)clGetDeviceInfo(device->id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof group, &group, NULL);
  limits->group_most = group;
  limits->group = 1;
  while (limits->group < 256 && (size_t)limits->group * 2 <= group) limits->group *= 2;
  (void)clGetDeviceInfo(device->id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof value, &value, NULL);
  limits->local_bytes = value;
  (void)clGetDeviceInfo(device->id, CL_DEVICE_MAX_CONSTANT_BUFFER_SIZE, sizeof value, &value, NULL);
  limits->constant_bytes = value;
  (void)clGetDeviceInfo(device->id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof value, &value, NULL);
  limits->memory_bytes = value;
  (void)clGetDeviceInfo(device->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof value, &value, NULL);
  limits->allocation_most = value;
  (void)clGetDeviceInfo(device->id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
  limits->units = (int32_t)units;
  limits->subgroup = 1;
  (void)clGetDeviceInfo(device->id, CL_DEVICE_TYPE, sizeof type, &type, NULL);
  limits->processor = (type & CL_DEVICE_TYPE_CPU) != 0;
  (void)clGetDeviceInfo(device->id, CL_DEVICE_SINGLE_FP_CONFIG, sizeof config, &config, NULL);
  device->build_options =
      config & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT ? "-cl-fp32-correctly-rounded-divide-sqrt" : "-DQK_DIVIDE_BY_FMA";
}

static qe_status backend_open(int index, const qe_open_options *options, qe_device **out);

static const qe_backend backend = {
    .api = QE_BACKEND_API,
    .name = "opencl",
    .summary = "any OpenCL 1.2 device: portable kernels, built at first use",
    .preference = 5,
    .count = backend_count,
    .describe = backend_describe,
    .open = backend_open,
};

static qe_status backend_open(int index, const qe_open_options *options, qe_device **out) {
  found list[MAX_DEVICES];
  char why[160] = "";
  (void)options;
  if (index >= find_devices(list, why, sizeof why)) return qe_fail(QE_DEVICE, "OpenCL has no device %d: %s", index, why);
  opencl_device *device = QE_NEW(opencl_device);
  if (!device) return QE_NO_MEMORY;
  cl_int error;
  device->portable.base.table = &table;
  device->portable.base.backend = &backend;
  device->portable.base.index = index;
  device->portable.driver = &driver;
  device->platform = list[index].platform;
  device->id = list[index].id;
  backend_describe(index, device->portable.base.name, sizeof device->portable.base.name);
  read_limits(device);
  device->context = clCreateContext(NULL, 1, &device->id, NULL, NULL, &error);
  qe_status status = opencl_check(error, "clCreateContext");
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
