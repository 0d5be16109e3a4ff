/* wgmma: products of 64 x n from shared memory, made by the wait that covers them. */
#include "tests/cuda_emulator/block.h"

#include <cstring>

namespace {

enum { ROWS = 64, COLUMNS_MOST = 256, K_BYTES = 32, WARPGROUPS = BLOCK_MOST / WARPGROUP };

/* Sum of products of 32 bytes of a row of A and of a column of B. */
typedef int (*dot_function)(const unsigned char *a, const unsigned char *b);

struct product {
  int n, accumulate, group;
  bool a_in_registers;
  unsigned long long a_descriptor, b_descriptor;
  dot_function dot;
  int *d[WARPGROUP];
  unsigned a[WARPGROUP][4];
};

struct pending {
  std::vector<product> products;
  int groups; /* committed */
} warpgroup[WARPGROUPS];

/* What a thread brings to an instruction. */
struct call {
  product of; /* d[0] and a[0] are the caller's */
};

pending *mine() {
  return &warpgroup[block_now->number / WARPGROUP];
}

template <bool A_SIGNED, bool B_SIGNED> int dot_bytes(const unsigned char *a, const unsigned char *b) {
  int sum = 0;
  for (int k = 0; k < K_BYTES; k++)
    sum += (A_SIGNED ? static_cast<signed char>(a[k]) : a[k]) * (B_SIGNED ? static_cast<signed char>(b[k]) : b[k]);
  return sum;
}

int dot_bits(const unsigned char *a, const unsigned char *b) {
  int sum = 0;
  for (int k = 0; k < K_BYTES; k++) sum += __builtin_popcount(a[k] & b[k]);
  return sum;
}

/* Address in the shared window of 16 bytes: chunk `chunk` (of two) of row `row` of a K-major operand. Core matrices are
 * 8 rows; without swizzle each is 128 bytes in a row, the second chunk `leading` bytes on; with it rows lie 32, 64 or
 * 128 bytes apart and address bits 7.. are folded into bits 4..; groups of 8 rows lie `stride` bytes apart. */
unsigned chunk_address(unsigned long long descriptor, int row, int chunk) {
  auto start = static_cast<unsigned>(descriptor & 0x3fff) << 4;
  auto leading = static_cast<unsigned>(descriptor >> 16 & 0x3fff) << 4;
  auto stride = static_cast<unsigned>(descriptor >> 32 & 0x3fff) << 4;
  auto swizzle = static_cast<unsigned>(descriptor >> 62);
  auto of_row = static_cast<unsigned>(row), of_chunk = static_cast<unsigned>(chunk);
  if (swizzle == 0) return start + of_row / 8 * stride + of_row % 8 * 16 + of_chunk * leading;
  unsigned bits = 4 - swizzle; /* 1: 128 bytes, 3 bits; 2: 64 bytes, 2; 3: 32 bytes, 1 */
  unsigned address = start + of_row / 8 * stride + of_row % 8 * (16u << bits) + of_chunk * 16;
  return address ^ (address >> 7 & ((1u << bits) - 1)) << 4;
}

void read_operand(unsigned long long descriptor, int rows, unsigned char (*to)[K_BYTES]) {
  if (descriptor >> 49 & 7) block_fail("wgmma: a matrix descriptor with a base offset is not emulated");
  for (int row = 0; row < rows; row++)
    for (int chunk = 0; chunk < 2; chunk++) {
      const unsigned char *from = block_dynamic_shared(chunk_address(descriptor, row, chunk) - SHARED_WINDOW, 16);
      if (!from) block_fail("wgmma: a matrix descriptor points outside dynamic shared memory");
      memcpy(to[row] + 16 * chunk, from, 16);
    }
}

/* As four fragments of 16 rows, one a warp: the layout of mma.m16n8k32's A. */
void spread_registers(const product &of, unsigned char (*to)[K_BYTES]) {
  for (int i = 0; i < WARPGROUP; i++)
    for (int r = 0; r < 4; r++) {
      int row = i / 32 * 16 + i % 32 / 4 + 8 * (r % 2), column = 4 * (i % 4) + 16 * (r / 2);
      memcpy(to[row] + column, &of.a[i][r], 4);
    }
}

void run(const product &of) {
  static unsigned char a[ROWS][K_BYTES], b[COLUMNS_MOST][K_BYTES];
  if (of.a_in_registers)
    spread_registers(of, a);
  else
    read_operand(of.a_descriptor, ROWS, a);
  read_operand(of.b_descriptor, of.n, b);
  for (int i = 0; i < WARPGROUP; i++)
    for (int j = 0; j < of.n / 2; j++) {
      int row = i / 32 * 16 + i % 32 / 4 + 8 * (j / 2 % 2), column = 8 * (j / 4) + 2 * (i % 4) + j % 2;
      auto sum = static_cast<unsigned>(of.accumulate ? of.d[i][j] : 0);
      of.d[i][j] = static_cast<int>(sum + static_cast<unsigned>(of.dot(a[row], b[column])));
    }
}

void issue(void *const thread[128]) {
  const product &first = static_cast<const call *>(thread[0])->of;
  product all = first;
  for (int i = 0; i < WARPGROUP; i++) {
    const product &of = static_cast<const call *>(thread[i])->of;
    if (of.n != first.n || of.accumulate != first.accumulate || of.b_descriptor != first.b_descriptor ||
        of.a_descriptor != first.a_descriptor || of.dot != first.dot)
      block_fail("wgmma: threads of a warpgroup differ in their descriptors");
    all.d[i] = of.d[0];
    memcpy(all.a[i], of.a[0], sizeof all.a[i]);
  }
  pending *at = mine();
  all.group = at->groups;
  at->products.push_back(all);
}

/* The integer forms have n in steps of 8 to 24, 32, and of 16 from there on. */
void start(int n, int *d, const unsigned *a_registers, unsigned long long a, unsigned long long b, int accumulate,
           dot_function dot) {
  if (n < 8 || n > COLUMNS_MOST || n % 8 || (n > 32 && n % 16))
    block_fail("wgmma: PTX has no integer form of n = %d", n);
  static call of[BLOCK_MOST];
  call *own = &of[block_now->number];
  own->of.n = n;
  own->of.accumulate = accumulate != 0;
  own->of.a_in_registers = a_registers != nullptr;
  own->of.a_descriptor = a;
  own->of.b_descriptor = b;
  own->of.dot = dot;
  own->of.d[0] = d;
  if (a_registers) memcpy(own->of.a[0], a_registers, sizeof own->of.a[0]);
  emulate_warpgroup(issue, own);
}

void commit(void *const *) {
  mine()->groups++;
}

void wait(void *const thread[128]) {
  pending *at = mine();
  int done = at->groups - *static_cast<const int *>(thread[0]);
  size_t left = 0;
  for (const product &of : at->products) {
    if (of.group < done)
      run(of);
    else
      at->products[left++] = of;
  }
  at->products.resize(left);
}

} // namespace

