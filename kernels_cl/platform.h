/* What differs between OpenCL C 1.2, CUDA and the host emulation of CUDA: the only place with conditions on them.
 *
 * A kernel is written
 *     KERNEL(name)(BUFFER(x), BUFFER(y), const qk_params_flat p) {
 *       OPERAND(const float, x);
 *       OPERAND(float, y);
 *       ...
 * with one BUFFER an operand (its memory and the bytes from its start) and, last, one parameter struct of params.h by
 * value. Work-groups have QK_GROUP work-items along axis 0, a power of two that the device chose, unless the row in
 * kernels.def says otherwise. UNROLL before a loop of few, constant turns keeps its arrays in registers. */
#ifndef QK_PLATFORM_H
#define QK_PLATFORM_H

#ifdef __OPENCL_VERSION__

#pragma OPENCL FP_CONTRACT OFF

#define KERNEL(name) __kernel void name
#define DEVICE static inline __attribute__((always_inline))
#define GLOBAL __global
#define LOCAL __local
#define TABLE __constant
#define LOCAL_ARRAY(type, name, count) __local type name[count] __attribute__((aligned(16)))
#define RESTRICT restrict
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define UNROLL /* drivers do it where it pays */

#define group_id(axis) ((uint)get_group_id(axis))
#define group_count(axis) ((uint)get_num_groups(axis))
#define local_id(axis) ((uint)get_local_id(axis))
#define local_size(axis) ((uint)get_local_size(axis))

typedef char schar;
typedef uint uint32_t; /* for core/base/rng.h */
typedef ulong uint64_t;

#define qk_mul_high(a, b) mul_hi((uint)(a), (uint)(b))
#define qk_leading_zeros(x) clz((ulong)(x))
#define qk_atomic_add(at, value) atomic_add(at, value)
#define qk_atomic_max(at, value) atomic_max(at, value)
#define qk_atomic_claim(at) atomic_cmpxchg(at, 0, 1)
#define qk_multiply_add(a, b, c) mad(a, b, c)
#define qk_float_bits(x) as_uint(x)
#define qk_bits_float(x) as_float(x)

#else /* CUDA, or its emulation on the host */

#include <stdint.h>
#ifndef QK_EMULATED
#define QK_DOT_PTX
#endif

#define KERNEL(name) extern "C" __global__ void name
#define DEVICE static __device__ __forceinline__
#define GLOBAL
#define LOCAL
#define TABLE __device__ __constant__ const
#define LOCAL_ARRAY(type, name, count) __shared__ type name[count] __attribute__((aligned(16)))
#define RESTRICT __restrict__
#define BARRIER() __syncthreads()
#ifdef QK_EMULATED
#define UNROLL
#else
#define UNROLL _Pragma("unroll")
#endif

#define QK_AXIS(of, axis) ((axis) == 0 ? (of).x : (axis) == 1 ? (of).y : (of).z)
#define group_id(axis) ((uint)QK_AXIS(blockIdx, axis))
#define group_count(axis) ((uint)QK_AXIS(gridDim, axis))
#define local_id(axis) ((uint)QK_AXIS(threadIdx, axis))
#define local_size(axis) ((uint)QK_AXIS(blockDim, axis))

typedef signed char schar;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;

#define qk_mul_high(a, b) __umulhi(a, b)
#define qk_leading_zeros(x) __clzll((long long)(x))
#define qk_atomic_add(at, value) atomicAdd(at, value)
#define qk_atomic_max(at, value) atomicMax(at, value)
#define qk_atomic_claim(at) atomicCAS(at, 0, 1)
#define qk_multiply_add(a, b, c) fmaf(a, b, c)
#define qk_float_bits(x) __float_as_uint(x)
#define qk_bits_float(x) __uint_as_float(x)
#define rint(x) rintf(x)
#define floor(x) floorf(x)
#define fabs(x) fabsf(x)
#define sqrt(x) sqrtf(x)
#define exp(x) expf(x)
#define log(x) logf(x)
#define log1p(x) log1pf(x)
#define tanh(x) tanhf(x)
#define fmax(a, b) fmaxf(a, b)
#define fmin(a, b) fminf(a, b)
#define fma(a, b, c) fmaf(a, b, c)
#define ldexp(x, n) ldexpf(x, n)

