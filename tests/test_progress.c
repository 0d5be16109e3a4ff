/* Tests of tools/progress, which is no part of the library: its source is compiled in here. */
#include "tools/output.c"
#include "tools/progress.c"

#include <setjmp.h>
#include <stddef.h>

#include <cmocka.h>

static double clock_now;
static double test_clock(void) {
  return clock_now;
}

static qe_progress_point point_at(int epoch, int64_t images) {
  return (qe_progress_point){
      .epoch = epoch, .epochs = 3, .images = images, .epoch_images = 1000, .loss = 1.25, .accuracy = 56.5};
}

static void test_line_fits_every_width(void **state) {
  (void)state;
  char line[QE_PROGRESS_LINE];
  qe_progress progress = {.rate = 100};
  qe_progress_point point = point_at(2, 500);
  assert_string_equal(qe_progress_line(&progress, &point, 0, line),
                      "epoch 2/3  50%  loss 1.2500  acc 56.50%  100 img/s  left 0:15");
  assert_string_equal(qe_progress_line(&progress, &point, 80, line),
                      "epoch 2/3 [=======>       ]  50%  loss 1.2500  acc 56.50%  100 img/s  left 0:15");
  for (int width = 1; width < 200; width++) {
    qe_progress_line(&progress, &point, width, line);
    assert_true((int)strlen(line) < width);
    assert_true(strncmp(line, "epoch 2/3", strlen(line) < 9 ? strlen(line) : 9) == 0);
  }
  assert_non_null(strchr(qe_progress_line(&progress, &point, 100, line), '['));
  point = point_at(3, 5000); /* more than there are */
  assert_non_null(strstr(qe_progress_line(&progress, &point, 0, line), "100%  loss"));
  point.epoch_images = 0;
  assert_non_null(strstr(qe_progress_line(&progress, &point, 0, line), "  0%  loss"));
}

static void test_durations(void **state) {
  (void)state;
  char text[32];
  assert_string_equal(qe_duration_text(0, text), "0:00");
  assert_string_equal(qe_duration_text(59.5, text), "1:00");
  assert_string_equal(qe_duration_text(3723, text), "1:02:03");
  assert_string_equal(qe_duration_text(360000, text), "100:00:00");
  assert_string_equal(qe_duration_text(-5, text), "0:00");
  assert_string_equal(qe_duration_text(HUGE_VAL, text), "0:00");
}

/* In a pipe: whole lines, one every 10 s and one at the end of an epoch; no control characters. */
static void test_plain_lines(void **state) {
  (void)state;
  char *text = NULL;
  size_t bytes;
  FILE *file = tmpfile();
  assert_non_null(file);
  qe_progress progress = {.file = file, .clock = test_clock};
  for (int64_t images = 0; images <= 1000; images += 10) {
    clock_now = 1000 + (double)images / 40; /* 25 s in all */
    qe_progress_point point = point_at(1, images);
    qe_progress_update(&progress, &point);
  }
  qe_progress_point point = point_at(1, 1000);
  qe_progress_epoch(&progress, &point, "test 91.20%");
  qe_progress_note(&progress, "saved %s", "x");
  qe_progress_clear(&progress);
  bytes = (size_t)ftell(file);
  rewind(file);
  text = calloc(bytes + 1, 1);
  assert_int_equal(fread(text, 1, bytes, file), bytes);
  assert_string_equal(text, "epoch 1/3  40%  loss 1.2500  acc 56.50%  40 img/s  left 1:05\n"
                            "epoch 1/3  80%  loss 1.2500  acc 56.50%  40 img/s  left 0:55\n"
                            "epoch 1/3  loss 1.2500  acc 56.50%  40 img/s  test 91.20%\n"
                            "saved x\n");
  free(text);
  fclose(file);
}

static void test_rate_is_smoothed(void **state) {
  (void)state;
  qe_progress progress = {.file = tmpfile(), .clock = test_clock};
  assert_non_null(progress.file);
  clock_now = 5;
  for (int second = 0; second <= 60; second++, clock_now += 1) {
    qe_progress_point point = point_at(1, second <= 30 ? 10 * second : 300 + 20 * (second - 30));
    qe_progress_update(&progress, &point);
    if (second == 1) assert_true(fabs(progress.rate - 10) < 1e-9);
    if (second == 31) assert_true(progress.rate > 10.5 && progress.rate < 11);
  }
  assert_true(progress.rate > 18 && progress.rate < 20);
  fclose(progress.file);
}

static void test_silent(void **state) {
  (void)state;
  qe_progress progress = {0};
  qe_progress_point point = point_at(1, 10);
  qe_progress_update(&progress, &point);
  qe_progress_epoch(&progress, &point, "");
  qe_progress_note(&progress, "x");
  assert_false(progress.started);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_line_fits_every_width),
      cmocka_unit_test(test_durations),
      cmocka_unit_test(test_plain_lines),
      cmocka_unit_test(test_rate_is_smoothed),
      cmocka_unit_test(test_silent),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
