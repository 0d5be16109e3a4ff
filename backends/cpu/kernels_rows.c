/* Kernels by rows: ops that move values between maps of different shape, pooling, the loss. rows.c says what a row is.
 * Compiled once an instruction set. */
#include "backends/cpu/kernels_isa.h"

#include <math.h>

CPU_INLINE const qe_desc *desc_of(const qe_call *call, int operand) {
  return &call->operand[operand].desc;
}
CPU_INLINE float *f32_of(const qe_call *call, int operand) {
  return (float *)call->operand[operand].data;
}
CPU_INLINE int32_t *s32_of(const qe_call *call, int operand) {
  return (int32_t *)call->operand[operand].data;
}
CPU_INLINE void copy(float *to, const float *from, int64_t count) {
  memcpy(to, from, (size_t)count * sizeof *to);
}
CPU_INLINE void zero(float *to, int64_t count) {
  memset(to, 0, (size_t)count * sizeof *to);
}
CPU_INLINE bool within(int64_t coordinate, int64_t extent) {
  return coordinate >= 0 && coordinate < extent;
}

void CPU_NAME(concat_rows)(const qe_call *call, int64_t first, int64_t last) {
  int64_t ca = desc_of(call, 0)->dim[QE_C], cb = desc_of(call, 1)->dim[QE_C];
  for (int64_t row = first; row < last; row++) {
    copy(f32_of(call, 2) + row * (ca + cb), f32_of(call, 0) + row * ca, ca);
    copy(f32_of(call, 2) + row * (ca + cb) + ca, f32_of(call, 1) + row * cb, cb);
  }
}

void CPU_NAME(concat_grad_rows)(const qe_call *call, int64_t first, int64_t last) {
  int64_t ca = desc_of(call, 1)->dim[QE_C], cb = desc_of(call, 2)->dim[QE_C];
  for (int64_t row = first; row < last; row++) {
    copy(f32_of(call, 1) + row * ca, f32_of(call, 0) + row * (ca + cb), ca);
    copy(f32_of(call, 2) + row * cb, f32_of(call, 0) + row * (ca + cb) + ca, cb);
  }
}

/* Row: y's image and line. */
void CPU_NAME(subsample_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_desc *xd = desc_of(call, 0), *yd = desc_of(call, 1);
  const int32_t *stride = call->attrs.window.stride, *pad = call->attrs.pad_channels;
  int64_t channels = xd->dim[QE_C], width = xd->dim[QE_W];
  float *y = f32_of(call, 1) + first * yd->dim[QE_W] * yd->dim[QE_C];
  for (int64_t row = first; row < last; row++) {
    int64_t n = row / yd->dim[QE_H], h = row % yd->dim[QE_H] * stride[0];
    const float *x = f32_of(call, 0) + (n * xd->dim[QE_H] + h) * width * channels;
    for (int64_t j = 0; j < yd->dim[QE_W]; j++, y += yd->dim[QE_C]) {
      zero(y, pad[0]);
      copy(y + pad[0], x + j * stride[1] * channels, channels);
      zero(y + pad[0] + channels, pad[1]);
    }
  }
}

/* Row: dx's image and line. */
void CPU_NAME(subsample_grad_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_desc *yd = desc_of(call, 0), *xd = desc_of(call, 1);
  const int32_t *stride = call->attrs.window.stride, *pad = call->attrs.pad_channels;
  int64_t channels = xd->dim[QE_C], line = xd->dim[QE_W] * channels;
  for (int64_t row = first; row < last; row++) {
    int64_t n = row / xd->dim[QE_H], h = row % xd->dim[QE_H];
    float *dx = f32_of(call, 1) + row * line;
    zero(dx, line);
    if (h % stride[0]) continue;
    const float *dy = f32_of(call, 0) + (n * yd->dim[QE_H] + h / stride[0]) * yd->dim[QE_W] * yd->dim[QE_C];
    for (int64_t j = 0; j < yd->dim[QE_W]; j++)
      copy(dx + j * stride[1] * channels, dy + j * yd->dim[QE_C] + pad[0], channels);
  }
}

