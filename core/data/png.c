/* PNG by libpng. Not by its simplified interface, which gets interlaced images of 16 bits wrong (1.6.39). */
#include "core/data/image_parts.h"

#include <png.h>
#include <stdio.h>
#include <string.h>

enum { PIXELS_A_BYTE = 8 * 1032 }; /* deflate packs 1032 bytes of 8 pixels into one */

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

/* What libpng's errors jump out of. `picture` NULL: only the size is wanted. */
static qe_status read_png(qe_decoder *decoder, png_structp png, png_infop info, const char *name, size_t count,
                          qe_image_info *size, qe_picture *picture) {
  png_read_info(png, info);
  *size = (qe_image_info){(int)png_get_image_width(png, info), (int)png_get_image_height(png, info), false};
  QE_TRY(qe_image_check_size(name, count, size->width, size->height, PIXELS_A_BYTE));
  if (!picture) return QE_OK;
  int passes = set_png_transforms(png);
  png_read_update_info(png, info);
  size_t stride = (size_t)size->width * 3;
  if (png_get_rowbytes(png, info) != stride) png_error(png, "pixels of an unknown form");
  QE_TRY(qe_image_make_room(decoder, (size_t)size->height * stride));
  for (int pass = 0; pass < passes; pass++)
    for (int y = 0; y < size->height; y++) png_read_row(png, decoder->pixels + (size_t)y * stride, NULL);
  png_read_end(png, NULL);
  *picture = (qe_picture){decoder->pixels, 0, 0, size->width, size->height, stride};
  return QE_OK;
}

static qe_status catch_png(qe_decoder *decoder, png_structp png, png_infop info, const png_source *source,
                           const char *name, qe_image_info *size, qe_picture *picture) {
  if (setjmp(png_jmpbuf(png)))
    return qe_fail(QE_FORMAT, "%s: a damaged or cut short PNG, at offset %zu of %zu: libpng says: %s: " QE_IMAGE_CURE,
                   name, source->at, source->count, source->why);
  return read_png(decoder, png, info, name, source->count, size, picture);
}

qe_status qe_png_read(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name, qe_image_info *size,
                      qe_picture *picture) {
  png_source source = {.bytes = bytes, .count = count};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, on_png_error, on_png_warning);
  png_infop info = png ? png_create_info_struct(png) : NULL;
  qe_status status = QE_NO_MEMORY;
  if (info) {
    png_set_read_fn(png, &source, give_png_bytes);
    png_set_user_limits(png, QE_MAX_IMAGE_SIDE, QE_MAX_IMAGE_SIDE);
    png_set_chunk_malloc_max(png, count);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1); /* all but pixels, palette, transparency */
    status = catch_png(decoder, png, info, &source, name, size, picture);
  } else {
    status = qe_fail(QE_NO_MEMORY, "%s: libpng has no memory", name);
  }
  png_destroy_read_struct(&png, &info, NULL);
  return status;
}
