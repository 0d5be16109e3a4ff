/* Integer ops of search and training, exact; contracts in cpu_ref/integer_train.c. Sums over pixels are made in parts
 * that do not depend on each other, which a second kernel adds up. */
#include "kernels_cl/index.h"

#define OUTER_BLOCK 4  /* rows and columns of a work-item */
#define OUTER_RUN 8192 /* products of two 8-bit codes that add up to less than 2^31 */

/* ---- sums of outer products: rows times the codes of a patch ---- */

/* Four neighbouring codes of a patch: how far their taps are from the window's first row and column, their channel. */
typedef struct outer_codes {
  int row[OUTER_BLOCK], column[OUTER_BLOCK];
  uint channel[OUTER_BLOCK];
} outer_codes;

DEVICE outer_codes outer_codes_from(const qk_params_outer p, uint first) {
  outer_codes codes;
  for (uint b = 0; b < OUTER_BLOCK; b++) {
    uint tap = (first + b) / (uint)p.channels, r = tap / (uint)p.kernel_w;
    codes.channel[b] = first + b - tap * (uint)p.channels;
    codes.row[b] = first + b < (uint)p.columns ? (int)r * p.dilation_h : QK_NOWHERE;
    codes.column[b] = (int)(tap - r * (uint)p.kernel_w) * p.dilation_w;
  }
  return codes;
}

/* Four bytes of a word as codes. */
DEVICE void outer_unpack(uint word, int type, int *to) {
  UNROLL
  for (int b = 0; b < OUTER_BLOCK; b++) {
    uint code = word >> (8 * b) & 255;
    to[b] = type == QK_TYPE_U8 ? (int)code : (int)(code ^ 128) - 128;
  }
}

/* The place of a patch's code `b` in x, or 0 with *inside = 0. */
DEVICE ulong outer_place(const qk_params_outer p, ulong image, int top, int left, const outer_codes *codes, int b,
                         int *inside) {
  int h = top + codes->row[b], v = left + codes->column[b];
  *inside = h >= 0 && h < p.x_height && v >= 0 && v < p.x_width;
  return *inside ? (image + (ulong)(h * p.x_width + v)) * (ulong)p.channels + codes->channel[b] : 0;
}

/* The codes of the patch whose window starts at (top, left) of the image that begins at `image`; 0 outside it. */
DEVICE void outer_patch(const qk_params_outer p, GLOBAL const uchar *x, ulong image, int top, int left,
                        const outer_codes *codes, int *to) {
  int inside;
  if (p.x_fours) { /* all of one tap */
    ulong at = outer_place(p, image, top, left, codes, 0, &inside);
    outer_unpack(inside ? *(GLOBAL const uint *)(x + at) : 0, p.x_type, to);
    return;
  }
  UNROLL
  for (int b = 0; b < OUTER_BLOCK; b++) {
    ulong at = outer_place(p, image, top, left, codes, b, &inside);
    to[b] = inside ? qk_code(x, p.x_type, at) : 0;
  }
}

/* Errors of output pixel `pixel` from channel `first` on; 0 beyond the last. */
DEVICE void outer_errors(const qk_params_outer p, GLOBAL const uchar *dy, ulong pixel, uint first, int *to) {
  ulong at = pixel * (ulong)p.rows + first;
  if (p.dy_fours) {
    outer_unpack(*(GLOBAL const uint *)(dy + at), QK_TYPE_S8, to);
    return;
  }
  for (uint b = 0; b < OUTER_BLOCK; b++) to[b] = first + b < (uint)p.rows ? qk_code(dy, p.dy_type, at + b) : 0;
}

/* One output pixel after the other: its image, where its window starts. */
typedef struct outer_pixel {
  ulong image; /* the first pixel of it */
  int row, column;
} outer_pixel;

DEVICE outer_pixel outer_pixel_at(const qk_params_outer p, ulong pixel) {
  qk_place place = qk_place_of(pixel, p.y_height, p.y_width, 1);
  outer_pixel at;
  at.image = place.image * (ulong)p.x_height * (ulong)p.x_width;
  at.row = place.row;
  at.column = place.column;
  return at;
}

DEVICE void outer_next(const qk_params_outer p, outer_pixel *at) {
  if (++at->column < p.y_width) return;
  at->column = 0;
  if (++at->row < p.y_height) return;
  at->row = 0;
  at->image += (ulong)p.x_height * (ulong)p.x_width;
}