/* ---- pooling ---- */

/* The part of a window that lies inside the image: lines h0...h1-1, columns w0...w1-1. */
typedef struct box {
  int64_t h0, h1, w0, w1;
} box;

CPU_INLINE box box_of(const qe_window *window, const qe_desc *xd, int64_t i, int64_t j) {
  box in = {.h0 = i * window->stride[0] - window->pad[0], .w0 = j * window->stride[1] - window->pad[1]};
  in.h1 = smaller(in.h0 + window->kernel[0], xd->dim[QE_H]);
  in.w1 = smaller(in.w0 + window->kernel[1], xd->dim[QE_W]);
  if (in.h0 < 0) in.h0 = 0;
  if (in.w0 < 0) in.w0 = 0;
  return in;
}

/* Row: y's image and line. */
void CPU_NAME(max_pool_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_desc *xd = desc_of(call, 0), *yd = desc_of(call, 1);
  int64_t channels = xd->dim[QE_C], line = xd->dim[QE_W] * channels;
  float *y = f32_of(call, 1) + first * yd->dim[QE_W] * channels;
  for (int64_t row = first; row < last; row++) {
    const float *image = f32_of(call, 0) + row / yd->dim[QE_H] * xd->dim[QE_H] * line;
    for (int64_t j = 0; j < yd->dim[QE_W]; j++, y += channels) {
      box in = box_of(&call->attrs.window, xd, row % yd->dim[QE_H], j);
      copy(y, image + in.h0 * line + in.w0 * channels, channels);
      for (int64_t h = in.h0; h < in.h1; h++)
        for (int64_t w = in.w0; w < in.w1; w++) {
          const float *x = image + h * line + w * channels;
          CPU_SIMD for (int64_t c = 0; c < channels; c++) y[c] = x[c] > y[c] ? x[c] : y[c];
        }
    }
  }
}

enum { BLOCK = 64 }; /* channels at a time */

/* dx at the first maximum of the window += dy, for `count` channels at x, dy, dx. */
static void add_to_maximum(const box *in, int64_t line, int64_t channels, int64_t count, const float *x,
                           const float *dy, float *dx) {
  float best[BLOCK];
  int64_t from[BLOCK];
  int64_t start = in->h0 * line + in->w0 * channels;
  for (int64_t c = 0; c < count; c++) {
    best[c] = x[start + c];
    from[c] = start;
  }
  for (int64_t h = in->h0; h < in->h1; h++)
    for (int64_t w = in->w0; w < in->w1; w++) {
      int64_t at = h * line + w * channels;
      CPU_SIMD for (int64_t c = 0; c < count; c++) {
        bool larger = x[at + c] > best[c];
        best[c] = larger ? x[at + c] : best[c];
        from[c] = larger ? at : from[c];
      }
    }
  for (int64_t c = 0; c < count; c++) dx[from[c] + c] += dy[c];
}

/* Row: an image. */
void CPU_NAME(max_pool_grad_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_desc *yd = desc_of(call, 0), *xd = desc_of(call, 2);
  int64_t channels = xd->dim[QE_C], line = xd->dim[QE_W] * channels, image = xd->dim[QE_H] * line;
  for (int64_t n = first; n < last; n++) {
    const float *x = f32_of(call, 1) + n * image;
    const float *dy = f32_of(call, 0) + n * yd->dim[QE_H] * yd->dim[QE_W] * channels;
    float *dx = f32_of(call, 2) + n * image;
    zero(dx, image);
    for (int64_t i = 0; i < yd->dim[QE_H]; i++)
      for (int64_t j = 0; j < yd->dim[QE_W]; j++, dy += channels) {
        box in = box_of(&call->attrs.window, xd, i, j);
        for (int64_t c = 0; c < channels; c += BLOCK)
          add_to_maximum(&in, line, channels, smaller(BLOCK, channels - c), x + c, dy + c, dx + c);
      }
  }
}

