/* Stage `eda`: the generations of a group, and what the context takes of it. */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/evolve/eda_parts.h"
#include "core/search/order.h"

#include <string.h>

static const int32_t *group_of(const qe_eda_search *s) {
  return s->order + s->position.at;
}

static uint8_t *genome_at(const qe_eda_search *s, int32_t number) {
  return s->genomes + (size_t)number * s->evolution->layout->bytes;
}

int32_t qe_eda_context_candidate(const qe_eda_search *s, int64_t j) {
  int32_t variable = group_of(s)[j];
  return s->context[variable] - s->distribution->first[variable];
}

int64_t qe_eda_write(const qe_eda_search *s, const uint8_t *candidate, uint8_t *genome) {
  const int32_t *group = group_of(s);
  int64_t differ = 0;
  memcpy(genome, s->evolution->genome, s->evolution->layout->bytes);
  for (int64_t j = 0; j < s->position.count; j++) {
    int32_t variable = group[j];
    uint8_t value = (uint8_t)(s->distribution->first[variable] + candidate[j]);
    if (value == s->context[variable]) continue;
    qe_eda_put(&s->variables.place[variable], genome, value);
    differ++;
  }
  return differ;
}

/* ---- races ---- */

/* Each race has about as many images as all before it, so that it costs as much as each of them. */
int32_t qe_eda_race_images(const qe_eda_options *options, int32_t race) {
  int32_t later = 0;
  if (race > 0) return options->batch >> (options->races - race);
  for (int32_t r = 1; r < options->races; r++) later += qe_eda_race_images(options, r);
  return options->batch - later;
}

/* Individuals of a race: the better half of those before it, but not fewer than are selected. */
static int32_t race_individuals(const qe_eda_options *options, int32_t race) {
  int32_t runners = options->individuals >> race;
  return runners > options->best ? runners : options->best;
}

int64_t qe_eda_generation_cost(const qe_eda_search *s) {
  int64_t cost = 0;
  for (int32_t r = 0; r < s->options.races; r++)
    cost += (int64_t)race_individuals(&s->options, r) * qe_eda_race_images(&s->options, r);
  return cost;
}

/* Puts the first `count` of rank in the order of their losses so far. */
static qe_status rank_runners(qe_eda_search *s, int32_t count) {
  int64_t *key = QE_NEW_ARRAY(int64_t, count);
  int32_t *order = QE_NEW_ARRAY(int32_t, count);
  qe_status status = key && order ? QE_OK : QE_NO_MEMORY;
  for (int32_t i = 0; status == QE_OK && i < count; i++) key[i] = s->loss[s->rank[i]];
  if (status == QE_OK) status = qe_order_ascending(key, count, order);
  for (int32_t i = 0; status == QE_OK && i < count; i++) order[i] = s->rank[order[i]];
  if (status == QE_OK) memcpy(s->rank, order, (size_t)count * sizeof *order);
  qe_free(order);
  qe_free(key);
  return status;
}

/* What a batch is for, but for races: these have the numbers before. */
enum { FOR_ACCEPTANCE, FOR_CHOICE, PURPOSES };

/* Numbered so that no two batches of the stage are the same. */
static uint64_t batch_number(const qe_eda_search *s, int32_t use) {
  return (uint64_t)s->position.generation * (uint64_t)(s->options.races + PURPOSES) + (uint64_t)use;
}

static qe_status race(qe_eda_search *s, int32_t number) {
  int32_t runners = race_individuals(&s->options, number);
  qe_fitness_batch batch = {.part = QE_FITNESS_TRAIN,
                            .number = batch_number(s, number),
                            .count = qe_eda_race_images(&s->options, number),
                            .augmented = s->options.augmented};
  for (int32_t i = 0; i < runners; i++) qe_eda_write(s, s->choice + s->rank[i] * s->position.count, genome_at(s, i));
  QE_TRY(qe_fitness_run(s->evolution->fitness, &batch, s->genomes, runners, s->evolution->genome, INT64_MAX, s->partial,
                        NULL));
  qe_eda_add_slopes(s, s->partial, runners);
  for (int32_t i = 0; i < runners; i++) s->loss[s->rank[i]] += s->partial[i];
  return rank_runners(s, runners);
}

