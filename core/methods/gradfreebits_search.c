/* One round's search over the bits, with the network's weights as they are. */
#include "core/methods/gradfreebits_parts.h"

#include "core/base/alloc.h"
#include "core/train/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct search {
  qe_gradfreebits *s;
  int round;
  const char *phase;
  qe_step_bank *bank; /* steps of all bits */
  qe_trials *trials;
  qe_searcher *searcher;
  int32_t objectives;
  qe_gfb_list list;
  int32_t *bits; /* [count, places]: a generation's; then [places] of the excess */
  int32_t *one;
  qe_trial_score *score;
  double *value;
  int32_t capacity; /* allocations that these hold */
  int64_t generation;
} search;

/* ---- vectors of the searcher and allocations ---- */

static void to_bits(const qe_gradfreebits *s, const double *x, int32_t *bits) {
  memcpy(bits, s->bits, (size_t)s->map->places * sizeof *bits);
  for (int32_t i = 0; i < s->variables; i++) bits[s->variable[i]] = (int32_t)lround(x[i]);
}

static double excess(void *context, const double *x) {
  search *r = context;
  to_bits(r->s, x, r->one);
  return qe_budgets_excess(&r->s->budgets, r->s->costs, r->one);
}

/* Of a search with several objectives, beside the loss. */
static const qe_bit_cost objective[] = {QE_BIT_COST_BYTES, QE_BIT_COST_BIT_OPS};
enum { COST_OBJECTIVES = sizeof objective / sizeof *objective };

static qe_status open_searcher(search *r) {
  const qe_gradfreebits *s = r->s;
  bool pareto = s->options->searcher == QE_SEARCHER_PARETO; /* it looks on both sides of the budgets */
  r->objectives = pareto ? 1 + COST_OBJECTIVES : 1;
  qe_search_variable *variable = QE_NEW_ARRAY(qe_search_variable, s->variables);
  if (!variable) return QE_NO_MEMORY;
  for (int32_t i = 0; i < s->variables; i++) {
    const qe_bit_place *place = &s->map->place[s->variable[i]];
    int32_t least = s->options->least > place->least ? s->options->least : place->least;
    variable[i] = (qe_search_variable){.name = place->layer,
                                       .kind = QE_SEARCH_INTEGER,
                                       .low = least,
                                       .high = s->options->most > least ? s->options->most : least,
                                       .start = s->bits[s->variable[i]]};
  }
  qe_search_space space = {.n = s->variables,
                           .variable = variable,
                           .objectives = r->objectives,
                           .excess = pareto ? NULL : excess,
                           .context = r};
  qe_searcher_options options = {.kind = s->options->searcher,
                                 .population = s->options->population,
                                 .width = s->options->width,
                                 .seed = s->setting->options.seed + (uint64_t)r->round};
  qe_status status = qe_searcher_new(&space, &options, &r->searcher);
  qe_free(variable);
  return status;
}

qe_trials_setup qe_gfb_trials_setup(const qe_gradfreebits *s, const qe_step_bank *bank) {
  const qe_search_setting *searching = &s->setting->search;
  qe_trials_setup setup = {.device = s->setting->device,
                           .data = s->setting->data,
                           .model = s->model,
                           .map = s->map,
                           .bank = bank,
                           .fitness = searching->fitness,
                           .part = s->options->held_out ? QE_FITNESS_HELD_OUT : QE_FITNESS_TRAIN,
                           .augmented = searching->options.augmented,
                           .batch = s->options->batch,
                           .norm_images = s->options->norm_images};
  setup.fitness.seed = s->setting->options.seed;
  setup.fitness.loss = QE_FITNESS_LABELS;
  setup.fitness.mixup = 0;
  return setup;
}

static qe_status open_trials(search *r) {
  QE_TRY(qe_gfb_fill_bank(r->s, &r->bank));
  qe_trials_setup setup = qe_gfb_trials_setup(r->s, r->bank);
  return qe_trials_new(&setup, &r->trials);
}

