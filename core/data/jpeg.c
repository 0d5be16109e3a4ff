/* JPEG by libjpeg-turbo's libjpeg interface, which can decode a part of an image. */
#include "core/base/alloc.h"
#include "core/data/image_parts.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h> /* wants stdio.h */

#include <jerror.h>

/* A byte holds at least a bit and a half for 256 pixels (two for each 8x8 block, colours at half the resolution);
 * progressive files come lower, with one bit a block. */
enum { PIXELS_A_BYTE = 512, MAX_SCANS = 500, MARGIN = 8, TAIL = 4096 };

struct qe_jpeg {
  struct jpeg_decompress_struct info;
  struct jpeg_error_mgr error;
  struct jpeg_progress_mgr progress;
  jmp_buf escape;
  bool truncated;
  char why[JMSG_LENGTH_MAX];
};

static void on_error(j_common_ptr info) {
  qe_jpeg *jpeg = info->client_data;
  info->err->format_message(info, jpeg->why);
  longjmp(jpeg->escape, 1);
}

/* Bytes between segments are passed over by every reader; all other warnings mean that pixels are missing. */
static void on_message(j_common_ptr info, int level) {
  qe_jpeg *jpeg = info->client_data;
  if (level >= 0 || info->err->msg_code == JWRN_EXTRANEOUS_DATA) return;
  jpeg->truncated = info->err->msg_code == JWRN_JPEG_EOF;
  on_error(info);
}

/* A small file may hold endless scans of a large image. */
static void on_progress(j_common_ptr info) {
  qe_jpeg *jpeg = info->client_data;
  if (jpeg->info.input_scan_number <= MAX_SCANS) return;
  snprintf(jpeg->why, sizeof jpeg->why, "more than %d scans", MAX_SCANS);
  longjmp(jpeg->escape, 1);
}

void qe_jpeg_free(qe_jpeg *jpeg) {
  if (!jpeg) return;
  jpeg_destroy_decompress(&jpeg->info);
  qe_free(jpeg);
}

static qe_status make_jpeg(qe_decoder *decoder) {
  qe_jpeg *jpeg = QE_NEW(qe_jpeg);
  if (!jpeg) return QE_NO_MEMORY;
  jpeg->info.err = jpeg_std_error(&jpeg->error);
  jpeg->error.error_exit = on_error;
  jpeg->error.emit_message = on_message;
  jpeg->info.client_data = jpeg;
  if (setjmp(jpeg->escape)) {
    qe_status failed = qe_fail(QE_NO_MEMORY, "libjpeg cannot be set up: %s", jpeg->why);
    qe_jpeg_free(jpeg);
    return failed;
  }
  jpeg_create_decompress(&jpeg->info);
  jpeg->progress.progress_monitor = on_progress;
  jpeg->info.progress = &jpeg->progress;
  decoder->jpeg = jpeg;
  return QE_OK;
}

/* ---- what may jump out ---- */

/* All that a function of libjpeg's needs; `region` and `picture` for decoding. */
typedef struct call {
  qe_decoder *decoder;
  const uint8_t *bytes;
  size_t count;
  const char *name;
  int reduce;
  const qe_region *region;
  qe_image_info *size;
  qe_picture *picture;
} call;

static qe_status read_header(const call *c) {
  struct jpeg_decompress_struct *info = &c->decoder->jpeg->info;
  jpeg_mem_src(info, c->bytes, c->count);
  jpeg_read_header(info, TRUE);
  return qe_image_check_size(c->name, c->count, info->image_width, info->image_height, PIXELS_A_BYTE);
}

static qe_status read_size(const call *c) {
  struct jpeg_decompress_struct *info = &c->decoder->jpeg->info;
  QE_TRY(read_header(c));
  *c->size = (qe_image_info){(int)info->image_width, (int)info->image_height, true};
  return QE_OK;
}

/* Columns: those asked for and some more, since colours at the edge of a part are interpolated otherwise. */
static void choose_columns(struct jpeg_decompress_struct *info, const qe_region *region, qe_picture *picture) {
  int width = (int)info->output_width, first = region->x - MARGIN, last = region->x + region->width + MARGIN;
  if (first < 0) first = 0;
  if (last > width) last = width;
  if (first == 0 && last == width) return;
  JDIMENSION offset = (JDIMENSION)first, columns = (JDIMENSION)(last - first);
  jpeg_crop_scanline(info, &offset, &columns);
  picture->x = (int)offset;
}

/* Ink [4] to RGB [3], in place. Adobe's programs store 255 for none. */
static void ink_to_rgb(uint8_t *pixels, size_t count, bool inverted) {
  for (size_t i = 0; i < count; i++) {
    uint8_t flip = inverted ? 0 : 255, from[4];
    for (int c = 0; c < 4; c++) from[c] = pixels[4 * i + c] ^ flip;
    for (int c = 0; c < 3; c++) pixels[3 * i + c] = (uint8_t)((from[c] * from[3] + 127) / 255);
  }
}

