/* `qevo-gpu data` as a user runs it, on a small CIFAR-10 from a server on loopback: get, again, damaged, --force, info,
 * list; and the line of progress. The table of data sets is this test's own. */
#include "tests/fetch_fixture.h"

#include "tools/command.h"
#include "tools/data_info.h"
#include "tools/data_progress.h"

#include <cjson/cJSON.h>

enum { RECORD = 3073, RECORDS = 20, BATCH = RECORD * RECORDS, BATCHES = 6 };

static const qe_remote_file batch_files[] = {{"data_batch_1.bin", BATCH}, {"data_batch_2.bin", BATCH},
                                             {"data_batch_3.bin", BATCH}, {"data_batch_4.bin", BATCH},
                                             {"data_batch_5.bin", BATCH}, {"test_batch.bin", BATCH}};
static qe_remote_archive cifar_archive = {"small.tar.gz", 0, packed_sum, "inner", batch_files, BATCHES};
static char address[96];
static const char *const cifar_addresses[] = {address, NULL};
static const qe_remote cifar = {"cifar10", "cifar-10-batches-bin", "the tests", cifar_addresses, &cifar_archive, 1};

/* In place of the table of tools/fetch/remote.c. */
const qe_remote *qe_remotes(size_t *count) {
  *count = 1;
  return &cifar;
}

const qe_remote *qe_remote_find(const char *name) {
  return strcmp(name, cifar.name) == 0 ? &cifar : NULL;
}

int64_t qe_remote_archive_bytes(const qe_remote *of) {
  return of->archives[0].bytes;
}

int64_t qe_remote_file_bytes(const qe_remote *of) {
  (void)of;
  return (int64_t)BATCHES * BATCH;
}

static unsigned char batches[BATCHES][BATCH];
static http_server server;
static served file;

/* Record r of a batch has label r % 10 and only pixels of 10 * (r % 10), 20 and 30 in red, green and blue. */
static int set_up(void **state) {
  static blob tar;
  if (fetch_set_up(state) != 0) return -1;
  tar.bytes = 0;
  for (int batch = 0; batch < BATCHES; batch++) {
    char name[64];
    for (int r = 0; r < RECORDS; r++) {
      unsigned char *record = &batches[batch][(size_t)r * RECORD];
      record[0] = (unsigned char)(r % 10);
      for (int c = 0; c < 3; c++) memset(record + 1 + 1024 * c, c == 0 ? 10 * (r % 10) : 10 + 10 * c, 1024);
    }
    snprintf(name, sizeof name, "inner/%s", batch_files[batch].name);
    tar_add(&tar, '0', name, NULL, batches[batch], BATCH, BATCH);
  }
  tar_end(&tar);
  pack(&tar);
  cifar_archive.bytes = (int64_t)packed.bytes;
  file = (served){.path = "/small.tar.gz", .data = packed.data, .bytes = packed.bytes};
  if (!http_open(&server, &file, 1)) return -1;
  snprintf(address, sizeof address, "http://127.0.0.1:%d", server.port);
  return unsetenv("QEVO_DATA_DIR") || unsetenv("QEVO_DATA_MIRROR") || setenv("HOME", at_root("home"), 1);
}

static int tear_down(void **state) {
  http_close(&server);
  return fetch_tear_down(state);
}

/* ---- running the command in this process ---- */

static char printed[1 << 14], said[1 << 14]; /* on stdout and stderr */

static void read_back(const char *path, char *text, size_t room) {
  FILE *in = fopen(path, "r");
  assert_non_null(in);
  text[fread(text, 1, room - 1, in)] = 0;
  fclose(in);
}

/* Send a stream to a file below root; returns what it was. */
static int redirect(FILE *stream, const char *name) {
  fflush(stream);
  int before = dup(fileno(stream));
  FILE *out = fopen(at_root(name), "w");
  assert_non_null(out);
  assert_true(dup2(fileno(out), fileno(stream)) >= 0);
  fclose(out);
  return before;
}

