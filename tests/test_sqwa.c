/* The method SQWA: which models it captures when, what it makes of them, with and without a folder, again and anew. */
#include "core/dispatch/network_file.h"
#include "core/methods/sqwa_parts.h"
#include "core/report/history.h"
#include "tests/saved.h"

static qe_setting setting_of(int bits, int act_bits) {
  qe_setting setting = {.device = fixture_fast(), .data = data, .spec = small_spec(bits), .sqwa = qe_sqwa_defaults()};
  setting.spec.bits.activations = act_bits;
  setting.spec.bits.weight_rule = QE_RULE_L2;
  setting.options = qe_train_defaults();
  setting.options.batch = 8;
  setting.options.epochs = 5;
  setting.options.held_out = 16;
  setting.options.pad = 1;
  setting.options.schedule = (qe_schedule){.kind = QE_SCHEDULE_CYCLICAL, .rate = 0.01, .min_rate = 0.0001, .cycle = 1};
  setting.float_options = setting.options;
  setting.float_options.epochs = 2;
  setting.sqwa.captures = 3;
  setting.sqwa.norm_images = 32;
  setting.sqwa.fine_epochs = 1;
  setting.sqwa.fine_rate = 0.0005;
  return setting;
}

static qe_status train(qe_setting setting, const char *name, qe_result *result) {
  QE_TRY(qe_run_open(&(qe_run_options){.folder = name ? path_of(name) : NULL, .save_every = 1}, NULL, &setting.run));
  qe_status status = qe_train_sqwa(&setting, result);
  qe_run_close(setting.run);
  return status;
}

static const char *file_in(const char *run, const char *file) {
  static char path[4][3 * FIXTURE_PATH];
  static int next;
  next = (next + 1) % 4;
  snprintf(path[next], sizeof path[next], "%s/%s", path_of(run), file);
  return path[next];
}

static void drop(const char *name) {
  folder_remove(path_of(name));
}

static qe_history history_of(const char *run) {
  char *text;
  size_t bytes;
  qe_history history = {0};
  OK(qe_file_read(file_in(run, "metrics.jsonl"), 1 << 20, &text, &bytes));
  OK(qe_history_read(&history, text, bytes));
  qe_free(text);
  return history;
}

static const qe_history_row *row_of(const qe_history *history, const char *name) {
  for (size_t i = 0; i < history->rows; i++)
    if (strcmp(history->row[i].name, name) == 0) return &history->row[i];
  fail_msg("no row %s", name);
  return NULL;
}

/* ---- lists of captures ---- */

static void check_list(const char *text, int count, const char *wanted) {
  qe_capture_list list;
  OK(qe_capture_list_read(text, count, &list));
  char *back = qe_capture_list_text(&list);
  assert_string_equal(back, wanted);
  qe_free(back);
  qe_capture_list_free(&list);
}

static void lists(void **state) {
  (void)state;
  check_list(NULL, 7, "1-7");
  check_list("all", 7, "1-7");
  check_list("", 1, "1");
  check_list("3", 7, "3");
  check_list("5-7,1,3", 7, "1,3,5-7");
  check_list("2,1,4", 7, "1-2,4");
  static const char *const wrong[] = {"0",  "8",  "1,1", "2-4,3", "4-2",  "1,", ",1",
                                      "1-", "-1", "x",   "1;2",   "1,,2", " 1"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    qe_capture_list list;
    FAILS(QE_USAGE, qe_capture_list_read(wrong[i], 7, &list), "write numbers of captures");
  }
}

/* ---- the whole ---- */

/* The last three of five cycles; each capture is the network as it was after its epoch. */
static void captures_are_the_last_cycles(void **state) {
  (void)state;
  qe_setting setting = setting_of(2, 4);
  qe_result result;
  OK(train(setting, "whole", &result));
  assert_true(result.quantized && result.start.images == 20 && result.final.images == 20);
  assert_int_equal(result.integer.images, 20);
  static const char *const epochs[] = {"3 of 5", "4 of 5", "5 of 5"};
  qe_average *average;
  OK(qe_average_new(QE_AVERAGE_CODES, &average));
  for (int i = 0; i < 3; i++) {
    char name[64];
    qe_model *model;
    qe_tensors *tensors;
    snprintf(name, sizeof name, "capture-%02d.safetensors", i + 1);
    OK(qe_model_read(file_in("whole", name), &model, &tensors));
    assert_string_equal(qe_tensors_get_meta(tensors, "epoch"), epochs[i]);
    qe_score score;
    OK(qe_evaluate(setting.device, model, data, 0, NULL, &score));
    qe_history history = history_of("whole");
    for (size_t r = 0, at = 0; r < history.rows; r++)
      if (strcmp(history.row[r].name, "capture") == 0 && at++ == (size_t)i)
        assert_true(fabs(history.row[r].test_loss - score.loss) < 1e-6);
    qe_history_free(&history);
    OK(qe_average_add(average, model, name));
    qe_model_free(model);
    qe_tensors_free(tensors);
  }
  assert_false(qe_file_exists(file_in("whole", "capture-04.safetensors")));
  /* The average's shadow weights are the mean of the files' codes. */
  qe_model *mean, *kept;
  OK(qe_average_mean(average, &mean));
  OK(qe_model_read(file_in("whole", "average.safetensors"), &kept, NULL));
  int weight = qe_graph_find_param(mean->graph, "fc2.weight");
  assert_memory_equal(qe_model_values(mean, weight), qe_model_values(kept, weight),
                      qe_bytes(&mean->graph->param[weight].desc));
  qe_model_free(mean);
  qe_model_free(kept);
  qe_average_free(average);
  drop("whole");
}

