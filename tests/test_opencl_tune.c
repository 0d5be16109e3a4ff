/* The opencl backend's tuner, on a number of the kernels that lay out columns, by a clock that the test sets: the
 * fastest is taken, stored, found again by later devices; what fails is passed over; a damaged file means the initial
 * values. */
#define _GNU_SOURCE /* memmem */
#include "core/base/file.h"
#include "tests/opencl_rig.h"

static const char number[] = "columns.QK_COLUMNS_STEP"; /* 4 of 1, 2, 4, 8 */

typedef struct scene {
  qe_device *device;
  qe_queue *queue;
  qe_buffer *buffer[3];
  qe_call call;
  const qe_impl *impl;
  int32_t trying, best, failing; /* the value under trial, the one that is to be fast, one that does not work */
  int tried, failed;
  bool idle; /* the work needs no columns */
} scene;

static double fake_now;

static double fake_clock(void) {
  return fake_now;
}

/* ---- the work: one convolution by way of columns ---- */

static qe_status open_work(void *context) {
  scene *s = context;
  if (s->trying == s->failing) return qe_fail(QE_DEVICE, "this candidate does not fit");
  return qe_queue_new(s->device, &s->queue);
}

static qe_status run_work(void *context) {
  scene *s = context;
  fake_now += s->trying == s->best ? 1 : 2;
  if (s->idle) return QE_OK;
  qe_bound_call bound;
  QE_TRY(qe_call_bind(s->device, &s->call, s->impl, &bound));
  qe_status status = qe_call_run(s->queue, &s->call, &bound);
  qe_call_release(&bound);
  return status == QE_OK ? qe_queue_wait(s->queue) : status;
}

static void close_work(void *context) {
  scene *s = context;
  if (s->queue) qe_queue_free(s->queue);
  s->queue = NULL;
}

static void note_trying(void *context, const char *name, int32_t value) {
  ((scene *)context)->trying = strcmp(name, number) == 0 ? value : -2;
}

static void note_tried(void *context, const char *name, int32_t value, double seconds) {
  scene *s = context;
  if (strcmp(name, number) != 0) return;
  assert_int_equal(value, s->trying);
  s->tried++;
  s->failed += seconds < 0;
}

static qe_tuning tuning_of(scene *s) {
  return (qe_tuning){open_work, run_work, close_work, fake_clock, note_trying, note_tried, s};
}

/* ---- device and call ---- */

static const qe_impl *find_columns(qe_device *device, qe_op op) {
  int count = 0;
  const qe_impl *const *list = device->table->impls(device, op, &count);
  for (int i = 0; i < count; i++)
    if (strcmp(list[i]->name, "clblast") == 0) return list[i];
  return NULL;
}

