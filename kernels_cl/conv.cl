/* Float convolution and fully connected layers with their gradients; contracts in cpu_ref/conv.c and cpu_ref/linear.c.
 *
 * qk_KIND_N: one matrix product a group of channels, rows x depth times depth x columns:
 *
 *   kind           rows                columns          depth
 *   conv           pixels of y         outputs          taps and inputs of the window
 *   conv_grad_x    pixels of x         inputs           taps and outputs
 *   conv_grad_w    taps and inputs     outputs          pixels of y, cut into slices of partial sums
 *
 * A work-group of 4 N work-items does a tile of 64 rows x N columns, each work-item 4 x 4 of it, from 16 of the depth
 * at a time in local memory. Rounding: sums go over pieces of 64, the pieces' sums over the depth of a slice. */
#include "kernels_cl/index.h"

#define CONV_ROWS 64
#define CONV_DEPTH 16
#define CONV_PIECE 64
#define CONV_STRIDE 68 /* 4 over, so that stores meet different banks */

/* Per row of the tile: two coordinates and a place in the row's operand. */
#define CONV_PLACES LOCAL int *row, LOCAL int *column, LOCAL ulong *at

DEVICE ulong x_channels(const qk_params_conv p) {
  return (ulong)p.groups * (ulong)p.inputs;
}
DEVICE ulong y_channels(const qk_params_conv p) {
  return (ulong)p.groups * (ulong)p.outputs;
}
DEVICE ulong pixel_of(int row, int column, int width) {
  return (ulong)((uint)row * (uint)width + (uint)column);
}
DEVICE int is_inside(const qk_params_conv p, int h, int v) {
  return h >= 0 && h < p.x_height && v >= 0 && v < p.x_width;
}

/* ---- what each kind multiplies: places of the rows, then CONV_DEPTH values of each row and column from `from` on ----
 */

DEVICE void conv_places(const qk_params_conv p, ulong first, uint group, CONV_PLACES) {
  ulong image = (ulong)p.x_height * (ulong)p.x_width * x_channels(p);
  for (uint m = local_id(0); m < CONV_ROWS; m += local_size(0)) {
    qk_place place = qk_place_of(first + m, p.y_height, p.y_width, 1);
    row[m] = first + m < (ulong)p.pixels ? place.row * p.stride_h - p.pad_top : QK_NOWHERE;
    column[m] = place.column * p.stride_w - p.pad_left;
    at[m] = place.image * image + (ulong)group * (ulong)p.inputs;
  }
}

DEVICE void conv_rows(const qk_params_conv p, GLOBAL const float *x, uint from, uint depth, CONV_PLACES,
                      LOCAL float *to) {
  uint k = local_id(0) % CONV_DEPTH, tap = (from + k) / (uint)p.inputs, c = from + k - tap * (uint)p.inputs;
  uint r = tap / (uint)p.kernel_w, s = tap - r * (uint)p.kernel_w;
  for (uint m = local_id(0) / CONV_DEPTH; m < CONV_ROWS; m += local_size(0) / CONV_DEPTH) {
    int h = row[m] + (int)r * p.dilation_h, v = column[m] + (int)s * p.dilation_w;
    int known = from + k < depth && is_inside(p, h, v);
    to[k * CONV_STRIDE + m] = known ? x[at[m] + pixel_of(h, v, p.x_width) * x_channels(p) + c] : 0;
  }
}

/* w: the weights of the tile's first output. */
DEVICE void conv_columns(const qk_params_conv p, GLOBAL const float *w, uint from, uint depth, uint count, uint columns,
                         LOCAL float *to) {
  uint k = local_id(0) % CONV_DEPTH;
  for (uint o = local_id(0) / CONV_DEPTH; o < columns; o += local_size(0) / CONV_DEPTH)
    to[k * (columns + 4) + o] = from + k < depth && o < count ? w[(ulong)o * depth + from + k] : 0;
}

