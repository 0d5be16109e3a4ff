/* qevo-gpu report: runs to one HTML file, once or as long as a run goes on. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/report/report.h"
#include "core/train/pipeline.h"
#include "core/train/run_state.h"
#include "tools/report_runs.h"
#include "tools/report_surface.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { RELOAD_SECONDS = 5 };

static volatile sig_atomic_t stopped;

static void on_signal(int number) {
  (void)number;
  stopped = 1;
}

static void catch_signals(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
}

/* ---- writing ---- */

static qe_status open_report(const qe_options *options, qe_report **report) {
  QE_TRY(qe_report_new(report));
  qe_status status = QE_OK;
  for (int i = 0; status == QE_OK && i < qe_options_positionals(options); i++)
    status = qe_report_add(*report, qe_options_positional(options, i));
  if (status != QE_OK) qe_report_free(*report);
  return status;
}

/* New text: --out, else report.html in the run's folder, else here. */
static char *output_path(const qe_options *options) {
  const char *out = qe_option_text(options, "out"), *first = qe_options_positional(options, 0);
  if (out && *out) return qe_strdup(out);
  if (qe_options_positionals(options) == 1 && qe_folder_exists(first)) return qe_path_join(first, "report.html");
  return qe_strdup("report.html");
}

/* What the evaluation would come before. */
static qe_status check_place(const qe_options *options, const char *path) {
  for (int i = 0; i < qe_options_positionals(options); i++)
    QE_TRY(qe_refuse_overwrite(path, qe_options_positional(options, i)));
  return qe_check_place(path);
}

static qe_status print_result(const qe_options *options, const qe_report *report, const char *path) {
  if (!qe_option_flag(options, "json")) {
    printf("%s\n", path);
    return QE_OK;
  }
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "out", path);
  qe_report_json(report, &json);
  qe_json_close(&json);
  return qe_print_json(&json);
}

static qe_status report_once(qe_options *options, const char *path) {
  qe_report *report;
  QE_TRY(open_report(options, &report));
  qe_status status = qe_option_flag(options, "evaluate") ? qe_evaluate_runs(options, report) : QE_OK;
  if (status == QE_OK) status = qe_report_write(report, path, 0);
  if (status == QE_OK) status = print_result(options, report, path);
  qe_report_free(report);
  return status;
}

/* ---- watching ---- */

static int64_t state_of_run(const char *folder, int64_t state) {
  static const char *const files[] = {"metrics.jsonl", "best.safetensors", "last.safetensors", "state.json"};
  qe_run_stand stand;
  if (qe_run_stand_read(folder, &stand) == QE_OK)
    state = state * 31 + (int64_t)stand.state; /* no file tells that a run was killed */
  for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
    struct stat file;
    char *path = qe_path_join(folder, files[k]);
    if (path && stat(path, &file) == 0)
      state = state * 31 + file.st_mtim.tv_sec * 1000 + file.st_mtim.tv_nsec / 1000000 + file.st_size;
    qe_free(path);
  }
  return state;
}

static int64_t state_of_steps(const char *folder, int64_t state) {
  qe_pipeline pipeline;
  if (qe_pipeline_read(folder, &pipeline) != QE_OK) return state;
  for (size_t i = 0; i < pipeline.steps; i++) {
    char *path = qe_path_join(folder, pipeline.step[i].folder);
    if (path) state = state_of_run(path, state);
    qe_free(path);
  }
  qe_pipeline_free(&pipeline);
  return state;
}

/* Changes with everything that is written into the runs. */
static int64_t state_of(const qe_options *options) {
  int64_t state = 0;
  for (int i = 0; i < qe_options_positionals(options); i++) {
    const char *folder = qe_options_positional(options, i);
    state = state_of_run(folder, state);
    if (qe_pipeline_is(folder)) state = state_of_steps(folder, state);
  }
  return state;
}

/* The page as it stands now, without an evaluation, which would take the run's time; *done: every run has ended. */
static qe_status report_live(const qe_options *options, const char *path, bool *done) {
  qe_report *report;
  QE_TRY(open_report(options, &report));
  *done = qe_report_all_ended(report);
  qe_status status = *done ? QE_OK : qe_report_write(report, path, RELOAD_SECONDS);
  qe_report_free(report);
  return status;
}

static void wait_for_change(const qe_options *options, int64_t state) {
  const struct timespec pause = {.tv_sec = 0, .tv_nsec = 500000000};
  while (!stopped && state_of(options) == state) nanosleep(&pause, NULL);
}

static qe_status watch(qe_options *options, const char *path) {
  bool done = false;
  catch_signals();
  for (bool first = true; !stopped && !done; first = false) {
    int64_t state = state_of(options);
    QE_TRY(report_live(options, path, &done));
    if (done && first) fputs("no run is under way: the page is written once\n", stderr);
    if (done) break;
    if (first) fprintf(stderr, "watching; %s follows the run until it ends or Ctrl-C\n", path);
    wait_for_change(options, state);
  }
  return report_once(options, path);
}

/* The surface's files, and the report of a run anew, with the surface in it. */
static qe_status surface(qe_options *options) {
  const char *run;
  qe_report *report;
  QE_TRY(qe_report_surface(options, &run));
  if (!run) return QE_OK;
  char *path = qe_path_join(run, "report.html");
  if (!path) return QE_NO_MEMORY;
  qe_status status = qe_report_new(&report);
  if (status == QE_OK) {
    status = qe_report_add(report, run);
    if (status == QE_OK && qe_option_flag(options, "evaluate")) status = qe_evaluate_runs(options, report);
    if (status == QE_OK) status = qe_report_write(report, path, 0);
    qe_report_free(report);
  }
  if (status == QE_OK && !qe_option_flag(options, "json")) printf("%s\n", path);
  qe_free(path);
  return status;
}

qe_status qe_cmd_report(qe_options *options) {
  if (qe_report_is_surface(options)) return surface(options);
  char *path = output_path(options);
  if (!path) return QE_NO_MEMORY;
  qe_status status = check_place(options, path);
  if (status == QE_OK) status = qe_option_flag(options, "watch") ? watch(options, path) : report_once(options, path);
  qe_free(path);
  return status;
}
