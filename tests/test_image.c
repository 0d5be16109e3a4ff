/* Decoding of JPEG and PNG from memory, what it refuses, and the resampling and cropping that follow. */
#define _GNU_SOURCE /* nftw */
#include "core/data/crop.h"
#include "core/data/image.h"

#include "tests/images.h"

static qe_decoder *decoder;

static int open_decoder(void **state) {
  (void)state;
  return qe_decoder_new(&decoder) == QE_OK ? 0 : -1;
}

static int close_decoder(void **state) {
  (void)state;
  qe_decoder_free(decoder);
  return 0;
}

/* In memory of exactly their size, so that a sanitizer sees a read past the end. */
static qe_status decode(const uint8_t *bytes, size_t count, int reduce, qe_picture *picture) {
  uint8_t *exact = malloc(count ? count : 1);
  qe_image_info info;
  if (count) memcpy(exact, bytes, count);
  qe_status status = qe_image_size(decoder, exact, count, "some.jpg", &info);
  if (status == QE_OK && !info.reducible) reduce = 1;
  if (status == QE_OK) status = qe_image_decode(decoder, exact, count, "some.jpg", reduce, NULL, picture);
  if (status == QE_OK) {
    assert_int_equal(picture->width, (info.width + reduce - 1) / reduce);
    assert_int_equal(picture->height, (info.height + reduce - 1) / reduce);
  }
  free(exact);
  return status;
}

/* Mean and largest difference of the picture from what `paint` gave. */
static void check_pixels(const qe_picture *picture, int number, int channels, double mean, int most) {
  static uint8_t wanted[1 << 18];
  paint(number, picture->width, picture->height, channels, wanted);
  int64_t sum = 0;
  for (int y = 0; y < picture->height; y++)
    for (int x = 0; x < picture->width; x++)
      for (int c = 0; c < 3; c++) {
        int got = picture->pixels[(size_t)y * picture->stride + (size_t)x * 3 + (size_t)c];
        int want = wanted[(y * picture->width + x) * channels + (channels == 3 ? c : 0)];
        if (abs(got - want) > most) fail_msg("(%d, %d, %d) is %d, must be %d", x, y, c, got, want);
        sum += abs(got - want);
      }
  assert_true((double)sum <= mean * 3 * picture->width * picture->height);
}

/* ---- good images ---- */

static void test_jpeg(void **state) {
  (void)state;
  static encoded e;
  qe_picture picture;
  static const int samplings[] = {TJSAMP_444, TJSAMP_422, TJSAMP_420};
  for (size_t i = 0; i < 3; i++) {
    encode_jpeg_as(4, 61, 43, TJPF_RGB, samplings[i], &e);
    OK(decode(e.bytes, e.count, 1, &picture));
    assert_int_equal(picture.width, 61);
    assert_int_equal(picture.height, 43);
    check_pixels(&picture, 4, 3, 2, 12);
  }
  OK(decode(e.bytes, e.count, 4, &picture));
  assert_int_equal(picture.width, 16);
  assert_int_equal(picture.height, 11);
}

