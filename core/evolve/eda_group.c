/* Stage `eda`: the generations of a group, and what the context takes of it. */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/evolve/eda_parts.h"
#include "core/search/order.h"

#include <string.h>

enum { PROPOSALS = 2 }; /* the likeliest codes, and the best individual */

static const int32_t *group_of(const qe_eda_search *s) {
  return s->order + s->position.at;
}

static uint8_t *genome_at(const qe_eda_search *s, int32_t number) {
  return s->genomes + (size_t)number * s->evolution->layout->bytes;
}

/* The context with the group's variables as these candidates [position.count] say; how many of them differ from it. */
static int64_t write_genome(const qe_eda_search *s, const uint8_t *candidate, uint8_t *genome) {
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

/* Batches are numbered so that no two races or comparisons of the stage share one. */
static uint64_t batch_number(const qe_eda_search *s, int32_t race) {
  return (uint64_t)s->position.generation * (uint64_t)(s->options.races + 1) + (uint64_t)race;
}

static qe_status race(qe_eda_search *s, int32_t number) {
  int32_t runners = race_individuals(&s->options, number);
  qe_fitness_batch batch = {.part = QE_FITNESS_TRAIN,
                            .number = batch_number(s, number),
                            .count = qe_eda_race_images(&s->options, number),
                            .augmented = s->options.augmented};
  for (int32_t i = 0; i < runners; i++) write_genome(s, s->choice + s->rank[i] * s->position.count, genome_at(s, i));
  QE_TRY(qe_fitness_run(s->evolution->fitness, &batch, s->genomes, runners, s->evolution->genome, INT64_MAX, s->partial,
                        NULL));
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
  const int32_t *group = group_of(s);
  for (int64_t j = 0; j < s->position.count; j++)
    candidate[j] = (uint8_t)(s->context[group[j]] - s->distribution->first[group[j]]);
}

qe_status qe_eda_generation(qe_eda_search *s, qe_evolution_report *report) {
  size_t count = (size_t)s->position.count;
  s->position.generation++;
  s->position.inside++;
  qe_eda_draw draw = {s->evolution->seed, QE_STREAM_EDA_SAMPLE, (uint32_t)s->position.generation};
  qe_eda_sample(s->distribution, &draw, group_of(s), (int64_t)count, s->options.individuals, s->choice);
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
                            .number = all ? 0 : batch_number(s, s->options.races),
                            .count = all ? images : s->options.accept_batch};
}

int64_t qe_eda_acceptance_cost(const qe_eda_search *s) {
  return acceptance_batch(s).count * (s->options.elitism ? PROPOSALS + 1 : INT64_C(2));
}

/* Genomes of the proposals that differ from the context. */
static int32_t propose(const qe_eda_search *s) {
  const int32_t *group = group_of(s);
  int32_t proposals = 0;
  for (int64_t j = 0; j < s->position.count; j++) s->choice[j] = (uint8_t)qe_eda_argmax(s->distribution, group[j]);
  if (write_genome(s, s->choice, genome_at(s, 0)) > 0) proposals++;
  if (s->options.elitism && write_genome(s, s->elite, genome_at(s, proposals)) > 0) proposals++;
  return proposals;
}

/* Losses of the proposals and, behind them, of the context; that is kept where it is of the whole part. */
static qe_status compare(qe_eda_search *s, int32_t proposals, const qe_fitness_batch *batch) {
  bool known = batch->number == 0 && s->position.context_loss >= 0;
  int32_t candidates = known ? proposals : proposals + 1;
  if (!known) memcpy(genome_at(s, proposals), s->evolution->genome, s->evolution->layout->bytes);
  QE_TRY(qe_fitness_run(s->evolution->fitness, batch, s->genomes, candidates, s->evolution->genome,
                        known ? s->position.context_loss : INT64_MAX, s->partial, NULL));
  if (known) s->partial[proposals] = s->position.context_loss;
  return QE_OK;
}

static qe_status take(qe_eda_search *s, int32_t proposal, qe_evolution_report *report) {
  const int32_t *group = group_of(s);
  QE_TRY(qe_evolution_take(s->evolution, genome_at(s, proposal), &report->changed));
  for (int64_t j = 0; j < s->position.count; j++)
    s->context[group[j]] = qe_eda_get(&s->variables.place[group[j]], s->evolution->genome);
  report->accepted = true;
  s->position.accepted++;
  return QE_OK;
}

/* After a failure, or where the candidates move with the context. */
static void start_anew(const qe_eda_search *s, bool accepted) {
  const int32_t *group = group_of(s);
  bool move = accepted && s->options.recentre;
  if (!move && (accepted || !s->options.restart)) return;
  for (int64_t j = 0; j < s->position.count; j++) {
    if (move) qe_eda_recentre(s->distribution, group[j], s->context[group[j]]);
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

qe_status qe_eda_conclude(qe_eda_search *s, qe_evolution_report *report) {
  int32_t proposals = propose(s), best = 0;
  if (proposals > 0) {
    qe_fitness_batch batch = acceptance_batch(s);
    QE_TRY(compare(s, proposals, &batch));
    for (int32_t i = 1; i < proposals; i++)
      if (s->partial[i] < s->partial[best]) best = i;
    if (s->partial[best] < s->partial[proposals])
      QE_TRY(take(s, best, report));
    else
      best = proposals;
    if (batch.number == 0) s->position.context_loss = s->partial[best];
    report->held_out = s->partial[best] / batch.count;
  }
  start_anew(s, report->accepted);
  adapt(s, report->accepted);
  s->position.at += s->position.count;
  s->position.inside = s->position.elite = 0;
  return QE_OK;
}
