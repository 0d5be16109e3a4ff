/* SQWA as a run: full-precision training or a model to start from, direct quantisation, retraining in cycles with
 * captures, averaging, fine-tuning. Resumed in the phase that it was stopped in; averaging follows from the captured
 * models and is done again. */
#include "core/methods/sqwa_parts.h"

#include <stdio.h>
#include <string.h>

static const char cycles_phase[] = "cycles", fine_phase[] = "fine-tuning";
static const char *const phases[] = {QE_FLOAT_PHASE, cycles_phase, fine_phase, NULL};

qe_sqwa_options qe_sqwa_defaults(void) {
  return (qe_sqwa_options){
#define QE_SQWA_INT(field, text, value, least, most, help) .field = (value),
#define QE_SQWA_REAL(field, text, value, least, most, help) .field = (value),
#include "core/methods/sqwa_options.def"
#undef QE_SQWA_INT
#undef QE_SQWA_REAL
  };
}

/* ---- options ---- */

static qe_status check_cycles(const qe_setting *setting) {
  double cycle = setting->options.schedule.cycle;
  int32_t epochs = setting->options.epochs, captures = setting->sqwa.captures;
  if (!(cycle >= 1 && cycle <= INT32_MAX / 2 && floor(cycle) >= cycle))
    return qe_fail(QE_USAGE, "cycle %g: models are captured after whole epochs, so a cycle must be some of them",
                   cycle);
  double warmup = setting->options.schedule.warmup;
  if (warmup > 0 && !(warmup < epochs && floor(warmup) >= warmup))
    return qe_fail(QE_USAGE,
                   "warmup %g: cycles begin after it, and models are captured after whole epochs; make it whole",
                   warmup);
  epochs -= (int32_t)warmup;
  if (captures < 1) return qe_fail(QE_USAGE, "%d captures: must be at least 1", captures);
  if (epochs % (int32_t)cycle == 0 && epochs / (int32_t)cycle >= captures) return QE_OK;
  return qe_fail(
      QE_USAGE,
      "%d epochs after the warm-up with cycles of %g: %d captures need a whole number of cycles, at least as "
      "many; make epochs %lld",
      epochs, cycle, captures, (long long)captures * (int64_t)cycle + (int64_t)warmup);
}

qe_status qe_check_sqwa(const qe_setting *setting) {
  const qe_sqwa_options *options = &setting->sqwa;
  const qe_bits *bits = &setting->spec.bits;
  if (!options->from) QE_TRY(check_cycles(setting));
  if (options->choose != QE_SQWA_CHOOSE_ALL && setting->options.held_out < 1)
    return qe_fail(QE_USAGE, "captures are chosen by their loss on held-out images; set held-out above 0");
  bool learned = bits->weight_rule == QE_RULE_LSQ || bits->weight_rule == QE_RULE_DOREFA;
  if (qe_method_quantizes(bits) && (learned || bits->weight_rule == QE_RULE_PACT))
    return qe_fail(QE_USAGE,
                   "weight quantiser %s: captured models are averaged as codes, which needs a grid that stays; choose "
                   "l2, l2-odd or max",
                   qe_rule_name(bits->weight_rule));
  qe_capture_list list;
  QE_TRY(qe_capture_list_read(options->subset, options->captures, &list));
  qe_capture_list_free(&list);
  return QE_OK;
}

static qe_train_options cycle_options(const qe_setting *setting) {
  qe_train_options options = setting->options;
  options.ema = setting->sqwa.ema;
  options.ema_beside = true;
  return options;
}

static qe_train_options fine_options(const qe_setting *setting) {
  qe_train_options options = setting->options;
  options.epochs = setting->sqwa.fine_epochs;
  options.schedule = (qe_schedule){
      .kind = QE_SCHEDULE_COSINE, .rate = setting->sqwa.fine_rate, .min_rate = setting->sqwa.fine_min_rate};
  return options;
}

/* ---- the phases ---- */

/* The network as it begins, float and quantised. */
static qe_status begin(const qe_sqwa *s, qe_model *model) {
  const qe_setting *setting = s->setting;
  const qe_sqwa_row whole = {.name = "float", .plain = true}, direct = {.name = "direct quantisation", .integer = true};
  QE_TRY(qe_fit_steps(setting->device, model, setting->data, setting->options.seed));
  if (!setting->init && setting->float_options.epochs == 0) return QE_OK;
  QE_TRY(qe_sqwa_tell(s, &whole, model, NULL, NULL));
  return s->result->quantized ? qe_sqwa_tell(s, &direct, model, &s->result->start, NULL) : QE_OK;
}

typedef struct capturing {
  const qe_sqwa *s;
  qe_model *model;
} capturing;

static qe_status capture(const qe_sqwa *s, const qe_model *model, int32_t number, const qe_epoch_report *report) {
  char text[3][32];
  snprintf(text[0], sizeof text[0], "%d", number);
  snprintf(text[1], sizeof text[1], "%d of %d", report->epoch, report->epochs);
  snprintf(text[2], sizeof text[2], "%.2f", report->test.top1);
  const char *const facts[] = {"phase", cycles_phase, "capture", text[0], "epoch", text[1], "test_top1", text[2], NULL};
  QE_TRY(qe_captures_put(&s->captures, number, model, facts));
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "row", "capture");
  qe_json_text(&json, "captures", text[0]);
  qe_json_real(&json, "test_loss", report->test.loss);
  qe_json_real(&json, "test_top1", report->test.top1);
  if (report->held_out.images) qe_json_real(&json, "held_out_loss", report->held_out.loss);
  if (report->held_out.images) qe_json_real(&json, "held_out_top1", report->held_out.top1);
  qe_json_close(&json);
  return qe_run_append(s->setting->run, &json);
}