/* A part has the pixels that it has in the whole, in all forms of JPEG, at every reduction. */
static void test_parts(void **state) {
  (void)state;
  enum { W = 203, H = 171 };
  static const int samplings[] = {TJSAMP_444, TJSAMP_422, TJSAMP_420, TJSAMP_440, TJSAMP_411, TJSAMP_GRAY};
  static encoded e;
  static uint8_t whole[W * H * 3];
  draws from = {.seed = 9};
  for (int turn = 0; turn < 400; turn++) {
    int reduce = 1 << draw_range(&from, 0, 3), sampling = samplings[turn % 6];
    qe_picture picture;
    tjhandle jpeg = tjInitCompress();
    unsigned char *bytes = NULL;
    unsigned long count = 0;
    paint(turn, W, H, 3, whole);
    for (int i = 0; i < 2000; i++) whole[draw_range(&from, 0, W * H * 3 - 1)] = 255;
    int flags = turn % 12 < 6 ? 0 : TJFLAG_PROGRESSIVE;
    assert_int_equal(tjCompress2(jpeg, whole, W, 0, H, TJPF_RGB, &bytes, &count, sampling, 90, flags), 0);
    memcpy(e.bytes, bytes, count);
    e.count = count;
    tjFree(bytes);
    tjDestroy(jpeg);
    OK(decode(e.bytes, e.count, reduce, &picture));
    int width = picture.width, height = picture.height;
    memcpy(whole, picture.pixels, (size_t)width * (size_t)height * 3);
    qe_region region = {draw_range(&from, 0, width - 1), draw_range(&from, 0, height - 1), 0, 0};
    region.width = draw_range(&from, 1, width - region.x);
    region.height = draw_range(&from, 1, height - region.y);
    OK(qe_image_decode(decoder, e.bytes, e.count, "part", reduce, &region, &picture));
    assert_true(picture.x <= region.x && picture.x + picture.width >= region.x + region.width);
    assert_true(picture.y <= region.y && picture.y + picture.height >= region.y + region.height);
    for (int y = region.y; y < region.y + region.height; y++)
      for (int x = region.x; x < region.x + region.width; x++)
        for (int c = 0; c < 3; c++) {
          int got = picture.pixels[(size_t)(y - picture.y) * picture.stride + (size_t)((x - picture.x) * 3 + c)];
          int want = whole[(y * width + x) * 3 + c];
          if (got != want)
            fail_msg("turn %d, 1/%d of %dx%d, sampling %d, part %d %d %dx%d: (%d, %d) is %d, must be %d", turn, reduce,
                     W, H, sampling, region.x, region.y, region.width, region.height, x, y, got, want);
        }
    region.height = height - region.y + 1;
    FAILS(QE_SHAPE, qe_image_decode(decoder, e.bytes, e.count, "part", reduce, &region, &picture), "outside");
  }
}

static void test_grey_jpeg(void **state) {
  (void)state;
  static encoded e;
  qe_picture picture;
  encode_jpeg_as(4, 61, 43, TJPF_GRAY, TJSAMP_GRAY, &e);
  OK(decode(e.bytes, e.count, 1, &picture));
  check_pixels(&picture, 4, 1, 1, 8);
}

/* One colour of inks, 16x16; libjpeg writes Adobe's segment and YCCK. */
static void encode_ink(const uint8_t *ink, encoded *e) {
  tjhandle jpeg = tjInitCompress();
  uint8_t inks[16 * 16 * 4];
  for (int i = 0; i < 256; i++) memcpy(inks + 4 * i, ink, 4);
  unsigned char *bytes = NULL;
  unsigned long count = 0;
  assert_int_equal(tjCompress2(jpeg, inks, 16, 0, 16, TJPF_CMYK, &bytes, &count, TJSAMP_444, 100, 0), 0);
  memcpy(e->bytes, bytes, count);
  e->count = count;
  tjFree(bytes);
  tjDestroy(jpeg);
}

/* Adobe's programs store 255 for no ink. Without their segment 255 is full ink, and what was YCCK is taken as it is. */
static void test_cmyk_jpeg(void **state) {
  (void)state;
  static encoded e;
  qe_picture picture;
  encode_ink((const uint8_t[]){0, 255, 128, 51}, &e);
  OK(decode(e.bytes, e.count, 1, &picture));
  static const int inverted[3] = {0, 51, 26}, plain[3] = {44, 102, 102};
  for (int c = 0; c < 3; c++) assert_true(abs(picture.pixels[c] - inverted[c]) <= 2);
  encode_ink((const uint8_t[]){55, 55, 55, 51}, &e); /* Y 200, Cb and Cr 128 */
  size_t at = 0;
  while (memcmp(e.bytes + at, "Adobe", 5) != 0) at++;
  memcpy(e.bytes + at, "adobE", 5);
  OK(decode(e.bytes, e.count, 1, &picture));
  for (int c = 0; c < 3; c++) assert_true(abs(picture.pixels[c] - plain[c]) <= 2);
}

