/* Quantisation-aware training: full-precision pre-training (or a model to start from), steps fitted to weights and
 * activations, then gradient training through fake quantisers. */
#include "core/methods/phase.h"

#include <string.h>

#define QAT_PHASE "qat"

static qe_status train_quantized(const qe_setting *setting, qe_model *model, qe_result *result) {
  QE_TRY(qe_method_pretrain(setting, model));
  if (!qe_run_resumed_phase(setting->run)) {
    QE_TRY(qe_fit_steps(setting->device, model, setting->data, setting->options.seed));
    QE_TRY(qe_evaluate(setting->device, model, setting->data, 0, NULL, &result->start));
    qe_run_note(setting->run, "quantised, before training: %.2f %% top-1", result->start.top1);
  }
  QE_TRY(qe_method_phase(setting, model, &setting->options, QAT_PHASE, &result->final));
  return qe_method_score_integer(setting, model, result);
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
    status = qe_method_phase(setting, model, &setting->options, QE_FLOAT_PHASE, &result->final);
  qe_model_free(model);
  return status;
}

static qe_status plan_phases(const qe_setting *setting, qe_model *model, qe_plan *plan) {
  bool quantized = qe_method_quantizes(&setting->spec.bits);
  if (quantized) QE_TRY(qe_method_plan_pretraining(setting, model, plan));
  if (quantized &&
      qe_plan_is_timed(setting->device)) /* it takes memory of its own, at small batches more than training */
    QE_TRY(qe_fit_steps(setting->device, model, setting->data, setting->options.seed));
  return qe_plan_training(setting->device, model, setting->data, &setting->options,
                          quantized ? QAT_PHASE : QE_FLOAT_PHASE, plan);
}

qe_status qe_plan_qat(const qe_setting *setting, qe_plan *plan) {
  qe_model *model;
  memset(plan, 0, sizeof *plan);
  QE_TRY(qe_method_start_model(setting, &model));
  qe_status status = plan_phases(setting, model, plan);
  qe_model_free(model);
  return status;
}
