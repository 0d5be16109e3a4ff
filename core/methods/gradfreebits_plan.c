/* What a GradFreeBits run will take: its trainings as any other's, and its searches by the time of one allocation. */
#include "core/methods/gradfreebits_parts.h"

#include <string.h>

/* Candidate-images of all searches: their generations, and what is compared after each. */
static int64_t all_images(const qe_gradfreebits *s) {
  const qe_gradfreebits_options *o = s->options;
  int64_t widths = o->most - o->least + 1, uniform = o->batches < o->confirm_batches ? o->batches : o->confirm_batches;
  int64_t searched = (int64_t)o->generations * o->population * o->batches;
  int64_t compared = ((int64_t)o->confirm + 1) * o->confirm_batches + widths * uniform;
  return o->rounds * (searched + compared) * o->batch;
}

/* The second of two runs, on other batches; the first brings images and threads up. */
static qe_status time_trials(const qe_gradfreebits *s, const qe_step_bank *bank, qe_plan_phase *phase) {
  qe_trials_setup setup = qe_gfb_trials_setup(s, bank);
  qe_trials *trials;
  qe_trial_score score;
  double since = 0;
  QE_TRY(qe_trials_new(&setup, &trials));
  qe_status status = QE_OK;
  for (int run = 0; status == QE_OK && run < 2; run++) {
    since = qe_plan_clock();
    status = qe_trials_run(trials, s->bits, 1, (int64_t)run * s->options->batches, s->options->batches, &score);
  }
  double seconds = qe_plan_clock() - since;
  qe_trials_free(trials);
  QE_TRY(status);
  phase->timed = (int64_t)s->options->batches * s->options->batch;
  phase->images_per_second = seconds > 0 ? (double)phase->timed / seconds : 0;
  if (phase->images_per_second > 0) phase->seconds = (double)phase->budget / phase->images_per_second;
  return QE_OK;
}

static qe_status plan_search(const qe_gradfreebits *s, qe_plan *plan) {
  const qe_setting *setting = s->setting;
  const qe_dataset *data = setting->data;
  if (plan->phases == QE_PLAN_PHASES) return qe_fail(QE_USAGE, "a plan has at most %d phases", QE_PLAN_PHASES);
  qe_plan_phase *phase = &plan->phase[plan->phases];
  size_t image = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  size_t params = qe_graph_param_bytes(s->model->graph);
  *phase = (qe_plan_phase){.name = "searches", .budget = all_images(s)};
  phase->host[QE_PLAN_DATA] = qe_plan_data_bytes(data);
  phase->device[QE_PLAN_DATA] = (size_t)data->train_images * image;
  phase->host[QE_PLAN_PARAMETERS] = 2 * params;
  phase->host[QE_PLAN_CHECKPOINT] = params;
  if (!plan->host_memory) phase->device[QE_PLAN_CANDIDATES] = setting->search.fitness.memory;
  plan->phases++;
  if (!qe_plan_is_timed(setting->device)) return QE_OK;
  qe_step_bank *bank;
  QE_TRY(qe_step_bank_new(s->model, &bank));
  qe_step_bank_keep(bank, s->model);
  qe_status status = time_trials(s, bank, phase);
  qe_step_bank_free(bank);
  return status;
}

static qe_status plan_phases(qe_gradfreebits *s, qe_plan *plan) {
  const qe_setting *setting = s->setting;
  qe_train_options options = setting->options;
  QE_TRY(qe_method_plan_pretraining(setting, s->model, plan));
  if (qe_plan_is_timed(setting->device)) /* it takes memory of its own */
    QE_TRY(qe_fit_steps(setting->device, s->model, setting->data, options.seed));
  options.epochs = s->options->pretrain_epochs + s->options->random_epochs;
  if (options.epochs > 0)
    QE_TRY(qe_plan_training(setting->device, s->model, setting->data, &options, QE_GFB_PRETRAIN, plan));
  options.epochs = setting->options.epochs + (s->options->rounds - 1) * s->options->round_epochs;
  QE_TRY(qe_plan_training(setting->device, s->model, setting->data, &options, "rounds", plan));
  return plan_search(s, plan);
}

qe_status qe_plan_gradfreebits(const qe_setting *setting, qe_plan *plan) {
  qe_gradfreebits s = {0};
  memset(plan, 0, sizeof *plan);
  qe_status status = qe_gfb_open(&s, setting);
  if (status == QE_OK) status = plan_phases(&s, plan);
  qe_gfb_close(&s);
  return status;
}