static scene open_scene(void) {
  scene s = {.best = -1, .failing = -1};
  qe_desc desc[QE_MAX_OPERANDS], x = qe_map(QE_F32, 2, 8, 8, 8);
  OK(opencl_open(NULL, &s.device));
  s.call.op = QE_OP_conv2d;
  s.call.operands = 3;
  s.call.attrs.window = (qe_window){{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, 8};
  OK(qe_op_shapes(s.call.op, &s.call.attrs, &x, desc));
  for (int i = 0; i < 3; i++) {
    OK(qe_buffer_new(s.device, qe_bytes(&desc[i]), &s.buffer[i]));
    qe_operand_set(&s.call.operand[i], desc[i], s.buffer[i], 0);
  }
  s.impl = find_columns(s.device, s.call.op);
  return s;
}

static void close_scene(scene *s) {
  for (int i = 0; i < 3; i++) qe_buffer_free(s->buffer[i]);
  qe_device_close(s->device);
}

/* ---- the folder of the cache ---- */

static char root[FIXTURE_PATH], folder[FIXTURE_PATH];

static int new_cache(void **state) {
  (void)state;
  folder_new(root);
  assert_true(snprintf(folder, sizeof folder, "%s/opencl", root) < FIXTURE_PATH);
  return setenv("QEVO_CACHE_DIR", root, 1);
}

static int remove_cache(void **state) {
  (void)state;
  if (qe_folder_exists(folder)) folder_remove(folder);
  folder_remove(root);
  return 0;
}

/* Whether the work without a tuner, on a new device, builds its kernels with this value. */
static bool is_built_with(int32_t value) {
  char option[64];
  bool found = false;
  snprintf(option, sizeof option, "-DQK_COLUMNS_STEP=%d", value);
  scene s = open_scene();
  DIR *entries = opendir(folder);
  assert_non_null(entries);
  for (struct dirent *entry = readdir(entries); entry; entry = readdir(entries))
    if (strncmp(entry->d_name, "columns-", 8) == 0) unlinkat(dirfd(entries), entry->d_name, 0);
  OK(open_work(&s));
  OK(run_work(&s));
  close_work(&s);
  close_scene(&s);
  rewinddir(entries);
  for (struct dirent *entry = readdir(entries); entry; entry = readdir(entries)) {
    if (strncmp(entry->d_name, "columns-", 8) != 0) continue;
    char *path = qe_path_join(folder, entry->d_name), *data;
    size_t bytes;
    OK(qe_file_read(path, SIZE_MAX, &data, &bytes));
    found |= memmem(data, bytes, option, strlen(option)) != NULL;
    qe_free(data);
    qe_free(path);
  }
  closedir(entries);
  return found;
}

static char *tuned_path(void) {
  DIR *entries = opendir(folder);
  char *path = NULL;
  assert_non_null(entries);
  for (struct dirent *entry = readdir(entries); entry; entry = readdir(entries))
    if (strncmp(entry->d_name, "tuned-", 6) == 0) path = qe_path_join(folder, entry->d_name);
  closedir(entries);
  assert_non_null(path);
  return path;
}

static void tune(int32_t best) {
  scene s = open_scene();
  qe_tuning tuning = tuning_of(&s);
  s.best = best;
  OK(s.device->table->tune(s.device, &tuning));
  assert_int_equal(s.tried, 4);
  assert_int_equal(s.failed, 0);
  close_scene(&s);
}

#define NEEDS_COLUMNS()                                                                                                \
  do {                                                                                                                 \
    opencl_backend();                                                                                                  \
    scene s_ = open_scene();                                                                                           \
    bool there_ = s_.impl != NULL;                                                                                     \
    close_scene(&s_);                                                                                                  \
    if (!there_) skip();                                                                                               \
  } while (0)

/* ---- tests ---- */

static void the_fastest_is_taken_and_found_again(void **state) {
  (void)state;
  NEEDS_COLUMNS();
  tune(8);
  assert_true(is_built_with(8));
  tune(1); /* from another present value */
  assert_true(is_built_with(1));
  tune(-1); /* all alike: the present one stays */
  assert_true(is_built_with(1));
}

static void a_damaged_file_means_the_initial_values(void **state) {
  (void)state;
  NEEDS_COLUMNS();
  tune(8);
  char *path = tuned_path(), *text;
  size_t bytes;
  OK(qe_file_read(path, SIZE_MAX, &text, &bytes));
  char *value = strstr(text, number) + sizeof number + 1;
  while (*value != '8') value++;
  *value = '7'; /* no candidate */
  OK(qe_file_write(path, text, bytes));
  assert_true(is_built_with(4));
  *value = '2';
  OK(qe_file_write(path, text, bytes));
  assert_true(is_built_with(2));
  OK(qe_file_write(path, text, bytes / 2));
  assert_true(is_built_with(4));
  OK(qe_file_write(path, "[8]", 3));
  assert_true(is_built_with(4));
  char *driver = strstr(text, "driver");
  driver[0] = 'D'; /* another device's */
  OK(qe_file_write(path, text, bytes));
  assert_true(is_built_with(4));
  qe_free(text);
  qe_free(path);
}

static void what_fails_is_passed_over(void **state) {
  (void)state;
  NEEDS_COLUMNS();
  scene s = open_scene();
  qe_tuning tuning = tuning_of(&s);
  s.best = s.failing = 8;
  OK(s.device->table->tune(s.device, &tuning));
  assert_int_equal(s.tried, 4);
  assert_int_equal(s.failed, 1);
  s.failing = 4; /* the present one must work */
  FAILS(QE_DEVICE, s.device->table->tune(s.device, &tuning), "does not fit");
  close_scene(&s);
  assert_true(is_built_with(4));
}

static void what_the_work_does_without_is_left_alone(void **state) {
  (void)state;
  NEEDS_COLUMNS();
  scene s = open_scene();
  qe_tuning tuning = tuning_of(&s);
  s.idle = true;
  OK(s.device->table->tune(s.device, &tuning));
  assert_int_equal(s.tried, 0);
  close_scene(&s);
}

static void no_place_to_store_is_an_error(void **state) {
  (void)state;
  NEEDS_COLUMNS();
  char blocked[FIXTURE_PATH];
  assert_true(snprintf(blocked, sizeof blocked, "%s/file", root) < FIXTURE_PATH);
  OK(qe_file_write(blocked, "", 0));
  scene s = open_scene();
  qe_tuning tuning = tuning_of(&s);
  s.idle = true;
  setenv("QEVO_CACHE_DIR", blocked, 1);
  FAILS(QE_USAGE, s.device->table->tune(s.device, &tuning), blocked);
  setenv("QEVO_CACHE_DIR", root, 1);
  close_scene(&s);
}

/* The kernels' own initial values, which CUDA's build takes, are those of the table. */
static void initial_values_are_those_of_the_kernels(void **state) {
  (void)state;
  static const struct {
    const char *file, *macro;
    int initial;
  } rows[] = {
#define QK_TUNABLE(file, macro, initial, ...) {#file, #macro, initial},
#include "kernels_cl/tunables.def"
#undef QK_TUNABLE
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char path[FIXTURE_PATH], line[256], *text, *shared;
    if (strcmp(rows[i].file, "host") == 0) continue;
    snprintf(path, sizeof path, "%s/kernels_cl/%s.cl", QE_SOURCE_DIR, rows[i].file);
    snprintf(line, sizeof line, "#ifndef %s\n#define %s %d\n#endif\n", rows[i].macro, rows[i].macro, rows[i].initial);
    OK(qe_file_read(path, SIZE_MAX, &text, NULL));
    OK(qe_file_read(QE_SOURCE_DIR "/kernels_cl/params.h", SIZE_MAX, &shared, NULL));
    if (!strstr(text, line) && !strstr(shared, line)) fail_msg("%s and params.h lack the lines\n%s", path, line);
    qe_free(shared);
    qe_free(text);
  }
}

int main(void) {
#define TUNE_TEST(test) cmocka_unit_test_setup_teardown(test, new_cache, remove_cache)
  const struct CMUnitTest tests[] = {
      TUNE_TEST(the_fastest_is_taken_and_found_again),
      TUNE_TEST(a_damaged_file_means_the_initial_values),
      TUNE_TEST(what_fails_is_passed_over),
      TUNE_TEST(what_the_work_does_without_is_left_alone),
      TUNE_TEST(no_place_to_store_is_an_error),
      cmocka_unit_test(initial_values_are_those_of_the_kernels),
  };
  return cmocka_run_group_tests_name("opencl tune", tests, opencl_setup, opencl_teardown);
}