static void test_png(void **state) {
  (void)state;
  static encoded e;
  qe_picture picture;
  encode_png(9, 33, 20, &e);
  OK(decode(e.bytes, e.count, 1, &picture));
  check_pixels(&picture, 9, 3, 0, 0);
  OK(decode(e.bytes, e.count, 8, &picture)); /* as it is */
  assert_int_equal(picture.width, 33);
  uint8_t grey[20 * 33], alpha[20 * 33 * 4];
  paint(9, 33, 20, 1, grey);
  encode_png_of(grey, 33, 20, PNG_FORMAT_GRAY, &e);
  OK(decode(e.bytes, e.count, 1, &picture));
  check_pixels(&picture, 9, 1, 0, 0);
  uint8_t colour[20 * 33 * 3]; /* what is transparent keeps its colour */
  paint(9, 33, 20, 3, colour);
  for (int i = 0; i < 20 * 33; i++) {
    memcpy(alpha + 4 * i, colour + 3 * i, 3);
    alpha[4 * i + 3] = (uint8_t)(i % 256);
  }
  encode_png_of(alpha, 33, 20, PNG_FORMAT_RGBA, &e);
  OK(decode(e.bytes, e.count, 1, &picture));
  check_pixels(&picture, 9, 3, 0, 0);
}

/* 16 bits: values v * 257 come back as v, without a gamma. */
static void test_png_of_16_bits(void **state) {
  (void)state;
  enum { W = 20, H = 10 };
  qe_picture picture;
  uint8_t rows[H][W * 6], colour[H * W * 3];
  png_bytep row[H];
  paint(5, W, H, 3, colour);
  for (int y = 0; y < H; y++) {
    row[y] = rows[y];
    for (int i = 0; i < W * 3; i++) rows[y][2 * i] = rows[y][2 * i + 1] = colour[y * W * 3 + i];
  }
  FILE *file = tmpfile();
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
  png_infop info = png_create_info_struct(png);
  png_init_io(png, file);
  png_set_IHDR(png, info, W, H, 16, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_ADAM7, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  png_set_rows(png, info, row);
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, NULL);
  png_destroy_write_struct(&png, &info);
  static uint8_t bytes[1 << 14];
  rewind(file);
  size_t count = fread(bytes, 1, sizeof bytes, file);
  fclose(file);
  OK(decode(bytes, count, 1, &picture));
  check_pixels(&picture, 5, 3, 0.5, 1);
}

/* ---- bad ones ---- */

static void test_foreign_bytes(void **state) {
  (void)state;
  qe_picture picture;
  FAILS(QE_FORMAT, decode(NULL, 0, 1, &picture), "some.jpg: empty");
  FAILS(QE_FORMAT, decode((const uint8_t *)"GIF89a..", 8, 1, &picture), "neither JPEG nor PNG: begins with 47 49 46");
  FAILS(QE_FORMAT, decode((const uint8_t *)"\xff\xd8", 2, 1, &picture), "neither JPEG nor PNG");
  FAILS(QE_FORMAT, decode((const uint8_t *)"\xff\xd8\xff\xe0", 4, 1, &picture), "remove it from the data set");
  FAILS(QE_FORMAT, decode((const uint8_t *)"\x89PNG\r\n\x1a\n", 8, 1, &picture), "libpng says");
}

static void test_cut_short(void **state) {
  (void)state;
  static encoded e;
  qe_picture picture;
  encode_jpeg(3, 100, 80, &e);
  FAILS(QE_FORMAT, decode(e.bytes, e.count / 2, 1, &picture), "cut short: the JPEG goes on past its end at offset");
  for (size_t cut = 0; cut < e.count - 2; cut += 13) FAILS(QE_FORMAT, decode(e.bytes, cut, 1, &picture), "some.jpg: ");
  encode_png(3, 100, 80, &e);
  for (size_t cut = 0; cut + 12 < e.count; cut += 13) FAILS(QE_FORMAT, decode(e.bytes, cut, 1, &picture), "some.jpg: ");
}

/* A small file that claims to be huge takes no memory for it. */
static void test_sizes_must_fit_the_file(void **state) {
  (void)state;
  static encoded e;
  qe_picture picture;
  encode_jpeg(3, 40, 40, &e);
  size_t at = 0;
  while (e.bytes[at] != 0xff || e.bytes[at + 1] != 0xc0) at++;
  memcpy(e.bytes + at + 5, "\x20\x00\x20\x00", 4); /* 8192 x 8192 */
  FAILS(QE_FORMAT, decode(e.bytes, e.count, 1, &picture), "its header says 8192x8192 pixels, more than");
  memcpy(e.bytes + at + 5, "\xff\xff\xff\xff", 4);
  FAILS(QE_FORMAT, decode(e.bytes, e.count, 1, &picture), "65500");
}

