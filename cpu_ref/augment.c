/* References: random crop and horizontal flip of u8 images into the network's input, and images mixed in pairs. */
#include "core/base/rng.h"
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

/* For image i of the batch, draw = philox(seed, QE_STREAM_AUGMENT, position + i) from counter = {seed low, seed high,
 * position low, position high}: the crop starts at row qe_below(word 0, 2 * pad + 1), column qe_below(word 1, the same)
 * of the image with `pad` pixels around it, and is mirrored left to right when attrs.flip and word 2 is odd.
 * x = (pixel - 128) / 64, exact; outside the image the code is 0, so x = 0. With pad = flip = 0 it is the image. */
qe_status qe_ref_augment(const qe_call *call) {
  const qe_desc *from = desc_of(call, 0), *to = desc_of(call, 3);
  const uint8_t *images = (const uint8_t *)call->operand[0].data;
  const int32_t *index = s32_of(call, 1), *counter = s32_of(call, 2);
  QE_TRY(qe_call_check_values(call));
  uint64_t seed = (uint64_t)(uint32_t)counter[1] << 32 | (uint32_t)counter[0];
  uint64_t position = (uint64_t)(uint32_t)counter[3] << 32 | (uint32_t)counter[2];
  int64_t height = to->dim[QE_H], width = to->dim[QE_W], channels = to->dim[QE_C];
  uint32_t places = 2 * (uint32_t)call->attrs.pad + 1;
  for (int64_t n = 0; n < to->dim[QE_N]; n++) {
    qe_philox draw = qe_philox_draw(seed, QE_STREAM_AUGMENT, position + (uint64_t)n);
    int64_t top = (int64_t)qe_below(draw.word[0], places) - call->attrs.pad;
    int64_t left = (int64_t)qe_below(draw.word[1], places) - call->attrs.pad;
    bool flip = call->attrs.flip && (draw.word[2] & 1);
    for (int64_t r = 0; r < height; r++)
      for (int64_t c = 0; c < width; c++)
        for (int64_t ch = 0; ch < channels; ch++) {
          int64_t h = top + r, w = left + (flip ? width - 1 - c : c);
          int code = inside(h, height) && inside(w, width) ? images[at(from, index[n], h, w, ch)] - 128 : 0;
          f32_of(call, 3)[at(to, n, r, c, ch)] = (float)code / 64.0f;
        }
  }
  return QE_OK;
}

/* As int_mix (cpu_ref/int_augment.c) before rounding: x = ((w a + (256 - w) b) / 256 - 128) / 64, exact. */
qe_status qe_ref_mix(const qe_call *call) {
  const uint8_t *images = (const uint8_t *)call->operand[0].data;
  const qe_desc *to = desc_of(call, 4);
  int64_t each = qe_count(to) / to->dim[QE_N];
  QE_TRY(qe_call_check_values(call));
  for (int64_t n = 0; n < to->dim[QE_N]; n++) {
    const uint8_t *a = images + s32_of(call, 1)[n] * each, *b = images + s32_of(call, 2)[n] * each;
    int w = s32_of(call, 3)[n];
    for (int64_t i = 0; i < each; i++)
      f32_of(call, 4)[n * each + i] = (float)(w * a[i] + (QE_SHARE_ALL - w) * b[i] - 128 * QE_SHARE_ALL) / 16384.0f;
  }
  return QE_OK;
}
