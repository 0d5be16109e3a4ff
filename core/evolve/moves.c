/* Moves of requantisers as genes: which there are, and what they do to multipliers and offsets. */
#include "core/evolve/moves.h"

#include "core/base/alloc.h"
#include "core/base/fixed.h"
#include "core/base/wide.h"

#include <string.h>

enum {
  OCTAVE = 256,
  MOST_EXPONENT = 16 * OCTAVE,
  OFFSET_BITS = 6,
  LOGIT_BITS = 8,
  RANGE_BITS = 4,
  MOST_OFFSET_SHIFT = 48
};

/* ---- which there are ---- */

/* A coarser code of the tensor it reads: multipliers 1. */
static bool is_shift(const qe_network_layer *layer) {
  if (!layer->offset || layer->inputs != 1 || layer->attrs.requant.to == QE_S32) return false;
  for (int32_t c = 0; c < layer->output.dim[QE_C]; c++)
    if (layer->multiplier[0][c] != 1) return false;
  return true;
}

static void find_coarse(const qe_network *network, int32_t *coarse) {
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    if (!is_shift(layer)) continue;
    int32_t *source = &coarse[layer->input[0]];
    coarse[i] = -1;
    if (*source >= 0 && *source < layer->attrs.requant.shift) *source = layer->attrs.requant.shift;
  }
}

static qe_status add(qe_moves *moves, qe_move move) {
  QE_TRY(qe_reserve(&moves->move, &moves->capacity, moves->moves + 1, sizeof move));
  moves->move[moves->moves++] = move;
  return QE_OK;
}

static qe_status add_gains(qe_moves *moves, const qe_network *network, int32_t at, bool by_channel) {
  const qe_network_layer *layer = &network->layer[at];
  for (int32_t b = 0; b < layer->inputs; b++) {
    if (by_channel)
      for (int32_t c = 0; c < layer->output.dim[QE_C]; c++) QE_TRY(add(moves, (qe_move){QE_MOVE_GAIN, at, b, c}));
    else if (network->layer[layer->input[b]].weight)
      QE_TRY(add(moves, (qe_move){QE_MOVE_GAIN, at, b, -1}));
  }
  return QE_OK;
}

/* The offset of all logits together changes no probability. */
static qe_status add_offsets(qe_moves *moves, const qe_network *network, int32_t at, bool by_channel) {
  const qe_network_layer *layer = &network->layer[at];
  if (!by_channel && layer->attrs.requant.to == QE_S32) return QE_OK;
  if (!by_channel) return add(moves, (qe_move){QE_MOVE_OFFSET, at, 0, -1});
  for (int32_t c = 0; c < layer->output.dim[QE_C]; c++) QE_TRY(add(moves, (qe_move){QE_MOVE_OFFSET, at, 0, c}));
  return QE_OK;
}

static qe_status fill(qe_moves *moves, const qe_network *network, const qe_moves_options *options, bool *evolves) {
  find_coarse(network, moves->coarse);
  for (size_t i = 0; i < network->layers; i++) {
    int32_t at = (int32_t)i;
    if (!network->layer[i].offset || moves->coarse[i] < 0) continue;
    evolves[i] = true;
    if (options->kind[QE_MOVE_STEP]) QE_TRY(add(moves, (qe_move){QE_MOVE_STEP, at, 0, -1}));
    if (options->kind[QE_MOVE_GAIN]) QE_TRY(add_gains(moves, network, at, options->by_channel));
    if (options->kind[QE_MOVE_OFFSET]) QE_TRY(add_offsets(moves, network, at, options->by_channel));
  }
  if (moves->moves == 0) return qe_fail(QE_USAGE, "no kind of requantiser move is chosen: nothing evolves");
  return qe_genome_layout_new(network, evolves, &moves->layout);
}

qe_status qe_moves_new(const qe_network *network, const qe_moves_options *options, qe_moves **out) {
  qe_moves *moves = QE_NEW(qe_moves);
  bool *evolves = QE_NEW_ARRAY(bool, network->layers);
  qe_status status = QE_NO_MEMORY;
  if (!moves || !evolves) goto done;
  moves->layers = network->layers;
  moves->coarse = QE_NEW_ARRAY(int32_t, network->layers);
  moves->exponent = QE_NEW_ARRAY(int32_t, network->layers);
  if (moves->coarse && moves->exponent) status = fill(moves, network, options, evolves);
done:
  qe_free(evolves);
  if (status == QE_OK)
    *out = moves;
  else
    qe_moves_free(moves);
  return status;
}

void qe_moves_free(qe_moves *moves) {
  if (!moves) return;
  qe_genome_layout_free(moves->layout);
  qe_free(moves->move);
  qe_free(moves->coarse);
  qe_free(moves->exponent);
  qe_free(moves);
}

/* ---- what they do ---- */

