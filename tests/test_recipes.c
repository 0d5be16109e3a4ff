/* Tests of the built-in recipes and of what is printed from the tables: lists, completions, manual pages, examples. */
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

static const char *text_of(const cJSON *object, const char *key) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(object, key));
  if (!text) fail_msg("no text %s", key);
  return text;
}

/* Every file of recipes/ is built in as it is, names a method, and begins with a summary of one line. */
static void test_list(void **state) {
  (void)state;
  assert_shell("qevo-gpu train --list --json", 0, "{\"methods\":[{\"name\":\"qat\"");
  cJSON *list = cJSON_Parse(out);
  const cJSON *recipe;
  int count = 0;
  cJSON_ArrayForEach(recipe, cJSON_GetObjectItem(list, "recipes")) {
    char command[256];
    const char *name = text_of(recipe, "name"), *summary = text_of(recipe, "summary");
    if (strlen(summary) > 110 || strlen(summary) < 20 || summary[strlen(summary) - 1] != '.')
      fail_msg("%s: the first line must be a sentence of up to 110 letters: %s", name, summary);
    if (!*text_of(recipe, "method")) fail_msg("%s names no method", name);
    snprintf(command, sizeof command, "cat " QE_SOURCE_DIR "/recipes/%s.yaml", name);
    assert_int_equal(shell(command), 0);
    assert_string_equal(out, text_of(recipe, "config"));
    count++;
  }
  cJSON_Delete(list);
  char command[256];
  snprintf(command, sizeof command, "test $(ls " QE_SOURCE_DIR "/recipes/*.yaml | wc -l) = %d", count);
  assert_int_equal(shell(command), 0);
  assert_shell("qevo-gpu train --list", 0, "\n  quickstart\n      qat: ");
}

/* Values of a recipe, of a config file over it, of the command line over both; what a recipe names is found from here.
 */
static void test_precedence(void **state) {
  (void)state;
  assert_int_equal(shell("printf 'epochs: 5\\nrate: 0.3\\n' >own.yaml"), 0);
  assert_shell("qevo-gpu train quickstart --config own.yaml --set rate=0.4 --data cifar10-subset --backend ref "
               "--dry-run 2>notes",
               0, "\nmethod: qat # recipe quickstart:");
  assert_non_null(strstr(out, "\nepochs: 5 # own.yaml:1\n"));
  assert_non_null(strstr(out, "\nrate: 0.4 # command line\n"));
  assert_non_null(strstr(out, "\nbatch: 128 # recipe quickstart:"));
  assert_non_null(strstr(out, "/models/resnet20-cifar10-float.safetensors"));
  assert_shell("cat notes", 0, "note: --init is /");
}

/* The method of a config file, the argument over it; a recipe as a file; beside a config file, its models are found. */
static void test_method(void **state) {
  (void)state;
  assert_int_equal(shell("mkdir -p deep/recipes deep/models && "
                         "cp " QE_SOURCE_DIR
                         "/models/resnet20-cifar10-float.safetensors deep/models/own.safetensors && "
                         "printf 'method: coevolution\\ninit: models/own.safetensors\\n' >deep/recipes/own.yaml"),
                   0);
  assert_shell("qevo-gpu train qat --config deep/recipes/own.yaml --data cifar10-subset --backend ref --dry-run 2>&1",
               0, "note: the method is qat, as the command line says; deep/recipes/own.yaml:1 has coevolution");
  assert_non_null(strstr(out, "/deep/models/own.safetensors\n"));
  assert_shell("qevo-gpu train deep/recipes/own.yaml --set method=qat --init '' --data cifar10-subset --backend ref "
               "--model mlp --float-epochs 0 --dry-run 2>&1",
               0, "\ninit: \"\" # command line\n");
}

/* A run remembers its method: it is resumed without it. */
static void test_resume(void **state) {
  (void)state;
  const char *run =
      "qevo-gpu train qat --model mlp --data cifar10-subset --threads 1 --float-epochs 0 --epochs 1 --out "
      "run >/dev/null 2>&1";
  assert_int_equal(shell(run), 0);
  assert_shell("qevo-gpu train --resume --out run --epochs 2 2>/dev/null", 0, "test accuracy: ");
  assert_shell("tail -n 1 run/metrics.jsonl", 0, "\"epoch\":2,\"epochs\":2");
}

/* A run with the captured models of another has that one's options, but for those given; and it is resumed as its own.
 */
