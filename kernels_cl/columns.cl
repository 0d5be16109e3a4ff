/* Convolution as a matrix product (backends/opencl/columns.c): the inputs under the window as rows of a matrix, one row
 * an output pixel, and back; contracts of the convolutions in cpu_ref/conv.c. */

/* Channels that a work-item copies at a time, where their number is a multiple of it. */
#ifndef QK_COLUMNS_STEP
#define QK_COLUMNS_STEP 4
#endif

/* columns[pixel][tap][c] = the input that the tap reads there, 0 outside of the map; the channels of one group. */
KERNEL(qk_columns)(BUFFER(x), BUFFER(columns), const qk_params_columns p) {
  OPERAND(const float, x);
  OPERAND(float, columns);
  const uint taps = (uint)(p.kernel_h * p.kernel_w), channels = (uint)p.group_channels;
  const uint step = channels % QK_COLUMNS_STEP ? 1 : QK_COLUMNS_STEP, steps = channels / step;
  const uint count = (uint)p.images * (uint)(p.out_h * p.out_w) * taps * steps;
  for (uint i = (uint)flat_start(); i < count; i += (uint)flat_stride()) {
    const uint c = i % steps * step, tap = i / steps % taps, pixel = i / steps / taps;
    const int v = (int)(pixel % (uint)p.out_w) * p.stride_w - p.pad_left + (int)(tap % (uint)p.kernel_w) * p.dilation_w;
    const uint row = pixel / (uint)p.out_w, image = row / (uint)p.out_h;
    const int h = (int)(row % (uint)p.out_h) * p.stride_h - p.pad_top + (int)(tap / (uint)p.kernel_w) * p.dilation_h;
    const bool inside = h >= 0 && h < p.height && v >= 0 && v < p.width;
    const ulong place = ((ulong)image * (uint)p.height + (ulong)h) * (uint)p.width + (ulong)v;
    const ulong from = place * (uint)p.channels + (uint)p.first_channel + c;
    for (uint k = 0; k < step; k++) columns[(ulong)i * step + k] = inside ? x[from + k] : 0.0f;
  }
}

/* The output line that reads input line `in` through tap `tap`; -1: none. */
DEVICE int columns_line(int in, int tap, int pad, int stride, int dilation, int lines) {
  const int from = in + pad - tap * dilation;
  return from >= 0 && from % stride == 0 && from / stride < lines ? from / stride : -1;
}

/* dx = the sum of all column elements that were read from there; the channels of one group. */
KERNEL(qk_columns_back)(BUFFER(columns), BUFFER(dx), const qk_params_columns p) {
  OPERAND(const float, columns);
  OPERAND(float, dx);
  const uint taps = (uint)(p.kernel_h * p.kernel_w), channels = (uint)p.group_channels;
  const uint count = (uint)p.images * (uint)(p.height * p.width) * channels;
  for (uint i = (uint)flat_start(); i < count; i += (uint)flat_stride()) {
    const uint c = i % channels, pixel = i / channels, row = pixel / (uint)p.width;
    const int v = (int)(pixel % (uint)p.width), h = (int)(row % (uint)p.height);
    const uint image = row / (uint)p.height;
    float sum = 0.0f;
    for (int r = 0; r < p.kernel_h; r++) {
      const int a = columns_line(h, r, p.pad_top, p.stride_h, p.dilation_h, p.out_h);
      for (int s = 0; a >= 0 && s < p.kernel_w; s++) {
        const int b = columns_line(v, s, p.pad_left, p.stride_w, p.dilation_w, p.out_w);
        if (b < 0) continue;
        const uint at = (image * (uint)p.out_h + (uint)a) * (uint)p.out_w + (uint)b;
        sum += columns[((ulong)at * taps + (uint)(r * p.kernel_w + s)) * channels + c];
      }
    }
    dx[(ulong)pixel * (uint)p.channels + (uint)p.first_channel + c] = sum;
  }
}
