/* Progressive quantisation: stages of quantisation-aware training at fewer and fewer bits, each from the network of the
 * stage before, with steps fitted to what that computes. */
#include "core/methods/progressive.h"

#include "core/base/alloc.h"
#include "core/methods/phase.h"

#include <string.h>

/* A run on its way through the stages. */
typedef struct walk {
  const qe_setting *setting;
  qe_progressive_course course;
  const char *phases[QE_PROGRESSIVE_STAGES + 1]; /* NULL past the last */
  qe_model *model;                               /* at the bits of the stage that it has come to */
  int32_t epochs_before;
} walk;

static bool is_last(const walk *w, int stage) {
  return stage == w->course.stages - 1;
}

static qe_train_options stage_options(const walk *w, int stage) {
  qe_train_options options = w->setting->options;
  options.epochs = w->course.stage[stage].epochs;
  options.epochs_before = w->epochs_before;
  options.schedule.rate = w->course.stage[stage].rate;
  return options;
}

qe_status qe_check_progressive(const qe_setting *setting) {
  qe_progressive_course course;
  return qe_progressive_read(&setting->progressive, &setting->spec.bits, &setting->options, &course);
}

qe_status qe_progressive_first(const qe_setting *setting, qe_bits *bits, char **layers) {
  qe_progressive_course course;
  QE_TRY(qe_progressive_read(&setting->progressive, &setting->spec.bits, &setting->options, &course));
  return qe_progressive_bits(&course.stage[0], &setting->spec.bits, bits, layers);
}

/* The model as the run begins, at the bits of the first stage. */
static qe_status open_walk(const qe_setting *setting, walk *w) {
  qe_setting first = *setting;
  char *layers = NULL;
  *w = (walk){.setting = setting};
  QE_TRY(qe_progressive_read(&setting->progressive, &setting->spec.bits, &setting->options, &w->course));
  for (int i = 0; i < w->course.stages; i++) w->phases[i] = w->course.stage[i].name;
  QE_TRY(qe_progressive_bits(&w->course.stage[0], &setting->spec.bits, &first.spec.bits, &layers));
  qe_status status = qe_method_start_model(&first, &w->model);
  qe_free(layers);
  return status;
}

/* The model at the bits of `stage`; `fit`: steps that it lacks come from what the network before computes. */
static qe_status move_to(walk *w, int stage, bool fit) {
  const qe_setting *setting = w->setting;
  qe_bits bits;
  char *layers = NULL;
  qe_model *next = NULL;
  if (stage == 0) return fit ? qe_fit_steps(setting->device, w->model, setting->data, setting->options.seed) : QE_OK;
  QE_TRY(qe_progressive_bits(&w->course.stage[stage], &setting->spec.bits, &bits, &layers));
  qe_status status = qe_model_requantize(w->model, &bits, &next);
  qe_free(layers);
  QE_TRY(status);
  if (fit) status = qe_refit_steps(setting->device, w->model, next, setting->data, setting->options.seed);
  qe_model_free(w->model);
  w->model = next;
  return status;
}

static qe_status note_start(walk *w, int stage, qe_result *result) {
  const qe_setting *setting = w->setting;
  qe_score score;
  QE_TRY(qe_evaluate(setting->device, w->model, setting->data, setting->options.eval_batch, NULL, &score));
  qe_run_note(setting->run, "%s, before training: %.2f %% top-1", w->course.stage[stage].name, score.top1);
  if (is_last(w, stage)) result->start = score;
  return QE_OK;
}

/* The network that a stage ends with, for who wants to go on from there. */
static qe_status keep_stage(const walk *w, int stage, const qe_score *score) {
  char file[64], top1[32];
  const char *name = w->course.stage[stage].name;
  if (is_last(w, stage)) return QE_OK;
  snprintf(file, sizeof file, "stage-%s.safetensors", name);
  snprintf(top1, sizeof top1, "%.2f", score->top1);
  return qe_run_save_model(w->setting->run, w->model, file,
                           (const char *const[]){"phase", name, "test_top1", top1, NULL});
}

static qe_status train_stage(walk *w, int stage, qe_result *result) {
  const qe_setting *setting = w->setting;
  bool past = qe_method_phase_is_past(setting, w->phases, w->phases[stage]);
  bool fresh = !qe_run_resumed_phase(setting->run);
  qe_train_options options = stage_options(w, stage);
  QE_TRY(move_to(w, stage, fresh));
  w->epochs_before += options.epochs;
  if (past) return QE_OK;
  if (fresh) QE_TRY(note_start(w, stage, result));
  QE_TRY(qe_method_phase(setting, w->model, &options, w->phases[stage], &result->final));
  return keep_stage(w, stage, &result->final);
}

static qe_status train_stages(walk *w, qe_result *result) {
  QE_TRY(qe_method_pretrain(w->setting, w->model));
  for (int stage = 0; stage < w->course.stages; stage++) QE_TRY(train_stage(w, stage, result));
  return qe_method_score_integer(w->setting, w->model, result);
}

qe_status qe_train_progressive(const qe_setting *setting, qe_result *result) {
  walk w;
  *result = (qe_result){.quantized = true};
  qe_status status = open_walk(setting, &w);
  if (status == QE_OK) status = train_stages(&w, result);
  qe_model_free(w.model);
  return status;
}

/* Fitting takes memory of its own, and its values change no plan: where steps are timed it is done as the run will. */
static qe_status plan_stages(walk *w, qe_plan *plan) {
  const qe_setting *setting = w->setting;
  QE_TRY(qe_method_plan_pretraining(setting, w->model, plan));
  for (int stage = 0; stage < w->course.stages; stage++) {
    qe_train_options options = stage_options(w, stage);
    QE_TRY(move_to(w, stage, qe_plan_is_timed(setting->device)));
    QE_TRY(qe_plan_training(setting->device, w->model, setting->data, &options, w->phases[stage], plan));
  }
  return QE_OK;
}

qe_status qe_plan_progressive(const qe_setting *setting, qe_plan *plan) {
  walk w;
  memset(plan, 0, sizeof *plan);
  qe_status status = open_walk(setting, &w);
  if (status == QE_OK) status = plan_stages(&w, plan);
  qe_model_free(w.model);
  return status;
}
