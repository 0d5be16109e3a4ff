/* Convolutions of whole networks on maps in rows, for GPUs: a work-group makes a tile of pixels by channels of one
 * candidate. Codes and weights of some inputs are unpacked into local memory, a byte each, and multiplied four at a
 * time; then sums are requantised with the skip connection, and codes go out packed. */
#include "kernels_cl/network_tile.h"

#define NET_BLOCK QK_TILE_BLOCK
#define NET_STEPS 4               /* groups of eight inputs in local memory at a time */
#define NET_WORDS (2 * NET_STEPS) /* of four codes */

/* Sums of one source, over NET_STEPS groups of inputs at a time. x: the slot; w: the genome's weights. */
DEVICE void net_tile_sums(const qk_params_stage p, const qk_net_source s, GLOBAL const uchar *x, GLOBAL const uchar *w,
                          LOCAL uint *codes, LOCAL uint *weights, int pixels, int channels,
                          int sum[NET_BLOCK][NET_BLOCK]) {
  const int items = pixels * channels / (NET_BLOCK * NET_BLOCK), id = (int)local_id(0);
  const int across = pixels / NET_BLOCK, down = channels / NET_BLOCK, px = id % across, cx = id / across;
  const int pixel_at = id % pixels, lane = id % channels, c = (int)group_id(1) * channels + lane;
  net_pixel pixel = net_pixel_of(p, (qk_long)group_id(0) * pixels + pixel_at);
  int groups = (s.inputs + 7) / 8, steps = s.kernel_h * s.kernel_w * groups;
  UNROLL for (int i = 0; i < NET_BLOCK; i++) UNROLL for (int k = 0; k < NET_BLOCK; k++) sum[i][k] = 0;
  for (int first = 0; first < steps; first += NET_STEPS) {
    for (int j = id / pixels; j < NET_STEPS; j += items / pixels) {
      int tap = (first + j) / groups, g = first + j - tap * groups, kh = tap / s.kernel_w, kw = tap - kh * s.kernel_w;
      int row = pixel.row * s.stride_h - s.pad_top + kh * s.dilation_h;
      int column = pixel.column * s.stride_w - s.pad_left + kw * s.dilation_w;
      uint word[2] = {0, 0};
      if (first + j < steps && pixel.unit >= 0 && row >= 0 && row < s.map.height && column >= 0 && column < s.map.width)
        net_fetch_eight(x + (qk_long)pixel.unit * s.map.unit + (qk_long)row * s.map.row +
                            (qk_long)column * s.map.pixel + (qk_long)g * s.map.bits,
                        s.map.bits, s.map.is_signed, word);
      codes[2 * j * pixels + pixel_at] = word[0];
      codes[(2 * j + 1) * pixels + pixel_at] = word[1];
    }
    for (int j = id / channels; j < NET_WORDS; j += items / channels) {
      int step = first + j / 2, tap = step / groups, input = (step - tap * groups) * 8 + j % 2 * 4;
      int used = step < steps && c < p.channels && input < s.inputs;
      qk_long at = ((qk_long)c * s.kernel_h * s.kernel_w + tap) * s.inputs + input;
      weights[j * channels + lane] = used ? net_fetch_weights((GLOBAL const uint *)w, s, at, s.inputs - input) : 0;
    }
    BARRIER();
    for (int j = 0; j < NET_WORDS; j++) {
      uint a[NET_BLOCK], b[NET_BLOCK];
      UNROLL for (int i = 0; i < NET_BLOCK; i++) {
        a[i] = codes[j * pixels + px + i * across];
        b[i] = weights[j * channels + cx + i * down];
      }
      if (s.map.is_signed)
        UNROLL for (int i = 0; i < NET_BLOCK; i++) UNROLL for (int k = 0; k < NET_BLOCK; k++) sum[i][k] =
            qk_dot_signed(a[i], b[k], sum[i][k]);
      else
        UNROLL for (int i = 0; i < NET_BLOCK; i++) UNROLL for (int k = 0; k < NET_BLOCK; k++) sum[i][k] =
            qk_dot(a[i], b[k], sum[i][k]);
    }
    BARRIER();
  }
}

