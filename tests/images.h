/* What the tests of readers of images share: a folder of their own, synthetic pictures, JPEGs, PNGs and tars of them.
 */
#ifndef QE_TESTS_IMAGES_H
#define QE_TESTS_IMAGES_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE before the first include: nftw"
#endif

#include "core/base/file.h"
#include "tests/fixture.h"

#include <archive.h>
#include <archive_entry.h>
#include <ftw.h>
#include <png.h>
#include <sys/stat.h>
#include <turbojpeg.h>

static char images_root[64]; /* a new folder for each test */

static inline int images_set_up(void **state) {
  (void)state;
  strcpy(images_root, "/tmp/qevo-test-images-XXXXXX");
  return mkdtemp(images_root) ? 0 : -1;
}

static inline int images_remove(const char *path, const struct stat *info, int kind, struct FTW *walk) {
  (void)info, (void)kind, (void)walk;
  return remove(path);
}

static inline int images_tear_down(void **state) {
  (void)state;
  qe_alloc_fail_nth(0);
  return nftw(images_root, images_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* A path below the test's folder, in one of eight buffers in turn. */
static inline const char *below(const char *path) {
  static char paths[8][256];
  static int turn;
  char *at = paths[turn++ % 8];
  snprintf(at, sizeof paths[0], "%s/%s", images_root, path);
  return at;
}

typedef struct encoded {
  uint8_t bytes[1 << 16];
  size_t count;
} encoded;

/* Pixels of picture `number`, [height, width, channels]: a colour of its own and slow waves. */
static inline void paint(int number, int width, int height, int channels, uint8_t *pixels) {
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++)
      for (int c = 0; c < channels; c++)
        pixels[(y * width + x) * channels + c] =
            (uint8_t)(60 + number * 23 % 120 + c * 20 + 20 * sin((x + number) / 6.0) + 20 * cos(y / 9.0));
}

/* As a JPEG; `format` and `sampling` as libturbojpeg has them. */
static inline void encode_jpeg_as(int number, int width, int height, int format, int sampling, encoded *e) {
  tjhandle jpeg = tjInitCompress();
  uint8_t *pixels = malloc((size_t)width * (size_t)height * 4);
  unsigned char *bytes = NULL;
  unsigned long count = 0;
  paint(number, width, height, tjPixelSize[format], pixels);
  if (tjCompress2(jpeg, pixels, width, 0, height, format, &bytes, &count, sampling, 95, 0) != 0)
    fail_msg("%s", tjGetErrorStr2(jpeg));
  assert_true(count <= sizeof e->bytes);
  memcpy(e->bytes, bytes, count);
  e->count = count;
  tjFree(bytes);
  tjDestroy(jpeg);
  free(pixels);
}

static inline void encode_jpeg(int number, int width, int height, encoded *e) {
  encode_jpeg_as(number, width, height, TJPF_RGB, TJSAMP_420, e);
}

/* `pixels` as a PNG of libpng's simplified `format`. */
static inline void encode_png_of(const void *pixels, int width, int height, uint32_t format, encoded *e) {
  png_image image = {.version = PNG_IMAGE_VERSION};
  image.width = (uint32_t)width;
  image.height = (uint32_t)height;
  image.format = format;
  png_alloc_size_t count = sizeof e->bytes;
  if (!png_image_write_to_memory(&image, e->bytes, &count, 0, pixels, 0, NULL)) fail_msg("%s", image.message);
  e->count = count;
}

static inline void encode_png(int number, int width, int height, encoded *e) {
  uint8_t *pixels = malloc((size_t)width * (size_t)height * 3);
  paint(number, width, height, 3, pixels);
  encode_png_of(pixels, width, height, PNG_FORMAT_RGB, e);
  free(pixels);
}

/* Write a file below the test's folder, with the folders that it needs. */
static inline void put(const char *path, const void *bytes, size_t count) {
  char *folder = qe_path_folder(below(path));
  OK(qe_make_folders(folder));
  qe_free(folder);
  FILE *file = fopen(below(path), "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, count, file), count);
  assert_int_equal(fclose(file), 0);
}

static inline void put_text(const char *path, const char *text) {
  put(path, text, strlen(text));
}

static inline void put_jpeg(const char *path, int number, int width, int height) {
  static encoded e;
  encode_jpeg(number, width, height, &e);
  put(path, e.bytes, e.count);
}

/* A folder train and a folder val with `classes` classes; images of several sizes, the last of a class a PNG. */
static inline void put_tree(const char *root, int classes, int train, int test) {
  static encoded e;
  for (int part = 0; part < 2; part++)
    for (int class = 0; class < classes; class ++)
      for (int i = 0; i < (part ? test : train); i++) {
        int number = (part * classes + class) * 100 + i, width = 24 + (number * 7) % 30,
            height = 20 + (number * 5) % 34;
        bool png = i == (part ? test : train) - 1;
        char path[128];
        snprintf(path, sizeof path, "%s/%s/class%d/%03d.%s", root, part ? "val" : "train", class, i,
                 png ? "png" : "jpg");
        if (png)
          encode_png(number, width, height, &e);
        else
          encode_jpeg(number, width, height, &e);
        put(path, e.bytes, e.count);
      }
}

/* ---- tars ---- */

typedef struct tar_file {
  struct archive *archive;
} tar_file;

static inline tar_file tar_open(const char *path, const char *filter) {
  tar_file tar = {archive_write_new()};
  char *folder = qe_path_folder(below(path));
  OK(qe_make_folders(folder));
  qe_free(folder);
  assert_int_equal(archive_write_set_format_pax_restricted(tar.archive), ARCHIVE_OK);
  if (filter) assert_int_equal(archive_write_add_filter_by_name(tar.archive, filter), ARCHIVE_OK);
  assert_int_equal(archive_write_open_filename(tar.archive, below(path)), ARCHIVE_OK);
  return tar;
}

static inline void tar_put(const tar_file *tar, const char *path, const void *bytes, size_t count) {
  struct archive_entry *entry = archive_entry_new();
  archive_entry_set_pathname(entry, path);
  archive_entry_set_size(entry, (la_int64_t)count);
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_entry_set_perm(entry, 0644);
  assert_int_equal(archive_write_header(tar->archive, entry), ARCHIVE_OK);
  assert_int_equal(archive_write_data(tar->archive, bytes, count), count);
  archive_entry_free(entry);
}

static inline void tar_put_jpeg(const tar_file *tar, const char *path, int number, int width, int height) {
  static encoded e;
  encode_jpeg(number, width, height, &e);
  tar_put(tar, path, e.bytes, e.count);
}

static inline void tar_put_text(const tar_file *tar, const char *path, const char *text) {
  tar_put(tar, path, text, strlen(text));
}

static inline void tar_close(const tar_file *tar) {
  assert_int_equal(archive_write_close(tar->archive), ARCHIVE_OK);
  archive_write_free(tar->archive);
}

#endif