/* Row: y's image and line. Sums in double. */
void CPU_NAME(avg_pool_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_desc *xd = desc_of(call, 0), *yd = desc_of(call, 1);
  const qe_window *window = &call->attrs.window;
  int64_t channels = xd->dim[QE_C], line = xd->dim[QE_W] * channels;
  double area = (double)window->kernel[0] * window->kernel[1];
  float *y = f32_of(call, 1) + first * yd->dim[QE_W] * channels;
  for (int64_t row = first; row < last; row++) {
    const float *image = f32_of(call, 0) + row / yd->dim[QE_H] * xd->dim[QE_H] * line;
    for (int64_t j = 0; j < yd->dim[QE_W]; j++, y += channels) {
      box in = box_of(window, xd, row % yd->dim[QE_H], j);
      for (int64_t block = 0; block < channels; block += BLOCK) {
        double sum[BLOCK] = {0};
        int64_t count = smaller(BLOCK, channels - block);
        for (int64_t h = in.h0; h < in.h1; h++)
          for (int64_t w = in.w0; w < in.w1; w++) {
            const float *x = image + h * line + w * channels + block;
            CPU_SIMD for (int64_t c = 0; c < count; c++) sum[c] += (double)x[c];
          }
        CPU_SIMD for (int64_t c = 0; c < count; c++) y[block + c] = (float)(sum[c] / area);
      }
    }
  }
}

/* Row: an image. */
void CPU_NAME(avg_pool_grad_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_desc *yd = desc_of(call, 0), *xd = desc_of(call, 1);
  const qe_window *window = &call->attrs.window;
  int64_t channels = xd->dim[QE_C], line = xd->dim[QE_W] * channels, image = xd->dim[QE_H] * line;
  float scale = 1.0f / ((float)window->kernel[0] * (float)window->kernel[1]);
  for (int64_t n = first; n < last; n++) {
    const float *dy = f32_of(call, 0) + n * yd->dim[QE_H] * yd->dim[QE_W] * channels;
    float *dx = f32_of(call, 1) + n * image;
    zero(dx, image);
    for (int64_t i = 0; i < yd->dim[QE_H]; i++)
      for (int64_t j = 0; j < yd->dim[QE_W]; j++, dy += channels) {
        box in = box_of(window, xd, i, j);
        for (int64_t h = in.h0; h < in.h1; h++)
          for (int64_t w = in.w0; w < in.w1; w++) {
            float *to = dx + h * line + w * channels;
            CPU_SIMD for (int64_t c = 0; c < channels; c++) to[c] += dy[c] * scale;
          }
      }
  }
}

/* ---- quantisers with a step for each index of axis N, which is the row ---- */

enum { PIECE = 4096 }; /* elements at a time */

/* Run a tile kernel over one row in pieces; the sum of the pieces' sums. */
static double by_pieces(cpu_tile_kernel kernel, const qe_call *call, int operands, const float *params, int64_t row,
                        int64_t each) {
  double sum = 0;
  for (int64_t at = 0; at < each; at += PIECE) {
    float part = 0;
    cpu_tile tile = {.count = smaller(PIECE, each - at), .params = params, .sums = &part, .attrs = &call->attrs};
    for (int i = 0; i < operands; i++) tile.operand[i] = f32_of(call, i) + row * each + at;
    kernel(&tile);
    sum += (double)part;
  }
  return sum;
}

void CPU_NAME(quant_rows)(const qe_call *call, int64_t first, int64_t last) {
  int64_t each = qe_count(desc_of(call, 0)) / desc_of(call, 1)->dim[QE_N];
  for (int64_t row = first; row < last; row++) {
    float step = ldexpf(f32_of(call, 1)[row], -call->attrs.quant.step_shift);
    qe_call maps = *call;
    maps.operand[1] = maps.operand[0];
    (void)by_pieces(CPU_NAME(quant_tile), &maps, 3, &step, row, each);
  }
}

