/* train with a pipeline: steps one after the other, or their plan. */
#define _GNU_SOURCE /* nftw */
#include "tools/train_pipeline.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/report/report.h"
#include "core/train/run_state.h"
#include "tools/dry_run.h"
#include "tools/report_runs.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the plan ---- */

/* A stand-in for what an earlier step will have left. */
static qe_status stand_in(void *context, const qe_steps *steps, int from, const char *path) {
  (void)context;
  if (qe_file_exists(path)) return QE_OK;
  char *folder = qe_path_folder(path);
  qe_status status = folder ? qe_make_folders(folder) : QE_NO_MEMORY;
  qe_free(folder);
  return status == QE_OK ? qe_handed_write(&steps->step[from].leaves, path) : status;
}

static qe_status plan_steps(qe_steps *steps, const char *root, qe_json *json, double *seconds) {
  for (int i = 0; i < steps->count; i++) {
    qe_training training;
    char title[QE_STEP_TEXT];
    QE_TRY(qe_steps_resolve(steps, i, root, stand_in, NULL));
    QE_TRY(qe_steps_training(steps, i, &training));
    QE_TRY(qe_dry_run_step(&training, qe_step_label(steps, i, title), json, seconds));
  }
  return QE_OK;
}

static int remove_one(const char *path, const struct stat *file, int type, struct FTW *at) {
  (void)file, (void)type, (void)at;
  return remove(path);
}

/* With stand-ins in a folder that is gone afterwards. */
qe_status qe_plan_pipeline(qe_steps *steps, qe_json *json, double *seconds) {
  const char *place = getenv("TMPDIR");
  char *root = qe_format("%s/qevo-plan-XXXXXX", place && *place ? place : "/tmp");
  if (!root) return QE_NO_MEMORY;
  if (!mkdtemp(root)) {
    qe_status status = qe_file_fail(root, "make the folder", errno);
    qe_free(root);
    return status;
  }
  qe_status status = plan_steps(steps, root, json, seconds);
  if (nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0) fprintf(stderr, "note: %s is left over\n", root);
  qe_free(root);
  return status;
}

static qe_status plan_text(qe_steps *steps, const char *config) {
  double seconds = 0;
  char time[32];
  fputs(config, stdout);
  QE_TRY(qe_plan_pipeline(steps, NULL, &seconds));
  if (isfinite(seconds)) printf("#\n# time of all %d steps: about %s\n", steps->count, qe_dry_run_time(seconds, time));
  puts(QE_NOTHING_TRAINED);
  return QE_OK;
}

static qe_status plan_json(qe_steps *steps, const char *config) {
  double seconds = 0;
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_open_array(&json, "steps");
  qe_status status = qe_plan_pipeline(steps, &json, &seconds);
  qe_json_close(&json);
  if (isfinite(seconds)) qe_json_real(&json, "seconds", seconds);
  qe_json_text(&json, "config", config);
  qe_json_close(&json);
  if (status == QE_OK) return qe_print_json(&json);
  qe_json_drop(&json);
  return status;
}

/* ---- what was given too late ---- */

static qe_status note_late_options(const qe_steps *steps, int at, const char *config) {
  const qe_options *options = steps->step[at].options;
  char label[QE_STEP_TEXT];
  qe_options *old;
  QE_TRY(qe_options_new(qe_option_table, qe_option_table_rows, "train", &old));
  qe_status status = qe_options_load(old, config, QE_FROM_CONFIG);
  for (size_t i = 0; status == QE_OK && i < qe_option_table_rows; i++) {
    const char *name = qe_option_table[i].name, *now = qe_option_text(options, name), *was = qe_option_text(old, name);
    bool given = qe_option_source(options, name) > QE_FROM_RECIPE && !qe_option_table[i].transient;
    if (given && now && strcmp(now, was ? was : "") != 0)
      fprintf(stderr, "note: %s, has finished with %s %s: %s comes too late for it\n", qe_step_label(steps, at, label),
              name, was ? was : "unset", now);
  }
  qe_options_free(old);
  if (status != QE_NOT_FOUND) return status;
  qe_message_clear();
  return QE_OK;
}

