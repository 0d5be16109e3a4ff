/* Warp instructions of the emulated device: what kernels_cu/warp.h writes as inline PTX on a real one.
 *
 * A warp function must be called by all 32 lanes of a warp together (blocks whose size is no multiple of 32 cannot use
 * it in their last warp); a launch in which lanes are missing fails with CUDA_ERROR_LAUNCH_FAILED and says where.
 * Registers are those of the calling lane, in the order and with the fragment layout of the PTX ISA's section on the
 * instruction. d may be the same array as c. The functions check alignment as the device does.
 *
 * Shared memory: QK_DYNAMIC_SHARED(type, name) inside a kernel declares `type *name`, the block's dynamic shared
 * memory, aligned to 1024 bytes; on a device write
 *   #define QK_DYNAMIC_SHARED(type, name) \
 *     extern __shared__ __align__(1024) unsigned char qk_dynamic_shared[]; \
 *     type *name = reinterpret_cast<type *>(qk_dynamic_shared) */
#ifndef QK_WARP_EMULATED_H
#define QK_WARP_EMULATED_H

/* ---- the primitive ---- */

/* All lanes of the warp call it; the last to come runs compute with everybody's argument (lane[i] is lane i's `mine`),
 * then all go on. `mine` may be on the lane's stack and compute may write through it. */
void emulate_warp(void (*compute)(void *const lane[32]), void *mine);
/* The same for the 128 threads of a warpgroup (threads 128 g .. 128 g + 127 of the block). */
void emulate_warpgroup(void (*compute)(void *const thread[128]), void *mine);

/* ---- mma.sync.aligned, .row.col ---- */

/* d = a x b + c in s32. SUFFIX: u8u8, u8s8, s8u8, s8s8: types of A and of B. Not saturating (no .satfinite). */
#define EMULATED_EACH_S8_PAIR(X) X(u8, u8) X(u8, s8) X(s8, u8) X(s8, s8)
#define EMULATED_EACH_S4_PAIR(X) X(u4, u4) X(u4, s4) X(s4, u4) X(s4, s4)
#define EMULATED_DECLARE(A, B)                                                                                         \
  void emulated_mma_m16n8k32_##A##B(int d[4], const unsigned a[4], const unsigned b[2], const int c[4]);               \
  void emulated_mma_m16n8k16_##A##B(int d[4], const unsigned a[2], const unsigned b[1], const int c[4]);               \
  void emulated_mma_m8n8k16_##A##B(int d[2], const unsigned a[1], const unsigned b[1], const int c[2]); /* sm_75 */
EMULATED_EACH_S8_PAIR(EMULATED_DECLARE)
#undef EMULATED_DECLARE
/* Four bits a code, element 0 in the low bits. */
#define EMULATED_DECLARE(A, B)                                                                                         \
  void emulated_mma_m16n8k64_##A##B(int d[4], const unsigned a[4], const unsigned b[2], const int c[4]);               \
  void emulated_mma_m8n8k32_##A##B(int d[2], const unsigned a[1], const unsigned b[1], const int c[2]); /* sm_75 */
EMULATED_EACH_S4_PAIR(EMULATED_DECLARE)
#undef EMULATED_DECLARE

/* One bit a code: d = popc(a op b) + c. */
void emulated_mma_m16n8k256_and_popc(int d[4], const unsigned a[4], const unsigned b[2], const int c[4]);
void emulated_mma_m16n8k256_xor_popc(int d[4], const unsigned a[4], const unsigned b[2], const int c[4]);
void emulated_mma_m16n8k128_and_popc(int d[4], const unsigned a[2], const unsigned b[1], const int c[4]);
void emulated_mma_m16n8k128_xor_popc(int d[4], const unsigned a[2], const unsigned b[1], const int c[4]);
void emulated_mma_m8n8k128_xor_popc(int d[2], const unsigned a[1], const unsigned b[1], const int c[2]); /* sm_75 */

