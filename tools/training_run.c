/* A training under way: signals, progress on the terminal, and what it leaves in its folder. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/report/report.h"
#include "core/train/pipeline.h"
#include "core/train/run_state.h"
#include "tools/find_rate.h"
#include "tools/search_progress.h"
#include "tools/training.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stops;

/* The first Ctrl-C (or SIGTERM of a scheduler, or SIGHUP of a closed terminal) ends the run after the batch or
 * generation at work, with a checkpoint; the second at once. */
static void on_signal(int number) {
  static const char text[] = "\nstopping after this step, with a checkpoint; once more: at once\n";
  int kept = errno;
  (void)number;
  if (++stops > 1) _exit(qe_exit_code(QE_INTERRUPTED));
  if (write(STDERR_FILENO, text, sizeof text - 1) < 0) errno = kept;
  errno = kept;
}

static void catch_signals(void) {
  static const int stopping[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, before;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof stopping / sizeof *stopping; i++) {
    bool hangup = stopping[i] == SIGHUP; /* nohup(1) has it ignored */
    if (hangup && sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler == SIG_IGN) continue;
    sigaction(stopping[i], &action, NULL);
  }
}

/* ---- events ---- */

typedef struct watch {
  qe_progress progress;
  int64_t batch;
  bool hash;
} watch;

static qe_status on_progress(void *context, const char *phase, const qe_train_progress *at) {
  (void)phase;
  watch *w = context;
  if (stops) return qe_fail(QE_INTERRUPTED, "interrupted");
  qe_progress_point point = {at->epoch,      at->epochs,    at->step * w->batch, at->steps * w->batch,
                             at->train.loss, at->train.top1};
  qe_progress_update(&w->progress, &point);
  return QE_OK;
}

static qe_status on_sweep(void *context, const qe_train_progress *at) {
  return on_progress(context, "", at);
}

static void on_epoch(void *context, const qe_epoch_report *report) {
  watch *w = context;
  char result[128];
  int used = snprintf(result, sizeof result, "test %.2f %%", report->test.top1);
  if (report->held_out.images > 0)
    used += snprintf(result + used, sizeof result - (size_t)used, ", held out %.2f %%", report->held_out.top1);
  if (report->twin_test.images > 0)
    snprintf(result + used, sizeof result - (size_t)used, ", twin %.2f %%", report->twin_test.top1);
  qe_progress_point point = {report->epoch,        report->epochs,     report->train.images,
                             report->train.images, report->train.loss, report->train.top1};
  qe_progress_epoch(&w->progress, &point, result);
}

static qe_status on_generation(void *context, const qe_search_report *report) {
  watch *w = context;
  qe_search_progress(&w->progress, report, w->hash);
  return stops ? qe_fail(QE_INTERRUPTED, "interrupted") : QE_OK;
}

static void on_note(void *context, const char *text) {
  watch *w = context;
  qe_progress_note(&w->progress, "%s", text);
}

/* ---- results ---- */

static void write_search(qe_json *json, const qe_result *result) {
  if (result->held_out.images) {
    qe_json_real(json, "held_out_top1", result->held_out.top1);
    qe_json_real(json, "held_out_loss", result->held_out.loss);
    qe_json_int(json, "held_out_images", result->held_out.images);
    qe_json_real(json, "start_held_out_top1", result->start_held_out.top1);
    qe_json_real(json, "start_held_out_loss", result->start_held_out.loss);
  }
  qe_json_int(json, "candidate_images", result->candidate_images);
  qe_json_real(json, "seconds", result->seconds);
}

void qe_training_write_result(qe_json *json, const qe_training *t, const qe_result *result) {
  qe_run_scores scores = {.start = result->start, .final = result->final, .integer = result->integer};
  qe_json_open_object(json, NULL);
  qe_run_scores_json(json, &scores);
  if (result->searched) write_search(json, result);
  qe_json_int(json, "seed", qe_option_int(t->options, "seed"));
  qe_json_text(json, "backend", t->setup->device->backend->name);
  qe_json_text(json, "data", t->setup->data->source);
}

/* result.json of the run's folder. */
static qe_status keep_result(const qe_training *t, const qe_run *run, const qe_result *result) {
  qe_json json = {0};
  char *text;
  qe_training_write_result(&json, t, result);
  qe_json_close(&json);
  QE_TRY(qe_json_finish(&json, &text, NULL));
  qe_status status = qe_run_keep_result(run, text);
  qe_free(text);
  return status;
}

/* report.html of the finished run. That it cannot be made is told, and is no failure of the training. */
static void write_report(const char *folder, const qe_setup *setup, const qe_train_options *options) {
  qe_report *report = NULL;
  char *path = folder ? qe_path_join(folder, "report.html") : NULL;
  if (!path) return;
  qe_status status = qe_report_new(&report);
  if (status == QE_OK) status = qe_report_add(report, folder);
  if (status == QE_OK && qe_report_has_network(report, 0))
    status = qe_report_evaluate(report, 0, setup->device, setup->data, options->eval_batch);
  if (status == QE_OK) status = qe_report_write(report, path, 0);
  if (status != QE_OK) fprintf(stderr, "note: %s is not written: %s\n", path, qe_message());
  qe_report_free(report);
  qe_free(path);
}

/* ---- running ---- */

/* A copy of the description that --model names, so that the folder alone can be resumed. */
static qe_status keep_net(const qe_options *options, const qe_setup *setup, const char *folder) {
  if (!setup->net || !folder) return QE_OK;
  char *path = qe_path_join(folder, qe_path_name(qe_option_text(options, "model")));
  if (!path) return QE_NO_MEMORY;
  qe_status status = qe_file_exists(path) ? QE_OK : qe_file_write(path, setup->net, strlen(setup->net));
  qe_free(path);
  return status;
}

qe_status qe_training_run(const qe_training *t, const qe_run_options *place, qe_result *result) {
  qe_setting setting = t->setting;
  watch w = {.progress = {.file = stderr}, .batch = setting.options.batch, .hash = qe_option_flag(t->options, "hash")};
  qe_run_events events = {.context = &w,
                          .progress = on_progress,
                          .epoch = on_epoch,
                          .generation = on_generation,
                          .note = on_note,
                          .explain = qe_option_flag(t->options, "explain") ? stderr : NULL};
  memset(result, 0, sizeof *result);
  QE_TRY(qe_run_open(place, &events, &setting.run));
  catch_signals();
  qe_status status = qe_run_begin(setting.run);
  if (status == QE_OK) status = keep_net(t->options, t->setup, place->folder);
  if (status == QE_OK) status = t->method->run(&setting, result);
  if (status == QE_OK) status = keep_result(t, setting.run, result);
  qe_progress_clear(&w.progress);
  status = qe_run_end(setting.run, qe_run_explain(setting.run, status));
  qe_run_close(setting.run);
  if (status == QE_OK && !t->bare) write_report(place->folder, t->setup, &setting.options);
  return status;
}

qe_status qe_training_find_rate(const qe_training *t) {
  watch w = {.progress = {.file = stderr}, .batch = t->setting.options.batch};
  catch_signals();
  qe_status found = qe_train_find_rate(t->options, t->method, &t->setting, on_sweep, &w);
  qe_progress_clear(&w.progress);
  return found;
}
