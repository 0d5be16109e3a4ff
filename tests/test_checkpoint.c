/* Run folders: what a run leaves there, and runs that are stopped, damaged, resumed, or started from a file. */
#include "core/methods/method.h"
#include "tests/saved.h"

#include <cjson/cJSON.h>

typedef struct watcher {
  int64_t batches; /* until `answer` is given; 0: never */
  qe_status answer;
  int epochs, notes;
} watcher;

static qe_status on_progress(void *context, const char *phase, const qe_train_progress *progress) {
  watcher *w = context;
  assert_true(strcmp(phase, "float") == 0 || strcmp(phase, "qat") == 0);
  assert_true(progress->step > 0);
  if (--w->batches != 0) return QE_OK;
  return w->answer == QE_INTERRUPTED ? QE_INTERRUPTED : qe_fail(w->answer, "the power went off");
}
static void on_epoch(void *context, const qe_epoch_report *report) {
  watcher *w = context;
  w->epochs++;
  assert_true(report->test.images == 20 && report->epoch >= 1 && report->epoch <= report->epochs);
}
static void on_note(void *context, const char *text) {
  ((watcher *)context)->notes += text[0] != 0;
}

static void clear_run(const char *run) {
  if (qe_folder_exists(path_of(run))) folder_remove(path_of(run));
}

static qe_setting small_setting(int bits) {
  qe_setting setting = {.device = fixture_fast(), .data = data, .spec = small_spec(bits)};
  setting.options = qe_train_defaults();
  setting.options.epochs = 2;
  setting.options.batch = 16;
  setting.options.eval_batch = 20;
  setting.options.pad = 1;
  setting.options.schedule.rate = 0.02;
  setting.float_options = setting.options;
  setting.float_options.schedule.rate = 0.1;
  return setting;
}

/* One call of the method on a run folder, started or resumed. */
static qe_status train(qe_setting setting, const char *run, bool resume, watcher *w, qe_result *result) {
  qe_run_options options = {
      .folder = path_of(run), .config = "seed: 1\n", .resume = resume, .save_every = 1, .log_every = 2};
  qe_run_events events = {.context = w, .progress = on_progress, .epoch = on_epoch, .note = on_note};
  QE_TRY(qe_run_open(&options, &events, &setting.run));
  qe_status status = qe_train_qat(&setting, result);
  qe_run_close(setting.run);
  return status;
}

static const char *in_run(const char *run, const char *file) {
  char name[FIXTURE_PATH];
  snprintf(name, sizeof name, "%s/%s", run, file);
  return path_of(name);
}

/* Every line is a JSON object; returns how many tell of an epoch. */
static int check_metrics(const char *run) {
  FILE *file = fopen(in_run(run, "metrics.jsonl"), "r");
  assert_non_null(file);
  char line[4096];
  int epochs = 0, steps = 0;
  while (fgets(line, sizeof line, file)) {
    cJSON *json = cJSON_Parse(line);
    if (!cJSON_IsObject(json)) fail_msg("no JSON object: %s", line);
    assert_true(cJSON_IsString(cJSON_GetObjectItem(json, "phase")));
    assert_true(cJSON_IsNumber(cJSON_GetObjectItem(json, "epoch")));
    assert_true(cJSON_IsNumber(cJSON_GetObjectItem(json, "rate")));
    bool of_epoch = cJSON_GetObjectItem(json, "epochs") != NULL;
    epochs += of_epoch;
    steps += !of_epoch;
    assert_true(cJSON_IsNumber(cJSON_GetObjectItem(json, of_epoch ? "test_top1" : "running_train_loss")));
    cJSON_Delete(json);
  }
  fclose(file);
  assert_true(steps > 0);
  return epochs;
}

