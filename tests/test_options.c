/* Tests of core/base/options and nearest: command line, config file, precedence, messages, --help, dump. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/nearest.h"
#include "core/base/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const qe_option table[] = {
    {.name = "config", .type = QE_OPTION_PATH, .group = "General", .help = "options from a file"},
    {.name = "set", .type = QE_OPTION_TEXT, .metavar = "NAME=VALUE", .group = "General", .help = "set one option"},
    {.name = "json", .type = QE_OPTION_FLAG, .group = "General", .transient = true, .help = "machine-readable output"},
    {.name = "weight-bits",
     .letter = 'w',
     .type = QE_OPTION_INT,
     .initial = "4",
     .range = {1, 8},
     .words = "32",
     .group = "Quantisation",
     .commands = "train eval",
     .help = "bits of a weight"},
    {.name = "epochs",
     .letter = 'e',
     .type = QE_OPTION_INT,
     .initial = "auto",
     .range = {0, 100000},
     .words = "auto",
     .group = "Training",
     .commands = "train",
     .help = "passes over the data"},
    {.name = "rate",
     .type = QE_OPTION_REAL,
     .initial = "0.1",
     .range = {0, HUGE_VAL},
     .group = "Training",
     .commands = "train",
     .help = "learning rate"},
    {.name = "offset", .type = QE_OPTION_REAL, .group = "Training", .commands = "train", .help = "any number"},
    {.name = "flip",
     .type = QE_OPTION_FLAG,
     .initial = "true",
     .group = "Training",
     .commands = "train",
     .help = "mirror images at random, which is one of the words of a help text long enough to need a second line"},
    {.name = "milestones",
     .type = QE_OPTION_INTS,
     .initial = "",
     .range = {1, 1000},
     .words = "auto",
     .group = "Training",
     .commands = "train",
     .help = "epochs at which the rate falls"},
    {.name = "optimizer",
     .letter = 'o',
     .type = QE_OPTION_CHOICE,
     .initial = "sgd",
     .words = "sgd|adam|none",
     .group = "Training",
     .commands = "train",
     .help = "update rule"},
    {.name = "out", .type = QE_OPTION_PATH, .group = "General", .commands = "train", .help = "run folder"},
    {.name = "search.depth",
     .type = QE_OPTION_INT,
     .initial = "2",
     .group = "Search",
     .commands = "train",
     .help = "a name with a dot"},
    {.name = "images",
     .type = QE_OPTION_INT,
     .initial = "7",
     .group = "Evaluation",
     .commands = "eval",
     .help = "of another command"},
};
enum { ROWS = sizeof table / sizeof *table, ARGS = 12 };

static char folder[] = "/tmp/qevo-test-options-XXXXXX";
static char path[256];

static int make_folder(void **state) {
  (void)state;
  if (!mkdtemp(folder)) return -1;
  snprintf(path, sizeof path, "%s/c.yaml", folder);
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  char command[300];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

static qe_options *new_options(void) {
  qe_options *options;
  assert_int_equal(qe_options_new(table, ROWS, "train", &options), QE_OK);
  return options;
}

/* Parse arguments given in one text with blanks between. The positionals point into `words`. */
static char words[1024];
static qe_status parse(qe_options *options, const char *arguments) {
  char *argv[ARGS], *rest = NULL;
  int argc = 0;
  assert_true(strlen(arguments) < sizeof words);
  strcpy(words, arguments);
  for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) argv[argc++] = word;
  return qe_options_parse(options, argc, argv);
}

static qe_status load(qe_options *options, const char *text) {
  return qe_options_load_text(options, "c.yaml", text, strlen(text), QE_FROM_CONFIG);
}

