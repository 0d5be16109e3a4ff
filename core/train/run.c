/* Runs: the folder, the metrics, the checkpoints, the loop over epochs. */
#include "core/train/run_parts.h"

#include "core/base/alloc.h"
#include "core/base/file.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* What was appended to the metrics after the checkpoint will be appended again. */
static qe_status rewind_metrics(const qe_run *run) {
  const char *text = qe_tensors_get_meta(run->resumed, "metrics_bytes");
  long long bytes = 0;
  struct stat now;
  if (!text || sscanf(text, "%lld", &bytes) != 1 || bytes < 0) return QE_OK;
  if (stat(run->metrics, &now) != 0 || now.st_size <= bytes) return QE_OK;
  if (truncate(run->metrics, (off_t)bytes) == 0) return QE_OK;
  return qe_fail(QE_IO, "cannot shorten %s to where its checkpoint stands: is it read-only?", run->metrics);
}

static qe_status open_folder(qe_run *run) {
  const qe_run_options *options = &run->options;
  run->metrics = qe_path_join(options->folder, "metrics.jsonl");
  run->checkpoint = qe_path_join(options->folder, "checkpoint.safetensors");
  char *config = qe_path_join(options->folder, "config.yaml");
  qe_status status = run->metrics && run->checkpoint && config ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_make_folders(options->folder);
  if (status == QE_OK && !options->resume && (qe_file_exists(run->checkpoint) || qe_file_exists(run->metrics)))
    status = qe_fail(QE_USAGE, "%s holds a run already: add --resume to go on with it, or choose another --out",
                     options->folder);
  if (status == QE_OK && options->resume) {
    status = qe_tensors_read(run->checkpoint, &run->resumed);
    if (status == QE_NOT_FOUND)
      status = qe_fail(QE_NOT_FOUND, "%s has no checkpoint to resume from; start without --resume", options->folder);
    if (status == QE_OK) status = rewind_metrics(run);
  }
  if (status == QE_OK && options->config && !options->resume)
    status = qe_file_write(config, options->config, strlen(options->config));
  qe_free(config);
  return status;
}

qe_status qe_run_open(const qe_run_options *options, const qe_run_events *events, qe_run **out) {
  if (options->resume && !options->folder) return qe_fail(QE_USAGE, "--resume needs the run's folder: add --out");
  qe_run *run = QE_NEW(qe_run);
  if (!run) return QE_NO_MEMORY;
  run->options = *options;
  if (events) run->events = *events;
  run->best = -1;
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
  qe_tensors_free(run->resumed);
  qe_free(run->metrics);
  qe_free(run->checkpoint);
  qe_free(run);
}

const char *qe_run_resumed_phase(const qe_run *run) {
  return run->resumed ? qe_tensors_get_meta(run->resumed, "phase") : NULL;
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

static void write_score(qe_json *json, const char *name, const qe_score *score) {
  if (score->images == 0) return;
  char key[64];
  snprintf(key, sizeof key, "%s_loss", name);
  qe_json_real(json, key, score->loss);
  snprintf(key, sizeof key, "%s_top1", name);
  qe_json_real(json, key, score->top1);
}

static qe_status log_epoch(qe_run *run, const qe_epoch_report *report) {
  if (!run->metrics) return QE_OK;
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "phase", report->phase);
  qe_json_int(&json, "epoch", report->epoch);
  qe_json_int(&json, "epochs", report->epochs);
  write_score(&json, "train", &report->train);
  write_score(&json, "test", &report->test);
  write_score(&json, "held_out", &report->held_out);
  qe_json_real(&json, "rate", report->rate);
  qe_json_real(&json, "gradient_norm", report->gradient_norm);
  qe_json_real(&json, "images_per_second", report->images_per_second);
  qe_json_real(&json, "seconds", report->seconds);
  qe_json_close(&json);
  return qe_run_append(run, &json);
}

static qe_status log_step(qe_run *run, const qe_train_progress *progress) {
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "phase", run->phase);
  qe_json_int(&json, "epoch", progress->epoch);
  qe_json_int(&json, "step", progress->step);
  qe_json_int(&json, "steps", progress->steps);
  write_score(&json, "running_train", &progress->train);
  qe_json_real(&json, "rate", progress->rate);
  qe_json_real(&json, "gradient_norm", progress->gradient_norm);
  qe_json_close(&json);
  return qe_run_append(run, &json);
}

static qe_status on_progress(void *context, const qe_train_progress *progress) {
  qe_run *run = context;
  run->newest = *progress;
  if (run->options.log_every > 0 && run->metrics && progress->step % run->options.log_every == 0)
    QE_TRY(log_step(run, progress));
  return run->events.progress ? run->events.progress(run->events.context, run->phase, progress) : QE_OK;
}

static qe_status save_checkpoint(qe_run *run, qe_trainer *trainer) {
  if (!run->checkpoint) return QE_OK;
  char best[64];
  snprintf(best, sizeof best, "%a", run->best);
  qe_tensors *tensors = qe_tensors_new();
  qe_status status = tensors ? qe_trainer_give(trainer, tensors) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_tensors_set_meta(tensors, "phase", run->phase);
  if (status == QE_OK) status = qe_tensors_set_meta(tensors, "best", best);
  if (status == QE_OK) status = qe_tensors_write(tensors, run->checkpoint);
  qe_tensors_free(tensors);
  return status;
}