/* Floats, f32 sums; products exact, summed in order of k in f32 (the device's order is not documented). */
void emulated_mma_m16n8k16_f16(float d[4], const unsigned a[4], const unsigned b[2], const float c[4]);
void emulated_mma_m16n8k16_bf16(float d[4], const unsigned a[4], const unsigned b[2], const float c[4]);
void emulated_mma_m16n8k8_tf32(float d[4], const unsigned a[4], const unsigned b[2], const float c[4]);

/* ---- ldmatrix.sync.aligned.m8n8.xN[.trans].shared.b16 ----
 * Lane 8 i + r gives the address of row r (16 bytes, aligned to 16) of matrix i; x1 reads the addresses of lanes 0..7,
 * x2 of 0..15. Lane t receives of matrix i, in d[i], bytes 4 (t % 4) .. + 3 of row t / 4; .trans: of column t / 4,
 * elements (b16) 2 (t % 4) and + 1. Pointers are to shared memory. */
void emulated_ldmatrix_x1(unsigned d[1], const void *row);
void emulated_ldmatrix_x2(unsigned d[2], const void *row);
void emulated_ldmatrix_x4(unsigned d[4], const void *row);
void emulated_ldmatrix_x1_trans(unsigned d[1], const void *row);
void emulated_ldmatrix_x2_trans(unsigned d[2], const void *row);
void emulated_ldmatrix_x4_trans(unsigned d[4], const void *row);

/* ---- cp.async: by a thread, not a warp ----
 * The copy is made as late as the contract allows: by the wait that covers it. */
void emulated_copy_async4(void *shared, const void *global);
void emulated_copy_async8(void *shared, const void *global);
void emulated_copy_async16(void *shared, const void *global);
/* The first `bytes` (0..16) from global, zeros behind them (cp.async with src-size). */
void emulated_copy_async16_partial(void *shared, const void *global, int bytes);
void emulated_copy_async_commit(void);
void emulated_copy_async_wait(int groups); /* until at most `groups` of the latest groups are under way */
void emulated_copy_async_wait_all(void);   /* cp.async.wait_all: uncommitted ones too */

/* ---- barriers beside __syncthreads ---- */

/* bar.sync id, threads: id 1..15, threads a multiple of 32. */
void emulated_named_barrier(int id, int threads);
/* Address in the shared window, as cvta.to.shared gives it: what descriptors are made of. */
unsigned emulated_shared_address(const void *shared);

/* ---- wgmma.mma_async.sync.aligned.m64nNk32.s32 (warpgroup of 128 threads) ----
 * D[64][n] (n a multiple of 8, 8..256, of those that PTX allows for integers) in n / 2 registers a thread. Descriptors
 * as the PTX ISA's matrix-descriptor format has them: bits 0..13 address >> 4, 16..29 leading byte offset >> 4, 32..45
 * stride byte offset >> 4, 49..51 base offset (0), 62..63 swizzle: 0 none, 1: 128 bytes, 2: 64 bytes, 3: 32 bytes; both
 * operands K-major. accumulate 0: d = a x b, 1: d += a x b (scale-d). The multiplication is done by the wait that
 * covers it, as late as the contract allows: d must stay in place (same array, no copies) from the first _mma to the
 * wait. */
void emulated_wgmma_fence(void);
void emulated_wgmma_commit(void);
void emulated_wgmma_wait(int groups);
#define EMULATED_DECLARE(A, B)                                                                                         \
  void emulated_wgmma_k32_##A##B(int n, int *d, unsigned long long a, unsigned long long b, int accumulate);           \
  /* A from registers: four a thread, rows as of four m16 fragments, one a warp. */                                    \
  void emulated_wgmma_k32_ra_##A##B(int n, int *d, const unsigned a[4], unsigned long long b, int accumulate);
EMULATED_EACH_S8_PAIR(EMULATED_DECLARE)
#undef EMULATED_DECLARE
/* One bit a code, k = 256, and.popc. */
void emulated_wgmma_k256_and_popc(int n, int *d, unsigned long long a, unsigned long long b, int accumulate);
void emulated_wgmma_k256_ra_and_popc(int n, int *d, const unsigned a[4], unsigned long long b, int accumulate);

#endif
