/* Options that are mappings, keys of groups, copies and resets. */
#include "core/base/alloc.h"
#include "core/base/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static const qe_option table[] = {
    {.name = "set", .type = QE_OPTION_TEXT, .group = "General", .help = "one"},
    {.name = "epochs", .type = QE_OPTION_INT, .initial = "10", .group = "Training", .help = "epochs"},
    {.name = "group-epochs", .type = QE_OPTION_INT, .initial = "3", .group = "Training", .help = "of a group"},
    {.name = "group-size", .type = QE_OPTION_INT, .initial = "4", .group = "Training", .help = "of a group"},
    {.name = "method", .type = QE_OPTION_TEXT, .group = "Training", .help = "method"},
    {.name = "group-map", .type = QE_OPTION_MAP, .group = "Training", .help = "a mapping"},
    {.name = "pipeline", .type = QE_OPTION_STEPS, .group = "Training", .commands = "train", .help = "steps"},
};
enum { ROWS = sizeof table / sizeof *table };

#define OK(call) assert_int_equal(call, QE_OK)
#define FAILS(call, text)                                                                                              \
  do {                                                                                                                 \
    assert_int_equal(call, QE_USAGE);                                                                                  \
    if (!strstr(qe_message(), text)) fail_msg("'%s' lacks '%s'", qe_message(), text);                                  \
  } while (0)

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

static qe_status load(const char *text) {
  return qe_options_load_text(options, "m.yaml", text, strlen(text), QE_FROM_RECIPE);
}

static qe_status set(const char *pair) {
  char *const argv[] = {(char *)(uintptr_t) "--set", (char *)(uintptr_t)pair};
  return qe_options_parse(options, 2, argv);
}

/* "group: {size: 5}" is "group-size: 5"; --set too, but for what may be an option of a step. */
static void groups_are_prefixes(void **state) {
  (void)state;
  OK(load("group: {size: 5}\n"));
  assert_int_equal(qe_option_int(options, "group-size"), 5);
  OK(set("group.size=6"));
  assert_int_equal(qe_option_int(options, "group-size"), 6);
  OK(set("group.epochs=7"));
  assert_int_equal(qe_option_int(options, "group-epochs"), 3);
  FAILS(qe_options_check_steps(options), "--set group.epochs: there is no step group");
  FAILS(load("group:\n  sise: 5\n"), "m.yaml:2: group.sise: no such key; did you mean group-size?");
  FAILS(load("group-size: 1\ngroup:\n  size: 5\n"), "m.yaml:3: group.size: already set on line 1");
}

/* Mappings and lists at any depth, scalars as they stand; as text JSON, which is loaded again. */
static void maps_are_kept(void **state) {
  (void)state;
  static const char text[] = "{\"rate\":{\"from\":\"0.01\",\"to\":\"1e2\"},\"rule\":[\"a "
                             "b\",\"\xC3\xA4\x7F\xF0\x9F\x98\x80\",[\"1\"]],\"on\":\"\"}";
  OK(load("group:\n  map:\n    rate: {from: 0.01, to: 1e2}\n    rule: [a b, \"\\u00e4\\x7f\\U0001F600\", [1]]\n    on: "
          "\"\"\n"));
  assert_string_equal(qe_option_text(options, "group-map"), text);
  assert_string_equal(qe_option_origin(options, "group-map"), "m.yaml:2");
  char *dump = qe_options_dump(options);
  qe_options_free(options);
  assert_int_equal(open_options(NULL), 0);
  assert_non_null(dump);
  OK(load(dump));
  assert_string_equal(qe_option_text(options, "group-map"), text);
  qe_free(dump);
  OK(set("group-map={ \"a\\u0041\":\n1}"));
  assert_string_equal(qe_option_text(options, "group-map"), "{\"aA\":1}");
  OK(set("group-map="));
  assert_string_equal(qe_option_text(options, "group-map"), "");
}

static void mistakes_are_named(void **state) {
  (void)state;
  FAILS(set("group-map=[1]"), "must be a mapping");
  FAILS(set("group-map={"), "must be a mapping");
  FAILS(load("group-map: [1, 2]\n"), "m.yaml:1: group-map 1,2: must be a mapping");
  FAILS(load("group-map: {a: &x 1, b: *x}\n"), "m.yaml:1: aliases are not supported");
  FAILS(load("group-map:\n  ? [a]\n  : 1\n"), "a key must be a plain word");
  FAILS(load("group-map: {a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}}\n"), "nested too deeply");
  FAILS(load("group-map: {a: [1\n"), "not YAML");
  FAILS(load("pipeline:\n  - group-map: {a: 1}\n"), "no such key");
}

static void copies_are_the_same(void **state) {
  (void)state;
  qe_options *copy;
  OK(load("epochs: 20\ngroup-map: {a: 1}\npipeline:\n  - name: first\n    epochs: 5\n  - method: b\n"));
  OK(set("2.epochs=6"));
  OK(qe_options_copy(options, &copy));
  OK(qe_options_check_steps(copy));
  assert_int_equal(qe_options_steps(copy), 2);
  for (int step = 0; step < 2; step++) {
    qe_options *left, *right;
    OK(qe_options_step(options, step, &left));
    OK(qe_options_step(copy, step, &right));
    char *texts[2] = {qe_options_dump(left), qe_options_dump(right)};
    assert_string_equal(qe_options_step_name(options, step), qe_options_step_name(copy, step));
    assert_string_equal(texts[0], texts[1]);
    qe_free(texts[0]);
    qe_free(texts[1]);
    qe_options_free(left);
    qe_options_free(right);
  }
  assert_int_equal(qe_option_source(copy, "epochs"), QE_FROM_RECIPE);
  assert_int_equal(qe_option_source(copy, "group-size"), QE_FROM_DEFAULT);
  OK(qe_option_reset(copy, "epochs"));
  OK(qe_option_reset(copy, "group-map"));
  assert_int_equal(qe_option_int(copy, "epochs"), 10);
  assert_null(qe_option_text(copy, "group-map"));
  FAILS(qe_option_reset(copy, "epoch"), "no such option");
  qe_options_free(copy);
}

static qe_status whole_life(void) {
  qe_options *copy = NULL;
  qe_status status = load("group: {map: {a: [1, {b: 2}]}}\npipeline:\n  - name: first\n    epochs: 5\n");
  if (status == QE_OK) status = qe_options_copy(options, &copy);
  if (status == QE_OK) status = qe_option_reset(copy, "epochs");
  qe_options_free(copy);
  return status;
}

static void allocations_may_fail(void **state) {
  (void)state;
  qe_status status = QE_NO_MEMORY;
  for (int64_t nth = 1; status != QE_OK; nth++) {
    close_options(NULL);
    assert_int_equal(open_options(NULL), 0);
    qe_alloc_fail_nth(nth);
    status = whole_life();
    qe_alloc_fail_nth(0);
    assert_true(nth < 2000 && (status == QE_OK || status == QE_NO_MEMORY));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(groups_are_prefixes, open_options, close_options),
      cmocka_unit_test_setup_teardown(maps_are_kept, open_options, close_options),
      cmocka_unit_test_setup_teardown(mistakes_are_named, open_options, close_options),
      cmocka_unit_test_setup_teardown(copies_are_the_same, open_options, close_options),
      cmocka_unit_test_setup_teardown(allocations_may_fail, open_options, close_options),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
