/* Pipelines: killed at every file call and stopped after every batch, in whichever step, and resumed, they leave what
 * the undisturbed one leaves; what a folder may be opened as; what one step can hand on to the next. */
#include "core/methods/chain.h"
#include "core/train/pipeline.h"
#include "core/train/run_state.h"
#include "tests/file_faults.h"
#include "tests/small_runs.h"

#include <sys/wait.h>

static qe_pipeline list; /* of three steps */
static int trained;      /* steps that the last call of go trained, finished or not */
static const char *whole_folder;

/* From what the step before has left. */
static qe_status train_on(const qe_setting *setting, const char *init) {
  qe_model *model = model_of(residual_net(setting->data, &(net_options){.weight_bits = 4, .act_bits = 4}), 2);
  qe_tensors *tensors = NULL;
  qe_status status = qe_tensors_read(init, &tensors);
  if (status == QE_OK) status = qe_model_take(model, tensors, init);
  if (status == QE_OK) status = train_phase(setting, model, "qat");
  qe_tensors_free(tensors);
  qe_model_free(model);
  return status;
}

static qe_status train_step(void *context, int step, const char *folder_of, bool resume) {
  (void)context;
  qe_setting setting = {.device = fixture_fast(), .data = data, .spec = small_spec(4)};
  qe_run_options options = usual_options();
  qe_run_events events = {.progress = on_step, .generation = on_generation, .note = on_note};
  qe_result result;
  trained++;
  options.folder = folder_of;
  options.whole = whole_folder;
  options.resume = resume;
  QE_TRY(qe_run_open(&options, &events, &setting.run));
  char init[2 * FIXTURE_PATH];
  snprintf(init, sizeof init, "%s", in(whole_folder, "1-first/best.safetensors"));
  qe_status status = qe_run_begin(setting.run);
  if (status == QE_OK)
    status = step == 0   ? train_gradient(&setting, &result)
             : step == 1 ? train_on(&setting, init)
                         : train_search(&setting, &result);
  if (status == QE_OK) status = qe_run_keep_result(setting.run, "{\"top1\":50,\"loss\":1,\"images\":20}");
  status = qe_run_end(setting.run, qe_run_explain(setting.run, status));
  qe_run_close(setting.run);
  return status;
}

static qe_status open_pipeline(const char *run, bool resume, const qe_pipeline *steps, qe_run **opened) {
  char *text;
  QE_TRY(qe_pipeline_text(steps, &text));
  qe_run_options options = {.folder = run, .config = "seed: 1\n", .resume = resume, .pipeline = text};
  qe_run_events events = {.note = on_note};
  qe_status status = qe_run_open(&options, &events, opened);
  qe_free(text);
  return status;
}

static qe_status go(const char *run) {
  qe_run *opened;
  trained = 0;
  whole_folder = run;
  noted[0] = 0;
  QE_TRY(open_pipeline(run, qe_file_exists(in(run, "config.yaml")), &list, &opened));
  qe_status status = qe_run_begin(opened);
  if (status == QE_OK) status = qe_pipeline_run(opened, &list, train_step, NULL);
  status = qe_run_end(opened, status);
  qe_run_close(opened);
  return status;
}

static void clear_all(const char *run) {
  for (size_t i = 0; i < list.steps; i++) clear(in(run, list.step[i].folder));
  clear(run);
}

static void compare_all(const char *a, const char *b) {
  static const char *const files[] = {"config.yaml", "pipeline.json", "state.json", "best.safetensors"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) assert_same_files(in(a, files[i]), in(b, files[i]));
  for (size_t i = 0; i < list.steps; i++) {
    char left[2 * FIXTURE_PATH], right[2 * FIXTURE_PATH];
    snprintf(left, sizeof left, "%s", in(a, list.step[i].folder));
    snprintf(right, sizeof right, "%s", in(b, list.step[i].folder));
    compare_runs(left, right, false);
    assert_same_files(in(left, "result.json"), in(right, "result.json"));
    assert_same_files(in(left, "state.json"), in(right, "state.json"));
  }
}

/* In a process of its own; whether it was killed. */
static bool is_killed(const char *run, fault_kind what, long at) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    fault_set(what, at, 0);
    qe_status status = go(run);
    if (status != QE_OK) fprintf(stderr, "%s\n", qe_message());
    _exit(status == QE_OK ? 0 : 1);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) assert_int_equal(WTERMSIG(status), SIGKILL);
  if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
  return WIFSIGNALED(status);
}

static char whole[2 * FIXTURE_PATH], hurt[2 * FIXTURE_PATH];

static long run_whole(void) {
  snprintf(whole, sizeof whole, "%s", path_of("whole"));
  snprintf(hurt, sizeof hurt, "%s", path_of("hurt"));
  clear_all(whole);
  clear_all(hurt);
  fault_set(FAULT_NONE, 0, 0);
  OK(go(whole));
  assert_int_equal(trained, 3);
  return fault.calls;
}

