/* Integer convolution, exact; contract in cpu_ref/integer.c.
 *
 * qk_int_conv_N: a matrix product of a candidate's windows (rows: output pixels) with its weights (columns: N output
 * channels of a group). A work-group of 4 N work-items does a tile of 64 rows x N columns, each work-item 4 x 4 of it;
 * a step takes 8 words of four codes along the window to local memory. The words of a row follow the weights' order
 * (kernel row, kernel column, channel); where the channels of a group are no multiple of 4, words are put together byte
 * by byte. */
#include "kernels_cl/index.h"

#define CODE_ROWS 64
#define CODE_WORDS 8
#define CODE_STRIDE 68 /* of a word's rows in local memory: 4 over, so that stores meet different banks */

/* Where the windows of a tile's rows start: the first input row and column, and the place of their image and group. */
DEVICE void int_conv_find_windows(const qk_params_conv p, ulong first, uint group, uint candidate, LOCAL int *top,
                                  LOCAL int *left, LOCAL ulong *at) {
  ulong plane = (ulong)p.x_height * (ulong)p.x_width, channels = (ulong)p.groups * (ulong)p.inputs;
  ulong images = (ulong)p.pixels / ((ulong)p.y_height * (ulong)p.y_width);
  for (uint m = local_id(0); m < CODE_ROWS; m += local_size(0)) {
    qk_place place = qk_place_of(first + m, p.y_height, p.y_width, 1);
    int known = first + m < (ulong)p.pixels;
    top[m] = known ? place.row * p.stride_h - p.pad_top : QK_NOWHERE;
    left[m] = place.column * p.stride_w - p.pad_left;
    ulong image = place.image + (p.x_shared ? 0 : candidate * images);
    at[m] = image * plane * channels + (ulong)group * (ulong)p.inputs;
  }
}

/* One code of a window, or 0 outside the image. */
DEVICE uint int_conv_code_at(const qk_params_conv p, GLOBAL const uchar *x, int h, int v, ulong at) {
  if (h < 0 || h >= p.x_height || v < 0 || v >= p.x_width) return 0;
  return x[at + (ulong)(h * p.x_width + v) * ((ulong)p.groups * (ulong)p.inputs)];
}

/* Words first...first+7 of the tile's rows, whole ones. */
DEVICE void int_conv_words(const qk_params_conv p, GLOBAL const uchar *x, uint first, uint words, LOCAL const int *top,
                           LOCAL const int *left, LOCAL const ulong *at, LOCAL uint *to) {
  uint k = local_id(0) % CODE_WORDS, of_tap = (uint)p.inputs / 4, tap = (first + k) / of_tap;
  uint c = 4 * (first + k - tap * of_tap), r = tap / (uint)p.kernel_w, s = tap - r * (uint)p.kernel_w;
  ulong channels = (ulong)p.groups * (ulong)p.inputs;
  for (uint m = local_id(0) / CODE_WORDS; m < CODE_ROWS; m += local_size(0) / CODE_WORDS) {
    int h = top[m] + (int)r * p.dilation_h, v = left[m] + (int)s * p.dilation_w;
    int inside = first + k < words && h >= 0 && h < p.x_height && v >= 0 && v < p.x_width;
    ulong place = at[m] + (ulong)((uint)h * (uint)p.x_width + (uint)v) * channels + c;
    to[k * CODE_STRIDE + m] = inside ? *(GLOBAL const uint *)(x + place) : 0;
  }
}

/* The same, four words at once: the channels of a group are a multiple of 16. */
DEVICE void int_conv_fours(const qk_params_conv p, GLOBAL const uchar *x, uint first, uint words, LOCAL const int *top,
                           LOCAL const int *left, LOCAL const ulong *at, LOCAL uint *to) {
  uint k = 4 * (local_id(0) % (CODE_WORDS / 4)), of_tap = (uint)p.inputs / 4, tap = (first + k) / of_tap;
  uint c = 4 * (first + k - tap * of_tap), r = tap / (uint)p.kernel_w, s = tap - r * (uint)p.kernel_w;
  ulong channels = (ulong)p.groups * (ulong)p.inputs;
  for (uint m = local_id(0) / (CODE_WORDS / 4); m < CODE_ROWS; m += local_size(0) / (CODE_WORDS / 4)) {
    int h = top[m] + (int)r * p.dilation_h, v = left[m] + (int)s * p.dilation_w;
    qk_uints four = {{0, 0, 0, 0}};
    if (first + k < words && h >= 0 && h < p.x_height && v >= 0 && v < p.x_width)
      four = *(GLOBAL const qk_uints *)(x + at[m] + (ulong)(h * p.x_width + v) * channels + c);
    for (uint i = 0; i < 4; i++) to[(k + i) * CODE_STRIDE + m] = four.of[i];
  }
}

