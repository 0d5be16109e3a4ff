/* Kernel of noise on codes, by parts: a draw, or an antithetic pair of draws, of an image. Contract in
 * cpu_ref/perturb.c. Compiled once an instruction set. */
#include "backends/cpu/kernels_isa.h"
#include "core/base/rng.h"

enum { WORDS = 64 }; /* Philox draws at a time: 8 noise values each */

typedef struct part_place {
  const qe_call *call;
  const qe_noise *noise;
  uint64_t seed, position; /* of the part */
  int64_t across;          /* blocks of a row */
} part_place;

/* Noise values 8 * first... of the part, `count` of them. */
CPU_INLINE void draw_values(const part_place *at, int64_t first, int64_t count, int8_t *values) {
  uint16_t half[8 * WORDS];
  int32_t chance = at->noise->chance;
  int64_t words = (count + 7) / 8;
  CPU_SIMD for (int64_t i = 0; i < words; i++) {
    qe_philox draw = qe_philox_draw(at->seed, QE_STREAM_PERTURB, at->position + (uint64_t)(first + i));
    for (int k = 0; k < 8; k++) half[8 * i + k] = (uint16_t)(draw.word[k / 2] >> 16 * (k % 2));
  }
  CPU_SIMD for (int64_t i = 0; i < count; i++) {
    int sign = 1 - 2 * (half[i] >> 8 & 1);
    values[i] = (int8_t)((half[i] & 255) < chance ? sign : 0);
  }
}

#define PERTURB(name, type)                                                                                            \
  CPU_INLINE void name(const qe_noise *noise, const type *x, const int8_t *n, int sign, type *y, int64_t count) {      \
    int low = noise->low, high = noise->high, size = sign * noise->size;                                               \
    CPU_SIMD for (int64_t c = 0; c < count; c++) {                                                                     \
      int code = x[c] + size * n[c];                                                                                   \
      code = code < low ? low : code;                                                                                  \
      y[c] = (type)(code > high ? high : code);                                                                        \
    }                                                                                                                  \
  }
PERTURB(perturb_u8, uint8_t)
PERTURB(perturb_s8, int8_t)

/* One pixel of a result image. */
CPU_INLINE void perturb_pixel(const part_place *at, int64_t from, int64_t to, const int8_t *n, int sign) {
  const qe_operand *x = &at->call->operand[0], *y = &at->call->operand[2];
  int64_t channels = x->desc.dim[QE_C], noisy = at->noise->channels;
  const uint8_t *source = (const uint8_t *)x->data + from * channels;
  uint8_t *target = (uint8_t *)y->data + to * channels;
  if (x->desc.dtype == QE_U8)
    perturb_u8(at->noise, source, n, sign, target, noisy);
  else
    perturb_s8(at->noise, (const int8_t *)source, n, sign, (int8_t *)target, noisy);
  memcpy(target + noisy, source + noisy, (size_t)(channels - noisy));
}

/* The noise of a part: drawn where its first pixel of a block lies, copied to the block's others. */
CPU_INLINE void noise_of_part(const part_place *at, int64_t height, int64_t width, int8_t *n) {
  int64_t channels = at->noise->channels, line = width * channels;
  int32_t rows = at->noise->block[0], columns = at->noise->block[1];
  int8_t values[8 * WORDS];
  int64_t total = at->across * ((height + rows - 1) / rows) * channels;
  for (int64_t first = 0; first < total; first += 8 * WORDS) {
    int64_t count = smaller(8 * WORDS, total - first);
    draw_values(at, first / 8, count, values);
    for (int64_t v = first; v < first + count;) {
      int64_t block = v / channels, c = v % channels, run = smaller(channels - c, first + count - v);
      int64_t pixel = block / at->across * rows * width + block % at->across * columns;
      memcpy(n + pixel * channels + c, values + (v - first), (size_t)run);
      v += run;
    }
  }
  for (int64_t h = 0; h < height; h++) {
    if (h % rows)
      memcpy(n + h * line, n + (h - 1) * line, (size_t)line);
    else
      for (int64_t w = 0; w < width; w++)
        if (w % columns) memcpy(n + h * line + w * channels, n + h * line + (w - 1) * channels, (size_t)channels);
  }
}

/* Row: a part. */
void CPU_NAME(int_perturb_rows)(const qe_call *call, int64_t first, int64_t last) {
  const qe_noise *noise = &call->attrs.noise;
  const int32_t *counter = (const int32_t *)call->operand[1].data;
  const qe_desc *x = &call->operand[0].desc;
  int64_t height = x->dim[QE_H], width = x->dim[QE_W], pixels = height * width;
  int64_t each = noise->antithetic ? 2 : 1, parts = noise->draws / each;
  part_place at = {.call = call,
                   .noise = noise,
                   .seed = (uint64_t)(uint32_t)counter[1] << 32 | (uint32_t)counter[0],
                   .across = (width + noise->block[1] - 1) / noise->block[1]};
  uint64_t position = (uint64_t)(uint32_t)counter[3] << 32 | (uint32_t)counter[2];
  int64_t down = (height + noise->block[0] - 1) / noise->block[0];
  int64_t words = (at.across * down * noise->channels + 7) / 8;
  for (int64_t part = first; part < last; part++) {
    int8_t *n = (int8_t *)call->operand[3].data + part * pixels * noise->channels;
    at.position = position + (uint64_t)(part * words);
    noise_of_part(&at, height, width, n);
    for (int64_t k = 0; k < each; k++)
      for (int64_t pixel = 0; pixel < pixels; pixel++)
        perturb_pixel(&at, part / parts * pixels + pixel, (part * each + k) * pixels + pixel,
                      n + pixel * noise->channels, k ? -1 : 1);
  }
}
