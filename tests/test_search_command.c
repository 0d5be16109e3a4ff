/* train with variables, from outside: plans, trials, what is kept, resuming, failures, pipelines, wrong turns. */
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
#include <unistd.h>

#define HEAD                                                                                                           \
  "model: mlp\ndata: cifar10-subset\nthreads: 1\nbackend: cpu\nweight-bits: 32\nact-bits: 32\nepochs: 1\nmethod: "     \
  "qat\n"
#define SEARCH                                                                                                         \
  "search:\n  variables:\n    rate: {from: 0.002, to: 0.2, scale: log}\n    batch: {choices: [64, 128], ordered: "     \
  "true}"                                                                                                              \
  "\n  trials: 6\n  population: 4\n"

/* What of two journals may differ is the clock's. */
#define SAME_JOURNALS(a, b)                                                                                            \
  "for r in " a " " b                                                                                                  \
  "; do sed 's/,\"seconds\":[0-9.e+-]*//' $r/trials.jsonl >$r.journal; sed 's/ # .*//; /^save-steps/d' "               \
  "$r/best.yaml >$r.best; done; cmp " a ".journal " b ".journal && cmp " a "/best.safetensors " b                      \
  "/best.safetensors && cmp " a ".best " b ".best && echo same"

/* As text it is a recipe that gives the same search; nothing is written. */
static void test_plan(void **state) {
  (void)state;
  assert_shell("qevo-gpu train s.yaml --dry-run >plan.yaml && cat plan.yaml", 0,
               "\n# search: up to 6 trials by cma; held-out 100; best by loss\n#   rate  ");
  assert_non_null(strstr(out, "\nrate: 0.02 # start of the search\n"));
  assert_non_null(strstr(out, "\n# time of 6 trials as long as the one at the start: about "));
  assert_non_null(strstr(out, "\n# nothing was trained (--dry-run)\n"));
  assert_shell("qevo-gpu train plan.yaml --dry-run | grep -v '^#' | sed 's/ #.*//' >again; grep -v '^#' plan.yaml | "
               "sed 's/ #.*//' | diff - again && echo same",
               0, "same\n");
  assert_shell("qevo-gpu train s.yaml --dry-run --json --search-trials 7", 0,
               "{\"search\":{\"variables\":[{\"name\":\"rate\"");
  assert_non_null(strstr(out, "\"searcher\":\"cma\",\"trials\":7,\"held_out\":100}"));
  assert_shell("ls", 0, "again\nplan.yaml\ns.yaml\n");
}

/* The best trial's model and recipe lie in the folder, and the recipe gives the model again. */
static void test_run(void **state) {
  (void)state;
  assert_shell("qevo-gpu train s.yaml --out run --json 2>notes", 0,
               "{\"trials\":[{\"trial\":1,\"values\":{\"rate\":\"0.02\"");
  cJSON *result = cJSON_Parse(out);
  const cJSON *trials = cJSON_GetObjectItem(result, "trials"), *trial;
  int best = cJSON_GetObjectItem(result, "best")->valueint;
  double least = cJSON_GetObjectItem(cJSON_GetArrayItem(trials, best - 1), "loss")->valuedouble;
  assert_int_equal(cJSON_GetArraySize(trials), 6);
  cJSON_ArrayForEach(trial, trials) assert_true(cJSON_GetObjectItem(trial, "loss")->valuedouble >= least);
  assert_true(cJSON_GetObjectItem(result, "images")->valueint == 500); /* of the test images, which choose nothing */
  cJSON_Delete(result);
  assert_shell("cat notes", 0, "trial 6 of 6: rate ");
  assert_shell("qevo-gpu train run/best.yaml --out yet >/dev/null 2>&1; cmp yet/best.safetensors run/best.safetensors "
               "&& echo same; find run -name '*.safetensors' | wc -l; cat run/state.json",
               0, "same\n5\n{\"state\":\"finished\"}"); /* two copies, and the best trial's three */
  assert_shell("grep -o 'Each trial is a run\\|best so far' run/report.html | sort -u; qevo-gpu report run --json "
               "--no-evaluate",
               0, "Each trial is a run\nbest so far\n{\"out\":\"run/report.html\",\"search\":{\"name\":\"run\"");
}

