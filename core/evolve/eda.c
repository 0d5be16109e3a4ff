/* Stage `eda`: its options, its memory, and the loop over cycles, groups and generations. */
#include "core/evolve/eda.h"

#include "core/base/alloc.h"
#include "core/base/nearest.h"
#include "core/evolve/eda_parts.h"

#include <string.h>

/* ---- options ---- */

static const char *const grouping_names[QE_EDA_GROUPINGS] = {
#define X(id, name, summary) name,
    QE_EDA_GROUPING_LIST(X)
#undef X
};

qe_eda_grouping qe_eda_grouping_find(const char *name) {
  int found = 0;
  while (found < QE_EDA_GROUPINGS && strcmp(grouping_names[found], name) != 0) found++;
  return (qe_eda_grouping)found;
}

const char *qe_eda_grouping_name(qe_eda_grouping grouping) {
  return grouping_names[grouping];
}

qe_eda_options qe_eda_defaults(void) {
  return (qe_eda_options){
#define QE_EDA_INT(field, name, initial, least, most, help) .field = initial,
#define QE_EDA_FLAG(field, name, initial, help) .field = initial,
#include "core/evolve/eda_options.def"
#undef QE_EDA_INT
#undef QE_EDA_FLAG
  };
}

static qe_status check_options(const qe_eda_options *o) {
  const qe_option_bound bounds[] = {
#define QE_EDA_INT(field, name, initial, least, most, help) {name, o->field, least, most},
#define QE_EDA_FLAG(field, name, initial, help)
#include "core/evolve/eda_options.def"
#undef QE_EDA_INT
#undef QE_EDA_FLAG
      {"group-by", o->group_by, 0, QE_EDA_GROUPINGS - 1},
  };
  QE_TRY(qe_evolution_check("eda", bounds, sizeof bounds / sizeof *bounds));
  if (o->best > o->individuals)
    return qe_fail(QE_USAGE, "eda-best %d: there are but %d individuals", o->best, o->individuals);
  if (o->batch >> (o->races - 1) == 0)
    return qe_fail(QE_USAGE, "eda-races %d: a batch of %d images cannot be cut so often", o->races, o->batch);
  if (!o->uniform && !o->plain && 10000 - 2 * o->spread >= o->confident)
    return qe_fail(QE_USAGE,
                   "eda-confident %d: with eda-spread %d all variables are confident at the start; give more than %d",
                   o->confident, o->spread, 10000 - 2 * o->spread);
  return QE_OK;
}

/* ---- memory ---- */

/* Largest value of each variable, and the context's. */
static void read_context(const qe_eda_search *s, uint8_t *most) {
  const qe_genome_layout *layout = s->evolution->layout;
  for (size_t g = 0; g < layout->genes; g++) {
    const qe_code_grid *grid = &layout->gene[g].grid;
    for (int64_t i = s->variables.start[g]; i < s->variables.start[g + 1]; i++) {
      most[i] = (uint8_t)((grid->high - grid->low) / grid->spacing);
      s->context[i] = qe_eda_get(&s->variables.place[i], s->evolution->genome);
    }
  }
}

static int32_t of_one(int32_t per_myriad) {
  return (per_myriad * QE_EDA_ONE + 5000) / 10000;
}

static qe_status make_distribution(qe_eda_search *s) {
  const qe_eda_options *o = &s->options;
  qe_eda_prior prior = {o->radius, of_one(o->spread), of_one(o->floor), o->uniform};
  uint8_t *most = QE_NEW_ARRAY(uint8_t, s->variables.count);
  if (!most) return QE_NO_MEMORY;
  read_context(s, most);
  qe_status status = qe_eda_new(s->variables.count, most, s->context, &prior, &s->distribution);
  qe_free(most);
  if (status == QE_OK && o->remainder && s->evolution->teacher) status = qe_eda_lean_to(s, s->evolution->teacher);
  return status;
}

static qe_status allocate(qe_eda_search *s) {
  const int32_t least = qe_eda_proposals(&s->options) + 1; /* and the context */
  int32_t individuals = s->options.individuals > least ? s->options.individuals : least;
  s->context = QE_NEW_ARRAY(uint8_t, s->variables.count);
  s->elite = QE_NEW_ARRAY(uint8_t, s->variables.count);
  s->order = QE_NEW_ARRAY(int32_t, s->variables.count);
  s->genomes = qe_calloc((size_t)individuals, s->evolution->layout->bytes);
  s->loss = QE_NEW_ARRAY(int64_t, individuals);
  s->partial = QE_NEW_ARRAY(int64_t, individuals);
  s->rank = QE_NEW_ARRAY(int32_t, individuals);
  s->confidence = QE_NEW_ARRAY(int64_t, s->evolution->layout->genes * QE_CONFIDENCE_BINS);
  bool all = s->context && s->elite && s->order && s->genomes && s->loss && s->partial && s->rank && s->confidence;
  return all ? QE_OK : QE_NO_MEMORY;
}

