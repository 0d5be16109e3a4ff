/* References: augmentation of u8 images in integers, exact. */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "cpu_ref/codes.h"
#include "cpu_ref/index.h"
#include "cpu_ref/pixels.h"
#include "cpu_ref/ref.h"

#include <string.h>

enum { MIDDLE = 128 }; /* the code 0 of the network's input */

/* ---- colour jitter ---- */

/* `value` moved away from `centre` by a factor in 256ths: 0 gives the centre, 256 the value. */
static uint8_t scaled(int64_t centre, int64_t value, int64_t factor) {
  int64_t moved = (centre * 256 + factor * (value - centre) + 128) >> 8;
  return (uint8_t)(moved < 0 ? 0 : moved > 255 ? 255 : moved);
}

/* Luma by ITU-R BT.601 of three channels, else the mean of the channels. */
static int64_t grey_of(const uint8_t *pixel, int64_t channels) {
  int64_t sum = 0;
  if (channels == 3) return (77 * pixel[0] + 150 * pixel[1] + 29 * pixel[2] + 128) >> 8;
  for (int64_t c = 0; c < channels; c++) sum += pixel[c];
  return (sum + channels / 2) / channels;
}

/* Brightness scales values away from 0; contrast, away from the mean grey of the image; saturation, away from the grey
 * of the pixel: one after the other, each rounded to a pixel. Factor k, in 256ths, is uniform in 256 - j...256 + j,
 * j = attrs.jitter[k], by word k of `draw`. */
static void jitter(const qe_call *call, qe_philox draw, uint8_t *image, int64_t pixels, int64_t channels) {
  int64_t factor[QE_JITTERS], sum = pixels / 2;
  for (int k = 0; k < QE_JITTERS; k++) {
    int32_t j = call->attrs.jitter[k];
    factor[k] = 256 - j + (int64_t)qe_below(draw.word[k], 2 * (uint32_t)j + 1);
  }
  for (int64_t i = 0; i < pixels * channels; i++) image[i] = scaled(0, image[i], factor[QE_JITTER_BRIGHTNESS]);
  for (int64_t i = 0; i < pixels; i++) sum += grey_of(image + i * channels, channels);
  for (int64_t i = 0; i < pixels * channels; i++) image[i] = scaled(sum / pixels, image[i], factor[QE_JITTER_CONTRAST]);
  for (int64_t i = 0; i < pixels; i++) {
    int64_t grey = grey_of(image + i * channels, channels);
    for (int64_t c = 0; c < channels; c++)
      image[i * channels + c] = scaled(grey, image[i * channels + c], factor[QE_JITTER_SATURATION]);
  }
}

/* ---- the image ---- */

/* Random draws for image n are those of index = position + n, with {seed low, seed high, position low, position high}
 * as the counter. In this order:
 * jitter  where one of attrs.jitter is not 0: above, draw = philox(seed, QE_STREAM_COLOUR, index)
 * crop    draw = philox(seed, QE_STREAM_AUGMENT, index): from row qe_below(word 0, 2 * pad + 1), column qe_below(word
 * 1, the same) of the image with `pad` pixels of 128 around it; mirrored left to right when attrs.flip and word 2 is
 * odd cutout  (DeVries and Taylor, 2017) draw = philox(seed, QE_STREAM_CUTOUT, index): 128 in a square of side
 * attrs.cutout around row qe_below(word 0, H), column qe_below(word 1, W) of what was cropped; side / 2 of its rows and
 *         columns lie before these, and it may reach over the border. */
void qe_ref_augmented(const qe_call *call, int64_t n, uint8_t *work, uint8_t *pixels) {
  const qe_desc *from = desc_of(call, 0);
  const qe_attrs *attrs = &call->attrs;
  const uint32_t *counter = call->operand[2].data;
  uint64_t seed = (uint64_t)counter[1] << 32 | counter[0];
  uint64_t index = ((uint64_t)counter[3] << 32 | counter[2]) + (uint64_t)n;
  int64_t height = from->dim[QE_H], width = from->dim[QE_W], channels = from->dim[QE_C],
          each = height * width * channels;
  memcpy(work, (const uint8_t *)call->operand[0].data + s32_of(call, 1)[n] * each, (size_t)each);
  if (attrs->jitter[0] || attrs->jitter[1] || attrs->jitter[2])
    jitter(call, qe_philox_draw(seed, QE_STREAM_COLOUR, index), work, height * width, channels);
  qe_philox crop = qe_philox_draw(seed, QE_STREAM_AUGMENT, index), hole = qe_philox_draw(seed, QE_STREAM_CUTOUT, index);
  int64_t top = (int64_t)qe_below(crop.word[0], 2 * (uint32_t)attrs->pad + 1) - attrs->pad;
  int64_t left = (int64_t)qe_below(crop.word[1], 2 * (uint32_t)attrs->pad + 1) - attrs->pad;
  int64_t hole_top = (int64_t)qe_below(hole.word[0], (uint32_t)height) - attrs->cutout / 2;
  int64_t hole_left = (int64_t)qe_below(hole.word[1], (uint32_t)width) - attrs->cutout / 2;
  bool flip = attrs->flip && (crop.word[2] & 1);
  for (int64_t r = 0; r < height; r++)
    for (int64_t c = 0; c < width; c++) {
      int64_t h = top + r, w = left + (flip ? width - 1 - c : c);
      bool cut = inside(r - hole_top, attrs->cutout) && inside(c - hole_left, attrs->cutout);
      bool seen = !cut && inside(h, height) && inside(w, width);
      for (int64_t ch = 0; ch < channels; ch++) *pixels++ = seen ? work[(h * width + w) * channels + ch] : MIDDLE;
    }
}

/* x[n] = the augmented image index[n], as above. */
qe_status qe_ref_int_augment(const qe_call *call) {
  const qe_desc *to = desc_of(call, 3);
  int64_t each = qe_count(to) / to->dim[QE_N];
  QE_TRY(qe_call_check_values(call));
  uint8_t *work = qe_alloc((size_t)each);
  if (!work) return QE_NO_MEMORY;
  for (int64_t n = 0; n < to->dim[QE_N]; n++)
    qe_ref_augmented(call, n, work, (uint8_t *)call->operand[3].data + n * each);
  qe_free(work);
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
