/* Kernels of the integer network: convolution by lines, requantisers by pixels. Compiled once an instruction set. */
#include "backends/cpu/int_conv.h"
#include "backends/cpu/kernels_isa.h"

enum { LANES = CPU_INT_LANES, PIXELS = CPU_INT_PIXELS, BLOCK = 1024 };

/* One tap of a block of pixels: sum[q][o] += sum_c x[q][c] * w[c][o]; pixels outside the map have x NULL. */
#define TAP(name, type)                                                                                                \
  CPU_INLINE void name(int32_t sum[PIXELS][LANES], const void *const x[PIXELS], const int32_t *w, int64_t inputs,      \
                       int64_t padded) {                                                                               \
    for (int q = 0; q < PIXELS; q++) {                                                                                 \
      const type *from = x[q];                                                                                         \
      if (!from) continue;                                                                                             \
      for (int64_t c = 0; c < inputs; c++) {                                                                           \
        int32_t value = from[c];                                                                                       \
        const int32_t *row = w + c * padded;                                                                           \
        CPU_SIMD for (int o = 0; o < LANES; o++) sum[q][o] += value * row[o];                                          \
      }                                                                                                                \
    }                                                                                                                  \
  }
TAP(tap_u8, uint8_t)
TAP(tap_s8, int8_t)

typedef struct line {
  const qe_call *call;
  const cpu_int_conv *conv;
  const int32_t *weights;  /* of the candidate */
  int64_t map, image, row; /* population index of x, image, output row */
  int32_t *target;         /* the line of accumulators */
} line;

/* Address of the group's first input channel at tap (kh, kw) of output column j; NULL in the padding. */
CPU_INLINE const void *input_at(const line *l, int64_t kh, int64_t kw, int64_t j, int64_t channel) {
  const qe_desc *x = &l->call->operand[0].desc;
  const qe_window *window = &l->call->attrs.window;
  int64_t row = l->row * window->stride[0] - window->pad[0] + kh * window->dilation[0];
  int64_t column = j * window->stride[1] - window->pad[1] + kw * window->dilation[1];
  if (row < 0 || row >= x->dim[QE_H] || column < 0 || column >= x->dim[QE_W]) return NULL;
  int64_t pixel = ((l->map * x->dim[QE_N] + l->image) * x->dim[QE_H] + row) * x->dim[QE_W] + column;
  return (const char *)l->call->operand[0].data + pixel * x->dim[QE_C] + channel;
}

/* LANES output channels from `o` on of a group, for the pixels j...j+PIXELS-1 of the line. */
CPU_INLINE void block_of(const line *l, int64_t group, int64_t o, int64_t j) {
  const qe_desc *w = &l->call->operand[1].desc, *acc = &l->call->operand[2].desc;
  int64_t inputs = w->dim[QE_C], padded = l->conv->padded, width = acc->dim[QE_W], channels = acc->dim[QE_C];
  const int32_t *weights = l->weights + group * w->dim[QE_H] * w->dim[QE_W] * inputs * padded + o;
  int32_t sum[PIXELS][LANES] = {{0}};
  for (int64_t kh = 0; kh < w->dim[QE_H]; kh++) {
    for (int64_t kw = 0; kw < w->dim[QE_W]; kw++) {
      const void *x[PIXELS];
      for (int q = 0; q < PIXELS; q++) x[q] = j + q < width ? input_at(l, kh, kw, j + q, group * inputs) : NULL;
      const int32_t *tap = weights + (kh * w->dim[QE_W] + kw) * inputs * padded;
      if (l->call->operand[0].desc.dtype == QE_U8)
        tap_u8(sum, x, tap, inputs, padded);
      else
        tap_s8(sum, x, tap, inputs, padded);
    }
  }
  int64_t valid = smaller(LANES, l->conv->outputs - o), pixels = smaller(PIXELS, width - j);
  for (int64_t q = 0; q < pixels; q++)
    memcpy(l->target + (j + q) * channels + group * l->conv->outputs + o, sum[q], (size_t)valid * sizeof(int32_t));
}

