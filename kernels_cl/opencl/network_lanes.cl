/* Stages of whole networks for processors: sixteen images in the lanes of a vector, so that weights are scalars. Maps
 * are [block of images, row, pixel, channel, lane], a byte each, with a ring of code 0 around where convolutions reach
 * beyond them. OpenCL only: CUDA has no vector operators. A work-group is one work-item. */
#include "kernels_cl/index.h"
#include "kernels_cl/network.h"

#define LANES 16

/* Maps, rows and pixels start on multiples of 16 bytes. */
DEVICE uchar16 lanes_load(GLOBAL const uchar *at) {
  return *(GLOBAL const uchar16 *)at;
}
DEVICE void lanes_store(GLOBAL uchar *at, int16 code) {
  *(GLOBAL uchar16 *)at = convert_uchar16(code & 255);
}

DEVICE int16 lanes_codes(GLOBAL const uchar *at, int is_signed) {
  uchar16 byte = lanes_load(at);
  return is_signed ? convert_int16(as_char16(byte)) : convert_int16(byte);
}

/* The images' bytes change places: 16 images' pixels to lanes. Images behind the last repeat it. */
KERNEL(qk_lanes_gather)(BUFFER(images), BUFFER(index), BUFFER(to), const qk_params_net_gather p) {
  OPERAND(const uchar, images);
  OPERAND(const int, index);
  OPERAND(uchar, to);
  int row = (int)group_id(0), block = (int)group_id(1), count = p.to.width * p.to.channels;
  GLOBAL const uchar *from[LANES];
  for (int i = 0; i < LANES; i++) {
    int image = block * LANES + i < p.images ? block * LANES + i : p.images - 1;
    from[i] = images + ((ulong)index[image] * (ulong)p.to.height + (ulong)row) * (ulong)count;
  }
  GLOBAL uchar *at = to + (long)block * p.to.unit + (long)row * p.to.row;
  for (int k = 0; k < count; k++)
    for (int i = 0; i < LANES; i++) at[k * LANES + i] = from[i][k] ^ 0x80; /* less 128, as s8 */
}

KERNEL(qk_lanes_unpack)(BUFFER(genomes), BUFFER(weights), const qk_params_net_unpack p) {
  int blocks = (p.outputs + p.block - 1) / p.block;
  ulong each = (ulong)blocks * (ulong)p.block * (ulong)p.each;
  for (ulong i = flat_start(); i < each * (ulong)p.genomes; i += flat_stride()) {
    ulong at, in_block, k, genome = qk_split(i, each, &at);
    ulong output = qk_split(qk_split(at, (ulong)p.block, &in_block), (ulong)p.each, &k) * (ulong)p.block + in_block;
    GLOBAL const uchar *packed = genomes_memory + genomes_at + genome * (ulong)p.from_stride;
    GLOBAL short *to = (GLOBAL short *)(weights_memory + weights_at + genome * (ulong)p.to_stride);
    ulong bit = (output * (ulong)p.each + k) * (ulong)p.bits;
    int code = 0;
    if (output < (ulong)p.outputs) {
      uint word = packed[bit >> 3];
      if ((bit & 7) + (ulong)p.bits > 8) word |= (uint)packed[(bit >> 3) + 1] << 8;
      code = (schar)(p.low + p.spacing * (int)(word >> (bit & 7) & ((1u << p.bits) - 1)));
    }
    to[at] = (short)code;
  }
}

/* ---- from sums to codes ---- */

/* What a stage's results need: constants of the slot's genome, and where the results of this work-item's row go. */
typedef struct lanes_row {
  GLOBAL const int *m, *n;
  GLOBAL const long *offset;
  GLOBAL const uchar *skip;
  GLOBAL uchar *fine, *coarse;
} lanes_row;

DEVICE lanes_row lanes_row_of(NET_BUFFERS, const qk_params_stage *p, int slot, int block, int row) {
  OPERAND(const int, slots);
  int genome = slots[slot];
  lanes_row r;
  r.m = (GLOBAL const int *)(m_memory + m_at + genome * p->m_stride);
  r.n = (GLOBAL const int *)(n_memory + n_at + genome * p->n_stride);
  r.offset = (GLOBAL const long *)(offset_memory + offset_at + genome * p->offset_stride);
  r.skip = net_slot(skip_memory + skip_at, p->skip, slot) + (long)block * p->skip.unit + (long)row * p->skip.row;
  r.fine = p->logits
               ? fine_memory + fine_at + slot * p->logits_slot
               : net_slot(fine_memory + fine_at, p->fine, slot) + (long)block * p->fine.unit + (long)row * p->fine.row;
  r.coarse =
      net_slot(coarse_memory + coarse_at, p->coarse, slot) + (long)block * p->coarse.unit + (long)row * p->coarse.row;
  return r;
}

