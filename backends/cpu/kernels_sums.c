/* Kernels of int_channel_sums: sums over pixels of codes and of products of codes, by channel. Compiled once an
 * instruction set. */
#include "backends/cpu/kernels_isa.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

enum {
  TILE = 16,  /* channels whose sums stay in registers */
  PART = 128, /* pixels whose products of a byte and half a word add up to less than 2^31: 255 * 65535 * 128 */
  HALF = 16   /* bits of half a word */
};

/* Sums of a tile's channels: s32 in registers. The compiler splits what is longer than its registers. */
typedef int32_t words __attribute__((vector_size(TILE * sizeof(int32_t))));

#ifdef __AVX512F__
#define WIDEN(name, code, convert)                                                                                     \
  CPU_INLINE void name(words *to, const code *from) {                                                                  \
    *to = (words)_mm512_##convert(_mm_loadu_si128((const __m128i *)from));                                             \
  }
#elif defined(__AVX2__)
#define WIDEN(name, code, convert)                                                                                     \
  CPU_INLINE void name(words *to, const code *from) {                                                                  \
    __m256i half[2] = {_mm256_##convert(_mm_loadl_epi64((const __m128i *)from)),                                       \
                       _mm256_##convert(_mm_loadl_epi64((const __m128i *)(from + TILE / 2)))};                         \
    memcpy(to, half, sizeof *to);                                                                                      \
  }
#else
#define WIDEN(name, code, convert)                                                                                     \
  CPU_INLINE void name(words *to, const code *from) {                                                                  \
    for (int k = 0; k < TILE; k++) (*to)[k] = from[k];                                                                 \
  }
#endif
WIDEN(load_u8, uint8_t, cvtepu8_epi32)
WIDEN(load_s8, int8_t, cvtepi8_epi32)
CPU_INLINE void load_s32(words *to, const int32_t *from) {
  memcpy(to, from, sizeof *to);
}

/* total[k] += from[k] * 2^shift */
CPU_INLINE void add_up(uint64_t *total, const words *from, int shift) {
  for (int k = 0; k < TILE; k++) total[k] += (uint64_t)(int64_t)(*from)[k] << shift;
}

/* A tile of so many pixels that products of bytes add up to less than 2^31. */
#define BYTES(name, left, load_left, right, load_right)                                                                \
  CPU_INLINE void name(const left *a, const right *b, int64_t pixels, int64_t channels, uint64_t *sum,                 \
                       uint64_t *product) {                                                                            \
    words s = {0}, p = {0}, x, y;                                                                                      \
    for (int64_t i = 0; i < pixels; i++, a += channels, b += channels) {                                               \
      load_left(&x, a), load_right(&y, b);                                                                             \
      s += x, p += x * y;                                                                                              \
    }                                                                                                                  \
    add_up(sum, &s, 0), add_up(product, &p, 0);                                                                        \
  }
BYTES(tile_u8_u8, uint8_t, load_u8, uint8_t, load_u8)
BYTES(tile_u8_s8, uint8_t, load_u8, int8_t, load_s8)
BYTES(tile_s8_u8, int8_t, load_s8, uint8_t, load_u8)
BYTES(tile_s8_s8, int8_t, load_s8, int8_t, load_s8)

/* Words by their halves, part by part; `own`: the word's own sum is wanted, else the byte's. */
#define MIXED(name, byte, load_byte, own)                                                                              \
  CPU_INLINE void name(const byte *a, const int32_t *b, int64_t pixels, int64_t channels, uint64_t *sum,               \
                       uint64_t *product) {                                                                            \
    for (int64_t done = 0; done < pixels; done += PART) {                                                              \
      words low = {0}, high = {0}, s_low = {0}, s_high = {0}, x, y;                                                    \
      for (int64_t i = done, end = smaller(done + PART, pixels); i < end; i++, a += channels, b += channels) {         \
        load_byte(&x, a), load_s32(&y, b);                                                                             \
        low += x * (y & UINT16_MAX), high += x * (y >> HALF);                                                          \
        s_low += own ? y & UINT16_MAX : x;                                                                             \
        if (own) s_high += y >> HALF;                                                                                  \
      }                                                                                                                \
      add_up(product, &low, 0), add_up(product, &high, HALF);                                                          \
      add_up(sum, &s_low, 0);                                                                                          \
      if (own) add_up(sum, &s_high, HALF);                                                                             \
    }                                                                                                                  \
  }
MIXED(tile_u8_s32, uint8_t, load_u8, 0)
MIXED(tile_s8_s32, int8_t, load_s8, 0)
MIXED(tile_u8_own, uint8_t, load_u8, 1)
MIXED(tile_s8_own, int8_t, load_s8, 1)

CPU_INLINE void tile_s32_u8(const int32_t *a, const uint8_t *b, int64_t pixels, int64_t channels, uint64_t *sum,
                            uint64_t *product) {
  tile_u8_own(b, a, pixels, channels, sum, product);
}
CPU_INLINE void tile_s32_s8(const int32_t *a, const int8_t *b, int64_t pixels, int64_t channels, uint64_t *sum,
                            uint64_t *product) {
  tile_s8_own(b, a, pixels, channels, sum, product);
}

#ifdef __AVX512F__
/* Even and odd channels by themselves, as products of words come. */
CPU_INLINE void tile_s32_s32(const int32_t *a, const int32_t *b, int64_t pixels, int64_t channels, uint64_t *sum,
                             uint64_t *product) {
  __m512i total[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  const __m512i one = _mm512_set1_epi64(1);
  uint64_t part[4][TILE / 2];
  for (int64_t i = 0; i < pixels; i++, a += channels, b += channels) {
    __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b), odd = _mm512_srli_epi64(x, 32);
    total[0] = _mm512_add_epi64(total[0], _mm512_mul_epi32(x, one));
    total[1] = _mm512_add_epi64(total[1], _mm512_mul_epi32(odd, one));
    total[2] = _mm512_add_epi64(total[2], _mm512_mul_epi32(x, y));
    total[3] = _mm512_add_epi64(total[3], _mm512_mul_epi32(odd, _mm512_srli_epi64(y, 32)));
  }
  for (int k = 0; k < 4; k++) _mm512_storeu_si512(part[k], total[k]);
  for (int k = 0; k < TILE; k++) sum[k] += part[k % 2][k / 2], product[k] += part[2 + k % 2][k / 2];
}
#else
CPU_INLINE void tile_s32_s32(const int32_t *a, const int32_t *b, int64_t pixels, int64_t channels, uint64_t *sum,
                             uint64_t *product) {
  uint64_t s[TILE] = {0}, p[TILE] = {0};
  for (int64_t i = 0; i < pixels; i++, a += channels, b += channels) CPU_SIMD for (int k = 0; k < TILE; k++) {
      s[k] += (uint64_t)a[k];
      p[k] += (uint64_t)a[k] * (uint64_t)b[k];
    }
  for (int k = 0; k < TILE; k++) sum[k] += s[k], product[k] += p[k];
}
#endif

/* Channels beyond the last whole tile one by one. */
#define SUMS(end, left, right)                                                                                         \
  static void sums_##end(const qe_call *call, int64_t first, int64_t last, uint64_t *sum, uint64_t *product) {         \
    int64_t channels = call->operand[0].desc.dim[QE_C], c = 0;                                                         \
    const left *a = (const left *)call->operand[0].data + first * channels;                                            \
    const right *b = (const right *)call->operand[1].data + first * channels;                                          \
    for (; c + TILE <= channels; c += TILE) tile_##end(a + c, b + c, last - first, channels, sum + c, product + c);    \
    for (; c < channels; c++)                                                                                          \
      for (int64_t i = 0; i < last - first; i++) {                                                                     \
        sum[c] += (uint64_t)a[i * channels + c];                                                                       \
        product[c] += (uint64_t)a[i * channels + c] * (uint64_t)b[i * channels + c];                                   \
      }                                                                                                                \
  }
