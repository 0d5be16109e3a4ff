/* Stages of whole networks on maps in rows: pixels of packed codes, channels in groups of eight. A work-item makes
 * eight channels of a pixel, so that it writes whole bytes. Convolutions of some size are those of network_tile.cl. */
#include "kernels_cl/index.h"
#include "kernels_cl/loss.h"
#include "kernels_cl/network.h"

/* Code `at` of packed weights. */
DEVICE int net_weight(GLOBAL const uchar *packed, const qk_net_source s, qk_long at) {
  qk_long bit = at * s.bits;
  uint word = packed[bit >> 3];
  if ((bit & 7) + s.bits > 8) word |= (uint)packed[(bit >> 3) + 1] << 8;
  return (schar)(s.low + s.spacing * (int)(word >> (bit & 7) & ((1u << s.bits) - 1)));
}

/* Sum of one output. x: the image; w: the genome's weights. */
DEVICE int net_sum(const qk_net_source s, GLOBAL const uchar *x, GLOBAL const uchar *w, int row, int column, int c) {
  int sum = 0, inputs = s.inputs ? s.inputs : 1, first = c / s.outputs * inputs;
  for (int kh = 0; kh < s.kernel_h; kh++) {
    int y = row * s.stride_h - s.pad_top + kh * s.dilation_h;
    for (int kw = 0; kw < s.kernel_w; kw++) {
      int at = column * s.stride_w - s.pad_left + kw * s.dilation_w;
      if (y < 0 || y >= s.map.height || at < 0 || at >= s.map.width) continue; /* padding is code 0 */
      GLOBAL const uchar *pixel = x + (qk_long)y * s.map.row + (qk_long)at * s.map.pixel;
      qk_long tap = (((qk_long)c * s.kernel_h + kh) * s.kernel_w + kw) * inputs;
      for (int i = 0; i < inputs; i++)
        sum += net_code(pixel, first + i, s.map.bits, s.map.is_signed) * (s.inputs ? net_weight(w, s, tap + i) : 1);
    }
  }
  return sum;
}

KERNEL(qk_net_gather)(BUFFER(images), BUFFER(index), BUFFER(to), const qk_params_net_gather p) {
  OPERAND(const uchar, images);
  OPERAND(const int, index);
  OPERAND(uchar, to);
  int pixels = p.to.height * p.to.width, groups = (p.to.channels + 7) / 8;
  ulong each = (ulong)pixels * (ulong)groups;
  for (ulong i = flat_start(); i < each * (ulong)p.units; i += flat_stride()) {
    ulong rest, g, unit = qk_split(i, each, &rest), pixel = qk_split(rest, (ulong)groups, &g);
    GLOBAL const uchar *from = images + ((ulong)index[unit] * (ulong)pixels + pixel) * (ulong)p.to.channels;
    GLOBAL uchar *at = to + unit * (ulong)p.to.unit + pixel * (ulong)p.to.pixel + g * 8;
    for (int k = 0; k < 8; k++) {
      int c = (int)g * 8 + k;
      at[k] = c < p.to.channels ? from[c] ^ 0x80 : 0; /* less 128, as s8 */
    }
  }
}

/* Any sums, one by one. */
KERNEL(qk_net_sums)(NET_BUFFERS, const qk_params_stage p) {
  OPERAND(const int, slots);
  int groups = (p.channels + 7) / 8;
  ulong each = (ulong)p.height * (ulong)p.width * (ulong)groups;
  for (ulong i = flat_start(); i < each * (ulong)p.units * (ulong)p.slots; i += flat_stride()) {
    ulong g, column, row, unit;
    ulong at = qk_split(i, (ulong)groups, &g);
    at = qk_split(at, (ulong)p.width, &column);
    at = qk_split(at, (ulong)p.height, &row);
    int slot = p.first_slot + (int)qk_split(at, (ulong)p.units, &unit), genome = slots[slot], code[8];
    GLOBAL const uchar *from = net_slot(x_memory + x_at, p.source[0].map, slot) + unit * (ulong)p.source[0].map.unit;
    GLOBAL const uchar *from2 = net_slot(x2_memory + x2_at, p.source[1].map, slot) + unit * (ulong)p.source[1].map.unit;
    GLOBAL const uchar *weight = w_memory + w_at + genome * p.source[0].weight_stride;
    GLOBAL const uchar *weight2 = w2_memory + w2_at + genome * p.source[1].weight_stride;
    GLOBAL const int *m = (GLOBAL const int *)(m_memory + m_at + genome * p.m_stride);
    GLOBAL const int *n = (GLOBAL const int *)(n_memory + n_at + genome * p.n_stride);
    GLOBAL const qk_long *offset = (GLOBAL const qk_long *)(offset_memory + offset_at + genome * p.offset_stride);
    GLOBAL const uchar *other = net_slot(skip_memory + skip_at, p.skip, slot) + unit * (ulong)p.skip.unit +
                                row * (ulong)p.skip.row + column * (ulong)p.skip.pixel;
    for (int k = 0; k < 8; k++) {
      int c = (int)g * 8 + k, v, u = 0;
      code[k] = 0;
      if (c >= p.channels) continue;
      v = net_sum(p.source[0], from, weight, (int)row, (int)column, c);
      if (p.sources == 2) u = net_sum(p.source[1], from2, weight2, (int)row, (int)column, c);
      if (p.skip.present) u = net_code(other, c, p.skip.bits, p.skip.is_signed);
      code[k] = net_requantised(p, v, m[c], u, p.sources == 2 || p.skip.present ? n[c] : 0, offset[c]);
      if (p.logits)
        ((GLOBAL int *)(fine_memory + fine_at + slot * p.logits_slot))[unit * (ulong)p.channels + (ulong)c] = code[k];
    }
    if (p.fine.present)
      net_store_eight(net_slot(fine_memory + fine_at, p.fine, slot) + unit * (ulong)p.fine.unit +
                          row * (ulong)p.fine.row + column * (ulong)p.fine.pixel + g * (ulong)p.fine.bits,
                      p.fine.bits, code);
    if (!p.coarse.present) continue;
    for (int k = 0; k < 8; k++) code[k] = net_coarser(p, code[k]);
    net_store_eight(net_slot(coarse_memory + coarse_at, p.coarse, slot) + unit * (ulong)p.coarse.unit +
                        row * (ulong)p.coarse.row + column * (ulong)p.coarse.pixel + g * (ulong)p.coarse.bits,
                    p.coarse.bits, code);
  }
}

