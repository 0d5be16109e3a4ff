/* What the files of image decoding share; nobody else includes this. */
#ifndef QE_DATA_IMAGE_PARTS_H
#define QE_DATA_IMAGE_PARTS_H

#include "core/data/image.h"

typedef struct qe_jpeg qe_jpeg;

struct qe_decoder {
  qe_jpeg *jpeg; /* libjpeg's state during a call, else NULL */
  uint8_t *pixels;
  size_t capacity;
};

enum { QE_MAX_IMAGE_SIDE = 65535 }; /* pixels */
#define QE_IMAGE_CURE "replace it or remove it from the data set"

/* Pixels that so many bytes can hold at most and still be a sound file: no memory for more. */
QE_CHECKED qe_status qe_image_check_size(const char *name, size_t count, int64_t width, int64_t height,
                                         int64_t pixels_a_byte);
/* Room for pixels, and the bytes behind them that qe_picture promises. */
QE_CHECKED qe_status qe_image_make_room(qe_decoder *decoder, size_t bytes);

QE_CHECKED qe_status qe_jpeg_size(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name,
                                  qe_image_info *info);
QE_CHECKED qe_status qe_jpeg_decode(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name,
                                    int reduce, const qe_region *region, qe_picture *picture);
void qe_jpeg_free(qe_jpeg *jpeg); /* NULL is fine */

/* `picture` NULL: only the size. */
QE_CHECKED qe_status qe_png_read(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name,
                                 qe_image_info *info, qe_picture *picture);

#endif