static void close_search(search *r) {
  qe_trials_free(r->trials);
  qe_searcher_free(r->searcher);
  qe_step_bank_free(r->bank);
  qe_gfb_list_free(&r->list);
  qe_free(r->bits);
  qe_free(r->one);
  qe_free(r->score);
  qe_free(r->value);
}

/* ---- checkpoints ---- */

static qe_status set_number(qe_tensors *tensors, const char *key, int64_t value) {
  char text[32];
  snprintf(text, sizeof text, "%lld", (long long)value);
  return qe_tensors_set_meta(tensors, key, text);
}

static qe_status get_number(const qe_tensors *tensors, const char *file, const char *key, int64_t *value) {
  const char *text = qe_tensors_get_meta(tensors, key);
  long long number;
  char rest;
  if (!text || sscanf(text, "%lld%c", &number, &rest) != 1 || number < 0)
    return qe_fail(QE_FORMAT, "%s: metadata '%s' is '%s'; not a checkpoint of this run", file, key,
                   text ? text : "missing");
  *value = number;
  return QE_OK;
}

static qe_status give_search(const search *r, qe_tensors *state) {
  QE_TRY(qe_model_give(r->s->model, state));
  QE_TRY(qe_gfb_give(r->s, state));
  QE_TRY(set_number(state, "gradfreebits.generation", r->generation));
  QE_TRY(set_number(state, "gradfreebits.spent", qe_trials_spent(r->trials)));
  QE_TRY(qe_gfb_list_give(&r->list, r->s->map->places, state));
  return qe_searcher_save(r->searcher, state);
}

static qe_status save(const search *r, bool interim) {
  qe_tensors *state = qe_tensors_new();
  qe_status status = state ? give_search(r, state) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_run_save_state(r->s->setting->run, state, r->phase, interim);
  qe_tensors_free(state);
  return status;
}

/* The allocation and the weights first: trials and searcher are made of them. */
static qe_status resume_model(search *r) {
  const qe_tensors *state = qe_run_resumed(r->s->setting->run);
  const char *file = qe_run_resumed_from(r->s->setting->run);
  if (!state) return QE_OK;
  QE_TRY(qe_gfb_take(r->s, state, file));
  QE_TRY(qe_model_check_spec(r->s->model, state, file));
  return qe_model_take(r->s->model, state, file);
}

static qe_status resume_search(search *r) {
  qe_run *run = r->s->setting->run;
  const qe_tensors *state = qe_run_resumed(run);
  const char *file = qe_run_resumed_from(run);
  int64_t spent = 0;
  if (!state) return QE_OK;
  QE_TRY(get_number(state, file, "gradfreebits.generation", &r->generation));
  QE_TRY(get_number(state, file, "gradfreebits.spent", &spent));
  QE_TRY(qe_gfb_list_take(&r->list, r->s->map->places, state, file));
  QE_TRY(qe_searcher_load(r->searcher, state));
  qe_trials_set_spent(r->trials, spent);
  QE_TRY(qe_run_drop_resumed(run));
  qe_run_note(run, "resumed after generation %lld of %s", (long long)r->generation, r->phase);
  return QE_OK;
}

/* ---- generations ---- */

static qe_status make_room(search *r, int32_t count) {
  if (count <= r->capacity) return QE_OK;
  qe_free(r->bits);
  qe_free(r->score);
  qe_free(r->value);
  r->capacity = 0;
  r->bits = QE_NEW_ARRAY(int32_t, (int64_t)count * r->s->map->places);
  r->score = QE_NEW_ARRAY(qe_trial_score, count);
  r->value = QE_NEW_ARRAY(double, (int64_t)count * r->objectives);
  if (!r->bits || !r->score || !r->value) return QE_NO_MEMORY;
  r->capacity = count;
  return QE_OK;
}