/* Killed in the middle of a trial, and once more: the same trials and the same best as undisturbed. */
static void test_killed(void **state) {
  (void)state;
  static const char *const kill_in =
      "qevo-gpu train %s --save-steps 2 --out killed >/dev/null 2>&1 & "
      "while ! [ -s killed/trial-%03d/checkpoint.safetensors ]; do sleep 0.02; kill -0 $! || break; done; kill -9 $!; "
      "wait $! 2>/dev/null; wc -l <killed/trials.jsonl";
  char command[512];
  snprintf(command, sizeof command, kill_in, "s.yaml", 2);
  assert_shell(command, 0, "1\n");
  snprintf(command, sizeof command, kill_in, "--resume", 4);
  assert_shell(command, 0, "3\n");
  assert_shell("qevo-gpu report killed --no-evaluate --json", 0, "\"state\":\"killed\",\"trials\":3");
  assert_shell("qevo-gpu train --resume --out killed >/dev/null 2>&1; " SAME_JOURNALS("run", "killed"), 0, "same\n");
}

/* Ctrl-C ends it with a checkpoint; a finished search goes on to more trials; others than they were it refuses. */
static void test_resume(void **state) {
  (void)state;
  assert_int_equal(
      shell("qevo-gpu train s.yaml --set search.trials=2 --set epochs=40 --out stopped 2>notes & while ! [ -s "
            "stopped/trial-001/metrics.jsonl ]; do sleep 0.02; kill -0 $! || break; done; kill -INT $!; "
            "wait $!"),
      130);
  assert_shell("cat notes stopped/state.json", 0, "go on with --resume --out stopped\n{\"state\":\"interrupted\"");
  assert_shell("qevo-gpu train --resume --out stopped --epochs 2 2>&1", 2,
               "stopped: its trials were trained with 'epochs: 40', now it would be 'epochs: 2'");
  assert_shell("qevo-gpu train --resume --out run --search-trials 7 --threads 2 2>&1", 0, "trial 7 of 7: rate ");
  assert_shell("wc -l <run/trials.jsonl; sed -i s/cma/random/ run/search.json; qevo-gpu train --resume --out run 2>&1; "
               "sed -i s/random/cma/ run/search.json",
               0, "7\nqevo-gpu train: run: the search there has other variables");
  assert_shell("qevo-gpu train s.yaml --out run 2>&1", 2, "run holds a search already: add --resume");
  assert_shell("qevo-gpu train qat --model mlp --data cifar10-subset --out run 2>&1", 2,
               "run holds a search, this would be a run of one method");
  assert_shell("qevo-gpu train s.yaml --out yet 2>&1", 2, "yet holds a run of one method, not a search");
}

/* A trial that diverges is noted; the search fails when all do. */
static void test_failures(void **state) {
  (void)state;
  write_file("f.yaml", HEAD "search: {variables: {rate: [0.02, 1e20]}, searcher: random}\n");
  assert_shell("qevo-gpu train f.yaml --out failed 2>&1", 0, "trial 2: failed: training diverged in epoch 1");
  assert_non_null(strstr(out, "note: the search is over after 2 trials: the searcher proposes nothing new\n"));
  assert_non_null(strstr(out, "\nbest: trial 1, rate 0.02\n"));
  write_file("f.yaml", HEAD "search: {variables: {rate: [1e20, 1e21]}, searcher: random}\n");
  assert_shell("qevo-gpu train f.yaml --out all 2>&1", 1, "none of the 2 trials came to a result; the last: training");
  assert_shell("cat all/state.json", 0, "{\"state\":\"failed\"");
}

/* Variables of steps and of items of lists, several objectives: the front's models stay. */
static void test_pipeline(void **state) {
  (void)state;
  write_file("p.yaml", HEAD "pipeline:\n  - name: float\n  - name: low\n    weight-bits: 4\n    act-bits: 4\n"
                            "search:\n  variables:\n    low.rate: {from: 0.005, to: 0.05}\n"
                            "    low.layer-bits[fc2]: [w2a4, w8a4]\n"
                            "  trials: 4\n  searcher: pareto\n  population: 4\n  objective: bytes,loss\n");
  assert_shell("qevo-gpu train p.yaml --out p 2>/dev/null", 0, "low.layer-bits[fc2]\n");
  assert_non_null(strstr(out, "; +: none is better in all objectives\n"));
  assert_shell("grep -h 'layer-bits:' p/best.yaml p/trial-001/2-low/config.yaml; grep -c 'search' p/best.yaml; "
               "cut -c 1-40 p/trial-001/pipeline.json",
               0, "layer-bits: fc2=w2a4 # trial ");
  assert_non_null(strstr(out, "{\"steps\":[{\"name\":\"float\""));
  assert_shell("grep '<h1>' p/report.html; qevo-gpu report p --no-evaluate --json", 0, "<h1>p/trial-00");
  assert_non_null(strstr(out, "\"pipeline\":{\"name\":\"p/trial-00"));
}

