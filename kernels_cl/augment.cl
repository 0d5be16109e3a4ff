/* Random crop and flip of u8 images into the network's input; contracts in cpu_ref/augment.c and
 * cpu_ref/int_augment.c. */
#include "core/base/rng.h"
#include "kernels_cl/index.h"

/* The value, or 0 and a report where it is not in 0...limit-1. */
DEVICE int augment_checked(GLOBAL int *fault, const qk_params_images p, uint n, int value, int limit) {
  int fits = value >= 0 && value < limit;
  if (!fits && local_id(0) == 0) qk_report(fault, p.op, (int)n, value);
  return fits ? value : 0;
}

/* An image of the batch: what was drawn for it. */
typedef struct augment_image {
  int top, left, flip, hole_top, hole_left;
  int factor[3], mean; /* colour jitter; the mean grey after brightness */
} augment_image;

/* ---- colour jitter ---- */

DEVICE int augment_scaled(int centre, int value, int factor) {
  int moved = (centre * 256 + factor * (value - centre) + 128) >> 8;
  return moved < 0 ? 0 : moved > 255 ? 255 : moved;
}

/* A value after brightness and, where `contrast`, contrast. */
DEVICE int augment_value(const augment_image *image, int value, int contrast) {
  int bright = augment_scaled(0, value, image->factor[0]);
  return contrast ? augment_scaled(image->mean, bright, image->factor[1]) : bright;
}

DEVICE int augment_grey(const augment_image *image, GLOBAL const uchar *pixel, int channels, int contrast) {
  if (channels == 3)
    return (77 * augment_value(image, pixel[0], contrast) + 150 * augment_value(image, pixel[1], contrast) +
            29 * augment_value(image, pixel[2], contrast) + 128) >>
           8;
  uint sum = (uint)channels / 2;
  for (int c = 0; c < channels; c++) sum += (uint)augment_value(image, pixel[c], contrast);
  return (int)(sum / (uint)channels);
}

/* Every work-item of the group must call it; `part` has QK_GROUP places. Fewer than 2^24 pixels of 8 bits fit the sum.
 */
DEVICE int augment_mean(const augment_image *image, GLOBAL const uchar *from, int pixels, int channels,
                        LOCAL uint *part) {
  uint lane = local_id(0), sum = 0;
  for (int i = (int)lane; i < pixels; i += (int)local_size(0))
    sum += (uint)augment_grey(image, from + (ulong)i * (ulong)channels, channels, 0);
  BARRIER();
  part[lane] = sum;
  BARRIER();
  for (uint active = local_size(0); active > 1;) {
    uint rest = (active + 1) / 2;
    if (lane + rest < active) part[lane] += part[lane + rest];
    active = rest;
    BARRIER();
  }
  return (int)((part[0] + (uint)pixels / 2) / (uint)pixels);
}

/* ---- crop, flip, cutout ---- */

/* Fills in `image`: Oclgrind knows no functions that return structures of this size. */
DEVICE void augment_draw(augment_image *image, const qk_params_images p, ulong seed, ulong index) {
  uint places = 2 * (uint)p.pad + 1;
  qe_philox draw = qe_philox_draw(seed, QE_STREAM_AUGMENT, index);
  image->top = (int)qe_below(draw.word[0], places) - p.pad;
  image->left = (int)qe_below(draw.word[1], places) - p.pad;
  image->flip = p.flip && (draw.word[2] & 1);
  if (p.cutout) draw = qe_philox_draw(seed, QE_STREAM_CUTOUT, index);
  image->hole_top = (int)qe_below(draw.word[0], (uint)p.height) - p.cutout / 2;
  image->hole_left = (int)qe_below(draw.word[1], (uint)p.width) - p.cutout / 2;
  if (p.jittered) draw = qe_philox_draw(seed, QE_STREAM_COLOUR, index);
  for (int k = 0; k < 3; k++)
    image->factor[k] = 256 - p.jitter[k] + (int)qe_below(draw.word[k], 2 * (uint)p.jitter[k] + 1);
  image->mean = 0;
}

