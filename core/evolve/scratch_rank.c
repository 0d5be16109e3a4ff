/* Rank-one weight perturbation, the baseline of the other sources: all layers' codes are moved along a random sign
 * pattern u v' and against it, and whether the batch's loss falls the one or the other way is a vote for the pattern.
 */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/evolve/scratch_build_internal.h"

#include <string.h>

enum {
  STEP_SHIFT = 36, /* a step's directions, and a direction, have draws of their own */
  DIRECTION_SHIFT = 28,
  DRAW_BITS = 128,
  MOVE_BITS = 4 /* a move is a 2^-4 of the grid, at least to the next code */
};

/* ---- the program ---- */

/* Signs that the largest layer takes. */
static int64_t pattern_size(const qe_scratch_plan *plan) {
  int64_t most = 0;
  for (size_t i = 0; i < plan->units; i++) {
    const qe_scratch_unit *unit = &plan->unit[i];
    if (unit->conv == QE_NONE) continue;
    int64_t rows = plan->network->layer[unit->conv].weight_desc.dim[QE_N], size = rows + unit->weights.count / rows;
    if (size > most) most = size;
  }
  return most;
}

static qe_status build_pair(qe_scratch_builder *b) {
  qe_scratch *t = b->trainer;
  const qe_network *network = b->plan->network;
  qe_desc losses = qe_map(QE_S32, (int32_t)t->options.batch, 1, 1, 1);
  qe_attrs attrs = {.population = b->candidates};
  qe_value loss, hits;
  losses.dim[QE_P] = b->candidates;
  for (size_t i = 0; i < network->layers; i++) b->tensor[i] = QE_NONE;
  QE_TRY(qe_scratch_images(b));
  QE_TRY(qe_scratch_layers(b, 1, (int32_t)network->layers, b->tensor));
  QE_TRY(qe_scratch_bind_block(b, "losses", losses, &t->pair_results, t->pair_loss, &loss));
  QE_TRY(qe_scratch_bind_block(b, "right", losses, &t->pair_results, t->pair_hits, &hits));
  QE_TRY(qe_program_call(b->program, QE_OP_int_loss, &attrs,
                         (qe_value[]){b->tensor[b->plan->own - 1], b->labels, loss, hits}));
  return qe_program_plan(b->program, NULL);
}

qe_status qe_scratch_build_pair(qe_scratch *t) {
  size_t layers = t->plan->network->layers, row = (size_t)t->options.batch * sizeof(int32_t);
  t->pair_place = QE_NEW_ARRAY(qe_constant_places, layers);
  t->pattern = QE_NEW_ARRAY(int8_t, pattern_size(t->plan));
  qe_scratch_builder b = {.trainer = t, .plan = t->plan, .candidates = QE_PAIR, .constants = &t->pair};
  b.tensor = QE_NEW_ARRAY(qe_value, layers);
  b.population = QE_NEW_ARRAY(int32_t, layers);
  qe_status status = t->pair_place && t->pattern && b.tensor && b.population ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) {
    t->pair.bytes = qe_network_place_constants(t->plan->network, QE_PAIR, t->pair_place);
    t->pair_loss = qe_block_place(&t->pair_results, QE_PAIR * row);
    t->pair_hits = qe_block_place(&t->pair_results, QE_PAIR * row);
    b.place = t->pair_place;
    status = qe_scratch_make_block(t, &t->pair);
  }
  if (status == QE_OK) status = qe_scratch_make_block(t, &t->pair_results);
  if (status == QE_OK) status = qe_program_new(t->queue->device, "pair of candidates", &t->pair_program);
  b.program = t->pair_program;
  if (status == QE_OK) status = build_pair(&b);
  qe_free(b.tensor);
  qe_free(b.population);
  return status;
}

/* ---- directions ---- */

/* Signs of a direction, one after the other: those of u of a layer, then those of v, layer after layer. */
typedef struct signs {
  uint64_t seed, index;
  int64_t next;
  qe_philox draw;
} signs;

static signs signs_of(const qe_scratch *t, int64_t direction) {
  return (signs){.seed = t->seed,
                 .index = ((uint64_t)t->step << STEP_SHIFT) + ((uint64_t)direction << DIRECTION_SHIFT)};
}

static int8_t next_sign(signs *s) {
  int64_t bit = s->next++ % DRAW_BITS;
  if (bit == 0) s->draw = qe_philox_draw(s->seed, QE_STREAM_SCRATCH, s->index++);
  return s->draw.word[bit / 32] >> (bit % 32) & 1 ? 1 : -1;
}

