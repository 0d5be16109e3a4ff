/* Tests of fields: scales, colours, contour lines, the picture as SVG and PNG. */
#include "core/base/file.h"
#include "core/page/field_parts.h"
#include "tests/fixture.h"

#include <png.h>

static char folder[FIXTURE_PATH];

static int open_all(void **state) {
  (void)state;
  folder_new(folder);
  return 0;
}
static int close_all(void **state) {
  (void)state;
  folder_remove(folder);
  return 0;
}

static void assert_near(double got, double wanted) {
  if (!(fabs(got - wanted) <= 1e-9 * (1 + fabs(wanted)))) fail_msg("%.9g, must be %.9g", got, wanted);
}

/* ---- scales ---- */

static void test_linear_scale(void **state) {
  (void)state;
  const double values[] = {10, (double)NAN, 2, 5, (double)INFINITY};
  qe_field_scale scale;
  assert_true(qe_field_scale_of(values, 5, false, &scale));
  assert_near(scale.low, 2);
  assert_near(scale.high, 10);
  for (int i = 0; i < scale.levels; i++) assert_near(scale.level[i], 3 + i); /* round values within */
  assert_int_equal(scale.levels, 7);
  assert_near(qe_field_part(&scale, 6), 0.5);
  assert_near(qe_field_part(&scale, -100), 0);
  assert_near(qe_field_part(&scale, 100), 1);
  assert_true(isnan(qe_field_part(&scale, (double)NAN)));
}

static void test_logarithmic_scale(void **state) {
  (void)state;
  double values[101];
  for (int i = 0; i < 101; i++) values[i] = 0.1 + i * 0.009; /* to 1 */
  values[100] = 1e6;                                         /* far above the others: cut off */
  qe_field_scale scale;
  assert_true(qe_field_scale_of(values, 101, true, &scale));
  assert_true(scale.logarithmic && scale.high < 1.1);
  assert_near(qe_field_part(&scale, sqrt(scale.low * scale.high)), 0.5);
  for (int i = 1; i < scale.levels; i++) assert_true(scale.level[i] > scale.level[i - 1]);
  values[0] = 0; /* a loss of 0 has no logarithm */
  assert_true(qe_field_scale_of(values, 101, true, &scale) && !scale.logarithmic);
}

static void test_scale_of_nothing(void **state) {
  (void)state;
  const double none[] = {(double)NAN, (double)INFINITY}, same[] = {3, 3, 3};
  qe_field_scale scale;
  assert_false(qe_field_scale_of(none, 2, false, &scale));
  assert_false(qe_field_scale_of(none, 0, true, &scale));
  assert_true(qe_field_scale_of(same, 3, true, &scale) && scale.high > scale.low);
}

static void test_colours(void **state) {
  (void)state;
  uint8_t low[3], high[3], none[3], before = 0;
  qe_field_colour(0, low);
  qe_field_colour(1, high);
  qe_field_colour((double)NAN, none);
  assert_true(low[2] > low[1] && high[0] > 200 && high[1] > 200 && none[0] == none[1] && none[1] == none[2]);
  for (int i = 0; i <= 20; i++) { /* ever brighter */
    uint8_t colour[3];
    qe_field_colour(i / 20.0, colour);
    uint8_t light = (uint8_t)((2 * colour[0] + 7 * colour[1] + colour[2]) / 10);
    assert_true(light >= before);
    before = light;
  }
}

/* ---- contours ---- */

typedef struct pieces {
  int count;
  double x0[32], y0[32], x1[32], y1[32];
} pieces;

static void collect(void *context, double x0, double y0, double x1, double y1) {
  pieces *p = context;
  assert_true(p->count < 32);
  p->x0[p->count] = x0;
  p->y0[p->count] = y0;
  p->x1[p->count] = x1;
  p->y1[p->count++] = y1;
}

/* Values that grow with the column have upright contours. */
static void test_contour_of_a_slope(void **state) {
  (void)state;
  double values[12];
  for (int i = 0; i < 12; i++) values[i] = i % 4;
  qe_field field = {.value = values, .rows = 3, .columns = 4};
  pieces p = {0};
  qe_field_contour(&field, 1.25, collect, &p);
  assert_int_equal(p.count, 2);
  for (int i = 0; i < p.count; i++) {
    assert_near(p.x0[i], 1.25);
    assert_near(p.x1[i], 1.25);
    assert_near(fabs(p.y0[i] - p.y1[i]), 1);
  }
  values[5] = (double)NAN; /* none through cells that touch it */
  p.count = 0;
  qe_field_contour(&field, 1.25, collect, &p);
  assert_int_equal(p.count, 0);
}