static int64_t mean_of(const int64_t *loss, int32_t count, int64_t images) {
  int64_t sum = 0;
  for (int32_t i = 0; i < count; i++) sum += loss[i] / images;
  return sum / count;
}

static qe_status run_races(qe_eda_search *s, qe_evolution_report *report) {
  for (int32_t i = 0; i < s->options.individuals; i++) {
    s->rank[i] = i;
    s->loss[i] = 0;
  }
  for (int32_t r = 0; r < s->options.races; r++) {
    QE_TRY(race(s, r));
    if (r == 0) report->mean = mean_of(s->partial, s->options.individuals, qe_eda_race_images(&s->options, 0));
  }
  report->best = s->loss[s->rank[0]] / s->options.batch;
  return QE_OK;
}

/* ---- generations ---- */

/* The context as candidates of the group. */
static void context_choice(const qe_eda_search *s, uint8_t *candidate) {
  for (int64_t j = 0; j < s->position.count; j++) candidate[j] = (uint8_t)qe_eda_context_candidate(s, j);
}

/* Makes every second individual the mirror image of the one before: as far on the other side of the context, where the
 * candidates reach there, else as the context. */
static void mirror(qe_eda_search *s) {
  int64_t count = s->position.count;
  for (int64_t j = 0; j < count; j++) {
    int32_t context = qe_eda_context_candidate(s, j), most = s->distribution->candidates[group_of(s)[j]] - 1;
    for (int32_t i = 1; i < s->options.individuals; i += 2) {
      int32_t other = 2 * context - s->choice[(i - 1) * count + j];
      s->choice[i * count + j] = (uint8_t)(other < 0 || other > most ? context : other);
    }
  }
}

qe_status qe_eda_generation(qe_eda_search *s, qe_evolution_report *report) {
  size_t count = (size_t)s->position.count;
  s->position.generation++;
  s->position.inside++;
  qe_eda_draw draw = {s->evolution->seed, QE_STREAM_EDA_SAMPLE, (uint32_t)s->position.generation};
  qe_eda_sample(s->distribution, &draw, group_of(s), (int64_t)count, s->options.individuals, s->choice);
  if (s->options.mirror) mirror(s);
  if (s->options.elitism) {
    context_choice(s, s->choice);
    if (s->position.elite) memcpy(s->choice + count, s->elite, count);
  }
  QE_TRY(run_races(s, report));
  memcpy(s->elite, s->choice + (size_t)s->rank[0] * count, count);
  s->position.elite = 1;
  return qe_eda_update(s->distribution, group_of(s), (int64_t)count, s->choice, s->rank, s->options.best, s->rate);
}

/* ---- the group's end ---- */

static qe_fitness_batch acceptance_batch(const qe_eda_search *s) {
  int32_t images = qe_fitness_images(s->evolution->fitness, QE_FITNESS_HELD_OUT);
  bool all = s->options.accept_batch >= images;
  return (qe_fitness_batch){.part = QE_FITNESS_HELD_OUT,
                            .number = all ? 0 : batch_number(s, s->options.races + FOR_ACCEPTANCE),
                            .count = all ? images : s->options.accept_batch};
}

int64_t qe_eda_acceptance_cost(const qe_eda_search *s) {
  int64_t choice =
      s->options.elitism || s->options.ladder ? (int64_t)qe_eda_proposals(&s->options) * s->options.batch : 0;
  return acceptance_batch(s).count * INT64_C(2) + choice;
}

int32_t qe_eda_proposals(const qe_eda_options *options) {
  return 1 + options->elitism + options->ladder;
}

/* Genomes of the proposals that differ from the context: the likeliest codes, the best individual, steps down
 * the slopes. */
static qe_status propose(qe_eda_search *s, int32_t *proposals) {
  const int32_t *group = group_of(s);
  int32_t rungs = 0;
  *proposals = 0;
  for (int64_t j = 0; j < s->position.count; j++) s->choice[j] = (uint8_t)qe_eda_argmax(s->distribution, group[j]);
  if (qe_eda_write(s, s->choice, genome_at(s, 0)) > 0) ++*proposals;
  if (s->options.elitism && qe_eda_write(s, s->elite, genome_at(s, *proposals)) > 0) ++*proposals;
  context_choice(s, s->choice);
  if (s->options.ladder) QE_TRY(qe_eda_descend(s, s->choice, genome_at(s, *proposals), &rungs));
  *proposals += rungs;
  return QE_OK;
}

