/* Tests of `qevo-gpu bench`: its rows as scripts read them, its notes, its refusals. */
#include "tests/shell.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUICK "--model mlp --data cifar10-subset --threads 1 --batch 8 --repeat 3 --steps 2 "

enum { OUTPUT = 1 << 16 };
static char out[OUTPUT];

/* Run `qevo-gpu bench` through the shell; what it prints goes to `out`. Returns the exit code. */
static int run(const char *arguments) {
  char command[1024];
  snprintf(command, sizeof command, QE_BINARY_DIR "/qevo-gpu bench %s", arguments);
  return shell_run(command, out, OUTPUT);
}

static void assert_run(const char *arguments, int code, const char *expected) {
  shell_expect(arguments, run(arguments), code, out, expected);
}

static void assert_text(const cJSON *row, const char *key, const char *expected) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(row, key));
  assert_non_null(text);
  assert_string_equal(text, expected);
}

static double number(const cJSON *row, const char *key) {
  const cJSON *item = cJSON_GetObjectItem(row, key);
  assert_true(cJSON_IsNumber(item));
  return item->valuedouble;
}

/* One row a case and backend, in turn, with the keys that scripts rely on. */
static void test_json(void **state) {
  (void)state;
  static const char *const names[] = {"mlp-float", "mlp-w3a2", "mlp-float", "mlp-w3a2"};
  assert_int_equal(run("train " QUICK "--backend ref,ref -w 3 -a 2 --json 2>/dev/null"), 0);
  cJSON *list = cJSON_ParseWithOpts(out, NULL, 0);
  assert_true(cJSON_IsArray(list));
  assert_int_equal(cJSON_GetArraySize(list), 4);
  for (int i = 0; i < 4; i++) {
    const cJSON *row = cJSON_GetArrayItem(list, i);
    assert_text(row, "bench", "train");
    assert_text(row, "case", names[i]);
    assert_text(row, "backend", "ref");
    assert_text(row, "unit", "images/s");
    assert_true(number(row, "value") > 0);
    assert_true(number(row, "peak_percent") > 0);
    assert_true(number(row, "ratio") > 0);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(row, "parity")));
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(row, "failed")));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(row, "samples")), 3);
  }
  cJSON_Delete(list);
}

/* Without a name all benches run; `all` takes every usable backend, and says why others are left out. */
static void test_all(void **state) {
  (void)state;
  char chart[] = "/tmp/qevo-bench-XXXXXX", peers[] = "/tmp/qevo-peers-XXXXXX", arguments[768], page[OUTPUT];
  int chart_file = mkstemp(chart), peers_file = mkstemp(peers);
  static const char rows[] = "{\"rows\": [{\"bench\": \"train\", \"case\": \"mlp-float\", \"backend\": \"the <peer>\", "
                             "\"value\": 12.5, \"unit\": \"images/s\"}]}";
  assert_true(chart_file >= 0 && peers_file >= 0);
  assert_int_equal(write(peers_file, rows, sizeof rows - 1), sizeof rows - 1);
  snprintf(arguments, sizeof arguments,
           QUICK "--repeat 1 --backend all --candidates 2 --images 8 --cases conv64x8-w4a4 --chart %s --peers %s 2>&1",
           chart, peers);
  assert_int_equal(setenv("OCL_ICD_VENDORS", "/nonexistent", 1), 0); /* a device that is left out */
  assert_run(arguments, 0, "ref: skipped: ");
  unsetenv("OCL_ICD_VENDORS");
  static const char *const wanted[] = {"conv64x8-w4a4", "mlp-float", "mlp-w4a4-fresh"};
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) assert_non_null(strstr(out, wanted[i]));
  FILE *file = fopen(chart, "r"); /* another one: the file was replaced */
  assert_non_null(file);
  page[fread(page, 1, sizeof page - 1, file)] = 0;
  fclose(file);
  assert_non_null(strstr(page, "<span class=\"bar "));
  assert_non_null(strstr(page, "the &lt;peer&gt;"));
  assert_null(strstr(page, "://"));
  close(chart_file);
  close(peers_file);
  unlink(chart);
  unlink(peers);
}