DEVICE int16 lanes_wide(int16 v, int m, int16 u, int n, long offset, int shift, int low, int high) {
  long16 sum = (convert_long16(v) * (long)m + convert_long16(u) * (long)n + offset) >> (ulong)shift;
  return convert_int16(clamp(sum, (long16)low, (long16)high));
}

/* As lanes_wide, with low and high parts of L bits = p->limb: floor((a 2^L + b) / 2^S) = floor((a + floor(b / 2^L)) /
 * 2^(S - L)). */
DEVICE int16 lanes_limbs(const qk_params_stage *p, int16 v, int m, int16 u, int n, long offset) {
  const int limb = p->limb, mask = (1 << limb) - 1;
  int16 small = v * (m & mask) + u * (n & mask) + (int)(offset & mask);
  int16 large = v * (m >> limb) + u * (n >> limb) + (int)(offset >> limb);
  return clamp((large + (small >> limb)) >> (p->shift - limb), (int16)p->low, (int16)p->high);
}

/* Logits of the block's images. */
DEVICE void lanes_logits(GLOBAL int *to, int16 code, int images, int classes) {
  int value[LANES];
  vstore16(code, 0, value);
  for (int i = 0; i < images && i < LANES; i++) to[i * classes] = value[i];
}

/* One result: channel c of the row's pixel. u: sums of the second source. */
DEVICE void lanes_result(const qk_params_stage *p, const lanes_row r, int block, int pixel, int c, int16 v, int16 u) {
  int two = p->sources == 2 || p->skip.present, m = r.m[c], n = two ? r.n[c] : 0;
  long offset = r.offset[c];
  if (p->skip.present) u = lanes_codes(r.skip + (long)pixel * p->skip.pixel + c * LANES, p->skip.is_signed);
  int16 code;
  if (p->sum_width == QK_NARROW)
    code = clamp((v * m + u * n + (int)offset) >> p->shift, (int16)p->low, (int16)p->high);
  else if (p->sum_width == QK_LIMBS)
    code = lanes_limbs(p, v, m, u, n, offset);
  else
    code = lanes_wide(v, m, u, n, offset, p->shift, p->low, p->high);
  if (p->logits)
    lanes_logits((GLOBAL int *)r.fine + (long)block * LANES * p->channels + c, code, p->images - block * LANES,
                 p->channels);
  if (p->fine.present) lanes_store(r.fine + (long)pixel * p->fine.pixel + c * LANES, code);
  if (!p->coarse.present) return;
  code = clamp((code + ((1 << p->coarse_shift) >> 1)) >> p->coarse_shift, (int16)p->coarse_low, (int16)p->coarse_high);
  lanes_store(r.coarse + (long)pixel * p->coarse.pixel + c * LANES, code);
}

#define NET_PASSED                                                                                                     \
  x_memory, x_at, w_memory, w_at, x2_memory, x2_at, w2_memory, w2_at, m_memory, m_at, n_memory, n_at, offset_memory,   \
      offset_at, skip_memory, skip_at, fine_memory, fine_at, coarse_memory, coarse_at, slots_memory, slots_at

/* ---- sums of windows without weights ---- */

KERNEL(qk_lanes_sums)(NET_BUFFERS, const qk_params_stage p) {
  int row = (int)group_id(0), block = (int)group_id(1), slot = p.first_slot + (int)group_id(2);
  lanes_row r = lanes_row_of(NET_PASSED, &p, slot, block, row);
  const qk_net_source s = p.source[0];
  GLOBAL const uchar *x = net_slot(x_memory + x_at, s.map, slot) + (long)block * s.map.unit;
  for (int pixel = 0; pixel < p.width; pixel++)
    for (int c = 0; c < p.channels; c++) {
      int16 sum = 0;
      for (int kh = 0; kh < s.kernel_h; kh++)
        for (int kw = 0; kw < s.kernel_w; kw++) {
          int y = row * s.stride_h - s.pad_top + kh, at = pixel * s.stride_w - s.pad_left + kw;
          if (y < 0 || y >= s.map.height || at < 0 || at >= s.map.width) continue;
          sum += lanes_codes(x + (long)y * s.map.row + (long)at * s.map.pixel + c * LANES, s.map.is_signed);
        }
      lanes_result(&p, r, block, pixel, c, sum, (int16)0);
    }
}