/* Two opposite corners above: the level cuts off either these or the others, by the middle. */
static void test_contour_of_a_saddle(void **state) {
  (void)state;
  const double values[4] = {0, 1, 1, 0}; /* upper row: 1, 0 */
  qe_field field = {.value = values, .rows = 2, .columns = 2};
  for (int above = 0; above < 2; above++) {
    double level = above ? 0.4 : 0.6;
    pieces p = {0};
    qe_field_contour(&field, level, collect, &p);
    assert_int_equal(p.count, 2);
    for (int i = 0; i < 2; i++) {
      double x = (p.x0[i] + p.x1[i]) / 2, y = (p.y0[i] + p.y1[i]) / 2;
      /* pieces lie near the corners they cut off: the low ones when the middle is above the level */
      assert_true(above ? fabs(x - y) < 0.1 : fabs(x + y - 1) < 0.1);
    }
  }
}

/* ---- pictures ---- */

static qe_field small_field(double *values, const qe_field_mark *marks, size_t count) {
  for (int i = 0; i < 20; i++) values[i] = (i % 5 - 2) * (i % 5 - 2) + (i / 5 - 1) * (i / 5 - 1);
  values[19] = (double)NAN;
  qe_field field = {.title = "a<b>&\"c",
                    .unit = "%",
                    .x_title = "x & y",
                    .y_title = "y",
                    .value = values,
                    .rows = 4,
                    .columns = 5,
                    .x0 = -1,
                    .x1 = 1,
                    .y0 = 0,
                    .y1 = 3,
                    .mark = marks,
                    .marks = count};
  assert_true(qe_field_scale_of(values, 20, false, &field.scale));
  return field;
}

static const qe_field_mark marks[] = {
    {0, 1, QE_SIGN_DISC, "<one>", "1"}, {0.5, 2, QE_SIGN_STAR, "star", NULL}, {9, 9, QE_SIGN_DOT, "far away", "F"}};

static void test_figure(void **state) {
  (void)state;
  double values[20];
  qe_field field = small_field(values, marks, 3);
  qe_page page = {0};
  qe_page_field(&page, &field);
  assert_int_equal(page.status, QE_OK);
  assert_non_null(strstr(page.text, "a&lt;b&gt;&amp;&quot;c"));
  assert_non_null(strstr(page.text, "<title>&lt;one&gt;</title>"));
  assert_non_null(strstr(page.text, "href=\"data:image/png;base64,"));
  assert_null(strstr(page.text, "far away")); /* it lies outside */
  assert_null(strstr(page.text, "nan"));
  qe_page_drop(&page);
  field.rows = 1;
  qe_page_field(&page, &field);
  assert_null(page.text);
}

static void test_files(void **state) {
  (void)state;
  enum { SIDE = 620, WIDTH = 670 };
  double values[20];
  char path[2 * FIXTURE_PATH], *text;
  qe_field field = small_field(values, marks, 3);
  snprintf(path, sizeof path, "%s/f.svg", folder);
  OK(qe_field_write_svg(&field, path));
  OK(qe_file_read(path, 1 << 20, &text, NULL));
  assert_non_null(strstr(text, "xmlns=\"http://www.w3.org/2000/svg\""));
  qe_free(text);
  snprintf(path, sizeof path, "%s/f.png", folder);
  OK(qe_field_write_png(&field, path));
  png_image image;
  memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  assert_true(png_image_begin_read_from_file(&image, path));
  assert_true(image.width == WIDTH && image.height == SIDE);
  image.format = PNG_FORMAT_RGB;
  uint8_t *pixels = qe_alloc(PNG_IMAGE_SIZE(image));
  assert_true(png_image_finish_read(&image, NULL, pixels, 0, NULL));
  uint8_t wanted[3];
  qe_field_colour(qe_field_part(&field.scale, values[0]), wanted); /* the lowest row's first cell: lower left */
  assert_memory_equal(pixels + ((size_t)(SIDE - 8) * WIDTH + 8) * 3, wanted, 3);
  qe_field_colour((double)NAN, wanted);
  assert_memory_equal(pixels + ((size_t)8 * WIDTH + SIDE - 8) * 3, wanted, 3);
  size_t middle = ((size_t)(SIDE - 1 - SIDE * 3 / 8) * WIDTH + SIDE / 2) * 3; /* the disc, at column 2.5, row 1.5 */
  assert_int_equal(pixels[middle], 17);
  qe_free(pixels);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_linear_scale),
      cmocka_unit_test(test_logarithmic_scale),
      cmocka_unit_test(test_scale_of_nothing),
      cmocka_unit_test(test_colours),
      cmocka_unit_test(test_contour_of_a_slope),
      cmocka_unit_test(test_contour_of_a_saddle),
      cmocka_unit_test(test_figure),
      cmocka_unit_test(test_files),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