/* Where a work-item's block lies: part, first row, first column. */
typedef struct outer_block {
  ulong part;
  uint row, column;
} outer_block;

DEVICE outer_block outer_block_of(const qk_params_outer p, ulong i) {
  ulong row_blocks = ((ulong)p.rows + OUTER_BLOCK - 1) / OUTER_BLOCK, row, column;
  ulong column_blocks = ((ulong)p.columns + OUTER_BLOCK - 1) / OUTER_BLOCK;
  outer_block block;
  i = qk_split(i, column_blocks, &column);
  block.part = qk_split(i, row_blocks, &row);
  block.row = OUTER_BLOCK * (uint)row;
  block.column = OUTER_BLOCK * (uint)column;
  return block;
}

DEVICE ulong outer_blocks(const qk_params_outer p) {
  return (((ulong)p.rows + OUTER_BLOCK - 1) / OUTER_BLOCK) * (((ulong)p.columns + OUTER_BLOCK - 1) / OUTER_BLOCK) *
         (ulong)p.parts;
}

DEVICE void outer_store(const qk_params_outer p, GLOBAL ulong *sums, const outer_block *block, const ulong *total) {
  GLOBAL ulong *to = sums + (block->part * (ulong)p.rows + block->row) * (ulong)p.columns + block->column;
  for (uint a = 0; a < OUTER_BLOCK && block->row + a < (uint)p.rows; a++)
    for (uint b = 0; b < OUTER_BLOCK && block->column + b < (uint)p.columns; b++)
      to[a * (ulong)p.columns + b] = total[OUTER_BLOCK * a + b];
}

/* The part's pixels from `pixel` on, a run at most, into `total`; gram: rows are codes of the patch, too. */
DEVICE void outer_run(const qk_params_outer p, GLOBAL const uchar *dy, GLOBAL const uchar *x, ulong pixel, ulong count,
                      int gram, const outer_block *block, ulong *total) {
  outer_codes left = outer_codes_from(p, block->row), right = outer_codes_from(p, block->column);
  outer_pixel at = outer_pixel_at(p, pixel);
  int sum[OUTER_BLOCK * OUTER_BLOCK], a[OUTER_BLOCK], b[OUTER_BLOCK];
  for (int k = 0; k < OUTER_BLOCK * OUTER_BLOCK; k++) sum[k] = 0;
  for (ulong k = 0; k < count; k++, outer_next(p, &at)) {
    int top = at.row * p.stride_h - p.pad_top, start = at.column * p.stride_w - p.pad_left;
    outer_patch(p, x, at.image, top, start, &right, b);
    if (gram)
      outer_patch(p, x, at.image, top, start, &left, a);
    else
      outer_errors(p, dy, pixel + k, block->row, a);
    UNROLL
    for (int i = 0; i < OUTER_BLOCK * OUTER_BLOCK; i++) sum[i] += a[i / OUTER_BLOCK] * b[i % OUTER_BLOCK];
  }
  for (int k = 0; k < OUTER_BLOCK * OUTER_BLOCK; k++) total[k] += (ulong)(long)sum[k];
}

DEVICE void outer_all(const qk_params_outer p, GLOBAL const uchar *dy, GLOBAL const uchar *x, GLOBAL ulong *sums,
                      int gram) {
  for (ulong i = flat_start(); i < outer_blocks(p); i += flat_stride()) {
    outer_block block = outer_block_of(p, i);
    ulong total[OUTER_BLOCK * OUTER_BLOCK], pixel = block.part * (ulong)p.slice, end = pixel + (ulong)p.slice;
    if (gram && block.row > block.column) continue; /* the mirror image has it */
    for (int k = 0; k < OUTER_BLOCK * OUTER_BLOCK; k++) total[k] = 0;
    if (end > (ulong)p.pixels) end = (ulong)p.pixels;
    for (; pixel < end; pixel += OUTER_RUN)
      outer_run(p, dy, x, pixel, end - pixel < OUTER_RUN ? end - pixel : OUTER_RUN, gram, &block, total);
    outer_store(p, sums, &block, total);
  }
}

KERNEL(qk_int_gram)(BUFFER(x), BUFFER(sums), const qk_params_outer p) {
  OPERAND(const uchar, x);
  OPERAND(ulong, sums);
  outer_all(p, x, x, sums, 1);
}

