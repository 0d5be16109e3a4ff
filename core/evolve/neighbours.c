/* The stage `neighbours`: moves to neighbouring codes within a layer, tried and accepted by the true fitness. */
#include "core/evolve/neighbours.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"

#include <string.h>

enum { PROPOSALS = 4, LEAST_MOVES = 2, NUMBERS = 3 };

typedef struct search {
  qe_evolution *evolution;
  const qe_neighbours_options *options;
  int64_t weights;                  /* of all genes */
  int8_t *codes, *now;              /* [largest gene]: of the context, of a candidate */
  int32_t *order;                   /* [largest gene]: weights in drawn order, the sign of the move in the lowest bit */
  int32_t *rank;                    /* [candidates]: by loss */
  char *genomes;                    /* [candidates], or context and proposals */
  int64_t *loss;                    /* [candidates + 1], the context's first */
  int64_t generation, moves, stale; /* generations done, weights a candidate, generations since an acceptance */
} search;

static char *genome_at(const search *s, int32_t at) {
  return s->genomes + (size_t)at * s->evolution->layout->bytes;
}

/* ---- what moves ---- */

static uint64_t generation_key(const search *s) {
  qe_philox key = qe_philox_draw(s->evolution->seed, QE_STREAM_GENES, qe_evolve_number(s->evolution, s->generation, 1));
  return (uint64_t)key.word[1] << 32 | key.word[0];
}

/* The gene that holds the weight of a number drawn among all. */
static const qe_gene *choose_gene(const search *s, uint64_t key) {
  const qe_genome_layout *layout = s->evolution->layout;
  int64_t at = qe_below(qe_philox_draw(key, QE_STREAM_GENES, UINT32_MAX).word[0], (uint32_t)s->weights);
  size_t g = 0;
  for (; g < layout->genes; g++) {
    if (layout->gene[g].kind != QE_GENE_WEIGHT) continue;
    if (at < layout->gene[g].count) break;
    at -= layout->gene[g].count;
  }
  return &layout->gene[g];
}

/* The first `count` places of a random order of the gene's weights. */
static void draw_order(search *s, uint64_t key, const qe_gene *gene, int64_t count) {
  qe_philox draw = {{0}};
  for (int32_t i = 0; i < gene->count; i++) s->order[i] = i * 2;
  for (int32_t i = 0; i < count; i++) {
    if (i % 2 == 0) draw = qe_philox_draw(key, QE_STREAM_GENES, (uint64_t)i / 2);
    int32_t other = i + (int32_t)qe_below(draw.word[i % 2], (uint32_t)(gene->count - i));
    int32_t chosen = s->order[other];
    s->order[other] = s->order[i];
    s->order[i] = chosen | (int32_t)(draw.word[2 + i % 2] & 1);
  }
}

/* Moves of one candidate, in the codes `now`; at the grid's edge the other way. */
static void move_codes(search *s, const qe_gene *gene, int64_t each, int32_t candidate) {
  for (int64_t k = candidate * each; k < (candidate + 1) * each && k < gene->count; k++) {
    int32_t at = s->order[k] / 2, step = s->order[k] % 2 ? gene->grid.spacing : -gene->grid.spacing;
    int32_t code = s->codes[at] + step;
    if (code < gene->grid.low || code > gene->grid.high) code = s->codes[at] - step;
    s->now[at] = (int8_t)code;
  }
}

/* The context with the moves of `count` candidates. */
static void make_genome(search *s, const qe_gene *gene, int64_t each, const int32_t *candidate, int32_t count,
                        char *genome) {
  memcpy(genome, s->evolution->genome, s->evolution->layout->bytes);
  memcpy(s->now, s->codes, (size_t)gene->count);
  for (int32_t i = 0; i < count; i++) move_codes(s, gene, each, candidate[i]);
  qe_pack(&gene->grid, s->now, gene->count, genome + gene->offset);
}

/* ---- a generation ---- */

