/* Arithmetic functions of CUDA C++ that C++ lacks. Part of emulate.h. */
#ifndef EMULATOR_INTRINSICS_H
#define EMULATOR_INTRINSICS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ---- bits ---- */

template <class To, class From> static inline To emulated_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

static inline unsigned __float_as_uint(float x) {
  return emulated_bits<unsigned>(x);
}

static inline float __uint_as_float(unsigned x) {
  return emulated_bits<float>(x);
}

static inline int __float_as_int(float x) {
  return emulated_bits<int>(x);
}

static inline float __int_as_float(int x) {
  return emulated_bits<float>(x);
}

static inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}

static inline int __popcll(unsigned long long x) {
  return __builtin_popcountll(x);
}

static inline int __clz(int x) {
  return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}

static inline int __clzll(long long x) {
  return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}

static inline int __ffs(int x) {
  return __builtin_ffs(x);
}

static inline int __ffsll(long long x) {
  return __builtin_ffsll(x);
}

static inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; i++) reversed |= (x >> i & 1) << (31 - i);
  return reversed;
}

/* Byte i of the result is byte (selector >> 4 i & 7) of y:x. */
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  unsigned long long both = static_cast<unsigned long long>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) result |= static_cast<unsigned>(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
}

static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) << (shift & 31) >> 32);
}

static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> (shift & 31));
}

/* ---- products ---- */

static inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}

static inline int __mulhi(int a, int b) {
  return static_cast<int>(static_cast<long long>(a) * b >> 32);
}

__extension__ typedef unsigned __int128 emulated_u128;
__extension__ typedef __int128 emulated_s128;

static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<emulated_u128>(a) * b >> 64);
}

static inline long long __mul64hi(long long a, long long b) {
  return static_cast<long long>(static_cast<emulated_s128>(a) * b >> 64);
}

/* c + the dot product of four bytes; wraps around. */
static inline int __dp4a(int a, int b, int c) {
  unsigned sum = static_cast<unsigned>(c);
  for (int i = 0; i < 32; i += 8)
    sum += static_cast<unsigned>(static_cast<signed char>(a >> i) * static_cast<signed char>(b >> i));
  return static_cast<int>(sum);
}

static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 32; i += 8) c += (a >> i & 0xff) * (b >> i & 0xff);
  return c;
}

/* ---- smaller and larger ---- */

#define EMULATED_MIN_MAX(type, A, B)                                                                                   \
  static inline type min(A of_a, B of_b) {                                                                             \
    type a = static_cast<type>(of_a), b = static_cast<type>(of_b);                                                     \
    return b < a ? b : a;                                                                                              \
  }                                                                                                                    \
  static inline type max(A of_a, B of_b) {                                                                             \
    type a = static_cast<type>(of_a), b = static_cast<type>(of_b);                                                     \
    return a < b ? b : a;                                                                                              \
  }
EMULATED_MIN_MAX(int, int, int)
EMULATED_MIN_MAX(unsigned, unsigned, unsigned)
EMULATED_MIN_MAX(unsigned, int, unsigned)
EMULATED_MIN_MAX(unsigned, unsigned, int)
EMULATED_MIN_MAX(long, long, long)
EMULATED_MIN_MAX(unsigned long, unsigned long, unsigned long)
EMULATED_MIN_MAX(long long, long long, long long)
EMULATED_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
#undef EMULATED_MIN_MAX

static inline float min(float a, float b) {
  return fminf(a, b);
}

static inline float max(float a, float b) {
  return fmaxf(a, b);
}

/* ---- floats: the emulation is built without contraction, so that plain operators round as these must ---- */

static inline float __fmaf_rn(float a, float b, float c) {
  return fmaf(a, b, c);
}

static inline float __fadd_rn(float a, float b) {
  return a + b;
}

static inline float __fsub_rn(float a, float b) {
  return a - b;
}

static inline float __fmul_rn(float a, float b) {
  return a * b;
}

static inline float __fdiv_rn(float a, float b) {
  return a / b;
}

static inline float __frcp_rn(float a) {
  return 1.0f / a;
}

static inline float __fsqrt_rn(float a) {
  return sqrtf(a);
}

static inline float __fdividef(float a, float b) {
  return a / b;
}

static inline float rsqrtf(float a) {
  return 1.0f / sqrtf(a);
}

/* glibc has functions of these names that are not inline. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)

static inline float __saturatef(float a) {
  return fminf(fmaxf(a, 0.0f), 1.0f);
}

/* Conversions saturate, and NaN becomes 0. */
static inline int emulated_to_int(float x) {
  if (isnan(x)) return 0;
  return x >= 2147483648.0f ? INT32_MAX : x < -2147483648.0f ? INT32_MIN : static_cast<int>(x);
}

static inline int __float2int_rn(float x) {
  return emulated_to_int(rintf(x));
}

static inline int __float2int_rz(float x) {
  return emulated_to_int(truncf(x));
}

static inline int __float2int_rd(float x) {
  return emulated_to_int(floorf(x));
}

static inline int __float2int_ru(float x) {
  return emulated_to_int(ceilf(x));
}

static inline unsigned __float2uint_rn(float x) {
  float y = rintf(x);
  return isnan(y) || y <= 0.0f ? 0 : y >= 4294967296.0f ? UINT32_MAX : static_cast<unsigned>(y);
}

static inline float __int2float_rn(int x) {
  return static_cast<float>(x);
}

static inline float __uint2float_rn(unsigned x) {
  return static_cast<float>(x);
}

/* ---- memory ---- */

template <class T> static inline T __ldg(const T *at) {
  return *at;
}

template <class T> static inline T __ldcs(const T *at) {
  return *at;
}

template <class T> static inline T __ldcg(const T *at) {
  return *at;
}

template <class T> static inline void __stcs(T *at, T value) {
  *at = value;
}

template <class T> static inline void __stcg(T *at, T value) {
  *at = value;
}

static inline void __threadfence() {}

static inline void __threadfence_block() {}

[[noreturn]] static inline void __trap() {
  emulated_fail("__trap");
}

#endif