DEVICE void net_tile(NET_BUFFERS, const qk_params_stage p, LOCAL uint *codes, LOCAL uint *weights, LOCAL uchar *tile,
                     int pixels, int channels) {
  OPERAND(const int, slots);
  const int across = pixels / NET_BLOCK, down = channels / NET_BLOCK;
  const int px = (int)local_id(0) % across, cx = (int)local_id(0) / across;
  int slot = p.first_slot + (int)group_id(2), genome = slots[slot];
  int sum[NET_BLOCK][NET_BLOCK], other[NET_BLOCK][NET_BLOCK];
  GLOBAL const int *m = (GLOBAL const int *)(m_memory + m_at + genome * p.m_stride);
  GLOBAL const int *n = (GLOBAL const int *)(n_memory + n_at + genome * p.n_stride);
  GLOBAL const qk_long *offset = (GLOBAL const qk_long *)(offset_memory + offset_at + genome * p.offset_stride);
  net_tile_sums(p, p.source[0], net_slot(x_memory + x_at, p.source[0].map, slot),
                w_memory + w_at + genome * p.source[0].weight_stride, codes, weights, pixels, channels, sum);
  if (p.sources == 2)
    net_tile_sums(p, p.source[1], net_slot(x2_memory + x2_at, p.source[1].map, slot),
                  w2_memory + w2_at + genome * p.source[1].weight_stride, codes, weights, pixels, channels, other);
  UNROLL for (int i = 0; i < NET_BLOCK; i++) {
    net_pixel pixel = net_pixel_of(p, (qk_long)group_id(0) * pixels + px + i * across);
    UNROLL for (int k = 0; k < NET_BLOCK; k++) {
      int c = (int)group_id(1) * channels + cx + k * down, code = 0;
      if (pixel.unit >= 0 && c < p.channels) {
        int u = p.sources == 2 ? other[i][k] : 0;
        if (p.skip.present)
          u = net_code(net_at(skip_memory + skip_at, p.skip, slot, pixel), c, p.skip.bits, p.skip.is_signed);
        code = net_requantised(p, sum[i][k], m[c], u, p.sources == 2 || p.skip.present ? n[c] : 0, offset[c]);
        if (p.logits)
          ((GLOBAL int *)(fine_memory + fine_at + slot * p.logits_slot))[(qk_long)pixel.unit * p.channels + c] = code;
      }
      tile[(px + i * across) * channels + cx + k * down] = (uchar)code;
    }
  }
  BARRIER();
  if (!p.logits)
    net_tile_write(p, fine_memory + fine_at, coarse_memory + coarse_at, slot, tile, pixels, channels, across * down);
}

#define NET_TILE(name, pixels, channels)                                                                               \
  KERNEL(name)(NET_BUFFERS, const qk_params_stage p) {                                                                 \
    LOCAL_ARRAY(uint, codes, NET_WORDS *(pixels));                                                                     \
    LOCAL_ARRAY(uint, weights, NET_WORDS *(channels));                                                                 \
    LOCAL_ARRAY(uchar, tile, (pixels) * (channels));                                                                   \
    net_tile(NET_PASSED, p, codes, weights, tile, pixels, channels);                                                   \
  }

NET_TILE(qk_net_tile_16, QK_TILE_PIXELS_16, 16)
NET_TILE(qk_net_tile_32, QK_TILE_PIXELS_32, 32)
NET_TILE(qk_net_tile_64, QK_TILE_PIXELS_64, 64)

/* ---- bands: the rows that a work-group's windows meet are unpacked once for all taps ---- */

#define NET_BAND_TAPS 3
#define NET_BAND_BLOCK (2 * NET_BLOCK)

/* Row of a pixel's window among the rows that all images' windows meet. */
DEVICE int net_band_row(const qk_net_source s, net_pixel pixel) {
  return pixel.unit * s.band_height + pixel.row * s.stride_h;
}

/* Codes of groups first...first+groups-1 of the band that starts at row `top`. */
DEVICE void net_band_load(const qk_params_stage p, const qk_net_source s, GLOBAL const uchar *x, LOCAL uint *codes,
                          int top, int pixels, int first, int groups, int items) {
  for (int i = (int)local_id(0); i < pixels; i += items) {
    int line = top + i / s.band_width, unit = line / s.band_height;
    int row = line - unit * s.band_height - s.pad_top, column = i % s.band_width - s.pad_left;
    int inside = unit < p.units && row >= 0 && row < s.map.height && column >= 0 && column < s.map.width;
    GLOBAL const uchar *pixel =
        x + (qk_long)unit * s.map.unit + (qk_long)row * s.map.row + (qk_long)column * s.map.pixel;
    for (int g = 0; g < groups; g++) {
      uint word[2] = {0, 0};
      if (inside) net_fetch_eight(pixel + (first + g) * s.map.bits, s.map.bits, s.map.is_signed, word);
      codes[2 * g * s.band_pixels + i] = word[0];
      codes[(2 * g + 1) * s.band_pixels + i] = word[1];
    }
  }
}