static void test_averaged_again(void **state) {
  (void)state;
  assert_int_equal(shell("qevo-gpu train sqwa --model mlp --data cifar10-subset --threads 1 -w 2 --float-epochs 0 "
                         "--sqwa-captures 2 --cycle 1 --sqwa-fine-epochs 1 --out captured >/dev/null 2>&1"),
                   0);
  assert_shell("grep -c '\"row\":\"capture\"' captured/metrics.jsonl", 0, "2\n");
  assert_shell("qevo-gpu train --sqwa-from captured --captures 2 --out second 2>&1", 0, "re-quantised of 2: ");
  assert_shell("cat second/config.yaml", 0, "\ncycle: 1 # captured/config.yaml:");
  assert_shell("qevo-gpu train --resume --out second --set sqwa-fine-epochs=2 2>/dev/null", 0, "test accuracy: ");
  assert_shell("tail -n 2 second/metrics.jsonl", 0, "\"phase\":\"fine-tuning\",\"epoch\":2,\"epochs\":2");
  assert_shell("qevo-gpu train --sqwa-from nowhere --out third 2>&1", 2,
               "--sqwa-from nowhere: it has no config.yaml; name the folder of a run of sqwa");
  assert_shell("qevo-gpu train sqwa --sqwa-from nowhere --model mlp --data cifar10-subset --out third 2>&1", 2,
               "nowhere/capture-01.safetensors: cannot open");
}

/* ---- printed from the tables ---- */

static const char *const commands[] = {"train", "eval", "export", "inspect", "bench", "devices", "completion", "man"};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int occurrences(const char *text) {
  int count = 0;
  for (const char *at = out; (at = strstr(at, text)); at += strlen(text)) count++;
  return count;
}

static void test_examples(void **state) {
  (void)state;
  char command[64], example[64];
  for (int i = 0; i < COMMANDS; i++) {
    snprintf(command, sizeof command, "qevo-gpu %s --help", commands[i]);
    snprintf(example, sizeof example, "\n  qevo-gpu %s ", commands[i]);
    assert_shell(command, 0, "\nexamples:\n  qevo-gpu ");
    if (occurrences(example) < 2) fail_msg("%s: fewer than two examples", commands[i]);
  }
}

static void test_man(void **state) {
  (void)state;
  char command[128];
  assert_shell("qevo-gpu man", 0, ".TH QEVO\\-GPU 1 ");
  for (int i = 0; i < COMMANDS; i++) {
    snprintf(command, sizeof command, "qevo-gpu man %s", commands[i]);
    assert_shell(command, 0, ".SH EXAMPLES\n");
    /* What follows are macros or text lines that roff does not take for macros. */
    for (const char *at = out; (at = strchr(at, '\n')); at++)
      if (at[1] == '\'') fail_msg("%s: a line begins with an apostrophe", commands[i]);
    snprintf(command, sizeof command,
             "! command -v groff >/dev/null || qevo-gpu man %s | groff -ww -man -Tutf8 2>&1 >/dev/null", commands[i]);
    assert_int_equal(shell(command), 0);
    assert_string_equal(out, "");
  }
  assert_shell("qevo-gpu man train", 0, "\\fB\\-w\\fR, \\fB\\-\\-weight\\-bits\\fR \\fIBITS\\fR\n");
}

/* Completions of a line of words, by the shell's own means. */
static void bash_offers(const char *words, const char *expected) {
  char command[1024];
  snprintf(command, sizeof command,
           "bash -c 'source <(qevo-gpu completion bash); COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); "
           "_qevo_gpu 2>/dev/null; echo \"${COMPREPLY[*]}\"'",
           words);
  assert_shell(command, 0, expected);
}

static void test_bash(void **state) {
  (void)state;
  bash_offers("qevo-gpu tr", "train\n");
  bash_offers("qevo-gpu train quick", "quickstart\n");
  bash_offers("qevo-gpu train --weight-q", "--weight-quantizer\n");
  bash_offers("qevo-gpu train --optimizer \"\"", "sgd adam\n");
  bash_offers("qevo-gpu train --optimizer = a", "adam\n");
  bash_offers("qevo-gpu train -m resnet11", "resnet110\n");
  bash_offers("qevo-gpu train --no-fl", "--no-flip\n");
  bash_offers("qevo-gpu bench pop", "population\n");
  bash_offers("qevo-gpu data g", "get\n");
  bash_offers("qevo-gpu data info fash", "fashion-mnist\n");
  bash_offers("qevo-gpu eval --out", "\n"); /* not its option */
  bash_offers("qevo-gpu inspect deep/mod", "deep/models\n");
}