DEVICE void conv_grad_x_places(const qk_params_conv p, ulong first, uint group, CONV_PLACES) {
  ulong image = (ulong)p.y_height * (ulong)p.y_width * y_channels(p);
  for (uint m = local_id(0); m < CONV_ROWS; m += local_size(0)) {
    qk_place place = qk_place_of(first + m, p.x_height, p.x_width, 1);
    row[m] = first + m < (ulong)p.pixels ? place.row + p.pad_top : QK_NOWHERE;
    column[m] = place.column + p.pad_left;
    at[m] = place.image * image + (ulong)group * (ulong)p.outputs;
  }
}

DEVICE void conv_grad_x_rows(const qk_params_conv p, GLOBAL const float *dy, uint from, uint depth, CONV_PLACES,
                             LOCAL float *to) {
  uint k = local_id(0) % CONV_DEPTH, tap = (from + k) / (uint)p.outputs, o = from + k - tap * (uint)p.outputs;
  uint r = tap / (uint)p.kernel_w, s = tap - r * (uint)p.kernel_w;
  for (uint m = local_id(0) / CONV_DEPTH; m < CONV_ROWS; m += local_size(0) / CONV_DEPTH) {
    int i = qk_tap_output(row[m] - (int)r * p.dilation_h, p.stride_h, p.y_height);
    int j = qk_tap_output(column[m] - (int)s * p.dilation_w, p.stride_w, p.y_width);
    int known = from + k < depth && i >= 0 && j >= 0;
    to[k * CONV_STRIDE + m] = known ? dy[at[m] + pixel_of(i, j, p.y_width) * y_channels(p) + o] : 0;
  }
}

/* w: the weights of the group, from the tile's first input. */
DEVICE void conv_grad_x_columns(const qk_params_conv p, GLOBAL const float *w, uint from, uint depth, uint count,
                                uint columns, LOCAL float *to) {
  uint c = local_id(0) % columns, taps = (uint)(p.kernel_h * p.kernel_w);
  for (uint k = local_id(0) / columns; k < CONV_DEPTH; k += local_size(0) / columns) {
    uint tap = (from + k) / (uint)p.outputs, o = from + k - tap * (uint)p.outputs;
    int known = from + k < depth && c < count;
    to[k * (columns + 4) + c] = known ? w[((ulong)o * taps + tap) * (ulong)p.inputs + c] : 0;
  }
}

DEVICE void conv_grad_w_places(const qk_params_conv p, ulong first, uint group, CONV_PLACES) {
  for (uint m = local_id(0); m < CONV_ROWS; m += local_size(0)) {
    uint code = (uint)first + m, tap = code / (uint)p.inputs, r = tap / (uint)p.kernel_w;
    row[m] = code < (uint)p.pixels ? (int)r * p.dilation_h - p.pad_top : QK_NOWHERE;
    column[m] = (int)(tap - r * (uint)p.kernel_w) * p.dilation_w - p.pad_left;
    at[m] = (ulong)group * (ulong)p.inputs + (code - tap * (uint)p.inputs);
  }
}

DEVICE void conv_grad_w_rows(const qk_params_conv p, GLOBAL const float *x, ulong from, ulong end, CONV_PLACES,
                             LOCAL float *to) {
  uint m = local_id(0) % CONV_ROWS;
  for (uint k = local_id(0) / CONV_ROWS; k < CONV_DEPTH; k += local_size(0) / CONV_ROWS) {
    qk_place place = qk_place_of(from + k, p.y_height, p.y_width, 1);
    int h = row[m] + place.row * p.stride_h, v = column[m] + place.column * p.stride_w;
    ulong pixel = place.image * (ulong)p.x_height * (ulong)p.x_width + pixel_of(h, v, p.x_width);
    to[k * CONV_STRIDE + m] = from + k < end && is_inside(p, h, v) ? x[pixel * x_channels(p) + at[m]] : 0;
  }
}

/* dy: from the tile's first output. */
DEVICE void conv_grad_w_columns(const qk_params_conv p, GLOBAL const float *dy, ulong from, ulong end, uint count,
                                uint columns, LOCAL float *to) {
  uint o = local_id(0) % columns;
  for (uint k = local_id(0) / columns; k < CONV_DEPTH; k += local_size(0) / columns)
    to[k * (columns + 4) + o] = from + k < end && o < count ? dy[(from + k) * y_channels(p) + o] : 0;
}

/* ---- products ---- */