/* ---- killed, stopped ---- */

static void killed_at_each_file_call(void **state) {
  (void)state;
  long calls = run_whole();
  assert_true(calls > 150);
  print_message("%ld file calls\n", calls);
  long each = stride(calls, 40);
  for (long at = 1 + calls % each; at <= calls; at += each) {
    clear_all(hurt);
    if (is_killed(hurt, at % 2 ? FAULT_KILL : FAULT_AFTER, at)) assert_false(is_killed(hurt, FAULT_NONE, 0));
    compare_all(whole, hurt);
  }
  clear_all(hurt);
  clear_all(whole);
}

/* The first calls, which make the folder, one by one; and again and again while it resumes. */
static void killed_early_and_often(void **state) {
  (void)state;
  run_whole();
  for (long at = 1; at <= 24; at++) {
    clear_all(hurt);
    while (is_killed(hurt, at % 2 ? FAULT_KILL : FAULT_AFTER, at)) at += 20;
    compare_all(whole, hurt);
  }
  clear_all(hurt);
  clear_all(whole);
}

/* Steps that have finished are not trained again. */
static void stopped_in_each_step(void **state) {
  (void)state;
  static const int stops[] = {3, 20, 27, 33, 40};
  int begun = 0;
  run_whole();
  for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
    qe_run_stand stand;
    char how[2 * FIXTURE_PATH + 64];
    clear_all(hurt);
    steps_left = stops[i];
    FAILS(QE_INTERRUPTED, go(hurt), "go on with --resume --out");
    snprintf(how, sizeof how, "--resume --out %s", hurt);
    assert_string_equal(strstr(qe_message(), "--resume"), how); /* the pipeline's folder, not the step's */
    OK(qe_run_stand_read(hurt, &stand));
    assert_int_equal(stand.state, QE_RUN_INTERRUPTED);
    int before = trained;
    steps_left = 0;
    OK(go(hurt));
    assert_int_equal(trained, 4 - before); /* the stopped one twice */
    compare_all(whole, hurt);
    begun |= 1 << before;
  }
  assert_int_equal(begun, 2 | 4 | 8); /* a stop in every step */
  OK(go(hurt));
  assert_int_equal(trained, 0);
  assert_non_null(strstr(noted, "step 3 of 3, polish: finished before"));
  compare_all(whole, hurt);
  clear_all(hurt);
  clear_all(whole);
}

/* ---- folders ---- */

static void folders_are_not_mixed_up(void **state) {
  (void)state;
  qe_run *run = NULL;
  qe_run_options single = usual_options();
  run_whole();
  FAILS(QE_USAGE, open_pipeline(whole, false, &list, &run), "holds a pipeline already: add --resume");
  single.folder = whole;
  FAILS(QE_USAGE, qe_run_open(&single, NULL, &run), "this would be a run of one method");
  FAILS(QE_USAGE, qe_run_check(&single), "this would be a run of one method");
  single.resume = true;
  FAILS(QE_USAGE, qe_run_open(&single, NULL, &run), "this would be a run of one method");
  FAILS(QE_USAGE, open_pipeline(in(whole, "1-first"), true, &list, &run), "holds a run of one method");
  FAILS(QE_NOT_FOUND, open_pipeline(hurt, true, &list, &run), "has no pipeline to go on with");
  clear_all(hurt);
  clear_all(whole);
}

/* Steps that have begun stay; others may be new. */
static void steps_that_have_begun_stay(void **state) {
  (void)state;
  qe_pipeline other = {0};
  qe_run *run = NULL;
  run_whole();
  OK(qe_pipeline_add(&other, "first", "gradient"));
  FAILS(QE_USAGE, open_pipeline(whole, true, &other, &run),
        "step 2 has begun as second (gradient), now it would be missing");
  OK(qe_pipeline_add(&other, "another", "gradient"));
  FAILS(QE_USAGE, open_pipeline(whole, true, &other, &run), "now it would be another (gradient)");
  qe_pipeline_free(&other);
  for (size_t i = 0; i < list.steps; i++) OK(qe_pipeline_add(&other, list.step[i].name, list.step[i].method));
  OK(qe_pipeline_add(&other, "more", "gradient"));
  OK(open_pipeline(whole, true, &other, &run));
  qe_run_close(run);
  qe_pipeline_free(&other);
  OK(qe_pipeline_read(whole, &other));
  assert_int_equal(other.steps, 4);
  assert_string_equal(other.step[3].folder, "4-more");
  qe_pipeline_free(&other);
  clear_all(whole);
}

