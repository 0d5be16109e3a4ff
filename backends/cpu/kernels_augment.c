/* Augmentation of u8 images; a row is an image of the batch. Compiled once an instruction set. */
#include "backends/cpu/kernels_isa.h"
#include "core/base/rng.h"

void CPU_NAME(int_augment_rows)(const qe_call *call, int64_t first, int64_t last) {
  const int32_t *index = call->operand[1].data, *counter = call->operand[2].data, *to = call->operand[3].desc.dim;
  uint64_t seed = (uint64_t)(uint32_t)counter[1] << 32 | (uint32_t)counter[0];
  uint64_t position = (uint64_t)(uint32_t)counter[3] << 32 | (uint32_t)counter[2];
  uint32_t places = 2 * (uint32_t)call->attrs.pad + 1;
  int64_t height = to[QE_H], width = to[QE_W], channels = to[QE_C], each = height * width * channels;
  for (int64_t n = first; n < last; n++) {
    const uint8_t *from = (const uint8_t *)call->operand[0].data + index[n] * each;
    uint8_t *x = (uint8_t *)call->operand[3].data + n * each;
    qe_philox draw = qe_philox_draw(seed, QE_STREAM_AUGMENT, position + (uint64_t)n);
    int64_t top = (int64_t)qe_below(draw.word[0], places) - call->attrs.pad;
    int64_t left = (int64_t)qe_below(draw.word[1], places) - call->attrs.pad;
    bool flip = call->attrs.flip && (draw.word[2] & 1);
    memset(x, 128, (size_t)each);
    /* Columns of the image that are seen, and where they begin. */
    int64_t start = left > 0 ? left : 0, count = smaller(width, width + left) - start;
    for (int64_t r = 0; r < height && count > 0; r++) {
      if (top + r < 0 || top + r >= height) continue;
      const uint8_t *line = from + ((top + r) * width + start) * channels;
      uint8_t *target = x + (r * width + (flip ? width - 1 - (start - left) : start - left)) * channels;
      if (!flip) memcpy(target, line, (size_t)(count * channels));
      for (int64_t c = 0; flip && c < count; c++)
        for (int64_t k = 0; k < channels; k++) target[k - c * channels] = line[c * channels + k];
    }
  }
}

void CPU_NAME(int_mix_rows)(const qe_call *call, int64_t first, int64_t last) {
  const uint8_t *images = call->operand[0].data;
  const int32_t *index = call->operand[1].data, *other = call->operand[2].data, *share = call->operand[3].data;
  int64_t each = qe_count(&call->operand[4].desc) / call->operand[4].desc.dim[QE_N];
  for (int64_t n = first; n < last; n++) {
    const uint8_t *a = images + index[n] * each, *b = images + other[n] * each;
    uint8_t *x = (uint8_t *)call->operand[4].data + n * each;
    /* 256 * 255 + 128 fits 16 bits. */
    uint16_t w = (uint16_t)share[n], rest = (uint16_t)(QE_SHARE_ALL - w);
    CPU_SIMD for (int64_t i = 0; i < each; i++) x[i] = (uint8_t)((uint16_t)(w * a[i] + rest * b[i] + 128) >> 8);
  }
}