static qe_status open_search(qe_eda_search *s) {
  const qe_evolution *evolution = s->evolution;
  QE_TRY(check_options(&s->options));
  QE_TRY(qe_eda_variables_new(evolution->network, evolution->layout, s->options.group_by, &s->variables));
  QE_TRY(allocate(s));
  QE_TRY(make_distribution(s));
  s->rate = of_one(s->options.rate);
  s->position = (qe_eda_position){.size = s->options.group, .context_loss = -1};
  return evolution->state ? qe_eda_load(s, evolution->state) : QE_OK;
}

static void close_search(qe_eda_search *s) {
  qe_eda_variables_free(&s->variables);
  qe_eda_free(s->distribution);
  qe_free(s->context);
  qe_free(s->elite);
  qe_free(s->order);
  qe_free(s->choice);
  qe_free(s->slope);
  qe_free(s->genomes);
  qe_free(s->loss);
  qe_free(s->partial);
  qe_free(s->rank);
  qe_free(s->confidence);
}

/* ---- the loop ---- */

static bool pays_another(const qe_eda_search *s) {
  return qe_evolution_left(s->evolution) >= qe_eda_generation_cost(s) + qe_eda_acceptance_cost(s);
}

/* Whether the stage is over, with the reason told; in between, the next cycle and group begun. */
static qe_status prepare(qe_eda_search *s, bool *over) {
  qe_eda_position *position = &s->position;
  *over = false;
  if (position->inside > 0) return QE_OK;
  if (!pays_another(s)) {
    *over = true;
    int64_t cost = qe_eda_generation_cost(s) + qe_eda_acceptance_cost(s);
    qe_evolution_note(s->evolution,
                      "eda: the budget is spent (a generation takes %lld candidate-images, %lld are left)",
                      (long long)cost, (long long)qe_evolution_left(s->evolution));
    return QE_OK;
  }
  if (position->at == position->chosen) {
    if (position->cycle > 0) position->idle = position->accepted ? 0 : position->idle + 1;
    bool last = s->options.cycles > 0 && position->cycle >= s->options.cycles;
    bool vain = s->options.patience > 0 && position->idle >= s->options.patience;
    *over = last || vain;
    if (last) qe_evolution_note(s->evolution, "eda: %lld cycles are done", (long long)position->cycle);
    if (vain) qe_evolution_note(s->evolution, "eda: %lld cycles gained nothing", (long long)position->idle);
    if (*over) return QE_OK;
    QE_TRY(qe_eda_begin_cycle(s));
    *over = position->chosen == 0;
    if (*over) qe_evolution_note(s->evolution, "eda: all variables are confident");
    if (*over) return QE_OK;
  }
  return qe_eda_begin_group(s);
}

/* Confident variables, of 10,000. */
static int32_t confident_share(const qe_eda_search *s) {
  const int32_t confident = s->options.confident * QE_EDA_ONE / 10000;
  int64_t count = 0;
  for (int64_t i = 0; i < s->variables.count; i++) count += qe_eda_confidence(s->distribution, i) >= confident;
  return (int32_t)(count * 10000 / s->variables.count);
}

static void fill_histograms(const qe_eda_search *s) {
  for (size_t g = 0; g < s->evolution->layout->genes; g++)
    qe_eda_histogram(s->distribution, s->variables.start[g], s->variables.start[g + 1],
                     s->confidence + g * QE_CONFIDENCE_BINS, QE_CONFIDENCE_BINS);
}

static qe_status step(qe_eda_search *s) {
  qe_eda_position *position = &s->position;
  qe_evolution_report report = {.best = -1, .mean = -1, .held_out = -1};
  QE_TRY(qe_eda_generation(s, &report));
  bool last = position->inside >= s->options.generations || !pays_another(s);
  if (last) QE_TRY(qe_eda_conclude(s, &report));
  if (last && position->at == position->chosen) {
    fill_histograms(s);
    report.confidence = s->confidence;
  }
  report.generation = position->generation;
  report.confident_per_myriad = confident_share(s);
  return qe_evolution_generation(s->evolution, &report, qe_eda_save, s);
}

qe_status qe_eda_run(qe_evolution *evolution, const qe_eda_options *options) {
  qe_eda_search s = {.evolution = evolution, .options = *options};
  bool over = false;
  qe_status status = open_search(&s);
  while (status == QE_OK && !over) {
    status = prepare(&s, &over);
    if (status == QE_OK && !over) status = step(&s);
  }
  close_search(&s);
  return status;
}