static void write_bits(qe_json *json, const qe_gradfreebits *s, const int32_t *bits) {
  qe_json_open_array(json, "bits");
  for (int32_t i = 0; i < s->map->places; i++) qe_json_int(json, NULL, bits[i]);
  qe_json_close(json);
}

static qe_status tell_generation(const search *r, int32_t count, int32_t best, double mean, double seconds) {
  const qe_gradfreebits *s = r->s;
  const qe_gradfreebits_options *options = s->options;
  double images = (double)count * options->batch * options->batches;
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "phase", r->phase);
  qe_json_int(&json, "generation", r->generation);
  qe_json_int(&json, "candidate_images", qe_trials_spent(r->trials));
  qe_json_real(&json, "best", r->value[(int64_t)best * r->objectives]);
  qe_json_real(&json, "mean", mean);
  qe_json_real(&json, "best_loss", r->score[best].loss);
  qe_json_real(&json, "best_top1", r->score[best].top1);
  write_bits(&json, s, r->bits + (int64_t)best * s->map->places);
  qe_json_real(&json, "images_per_second", seconds > 0 ? images / seconds : 0);
  qe_json_real(&json, "seconds", seconds);
  qe_json_close(&json);
  QE_TRY(qe_run_append(s->setting->run, &json));
  qe_search_report report = {.stage = r->phase,
                             .generation = r->generation,
                             .spent = qe_trials_spent(r->trials),
                             .budget = (int64_t)(images * options->generations * (r->round)),
                             .best = r->value[(int64_t)best * r->objectives],
                             .mean = mean,
                             .held_out = -1,
                             .confident = -1,
                             .images_per_second = seconds > 0 ? images / seconds : 0,
                             .seconds = seconds};
  return qe_run_generation(s->setting->run, &report);
}

/* Searchers that remember single points: they compare them on the same images, and as they are. */
static bool remembers(const search *r) {
  qe_searcher_kind kind = r->s->options->searcher;
  return kind == QE_SEARCHER_GREEDY || kind == QE_SEARCHER_PARETO;
}

/* The super-batch of the next generation. */
static int64_t first_batch(const search *r) {
  const qe_gradfreebits_options *options = r->s->options;
  int64_t before = (int64_t)(r->round - 1) * options->generations;
  return (remembers(r) ? before : before + r->generation) * options->move;
}

/* The allocation of a candidate; what the searcher is told beside its loss: of one that was moved onto the budgets, a
 * slight pull towards them, so that its place does not wander off. */
static double make_allocation(const search *r, const double *x, int32_t *bits) {
  const qe_gradfreebits *s = r->s;
  const double pull = 0.1;
  to_bits(s, x, bits);
  if (r->objectives > 1) return 0;
  if (!s->options->repair || remembers(r)) return qe_budgets_penalty(&s->budgets, s->costs, bits);
  double off = fabs(qe_budgets_excess(&s->budgets, s->costs, bits));
  qe_gfb_repair(s, bits);
  return s->budgets.count > 0 ? pull * off : 0;
}

/* What the searcher is told of a generation: to the first column, which holds what make_allocation gave, come the
 * losses; the others are costs. Returns the best by the first. */
static int32_t fill_values(search *r, int32_t count, double *mean) {
  const qe_gradfreebits *s = r->s;
  int32_t best = 0, each = r->objectives;
  *mean = 0;
  for (int32_t i = 0; i < count; i++) {
    const int32_t *bits = r->bits + (int64_t)i * s->map->places;
    double *value = r->value + (int64_t)i * each;
    value[0] += r->score[i].loss;
    for (int32_t k = 1; k < each && k <= COST_OBJECTIVES; k++)
      value[k] = qe_bit_cost_of(s->costs, objective[k - 1], bits);
    *mean += value[0] / count;
    if (value[0] < r->value[(int64_t)best * each]) best = i;
  }
  return best;
}