DEVICE void conv_multiply(LOCAL const float *as, LOCAL const float *bs, uint columns, float *sum) {
  uint column = local_id(0) % (columns / 4), row = local_id(0) / (columns / 4);
  for (uint k = 0; k < CONV_DEPTH; k++) {
    qk_floats a = *(LOCAL const qk_floats *)(as + k * CONV_STRIDE + 4 * row);
    qk_floats b = *(LOCAL const qk_floats *)(bs + k * (columns + 4) + 4 * column);
    for (uint i = 0; i < 4; i++)
      for (uint j = 0; j < 4; j++) sum[4 * i + j] = qk_multiply_add(a.of[i], b.of[j], sum[4 * i + j]);
  }
}

DEVICE void conv_add_piece(float *sum, float *total) {
  for (int i = 0; i < 16; i++) {
    total[i] += sum[i];
    sum[i] = 0;
  }
}

/* to: the tile's first row and column; row m lies m * row_step further, column n n * column_step. */
DEVICE void conv_store(const float *total, ulong rows, uint count, uint columns, ulong row_step, ulong column_step,
                       GLOBAL float *to) {
  uint column = 4 * (local_id(0) % (columns / 4)), row = 4 * (local_id(0) / (columns / 4));
  for (uint i = 0; i < 4; i++)
    for (uint j = 0; j < 4; j++)
      if (row + i < rows && column + j < count)
        to[(row + i) * row_step + (column + j) * column_step] = total[4 * i + j];
}

/* The columns of work-group axis 1: a tile of a group's `all` columns. */
typedef struct conv_tile {
  uint group, from, count;
} conv_tile;

DEVICE conv_tile conv_tile_of(uint all, uint columns) {
  uint tiles = (all + columns - 1) / columns;
  conv_tile found;
  found.group = group_id(1) / tiles;
  found.from = (group_id(1) - found.group * tiles) * columns;
  found.count = all - found.from < columns ? all - found.from : columns;
  return found;
}

#define CONV_LOCAL(columns)                                                                                            \
  LOCAL_ARRAY(float, as, CONV_DEPTH *CONV_STRIDE);                                                                     \
  LOCAL_ARRAY(float, bs, CONV_DEPTH *(columns + 4));                                                                   \
  LOCAL_ARRAY(int, row, CONV_ROWS);                                                                                    \
  LOCAL_ARRAY(int, column, CONV_ROWS);                                                                                 \
  LOCAL_ARRAY(ulong, at, CONV_ROWS)

/* total[16] = the products of depth begin...end-1 of tile `t`, rows from `first` on. */
#define CONV_PRODUCTS(kind, a, b, columns, begin, end)                                                                 \
  float sum[16], total[16];                                                                                            \
  for (int i = 0; i < 16; i++) sum[i] = total[i] = 0;                                                                  \
  kind##_places(p, first, t.group, row, column, at);                                                                   \
  for (ulong k = begin; k < end; k += CONV_DEPTH) {                                                                    \
    BARRIER();                                                                                                         \
    kind##_rows(p, a, k, end, row, column, at, as);                                                                    \
    kind##_columns(p, b, k, end, t.count, columns, bs);                                                                \
    BARRIER();                                                                                                         \
    conv_multiply(as, bs, columns, sum);                                                                               \
    if ((k - begin) % CONV_PIECE == CONV_PIECE - CONV_DEPTH) conv_add_piece(sum, total);                               \
  }                                                                                                                    \
  conv_add_piece(sum, total)

