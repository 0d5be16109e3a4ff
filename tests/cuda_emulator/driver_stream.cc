/* The emulated driver: streams, events, captures and graphs.
 *
 * Streams are lazy: waiting for one runs its work, and that of others only as far as it waits for their events. With
 * EMULATED_CUDA_SHUFFLE, streams advance in turns that a random number draws. */
#include "tests/cuda_emulator/driver.h"

#include "tests/cuda_emulator/block.h"

#include <algorithm>
#include <chrono>

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void run_one(CUstream stream) {
  stream_work work = std::move(stream->queue.front());
  stream->queue.pop_front();
  if (driver.lost == CUDA_SUCCESS) work();
  stream->done++;
}

/* Now and then some work of a stream that nobody waits for. */
void advance_another() {
  unsigned random = block_random();
  if (!random || driver.streams.empty() || random % 3) return;
  auto other = driver.streams.begin();
  std::advance(other, static_cast<long>(random / 3 % driver.streams.size()));
  if (!(*other)->queue.empty()) run_one(*other);
}

bool is_capturing(const CUstream_st *stream) {
  return stream->recording != nullptr;
}

} // namespace

CUstream stream_of(CUstream handle) {
  if (!handle || handle == CU_STREAM_LEGACY) return &driver.legacy;
  return driver.streams.count(handle) ? handle : nullptr;
}

/* Work may run other streams' work, and with it this stream's: the loop looks afresh each time. */
void stream_run(CUstream stream, uint64_t place) {
  while (stream->done < place && !stream->queue.empty()) {
    run_one(stream);
    advance_another();
  }
}

void stream_run_all() {
  std::vector<CUstream> all(driver.streams.begin(), driver.streams.end());
  all.push_back(&driver.legacy);
  for (CUstream stream : all) stream_run(stream, stream->queued);
}

template <class T> static void destroy_all(std::set<T> *handles) {
  for (T handle : *handles) delete handle;
  handles->clear();
}

void stream_clear() {
  destroy_all(&driver.events);
  destroy_all(&driver.execs);
  destroy_all(&driver.graphs);
  destroy_all(&driver.streams);
}