/* At the end of each of the last cycles, and the moving average at that of the last. */
static qe_status after_epoch(void *context, qe_trainer *trainer, const qe_epoch_report *report) {
  const capturing *c = context;
  const qe_sqwa_options *options = &c->s->setting->sqwa;
  int32_t cycle = (int32_t)c->s->setting->options.schedule.cycle, before = (report->epochs - report->epoch) / cycle;
  if ((report->epochs - report->epoch) % cycle != 0 || before >= options->captures) return QE_OK;
  QE_TRY(capture(c->s, c->model, options->captures - before, report));
  if (before > 0 || !(options->ema > 0)) return QE_OK;
  const char *const facts[] = {"phase", "moving average", NULL};
  QE_TRY(qe_trainer_download(trainer, true));
  QE_TRY(qe_captures_put(&c->s->captures, QE_CAPTURED_EMA, c->model, facts));
  return qe_trainer_download(trainer, false);
}

static qe_status run_cycles(const qe_sqwa *s, qe_model *model) {
  capturing context = {s, model};
  qe_train_options options = cycle_options(s->setting);
  qe_score score;
  if (qe_method_phase_is_past(s->setting, phases, cycles_phase)) return QE_OK;
  qe_run_after_epoch(s->setting->run, after_epoch, &context);
  qe_status status = qe_method_phase(s->setting, model, &options, cycles_phase, &score);
  qe_run_after_epoch(s->setting->run, NULL, NULL);
  return status;
}

/* Without fine-tuning the average is what the run leaves. */
static qe_status leave_average(const qe_sqwa *s, const qe_model *average) {
  const char *const facts[] = {"phase", "average", NULL};
  QE_TRY(qe_run_save_model(s->setting->run, average, "last.safetensors", facts));
  return qe_run_save_model(s->setting->run, average, "best.safetensors", facts);
}

static qe_status fine_tune(const qe_sqwa *s, qe_model *model) {
  const qe_sqwa_row row = {.name = "fine-tuned", .integer = true};
  qe_train_options options = fine_options(s->setting);
  if (options.epochs == 0) return leave_average(s, model);
  QE_TRY(qe_method_phase(s->setting, model, &options, fine_phase, &s->result->final));
  return qe_sqwa_tell(s, &row, model, NULL, &s->result->integer);
}

/* The phases from averaging on; a run stopped in fine-tuning has its model in the checkpoint. */
static qe_status finish(const qe_sqwa *s, qe_model *model) {
  qe_model *average = NULL;
  if (qe_method_phase_is_past(s->setting, phases, cycles_phase)) return fine_tune(s, model);
  QE_TRY(qe_sqwa_average_all(s, &average));
  qe_status status = QE_OK;
  if (!qe_model_is_alike(average, model))
    status = qe_fail(QE_USAGE,
                     "the models of %s have another network or other bits than this run is to have: leave "
                     "its options as they are",
                     s->setting->sqwa.from);
  if (status == QE_OK) status = fine_tune(s, average);
  qe_model_free(average);
  return status;
}

static qe_status run_phases(const qe_sqwa *s, qe_model *model) {
  if (s->setting->sqwa.from) return finish(s, model);
  QE_TRY(qe_method_pretrain(s->setting, model));
  if (!qe_run_resumed_phase(s->setting->run)) QE_TRY(begin(s, model));
  QE_TRY(run_cycles(s, model));
  return finish(s, model);
}

/* Captured models of another run need no start, only a network that says what they must be. */
static qe_status start_model(const qe_setting *setting, qe_model **model) {
  if (setting->sqwa.from) return qe_model_new(&setting->spec, setting->options.seed, model);
  return qe_method_start_model(setting, model);
}

qe_status qe_train_sqwa(const qe_setting *setting, qe_result *result) {
  qe_model *model;
  qe_sqwa s = {.setting = setting, .result = result};
  memset(result, 0, sizeof *result);
  result->quantized = qe_method_quantizes(&setting->spec.bits);
  QE_TRY(qe_check_sqwa(setting));
  QE_TRY(start_model(setting, &model));
  qe_status status = qe_captures_open(setting->run, setting->sqwa.from, setting->sqwa.captures, &s.captures);
  if (status == QE_OK) status = run_phases(&s, model);
  qe_captures_close(&s.captures);
  qe_model_free(model);
  return status;
}

/* ---- the plan ---- */

static qe_status plan_phases(const qe_setting *setting, qe_model *model, qe_plan *plan) {
  qe_train_options cycles = cycle_options(setting), fine = fine_options(setting);
  bool averages = setting->sqwa.from != NULL; /* models that are there: fine-tuning is all there is to train */
  if (!averages) QE_TRY(qe_method_plan_pretraining(setting, model, plan));
  if (qe_plan_is_timed(setting->device))
    QE_TRY(qe_fit_steps(setting->device, model, setting->data, setting->options.seed));
  if (!averages) QE_TRY(qe_plan_training(setting->device, model, setting->data, &cycles, cycles_phase, plan));
  if (fine.epochs == 0) return QE_OK;
  return qe_plan_training(setting->device, model, setting->data, &fine, fine_phase, plan);
}

qe_status qe_plan_sqwa(const qe_setting *setting, qe_plan *plan) {
  qe_model *model;
  memset(plan, 0, sizeof *plan);
  QE_TRY(qe_check_sqwa(setting));
  QE_TRY(start_model(setting, &model));
  qe_status status = plan_phases(setting, model, plan);
  qe_model_free(model);
  return status;
}
