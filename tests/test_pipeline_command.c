/* train with a pipeline, from outside: plans, runs, results, resuming, reports, and wrong turns, each with its cure. */
#include "tests/shell_folder.h"

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

/* Full precision, four bits, and a search that learns from the first step. */
#define HEAD                                                                                                           \
  "model: mlp\ndata: cifar10-subset\nheld-out: 100\nthreads: 1\nbackend: cpu\npipeline:\n"                             \
  "  - name: float\n    method: qat\n    weight-bits: 32\n    act-bits: 32\n    epochs: 2\n"                           \
  "  - method: qat\n    epochs: 1\n"
#define POLISH                                                                                                         \
  "  - name: polish\n    method: coevolution\n    stages: votes\n    budget: 6000\n    teacher: step:float\n"          \
  "    fitness: teacher\n"

static double number(const cJSON *object, const char *key) {
  const cJSON *item = cJSON_GetObjectItem(object, key);
  if (!cJSON_IsNumber(item)) fail_msg("no number %s", key);
  return item->valuedouble;
}

/* As text it is a config file that gives the same steps; nothing is written. */
static void test_plan(void **state) {
  (void)state;
  assert_shell("qevo-gpu train p.yaml --dry-run >plan.yaml && cat plan.yaml", 0,
               "\n# step 3, polish\n# plan: coevolution of ");
  assert_non_null(strstr(out, "\npipeline:\n  - name: \"float\"\n    weight-bits: 32 # p.yaml:9\n"));
  assert_non_null(strstr(out, "\n    teacher: \"step:float\" # p.yaml:18\n"));
  assert_non_null(strstr(out, "\n# time of all 3 steps: about "));
  assert_non_null(strstr(out, "\n# nothing was trained (--dry-run)\n"));
  assert_shell("qevo-gpu train plan.yaml --dry-run | grep -v '^#' | sed 's/ #.*//' >again; grep -v '^#' plan.yaml | "
               "sed 's/ #.*//' | diff - again && echo same",
               0, "same\n");
  assert_shell("qevo-gpu train p.yaml --dry-run --json --set 2.epochs=4", 0, "{\"steps\":[{\"step\":\"step 1, float\"");
  cJSON *plan = cJSON_Parse(out);
  const cJSON *second = cJSON_GetArrayItem(cJSON_GetObjectItem(plan, "steps"), 1),
              *phases = cJSON_GetObjectItem(second, "phases");
  assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(plan, "steps")), 3);
  assert_int_equal(cJSON_GetArraySize(phases), 1); /* from the first step's model: no full-precision training */
  assert_true(number(cJSON_GetArrayItem(phases, 0), "epochs") == 4);
  assert_true(number(plan, "seconds") > 0);
  cJSON_Delete(plan);
  assert_shell(
      "mkdir temporary && TMPDIR=$PWD/temporary qevo-gpu train p.yaml --dry-run >/dev/null && ls -A temporary; "
      "ls -d run 2>/dev/null; echo nothing else",
      0, "nothing else\n");
  if (strcmp(out, "nothing else\n") != 0) fail_msg("left over: %s", out);
}

static double top1(const cJSON *result, int step, const char *key) {
  return number(cJSON_GetArrayItem(cJSON_GetObjectItem(result, "steps"), step), key);
}

/* Each step is a run from the last one's model, and the result is the last one's. */
static void test_run(void **state) {
  (void)state;
  assert_shell("qevo-gpu train p.yaml --out run --json 2>notes", 0, "{\"steps\":[{\"name\":\"float\"");
  cJSON *result = cJSON_Parse(out);
  assert_true(number(result, "top1") == top1(result, 2, "top1"));
  assert_true(top1(result, 1, "start_top1") > 20); /* what the first step has learnt; chance is 10 */
  assert_true(top1(result, 2, "start_top1") == top1(result, 1, "integer_top1"));
  assert_shell("cat notes", 0, "step 2 of 3, qat: qat, into run/2-qat\n");
  assert_shell("cat run/2-qat/config.yaml", 0, "\ninit: run/1-float/best.safetensors # step 1, float\n");
  assert_shell("cat run/3-polish/config.yaml", 0, "\nteacher: run/1-float/best.safetensors # step 1, float\n");
  assert_shell("cat run/state.json", 0, "\"finished\"");
  assert_shell("cmp run/best.safetensors run/3-polish/best.safetensors && qevo-gpu eval run/best.safetensors "
               "--data cifar10-subset --threads 1 --json",
               0, "\"integer\":true");
  cJSON *evaluated = cJSON_Parse(out);
  assert_true(number(evaluated, "top1") == number(result, "top1"));
  cJSON_Delete(evaluated);
  cJSON_Delete(result);
}