void wgmma_reset() {
  for (auto &at : warpgroup) {
    at.products.clear();
    at.groups = 0;
  }
}

void emulated_wgmma_fence() {}

void emulated_wgmma_commit() {
  int nothing = 0;
  emulate_warpgroup(commit, &nothing);
}

void emulated_wgmma_wait(int groups) {
  emulate_warpgroup(wait, &groups);
}

unsigned emulated_shared_address(const void *shared) {
  if (!block_in_dynamic_shared(shared, 1)) block_fail("a shared address outside dynamic shared memory is not emulated");
  return static_cast<unsigned>(static_cast<const unsigned char *>(shared) - block_dynamic_shared(0, 1)) + SHARED_WINDOW;
}

namespace {
enum { u8, s8 };
}

#define DEFINE_WGMMA(name, ...)                                                                                        \
  void emulated_wgmma_##name(int n, int *d, unsigned long long a, unsigned long long b, int accumulate) {              \
    start(n, d, nullptr, a, b, accumulate, __VA_ARGS__);                                                               \
  }
#define DEFINE_WGMMA_RA(name, ...)                                                                                     \
  void emulated_wgmma_##name(int n, int *d, const unsigned a[4], unsigned long long b, int accumulate) {               \
    start(n, d, a, 0, b, accumulate, __VA_ARGS__);                                                                     \
  }
#define DEFINE_PAIR(A, B)                                                                                              \
  DEFINE_WGMMA(k32_##A##B, dot_bytes<A, B>)                                                                            \
  DEFINE_WGMMA_RA(k32_ra_##A##B, dot_bytes<A, B>)
EMULATED_EACH_S8_PAIR(DEFINE_PAIR)
DEFINE_WGMMA(k256_and_popc, dot_bits)
DEFINE_WGMMA_RA(k256_ra_and_popc, dot_bits)
