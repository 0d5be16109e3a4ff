/* In-order queues: transfers and launches are enqueued without waiting. */
#include "backends/opencl/opencl.h"

#include "core/base/alloc.h"

#include <string.h>

/* Work is handed to the device with the first command after a wait, and after every so many. */
enum { FLUSH_EVERY = 16 };

void opencl_queue_free(qe_queue *base) {
  opencl_queue *queue = (opencl_queue *)base;
  opencl_device *device = opencl_device_of(base);
  if (queue->commands) clFinish(queue->commands);
  portable_queue_close(&queue->portable);
  for (int k = 0; k < QK_KERNELS; k++)
    if (queue->kernel[k]) clReleaseKernel(queue->kernel[k]);
  if (queue->commands) clReleaseCommandQueue(queue->commands);
  qe_free(queue);
  opencl_device_drop(device);
}

qe_status opencl_queue_new(qe_device *base, qe_queue **out) {
  opencl_device *device = (opencl_device *)base;
  opencl_queue *queue = QE_NEW(opencl_queue);
  if (!queue) return QE_NO_MEMORY;
  cl_int error;
  opencl_device_hold(device);
  queue->portable.base.device = base;
  queue->commands = clCreateCommandQueue(device->context, device->id, 0, &error);
  qe_status status = opencl_check(error, "clCreateCommandQueue");
  if (status == QE_OK) status = portable_queue_open(&queue->portable);
  if (status != QE_OK) {
    opencl_queue_free(&queue->portable.base);
    return status;
  }
  *out = &queue->portable.base;
  return QE_OK;
}

qe_status opencl_enqueued(opencl_queue *queue, cl_int error, const char *what) {
  QE_TRY(opencl_check(error, what));
  if (queue->unflushed++ % FLUSH_EVERY) return QE_OK;
  return opencl_check(clFlush(queue->commands), "clFlush");
}

/* ---- transfers ---- */

/* A transfer is long and does not keep the processor busy: it starts at once. */
static qe_status transfer_enqueued(opencl_queue *queue, cl_int error, const char *what) {
  queue->unflushed = 0;
  return opencl_enqueued(queue, error, what);
}

qe_status opencl_queue_write(qe_queue *base, qe_buffer *buffer, size_t offset, const void *source, size_t bytes) {
  opencl_queue *queue = (opencl_queue *)base;
  if (!bytes) return QE_OK;
  cl_int error = clEnqueueWriteBuffer(queue->commands, ((opencl_buffer *)buffer)->memory, CL_FALSE, offset, bytes,
                                      source, 0, NULL, NULL);
  return transfer_enqueued(queue, error, "clEnqueueWriteBuffer");
}

qe_status opencl_queue_read(qe_queue *base, qe_buffer *buffer, size_t offset, void *target, size_t bytes) {
  opencl_queue *queue = (opencl_queue *)base;
  if (!bytes) return QE_OK;
  cl_int error = clEnqueueReadBuffer(queue->commands, ((opencl_buffer *)buffer)->memory, CL_FALSE, offset, bytes,
                                     target, 0, NULL, NULL);
  return transfer_enqueued(queue, error, "clEnqueueReadBuffer");
}

/* ---- waiting ---- */

/* The driver's own words, once. */
static qe_status with_complaint(opencl_device *device, qe_status status) {
  char text[sizeof device->complaint];
  pthread_mutex_lock(&device->complaint_lock);
  memcpy(text, device->complaint, sizeof text);
  device->complaint[0] = 0;
  pthread_mutex_unlock(&device->complaint_lock);
  return text[0] ? qe_fail_within(status, "the driver says '%s'", text) : status;
}

/* Waits for a marker behind all commands: unlike clFinish, its event tells of a command that failed. */
static cl_int finish(cl_command_queue commands) {
  cl_event event;
  cl_int state = CL_COMPLETE, error = clEnqueueMarkerWithWaitList(commands, 0, NULL, &event);
  if (error != CL_SUCCESS) return error;
  error = clFinish(commands);
  if (error == CL_SUCCESS) error = clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
  clReleaseEvent(event);
  if (error != CL_SUCCESS) return error;
  return state < 0 ? state : CL_SUCCESS;
}

qe_status opencl_queue_wait(qe_queue *base) {
  opencl_queue *queue = (opencl_queue *)base;
  queue->unflushed = 0;
  qe_status status = opencl_check(finish(queue->commands), "the work of a queue");
  if (status != QE_OK) return with_complaint(opencl_device_of(base), status);
  return portable_queue_faults(&queue->portable);
}

/* ---- launches ---- */

/* Those of the largest structures: an operand is an address and an offset. */
_Static_assert(sizeof(qk_params_chain) + (QK_BUFFERS + 1) * 2 * sizeof(cl_ulong) <= OPENCL_ARGUMENTS, "qk_chain");
_Static_assert(sizeof(qk_params_stage) + 11 * 2 * sizeof(cl_ulong) <= OPENCL_ARGUMENTS, "kernels with NET_BUFFERS");

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

qe_status opencl_launch(qe_queue *base, const portable_launch *launch) {
  opencl_queue *queue = (opencl_queue *)base;
  opencl_device *device = opencl_device_of(base);
  const char *name = portable_kernel[launch->kernel].name;
  cl_kernel kernel;
  size_t global[3], items = launch->local[0] * launch->local[1] * launch->local[2];
  QE_TRY(opencl_kernel(queue, launch->kernel, &kernel));
  if (items > queue->items_most[launch->kernel])
    return qe_fail(
        QE_DEVICE, "%s takes work-groups of up to %zu work-items in %s, not %zu: set QEVO_OPENCL_LIMITS=group=%zu",
        device->portable.base.name, queue->items_most[launch->kernel], name, items, queue->items_most[launch->kernel]);
  QE_TRY(set_arguments(kernel, launch));
  for (int i = 0; i < 3; i++) global[i] = launch->groups[i] * launch->local[i];
  return opencl_enqueued(
      queue, clEnqueueNDRangeKernel(queue->commands, kernel, 3, NULL, global, launch->local, 0, NULL, NULL), name);
}
