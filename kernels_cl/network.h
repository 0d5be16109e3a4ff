/* What the kernels of whole networks share: codes stored at their bits, requantisers. */
#ifndef QK_NETWORK_H
#define QK_NETWORK_H

#include "kernels_cl/loss.h"

#define NET_BUFFERS                                                                                                    \
  BUFFER(x), BUFFER(w), BUFFER(x2), BUFFER(w2), BUFFER(m), BUFFER(n), BUFFER(offset), BUFFER(skip), BUFFER(fine),      \
      BUFFER(coarse), BUFFER(slots)

/* A slot's part of a map. */
DEVICE GLOBAL uchar *net_slot(GLOBAL uchar *memory, const qk_net_map map, int slot) {
  return memory + (slot < map.own ? (qk_long)slot * map.slot : 0);
}

/* Codes of a group of eight are stored at 1, 2, 4 or 8 bits, the first in the lowest. */
DEVICE int net_code(GLOBAL const uchar *pixel, int c, int bits, int is_signed) {
  int code = pixel[c * bits >> 3] >> (c * bits & 7) & ((1 << bits) - 1);
  int sign = 1 << (bits - 1);
  return is_signed ? (code ^ sign) - sign : code;
}

DEVICE void net_store_eight(GLOBAL uchar *group, int bits, const int *code) {
  ulong word = 0;
  for (int k = 0; k < 8; k++) word |= (ulong)(code[k] & ((1 << bits) - 1)) << (k * bits);
  for (int k = 0; k < bits; k++) group[k] = (uchar)(word >> (8 * k));
}

/* Adds in 32 bits where that is proven to do: unsigned, since an intermediate sum may wrap around. */
DEVICE int net_requantised(const qk_params_stage p, int v, int m, int u, int n, qk_long offset) {
  if (p.sum_width == QK_NARROW) {
    int code = (int)((uint)v * (uint)m + (uint)u * (uint)n + (uint)(int)offset) >> p.shift;
    return code < p.low ? p.low : code > p.high ? p.high : code;
  }
  qk_long code = ((qk_long)v * m + (qk_long)u * n + offset) >> p.shift;
  return (int)(code < p.low ? p.low : code > p.high ? p.high : code);
}

/* The coarser code: a shift with halves up. */
DEVICE int net_coarser(const qk_params_stage p, int code) {
  int coarse = (code + ((1 << p.coarse_shift) >> 1)) >> p.coarse_shift;
  return coarse < p.coarse_low ? p.coarse_low : coarse > p.coarse_high ? p.coarse_high : coarse;
}

#endif
