/* Reference: noise on codes, for node perturbation. No function here has a floating-point operation. */
#include "core/base/rng.h"
#include "cpu_ref/ref.h"

/* Noise value v of part `part`: a half word h of Philox, 8 values a draw of (seed, QE_STREAM_PERTURB, position + part *
 * words + v / 8); 0 unless its low byte is below `chance`, else its sign by bit 8. */
static int32_t noise_at(const qe_noise *noise, const int32_t *counter, int64_t words, int64_t part, int64_t v) {
  uint64_t seed = (uint64_t)(uint32_t)counter[1] << 32 | (uint32_t)counter[0];
  uint64_t position = (uint64_t)(uint32_t)counter[3] << 32 | (uint32_t)counter[2];
  qe_philox draw = qe_philox_draw(seed, QE_STREAM_PERTURB, position + (uint64_t)(part * words + v / 8));
  uint32_t half = draw.word[v % 8 / 2] >> 16 * (v % 2);
  if ((int32_t)(half & 255) >= noise->chance) return 0;
  return half >> 8 & 1 ? -1 : 1;
}

static int32_t code_at(const qe_operand *operand, int64_t at) {
  return operand->desc.dtype == QE_U8 ? ((const uint8_t *)operand->data)[at] : ((const int8_t *)operand->data)[at];
}

/* One pixel's channels of result image `to` from image `image`; n: the pixel's noise, to be taken `sign` times. */
static void perturb_pixel(const qe_call *call, int64_t image, int64_t to, int64_t pixel, const int8_t *n, int sign) {
  const qe_operand *x = &call->operand[0], *y = &call->operand[2];
  const qe_noise *noise = &call->attrs.noise;
  int64_t channels = x->desc.dim[QE_C], pixels = (int64_t)x->desc.dim[QE_H] * x->desc.dim[QE_W];
  for (int64_t c = 0; c < channels; c++) {
    int32_t code = code_at(x, (image * pixels + pixel) * channels + c);
    if (c < noise->channels) {
      code += sign * n[c] * noise->size;
      code = code < noise->low ? noise->low : code > noise->high ? noise->high : code;
    }
    ((uint8_t *)y->data)[(to * pixels + pixel) * channels + c] = (uint8_t)code;
  }
}

/* y[image * draws + d] = clamp(x[image] + size * n, low, high) in the first `channels` channels, a copy in the others.
 * n in {-1, 0, 1} is n[image * draws + d]; antithetic: n[image * draws / 2 + d / 2], and minus that for odd d. Each
 * block of block[0] x block[1] pixels shares its values: v = (block row * blocks of a row + block column) * channels +
 * channel. counter = {seed low, seed high, position low, position high}; a call on k images takes k * parts *
 * ceil(values of a part / 8) positions, so that chunks of images draw what one call would. */
qe_status qe_ref_int_perturb(const qe_call *call) {
  const qe_noise *noise = &call->attrs.noise;
  const qe_desc *x = &call->operand[0].desc, *n = &call->operand[3].desc;
  int64_t height = x->dim[QE_H], width = x->dim[QE_W], channels = noise->channels;
  int64_t across = (width + noise->block[1] - 1) / noise->block[1];
  int64_t down = (height + noise->block[0] - 1) / noise->block[0], words = (across * down * channels + 7) / 8;
  int64_t each = noise->antithetic ? 2 : 1, parts = noise->draws / each;
  for (int64_t part = 0; part < n->dim[QE_N]; part++)
    for (int64_t pixel = 0; pixel < height * width; pixel++) {
      int8_t *to = (int8_t *)call->operand[3].data + (part * height * width + pixel) * channels;
      int64_t block = pixel / width / noise->block[0] * across + pixel % width / noise->block[1];
      for (int64_t c = 0; c < channels; c++)
        to[c] = (int8_t)noise_at(noise, call->operand[1].data, words, part, block * channels + c);
      for (int64_t k = 0; k < each; k++) perturb_pixel(call, part / parts, part * each + k, pixel, to, k ? -1 : 1);
    }
  return QE_OK;
}
