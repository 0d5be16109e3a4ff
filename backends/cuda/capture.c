/* Captured programs: what a queue is given between begin and end becomes a CUDA graph. */
#include "backends/cuda/cuda.h"

#include "core/base/alloc.h"

#include <string.h>

typedef struct captured {
  CUgraphExec graph;
  uint64_t serial;     /* of the queue: libraries' handles are its own */
  CUdeviceptr scratch; /* where the queue's scratch memory was */
  bool watched;        /* kernels in it may report faults */
} captured;

qe_status cuda_capture_begin(qe_queue *base) {
  cuda_queue *queue = (cuda_queue *)base;
  QE_TRY(cuda_not_captured(queue, "a capture"));
  QE_TRY(cuda_enter(cuda_device_of(base)));
  QE_TRY(cuda_check(cuda.cuStreamBeginCapture(queue->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
                    "cuStreamBeginCapture"));
  queue->capturing = true;
  return QE_OK;
}

qe_status cuda_capture_end(qe_queue *base, void **out) {
  cuda_queue *queue = (cuda_queue *)base;
  CUgraph graph = NULL;
  queue->capturing = false;
  *out = NULL;
  QE_TRY(cuda_enter(cuda_device_of(base)));
  QE_TRY(cuda_check(cuda.cuStreamEndCapture(queue->stream, &graph), "cuStreamEndCapture"));
  captured *made = QE_NEW(captured);
  qe_status status = made ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK)
    status = cuda_check(cuda.cuGraphInstantiateWithFlags(&made->graph, graph, 0), "cuGraphInstantiateWithFlags");
  (void)cuda.cuGraphDestroy(graph);
  if (status != QE_OK) {
    qe_free(made);
    return status;
  }
  made->serial = queue->serial;
  made->scratch = cuda_address(queue->portable.scratch, 0);
  made->watched = queue->portable.watched;
  *out = made;
  return QE_OK;
}

qe_status cuda_replay(qe_queue *base, void *what) {
  cuda_queue *queue = (cuda_queue *)base;
  const captured *made = what;
  if (made->serial != queue->serial || made->scratch != cuda_address(queue->portable.scratch, 0)) return QE_REFUSED;
  QE_TRY(cuda_not_captured(queue, "a captured program"));
  QE_TRY(cuda_enter(cuda_device_of(base)));
  queue->portable.watched |= made->watched;
  return cuda_check(cuda.cuGraphLaunch(made->graph, queue->stream), "cuGraphLaunch");
}

void cuda_captured_free(qe_device *device, void *what) {
  captured *made = what;
  (void)cuda.cuCtxSetCurrent(((const cuda_device *)device)->context);
  (void)cuda.cuGraphExecDestroy(made->graph);
  qe_free(made);
}