/* A list that leads elsewhere, or is none. */
static void lists_are_checked(void **state) {
  (void)state;
  static const char *const bad[] = {"",
                                    "{",
                                    "[]",
                                    "{\"steps\":[]}",
                                    "{\"steps\":[{\"name\":\"a\",\"method\":\"b\"}]}",
                                    "{\"steps\":[{\"name\":\"a\",\"method\":\"b\",\"folder\":\"../1-a\"}]}",
                                    "{\"steps\":[{\"name\":\"../a\",\"method\":\"b\",\"folder\":\"1-../a\"}]}"};
  qe_pipeline read;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    OK(qe_file_write(path_of("pipeline.json"), bad[i], strlen(bad[i])));
    FAILS(QE_FORMAT, qe_pipeline_read(folder, &read), "pipeline.json: ");
  }
  assert_int_equal(unlink(path_of("pipeline.json")), 0);
  FAILS(QE_NOT_FOUND, qe_pipeline_read(folder, &read), "pipeline.json");
}

static void scores_are_read_back(void **state) {
  (void)state;
  const qe_run_scores scores = {.final = {1.25, 87.5, 20}, .integer = {1.5, 75, 20}};
  qe_run_scores read;
  qe_json json = {0};
  char *text;
  qe_json_open_object(&json, NULL);
  qe_run_scores_json(&json, &scores);
  qe_json_close(&json);
  OK(qe_json_finish(&json, &text, NULL));
  OK(qe_file_write(path_of("result.json"), text, strlen(text)));
  qe_free(text);
  OK(qe_run_read_scores(folder, &read));
  assert_true(read.final.top1 == 87.5 && read.final.loss == 1.25 && read.final.images == 20);
  assert_true(read.integer.top1 == 75 && read.integer.loss == 1.5 && read.start.images == 0);
  OK(qe_file_write(path_of("result.json"), "{\"images\":20,\"top1\":null}", 25));
  OK(qe_run_read_scores(folder, &read));
  assert_int_equal(read.final.images, 0);
  assert_int_equal(unlink(path_of("result.json")), 0);
  OK(qe_run_read_scores(folder, &read));
  assert_int_equal(read.final.images, 0);
}

/* ---- what is handed on ---- */

static qe_setting setting_of(const char *model, int weights, int activations) {
  qe_setting setting = {.device = fixture_fast(), .data = data, .spec = qe_model_default(model)};
  setting.spec.height = setting.spec.width = 32;
  setting.spec.channels = 3;
  setting.spec.classes = 10;
  setting.spec.bits.weights = weights;
  setting.spec.bits.activations = activations;
  return setting;
}

static void starts_are_checked(void **state) {
  (void)state;
  const qe_method *qat = qe_method_find("qat"), *search = qe_method_find("coevolution");
  qe_setting real = setting_of("resnet8", 32, 32), low = setting_of("resnet8", 4, 4),
             odd = setting_of("resnet8", 4, 32), other = setting_of("mlp", 4, 4);
  qe_handed model = qe_method_hands_on(qat, &real, NULL), codes = qe_method_hands_on(search, &low, &model);
  assert_false(model.network);
  assert_true(codes.network);
  OK(qe_method_check_start(qat, &low, &model, "a"));
  OK(qe_method_check_start(search, &low, &model, "a"));
  OK(qe_method_check_start(search, &low, &codes, "a"));
  FAILS(QE_USAGE, qe_method_check_start(qat, &low, &codes, "step 1, a"),
        "qat cannot start from step 1, a, which leaves an integer network");
  FAILS(QE_USAGE, qe_method_check_start(qat, &other, &model, "a"), "a is a resnet8 with shortcut A, the run is of mlp");
  qe_handed weights = qe_method_hands_on(qat, &odd, NULL);
  OK(qe_method_check_start(qat, &low, &weights, "a"));
  assert_int_not_equal(qe_method_check_start(search, &low, &weights, "a"), QE_OK); /* float activations */
  low.spec.classes = 100;
  FAILS(QE_USAGE, qe_method_check_start(search, &low, &codes, "a"),
        "a is of 32x32x3 images in 10 classes, the data here are 32x32x3 in 100");
}

static int open_list(void **state) {
  OK(qe_pipeline_add(&list, "first", "gradient"));
  OK(qe_pipeline_add(&list, "second", "gradient"));
  OK(qe_pipeline_add(&list, "polish", "search"));
  return open_runs(state);
}

static int close_list(void **state) {
  qe_pipeline_free(&list);
  return close_all(state);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(killed_at_each_file_call),   cmocka_unit_test(killed_early_and_often),
      cmocka_unit_test(stopped_in_each_step),       cmocka_unit_test(folders_are_not_mixed_up),
      cmocka_unit_test(steps_that_have_begun_stay), cmocka_unit_test(lists_are_checked),
      cmocka_unit_test(scores_are_read_back),       cmocka_unit_test(starts_are_checked),
  };
  return cmocka_run_group_tests(tests, open_list, close_list);
}
