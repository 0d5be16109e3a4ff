/* Tests of pages: escaping, numbers, axes, charts, pictures. */
#include "core/base/alloc.h"
#include "core/page/picture.h"
#include "core/page/plot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int count_of(const char *text, const char *part) {
  int count = 0;
  for (const char *at = text; (at = strstr(at, part)) != NULL; at++) count++;
  return count;
}

static void test_text_is_escaped(void **state) {
  (void)state;
  qe_page page = {0};
  qe_page_words(&page, "<b>", "a<b>&\"c'\n\x01 \xC3\xA4\xFF\xC3", "</b>");
  assert_int_equal(page.status, QE_OK);
  assert_string_equal(page.text, "<b>a&lt;b&gt;&amp;&quot;c&#39;   \xC3\xA4\xEF\xBF\xBD\xEF\xBF\xBD</b>");
  qe_page_drop(&page);
}

static void test_empty_sections_vanish(void **state) {
  (void)state;
  qe_page page = {0};
  qe_page_add(&page, "before");
  qe_page_mark mark = qe_page_begin_section(&page, 2, "one", "One");
  assert_false(qe_page_end_section(&page, mark));
  assert_string_equal(page.text, "before");
  mark = qe_page_begin_section(&page, 2, "two", "T&wo");
  qe_page_add(&page, "x");
  assert_true(qe_page_end_section(&page, mark));
  assert_non_null(strstr(page.text, "<h2 id=\"two\">T&amp;wo</h2>\nx</section>"));
  qe_page_drop(&page);
}

static void test_numbers(void **state) {
  (void)state;
  char text[QE_NUMBER_TEXT];
  assert_string_equal(qe_number_text(0.12345, text), "0.1235");
  assert_string_equal(qe_number_text(12.5, text), "12.5");
  assert_string_equal(qe_number_text(1234.4, text), "1234");
  assert_string_equal(qe_number_text(1234567, text), "1\xE2\x80\xAF"
                                                     "234\xE2\x80\xAF"
                                                     "567");
  assert_string_equal(qe_number_text(-3, text), "\xE2\x88\x92"
                                                "3");
  assert_string_equal(qe_number_text((double)NAN, text), "not finite");
  assert_string_equal(qe_number_text(-(double)INFINITY, text), "not finite");
  assert_string_equal(qe_whole_text(INT64_MIN, text) + 3, "9\xE2\x80\xAF"
                                                          "223\xE2\x80\xAF"
                                                          "372\xE2\x80\xAF"
                                                          "036\xE2\x80\xAF"
                                                          "854\xE2\x80\xAF"
                                                          "775\xE2\x80\xAF"
                                                          "808");
  assert_string_equal(qe_count_text(512, text), "512");
  assert_string_equal(qe_count_text(269722, text), "270\xC2\xA0k");
  assert_string_equal(qe_bytes_text(1536, text), "1.50\xC2\xA0KiB");
  assert_string_equal(qe_seconds_text(3725, text), "62\xC2\xA0min 5\xC2\xA0s");
  assert_string_equal(qe_seconds_text(86400, text), "24\xC2\xA0h 0\xC2\xA0min");
  assert_string_equal(qe_seconds_text((double)NAN, text), "not finite");
}

static void test_axes(void **state) {
  (void)state;
  assert_true(fabs(qe_tick_step(0, 10, 5) - 2) < 1e-12);
  assert_true(fabs(qe_tick_step(0, 0.7, 5) - 0.2) < 1e-12);
  assert_true(fabs(qe_tick_step(3, 3, 5) - 1) < 1e-12);
  double low, high;
  bool cut;
  assert_false(qe_plot_range((double[]){(double)NAN}, 1, false, &low, &high, &cut));
  assert_true(qe_plot_range((double[]){2, (double)INFINITY, 4}, 3, false, &low, &high, &cut));
  assert_true(low < 2 && low > 1.5 && high > 4 && high < 4.5 && !cut);
  assert_true(qe_plot_range((double[]){2, 4}, 2, true, &low, &high, &cut) && !(low > 0 || low < 0));
  double outlier[20] = {0};
  for (int i = 0; i < 19; i++) outlier[i] = 1 + i * 0.01;
  outlier[19] = 1e6;
  assert_true(qe_plot_range(outlier, 20, false, &low, &high, &cut) && cut && high < 2);
  assert_true(qe_plot_range((double[]){0, 0}, 2, false, &low, &high, &cut) && high > low);
}

