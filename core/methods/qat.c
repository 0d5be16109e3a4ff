/* Quantisation-aware training: full-precision pre-training (or a model to start from), steps fitted to weights and
 * activations, then gradient training through fake quantisers. */
#include "core/base/alloc.h"
#include "core/methods/method.h"

#include <string.h>

static qe_status run_phase(const qe_setting *setting, qe_model *model, const qe_train_options *options,
                           const char *phase, qe_score *final) {
  qe_trainer *trainer = NULL;
  QE_TRY(qe_trainer_new(setting->device, model, setting->data, options, &trainer));
  qe_run_note(setting->run, "%s: %d epoch%s, %zu MiB of device memory", phase, options->epochs,
              options->epochs == 1 ? "" : "s", qe_trainer_bytes(trainer) >> 20);
  qe_status status = qe_run_phase(setting->run, trainer, model, options, phase, final);
  qe_trainer_free(trainer);
  return status;
}

static qe_status pretrain(const qe_setting *setting, qe_model *model) {
  qe_train_options options = setting->float_options;
  const char *resumed = qe_run_resumed_phase(setting->run);
  if (setting->init || options.epochs == 0 || (resumed && strcmp(resumed, "qat") == 0)) return QE_OK;
  options.plain = true;
  qe_score score;
  QE_TRY(run_phase(setting, model, &options, "float", &score));
  qe_run_note(setting->run, "float: %.2f %% top-1 on %lld test images", score.top1, (long long)score.images);
  return QE_OK;
}

static qe_status train_quantized(const qe_setting *setting, qe_model *model, qe_result *result) {
  QE_TRY(pretrain(setting, model));
  if (!qe_run_resumed_phase(setting->run)) {
    QE_TRY(qe_fit_steps(setting->device, model, setting->data, setting->options.seed));
    QE_TRY(qe_evaluate(setting->device, model, setting->data, 0, NULL, &result->start));
    qe_run_note(setting->run, "quantised, before training: %.2f %% top-1", result->start.top1);
  }
  return run_phase(setting, model, &setting->options, "qat", &result->final);
}

qe_status qe_train_qat(const qe_setting *setting, qe_result *result) {
  qe_model *model;
  memset(result, 0, sizeof *result);
  result->quantized = qe_method_quantizes(&setting->spec.bits);
  QE_TRY(qe_method_start_model(setting, &model));
  qe_status status = QE_OK;
  if (result->quantized)
    status = train_quantized(setting, model, result);
  else
    status = run_phase(setting, model, &setting->options, "float", &result->final);
  qe_model_free(model);
  return status;
}

static qe_status plan_phases(const qe_setting *setting, qe_model *model, qe_plan *plan) {
  qe_train_options first = setting->float_options;
  bool quantized = qe_method_quantizes(&setting->spec.bits);
  first.plain = true;
  if (quantized && !setting->init && first.epochs > 0)
    QE_TRY(qe_plan_training(setting->device, model, setting->data, &first, "float", plan));
  if (quantized &&
      qe_plan_is_timed(setting->device)) /* it takes memory of its own, at small batches more than training */
    QE_TRY(qe_fit_steps(setting->device, model, setting->data, setting->options.seed));
  return qe_plan_training(setting->device, model, setting->data, &setting->options, quantized ? "qat" : "float", plan);
}

qe_status qe_plan_qat(const qe_setting *setting, qe_plan *plan) {
  qe_model *model;
  memset(plan, 0, sizeof *plan);
  QE_TRY(qe_method_start_model(setting, &model));
  qe_status status = plan_phases(setting, model, plan);
  qe_model_free(model);
  return status;
}
