/* Asynchronous products of a warpgroup (sm_90a) as functions: inline PTX on a device, the emulator's on the host.
 *
 * Operands lie in shared memory as core matrices, 8 rows of 16 bytes one behind the other, K-major and without swizzle
 * (PTX ISA, "Asynchronous warpgroup level matrix multiply"). All 128 threads of a warpgroup call together. */
#ifndef QK_WGMMA_H
#define QK_WGMMA_H

#include "kernels_cu/warp.h"

#if defined(QK_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define QK_HAS_WGMMA 1
#else
#define QK_HAS_WGMMA 0
#endif

#if QK_HAS_WGMMA

/* `next_k`, `next_rows`: bytes to the core matrix of the next 16 bytes of a row, of the next 8 rows. */
DEVICE unsigned long long qk_matrix_descriptor(const uchar *shared, int next_k, int next_rows) {
#ifdef QK_EMULATED
  uint address = emulated_shared_address(shared);
#else
  uint address = (uint)__cvta_generic_to_shared(shared);
#endif
  return (unsigned long long)(address >> 4 & 0x3fff) | (unsigned long long)(next_k >> 4) << 16 |
         (unsigned long long)(next_rows >> 4) << 32;
}

/* What this thread has stored in shared memory can be seen by products after the next barrier. */
DEVICE void qk_wgmma_publish() {
#ifndef QK_EMULATED
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* Before the first product, and after other uses of the sums' registers. */
DEVICE void qk_wgmma_begin() {
#ifdef QK_EMULATED
  emulated_wgmma_fence();
#else
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

DEVICE void qk_wgmma_commit() {
#ifdef QK_EMULATED
  emulated_wgmma_commit();
#else
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

/* All products are done; their registers are no earlier read than here. */
template <int COUNT> DEVICE void qk_wgmma_wait(int (&d)[COUNT]) {
#ifdef QK_EMULATED
  (void)d;
  emulated_wgmma_wait(0);
#else
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  QK_UNROLL for (int i = 0; i < COUNT; i++) asm volatile("" : "+r"(d[i])::"memory");
#endif
}

#ifndef QK_EMULATED
#define QK_FOUR(d, i) "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3])
#define QK_EIGHT(d, i) QK_FOUR(d, i), QK_FOUR(d, i + 4)
#define QK_WGMMA_8(shape, types, d, a, b)                                                                              \
  asm volatile("wgmma.mma_async.sync.aligned." shape ".s32." types " {%0,%1,%2,%3,%4,%5,%6,%7}, %8, %9, 1;"            \
               : QK_EIGHT(d, 0)                                                                                        \
               : "l"(a), "l"(b))
#define QK_WGMMA_16(shape, types, d, a, b)                                                                             \
  asm volatile("wgmma.mma_async.sync.aligned." shape ".s32." types                                                     \
               " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, %16, %17, 1;"                                \
               : QK_EIGHT(d, 0), QK_EIGHT(d, 8)                                                                        \
               : "l"(a), "l"(b))
#define QK_WGMMA_32(shape, types, d, a, b)                                                                             \
  asm volatile("wgmma.mma_async.sync.aligned." shape ".s32." types                                                     \
               " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"  \
               "%27,%28,%29,%30,%31}, %32, %33, 1;"                                                                    \
               : QK_EIGHT(d, 0), QK_EIGHT(d, 8), QK_EIGHT(d, 16), QK_EIGHT(d, 24)                                      \
               : "l"(a), "l"(b))
#endif

/* d += a x b: 64 rows by 32 codes (u8, or s8 where SIGNED) times 32 codes by COLUMNS of s8; a thread's COLUMNS / 2 sums
 * lie as COLUMNS / 8 fragments of mma.m16n8, warp w having rows 16 w... */
template <int COLUMNS, bool SIGNED>
DEVICE void qk_wgmma(int (&d)[COLUMNS / 2], unsigned long long a, unsigned long long b) {
  static_assert(COLUMNS == 16 || COLUMNS == 32 || COLUMNS == 64, "a form is missing");
#ifdef QK_EMULATED
  if (SIGNED)
    emulated_wgmma_k32_s8s8(COLUMNS, d, a, b, 1);
  else
    emulated_wgmma_k32_u8s8(COLUMNS, d, a, b, 1);
#else
  if constexpr (COLUMNS == 16 && SIGNED) QK_WGMMA_8("m64n16k32", "s8.s8", d, a, b);
  if constexpr (COLUMNS == 16 && !SIGNED) QK_WGMMA_8("m64n16k32", "u8.s8", d, a, b);
  if constexpr (COLUMNS == 32 && SIGNED) QK_WGMMA_16("m64n32k32", "s8.s8", d, a, b);
  if constexpr (COLUMNS == 32 && !SIGNED) QK_WGMMA_16("m64n32k32", "u8.s8", d, a, b);
  if constexpr (COLUMNS == 64 && SIGNED) QK_WGMMA_32("m64n64k32", "s8.s8", d, a, b);
  if constexpr (COLUMNS == 64 && !SIGNED) QK_WGMMA_32("m64n64k32", "u8.s8", d, a, b);
#endif
}

#endif
#endif