/* round(value * 2^(exponent / 256)), halves up; saturated to `most`. */
static int64_t scaled(qe_s128 value, int32_t exponent, int64_t most) {
  if (exponent == 0) return (int64_t)value;
  if (exponent > MOST_EXPONENT) exponent = MOST_EXPONENT;
  if (exponent < -MOST_EXPONENT) exponent = -MOST_EXPONENT;
  int32_t whole = exponent >= 0 ? exponent / OCTAVE + 1 : -((-exponent) / OCTAVE);
  int shift = 30 - whole; /* 2^(exponent / 256) = 2^(exponent / 256 - whole) * 2^whole, the first from the table */
  qe_s128 product = value * qe_exp2_negative((int64_t)whole * OCTAVE - exponent);
  qe_s128 rounded = (product + ((qe_s128)1 << (shift - 1))) >> shift;
  return rounded > most ? most : rounded < -(qe_s128)most ? -most : (int64_t)rounded;
}

/* Of one layer: where its part of the genome is, and what the moves ask for. */
typedef struct part {
  const qe_network_layer *layer;
  int32_t *multiplier[2];
  int64_t *offset;
} part;

static part part_of(const qe_moves *moves, const qe_network *network, int32_t at, size_t *gene, char *genome) {
  part p = {.layer = &network->layer[at]};
  for (int32_t b = 0; b < p.layer->inputs; b++)
    p.multiplier[b] = (int32_t *)(void *)(genome + moves->layout->gene[(*gene)++].offset);
  p.offset = (int64_t *)(void *)(genome + moves->layout->gene[(*gene)++].offset);
  return p;
}

/* Output values become 2^(out / 256) times what they were, those of branch b have become 2^(in[b] / 256) times. */
static void rescale(const part *p, int32_t out, const int32_t in[2]) {
  int32_t shift = p->layer->attrs.requant.shift;
  int64_t half = shift > 0 ? INT64_C(1) << (shift - 1) : 0;
  for (int32_t c = 0; c < p->layer->output.dim[QE_C]; c++) {
    for (int32_t b = 0; b < p->layer->inputs; b++)
      p->multiplier[b][c] = (int32_t)scaled(p->layer->multiplier[b][c], out - in[b], INT32_MAX);
    if (out != 0) p->offset[c] = scaled((qe_s128)p->layer->offset[c] - half, out, INT64_MAX / 4) + half;
  }
}

/* Bits of a layer's output that make one code of OFFSET's unit. */
static int32_t unit_bits(const qe_moves *moves, const qe_network_layer *layer, int32_t at) {
  const qe_requant *requant = &layer->attrs.requant;
  if (requant->to == QE_S32) return LOGIT_BITS;
  int32_t bits = 0;
  while (INT64_C(1) << bits <= (int64_t)requant->high - requant->low) bits++;
  bits -= RANGE_BITS;
  return moves->coarse[at] > bits ? moves->coarse[at] : bits > 0 ? bits : 0;
}

static void move_one(const qe_moves *moves, const qe_move *move, int32_t value, const part *p) {
  int32_t first = move->channel < 0 ? 0 : move->channel;
  int32_t last = move->channel < 0 ? p->layer->output.dim[QE_C] - 1 : move->channel;
  int32_t shift = p->layer->attrs.requant.shift + unit_bits(moves, p->layer, move->layer) - OFFSET_BITS;
  if (shift > MOST_OFFSET_SHIFT) shift = MOST_OFFSET_SHIFT;
  for (int32_t c = first; c <= last; c++) {
    int32_t *m = &p->multiplier[move->branch][c];
    if (move->kind == QE_MOVE_GAIN) *m = (int32_t)scaled(*m, value, INT32_MAX);
    int64_t by = shift >= 0 ? value * (INT64_C(1) << shift) : value >> -shift;
    if (move->kind == QE_MOVE_OFFSET && __builtin_add_overflow(p->offset[c], by, &p->offset[c]))
      p->offset[c] = INT64_MAX; /* the proof refuses it */
  }
}

static void apply(const qe_moves *moves, const qe_network *network, const int32_t *value, char *genome) {
  int32_t *exponent = moves->exponent; /* by how much each tensor's values are scaled */
  size_t gene = 0, next = 0;
  for (size_t i = 0; i < moves->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    const int32_t in[2] = {layer->inputs > 0 ? exponent[layer->input[0]] : 0,
                           layer->inputs > 1 ? exponent[layer->input[1]] : 0};
    exponent[i] = in[0];
    if (!layer->offset || moves->coarse[i] < 0) continue;
    part p = part_of(moves, network, (int32_t)i, &gene, genome);
    exponent[i] = 0;
    for (size_t k = next; k < moves->moves && (size_t)moves->move[k].layer == i; k++)
      if (moves->move[k].kind == QE_MOVE_STEP) exponent[i] -= value[k];
    rescale(&p, exponent[i], in);
    for (; next < moves->moves && (size_t)moves->move[next].layer == i; next++)
      move_one(moves, &moves->move[next], value[next], &p);
  }
}

bool qe_moves_apply(const qe_moves *moves, const qe_network *network, const int32_t *value, void *genome) {
  qe_genome_from_network(moves->layout, network, genome);
  apply(moves, network, value, genome);
  for (size_t i = 0; i < moves->layout->genes; i++) {
    const qe_gene *gene = &moves->layout->gene[i];
    if (gene->kind != QE_GENE_OFFSET) continue;
    if (qe_genome_width(moves->layout, network, genome, gene->layer) != QE_SUM_OVERFLOWS) continue;
    qe_genome_from_network(moves->layout, network, genome);
    return false;
  }
  return true;
}