static void test_zsh_and_fish(void **state) {
  (void)state;
  assert_shell(
      "qevo-gpu completion zsh >_qevo-gpu; ! command -v zsh >/dev/null || zsh -n _qevo-gpu; head -n 1 _qevo-gpu", 0,
      "#compdef qevo-gpu\n");
  assert_shell("qevo-gpu completion fish >own.fish; ! command -v fish >/dev/null || fish -n own.fish; cat own.fish", 0,
               "complete -c qevo-gpu -f\n");
  if (shell("command -v fish >/dev/null") != 0) return;
  assert_shell("fish -c 'source own.fish; complete -C \"qevo-gpu train --optimizer \"'", 0, "adam\t");
  assert_shell("fish -c 'source own.fish; complete -C \"qevo-gpu bench c\"'", 0, "conv");
}

/* ---- inspect ---- */

static void test_inspect(void **state) {
  (void)state;
  const char *model = "qevo-gpu inspect " QE_SOURCE_DIR "/models/resnet20-cifar10-w2a2-qat.safetensors";
  char command[512];
  assert_shell(model, 0, ": model, ");
  assert_non_null(strstr(out, "\n  weight_bits: 2\n"));
  assert_non_null(strstr(out, "\nstage1.0.conv1                2      2         2304      2359296"));
  assert_non_null(strstr(out, "-2 … 1 "));
  snprintf(command, sizeof command, "%s --json", model);
  assert_shell(command, 0, "{\"file\":");
  cJSON *object = cJSON_Parse(out);
  const cJSON *layer = cJSON_GetArrayItem(cJSON_GetObjectItem(object, "weights"), 1), *bin;
  assert_string_equal(text_of(layer, "layer"), "stage1.0.conv1");
  assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(layer, "histogram")), 4);
  int64_t sum = 0;
  cJSON_ArrayForEach(bin, cJSON_GetObjectItem(layer, "histogram")) sum += (int64_t)bin->valuedouble;
  assert_int_equal(sum, 2304);
  double entropy = cJSON_GetObjectItem(layer, "entropy_bits")->valuedouble;
  assert_true(entropy > 1 && entropy <= 2);

  /* Its integer network has the same codes. */
  char *codes = cJSON_Print(cJSON_GetObjectItem(layer, "histogram"));
  assert_int_equal(shell("qevo-gpu export " QE_SOURCE_DIR "/models/resnet20-cifar10-w2a2-qat.safetensors --out "
                         "own.network >/dev/null"),
                   0);
  assert_shell("qevo-gpu inspect own.network --json", 0, "\"kind\":\"integer network\"");
  cJSON *network = cJSON_Parse(out);
  layer = cJSON_GetArrayItem(cJSON_GetObjectItem(network, "weights"), 1);
  char *same = cJSON_Print(cJSON_GetObjectItem(layer, "histogram"));
  assert_string_equal(codes, same);
  free(codes);
  free(same);
  cJSON_Delete(network);
  cJSON_Delete(object);
  assert_shell("qevo-gpu inspect run/checkpoint.safetensors", 0, ": checkpoint of a training run, ");
  assert_int_equal(
      shell("qevo-gpu train coevolution --model mlp --data cifar10-subset --threads 1 --stages eda --budget "
            "1000 --out search >/dev/null 2>&1"),
      0);
  assert_shell("qevo-gpu inspect search/checkpoint.safetensors", 0, ": checkpoint of a search, ");
  assert_non_null(strstr(out, "\nrequantisers "));
  assert_null(strstr(out, "network.layers"));
}

/* A file of somebody else's: its tensors. */
static void test_inspect_plain(void **state) {
  (void)state;
  const char *header = "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}";
  assert_int_equal(strlen(header), 63);
  char command[512];
  snprintf(command, sizeof command, "printf '\\077\\0\\0\\0\\0\\0\\0\\0%s\\0\\0\\200\\277\\0\\0\\0\\100' >plain",
           header);
  assert_int_equal(shell(command), 0);
  assert_shell("qevo-gpu inspect plain", 0, "plain: tensors, 79 bytes, 1 tensors\n");
  assert_non_null(strstr(out, "[1,2] 8 bytes, -1 … 2\n"));
  assert_shell("qevo-gpu inspect plain --json", 0, "\"shape\":[1,2],\"bytes\":8,\"least\":-1,\"largest\":2}");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_list),          cmocka_unit_test(test_precedence),
      cmocka_unit_test(test_method),        cmocka_unit_test(test_averaged_again),
      cmocka_unit_test(test_resume),        cmocka_unit_test(test_examples),
      cmocka_unit_test(test_man),           cmocka_unit_test(test_bash),
      cmocka_unit_test(test_zsh_and_fish),  cmocka_unit_test(test_inspect),
      cmocka_unit_test(test_inspect_plain),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
