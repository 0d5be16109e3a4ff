/* Genomes to what the kernel ck_fused reads: weights as fragments of B at their bits, constants of requantisers. */
#include "kernels_cl/platform.h"

#include "kernels_cl/params.h"

#include "kernels_cu/fused.h"
#include "kernels_cu/warp.h"

/* Code of a field of packed codes; fields have at most 8 bits, so that they lie in two bytes. */
DEVICE int fused_field(const uchar *packed, const qk_fused_weights &w, int at) {
  long long bit = (long long)at * w.bits;
  const uchar *byte = packed + (bit >> 3);
  int shift = (int)(bit & 7), field = *byte >> shift;
  if (shift + w.bits > 8) field |= byte[1] << (8 - shift);
  return w.low + (field & ((1 << w.bits) - 1)) * w.spacing;
}

/* Code that output `output` has for product `i` (0...15) of a chunk; 0 where there is no such weight. */
DEVICE int fused_weight(const uchar *packed, const qk_fused_weights &w, int output, int place, int i) {
  const int mask = (1 << QK_FUSED_PLACE_BITS) - 1;
  int row = place & mask, column = place >> QK_FUSED_PLACE_BITS & mask;
  int channel = (place >> 2 * QK_FUSED_PLACE_BITS) * QK_FUSED_GROUP + i;
  if (w.pixels) {
    column = 4 * column + i / 4;
    channel = i % 4;
  }
  int first = output / (w.outputs / w.groups) * w.channels; /* of the inputs of its group */
  if (place < 0 || output >= w.outputs || column >= w.kernel[1]) return 0;
  if (channel < first || channel >= first + w.channels) return 0;
  int tap = (output * w.kernel[0] + row) * w.kernel[1] + column;
  return fused_field(packed, w, tap * w.channels + channel - first);
}

/* A work-item makes a lane's two registers of one tile of 8 columns. The two tiles of a group of 16 outputs share them
 * out so that a lane's columns of C are four neighbouring outputs. blockIdx.y: layer, blockIdx.z: candidate. */
extern "C" __global__ void ck_fused_weights(const uchar *RESTRICT genomes, const int *RESTRICT places,
                                            uchar *RESTRICT fragments,
                                            const QK_GRID_CONSTANT qk_params_fused_weights p) {
  const qk_fused_weights &w = p.layer[blockIdx.y];
  const uchar *packed = genomes + blockIdx.z * p.from_stride + w.from;
  uint *to = reinterpret_cast<uint *>(fragments + blockIdx.z * p.to_stride + w.to);
  int count = (w.outputs + QK_FUSED_GROUP - 1) / QK_FUSED_GROUP * w.steps * QK_FUSED_LANES * 2;
  for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < count; i += (int)(gridDim.x * blockDim.x)) {
    int tile = i % 2, lane = i / 2 % QK_FUSED_LANES, step = i / 2 / QK_FUSED_LANES % w.steps;
    int group = i / 2 / QK_FUSED_LANES / w.steps, column = lane / 4;
    int output = group * QK_FUSED_GROUP + 4 * (column / 2) + 2 * tile + column % 2;
    uint b[2] = {0, 0};
    for (int k = 0; k < 8; k++) {
      int place = __ldg(places + w.place + 2 * step + k / 4);
      int code = fused_weight(packed, w, output, place, 4 * (lane % 4) + k % 4);
      b[k / 4] |= (uint)(code & 255) << 8 * (k % 4);
    }
    if (w.nibbles) {
      to[i] = (b[0] & 0x0F0F0F0Fu) | (b[1] & 0x0F0F0F0Fu) << 4;
    } else {
      to[2 * i] = b[0];
      to[2 * i + 1] = b[1];
    }
  }
}

/* blockIdx.y: layer, blockIdx.z: candidate. */
extern "C" __global__ void ck_fused_constants(const uchar *RESTRICT genomes, uchar *RESTRICT constants,
                                              const QK_GRID_CONSTANT qk_params_fused_constants p) {
  const qk_fused_genes &genes = p.layer[blockIdx.y];
  const uchar *genome = genomes + blockIdx.z * p.from_stride;
  qk_fused_constants *to = reinterpret_cast<qk_fused_constants *>(constants + blockIdx.z * p.to_stride + genes.to);
  const int *m = reinterpret_cast<const int *>(genome + genes.from_m);
  const int *n = reinterpret_cast<const int *>(genome + genes.from_n);
  const long long *b = reinterpret_cast<const long long *>(genome + genes.from_b);
  for (int c = (int)(blockIdx.x * blockDim.x + threadIdx.x); c < genes.count; c += (int)(gridDim.x * blockDim.x)) {
    to[c].m = m[c];
    to[c].n = genes.from_n < 0 ? 0 : n[c];
    to[c].b = b[c];
  }
}
