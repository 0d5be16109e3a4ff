/* Tests of the qevo-gpu program itself: help, exit codes, what goes to stdout and what to stderr; its option table,
 * which is no part of the library and is compiled in here. */
#include "tests/shell.h"

#include "core/base/alloc.h"
#include "tools/option_table.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT = 1 << 16 };
static char out[OUTPUT];

/* Run the program through the shell; what it prints goes to `out`. Returns the exit code. */
static int run(const char *arguments) {
  char command[1024];
  snprintf(command, sizeof command, QE_BINARY_DIR "/qevo-gpu %s", arguments);
  return shell_run(command, out, OUTPUT);
}

static void assert_run(const char *arguments, int code, const char *expected) {
  shell_expect(arguments, run(arguments), code, out, expected);
}

static void test_help_and_version(void **state) {
  (void)state;
  assert_run("--help", 0, "usage: qevo-gpu COMMAND");
  assert_run("help", 0, "\n  devices ");
  assert_run("--version", 0, "qevo-gpu ");
  assert_run("devices --help", 0, "usage: qevo-gpu devices [options]\n");
  assert_run("devices -h --bad-option", 0, "--json");
  assert_run("help devices", 0, "usage: qevo-gpu devices [options]\n");
  assert_run("--help 2>&1 >&-", 1, "cannot write to standard output"); /* closed output is no crash */
}

static void test_bad_usage(void **state) {
  (void)state;
  assert_run("2>&1 >/dev/null", 2, "usage: qevo-gpu COMMAND");
  assert_run("devicse 2>&1 >/dev/null", 2, "qevo-gpu: no such command: devicse; did you mean devices?\n");
  assert_run("fly 2>&1 >/dev/null", 2, "no such command: fly; 'qevo-gpu --help' lists them\n");
  assert_run("devices --jsno 2>&1 >/dev/null", 2, "qevo-gpu devices: --jsno: no such option; did you mean --json?\n");
  assert_run("devices gpu 2>&1 >/dev/null", 2, "qevo-gpu devices: one argument too many: gpu\n");
  assert_run("devices --epochs 3 2>&1 >/dev/null", 2, "it belongs to: train");
  assert_run("devices --config /no/such 2>&1 >/dev/null", 2, "/no/such: cannot open");
  assert_run("devices --json >/dev/full 2>/dev/null", 1, "");
}

static void test_devices_table(void **state) {
  (void)state;
  assert_run("devices 2>/dev/null", 0, "backend   device  usable  name, or why not\n");
  assert_non_null(strstr(out, "\nref            0  yes"));
}

/* One array, one object a device, exactly the keys that scripts rely on. */
static void test_devices_json(void **state) {
  (void)state;
  int usable = 0;
  assert_int_equal(run("devices --json"), 0);
  cJSON *list = cJSON_ParseWithOpts(out, NULL, 0);
  assert_true(cJSON_IsArray(list));
  assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
  const cJSON *item;
  cJSON_ArrayForEach(item, list) {
    assert_int_equal(cJSON_GetArraySize(item), 4);
    assert_true(cJSON_IsString(cJSON_GetObjectItem(item, "backend")));
    assert_true(cJSON_IsBool(cJSON_GetObjectItem(item, "usable")));
    const cJSON *device = cJSON_GetObjectItem(item, "device"), *why = cJSON_GetObjectItem(item, "why");
    bool can = cJSON_IsTrue(cJSON_GetObjectItem(item, "usable"));
    assert_true(can ? cJSON_IsString(device) : cJSON_IsNull(device));
    assert_true(cJSON_IsString(why) && (*why->valuestring == 0) == can);
    usable += can;
  }
  assert_true(usable >= 1);
  cJSON_Delete(list);
}

/* What `data` says without a network; getting itself is tested in test_fetch*.c. */
static void test_data(void **state) {
  (void)state;
  assert_run("data 2>&1", 2, "needs get|info|list");
  assert_run("data lst 2>&1", 2, "lst: no such action; did you mean list?");
  assert_run("data get 2>&1", 2, "of which data set?");
  assert_run("data get cifra10 2>&1", 2, "no data set 'cifra10' can be downloaded; did you mean cifar10?");
  assert_run("data get imagenet 2>&1", 2, "these can: cifar10, cifar100, mnist, fashion-mnist");
  assert_run("data get mnist cifar10 --url x 2>&1", 2, "give one name");
  assert_run("data list more 2>&1", 2, "one argument too many: more");
  assert_run("data info cifar10-subset", 0, "\ntraining        100 of each class\n");
  assert_run("data info cifar10-subset --json", 0, "\"mean\":[0.4");
  cJSON *info = cJSON_Parse(out);
  assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(info, "test_images_of_class")), 10);
  cJSON_Delete(info);
  assert_run("data list", 0, "\ncifar10 ");
  assert_run("data list --json", 0, "\"name\":\"cifar10-subset\"");
}