static void test_defaults(void **state) {
  (void)state;
  qe_options *options = new_options();
  size_t count = 9;
  assert_int_equal(parse(options, ""), QE_OK);
  assert_int_equal(qe_option_int(options, "weight-bits"), 4);
  assert_true(qe_option_real(options, "weight-bits") == 4);
  assert_true(qe_option_is(options, "epochs", "auto"));
  assert_int_equal(qe_option_int(options, "epochs"), 0);
  assert_true(qe_option_real(options, "rate") == 0.1);
  assert_true(qe_option_flag(options, "flip"));
  assert_false(qe_option_flag(options, "json"));
  assert_null(qe_option_text(options, "out"));
  assert_null(qe_option_ints(options, "milestones", &count));
  assert_int_equal(count, 0);
  assert_int_equal(qe_option_source(options, "rate"), QE_FROM_DEFAULT);
  assert_string_equal(qe_option_origin(options, "rate"), "default");
  assert_int_equal(qe_options_positionals(options), 0);
  qe_options_free(options);
  qe_options_free(NULL);
}

static void test_command_line(void **state) {
  (void)state;
  qe_options *options = new_options();
  size_t count;
  assert_int_equal(parse(options, "qat --weight-bits 32 -e5 --rate=1e-3 --no-flip --json - --offset -2.5 -o adam"),
                   QE_OK);
  assert_int_equal(qe_option_int(options, "weight-bits"), 32);
  assert_int_equal(qe_option_int(options, "epochs"), 5);
  assert_true(qe_option_real(options, "rate") == 1e-3);
  assert_true(qe_option_real(options, "offset") == -2.5);
  assert_false(qe_option_flag(options, "flip"));
  assert_true(qe_option_flag(options, "json"));
  assert_string_equal(qe_option_text(options, "optimizer"), "adam");
  assert_string_equal(qe_option_origin(options, "optimizer"), "command line");
  assert_int_equal(qe_options_positionals(options), 2);
  assert_string_equal(qe_options_positional(options, 0), "qat");
  assert_string_equal(qe_options_positional(options, 1), "-");
  assert_null(qe_options_positional(options, 2));
  assert_int_equal(parse(options, "-w 2 --flip=yes --set rate=0.5 --set search.depth=3 --milestones 3,10 -- --rate"),
                   QE_OK);
  assert_int_equal(qe_option_int(options, "weight-bits"), 2);
  assert_true(qe_option_flag(options, "flip"));
  assert_true(qe_option_real(options, "rate") == 0.5);
  assert_int_equal(qe_option_int(options, "search.depth"), 3);
  const int64_t *list = qe_option_ints(options, "milestones", &count);
  assert_int_equal(count, 2);
  assert_int_equal(list[0] * 100 + list[1], 310);
  assert_int_equal(qe_options_positionals(options), 1);
  assert_string_equal(qe_options_positional(options, 0), "--rate");
  assert_int_equal(parse(options, "--rate 1 --rate 2 --milestones auto"), QE_OK); /* the last one counts */
  assert_true(qe_option_real(options, "rate") == 2);
  assert_true(qe_option_is(options, "milestones", "auto"));
  qe_options_free(options);
}

