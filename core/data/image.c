/* JPEG and PNG, told apart by their first bytes, and what both have in common. */
#include "core/base/alloc.h"
#include "core/data/image_parts.h"

#include <stdio.h>
#include <string.h>

enum { SPARE_PIXELS = 1 << 14, MAX_PIXELS = 1 << 27 };

qe_status qe_decoder_new(qe_decoder **out) {
  *out = QE_NEW(qe_decoder);
  return *out ? QE_OK : QE_NO_MEMORY;
}

void qe_decoder_free(qe_decoder *decoder) {
  if (!decoder) return;
  qe_jpeg_free(decoder->jpeg);
  qe_free(decoder->pixels);
  qe_free(decoder);
}

qe_status qe_image_check_size(const char *name, size_t count, int64_t width, int64_t height, int64_t pixels_a_byte) {
  int64_t pixels = width * height;
  if (width < 1 || height < 1)
    return qe_fail(QE_FORMAT, "%s: an image of %lldx%lld pixels: " QE_IMAGE_CURE, name, (long long)width,
                   (long long)height);
  if (pixels > MAX_PIXELS || width > QE_MAX_IMAGE_SIDE || height > QE_MAX_IMAGE_SIDE)
    return qe_fail(QE_FORMAT, "%s: %lldx%lld pixels; at most %d on a side and %d in all are read: make it smaller",
                   name, (long long)width, (long long)height, QE_MAX_IMAGE_SIDE, MAX_PIXELS);
  if (pixels - SPARE_PIXELS > (int64_t)count * pixels_a_byte)
    return qe_fail(QE_FORMAT, "%s: its header says %lldx%lld pixels, more than %zu bytes can hold: " QE_IMAGE_CURE,
                   name, (long long)width, (long long)height, count);
  return QE_OK;
}

qe_status qe_image_make_room(qe_decoder *decoder, size_t bytes) {
  bytes += 4; /* as qe_picture promises */
  if (bytes <= decoder->capacity) return QE_OK;
  qe_free(decoder->pixels);
  decoder->capacity = 0;
  decoder->pixels = qe_alloc(bytes);
  if (!decoder->pixels) return QE_NO_MEMORY;
  decoder->capacity = bytes;
  return QE_OK;
}

static bool is_jpeg(const uint8_t *bytes, size_t count) {
  return count >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

static bool is_png(const uint8_t *bytes, size_t count) {
  return count >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
}

static qe_status fail_foreign(const uint8_t *bytes, size_t count, const char *name) {
  if (count == 0) return qe_fail(QE_FORMAT, "%s: empty: " QE_IMAGE_CURE, name);
  char start[3 * 8 + 1] = "";
  for (size_t i = 0; i < count && i < 8; i++) snprintf(start + 3 * i, 4, "%02x ", bytes[i]);
  return qe_fail(QE_FORMAT, "%s: neither JPEG nor PNG: begins with %sat offset 0; convert it, or " QE_IMAGE_CURE, name,
                 start);
}

qe_status qe_image_size(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name,
                        qe_image_info *info) {
  if (is_jpeg(bytes, count)) return qe_jpeg_size(decoder, bytes, count, name, info);
  if (is_png(bytes, count)) return qe_png_read(decoder, bytes, count, name, info, NULL);
  return fail_foreign(bytes, count, name);
}

qe_status qe_image_decode(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name, int reduce,
                          const qe_region *region, qe_picture *picture) {
  qe_image_info info;
  if (is_jpeg(bytes, count)) return qe_jpeg_decode(decoder, bytes, count, name, reduce, region, picture);
  if (is_png(bytes, count)) return qe_png_read(decoder, bytes, count, name, &info, picture);
  return fail_foreign(bytes, count, name);
}