/* Errors of 8 bits. */
KERNEL(qk_int_grad_w)(BUFFER(dy), BUFFER(x), BUFFER(sums), const qk_params_outer p) {
  OPERAND(const uchar, dy);
  OPERAND(const uchar, x);
  OPERAND(ulong, sums);
  outer_all(p, dy, x, sums, 0);
}

/* Errors of 32 bits: every product in 64. */
KERNEL(qk_int_grad_w_long)(BUFFER(dy), BUFFER(x), BUFFER(sums), const qk_params_outer p) {
  OPERAND(const uchar, dy);
  OPERAND(const uchar, x);
  OPERAND(ulong, sums);
  for (ulong i = flat_start(); i < outer_blocks(p); i += flat_stride()) {
    outer_block block = outer_block_of(p, i);
    ulong total[OUTER_BLOCK * OUTER_BLOCK], pixel = block.part * (ulong)p.slice, end = pixel + (ulong)p.slice;
    outer_codes right = outer_codes_from(p, block.column);
    outer_pixel at = outer_pixel_at(p, pixel);
    int a[OUTER_BLOCK], b[OUTER_BLOCK];
    for (int k = 0; k < OUTER_BLOCK * OUTER_BLOCK; k++) total[k] = 0;
    if (end > (ulong)p.pixels) end = (ulong)p.pixels;
    for (; pixel < end; pixel++, outer_next(p, &at)) {
      outer_patch(p, x, at.image, at.row * p.stride_h - p.pad_top, at.column * p.stride_w - p.pad_left, &right, b);
      outer_errors(p, dy, pixel, block.row, a);
      UNROLL
      for (int k = 0; k < OUTER_BLOCK * OUTER_BLOCK; k++)
        total[k] += (ulong)((long)a[k / OUTER_BLOCK] * b[k % OUTER_BLOCK]);
    }
    outer_store(p, sums, &block, total);
  }
}

/* The sum of the parts; a block below the diagonal is the mirror image of the one above. */
KERNEL(qk_int_gram_end)(BUFFER(sums), BUFFER(gram), const qk_params_outer p) {
  OPERAND(const ulong, sums);
  OPERAND(ulong, gram);
  ulong size = (ulong)p.columns;
  for (ulong i = flat_start(); i < size * size; i += flat_stride()) {
    ulong b, a = qk_split(i, size, &b), total = 0;
    ulong from = a / OUTER_BLOCK > b / OUTER_BLOCK ? b * size + a : i;
    for (ulong part = 0; part < (ulong)p.parts; part++) total += sums[part * size * size + from];
    gram[i] = total;
  }
}

/* to[i] = the sum of sums[part][i]. */
KERNEL(qk_int_add_parts)(BUFFER(sums), BUFFER(to), const qk_params_parts p) {
  OPERAND(const ulong, sums);
  OPERAND(ulong, to);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    ulong total = 0;
    for (ulong part = 0; part < (ulong)p.parts; part++) total += sums[part * (ulong)p.count + i];
    to[i] = total;
  }
}

/* ---- gradient of the input ---- */

/* A work-item does a value of dx. */
KERNEL(qk_int_grad_x)(BUFFER(dy), BUFFER(w), BUFFER(dx), const qk_params_conv p) {
  OPERAND(const schar, dy);
  OPERAND(const schar, w);
  OPERAND(int, dx);
  ulong window = (ulong)(p.kernel_h * p.kernel_w) * (ulong)p.inputs;
  for (ulong i = flat_start(); i < (ulong)p.pixels * (ulong)p.inputs; i += flat_stride()) {
    qk_place place = qk_place_of(i, p.x_height, p.x_width, p.inputs);
    ulong plane = place.image * (ulong)p.y_height * (ulong)p.y_width;
    int sum = 0;
    for (int r = 0; r < p.kernel_h; r++)
      for (int s = 0; s < p.kernel_w; s++) {
        int row = qk_tap_output(place.row + p.pad_top - r * p.dilation_h, p.stride_h, p.y_height);
        int column = qk_tap_output(place.column + p.pad_left - s * p.dilation_w, p.stride_w, p.y_width);
        if (row < 0 || column < 0) continue;
        GLOBAL const schar *from = dy + (plane + (ulong)(row * p.y_width + column)) * (ulong)p.outputs;
        GLOBAL const schar *weight = w + (ulong)(r * p.kernel_w + s) * (ulong)p.inputs + place.c;
        for (int o = 0; o < p.outputs; o++) sum += from[o] * weight[(ulong)o * window];
      }
    dx[i] = sum;
  }
}