static void test_command_line_failures(void **state) {
  (void)state;
  static const struct {
    const char *arguments, *message;
  } cases[] = {
      {"--weight-bits 9", "--weight-bits 9: must be 1…8 or 32"},
      {"-w 0", "--weight-bits 0: must be 1…8 or 32"},
      {"--weight-bits 4.5", "--weight-bits 4.5: must be 1…8 or 32"},
      {"--weight-bits 4x", "--weight-bits 4x: must be"},
      {"--weight-bits=", "--weight-bits : must be"},
      {"--epochs automatic", "--epochs automatic: must be 0…100000 or auto"},
      {"--epochs 99999999999999999999", "--epochs 99999999999999999999: must be"},
      {"--rate -1", "--rate -1: must be at least 0"},
      {"--rate nan", "--rate nan: must be"},
      {"--rate inf", "--rate inf: must be"},
      {"--rate 1e999", "--rate 1e999: must be"},
      {"--offset two", "--offset two: must be a number"},
      {"--optimizer adm", "--optimizer adm: must be sgd, adam or none; did you mean adam?"},
      {"--flip=ture", "--flip ture: must be true or false; did you mean true?"},
      {"--optimizer sgd|adam", "--optimizer sgd|adam: must be sgd, adam or none"},
      {"--milestones 3,x", "--milestones 3,x: must be numbers, 1…1000 or auto"},
      {"--milestones 3,", "--milestones 3,: must be"},
      {"--milestones 0", "--milestones 0: must be"},
      {"--flip=maybe", "--flip maybe: must be true or false"},
      {"--weigth-bits 4", "--weigth-bits: no such option; did you mean --weight-bits?"},
      {"--no-flipp", "--no-flipp: no such option"},
      {"--quantum 4", "--quantum: no such option"},
      {"-z", "-z: no such option"},
      {"--no-epochs", "--no-epochs: --epochs is not a flag"},
      {"--no-flip=1", "--no-flip: takes no value"},
      {"--rate", "--rate: needs a value"},
      {"--rate --epochs 3", "--rate: needs a value"},
      {"-e", "--epochs: needs a value"},
      {"--images 5", "--images: no option of \"train\"; it belongs to: eval"},
      {"--set rate", "--set rate: must be NAME=VALUE"},
      {"--set rat=1", "--set rat: no such option; did you mean rate?"},
      {"--set rate=-1", "--set rate -1: must be at least 0"},
      {"--set images=1", "--set images: no such option"},
      {"--out \xFF", "--out: the value is not UTF-8"},
      {"--config /no/such.yaml", "/no/such.yaml: cannot open: No such file"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    qe_options *options = new_options();
    qe_status status = parse(options, cases[i].arguments);
    if (status != QE_USAGE && status != QE_NOT_FOUND) fail_msg("%s: accepted", cases[i].arguments);
    if (strncmp(qe_message(), cases[i].message, strlen(cases[i].message)) != 0)
      fail_msg("%s\n gives    %s\n expected %s", cases[i].arguments, qe_message(), cases[i].message);
    qe_options_free(options);
  }
}

static void test_config(void **state) {
  (void)state;
  qe_options *options = new_options();
  size_t count;
  assert_int_equal(load(options, ""), QE_OK);
  assert_int_equal(load(options, "# only a comment\n"), QE_OK);
  assert_int_equal(load(options, "--- \n# comment\nweight-bits: 3\nepochs: auto\nrate: 0.25 # x\nflip: no\n"
                                 "milestones: [3, 10,\n 12]\nsearch: {depth: 5}\nimages: 9\nout: \"a b\\n\"\n"),
                   QE_OK);
  assert_int_equal(qe_option_int(options, "weight-bits"), 3);
  assert_true(qe_option_is(options, "epochs", "auto"));
  assert_true(qe_option_real(options, "rate") == 0.25);
  assert_false(qe_option_flag(options, "flip"));
  assert_int_equal(qe_option_int(options, "search.depth"), 5);
  assert_int_equal(qe_option_ints(options, "milestones", &count)[2], 12);
  assert_int_equal(count, 3);
  assert_string_equal(qe_option_text(options, "out"), "a b\n");
  assert_int_equal(qe_option_int(options, "images"), 9); /* another command's: allowed in a shared file */
  assert_string_equal(qe_option_origin(options, "rate"), "c.yaml:5");
  assert_int_equal(qe_option_source(options, "rate"), QE_FROM_CONFIG);
  assert_int_equal(load(options, "search:\n  depth: 6\nmilestones: []\nout: ''"), QE_OK);
  assert_int_equal(qe_option_int(options, "search.depth"), 6);
  assert_null(qe_option_ints(options, "milestones", &count));
  assert_string_equal(qe_option_text(options, "out"), "");
  assert_int_equal(load(options, "search.depth: 7"), QE_OK);
  assert_int_equal(qe_option_int(options, "search.depth"), 7);
  qe_options_free(options);
}

static void test_config_failures(void **state) {
  (void)state;
  static const struct {
    const char *text, *message;
  } cases[] = {
      {"rate: 1\nweight-bits: 9\n", "c.yaml:2: weight-bits 9: must be 1…8 or 32"},
      {"rate: 1\n\nrate: 2\n", "c.yaml:3: rate: already set on line 1"},
      {"search.depth: 1\nsearch: {depth: 1}\n", "c.yaml:2: search.depth: already set on line 1"},
      {"epoch: 3", "c.yaml:1: epoch: no such key; did you mean epochs?"},
      {"weight_bits: 3", "c.yaml:1: weight_bits: no such key; did you mean weight-bits?"},
      {"zzz: 3", "c.yaml:1: zzz: no such key"},
      {"config: x", "c.yaml:1: config: no such key in a config file"},
      {"set: a=b", "c.yaml:1: set: no such key in a config file"},
      {"rate: fast", "c.yaml:1: rate fast: must be at least 0"},
      {"rate:\nflip: no", "c.yaml:1: rate: needs a value"},
      {"rate: [1, 2]", "c.yaml:1: rate 1,2: must be"},
      {"rate: {a: 1}", "c.yaml:1: rate.a: no such key"},
      {"milestones: [1, [2]]", "c.yaml:1: milestones: a list may hold plain values only"},
      {"milestones: [1, 2", "c.yaml:2: not YAML"},
      {"rate: &a 1\noffset: *a", "c.yaml:2: offset: aliases are not supported"},
      {"? [rate]\n: 1", "c.yaml:1: a key must be a plain word"},
      {"- rate\n", "c.yaml:1: must be a mapping"},
      {"rate", "c.yaml:1: must be a mapping"},
      {"rate: 1\n---\nrate: 2", "c.yaml:2: a second document"},
      {"rate: \"1\\0\"", "c.yaml:1: a value with a 0 byte"},
      {"rate: \"1", "c.yaml:1: not YAML"},
      {"a:\n\t- b", "c.yaml:2: not YAML"},
      {"rate: \xFF\xFE", "c.yaml:1: not YAML"},
      {"a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}}}}", "c.yaml:1: nested too deeply"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    qe_options *options = new_options();
    if (load(options, cases[i].text) != QE_USAGE) fail_msg("%s: accepted", cases[i].text);
    if (strncmp(qe_message(), cases[i].message, strlen(cases[i].message)) != 0)
      fail_msg("%s\n gives    %s\n expected %s", cases[i].text, qe_message(), cases[i].message);
    qe_options_free(options);
  }
}

static void test_precedence(void **state) {
  (void)state;
  char arguments[400];
  qe_options *options = new_options();
  assert_int_equal(qe_file_write(path, "rate: 2\nepochs: 20\n", 19), QE_OK);
  snprintf(arguments, sizeof arguments, "--rate 1 --config %s", path); /* the command line wins in any order */
  assert_int_equal(parse(options, arguments), QE_OK);
  const char *recipe = "rate: 3\nepochs: 30\nflip: off\n";
  assert_int_equal(qe_options_load_text(options, "recipe", recipe, strlen(recipe), QE_FROM_RECIPE), QE_OK);
  assert_true(qe_option_real(options, "rate") == 1);
  assert_int_equal(qe_option_int(options, "epochs"), 20);
  assert_false(qe_option_flag(options, "flip"));
  assert_int_equal(qe_option_source(options, "rate"), QE_FROM_COMMAND);
  assert_int_equal(qe_option_source(options, "epochs"), QE_FROM_CONFIG);
  assert_int_equal(qe_option_source(options, "flip"), QE_FROM_RECIPE);
  recipe = "rate: -3"; /* a value that loses is checked all the same */
  assert_int_equal(qe_options_load_text(options, "recipe", recipe, strlen(recipe), QE_FROM_RECIPE), QE_USAGE);
  qe_options_free(options);
}

static void test_getters_of_wrong_names(void **state) {
  (void)state;
  qe_options *options = new_options();
  size_t count = 5;
  assert_int_equal(qe_option_int(options, "no-such"), 0);
  assert_string_equal(qe_message(), "bug: option \"no-such\" is not in the table");
  assert_null(qe_option_text(options, "no-such"));
  assert_false(qe_option_is(options, "no-such", "x"));
  assert_int_equal(qe_option_int(options, "rate"), 0);
  assert_string_equal(qe_message(), "bug: option \"rate\" is of another type");
  assert_false(qe_option_flag(options, "weight-bits"));
  assert_null(qe_option_ints(options, "weight-bits", &count));
  assert_int_equal(count, 0);
  qe_options_free(options);
}

static void test_tables_that_contradict_themselves(void **state) {
  (void)state;
  static const qe_option twice[] = {{.name = "a", .type = QE_OPTION_FLAG}, {.name = "a", .type = QE_OPTION_FLAG}};
  static const qe_option letters[] = {{.name = "a", .letter = 'x', .type = QE_OPTION_FLAG},
                                      {.name = "b", .letter = 'x', .type = QE_OPTION_FLAG}};
  static const qe_option help[] = {{.name = "a", .letter = 'h', .type = QE_OPTION_FLAG}};
  static const qe_option initial[] = {{.name = "a", .type = QE_OPTION_INT, .initial = "9", .range = {1, 8}}};
  static const qe_option choice[] = {{.name = "a", .type = QE_OPTION_CHOICE}};
  qe_options *options;
  assert_int_equal(qe_options_new(twice, 2, "train", &options), QE_USAGE);
  assert_null(options);
  assert_int_equal(qe_options_new(letters, 2, "train", &options), QE_USAGE);
  assert_int_equal(qe_options_new(help, 1, "train", &options), QE_USAGE);
  assert_int_equal(qe_options_new(initial, 1, "train", &options), QE_USAGE);
  assert_string_equal(qe_message(), "a 9: must be 1…8");
  assert_int_equal(qe_options_new(choice, 1, "train", &options), QE_USAGE);
}

static char *help_text(const qe_options *options, int width) {
  char *text = NULL;
  size_t bytes;
  FILE *file = open_memstream(&text, &bytes);
  qe_options_help(options, file, width);
  fclose(file);
  return text;
}

static void test_help(void **state) {
  (void)state;
  qe_options *options = new_options();
  assert_int_equal(parse(options, "--rate fast --help"), QE_OK);
  assert_true(qe_options_help_wanted(options));
  assert_int_equal(parse(options, "-- --help"), QE_OK);
  assert_false(qe_options_help_wanted(options));
  char *text = help_text(options, 80);
  static const char *const expected[] = {
      "      --[no-]flip             mirror",
      "General:\n      --config PATH           options from a file\n",
      "      --set NAME=VALUE        set one option\n",
      "      --out PATH              run folder\n\nQuantisation:\n",
      "  -w, --weight-bits N         bits of a weight [1…8 or 32; default 4]\n",
      "  -e, --epochs N              passes over the data [0…100000 or auto; default\n",
      "      --rate X                learning rate [at least 0; default 0.1]\n",
      "  -o, --optimizer CHOICE      update rule [sgd, adam or none; default sgd]\n",
      "      --milestones N,…        epochs at which",
      "second line\n                              [default on]\n",
  };
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
    if (!strstr(text, expected[i])) fail_msg("--help lacks\n%s\nin\n%s", expected[i], text);
  assert_null(strstr(text, "--images"));
  free(text);
  qe_options_free(options);
}

static void test_dump(void **state) {
  (void)state;
  static const char *const paths[] = {
      "runs/a-b", "",  "a b", "#x",       "null",  "\"\\\n\t'", "k: v", "é€😀\xC2\x85\xE2\x80\xA8",
      "-",        "~", "[1]", "\x7F\x01", "a,b=c", "..."};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    qe_options *options = new_options(), *again = new_options();
    assert_int_equal(parse(options, "--offset -1 --milestones 1,2 --no-flip -e 3 --json --set rate=.5"), QE_OK);
    assert_int_equal(qe_option_set(options, "out", paths[i], QE_FROM_CONFIG, "out", "odd \xFF\n name.yaml:1"), QE_OK);
    char *text = qe_options_dump(options);
    assert_non_null(text);
    assert_non_null(strstr(text, "weight-bits: 4 # default\n"));
    assert_non_null(strstr(text, "offset: -1 # command line\n"));
    assert_null(strstr(text, "json"));   /* transient */
    assert_null(strstr(text, "\nset:")); /* not a value */
    assert_null(strstr(text, "images")); /* another command's */
    assert_int_equal(load(again, text), QE_OK);
    for (size_t row = 0; row < ROWS; row++) {
      const char *name = table[row].name, *a = qe_option_text(options, name), *b = qe_option_text(again, name);
      if (table[row].transient) continue;
      assert_true((a != NULL) == (b != NULL));
      if (a) assert_string_equal(a, b);
    }
    qe_free(text);
    qe_options_free(options);
    qe_options_free(again);
  }
}

static qe_status whole_life(const char *config) {
  qe_options *options;
  qe_status status = qe_options_new(table, ROWS, "train", &options);
  if (status != QE_OK) return status;
  char *argv[] = {(char[]){"--set"}, (char[]){"rate=2"}, (char[]){"qat"}, (char[]){"--milestones=1,2"}};
  status = qe_options_parse(options, 4, argv);
  if (status == QE_OK) status = load(options, config);
  char *text = status == QE_OK ? qe_options_dump(options) : NULL;
  if (status == QE_OK && !text) status = QE_NO_MEMORY;
  qe_free(text);
  qe_options_free(options);
  return status;
}

static void test_survives_failed_allocations(void **state) {
  (void)state;
  int failures = 0;
  qe_status status = QE_NO_MEMORY;
  for (int64_t nth = 1; status != QE_OK; nth++) {
    qe_alloc_fail_nth(nth);
    status = whole_life("search: {depth: 1}\nmilestones: [4, 5]\nout: \"x y\"\n");
    qe_alloc_fail_nth(0);
    if (status != QE_OK) assert_int_equal(status, QE_NO_MEMORY);
    failures += status != QE_OK;
  }
  assert_true(failures > 30);
}

static void test_nearest(void **state) {
  (void)state;
  assert_int_equal(qe_edit_distance("", "abc"), 3);
  assert_int_equal(qe_edit_distance("abc", "abc"), 0);
  assert_int_equal(qe_edit_distance("weigth", "weight"), 1); /* a swap */
  assert_int_equal(qe_edit_distance("kitten", "sitting"), 3);
  assert_int_equal(qe_edit_distance("flip", "flop"), 1);
  char longest[100];
  memset(longest, 'a', sizeof longest);
  longest[99] = 0;
  assert_int_equal(qe_edit_distance(longest, "a"), 1000);
  qe_nearest nearest = {.word = "trian"};
  assert_null(qe_nearest_name(&nearest));
  qe_nearest_offer(&nearest, "eval");
  assert_null(qe_nearest_name(&nearest));
  qe_nearest_offer(&nearest, "train");
  qe_nearest_offer(&nearest, "drain");
  assert_string_equal(qe_nearest_name(&nearest), "train");
  char hint[QE_NEAREST_TEXT];
  nearest = (qe_nearest){.word = "w4a4"}; /* part of a longer name; what is near by letters comes first */
  qe_nearest_offer(&nearest, "resnet20-w4a4-qat");
  qe_nearest_offer(&nearest, "resnet20-w4a4-eda");
  assert_string_equal(qe_nearest_hint(&nearest, "-", hint), "; did you mean -resnet20-w4a4-qat?");
  qe_nearest_offer(&nearest, "w3a4");
  assert_string_equal(qe_nearest_name(&nearest), "w3a4");
  nearest = (qe_nearest){.word = "cifr"};
  qe_nearest_offer(&nearest, "cifar10");
  assert_string_equal(qe_nearest_name(&nearest), "cifar10");
  nearest = (qe_nearest){.word = "ab"};
  qe_nearest_offer(&nearest, "cabbage"); /* two letters are in too many names */
  assert_string_equal(qe_nearest_hint(&nearest, "", hint), "");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_defaults),
      cmocka_unit_test(test_command_line),
      cmocka_unit_test(test_command_line_failures),
      cmocka_unit_test(test_config),
      cmocka_unit_test(test_config_failures),
      cmocka_unit_test(test_precedence),
      cmocka_unit_test(test_getters_of_wrong_names),
      cmocka_unit_test(test_tables_that_contradict_themselves),
      cmocka_unit_test(test_help),
      cmocka_unit_test(test_dump),
      cmocka_unit_test(test_survives_failed_allocations),
      cmocka_unit_test(test_nearest),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
