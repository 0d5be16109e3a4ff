/* What augmentation draws: how much is cut out and where, how far colours move; jitter by hand. */
#include "tests/op_case.h"

#include <stdlib.h>

enum { SIDE = 8, IMAGES = 4000, PIXELS = SIDE * SIDE };

/* One image of `value` everywhere, augmented IMAGES times. */
static op_case augmented(uint8_t value, int32_t cutout, const int32_t *jitter) {
  op_case given = new_case();
  given.attrs.images = 1;
  given.attrs.cutout = cutout;
  for (int k = 0; jitter && k < QE_JITTERS; k++) given.attrs.jitter[k] = jitter[k];
  memset(case_add(&given, "images", qe_map(QE_U8, 1, SIDE, SIDE, 1))->data, value, PIXELS);
  case_given(&given, "counter", qe_vector(QE_S32, 4), (const int32_t[]){11, 0, 5, 0});
  case_add(&given, "x", qe_map(QE_U8, IMAGES, SIDE, SIDE, 1));
  case_run(&given, "int_augment", NULL);
  return given;
}

/* Of a row of SIDE pixels, the mean number of those that a run of `length` around a uniform place blanks. */
static double mean_run(int length) {
  double sum = 0;
  for (int middle = 0; middle < SIDE; middle++)
    for (int i = 0; i < length; i++) sum += middle - length / 2 + i >= 0 && middle - length / 2 + i < SIDE;
  return sum / SIDE;
}

/* Each image has one rectangle of at most side x side; its area is on the average what uniform places give, and so is
 * how often each pixel is blank. */
static void test_cutout_area(void **state) {
  (void)state;
  static const int32_t sides[] = {1, 2, 3, 5, SIDE, 2 * SIDE, 1024};
  for (size_t s = 0; s < sizeof sides / sizeof *sides; s++) {
    op_case given = augmented(7, sides[s], NULL);
    const uint8_t *x = case_find(&given, "x")->data;
    double area = 0, square = 0, wanted = mean_run(sides[s]) * mean_run(sides[s]);
    for (int n = 0; n < IMAGES; n++, x += PIXELS) {
      int rows[SIDE] = {0}, columns[SIDE] = {0}, blank = 0, height = 0, width = 0;
      for (int i = 0; i < PIXELS; i++) {
        assert_true(x[i] == 7 || x[i] == 128);
        if (x[i] == 7) continue;
        blank++;
        rows[i / SIDE] = columns[i % SIDE] = 1;
      }
      for (int i = 0; i < SIDE; i++) height += rows[i], width += columns[i];
      assert_int_equal(blank, height * width);
      assert_true(height >= 1 && height <= sides[s] && width >= 1 && width <= sides[s]);
      area += (double)blank / IMAGES;
      square += (double)blank * blank / IMAGES;
    }
    double error = sqrt((square - area * area) / IMAGES);
    if (fabs(area - wanted) > 4 * error + 1e-9)
      fail_msg("side %d: %g pixels are cut out, must be near %g", sides[s], area, wanted);
    case_free(&given);
  }
}

/* Grey images under brightness: v * factor / 256, factors uniform in 256 - j ... 256 + j. Contrast and saturation leave
 * a grey image as it is. */
static void test_brightness_is_uniform(void **state) {
  (void)state;
  enum { J = 128, VALUE = 100 };
  op_case given = augmented(VALUE, 0, (const int32_t[]){J, 256, 256});
  const uint8_t *x = case_find(&given, "x")->data;
  double mean = 0, square = 0, wanted = (double)J * (J + 1) / 3; /* the variance of a uniform integer in -J ... J */
  for (int n = 0; n < IMAGES; n++, x += PIXELS) {
    for (int i = 1; i < PIXELS; i++) assert_int_equal(x[i], x[0]);
    double factor = x[0] * 256.0 / VALUE;
    assert_true(factor >= 256 - J - 2 && factor <= 256 + J + 2);
    mean += factor / IMAGES;
    square += (factor - 256) * (factor - 256) / IMAGES;
  }
  if (fabs(mean - 256) > 4 * sqrt(wanted / IMAGES)) fail_msg("mean factor %g", mean);
  if (fabs(square - wanted) > 0.1 * wanted) fail_msg("variance %g, must be near %g", square, wanted);
  case_free(&given);
}