SUMS(u8_u8, uint8_t, uint8_t)
SUMS(u8_s8, uint8_t, int8_t)
SUMS(s8_u8, int8_t, uint8_t)
SUMS(s8_s8, int8_t, int8_t)
SUMS(u8_s32, uint8_t, int32_t)
SUMS(s8_s32, int8_t, int32_t)
SUMS(s32_u8, int32_t, uint8_t)
SUMS(s32_s8, int32_t, int8_t)
SUMS(s32_s32, int32_t, int32_t)

void CPU_NAME(channel_sums)(const qe_call *call, int64_t first, int64_t last, uint64_t *sum, uint64_t *product) {
  static const cpu_sums_kernel table[QE_DTYPES][QE_DTYPES] = {
      [QE_U8] = {[QE_U8] = sums_u8_u8, [QE_S8] = sums_u8_s8, [QE_S32] = sums_u8_s32},
      [QE_S8] = {[QE_U8] = sums_s8_u8, [QE_S8] = sums_s8_s8, [QE_S32] = sums_s8_s32},
      [QE_S32] = {[QE_U8] = sums_s32_u8, [QE_S8] = sums_s32_s8, [QE_S32] = sums_s32_s32}};
  table[call->operand[0].desc.dtype][call->operand[1].desc.dtype](call, first, last, sum, product);
}