/* Weights of `taps` taps of a row of the kernel, from tap `tap` on, [tap, word, channel]. */
DEVICE void net_band_weights(const qk_params_stage p, const qk_net_source s, GLOBAL const uchar *w, LOCAL uint *weights,
                             int tap, int taps, int first, int words, int channels, int items) {
  const int lane = (int)local_id(0) % channels, c = (int)group_id(1) * channels + lane;
  qk_long at = ((qk_long)c * s.kernel_h * s.kernel_w + tap) * s.inputs + 8 * first;
  for (int t = 0; t < taps; t++, at += s.inputs)
    for (int j = (int)local_id(0) / channels; j < words; j += items / channels)
      weights[(t * words + j) * channels + lane] =
          c < p.channels ? net_fetch_weights((GLOBAL const uint *)w, s, at + 4 * j, s.inputs - 8 * first - 4 * j) : 0;
}

DEVICE void net_band_multiply(const qk_net_source s, LOCAL const uint *codes, LOCAL const uint *weights,
                              const int *base, int words, int channels, int sum[NET_BAND_BLOCK][NET_BLOCK]) {
  for (int j = 0; j < words; j++) {
    uint a[NET_BAND_BLOCK], b[NET_BLOCK];
    UNROLL for (int i = 0; i < NET_BAND_BLOCK; i++) a[i] = codes[j * s.band_pixels + base[i]];
    UNROLL for (int k = 0; k < NET_BLOCK; k++) b[k] = weights[j * channels + k];
    if (s.map.is_signed)
      UNROLL for (int i = 0; i < NET_BAND_BLOCK; i++) UNROLL for (int k = 0; k < NET_BLOCK; k++) sum[i][k] =
          qk_dot_signed(a[i], b[k], sum[i][k]);
    else
      UNROLL for (int i = 0; i < NET_BAND_BLOCK; i++) UNROLL for (int k = 0; k < NET_BLOCK; k++) sum[i][k] =
          qk_dot(a[i], b[k], sum[i][k]);
  }
}

DEVICE void net_band_sums(const qk_params_stage p, GLOBAL const uchar *x, GLOBAL const uchar *w, LOCAL uint *codes,
                          LOCAL uint *weights, int pixels, int channels, int sum[NET_BAND_BLOCK][NET_BLOCK]) {
  const qk_net_source s = p.source[0];
  const int across = pixels / NET_BAND_BLOCK, items = across * channels / NET_BLOCK;
  const int px = (int)local_id(0) % across, cx = (int)local_id(0) / across;
  qk_long from = (qk_long)group_id(0) * pixels, last = (qk_long)p.units * p.height * p.width - 1;
  int top = net_band_row(s, net_pixel_of(p, from)), base[NET_BAND_BLOCK], groups = (s.inputs + 7) / 8;
  int bottom = net_band_row(s, net_pixel_of(p, from + pixels - 1 < last ? from + pixels - 1 : last));
  int count = (bottom - top + (s.kernel_h - 1) * s.dilation_h + 1) * s.band_width;
  UNROLL for (int i = 0; i < NET_BAND_BLOCK; i++) {
    net_pixel pixel = net_pixel_of(p, from + px + i * across);
    base[i] = pixel.unit < 0 ? 0 : (net_band_row(s, pixel) - top) * s.band_width + pixel.column * s.stride_w;
    UNROLL for (int k = 0; k < NET_BLOCK; k++) sum[i][k] = 0;
  }
  for (int first = 0; first < groups; first += s.band_groups) {
    int some = groups - first < s.band_groups ? groups - first : s.band_groups, words = (s.inputs + 3) / 4 - 2 * first;
    if (words > 2 * some) words = 2 * some;
    net_band_load(p, s, x, codes, top, count, first, some, items);
    for (int kh = 0; kh < s.kernel_h; kh++)
      for (int kw = 0; kw < s.kernel_w; kw += NET_BAND_TAPS) {
        int taps = s.kernel_w - kw < NET_BAND_TAPS ? s.kernel_w - kw : NET_BAND_TAPS;
        net_band_weights(p, s, w, weights, kh * s.kernel_w + kw, taps, first, words, channels, items);
        BARRIER();
        for (int t = 0; t < taps; t++)
          net_band_multiply(s, codes + kh * s.dilation_h * s.band_width + (kw + t) * s.dilation_w,
                            weights + t * words * channels + cx * NET_BLOCK, base, words, channels, sum);
        BARRIER();
      }
  }
}

