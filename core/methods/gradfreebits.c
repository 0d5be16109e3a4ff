/* GradFreeBits: the order of its phases. The search is in gradfreebits_search.c. */
#include "core/methods/gradfreebits_parts.h"

#include "core/base/alloc.h"

#include <string.h>

qe_gradfreebits_options qe_gradfreebits_defaults(void) {
  return (qe_gradfreebits_options){
#define QE_GFB_INT(field, name, initial, least, most, help) .field = (initial),
#define QE_GFB_REAL(field, name, initial, least, most, help) .field = (initial),
#define QE_GFB_FLAG(field, name, initial, help) .field = (initial),
#include "core/methods/gradfreebits_options.def"
#undef QE_GFB_INT
#undef QE_GFB_REAL
#undef QE_GFB_FLAG
      .searcher = QE_SEARCHER_CMA};
}

/* ---- making ---- */

qe_status qe_check_gradfreebits(const qe_setting *setting) {
  const qe_gradfreebits_options *options = &setting->gradfreebits;
  if (options->least > options->most)
    return qe_fail(QE_USAGE, "gfb-least %d, gfb-most %d: the first must not be above the second", options->least,
                   options->most);
  if (!qe_method_quantizes(&setting->spec.bits))
    return qe_fail(QE_USAGE, "gradfreebits starts from bits of 1 to 8, as in --weight-bits 3 --act-bits 3");
  if (setting->data->images)
    return qe_fail(QE_USAGE, "gradfreebits compares allocations on images that are held in memory; give "
                             "--crop-area 1 and --data-memory");
  if (options->held_out && setting->options.held_out == 0)
    return qe_fail(QE_USAGE, "gfb-on-held-out needs images that are held out; set held-out above 0");
  return QE_OK;
}

static qe_status find_variables(qe_gradfreebits *s) {
  s->variable = QE_NEW_ARRAY(int32_t, s->map->places);
  if (!s->variable) return QE_NO_MEMORY;
  for (int32_t i = 0; i < s->map->places; i++) {
    const qe_bit_place *place = &s->map->place[i];
    bool float_bits = place->bits > s->options->most && place->bits == QE_FLOAT_BITS;
    if (place->open && !float_bits && (s->options->edges || !place->edge)) s->variable[s->variables++] = i;
  }
  if (s->variables == 0) return qe_fail(QE_USAGE, "gradfreebits: no bits of the network can be chosen");
  for (int32_t i = 0; i < s->variables; i++) {
    int32_t at = s->variable[i];
    if (s->bits[at] < s->options->least) s->bits[at] = s->options->least;
    if (s->bits[at] > s->options->most) s->bits[at] = s->options->most;
  }
  return QE_OK;
}

/* Latency is that of the device that trains, unless the user says that another one is meant. */
static qe_status take_tables(qe_gradfreebits *s) {
  const qe_model_spec *spec = &s->setting->spec;
  const qe_device *device = s->setting->device;
  const char *latency = s->options->latency, *energy = s->options->energy;
  qe_cost_origin here = {.model = spec->name, .height = spec->height, .width = spec->width, .channels = spec->channels};
  if (!s->options->latency_elsewhere) {
    here.backend = device->backend->name;
    here.device = device->name;
  }
  if (latency && *latency) QE_TRY(qe_bit_costs_take_latency(s->costs, latency, &here));
  return energy && *energy ? qe_bit_costs_take_energy(s->costs, energy) : QE_OK;
}

/* Where none are given: what the start costs, so that gains are not bought. */
static qe_status read_budgets(qe_gradfreebits *s) {
  const char *text = s->options->budgets;
  if (text && *text) return qe_budgets_read(text, s->costs, &s->budgets);
  static const qe_bit_cost own[] = {QE_BIT_COST_WEIGHT_BITS, QE_BIT_COST_ACT_BITS};
  for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
    double limit = qe_bit_cost_of(s->costs, own[i], s->bits);
    if (limit > 0) s->budgets.budget[s->budgets.count++] = (qe_budget){own[i], limit, QE_BUDGET_PRICE};
  }
  return QE_OK;
}

static qe_status name_phases(qe_gradfreebits *s) {
  int rounds = s->options->rounds, at = 0;
  s->phases = QE_NEW_ARRAY(char *, 2 * rounds + 4);
  if (!s->phases) return QE_NO_MEMORY;
  s->phases[at++] = qe_strdup(QE_FLOAT_PHASE);
  s->phases[at++] = qe_strdup(QE_GFB_PRETRAIN);
  s->phases[at++] = qe_strdup(QE_GFB_RANDOM);
  for (int round = 1; round <= rounds; round++) {
    s->phases[at++] = qe_format("search %d", round);
    s->phases[at++] = qe_format("train %d", round);
  }
  for (int i = 0; i < at; i++)
    if (!s->phases[i]) return QE_NO_MEMORY;
  return QE_OK;
}