/* A folder without the files, and one that cannot be made: exit code 1, nothing on stdout, what to do on stderr. */
static void test_data_get_fails(void **state) {
  (void)state;
  run("data get mnist --data-dir /dev/null/x 2>&1");
  if (strstr(out, "downloads are not possible here")) skip(); /* built without libcurl */
  assert_run("data get mnist --json --data-dir /dev/null/x 2>/dev/null", 1, "");
  assert_string_equal(out, "");
  assert_run("data get mnist --data-dir /dev/null/x 2>&1", 1, "--data-dir or QEVO_DATA_DIR");
  char folder[] = "/tmp/qevo-test-XXXXXX", command[256];
  assert_non_null(mkdtemp(folder));
  snprintf(command, sizeof command, "data get mnist --data-dir %s --url %s 2>&1", folder, folder);
  assert_run(command, 1, "train-images-idx3-ubyte.gz: no such file");
  assert_int_equal(rmdir(folder), 0); /* nothing is left in it */
}

/* A model's integer network as a file, evaluated without further options; what is no such file is bad input. */
static void test_export_and_eval(void **state) {
  (void)state;
  char command[1024];
  const char *model = QE_SOURCE_DIR "/models/resnet20-cifar10-w4a4-qat.safetensors";
  char path[] = "/tmp/qevo-test-XXXXXX";
  int file = mkstemp(path);
  assert_true(file >= 0);
  close(file);
  assert_run("export --help", 0, "usage: qevo-gpu export MODEL [options]\n");
  snprintf(command, sizeof command, "export %s 2>&1", model);
  assert_run(command, 2, "needs --out FILE");
  snprintf(command, sizeof command, "export %s --out /no/such/folder/file 2>&1", model);
  assert_run(command, 2, "/no/such/folder/file");
  snprintf(command, sizeof command, "export %s --out %s", model, path);
  assert_run(command, 0, "\nall layers ");
  snprintf(command, sizeof command, "eval %s --data cifar10-subset 2>/dev/null", path);
  assert_run(command, 0, "\ntop-1 91.40 %, loss 0.3306, 500 test images"); /* exact, so the same everywhere */
  assert_non_null(strstr(out, "\nrequantisers "));
  snprintf(command, sizeof command, "eval %s --data cifar10-subset --dump-dot x 2>&1", path);
  assert_run(command, 2, "has no Graphviz form");
  snprintf(command, sizeof command, "export %s --out %s.again 2>&1", path, path);
  assert_run(command, 2, "is an integer network; what is needed here is the model");
  assert_int_equal(truncate(path, 5000), 0);
  snprintf(command, sizeof command, "eval %s 2>&1", path);
  assert_run(command, 2, "not a safetensors file");
  unlink(path);
}

/* The table is sound for every command, and a dumped config gives the same values again. */
static void test_option_table(void **state) {
  (void)state;
  static const char *const commands[] = {"train", "eval", "export", "devices", "inspect", "bench", "data"};
  for (int i = 0; i < 7; i++) {
    qe_options *options, *again;
    if (qe_options_new(qe_option_table, qe_option_table_rows, commands[i], &options) != QE_OK)
      fail_msg("%s", qe_message());
    assert_int_equal(qe_options_new(qe_option_table, qe_option_table_rows, commands[i], &again), QE_OK);
    char *text = qe_options_dump(options);
    assert_non_null(text);
    assert_true((strstr(text, "\nepochs: auto # default\n") != NULL) == (i == 0));
    if (qe_options_load_text(again, "dump", text, strlen(text), QE_FROM_CONFIG) != QE_OK) fail_msg("%s", qe_message());
    qe_free(text);
    for (size_t row = 0; row < qe_option_table_rows; row++) {
      const char *name = qe_option_table[row].name, *value = qe_option_text(options, name);
      assert_non_null(qe_option_table[row].group);
      assert_non_null(qe_option_table[row].help);
      if (value) assert_string_equal(value, qe_option_text(again, name));
    }
    qe_options_free(options);
    qe_options_free(again);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_help_and_version),
      cmocka_unit_test(test_bad_usage),
      cmocka_unit_test(test_data),
      cmocka_unit_test(test_data_get_fails),
      cmocka_unit_test(test_devices_table),
      cmocka_unit_test(test_devices_json),
      cmocka_unit_test(test_export_and_eval),
      cmocka_unit_test(test_option_table),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