/* Codes c...c+3 of a pixel, c a multiple of 4. */
DEVICE void net_fetch_four(GLOBAL const uchar *pixel, int c, int bits, int is_signed, int *code) {
  GLOBAL const uchar *at = pixel + (c * bits >> 3);
  uint word = at[0], sign = 1u << (bits - 1);
  for (int k = 1; k < bits / 2; k++) word |= (uint)at[k] << (8 * k);
  word >>= c * bits & 7;
  UNROLL for (int k = 0; k < 4; k++) {
    uint field = word >> (k * bits) & ((1u << bits) - 1);
    code[k] = is_signed ? (int)(field ^ sign) - (int)sign : (int)field;
  }
}

DEVICE void net_band(NET_BUFFERS, const qk_params_stage p, LOCAL uint *codes, LOCAL uint *weights, int pixels,
                     int channels) {
  OPERAND(const int, slots);
  const int across = pixels / NET_BAND_BLOCK, px = (int)local_id(0) % across, cx = (int)local_id(0) / across;
  const int c = (int)group_id(1) * channels + cx * NET_BLOCK;
  int slot = p.first_slot + (int)group_id(2), genome = slots[slot];
  int sum[NET_BAND_BLOCK][NET_BLOCK];
  LOCAL uchar *tile = (LOCAL uchar *)codes;
  GLOBAL const int *m = (GLOBAL const int *)(m_memory + m_at + genome * p.m_stride);
  GLOBAL const int *n = (GLOBAL const int *)(n_memory + n_at + genome * p.n_stride);
  GLOBAL const qk_long *offset = (GLOBAL const qk_long *)(offset_memory + offset_at + genome * p.offset_stride);
  net_band_sums(p, net_slot(x_memory + x_at, p.source[0].map, slot),
                w_memory + w_at + genome * p.source[0].weight_stride, codes, weights, pixels, channels, sum);
  UNROLL for (int i = 0; i < NET_BAND_BLOCK; i++) {
    net_pixel pixel = net_pixel_of(p, (qk_long)group_id(0) * pixels + px + i * across);
    int u[NET_BLOCK] = {0, 0, 0, 0};
    int used = pixel.unit >= 0 && c < p.channels;
    if (used && p.skip.present)
      net_fetch_four(net_at(skip_memory + skip_at, p.skip, slot, pixel), c, p.skip.bits, p.skip.is_signed, u);
    UNROLL for (int k = 0; k < NET_BLOCK; k++) {
      int code = 0;
      if (used && c + k < p.channels) {
        code = net_requantised(p, sum[i][k], m[c + k], u[k], p.skip.present ? n[c + k] : 0, offset[c + k]);
        if (p.logits)
          ((GLOBAL int *)(fine_memory + fine_at + slot * p.logits_slot))[(qk_long)pixel.unit * p.channels + c + k] =
              code;
      }
      tile[(px + i * across) * channels + cx * NET_BLOCK + k] = (uchar)code;
    }
  }
  BARRIER();
  if (!p.logits)
    net_tile_write(p, fine_memory + fine_at, coarse_memory + coarse_at, slot, tile, pixels, channels,
                   across * channels / NET_BLOCK);
}

#define NET_BAND(name, pixels, channels)                                                                               \
  KERNEL(name)(NET_BUFFERS, const qk_params_stage p) {                                                                 \
    LOCAL_ARRAY(uint, codes, QK_BAND_WORDS);                                                                           \
    LOCAL_ARRAY(uint, weights, NET_BAND_TAPS *NET_WORDS *(channels));                                                  \
    net_band(NET_PASSED, p, codes, weights, pixels, channels);                                                         \
  }

NET_BAND(qk_net_band_16, QK_BAND_PIXELS_16, 16)
NET_BAND(qk_net_band_32, QK_BAND_PIXELS_32, 32)
NET_BAND(qk_net_band_64, QK_BAND_PIXELS_64, 64)
