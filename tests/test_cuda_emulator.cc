/* The emulated CUDA device: launches, barriers, warps, memory, streams, captures, and the mistakes that it must find.
 */
#include "tests/cuda_emulator/cuda_test.h"

#include "tests/cuda_emulator/emulate.h"

/* ---- kernels ---- */

extern "C" __global__ void test_index(int *out, int scale) {
  int i = static_cast<int>((blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x * blockDim.y + threadIdx.y * blockDim.x +
                           threadIdx.x);
  out[i] = scale * i;
}

/* Block sums through static shared memory, by halving. */
extern "C" __global__ void test_sum(const int *in, int *out) {
  __shared__ int part[256];
  unsigned i = threadIdx.x;
  part[i] = in[blockIdx.x * 256 + i];
  __syncthreads();
  for (unsigned step = 128; step; step /= 2) {
    if (i < step) part[i] += part[i + step];
    __syncthreads();
  }
  if (i == 0) out[blockIdx.x] = part[0];
}

/* Reads its neighbour's value without a barrier. */
extern "C" __global__ void test_race(int *out) {
  __shared__ int part[64];
  part[threadIdx.x] = static_cast<int>(threadIdx.x);
  out[threadIdx.x] = part[(threadIdx.x + 1) % 64];
}

extern "C" __global__ void test_uninitialised(int *out) {
  __shared__ int part[64];
  QK_DYNAMIC_SHARED(int, dynamic);
  out[0] = part[threadIdx.x];
  out[1] = dynamic[threadIdx.x];
  part[threadIdx.x] = 0;
  dynamic[threadIdx.x] = 0;
}

extern "C" __global__ void test_divergent(int limit) {
  if (static_cast<int>(threadIdx.x) < limit) __syncthreads();
}

extern "C" __global__ void test_two_barriers(int limit) {
  if (static_cast<int>(threadIdx.x) < limit)
    __syncthreads();
  else
    __syncthreads();
}

extern "C" __global__ void test_missing_lane(int *out) {
  if (threadIdx.x != 5) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

extern "C" __global__ void test_write(unsigned char *at, long long place) {
  at[place] = 1;
}

extern "C" __global__ void test_read(const unsigned char *at, long long place, int *out) {
  *out = at[place];
}

extern "C" __global__ void test_shared_write(int place) {
  QK_DYNAMIC_SHARED(unsigned char, bytes);
  bytes[place] = 1;
}

/* Array bounds, shifts, alignment and division of an argument. */
extern "C" __global__ void test_undefined(int kind, int value, int *out) {
  __shared__ int part[64];
  int own[8] = {};
  part[threadIdx.x] = 3;
  if (kind == 0) *out = part[value];
  if (kind == 1) own[value] = 1;
  if (kind == 2) *out = 1 << value;
  if (kind == 3) *out = reinterpret_cast<const int2 *>(out + value)->x;
  if (kind == 4) *out = 100 / value;
  if (kind == 1) *out = own[value / 2];
}

struct warp_results {
  int xor_1, up, down, broadcast, segment, sum, smallest, any, all, counted;
  unsigned ballot, most;
};

extern "C" __global__ void test_warp(warp_results *out) {
  int i = static_cast<int>(threadIdx.x % 32), value = 100 + i;
  const unsigned all = 0xffffffffu;
  warp_results mine;
  mine.xor_1 = __shfl_xor_sync(all, value, 1);
  mine.up = __shfl_up_sync(all, value, 2);
  mine.down = __shfl_down_sync(all, value, 2);
  mine.broadcast = __shfl_sync(all, value, 7);
  mine.segment = __shfl_sync(all, value, 1, 8);
  mine.sum = __reduce_add_sync(all, value);
  mine.smallest = __reduce_min_sync(all, -i);
  mine.most = __reduce_max_sync(all, static_cast<unsigned>(i));
  mine.ballot = __ballot_sync(all, i % 3 == 0);
  mine.any = __any_sync(all, i == 31);
  mine.all = __all_sync(all, i < 31);
  if (i < 16) mine.sum += __reduce_add_sync(0xffffu, 1); /* lanes 0..15 alone */
  mine.counted = __syncthreads_count(i < 4);
  out[threadIdx.x] = mine;
}

/* Two warps wait for each other at a barrier that the other two know nothing of. */
extern "C" __global__ void test_named_barrier(int *out) {
  __shared__ int value;
  if (threadIdx.x == 0) value = 42;
  if (threadIdx.x < 64) {
    emulated_named_barrier(1, 64);
    out[threadIdx.x] = value;
  }
  __syncthreads();
}

extern "C" __global__ void test_copy_async(const int *in, int *out, int wait) {
  QK_DYNAMIC_SHARED(int4, part);
  unsigned i = threadIdx.x;
  emulated_copy_async16(&part[i], in + 4 * i);
  emulated_copy_async_commit();
  emulated_copy_async16_partial(&part[32 + i], in + 4 * i, 8);
  emulated_copy_async_commit();
  if (wait) emulated_copy_async_wait(1);
  out[2 * i] = part[i].w;
  emulated_copy_async_wait(0);
  out[2 * i + 1] = part[32 + i].w + part[32 + i].y;
}

extern "C" __global__ void test_atomics(int *counter, unsigned long long *mask, float *sum) {
  atomicAdd(counter, 1);
  atomicMax(counter + 1, static_cast<int>(threadIdx.x));
  atomicOr(mask, 1ull << threadIdx.x);
  atomicAdd(sum, 0.5f);
  if (atomicCAS(counter + 2, 0, 7) == 0) atomicAdd(counter + 3, 1);
}

EMULATED_KERNEL(test_index)
EMULATED_KERNEL(test_sum)
EMULATED_KERNEL(test_race)
EMULATED_KERNEL(test_uninitialised)
EMULATED_KERNEL(test_divergent)
EMULATED_KERNEL(test_two_barriers)
EMULATED_KERNEL(test_missing_lane)
EMULATED_KERNEL(test_write)
EMULATED_KERNEL(test_read)
EMULATED_KERNEL(test_shared_write)
EMULATED_KERNEL(test_undefined)
EMULATED_KERNEL(test_warp)
EMULATED_KERNEL(test_named_barrier)
EMULATED_KERNEL(test_copy_async)
EMULATED_KERNEL(test_atomics)

namespace {

/* ---- launches ---- */

void index_is_that_of_the_thread(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr out = new_memory(6 * 24 * sizeof(int));
  int scale = 3;
  launch(cuda, "test_index", {3, 2}, {6, 4}, 0, {&out, &scale});
  scale = 5; /* arguments are copied by the launch */
  std::vector<int> got = read<int>(cuda, out, 6 * 24);
  for (int i = 0; i < 6 * 24; i++) assert_int_equal(got[i], 3 * i);
}

void barriers_order_threads(void **state) {
  cuda_fixture *cuda = fixture(state);
  enum { BLOCKS = 9 };
  std::vector<int> values(256 * BLOCKS);
  for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<int>(i * i % 1000);
  CUdeviceptr in = upload(cuda, values), out = new_memory(BLOCKS * sizeof(int));
  launch(cuda, "test_sum", {BLOCKS}, {256}, 0, {&in, &out});
  std::vector<int> got = read<int>(cuda, out, BLOCKS);
  for (int block = 0; block < BLOCKS; block++) {
    int sum = 0;
    for (int i = 0; i < 256; i++) sum += values[256 * block + i];
    assert_int_equal(got[block], sum);
  }
}

void missing_barrier_shows(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr out = new_memory(64 * sizeof(int));
  launch(cuda, "test_race", {1}, {64}, 0, {&out});
  std::vector<int> got = read<int>(cuda, out, 64);
  launch(cuda, "test_race", {1}, {64}, 0, {&out});
  std::vector<int> again = read<int>(cuda, out, 64);
  int wrong = 0;
  for (int i = 0; i < 64; i++) wrong += got[i] != (i + 1) % 64 || again[i] != (i + 1) % 64;
  assert_true(wrong > 0);
}

void shared_memory_starts_as_garbage(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr out = new_memory(2 * sizeof(int));
  for (int run = 0; run < 3; run++) {
    launch(cuda, "test_uninitialised", {4}, {32}, 128, {&out});
    std::vector<int> got = read<int>(cuda, out, 2);
    assert_int_equal(got[0], GARBAGE);
    assert_int_equal(got[1], GARBAGE);
  }
}

void divergent_barrier_fails(void **state) {
  cuda_fixture *cuda = fixture(state);
  int limit = 64;
  launch(cuda, "test_divergent", {1}, {64}, 0, {&limit}); /* all of them: well */
  assert_int_equal(cuStreamSynchronize(cuda->stream), CUDA_SUCCESS);
  limit = 33;
  launch(cuda, "test_divergent", {1}, {64}, 0, {&limit});
  assert_int_equal(cuStreamSynchronize(cuda->stream), CUDA_ERROR_LAUNCH_FAILED);
  CUdeviceptr none = 0; /* from then on nothing works */
  assert_int_equal(cuMemAlloc(&none, 4), CUDA_ERROR_LAUNCH_FAILED);
}

void two_barriers_at_once_fail(void **state) {
  cuda_fixture *cuda = fixture(state);
  int limit = 32;
  launch(cuda, "test_two_barriers", {1}, {64}, 0, {&limit});
  assert_int_equal(cuStreamSynchronize(cuda->stream), CUDA_ERROR_LAUNCH_FAILED);
}

void missing_lane_fails(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr out = new_memory(32 * sizeof(int));
  launch(cuda, "test_missing_lane", {1}, {32}, 0, {&out});
  assert_int_equal(cuStreamSynchronize(cuda->stream), CUDA_ERROR_LAUNCH_FAILED);
}

/* ---- memory ---- */

CUresult access(cuda_fixture *cuda, const char *kernel, size_t bytes, long long place) {
  CUdeviceptr at = new_memory(bytes), out = new_memory(sizeof(int));
  launch(cuda, kernel, {1}, {1}, 0, {&at, &place, &out});
  return cuStreamSynchronize(cuda->stream);
}

void writes_beside_memory_are_reported(void **state) {
  const struct {
    const char *kernel;
    size_t bytes;
    long long place;
    CUresult result;
  } rows[] = {
      {"test_write", 1000, 999, CUDA_SUCCESS},
      {"test_write", 1000, 1000, CUDA_ERROR_LAUNCH_FAILED}, /* into the guard zone */
      {"test_write", 1000, -1, CUDA_ERROR_LAUNCH_FAILED},
      {"test_write", 4096, 4096, CUDA_ERROR_LAUNCH_FAILED}, /* onto a page that cannot be touched */
      {"test_write", 1000, 5000, CUDA_ERROR_LAUNCH_FAILED},
      {"test_read", 1000, 999, CUDA_SUCCESS},
      {"test_read", 4096, 4096, CUDA_ERROR_LAUNCH_FAILED},
  };
  cuda_fixture *cuda = fixture(state);
  for (const auto &row : rows) {
    assert_int_equal(access(cuda, row.kernel, row.bytes, row.place), row.result);
    restart(cuda);
  }
}

void writes_beside_shared_memory_are_reported(void **state) {
  cuda_fixture *cuda = fixture(state);
  for (int place : {0, 99, 100, 1024}) {
    launch(cuda, "test_shared_write", {1}, {1}, 100, {&place});
    assert_int_equal(cuStreamSynchronize(cuda->stream), place < 100 ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED);
    restart(cuda);
  }
}

void what_no_device_defines_fails(void **state) {
  const struct {
    int kind, value;
    bool right;
  } rows[] = {{0, 63, true},  {0, 64, false}, {1, 7, true},  {1, 8, false}, {1, -1, false}, {2, 31, true},
              {2, 32, false}, {3, 0, true},   {3, 1, false}, {4, 3, true},  {4, 0, false}};
  cuda_fixture *cuda = fixture(state);
  for (const auto &row : rows) {
    CUdeviceptr out = new_memory(256);
    int kind = row.kind, value = row.value;
    launch(cuda, "test_undefined", {1}, {1}, 0, {&kind, &value, &out});
    assert_int_equal(cuStreamSynchronize(cuda->stream), row.right ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED);
    restart(cuda);
  }
}

void new_memory_is_garbage(void **state) {
  cuda_fixture *cuda = fixture(state);
  std::vector<int> got = read<int>(cuda, new_memory(64), 16);
  for (int value : got) assert_int_equal(value, GARBAGE);
}

void memory_is_limited(void **) {
  size_t available = 0, total = 0;
  CUdeviceptr at = 0, more = 0;
  assert_int_equal(cuMemGetInfo(&available, &total), CUDA_SUCCESS);
  assert_int_equal(total, 1 << 20); /* EMULATED_CUDA_MEMORY, main sets it */
  assert_int_equal(cuMemAlloc(&at, available), CUDA_SUCCESS);
  assert_int_equal(cuMemAlloc(&more, 1), CUDA_ERROR_OUT_OF_MEMORY);
  assert_int_equal(cuMemFree(at), CUDA_SUCCESS);
  assert_int_equal(cuMemFree(at), CUDA_ERROR_INVALID_VALUE);
  assert_int_equal(cuMemAlloc(&at, 0), CUDA_ERROR_INVALID_VALUE);
}

void copies_outside_memory_are_refused(void **state) {
  cuda_fixture *cuda = fixture(state);
  char host[128] = {0};
  CUdeviceptr at = new_memory(100);
  assert_int_equal(cuMemcpyHtoDAsync(at + 50, host, 51, cuda->stream), CUDA_ERROR_INVALID_VALUE);
  assert_int_equal(cuMemcpyDtoHAsync(host, at - 1, 2, cuda->stream), CUDA_ERROR_INVALID_VALUE);
  assert_int_equal(cuMemsetD8Async(at, 0, 101, cuda->stream), CUDA_ERROR_INVALID_VALUE);
}

/* ---- what threads do together ---- */

void warps_exchange(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr out = new_memory(64 * sizeof(warp_results));
  launch(cuda, "test_warp", {1}, {64}, 0, {&out});
  std::vector<warp_results> got = read<warp_results>(cuda, out, 64);
  for (int i = 0; i < 64; i++) {
    const warp_results &one = got[i];
    int lane = i % 32;
    assert_int_equal(one.xor_1, 100 + (lane ^ 1));
    assert_int_equal(one.up, 100 + (lane < 2 ? lane : lane - 2));
    assert_int_equal(one.down, 100 + (lane > 29 ? lane : lane + 2));
    assert_int_equal(one.broadcast, 107);
    assert_int_equal(one.segment, 100 + lane / 8 * 8 + 1);
    assert_int_equal(one.sum, 32 * 100 + 31 * 16 + (lane < 16 ? 16 : 0));
    assert_int_equal(one.smallest, -31);
    assert_int_equal(one.most, 31);
    assert_int_equal(one.ballot, 0x49249249);
    assert_int_equal(one.any, 1);
    assert_int_equal(one.all, 0);
    assert_int_equal(one.counted, 8);
  }
}

void named_barrier_joins_some_warps(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUdeviceptr out = new_memory(64 * sizeof(int));
  for (int run = 0; run < 2; run++) {
    launch(cuda, "test_named_barrier", {1}, {128}, 0, {&out});
    std::vector<int> got = read<int>(cuda, out, 64);
    for (int value : got) assert_int_equal(value, 42);
  }
}

void copy_async_needs_its_wait(void **state) {
  cuda_fixture *cuda = fixture(state);
  std::vector<int> values(128);
  for (int i = 0; i < 128; i++) values[i] = i;
  CUdeviceptr in = upload(cuda, values), out = new_memory(64 * sizeof(int));
  for (int wait = 0; wait < 2; wait++) {
    launch(cuda, "test_copy_async", {1}, {32}, 64 * 16, {&in, &out, &wait});
    std::vector<int> got = read<int>(cuda, out, 64);
    for (int i = 0; i < 32; i++) {
      assert_int_equal(got[2 * i], wait ? 4 * i + 3 : GARBAGE);
      assert_int_equal(got[2 * i + 1], 4 * i + 1);
    }
  }
}

void atomics_add_up(void **state) {
  cuda_fixture *cuda = fixture(state);
  std::vector<int> zeros(8);
  CUdeviceptr counter = upload(cuda, zeros), mask = upload(cuda, zeros), sum = upload(cuda, zeros);
  launch(cuda, "test_atomics", {2}, {50}, 0, {&counter, &mask, &sum});
  std::vector<int> got = read<int>(cuda, counter, 4);
  assert_int_equal(got[0], 100);
  assert_int_equal(got[1], 49);
  assert_int_equal(got[2], 7);
  assert_int_equal(got[3], 1);
  assert_true(read<unsigned long long>(cuda, mask, 1)[0] == (1ull << 50) - 1);
  assert_true(read<float>(cuda, sum, 1)[0] == 50.0f);
}

} // namespace

int main() {
  setenv("EMULATED_CUDA_MEMORY", "1048576", 1);
  const CMUnitTest tests[] = {
      CUDA_TEST(index_is_that_of_the_thread),
      CUDA_TEST(barriers_order_threads),
      CUDA_TEST(missing_barrier_shows),
      CUDA_TEST(shared_memory_starts_as_garbage),
      CUDA_TEST(divergent_barrier_fails),
      CUDA_TEST(two_barriers_at_once_fail),
      CUDA_TEST(missing_lane_fails),
      CUDA_TEST(writes_beside_memory_are_reported),
      CUDA_TEST(writes_beside_shared_memory_are_reported),
      CUDA_TEST(what_no_device_defines_fails),
      CUDA_TEST(new_memory_is_garbage),
      CUDA_TEST(memory_is_limited),
      CUDA_TEST(copies_outside_memory_are_refused),
      CUDA_TEST(warps_exchange),
      CUDA_TEST(named_barrier_joins_some_warps),
      CUDA_TEST(copy_async_needs_its_wait),
      CUDA_TEST(atomics_add_up),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
