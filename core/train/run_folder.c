/* Run folders: made, locked, found again, cut back to where their checkpoint stands. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/lock.h"
#include "core/train/run_parts.h"
#include "core/train/run_state.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- what a killed process left ---- */

/* Whether a name is that of a file under way: "….part.123". */
static bool is_part(const char *name) {
  const char *at = strstr(name, ".part.");
  return at && at[6] && strspn(at + 6, "0123456789") == strlen(at + 6);
}

/* The folder is locked, so whoever wrote them is gone. */
static qe_status remove_parts(const char *folder) {
  DIR *listing = opendir(folder);
  if (!listing) return qe_file_fail(folder, "list the folder", errno);
  qe_status status = QE_OK;
  for (struct dirent *entry; status == QE_OK && (entry = readdir(listing));) {
    if (!is_part(entry->d_name)) continue;
    char *path = qe_path_join(folder, entry->d_name);
    status = path ? qe_file_remove(path) : QE_NO_MEMORY;
    qe_free(path);
  }
  closedir(listing);
  return status;
}

/* ---- the configuration ---- */

qe_status qe_run_keep_file(const qe_run *run, const char *file, const char *text) {
  char *path, *is = NULL;
  if (!text) return QE_OK;
  QE_TRY(qe_run_path(run, file, &path));
  if (!path) return QE_OK;
  qe_status status = qe_file_read(path, (size_t)1 << 24, &is, NULL);
  if (status == QE_NO_MEMORY || (status == QE_OK && strcmp(is, text) == 0)) goto done;
  status = qe_file_write(path, text, strlen(text));
done:
  qe_free(is);
  qe_free(path);
  return status;
}

static qe_status keep_config(const qe_run *run) {
  return qe_run_keep_file(run, "config.yaml", run->options.config);
}

/* ---- resuming ---- */

static void take_place(const qe_run *run, qe_board_place *place) {
  const char *file = qe_tensors_get_meta(run->resumed, "events_file");
  place->step = qe_run_resumed_number(run, "events_step", 0);
  if (!file || strlen(file) >= sizeof place->file) return;
  snprintf(place->file, sizeof place->file, "%s", file);
  place->bytes = qe_run_resumed_number(run, "events_bytes", 0);
}

/* What was appended after the checkpoint will be appended again: cut it off. */
static qe_status rewind_logs(qe_run *run) {
  qe_board_place place = {0};
  int64_t bytes = qe_run_resumed_number(run, "metrics_bytes", INT64_MAX);
  QE_TRY(qe_file_cut(run->metrics, bytes));
  take_place(run, &place);
  return qe_board_open(run->options.folder, &place, &run->board);
}

/* There is nothing to resume. A run that has ended is not trained again over its own models. */
static qe_status refuse_missing(const qe_run *run) {
  char *config;
  qe_run_stand stand;
  QE_TRY(qe_run_stand_read(run->options.folder, &stand));
  if (stand.state == QE_RUN_FINISHED)
    return qe_fail(QE_NOT_FOUND,
                   "%s: the run has finished, and its checkpoints are gone: there is nothing to resume; to train its "
                   "model further start a run in another folder with --init %s",
                   run->options.folder, run->options.folder);
  QE_TRY(qe_run_path(run, "config.yaml", &config));
  bool has_run = qe_file_exists(config) || qe_file_exists(run->metrics);
  qe_free(config);
  if (has_run) return QE_OK;
  return qe_fail(QE_NOT_FOUND, "%s has no checkpoint to resume from, and no run; start without --resume",
                 run->options.folder);
}

/* A run that was stopped before its first checkpoint begins again. */
static qe_status begin_again(qe_run *run) {
  const char *folder = run->options.folder;
  QE_TRY(refuse_missing(run));
  QE_TRY(qe_file_remove(run->metrics));
  QE_TRY(qe_board_open(folder, NULL, &run->board));
  qe_run_note(run, "%s has no checkpoint yet: the run begins again", folder);
  return keep_config(run);
}

static qe_status resume(qe_run *run) {
  qe_status status = qe_run_find_checkpoint(run);
  if (status == QE_NOT_FOUND) return begin_again(run);
  return status == QE_OK ? rewind_logs(run) : status;
}

static qe_status refuse_run(const qe_run *run) {
  bool has = false;
  QE_TRY(qe_run_has_checkpoint(run, &has));
  if (!has && !qe_file_exists(run->metrics)) return QE_OK;
  return qe_fail(QE_USAGE, "%s holds a run already: add --resume to go on with it, or choose another --out",
                 run->options.folder);
}

