/* One vector of 2 * LANES bytes under one name for every instruction set. All 16-bit and 32-bit shuffles work within
 * 16-byte lanes, as AVX2 and AVX-512 do. */
#ifndef QE_BACKENDS_CPU_LANE_VEC_H
#define QE_BACKENDS_CPU_LANE_VEC_H

#include "backends/cpu/kernels_isa.h"
#include "backends/cpu/lanes.h"

#if defined(__AVX512BW__)
#include <immintrin.h>
enum { LANES = 32, VEC = 64 };
typedef __m512i vec;
#define VEC_OP(name) _mm512_##name
CPU_INLINE vec vec_load(const void *p) {
  return _mm512_loadu_si512(p);
}
CPU_INLINE void vec_store(void *p, vec v) {
  _mm512_storeu_si512(p, v);
}
CPU_INLINE vec vec_zero(void) {
  return _mm512_setzero_si512();
}
CPU_INLINE vec vec_or(vec a, vec b) {
  return _mm512_or_si512(a, b);
}
CPU_INLINE vec vec_and(vec a, vec b) {
  return _mm512_and_si512(a, b);
}
CPU_INLINE vec vec_xor(vec a, vec b) {
  return _mm512_xor_si512(a, b);
}
#elif defined(__AVX2__)
#include <immintrin.h>
enum { LANES = 16, VEC = 32 };
typedef __m256i vec;
#define VEC_OP(name) _mm256_##name
CPU_INLINE vec vec_load(const void *p) {
  return _mm256_loadu_si256((const __m256i *)p);
}
CPU_INLINE void vec_store(void *p, vec v) {
  _mm256_storeu_si256((__m256i *)p, v);
}
CPU_INLINE vec vec_zero(void) {
  return _mm256_setzero_si256();
}
CPU_INLINE vec vec_or(vec a, vec b) {
  return _mm256_or_si256(a, b);
}
CPU_INLINE vec vec_and(vec a, vec b) {
  return _mm256_and_si256(a, b);
}
CPU_INLINE vec vec_xor(vec a, vec b) {
  return _mm256_xor_si256(a, b);
}
#else
enum { LANES = 16, VEC = 32 };
/* Two of the 16-byte vectors that nearly every processor has; the compiler makes what it can of them. */
enum { VEC_HALF = 16 };
typedef uint8_t vec_u8 __attribute__((vector_size(VEC_HALF)));
typedef int8_t vec_s8 __attribute__((vector_size(VEC_HALF)));
typedef uint16_t vec_u16 __attribute__((vector_size(VEC_HALF)));
typedef int16_t vec_s16 __attribute__((vector_size(VEC_HALF)));
typedef uint32_t vec_u32 __attribute__((vector_size(VEC_HALF)));
typedef int32_t vec_s32 __attribute__((vector_size(VEC_HALF)));
typedef struct vec {
  vec_u8 half[2];
} vec;
/* CPU_INLINE vec vec_NAME(vec a, vec b) from an expression of the halves a and b as vectors of TYPE. */
#define VEC_BINARY(name, type, expression)                                                                             \
  CPU_INLINE vec_u8 vec_half_##name(type a, type b) {                                                                  \
    return (vec_u8)(expression);                                                                                       \
  }                                                                                                                    \
  CPU_INLINE vec vec_##name(vec a, vec b) {                                                                            \
    return (vec){                                                                                                      \
        {vec_half_##name((type)a.half[0], (type)b.half[0]), vec_half_##name((type)a.half[1], (type)b.half[1])}};       \
  }
#define VEC_SHIFT(name, type, expression)                                                                              \
  CPU_INLINE vec_u8 vec_half_##name(type a, int k) {                                                                   \
    return (vec_u8)(expression);                                                                                       \
  }                                                                                                                    \
  CPU_INLINE vec vec_##name(vec a, int k) {                                                                            \
    return (vec){{vec_half_##name((type)a.half[0], k), vec_half_##name((type)a.half[1], k)}};                          \
  }
#define VEC_SELECT(mask, yes, no) (((mask) & (yes)) | (~(mask) & (no)))
CPU_INLINE vec vec_load(const void *p) {
  vec v;
  memcpy(&v, p, sizeof v);
  return v;
}
CPU_INLINE void vec_store(void *p, vec v) {
  memcpy(p, &v, sizeof v);
}
CPU_INLINE vec vec_zero(void) {
  return (vec){{{0}, {0}}};
}
CPU_INLINE vec vec_set8(int v) {
  vec_u8 half = (vec_u8){0} + (uint8_t)v;
  return (vec){{half, half}};
}
CPU_INLINE vec vec_set16(int v) {
  vec_u8 half = (vec_u8)((vec_u16){0} + (uint16_t)v);
  return (vec){{half, half}};
}
CPU_INLINE vec vec_set32(int v) {
  vec_u8 half = (vec_u8)((vec_u32){0} + (uint32_t)v);
  return (vec){{half, half}};
}
/* Four bytes of memory in every 32-bit element. */
CPU_INLINE vec vec_broadcast32(const void *p) {
  int v;
  memcpy(&v, p, sizeof v);
  return vec_set32(v);
}
CPU_INLINE vec_s16 vec_half_maddubs16(vec_u16 a, vec_s16 b) {
  vec_u16 even = (a & 255) * (vec_u16)((vec_s16)((vec_u16)b << 8) >> 8);
  vec_u16 odd = (a >> 8) * (vec_u16)(b >> 8), sum = even + odd;
  vec_s16 overflow = (vec_s16)((even ^ sum) & (odd ^ sum)) >> 15;
  return VEC_SELECT(overflow, ((vec_s16)even >> 15) ^ INT16_MAX, (vec_s16)sum);
}
CPU_INLINE vec_u32 vec_half_madd32(vec_s32 a, vec_s32 b) {
  vec_s32 even = ((vec_s32)((vec_u32)a << 16) >> 16) * ((vec_s32)((vec_u32)b << 16) >> 16);
  return (vec_u32)even + (vec_u32)((a >> 16) * (b >> 16));
}
CPU_INLINE vec_s16 vec_half_clamp(vec_s32 a) {
  a = VEC_SELECT(a < INT16_MAX, a, (vec_s32){0} + INT16_MAX);
  return (vec_s16)VEC_SELECT(a > INT16_MIN, a, (vec_s32){0} + INT16_MIN);
}
CPU_INLINE vec_u8 vec_half_lookup(vec_u8 a, vec_u8 index) {
  vec_u8 result = {0};
  for (int i = 0; i < VEC_HALF; i++) result[i] = (uint8_t)(index[i] & 128 ? 0 : a[index[i] & 15]);
  return result;
}
VEC_BINARY(or, vec_u8, a | b)
VEC_BINARY(and, vec_u8, (a) & (b))
VEC_BINARY(xor, vec_u8, a ^ b)
VEC_BINARY(add8, vec_u8, a + b)
VEC_BINARY(sub8, vec_u8, a - b)
VEC_BINARY(add16, vec_u16, a + b)
VEC_BINARY(sub16, vec_u16, a - b)
VEC_BINARY(mullo16, vec_u16, (a) * (b))
VEC_BINARY(add32, vec_u32, a + b)
VEC_BINARY(sub32, vec_u32, a - b)
VEC_BINARY(min16, vec_s16, VEC_SELECT(a < b, a, b))
VEC_BINARY(max16, vec_s16, VEC_SELECT(a > b, a, b))
VEC_BINARY(min32, vec_s32, VEC_SELECT(a < b, a, b))
VEC_BINARY(max32, vec_s32, VEC_SELECT(a > b, a, b))
/* u8 a times s8 b, neighbours added, s16 with saturation. */
VEC_BINARY(maddubs, vec_u16, vec_half_maddubs16(a, (vec_s16)b))
VEC_BINARY(madd16, vec_s32, vec_half_madd32(a, b))
/* (a + b + 1) >> 1 of u16 without overflow. */
VEC_BINARY(avg16, vec_u16, (a | b) - ((a ^ b) >> 1))
VEC_BINARY(unpacklo8, vec_u8, __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23))
VEC_BINARY(unpackhi8, vec_u8,
           __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31))
