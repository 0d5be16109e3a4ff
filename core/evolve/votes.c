/* Stage `votes`: options, its state, and the loop over layers. */
#include "core/evolve/votes.h"

#include "core/base/alloc.h"
#include "core/evolve/accept.h"
#include "core/evolve/votes_parts.h"

#include <string.h>

enum { SCALE_BITS = 12, LEAST_FLIPS = 2, STRENGTHS = 4, LONGEST_REST = 8 };

/* ---- options ---- */

static const char *const source_names[QE_VOTES_SOURCES] = {
#define X(id, name, summary) name,
    QE_VOTES_SOURCE_LIST(X)
#undef X
};

qe_votes_source qe_votes_source_find(const char *name) {
  int found = 0;
  while (found < QE_VOTES_SOURCES && strcmp(source_names[found], name) != 0) found++;
  return (qe_votes_source)found;
}

qe_votes_options qe_votes_defaults(void) {
  return (qe_votes_options){
#define QE_VOTES_INT(field, name, initial, least, most, help) .field = initial,
#define QE_VOTES_FLAG(field, name, initial, help) .field = initial,
#include "core/evolve/votes_options.def"
#undef QE_VOTES_INT
#undef QE_VOTES_FLAG
      .source = QE_VOTES_NODES,
  };
}

static qe_status check_options(const qe_votes_options *o) {
  const qe_option_bound bounds[] = {
#define QE_VOTES_INT(field, name, initial, least, most, help) {name, o->field, least, most},
#define QE_VOTES_FLAG(field, name, initial, help)
#include "core/evolve/votes_options.def"
#undef QE_VOTES_INT
#undef QE_VOTES_FLAG
      {"source", o->source, 0, QE_VOTES_SOURCES - 1},
  };
  QE_TRY(qe_evolution_check("votes", bounds, sizeof bounds / sizeof *bounds));
  if (o->groups > o->images)
    return qe_fail(QE_USAGE, "votes: %d groups of %d images; give at most as many groups", o->groups, o->images);
  return QE_OK;
}

/* ---- state ---- */

/* A layer that is voted on; the last one of the network is number 0. */
typedef struct vote_layer {
  const qe_gene *gene;
  int32_t flips;       /* of the next proposal */
  int32_t rest, fails; /* rounds that it sits out; failures in a row */
} vote_layer;

typedef struct vote_stage {
  qe_evolution *evolution;
  const qe_votes_options *options;
  vote_layer *layer;
  int32_t layers;
  int64_t generation, next, idle; /* next: number of a layer; idle: rounds without success */
  bool success;                   /* in the present round */
} vote_stage;

enum { NUMBERS = 4, LAYER_NUMBERS = 3 };

static qe_status save(const void *context, qe_tensors *state) {
  const vote_stage *s = context;
  const int64_t numbers[NUMBERS] = {s->generation, s->next, s->idle, s->success}, count = NUMBERS;
  const int64_t shape[2] = {s->layers, LAYER_NUMBERS};
  int32_t *layers = QE_NEW_ARRAY(int32_t, s->layers * LAYER_NUMBERS);
  if (!layers) return QE_NO_MEMORY;
  for (int32_t i = 0; i < s->layers; i++) {
    layers[i * LAYER_NUMBERS] = s->layer[i].flips;
    layers[i * LAYER_NUMBERS + 1] = s->layer[i].rest;
    layers[i * LAYER_NUMBERS + 2] = s->layer[i].fails;
  }
  qe_status status = qe_tensors_add(state, "numbers", QE_S64, 1, &count, numbers);
  if (status == QE_OK) status = qe_tensors_add(state, "layers", QE_S32, 2, shape, layers);
  qe_free(layers);
  return status;
}

static qe_status resume(vote_stage *s) {
  const qe_tensors *state = s->evolution->state;
  if (!state) return QE_OK;
  const qe_named_tensor *numbers = qe_tensors_find(state, "numbers"), *layers = qe_tensors_find(state, "layers");
  size_t bytes = (size_t)s->layers * LAYER_NUMBERS * sizeof(int32_t);
  if (!numbers || !layers || numbers->dtype != QE_S64 || layers->dtype != QE_S32 ||
      numbers->bytes != NUMBERS * sizeof(int64_t) || layers->bytes != bytes)
    return qe_fail(QE_FORMAT, "votes: the checkpoint is not of this stage and these layers");
  const int64_t *number = numbers->data;
  const int32_t *value = layers->data;
  s->generation = number[0];
  s->next = number[1];
  s->idle = number[2];
  s->success = number[3] != 0;
  for (int32_t i = 0; i < s->layers; i++) {
    s->layer[i].flips = value[i * LAYER_NUMBERS];
    s->layer[i].rest = value[i * LAYER_NUMBERS + 1];
    s->layer[i].fails = value[i * LAYER_NUMBERS + 2];
  }
  bool sound = s->generation >= 0 && s->next >= 0 && s->next < s->layers;
  return sound ? QE_OK : qe_fail(QE_FORMAT, "votes: the checkpoint's numbers are out of range");
}