static qe_status try_candidates(search *s, const qe_gene *gene, int64_t each, qe_evolution_report *report) {
  int32_t candidates = s->options->candidates, best = 1;
  int64_t sum = 0;
  qe_fitness *fitness = s->evolution->fitness;
  qe_fitness_batch batch = {QE_FITNESS_TRAIN, qe_evolve_number(s->evolution, s->generation, 0), s->options->batch,
                            s->options->augmented};
  for (int32_t i = 0; i < candidates; i++) make_genome(s, gene, each, &i, 1, genome_at(s, i));
  QE_TRY(qe_fitness_run(fitness, &batch, s->evolution->genome, 1, NULL, INT64_MAX, s->loss, NULL));
  QE_TRY(qe_fitness_run(fitness, &batch, s->genomes, candidates, s->evolution->genome, INT64_MAX, s->loss + 1, NULL));
  for (int32_t i = 1; i <= candidates; i++) {
    sum += s->loss[i];
    if (s->loss[i] < s->loss[best]) best = i;
  }
  report->best = s->loss[best] / batch.count;
  report->mean = sum / candidates / batch.count;
  return QE_OK;
}

/* The candidates better than the context, the best first; how many. */
static int32_t rank_better(search *s) {
  int32_t count = 0;
  for (int32_t i = 0; i < s->options->candidates; i++) {
    if (s->loss[i + 1] >= s->loss[0]) continue;
    int32_t at = count++;
    for (; at > 0 && s->loss[s->rank[at - 1] + 1] > s->loss[i + 1]; at--) s->rank[at] = s->rank[at - 1];
    s->rank[at] = i;
  }
  return count;
}

static qe_status decide(search *s, const qe_gene *gene, int64_t each, qe_evolution_report *report) {
  int32_t better = rank_better(s), proposals = better < PROPOSALS ? better : PROPOSALS;
  const int32_t parts[PROPOSALS] = {better, (better + 1) / 2, (better + 3) / 4, 1};
  qe_verdict verdict = {.winner = -1, .before = -1};
  memcpy(genome_at(s, 0), s->evolution->genome, s->evolution->layout->bytes);
  for (int32_t k = 0; k < proposals; k++) make_genome(s, gene, each, s->rank, parts[k], genome_at(s, k + 1));
  if (proposals > 0)
    QE_TRY(qe_accept(s->evolution->fitness, &s->options->accept, qe_evolve_number(s->evolution, s->generation, 1),
                     s->evolution->layout, s->genomes, proposals, &verdict));
  report->accepted = verdict.winner >= 0;
  report->held_out = report->accepted ? verdict.after : verdict.before;
  s->stale = report->accepted ? 0 : s->stale + 1;
  s->moves = report->accepted ? s->moves * 5 / 4 : s->moves * 15 / 16;
  if (s->moves < LEAST_MOVES) s->moves = LEAST_MOVES;
  if (s->moves > INT32_MAX) s->moves = INT32_MAX;
  return report->accepted ? qe_evolution_take(s->evolution, genome_at(s, verdict.winner + 1), &report->changed) : QE_OK;
}

static qe_status generation(search *s, qe_evolution_report *report) {
  uint64_t key = generation_key(s);
  const qe_gene *gene = choose_gene(s, key);
  int64_t each = gene->count / s->options->candidates;
  if (each > s->moves) each = s->moves;
  if (each == 0) each = 1; /* small layers: the last candidates move what there is */
  draw_order(s, key, gene, each * s->options->candidates < gene->count ? each * s->options->candidates : gene->count);
  QE_TRY(qe_genome_codes(gene, s->evolution->genome, s->codes));
  QE_TRY(try_candidates(s, gene, each, report));
  return decide(s, gene, each, report);
}

/* ---- state ---- */

static qe_status save(const void *of, qe_tensors *state) {
  const search *s = of;
  const int64_t count = NUMBERS, number[NUMBERS] = {s->generation, s->moves, s->stale};
  return qe_tensors_add(state, "numbers", QE_S64, 1, &count, number);
}