KERNEL(qk_lanes_move)(BUFFER(x), BUFFER(fine), const qk_params_move p) {
  int row = (int)group_id(0), block = (int)group_id(1), slot = p.first_slot + (int)group_id(2);
  GLOBAL const uchar *from = net_slot(x_memory + x_at, p.from, slot) + (long)block * p.from.unit;
  GLOBAL uchar *to = net_slot(fine_memory + fine_at, p.to, slot) + (long)block * p.to.unit + (long)row * p.to.row;
  for (int pixel = 0; pixel < p.to.width; pixel++)
    for (int c = 0; c < p.to.channels; c++) {
      int16 best = 0;
      int first = 1, channel = c - p.before;
      for (int kh = 0; kh < p.kernel_h; kh++)
        for (int kw = 0; kw < p.kernel_w; kw++) {
          int y = row * p.stride_h - p.pad_top + kh, at = pixel * p.stride_w - p.pad_left + kw;
          if (channel < 0 || channel >= p.from.channels) continue;
          if (y < 0 || y >= p.from.height || at < 0 || at >= p.from.width) continue;
          int16 code =
              lanes_codes(from + (long)y * p.from.row + (long)at * p.from.pixel + channel * LANES, p.from.is_signed);
          best = first ? code : max(best, code);
          first = 0;
        }
      lanes_store(to + (long)pixel * p.to.pixel + c * LANES, best);
    }
}

/* ---- convolutions ---- */

/* Statements for each of a block's sums and codes, written out: drivers for processors keep loops over arrays of
 * vectors as they are, in memory. */
#define FOR_4x4(DO, type) FOR_1x4(DO, type, 0) FOR_1x4(DO, type, 1) FOR_1x4(DO, type, 2) FOR_1x4(DO, type, 3)
#define FOR_1x4(DO, type, o) DO(type, o, 0, 4) DO(type, o, 1, 4) DO(type, o, 2, 4) DO(type, o, 3, 4)
#define FOR_4x1(DO, type) DO(type, 0, 0, 1) DO(type, 1, 0, 1) DO(type, 2, 0, 1) DO(type, 3, 0, 1)
#define FOR_4x2(DO, type) FOR_1x2(DO, type, 0) FOR_1x2(DO, type, 1) FOR_1x2(DO, type, 2) FOR_1x2(DO, type, 3)
#define FOR_1x2(DO, type, o) DO(type, o, 0, 2) DO(type, o, 1, 2)
#define FIRST_1x4(DO, type) FOR_1x4(DO, type, 0)

