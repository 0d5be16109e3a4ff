/* mma.sync and ldmatrix by the fragment layouts of the PTX ISA ("Matrix Fragments for mma.m16n8k32" and so on).
 *
 * All of them are one layout in 32-bit words: word w of row r of A (8 rows a register, 4 words a row) lies in lane
 * 4 (r % 8) + w % 4, register r / 8 + (rows of A / 8) (w / 4); B has its columns in A's place of rows; sums c, d are
 * pairs: columns 2 t and 2 t + 1 of row g in lane 4 g + t. */
#include "tests/cuda_emulator/block.h"

#include <cstring>

namespace {

template <class Sum> struct operands {
  Sum *d;
  const unsigned *a, *b;
  const Sum *c;
};

/* A and B as words along k: [row or column][word]. */
template <int M, int WORDS> struct gathered { unsigned a[M][WORDS], b[8][WORDS]; };

template <class Sum, int M, int WORDS> void gather(void *const lane[32], gathered<M, WORDS> *all) {
  for (int i = 0; i < 32; i++) {
    const auto *mine = static_cast<const operands<Sum> *>(lane[i]);
    for (int word = 0; word < WORDS; word += 4) {
      for (int half = 0; half < M / 8; half++)
        all->a[i / 4 + 8 * half][word + i % 4] = mine->a[half + M / 8 * (word / 4)];
      all->b[i / 4][word + i % 4] = mine->b[word / 4];
    }
  }
}

/* d = c + product(row of A, column of B). */
template <class Sum, int M, int WORDS, class Product> void multiply(void *const lane[32], Product product) {
  gathered<M, WORDS> all;
  gather<Sum>(lane, &all);
  for (int i = 0; i < 32; i++) {
    const auto *mine = static_cast<const operands<Sum> *>(lane[i]);
    for (int j = 0; j < M / 4; j++) {
      int row = i / 4 + 8 * (j / 2), column = 2 * (i % 4) + j % 2;
      mine->d[j] = product(all.a[row], all.b[column], mine->c[j]);
    }
  }
}

/* The codes of a row. Bytes by a loop of its own, which the compiler makes vectors of (hosts are little-endian). */
template <int BITS, bool SIGNED, int K> void unpack(const unsigned *words, short (&codes)[K]) {
  if constexpr (BITS == 8) {
    signed char bytes[K];
    memcpy(bytes, words, sizeof bytes);
    for (int k = 0; k < K; k++) codes[k] = static_cast<short>(SIGNED ? bytes[k] : bytes[k] & 0xff);
  } else {
    enum { PER_WORD = 32 / BITS };
    for (int k = 0; k < K; k++) {
      unsigned value = words[k / PER_WORD] >> (BITS * (k % PER_WORD)) & ((1u << BITS) - 1);
      bool negative = SIGNED && value >> (BITS - 1);
      codes[k] = static_cast<short>(static_cast<int>(value) - (negative ? 1 << BITS : 0));
    }
  }
}

/* Codes of rows and columns side by side: the compiler makes vector products of it. Sums wrap around. */
template <int M, int WORDS, int BITS, bool A_SIGNED, bool B_SIGNED> void integer_mma(void *const lane[32]) {
  enum { CODES = 32 / BITS, K = WORDS * CODES };
  gathered<M, WORDS> all;
  gather<int>(lane, &all);
  short a[M][K], b[8][K];
  for (int i = 0; i < M; i++) unpack<BITS, A_SIGNED>(all.a[i], a[i]);
  for (int i = 0; i < 8; i++) unpack<BITS, B_SIGNED>(all.b[i], b[i]);
  for (int i = 0; i < 32; i++) {
    const auto *mine = static_cast<const operands<int> *>(lane[i]);
    for (int j = 0; j < M / 4; j++) {
      const short *row = a[i / 4 + 8 * (j / 2)], *column = b[2 * (i % 4) + j % 2];
      int sum = 0;
      for (int k = 0; k < K; k++) sum += row[k] * column[k];
      mine->d[j] = static_cast<int>(static_cast<unsigned>(mine->c[j]) + static_cast<unsigned>(sum));
    }
  }
}

template <int M, int WORDS, bool XOR> void bit_mma(void *const lane[32]) {
  multiply<int, M, WORDS>(lane, [](const unsigned *a, const unsigned *b, int c) {
    unsigned sum = static_cast<unsigned>(c);
    for (int k = 0; k < WORDS; k++) sum += static_cast<unsigned>(__builtin_popcount(XOR ? a[k] ^ b[k] : a[k] & b[k]));
    return static_cast<int>(sum);
  });
}

/* The high bits of a float: bf16, and tf32, whose lower 13 bits the device ignores. */
float bf16(unsigned half) {
  return __uint_as_float(half << 16);
}

float tf32(unsigned word) {
  return __uint_as_float(word & 0xffffe000u);
}

float f16(unsigned half) {
  unsigned exponent = half >> 10 & 31, fraction = half & 1023;
  float size = exponent == 31 ? (fraction ? NAN : INFINITY)
               : exponent     ? ldexpf(static_cast<float>(fraction + 1024), static_cast<int>(exponent) - 25)
                              : ldexpf(static_cast<float>(fraction), -24);
  return half & 0x8000 ? -size : size;
}

template <float (*VALUE)(unsigned)> void half_mma(void *const lane[32]) {
  multiply<float, 16, 8>(lane, [](const unsigned *a, const unsigned *b, float sum) {
    for (int k = 0; k < 8; k++) {
      sum += VALUE(a[k] & 0xffff) * VALUE(b[k] & 0xffff);
      sum += VALUE(a[k] >> 16) * VALUE(b[k] >> 16);
    }
    return sum;
  });
}

void tf32_mma(void *const lane[32]) {
  multiply<float, 16, 8>(lane, [](const unsigned *a, const unsigned *b, float sum) {
    for (int k = 0; k < 8; k++) sum += tf32(a[k]) * tf32(b[k]);
    return sum;
  });
}

template <class Sum>
void run(void (*compute)(void *const *), Sum *d, const unsigned *a, const unsigned *b, const Sum *c) {
  operands<Sum> mine = {d, a, b, c};
  emulate_warp(compute, &mine);
}

/* ---- ldmatrix ---- */

struct row_address {
  const void *row;
  unsigned *d;
};

template <int MATRICES, bool TRANSPOSED> void load_matrices(void *const lane[32]) {
  for (int matrix = 0; matrix < MATRICES; matrix++) {
    unsigned short element[8][8];
    for (int row = 0; row < 8; row++)
      memcpy(element[row], static_cast<const row_address *>(lane[8 * matrix + row])->row, sizeof element[row]);
    for (int i = 0; i < 32; i++) {
      int row = i / 4, column = 2 * (i % 4);
      unsigned low = TRANSPOSED ? element[column][row] : element[row][column];
      unsigned high = TRANSPOSED ? element[column + 1][row] : element[row][column + 1];
      static_cast<const row_address *>(lane[i])->d[matrix] = low | high << 16;
    }
  }
}

template <int MATRICES, bool TRANSPOSED> void ldmatrix(unsigned *d, const void *row) {
  if (emulated_lane() < 8 * MATRICES && reinterpret_cast<uintptr_t>(row) % 16)
    block_fail("ldmatrix from an address that is not a multiple of 16");
  row_address mine = {row, d};
  emulate_warp(load_matrices<MATRICES, TRANSPOSED>, &mine);
}

enum { u8, s8, u4 = u8, s4 = s8 }; /* whether signed */

} // namespace