static qe_status restore(search *s) {
  if (!s->evolution->state) return QE_OK;
  const qe_named_tensor *numbers = qe_tensors_find(s->evolution->state, "numbers");
  if (!numbers || numbers->dtype != QE_S64 || numbers->bytes != NUMBERS * sizeof(int64_t))
    return qe_fail(QE_FORMAT, "the checkpoint is of another stage than 'neighbours'");
  const int64_t *number = numbers->data;
  if (number[0] < 0 || number[1] < LEAST_MOVES || number[1] > INT32_MAX || number[2] < 0)
    return qe_fail(QE_FORMAT, "the checkpoint's state of the stage 'neighbours' is damaged");
  s->generation = number[0];
  s->moves = number[1];
  s->stale = number[2];
  return QE_OK;
}

/* ---- the search ---- */

static qe_status check(const qe_neighbours_options *options) {
  const int32_t most = 1 << 13;
  if (options->candidates < 1 || options->candidates > most)
    return qe_fail(QE_USAGE, "neighbours: %d candidates; give 1 to %d", options->candidates, most);
  if (options->batch < 1 || options->accept.check < 1 || options->moves < 1)
    return qe_fail(QE_USAGE, "neighbours: batches of %d and %d images, %d moves; give at least 1", options->batch,
                   options->accept.check, options->moves);
  return QE_OK;
}

static qe_status make_room(search *s) {
  int64_t largest = 0;
  for (size_t g = 0; g < s->evolution->layout->genes; g++) {
    const qe_gene *gene = &s->evolution->layout->gene[g];
    if (gene->kind != QE_GENE_WEIGHT) continue;
    s->weights += gene->count;
    if (gene->count > largest) largest = gene->count;
  }
  if (s->weights == 0) return qe_fail(QE_USAGE, "neighbours: no weights are among what evolves");
  if (s->weights > UINT32_MAX / 2 || largest > INT32_MAX / 2)
    return qe_fail(QE_USAGE, "neighbours: %lld weights are too many", (long long)s->weights);
  int32_t candidates = s->options->candidates, places = candidates > PROPOSALS + 1 ? candidates : PROPOSALS + 1;
  s->codes = qe_alloc((size_t)largest);
  s->now = qe_alloc((size_t)largest);
  s->order = QE_NEW_ARRAY(int32_t, largest);
  s->rank = QE_NEW_ARRAY(int32_t, candidates);
  s->loss = QE_NEW_ARRAY(int64_t, (int64_t)candidates + 1);
  s->genomes = qe_calloc((size_t)places, s->evolution->layout->bytes);
  return s->codes && s->now && s->order && s->rank && s->loss && s->genomes ? QE_OK : QE_NO_MEMORY;
}

static bool goes_on(const search *s) {
  const qe_neighbours_options *o = s->options;
  int64_t cost = ((int64_t)o->candidates + 1) * o->batch + qe_accept_cost(s->evolution->fitness, &o->accept, PROPOSALS);
  return (o->generations == 0 || s->generation < o->generations) && (o->patience == 0 || s->stale < o->patience) &&
         qe_evolution_left(s->evolution) >= cost;
}

static qe_status run(search *s) {
  QE_TRY(make_room(s));
  QE_TRY(restore(s));
  while (goes_on(s)) {
    qe_evolution_report report = {.held_out = -1, .confident_per_myriad = -1};
    QE_TRY(generation(s, &report));
    report.generation = ++s->generation;
    QE_TRY(qe_evolution_generation(s->evolution, &report, save, s));
  }
  return QE_OK;
}

qe_status qe_neighbours_run(qe_evolution *evolution, const qe_neighbours_options *options) {
  search s = {.evolution = evolution, .options = options, .moves = options->moves};
  QE_TRY(check(options));
  qe_status status = run(&s);
  qe_free(s.codes);
  qe_free(s.now);
  qe_free(s.order);
  qe_free(s.rank);
  qe_free(s.loss);
  qe_free(s.genomes);
  return status;
}
