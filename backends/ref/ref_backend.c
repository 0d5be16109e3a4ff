/* The backend `ref`: host memory, a synchronous queue, no implementations of its own, so that the dispatch layer runs
 * every op through cpu_ref. */
#include "backends/ref/ref_backend.h"

#include "core/base/alloc.h"

#include <stdio.h>
#include <string.h>

static void ref_close(qe_device *device) {
  qe_free(device);
}

static qe_status ref_buffer_new(qe_device *device, size_t bytes, qe_buffer **out) {
  qe_buffer *buffer = QE_NEW(qe_buffer);
  if (!buffer) return QE_NO_MEMORY;
  buffer->device = device;
  buffer->bytes = bytes;
  buffer->data = qe_calloc(bytes, 1);
  if (!buffer->data) {
    qe_free(buffer);
    return QE_NO_MEMORY;
  }
  *out = buffer;
  return QE_OK;
}

static void ref_buffer_free(qe_buffer *buffer) {
  qe_free(buffer->data);
  qe_free(buffer);
}

static qe_status ref_queue_new(qe_device *device, qe_queue **out) {
  qe_queue *queue = QE_NEW(qe_queue);
  if (!queue) return QE_NO_MEMORY;
  queue->device = device;
  *out = queue;
  return QE_OK;
}

static void ref_queue_free(qe_queue *queue) {
  qe_free(queue);
}

static qe_status ref_write(qe_queue *queue, qe_buffer *buffer, size_t offset, const void *source, size_t bytes) {
  (void)queue;
  memcpy((char *)buffer->data + offset, source, bytes);
  return QE_OK;
}

static qe_status ref_read(qe_queue *queue, qe_buffer *buffer, size_t offset, void *target, size_t bytes) {
  (void)queue;
  memcpy(target, (const char *)buffer->data + offset, bytes);
  return QE_OK;
}

static qe_status ref_wait(qe_queue *queue) {
  (void)queue;
  return QE_OK;
}

static const qe_impl *const *ref_impls(const qe_device *device, qe_op op, int *count) {
  (void)device;
  (void)op;
  *count = 0;
  return NULL;
}

static const qe_device_table table = {
    .close = ref_close,
    .buffer_new = ref_buffer_new,
    .buffer_free = ref_buffer_free,
    .queue_new = ref_queue_new,
    .queue_free = ref_queue_free,
    .write = ref_write,
    .read = ref_read,
    .wait = ref_wait,
    .impls = ref_impls,
};

static int ref_count(char *why, size_t bytes) {
  if (bytes) why[0] = 0;
  return 1;
}

static void ref_describe(int index, char *text, size_t bytes) {
  (void)index;
  snprintf(text, bytes, "scalar reference in double precision, one thread");
}

static qe_status ref_open(int index, const qe_open_options *options, qe_device **out);

static const qe_backend backend = {
    .api = QE_BACKEND_API,
    .name = "ref",
    .summary = "the reference: plain, exact, slow",
    .preference = 0,
    .count = ref_count,
    .describe = ref_describe,
    .open = ref_open,
};

static qe_status ref_open(int index, const qe_open_options *options, qe_device **out) {
  (void)options;
  qe_device *device = QE_NEW(qe_device);
  if (!device) return QE_NO_MEMORY;
  device->table = &table;
  device->backend = &backend;
  device->index = index;
  device->host_memory = true;
  ref_describe(index, device->name, sizeof device->name);
  *out = device;
  return QE_OK;
}

const qe_backend *qe_ref_backend(void) {
  return &backend;
}