static void restore(FILE *stream, int before) {
  fflush(stream);
  assert_true(dup2(before, fileno(stream)) >= 0);
  close(before);
}

/* `line`: arguments with single blanks between. */
static qe_status run(const char *line) {
  char text[256], *argv[16], *rest = text;
  int argc = 0;
  qe_options *options;
  snprintf(text, sizeof text, "%s", line);
  for (char *word = strtok_r(rest, " ", &rest); word; word = strtok_r(rest, " ", &rest)) argv[argc++] = word;
  assert_int_equal(qe_options_new(qe_option_table, qe_option_table_rows, "data", &options), QE_OK);
  assert_int_equal(qe_options_parse(options, argc, argv), QE_OK);
  int out = redirect(stdout, "stdout"), err = redirect(stderr, "stderr");
  qe_status status = qe_cmd_data(options);
  restore(stdout, out);
  restore(stderr, err);
  qe_options_free(options);
  read_back(at_root("stdout"), printed, sizeof printed);
  read_back(at_root("stderr"), said, sizeof said);
  return status;
}

static void runs(const char *line, const char *text) {
  if (run(line) != QE_OK) fail_msg("%s: %s", line, qe_message());
  if (!strstr(printed, text) && !strstr(said, text)) fail_msg("%s: no '%s' in:\n%s%s", line, text, printed, said);
}

/* ---- tests ---- */

static void test_get_and_again(void **state) {
  (void)state;
  runs("get cifar10", "every file has its SHA-256");
  assert_string_equal(printed, "");
  assert_non_null(strstr(said, "home/.cache/qevo-gpu/cifar-10-batches-bin"));
  runs("get cifar10", "cifar10 is there: ");
  assert_int_equal(file.hits, 1);
  runs("get cifar10 --force", "getting cifar10");
  assert_int_equal(file.hits, 2);
  assert_int_equal(truncate(at_root("home/.cache/qevo-gpu/cifar-10-batches-bin/test_batch.bin"), 5), 0);
  runs("get cifar10", "cifar10 is not whole: ");
  assert_int_equal(file.hits, 3);
  batches[2][9] ^= 1;
  write_bytes(at_root("home/.cache/qevo-gpu/cifar-10-batches-bin/data_batch_3.bin"), batches[2], BATCH);
  runs("get cifar10", "data_batch_3.bin: changed or damaged");
  assert_int_equal(file.hits, 4);
}

static void test_places(void **state) {
  (void)state;
  char line[256];
  snprintf(line, sizeof line, "get cifar10 --json --data-dir %s", at_root("option"));
  runs(line, "");
  cJSON *list = cJSON_Parse(printed);
  const cJSON *row = cJSON_GetArrayItem(list, 0);
  assert_string_equal(cJSON_GetObjectItem(row, "folder")->valuestring, at_root("option/cifar-10-batches-bin"));
  assert_true(cJSON_IsTrue(cJSON_GetObjectItem(row, "downloaded")));
  cJSON_Delete(list);
  setenv("QEVO_DATA_DIR", at_root("environment"), 1);
  runs("get cifar10", "environment/cifar-10-batches-bin");
  unsetenv("QEVO_DATA_DIR");
  unsetenv("HOME");
  assert_int_equal(run("get cifar10"), QE_USAGE);
  assert_non_null(strstr(qe_message(), "--data-dir"));
}

static void test_addresses(void **state) {
  (void)state;
  char line[256];
  address[strlen(address) - 1] ^= 1; /* the published address is dead */
  write_bytes(at_root("mirror/cifar10/small.tar.gz"), packed.data, packed.bytes);
  setenv("QEVO_DATA_MIRROR", at_root("mirror"), 1);
  runs("get cifar10", "every file has its SHA-256");
  setenv("QEVO_DATA_MIRROR", at_root("nowhere"), 1);
  assert_int_equal(run("get cifar10 --force"), QE_IO);
  assert_non_null(strstr(qe_message(), "/nowhere/cifar10/small.tar.gz"));
  snprintf(line, sizeof line, "get cifar10 --force --url http://127.0.0.1:%d/", server.port);
  runs(line, "every file has its SHA-256");
  assert_int_equal(file.hits, 1);
}

