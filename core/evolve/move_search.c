/* Search over moves of requantisers by paired candidates and votes. */
#include "core/evolve/move_search.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"

#include <string.h>

enum {
  SCALE_ONE = 256,
  SCALE_LEAST = SCALE_ONE / 8,
  SCALE_MOST = SCALE_ONE * 4,
  VOTE_SHIFT = 8,
  PROPOSALS = 7 /* three parts of the genes, each by one and two amplitudes; the best candidate */
};

typedef struct search {
  qe_evolution *evolution;
  const qe_move_search_options *options;
  qe_moves *moves;
  int64_t *momentum;                /* [moves], above 0: up is better */
  int32_t *value;                   /* [moves], of the candidate that is being made */
  char *genomes;                    /* pairs, or context and proposals */
  int64_t *loss;                    /* [2 pairs] */
  int64_t generation, scale, stale; /* generations done, amplitudes' factor, generations since an acceptance */
} search;

/* ---- moves ---- */

static int32_t amplitude(const search *s, size_t gene) {
  int64_t usual = s->options->amplitude[s->moves->move[gene].kind];
  int32_t now = (int32_t)(usual * s->scale / SCALE_ONE);
  return now > 0 ? now : 1;
}

static uint64_t pair_key(const search *s, int32_t pair) {
  uint64_t number = qe_evolve_number(s->evolution, s->generation, 0) << 13 | (uint32_t)pair;
  qe_philox key = qe_philox_draw(s->evolution->seed, QE_STREAM_GENES, number);
  return (uint64_t)key.word[1] << 32 | key.word[0];
}

/* How a pair's first candidate moves a gene: up, down, or, but for one gene of `spread`, not at all. */
static int32_t sign_of(const search *s, uint64_t key, size_t gene) {
  qe_philox draw = qe_philox_draw(key, QE_STREAM_GENES, gene);
  if (qe_below(draw.word[1], (uint32_t)s->options->spread) != 0) return 0;
  return draw.word[0] & 1 ? 1 : -1;
}

static char *genome_at(const search *s, int32_t at) {
  return s->genomes + (size_t)at * s->moves->layout->bytes;
}

static void make_candidate(search *s, int32_t candidate, int32_t place) {
  uint64_t key = pair_key(s, candidate / 2);
  int32_t side = candidate % 2 == 0 ? 1 : -1;
  for (size_t i = 0; i < s->moves->moves; i++) s->value[i] = side * sign_of(s, key, i) * amplitude(s, i);
  qe_moves_apply(s->moves, s->evolution->network, s->value, genome_at(s, place));
}

/* ---- votes ---- */

/* How many pairs differ by at most as much. */
static int64_t rank_of(const search *s, int32_t pair, int64_t *difference) {
  int64_t rank = 0;
  *difference = s->loss[2 * pair + 1] - s->loss[2 * pair];
  for (int32_t k = 0; k < s->options->pairs; k++) {
    int64_t other = s->loss[2 * k + 1] - s->loss[2 * k];
    if ((other < 0 ? -other : other) <= (*difference < 0 ? -*difference : *difference)) rank++;
  }
  return *difference == 0 ? 0 : rank;
}

static void vote(search *s) {
  for (size_t i = 0; i < s->moves->moves; i++) s->momentum[i] /= 2;
  for (int32_t k = 0; k < s->options->pairs; k++) {
    int64_t difference, rank = rank_of(s, k, &difference);
    int64_t weight = (difference < 0 ? -rank : rank) * (1 << VOTE_SHIFT);
    uint64_t key = pair_key(s, k);
    for (size_t i = 0; i < s->moves->moves; i++) s->momentum[i] += weight * sign_of(s, key, i);
  }
}

static int64_t strength(const search *s, size_t gene) {
  int64_t m = s->momentum[gene];
  return m < 0 ? -m : m;
}