#define CONVOLVE(columns)                                                                                              \
  KERNEL(qk_conv_##columns)(BUFFER(x), BUFFER(w), BUFFER(y), const qk_params_conv p) {                                 \
    CONV_LOCAL(columns);                                                                                               \
    OPERAND(const float, x);                                                                                           \
    OPERAND(const float, w);                                                                                           \
    OPERAND(float, y);                                                                                                 \
    conv_tile t = conv_tile_of((uint)p.outputs, columns);                                                              \
    ulong first = (ulong)group_id(0) * CONV_ROWS, channel = (ulong)t.group * (ulong)p.outputs + t.from;                \
    uint depth = (uint)(p.kernel_h * p.kernel_w * p.inputs);                                                           \
    w += channel * depth;                                                                                              \
    CONV_PRODUCTS(conv, x, w, columns, 0, depth);                                                                      \
    y += first * y_channels(p) + channel;                                                                              \
    conv_store(total, (ulong)p.pixels - first, t.count, columns, y_channels(p), 1, y);                                 \
  }                                                                                                                    \
  KERNEL(qk_conv_grad_x_##columns)(BUFFER(dy), BUFFER(w), BUFFER(dx), const qk_params_conv p) {                        \
    CONV_LOCAL(columns);                                                                                               \
    OPERAND(const float, dy);                                                                                          \
    OPERAND(const float, w);                                                                                           \
    OPERAND(float, dx);                                                                                                \
    conv_tile t = conv_tile_of((uint)p.inputs, columns);                                                               \
    ulong first = (ulong)group_id(0) * CONV_ROWS, window = (ulong)(p.kernel_h * p.kernel_w) * (ulong)p.inputs;         \
    uint depth = (uint)(p.kernel_h * p.kernel_w * p.outputs);                                                          \
    w += (ulong)t.group * (ulong)p.outputs * window + t.from;                                                          \
    CONV_PRODUCTS(conv_grad_x, dy, w, columns, 0, depth);                                                              \
    dx += first * x_channels(p) + (ulong)t.group * (ulong)p.inputs + t.from;                                           \
    conv_store(total, (ulong)p.pixels - first, t.count, columns, x_channels(p), 1, dx);                                \
  }                                                                                                                    \
  KERNEL(qk_conv_grad_w_##columns)(BUFFER(dy), BUFFER(x), BUFFER(dw), const qk_params_conv p) {                        \
    CONV_LOCAL(columns);                                                                                               \
    OPERAND(const float, dy);                                                                                          \
    OPERAND(const float, x);                                                                                           \
    OPERAND(float, dw);                                                                                                \
    conv_tile t = conv_tile_of((uint)p.outputs, columns);                                                              \
    ulong first = (ulong)group_id(0) * CONV_ROWS, window = (ulong)p.pixels;                                            \
    ulong channel = (ulong)t.group * (ulong)p.outputs + t.from, begin = (ulong)group_id(2) * (ulong)p.slice;           \
    ulong end = begin + (ulong)p.slice < (ulong)p.depth ? begin + (ulong)p.slice : (ulong)p.depth;                     \
    dy += channel;                                                                                                     \
    CONV_PRODUCTS(conv_grad_w, x, dy, columns, begin, end);                                                            \
    dw += ((ulong)group_id(2) * y_channels(p) + channel) * window + first;                                             \
    conv_store(total, window - first, t.count, columns, 1, window, dw);                                                \
  }
CONVOLVE(16)
CONVOLVE(32)
CONVOLVE(64)

/* ---- plain kernels: a work-item does a value, or one slice's part of it ---- */

KERNEL(qk_conv_plain)(BUFFER(x), BUFFER(w), BUFFER(y), const qk_params_conv p) {
  OPERAND(const float, x);
  OPERAND(const float, w);
  OPERAND(float, y);
  ulong window = (ulong)(p.kernel_h * p.kernel_w) * (ulong)p.inputs;
  for (ulong i = flat_start(); i < (ulong)p.pixels * y_channels(p); i += flat_stride()) {
    qk_place place = qk_place_of(i, p.y_height, p.y_width, (int)y_channels(p));
    ulong plane = place.image * (ulong)p.x_height * (ulong)p.x_width;
    ulong first = place.c / (ulong)p.outputs * (ulong)p.inputs;
    GLOBAL const float *weight = w + place.c * window;
    float total = 0;
    for (int r = 0; r < p.kernel_h; r++)
      for (int s = 0; s < p.kernel_w; s++, weight += p.inputs) {
        int h = place.row * p.stride_h - p.pad_top + r * p.dilation_h;
        int v = place.column * p.stride_w - p.pad_left + s * p.dilation_w;
        if (!is_inside(p, h, v)) continue;
        GLOBAL const float *from = x + (plane + pixel_of(h, v, p.x_width)) * x_channels(p) + first;
        for (int piece = 0; piece < p.inputs; piece += CONV_PIECE) {
          float sum = 0;
          for (int c = piece; c < p.inputs && c < piece + CONV_PIECE; c++)
            sum = qk_multiply_add(from[c], weight[c], sum);
          total += sum;
        }
      }
    y[i] = total;
  }
}