void CPU_NAME(quant_grad_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_quant *quant = &call->attrs.quant;
  int64_t each = qe_count(desc_of(call, 1)) / desc_of(call, 2)->dim[QE_N];
  for (int64_t row = first; row < last; row++) {
    float step = ldexpf(f32_of(call, 2)[row], -quant->step_shift);
    qe_call maps = *call;
    maps.operand[2] = maps.operand[1];
    double sum = by_pieces(CPU_NAME(quant_grad_tile), &maps, 4, &step, row, each);
    f32_of(call, 4)[row] = (float)((double)quant->grad_scale * ldexp(sum, -quant->step_shift));
  }
}

/* Step and gate of a row. */
typedef struct gated_params {
  float value[2];
} gated_params;

static gated_params gated_params_of(const qe_call *call, int step, int64_t row) {
  float size = ldexpf(f32_of(call, step)[row], -call->attrs.quant.step_shift);
  bool on = *(const int32_t *)call->operand[step + 1].data != 0;
  return (gated_params){{size, on ? 1.0f : 0.0f}};
}

void CPU_NAME(quant_gate_rows)(const qe_call *call, int64_t first, int64_t last) {
  int64_t each = qe_count(desc_of(call, 0)) / desc_of(call, 1)->dim[QE_N];
  qe_call maps = *call;
  maps.operand[1] = maps.operand[2] = maps.operand[0];
  for (int64_t row = first; row < last; row++) {
    gated_params params = gated_params_of(call, 1, row);
    (void)by_pieces(CPU_NAME(quant_gate_tile), &maps, 4, params.value, row, each);
  }
}

void CPU_NAME(quant_gate_grad_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_quant *quant = &call->attrs.quant;
  int64_t each = qe_count(desc_of(call, 1)) / desc_of(call, 2)->dim[QE_N];
  qe_call maps = *call;
  maps.operand[2] = maps.operand[3] = maps.operand[1];
  for (int64_t row = first; row < last; row++) {
    gated_params params = gated_params_of(call, 2, row);
    double sum = by_pieces(CPU_NAME(quant_gate_grad_tile), &maps, 5, params.value, row, each);
    f32_of(call, 5)[row] = (float)((double)quant->grad_scale * ldexp(sum, -quant->step_shift));
  }
}

/* ---- loss: a row is an image; in double, as it is little work ---- */

static int64_t first_largest(const float *z, int64_t count) {
  int64_t best = 0;
  for (int64_t c = 1; c < count; c++)
    if (z[c] > z[best]) best = c;
  return best;
}

static double log_sum_exp(const float *z, int64_t count) {
  double shift = (double)z[first_largest(z, count)], sum = 0;
  for (int64_t c = 0; c < count; c++) sum += exp((double)z[c] - shift);
  return shift + log(sum);
}

/* The labels of image n and their parts of it; one label is all of it. */
typedef struct answer {
  int32_t label[2], share[2];
} answer;

CPU_INLINE answer answer_of(const qe_call *call, int64_t n, bool mixed) {
  int32_t first = s32_of(call, 1)[n], share = mixed ? s32_of(call, 3)[n] : QE_SHARE_ALL;
  return (answer){{first, mixed ? s32_of(call, 2)[n] : first}, {share, QE_SHARE_ALL - share}};
}

CPU_INLINE void loss_rows(const qe_call *call, bool mixed, int64_t first, int64_t last) {
  int64_t classes = desc_of(call, 0)->dim[QE_C];
  int results = mixed ? 4 : 2;
  double smoothing = (double)call->attrs.smoothing;
  for (int64_t n = first; n < last; n++) {
    const float *z = f32_of(call, 0) + n * classes;
    answer right = answer_of(call, n, mixed);
    double normaliser = log_sum_exp(z, classes), rest = 0, miss = 0;
    int64_t best = first_largest(z, classes);
    int32_t hit = 0;
    for (int64_t c = 0; c < classes; c++) rest += normaliser - (double)z[c];
    for (int k = 0; k < 2; k++) {
      if (right.share[k] > 0) miss += right.share[k] * (normaliser - (double)z[right.label[k]]) / QE_SHARE_ALL;
      if (best == right.label[k]) hit += right.share[k];
    }
    f32_of(call, results)[n] = (float)((1 - smoothing) * miss + smoothing / (double)classes * rest);
    s32_of(call, results + 1)[n] = mixed ? hit : hit / QE_SHARE_ALL;
  }
}