/* The integer network on the wide grid is a file that scores as the table says, and holds three bits of fc2. */
static void the_wide_average_is_a_network(void **state) {
  (void)state;
  qe_setting setting = setting_of(2, 4);
  qe_result result;
  qe_network *network;
  qe_score score;
  OK(train(setting, "wide", &result));
  OK(qe_network_read(file_in("wide", "average-wide.safetensors"), &network));
  OK(qe_evaluate_network(setting.device, network, data, 0, NULL, &score));
  qe_history history = history_of("wide");
  const qe_history_row *row = row_of(&history, "wide average"), *narrow = row_of(&history, "re-quantised");
  assert_true(fabs(row->integer_top1 - score.top1) < 1e-9);
  assert_string_equal(row->grid, "3 bits, 2 layers rounded to 8");
  assert_string_equal(row->captures, "1-3");
  assert_true(row->bytes > narrow->bytes);
  for (size_t i = 0; i < network->layers; i++)
    if (strcmp(network->layer[i].name, "fc2") == 0 && network->layer[i].weight)
      assert_int_equal(network->layer[i].grid.bits, 3);
  qe_history_free(&history);
  qe_network_free(network);
  drop("wide");
}

/* Float activations: no integer network, but a model file that is read and evaluated. */
static void float_activations(void **state) {
  (void)state;
  qe_setting setting = setting_of(2, QE_FLOAT_BITS);
  qe_result result;
  qe_model *model;
  qe_score score;
  setting.sqwa.fine_epochs = 0;
  setting.sqwa.ema = 0.9;
  OK(train(setting, "float", &result));
  assert_int_equal(result.integer.images, 0);
  OK(qe_model_read(file_in("float", "average-wide.safetensors"), &model, NULL));
  OK(qe_evaluate(setting.device, model, data, 0, NULL, &score));
  qe_history history = history_of("float");
  assert_true(fabs(row_of(&history, "wide average")->test_loss - score.loss) < 1e-6);
  assert_true(isfinite(row_of(&history, "EMA of float shadows")->test_loss));
  qe_history_free(&history);
  qe_model_free(model);
  /* Without fine-tuning the average is the run's result. */
  OK(qe_model_read(file_in("float", "last.safetensors"), &model, NULL));
  OK(qe_evaluate(setting.device, model, data, 0, NULL, &score));
  assert_true(fabs(score.loss - result.final.loss) < 1e-6);
  qe_model_free(model);
  drop("float");
}