CUresult stream_add(CUstream handle, stream_work work) {
  CUstream stream = stream_of(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (is_capturing(stream)) {
    if (stream->recording->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->recording->works.push_back(std::move(work));
    stream->recorded++;
    stream->joined = false;
    return CUDA_SUCCESS;
  }
  stream->queue.push_back(std::move(work));
  stream->queued++;
  return CUDA_SUCCESS;
}

CUresult stream_refuse_in_capture() {
  CUresult error = CUDA_SUCCESS;
  for (const auto &weak : driver.captures) {
    std::shared_ptr<capture> of = weak.lock();
    if (!of || of->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
    if (of->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && of->thread != std::this_thread::get_id()) continue;
    of->broken = true;
    error = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return error;
}

/* ---- streams ---- */

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  DRIVER_ENTER();
  *stream = new CUstream_st();
  (*stream)->flags = flags;
  driver.streams.insert(*stream);
  return CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int) {
  return cuStreamCreate(stream, flags);
}

CUresult cuStreamDestroy(CUstream handle) {
  DRIVER_ENTER();
  if (!driver.streams.count(handle)) return CUDA_ERROR_INVALID_HANDLE;
  stream_run(handle, handle->queued);
  for (CUevent event : driver.events)
    if (event->stream == handle) event->stream = nullptr;
  driver.streams.erase(handle);
  delete handle;
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle) {
  DRIVER_ENTER();
  CUstream stream = stream_of(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (is_capturing(stream)) {
    stream->recording->broken = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  stream_run(stream, stream->queued);
  return driver.lost;
}

CUresult cuStreamQuery(CUstream handle) {
  DRIVER_ENTER();
  CUstream stream = stream_of(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (is_capturing(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (stream->queue.empty()) return CUDA_SUCCESS;
  run_one(stream); /* or a loop around this call would never end */
  return driver.lost == CUDA_SUCCESS ? CUDA_ERROR_NOT_READY : driver.lost;
}

/* ---- events ---- */

CUresult cuEventCreate(CUevent *event, unsigned flags) {
  DRIVER_ENTER();
  *event = new CUevent_st();
  (*event)->flags = flags;
  driver.events.insert(*event);
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
  DRIVER_ENTER();
  return handle_destroy(&driver.events, event, CUDA_ERROR_INVALID_HANDLE);
}

CUresult cuEventRecord(CUevent event, CUstream handle) {
  DRIVER_ENTER();
  CUstream stream = stream_of(handle);
  if (!stream || !driver.events.count(event)) return CUDA_ERROR_INVALID_HANDLE;
  event->recording = stream->recording;
  event->stream = stream;
  event->place = stream->recorded;
  if (is_capturing(stream)) return CUDA_SUCCESS;
  auto stamp = std::make_shared<double>(0.0);
  CUresult error = stream_add(handle, [stamp] { *stamp = now(); });
  event->place = stream->queued;
  event->stamp = stamp;
  return error;
}

CUresult cuEventSynchronize(CUevent event) {
  DRIVER_ENTER();
  if (!driver.events.count(event)) return CUDA_ERROR_INVALID_HANDLE;
  if (event->recording) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (event->stream) stream_run(event->stream, event->place);
  return driver.lost;
}

CUresult cuEventQuery(CUevent event) {
  DRIVER_ENTER();
  if (!driver.events.count(event)) return CUDA_ERROR_INVALID_HANDLE;
  if (!event->stream || event->stream->done >= event->place) return CUDA_SUCCESS;
  run_one(event->stream);
  return driver.lost == CUDA_SUCCESS ? CUDA_ERROR_NOT_READY : driver.lost;
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
  DRIVER_ENTER();
  if (!driver.events.count(from) || !driver.events.count(to)) return CUDA_ERROR_INVALID_HANDLE;
  if (!from->stamp || !to->stamp || (from->flags | to->flags) & CU_EVENT_DISABLE_TIMING)
    return CUDA_ERROR_INVALID_HANDLE;
  if (*from->stamp <= 0.0 || *to->stamp <= 0.0) return CUDA_ERROR_NOT_READY;
  *milliseconds = static_cast<float>(1e3 * (*to->stamp - *from->stamp));
  return CUDA_SUCCESS;
}

/* A stream that waits for an event of a capture becomes a part of it; works keep the order of the calls. */
static CUresult join_capture(CUstream stream, CUevent event) {
  if (is_capturing(stream) && stream->recording != event->recording) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (!is_capturing(stream)) stream->joined = false;
  stream->recording = event->recording;
  if (event->stream != stream && event->stream->recorded == event->place) event->stream->joined = true;
  return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned) {
  DRIVER_ENTER();
  CUstream stream = stream_of(handle);
  if (!stream || !driver.events.count(event)) return CUDA_ERROR_INVALID_HANDLE;
  if (event->recording) return join_capture(stream, event);
  if (!event->stream || event->stream == stream) return CUDA_SUCCESS;
  if (is_capturing(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; /* work outside the capture */
  CUstream other = event->stream;
  uint64_t place = event->place;
  return stream_add(handle, [other, place] {
    if (other == &driver.legacy || driver.streams.count(other)) stream_run(other, place);
  });
}

/* ---- captures and graphs ---- */

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
  DRIVER_ENTER();
  CUstream stream = stream_of(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  if (stream == &driver.legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (is_capturing(stream)) return CUDA_ERROR_ILLEGAL_STATE;
  stream->recording = std::make_shared<capture>(capture{{}, mode, std::this_thread::get_id(), stream, false});
  auto ended = [](const std::weak_ptr<capture> &weak) { return weak.expired(); };
  driver.captures.erase(std::remove_if(driver.captures.begin(), driver.captures.end(), ended), driver.captures.end());
  driver.captures.push_back(stream->recording);
  return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status) {
  DRIVER_ENTER();
  CUstream stream = stream_of(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  *status = !stream->recording          ? CU_STREAM_CAPTURE_STATUS_NONE
            : stream->recording->broken ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                        : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph) {
  DRIVER_ENTER();
  *graph = nullptr;
  CUstream stream = stream_of(handle);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  std::shared_ptr<capture> of = stream->recording;
  if (!of) return CUDA_ERROR_ILLEGAL_STATE;
  if (of->origin != stream) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  if (of->mode != CU_STREAM_CAPTURE_MODE_RELAXED && of->thread != std::this_thread::get_id())
    return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  bool joined = true;
  for (CUstream other : driver.streams)
    if (other->recording == of) {
      joined = joined && (other == stream || other->joined);
      other->recording = nullptr;
    }
  for (CUevent event : driver.events)
    if (event->recording == of) {
      event->recording = nullptr;
      event->stream = nullptr;
    }
  if (of->broken) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (!joined) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  *graph = new CUgraph_st{std::move(of->works)};
  driver.graphs.insert(*graph);
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
  DRIVER_ENTER();
  return handle_destroy(&driver.graphs, graph, CUDA_ERROR_INVALID_VALUE);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long) {
  DRIVER_ENTER();
  if (!driver.graphs.count(graph)) return CUDA_ERROR_INVALID_VALUE;
  *exec = new CUgraphExec_st{std::make_shared<const std::vector<stream_work>>(graph->works)};
  driver.execs.insert(*exec);
  return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  DRIVER_ENTER();
  return handle_destroy(&driver.execs, exec, CUDA_ERROR_INVALID_VALUE);
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream) {
  DRIVER_ENTER();
  return driver.execs.count(exec) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  DRIVER_ENTER();
  if (!driver.execs.count(exec)) return CUDA_ERROR_INVALID_VALUE;
  auto works = exec->works; /* lives on when the handle is destroyed before the launch has run */
  return stream_add(stream, [works] {
    for (const stream_work &work : *works)
      if (driver.lost == CUDA_SUCCESS) work();
  });
}