qe_status qe_gfb_open(qe_gradfreebits *s, const qe_setting *setting) {
  *s = (qe_gradfreebits){.setting = setting, .options = &setting->gradfreebits};
  QE_TRY(qe_check_gradfreebits(setting));
  QE_TRY(name_phases(s));
  QE_TRY(qe_bit_map_new(&setting->spec, &s->map));
  QE_TRY(qe_bit_costs_new(s->map, &s->costs));
  QE_TRY(take_tables(s));
  s->bits = QE_NEW_ARRAY(int32_t, s->map->places);
  s->history = qe_strdup("");
  if (!s->bits || !s->history) return QE_NO_MEMORY;
  qe_bit_map_default(s->map, s->bits);
  QE_TRY(find_variables(s));
  QE_TRY(read_budgets(s));
  QE_TRY(qe_method_start_model(setting, &s->model));
  QE_TRY(qe_step_bank_new(s->model, &s->bank));
  return qe_gfb_set_bits(s, NULL);
}

void qe_gfb_close(qe_gradfreebits *s) {
  for (int i = 0; s->phases && i < 2 * s->options->rounds + 3; i++) qe_free(s->phases[i]);
  qe_free(s->phases);
  qe_step_bank_free(s->bank);
  qe_model_free(s->model);
  qe_bit_costs_free(s->costs);
  qe_bit_map_free(s->map);
  qe_free(s->variable);
  qe_free(s->bits);
  qe_free(s->history);
}

/* ---- phases ---- */

static bool is_past(const qe_gradfreebits *s, const char *phase) {
  return qe_method_phase_is_past(s->setting, (const char *const *)s->phases, phase);
}

static bool is_resumed_in(const qe_gradfreebits *s, const char *phase) {
  const char *resumed = qe_run_resumed_phase(s->setting->run);
  return resumed && strcmp(resumed, phase) == 0;
}

/* Float training, steps at the start bits, training there. */
static qe_status pretrain(qe_gradfreebits *s, qe_result *result) {
  const qe_setting *setting = s->setting;
  qe_score score;
  if (is_past(s, QE_GFB_PRETRAIN)) return QE_OK;
  QE_TRY(qe_method_pretrain(setting, s->model));
  if (!is_resumed_in(s, QE_GFB_PRETRAIN)) {
    QE_TRY(qe_fit_steps(setting->device, s->model, setting->data, setting->options.seed));
    QE_TRY(qe_evaluate(setting->device, s->model, setting->data, 0, NULL, &result->start));
    qe_run_note(setting->run, "quantised, before training: %.2f %% top-1", result->start.top1);
  }
  qe_train_options options = setting->options;
  options.epochs = s->options->pretrain_epochs;
  if (options.epochs > 0) {
    QE_TRY(qe_method_phase(setting, s->model, &options, QE_GFB_PRETRAIN, &score));
    qe_step_bank_keep(s->bank, s->model);
  }
  return QE_OK;
}

static qe_status start(qe_gradfreebits *s, qe_result *result) {
  QE_TRY(pretrain(s, result));
  if (s->options->random_epochs == 0 || is_past(s, QE_GFB_RANDOM)) return QE_OK;
  return qe_gfb_train_random(s);
}

static qe_status train(qe_gradfreebits *s, int round, qe_score *final) {
  qe_train_options options = s->setting->options;
  options.epochs_before =
      s->options->pretrain_epochs + s->options->random_epochs + (round - 1) * s->options->round_epochs;
  if (round < s->options->rounds) options.epochs = s->options->round_epochs;
  QE_TRY(qe_method_phase(s->setting, s->model, &options, qe_gfb_train_phase(s, round), final));
  qe_step_bank_keep(s->bank, s->model);
  return QE_OK;
}

static qe_status run_rounds(qe_gradfreebits *s, qe_result *result) {
  for (int round = 1; round <= s->options->rounds; round++) {
    const char *training = qe_gfb_train_phase(s, round);
    if (is_past(s, training)) continue;
    if (is_resumed_in(s, training)) {
      QE_TRY(qe_gfb_read_round(s, round));
    } else {
      QE_TRY(qe_gfb_search(s, round));
      QE_TRY(qe_gfb_keep_round(s, round));
    }
    QE_TRY(qe_gfb_write_files(s, round));
    QE_TRY(train(s, round, &result->final));
  }
  return qe_method_score_integer(s->setting, s->model, result);
}

static qe_status check_phase(const qe_gradfreebits *s) {
  const char *resumed = qe_run_resumed_phase(s->setting->run);
  for (int i = 0; resumed && s->phases[i]; i++)
    if (strcmp(s->phases[i], resumed) == 0) return QE_OK;
  if (!resumed) return QE_OK;
  return qe_fail(QE_USAGE, "%s is of the phase %s, which this run has not: resume it with its own method and options",
                 qe_run_resumed_from(s->setting->run), resumed);
}

qe_status qe_train_gradfreebits(const qe_setting *setting, qe_result *result) {
  qe_gradfreebits s = {0};
  memset(result, 0, sizeof *result);
  result->quantized = true;
  qe_status status = qe_gfb_open(&s, setting);
  if (status == QE_OK) status = check_phase(&s);
  if (status == QE_OK) status = start(&s, result);
  if (status == QE_OK) status = run_rounds(&s, result);
  qe_gfb_close(&s);
  return status;
}