#endif

#define QE_INLINE DEVICE /* functions of core/base/rng.h */

/* sum + the dot product of four bytes: those of `a` unsigned (qk_dot) or signed (qk_dot_signed), those of `b` signed;
 * modulo 2^32. One instruction where the backend found one and defined which: QK_DOT_KHR (cl_khr_integer_dot_product),
 * QK_DOT_PTX (NVIDIA, compute capability 6.1), QK_DOT_AMD. */
#if defined(QK_DOT_KHR)
#define qk_dot(a, b, sum) ((sum) + dot_4x8packed_us_int(a, b))
#define qk_dot_signed(a, b, sum) ((sum) + dot_4x8packed_ss_int(a, b))
#elif defined(QK_DOT_PTX)
DEVICE int qk_dot(uint a, uint b, int sum) {
  int result;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}
DEVICE int qk_dot_signed(uint a, uint b, int sum) {
  int result;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}
#elif defined(QK_DOT_AMD)
#define qk_dot_signed(a, b, sum) __builtin_amdgcn_sdot4((int)(a), (int)(b), sum, false)
/* a = (a - 128) + 128, so that both factors are signed. */
DEVICE int qk_dot(uint a, uint b, int sum) {
  return qk_dot_signed(a ^ 0x80808080u, b, sum) + 128 * qk_dot_signed(0x01010101u, b, 0);
}
#else
DEVICE int qk_dot_signed(uint a, uint b, int sum) {
  return sum + (schar)a * (schar)b + (schar)(a >> 8) * (schar)(b >> 8) + (schar)(a >> 16) * (schar)(b >> 16) +
         (schar)(a >> 24) * (schar)(b >> 24);
}
DEVICE int qk_dot(uint a, uint b, int sum) {
  return sum + (int)(uchar)a * (schar)b + (int)(uchar)(a >> 8) * (schar)(b >> 8) +
         (int)(uchar)(a >> 16) * (schar)(b >> 16) + (int)(uchar)(a >> 24) * (schar)(b >> 24);
}
#endif

#define BUFFER(name) GLOBAL uchar *name##_memory, ulong name##_at
#define OPERAND(type, name) GLOBAL type *name = (GLOBAL type *)(name##_memory + name##_at)

#ifndef QK_GROUP
#define QK_GROUP 256
#endif

/* Quotient as IEEE 754 rounds it: backends build with correctly rounded division or define QK_DIVIDE_BY_FMA. */
DEVICE float qk_divide(float a, float b) {
#ifdef QK_DIVIDE_BY_FMA
  float y = 1.0f / b;
  y = fma(fma(-b, y, 1.0f), y, y);
  float q = a * y;
  q = fma(fma(-b, q, a), y, q);
  float last = fma(fma(-b, q, a), y, q);
  return fabs(q) <= 3.4028234e38f ? last : a / b; /* infinities and NaN as they come */
#else
  return a / b;
#endif
}

/* Keeps the first fault that the kernels of a queue meet: op (enum qe_op), where, and the value out of range. */
DEVICE void qk_report(GLOBAL int *fault, int op, int place, int value) {
  if (qk_atomic_claim(fault) != 0) return;
  fault[1] = op;
  fault[2] = place;
  fault[3] = value;
}

/* Index of the first element of a work-item in a flat loop, and its stride: for (i = flat_start(); i < n; i += ...). */
#define flat_start() ((ulong)group_id(0) * local_size(0) + local_id(0))
#define flat_stride() ((ulong)group_count(0) * local_size(0))

#endif