/* The least strength that at most `wanted` genes reach, or, where more than that are equally strong, one more. */
static int64_t threshold(const search *s, size_t wanted) {
  int64_t low = 1, high = INT64_MAX;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    size_t count = 0;
    for (size_t i = 0; i < s->moves->moves; i++)
      if (strength(s, i) >= middle) count++;
    if (count <= wanted)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/* Proposal `number` into its place behind the context. */
static void propose(search *s, int32_t number) {
  size_t part = s->moves->moves >> (2 * (number / 2));
  int64_t least = threshold(s, part > 0 ? part : 1);
  for (size_t i = 0; i < s->moves->moves; i++) {
    int32_t step = (1 + number % 2) * amplitude(s, i);
    s->value[i] = strength(s, i) < least ? 0 : s->momentum[i] > 0 ? step : -step;
  }
  qe_moves_apply(s->moves, s->evolution->network, s->value, genome_at(s, number + 1));
}

/* ---- a generation ---- */

static qe_status try_pairs(search *s, qe_evolution_report *report) {
  int32_t candidates = 2 * s->options->pairs, best = 0;
  int64_t sum = 0;
  qe_fitness_batch batch = {QE_FITNESS_TRAIN, qe_evolve_number(s->evolution, s->generation, 0), s->options->batch,
                            s->options->augmented};
  for (int32_t i = 0; i < candidates; i++) make_candidate(s, i, i);
  QE_TRY(qe_fitness_run(s->evolution->fitness, &batch, s->genomes, candidates, NULL, INT64_MAX, s->loss, NULL));
  for (int32_t i = 0; i < candidates; i++) {
    sum += s->loss[i];
    if (s->loss[i] < s->loss[best]) best = i;
  }
  report->best = s->loss[best] / batch.count;
  report->mean = sum / candidates / batch.count;
  vote(s);
  make_candidate(s, best, PROPOSALS);
  return QE_OK;
}

static int64_t differing(const qe_genome_layout *layout, const char *a, const char *b) {
  int64_t count = 0;
  for (size_t i = 0; i < layout->genes; i++) {
    const qe_gene *gene = &layout->gene[i];
    size_t each = gene->bytes / (size_t)gene->count;
    for (size_t at = gene->offset; at < gene->offset + gene->bytes; at += each)
      if (memcmp(a + at, b + at, each) != 0) count++;
  }
  return count;
}

/* The context and `proposals` others lie in the genomes: the true fitness says which of them the network becomes. */
static qe_status decide(search *s, int32_t proposals, qe_evolution_report *report) {
  const qe_genome_layout *layout = s->moves->layout;
  uint64_t number = qe_evolve_number(s->evolution, s->generation, 1);
  qe_verdict verdict;
  QE_TRY(qe_accept(s->evolution->fitness, &s->options->accept, number, layout, s->genomes, proposals, &verdict));
  report->accepted = verdict.winner >= 0;
  report->held_out = report->accepted ? verdict.after : verdict.before;
  if (!report->accepted) return QE_OK;
  const char *winner = genome_at(s, verdict.winner + 1);
  report->changed = differing(layout, genome_at(s, 0), winner);
  return qe_genome_to_network(layout, winner, s->evolution->network);
}

static qe_status vote_generation(search *s, qe_evolution_report *report) {
  QE_TRY(try_pairs(s, report));
  qe_genome_from_network(s->moves->layout, s->evolution->network, genome_at(s, 0));
  for (int32_t k = 0; k < PROPOSALS - 1; k++) propose(s, k);
  QE_TRY(decide(s, PROPOSALS, report));
  s->stale = report->accepted ? 0 : s->stale + 1;
  s->scale = report->accepted ? s->scale * 5 / 4 : s->scale * 7 / 8;
  if (s->scale < SCALE_LEAST) s->scale = SCALE_LEAST;
  if (s->scale > SCALE_MOST) s->scale = SCALE_MOST;
  return QE_OK;
}

/* The gene of the logits' scale; the number of moves when there is none. */
static size_t find_logit_scale(const search *s) {
  size_t at = 0;
  while (at < s->moves->moves && (s->moves->move[at].kind != QE_MOVE_STEP ||
                                  (size_t)s->moves->move[at].layer + 1 < s->evolution->network->layers))
    at++;
  return at;
}

/* The scale of the logits alone, which changes no answer: fitted first, so that no other gene is taken for what only
 * makes the network less, or more, sure. */
static qe_status scale_logits(search *s, size_t gene, qe_evolution_report *report) {
  static const int32_t step[PROPOSALS] = {-128, -64, -32, 32, 64, 128, 192};
  qe_genome_from_network(s->moves->layout, s->evolution->network, genome_at(s, 0));
  memset(s->value, 0, s->moves->moves * sizeof *s->value);
  for (int32_t k = 0; k < PROPOSALS; k++) {
    s->value[gene] = step[k];
    qe_moves_apply(s->moves, s->evolution->network, s->value, genome_at(s, k + 1));
  }
  report->best = report->mean = -1;
  return decide(s, PROPOSALS, report);
}

/* ---- state ---- */

static qe_status save(const void *of, qe_tensors *state) {
  const search *s = of;
  const int64_t genes = (int64_t)s->moves->moves, numbers = 3, number[] = {s->generation, s->scale, s->stale};
  QE_TRY(qe_tensors_add(state, "momentum", QE_S64, 1, &genes, s->momentum));
  return qe_tensors_add(state, "numbers", QE_S64, 1, &numbers, number);
}

static qe_status restore(search *s) {
  const qe_tensors *state = s->evolution->state;
  size_t bytes = s->moves->moves * sizeof *s->momentum;
  if (!state) return QE_OK;
  const qe_named_tensor *momentum = qe_tensors_find(state, "momentum"), *numbers = qe_tensors_find(state, "numbers");
  if (!momentum || !numbers || momentum->dtype != QE_S64 || numbers->dtype != QE_S64 || momentum->bytes != bytes ||
      numbers->bytes != 3 * sizeof(int64_t))
    return qe_fail(QE_FORMAT, "the checkpoint is of another stage than '%s', or of other kinds of genes",
                   s->evolution->stage);
  const int64_t *number = numbers->data;
  if (number[0] < 0 || number[1] < SCALE_LEAST || number[1] > SCALE_MOST || number[2] < 0)
    return qe_fail(QE_FORMAT, "the checkpoint's state of the stage '%s' is damaged", s->evolution->stage);
  memcpy(s->momentum, momentum->data, bytes);
  s->generation = number[0];
  s->scale = number[1];
  s->stale = number[2];
  return QE_OK;
}

/* ---- the search ---- */

static qe_status check(const qe_move_search_options *options) {
  const int32_t most_pairs = 1 << 12;
  if (options->pairs < 1 || options->pairs > most_pairs)
    return qe_fail(QE_USAGE, "%d pairs of candidates; give 1 to %d", options->pairs, most_pairs);
  if (options->spread < 1) return qe_fail(QE_USAGE, "one gene of %d moves; give at least 1", options->spread);
  if (options->batch < 1 || options->accept.check < 1)
    return qe_fail(QE_USAGE, "batches of %d and %d images; give at least 1", options->batch, options->accept.check);
  for (int kind = 0; kind < QE_MOVE_KINDS; kind++)
    if (options->amplitude[kind] < 0 || options->amplitude[kind] > 1024)
      return qe_fail(QE_USAGE, "an amplitude of %d; give 0 to 1024", options->amplitude[kind]);
  return QE_OK;
}

static qe_status make_room(search *s) {
  int32_t places = 2 * s->options->pairs > PROPOSALS + 1 ? 2 * s->options->pairs : PROPOSALS + 1;
  s->momentum = QE_NEW_ARRAY(int64_t, s->moves->moves);
  s->value = QE_NEW_ARRAY(int32_t, s->moves->moves);
  s->loss = QE_NEW_ARRAY(int64_t, 2 * s->options->pairs);
  s->genomes = qe_calloc((size_t)places, s->moves->layout->bytes);
  return s->momentum && s->value && s->loss && s->genomes ? QE_OK : QE_NO_MEMORY;
}

static bool goes_on(const search *s) {
  const qe_move_search_options *o = s->options;
  int64_t cost = 2 * (int64_t)o->pairs * o->batch + qe_accept_cost(s->evolution->fitness, &o->accept, PROPOSALS);
  return (o->generations == 0 || s->generation < o->generations) && (o->patience == 0 || s->stale < o->patience) &&
         qe_evolution_left(s->evolution) >= cost;
}

static qe_status run(search *s) {
  QE_TRY(make_room(s));
  QE_TRY(restore(s));
  QE_TRY(qe_fitness_use(s->evolution->fitness, s->evolution->network, s->moves->layout));
  size_t logits = find_logit_scale(s);
  while (goes_on(s)) {
    qe_evolution_report report = {.held_out = -1, .confident_per_myriad = -1};
    bool first = s->generation == 0 && logits < s->moves->moves;
    QE_TRY(first ? scale_logits(s, logits, &report) : vote_generation(s, &report));
    report.generation = ++s->generation;
    QE_TRY(qe_evolution_generation(s->evolution, &report, save, s));
  }
  return QE_OK;
}

static qe_status search_moves(qe_evolution *evolution, bool by_channel, const qe_move_search_options *options) {
  qe_moves_options kinds = {.by_channel = by_channel};
  search s = {.evolution = evolution, .options = options, .scale = SCALE_ONE};
  QE_TRY(check(options));
  for (int kind = 0; kind < QE_MOVE_KINDS; kind++) kinds.kind[kind] = options->amplitude[kind] > 0;
  QE_TRY(qe_moves_new(evolution->network, &kinds, &s.moves));
  qe_status status = run(&s), end = QE_OK;
  if (status == QE_OK || status == QE_INTERRUPTED) end = qe_evolution_renew(evolution);
  qe_moves_free(s.moves);
  qe_free(s.momentum);
  qe_free(s.value);
  qe_free(s.loss);
  qe_free(s.genomes);
  return status == QE_OK ? end : status;
}

qe_status qe_layers_run(qe_evolution *evolution, const qe_move_search_options *options) {
  return search_moves(evolution, false, options);
}

qe_status qe_requant_run(qe_evolution *evolution, const qe_move_search_options *options) {
  return search_moves(evolution, true, options);
}