/* Largest code of a window, or code 0 for channels outside of the map. x: the image. */
DEVICE int net_moved(const qk_params_move p, GLOBAL const uchar *x, int row, int column, int c) {
  int best = 0, first = 1, channel = c - p.before;
  if (channel < 0 || channel >= p.from.channels) return 0;
  for (int kh = 0; kh < p.kernel_h; kh++)
    for (int kw = 0; kw < p.kernel_w; kw++) {
      int y = row * p.stride_h - p.pad_top + kh, at = column * p.stride_w - p.pad_left + kw;
      if (y < 0 || y >= p.from.height || at < 0 || at >= p.from.width) continue;
      GLOBAL const uchar *pixel = x + (qk_long)y * p.from.row + (qk_long)at * p.from.pixel;
      int code = net_code(pixel, channel, p.from.bits, p.from.is_signed);
      best = first || code > best ? code : best;
      first = 0;
    }
  return best;
}

KERNEL(qk_net_move)(BUFFER(x), BUFFER(fine), const qk_params_move p) {
  int groups = (p.to.channels + 7) / 8;
  ulong each = (ulong)p.to.height * (ulong)p.to.width * (ulong)groups;
  for (ulong i = flat_start(); i < each * (ulong)p.units * (ulong)p.slots; i += flat_stride()) {
    ulong g, column, row, unit;
    ulong at = qk_split(i, (ulong)groups, &g);
    at = qk_split(at, (ulong)p.to.width, &column);
    at = qk_split(at, (ulong)p.to.height, &row);
    int slot = p.first_slot + (int)qk_split(at, (ulong)p.units, &unit), code[8];
    GLOBAL const uchar *from = net_slot(x_memory + x_at, p.from, slot) + unit * (ulong)p.from.unit;
    for (int k = 0; k < 8; k++) {
      int c = (int)g * 8 + k;
      code[k] = c < p.to.channels ? net_moved(p, from, (int)row, (int)column, c) : 0;
    }
    net_store_eight(net_slot(fine_memory + fine_at, p.to, slot) + unit * (ulong)p.to.unit + row * (ulong)p.to.row +
                        column * (ulong)p.to.pixel + g * (ulong)p.to.bits,
                    p.to.bits, code);
  }
}

/* A work-group adds up the images of a slot. */
KERNEL(qk_net_loss)(BUFFER(logits), BUFFER(labels), BUFFER(slots), BUFFER(totals), const qk_params_net_loss p) {
  LOCAL_ARRAY(qk_long, part, QK_GROUP);
  LOCAL_ARRAY(int, right, QK_GROUP);
  OPERAND(const int, labels);
  OPERAND(const int, slots);
  OPERAND(qk_long, totals);
  int slot = p.first_slot + (int)group_id(0), id = (int)local_id(0), hits = 0;
  GLOBAL const int *z = (GLOBAL const int *)(logits_memory + logits_at + slot * p.logits_slot);
  qk_long sum = 0;
  for (int i = id; i < p.images; i += QK_GROUP) {
    int hit;
    sum += qk_row_loss(z + (qk_long)i * p.classes, p.classes, labels[i], &hit);
    hits += hit;
  }
  part[id] = sum;
  right[id] = hits;
  for (int away = QK_GROUP / 2; away > 0; away /= 2) {
    BARRIER();
    if (id < away) {
      part[id] += part[id + away];
      right[id] += right[id + away];
    }
  }
  if (id == 0) {
    totals[2 * slots[slot]] += part[0];
    totals[2 * slots[slot] + 1] += right[0];
  }
}
