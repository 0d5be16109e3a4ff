/* Where votes on a layer's codes come from. */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/evolve/backward.h"
#include "core/evolve/perturb.h"
#include "core/evolve/votes_parts.h"

#include <string.h>

enum { PER_MYRIAD = 10000, GRAM_GROUPS = 4 };

uint64_t qe_votes_number(const qe_votes_round *round, int32_t what) {
  const uint64_t own = UINT64_C(1) << 60; /* other stages number their batches below */
  uint64_t stage = (uint64_t)round->evolution->stages_done << 48;
  return own | stage | ((uint64_t)round->generation * QE_VOTES_BATCHES + (uint64_t)what);
}

uint64_t qe_votes_seed(const qe_votes_round *round) {
  qe_philox draw = qe_philox_draw(round->evolution->seed, QE_STREAM_VOTES, qe_votes_number(round, 0));
  return (uint64_t)draw.word[1] << 32 | draw.word[0];
}

/* ---- node perturbation ---- */

static int32_t first_of(const qe_votes_options *o, int32_t group) {
  return (int32_t)((int64_t)o->images * group / o->groups);
}

static int64_t patch_of(const qe_votes_round *round) {
  return round->gene->count / round->evolution->network->layer[round->gene->layer].weight_desc.dim[QE_N];
}

static qe_status add_gram(qe_perturb *perturb, int64_t size, int64_t *gram, int64_t *sum) {
  QE_TRY(qe_perturb_gram(perturb, gram));
  for (int64_t i = 0; i < size * size; i++) sum[i] += gram[i];
  return QE_OK;
}

/* votes, gram: room for one group's. */
static qe_status ask_nodes_with(const qe_votes_round *round, qe_perturb *perturb, int64_t size, int64_t *votes,
                                int64_t *gram, qe_votes_answer *answer) {
  const qe_votes_options *o = round->options;
  qe_fitness_batch batch = {QE_FITNESS_TRAIN, qe_votes_number(round, QE_VOTES_ASK), o->images, o->augmented};
  qe_fitness_view view;
  QE_TRY(qe_fitness_look(round->evolution->fitness, &batch, &view));
  for (int32_t g = 0; g < o->groups; g++) {
    int32_t first = first_of(o, g), count = first_of(o, g + 1) - first;
    QE_TRY(qe_perturb_vote(perturb, &view, qe_votes_seed(round), first, count, votes));
    qe_vote_sums_add(&answer->sums, votes);
    if (g < GRAM_GROUPS) QE_TRY(add_gram(perturb, size, gram, answer->gram));
  }
  return QE_OK;
}

static qe_status ask_nodes(const qe_votes_round *round, qe_votes_answer *answer) {
  const qe_votes_options *o = round->options;
  const qe_evolution *evolution = round->evolution;
  qe_perturb_options options = {.pairs = o->pairs,
                                .chance = o->chance,
                                .size = o->noise,
                                .block = {o->block, o->block},
                                .signs = o->sign,
                                .images = (o->images + o->groups - 1) / o->groups,
                                .memory = evolution->measure.memory};
  int64_t size = patch_of(round);
  qe_perturb *perturb;
  QE_TRY(qe_perturb_new(evolution->device[0], evolution->network, round->gene->layer, &options, &perturb));
  int64_t *votes = QE_NEW_ARRAY(int64_t, round->gene->count), *gram = QE_NEW_ARRAY(int64_t, size * size);
  answer->gram = QE_NEW_ARRAY(int64_t, size * size);
  bool complete = votes && gram && answer->gram;
  qe_status status = complete ? ask_nodes_with(round, perturb, size, votes, gram, answer) : QE_NO_MEMORY;
  qe_perturb_free(perturb);
  qe_free(votes);
  qe_free(gram);
  return status;
}

/* ---- back-propagation ---- */

