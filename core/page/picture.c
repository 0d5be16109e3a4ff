/* Pictures inside a page: PNG by libpng, base64. */
#include "core/page/picture.h"

#include "core/base/alloc.h"

#include <png.h>
#include <string.h>

static void add_base64(qe_page *page, const uint8_t *data, size_t bytes) {
  static const char letter[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < bytes; i += 3) {
    size_t left = bytes - i;
    uint32_t word =
        (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) | (left > 2 ? data[i + 2] : 0);
    qe_page_add(page, "%c%c%c%c", letter[word >> 18], letter[word >> 12 & 63], left > 1 ? letter[word >> 6 & 63] : '=',
                left > 2 ? letter[word & 63] : '=');
  }
}

/* Means over squares of `factor` pixels. */
static void shrink(const uint8_t *pixels, int width, int channels, int factor, int rows, int columns, uint8_t *small) {
  for (int y = 0; y < rows; y++)
    for (int x = 0; x < columns; x++)
      for (int c = 0; c < channels; c++) {
        int64_t sum = 0;
        for (int i = 0; i < factor; i++)
          for (int k = 0; k < factor; k++)
            sum += pixels[((int64_t)(y * factor + i) * width + x * factor + k) * channels + c];
        small[((int64_t)y * columns + x) * channels + c] = (uint8_t)(sum / ((int64_t)factor * factor));
      }
}

qe_status qe_png_of(const uint8_t *pixels, int height, int width, int channels, uint8_t **png, size_t *length) {
  png_image image;
  memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  image.width = (png_uint_32)width;
  image.height = (png_uint_32)height;
  image.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(image);
  uint8_t *made = qe_alloc(bytes);
  if (!made) return QE_NO_MEMORY;
  int good = png_image_write_to_memory(&image, made, &bytes, 0, pixels, 0, NULL);
  if (good) {
    *png = made;
    *length = bytes;
    return QE_OK;
  }
  qe_free(made);
  return qe_fail(QE_IO, "a picture for a page: libpng says: %s", image.message);
}

void qe_page_png(qe_page *page, const uint8_t *pixels, int height, int width, int channels) {
  uint8_t *png = NULL;
  size_t bytes = 0;
  if (page->status != QE_OK) return;
  page->status = qe_png_of(pixels, height, width, channels, &png, &bytes);
  if (page->status != QE_OK) return;
  qe_page_add(page, "data:image/png;base64,");
  add_base64(page, png, bytes);
  qe_free(png);
}

void qe_page_picture(qe_page *page, const uint8_t *pixels, int height, int width, int channels, int most,
                     const char *alt) {
  if (page->status != QE_OK || height < 1 || width < 1 || most < 1 || (channels != 1 && channels != 3)) return;
  int longest = height > width ? height : width, factor = (longest + most - 1) / most;
  factor = height < factor ? height : width < factor ? width : factor;
  int rows = height / factor, columns = width / factor;
  uint8_t *small = qe_alloc((size_t)rows * (size_t)columns * (size_t)channels);
  if (small) {
    shrink(pixels, width, channels, factor, rows, columns, small);
    qe_page_add(page, "<img loading=\"lazy\" width=\"%d\" height=\"%d\" alt=\"", columns, rows);
    qe_page_text(page, alt);
    qe_page_add(page, "\" src=\"");
    qe_page_png(page, small, rows, columns, channels);
    qe_page_add(page, "\">");
  } else {
    page->status = QE_NO_MEMORY;
  }
  qe_free(small);
}