qe_status qe_run_save_model(const qe_run *run, const qe_model *model, const char *file, const char *const *facts) {
  if (!run->options.folder) return QE_OK;
  char *path = qe_path_join(run->options.folder, file);
  qe_tensors *tensors = qe_tensors_new();
  qe_status status = path && tensors ? qe_model_give(model, tensors) : QE_NO_MEMORY;
  for (; status == QE_OK && facts && facts[0]; facts += 2) status = qe_tensors_set_meta(tensors, facts[0], facts[1]);
  if (status == QE_OK) status = qe_tensors_write(tensors, path);
  qe_tensors_free(tensors);
  qe_free(path);
  return status;
}

static qe_status save_models(qe_run *run, qe_trainer *trainer, qe_model *model, const qe_train_options *options,
                             const qe_epoch_report *report) {
  char epoch[32], seed[32], top1[32];
  snprintf(epoch, sizeof epoch, "%d of %d", report->epoch, report->epochs);
  snprintf(seed, sizeof seed, "%llu", (unsigned long long)options->seed);
  snprintf(top1, sizeof top1, "%.2f", report->test.top1);
  const char *const facts[] = {"phase", run->phase, "epoch", epoch, "seed", seed, "test_top1", top1, NULL};
  QE_TRY(qe_trainer_download(trainer, options->ema > 0));
  QE_TRY(qe_run_save_model(run, model, "last.safetensors", facts));
  bool better = report->held_out.images == 0 || run->best < 0 || report->held_out.loss < run->best;
  if (better && report->held_out.images > 0) run->best = report->held_out.loss;
  return better ? qe_run_save_model(run, model, "best.safetensors", facts) : QE_OK;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static qe_status finish_epoch(qe_run *run, qe_trainer *trainer, qe_model *model, const qe_train_options *options,
                              double since, qe_epoch_report *report) {
  bool averaged = options->ema > 0;
  *report = (qe_epoch_report){.phase = run->phase,
                              .epoch = qe_trainer_epochs_done(trainer),
                              .epochs = options->epochs,
                              .train = run->newest.train,
                              .rate = run->newest.rate,
                              .gradient_norm = run->newest.gradient_norm,
                              .images_per_second = run->newest.images_per_second};
  QE_TRY(qe_trainer_evaluate(trainer, QE_PART_TEST, averaged, &report->test));
  if (options->held_out > 0) QE_TRY(qe_trainer_evaluate(trainer, QE_PART_HELD_OUT, averaged, &report->held_out));
  report->seconds = seconds() - since;
  QE_TRY(log_epoch(run, report));
  QE_TRY(save_models(run, trainer, model, options, report));
  int every = run->options.save_every;
  bool last = report->epoch == report->epochs;
  if (last || (every > 0 && report->epoch % every == 0)) QE_TRY(save_checkpoint(run, trainer));
  if (run->events.epoch) run->events.epoch(run->events.context, report);
  return QE_OK;
}

static qe_status take_checkpoint(qe_run *run, qe_trainer *trainer) {
  const char *phase = qe_run_resumed_phase(run);
  if (!phase || strcmp(phase, run->phase) != 0) return QE_OK;
  qe_status status = qe_trainer_take(trainer, run->resumed, run->checkpoint);
  const char *best = qe_tensors_get_meta(run->resumed, "best");
  if (best && sscanf(best, "%la", &run->best) != 1) run->best = -1;
  qe_run_drop_resumed(run);
  if (status == QE_OK) qe_run_note(run, "resumed after epoch %d of %s", qe_trainer_epochs_done(trainer), run->phase);
  return status;
}

qe_status qe_run_phase(qe_run *run, qe_trainer *trainer, qe_model *model, const qe_train_options *options,
                       const char *phase, qe_score *final) {
  run->phase = phase;
  run->best = -1;
  if (run->events.explain) qe_trainer_explain(trainer, run->events.explain);
  QE_TRY(take_checkpoint(run, trainer));
  while (qe_trainer_epochs_done(trainer) < options->epochs) {
    double since = seconds();
    qe_epoch_report report;
    qe_status status = qe_trainer_epoch(trainer, on_progress, run);
    if (status == QE_INTERRUPTED) {
      QE_TRY(save_checkpoint(run, trainer));
      return qe_fail(QE_INTERRUPTED, "stopped in epoch %d of %s%s%s", qe_trainer_epochs_done(trainer) + 1, phase,
                     run->options.folder ? "; go on with --resume --out " : "",
                     run->options.folder ? run->options.folder : "");
    }
    if (status == QE_DIVERGED && run->checkpoint && qe_file_exists(run->checkpoint)) {
      char text[1024];
      snprintf(text, sizeof text, "%s", qe_message());
      return qe_fail(QE_DIVERGED, "%s; the state before this epoch is kept in %s", text, run->checkpoint);
    }
    QE_TRY(status);
    QE_TRY(finish_epoch(run, trainer, model, options, since, &report));
  }
  QE_TRY(qe_trainer_download(trainer, options->ema > 0));
  return qe_trainer_evaluate(trainer, QE_PART_TEST, options->ema > 0, final);
}
