/* Random crop and flip of u8 images into the network's input; contracts in cpu_ref/augment.c and
 * cpu_ref/int_augment.c. */
#include "core/base/rng.h"
#include "kernels_cl/index.h"

/* A work-group does an image at a time; `of_code`: the value of a pixel less 128. */
#define AUGMENT(name, type, of_code)                                                                                   \
  KERNEL(name)(BUFFER(images), BUFFER(index), BUFFER(counter), BUFFER(x), BUFFER(fault), const qk_params_images p) {   \
    OPERAND(const uchar, images);                                                                                      \
    OPERAND(const int, index);                                                                                         \
    OPERAND(const uint, counter);                                                                                      \
    OPERAND(type, x);                                                                                                  \
    OPERAND(int, fault);                                                                                               \
    ulong seed = (ulong)counter[1] << 32 | counter[0], position = (ulong)counter[3] << 32 | counter[2];                \
    uint places = 2 * (uint)p.pad + 1;                                                                                 \
    for (uint n = group_id(0); n < (uint)p.count; n += group_count(0)) {                                               \
      int image = index[n], known = image >= 0 && image < p.images;                                                    \
      qe_philox draw = qe_philox_draw(seed, QE_STREAM_AUGMENT, position + n);                                          \
      int top = (int)qe_below(draw.word[0], places) - p.pad, left = (int)qe_below(draw.word[1], places) - p.pad;       \
      int flip = p.flip && (draw.word[2] & 1);                                                                         \
      GLOBAL const uchar *from = images + (ulong)(known ? image : 0) * (ulong)p.each;                                  \
      GLOBAL type *to = x + (ulong)n * (ulong)p.each;                                                                  \
      if (!known && local_id(0) == 0) qk_report(fault, p.op, (int)n, image);                                           \
      for (ulong i = local_id(0); i < (ulong)p.each; i += local_size(0)) {                                             \
        qk_place at = qk_place_of(i, p.height, p.width, p.channels);                                                   \
        int h = top + at.row, w = left + (flip ? p.width - 1 - at.column : at.column);                                 \
        int inside = known && h >= 0 && h < p.height && w >= 0 && w < p.width;                                         \
        ulong pixel = (ulong)h * (ulong)p.width + (ulong)w;                                                            \
        int code = inside ? (int)from[pixel * (ulong)p.channels + at.c] - 128 : 0;                                     \
        to[i] = of_code(code);                                                                                         \
      }                                                                                                                \
    }                                                                                                                  \
  }
#define TO_REAL(code) ((float)(code)*0.015625f)
#define TO_PIXEL(code) ((uchar)((code) + 128))
AUGMENT(qk_augment, float, TO_REAL)
AUGMENT(qk_int_augment, uchar, TO_PIXEL)

/* The value, or 0 and a report where it is not in 0...limit-1. */
DEVICE int mix_checked(GLOBAL int *fault, const qk_params_images p, uint n, int value, int limit) {
  int fits = value >= 0 && value < limit;
  if (!fits && local_id(0) == 0) qk_report(fault, p.op, (int)n, value);
  return fits ? value : 0;
}

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
      int first = mix_checked(fault, p, n, index[n], p.images), second = mix_checked(fault, p, n, other[n], p.images); \
      int w = mix_checked(fault, p, n, share[n], QK_SHARE_ALL + 1);                                                    \
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
