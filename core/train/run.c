/* Runs of gradient methods: the loop over epochs, its checkpoints and models. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/train/run_parts.h"

#include <stdio.h>
#include <string.h>

/* Whether the moving average is the model. */
static bool is_averaged(const qe_train_options *options) {
  return options->ema > 0 && !options->ema_beside;
}

/* `interim`: within an epoch. */
static qe_status save_checkpoint(qe_run *run, bool interim) {
  if (!run->checkpoint) return QE_OK;
  char best[64];
  snprintf(best, sizeof best, "%a", run->best);
  qe_tensors *tensors = qe_tensors_new();
  qe_status status = tensors ? qe_trainer_give(run->trainer, tensors) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_tensors_set_meta(tensors, "best", best);
  if (status == QE_OK) status = qe_run_save_state(run, tensors, run->phase, interim);
  qe_tensors_free(tensors);
  return status;
}

/* Whether a checkpoint is due after this batch. At an epoch's end there is one anyway, or as --save-every has it. */
static bool is_due(const qe_run *run, const qe_train_progress *progress) {
  int64_t every = run->options.save_steps;
  if (progress->step == progress->steps) return false;
  return qe_run_due(run) || (every > 0 && progress->step % every == 0);
}

static qe_status on_progress(void *context, const qe_train_progress *progress) {
  qe_run *run = context;
  bool told = progress->epoch == run->epoch_at && progress->step == run->step_at;
  run->newest = *progress;
  if (run->options.log_every > 0 && !told && progress->step % run->options.log_every == 0)
    QE_TRY(qe_run_log_step(run, progress));
  if (run->events.progress) QE_TRY(run->events.progress(run->events.context, run->phase, progress));
  return is_due(run, progress) ? save_checkpoint(run, true) : QE_OK;
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

void qe_run_keep_twin(qe_run *run, qe_model *twin) {
  run->twin = twin;
}

qe_model *qe_run_twin(const qe_run *run) {
  return run->twin;
}

static qe_status save_twin(const qe_run *run, const char *const *facts) {
  const qe_model *twin = qe_trainer_twin(run->trainer);
  return twin ? qe_run_save_model(run, twin, "twin.safetensors", facts) : QE_OK;
}

static qe_status save_models(qe_run *run, const qe_model *model, const qe_train_options *options,
                             const qe_epoch_report *report) {
  char epoch[32], seed[32], top1[32];
  snprintf(epoch, sizeof epoch, "%d of %d", report->epoch, report->epochs);
  snprintf(seed, sizeof seed, "%llu", (unsigned long long)options->seed);
  snprintf(top1, sizeof top1, "%.2f", report->test.top1);
  const char *const facts[] = {"phase", run->phase, "epoch", epoch, "seed", seed, "test_top1", top1, NULL};
  QE_TRY(qe_run_save_model(run, model, "last.safetensors", facts));
  if (report->twin_test.images > 0) {
    char twin_top1[32];
    snprintf(twin_top1, sizeof twin_top1, "%.2f", report->twin_test.top1);
    const char *const of_twin[] = {"phase", run->phase, "epoch", epoch, "seed", seed, "test_top1", twin_top1, NULL};
    QE_TRY(save_twin(run, of_twin));
  }
  bool better = report->held_out.images == 0 || run->best < 0 || report->held_out.loss < run->best;
  if (better && report->held_out.images > 0) run->best = report->held_out.loss;
  return better ? qe_run_save_model(run, model, "best.safetensors", facts) : QE_OK;
}

static qe_status finish_epoch(qe_run *run, qe_trainer *trainer, qe_model *model, const qe_train_options *options,
                              double since, qe_epoch_report *report) {
  bool averaged = is_averaged(options);
  *report = (qe_epoch_report){.phase = run->phase,
                              .epoch = qe_trainer_epochs_done(trainer),
                              .epochs = options->epochs,
                              .train = run->newest.train,
                              .rate = run->newest.rate,
                              .gradient_norm = run->newest.gradient_norm,
                              .images_per_second = run->newest.images_per_second,
                              .quantised = qe_trainer_quantised(trainer),
                              .distill = run->newest.distill};
  QE_TRY(qe_trainer_evaluate(trainer, QE_PART_TEST, averaged, &report->test));
  if (options->held_out > 0) QE_TRY(qe_trainer_evaluate(trainer, QE_PART_HELD_OUT, averaged, &report->held_out));
  if (report->distill.twin.images > 0) QE_TRY(qe_trainer_evaluate_twin(trainer, averaged, &report->twin_test));
  report->seconds = qe_run_clock() - since;
  QE_TRY(qe_trainer_download(trainer, averaged));
  QE_TRY(qe_run_log_epoch(run, model, report));
  QE_TRY(save_models(run, model, options, report));
  if (run->after_epoch) QE_TRY(run->after_epoch(run->after_epoch_context, trainer, report));
  int every = run->options.save_every;
  bool last = report->epoch == report->epochs;
  if (last || (every > 0 && report->epoch % every == 0)) QE_TRY(save_checkpoint(run, false));
  if (run->events.epoch) run->events.epoch(run->events.context, report);
  return QE_OK;
}

void qe_run_after_epoch(qe_run *run, qe_epoch_function function, void *context) {
  run->after_epoch = function;
  run->after_epoch_context = context;
}

/* Fewer epochs than were done would leave a model that the config does not describe. */
static qe_status check_epochs(const qe_run *run, int epochs) {
  int done = qe_trainer_epochs_done(run->trainer);
  if (done < epochs || (done == epochs && qe_trainer_steps_done(run->trainer) == 0)) return QE_OK;
  return qe_fail(QE_USAGE, "%s: %d epochs of %s are done, this run would have %d: give the epochs of the run, or more",
                 qe_run_resumed_from(run), done, run->phase, epochs);
}

static qe_status take_checkpoint(qe_run *run, int epochs) {
  const char *phase = qe_run_resumed_phase(run);
  if (!run->resumed) return QE_OK;
  if (!phase || strcmp(phase, run->phase) != 0)
    return qe_fail(QE_USAGE,
                   "%s is of the phase %s, this run would go on with %s: resume it with its own method "
                   "and options",
                   qe_run_resumed_from(run), phase ? phase : "?", run->phase);
  QE_TRY(qe_trainer_take(run->trainer, run->resumed, qe_run_resumed_from(run)));
  QE_TRY(check_epochs(run, epochs));
  const char *best = qe_tensors_get_meta(run->resumed, "best");
  if (best && sscanf(best, "%la", &run->best) != 1) run->best = -1;
  run->epoch_at = qe_trainer_epochs_done(run->trainer) + 1;
  run->step_at = qe_trainer_steps_done(run->trainer);
  QE_TRY(qe_run_drop_resumed(run));
  if (run->step_at > 0)
    qe_run_note(run, "resumed after batch %lld of epoch %d of %s", (long long)run->step_at, run->epoch_at, run->phase);
  else
    qe_run_note(run, "resumed after epoch %d of %s%s", run->epoch_at - 1, run->phase,
                run->epoch_at > epochs ? ", its last" : "");
  return QE_OK;
}

/* The state that is on the device is good: keep it, and say how to go on. */
static qe_status stop(qe_run *run) {
  const char *folder = qe_run_resume_folder(run);
  QE_TRY(save_checkpoint(run, true));
  return qe_fail(QE_INTERRUPTED, "stopped in epoch %d of %s%s%s", qe_trainer_epochs_done(run->trainer) + 1, run->phase,
                 folder ? "; go on with --resume --out " : "", folder ? folder : "");
}

static qe_status say_diverged(const qe_run *run) {
  if (!run->checkpoint || !qe_file_exists(run->checkpoint)) return QE_DIVERGED;
  char text[1024];
  snprintf(text, sizeof text, "%s", qe_message());
  return qe_fail(QE_DIVERGED, "%s; the last checkpoint before it is kept in %s", text, run->checkpoint);
}

/* A second network that stays as it is: kept in the folder, and how good it is is said. */
static qe_status show_teacher(qe_run *run, const qe_train_options *options) {
  qe_score score;
  if (options->distill.mode != QE_DISTILL_FROZEN || !qe_trainer_twin(run->trainer)) return QE_OK;
  QE_TRY(qe_trainer_evaluate_twin(run->trainer, false, &score));
  qe_run_note(run, "%s learns from %s of %.2f %% top-1", run->phase, qe_trainer_twin(run->trainer)->spec.name,
              score.top1);
  return save_twin(run, NULL);
}

static qe_status run_epochs(qe_run *run, qe_model *model, const qe_train_options *options) {
  QE_TRY(take_checkpoint(run, options->epochs));
  QE_TRY(show_teacher(run, options));
  while (qe_trainer_epochs_done(run->trainer) < options->epochs) {
    double since = qe_run_clock();
    qe_epoch_report report;
    qe_status status = qe_trainer_epoch(run->trainer, on_progress, run);
    if (status == QE_INTERRUPTED) return stop(run);
    if (status == QE_DIVERGED) return say_diverged(run);
    QE_TRY(status);
    QE_TRY(finish_epoch(run, run->trainer, model, options, since, &report));
  }
  return QE_OK;
}

qe_status qe_run_phase(qe_run *run, qe_trainer *trainer, qe_model *model, const qe_train_options *options,
                       const char *phase, qe_score *final) {
  run->phase = phase;
  run->best = -1;
  run->trainer = trainer;
  run->epoch_at = -1;
  if (run->events.explain) qe_trainer_explain(trainer, run->events.explain);
  qe_status status = run_epochs(run, model, options);
  run->trainer = NULL;
  QE_TRY(status);
  run->steps_before += options->epochs * qe_trainer_epoch_steps(trainer);
  QE_TRY(qe_trainer_download(trainer, is_averaged(options)));
  return qe_trainer_evaluate(trainer, QE_PART_TEST, is_averaged(options), final);
}