static int32_t move_of(const qe_code_grid *grid) {
  int32_t move = (1 << grid->bits >> MOVE_BITS) / grid->spacing * grid->spacing;
  return move > grid->spacing ? move : grid->spacing;
}

static int8_t moved(const qe_code_grid *grid, int32_t code) {
  return (int8_t)(code < grid->low ? grid->low : code > grid->high ? grid->high : code);
}

/* What is done with the pattern of each layer: u [rows], v [columns]. */
typedef void (*visitor)(const qe_scratch *t, const qe_scratch_unit *unit, const int8_t *u, const int8_t *v, int sign);

static void visit_layers(const qe_scratch *t, int64_t direction, int sign, visitor visit) {
  signs s = signs_of(t, direction);
  for (size_t i = 0; i < t->plan->units; i++) {
    const qe_scratch_unit *unit = &t->plan->unit[i];
    if (unit->conv == QE_NONE) continue;
    int64_t rows = t->plan->network->layer[unit->conv].weight_desc.dim[QE_N];
    int64_t both = rows + unit->weights.count / rows;
    for (int64_t k = 0; k < both; k++) t->pattern[k] = next_sign(&s);
    visit(t, unit, t->pattern, t->pattern + rows, sign);
  }
}

/* The codes of both candidates. */
static void move_codes(const qe_scratch *t, const qe_scratch_unit *unit, const int8_t *u, const int8_t *v, int sign) {
  const qe_network_layer *conv = &t->plan->network->layer[unit->conv];
  int64_t count = unit->weights.count, rows = conv->weight_desc.dim[QE_N], columns = count / rows;
  int32_t move = move_of(&conv->grid) * sign;
  int8_t *with = (int8_t *)(t->pair.host + t->pair_place[unit->conv].at[0]), *against = with + count;
  for (int64_t i = 0; i < count; i++) {
    int32_t by = move * u[i / columns] * v[i % columns];
    with[i] = moved(&conv->grid, conv->weight[i] + by);
    against[i] = moved(&conv->grid, conv->weight[i] - by);
  }
}

static void add_votes(const qe_scratch *t, const qe_scratch_unit *unit, const int8_t *u, const int8_t *v, int sign) {
  int64_t rows = t->plan->network->layer[unit->conv].weight_desc.dim[QE_N], columns = unit->weights.count / rows;
  int64_t *votes = (int64_t *)(void *)(t->results.host + unit->votes);
  for (int64_t o = 0; o < rows; o++)
    for (int64_t k = 0; k < columns; k++) votes[o * columns + k] += sign * u[o] * v[k];
}

/* Requantisers of both candidates are those of the network. */
static void fill_pair(const qe_scratch *t) {
  const qe_network *network = t->plan->network;
  for (size_t i = 0; i < network->layers; i++)
    for (int k = 0; k < QE_NETWORK_CONSTANTS; k++) {
      qe_constant constant = qe_network_constant(&network->layer[i], k);
      size_t bytes = constant.data ? qe_bytes(&constant.desc) : 0;
      for (int p = 0; p < QE_PAIR && bytes > 0; p++)
        memcpy(t->pair.host + t->pair_place[i].at[k] + (size_t)p * bytes, constant.data, bytes);
    }
}

/* Which candidate has the smaller loss: 1 the second, -1 the first, 0 neither. */
static int compare(const qe_scratch *t) {
  const int32_t *loss = (const int32_t *)(const void *)(t->pair_results.host + t->pair_loss);
  int64_t batch = t->options.batch, difference = 0;
  for (int64_t i = 0; i < batch; i++) difference += (int64_t)loss[i] - loss[batch + i];
  return (difference > 0) - (difference < 0);
}

qe_status qe_scratch_rank_votes(const qe_scratch *t) {
  for (size_t i = 0; i < t->plan->units; i++) {
    const qe_scratch_unit *unit = &t->plan->unit[i];
    if (unit->conv != QE_NONE) memset(t->results.host + unit->votes, 0, (size_t)unit->weights.count * sizeof(int64_t));
  }
  fill_pair(t);
  for (int64_t d = 0; d < t->options.directions; d++) {
    visit_layers(t, d, 1, move_codes);
    QE_TRY(qe_queue_write(t->queue, t->pair.buffer, 0, t->pair.host, t->pair.bytes));
    QE_TRY(qe_program_run(t->pair_program, t->queue));
    QE_TRY(qe_queue_read(t->queue, t->pair_results.buffer, 0, t->pair_results.host, t->pair_results.bytes));
    QE_TRY(qe_queue_wait(t->queue));
    visit_layers(t, d, compare(t), add_votes);
  }
  return QE_OK;
}
