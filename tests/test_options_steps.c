/* Steps in config files: a list of mappings, what each step's options are, --set into them, and back to YAML. */
#include "core/base/alloc.h"
#include "core/base/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static const qe_option table[] = {
    {.name = "config", .type = QE_OPTION_PATH, .group = "General", .help = "file"},
    {.name = "set", .type = QE_OPTION_TEXT, .group = "General", .help = "one"},
    {.name = "epochs",
     .type = QE_OPTION_INT,
     .initial = "10",
     .range = {1, 100},
     .group = "Training",
     .help = "epochs"},
    {.name = "rate", .type = QE_OPTION_REAL, .initial = "0.1", .group = "Training", .help = "rate"},
    {.name = "flip", .type = QE_OPTION_FLAG, .initial = "true", .group = "Training", .help = "flip"},
    {.name = "milestones", .type = QE_OPTION_INTS, .initial = "", .group = "Training", .help = "milestones"},
    {.name = "init", .type = QE_OPTION_PATH, .group = "Training", .chained = true, .help = "start"},
    {.name = "method", .type = QE_OPTION_TEXT, .group = "Training", .help = "method"},
    {.name = "out", .type = QE_OPTION_PATH, .group = "Training", .transient = true, .help = "folder"},
    {.name = "pipeline", .type = QE_OPTION_STEPS, .group = "Training", .commands = "train", .help = "steps"},
};
enum { ROWS = sizeof table / sizeof *table };

static qe_options *options;

static int open_options(void **state) {
  (void)state;
  return qe_options_new(table, ROWS, "train", &options) == QE_OK ? 0 : -1;
}

static int close_options(void **state) {
  (void)state;
  qe_options_free(options);
  return 0;
}

static qe_status load(const char *text, qe_source source) {
  return qe_options_load_text(options, "p.yaml", text, strlen(text), source);
}

static qe_status parse(const char *a, const char *b) {
  char *const argv[] = {(char *)(uintptr_t)a, (char *)(uintptr_t)b};
  return qe_options_parse(options, b ? 2 : 1, argv);
}

#define OK(call) assert_int_equal(call, QE_OK)
#define FAILS(call, text)                                                                                              \
  do {                                                                                                                 \
    assert_int_equal(call, QE_USAGE);                                                                                  \
    if (!strstr(qe_message(), text)) fail_msg("'%s' lacks '%s'", qe_message(), text);                                  \
  } while (0)

static void expect(int step, const char *name, const char *value, const char *origin) {
  qe_options *of;
  OK(qe_options_step(options, step, &of));
  const char *text = qe_option_text(of, name);
  if (!value != !text || (value && strcmp(text, value) != 0))
    fail_msg("step %d: %s is %s, must be %s", step, name, text ? text : "unset", value ? value : "unset");
  if (origin) assert_string_equal(qe_option_origin(of, name), origin);
  qe_options_free(of);
}

static const char two[] = "epochs: 3\n"
                          "init: start\n"
                          "pipeline:\n"
                          "  - method: qat\n"
                          "    rate: 0.5\n"
                          "    milestones: [1, 2]\n"
                          "  - method: search\n"
                          "    name: polish\n"
                          "    epochs: 7\n"
                          "    flip: false\n"
                          "rate: 0.25\n";

static void steps_have_their_own_values(void **state) {
  (void)state;
  assert_int_equal(qe_options_steps(options), 0);
  OK(load(two, QE_FROM_RECIPE));
  assert_int_equal(qe_options_steps(options), 2);
  assert_string_equal(qe_options_step_name(options, 0), "qat");
  assert_string_equal(qe_options_step_name(options, 1), "polish");
  expect(0, "epochs", "3", "p.yaml:1");
  expect(0, "rate", "0.5", "p.yaml:5");
  expect(0, "milestones", "1,2", "p.yaml:6");
  expect(0, "init", "start", "p.yaml:2");
  expect(0, "flip", "true", "default");
  expect(1, "epochs", "7", "p.yaml:9");
  expect(1, "rate", "0.25", "p.yaml:11"); /* though it stands below the list */
  expect(1, "flip", "false", NULL);
  expect(1, "init", NULL, NULL); /* of the first step alone */
  assert_true(qe_options_step_says(options, 1, "flip"));
  assert_false(qe_options_step_says(options, 0, "flip"));
  assert_string_equal(qe_option_text(options, "epochs"), "3");
}

/* A later source wins; of the same one the step's own value. */
static void later_sources_win(void **state) {
  (void)state;
  OK(load("epochs: 20\n", QE_FROM_CONFIG));
  OK(parse("--set", "polish.rate=0.75"));
  OK(load(two, QE_FROM_RECIPE));
  OK(qe_options_check_steps(options));
  expect(0, "epochs", "20", NULL);
  expect(1, "epochs", "20", NULL);
  expect(1, "rate", "0.75", "command line");
  expect(0, "rate", "0.5", NULL);
  OK(parse("--rate", "0.125"));
  expect(0, "rate", "0.125", "command line");
  expect(1, "rate", "0.75", "command line"); /* the step's own, of the same source */
  OK(parse("--set", "1.epochs=5"));
  expect(0, "epochs", "5", "command line");
  expect(1, "epochs", "20", NULL);
}

/* A list takes the place of another as a whole. */
static void lists_replace_lists(void **state) {
  (void)state;
  OK(load("pipeline:\n  - method: only\n", QE_FROM_CONFIG));
  OK(load(two, QE_FROM_RECIPE)); /* of an earlier source: its steps are left out */
  assert_int_equal(qe_options_steps(options), 1);
  assert_string_equal(qe_options_step_name(options, 0), "only");
  expect(0, "epochs", "3", NULL);
  OK(load("pipeline:\n  - name: a\n  - {name: b, epochs: 4}\n  - name: c\n", QE_FROM_CONFIG));
  assert_int_equal(qe_options_steps(options), 3);
  expect(1, "epochs", "4", NULL);
  expect(0, "method", NULL, NULL);
}

