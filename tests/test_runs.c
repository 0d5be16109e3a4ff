/* Runs that survive anything: killed at every file call and at random moments, a full disk, failing calls, damaged
 * checkpoints; resumed until they end, they leave what the undisturbed run leaves.
 *
 * $QEVO_TORTURE: how many times as many kills and faults as usual; from 10 on every file call is struck. */
#include "tests/file_faults.h"
#include "tests/small_runs.h"

#include <sys/wait.h>

/* ---- the runs ---- */

/* Three stages of bits of an epoch each, with quantisers whose steps are found at once. */
static qe_status train_progressive(qe_setting *setting, qe_result *result) {
  setting->spec = small_spec(2);
  setting->spec.bits.weight_rule = QE_RULE_MAX;
  setting->spec.bits.activation_rule = QE_RULE_DOREFA;
  setting->options = gradient_options(false);
  setting->options.epochs = 3;
  setting->options.optimizer = QE_OPTIMIZER_SGD;
  setting->progressive.rates = "0.01,0.02,0.03";
  return qe_train_progressive(setting, result);
}

/* Two rounds of two generations, each kind of phase with a state of its own. */
static qe_status train_gradfreebits(qe_setting *setting, qe_result *result) {
  setting->spec = small_spec(3);
  setting->spec.bits.weight_rule = QE_RULE_MAX;
  setting->options = gradient_options(false);
  setting->options.ema = 0;
  setting->options.epochs = 1;
  setting->search.save_every = 1;
  qe_gradfreebits_options *to = &setting->gradfreebits;
  *to = qe_gradfreebits_defaults();
  to->rounds = 2;
  to->pretrain_epochs = to->random_epochs = to->round_epochs = 1;
  to->generations = 2;
  to->population = 4;
  to->batch = 8;
  to->batches = to->confirm_batches = 2;
  to->confirm = 2;
  to->norm_images = 8;
  to->most = 4;
  return qe_train_gradfreebits(setting, result);
}

/* All that SQWA keeps: a cycle before the captures, captures, a moving average, a choice, averages, fine-tuning. */
static qe_status train_averaged(qe_setting *setting, qe_result *result) {
  setting->spec = small_spec(2);
  setting->spec.bits.activations = 4;
  setting->spec.bits.weight_rule = QE_RULE_L2;
  setting->options = gradient_options(false);
  setting->options.epochs = 3;
  setting->options.optimizer = QE_OPTIMIZER_SGD;
  setting->options.schedule.kind = QE_SCHEDULE_CYCLICAL;
  setting->options.schedule.cycle = 1;
  setting->float_options = gradient_options(true);
  setting->float_options.epochs = 1;
  setting->sqwa = (qe_sqwa_options){.captures = 2,
                                    .norm_images = 16,
                                    .fine_epochs = 1,
                                    .fine_rate = 0.001,
                                    .ema = 0.9,
                                    .choose = QE_SQWA_CHOOSE_SOUP};
  return qe_train_sqwa(setting, result);
}

typedef struct kind {
  const char *name;
  qe_status (*train)(qe_setting *setting, qe_result *result);
} kind;
static const kind gradient = {"gradient", train_gradient}, search = {"search", train_search},
                  progressive = {"progressive", train_progressive}, gradfreebits = {"gradfreebits", train_gradfreebits},
                  averaged = {"averaged", train_averaged};

/* Start the run, or resume it where there is one. */
static qe_status go(const kind *of, const char *run, const qe_run_options *usual) {
  qe_setting setting = {.device = fixture_fast(), .data = data, .spec = small_spec(4)};
  qe_run_options options = *usual;
  qe_run_events events = {.progress = on_step, .generation = on_generation, .note = on_note};
  qe_result result;
  options.folder = run;
  options.resume = qe_file_exists(in(run, "config.yaml"));
  noted[0] = 0;
  QE_TRY(qe_run_open(&options, &events, &setting.run));
  qe_status status = qe_run_explain(setting.run, of->train(&setting, &result));
  qe_run_close(setting.run);
  return status;
}

/* In a process of its own, with a fault; true when it was killed. Other failures fail the test. */
static bool is_killed(const kind *of, const char *run, const qe_run_options *options, fault_kind what, long at) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    fault_set(what, at, 0);
    qe_status status = go(of, run, options);
    if (status != QE_OK) fprintf(stderr, "%s: %s\n", of->name, qe_message());
    _exit(status == QE_OK ? 0 : 1);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) assert_int_equal(WTERMSIG(status), SIGKILL);
  if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
  return WIFSIGNALED(status);
}

