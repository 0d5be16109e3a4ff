/* References: augmentation of u8 images in integers, exact. */
#include "core/base/rng.h"
#include "cpu_ref/codes.h"
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

/* The crop and flip of the op `augment` (cpu_ref/augment.c: the same draws) on pixels: x = the pixel, and 128, the code
 * 0 of the input quantiser, outside the image. */
qe_status qe_ref_int_augment(const qe_call *call) {
  const qe_operand *images = &call->operand[0], *x = &call->operand[3];
  const int32_t *index = s32_of(call, 1), *counter = s32_of(call, 2), *to = x->desc.dim;
  QE_TRY(qe_call_check_values(call));
  uint64_t seed = (uint64_t)(uint32_t)counter[1] << 32 | (uint32_t)counter[0];
  uint64_t position = (uint64_t)(uint32_t)counter[3] << 32 | (uint32_t)counter[2];
  uint32_t places = 2 * (uint32_t)call->attrs.pad + 1;
  for (int64_t n = 0; n < to[QE_N]; n++) {
    qe_philox draw = qe_philox_draw(seed, QE_STREAM_AUGMENT, position + (uint64_t)n);
    int64_t top = (int64_t)qe_below(draw.word[0], places) - call->attrs.pad;
    int64_t left = (int64_t)qe_below(draw.word[1], places) - call->attrs.pad;
    bool flip = call->attrs.flip && (draw.word[2] & 1);
    for (int64_t r = 0; r < to[QE_H]; r++)
      for (int64_t c = 0; c < to[QE_W]; c++) {
        int64_t h = top + r, w = left + (flip ? to[QE_W] - 1 - c : c);
        bool within = inside(h, to[QE_H]) && inside(w, to[QE_W]);
        for (int64_t ch = 0; ch < to[QE_C]; ch++)
          store_at(x, at(&x->desc, n, r, c, ch),
                   within ? value_at(images, at(&images->desc, index[n], h, w, ch)) : 128);
      }
  }
  return QE_OK;
}

/* Images mixed in pairs: with w = share[n], x[n] = (w a + (256 - w) b + 128) >> 8, pixel by pixel, where a is image
 * index[n] and b image other[n]. w = 256: image index[n] as it is. */
qe_status qe_ref_int_mix(const qe_call *call) {
  const qe_operand *images = &call->operand[0], *x = &call->operand[4];
  int64_t each = qe_count(&x->desc) / x->desc.dim[QE_N];
  QE_TRY(qe_call_check_values(call));
  for (int64_t n = 0; n < x->desc.dim[QE_N]; n++) {
    int64_t first = s32_of(call, 1)[n] * each, second = s32_of(call, 2)[n] * each, w = s32_of(call, 3)[n];
    for (int64_t i = 0; i < each; i++)
      store_at(x, n * each + i,
               (w * value_at(images, first + i) + (QE_SHARE_ALL - w) * value_at(images, second + i) + 128) >> 8);
  }
  return QE_OK;
}