/* The same of single codes: a word may run over several taps, the last one over the window's end. */
DEVICE void int_conv_bytes(const qk_params_conv p, GLOBAL const uchar *x, uint first, LOCAL const int *top,
                           LOCAL const int *left, LOCAL const ulong *at, LOCAL uint *to) {
  uint k = local_id(0) % CODE_WORDS, codes = (uint)(p.kernel_h * p.kernel_w * p.inputs);
  int row[4], column[4];
  uint channel[4];
  for (uint b = 0; b < 4; b++) {
    uint code = 4 * (first + k) + b, tap = code / (uint)p.inputs, r = tap / (uint)p.kernel_w;
    channel[b] = code - tap * (uint)p.inputs;
    row[b] = code < codes ? (int)r * p.dilation_h : QK_NOWHERE;
    column[b] = (int)(tap - r * (uint)p.kernel_w) * p.dilation_w;
  }
  for (uint m = local_id(0) / CODE_WORDS; m < CODE_ROWS; m += local_size(0) / CODE_WORDS) {
    uint word = 0;
    for (uint b = 0; b < 4; b++)
      word |= int_conv_code_at(p, x, top[m] + row[b], left[m] + column[b], at[m] + channel[b]) << (8 * b);
    to[k * CODE_STRIDE + m] = word;
  }
}

/* Words first...first+7 of the weights of `count` output channels (columns: of a whole tile) from `w` on. */
DEVICE void int_conv_weights(const qk_params_conv p, GLOBAL const uchar *w, uint first, uint count, uint columns,
                             LOCAL uint *to) {
  uint k = local_id(0) % CODE_WORDS, codes = (uint)(p.kernel_h * p.kernel_w * p.inputs), from = 4 * (first + k);
  for (uint o = local_id(0) / CODE_WORDS; o < columns; o += local_size(0) / CODE_WORDS) {
    GLOBAL const uchar *row = w + (ulong)o * codes;
    uint word = 0;
    if (o < count && from < codes) {
      if (codes % 4 == 0)
        word = *(GLOBAL const uint *)(row + from);
      else
        for (uint b = 0; b < 4 && from + b < codes; b++) word |= (uint)row[from + b] << (8 * b);
    }
    to[k * (columns + 4) + o] = word;
  }
}

/* A step's products; u8: the codes have no sign. */
DEVICE void int_conv_multiply(LOCAL const uint *x, LOCAL const uint *w, uint columns, int u8, int *sum) {
  uint column = local_id(0) % (columns / 4), row = local_id(0) / (columns / 4);
  for (uint k = 0; k < CODE_WORDS; k++) {
    qk_uints a = *(LOCAL const qk_uints *)(x + k * CODE_STRIDE + 4 * row);
    qk_uints b = *(LOCAL const qk_uints *)(w + k * (columns + 4) + 4 * column);
    for (uint i = 0; i < 4; i++)
      for (uint j = 0; j < 4; j++)
        sum[4 * i + j] =
            u8 ? qk_dot(a.of[i], b.of[j], sum[4 * i + j]) : qk_dot_signed(a.of[i], b.of[j], sum[4 * i + j]);
  }
}

/* acc: the tile's first row and column. */
DEVICE void int_conv_store(const qk_params_conv p, GLOBAL int *acc, ulong rows, uint count, uint columns,
                           const int *sum) {
  uint column = 4 * (local_id(0) % (columns / 4)), row = 4 * (local_id(0) / (columns / 4));
  ulong channels = (ulong)p.groups * (ulong)p.outputs;
  for (uint i = 0; i < 4; i++) {
    GLOBAL int *to = acc + (row + i) * channels + column;
    if (row + i >= rows) continue;
    if (p.aligned && p.outputs % 4 == 0 && column + 4 <= count) {
      qk_uints four;
      for (uint j = 0; j < 4; j++) four.of[j] = (uint)sum[4 * i + j];
      *(GLOBAL qk_uints *)to = four;
    } else {
      for (uint j = 0; j < 4; j++)
        if (column + j < count) to[j] = sum[4 * i + j];
    }
  }
}