/* The same, killed after a time. */
static bool is_killed_after(const kind *of, const char *run, const qe_run_options *options, useconds_t microseconds) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) _exit(go(of, run, options) == QE_OK ? 0 : 1);
  usleep(microseconds);
  kill(child, SIGKILL);
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
  return WIFSIGNALED(status);
}

/* ---- kills ---- */

static char whole[2 * FIXTURE_PATH], hurt[2 * FIXTURE_PATH];

/* The undisturbed run into `whole`; returns how many calls it makes. */
static long run_whole(const kind *of, const qe_run_options *options) {
  snprintf(whole, sizeof whole, "%s", path_of("whole"));
  snprintf(hurt, sizeof hurt, "%s", path_of("hurt"));
  clear(whole);
  clear(hurt);
  fault_set(FAULT_NONE, 0, 0);
  OK(go(of, whole, options));
  return fault.calls;
}

static void check_each_kill(const kind *of) {
  qe_run_options options = usual_options();
  long calls = run_whole(of, &options);
  assert_true(calls > 50);
  print_message("%s: %ld file calls\n", of->name, calls);
  long each = stride(calls, 40);
  for (long at = 1 + calls % each; at <= calls; at += each) {
    clear(hurt);
    fault_kind what = at % 2 ? FAULT_KILL : FAULT_AFTER;
    if (is_killed(of, hurt, &options, what, at)) assert_false(is_killed(of, hurt, &options, FAULT_NONE, 0));
    compare_runs(whole, hurt, false);
  }
  clear(hurt);
  clear(whole);
}

static void killed_at_each_file_call(void **state) {
  (void)state;
  check_each_kill(&gradient);
}
static void stages_of_bits_killed_at_each_file_call(void **state) {
  (void)state;
  check_each_kill(&progressive);
}
static void searches_killed_at_each_file_call(void **state) {
  (void)state;
  check_each_kill(&search);
}
static void rounds_killed_at_each_file_call(void **state) {
  (void)state;
  check_each_kill(&gradfreebits);
}

static void averages_killed_at_each_file_call(void **state) {
  (void)state;
  check_each_kill(&averaged);
}

/* Killed again and again, until it ends. Every second time early, so that it dies while it resumes. */
static void check_random_kills(const kind *of, int trials) {
  qe_run_options options = usual_options();
  long calls = run_whole(of, &options);
  draws from = {23, 0};
  for (int trial = 0; trial < trials; trial++) {
    clear(hurt);
    if (trial % 2 == 0)
      for (int kills = 0;; kills++) {
        long at = draw_range(&from, 1, kills % 2 ? 30 : (int)calls);
        if (!is_killed(of, hurt, &options, draw_range(&from, 0, 1) ? FAULT_KILL : FAULT_AFTER, at)) break;
      }
    else
      while (is_killed_after(of, hurt, &options, (useconds_t)draw_range(&from, 0, 60000))) continue;
    compare_runs(whole, hurt, false);
  }
  clear(hurt);
  clear(whole);
}

static void killed_at_random(void **state) {
  (void)state;
  check_random_kills(&gradient, torture(6));
}
static void searches_killed_at_random(void **state) {
  (void)state;
  check_random_kills(&search, torture(4));
}

/* The line of an epoch is there once, though checkpoints are rarer than epochs. */
static void rare_checkpoints_repeat_no_line(void **state) {
  (void)state;
  qe_run_options options = usual_options();
  options.save_every = 2;
  options.save_steps = 0;
  long calls = run_whole(&gradient, &options);
  for (long at = 20; at <= calls; at += 13) {
    clear(hurt);
    if (is_killed(&gradient, hurt, &options, FAULT_KILL, at)) OK(go(&gradient, hurt, &options));
    compare_runs(whole, hurt, false);
  }
}

/* ---- stopped ---- */

/* Asked to stop after each batch or generation, resumed, and once more two later. */
static void check_stops(const kind *of, int least) {
  qe_run_options options = usual_options();
  run_whole(of, &options);
  for (int step = 1;; step++) {
    clear(hurt);
    steps_left = step;
    qe_status status = go(of, hurt, &options);
    if (status == QE_OK) {
      assert_true(step > least);
      break;
    }
    assert_int_equal(status, QE_INTERRUPTED);
    assert_non_null(strstr(qe_message(), "go on with --resume --out"));
    steps_left = 2;
    status = go(of, hurt, &options);
    steps_left = 0;
    if (status == QE_INTERRUPTED) OK(go(of, hurt, &options));
    compare_runs(whole, hurt, false);
  }
  steps_left = 0;
  clear(hurt);
  clear(whole);
}

static void stopped_after_each_step(void **state) {
  (void)state;
  check_stops(&gradient, 24);
  check_stops(&progressive, 18);
  check_stops(&search, 8);
  check_stops(&gradfreebits, 20);
  check_stops(&averaged, 24);
}