static qe_status ask_backprop_with(const qe_votes_round *round, int64_t size, int64_t *votes, int64_t *gram,
                                   qe_votes_answer *answer) {
  const qe_votes_options *o = round->options;
  const qe_evolution *evolution = round->evolution;
  qe_fitness_batch batch = {QE_FITNESS_TRAIN, qe_votes_number(round, QE_VOTES_ASK), o->images, o->augmented};
  qe_fitness_view view;
  int32_t exponent = INT32_MIN;
  QE_TRY(qe_fitness_look(evolution->fitness, &batch, &view));
  for (int32_t g = 0; g < o->groups; g++) {
    int32_t first = first_of(o, g), count = first_of(o, g + 1) - first;
    QE_TRY(qe_backward_vote(evolution->device[0], evolution->network, round->gene->layer, &view, first, count,
                            &exponent, votes, g < GRAM_GROUPS ? gram : NULL));
    qe_vote_sums_add(&answer->sums, votes);
    for (int64_t i = 0; g < GRAM_GROUPS && i < size * size; i++) answer->gram[i] += gram[i];
  }
  return QE_OK;
}

static qe_status ask_backprop(const qe_votes_round *round, qe_votes_answer *answer) {
  int64_t size = patch_of(round);
  int64_t *votes = QE_NEW_ARRAY(int64_t, round->gene->count), *gram = QE_NEW_ARRAY(int64_t, size * size);
  answer->gram = QE_NEW_ARRAY(int64_t, size * size);
  bool complete = votes && gram && answer->gram;
  qe_status status = complete ? ask_backprop_with(round, size, votes, gram, answer) : QE_NO_MEMORY;
  qe_free(votes);
  qe_free(gram);
  return status;
}

/* ---- weight perturbation ---- */

/* A group's pairs of candidates: genomes [2 * pairs], the second of a pair with the first one's moves reversed. */
typedef struct sign_group {
  const qe_votes_round *round;
  int8_t *moves; /* [pairs, codes] */
  int8_t *codes; /* [codes] */
  char *genomes;
  int64_t *loss, *votes;
} sign_group;

static void draw_moves(const sign_group *group, int32_t number) {
  const qe_votes_options *o = group->round->options;
  int64_t count = group->round->gene->count * o->pairs;
  uint64_t seed = qe_votes_seed(group->round), first = (uint64_t)number * (uint64_t)((count + 3) / 4);
  uint32_t limit = (uint32_t)(((uint64_t)o->share << 31) / PER_MYRIAD);
  qe_philox draw = {{0}};
  for (int64_t i = 0; i < count; i++) {
    if (i % 4 == 0) draw = qe_philox_draw(seed, QE_STREAM_VOTES, UINT64_C(1) << 62 | (first + (uint64_t)i / 4));
    uint32_t word = draw.word[i % 4];
    group->moves[i] = (int8_t)(word >> 1 >= limit ? 0 : word & 1 ? -1 : 1);
  }
}

static void make_candidate(const sign_group *group, int32_t candidate) {
  const qe_votes_round *round = group->round;
  const qe_gene *gene = round->gene;
  const qe_code_grid *grid = &gene->grid;
  char *genome = group->genomes + (size_t)candidate * round->evolution->layout->bytes;
  const int8_t *moves = group->moves + candidate / 2 * gene->count;
  int32_t spacing = candidate % 2 ? -grid->spacing : grid->spacing;
  for (int64_t i = 0; i < gene->count; i++) {
    int32_t code = round->codes[i] + moves[i] * spacing;
    group->codes[i] = (int8_t)(code < grid->low ? grid->low : code > grid->high ? grid->high : code);
  }
  memcpy(genome, round->evolution->genome, round->evolution->layout->bytes);
  qe_pack(grid, group->codes, gene->count, genome + gene->offset);
}

static void count_votes(const sign_group *group, qe_votes_answer *answer) {
  const qe_votes_options *o = group->round->options;
  int64_t count = group->round->gene->count;
  memset(group->votes, 0, (size_t)count * sizeof *group->votes);
  for (int32_t pair = 0; pair < o->pairs; pair++) {
    int64_t difference = group->loss[2 * pair] - group->loss[2 * pair + 1];
    if (o->sign) difference = (difference > 0) - (difference < 0);
    const int8_t *moves = group->moves + pair * count;
    for (int64_t i = 0; i < count; i++) group->votes[i] += difference * moves[i];
  }
  qe_vote_sums_add(&answer->sums, group->votes);
}