/* Whatever is changed, decoding returns, and again works on the next image. */
static void test_any_bytes(void **state) {
  (void)state;
  static encoded e, good;
  qe_picture picture;
  draws from = {.seed = 4};
  encode_jpeg(3, 48, 40, &good);
  for (int turn = 0; turn < 600; turn++) {
    if (turn % 2)
      encode_png(3, 48, 40, &e);
    else
      e = good;
    for (int change = 0; change < 3; change++)
      e.bytes[draw_range(&from, 0, (int32_t)e.count - 1)] = (uint8_t)draw_range(&from, 0, 255);
    qe_status status = decode(e.bytes, e.count, 1 << draw_range(&from, 0, 3), &picture);
    assert_true(status == QE_OK || status == QE_FORMAT);
  }
  OK(decode(good.bytes, good.count, 1, &picture));
  check_pixels(&picture, 3, 3, 2, 12);
}

/* ---- resampling ---- */

/* What qe_resample means, in floating point: a triangle around each output's centre, normalised, on rows and columns.
 */
static double reference(const qe_picture *picture, const qe_crop *crop, int x, int y, int c) {
  double scale_x = (double)crop->width / crop->to_width, scale_y = (double)crop->height / crop->to_height;
  double reach_x = fmax(scale_x, 1), reach_y = fmax(scale_y, 1);
  double centre_x = (crop->at_x + x + 0.5) * scale_x, centre_y = (crop->at_y + y + 0.5) * scale_y;
  double sum = 0, weights = 0;
  for (int sy = 0; sy < crop->height; sy++)
    for (int sx = 0; sx < crop->width; sx++) {
      double wx = 1 - fabs(sx + 0.5 - centre_x) / reach_x, wy = 1 - fabs(sy + 0.5 - centre_y) / reach_y;
      if (wx <= 0 || wy <= 0) continue;
      weights += wx * wy;
      sum +=
          wx * wy * picture->pixels[(size_t)(crop->y + sy) * picture->stride + (size_t)(crop->x + sx) * 3 + (size_t)c];
    }
  return sum / weights;
}

static void test_resample(void **state) {
  (void)state;
  enum { W = 37, H = 29, SIDE = 11 };
  static const qe_crop crops[] = {
      {0, 0, W, H, SIDE, SIDE, 0, 0},   {3, 5, 30, 20, SIDE, SIDE, 0, 0}, {0, 0, W, H, 50, 39, 20, 14},
      {30, 20, 5, 4, SIDE, SIDE, 0, 0}, {36, 28, 1, 1, SIDE, SIDE, 0, 0}, {0, 0, W, H, W, H, 26, 18},
      {4, 4, 2, 25, SIDE, SIDE, 0, 0},  {1, 0, 36, 3, 12, SIDE, 1, 0},
  };
  uint8_t *pixels = malloc(W * H * 3 + 4), target[SIDE * SIDE * 3];
  draws from = {.seed = 5};
  for (int i = 0; i < W * H * 3; i++) pixels[i] = (uint8_t)draw_range(&from, 0, 255);
  qe_picture picture = {pixels, 0, 0, W, H, (size_t)W * 3};
  qe_resampler resampler = {0};
  for (size_t k = 0; k < sizeof crops / sizeof *crops; k++) {
    OK(qe_resample(&resampler, &picture, &crops[k], SIDE, target));
    for (int y = 0; y < SIDE; y++)
      for (int x = 0; x < SIDE; x++)
        for (int c = 0; c < 3; c++) {
          double want = reference(&picture, &crops[k], x, y, c);
          if (fabs(target[(y * SIDE + x) * 3 + c] - want) > 1.1)
            fail_msg("crop %zu (%d, %d, %d): %d, must be %g", k, x, y, c, target[(y * SIDE + x) * 3 + c], want);
        }
  }
  qe_resampler_free(&resampler);
  free(pixels);
}