static int32_t least_loss(const int64_t *loss, int32_t count) {
  int32_t best = 0;
  for (int32_t i = 1; i < count; i++)
    if (loss[i] < loss[best]) best = i;
  return best;
}

/* Of several proposals the best on a new batch becomes the first. */
static qe_status choose_proposal(qe_eda_search *s, int32_t proposals) {
  qe_fitness_batch batch = {.part = QE_FITNESS_TRAIN,
                            .number = batch_number(s, s->options.races + FOR_CHOICE),
                            .count = s->options.batch,
                            .augmented = s->options.augmented};
  QE_TRY(qe_fitness_run(s->evolution->fitness, &batch, s->genomes, proposals, s->evolution->genome, INT64_MAX,
                        s->partial, NULL));
  int32_t best = least_loss(s->partial, proposals);
  if (best > 0) memcpy(genome_at(s, 0), genome_at(s, best), s->evolution->layout->bytes);
  return QE_OK;
}

/* Losses of the proposal and the context; the latter is kept where it is of the whole part. */
static qe_status compare(qe_eda_search *s, const qe_fitness_batch *batch, int64_t loss[2]) {
  bool known = batch->number == 0 && s->position.context_loss >= 0;
  if (!known) memcpy(genome_at(s, 1), s->evolution->genome, s->evolution->layout->bytes);
  loss[1] = s->position.context_loss;
  return qe_fitness_run(s->evolution->fitness, batch, s->genomes, known ? 1 : 2, s->evolution->genome,
                        known ? s->position.context_loss : INT64_MAX, loss, NULL);
}

static qe_status take(qe_eda_search *s, qe_evolution_report *report) {
  const int32_t *group = group_of(s);
  QE_TRY(qe_evolution_take(s->evolution, genome_at(s, 0), &report->changed));
  for (int64_t j = 0; j < s->position.count; j++)
    s->context[group[j]] = qe_eda_get(&s->variables.place[group[j]], s->evolution->genome);
  report->accepted = true;
  s->position.accepted++;
  return QE_OK;
}

/* Whether a variable's distribution starts anew: after a failure; after a success, where it is not for the code that
 * the context took, or where the candidates move with the context. */
static bool is_void(const qe_eda_search *s, int32_t variable, bool accepted) {
  if (!accepted) return s->options.restart;
  return s->options.recentre ||
         s->distribution->first[variable] + qe_eda_argmax(s->distribution, variable) != s->context[variable];
}

static void start_anew(const qe_eda_search *s, bool accepted) {
  const int32_t *group = group_of(s);
  for (int64_t j = 0; j < s->position.count; j++) {
    if (!is_void(s, group[j], accepted)) continue;
    if (s->options.recentre) qe_eda_recentre(s->distribution, group[j], s->context[group[j]]);
    qe_eda_flatten(s->distribution, group[j], s->context[group[j]]);
  }
}

static void adapt(qe_eda_search *s, bool accepted) {
  const int64_t least = 16;
  int64_t size = s->position.size;
  if (!s->options.adapt) return;
  size = accepted ? size + size / 2 : size - size / 6;
  if (size > s->variables.count) size = s->variables.count;
  s->position.size = size < least ? least : size;
}

static qe_status decide(qe_eda_search *s, qe_evolution_report *report) {
  qe_fitness_batch batch = acceptance_batch(s);
  int64_t loss[2];
  QE_TRY(compare(s, &batch, loss));
  bool better = loss[0] < loss[1];
  if (better) QE_TRY(take(s, report));
  if (batch.number == 0) s->position.context_loss = loss[!better];
  report->held_out = loss[!better] / batch.count;
  return QE_OK;
}

qe_status qe_eda_conclude(qe_eda_search *s, qe_evolution_report *report) {
  int32_t proposals;
  QE_TRY(propose(s, &proposals));
  if (proposals > 1) QE_TRY(choose_proposal(s, proposals));
  if (proposals > 0) QE_TRY(decide(s, report));
  start_anew(s, report->accepted);
  adapt(s, report->accepted);
  s->position.at += s->position.count;
  s->position.inside = s->position.elite = 0;
  return QE_OK;
}
