/* Synthetic photographs for the bench `data`: smooth areas, edges and noise, 500x375 JPEGs of about 100 kB, as in
 * ImageNet. */
#define _GNU_SOURCE /* nftw */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/rng.h"
#include "tools/bench_data.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>
#include <unistd.h>

enum { WIDTH = 500, HEIGHT = 375, TRAIN = 96, TEST = 4, CLASSES = 4, QUALITY = 95, SEED = 7 };

static uint8_t to_byte(double value) {
  return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* Waves of several lengths, a few discs with sharp edges, and noise. */
static void paint(uint64_t number, uint8_t *pixels) {
  qe_philox form = qe_philox_draw(SEED, QE_STREAM_TEST, number << 32);
  double turn = form.word[0] * (6.28 / 4294967296.0), wave = 20 + (double)(form.word[1] % 60);
  for (int y = 0; y < HEIGHT; y++)
    for (int x = 0; x < WIDTH; x++) {
      uint64_t at = (uint64_t)y * WIDTH + (uint64_t)x;
      qe_philox noise = qe_philox_draw(SEED, QE_STREAM_TEST, number << 32 | (at + 1));
      double base = 128 + 60 * sin((x * cos(turn) + y * sin(turn)) / wave) + 25 * sin(x / 7.0 + y / 11.0);
      int dx = x - (int)(form.word[2] % WIDTH), dy = y - (int)(form.word[3] % HEIGHT);
      bool disc = dx * dx + dy * dy < 80 * 80;
      for (int c = 0; c < 3; c++) {
        double grain = (double)(noise.word[c] >> 27) - 16;
        pixels[3 * at + (uint64_t)c] = to_byte(base + grain + (disc ? 40.0 * (c - 1) : 12.0 * c));
      }
    }
}

static qe_status write_photo(tjhandle jpeg, const char *folder, uint64_t number, uint8_t *pixels) {
  unsigned char *bytes = NULL;
  unsigned long count = 0;
  paint(number, pixels);
  if (tjCompress2(jpeg, pixels, WIDTH, 0, HEIGHT, TJPF_RGB, &bytes, &count, TJSAMP_420, QUALITY, 0) != 0)
    return qe_fail(QE_DEVICE, "libturbojpeg cannot write a JPEG: %s", tjGetErrorStr2(jpeg));
  char *path = qe_format("%s/%llu.jpg", folder, (unsigned long long)number);
  qe_status status = path ? qe_file_write(path, bytes, count) : QE_NO_MEMORY;
  qe_free(path);
  tjFree(bytes);
  return status;
}

static qe_status write_photos(const char *root, tjhandle jpeg, uint8_t *pixels) {
  for (int i = 0; i < TRAIN + TEST; i++) {
    char *folder = qe_format("%s/%s/%d", root, i < TRAIN ? "train" : "val", i % CLASSES);
    qe_status status = folder ? qe_make_folders(folder) : QE_NO_MEMORY;
    if (status == QE_OK) status = write_photo(jpeg, folder, (uint64_t)i, pixels);
    qe_free(folder);
    QE_TRY(status);
  }
  return QE_OK;
}

qe_status qe_bench_photos_new(char **out) {
  const char *place = getenv("TMPDIR");
  char *path = qe_format("%s/qevo-bench-XXXXXX", place && *place ? place : "/tmp");
  if (!path) return QE_NO_MEMORY;
  if (!mkdtemp(path)) {
    qe_status failed = qe_fail(QE_IO, "%s: cannot make a folder: %s; set TMPDIR", path, strerror(errno));
    qe_free(path);
    return failed;
  }
  tjhandle jpeg = tjInitCompress();
  uint8_t *pixels = qe_alloc((size_t)WIDTH * HEIGHT * 3);
  qe_status status = jpeg && pixels ? write_photos(path, jpeg, pixels) : QE_NO_MEMORY;
  if (jpeg) tjDestroy(jpeg);
  qe_free(pixels);
  if (status == QE_OK)
    *out = path;
  else
    qe_bench_photos_free(path);
  return status;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk) {
  (void)info, (void)kind, (void)walk;
  return remove(path);
}

void qe_bench_photos_free(char *path) {
  if (path) nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
  qe_free(path);
}