static void test_info_and_list(void **state) {
  (void)state;
  runs("list", "\ncifar10 ");
  assert_null(strstr(printed, "the-set"));
  runs("get cifar10", "");
  runs("list", "cifar-10-batches-bin\n");
  runs("info cifar10", "\nimages          100 for training, 20 for testing\n");
  assert_non_null(strstr(printed, "\ntraining        10 of each class\n"));
  assert_non_null(strstr(printed, "\nmean            0.1765 0.0784 0.1176\n")); /* 45, 20 and 30 of 255 */
  assert_non_null(strstr(printed, "\ndeviation       0.1126 0.0000 0.0000\n")); /* sqrt(825) of 255 */
  assert_non_null(strstr(printed, "\nfiles           every file has its SHA-256\n"));
  assert_int_equal(unlink(at_root("home/.cache/qevo-gpu/cifar-10-batches-bin/SHA256SUMS")), 0);
  runs("info cifar10", "there is no SHA256SUMS");
  runs("get cifar10", "sizes are right, contents are not known to be");
  batches[0][0] = 9; /* one image less of class 0, one more of class 9 */
  write_bytes(at_root("home/.cache/qevo-gpu/cifar-10-batches-bin/data_batch_1.bin"), batches[0], BATCH);
  runs("info cifar10", "\ntraining        9 10 10 10 10 10 10 10 10 11\n");
  batches[0][RECORD] = 10;
  write_bytes(at_root("home/.cache/qevo-gpu/cifar-10-batches-bin/data_batch_1.bin"), batches[0], BATCH);
  assert_int_equal(run("info cifar10"), QE_FORMAT);
  assert_non_null(strstr(qe_message(), "qevo-gpu data get cifar10 --force"));
  runs("get cifar10", "label 10 at offset 3073"); /* sizes are right and no sum is known, but it cannot be read */
  runs("info cifar10", "every file has its SHA-256");
}

/* ---- progress ---- */

static double now;

static double clock_of_test(void) {
  return now;
}

static void test_progress_line(void **state) {
  (void)state;
  char line[QE_DATA_LINE];
  FILE *sink = fopen("/dev/null", "w");
  assert_non_null(sink);
  qe_data_progress progress = {.file = sink, .clock = clock_of_test};
  const int64_t whole = 100 << 20, part = 20 << 20;
  qe_data_progress_update(&progress, "a.tar.gz", part, whole);
  assert_string_equal(qe_data_progress_line(&progress, part, whole, 0, line), "a.tar.gz   20%  20.0/100.0 MiB");
  for (int second = 1; second <= 10; second++) {
    now = second;
    qe_data_progress_update(&progress, "a.tar.gz", part + (second << 21), whole);
  }
  assert_string_equal(qe_data_progress_line(&progress, 2 * part, whole, 0, line),
                      "a.tar.gz   40%  40.0/100.0 MiB  2.0 MiB/s  left 0:30"); /* the part counts for no speed */
  assert_string_equal(qe_data_progress_line(&progress, 2 * part, whole, 15, line), "a.tar.gz   40%");
  qe_data_progress_update(&progress, "b.gz", 0, 10); /* another file: nothing is known of its speed */
  assert_string_equal(qe_data_progress_line(&progress, 0, 10, 0, line), "b.gz    0%  0.0/0.0 MiB");
  fclose(sink);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {CASE(test_get_and_again), CASE(test_places), CASE(test_addresses),
                                     CASE(test_info_and_list), CASE(test_progress_line)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