/* ---- sums over channels, gates ---- */

/* A work-item does a channel of a part of the pixels; sums: [part][sum, product][channel]. */
KERNEL(qk_int_channel_sums)(BUFFER(a), BUFFER(b), BUFFER(sums), const qk_params_pair p) {
  OPERAND(const uchar, a);
  OPERAND(const uchar, b);
  OPERAND(ulong, sums);
  ulong channels = (ulong)p.channels;
  for (ulong i = flat_start(); i < (ulong)p.parts * channels; i += flat_stride()) {
    ulong c, part = qk_split(i, channels, &c), sum = 0, product = 0;
    ulong pixel = part * (ulong)p.slice, end = pixel + (ulong)p.slice, pixels = (ulong)p.count / channels;
    if (end > pixels) end = pixels;
    for (; pixel < end; pixel++) {
      long value = qk_code(a, p.a_type, pixel * channels + c);
      sum += (ulong)value;
      product += (ulong)(value * qk_code(b, p.b_type, pixel * channels + c));
    }
    sums[2 * part * channels + c] = sum;
    sums[(2 * part + 1) * channels + c] = product;
  }
}

KERNEL(qk_int_channel_sums_end)(BUFFER(sums), BUFFER(sum), BUFFER(product), const qk_params_pair p) {
  OPERAND(const ulong, sums);
  OPERAND(ulong, sum);
  OPERAND(ulong, product);
  ulong channels = (ulong)p.channels;
  for (ulong i = flat_start(); i < 2 * channels; i += flat_stride()) {
    ulong total = 0;
    for (ulong part = 0; part < (ulong)p.parts; part++) total += sums[2 * part * channels + i];
    if (i < channels)
      sum[i] = total;
    else
      product[i - channels] = total;
  }
}

DEVICE long norm_mean(long sum, long values) {
  return (long)((ulong)(sum / values) * 256 + (ulong)(sum % values * 256 / values));
}

DEVICE long norm_scaled(long a, long b) {
  return (long)((ulong)a * (ulong)b) >> 8;
}

DEVICE long norm_within(long value, long most) {
  return value < -most ? -most : value > most ? most : value;
}

/* The arithmetic is that of the reference in cpu_ref/integer_train.c, step for step. */
KERNEL(qk_int_norm_grad)
(BUFFER(e), BUFFER(es), BUFFER(s), BUFFER(ss), BUFFER(m), BUFFER(n), BUFFER(offset), const qk_params_norm p) {
  OPERAND(const long, e);
  OPERAND(const long, es);
  OPERAND(const long, s);
  OPERAND(const long, ss);
  OPERAND(const int, m);
  OPERAND(int, n);
  OPERAND(long, offset);
  for (ulong c = flat_start(); c < (ulong)p.channels; c += flat_stride()) {
    long error = norm_mean(e[c], p.values), mean = norm_mean(s[c], p.values);
    long variance = (long)((ulong)norm_mean(ss[c], p.values) - (ulong)norm_scaled(mean, mean));
    ulong covariance = (ulong)norm_mean(es[c], p.values) - (ulong)norm_scaled(mean, error);
    long slope = variance > 0 ? (long)(covariance << 20) / variance : 0;
    long back = -(norm_within(slope, (long)1 << 31) * m[c]) >> 20;
    n[c] = (int)norm_within(back, (long)1 << 30);
    ulong taken = (ulong)error * (ulong)m[c] + (ulong)mean * (ulong)n[c];
    offset[c] = ((long)1 << (p.shift - 1)) - ((long)taken >> 8);
  }
}

KERNEL(qk_int_gate)(BUFFER(e), BUFFER(y), BUFFER(gated), const qk_params_pair p) {
  OPERAND(const uchar, e);
  OPERAND(const uchar, y);
  OPERAND(uchar, gated);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    int code = qk_code(y, p.b_type, i);
    qk_store_code(gated, p.a_type, i, code > p.low && code < p.high ? qk_code(e, p.a_type, i) : 0);
  }
}