static void mistakes_are_named(void **state) {
  (void)state;
  FAILS(load("pipeline:\n  - method: qat\n    epocs: 3\n", QE_FROM_RECIPE),
        "p.yaml:3: epocs: no such key; did you mean epochs?");
  FAILS(load("pipeline:\n  - epochs: 3\n    epochs: 4\n", QE_FROM_RECIPE), "p.yaml:3: epochs: already set on line 2");
  FAILS(load("pipeline:\n  - epochs: 300\n", QE_FROM_RECIPE), "p.yaml:2: epochs 300: must be 1…100");
  FAILS(load("pipeline: qat\n", QE_FROM_RECIPE), "p.yaml:1: pipeline qat: must be a list of steps");
  FAILS(load("pipeline: [qat]\n", QE_FROM_RECIPE), "p.yaml:1: pipeline: a step must be a mapping");
  FAILS(load("pipeline: []\n", QE_FROM_RECIPE), "p.yaml:1: pipeline: a list without steps");
  FAILS(load("pipeline:\n  - name: 7\n", QE_FROM_RECIPE), "p.yaml:2: name 7: a step's name has letters");
  FAILS(load("pipeline:\n  - name: ../a\n", QE_FROM_RECIPE), "a step's name has letters");
  FAILS(load("pipeline:\n  - out: x\n", QE_FROM_RECIPE), "p.yaml:2: out: belongs to all steps together");
  FAILS(load("pipeline:\n  - pipeline: x\n", QE_FROM_RECIPE), "belongs to all steps together");
  FAILS(load("pipeline:\n  - epochs: 1\npipeline:\n  - epochs: 1\n", QE_FROM_RECIPE), "already set on line 1");
  FAILS(load("name: x\n", QE_FROM_RECIPE), "p.yaml:1: name: no such key");
}

static void set_finds_its_step(void **state) {
  (void)state;
  FAILS(parse("--set", "polish.epocs=3"), "--set polish.epocs: no such option: epocs; did you mean epochs?");
  FAILS(parse("--set", "polish.epochs=300"), "--set polish.epochs 300: must be 1…100");
  FAILS(parse("--set", "polish.out=a"), "belongs to all steps together");
  FAILS(parse("--pipeline", "qat"), "must be a list of steps, in a recipe or config file");
  OK(parse("--set", "polsh.epochs=3"));
  FAILS(qe_options_check_steps(options), "--set polsh.epochs: there is no step polsh: this is no pipeline");
  OK(load(two, QE_FROM_RECIPE));
  FAILS(qe_options_check_steps(options), "the steps are 1 qat, 2 polish; did you mean polish?");
}

static void names_need_not_differ(void **state) {
  (void)state;
  int step = -1;
  OK(load("method: qat\npipeline:\n  - epochs: 1\n  - epochs: 2\n", QE_FROM_RECIPE));
  assert_string_equal(qe_options_step_name(options, 1), "qat");
  FAILS(qe_options_find_step(options, "x", "qat", &step), "x: 2 steps are called qat: say it by number");
  OK(qe_options_find_step(options, "x", "2", &step));
  assert_int_equal(step, 1);
  FAILS(qe_options_find_step(options, "x", "3", &step), "there is no step 3");
}

static void dumps_load_to_the_same(void **state) {
  (void)state;
  qe_options *step[2];
  const char *const name[] = {"qat", "polish"};
  OK(load(two, QE_FROM_RECIPE));
  for (int i = 0; i < 2; i++) OK(qe_options_step(options, i, &step[i]));
  char *text = qe_options_dump_steps(step, name, 2);
  assert_non_null(text);
  assert_string_equal(text, "pipeline:\n"
                            "  - name: \"qat\"\n"
                            "    epochs: 3 # p.yaml:1\n"
                            "    rate: 0.5 # p.yaml:5\n"
                            "    flip: true # default\n"
                            "    milestones: 1,2 # p.yaml:6\n"
                            "    init: start # p.yaml:2\n"
                            "    method: qat # p.yaml:4\n"
                            "  - name: \"polish\"\n"
                            "    epochs: 7 # p.yaml:9\n"
                            "    rate: 0.25 # p.yaml:11\n"
                            "    flip: false # p.yaml:10\n"
                            "    milestones: \"\" # default\n"
                            "    method: search # p.yaml:7\n");
  OK(load(text, QE_FROM_CONFIG));
  for (int i = 0; i < 2; i++) {
    qe_options *again;
    OK(qe_options_step(options, i, &again));
    for (size_t k = 0; k < ROWS; k++) {
      if (table[k].type == QE_OPTION_STEPS) continue;
      const char *was = qe_option_text(step[i], table[k].name), *is = qe_option_text(again, table[k].name);
      if (!was != !is || (was && strcmp(was, is) != 0)) fail_msg("step %d: %s", i, table[k].name);
    }
    qe_options_free(again);
    qe_options_free(step[i]);
  }
  qe_free(text);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_options, close_options)
  const struct CMUnitTest tests[] = {
      TEST(steps_have_their_own_values), TEST(later_sources_win),  TEST(lists_replace_lists),
      TEST(mistakes_are_named),          TEST(set_finds_its_step), TEST(names_need_not_differ),
      TEST(dumps_load_to_the_same),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