/* The file's last bytes hold the end of an image. */
static bool has_end(const uint8_t *bytes, size_t count) {
  for (size_t back = 2; back <= count && back <= TAIL; back++)
    if (bytes[count - back] == 0xff && bytes[count - back + 1] == JPEG_EOI) return true;
  return false;
}

static qe_status read_rows(const call *c, const qe_region *region, bool ink) {
  qe_decoder *decoder = c->decoder;
  struct jpeg_decompress_struct *info = &decoder->jpeg->info;
  size_t stride = info->output_width * (size_t)info->output_components;
  QE_TRY(qe_image_make_room(decoder, (size_t)region->height * stride));
  int first = region->y < MARGIN ? 0 : region->y - MARGIN;
  if (first > 0) jpeg_skip_scanlines(info, (JDIMENSION)first);
  for (int y = first; y < region->y + region->height; y++) {
    JSAMPROW row = decoder->pixels + (y < region->y ? 0 : (size_t)(y - region->y) * stride);
    jpeg_read_scanlines(info, &row, 1);
  }
  if (!has_end(c->bytes, c->count)) { /* damage further down shall show */
    if (info->output_scanline < info->output_height)
      jpeg_skip_scanlines(info, info->output_height - info->output_scanline);
    jpeg_finish_decompress(info);
  }
  if (ink) ink_to_rgb(decoder->pixels, (size_t)region->height * info->output_width, info->saw_Adobe_marker);
  c->picture->pixels = decoder->pixels;
  c->picture->y = region->y;
  c->picture->width = (int)info->output_width;
  c->picture->height = region->height;
  c->picture->stride = info->output_width * (size_t)3;
  return QE_OK;
}

static qe_status read_image(const call *c) {
  struct jpeg_decompress_struct *info = &c->decoder->jpeg->info;
  QE_TRY(read_header(c));
  bool ink = info->jpeg_color_space == JCS_CMYK || info->jpeg_color_space == JCS_YCCK;
  info->out_color_space = ink ? JCS_CMYK : JCS_RGB;
  info->scale_num = 1;
  info->scale_denom = (unsigned)c->reduce;
  info->do_block_smoothing = FALSE; /* guesses what a progressive file lacks, and for a part other than for the whole */
  jpeg_start_decompress(info);
  qe_region all = {0, 0, (int)info->output_width, (int)info->output_height};
  const qe_region *region = c->region ? c->region : &all;
  if (region->width < 1 || region->height < 1 || region->x < 0 || region->y < 0 ||
      region->x + region->width > all.width || region->y + region->height > all.height)
    return qe_fail(QE_SHAPE, "%s: a part asked for lies outside the image", c->name);
  *c->picture = (qe_picture){0};
  choose_columns(info, region, c->picture);
  return read_rows(c, region, ink);
}

/* ---- what does not ---- */

static qe_status catch_failure(const call *c, qe_status (*run)(const call *c)) {
  qe_jpeg *jpeg = c->decoder->jpeg;
  if (setjmp(jpeg->escape) == 0) return run(c);
  if (jpeg->truncated)
    return qe_fail(QE_FORMAT, "%s: cut short: the JPEG goes on past its end at offset %zu: " QE_IMAGE_CURE, c->name,
                   c->count);
  return qe_fail(QE_FORMAT, "%s: a damaged JPEG, before offset %zu of %zu: %s: " QE_IMAGE_CURE, c->name,
                 c->count - jpeg->info.src->bytes_in_buffer, c->count, jpeg->why);
}

/* libjpeg starts anew each time: it keeps tables, and a file that lacks some would be decoded with another file's. */
static qe_status run_call(const call *c, qe_status (*run)(const call *c)) {
  QE_TRY(make_jpeg(c->decoder));
  qe_status status = catch_failure(c, run);
  qe_jpeg_free(c->decoder->jpeg);
  c->decoder->jpeg = NULL;
  return status;
}

qe_status qe_jpeg_size(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name, qe_image_info *info) {
  const call c = {.decoder = decoder, .bytes = bytes, .count = count, .name = name, .size = info};
  return run_call(&c, read_size);
}

qe_status qe_jpeg_decode(qe_decoder *decoder, const uint8_t *bytes, size_t count, const char *name, int reduce,
                         const qe_region *region, qe_picture *picture) {
  const call c = {.decoder = decoder,
                  .bytes = bytes,
                  .count = count,
                  .name = name,
                  .reduce = reduce,
                  .region = region,
                  .picture = picture};
  return run_call(&c, read_image);
}
