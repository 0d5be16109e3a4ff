/* Measured limit of the tensor cores on codes: products from registers, as kernels_cl/peak.cl does for other limits.
 * Eight independent sums a warp; a sum wraps around, which changes nothing of its time. */
#include "kernels_cl/platform.h"

#include "kernels_cl/params.h"

#include "kernels_cl/index.h"
#include "kernels_cu/warp.h"

KERNEL(ck_peak_mma)(BUFFER(out), const QK_GRID_CONSTANT qk_params_peak p) {
#if QK_HAS_TENSOR_CORES
  OPERAND(int, out);
  const uint w = (uint)p.seed, a[4] = {w, w + 1, w + 2, w + 3}, b[2] = {w, threadIdx.x};
  int sum[8][4] = {}, all = 0;
  for (int round = 0; round < p.rounds; round++) QK_UNROLL for (int i = 0; i < 8; i++) qk_mma<true>(sum[i], a, b);
  QK_UNROLL for (int i = 0; i < 8; i++) all ^= sum[i][0] ^ sum[i][1] ^ sum[i][2] ^ sum[i][3];
  out[flat_start()] = all;
#else
  __trap();
#endif
}