/* ---- failing calls ---- */

/* Every call fails once; the run says so or does without it, and goes on when resumed. */
static void check_failing_calls(const kind *of, fault_kind what, int error, const char *cure) {
  qe_run_options options = usual_options();
  long calls = run_whole(of, &options);
  int failed = 0;
  long each = stride(calls, 30);
  for (long at = 1 + calls % each; at <= calls; at += each) {
    clear(hurt);
    fault_set(what, at, error);
    qe_message_clear();
    qe_status status = go(of, hurt, &options);
    char struck[32];
    snprintf(struck, sizeof struck, "%s", fault.struck);
    fault_set(FAULT_NONE, 0, 0);
    if (status != QE_OK) {
      failed++;
      if (status != QE_IO && status != QE_USAGE)
        fail_msg("%s failed, the status is %s", struck, qe_status_name(status));
      if (!strstr(qe_message(), cure)) fail_msg("%s failed, the message is '%s'", struck, qe_message());
      if (qe_file_exists(in(hurt, "checkpoint.safetensors"))) assert_non_null(strstr(qe_message(), "--resume"));
      OK(go(of, hurt, &options));
    }
    compare_runs(whole, hurt, false);
  }
  assert_true(failed > 10);
  clear(hurt);
  clear(whole);
}

static void every_call_can_fail(void **state) {
  (void)state;
  check_failing_calls(&gradient, FAULT_ERROR, EIO, "Input/output error");
}
static void disks_can_be_full(void **state) {
  (void)state;
  check_failing_calls(&gradient, FAULT_FULL, 0, "No space left on device; free some space or choose another folder");
  check_failing_calls(&search, FAULT_FULL, 0, "No space left on device; free some space or choose another folder");
}

static void folders_without_permission(void **state) {
  (void)state;
  qe_run_options options = usual_options();
  options.folder = path_of("denied");
  qe_run *run = NULL;
  fault_set(FAULT_ERROR, 1, EACCES);
  qe_status status = qe_run_open(&options, NULL, &run);
  fault_set(FAULT_NONE, 0, 0);
  assert_int_equal(status, QE_IO);
  assert_non_null(strstr(qe_message(), "denied/.lock"));
  assert_non_null(strstr(qe_message(), "check its permissions or choose another folder"));
  clear(path_of("denied"));
}

static void folders_in_use_are_refused(void **state) {
  (void)state;
  qe_run_options options = usual_options();
  options.folder = path_of("used");
  qe_run *run, *second = NULL;
  OK(qe_run_open(&options, NULL, &run));
  FAILS(QE_USAGE, qe_run_open(&options, NULL, &second), "is in use by process");
  options.resume = true;
  FAILS(QE_USAGE, qe_run_open(&options, NULL, &second), "wait until that ends, or choose another folder");
  qe_run_close(run);
  OK(qe_run_open(&options, NULL, &run)); /* nothing but its config is there: it begins again */
  qe_run_close(run);
  clear(path_of("used"));
}

/* ---- damaged and kept checkpoints ---- */

/* Stopped after some calls, then one bit of the checkpoint flips, or its end is lost. */
static void damaged_checkpoints_are_passed_over(void **state) {
  (void)state;
  qe_run_options options = usual_options();
  long calls = run_whole(&gradient, &options);
  draws from = {29, 0};
  for (int trial = 0; trial < 12; trial++) {
    clear(hurt);
    assert_true(is_killed(&gradient, hurt, &options, FAULT_KILL, calls - 8));
    char *bytes;
    size_t size;
    const char *file = in(hurt, "checkpoint.safetensors");
    OK(qe_file_read(file, 1 << 26, &bytes, &size));
    size_t at = (size_t)draw_range(&from, 0, (int)size - 1);
    if (trial < 9 && trial % 2) at %= 4000; /* in the header */
    bytes[at] = (char)(bytes[at] ^ 1 << draw_range(&from, 0, 7));
    OK(qe_file_write(file, bytes, trial < 9 ? size : at));
    OK(go(&gradient, hurt, &options));
    assert_non_null(strstr(noted, "going on from the one before it"));
    assert_non_null(strstr(noted, "checkpoint-1.safetensors"));
    compare_runs(whole, hurt, true);
    qe_free(bytes);
  }
  clear(hurt);
  assert_true(is_killed(&gradient, hurt, &options, FAULT_KILL, calls - 8));
  OK(qe_file_write(in(hurt, "checkpoint.safetensors"), "", 0));
  OK(qe_file_write(in(hurt, "checkpoint-1.safetensors"), "no", 2));
  FAILS(QE_FORMAT, go(&gradient, hurt, &options), "no sound checkpoint before it: begin again with another --out");
  clear(hurt);
  clear(whole);
}

