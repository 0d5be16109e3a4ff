/* Pictures inside a page: PNG as data URIs. */
#ifndef QE_PAGE_PICTURE_H
#define QE_PAGE_PICTURE_H

#include "core/page/page.h"

/* New memory (qe_free) with u8 pixels [height, width, channels], 1 (grey) or 3 (RGB) of them, as a PNG file. */
QE_CHECKED qe_status qe_png_of(const uint8_t *pixels, int height, int width, int channels, uint8_t **png,
                               size_t *bytes);
/* The same as a data URI, for an attribute. */
void qe_page_png(qe_page *page, const uint8_t *pixels, int height, int width, int channels);

/* An <img> of u8 pixels [height, width, channels], 1 (grey) or 3 (RGB) of them; `alt` is its text for who cannot see
 * it. Sides above `most` pixels are made smaller by whole factors, each pixel the mean of those it stands for. */
void qe_page_picture(qe_page *page, const uint8_t *pixels, int height, int width, int channels, int most,
                     const char *alt);

#endif
