/* JPEG by libturbojpeg and PNG by libpng, from memory. */
#include "core/data/image.h"

#include "core/base/alloc.h"

#include <png.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <turbojpeg.h>

/* A byte of a JPEG holds at least a bit and a half for 256 pixels (two for each 8x8 block, colours at half the
 * resolution); progressive files come lower, with one bit a block. Deflate packs 1032 bytes of 8 pixels into one. */
enum { JPEG_PIXELS_A_BYTE = 512, PNG_PIXELS_A_BYTE = 8 * 1032, SPARE_PIXELS = 1 << 14 };
enum { MAX_PIXELS = 1 << 27, MAX_SIDE = 65535 };

#define CURE "replace it or remove it from the data set"

struct qe_decoder {
  tjhandle jpeg;
  uint8_t *pixels;
  size_t capacity;
};

qe_status qe_decoder_new(qe_decoder **out) {
  *out = QE_NEW(qe_decoder);
  if (!*out) return QE_NO_MEMORY;
  (*out)->jpeg = tjInitDecompress();
  if ((*out)->jpeg) return QE_OK;
  qe_decoder_free(*out);
  *out = NULL;
  return qe_fail(QE_NO_MEMORY, "libturbojpeg cannot be set up: %s", tjGetErrorStr2(NULL));
}

void qe_decoder_free(qe_decoder *decoder) {
  if (!decoder) return;
  if (decoder->jpeg) tjDestroy(decoder->jpeg);
  qe_free(decoder->pixels);
  qe_free(decoder);
}

static bool is_jpeg(const uint8_t *bytes, size_t count) {
  return count >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

static bool is_png(const uint8_t *bytes, size_t count) {
  return count >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
}

/* No memory for pixels that the bytes cannot hold. */
static qe_status check_size(const char *name, size_t count, int64_t width, int64_t height, int64_t a_byte) {
  int64_t pixels = width * height;
  if (width < 1 || height < 1)
    return qe_fail(QE_FORMAT, "%s: an image of %lldx%lld pixels: " CURE, name, (long long)width, (long long)height);
  if (pixels > MAX_PIXELS || width > MAX_SIDE || height > MAX_SIDE)
    return qe_fail(QE_FORMAT, "%s: %lldx%lld pixels; at most %d on a side and %d in all are read: make it smaller",
                   name, (long long)width, (long long)height, MAX_SIDE, MAX_PIXELS);
  if (pixels - SPARE_PIXELS > (int64_t)count * a_byte)
    return qe_fail(QE_FORMAT, "%s: its header says %lldx%lld pixels, more than %zu bytes can hold: " CURE, name,
                   (long long)width, (long long)height, count);
  return QE_OK;
}

static qe_status fail_foreign(const uint8_t *bytes, size_t count, const char *name) {
  if (count == 0) return qe_fail(QE_FORMAT, "%s: empty: " CURE, name);
  char start[3 * 8 + 1] = "";
  for (size_t i = 0; i < count && i < 8; i++) snprintf(start + 3 * i, 4, "%02x ", bytes[i]);
  return qe_fail(QE_FORMAT, "%s: neither JPEG nor PNG: begins with %sat offset 0; convert it, or " CURE, name, start);
}

static qe_status make_room(qe_decoder *decoder, size_t bytes) {
  bytes += 4; /* as qe_picture promises */
  if (bytes <= decoder->capacity) return QE_OK;
  qe_free(decoder->pixels);
  decoder->capacity = 0;
  decoder->pixels = qe_alloc(bytes);
  if (!decoder->pixels) return QE_NO_MEMORY;
  decoder->capacity = bytes;
  return QE_OK;
}

/* ---- JPEG ---- */

typedef struct jpeg_header {
  int width, height, sampling, space;
} jpeg_header;

static qe_status read_jpeg_header(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name,
                                  jpeg_header *header) {
  if (tjDecompressHeader3(decoder->jpeg, bytes, (unsigned long)count, &header->width, &header->height,
                          &header->sampling, &header->space) != 0)
    return qe_fail(QE_FORMAT, "%s: a JPEG that cannot be read within its %zu bytes: %s: " CURE, name, count,
                   tjGetErrorStr2(decoder->jpeg));
  return check_size(name, count, header->width, header->height, JPEG_PIXELS_A_BYTE);
}

/* The segments before the first scan contain Adobe's, whose CMYK is stored inverted. */
static bool has_adobe_segment(const uint8_t *bytes, size_t count) {
  for (size_t at = 2; at + 9 <= count && bytes[at] == 0xff;) {
    uint8_t marker = bytes[at + 1];
    if (marker == 0xda) return false;
    if (marker == 0xff) {
      at++;
      continue;
    }
    if (marker == 0xee && memcmp(bytes + at + 4, "Adobe", 5) == 0) return true;
    at += 2 + ((size_t)bytes[at + 2] << 8 | bytes[at + 3]);
  }
  return false;
}

/* Ink [4] to RGB [3], in place. */
static void cmyk_to_rgb(uint8_t *pixels, size_t count, bool inverted) {
  for (size_t i = 0; i < count; i++) {
    uint8_t flip = inverted ? 0 : 255, from[4];
    for (int c = 0; c < 4; c++) from[c] = pixels[4 * i + c] ^ flip;
    for (int c = 0; c < 3; c++) pixels[3 * i + c] = (uint8_t)((from[c] * from[3] + 127) / 255);
  }
}

/* Bytes between segments are passed over by every reader; other warnings mean that pixels are missing. */
static bool is_harmless(qe_decoder *decoder, const uint8_t *bytes, size_t count) {
  if (tjGetErrorCode(decoder->jpeg) != TJERR_WARNING) return false;
  if (!strstr(tjGetErrorStr2(decoder->jpeg), "extraneous bytes before marker")) return false;
  for (size_t back = 2; back <= count && back <= 4096; back++) /* only the first warning has a text: look for the end */
    if (bytes[count - back] == 0xff && bytes[count - back + 1] == 0xd9) return true;
  return false;
}

static qe_status decode_jpeg(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name, int reduce,
                             qe_picture *picture) {
  jpeg_header header;
  QE_TRY(read_jpeg_header(decoder, bytes, count, name, &header));
  bool ink = header.space == TJCS_CMYK || header.space == TJCS_YCCK;
  int width = (header.width + reduce - 1) / reduce, height = (header.height + reduce - 1) / reduce;
  QE_TRY(make_room(decoder, (size_t)width * (size_t)height * (ink ? 4 : 3)));
  int failed = tjDecompress2(decoder->jpeg, bytes, (unsigned long)count, decoder->pixels, width, 0, height,
                             ink ? TJPF_CMYK : TJPF_RGB, TJFLAG_LIMITSCANS);
  if (failed && !is_harmless(decoder, bytes, count)) {
    const char *why = tjGetErrorStr2(decoder->jpeg);
    if (strstr(why, "Premature end of JPEG"))
      return qe_fail(QE_FORMAT, "%s: cut short: the JPEG goes on past its end at offset %zu: " CURE, name, count);
    return qe_fail(QE_FORMAT, "%s: a damaged JPEG of %zu bytes: %s: " CURE, name, count, why);
  }
  if (ink) cmyk_to_rgb(decoder->pixels, (size_t)width * (size_t)height, has_adobe_segment(bytes, count));
  *picture = (qe_picture){decoder->pixels, width, height, (size_t)width * 3};
  return QE_OK;
}

/* ---- PNG ---- */

static qe_status begin_png(const uint8_t *bytes, size_t count, const char *name, png_image *image) {
  memset(image, 0, sizeof *image);
  image->version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_memory(image, bytes, count) == 0)
    return qe_fail(QE_FORMAT, "%s: a PNG that cannot be read within its %zu bytes: libpng says: %s: " CURE, name, count,
                   image->message);
  qe_status status = check_size(name, count, image->width, image->height, PNG_PIXELS_A_BYTE);
  if (status != QE_OK) png_image_free(image);
  return status;
}