void CPU_NAME(int_conv)(const qe_call *call, const cpu_int_conv *conv, int64_t first, int64_t last) {
  const qe_desc *x = &call->operand[0].desc, *w = &call->operand[1].desc, *acc = &call->operand[2].desc;
  int64_t each = (int64_t)w->dim[QE_H] * w->dim[QE_W] * w->dim[QE_C];
  for (int64_t at = first; at < last; at++) {
    int64_t image = at / acc->dim[QE_H], p = image / acc->dim[QE_N];
    line l = {.call = call,
              .conv = conv,
              .weights = conv->turned + p * call->attrs.window.groups * each * conv->padded,
              .map = x->dim[QE_P] == 1 ? 0 : p,
              .image = image % acc->dim[QE_N],
              .row = at % acc->dim[QE_H],
              .target = (int32_t *)call->operand[2].data + at * acc->dim[QE_W] * acc->dim[QE_C]};
    for (int64_t group = 0; group < call->attrs.window.groups; group++)
      for (int64_t o = 0; o < conv->outputs; o += LANES)
        for (int64_t j = 0; j < acc->dim[QE_W]; j += PIXELS) block_of(&l, group, o, j);
  }
}

/* ---- requantisers ---- */

/* `count` values from `from` on as words: where they lie, or in `copy`. */
CPU_INLINE const int32_t *load(const qe_operand *operand, int64_t from, int64_t count, int32_t *copy) {
  if (operand->desc.dtype == QE_U8) {
    const uint8_t *source = (const uint8_t *)operand->data + from;
    CPU_SIMD for (int64_t k = 0; k < count; k++) copy[k] = source[k];
  } else if (operand->desc.dtype == QE_S8) {
    const int8_t *source = (const int8_t *)operand->data + from;
    CPU_SIMD for (int64_t k = 0; k < count; k++) copy[k] = source[k];
  } else {
    return (const int32_t *)operand->data + from;
  }
  return copy;
}

static void store(const qe_operand *operand, int64_t to, int64_t count, const int32_t *from) {
  if (operand->desc.dtype == QE_S32) {
    memcpy((int32_t *)operand->data + to, from, (size_t)count * sizeof *from);
  } else { /* the low byte is the code, whether signed or not */
    uint8_t *target = (uint8_t *)operand->data + to;
    CPU_SIMD for (int64_t k = 0; k < count; k++) target[k] = (uint8_t)from[k];
  }
}

/* `count` channels of one pixel; u NULL: one branch. Narrow sums fit s32 by proof of the lowering. */
CPU_INLINE void requant_narrow(const qe_requant *requant, const int32_t *v, const int32_t *m, const int32_t *u,
                               const int32_t *n, const int64_t *offset, int64_t count, int32_t *y) {
  int32_t low = requant->low, high = requant->high, shift = requant->shift;
  CPU_SIMD for (int64_t k = 0; k < count; k++) {
    int32_t sum = v[k] * m[k] + (u ? u[k] * n[k] : 0) + (int32_t)offset[k];
    int32_t code = sum >> shift;
    code = code < low ? low : code;
    y[k] = code > high ? high : code;
  }
}

CPU_INLINE void requant_wide(const qe_requant *requant, const int32_t *v, const int32_t *m, const int32_t *u,
                             const int32_t *n, const int64_t *offset, int64_t count, int32_t *y) {
  int64_t low = requant->low, high = requant->high;
  int32_t shift = requant->shift;
  CPU_SIMD for (int64_t k = 0; k < count; k++) {
    int64_t sum = (int64_t)v[k] * m[k] + (u ? (int64_t)u[k] * n[k] : 0) + offset[k];
    int64_t code = sum >> shift;
    code = code < low ? low : code;
    y[k] = (int32_t)(code > high ? high : code);
  }
}