static qe_status open_layers(vote_stage *s) {
  const qe_genome_layout *layout = s->evolution->layout;
  s->layer = QE_NEW_ARRAY(vote_layer, layout->genes + 1);
  if (!s->layer) return QE_NO_MEMORY;
  for (size_t g = layout->genes; g-- > 0;)
    if (qe_votes_can(s->evolution, s->options, &layout->gene[g]))
      s->layer[s->layers++] = (vote_layer){.gene = &layout->gene[g], .flips = s->options->flips};
  if (s->layers == 0) return qe_fail(QE_USAGE, "votes: no layer that evolves can be voted on");
  return resume(s);
}

/* ---- proposals ---- */

typedef struct proposals {
  qe_votes_round round;
  qe_votes_answer answer;
  int32_t *scale; /* [rows]: what a move of a code changes behind the row's requantiser */
  int32_t *order;
  int64_t flips;
  char *genomes; /* the context, then the proposals; the best one is then put behind the context */
  int32_t made;
} proposals;

static void proposals_free(proposals *p) {
  qe_vote_sums_free(&p->answer.sums);
  qe_free(p->answer.gram);
  qe_free(p->round.codes);
  qe_free(p->scale);
  qe_free(p->order);
  qe_free(p->genomes);
}

/* Multipliers of the layer's requantiser in SCALE_BITS bits; all alike where there is none. */
static void set_scale(const proposals *p, const qe_network *network) {
  const qe_network_layer *layer = &network->layer[p->round.gene->layer];
  int32_t rows = layer->weight_desc.dim[QE_N];
  int64_t most = 1;
  for (int32_t c = 0; c < rows; c++) p->scale[c] = 1;
  for (size_t i = 0; i < network->layers; i++)
    for (int k = 0; k < network->layer[i].inputs; k++) {
      const int32_t *m = network->layer[i].multiplier[k];
      if (network->layer[i].input[k] != p->round.gene->layer || !m) continue;
      for (int32_t c = 0; c < rows; c++) most = m[c] > most ? m[c] : -(int64_t)m[c] > most ? -(int64_t)m[c] : most;
      for (int32_t c = 0; c < rows; c++) {
        int64_t size = m[c] < 0 ? -(int64_t)m[c] : m[c];
        p->scale[c] = (int32_t)((size << SCALE_BITS) / most);
      }
      return;
    }
}

static qe_status proposals_new(const vote_stage *s, const qe_gene *gene, proposals *p) {
  const qe_evolution *evolution = s->evolution;
  size_t most = (size_t)s->options->proposals + 1;
  *p = (proposals){.round = {s->evolution, s->options, s->generation, gene, NULL}};
  QE_TRY(qe_vote_sums_new(gene->count, &p->answer.sums));
  p->round.codes = qe_alloc((size_t)gene->count);
  p->scale = QE_NEW_ARRAY(int32_t, evolution->network->layer[gene->layer].weight_desc.dim[QE_N]);
  p->order = QE_NEW_ARRAY(int32_t, gene->count);
  p->genomes = qe_calloc(most, evolution->layout->bytes);
  if (!p->round.codes || !p->scale || !p->order || !p->genomes) return QE_NO_MEMORY;
  set_scale(p, evolution->network);
  return qe_genome_codes(gene, evolution->genome, p->round.codes);
}

/* Proposal k's codes: the strongest flips, a quarter of what is wanted, as many, four times, sixteen times as many; in
 * turn with them, where the Gram matrix is known, those of the quadratic form in as many steps; then random halves of
 * more flips. */
static qe_status propose(const vote_layer *layer, const proposals *p, int32_t k, int8_t *codes, int64_t *moved) {
  const qe_code_grid *grid = &layer->gene->grid;
  const qe_vote_sums *sums = &p->answer.sums;
  bool curved = p->answer.gram != NULL;
  int32_t kinds = curved ? 2 : 1, step = k / kinds % STRENGTHS, turn = k / kinds / STRENGTHS;
  if (curved && turn == 0 && k % 2) {
    int64_t rows = p->round.evolution->network->layer[layer->gene->layer].weight_desc.dim[QE_N];
    qe_flips_curve curve = {rows, p->answer.gram, p->scale, p->round.options->sure};
    return qe_flips_descend(sums, grid, &curve, (layer->flips + 3) / 4, step, codes, moved);
  }
  qe_flips_choice choice = {.flips = ((int64_t)layer->flips << 2 * step) / 4,
                            .seed = qe_votes_seed(&p->round),
                            .variant = (uint64_t)(turn * kinds + (turn > 0 ? k % kinds : 0))};
  if (choice.flips < 1) choice.flips = 1;
  *moved = qe_flips_make(sums, grid, p->order, p->flips, &choice, codes);
  return QE_OK;
}