/* Forward and two gradients of each linear layer, but for the gradient of the images. */
static void test_costs(void **state) {
  (void)state;
  assert_int_equal(run("train " QUICK "--backend ref -w 32 -a 32 --json 2>/dev/null"), 0);
  cJSON *list = cJSON_ParseWithOpts(out, NULL, 0);
  assert_int_equal(cJSON_GetArraySize(list), 1);
  const double first = 3072 * 256, all = first + 256 * 256 + 256 * 10;
  assert_true(number(cJSON_GetArrayItem(list, 0), "macs") == 3 * all - first);
  cJSON_Delete(list);
}

static void test_table_and_notes(void **state) {
  (void)state;
  assert_run("train " QUICK "--backend ref --profile --explain 2>&1", 0, "program train on ");
  assert_non_null(strstr(out, "implementation: ops -> value"));
  assert_non_null(strstr(out, "G multiply-adds/s"));
  assert_non_null(strstr(out, "mlp-w4a4"));
}

#define QUICK_CONV "--data cifar10-subset --threads 1 --batch 2 --repeat 2 --steps 1 "

/* Chains of eight convolutions 3x3 of 64 channels on 8x8, then 64 x 10; the best backend agrees with ref. */
static void test_conv(void **state) {
  (void)state;
  static const char *const names[] = {"conv64x8-w4a4", "conv64x8-w1a1"};
  assert_int_equal(run("conv " QUICK_CONV "--backend auto --cases conv64x8-w1a1,conv64x8-w4a4 --json 2>/dev/null"), 0);
  cJSON *list = cJSON_ParseWithOpts(out, NULL, 0);
  assert_int_equal(cJSON_GetArraySize(list), 2);
  for (int i = 0; i < 2; i++) {
    const cJSON *row = cJSON_GetArrayItem(list, i);
    assert_text(row, "bench", "conv");
    assert_text(row, "case", names[i]);
    assert_text(row, "unit", "images/s");
    assert_true(number(row, "value") > 0);
    assert_true(number(row, "gmacs") > 0);
    assert_true(number(row, "peak_percent") > 0);
    assert_true(number(row, "macs") == 8.0 * 9 * 64 * 64 * 64 + 64 * 10);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(row, "parity")));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(row, "samples")), 2);
  }
  cJSON_Delete(list);
}

#define QUICK_POPULATION                                                                                               \
  "population --model mlp --data cifar10-subset --threads 1 --candidates 3 --images 5 --repeat 2 "

static void test_population(void **state) {
  (void)state;
  static const char *const names[] = {"mlp-w3a2-fresh",        "mlp-w3a2-prepacked", "mlp-w3a2-prefix",
                                      "mlp-w3a2-dropping",     "mlp-w3a2-ratio",     "mlp-w3a2-prefix-gain",
                                      "mlp-w3a2-dropping-gain"};
  assert_int_equal(run(QUICK_POPULATION "--backend auto -w 3 -a 2 --json 2>/dev/null"), 0);
  cJSON *list = cJSON_ParseWithOpts(out, NULL, 0);
  assert_int_equal(cJSON_GetArraySize(list), 7);
  for (int i = 0; i < 7; i++) {
    const cJSON *row = cJSON_GetArrayItem(list, i);
    assert_text(row, "bench", "population");
    assert_text(row, "case", names[i]);
    assert_text(row, "unit", i < 4 ? "candidate-images/s" : "times");
    assert_true(number(row, "value") > 0);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(row, "parity")));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(row, "samples")), 2);
  }
  cJSON_Delete(list);
}