#define LANES_DECLARE(type, o, i, pixels) type sum##o##i = 0;
#define LANES_CLEAR(type, o, i, pixels) total[o * pixels + i] = 0;
#define LANES_MULTIPLY(type, o, i, pixels) sum##o##i += code##i * w[o];
#define LANES_WIDEN(type, o, i, pixels)                                                                                \
  total[o * pixels + i] += convert_int16(sum##o##i);                                                                   \
  sum##o##i = 0;

#define CODES_4(load) CODES_2(load) load(2) load(3)
#define CODES_2(load) CODES_1(load) load(1)
#define CODES_1(load) load(0)

/* A work-item makes some channels of a row, some pixels at a time: sums of type `type` are widened after s->run
 * products. Channels behind the last have weights 0; places behind the row's end are made and dropped. */
#define LANES_TAPS(name, FOR, CODES, outputs, type, load)                                                              \
  DEVICE void name(const qk_net_source *s, GLOBAL const uchar *x, GLOBAL const short *w, int16 *total) {               \
    const int run = s->run, inputs = s->inputs, step = s->stride_w * s->map.pixel;                                     \
    int left = run;                                                                                                    \
    FOR(LANES_CLEAR, type)                                                                                             \
    FOR(LANES_DECLARE, type)                                                                                           \
    for (int kh = 0; kh < s->kernel_h; kh++)                                                                           \
      for (int kw = 0; kw < s->kernel_w; kw++) {                                                                       \
        GLOBAL const uchar *at = x + (long)kh * s->dilation_h * s->map.row + (long)kw * s->dilation_w * s->map.pixel;  \
        for (int c = 0; c < inputs;) {                                                                                 \
          int end = min(inputs, c + left);                                                                             \
          left -= end - c;                                                                                             \
          for (; c < end; c++, at += LANES, w += (outputs)) {                                                          \
            CODES(load)                                                                                                \
            FOR(LANES_MULTIPLY, type)                                                                                  \
          }                                                                                                            \
          if (left > 0) continue;                                                                                      \
          left = run;                                                                                                  \
          FOR(LANES_WIDEN, type)                                                                                       \
        }                                                                                                              \
      }                                                                                                                \
    FOR(LANES_WIDEN, type)                                                                                             \
  }

#define LOAD_SHORT_U(i) short16 code##i = convert_short16(lanes_load(at + (long)i * step));
#define LOAD_SHORT_S(i) short16 code##i = convert_short16(as_char16(lanes_load(at + (long)i * step)));
#define LOAD_INT_U(i) int16 code##i = convert_int16(lanes_load(at + (long)i * step));
#define LOAD_INT_S(i) int16 code##i = convert_int16(as_char16(lanes_load(at + (long)i * step)));

#define LANES_CONV(name, FOR, CODES, outputs_, pixels_, type, load)                                                    \
  LANES_TAPS(name##_unsigned, FOR, CODES, outputs_, type, load##_U)                                                    \
  LANES_TAPS(name##_signed, FOR, CODES, outputs_, type, load##_S)                                                      \
  DEVICE void name##_source(const qk_net_source *s, GLOBAL const uchar *map, GLOBAL const uchar *weights, int first,   \
                            int block, int row, int pixel, int16 *total) {                                             \
    GLOBAL const uchar *x = map + (long)block * s->map.unit + (long)(row * s->stride_h - s->pad_top) * s->map.row +    \
                            (long)(pixel * s->stride_w - s->pad_left) * s->map.pixel +                                 \
                            first / s->outputs * s->inputs * LANES;                                                    \
    GLOBAL const short *w = (GLOBAL const short *)weights + (long)first * s->kernel_h * s->kernel_w * s->inputs;       \
    if (s->map.is_signed)                                                                                              \
      name##_signed(s, x, w, total);                                                                                   \
    else                                                                                                               \
      name##_unsigned(s, x, w, total);                                                                                 \
  }                                                                                                                    \
  KERNEL(name)(NET_BUFFERS, const qk_params_stage p) {                                                                 \
    int row = (int)group_id(0) % p.height, first = (int)group_id(0) / p.height * (outputs_);                           \
    int block = (int)group_id(1), slot = p.first_slot + (int)group_id(2);                                              \
    OPERAND(const int, slots);                                                                                         \
    int genome = slots[slot];                                                                                          \
    lanes_row r = lanes_row_of(NET_PASSED, &p, slot, block, row);                                                      \
    GLOBAL const uchar *map = net_slot(x_memory + x_at, p.source[0].map, slot);                                        \
    GLOBAL const uchar *map2 = net_slot(x2_memory + x2_at, p.source[1].map, slot);                                     \
    GLOBAL const uchar *weights = w_memory + w_at + genome * p.source[0].weight_stride;                                \
    GLOBAL const uchar *weights2 = w2_memory + w2_at + genome * p.source[1].weight_stride;                             \
    for (int pixel = 0; pixel < p.width; pixel += (pixels_)) {                                                         \
      int16 total[(outputs_) * (pixels_)], other[(outputs_) * (pixels_)];                                              \
      name##_source(&p.source[0], map, weights, first, block, row, pixel, total);                                      \
      if (p.sources == 2) name##_source(&p.source[1], map2, weights2, first, block, row, pixel, other);                \
      for (int o = 0; o < (outputs_) && first + o < p.channels; o++)                                                   \
        for (int i = 0; i < (pixels_) && pixel + i < p.width; i++)                                                     \
          lanes_result(&p, r, block, pixel + i, first + o, total[o * (pixels_) + i],                                   \
                       p.sources == 2 ? other[o * (pixels_) + i] : (int16)0);                                          \
    }                                                                                                                  \
  }

LANES_CONV(qk_lanes_short_4x4, FOR_4x4, CODES_4, 4, 4, short16, LOAD_SHORT)
LANES_CONV(qk_lanes_int_4x4, FOR_4x4, CODES_4, 4, 4, int16, LOAD_INT)
LANES_CONV(qk_lanes_short_4x2, FOR_4x2, CODES_2, 4, 2, short16, LOAD_SHORT)
LANES_CONV(qk_lanes_int_4x2, FOR_4x2, CODES_2, 4, 2, int16, LOAD_INT)
LANES_CONV(qk_lanes_short_4x1, FOR_4x1, CODES_1, 4, 1, short16, LOAD_SHORT)
LANES_CONV(qk_lanes_int_4x1, FOR_4x1, CODES_1, 4, 1, int16, LOAD_INT)
LANES_CONV(qk_lanes_int_1x4, FIRST_1x4, CODES_4, 1, 4, int16, LOAD_INT)