static qe_status run_generation(search *r) {
  const qe_gradfreebits *s = r->s;
  const double *x = NULL;
  int32_t count = 0, places = s->map->places;
  double mean = 0, since = qe_plan_clock();
  QE_TRY(qe_searcher_ask(r->searcher, &x, &count));
  QE_TRY(make_room(r, count));
  for (int32_t i = 0; i < count; i++)
    r->value[(int64_t)i * r->objectives] =
        make_allocation(r, x + (int64_t)i * s->variables, r->bits + (int64_t)i * places);
  QE_TRY(qe_trials_run(r->trials, r->bits, count, first_batch(r), s->options->batches, r->score));
  for (int32_t i = 0; i < count; i++)
    if (qe_budgets_excess(&s->budgets, s->costs, r->bits + (int64_t)i * places) <= 0)
      QE_TRY(qe_gfb_list_add(&r->list, places, r->bits + (int64_t)i * places, r->score[i].loss));
  int32_t best = fill_values(r, count, &mean);
  QE_TRY(qe_searcher_tell(r->searcher, r->value));
  r->generation++;
  return tell_generation(r, count, best, mean, qe_plan_clock() - since);
}

/* The allocations that no other is better than in loss and costs; of one objective none. */
static qe_status take_front(search *r, qe_gfb_front *front) {
  *front = (qe_gfb_front){.first = first_batch(r)};
  if (r->objectives == 1) return QE_OK;
  qe_search_front of = qe_searcher_front(r->searcher);
  front->bits = QE_NEW_ARRAY(int32_t, (int64_t)of.count * r->s->map->places + 1);
  if (!front->bits) return QE_NO_MEMORY;
  front->count = of.count;
  for (int32_t i = 0; i < of.count; i++)
    to_bits(r->s, of.at + (int64_t)i * r->s->variables, front->bits + (int64_t)i * r->s->map->places);
  return QE_OK;
}

static qe_status choose(search *r) {
  qe_gfb_front front;
  QE_TRY(take_front(r, &front));
  qe_status status = qe_gfb_choose(r->s, r->trials, &r->list, &front, r->round);
  qe_free(front.bits);
  return status;
}

static qe_status say_stopped(const search *r) {
  const char *folder = qe_run_resume_folder(r->s->setting->run);
  return qe_fail(QE_INTERRUPTED, "stopped in %s%s%s", r->phase, folder ? "; go on with --resume --out " : "",
                 folder ? folder : "");
}

static qe_status run_generations(search *r) {
  const qe_gradfreebits *s = r->s;
  int every = s->setting->search.save_every;
  if (r->generation == 0) QE_TRY(save(r, false)); /* from here on the weights are those of this search */
  while (r->generation < s->options->generations && !qe_searcher_stopped(r->searcher)) {
    qe_status status = run_generation(r);
    if (status != QE_OK && status != QE_INTERRUPTED) return status;
    bool whole = every > 0 && r->generation % every == 0;
    if (whole || status == QE_INTERRUPTED || qe_run_due(s->setting->run)) QE_TRY(save(r, !whole));
    if (status == QE_INTERRUPTED) return say_stopped(r);
  }
  return QE_OK;
}

static qe_status run_search(search *r) {
  QE_TRY(resume_model(r));
  r->one = QE_NEW_ARRAY(int32_t, r->s->map->places);
  if (!r->one) return QE_NO_MEMORY;
  QE_TRY(open_trials(r));
  QE_TRY(open_searcher(r));
  QE_TRY(resume_search(r));
  QE_TRY(run_generations(r));
  QE_TRY(choose(r));
  return qe_gfb_set_bits(r->s, r->bank);
}

qe_status qe_gfb_search(qe_gradfreebits *s, int round) {
  search r = {.s = s, .round = round, .phase = qe_gfb_search_phase(s, round)};
  qe_status status = run_search(&r);
  close_search(&r);
  return status;
}