/* Contrast 0...2 keeps the mean grey, and its factor is the ratio of spreads; at the far ends it clamps. */
static void test_contrast_keeps_the_mean(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.images = 1;
  given.attrs.jitter[QE_JITTER_CONTRAST] = QE_JITTER_ALL;
  case_given(&given, "images", qe_map(QE_U8, 1, 1, 4, 1), (const uint8_t[]){90, 110, 80, 120});
  case_add(&given, "x", qe_map(QE_U8, 200, 1, 4, 1));
  case_run(&given, "int_augment", NULL);
  const uint8_t *x = case_find(&given, "x")->data;
  int least = 255, most = 0;
  for (int n = 0; n < 200; n++, x += 4) {
    assert_in_range(x[0] + x[1] + x[2] + x[3], 398, 402);
    assert_true(abs(2 * (x[1] - x[0]) - (x[3] - x[2])) <= 3);
    least = x[3] - x[2] < least ? x[3] - x[2] : least;
    most = x[3] - x[2] > most ? x[3] - x[2] : most;
  }
  assert_in_range(least, 0, 4);
  assert_in_range(most, 76, 80);
  case_free(&given);
}

/* Saturation moves channels along the line through the pixel's grey (ITU-R BT.601), which it keeps. */
static void test_saturation_keeps_the_grey(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.images = 1;
  given.attrs.jitter[QE_JITTER_SATURATION] = 200;
  case_given(&given, "images", qe_map(QE_U8, 1, 1, 1, 3), (const uint8_t[]){120, 100, 80});
  case_add(&given, "x", qe_map(QE_U8, 100, 1, 1, 3));
  case_run(&given, "int_augment", NULL);
  const uint8_t *x = case_find(&given, "x")->data;
  int moved = 0;
  for (int n = 0; n < 100; n++, x += 3) {
    assert_in_range((77 * x[0] + 150 * x[1] + 29 * x[2] + 128) >> 8, 103, 105); /* of the image: 104 */
    assert_true(abs((x[0] - 104) * (80 - 104) - (x[2] - 104) * (120 - 104)) <= 30);
    moved += x[0] != 120;
  }
  assert_true(moved > 80);
  case_free(&given);
}

/* A strength of 0 is the image; padding and cutout stay 128 whatever the colours do. */
static void test_blank_has_no_colour(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.images = 1, given.attrs.pad = 3, given.attrs.flip = 1, given.attrs.cutout = 2;
  memset(case_add(&given, "images", qe_map(QE_U8, 1, SIDE, SIDE, 3))->data, 200, PIXELS * 3);
  case_given(&given, "counter", qe_vector(QE_S32, 4), (const int32_t[]){4, 0, 0, 0});
  case_add(&given, "x", qe_map(QE_U8, 50, SIDE, SIDE, 3));
  case_add(&given, "coloured", qe_map(QE_U8, 50, SIDE, SIDE, 3));
  case_run(&given, "int_augment", NULL);
  given.attrs.jitter[QE_JITTER_BRIGHTNESS] = 60; /* 200 becomes at least 153 */
  case_run(&given, "int_augment", (const case_rename[]){{"x", "coloured"}, {NULL, NULL}});
  const uint8_t *x = case_find(&given, "x")->data, *coloured = case_find(&given, "coloured")->data;
  int same = 0;
  for (int i = 0; i < 50 * PIXELS * 3; i++) {
    assert_true(x[i] == 128 || x[i] == 200);
    assert_true((x[i] == 128) == (coloured[i] == 128));
    same += coloured[i] == 200;
  }
  assert_true(same < 50 * PIXELS * 3 / 4);
  case_free(&given);
}

static void expect_refused(qe_attrs attrs, qe_desc principal, const char *why) {
  qe_desc desc[QE_MAX_OPERANDS];
  attrs.images = 1;
  assert_int_equal(qe_op_shapes(QE_OP_int_augment, &attrs, &principal, desc), QE_SHAPE);
  if (!strstr(qe_message(), why)) fail_msg("'%s' does not say '%s'", qe_message(), why);
}

static void test_out_of_range(void **state) {
  (void)state;
  qe_desc map = qe_map(QE_U8, 2, 4, 4, 3);
  expect_refused((qe_attrs){.cutout = -1}, map, "cutout");
  expect_refused((qe_attrs){.cutout = 1025}, map, "cutout");
  expect_refused((qe_attrs){.jitter = {0, 257, 0}}, map, "jitter");
  expect_refused((qe_attrs){.jitter = {0, 0, -1}}, map, "jitter");
  expect_refused((qe_attrs){.pad = 1025}, map, "padding");
  expect_refused((qe_attrs){.pad = 1}, qe_map(QE_U8, 1, 1 << 13, (1 << 11) + 1, 1), "2^24");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cutout_area),
      cmocka_unit_test(test_brightness_is_uniform),
      cmocka_unit_test(test_contrast_keeps_the_mean),
      cmocka_unit_test(test_saturation_keeps_the_grey),
      cmocka_unit_test(test_blank_has_no_colour),
      cmocka_unit_test(test_out_of_range),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
