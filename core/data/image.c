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
  tjhandle jpeg; /* NULL: not needed yet, or given up after a failure */
  uint8_t *pixels;
  size_t capacity;
};

qe_status qe_decoder_new(qe_decoder **out) {
  *out = QE_NEW(qe_decoder);
  return *out ? QE_OK : QE_NO_MEMORY;
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

/* libturbojpeg's state after a failure can spoil the next image: it gets a new one. */
static void renew(qe_decoder *decoder) {
  if (decoder->jpeg) tjDestroy(decoder->jpeg);
  decoder->jpeg = NULL;
}

static qe_status read_jpeg_header(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name,
                                  jpeg_header *header) {
  *header = (jpeg_header){0};
  if (!decoder->jpeg) decoder->jpeg = tjInitDecompress();
  if (!decoder->jpeg) return qe_fail(QE_NO_MEMORY, "libturbojpeg cannot be set up: %s", tjGetErrorStr2(NULL));
  qe_status status = QE_OK;
  if (tjDecompressHeader3(decoder->jpeg, bytes, (unsigned long)count, &header->width, &header->height,
                          &header->sampling, &header->space) != 0)
    status = qe_fail(QE_FORMAT, "%s: a JPEG that cannot be read within its %zu bytes: %s: " CURE, name, count,
                     tjGetErrorStr2(decoder->jpeg));
  if (status == QE_OK) status = check_size(name, count, header->width, header->height, JPEG_PIXELS_A_BYTE);
  if (status != QE_OK) renew(decoder);
  return status;
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

static qe_status fail_jpeg(qe_decoder *decoder, size_t count, const char *name) {
  const char *why = tjGetErrorStr2(decoder->jpeg);
  qe_status status =
      strstr(why, "Premature end of JPEG")
          ? qe_fail(QE_FORMAT, "%s: cut short: the JPEG goes on past its end at offset %zu: " CURE, name, count)
          : qe_fail(QE_FORMAT, "%s: a damaged JPEG of %zu bytes: %s: " CURE, name, count, why);
  renew(decoder);
  return status;
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
  if (failed && !is_harmless(decoder, bytes, count)) return fail_jpeg(decoder, count, name);
  if (ink) cmyk_to_rgb(decoder->pixels, (size_t)width * (size_t)height, has_adobe_segment(bytes, count));
  *picture = (qe_picture){decoder->pixels, width, height, (size_t)width * 3};
  return QE_OK;
}

/* ---- PNG: not libpng's simplified interface, which gets interlaced images of 16 bits wrong (1.6.39) ---- */

typedef struct png_source {
  const uint8_t *bytes;
  size_t count, at;
  char why[128];
} png_source;

static void on_png_error(png_structp png, png_const_charp text) {
  png_source *source = png_get_error_ptr(png);
  snprintf(source->why, sizeof source->why, "%s", text);
  png_longjmp(png, 1);
}

static void on_png_warning(png_structp png, png_const_charp text) {
  (void)png, (void)text;
}

static void give_png_bytes(png_structp png, png_bytep target, size_t count) {
  png_source *source = png_get_io_ptr(png);
  if (source->count - source->at < count) png_error(png, "the file ends too early");
  memcpy(target, source->bytes + source->at, count);
  source->at += count;
}

/* To RGB of 8 bits. */
static int set_png_transforms(png_structp png) {
  png_set_expand(png); /* palettes, fewer than 8 bits */
  png_set_scale_16(png);
  png_set_gray_to_rgb(png);
  png_set_strip_alpha(png);
  return png_set_interlace_handling(png);
}

/* Errors of libpng jump out of here. `picture` NULL: only the size is wanted. */
static qe_status read_png(qe_decoder *decoder, png_structp png, png_infop info, const char *name, size_t count,
                          int *width, int *height, qe_picture *picture) {
  png_read_info(png, info);
  *width = (int)png_get_image_width(png, info);
  *height = (int)png_get_image_height(png, info);
  QE_TRY(check_size(name, count, *width, *height, PNG_PIXELS_A_BYTE));
  if (!picture) return QE_OK;
  int passes = set_png_transforms(png);
  png_read_update_info(png, info);
  size_t stride = (size_t)*width * 3;
  if (png_get_rowbytes(png, info) != stride) png_error(png, "pixels of an unknown form");
  QE_TRY(make_room(decoder, (size_t)*height * stride));
  for (int pass = 0; pass < passes; pass++)
    for (int y = 0; y < *height; y++) png_read_row(png, decoder->pixels + (size_t)y * stride, NULL);
  png_read_end(png, NULL);
  *picture = (qe_picture){decoder->pixels, *width, *height, stride};
  return QE_OK;
}

static qe_status catch_png(qe_decoder *decoder, png_structp png, png_infop info, const png_source *source,
                           const char *name, int *width, int *height, qe_picture *picture) {
  if (setjmp(png_jmpbuf(png)))
    return qe_fail(QE_FORMAT, "%s: a damaged or cut short PNG, at offset %zu of %zu: libpng says: %s: " CURE, name,
                   source->at, source->count, source->why);
  return read_png(decoder, png, info, name, source->count, width, height, picture);
}

static qe_status open_png(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name, int *width,
                          int *height, qe_picture *picture) {
  png_source source = {.bytes = bytes, .count = count};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, on_png_error, on_png_warning);
  png_infop info = png ? png_create_info_struct(png) : NULL;
  qe_status status = qe_fail(QE_NO_MEMORY, "%s: libpng has no memory", name);
  if (info) {
    png_set_read_fn(png, &source, give_png_bytes);
    png_set_user_limits(png, MAX_SIDE, MAX_SIDE);
    status = catch_png(decoder, png, info, &source, name, width, height, picture);
  }
  png_destroy_read_struct(&png, &info, NULL);
  return status;
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
  return open_png(decoder, bytes, count, name, width, height, NULL);
}

qe_status qe_image_decode(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name, int reduce,
                          qe_picture *picture) {
  if (is_jpeg(bytes, count)) return decode_jpeg(decoder, bytes, count, name, reduce, picture);
  int width, height;
  if (is_png(bytes, count)) return open_png(decoder, bytes, count, name, &width, &height, picture);
  return fail_foreign(bytes, count, name);
}