static void test_notes_of_networks(void **state) {
  (void)state;
  assert_run(QUICK_POPULATION "--backend ref --explain 2>&1", 0, "engine op by op");
  assert_run(QUICK_POPULATION "--backend ref --tune 2>&1", 0, "the backend ref have no numbers to choose");
  assert_non_null(strstr(out, "3 candidates, 5 images"));
  assert_run("conv " QUICK_CONV "--backend ref --cases conv64x8-w2a2 --explain 2>&1", 0, "u8 x s8 (");
  assert_non_null(strstr(out, "conv64x8-w2a2 on ref, engine op by op"));
}

/* A line first, then a line of rows for each line of input. */
static void test_serve(void **state) {
  (void)state;
  assert_int_equal(run(QUICK_POPULATION "--backend ref --serve 2>/dev/null <<end\n\n\nend\n"), 0);
  int lines = 0;
  for (char *line = strtok(out, "\n"); line; line = strtok(NULL, "\n"), lines++) {
    cJSON *json = cJSON_ParseWithOpts(line, NULL, 1);
    assert_non_null(json);
    assert_int_equal(cJSON_GetArraySize(json), lines ? 7 : 1);
    cJSON_Delete(json);
  }
  assert_int_equal(lines, 3);
}

static void test_refusals(void **state) {
  (void)state;
  assert_run("--serve 2>&1", 2, "--serve needs the name of one bench");
  assert_run("conv --tune 2>&1", 2, "--tune is of bench population");
  assert_run("conv train 2>&1", 2, "one argument too many");
  assert_run("fly 2>&1", 2, "no bench is called 'fly'");
  assert_run("train --backend ref,abacus 2>&1", 2, "abacus");
  assert_run("conv " QUICK_CONV "--cases conv64x8 2>&1", 2, "no case is called 'conv64x8'; there are resnet20-w8a8,");
  assert_run("population --model mlp -w 32 2>&1", 2, "float");
  assert_run("train " QUICK "--batch 2000 --backend ref 2>&1", 2, "batch 2000");
}

/* The table has a row for each layer and pair of bits, and 0 at the base's own. */
static void latency_table(void **state) {
  (void)state;
  char path[] = "/tmp/qevo-latency-XXXXXX", arguments[256];
  int file = mkstemp(path);
  assert_true(file >= 0);
  close(file);
  snprintf(arguments, sizeof arguments, "latency " QUICK "-w 3 -a 4 --latency-bits 2,8 --json --latency-file %s", path);
  assert_run(arguments, 0, "\"bench\":\"latency\"");
  snprintf(arguments, sizeof arguments, "cat %s", path);
  assert_int_equal(shell_run(arguments, out, OUTPUT), 0);
  remove(path);
  cJSON *table = cJSON_Parse(out);
  assert_non_null(table);
  assert_text(table, "format", "qevo-gpu latency 1");
  assert_text(table, "model", "mlp");
  assert_text(table, "backend", "cpu");
  assert_true(number(table, "base_us") > 0);
  int rows = 0, base = 0;
  const cJSON *row;
  cJSON_ArrayForEach(row, cJSON_GetObjectItem(table, "layers")) {
    rows++;
    base += !(number(row, "us") < 0) && !(number(row, "us") > 0);
  }
  assert_int_equal(rows, 1 + 1 + 1 + 4 + 1 + 3); /* fc1: w8 and w2; fc2: w3a4 and four pairs; fc3: w8a8 and three */
  assert_true(base >= 3);
  cJSON_Delete(table);
}

static void latency_refusals(void **state) {
  (void)state;
  assert_run("latency " QUICK "-w 32 2>&1", 2, "--weight-bits and --act-bits must be 1 to 8");
  assert_run("latency " QUICK "--backend cpu,ref 2>&1", 2, "measures one backend, these are 2");
  assert_run("latency " QUICK "--latency-bits 2,9 2>&1", 2, "--latency-bits");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_json),
      cmocka_unit_test(test_all),
      cmocka_unit_test(test_costs),
      cmocka_unit_test(test_table_and_notes),
      cmocka_unit_test(test_conv),
      cmocka_unit_test(test_population),
      cmocka_unit_test(test_notes_of_networks),
      cmocka_unit_test(test_serve),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(latency_table),
      cmocka_unit_test(latency_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
