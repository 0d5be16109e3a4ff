/* JPEG and PNG from memory to 8-bit RGB. */
#ifndef QE_DATA_IMAGE_H
#define QE_DATA_IMAGE_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_image_info {
  int width, height;
  bool reducible; /* can be decoded at a half, a quarter, an eighth of its size, which is faster */
} qe_image_info;

/* A rectangle of an image. */
typedef struct qe_region {
  int x, y, width, height;
} qe_region;

/* A part of an image: rows of RGB from the top, `stride` bytes apart, the first pixel that of (x, y). Four more bytes
 * behind the last pixel can be read. */
typedef struct qe_picture {
  const uint8_t *pixels;
  int x, y, width, height;
  size_t stride;
} qe_picture;

/* What decoding needs beside the image; for one thread. */
typedef struct qe_decoder qe_decoder;

QE_CHECKED qe_status qe_decoder_new(qe_decoder **decoder);
void qe_decoder_free(qe_decoder *decoder); /* NULL is fine */

/* Size of the image that the bytes are, from its header. QE_FORMAT when they are neither a JPEG nor a PNG, or more
 * pixels than so many bytes can hold; the message names `name` and, where there is one, the offset. */
QE_CHECKED qe_status qe_image_size(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name,
                                   qe_image_info *info);

/* Decode to RGB: grey values three times, CMYK as seen on paper, 16 bits rounded to 8, transparency dropped, EXIF's
 * rotation ignored. `reduce` is 1, or 2, 4 or 8 for an image that can be reduced: sizes are then divided by it, rounded
 * up. `region`: what is needed of the (reduced) image, or NULL for all of it; the picture holds at least that, the same
 * pixels as in the whole. It is the decoder's, up to the next call. QE_FORMAT when data are damaged or end too early;
 * damage below the region may stay unseen. */
QE_CHECKED qe_status qe_image_decode(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name,
                                     int reduce, const qe_region *region, qe_picture *picture);

#ifdef __cplusplus
}
#endif
#endif