static qe_status decode_png(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name,
                            qe_picture *picture) {
  png_image image;
  QE_TRY(begin_png(bytes, count, name, &image));
  size_t pixels = (size_t)image.width * image.height;
  bool alpha = (image.format & PNG_FORMAT_FLAG_ALPHA) != 0;
  qe_status status = make_room(decoder, pixels * (alpha ? 4 : 3));
  if (status != QE_OK) {
    png_image_free(&image);
    return status;
  }
  image.format = alpha ? PNG_FORMAT_RGBA : PNG_FORMAT_RGB;
  image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB; /* 16 bits are on the same scale as 8 */
  if (png_image_finish_read(&image, NULL, decoder->pixels, 0, NULL) == 0)
    return qe_fail(QE_FORMAT, "%s: a damaged or cut short PNG of %zu bytes: libpng says: %s: " CURE, name, count,
                   image.message);
  for (size_t i = 0; alpha && i < pixels; i++) memmove(decoder->pixels + 3 * i, decoder->pixels + 4 * i, 3);
  *picture = (qe_picture){decoder->pixels, (int)image.width, (int)image.height, (size_t)image.width * 3};
  return QE_OK;
}

/* ---- either ---- */

qe_status qe_image_size(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name, int *width,
                        int *height) {
  if (is_jpeg(bytes, count)) {
    jpeg_header header;
    QE_TRY(read_jpeg_header(decoder, bytes, count, name, &header));
    *width = header.width;
    *height = header.height;
    return QE_OK;
  }
  if (!is_png(bytes, count)) return fail_foreign(bytes, count, name);
  png_image image;
  QE_TRY(begin_png(bytes, count, name, &image));
  *width = (int)image.width;
  *height = (int)image.height;
  png_image_free(&image);
  return QE_OK;
}

qe_status qe_image_decode(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name, int reduce,
                          qe_picture *picture) {
  if (is_jpeg(bytes, count)) return decode_jpeg(decoder, bytes, count, name, reduce, picture);
  if (is_png(bytes, count)) return decode_png(decoder, bytes, count, name, picture);
  return fail_foreign(bytes, count, name);
}
