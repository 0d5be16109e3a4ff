/* Phases of gradient training. */
#include "core/methods/phase.h"

#include <string.h>

/* The second network of a phase is that of the phase before, or is made of the model as it is now. */
static qe_status find_twin(const qe_setting *setting, const qe_model *model, qe_train_options *options) {
  qe_distill_options *distill = &options->distill;
  if (options->plain || !qe_distill_has_model(distill->mode) || distill->twin) return QE_OK;
  if (!qe_run_twin(setting->run)) {
    qe_model *twin = NULL;
    QE_TRY(qe_twin_new(model, distill, &twin));
    qe_run_keep_twin(setting->run, twin);
  }
  distill->twin = qe_run_twin(setting->run);
  return QE_OK;
}

qe_status qe_method_phase(const qe_setting *setting, qe_model *model, const qe_train_options *given, const char *phase,
                          qe_score *final) {
  qe_trainer *trainer = NULL;
  qe_train_options own = *given, *options = &own;
  QE_TRY(find_twin(setting, model, options));
  QE_TRY(qe_trainer_new(setting->device, model, setting->data, options, &trainer));
  qe_run_note(setting->run, "%s: %d epoch%s, %zu MiB of device memory", phase, options->epochs,
              options->epochs == 1 ? "" : "s", qe_trainer_bytes(trainer) >> 20);
  qe_status status = qe_run_phase(setting->run, trainer, model, options, phase, final);
  qe_trainer_free(trainer);
  return status;
}

static bool wants_pretraining(const qe_setting *setting) {
  return !setting->init && setting->float_options.epochs > 0;
}

static qe_train_options float_options(const qe_setting *setting) {
  qe_train_options options = setting->float_options;
  options.plain = true;
  return options;
}

qe_status qe_method_pretrain(const qe_setting *setting, qe_model *model) {
  qe_train_options options = float_options(setting);
  const char *resumed = qe_run_resumed_phase(setting->run);
  if (!wants_pretraining(setting) || (resumed && strcmp(resumed, QE_FLOAT_PHASE) != 0)) return QE_OK;
  qe_score score;
  QE_TRY(qe_method_phase(setting, model, &options, QE_FLOAT_PHASE, &score));
  qe_run_note(setting->run, "float: %.2f %% top-1 on %lld test images", score.top1, (long long)score.images);
  return QE_OK;
}

bool qe_method_phase_is_past(const qe_setting *setting, const char *const *phases, const char *phase) {
  const char *resumed = qe_run_resumed_phase(setting->run);
  bool after = false;
  for (; resumed && *phases; phases++) {
    if (after && strcmp(*phases, resumed) == 0) return true;
    after |= strcmp(*phases, phase) == 0;
  }
  return false;
}

qe_status qe_method_score_integer(const qe_setting *setting, const qe_model *model, qe_result *result) {
  qe_status status = qe_evaluate_integer(setting->device, model, setting->data, 0, NULL, &result->integer);
  if (status != QE_REFUSED) return status;
  qe_message_clear();
  result->integer = (qe_score){0};
  return QE_OK;
}

qe_status qe_method_plan_pretraining(const qe_setting *setting, qe_model *model, qe_plan *plan) {
  qe_train_options options = float_options(setting);
  if (!wants_pretraining(setting)) return QE_OK;
  return qe_plan_training(setting->device, model, setting->data, &options, QE_FLOAT_PHASE, plan);
}