static void a_run_leaves_its_files(void **state) {
  (void)state;
  clear_run("whole");
  watcher w = {0};
  qe_result result;
  OK(train(small_setting(4), "whole", false, &w, &result));
  assert_true(result.quantized);
  assert_int_equal(result.start.images, 20);
  assert_int_equal(result.final.images, 20);
  assert_int_equal(w.epochs, 4);
  assert_true(w.notes >= 3);
  assert_int_equal(check_metrics("whole"), 4);
  char *config;
  OK(qe_file_read(in_run("whole", "config.yaml"), 1000, &config, NULL));
  assert_string_equal(config, "seed: 1\n");
  qe_free(config);
  static const char *const files[] = {"last.safetensors", "best.safetensors"};
  for (int i = 0; i < 2; i++) { /* what was saved has the accuracy that was told */
    qe_model *model;
    qe_score score;
    OK(qe_model_read(in_run("whole", files[i]), &model, NULL));
    OK(qe_evaluate(fixture_fast(), model, data, 20, NULL, &score));
    assert_true(score.loss == result.final.loss && score.top1 == result.final.top1);
    qe_model_free(model);
  }
  FAILS(QE_USAGE, train(small_setting(4), "whole", false, &w, &result), "holds a run already");
  FAILS(QE_USAGE, train(small_setting(4), "whole", false, &w, &result), "--resume");

  qe_result again; /* resuming a finished run only says how it ended */
  watcher quiet = {0};
  OK(train(small_setting(4), "whole", true, &quiet, &again));
  assert_int_equal(quiet.epochs, 0);
  assert_true(again.final.loss == result.final.loss);
  folder_remove(path_of("whole"));
}

static void bad_folders_are_refused(void **state) {
  (void)state;
  qe_run *run = NULL;
  qe_run_options options = {.resume = true};
  FAILS(QE_USAGE, qe_run_open(&options, NULL, &run), "--out");
  options.folder = path_of("empty");
  FAILS(QE_NOT_FOUND, qe_run_open(&options, NULL, &run), "no checkpoint to resume from");
  folder_remove(options.folder);
  OK(qe_file_write(path_of("file"), "x", 1));
  options = (qe_run_options){.folder = path_of("file")};
  FAILS(QE_USAGE, qe_run_open(&options, NULL, &run), path_of("file"));
  assert_null(run);
  assert_int_equal(unlink(path_of("file")), 0);
  qe_run_close(NULL);
}

/* A copy of a checkpoint whose phase is that of another, damaged, or cut off: an error, no crash. */
static void damaged_checkpoints_are_refused(void **state) {
  (void)state;
  clear_run("cut");
  watcher w = {.batches = 3, .answer = QE_INTERRUPTED};
  qe_result result;
  FAILS(QE_INTERRUPTED, train(small_setting(4), "cut", false, &w, &result), "--resume");
  char *bytes;
  size_t size;
  OK(qe_file_read(in_run("cut", "checkpoint.safetensors"), 1 << 26, &bytes, &size));
  OK(qe_file_write(in_run("cut", "checkpoint.safetensors"), bytes, size - 5));
  FAILS(QE_FORMAT, train(small_setting(4), "cut", true, &w, &result), "checkpoint.safetensors");
  OK(qe_file_write(in_run("cut", "checkpoint.safetensors"), bytes, size));
  qe_setting setting = small_setting(4);
  setting.options.seed = setting.float_options.seed = 8;
  FAILS(QE_USAGE, train(setting, "cut", true, &w, &result), "seed 1");
  setting = small_setting(4);
  setting.spec.bits.layers = "fc2=w32";
  FAILS(QE_USAGE, train(setting, "cut", true, &w, &result), "layer_bits ''");
  setting = small_setting(3);
  FAILS(QE_USAGE, train(setting, "cut", true, &w, &result), "weight_bits '4', this run has '3'");
  OK(train(small_setting(4), "cut", true, &(watcher){0}, &result));
  qe_free(bytes);
  folder_remove(path_of("cut"));
}

/* ---- stopped and resumed ---- */