static void test_wrong_turns(void **state) {
  (void)state;
  char text[1024];
  const struct {
    const char *variables, *message;
  } cases[] = {
      {"rat: [1, 2]", "bad.yaml:9: search.variables.rat: no such option; did you mean rate?"},
      {"rate: {from: -1, to: 2}", "search.variables.rate -1: must be at least 0 or auto"},
      {"rate: {from: low, to: 2}", "search.variables.rate.from low: must be a number"},
      {"rate: {from: 3, to: 2}", "search.variables.rate: from 3 to 2: must rise"},
      {"rate: {from: 0, to: 2, scale: log}", "from 0: a logarithmic scale needs numbers above 0"},
      {"rate: {from: 1, to: 2, scale: ln}", "search.variables.rate.scale ln: must be linear or log"},
      {"rate: {form: 1, to: 2}", "search.variables.rate.form: no such key; did you mean from?"},
      {"rate: {from: 1, to: 2, start: 3}", "search.variables.rate.start 3: is none of the variable's values"},
      {"rate: [1]", "choices must be a list of at least two values"},
      {"rate: [1, 1]", "the choice 1 stands there twice"},
      {"rate: 1", "must be {from: …, to: …} or a list of choices"},
      {"batch: {from: 1.5, to: 2}", "must be whole numbers"},
      {"weight-quantizer: [lsq, lqs]", "search.variables.weight-quantizer lqs: must be lsq, dorefa"},
      {"weight-quantizer: {from: 1, to: 2}", "weight-quantizer is no number: it needs choices"},
      {"init: [gone, away]", "search.variables.init: gone: no such file"},
      {"seed: [1, 2]", "trials are compared on the same held-out images"},
      {"out: [a, b]", "search.variables.out: says nothing about what a trial computes"},
      {"low.rate: [1, 2]", "there is no step low: this is no pipeline"},
      {"rate[a]: [1, 2]", "rate is no list of NAME=VALUE"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    snprintf(text, sizeof text, HEAD "search: {variables: {\"%.*s\"%s}}\n", (int)strcspn(cases[i].variables, ":"),
             cases[i].variables, strchr(cases[i].variables, ':'));
    write_file("bad.yaml", text);
    assert_shell("qevo-gpu train bad.yaml --out bad 2>&1; code=$?; test ! -e bad || echo left; exit $code", 2,
                 cases[i].message);
    if (strstr(out, "left")) fail_msg("%s: a folder is left over", cases[i].message);
  }
  write_file("bad.yaml", HEAD SEARCH "pipeline:\n  - held-out: 10\n  - name: low\n");
  assert_shell("qevo-gpu train bad.yaml --out bad 2>&1", 2, "step 1, qat: held-out: a search compares its trials on");
  assert_shell("qevo-gpu train s.yaml --out bad --search-trials 0 2>&1", 2, "--search-trials 0: must be 1");
  assert_shell("qevo-gpu train s.yaml --out bad --held-out 0 2>&1", 2, "never on the test images");
  assert_shell("qevo-gpu train s.yaml --out bad --search-objective loss,top5 2>&1", 2, "'top5' is none");
  assert_shell("qevo-gpu train s.yaml --out bad --search-objective loss,bytes 2>&1", 2, "takes one objective, not 2");
  assert_shell("qevo-gpu train s.yaml --out bad --search-searcher cmaes 2>&1", 2, "did you mean cma?");
  assert_shell("qevo-gpu train s.yaml 2>&1", 2, "say where by --out FOLDER");
  assert_shell("qevo-gpu train qat --search-trials 3 2>&1", 2, "there are no variables to search");
  assert_shell("qevo-gpu train s.yaml --set search.trails=3 2>&1", 2, "--set search.trails: no such option");
}

static int prepare(void **state) {
  if (make_folder(state) != 0) return -1;
  write_file("s.yaml", HEAD SEARCH);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_plan),        cmocka_unit_test(test_run),      cmocka_unit_test(test_killed),
      cmocka_unit_test(test_resume),      cmocka_unit_test(test_failures), cmocka_unit_test(test_pipeline),
      cmocka_unit_test(test_wrong_turns),
  };
  return cmocka_run_group_tests(tests, prepare, remove_folder);
}