static qe_status ask_signs_with(const sign_group *group, qe_votes_answer *answer) {
  const qe_votes_round *round = group->round;
  const qe_votes_options *o = round->options;
  qe_fitness_batch batch = {QE_FITNESS_TRAIN, 0, (o->images + o->groups - 1) / o->groups, o->augmented};
  for (int32_t g = 0; g < o->groups; g++) {
    batch.number = qe_votes_number(round, QE_VOTES_GROUP + g);
    draw_moves(group, g);
    for (int32_t k = 0; k < 2 * o->pairs; k++) make_candidate(group, k);
    QE_TRY(qe_fitness_run(round->evolution->fitness, &batch, group->genomes, 2 * o->pairs, round->evolution->genome,
                          INT64_MAX, group->loss, NULL));
    count_votes(group, answer);
  }
  return QE_OK;
}

static qe_status ask_signs(const qe_votes_round *round, qe_votes_answer *answer) {
  size_t pairs = (size_t)round->options->pairs, count = (size_t)round->gene->count;
  sign_group group = {.round = round,
                      .moves = qe_alloc(pairs * count),
                      .codes = qe_alloc(count),
                      .genomes = qe_calloc(2 * pairs, round->evolution->layout->bytes),
                      .loss = QE_NEW_ARRAY(int64_t, 2 * pairs),
                      .votes = QE_NEW_ARRAY(int64_t, count)};
  bool complete = group.moves && group.codes && group.genomes && group.loss && group.votes;
  qe_status status = complete ? ask_signs_with(&group, answer) : QE_NO_MEMORY;
  qe_free(group.moves);
  qe_free(group.codes);
  qe_free(group.genomes);
  qe_free(group.loss);
  qe_free(group.votes);
  return status;
}

/* ---- the table ---- */

static bool can_nodes(const qe_evolution *evolution, const qe_gene *gene) {
  return qe_perturb_can(evolution->network, gene->layer);
}

static bool can_backprop(const qe_evolution *evolution, const qe_gene *gene) {
  return qe_backward_can(evolution->network, gene->layer);
}

static bool can_signs(const qe_evolution *evolution, const qe_gene *gene) {
  (void)evolution, (void)gene;
  return true;
}

static int64_t cost_nodes(const qe_evolution *evolution, const qe_votes_options *o, const qe_gene *gene) {
  return qe_perturb_cost(evolution->network, gene->layer, o->images, o->pairs);
}

static int64_t cost_backprop(const qe_evolution *evolution, const qe_votes_options *o, const qe_gene *gene) {
  return qe_backward_cost(evolution->network, gene->layer, o->images);
}

static int64_t cost_signs(const qe_evolution *evolution, const qe_votes_options *o, const qe_gene *gene) {
  (void)evolution, (void)gene;
  return (int64_t)((o->images + o->groups - 1) / o->groups) * o->groups * 2 * o->pairs;
}

static const struct source {
  bool (*can)(const qe_evolution *evolution, const qe_gene *gene);
  int64_t (*cost)(const qe_evolution *evolution, const qe_votes_options *options, const qe_gene *gene);
  qe_status (*ask)(const qe_votes_round *round, qe_votes_answer *answer);
  bool counts; /* the fitness counts what it costs */
} sources[QE_VOTES_SOURCES] = {
    [QE_VOTES_NODES] = {can_nodes, cost_nodes, ask_nodes, false},
    [QE_VOTES_SIGNS] = {can_signs, cost_signs, ask_signs, true},
    [QE_VOTES_BACKPROP] = {can_backprop, cost_backprop, ask_backprop, false},
};

bool qe_votes_can(const qe_evolution *evolution, const qe_votes_options *options, const qe_gene *gene) {
  return gene->kind == QE_GENE_WEIGHT && sources[options->source].can(evolution, gene);
}

int64_t qe_votes_cost(const qe_evolution *evolution, const qe_votes_options *options, const qe_gene *gene) {
  return sources[options->source].cost(evolution, options, gene);
}

qe_status qe_votes_ask(const qe_votes_round *round, qe_votes_answer *answer) {
  const struct source *source = &sources[round->options->source];
  QE_TRY(source->ask(round, answer));
  qe_fitness *fitness = round->evolution->fitness;
  if (!source->counts)
    qe_fitness_set_spent(fitness,
                         qe_fitness_spent(fitness) + source->cost(round->evolution, round->options, round->gene));
  return QE_OK;
}
