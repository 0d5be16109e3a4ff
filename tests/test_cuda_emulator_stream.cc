/* Streams of the emulated CUDA device: as late as they may be; events; captures and what they forbid; graphs. */
#include "tests/cuda_emulator/cuda_test.h"

#include "tests/cuda_emulator/emulate.h"

#include <thread>

extern "C" __global__ void test_add(int *at, int value) {
  *at += value;
}

extern "C" __global__ void test_fail(int *at) {
  emulated_fail("as it must");
  *at = 1;
}

EMULATED_KERNEL(test_add)
EMULATED_KERNEL(test_fail)

namespace {

CUfunction function_of(const cuda_fixture *cuda, const char *name) {
  CUfunction function = nullptr;
  assert_int_equal(cuModuleGetFunction(&function, cuda->module, name), CUDA_SUCCESS);
  return function;
}

/* *at += value on a stream. */
CUresult add(const cuda_fixture *cuda, CUdeviceptr at, int value, CUstream stream) {
  void *arguments[] = {&at, &value};
  return cuLaunchKernel(function_of(cuda, "test_add"), 1, 1, 1, 1, 1, 1, 0, stream, arguments, nullptr);
}

int value_at(cuda_fixture *cuda, CUdeviceptr at) {
  return read<int>(cuda, at, 1)[0];
}

CUdeviceptr zero(cuda_fixture *cuda) {
  CUdeviceptr at = new_memory(sizeof(int));
  assert_int_equal(cuMemsetD8Async(at, 0, sizeof(int), cuda->stream), CUDA_SUCCESS);
  assert_int_equal(cuStreamSynchronize(cuda->stream), CUDA_SUCCESS);
  return at;
}

CUstream new_stream() {
  CUstream stream = nullptr;
  assert_int_equal(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  return stream;
}

void copies_read_their_source_late(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr at = new_memory(sizeof(int));
  int source = 1, target = 0;
  assert_int_equal(cuMemcpyHtoDAsync(at, &source, sizeof source, cuda->stream), CUDA_SUCCESS);
  source = 2;
  assert_int_equal(cuMemcpyDtoHAsync(&target, at, sizeof target, cuda->stream), CUDA_SUCCESS);
  assert_int_equal(target, 0);
  assert_int_equal(cuStreamSynchronize(cuda->stream), CUDA_SUCCESS);
  assert_int_equal(target, 2);
}

void streams_wait_for_events_only(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr at = zero(cuda);
  CUstream other = new_stream();
  CUevent event = nullptr;
  assert_int_equal(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
  assert_int_equal(add(cuda, at, 1, other), CUDA_SUCCESS);
  assert_int_equal(value_at(cuda, at), 0); /* nobody waited for `other` */
  assert_int_equal(cuEventRecord(event, other), CUDA_SUCCESS);
  assert_int_equal(add(cuda, at, 10, other), CUDA_SUCCESS);
  assert_int_equal(cuStreamWaitEvent(cuda->stream, event, 0), CUDA_SUCCESS);
  assert_int_equal(value_at(cuda, at), 1);
  assert_int_equal(cuStreamSynchronize(other), CUDA_SUCCESS);
  assert_int_equal(value_at(cuda, at), 11);
  assert_int_equal(cuEventDestroy(event), CUDA_SUCCESS);
  assert_int_equal(cuStreamDestroy(other), CUDA_SUCCESS);
  assert_int_equal(cuStreamSynchronize(other), CUDA_ERROR_INVALID_HANDLE);
}

void events_measure_time(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUevent from = nullptr, to = nullptr;
  assert_int_equal(cuEventCreate(&from, 0), CUDA_SUCCESS);
  assert_int_equal(cuEventCreate(&to, 0), CUDA_SUCCESS);
  assert_int_equal(cuEventRecord(from, cuda->stream), CUDA_SUCCESS);
  assert_int_equal(cuEventRecord(to, cuda->stream), CUDA_SUCCESS);
  float milliseconds = -1.0f;
  assert_int_equal(cuEventElapsedTime(&milliseconds, from, to), CUDA_ERROR_NOT_READY);
  assert_int_equal(cuEventSynchronize(to), CUDA_SUCCESS);
  assert_int_equal(cuEventElapsedTime(&milliseconds, from, to), CUDA_SUCCESS);
  assert_true(milliseconds >= 0.0f);
}

CUgraphExec capture_adds(cuda_fixture *cuda, CUdeviceptr at, int value) {
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  assert_int_equal(cuStreamBeginCapture(cuda->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CUDA_SUCCESS);
  assert_int_equal(add(cuda, at, value, cuda->stream), CUDA_SUCCESS);
  assert_int_equal(add(cuda, at, value, cuda->stream), CUDA_SUCCESS);
  assert_int_equal(cuStreamEndCapture(cuda->stream, &graph), CUDA_SUCCESS);
  assert_int_equal(cuGraphInstantiateWithFlags(&exec, graph, 0), CUDA_SUCCESS);
  assert_int_equal(cuGraphDestroy(graph), CUDA_SUCCESS);
  return exec;
}

void graphs_replay_what_was_captured(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr at = zero(cuda);
  CUgraphExec exec = capture_adds(cuda, at, 3);
  assert_int_equal(value_at(cuda, at), 0); /* recorded, not run */
  for (int i = 1; i < 4; i++) {
    assert_int_equal(cuGraphLaunch(exec, cuda->stream), CUDA_SUCCESS);
    assert_int_equal(value_at(cuda, at), 6 * i);
  }
  assert_int_equal(cuGraphLaunch(exec, cuda->stream), CUDA_SUCCESS);
  assert_int_equal(cuGraphExecDestroy(exec), CUDA_SUCCESS);
  assert_int_equal(value_at(cuda, at), 24);
}

void captures_forbid_waits_and_allocations(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr at = zero(cuda), none = 0;
  for (int kind = 0; kind < 4; kind++) {
    CUgraph graph = nullptr;
    assert_int_equal(cuStreamBeginCapture(cuda->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CUDA_SUCCESS);
    CUresult error = kind == 0   ? cuStreamSynchronize(cuda->stream)
                     : kind == 1 ? cuMemAlloc(&none, 4)
                     : kind == 2 ? cuMemFree(at)
                                 : cuCtxSynchronize();
    assert_int_equal(error, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_int_equal(add(cuda, at, 1, cuda->stream), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_int_equal(cuStreamEndCapture(cuda->stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  }
  assert_int_equal(value_at(cuda, at), 0);
}

void captures_leave_other_threads_alone(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr at = zero(cuda);
  assert_int_equal(cuStreamBeginCapture(cuda->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CUDA_SUCCESS);
  CUresult error = CUDA_ERROR_UNKNOWN;
  CUcontext context = nullptr;
  assert_int_equal(cuCtxGetCurrent(&context), CUDA_SUCCESS);
  std::thread([&] {
    CUdeviceptr more = 0;
    error = cuCtxSetCurrent(context);
    if (error == CUDA_SUCCESS) error = cuMemAlloc(&more, 4);
  }).join();
  assert_int_equal(error, CUDA_SUCCESS);
  assert_int_equal(add(cuda, at, 1, cuda->stream), CUDA_SUCCESS);
  CUgraph graph = nullptr;
  assert_int_equal(cuStreamEndCapture(cuda->stream, &graph), CUDA_SUCCESS);
}

void captures_follow_events_into_other_streams(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr at = zero(cuda);
  CUstream other = new_stream();
  CUevent fork = nullptr, join = nullptr;
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  assert_int_equal(cuEventCreate(&fork, 0), CUDA_SUCCESS);
  assert_int_equal(cuEventCreate(&join, 0), CUDA_SUCCESS);
  assert_int_equal(cuStreamBeginCapture(cuda->stream, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  assert_int_equal(cuEventRecord(fork, cuda->stream), CUDA_SUCCESS);
  assert_int_equal(cuStreamWaitEvent(other, fork, 0), CUDA_SUCCESS);
  assert_int_equal(add(cuda, at, 5, other), CUDA_SUCCESS);
  assert_int_equal(cuEventRecord(join, other), CUDA_SUCCESS);
  assert_int_equal(cuStreamWaitEvent(cuda->stream, join, 0), CUDA_SUCCESS);
  assert_int_equal(cuStreamEndCapture(cuda->stream, &graph), CUDA_SUCCESS);
  assert_int_equal(cuGraphInstantiateWithFlags(&exec, graph, 0), CUDA_SUCCESS);
  assert_int_equal(cuGraphLaunch(exec, cuda->stream), CUDA_SUCCESS);
  assert_int_equal(value_at(cuda, at), 5);
  assert_int_equal(add(cuda, at, 1, other), CUDA_SUCCESS); /* no longer captured */
  assert_int_equal(cuStreamSynchronize(other), CUDA_SUCCESS);
  assert_int_equal(value_at(cuda, at), 6);
}

void unjoined_captures_fail(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr at = zero(cuda);
  CUstream other = new_stream();
  CUevent fork = nullptr;
  CUgraph graph = nullptr;
  assert_int_equal(cuEventCreate(&fork, 0), CUDA_SUCCESS);
  assert_int_equal(cuStreamBeginCapture(cuda->stream, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  assert_int_equal(cuEventRecord(fork, cuda->stream), CUDA_SUCCESS);
  assert_int_equal(cuStreamWaitEvent(other, fork, 0), CUDA_SUCCESS);
  assert_int_equal(add(cuda, at, 5, other), CUDA_SUCCESS);
  assert_int_equal(cuStreamEndCapture(other, &graph), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  assert_int_equal(cuStreamEndCapture(cuda->stream, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
}

/* ---- launches that are refused ---- */

void bad_launches_are_refused(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUfunction function = function_of(cuda, "test_add"), none = nullptr;
  CUdeviceptr at = zero(cuda);
  int value = 1;
  void *arguments[] = {&at, &value};
  const struct {
    cuda_size grid, block;
    unsigned shared;
    CUresult result;
  } rows[] = {
      {{1}, {1}, 0, CUDA_SUCCESS},
      {{1}, {1024}, 48 << 10, CUDA_SUCCESS},
      {{0}, {1}, 0, CUDA_ERROR_INVALID_VALUE},
      {{1}, {0}, 0, CUDA_ERROR_INVALID_VALUE},
      {{1}, {1025}, 0, CUDA_ERROR_INVALID_VALUE},
      {{1}, {32, 33}, 0, CUDA_ERROR_INVALID_VALUE},
      {{1, 65536}, {1}, 0, CUDA_ERROR_INVALID_VALUE},
      {{1}, {1}, (48 << 10) + 1, CUDA_ERROR_INVALID_VALUE},
  };
  for (const auto &row : rows)
    assert_int_equal(cuLaunchKernel(function, row.grid.x, row.grid.y, row.grid.z, row.block.x, row.block.y, row.block.z,
                                    row.shared, cuda->stream, arguments, nullptr),
                     row.result);
  assert_int_equal(cuModuleGetFunction(&none, cuda->module, "test_nothing"), CUDA_ERROR_NOT_FOUND);
  assert_int_equal(cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 228 << 10),
                   CUDA_ERROR_INVALID_VALUE);
}

void a_lost_device_stays_lost(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr at = zero(cuda);
  launch(cuda, "test_fail", {1}, {1}, 0, {&at});
  assert_int_equal(cuStreamSynchronize(cuda->stream), CUDA_ERROR_LAUNCH_FAILED);
  assert_int_equal(cuMemsetD8Async(at, 0, 1, cuda->stream), CUDA_ERROR_LAUNCH_FAILED);
  const char *name = nullptr;
  assert_int_equal(cuGetErrorName(CUDA_ERROR_LAUNCH_FAILED, &name), CUDA_SUCCESS);
  assert_string_equal(name, "CUDA_ERROR_LAUNCH_FAILED");
}

void threads_need_the_context(void **) {
  CUresult error = CUDA_SUCCESS;
  std::thread([&] {
    CUdeviceptr at = 0;
    error = cuMemAlloc(&at, 4);
  }).join();
  assert_int_equal(error, CUDA_ERROR_INVALID_CONTEXT);
}

} // namespace

int main() {
  const CMUnitTest tests[] = {
      CUDA_TEST(copies_read_their_source_late),
      CUDA_TEST(streams_wait_for_events_only),
      CUDA_TEST(events_measure_time),
      CUDA_TEST(graphs_replay_what_was_captured),
      CUDA_TEST(captures_forbid_waits_and_allocations),
      CUDA_TEST(captures_leave_other_threads_alone),
      CUDA_TEST(captures_follow_events_into_other_streams),
      CUDA_TEST(unjoined_captures_fail),
      CUDA_TEST(bad_launches_are_refused),
      CUDA_TEST(a_lost_device_stays_lost),
      CUDA_TEST(threads_need_the_context),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