/* Value i of the result, less 128. */
DEVICE int augment_code(const augment_image *image, const qk_params_images p, GLOBAL const uchar *from, ulong i) {
  qk_place at = qk_place_of(i, p.height, p.width, p.channels);
  int down = at.row - image->hole_top, right = at.column - image->hole_left;
  int h = image->top + at.row, w = image->left + (image->flip ? p.width - 1 - at.column : at.column);
  if (h < 0 || h >= p.height || w < 0 || w >= p.width) return 0;
  if (down >= 0 && down < p.cutout && right >= 0 && right < p.cutout) return 0;
  GLOBAL const uchar *pixel = from + ((ulong)h * (ulong)p.width + (ulong)w) * (ulong)p.channels;
  if (!p.jittered) return (int)pixel[at.c] - 128;
  int grey = augment_grey(image, pixel, p.channels, 1);
  return augment_scaled(grey, augment_value(image, pixel[at.c], 1), image->factor[2]) - 128;
}

/* A work-group does an image at a time; `of_code`: the value of a pixel less 128. */
#define AUGMENT(name, type, of_code)                                                                                   \
  KERNEL(name)(BUFFER(images), BUFFER(index), BUFFER(counter), BUFFER(x), BUFFER(fault), const qk_params_images p) {   \
    LOCAL_ARRAY(uint, part, QK_GROUP);                                                                                 \
    OPERAND(const uchar, images);                                                                                      \
    OPERAND(const int, index);                                                                                         \
    OPERAND(const uint, counter);                                                                                      \
    OPERAND(type, x);                                                                                                  \
    OPERAND(int, fault);                                                                                               \
    ulong seed = (ulong)counter[1] << 32 | counter[0], position = (ulong)counter[3] << 32 | counter[2];                \
    for (uint n = group_id(0); n < (uint)p.count; n += group_count(0)) {                                               \
      int known = augment_checked(fault, p, n, index[n], p.images);                                                    \
      augment_image image;                                                                                             \
      augment_draw(&image, p, seed, position + n);                                                                     \
      GLOBAL const uchar *from = images + (ulong)known * (ulong)p.each;                                                \
      GLOBAL type *to = x + (ulong)n * (ulong)p.each;                                                                  \
      if (p.jitter[1]) image.mean = augment_mean(&image, from, p.height * p.width, p.channels, part);                  \
      for (ulong i = local_id(0); i < (ulong)p.each; i += local_size(0))                                               \
        to[i] = of_code(augment_code(&image, p, from, i));                                                             \
    }                                                                                                                  \
  }
#define TO_REAL(code) ((float)(code)*0.015625f)
#define TO_PIXEL(code) ((uchar)((code) + 128))

AUGMENT(qk_augment, float, TO_REAL)
AUGMENT(qk_int_augment, uchar, TO_PIXEL)

/* ---- mixing ---- */

/* As above; `of_sum`: the value of 256 times a mixed pixel. */
#define MIX(name, type, of_sum)                                                                                        \
  KERNEL(name)                                                                                                         \
  (BUFFER(images), BUFFER(index), BUFFER(other), BUFFER(share), BUFFER(x), BUFFER(fault), const qk_params_images p) {  \
    OPERAND(const uchar, images);                                                                                      \
    OPERAND(const int, index);                                                                                         \
    OPERAND(const int, other);                                                                                         \
    OPERAND(const int, share);                                                                                         \
    OPERAND(type, x);                                                                                                  \
    OPERAND(int, fault);                                                                                               \
    for (uint n = group_id(0); n < (uint)p.count; n += group_count(0)) {                                               \
      int first = augment_checked(fault, p, n, index[n], p.images),                                                    \
          second = augment_checked(fault, p, n, other[n], p.images);                                                   \
      int w = augment_checked(fault, p, n, share[n], QK_SHARE_ALL + 1);                                                \
      GLOBAL const uchar *a = images + (ulong)first * (ulong)p.each, *b = images + (ulong)second * (ulong)p.each;      \
      GLOBAL type *to = x + (ulong)n * (ulong)p.each;                                                                  \
      for (ulong i = local_id(0); i < (ulong)p.each; i += local_size(0))                                               \
        to[i] = of_sum(w * (int)a[i] + (QK_SHARE_ALL - w) * (int)b[i]);                                                \
    }                                                                                                                  \
  }
#define MIX_REAL(sum) ((float)((sum)-128 * QK_SHARE_ALL) * 0.00006103515625f)
#define MIX_PIXEL(sum) ((uchar)(((sum) + 128) >> 8))
MIX(qk_mix, float, MIX_REAL)
MIX(qk_int_mix, uchar, MIX_PIXEL)