static qe_status note_late(const qe_steps *steps, const char *folder) {
  for (int i = 0; i < steps->count; i++) {
    qe_run_stand stand;
    char *path = qe_path_join(folder, steps->list.step[i].folder);
    char *config = path ? qe_path_join(path, "config.yaml") : NULL;
    qe_status status = config ? qe_run_stand_read(path, &stand) : QE_NO_MEMORY;
    if (status == QE_OK && stand.state == QE_RUN_FINISHED) status = note_late_options(steps, i, config);
    qe_free(config);
    qe_free(path);
    QE_TRY(status);
  }
  return QE_OK;
}

/* ---- running ---- */

static void on_note(void *context, const char *text) {
  (void)context;
  fprintf(stderr, "%s\n", text);
}

/* The page so far. That it cannot be written is told, and is no failure of the training. */
static void show_progress(const char *folder) {
  if (qe_report_folder(folder) != QE_OK)
    fprintf(stderr, "note: %s/report.html is not written: %s\n", folder, qe_message());
}

typedef struct under_way {
  qe_steps *steps;
  const char *whole; /* where to resume */
  bool bare;
} under_way;

static qe_status train_step(void *context, int at, const char *folder, bool resume) {
  const under_way *way = context;
  qe_steps *steps = way->steps;
  const char *whole = qe_option_text(steps->options, "out");
  qe_training training;
  qe_result result;
  QE_TRY(qe_steps_resolve(steps, at, whole, NULL, NULL));
  QE_TRY(qe_steps_training(steps, at, &training));
  training.bare = way->bare;
  char *config = qe_options_dump(steps->step[at].options);
  if (!config) return QE_NO_MEMORY;
  qe_run_options place = qe_training_place(steps->step[at].options, config);
  place.folder = folder;
  place.whole = way->whole;
  place.resume = resume;
  qe_status status = qe_training_run(&training, &place, &result);
  qe_free(config);
  if (status == QE_OK && !way->bare) show_progress(whole);
  return status;
}

/* The last page, with every step's network evaluated. */
static void write_report(qe_steps *steps, const char *folder) {
  qe_report *report = NULL;
  char *path = qe_path_join(folder, "report.html");
  qe_setup_close(&steps->setup);
  qe_status status = path ? qe_report_new(&report) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_report_add(report, folder);
  if (status == QE_OK) status = qe_evaluate_runs(steps->step[steps->count - 1].options, report);
  if (status == QE_OK) status = qe_report_write(report, path, 0);
  if (status != QE_OK) fprintf(stderr, "note: %s/report.html is not written: %s\n", folder, qe_message());
  qe_report_free(report);
  qe_free(path);
}

/* ---- the result ---- */

/* A search's network is an integer one itself. */
static qe_status read_scores(const qe_steps *steps, int at, const char *folder, qe_run_scores *scores) {
  char *path = qe_path_join(folder, steps->list.step[at].folder);
  qe_status status = path ? qe_run_read_scores(path, scores) : QE_NO_MEMORY;
  qe_free(path);
  if (status == QE_OK && steps->step[at].method->searches) scores->integer = scores->final;
  return status;
}

static void print_row(const qe_steps *steps, int at, const qe_run_scores *scores) {
  const qe_pipeline_step *step = &steps->list.step[at];
  char trained[16] = "", integer[16] = "";
  if (scores->final.images && !steps->step[at].method->searches)
    snprintf(trained, sizeof trained, "%.2f %%", scores->final.top1);
  if (scores->integer.images) snprintf(integer, sizeof integer, "%.2f %%", scores->integer.top1);
  printf("%3d  %-20s %-14s %10s %16s\n", at + 1, step->name, step->method, trained, integer);
}

