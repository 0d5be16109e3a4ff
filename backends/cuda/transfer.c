/* Copies between host and device.
 *
 * A copy from ordinary memory makes the host wait for the driver. Small writes (indices, counters, hyper-parameters,
 * genomes) are therefore copied into a ring of pinned memory first. The ring has halves; before one is entered again,
 * the event that was recorded when it was left is waited for. */
#include "backends/cuda/cuda.h"

#include "core/base/alloc.h"

#include <string.h>

enum { HALVES = 2, HALF_BYTES = 1 << 20, SMALL = HALF_BYTES / 4, RING_ALIGNMENT = 64 };

struct cuda_ring {
  char *memory; /* HALVES * HALF_BYTES, pinned */
  CUevent left[HALVES];
  int half;
  size_t used; /* bytes of the half */
};

qe_status cuda_ring_new(cuda_ring **out) {
  cuda_ring *ring = *out = QE_NEW(cuda_ring);
  if (!ring) return QE_NO_MEMORY;
  void *memory = NULL;
  QE_TRY(cuda_check(cuda.cuMemAllocHost(&memory, (size_t)HALVES * HALF_BYTES), "cuMemAllocHost"));
  ring->memory = memory;
  for (int i = 0; i < HALVES; i++)
    QE_TRY(cuda_check(cuda.cuEventCreate(&ring->left[i], CU_EVENT_DISABLE_TIMING), "cuEventCreate"));
  return QE_OK;
}

void cuda_ring_free(cuda_ring *ring) {
  if (!ring) return;
  for (int i = 0; i < HALVES; i++)
    if (ring->left[i]) (void)cuda.cuEventDestroy(ring->left[i]);
  if (ring->memory) (void)cuda.cuMemFreeHost(ring->memory);
  qe_free(ring);
}

/* A place for `bytes` (at most SMALL) that no copy under way reads. */
static qe_status take_place(cuda_ring *ring, CUstream stream, size_t bytes, void **place) {
  if (ring->used + bytes > HALF_BYTES) {
    QE_TRY(cuda_check(cuda.cuEventRecord(ring->left[ring->half], stream), "cuEventRecord"));
    ring->half = (ring->half + 1) % HALVES;
    ring->used = 0;
    QE_TRY(cuda_check(cuda.cuEventSynchronize(ring->left[ring->half]), "cuEventSynchronize"));
  }
  *place = ring->memory + (size_t)ring->half * HALF_BYTES + ring->used;
  ring->used += (bytes + RING_ALIGNMENT - 1) / RING_ALIGNMENT * RING_ALIGNMENT;
  return QE_OK;
}

qe_status cuda_queue_write(qe_queue *base, qe_buffer *buffer, size_t offset, const void *source, size_t bytes) {
  cuda_queue *queue = (cuda_queue *)base;
  if (!bytes) return QE_OK;
  QE_TRY(cuda_not_captured(queue, "a write"));
  QE_TRY(cuda_enter(cuda_device_of(base)));
  if (bytes <= SMALL) {
    void *place = NULL;
    QE_TRY(take_place(queue->ring, queue->stream, bytes, &place));
    memcpy(place, source, bytes);
    source = place;
  }
  return cuda_check(cuda.cuMemcpyHtoDAsync(cuda_address(buffer, offset), source, bytes, queue->stream),
                    "cuMemcpyHtoDAsync");
}

qe_status cuda_queue_read(qe_queue *base, qe_buffer *buffer, size_t offset, void *target, size_t bytes) {
  cuda_queue *queue = (cuda_queue *)base;
  if (!bytes) return QE_OK;
  QE_TRY(cuda_not_captured(queue, "a read"));
  QE_TRY(cuda_enter(cuda_device_of(base)));
  return cuda_check(cuda.cuMemcpyDtoHAsync(target, cuda_address(buffer, offset), bytes, queue->stream),
                    "cuMemcpyDtoHAsync");
}