static qe_status start(qe_run *run) {
  QE_TRY(refuse_run(run));
  QE_TRY(qe_board_open(run->options.folder, NULL, &run->board));
  return keep_config(run);
}

/* ---- opening ---- */

static qe_status open_folder(qe_run *run) {
  const char *folder = run->options.folder;
  QE_TRY(qe_run_path(run, "metrics.jsonl", &run->metrics));
  QE_TRY(qe_run_path(run, "checkpoint.safetensors", &run->checkpoint));
  QE_TRY(qe_make_folders(folder));
  QE_TRY(qe_folder_lock(folder, &run->lock));
  QE_TRY(remove_parts(folder));
  if (qe_run_is_whole(run)) return qe_run_open_whole(run);
  QE_TRY(qe_run_refuse_whole(run));
  return run->options.resume ? resume(run) : start(run);
}

static qe_status check_folder(qe_run *run) {
  const char *folder = run->options.folder;
  bool has = false;
  if (qe_folder_exists(folder)) {
    if (access(folder, W_OK | X_OK) != 0) return qe_file_fail(folder, "write into the folder", errno);
    if (qe_folder_is_locked(folder))
      return qe_fail(QE_USAGE, "%s is in use by another process: wait until that ends, or choose another folder",
                     folder);
  }
  QE_TRY(qe_run_path(run, "metrics.jsonl", &run->metrics));
  QE_TRY(qe_run_path(run, "checkpoint.safetensors", &run->checkpoint));
  if (qe_run_is_whole(run)) return qe_run_check_whole(run);
  QE_TRY(qe_run_refuse_whole(run));
  if (!run->options.resume) return refuse_run(run);
  QE_TRY(qe_run_has_checkpoint(run, &has));
  return has ? QE_OK : refuse_missing(run);
}

qe_status qe_run_check(const qe_run_options *options) {
  qe_run run = {.options = *options};
  if (options->resume && !options->folder) return qe_fail(QE_USAGE, "--resume needs the run's folder: add --out");
  qe_status status = options->folder ? check_folder(&run) : QE_OK;
  qe_free(run.metrics);
  qe_free(run.checkpoint);
  return status;
}

qe_status qe_run_open(const qe_run_options *options, const qe_run_events *events, qe_run **out) {
  if (options->resume && !options->folder) return qe_fail(QE_USAGE, "--resume needs the run's folder: add --out");
  qe_run *run = QE_NEW(qe_run);
  if (!run) return QE_NO_MEMORY;
  run->options = *options;
  if (events) run->events = *events;
  run->lock = -1;
  run->best = -1;
  run->epoch_at = -1;
  run->saved_at = qe_run_clock();
  qe_status status = options->folder ? open_folder(run) : QE_OK;
  if (status != QE_OK) {
    qe_run_close(run);
    return status;
  }
  *out = run;
  return QE_OK;
}

void qe_run_close(qe_run *run) {
  if (!run) return;
  qe_board_close(run->board);
  qe_tensors_free(run->resumed);
  qe_model_free(run->twin);
  qe_free(run->resumed_from);
  qe_free(run->metrics);
  qe_free(run->checkpoint);
  qe_folder_unlock(run->lock);
  qe_free(run);
}

qe_status qe_run_path(const qe_run *run, const char *file, char **path) {
  *path = run->options.folder ? qe_path_join(run->options.folder, file) : NULL;
  return *path || !run->options.folder ? QE_OK : QE_NO_MEMORY;
}

const qe_tensors *qe_run_resumed(const qe_run *run) {
  return run->resumed;
}

const char *qe_run_resumed_from(const qe_run *run) {
  return run->resumed_from ? run->resumed_from : "the checkpoint";
}

const char *qe_run_resume_folder(const qe_run *run) {
  return run->options.whole ? run->options.whole : run->options.folder;
}

const char *qe_run_resumed_phase(const qe_run *run) {
  return run->resumed ? qe_tensors_get_meta(run->resumed, "phase") : NULL;
}

/* The options have passed by now: they are the run's from here on. */
qe_status qe_run_drop_resumed(qe_run *run) {
  if (!run->resumed) return QE_OK;
  run->steps_before = qe_run_resumed_number(run, "steps_before", 0);
  qe_tensors_free(run->resumed);
  run->resumed = NULL;
  QE_TRY(keep_config(run));
  return qe_run_state_running(run);
}

void qe_run_note(qe_run *run, const char *format, ...) {
  if (!run || !run->events.note) return;
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  run->events.note(run->events.context, text);
}
