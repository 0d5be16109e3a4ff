/* Event files for TensorBoard, read back by a reader of their formats (tests/events.h): values, histograms, resumed
 * runs. tests/runs has them read by TensorBoard itself. */
#include "core/train/board.h"
#include "tests/events.h"

static char folder[FIXTURE_PATH];

static int make_folder(void **state) {
  (void)state;
  folder_new(folder);
  return 0;
}
static int remove_folder(void **state) {
  (void)state;
  folder_remove(folder);
  return 0;
}

static void add_steps(qe_board *board, int64_t from, int64_t to) {
  for (int64_t step = from; step <= to; step++) {
    qe_board_scalar(board, "loss/train", 1.0 / (double)step);
    qe_board_scalar(board, "rate", step == 3 ? (double)NAN : 0.5);
    OK(qe_board_flush(board, step));
  }
}

static void values_are_read_back(void **state) {
  (void)state;
  qe_board *board;
  OK(qe_board_open(folder, NULL, &board));
  OK(qe_board_flush(board, 7)); /* nothing to write: no file */
  assert_string_equal(qe_board_where(board)->file, "");
  add_steps(board, 1, 200);
  const double edge[3] = {-0.5, 0.5, 1.5};
  const int64_t cell[3] = {4, 0, 300};
  qe_board_cells cells = {.low = -1.5, .edge = edge, .cell = cell, .count = 3, .sum = 296, .square_sum = 304};
  qe_board_histogram(board, "codes/fc", &cells);
  qe_board_histogram(board, "codes/none", &(qe_board_cells){0});
  OK(qe_board_flush(board, INT64_C(1) << 40));
  OK(qe_board_sync(board));
  event_list *list = read_events(folder);
  assert_int_equal(list->files, 1);
  assert_int_equal(list->starts, 0);
  assert_int_equal(list->scalars, 400);
  for (size_t i = 0; i < 400; i += 2) {
    assert_int_equal(list->scalar[i].step, (int64_t)i / 2 + 1);
    assert_string_equal(list->scalar[i].tag, "loss/train");
    assert_true(list->scalar[i].value == (float)(1.0 / (double)(i / 2 + 1)));
    assert_int_equal(isnan(list->scalar[i + 1].value) != 0, i / 2 + 1 == 3);
  }
  const event_histogram *h = &list->histogram;
  assert_int_equal(list->histograms, 1);
  assert_string_equal(h->tag, "codes/fc");
  assert_true(h->step == INT64_C(1) << 40 && h->low == -1.5 && h->high == 1.5 && h->count == 304 && h->sum == 296);
  assert_true(h->square_sum == 304 && h->edges == 3 && h->cells == 3);
  for (int i = 0; i < 3; i++) assert_true(h->edge[i] == edge[i] && h->cell[i] == (double)cell[i]);
  free(list);
  qe_board_close(board);
}

/* What came after the place that a checkpoint kept is gone; a live reader is told so. */
static void resumed_runs_repeat_no_step(void **state) {
  (void)state;
  qe_board *board;
  OK(qe_board_open(folder, NULL, &board));
  add_steps(board, 1, 5);
  qe_board_place kept = *qe_board_where(board);
  add_steps(board, 6, 8);
  qe_board_close(board);
  for (int round = 0; round < 3; round++) { /* killed each time before the next checkpoint */
    OK(qe_board_open(folder, &kept, &board));
    if (round > 0) add_steps(board, 6, 6 + round);
    qe_board_close(board);
  }
  event_list *list = read_events(folder);
  assert_int_equal(list->files, 2);
  assert_int_equal(list->starts, 1);
  assert_int_equal(list->start_step, 6);
  assert_int_equal(list->scalars, 16);
  for (size_t i = 0; i < list->scalars; i++) assert_int_equal(list->scalar[i].step, (int64_t)i / 2 + 1);
  free(list);
  OK(qe_board_open(folder, NULL, &board)); /* a new run: nothing of the old one stays */
  qe_board_close(board);
  list = read_events(folder);
  assert_int_equal(list->files, 0);
  free(list);
  qe_board_close(NULL);
}

static void failures_show_when_flushed(void **state) {
  (void)state;
  qe_board *board;
  OK(qe_board_open(folder, NULL, &board));
  add_steps(board, 1, 1);
  int64_t bytes = qe_board_where(board)->bytes;
  qe_alloc_fail_nth(1);
  for (int i = 0; i < 1000; i++) qe_board_scalar(board, "many", i);
  qe_alloc_fail_nth(0);
  assert_int_equal(qe_board_flush(board, 2), QE_NO_MEMORY);
  assert_int_equal(qe_board_where(board)->bytes, bytes);
  add_steps(board, 2, 2);
  qe_board_close(board);
  event_list *list = read_events(folder);
  assert_int_equal(list->scalars, 4);
  free(list);
  assert_int_equal(qe_board_open("/nowhere/at/all", NULL, &board), QE_NOT_FOUND);
}

/* A damaged or foreign checkpoint names another file: that is left alone. */
static void other_files_are_not_cut(void **state) {
  (void)state;
  static const char *const names[] = {"config.yaml", "../x", "events.out.tfevents.1/../config.yaml"};
  char path[FIXTURE_PATH + 16];
  snprintf(path, sizeof path, "%s/config.yaml", folder);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    qe_board *board;
    qe_board_place place = {.step = 3};
    OK(qe_file_write(path, "seed: 1\n", 8));
    snprintf(place.file, sizeof place.file, "%s", names[i]);
    OK(qe_board_open(folder, &place, &board));
    assert_string_equal(qe_board_where(board)->file, "");
    qe_board_close(board);
    assert_int_equal(qe_file_bytes(path), 8);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(values_are_read_back),
      TEST(resumed_runs_repeat_no_step),
      TEST(failures_show_when_flushed),
      TEST(other_files_are_not_cut),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
