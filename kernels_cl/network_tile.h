/* What the kernels that make tiles of pixels by channels share: packed codes and weights as bytes, pixels of a tile,
 * codes of a tile packed again. */
#ifndef QK_NETWORK_TILE_H
#define QK_NETWORK_TILE_H

#include "kernels_cl/index.h"
#include "kernels_cl/network.h"

/* Eight codes of `bits` bits as two words of bytes. */
DEVICE void net_fetch_eight(GLOBAL const uchar *group, int bits, int is_signed, uint *word) {
  if (bits == 8) {
    word[0] = ((GLOBAL const uint *)group)[0];
    word[1] = ((GLOBAL const uint *)group)[1];
    return;
  }
  uint packed = group[0];
  for (int k = 1; k < bits; k++) packed |= (uint)group[k] << (8 * k);
  for (int k = 0; k < 2; k++, packed >>= 4 * bits) {
    uint four = bits == 4 ? packed & 0xFFFF : packed & ((1u << (4 * bits)) - 1);
    uint codes = bits == 4   ? (four & 0xF) | (four & 0xF0) << 4 | (four & 0xF00) << 8 | (four & 0xF000) << 12
                 : bits == 2 ? (four & 3) | (four & 0xC) << 6 | (four & 0x30) << 12 | (four & 0xC0) << 18
                             : (four & 1) | (four & 2) << 7 | (four & 4) << 14 | (four & 8) << 21;
    uint signs = is_signed ? codes >> (bits - 1) & 0x01010101u : 0;
    word[k] = codes | signs * (256u - (1u << bits));
  }
}

/* Weights at...at+3 as bytes, those from `count` on 0: low + spacing * field, byte by byte. */
DEVICE uint net_fetch_weights(GLOBAL const uint *packed, const qk_net_source s, qk_long at, int count) {
  qk_long bit = at * s.bits;
  uint shift = (uint)bit & 31, fields = packed[bit >> 5] >> shift, mask = (1u << s.bits) - 1;
  if (shift + 4 * (uint)s.bits > 32) fields |= packed[(bit >> 5) + 1] << (32 - shift);
  uint word = (fields & mask) | (fields >> s.bits & mask) << 8 | (fields >> (2 * s.bits) & mask) << 16 |
              (fields >> (3 * s.bits) & mask) << 24;
  uint low = ((uint)s.low & 255) * 0x01010101u;
  word *= (uint)s.spacing;
  word = ((word & 0x7F7F7F7Fu) + (low & 0x7F7F7F7Fu)) ^ ((word ^ low) & 0x80808080u);
  return count < 4 ? word & ((1u << (8 * count)) - 1) : word;
}

/* A pixel of the tile: which unit, and where its window begins. */
typedef struct net_pixel {
  int unit, row, column; /* unit < 0: it is behind the last */
} net_pixel;

DEVICE net_pixel net_pixel_of(const qk_params_stage p, qk_long at) {
  net_pixel pixel;
  ulong column, row, unit = qk_split((ulong)at, (ulong)p.width, &column);
  unit = qk_split(unit, (ulong)p.height, &row);
  pixel.unit = unit < (ulong)p.units ? (int)unit : -1;
  pixel.row = (int)row;
  pixel.column = (int)column;
  return pixel;
}

DEVICE GLOBAL uchar *net_at(GLOBAL uchar *memory, const qk_net_map map, int slot, net_pixel pixel) {
  return net_slot(memory, map, slot) + (qk_long)pixel.unit * map.unit + (qk_long)pixel.row * map.row +
         (qk_long)pixel.column * map.pixel;
}

/* Codes of the tile from local memory out, packed. */
DEVICE void net_tile_write(const qk_params_stage p, GLOBAL uchar *fine, GLOBAL uchar *coarse, int slot,
                           LOCAL const uchar *tile, int pixels, int channels, int items) {
  const int groups = channels / 8;
  for (int i = (int)local_id(0); i < pixels * groups; i += items) {
    net_pixel pixel = net_pixel_of(p, (qk_long)group_id(0) * pixels + i % pixels);
    int g = (int)group_id(1) * groups + i / pixels, code[8];
    if (pixel.unit < 0 || g * 8 >= p.channels) continue;
    UNROLL for (int k = 0; k < 8; k++) {
      int byte = tile[i % pixels * channels + i / pixels * 8 + k];
      code[k] = p.low < 0 ? (byte ^ 128) - 128 : byte;
    }
    if (p.fine.present)
      net_store_eight(net_at(fine, p.fine, slot, pixel) + (qk_long)g * p.fine.bits, p.fine.bits, code);
    if (!p.coarse.present) continue;
    UNROLL for (int k = 0; k < 8; k++) code[k] = net_coarser(p, code[k]);
    net_store_eight(net_at(coarse, p.coarse, slot, pixel) + (qk_long)g * p.coarse.bits, p.coarse.bits, code);
  }
}

#define NET_PASSED                                                                                                     \
  x_memory, x_at, w_memory, w_at, x2_memory, x2_at, w2_memory, w2_at, m_memory, m_at, n_memory, n_at, offset_memory,   \
      offset_at, skip_memory, skip_at, fine_memory, fine_at, coarse_memory, coarse_at, slots_memory, slots_at

#endif