/* Index of the pixel that pixel `at` of the result meets: a population of 1 is shared by all. */
CPU_INLINE int64_t shared_pixel(const qe_operand *operand, int64_t at, int64_t each) {
  return operand->desc.dim[QE_P] == 1 ? at % each : at;
}

/* Constants of the channels c...c+count-1, repeated for `pixels` pixels. */
typedef struct requant_constants {
  int32_t m[BLOCK], n[BLOCK];
  int64_t offset[BLOCK];
} requant_constants;

CPU_INLINE void repeat_constants(const qe_operand *m, const qe_operand *n, const qe_operand *offset, int64_t first,
                                 int64_t count, int64_t pixels, requant_constants *to) {
  for (int64_t pixel = 0; pixel < pixels; pixel++) {
    memcpy(to->m + pixel * count, (const int32_t *)m->data + first, (size_t)count * sizeof(int32_t));
    memcpy(to->offset + pixel * count, (const int64_t *)offset->data + first, (size_t)count * sizeof(int64_t));
    if (n) memcpy(to->n + pixel * count, (const int32_t *)n->data + first, (size_t)count * sizeof(int32_t));
  }
}

/* `pixels` pixels of one candidate from `pixel` on, channels c...c+count-1: all of them unless pixels is 1. */
CPU_INLINE void requant_some(const qe_call *call, const qe_operand *u, const qe_operand *y, int64_t pixel, int64_t c,
                             int64_t pixels, int64_t count, const requant_constants *constants) {
  const qe_operand *v = &call->operand[0];
  const qe_requant *requant = &call->attrs.requant;
  const int32_t *dim = y->desc.dim;
  int64_t channels = dim[QE_C], each = (int64_t)dim[QE_N] * dim[QE_H] * dim[QE_W], values = pixels * count;
  int32_t copies[2][BLOCK], codes[BLOCK];
  const int32_t *first = load(v, shared_pixel(v, pixel, each) * channels + c, values, copies[0]);
  const int32_t *second = u ? load(u, shared_pixel(u, pixel, each) * channels + c, values, copies[1]) : NULL;
  if (requant->narrow)
    requant_narrow(requant, first, constants->m, second, constants->n, constants->offset, values, codes);
  else
    requant_wide(requant, first, constants->m, second, constants->n, constants->offset, values, codes);
  store(y, pixel * channels + c, values, codes);
}

/* Pixels first...last-1 of the result [P, N, H, W]: several at a time where a block takes them. */
CPU_INLINE void requant_pixels(const qe_call *call, const qe_operand *u, const qe_operand *n, const qe_operand *offset,
                               const qe_operand *y, int64_t first, int64_t last) {
  const qe_operand *m = &call->operand[1];
  const int32_t *dim = y->desc.dim;
  int64_t channels = dim[QE_C], each = (int64_t)dim[QE_N] * dim[QE_H] * dim[QE_W];
  int64_t together = channels < BLOCK ? BLOCK / channels : 1;
  requant_constants constants = {0};
  for (int64_t start = first, end; start < last; start = end) { /* a candidate's */
    end = smaller(last, (start / each + 1) * each);
    for (int64_t c = 0; c < channels; c += BLOCK) {
      int64_t count = smaller(BLOCK, channels - c);
      repeat_constants(m, n, offset, start / each * channels + c, count, smaller(together, end - start), &constants);
      for (int64_t pixel = start; pixel < end; pixel += together)
        requant_some(call, u, y, pixel, c, smaller(together, end - pixel), count, &constants);
    }
  }
}

void CPU_NAME(int_requant_rows)(const qe_call *call, int64_t first, int64_t last) {
  requant_pixels(call, NULL, NULL, &call->operand[2], &call->operand[3], first, last);
}

void CPU_NAME(int_requant_add_rows)(const qe_call *call, int64_t first, int64_t last) {
  requant_pixels(call, &call->operand[2], &call->operand[3], &call->operand[4], &call->operand[5], first, last);
}