static void test_line_chart(void **state) {
  (void)state;
  qe_page page = {0};
  const double x[4] = {1, 2, 3, 4}, y[4] = {1.5, (double)NAN, 1.25, 1}, none[1] = {(double)NAN};
  qe_plot_line line[2] = {{.name = "te<st", .label = "te<st", .x = x, .y = y, .count = 4},
                          {.name = "empty", .label = "empty", .x = x, .y = none, .count = 0}};
  qe_line_chart chart = {.title = "Loss & all", .y_unit = "nats", .x_title = "epoch", .line = line, .lines = 2};
  qe_page_line_chart(&page, &chart);
  assert_int_equal(page.status, QE_OK);
  assert_non_null(strstr(page.text, "<title>Loss &amp; all</title><desc>"));
  assert_non_null(strstr(page.text, "te&lt;st ends at 1."));
  assert_non_null(strstr(page.text, "data-x=\"1 3 4\" data-y=\"1.5 1.25 1\""));
  assert_int_equal(count_of(page.text, "not finite</title>"), 1);
  assert_int_equal(count_of(page.text, "<tr>"), 5); /* of the table: head and 4 points */
  assert_non_null(strstr(page.text, "<td>not finite</td>"));
  assert_null(strstr(page.text, "nan"));
  qe_page_drop(&page);
  const double far[4] = {0, 1e300, 1.5e308, 1.7e308}, huge[4] = {-1.7e308, 1.7e308, 1e29, 3};
  line[0].x = far;
  line[0].y = huge;
  qe_page_line_chart(&page, &chart);
  assert_null(strstr(page.text, "inf"));
  assert_null(strstr(page.text, "nan"));
  qe_page_drop(&page);
  chart.line = &(qe_plot_line){.name = "none", .x = x, .y = none, .count = 1};
  chart.lines = 1;
  qe_page_line_chart(&page, &chart);
  assert_null(page.text);
}

static void test_histogram(void **state) {
  (void)state;
  qe_page page = {0};
  const int64_t count[3] = {1, 0, 3}, before[3] = {2, 2, 0};
  qe_page_histogram(
      &page, &(qe_histogram){
                 .title = "conv", .low = "-1", .high = "1", .count = count, .before = before, .bins = 3, .zero = 0.5});
  assert_int_equal(page.status, QE_OK);
  assert_int_equal(count_of(page.text, "v-"), 4); /* a bar for each count above 0 */
  assert_non_null(strstr(page.text, "the fullest place holds 75.0 % of 4."));
  qe_page_drop(&page);
}

static uint8_t sextet(char letter) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const char *at = letter ? strchr(letters, letter) : NULL;
  return (uint8_t)(at ? at - letters : 0);
}

/* What the data URI of the page's picture holds, as libpng reads it. */
static void read_picture(const char *text, png_image *image, uint8_t *pixels, size_t room) {
  static uint8_t png[1 << 16];
  const char *at = strstr(text, "base64,") + strlen("base64,");
  size_t letters = strcspn(at, "\""), bytes = 0;
  assert_true(letters % 4 == 0 && letters < sizeof png);
  for (size_t i = 0; i < letters; i += 4) {
    uint32_t word = (uint32_t)sextet(at[i]) << 18 | (uint32_t)sextet(at[i + 1]) << 12 |
                    (uint32_t)sextet(at[i + 2]) << 6 | sextet(at[i + 3]);
    for (int k = 0; k < 3; k++) png[bytes++] = (uint8_t)(word >> (16 - 8 * k));
  }
  memset(image, 0, sizeof *image);
  image->version = PNG_IMAGE_VERSION;
  assert_true(png_image_begin_read_from_memory(image, png, bytes));
  assert_true(PNG_IMAGE_SIZE(*image) <= room);
  assert_true(png_image_finish_read(image, NULL, pixels, 0, NULL));
}

