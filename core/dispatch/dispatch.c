/* Buffers, queues and single calls: thin over the backend's tables, with the checks that no backend need repeat. */
#include "core/dispatch/dispatch.h"

#include "core/base/alloc.h"
#include "cpu_ref/ref.h"

#include <stdio.h>
#include <string.h>

qe_status qe_buffer_new(qe_device *device, size_t bytes, qe_buffer **buffer) {
  if (bytes == 0) bytes = QE_ALIGNMENT;
  return device->table->buffer_new(device, bytes, buffer);
}

void qe_buffer_free(qe_buffer *buffer) {
  if (buffer) buffer->device->table->buffer_free(buffer);
}

qe_status qe_queue_new(qe_device *device, qe_queue **queue) {
  return device->table->queue_new(device, queue);
}

void qe_queue_free(qe_queue *queue) {
  if (queue) queue->device->table->queue_free(queue);
}

static qe_status check_range(const qe_buffer *buffer, size_t offset, size_t bytes) {
  if (offset > buffer->bytes || bytes > buffer->bytes - offset)
    return qe_fail(QE_SHAPE, "bytes %zu to %zu of a buffer of %zu bytes", offset, offset + bytes, buffer->bytes);
  return QE_OK;
}

qe_status qe_queue_settle(qe_queue *queue, qe_status status) {
  if (status == QE_OK) return QE_OK;
  char message[1024];
  snprintf(message, sizeof message, "%s", qe_message());
  if (qe_queue_wait(queue) != QE_OK) return qe_fail(status, "%s", message); /* the first failure is the one to tell */
  return status;
}

qe_status qe_queue_write(qe_queue *queue, qe_buffer *buffer, size_t offset, const void *source, size_t bytes) {
  qe_status status = check_range(buffer, offset, bytes);
  if (status == QE_OK) status = queue->device->table->write(queue, buffer, offset, source, bytes);
  return qe_queue_settle(queue, status);
}

qe_status qe_queue_read(qe_queue *queue, qe_buffer *buffer, size_t offset, void *target, size_t bytes) {
  qe_status status = check_range(buffer, offset, bytes);
  if (status == QE_OK) status = queue->device->table->read(queue, buffer, offset, target, bytes);
  return qe_queue_settle(queue, status);
}

qe_status qe_queue_wait(qe_queue *queue) {
  return queue->device->table->wait(queue);
}

void qe_operand_set(qe_operand *operand, qe_desc desc, qe_buffer *buffer, size_t offset) {
  *operand = (qe_operand){.desc = desc, .buffer = buffer, .offset = offset};
  operand->data = buffer->data ? (char *)buffer->data + offset : NULL;
}

static qe_status take(qe_device *device, const qe_call *call, const qe_impl *impl, qe_bound_call *bound) {
  *bound = (qe_bound_call){.impl = impl};
  return impl->prepare ? impl->prepare(device, call, &bound->state) : QE_OK;
}

qe_status qe_call_bind(qe_device *device, const qe_call *call, const qe_impl *only, qe_bound_call *bound) {
  *bound = (qe_bound_call){0};
  QE_TRY(qe_call_check(call));
  for (int i = 0; i < call->operands; i++)
    QE_TRY(check_range(call->operand[i].buffer, call->operand[i].offset, qe_bytes(&call->operand[i].desc)));
  if (only) {
    const char *why = only->refuse ? only->refuse(device, call) : NULL;
    if (!why) return take(device, call, only, bound);
    char text[QE_CALL_TEXT];
    return qe_fail(QE_REFUSED, "%s refuses %s: %s", only->name, qe_call_text(call, text), why);
  }
  int count = 0;
  const qe_impl *const *impls = device->table->impls(device, call->op, &count);
  for (int i = 0; i < count; i++)
    if (!impls[i]->refuse || !impls[i]->refuse(device, call)) return take(device, call, impls[i], bound);
  return QE_OK; /* the reference takes everything */
}

qe_status qe_call_run(qe_queue *queue, const qe_call *call, const qe_bound_call *bound) {
  if (bound->impl) return qe_queue_settle(queue, bound->impl->run(queue, call, bound->state));
  return qe_call_run_reference(queue, call);
}

void qe_call_release(qe_bound_call *bound) {
  if (bound->impl && bound->impl->release && bound->state) bound->impl->release(bound->state);
  *bound = (qe_bound_call){0};
}

static qe_status run_on_copies(qe_queue *queue, const qe_call *call, qe_call *host) {
  const qe_op_info *info = qe_op_get_info(call->op);
  for (int i = 0; i < call->operands; i++) {
    qe_operand *operand = &host->operand[i];
    size_t bytes = qe_bytes(&operand->desc);
    operand->data = qe_alloc(bytes);
    if (!operand->data) return QE_NO_MEMORY;
    if (info->operand[i].role != QE_WRITE)
      QE_TRY(qe_queue_read(queue, operand->buffer, operand->offset, operand->data, bytes));
  }
  QE_TRY(qe_queue_wait(queue));
  QE_TRY(qe_ref_get(call->op)(host));
  for (int i = 0; i < call->operands; i++) {
    const qe_operand *operand = &host->operand[i];
    if (info->operand[i].role != QE_READ)
      QE_TRY(qe_queue_write(queue, operand->buffer, operand->offset, operand->data, qe_bytes(&operand->desc)));
  }
  return qe_queue_wait(queue);
}

qe_status qe_call_run_reference(qe_queue *queue, const qe_call *call) {
  if (queue->device->host_memory) {
    QE_TRY(qe_queue_wait(queue));
    return qe_ref_get(call->op)(call);
  }
  qe_call host = *call;
  for (int i = 0; i < host.operands; i++) host.operand[i].data = NULL;
  qe_status status = qe_queue_settle(queue, run_on_copies(queue, call, &host));
  for (int i = 0; i < host.operands; i++) qe_free(host.operand[i].data);
  return status;
}