CPU_INLINE void loss_grad_rows(const qe_call *call, bool mixed, int64_t first, int64_t last) {
  int64_t classes = desc_of(call, 0)->dim[QE_C];
  double smoothing = (double)call->attrs.smoothing, scale = (double)call->attrs.scale;
  double all = smoothing / (double)classes, unit = (1 - smoothing) / QE_SHARE_ALL;
  for (int64_t n = first; n < last; n++) {
    const float *z = f32_of(call, 0) + n * classes;
    float *dz = f32_of(call, mixed ? 4 : 2) + n * classes;
    answer right = answer_of(call, n, mixed);
    double normaliser = log_sum_exp(z, classes);
    for (int64_t c = 0; c < classes; c++) {
      int32_t part = (c == right.label[0] ? right.share[0] : 0) + (c == right.label[1] ? right.share[1] : 0);
      dz[c] = (float)(scale * (exp((double)z[c] - normaliser) - (part * unit + all)));
    }
  }
}

void CPU_NAME(softmax_xent_rows)(const qe_call *call, int64_t first, int64_t last) {
  loss_rows(call, false, first, last);
}

void CPU_NAME(softmax_xent_grad_rows)(const qe_call *call, int64_t first, int64_t last) {
  loss_grad_rows(call, false, first, last);
}

void CPU_NAME(mix_xent_rows)(const qe_call *call, int64_t first, int64_t last) {
  loss_rows(call, true, first, last);
}

void CPU_NAME(mix_xent_grad_rows)(const qe_call *call, int64_t first, int64_t last) {
  loss_grad_rows(call, true, first, last);
}

/* ---- augmentation: a row is an image of the batch ---- */

/* The pixels lie in the last quarter of their own result while that is made: value i ends where byte 4 i + 3 is, before
 * pixel i + 1 at 3 count + i + 1. */
static void to_reals(float *x, int64_t count) {
  const uint8_t *pixels = (const uint8_t *)(x + count) - count;
  for (int64_t i = 0; i < count; i += PIECE) {
    uint8_t piece[PIECE];
    int64_t size = smaller(PIECE, count - i);
    memcpy(piece, pixels + i, (size_t)size);
    CPU_SIMD for (int64_t k = 0; k < size; k++) x[i + k] = (float)((int32_t)piece[k] - 128) * (1.0f / 64.0f);
  }
}

void CPU_NAME(augment_rows)(const qe_call *call, int64_t first, int64_t last) {
  int64_t each = qe_count(desc_of(call, 3)) / desc_of(call, 3)->dim[QE_N];
  for (int64_t n = first; n < last; n++) {
    float *x = f32_of(call, 3) + n * each;
    CPU_NAME(augmented)(call, n, (uint8_t *)(x + each) - each);
    to_reals(x, each);
  }
}

void CPU_NAME(mix_rows)(const qe_call *call, int64_t first, int64_t last) {
  const uint8_t *images = (const uint8_t *)call->operand[0].data;
  int64_t each = qe_count(desc_of(call, 4)) / desc_of(call, 4)->dim[QE_N];
  for (int64_t n = first; n < last; n++) {
    const uint8_t *a = images + s32_of(call, 1)[n] * each, *b = images + s32_of(call, 2)[n] * each;
    float *x = f32_of(call, 4) + n * each;
    int32_t w = s32_of(call, 3)[n], rest = QE_SHARE_ALL - w, zero_at = 128 * QE_SHARE_ALL;
    CPU_SIMD for (int64_t i = 0; i < each; i++) x[i] = (float)(w * a[i] + rest * b[i] - zero_at) * (1.0f / 16384.0f);
  }
}
