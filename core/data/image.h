/* JPEG and PNG from memory to 8-bit RGB. */
#ifndef QE_DATA_IMAGE_H
#define QE_DATA_IMAGE_H

#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of RGB from the top, `stride` bytes apart. Four more bytes behind the last pixel can be
 * read. */
typedef struct qe_picture {
  const uint8_t *pixels;
  int width, height;
  size_t stride;
} qe_picture;

/* What decoding needs beside the image; for one thread. */
typedef struct qe_decoder qe_decoder;

QE_CHECKED qe_status qe_decoder_new(qe_decoder **decoder);
void qe_decoder_free(qe_decoder *decoder); /* NULL is fine */

/* Size of the image that the bytes are, from its header. QE_FORMAT when they are neither a JPEG nor a PNG, or more
 * pixels than so many bytes can hold; the message names `name` and, where there is one, the offset. */
QE_CHECKED qe_status qe_image_size(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name,
                                   int *width, int *height);

/* Decode to RGB: grey values three times, CMYK as seen on paper, 16 bits rounded to 8, transparency dropped. `reduce`
 * is 1, 2, 4 or 8: a JPEG may be decoded at that fraction of its size, rounded up, which is faster; a PNG is decoded at
 * its own. The picture is the decoder's, up to the next call. QE_FORMAT when data are damaged or end too early. */
QE_CHECKED qe_status qe_image_decode(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name,
                                     int reduce, qe_picture *picture);

#ifdef __cplusplus
}
#endif
#endif