KERNEL(qk_conv_grad_x_plain)(BUFFER(dy), BUFFER(w), BUFFER(dx), const qk_params_conv p) {
  OPERAND(const float, dy);
  OPERAND(const float, w);
  OPERAND(float, dx);
  ulong window = (ulong)(p.kernel_h * p.kernel_w) * (ulong)p.inputs;
  for (ulong i = flat_start(); i < (ulong)p.pixels * x_channels(p); i += flat_stride()) {
    qk_place place = qk_place_of(i, p.x_height, p.x_width, (int)x_channels(p));
    ulong plane = place.image * (ulong)p.y_height * (ulong)p.y_width;
    ulong c, group = qk_split(place.c, (ulong)p.inputs, &c), first = group * (ulong)p.outputs;
    float total = 0;
    for (int r = 0; r < p.kernel_h; r++)
      for (int s = 0; s < p.kernel_w; s++) {
        int row = qk_tap_output(place.row + p.pad_top - r * p.dilation_h, p.stride_h, p.y_height);
        int column = qk_tap_output(place.column + p.pad_left - s * p.dilation_w, p.stride_w, p.y_width);
        if (row < 0 || column < 0) continue;
        GLOBAL const float *from = dy + (plane + pixel_of(row, column, p.y_width)) * y_channels(p) + first;
        GLOBAL const float *weight = w + first * window + (ulong)(r * p.kernel_w + s) * (ulong)p.inputs + c;
        for (int piece = 0; piece < p.outputs; piece += CONV_PIECE) {
          float sum = 0;
          for (int o = piece; o < p.outputs && o < piece + CONV_PIECE; o++)
            sum = qk_multiply_add(from[o], weight[(ulong)o * window], sum);
          total += sum;
        }
      }
    dx[i] = total;
  }
}

/* Part of dw[o][r][s][c] over the pixels begin...end-1. */
DEVICE float conv_weight_gradient(const qk_params_conv p, GLOBAL const float *dy, GLOBAL const float *x, ulong o, int r,
                                  int s, ulong c, ulong begin, ulong end) {
  ulong channel = o / (ulong)p.outputs * (ulong)p.inputs + c;
  float total = 0;
  for (ulong piece = begin; piece < end; piece += CONV_PIECE) {
    float sum = 0;
    for (ulong k = piece; k < end && k < piece + CONV_PIECE; k++) {
      qk_place place = qk_place_of(k, p.y_height, p.y_width, 1);
      int h = place.row * p.stride_h - p.pad_top + r * p.dilation_h;
      int v = place.column * p.stride_w - p.pad_left + s * p.dilation_w;
      if (!is_inside(p, h, v)) continue;
      ulong pixel = place.image * (ulong)p.x_height * (ulong)p.x_width + pixel_of(h, v, p.x_width);
      sum = qk_multiply_add(dy[k * y_channels(p) + o], x[pixel * x_channels(p) + channel], sum);
    }
    total += sum;
  }
  return total;
}

KERNEL(qk_conv_grad_w_plain)(BUFFER(dy), BUFFER(x), BUFFER(dw), const qk_params_conv p) {
  OPERAND(const float, dy);
  OPERAND(const float, x);
  OPERAND(float, dw);
  ulong weights = y_channels(p) * (ulong)(p.kernel_h * p.kernel_w) * (ulong)p.inputs;
  for (ulong i = flat_start(); i < weights * (ulong)p.slices; i += flat_stride()) {
    ulong at, slice = qk_split(i, weights, &at), begin = slice * (ulong)p.slice;
    ulong end = begin + (ulong)p.slice < (ulong)p.depth ? begin + (ulong)p.slice : (ulong)p.depth;
    qk_place place = qk_place_of(at, p.kernel_h, p.kernel_w, p.inputs);
    dw[i] = conv_weight_gradient(p, dy, x, place.image, place.row, place.column, place.c, begin, end);
  }
}
