/* Emulated tensor-core instructions against plain matrix products. Where an element lies is stated here as the layouts
 * that CUTLASS's CuTe gives for the instructions (mma_traits_sm80.hpp, mma_traits_sm90_gmma.hpp): shapes and strides
 * that map (thread, value) to row + rows * column. */
#include "tests/cuda_emulator/cuda_test.h"

#include "tests/cuda_emulator/emulate.h"

namespace {

enum { MODES = 6, THREADS_MOST = 128, REGISTERS_MOST = 128 };

struct mode {
  int shape, stride;
};

/* Place of value `value` of thread `thread`: the modes take the index apart, the first the fastest. */
struct layout {
  mode thread[MODES], value[MODES];

  static int place(const mode *modes, int index) {
    int sum = 0;
    for (int i = 0; i < MODES && modes[i].shape; i++) {
      sum += index % modes[i].shape * modes[i].stride;
      index /= modes[i].shape;
    }
    return sum;
  }

  int of(int of_thread, int of_value) const { return place(thread, of_thread) + place(value, of_value); }
};

const layout SUMS_8 = {{{4, 16}, {8, 1}}, {{2, 8}}}, SUMS_16 = {{{4, 32}, {8, 1}}, {{2, 16}, {2, 8}}};

struct instruction {
  const char *name;
  int m, k, bits;
  bool a_signed, b_signed;
  layout a, b;
  void (*run)(int *d, const unsigned *a, const unsigned *b, const int *c);
};

const layout A_8X16 = {{{4, 32}, {8, 1}}, {{4, 8}}};
const layout A_16X16 = {{{4, 64}, {8, 1}}, {{4, 16}, {2, 8}}};
const layout A_16X32 = {{{4, 64}, {8, 1}}, {{4, 16}, {2, 8}, {2, 256}}};
const layout B_8X32 = {{{4, 32}, {8, 1}}, {{4, 8}, {2, 128}}};
const layout A_8X32 = {{{4, 64}, {8, 1}}, {{8, 8}}};
const layout A_16X64 = {{{4, 128}, {8, 1}}, {{8, 16}, {2, 8}, {2, 512}}};
const layout B_8X64 = {{{4, 64}, {8, 1}}, {{8, 8}, {2, 256}}};
const layout A_8X128 = {{{4, 256}, {8, 1}}, {{32, 8}}};
const layout A_16X128 = {{{4, 512}, {8, 1}}, {{32, 16}, {2, 8}}};
const layout A_16X256 = {{{4, 512}, {8, 1}}, {{32, 16}, {2, 8}, {2, 2048}}};
const layout B_8X256 = {{{4, 256}, {8, 1}}, {{32, 8}, {2, 1024}}};

enum { u8, s8, u4 = u8, s4 = s8 };

const instruction instructions[] = {
#define ROW_S8(A, B)                                                                                                   \
  {"m8n8k16_" #A #B, 8, 16, 8, A, B, A_8X16, A_8X16, emulated_mma_m8n8k16_##A##B},                                     \
      {"m16n8k16_" #A #B, 16, 16, 8, A, B, A_16X16, A_8X16, emulated_mma_m16n8k16_##A##B},                             \
      {"m16n8k32_" #A #B, 16, 32, 8, A, B, A_16X32, B_8X32, emulated_mma_m16n8k32_##A##B},
    EMULATED_EACH_S8_PAIR(ROW_S8)
#define ROW_S4(A, B)                                                                                                   \
  {"m8n8k32_" #A #B, 8, 32, 4, A, B, A_8X32, A_8X32, emulated_mma_m8n8k32_##A##B},                                     \
      {"m16n8k64_" #A #B, 16, 64, 4, A, B, A_16X64, B_8X64, emulated_mma_m16n8k64_##A##B},
        EMULATED_EACH_S4_PAIR(ROW_S4){"m8n8k128_xor", 8, 128, 1, false, true, A_8X128, A_8X128,
                                      emulated_mma_m8n8k128_xor_popc},
    {"m16n8k128_xor", 16, 128, 1, false, true, A_16X128, A_8X128, emulated_mma_m16n8k128_xor_popc},
    {"m16n8k256_xor", 16, 256, 1, false, true, A_16X256, B_8X256, emulated_mma_m16n8k256_xor_popc},
    {"m16n8k128_and", 16, 128, 1, false, false, A_16X128, A_8X128, emulated_mma_m16n8k128_and_popc},
    {"m16n8k256_and", 16, 256, 1, false, false, A_16X256, B_8X256, emulated_mma_m16n8k256_and_popc},
};

} // namespace

struct registers {
  unsigned a[4], b[2];
  int c[4];
};

extern "C" __global__ void test_mma(const registers *in, int *d, const instruction *how) {
  unsigned lane = threadIdx.x;
  int mine[4] = {};
  how->run(mine, in[lane].a, in[lane].b, in[lane].c);
  for (int i = 0; i < how->m / 4; i++) d[4 * lane + i] = mine[i];
}

struct float_registers {
  unsigned a[4], b[2];
  float c[4];
};

extern "C" __global__ void test_float_mma(const float_registers *in, float *d, int kind) {
  const float_registers &mine = in[threadIdx.x];
  auto run = kind == 0 ? emulated_mma_m16n8k16_f16 : kind == 1 ? emulated_mma_m16n8k16_bf16 : emulated_mma_m16n8k8_tf32;
  run(d + 4 * threadIdx.x, mine.a, mine.b, mine.c);
}

extern "C" __global__ void test_ldmatrix(const unsigned short *in, unsigned *out, int count, int transposed) {
  QK_DYNAMIC_SHARED(unsigned short, rows);
  unsigned lane = threadIdx.x;
  for (int i = 0; i < 8; i++) rows[8 * lane + i] = in[8 * lane + i];
  __syncthreads();
  typedef void (*load)(unsigned *, const void *);
  const load loads[2][3] = {{emulated_ldmatrix_x1, emulated_ldmatrix_x2, emulated_ldmatrix_x4},
                            {emulated_ldmatrix_x1_trans, emulated_ldmatrix_x2_trans, emulated_ldmatrix_x4_trans}};
  unsigned d[4];
  loads[transposed][count == 1 ? 0 : count == 2 ? 1 : 2](d, &rows[8 * lane]);
  for (int i = 0; i < count; i++) out[4 * lane + i] = d[i];
}

/* One warpgroup: d = a x b + d. Operands lie in dynamic shared memory as the host laid them out. */
struct wgmma_call {
  int n, kind; /* 0 u8s8, 1 s8s8, 2 and.popc; + 4: a from registers */
  unsigned long long a, b;
  int offset; /* of the operands' bytes in shared memory: 0 */
  int bytes;
};

extern "C" __global__ void test_wgmma(const unsigned char *operands, const unsigned *a, int *d, const wgmma_call call) {
  QK_DYNAMIC_SHARED(unsigned char, shared);
  unsigned thread = threadIdx.x;
  for (int i = static_cast<int>(thread); i < call.bytes; i += 128) shared[i] = operands[i];
  __syncthreads();
  unsigned long long base = emulated_shared_address(shared) >> 4;
  int sums[REGISTERS_MOST];
  for (int i = 0; i < call.n / 2; i++) sums[i] = static_cast<int>(thread) + i;
  emulated_wgmma_fence();
  switch (call.kind) {
  case 0:
    emulated_wgmma_k32_u8s8(call.n, sums, call.a + base, call.b + base, 1);
    break;
  case 1:
    emulated_wgmma_k32_s8s8(call.n, sums, call.a + base, call.b + base, 1);
    break;
  case 2:
    emulated_wgmma_k256_and_popc(call.n, sums, call.a + base, call.b + base, 1);
    break;
  case 4:
    emulated_wgmma_k32_ra_u8s8(call.n, sums, a + 4 * thread, call.b + base, 1);
    break;
  default:
    emulated_wgmma_k256_ra_and_popc(call.n, sums, a + 4 * thread, call.b + base, 0);
    break;
  }
  emulated_wgmma_commit();
  emulated_wgmma_wait(0);
  for (int i = 0; i < call.n / 2; i++) d[REGISTERS_MOST * thread + i] = sums[i];
}

EMULATED_KERNEL(test_mma)
EMULATED_KERNEL(test_float_mma)
EMULATED_KERNEL(test_ldmatrix)
EMULATED_KERNEL(test_wgmma)

namespace {

/* A matrix by place = row + rows * column, filled with codes. */
std::vector<unsigned> draw(int count, int bits, unsigned *seed) {
  std::vector<unsigned> codes(count);
  for (unsigned &code : codes) {
    *seed = *seed * 1664525u + 1013904223u;
    code = *seed >> 13 & ((1u << bits) - 1);
  }
  return codes;
}

int value(unsigned code, int bits, bool is_signed) {
  return is_signed && code >> (bits - 1) ? static_cast<int>(code) - (1 << bits) : static_cast<int>(code);
}

/* Codes into the registers of all threads. */
void scatter(const std::vector<unsigned> &codes, const layout &by, int bits, int threads, int thread_words,
             unsigned *words, int stride) {
  int per_word = 32 / bits;
  for (int t = 0; t < threads; t++) {
    for (int i = 0; i < thread_words; i++) words[t * stride + i] = 0;
    for (int i = 0; i < thread_words * per_word; i++)
      words[t * stride + i / per_word] |= codes[by.of(t, i)] << (bits * (i % per_word));
  }
}

void check_instruction(cuda_fixture *cuda, const instruction &how, unsigned seed) {
  std::vector<unsigned> a = draw(how.m * how.k, how.bits, &seed), b = draw(8 * how.k, how.bits, &seed);
  std::vector<registers> in(32);
  int words = how.k * how.bits / 32; /* of a row */
  scatter(a, how.a, how.bits, 32, how.m * words / 32, in[0].a, sizeof in[0] / 4);
  scatter(b, how.b, how.bits, 32, 8 * words / 32, in[0].b, sizeof in[0] / 4);
  for (int t = 0; t < 32; t++)
    for (int i = 0; i < 4; i++) in[t].c[i] = 1000 * t - 7 * i;
  CUdeviceptr input = upload(cuda, in), output = new_memory(128 * sizeof(int));
  const instruction *kernel_how = &how;
  launch(cuda, "test_mma", {1}, {32}, 0, {&input, &output, &kernel_how});
  std::vector<int> d = read<int>(cuda, output, 128);
  for (int t = 0; t < 32; t++)
    for (int i = 0; i < how.m / 4; i++) {
      int place = (how.m == 16 ? SUMS_16 : SUMS_8).of(t, i), row = place % how.m, column = place / how.m,
          sum = in[t].c[i];
      for (int k = 0; k < how.k; k++) {
        unsigned x = a[row + how.m * k], y = b[column + 8 * k];
        if (how.bits == 1)
          sum += static_cast<int>(how.b_signed ? x ^ y : x & y);
        else
          sum += value(x, how.bits, how.a_signed) * value(y, how.bits, how.b_signed);
      }
      if (d[4 * t + i] != sum) print_error("%s: lane %d, register %d\n", how.name, t, i);
      assert_int_equal(d[4 * t + i], sum);
    }
  assert_int_equal(cuMemFree(input), CUDA_SUCCESS);
  assert_int_equal(cuMemFree(output), CUDA_SUCCESS);
}

void integer_products_are_right(void **state) {
  cuda_fixture *cuda = fixture(state);
  for (const instruction &how : instructions)
    for (unsigned seed = 1; seed < 4; seed++) check_instruction(cuda, how, seed);
}

/* Small integers as bits of each format: products and sums are exact. */
unsigned encode(int kind, int number) {
  if (kind == 1) return __float_as_uint(static_cast<float>(number)) >> 16;
  if (kind == 2) return __float_as_uint(static_cast<float>(number)) | 0x1fff; /* the low bits do not count */
  unsigned bits = __float_as_uint(static_cast<float>(number));
  if (!number) return 0;
  return (bits >> 16 & 0x8000) | ((bits >> 23 & 255) - 112) << 10 | (bits >> 13 & 1023);
}

void float_products_are_right(void **state) {
  cuda_fixture *cuda = fixture(state);
  const layout a_16x16 = {{{4, 32}, {8, 1}}, {{2, 16}, {2, 8}, {2, 128}}},
               b_8x16 = {{{4, 16}, {8, 1}}, {{2, 8}, {2, 64}}};
  const layout a_16x8 = {{{4, 16}, {8, 1}}, {{2, 8}, {2, 64}}}, b_8x8 = {{{4, 8}, {8, 1}}, {{2, 32}}};
  for (int kind = 0; kind < 3; kind++) {
    int k_size = kind == 2 ? 8 : 16, bits = kind == 2 ? 32 : 16, row_words = 8;
    std::vector<unsigned> a(16 * k_size), b(8 * k_size);
    auto number_a = [](int place) { return place * 7 % 31 - 15; };
    auto number_b = [](int place) { return place * 5 % 17 - 8; };
    for (int i = 0; i < 16 * k_size; i++) a[i] = encode(kind, number_a(i));
    for (int i = 0; i < 8 * k_size; i++) b[i] = encode(kind, number_b(i));
    std::vector<float_registers> in(32);
    scatter(a, kind == 2 ? a_16x8 : a_16x16, bits, 32, 16 * row_words / 32, in[0].a, sizeof in[0] / 4);
    scatter(b, kind == 2 ? b_8x8 : b_8x16, bits, 32, 8 * row_words / 32, in[0].b, sizeof in[0] / 4);
    for (int t = 0; t < 32; t++)
      for (int i = 0; i < 4; i++) in[t].c[i] = static_cast<float>(t - 9 * i);
    CUdeviceptr input = upload(cuda, in), output = new_memory(128 * sizeof(float));
    launch(cuda, "test_float_mma", {1}, {32}, 0, {&input, &output, &kind});
    std::vector<float> d = read<float>(cuda, output, 128);
    for (int t = 0; t < 32; t++)
      for (int i = 0; i < 4; i++) {
        int place = SUMS_16.of(t, i), sum = t - 9 * i;
        for (int k = 0; k < k_size; k++) sum += number_a(place % 16 + 16 * k) * number_b(place / 16 + 8 * k);
        assert_true(d[4 * t + i] == static_cast<float>(sum));
      }
  }
}

/* The PTX ISA's tables of ldmatrix: thread t has elements 2 (t % 4) and + 1 of row t / 4. */
void ldmatrix_spreads_rows(void **state) {
  cuda_fixture *cuda = fixture(state);
  std::vector<unsigned short> rows(256);
  for (int i = 0; i < 256; i++) rows[i] = static_cast<unsigned short>(40503 * i);
  CUdeviceptr in = upload(cuda, rows), out = new_memory(128 * sizeof(unsigned));
  for (int count : {1, 2, 4})
    for (int transposed : {0, 1}) {
      launch(cuda, "test_ldmatrix", {1}, {32}, 512, {&in, &out, &count, &transposed});
      std::vector<unsigned> got = read<unsigned>(cuda, out, 128);
      for (int t = 0; t < 32; t++)
        for (int i = 0; i < count; i++)
          for (int half = 0; half < 2; half++) {
            int row = t / 4, column = 2 * (t % 4) + half;
            int place = transposed ? 64 * i + 8 * column + row : 64 * i + 8 * row + column;
            assert_int_equal(got[4 * t + i] >> 16 * half & 0xffff, rows[place]);
          }
    }
}

/* ---- wgmma ---- */

/* Canonical K-major layouts of the PTX ISA in units of 16 bytes, before swizzling: rows of 1, 2, 4 or 8 units. */
struct shared_layout {
  const char *name;
  int swizzle_code, row_units, swizzle_bits;
};

const shared_layout layouts[] = {
    {"none", 0, 1, 0}, {"32 bytes", 3, 2, 1}, {"64 bytes", 2, 4, 2}, {"128 bytes", 1, 8, 3}};

/* Where 16 bytes of a row lie: CuTe's Swizzle<bits, 4, 3> on byte addresses of ((8, rows / 8), (16, 2)). */
int unit_address(const shared_layout &how, int start, int row, int unit, int leading, int stride) {
  int address = start + row / 8 * stride + row % 8 * how.row_units * 16 + unit * (how.swizzle_bits ? 16 : leading);
  int mask = (1 << how.swizzle_bits) - 1;
  return address ^ ((address >> 7) & mask) << 4;
}

unsigned long long descriptor(const shared_layout &how, int start, int leading, int stride) {
  return static_cast<unsigned long long>(how.swizzle_code) << 62 | static_cast<unsigned long long>(stride / 16) << 32 |
         static_cast<unsigned long long>(leading / 16) << 16 | static_cast<unsigned long long>(start / 16);
}

struct wgmma_case {
  int n, kind;
  const shared_layout *how;
};

void check_wgmma(cuda_fixture *cuda, const wgmma_case &of, unsigned seed) {
  const layout sums = {{{4, 128}, {8, 1}, {4, 16}}, {{2, 64}, {2, 8}, {32, 512}}};
  const layout a_bytes = {{{4, 256}, {8, 1}, {4, 16}}, {{4, 64}, {2, 8}, {2, 1024}}}; /* ALayout_64x32 */
  const shared_layout &how = *of.how;
  int stride = how.swizzle_bits ? 128 * how.row_units : 256, leading = 128; /* each 8 rows: one brick, or two columns */
  int start_b = 16384, bytes = start_b + 32 * stride;
  std::vector<unsigned> a = draw(64 * 32, 8, &seed), b = draw(of.n * 32, 8, &seed);
  std::vector<unsigned char> shared(bytes);
  for (int k = 0; k < 32; k++) {
    for (int row = 0; row < 64; row++)
      shared[unit_address(how, 0, row, k / 16, leading, stride) + k % 16] = static_cast<unsigned char>(a[row + 64 * k]);
    for (int row = 0; row < of.n; row++)
      shared[unit_address(how, start_b, row, k / 16, leading, stride) + k % 16] =
          static_cast<unsigned char>(b[row + of.n * k]);
  }
  std::vector<unsigned> a_registers(4 * 128);
  scatter(a, a_bytes, 8, 128, 4, a_registers.data(), 4);
  wgmma_call call = {of.n, of.kind, descriptor(how, 0, leading, stride), descriptor(how, start_b, leading, stride),
                     0,    bytes};
  CUdeviceptr operands = upload(cuda, shared), registers_in = upload(cuda, a_registers);
  CUdeviceptr out = new_memory(128 * REGISTERS_MOST * sizeof(int));
  launch(cuda, "test_wgmma", {1}, {128}, static_cast<unsigned>(bytes), {&operands, &registers_in, &out, &call});
  std::vector<int> d = read<int>(cuda, out, 128 * REGISTERS_MOST);
  for (int t = 0; t < 128; t++)
    for (int i = 0; i < of.n / 2; i++) {
      int place = sums.of(t, i), row = place % 64, column = place / 64, sum = of.kind == 6 ? 0 : t + i;
      for (int k = 0; k < 32; k++) {
        unsigned x = a[row + 64 * k], y = b[column + of.n * k];
        if (of.kind % 4 == 2)
          sum += __builtin_popcount(x & y);
        else
          sum += value(x, 8, of.kind == 1) * value(y, 8, true);
      }
      if (d[REGISTERS_MOST * t + i] != sum)
        print_error("n = %d, kind %d, swizzle %s: thread %d, register %d\n", of.n, of.kind, how.name, t, i);
      assert_int_equal(d[REGISTERS_MOST * t + i], sum);
    }
  for (CUdeviceptr at : {operands, registers_in, out}) assert_int_equal(cuMemFree(at), CUDA_SUCCESS);
}

void warpgroup_products_are_right(void **state) {
  cuda_fixture *cuda = fixture(state);
  CUfunction function = nullptr;
  assert_int_equal(cuModuleGetFunction(&function, cuda->module, "test_wgmma"), CUDA_SUCCESS);
  assert_int_equal(cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 64 << 10),
                   CUDA_SUCCESS);
  for (const shared_layout &how : layouts)
    for (int n : {8, 16, 24, 32, 64, 96, 256})
      for (int kind : {0, 1, 2, 4, 6}) check_wgmma(cuda, {n, kind, &how}, 7u * n + kind);
}

} // namespace

int main() {
  const CMUnitTest tests[] = {
      CUDA_TEST(integer_products_are_right),
      CUDA_TEST(float_products_are_right),
      CUDA_TEST(ldmatrix_spreads_rows),
      CUDA_TEST(warpgroup_products_are_right),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