/* ---- crops ---- */

static void check_crop(const qe_crop *crop, int width, int height, int side) {
  assert_true(crop->x >= 0 && crop->y >= 0 && crop->width >= 1 && crop->height >= 1);
  assert_true(crop->x + crop->width <= width && crop->y + crop->height <= height);
  assert_true(crop->at_x >= 0 && crop->at_y >= 0);
  assert_true(crop->at_x + side <= crop->to_width && crop->at_y + side <= crop->to_height);
}

static void test_middle(void **state) {
  (void)state;
  qe_crop crop = qe_crop_middle(500, 375, 256, 224);
  assert_int_equal(crop.to_height, 256);
  assert_int_equal(crop.to_width, 341);
  assert_int_equal(crop.at_x, 58);
  assert_int_equal(crop.at_y, 16);
  for (int width = 1; width < 700; width += 13)
    for (int height = 1; height < 700; height += 17) {
      crop = qe_crop_middle(width, height, 256, 224);
      check_crop(&crop, width, height, 224);
    }
}

static void test_random(void **state) {
  (void)state;
  enum { DRAWS = 4000 };
  double area = 0, smallest = 1, largest = 0, least_ratio = 9, most_ratio = 0;
  for (uint64_t position = 0; position < DRAWS; position++) {
    qe_crop crop = qe_crop_random(500, 375, 5243, 224, 1, position);
    qe_crop again = qe_crop_random(500, 375, 5243, 224, 1, position);
    assert_true(crop.x == again.x && crop.y == again.y && crop.width == again.width && crop.height == again.height);
    check_crop(&crop, 500, 375, 224);
    double share = (double)crop.width * crop.height / (500 * 375), ratio = (double)crop.width / crop.height;
    area += share / DRAWS;
    smallest = fmin(smallest, share);
    largest = fmax(largest, share);
    least_ratio = fmin(least_ratio, ratio);
    most_ratio = fmax(most_ratio, ratio);
  }
  assert_true(smallest > 0.078 && smallest < 0.09 && largest > 0.95);
  assert_true(area > 0.42 &&
              area < 0.45); /* below 0.54: the largest do not always fit; torchvision's rule gives 0.436 */
  assert_true(least_ratio > 0.74 && least_ratio < 0.77 && most_ratio < 1.35 && most_ratio > 1.31);
  qe_crop narrow = qe_crop_random(10, 3000, 65536, 224, 1, 0); /* nothing fits: the middle */
  assert_int_equal(narrow.width, 10);
  assert_int_equal(narrow.height, 13);
  assert_int_equal(narrow.y, 1493);
}

static void test_reduced(void **state) {
  (void)state;
  qe_crop crop = {100, 60, 900, 500, 224, 224, 0, 0};
  assert_int_equal(qe_crop_reduce(&crop), 2);
  qe_crop small = qe_crop_of_reduced(&crop, 2, 512, 300);
  assert_int_equal(small.x, 50);
  assert_int_equal(small.width, 450);
  assert_int_equal(small.height, 250);
  for (int side = 1; side < 300; side += 7) {
    qe_crop all = {side - 1, side - 1, 1, 1, 1, 1, 0, 0};
    small = qe_crop_of_reduced(&all, 8, (side + 7) / 8, (side + 7) / 8);
    check_crop(&small, (side + 7) / 8, (side + 7) / 8, 1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_jpeg),
      cmocka_unit_test(test_parts),
      cmocka_unit_test(test_grey_jpeg),
      cmocka_unit_test(test_cmyk_jpeg),
      cmocka_unit_test(test_png),
      cmocka_unit_test(test_png_of_16_bits),
      cmocka_unit_test(test_foreign_bytes),
      cmocka_unit_test(test_cut_short),
      cmocka_unit_test(test_sizes_must_fit_the_file),
      cmocka_unit_test(test_any_bytes),
      cmocka_unit_test(test_resample),
      cmocka_unit_test(test_middle),
      cmocka_unit_test(test_random),
      cmocka_unit_test(test_reduced),
  };
  return cmocka_run_group_tests(tests, open_decoder, close_decoder);
}