static void check_position(const char *run, const char *file, const char *phase, const char *epoch) {
  qe_tensors *tensors;
  OK(qe_tensors_read(in(run, file), &tensors));
  assert_string_equal(qe_tensors_get_meta(tensors, "phase"), phase);
  assert_string_equal(qe_tensors_get_meta(tensors, "position.epoch"), epoch);
  assert_null(qe_tensors_get_meta(tensors, "interim"));
  qe_tensors_free(tensors);
}

/* The newest whole epochs are kept, checkpoints within epochs are not counted. */
static void the_newest_checkpoints_are_kept(void **state) {
  (void)state;
  qe_run_options options = usual_options();
  options.keep = 3;
  run_whole(&gradient, &options);
  check_position(whole, "checkpoint.safetensors", "qat", "2");
  check_position(whole, "checkpoint-1.safetensors", "qat", "1");
  check_position(whole, "checkpoint-2.safetensors", "float", "2");
  assert_false(qe_file_exists(in(whole, "checkpoint-3.safetensors")));
  options.keep = 1; /* fewer when it goes on: the others go with its next checkpoint */
  assert_int_equal(unlink(in(whole, "checkpoint.safetensors")), 0);
  OK(go(&gradient, whole, &options));
  check_position(whole, "checkpoint.safetensors", "qat", "2");
  assert_false(qe_file_exists(in(whole, "checkpoint-1.safetensors")));
  clear(whole);
}

static void runs_of_another_method_are_refused(void **state) {
  (void)state;
  qe_run_options options = usual_options();
  run_whole(&gradient, &options);
  FAILS(QE_USAGE, go(&search, whole, &options), "is of the phase qat: resume it with its own method");
  clear(whole);
  run_whole(&search, &options);
  FAILS(QE_USAGE, go(&gradient, whole, &options), "is of the phase coevolution, this run would go on with float");
  clear(whole);
}

/* The texts of options given when a run is resumed are its own from then on, once its checkpoint has been taken. */
static void the_configuration_follows(void **state) {
  (void)state;
  char *text;
  qe_run_options options = usual_options();
  run_whole(&gradient, &options);
  options.config = "seed: 1\nepochs: 9\n";
  FAILS(QE_USAGE, go(&search, whole, &options), "resume it with its own method");
  OK(qe_file_read(in(whole, "config.yaml"), 100, &text, NULL));
  assert_string_equal(text, "seed: 1\n");
  qe_free(text);
  OK(go(&gradient, whole, &options));
  OK(qe_file_read(in(whole, "config.yaml"), 100, &text, NULL));
  assert_string_equal(text, options.config);
  qe_free(text);
  clear(whole);
}

/* save_minutes: so short that each batch is late. */
static void checkpoints_by_time(void **state) {
  (void)state;
  qe_run_options options = usual_options();
  const kind *const kinds[] = {&gradient, &search};
  for (int k = 0; k < 2; k++) {
    options.save_steps = 0;
    options.save_minutes = 0;
    long calls = run_whole(kinds[k], &options), more;
    options.save_minutes = 1e-9;
    OK(go(kinds[k], hurt, &options));
    more = fault.calls - calls;
    assert_true(more > calls * 5 / 4); /* checkpoints within the epochs */
    compare_runs(whole, hurt, false);
    clear(hurt);
    clear(whole);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(killed_at_each_file_call),
      cmocka_unit_test(stages_of_bits_killed_at_each_file_call),
      cmocka_unit_test(searches_killed_at_each_file_call),
      cmocka_unit_test(rounds_killed_at_each_file_call),
      cmocka_unit_test(averages_killed_at_each_file_call),
      cmocka_unit_test(killed_at_random),
      cmocka_unit_test(searches_killed_at_random),
      cmocka_unit_test(stopped_after_each_step),
      cmocka_unit_test(rare_checkpoints_repeat_no_line),
      cmocka_unit_test(every_call_can_fail),
      cmocka_unit_test(disks_can_be_full),
      cmocka_unit_test(folders_without_permission),
      cmocka_unit_test(folders_in_use_are_refused),
      cmocka_unit_test(damaged_checkpoints_are_passed_over),
      cmocka_unit_test(the_newest_checkpoints_are_kept),
      cmocka_unit_test(runs_of_another_method_are_refused),
      cmocka_unit_test(the_configuration_follows),
      cmocka_unit_test(checkpoints_by_time),
  };
  return cmocka_run_group_tests(tests, open_runs, close_all);
}
