/* The steps of activations: hill climbing by eighths. */
#include "core/evolve/steps.h"

#include "core/base/alloc.h"
#include "core/evolve/species.h"

#include <string.h>

enum { MOST_STEPS = 6, TRIAL_ROUNDS = 2, GROW = 9, SHRINK = 8 };

/* ---- another step ---- */

bool qe_steps_is_shift(const qe_network *network, const qe_network_layer *layer) {
  if (!layer->offset || layer->inputs != 1 || network->layer[layer->input[0]].output.dtype == QE_S32) return false;
  for (int32_t c = 0; c < layer->output.dim[QE_C]; c++)
    if (layer->multiplier[0][c] != 1) return false;
  return true;
}

static qe_gain inverse(qe_gain gain) {
  return qe_gain_ratio(1, gain.mantissa, -gain.exponent);
}

/* Gains of `branch` (-1: all, and the offsets) of a requantiser, times ratio. */
static qe_status scale_gains(qe_network *network, int32_t at, int branch, qe_gain ratio) {
  const qe_network_layer *layer = &network->layer[at];
  qe_scales scales;
  QE_TRY(qe_scales_new(layer->inputs, layer->output.dim[QE_C], &scales));
  qe_scales_get(layer, &scales);
  for (int32_t c = 0; c < scales.channels; c++) {
    for (int b = 0; b < layer->inputs; b++)
      if (branch < 0 || b == branch) scales.gain[b][c] = qe_gain_times(scales.gain[b][c], ratio);
    if (branch < 0) scales.offset[c] = qe_gain_times(scales.offset[c], ratio);
  }
  qe_status status = qe_scales_put(&scales, network, at);
  qe_scales_free(&scales);
  return status;
}

static void scale_unit(qe_unit *unit, qe_gain ratio) {
  qe_gain gain = qe_gain_times((qe_gain){unit->mantissa, unit->exponent}, ratio);
  if (gain.mantissa > INT32_MAX) {
    gain.mantissa >>= 1;
    gain.exponent++;
  }
  *unit = (qe_unit){(int32_t)gain.mantissa, gain.exponent};
}

/* Tensors that are worth `ratio` from `at` on, up to the requantisers that take it back. */
static qe_status scale_readers(qe_network *network, int32_t at, qe_gain ratio) {
  scale_unit(&network->layer[at].unit, ratio);
  for (int32_t i = at + 1; i < (int32_t)network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    for (int b = 0; b < layer->inputs; b++) {
      if (layer->input[b] != at) continue;
      bool passes = !layer->offset || qe_steps_is_shift(network, layer);
      QE_TRY(passes ? scale_readers(network, i, ratio) : scale_gains(network, i, b, ratio));
    }
  }
  return QE_OK;
}

qe_status qe_steps_scale(qe_network *network, int32_t at, qe_gain ratio) {
  QE_TRY(scale_gains(network, at, -1, inverse(ratio)));
  return scale_readers(network, at, ratio);
}

/* ---- the search ---- */

typedef struct trial {
  qe_guided *walk;
  int32_t at, low; /* the requantiser, and the one that makes the coarser codes or `at` again */
  qe_guided_place next;
  qe_local_options options;
  qe_buffer *target; /* of the next convolution: the same at every step */
  int8_t *codes;     /* its codes as they were */
} trial;

/* The first convolution of one group that reads tensor `at`; -1: none. */
static int32_t find_conv(const qe_network *network, int32_t at) {
  for (int32_t i = at + 1; i < (int32_t)network->layers; i++)
    if (network->layer[i].weight && network->layer[i].input[0] == at && network->layer[i].attrs.window.groups == 1)
      return i;
  return -1;
}

static int32_t find_low(const qe_network *network, int32_t at) {
  for (int32_t i = at + 1; i < (int32_t)network->layers; i++)
    if (network->layer[i].inputs == 1 && network->layer[i].input[0] == at &&
        qe_steps_is_shift(network, &network->layer[i]))
      return i;
  return at;
}

static qe_status error_now(trial *t, qe_s128 *error) {
  qe_species s;
  QE_TRY(qe_trace_run(&t->walk->student, t->at));
  if (t->low != t->at) QE_TRY(qe_trace_run(&t->walk->student, t->low));
  QE_TRY(qe_species_new(&s, t->walk, &t->next, &t->options, t->target));
  qe_status status = qe_species_improve(&s);
  if (status == QE_OK) status = qe_species_error(&s, error);
  memcpy(s.conv->weight, t->codes, (size_t)qe_count(&s.conv->weight_desc));
  qe_species_free(&s);
  return status;
}

/* Move by up / down as long as the error falls; whether it has. */
static qe_status climb(trial *t, int32_t up, int32_t down, qe_s128 *least, bool *moved) {
  for (int step = 0; step < MOST_STEPS; step++) {
    qe_s128 error;
    QE_TRY(qe_steps_scale(t->walk->network, t->at, qe_gain_ratio(up, down, 0)));
    QE_TRY(error_now(t, &error));
    if (error >= *least) return qe_steps_scale(t->walk->network, t->at, qe_gain_ratio(down, up, 0));
    *least = error;
    *moved = true;
  }
  return QE_OK;
}

static qe_status search(trial *t) {
  qe_s128 least;
  bool moved = false;
  QE_TRY(error_now(t, &least));
  QE_TRY(climb(t, GROW, SHRINK, &least, &moved));
  return moved ? QE_OK : climb(t, SHRINK, GROW, &least, &moved);
}

qe_status qe_steps_choose(qe_guided *walk, int32_t at, const qe_local_options *options) {
  qe_network *network = walk->network;
  trial t = {.walk = walk, .at = at, .low = find_low(network, at), .options = *options};
  int32_t conv = find_conv(network, t.low), reader, branch;
  if (conv < 0 || network->layer[at].unit.mantissa == 0 || !qe_guided_reader(network, conv, &reader, &branch))
    return QE_OK;
  t.options.rounds = TRIAL_ROUNDS;
  t.options.pairs = false;
  t.options.restarts = 0;
  t.options.starts = 1;
  t.options.fit = true;
  QE_TRY(qe_guided_find(walk, reader, branch, &t.next));
  QE_TRY(qe_guided_advance(walk, t.next.teacher_conv + 1));
  int64_t count = qe_count(&network->layer[conv].weight_desc);
  t.codes = qe_alloc((size_t)count);
  if (!t.codes) return QE_NO_MEMORY;
  memcpy(t.codes, network->layer[conv].weight, (size_t)count);
  qe_status status = qe_target_new(walk, &t.next, false, &t.target);
  if (status == QE_OK) status = search(&t);
  qe_buffer_free(t.target);
  qe_free(t.codes);
  return status;
}