VEC_BINARY(unpacklo16, vec_u16, __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11))
VEC_BINARY(unpackhi16, vec_u16, __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15))
VEC_BINARY(packs32, vec_s32, __builtin_shufflevector(vec_half_clamp(a), vec_half_clamp(b), 0, 2, 4, 6, 8, 10, 12, 14))
/* a[index mod 16] of each byte, in 16-byte lanes; 0 where the index has its top bit. */
VEC_BINARY(shuffle8, vec_u8, vec_half_lookup(a, b))
VEC_SHIFT(shl16, vec_u16, a << k)
VEC_SHIFT(shr16, vec_u16, a >> k)
VEC_SHIFT(sar16, vec_s16, a >> k)
VEC_SHIFT(shr32, vec_u32, a >> k)
VEC_SHIFT(sar32, vec_s32, a >> k)
typedef uint64_t vec_u64 __attribute__((vector_size(VEC_HALF)));
typedef int64_t vec_s64 __attribute__((vector_size(VEC_HALF)));
CPU_INLINE vec_s16 vec_half_clamp_u8(vec_s16 a) {
  const vec_s16 least = {0}, most = least + UINT8_MAX;
  a = VEC_SELECT(a > least, a, least);
  return VEC_SELECT(a < most, a, most);
}
CPU_INLINE vec_u8 vec_half_saturate(vec_s16 a, vec_s16 b) {
  vec_u8 low = (vec_u8)vec_half_clamp_u8(a), high = (vec_u8)vec_half_clamp_u8(b);
  return __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
/* a >> k of 32-bit elements, k the same in all, 0...31. */
VEC_BINARY(sarv32, vec_s32, a >> b[0])
/* Unsigned bytes; avg: (a + b + 1) >> 1. */
VEC_BINARY(min_u8, vec_u8, VEC_SELECT(a < b, a, b))
VEC_BINARY(max_u8, vec_u8, VEC_SELECT(a > b, a, b))
VEC_BINARY(avg_u8, vec_u8, (a | b) - ((a ^ b) >> 1))
/* s16 to u8 with saturation, a's in the even bytes and b's in the odd ones. */
VEC_BINARY(pairs16, vec_s16, vec_half_clamp_u8(a) | vec_half_clamp_u8(b) << 8)
/* s64 products of the even 32-bit elements. */
VEC_BINARY(mul_even32, vec_u64, (vec_u64)(((vec_s64)(a << 32) >> 32) * ((vec_s64)(b << 32) >> 32)))
VEC_BINARY(add64, vec_u64, a + b)
/* Shifts of 64-bit elements by counts of 0...63, the same in all. */
VEC_BINARY(shrv64, vec_u64, a >> b[0])
VEC_BINARY(shlv64, vec_u64, a << b[0])
/* The even 32-bit elements of a and the odd ones of b. */
VEC_BINARY(blend32, vec_u64, (a & UINT32_MAX) | (b & ~(uint64_t)UINT32_MAX))
VEC_SHIFT(shr64, vec_u64, a >> k)
VEC_SHIFT(shr16_by, vec_u16, a >> k)
VEC_SHIFT(sar16_by, vec_s16, a >> k)
/* Eight bytes of memory in every 64-bit element. */
CPU_INLINE vec vec_broadcast64(const void *p) {
  uint64_t v;
  memcpy(&v, p, sizeof v);
  vec_u8 half = (vec_u8)((vec_u64){0} + v);
  return (vec){{half, half}};
}
/* count + 1 where the s16 a > b. */
CPU_INLINE vec vec_count_above16(vec count, vec a, vec b) {
  for (int i = 0; i < 2; i++)
    count.half[i] = (vec_u8)((vec_u16)count.half[i] - (vec_u16)((vec_s16)a.half[i] > (vec_s16)b.half[i]));
  return count;
}
/* s16 to u8 with saturation, in order: in every 32 bytes, 16 of a and then 16 of b. */
CPU_INLINE vec vec_bytes16(vec a, vec b) {
  vec_u8 first = vec_half_saturate((vec_s16)a.half[0], (vec_s16)a.half[1]);
  vec_u8 second = vec_half_saturate((vec_s16)b.half[0], (vec_s16)b.half[1]);
  return (vec){{first, second}};
}
#endif

#ifdef VEC_OP
CPU_INLINE vec vec_set8(int v) {
  return VEC_OP(set1_epi8)((char)v);
}
CPU_INLINE vec vec_set16(int v) {
  return VEC_OP(set1_epi16)((short)v);
}
CPU_INLINE vec vec_set32(int v) {
  return VEC_OP(set1_epi32)(v);
}
/* Four bytes of memory in every 32-bit element. */
CPU_INLINE vec vec_broadcast32(const void *p) {
  int v;
  memcpy(&v, p, sizeof v);
  return VEC_OP(set1_epi32)(v);
}
CPU_INLINE vec vec_add8(vec a, vec b) {
  return VEC_OP(add_epi8)(a, b);
}
CPU_INLINE vec vec_add16(vec a, vec b) {
  return VEC_OP(add_epi16)(a, b);
}
CPU_INLINE vec vec_sub16(vec a, vec b) {
  return VEC_OP(sub_epi16)(a, b);
}
CPU_INLINE vec vec_add32(vec a, vec b) {
  return VEC_OP(add_epi32)(a, b);
}
/* u8 a times s8 b, neighbours added, s16 with saturation. */
CPU_INLINE vec vec_maddubs(vec a, vec b) {
  return VEC_OP(maddubs_epi16)(a, b);
}
CPU_INLINE vec vec_madd16(vec a, vec b) {
  return VEC_OP(madd_epi16)(a, b);
}
/* (a + b + 1) >> 1 of u16 without overflow. */
CPU_INLINE vec vec_avg16(vec a, vec b) {
  return VEC_OP(avg_epu16)(a, b);
}
CPU_INLINE vec vec_unpacklo8(vec a, vec b) {
  return VEC_OP(unpacklo_epi8)(a, b);
}
CPU_INLINE vec vec_unpackhi8(vec a, vec b) {
  return VEC_OP(unpackhi_epi8)(a, b);
}
CPU_INLINE vec vec_unpacklo16(vec a, vec b) {
  return VEC_OP(unpacklo_epi16)(a, b);
}
CPU_INLINE vec vec_unpackhi16(vec a, vec b) {
  return VEC_OP(unpackhi_epi16)(a, b);
}
CPU_INLINE vec vec_packs32(vec a, vec b) {
  return VEC_OP(packs_epi32)(a, b);
}
CPU_INLINE vec vec_min16(vec a, vec b) {
  return VEC_OP(min_epi16)(a, b);
}
CPU_INLINE vec vec_max16(vec a, vec b) {
  return VEC_OP(max_epi16)(a, b);
}
CPU_INLINE vec vec_min32(vec a, vec b) {
  return VEC_OP(min_epi32)(a, b);
}
CPU_INLINE vec vec_max32(vec a, vec b) {
  return VEC_OP(max_epi32)(a, b);
}
CPU_INLINE vec vec_sub8(vec a, vec b) {
  return VEC_OP(sub_epi8)(a, b);
}
CPU_INLINE vec vec_sub32(vec a, vec b) {
  return VEC_OP(sub_epi32)(a, b);
}
CPU_INLINE vec vec_mullo16(vec a, vec b) {
  return VEC_OP(mullo_epi16)(a, b);
}
/* a[index mod 16] of each byte, in 16-byte lanes; 0 where the index has its top bit. */
CPU_INLINE vec vec_shuffle8(vec a, vec index) {
  return VEC_OP(shuffle_epi8)(a, index);
}
/* a >> k of 32-bit elements, k the same in all, 0...31. */
CPU_INLINE vec vec_sarv32(vec a, vec k) {
  return VEC_OP(srav_epi32)(a, k);
}
/* Shifts by a count that the compiler does not know. */
CPU_INLINE vec vec_shr16_by(vec a, int k) {
  return VEC_OP(srl_epi16)(a, _mm_cvtsi32_si128(k));
}
CPU_INLINE vec vec_sar16_by(vec a, int k) {
  return VEC_OP(sra_epi16)(a, _mm_cvtsi32_si128(k));
}
/* Unsigned bytes; avg: (a + b + 1) >> 1. */
CPU_INLINE vec vec_min_u8(vec a, vec b) {
  return VEC_OP(min_epu8)(a, b);
}
CPU_INLINE vec vec_max_u8(vec a, vec b) {
  return VEC_OP(max_epu8)(a, b);
}
CPU_INLINE vec vec_avg_u8(vec a, vec b) {
  return VEC_OP(avg_epu8)(a, b);
}
/* s16 to u8 with saturation, a's in the even bytes and b's in the odd ones. */
CPU_INLINE vec vec_pairs16(vec a, vec b) {
  const __m128i order = _mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
#ifdef __AVX512BW__
  return _mm512_shuffle_epi8(_mm512_packus_epi16(a, b), _mm512_broadcast_i32x4(order));
#else
  return _mm256_shuffle_epi8(_mm256_packus_epi16(a, b), _mm256_broadcastsi128_si256(order));
#endif
}
/* s64 products of the even 32-bit elements. */
CPU_INLINE vec vec_mul_even32(vec a, vec b) {
  return VEC_OP(mul_epi32)(a, b);
}
CPU_INLINE vec vec_add64(vec a, vec b) {
  return VEC_OP(add_epi64)(a, b);
}
/* Shifts of 64-bit elements by counts of 0...63, the same in all. */
CPU_INLINE vec vec_shrv64(vec a, vec k) {
  return VEC_OP(srlv_epi64)(a, k);
}
CPU_INLINE vec vec_shlv64(vec a, vec k) {
  return VEC_OP(sllv_epi64)(a, k);
}
/* Eight bytes of memory in every 64-bit element. */
CPU_INLINE vec vec_broadcast64(const void *p) {
  long long v;
  memcpy(&v, p, sizeof v);
#ifdef __AVX512BW__
  return _mm512_set1_epi64(v);
#else
  return _mm256_set1_epi64x(v);
#endif
}
/* The even 32-bit elements of a and the odd ones of b. */
CPU_INLINE vec vec_blend32(vec a, vec b) {
#ifdef __AVX512BW__
  return _mm512_mask_blend_epi32(0xaaaa, a, b);
#else
  return _mm256_blend_epi32(a, b, 0xaa);
#endif
}
/* count + 1 where the s16 a > b. */
CPU_INLINE vec vec_count_above16(vec count, vec a, vec b) {
#ifdef __AVX512BW__
  return _mm512_mask_sub_epi16(count, _mm512_cmpgt_epi16_mask(a, b), count, _mm512_set1_epi16(-1));
#else
  return _mm256_sub_epi16(count, _mm256_cmpgt_epi16(a, b));
#endif
}
/* s16 to u8 with saturation, in order: in every 32 bytes, 16 of a and then 16 of b. */
CPU_INLINE vec vec_bytes16(vec a, vec b) {
  enum { IN_ORDER = 0xd8 }; /* of the four quarters */
#ifdef __AVX512BW__
  return _mm512_permutex_epi64(_mm512_packus_epi16(a, b), IN_ORDER);
#else
  return _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), IN_ORDER);
#endif
}
#define vec_shr64(a, k) VEC_OP(srli_epi64)((a), (k))
#define vec_shl16(a, k) VEC_OP(slli_epi16)((a), (k))
#define vec_shr16(a, k) VEC_OP(srli_epi16)((a), (k))
#define vec_sar16(a, k) VEC_OP(srai_epi16)((a), (k))
#define vec_shr32(a, k) VEC_OP(srli_epi32)((a), (k))
#define vec_sar32(a, k) VEC_OP(srai_epi32)((a), (k))
#endif

#endif