static qe_status make_proposals_with(const vote_layer *layer, proposals *p, int8_t *codes) {
  const qe_evolution *evolution = p->round.evolution;
  const qe_gene *gene = layer->gene;
  size_t bytes = evolution->layout->bytes;
  memcpy(p->genomes, evolution->genome, bytes);
  for (int32_t k = 0; k < p->round.options->proposals; k++) {
    char *genome = p->genomes + (size_t)(p->made + 1) * bytes;
    int64_t moved;
    memcpy(codes, p->round.codes, (size_t)gene->count);
    QE_TRY(propose(layer, p, k, codes, &moved));
    if (moved == 0) continue;
    memcpy(genome, evolution->genome, bytes);
    qe_pack(&gene->grid, codes, gene->count, genome + gene->offset);
    p->made++;
  }
  return QE_OK;
}

static qe_status make_proposals(const vote_layer *layer, proposals *p) {
  int8_t *codes = qe_alloc((size_t)layer->gene->count);
  if (!codes) return QE_NO_MEMORY;
  qe_status status = make_proposals_with(layer, p, codes);
  qe_free(codes);
  return status;
}

/* ---- a generation ---- */

static void adapt(vote_stage *s, vote_layer *layer, bool accepted, int64_t moved) {
  int64_t most = layer->gene->count / STRENGTHS;
  if (accepted) {
    layer->fails = layer->rest = 0;
    layer->flips = (int32_t)(moved < most ? moved : most);
    s->success = true;
  } else {
    layer->rest = layer->fails < LONGEST_REST ? layer->fails : LONGEST_REST;
    layer->fails++;
    layer->flips = layer->flips / 2;
  }
  if (layer->flips < LEAST_FLIPS) layer->flips = LEAST_FLIPS;
}

static qe_accept_options accept_of(const qe_votes_options *o) {
  return (qe_accept_options){
      .check = o->batch, .confirm = o->confirm, .margin = o->margin, .augmented = o->augmented, .varied = o->augmented};
}

static qe_status try_proposals(vote_stage *s, vote_layer *layer, proposals *p, qe_evolution_report *report) {
  qe_evolution *evolution = s->evolution;
  qe_accept_options accept = accept_of(s->options);
  qe_verdict verdict = {.winner = -1};
  if (p->made > 0) {
    QE_TRY(qe_accept(evolution->fitness, &accept, qe_votes_number(&p->round, QE_VOTES_COMPARE), evolution->layout,
                     p->genomes, p->made, &verdict));
    report->best = verdict.best < verdict.context ? verdict.best : verdict.context;
    report->accepted = verdict.winner >= 0;
    report->held_out = report->accepted ? verdict.after : verdict.before;
  }
  if (report->accepted)
    QE_TRY(qe_evolution_take(evolution, p->genomes + (size_t)(verdict.winner + 1) * evolution->layout->bytes,
                             &report->changed));
  adapt(s, layer, report->accepted, report->changed);
  return QE_OK;
}

static qe_status run_generation(vote_stage *s, vote_layer *layer, qe_evolution_report *report) {
  proposals p;
  qe_status status = proposals_new(s, layer->gene, &p);
  if (status == QE_OK) status = qe_votes_ask(&p.round, &p.answer);
  if (status == QE_OK)
    status = qe_flips_rank(&p.answer.sums, &layer->gene->grid, p.round.codes, p.scale,
                           s->evolution->network->layer[layer->gene->layer].weight_desc.dim[QE_N], s->options->sure,
                           p.order, &p.flips);
  if (status == QE_OK) status = make_proposals(layer, &p);
  if (status == QE_OK) status = try_proposals(s, layer, &p, report);
  proposals_free(&p);
  return status;
}

static int64_t cost_of(const vote_stage *s, const vote_layer *layer) {
  qe_accept_options accept = accept_of(s->options);
  return qe_votes_cost(s->evolution, s->options, layer->gene) +
         qe_accept_cost(s->evolution->fitness, &accept, s->options->proposals);
}

static void step(vote_stage *s) {
  if (++s->next < s->layers) return;
  s->next = 0;
  s->idle = s->success ? 0 : s->idle + 1;
  s->success = false;
}

static bool is_done(const vote_stage *s) {
  const qe_votes_options *o = s->options;
  return (o->patience > 0 && s->idle >= o->patience) || (o->generations > 0 && s->generation >= o->generations);
}

static qe_status run(vote_stage *s) {
  while (!is_done(s)) {
    vote_layer *layer = &s->layer[s->next];
    if (layer->rest > 0) {
      layer->rest--;
      step(s);
      continue;
    }
    if (cost_of(s, layer) > qe_evolution_left(s->evolution)) return QE_OK;
    qe_evolution_report report = {
        .generation = ++s->generation, .best = -1, .mean = -1, .held_out = -1, .confident_per_myriad = -1};
    QE_TRY(run_generation(s, layer, &report));
    step(s);
    QE_TRY(qe_evolution_generation(s->evolution, &report, save, s));
  }
  return QE_OK;
}

qe_status qe_votes_run(qe_evolution *evolution, const qe_votes_options *options) {
  vote_stage s = {.evolution = evolution, .options = options};
  QE_TRY(check_options(options));
  qe_status status = open_layers(&s);
  if (status == QE_OK) status = run(&s);
  qe_free(s.layer);
  return status;
}