/* A run that takes another's captured models makes what that one made; with fewer of them something else. */
static void captures_are_averaged_again(void **state) {
  (void)state;
  qe_setting setting = setting_of(2, 4);
  qe_result result;
  char first[2 * FIXTURE_PATH];
  snprintf(first, sizeof first, "%s", path_of("first"));
  OK(train(setting, "first", &result));
  setting.sqwa.from = first;
  OK(train(setting, "again", &result));
  static const char *const files[] = {"average.safetensors", "average-wide.safetensors", "last.safetensors"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    assert_same_files(file_in("first", files[i]), file_in("again", files[i]));
  assert_false(qe_file_exists(file_in("again", "capture-01.safetensors")));
  drop("again");
  setting.sqwa.subset = "1,3";
  OK(train(setting, "fewer", &result));
  qe_history history = history_of("fewer");
  assert_string_equal(row_of(&history, "re-quantised")->captures, "1,3");
  qe_history_free(&history);
  drop("fewer");
  setting.spec.bits.weights = 3;
  FAILS(QE_USAGE, train(setting, "other", &result), "another network or other bits than this run is to have");
  drop("other");
  setting = setting_of(2, 4);
  setting.sqwa.from = first;
  setting.sqwa.captures = 4;
  FAILS(QE_NOT_FOUND, train(setting, "more", &result), "capture-04.safetensors");
  drop("more");
  drop("first");
}

/* Without a folder captured models stay in memory: the same result. */
static void no_folder(void **state) {
  (void)state;
  qe_setting setting = setting_of(2, 4);
  qe_result kept, unkept;
  setting.sqwa.ema = 0.9;
  OK(train(setting, "kept", &kept));
  OK(train(setting, NULL, &unkept));
  assert_true(kept.final.loss >= unkept.final.loss && kept.final.loss <= unkept.final.loss);
  assert_true(kept.integer.loss >= unkept.integer.loss && kept.integer.loss <= unkept.integer.loss);
  drop("kept");
}

/* The best by held-out loss, as the table of captures has it. */
static void the_best_are_chosen(void **state) {
  (void)state;
  qe_setting setting = setting_of(2, 4);
  qe_result result;
  setting.sqwa.choose = QE_SQWA_CHOOSE_BEST;
  setting.sqwa.best = 1;
  OK(train(setting, "best", &result));
  qe_history history = history_of("best");
  const qe_history_row *best = NULL;
  for (size_t i = 0; i < history.rows; i++) {
    const qe_history_row *row = &history.row[i];
    if (strcmp(row->name, "capture") == 0 && (!best || row->held_out_loss < best->held_out_loss)) best = row;
  }
  assert_string_equal(row_of(&history, "re-quantised")->captures, best->captures);
  qe_history_free(&history);
  drop("best");
  setting.sqwa.choose = QE_SQWA_CHOOSE_SOUP;
  OK(train(setting, "soup", &result));
  history = history_of("soup");
  const qe_history_row *soup = row_of(&history, "re-quantised");
  assert_true(strstr(soup->captures, "1") || strstr(soup->captures, "2") || strstr(soup->captures, "3"));
  qe_history_free(&history);
  drop("soup");
}

/* Layers with bits of their own, a step a channel, odd codes, cycles of another form after a warm-up. */
static void settings_of_their_own(void **state) {
  (void)state;
  qe_setting setting = setting_of(2, 4);
  qe_result result;
  setting.spec.bits.per_channel = true;
  setting.spec.bits.layers = "fc2=w4";
  setting.options.schedule.kind = QE_SCHEDULE_TRIANGULAR;
  setting.options.schedule.warmup = 1;
  setting.options.schedule.cycle = 2;
  setting.sqwa.captures = 2;
  setting.sqwa.keep_steps = true;
  setting.sqwa.norm_images = 0;
  OK(train(setting, "own", &result));
  qe_history history = history_of("own");
  assert_string_equal(row_of(&history, "wide average")->grid, "5 bits, 2 layers rounded to 8");
  qe_history_free(&history);
  drop("own");
  setting.spec.bits.weight_rule = QE_RULE_L2_ODD;
  setting.spec.bits.layers = NULL;
  OK(train(setting, "odd", &result));
  drop("odd");
}

static void wrong_settings_are_refused(void **state) {
  (void)state;
  qe_setting setting = setting_of(2, 4);
  qe_result result;
  setting.options.epochs = 2;
  FAILS(QE_USAGE, train(setting, NULL, &result),
        "3 captures need a whole number of cycles, at least as many; make epochs 3");
  setting = setting_of(2, 4);
  setting.options.schedule.cycle = 2;
  FAILS(QE_USAGE, train(setting, NULL, &result), "make epochs 6");
  setting.options.schedule.cycle = 1.5;
  FAILS(QE_USAGE, train(setting, NULL, &result), "a cycle must be some of them");
  setting = setting_of(2, 4);
  setting.options.schedule.warmup = 0.5;
  FAILS(QE_USAGE, train(setting, NULL, &result), "warmup 0.5: cycles begin after it");
  setting = setting_of(2, 4);
  setting.spec.bits.weight_rule = QE_RULE_LSQ;
  FAILS(QE_USAGE, train(setting, NULL, &result), "choose l2, l2-odd or max");
  setting = setting_of(2, 4);
  setting.sqwa.choose = QE_SQWA_CHOOSE_SOUP;
  setting.options.held_out = 0;
  FAILS(QE_USAGE, train(setting, NULL, &result), "set held-out above 0");
  setting = setting_of(2, 4);
  setting.sqwa.subset = "4";
  FAILS(QE_USAGE, train(setting, NULL, &result), "captures '4': write numbers of captures");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lists),
      cmocka_unit_test(captures_are_the_last_cycles),
      cmocka_unit_test(the_wide_average_is_a_network),
      cmocka_unit_test(float_activations),
      cmocka_unit_test(captures_are_averaged_again),
      cmocka_unit_test(no_folder),
      cmocka_unit_test(the_best_are_chosen),
      cmocka_unit_test(settings_of_their_own),
      cmocka_unit_test(wrong_settings_are_refused),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
