/* Tests of `train --dry-run`: that its memory is what a run takes, its config a config, and that nothing is made. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT = 1 << 16, WORDS = 48 };
static char out[OUTPUT], folder[] = "/tmp/qevo-plan-XXXXXX";

/* Run `qevo-gpu train` with the words of `text` in the folder, without a shell; its standard output goes to `out`, its
 * peak of resident memory in MiB is returned. */
static double train(const char *text) {
  char copy[1024], *words[WORDS] = {(char *)(uintptr_t) "qevo-gpu", (char *)(uintptr_t) "train"}, path[64],
                   *rest = NULL;
  int count = 2, status = 0;
  snprintf(copy, sizeof copy, "%s", text);
  for (char *word = strtok_r(copy, " ", &rest); word && count < WORDS - 1; word = strtok_r(NULL, " ", &rest))
    words[count++] = word;
  snprintf(path, sizeof path, "%s/output", folder);
  pid_t child = fork();
  if (child == 0) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666), null = open("/dev/null", O_WRONLY);
    bool ready = dup2(file, 1) == 1 && dup2(null, 2) == 2 && chdir(folder) == 0;
    if (ready) execv(QE_BINARY_DIR "/qevo-gpu", words);
    _exit(99);
  }
  assert_true(child > 0);
  struct rusage usage;
  assert_int_equal(wait4(child, &status, 0, &usage), child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail_msg("train %s: status %d", text, status);
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  out[fread(out, 1, OUTPUT - 1, file)] = 0;
  (void)fclose(file);
  return (double)usage.ru_maxrss / 1024;
}

static double number(const cJSON *object, const char *key) {
  const cJSON *item = cJSON_GetObjectItem(object, key);
  if (!cJSON_IsNumber(item)) fail_msg("no number %s in %s", key, out);
  return item->valuedouble;
}

/* What the plan says and what a run takes, MiB. */
static void compare(const char *run) {
  char text[1024];
  snprintf(text, sizeof text, "%s --dry-run --json", run);
  (void)train(text);
  cJSON *plan = cJSON_Parse(out);
  double planned = number(plan, "host_bytes") / (1 << 20);
  cJSON_Delete(plan);
  double taken = train(run);
  if (planned < 0.85 * taken || planned > 1.2 * taken)
    fail_msg("train %s: planned %.0f MiB, took %.0f MiB", run, planned, taken);
}

#define COMMON "--data cifar10-subset --backend cpu --threads 1 "

static void test_memory(void **state) {
  (void)state;
#ifdef __SANITIZE_ADDRESS__
  skip(); /* freed memory stays resident there */
#endif
  compare("qat --model mlp --float-epochs 1 --epochs 1 --out mlp " COMMON);
  compare("qat --model resnet8 --float-epochs 1 --epochs 1 --batch 256 --out big " COMMON);
  compare("qat --model resnet8 --float-epochs 0 --epochs 1 --batch 32 --optimizer adam --ema 0.9 --out adam " COMMON);
  compare(
      "sqwa --model resnet8 -w 2 --float-epochs 0 --cycle 1 --sqwa-captures 2 --sqwa-fine-epochs 1 --out sqwa " COMMON);
  compare("progressive --model resnet8 -w 2 -a 2 --float-epochs 0 --epochs 3 --stochastic block --out bits " COMMON);
  compare("coevolution --model mlp --stages eda --budget 200000 --out eda " COMMON);
}

/* The parts are what they are made of; a larger batch takes more for activations and nothing else. */
static void test_parts(void **state) {
  (void)state;
  double activations[2], parameters[2];
  for (int i = 0; i < 2; i++) {
    (void)train(i ? "qat --model resnet8 --float-epochs 0 --batch 128 --dry-run --json " COMMON
                  : "qat --model resnet8 --float-epochs 0 --batch 32 --dry-run --json " COMMON);
    cJSON *plan = cJSON_Parse(out);
    const cJSON *phases = cJSON_GetObjectItem(plan, "phases");
    assert_int_equal(cJSON_GetArraySize(phases), 1);
    const cJSON *device = cJSON_GetObjectItem(cJSON_GetArrayItem(phases, 0), "device_bytes");
    activations[i] = number(device, "activations");
    parameters[i] = number(device, "parameters");
    assert_true(parameters[i] >= 4 * number(plan, "params"));
    assert_true(number(device, "data") == 1500.0 * 32 * 32 * 3);
    assert_true(number(device, "optimizer") == parameters[i]);
    assert_true(number(cJSON_GetArrayItem(phases, 0), "epoch_seconds") > 0);
    assert_true(number(cJSON_GetArrayItem(phases, 0), "epochs") == 15);
    cJSON_Delete(plan);
  }
  assert_true(parameters[0] == parameters[1]);
  assert_true(activations[1] > 3.5 * activations[0] && activations[1] < 4.5 * activations[0]);
}

/* As text it is a config file: the same options, and the same plan but for its times. */
static void test_text_is_a_config(void **state) {
  (void)state;
  (void)train("qat --model mlp --epochs 7 --dry-run " COMMON);
  assert_non_null(strstr(out, "\nmethod: qat # command line\n"));
  assert_non_null(strstr(out, "\nepochs: 7 # command line\n"));
  assert_non_null(strstr(out, "\n# memory of float, MiB\n"));
  assert_non_null(strstr(out, "an estimate from"));
  char path[64], text[256];
  snprintf(path, sizeof path, "%s/again.yaml", folder);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(out, file);
  assert_int_equal(fclose(file), 0);
  snprintf(text, sizeof text, "%s --dry-run", path);
  (void)train(text);
  assert_non_null(strstr(out, "\nepochs: 7 # "));
  assert_non_null(strstr(out, "# plan: qat of mlp at 4-bit weights"));
  snprintf(path, sizeof path, "%s/runs", folder);
  (void)train("qat --model mlp --dry-run --out runs " COMMON);
  assert_int_equal(access(path, F_OK), -1);
}

/* The reference backend is slow: its memory is told, its time is not. */
static void test_reference(void **state) {
  (void)state;
  (void)train("qat --model mlp --float-epochs 0 --dry-run --data cifar10-subset --backend ref");
  assert_non_null(strstr(out, "# memory of qat, MiB\n"));
  assert_non_null(strstr(out, "# time of qat: not estimated"));
}

static int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
  (void)state;
  char command[64];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  return system(command);
}

int main(void) {
  if (access(QE_BINARY_DIR "/qevo/libqevo-cpu.so", F_OK) != 0) {
    puts("skipped: there is no backend cpu here");
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_memory),
      cmocka_unit_test(test_parts),
      cmocka_unit_test(test_text_is_a_config),
      cmocka_unit_test(test_reference),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