static void check_stop(qe_setting setting, int64_t batches, qe_status answer, const char *reference) {
  watcher w = {.batches = batches, .answer = answer}, quiet = {0};
  qe_result result;
  clear_run("stopped");
  qe_status status = train(setting, "stopped", false, &w, &result);
  assert_int_equal(status, answer);
  if (answer == QE_INTERRUPTED) assert_true(qe_file_exists(in_run("stopped", "checkpoint.safetensors")));
  OK(train(setting, "stopped", true, &quiet, &result)); /* without a checkpoint it begins again */
  assert_same_files(in_run("stopped", "last.safetensors"), in_run(reference, "last.safetensors"));
  assert_same_files(in_run("stopped", "best.safetensors"), in_run(reference, "best.safetensors"));
  assert_int_equal(check_metrics("stopped"), check_metrics(reference));
  folder_remove(path_of("stopped"));
}

/* Four batches an epoch, two epochs in full precision, two quantised: stopped at the start, within and at the end of
 * epochs and phases. */
static void resumed_runs_end_the_same(void **state) {
  (void)state;
  qe_setting setting = small_setting(3);
  qe_result result;
  clear_run("reference");
  OK(train(setting, "reference", false, &(watcher){0}, &result));
  static const int64_t asked[] = {1, 3, 4, 5, 8, 9, 12, 14, 16}, failed[] = {2, 5, 9, 15};
  for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) check_stop(setting, asked[i], QE_INTERRUPTED, "reference");
  for (size_t i = 0; i < sizeof failed / sizeof *failed;
       i++) /* without warning: from the last epoch's checkpoint, if there is one */
    check_stop(setting, failed[i], QE_DEVICE, "reference");
  folder_remove(path_of("reference"));
}

static void resumed_with_held_out_images(void **state) {
  (void)state;
  qe_setting setting = small_setting(3);
  setting.options.held_out = 12;
  setting.options.epochs = 3;
  setting.options.accumulate = 3;
  setting.options.optimizer = QE_OPTIMIZER_ADAM;
  setting.options.schedule.rate = 0.003;
  setting.float_options.epochs = 0;
  qe_result result;
  clear_run("reference");
  OK(train(setting, "reference", false, &(watcher){0}, &result));
  for (int64_t batches = 1; batches <= 9; batches += 2) check_stop(setting, batches, QE_INTERRUPTED, "reference");
  folder_remove(path_of("reference"));
}

/* best.safetensors is that of the least held-out loss, not the last. */
static void the_best_model_is_kept(void **state) {
  (void)state;
  qe_setting setting = small_setting(32);
  setting.options.held_out = 16;
  setting.options.epochs = 6;
  setting.options.schedule.kind = QE_SCHEDULE_CONSTANT;
  setting.options.schedule.rate = 0.5;
  qe_result result;
  clear_run("best");
  OK(train(setting, "best", false, &(watcher){0}, &result));
  FILE *file = fopen(in_run("best", "metrics.jsonl"), "r");
  assert_non_null(file);
  char line[4096], wanted[32] = "", *fact = NULL;
  double least = HUGE_VAL;
  while (fgets(line, sizeof line, file)) {
    cJSON *json = cJSON_Parse(line), *loss = cJSON_GetObjectItem(json, "held_out_loss");
    if (loss && loss->valuedouble < least) {
      least = loss->valuedouble;
      snprintf(wanted, sizeof wanted, "%d of 6", cJSON_GetObjectItem(json, "epoch")->valueint);
    }
    cJSON_Delete(json);
  }
  fclose(file);
  qe_tensors *tensors;
  OK(qe_tensors_read(in_run("best", "best.safetensors"), &tensors));
  fact = qe_strdup(qe_tensors_get_meta(tensors, "epoch"));
  qe_tensors_free(tensors);
  assert_string_equal(fact, wanted);
  qe_free(fact);
  folder_remove(path_of("best"));

  setting.spec = small_spec(1); /* worse than its full-precision start, yet the best of its own phase */
  setting.float_options.held_out = 16;
  setting.options.epochs = 1;
  setting.options.schedule.rate = 0;
  OK(train(setting, "best", false, &(watcher){0}, &result));
  OK(qe_tensors_read(in_run("best", "best.safetensors"), &tensors));
  assert_string_equal(qe_tensors_get_meta(tensors, "phase"), "qat");
  qe_tensors_free(tensors);
  folder_remove(path_of("best"));
}

