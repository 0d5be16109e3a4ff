/* Queues of the backend `cuda`: a stream each. */
#include "backends/cuda/library.h"

#include "core/base/alloc.h"

#include <stdatomic.h>

qe_status cuda_not_captured(const cuda_queue *queue, const char *what) {
  if (!queue->capturing) return QE_OK;
  return qe_fail(QE_DEVICE, "%s cannot be part of a captured program", what);
}

void cuda_queue_free(qe_queue *base) {
  cuda_queue *queue = (cuda_queue *)base;
  (void)cuda.cuCtxSetCurrent(cuda_device_of(base)->context);
  if (queue->stream) (void)cuda.cuStreamSynchronize(queue->stream);
  cuda_libraries_leave(queue);
  portable_queue_close(&queue->portable);
  cuda_ring_free(queue->ring);
  if (queue->stream) (void)cuda.cuStreamDestroy(queue->stream);
  qe_free(queue);
}

qe_status cuda_queue_new(qe_device *base, qe_queue **out) {
  static _Atomic uint64_t serial;
  cuda_queue *queue = QE_NEW(cuda_queue);
  if (!queue) return QE_NO_MEMORY;
  queue->portable.base.device = base;
  queue->serial = atomic_fetch_add(&serial, 1) + 1;
  qe_status status = cuda_enter((const cuda_device *)base);
  if (status == QE_OK)
    status = cuda_check(cuda.cuStreamCreate(&queue->stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  if (status == QE_OK) status = cuda_ring_new(&queue->ring);
  if (status == QE_OK) status = portable_queue_open(&queue->portable);
  if (status != QE_OK) {
    cuda_queue_free(&queue->portable.base);
    return status;
  }
  *out = &queue->portable.base;
  return QE_OK;
}

qe_status cuda_queue_wait(qe_queue *base) {
  cuda_queue *queue = (cuda_queue *)base;
  QE_TRY(cuda_not_captured(queue, "a wait"));
  QE_TRY(cuda_enter(cuda_device_of(base)));
  QE_TRY(cuda_check(cuda.cuStreamSynchronize(queue->stream), "cuStreamSynchronize"));
  return portable_queue_faults(&queue->portable);
}