static void test_picture(void **state) {
  (void)state;
  qe_page page = {0};
  png_image image;
  uint8_t pixels[5 * 7 * 3], back[5 * 7 * 3];
  for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 37);
  qe_page_picture(&page, pixels, 5, 7, 3, 96, "a \"cat\"");
  assert_int_equal(page.status, QE_OK);
  assert_non_null(strstr(page.text, "alt=\"a &quot;cat&quot;\""));
  read_picture(page.text, &image, back, sizeof back);
  assert_true(image.width == 7 && image.height == 5);
  assert_memory_equal(back, pixels, sizeof pixels);
  qe_page_drop(&page);
}

/* Grey, and made smaller: each pixel is the mean of four. */
static void test_small_picture(void **state) {
  (void)state;
  qe_page page = {0};
  png_image image;
  static const uint8_t pixels[4 * 4] = {0, 4, 8, 8, 4, 8, 8, 8, 100, 100, 200, 200, 100, 100, 200, 200};
  uint8_t back[16] = {0};
  qe_page_picture(&page, pixels, 4, 4, 1, 2, "grey");
  read_picture(page.text, &image, back, sizeof back);
  assert_true(image.width == 2 && image.height == 2);
  static const uint8_t means[4] = {4, 8, 100, 200};
  assert_memory_equal(back, means, sizeof means);
  qe_page_drop(&page);
}

static void test_page_is_whole(void **state) {
  (void)state;
  char path[] = "/tmp/qevo-page-XXXXXX", text[1 << 16];
  int handle = mkstemp(path);
  assert_true(handle >= 0);
  qe_page page = {0};
  qe_page_open(&page, "a <title>", 0);
  assert_int_equal(qe_page_write(&page, path), QE_OK);
  assert_null(page.text);
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  text[fread(text, 1, sizeof text - 1, file)] = 0;
  fclose(file);
  close(handle);
  unlink(path);
  assert_non_null(strstr(text, "<title>a &lt;title&gt;</title>"));
  assert_non_null(strstr(text, "Content-Security-Policy\" content=\"default-src 'none'"));
  assert_non_null(strstr(text, "name=\"viewport\""));
  assert_non_null(strstr(text, "prefers-color-scheme:dark"));
  assert_null(strstr(text, "://"));
  assert_null(strstr(text, "http-equiv=\"refresh\""));
  assert_string_equal(text + strlen(text) - strlen("</body></html>\n"), "</body></html>\n");
}

/* The first failure sticks. */
static void test_no_memory(void **state) {
  (void)state;
  for (int64_t nth = 1; nth < 4; nth++) {
    qe_page page = {0};
    qe_alloc_fail_nth(nth);
    const double x[2] = {0, 1}, y[2] = {1, 2};
    qe_plot_line line = {.name = "a", .label = "a", .x = x, .y = y, .count = 2};
    qe_page_line_chart(&page, &(qe_line_chart){.title = "t", .x_title = "x", .line = &line, .lines = 1});
    qe_alloc_fail_nth(0);
    assert_int_equal(page.status, QE_NO_MEMORY);
    qe_page_drop(&page);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_text_is_escaped), cmocka_unit_test(test_empty_sections_vanish),
      cmocka_unit_test(test_numbers),         cmocka_unit_test(test_axes),
      cmocka_unit_test(test_line_chart),      cmocka_unit_test(test_histogram),
      cmocka_unit_test(test_picture),         cmocka_unit_test(test_small_picture),
      cmocka_unit_test(test_page_is_whole),   cmocka_unit_test(test_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