/* name(compute, registers of d, of a, of b) */
#define DEFINE_MMA(Sum, name, D, A, B, ...)                                                                            \
  void emulated_mma_##name(Sum d[D], const unsigned a[A], const unsigned b[B], const Sum c[D]) {                       \
    run<Sum>(__VA_ARGS__, d, a, b, c);                                                                                 \
  }
#define DEFINE_S8(A, B)                                                                                                \
  DEFINE_MMA(int, m16n8k32_##A##B, 4, 4, 2, integer_mma<16, 8, 8, A, B>)                                               \
  DEFINE_MMA(int, m16n8k16_##A##B, 4, 2, 1, integer_mma<16, 4, 8, A, B>)                                               \
  DEFINE_MMA(int, m8n8k16_##A##B, 2, 1, 1, integer_mma<8, 4, 8, A, B>)
EMULATED_EACH_S8_PAIR(DEFINE_S8)
#define DEFINE_S4(A, B)                                                                                                \
  DEFINE_MMA(int, m16n8k64_##A##B, 4, 4, 2, integer_mma<16, 8, 4, A, B>)                                               \
  DEFINE_MMA(int, m8n8k32_##A##B, 2, 1, 1, integer_mma<8, 4, 4, A, B>)
EMULATED_EACH_S4_PAIR(DEFINE_S4)
DEFINE_MMA(int, m16n8k256_and_popc, 4, 4, 2, bit_mma<16, 8, false>)
DEFINE_MMA(int, m16n8k256_xor_popc, 4, 4, 2, bit_mma<16, 8, true>)
DEFINE_MMA(int, m16n8k128_and_popc, 4, 2, 1, bit_mma<16, 4, false>)
DEFINE_MMA(int, m16n8k128_xor_popc, 4, 2, 1, bit_mma<16, 4, true>)
DEFINE_MMA(int, m8n8k128_xor_popc, 2, 1, 1, bit_mma<8, 4, true>)
DEFINE_MMA(float, m16n8k16_f16, 4, 4, 2, half_mma<f16>)
DEFINE_MMA(float, m16n8k16_bf16, 4, 4, 2, half_mma<bf16>)
DEFINE_MMA(float, m16n8k8_tf32, 4, 4, 2, tf32_mma)

#define DEFINE_LDMATRIX(count)                                                                                         \
  void emulated_ldmatrix_x##count(unsigned d[count], const void *row) {                                                \
    ldmatrix<count, false>(d, row);                                                                                    \
  }                                                                                                                    \
  void emulated_ldmatrix_x##count##_trans(unsigned d[count], const void *row) {                                        \
    ldmatrix<count, true>(d, row);                                                                                     \
  }
DEFINE_LDMATRIX(1)
DEFINE_LDMATRIX(2)
DEFINE_LDMATRIX(4)