/* The tile of work-group (row tile, column tile of a group, candidate). */
DEVICE void int_conv_tile(const qk_params_conv p, GLOBAL const uchar *x, GLOBAL const uchar *w, GLOBAL int *acc,
                          uint columns, LOCAL uint *xs, LOCAL uint *ws, LOCAL int *top, LOCAL int *left,
                          LOCAL ulong *at) {
  uint tiles = ((uint)p.outputs + columns - 1) / columns, group = group_id(1) / tiles, candidate = group_id(2);
  uint from = (group_id(1) - group * tiles) * columns, channel = group * (uint)p.outputs + from;
  uint count = (uint)p.outputs - from < columns ? (uint)p.outputs - from : columns;
  uint codes = (uint)(p.kernel_h * p.kernel_w * p.inputs), words = (codes + 3) / 4;
  ulong first = (ulong)group_id(0) * CODE_ROWS, channels = (ulong)p.groups * (ulong)p.outputs;
  int sum[16];
  for (int i = 0; i < 16; i++) sum[i] = 0;
  int_conv_find_windows(p, first, group, candidate, top, left, at);
  w += (candidate * channels + channel) * codes;
  for (uint k = 0; k < words; k += CODE_WORDS) {
    BARRIER();
    if (p.inputs % 16 == 0 && p.aligned)
      int_conv_fours(p, x, k, words, top, left, at, xs);
    else if (p.inputs % 4 == 0)
      int_conv_words(p, x, k, words, top, left, at, xs);
    else
      int_conv_bytes(p, x, k, top, left, at, xs);
    int_conv_weights(p, w, k, count, columns, ws);
    BARRIER();
    if (p.type == QK_TYPE_U8)
      int_conv_multiply(xs, ws, columns, 1, sum);
    else
      int_conv_multiply(xs, ws, columns, 0, sum);
  }
  acc += (candidate * (ulong)p.pixels + first) * channels + channel;
  int_conv_store(p, acc, (ulong)p.pixels - first, count, columns, sum);
}

#define INT_CONVOLVE(columns)                                                                                          \
  KERNEL(qk_int_conv_##columns)(BUFFER(x), BUFFER(w), BUFFER(acc), const qk_params_conv p) {                           \
    LOCAL_ARRAY(uint, xs, CODE_WORDS *CODE_STRIDE);                                                                    \
    LOCAL_ARRAY(uint, ws, CODE_WORDS *(columns + 4));                                                                  \
    LOCAL_ARRAY(int, top, CODE_ROWS);                                                                                  \
    LOCAL_ARRAY(int, left, CODE_ROWS);                                                                                 \
    LOCAL_ARRAY(ulong, at, CODE_ROWS);                                                                                 \
    OPERAND(const uchar, x);                                                                                           \
    OPERAND(const uchar, w);                                                                                           \
    OPERAND(int, acc);                                                                                                 \
    int_conv_tile(p, x, w, acc, columns, xs, ws, top, left, at);                                                       \
  }
INT_CONVOLVE(16)
INT_CONVOLVE(32)
INT_CONVOLVE(64)

/* Sum of products of `count` codes in a row. */
DEVICE int int_conv_row(GLOBAL const uchar *x, int u8, GLOBAL const schar *w, int count) {
  int sum = 0;
  if (u8)
    for (int c = 0; c < count; c++) sum += (int)x[c] * w[c];
  else
    for (int c = 0; c < count; c++) sum += (int)(schar)x[c] * w[c];
  return sum;
}

/* A work-item does an output. */
KERNEL(qk_int_conv_plain)(BUFFER(x), BUFFER(w), BUFFER(acc), const qk_params_conv p) {
  OPERAND(const uchar, x);
  OPERAND(const schar, w);
  OPERAND(int, acc);
  ulong channels = (ulong)p.groups * (ulong)p.inputs, outputs = (ulong)p.groups * (ulong)p.outputs;
  ulong images = (ulong)p.pixels / ((ulong)p.y_height * (ulong)p.y_width);
  ulong window = (ulong)p.kernel_h * (ulong)p.kernel_w * (ulong)p.inputs;
  for (ulong i = flat_start(); i < (ulong)p.candidates * (ulong)p.pixels * outputs; i += flat_stride()) {
    qk_place place = qk_place_of(i, p.y_height, p.y_width, (int)outputs);
    ulong image, candidate = qk_split(place.image, images, &image);
    ulong plane = (p.x_shared ? image : place.image) * (ulong)p.x_height;
    ulong first = place.c / (ulong)p.outputs * (ulong)p.inputs;
    GLOBAL const schar *weight = w + (candidate * outputs + place.c) * window;
    int sum = 0;
    for (int r = 0; r < p.kernel_h; r++)
      for (int s = 0; s < p.kernel_w; s++, weight += p.inputs) {
        int h = place.row * p.stride_h - p.pad_top + r * p.dilation_h;
        int v = place.column * p.stride_w - p.pad_left + s * p.dilation_w;
        if (h < 0 || h >= p.x_height || v < 0 || v >= p.x_width) continue;
        ulong from = ((plane + (ulong)h) * (ulong)p.x_width + (ulong)v) * channels + first;
        sum += int_conv_row(x + from, p.type == QK_TYPE_U8, weight, p.inputs);
      }
    acc[i] = sum;
  }
}