static qe_status print_text(const qe_steps *steps, const char *folder) {
  qe_run_scores scores = {0};
  printf("%3s  %-20s %-14s %10s %16s\n", "", "step", "method", "test top-1", "integer network");
  for (int i = 0; i < steps->count; i++) {
    QE_TRY(read_scores(steps, i, folder, &scores));
    print_row(steps, i, &scores);
  }
  printf("%lld test images; the model is %s/best.safetensors\n", (long long)scores.final.images, folder);
  return QE_OK;
}

static qe_status print_json(const qe_steps *steps, const char *folder) {
  qe_json json = {0};
  qe_run_scores scores = {0};
  qe_status status = QE_OK;
  qe_json_open_object(&json, NULL);
  qe_json_open_array(&json, "steps");
  for (int i = 0; status == QE_OK && i < steps->count; i++) {
    const qe_pipeline_step *step = &steps->list.step[i];
    status = read_scores(steps, i, folder, &scores);
    qe_json_open_object(&json, NULL);
    qe_json_text(&json, "name", step->name);
    qe_json_text(&json, "method", step->method);
    qe_json_text(&json, "folder", step->folder);
    qe_run_scores_json(&json, &scores);
    qe_json_close(&json);
  }
  qe_json_close(&json);
  qe_run_scores_json(&json, &scores);
  qe_json_text(&json, "out", folder);
  qe_json_close(&json);
  if (status == QE_OK) return qe_print_json(&json);
  qe_json_drop(&json);
  return status;
}

/* ---- the command ---- */

qe_status qe_run_pipeline(qe_steps *steps, const qe_run_options *place, bool bare) {
  under_way way = {.steps = steps, .whole = place->whole ? place->whole : place->folder, .bare = bare};
  qe_run_events events = {.note = on_note};
  qe_run *run;
  QE_TRY(note_late(steps, place->folder));
  QE_TRY(qe_run_open(place, &events, &run));
  qe_status status = qe_run_begin(run);
  if (status == QE_OK) status = qe_pipeline_run(run, &steps->list, train_step, &way);
  status = qe_run_end(run, status);
  qe_run_close(run);
  return status;
}

static qe_status run_steps(qe_steps *steps, const qe_run_options *place) {
  QE_TRY(qe_run_pipeline(steps, place, false));
  write_report(steps, place->folder);
  return qe_option_flag(steps->options, "json") ? print_json(steps, place->folder) : print_text(steps, place->folder);
}

static qe_status plan_or_run(qe_steps *steps, const char *config) {
  char *list;
  QE_TRY(qe_pipeline_text(&steps->list, &list));
  qe_run_options place = qe_training_place(steps->options, config);
  place.pipeline = list;
  qe_status status;
  if (qe_option_flag(steps->options, "dry-run")) {
    status = qe_run_check(&place);
    if (status == QE_OK)
      status = qe_option_flag(steps->options, "json") ? plan_json(steps, config) : plan_text(steps, config);
  } else {
    status = run_steps(steps, &place);
  }
  qe_free(list);
  return status;
}

/* What says nothing of a pipeline. */
static qe_status check_options(const qe_options *options) {
  const char *out = qe_option_text(options, "out");
  if (qe_option_flag(options, "find-rate"))
    return qe_fail(QE_USAGE,
                   "--find-rate: is of one method: 'qevo-gpu train METHOD --find-rate' with the options and the "
                   "init of the step");
  if (qe_option_text(options, "dump") || qe_option_text(options, "dump-dot"))
    return qe_fail(QE_USAGE, "--dump, --dump-dot: are of one network, not of a pipeline");
  if (!qe_option_flag(options, "dry-run") && (!out || !*out))
    return qe_fail(QE_USAGE, "a pipeline hands its models on in files: say where by --out FOLDER");
  return QE_OK;
}

qe_status qe_train_pipeline(qe_options *options) {
  qe_steps steps;
  QE_TRY(check_options(options));
  QE_TRY(qe_steps_open(options, &steps));
  char *config = qe_steps_dump(&steps);
  qe_status status = config ? plan_or_run(&steps, config) : QE_NO_MEMORY;
  qe_free(config);
  qe_steps_close(&steps);
  return status;
}
