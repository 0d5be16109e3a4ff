/* Augmentation of u8 images; a row is an image of the batch. Compiled once an instruction set. */
#include "backends/cpu/kernels_isa.h"
#include "core/base/rng.h"

enum { MIDDLE = 128 }; /* the code 0 of the network's input */

typedef struct image_shape {
  int64_t height, width, channels;
} image_shape;

/* A rectangle of the result: rows top...bottom-1, columns left...right-1. */
typedef struct image_part {
  int64_t top, left, bottom, right;
} image_part;

/* ---- colour jitter ---- */

CPU_INLINE uint8_t scaled(int32_t centre, int32_t value, int32_t factor) {
  int32_t moved = (centre * 256 + factor * (value - centre) + 128) >> 8;
  return (uint8_t)(moved < 0 ? 0 : moved > 255 ? 255 : moved);
}

CPU_INLINE int32_t luma(int32_t red, int32_t green, int32_t blue) {
  return (77 * red + 150 * green + 29 * blue + 128) >> 8;
}

/* Of the pixel whose values are looked up in `table`. */
CPU_INLINE int32_t grey_of(const uint8_t *pixel, const uint8_t *table, int64_t channels) {
  int64_t sum = channels / 2;
  if (channels == 3) return luma(table[pixel[0]], table[pixel[1]], table[pixel[2]]);
  for (int64_t c = 0; c < channels; c++) sum += table[pixel[c]];
  return (int32_t)(sum / channels);
}

/* Brightness and contrast map values to values, whatever the place: a table; saturation needs the pixel. */
static void jitter(const qe_attrs *attrs, qe_philox draw, const uint8_t *from, image_shape shape, image_part part,
                   uint8_t *x) {
  uint8_t table[256];
  int32_t factor[QE_JITTERS];
  int64_t pixels = shape.height * shape.width, channels = shape.channels, sum = pixels / 2;
  for (int k = 0; k < QE_JITTERS; k++)
    factor[k] = 256 - attrs->jitter[k] + (int32_t)qe_below(draw.word[k], 2 * (uint32_t)attrs->jitter[k] + 1);
  for (int32_t v = 0; v < 256; v++) table[v] = scaled(0, v, factor[QE_JITTER_BRIGHTNESS]);
  if (attrs->jitter[QE_JITTER_CONTRAST])
    for (int64_t i = 0; i < pixels; i++) sum += grey_of(from + i * channels, table, channels);
  for (int32_t v = 0; v < 256; v++) table[v] = scaled((int32_t)(sum / pixels), table[v], factor[QE_JITTER_CONTRAST]);
  for (int64_t r = part.top; r < part.bottom; r++)
    for (int64_t i = part.left; i < part.right; i++) {
      uint8_t *pixel = x + (r * shape.width + i) * channels;
      int32_t grey = grey_of(pixel, table, channels);
      for (int64_t c = 0; c < channels; c++) pixel[c] = scaled(grey, table[pixel[c]], factor[QE_JITTER_SATURATION]);
    }
}

/* ---- crop and cutout ---- */

/* Rows and columns of the result from (top, left) on, as many as `height` and `width`, that lie inside it. */
CPU_INLINE image_part inside_part(image_shape shape, int64_t top, int64_t left, int64_t height, int64_t width) {
  image_part part = {top > 0 ? top : 0, left > 0 ? left : 0, smaller(top + height, shape.height),
                     smaller(left + width, shape.width)};
  return part;
}

/* The crop from (top, left) on, mirrored or not; returns which part of the result shows the image. */
static image_part crop(const uint8_t *from, image_shape shape, int64_t top, int64_t left, bool flip, uint8_t *x) {
  int64_t channels = shape.channels, line = shape.width * channels;
  image_part part = inside_part(shape, -top, flip ? left : -left, shape.height, shape.width);
  memset(x, MIDDLE, (size_t)(shape.height * line));
  for (int64_t r = part.top; r < part.bottom && part.right > part.left; r++) {
    const uint8_t *source = from + (top + r) * line;
    uint8_t *target = x + r * line;
    if (!flip)
      memcpy(target + part.left * channels, source + (left + part.left) * channels,
             (size_t)((part.right - part.left) * channels));
    for (int64_t c = part.left; flip && c < part.right; c++)
      for (int64_t k = 0; k < channels; k++)
        target[c * channels + k] = source[(left + shape.width - 1 - c) * channels + k];
  }
  return part;
}

static void cut(const qe_attrs *attrs, qe_philox draw, image_shape shape, uint8_t *x) {
  image_part part = inside_part(shape, (int64_t)qe_below(draw.word[0], (uint32_t)shape.height) - attrs->cutout / 2,
                                (int64_t)qe_below(draw.word[1], (uint32_t)shape.width) - attrs->cutout / 2,
                                attrs->cutout, attrs->cutout);
  for (int64_t r = part.top; r < part.bottom && part.right > part.left; r++)
    memset(x + (r * shape.width + part.left) * shape.channels, MIDDLE,
           (size_t)((part.right - part.left) * shape.channels));
}

void CPU_NAME(augmented)(const qe_call *call, int64_t n, uint8_t *x) {
  const qe_attrs *attrs = &call->attrs;
  const uint32_t *counter = call->operand[2].data;
  const int32_t *index = call->operand[1].data, *dim = call->operand[3].desc.dim;
  image_shape shape = {dim[QE_H], dim[QE_W], dim[QE_C]};
  const uint8_t *from =
      (const uint8_t *)call->operand[0].data + index[n] * (shape.height * shape.width * shape.channels);
  uint64_t seed = (uint64_t)counter[1] << 32 | counter[0];
  uint64_t place = ((uint64_t)counter[3] << 32 | counter[2]) + (uint64_t)n;
  uint32_t places = 2 * (uint32_t)attrs->pad + 1;
  qe_philox draw = qe_philox_draw(seed, QE_STREAM_AUGMENT, place);
  image_part part = crop(from, shape, (int64_t)qe_below(draw.word[0], places) - attrs->pad,
                         (int64_t)qe_below(draw.word[1], places) - attrs->pad, attrs->flip && (draw.word[2] & 1), x);
  if (attrs->jitter[0] || attrs->jitter[1] || attrs->jitter[2])
    jitter(attrs, qe_philox_draw(seed, QE_STREAM_COLOUR, place), from, shape, part, x);
  if (attrs->cutout) cut(attrs, qe_philox_draw(seed, QE_STREAM_CUTOUT, place), shape, x);
}

void CPU_NAME(int_augment_rows)(const qe_call *call, int64_t first, int64_t last) {
  int64_t each = qe_count(&call->operand[3].desc) / call->operand[3].desc.dim[QE_N];
  for (int64_t n = first; n < last; n++) CPU_NAME(augmented)(call, n, (uint8_t *)call->operand[3].data + n * each);
}

/* ---- mixing ---- */

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