/* Finished steps stay; what is given too late for them is said; a step can be added. */
static void test_resume(void **state) {
  (void)state;
  assert_shell("cp run/3-polish/best.safetensors before && qevo-gpu train --resume --out run --set qat.epochs=3 2>&1",
               0, "note: step 2, qat, has finished with epochs 1: 3 comes too late for it\n");
  assert_non_null(strstr(out, "step 3 of 3, polish: finished before\n"));
  assert_non_null(strstr(out, "  1  float                qat "));
  assert_shell("cmp before run/best.safetensors && echo same", 0, "same");
  write_file("more.yaml",
             HEAD POLISH "  - name: branch\n    method: qat\n    init: step:qat/last.safetensors\n    epochs: 1\n");
  assert_shell("qevo-gpu train --resume --config more.yaml --out run 2>&1", 0, "  4  branch ");
  assert_shell("cat run/4-branch/config.yaml", 0, "\ninit: run/2-qat/last.safetensors # step 2, qat\n");
  assert_shell("qevo-gpu inspect run/best.safetensors", 0, ": model, ");
}

/* SIGINT in the second step: exit code 130 and the folder to resume; then the same result as undisturbed. */
static void test_stop(void **state) {
  (void)state;
  static const char *const stop =
      "qevo-gpu train p.yaml --set qat.epochs=12 --out stopped 2>notes & "
      "while ! [ -s stopped/2-qat/metrics.jsonl ]; do sleep 0.05; kill -0 $! || break; done; kill -INT $!; wait $!";
  assert_int_equal(shell(stop), 130);
  assert_shell("cat notes", 0, "go on with --resume --out stopped\n");
  assert_shell("cat stopped/state.json", 0, "\"interrupted\"");
  assert_shell("qevo-gpu report stopped --no-evaluate --json", 0, "\"state\":\"interrupted\",\"steps\":3}");
  assert_shell("qevo-gpu train --resume --out stopped >/dev/null 2>&1; qevo-gpu train p.yaml --set qat.epochs=12 --out "
               "through >/dev/null 2>&1; cmp stopped/best.safetensors through/best.safetensors && echo same",
               0, "same\n");
}

static int occurrences(const char *text) {
  int count = 0;
  for (const char *at = out; (at = strstr(at, text)); at += strlen(text)) count++;
  return count;
}

static void test_report(void **state) {
  (void)state;
  assert_shell("grep -A 3 '<h1>' through/report.html; grep -o 'Accuracy through all steps\\|<details class=.run.[^>]*' "
               "through/report.html",
               0, "A pipeline of <b>3 steps</b>: float, then qat, then polish.");
  assert_non_null(strstr(out, "Accuracy through all steps"));
  assert_null(strstr(out, "running"));
  assert_int_equal(occurrences("<details class=\"run\""), 3);
  assert_int_equal(occurrences("<details class=\"run\" open"), 1);
  assert_shell("qevo-gpu report through --no-evaluate --json --out r.html", 0,
               "\"pipeline\":{\"name\":\"through\",\"path\":\"through\",\"state\":\"finished\",\"steps\":3},\"runs\":[{"
               "\"name\":\"1-float\"");
  assert_shell("qevo-gpu report through run --no-evaluate --json --out r.html", 0, "\"name\":\"through/2-qat\"");
  assert_null(strstr(out, "\"pipeline\""));
}

