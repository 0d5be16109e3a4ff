/* A device for tests that makes the interface's weakest promises: its memory has no host address, and nothing happens
 * before a wait. What reads a target too early, or frees a source too early, fails on it (under ASan for sure). */
#ifndef QE_TESTS_ASYNC_DEVICE_H
#define QE_TESTS_ASYNC_DEVICE_H

#include "cpu_ref/ref.h"
#include "tests/fixture.h"

typedef struct async_buffer {
  qe_buffer base;
  char *memory;
} async_buffer;

/* One thing to do: a copy, or a call. */
typedef struct async_command {
  qe_buffer *buffer;
  size_t offset, bytes;
  const void *source;
  void *target;
  const qe_call *call;
} async_command;

typedef struct async_queue {
  qe_queue base;
  async_command *command;
  size_t commands, capacity;
} async_queue;

typedef struct async_device {
  qe_device base;
  const qe_impl *const *impls; /* of every op */
  int impl_count;
  int fail_write; /* > 0: the write of that number from now fails */
} async_device;

static inline char *async_memory(const qe_buffer *buffer) {
  return ((const async_buffer *)(const void *)buffer)->memory;
}

static inline void async_close(qe_device *device) {
  qe_free(device);
}

static inline qe_status async_buffer_new(qe_device *device, size_t bytes, qe_buffer **out) {
  async_buffer *buffer = QE_NEW(async_buffer);
  if (!buffer) return QE_NO_MEMORY;
  buffer->base = (qe_buffer){device, bytes, NULL};
  buffer->memory = qe_calloc(bytes, 1);
  if (!buffer->memory) {
    qe_free(buffer);
    return QE_NO_MEMORY;
  }
  *out = &buffer->base;
  return QE_OK;
}

static inline void async_buffer_free(qe_buffer *buffer) {
  qe_free(async_memory(buffer));
  qe_free(buffer);
}

static inline qe_status async_queue_new(qe_device *device, qe_queue **out) {
  async_queue *queue = QE_NEW(async_queue);
  if (!queue) return QE_NO_MEMORY;
  queue->base.device = device;
  *out = &queue->base;
  return QE_OK;
}

static inline qe_status async_add(qe_queue *base, async_command command) {
  async_queue *queue = (async_queue *)(void *)base;
  QE_TRY(qe_reserve(&queue->command, &queue->capacity, queue->commands + 1, sizeof command));
  queue->command[queue->commands++] = command;
  return QE_OK;
}

static inline qe_status async_write(qe_queue *queue, qe_buffer *buffer, size_t offset, const void *source,
                                    size_t bytes) {
  async_device *device = (async_device *)(void *)queue->device;
  if (device->fail_write > 0 && --device->fail_write == 0) return qe_fail(QE_DEVICE, "the device lost a write");
  return async_add(queue, (async_command){.buffer = buffer, .offset = offset, .bytes = bytes, .source = source});
}

static inline qe_status async_read(qe_queue *queue, qe_buffer *buffer, size_t offset, void *target, size_t bytes) {
  return async_add(queue, (async_command){.buffer = buffer, .offset = offset, .bytes = bytes, .target = target});
}

static inline qe_status async_run_call(const qe_call *call) {
  qe_call host = *call;
  for (int i = 0; i < host.operands; i++)
    host.operand[i].data = async_memory(host.operand[i].buffer) + host.operand[i].offset;
  return qe_ref_get(host.op)(&host);
}

static inline qe_status async_wait(qe_queue *base) {
  async_queue *queue = (async_queue *)(void *)base;
  qe_status status = QE_OK;
  for (size_t i = 0; i < queue->commands; i++) {
    const async_command *command = &queue->command[i];
    if (command->call && status == QE_OK) status = async_run_call(command->call);
    if (command->source) memcpy(async_memory(command->buffer) + command->offset, command->source, command->bytes);
    if (command->target) memcpy(command->target, async_memory(command->buffer) + command->offset, command->bytes);
  }
  queue->commands = 0;
  return status;
}

static inline void async_queue_free(qe_queue *base) {
  qe_status status = async_wait(base);
  (void)status;
  qe_free(((async_queue *)(void *)base)->command);
  qe_free(base);
}

static inline const qe_impl *const *async_impls(const qe_device *base, qe_op op, int *count) {
  const async_device *device = (const async_device *)(const void *)base;
  (void)op;
  *count = device->impl_count;
  return device->impls;
}

static inline qe_device *async_open(const qe_impl *const *impls, int count) {
  static const qe_device_table table = {.close = async_close,
                                        .buffer_new = async_buffer_new,
                                        .buffer_free = async_buffer_free,
                                        .queue_new = async_queue_new,
                                        .queue_free = async_queue_free,
                                        .write = async_write,
                                        .read = async_read,
                                        .wait = async_wait,
                                        .impls = async_impls};
  static const qe_backend backend = {.api = QE_BACKEND_API, .name = "async", .summary = "for tests"};
  async_device *device = QE_NEW(async_device);
  assert_non_null(device);
  device->base = (qe_device){.table = &table, .backend = &backend, .name = "async"};
  device->impls = impls;
  device->impl_count = count;
  return &device->base;
}

#endif
