/* Warp instructions as functions: inline PTX on a device, the emulator's functions on the host.
 *
 * Registers are those of the calling lane, in the fragment layouts of the PTX ISA. All 32 lanes of a warp call
 * together; volatile, so that no compiler moves one to where only some lanes come by or makes one of two. Before sm_80,
 * which has none of these, kernels that use them only trap: their hosts refuse such devices. */
#ifndef QK_WARP_H
#define QK_WARP_H

#define QK_METHOD __device__ __forceinline__ /* DEVICE for members */

#ifdef QK_EMULATED

#define QK_GRID_CONSTANT
#define QK_UNROLL
#define QK_UNROLL_BY(count)
#define QK_KEEP(value) (void)(value)
#define QK_HAS_TENSOR_CORES 1

#else

#define QK_GRID_CONSTANT __grid_constant__
#define QK_PRAGMA(text) _Pragma(#text)
#define QK_UNROLL _Pragma("unroll")
#define QK_UNROLL_BY(count) QK_PRAGMA(unroll count)
/* Makes the compiler hold a value in a register: it would load constants of a parameter again at every use. */
#define QK_KEEP(value) asm volatile("" : "+r"(value))
#define QK_DYNAMIC_SHARED(type, name)                                                                                  \
  extern __shared__ __align__(1024) unsigned char qk_dynamic_shared[];                                                 \
  type *name = reinterpret_cast<type *>(qk_dynamic_shared)
#if __CUDA_ARCH__ >= 800
#define QK_HAS_TENSOR_CORES 1
#else
#define QK_HAS_TENSOR_CORES 0
#endif

#endif

#if QK_HAS_TENSOR_CORES

/* d += a x b in s32: a 16 rows by 32 codes, u8 or s8 (SIGNED), b 32 codes by 8 columns of s8. */
template <bool SIGNED> DEVICE void qk_mma(int (&d)[4], const uint (&a)[4], const uint (&b)[2]) {
#ifdef QK_EMULATED
  if (SIGNED)
    emulated_mma_m16n8k32_s8s8(d, a, b, d);
  else
    emulated_mma_m16n8k32_u8s8(d, a, b, d);
#else
  if (SIGNED)
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* d += the number of ones in common: a 16 rows by 256 bits, b 256 bits by 8 columns. */
DEVICE void qk_mma_bits(int (&d)[4], const uint (&a)[4], const uint (&b)[2]) {
#ifdef QK_EMULATED
  emulated_mma_m16n8k256_and_popc(d, a, b, d);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* What ldmatrix takes for an address in shared memory; differences of two are bytes. */
#ifdef QK_EMULATED
typedef const uchar *qk_shared;
DEVICE qk_shared qk_shared_of(const uchar *at) {
  return at;
}
#else
typedef uint qk_shared;
DEVICE qk_shared qk_shared_of(const uchar *at) {
  return (uint)__cvta_generic_to_shared(at);
}
#endif

/* Four matrices of 8 rows of 16 bytes: lane 8 i + r gives the place of row r of matrix i. Volatile: what lies there
 * changes between barriers. */
DEVICE void qk_load_matrices(uint (&d)[4], qk_shared row) {
#ifdef QK_EMULATED
  emulated_ldmatrix_x4(d, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(row)
               : "memory");
#endif
}

/* 16 bytes to shared memory, both places aligned to as much; there when this thread has waited. */
DEVICE void qk_copy_16(void *shared, const void *global) {
#ifdef QK_EMULATED
  emulated_copy_async16(shared, global);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((uint)__cvta_generic_to_shared(shared)), "l"(global)
               : "memory");
#endif
}

DEVICE void qk_copies_wait() {
#ifdef QK_EMULATED
  emulated_copy_async_wait_all();
#else
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

#endif

/* a b + c in one instruction, also where only the high word is used: of mad.wide and of plain C++ the assembler then
 * makes a product and two additions. */
DEVICE long long qk_mad_wide(int a, int b, long long c) {
#ifdef QK_EMULATED
  return (long long)a * b + c;
#else
  long long d;
  asm("{\n\t"
      ".reg .s32 low, high;\n\t"
      "mov.b64 {low, high}, %3;\n\t"
      "mad.lo.cc.s32 low, %1, %2, low;\n\t"
      "madc.hi.s32 high, %1, %2, high;\n\t"
      "mov.b64 %0, {low, high};\n\t"
      "}"
      : "=l"(d)
      : "r"(a), "r"(b), "l"(c));
  return d;
#endif
}

/* Each value clamped to 0...255, as the four bytes of a word. */
DEVICE uint qk_pack_u8(const int (&v)[4]) {
#if !defined(QK_EMULATED) && QK_HAS_TENSOR_CORES
  uint high, word;
  asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, 0;" : "=r"(high) : "r"(v[3]), "r"(v[2]));
  asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;" : "=r"(word) : "r"(v[1]), "r"(v[0]), "r"(high));
  return word;
#else
  uint word = 0;
  for (int i = 0; i < 4; i++) word |= (uint)min(max(v[i], 0), 255) << 8 * i;
  return word;
#endif
}

#endif