static void test_list(void **state) {
  (void)state;
  assert_shell("qevo-gpu train --list", 0, "\n      pipeline of qat, then coevolution: ");
  assert_shell("qevo-gpu train --list --json", 0, "\"method\":\"pipeline\",\"steps\":\"qat, then coevolution\"");
}

static void expect_refusal(const char *steps, const char *arguments, const char *message) {
  char command[512];
  write_file("bad.yaml", steps);
  snprintf(command, sizeof command,
           "qevo-gpu train bad.yaml --out bad %s 2>&1; code=$?; test ! -e bad || echo left; exit $code", arguments);
  assert_shell(command, 2, message);
  if (strstr(out, "left")) fail_msg("%s: a folder is left over", message);
}

/* Everything that can be known is known before anything is trained or written. */
static void test_wrong_turns(void **state) {
  (void)state;
  static const char common[] = "model: mlp\ndata: cifar10-subset\nthreads: 1\npipeline:\n";
  char text[1024];
  const struct {
    const char *steps, *message;
  } cases[] = {
      {"  - method: coevolution\n  - method: qat\n",
       "step 2, qat: the method qat cannot start from step 1, coevolution, which leaves an integer network"},
      {"  - method: qat\n    epocs: 1\n", "bad.yaml:6: epocs: no such key; did you mean epochs?"},
      {"  - method: qat\n  - method: qatt\n", "bad.yaml:6: step 2, qatt: no method or recipe is called 'qatt'"},
      {"  - epochs: 1\n", "step 1 of the pipeline names no method"},
      {"  - method: qat\n  - method: qat\n    model: resnet8\n", "step 2, qat: step 1, qat is a mlp with shortcut "},
      {"  - method: qat\n    act-bits: 32\n  - method: coevolution\n", "step 2, coevolution: step 1, qat: "},
      {"  - method: qat\n  - method: qat\n    init: bad.yaml\n", "bad.yaml:7: init bad.yaml: a step starts from"},
      {"  - method: qat\n    init: step:1\n", "init: step 1 is not before this one"},
      {"  - method: qat\n  - method: coevolution\n    teacher: gone\n", "bad.yaml:7: teacher: no file gone"},
      {"  - method: qat\n  - method: qat\n    data: cifar1\n", "step 2, qat: "},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    snprintf(text, sizeof text, "%s%s", common, cases[i].steps);
    expect_refusal(text, "", cases[i].message);
  }
  snprintf(text, sizeof text, "%s  - method: qat\n", common);
  expect_refusal(text, "--set 2.epochs=1", "--set 2.epochs: there is no step 2; the steps are 1 qat");
  expect_refusal(text, "--find-rate", "--find-rate: is of one method");
  expect_refusal(text, "--epochs 0", "step 1, qat: --epochs 0: must be at least 1");
  assert_shell("qevo-gpu train bad.yaml 2>&1", 2, "say where by --out FOLDER");
  assert_shell("qevo-gpu train qat --config bad.yaml --out bad 2>&1", 2,
               "METHOD qat: there is a pipeline in the config");
  assert_shell("qevo-gpu train p.yaml --out through 2>&1", 2, "through holds a pipeline already: add --resume");
  assert_shell("qevo-gpu train qat --model mlp --data cifar10-subset --out through 2>&1", 2,
               "through holds a pipeline, this would be a run of one method");
  assert_shell("qevo-gpu train p.yaml --out through/1-float 2>&1", 2, "holds a run of one method, not a pipeline");
}

static int prepare(void **state) {
  if (make_folder(state) != 0) return -1;
  write_file("p.yaml", HEAD POLISH);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_plan),        cmocka_unit_test(test_run),    cmocka_unit_test(test_resume),
      cmocka_unit_test(test_stop),        cmocka_unit_test(test_report), cmocka_unit_test(test_list),
      cmocka_unit_test(test_wrong_turns),
  };
  return cmocka_run_group_tests(tests, prepare, remove_folder);
}