static void a_run_that_diverges(void **state) {
  (void)state;
  qe_setting setting = small_setting(32);
  setting.options.schedule =
      (qe_schedule){.kind = QE_SCHEDULE_STEP, .rate = 0.05, .gamma = 1e25, .milestones = 1, .milestone = {1}};
  setting.options.epochs = 3;
  qe_result result;
  clear_run("diverged");
  FAILS(QE_DIVERGED, train(setting, "diverged", false, &(watcher){0}, &result), "is kept in");
  qe_tensors *tensors;
  OK(qe_tensors_read(in_run("diverged", "checkpoint.safetensors"), &tensors));
  assert_string_equal(qe_tensors_get_meta(tensors, "position.epoch"), "1");
  qe_tensors_free(tensors);
  folder_remove(path_of("diverged"));
}

/* ---- starting from a model file ---- */

static void runs_start_from_a_file(void **state) {
  (void)state;
  qe_setting setting = small_setting(4);
  qe_result result, from_random;
  qe_model_spec spec = small_spec(32);
  qe_model *model = new_model(&spec, 3);
  save(model, "init.safetensors");
  char init[2 * FIXTURE_PATH];
  snprintf(init, sizeof init, "%s", path_of("init.safetensors"));
  setting.init = init;
  setting.options.epochs = 1;
  clear_run("init");
  watcher w = {0};
  OK(train(setting, "init", false, &w, &result));
  assert_int_equal(w.epochs, 1); /* no pre-training */
  folder_remove(path_of("init"));
  setting.init = NULL;
  OK(train(setting, "init", false, &w, &from_random));
  assert_int_equal(w.epochs, 1 + 2 + 1);
  assert_true(result.start.loss != from_random.start.loss);
  folder_remove(path_of("init"));

  setting.init = init;
  setting.spec = qe_model_default("resnet20");
  FAILS(QE_USAGE, train(setting, "init", false, &w, &result), "init.safetensors is a mlp");
  folder_remove(path_of("init"));
  setting.spec = small_spec(4);
  setting.spec.classes = 3;
  FAILS(QE_FORMAT, train(setting, "init", false, &w, &result), "fc3.weight");
  folder_remove(path_of("init"));
  setting.spec = small_spec(4);
  setting.init = "/nowhere/init.safetensors";
  FAILS(QE_NOT_FOUND, train(setting, "init", false, &w, &result), "/nowhere/init.safetensors");
  folder_remove(path_of("init"));
  qe_model_free(model);
}

static void methods_are_found_by_name(void **state) {
  (void)state;
  assert_ptr_equal(qe_method_find("qat"), qe_method_get(0));
  assert_null(qe_method_find("magic"));
  assert_null(qe_method_get(-1));
  int count = 0;
  while (qe_method_get(count)) count++;
  assert_true(count >= 1 && !qe_method_get(count + 1));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_run_leaves_its_files),
      cmocka_unit_test(bad_folders_are_refused),
      cmocka_unit_test(damaged_checkpoints_are_refused),
      cmocka_unit_test(resumed_runs_end_the_same),
      cmocka_unit_test(resumed_with_held_out_images),
      cmocka_unit_test(the_best_model_is_kept),
      cmocka_unit_test(a_run_that_diverges),
      cmocka_unit_test(runs_start_from_a_file),
      cmocka_unit_test(methods_are_found_by_name),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
