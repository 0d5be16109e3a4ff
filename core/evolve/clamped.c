/* Passes of the local search with a target that knows the clamp: majorise, minimise, measure. */
#include "core/evolve/clamped.h"

#include "core/base/alloc.h"

#include <string.h>

/* The best of each channel so far. */
typedef struct best {
  int64_t *error; /* [O]: sum of squares after the clamp */
  int8_t *codes;  /* [O, K] */
  qe_gain *gain, *offset;
} best;

static void best_free(best *b) {
  qe_free(b->error);
  qe_free(b->codes);
  qe_free(b->gain);
  qe_free(b->offset);
}

static void keep(const qe_species *s, best *b, int32_t o, int64_t error) {
  size_t size = (size_t)s->moments.inputs;
  b->error[o] = error;
  b->gain[o] = s->scales.gain[s->place.branch][o];
  b->offset[o] = s->scales.offset[o];
  memcpy(b->codes + (size_t)o * size, s->conv->weight + (size_t)o * size, size);
}

/* With what the species has now, its error not known yet. */
static qe_status best_new(const qe_species *s, best *b) {
  int32_t outputs = s->moments.outputs;
  *b = (best){.error = QE_NEW_ARRAY(int64_t, outputs),
              .codes = qe_alloc((size_t)qe_count(&s->conv->weight_desc)),
              .gain = QE_NEW_ARRAY(qe_gain, outputs),
              .offset = QE_NEW_ARRAY(qe_gain, outputs)};
  if (b->error && b->codes && b->gain && b->offset) {
    for (int32_t o = 0; o < outputs; o++) keep(s, b, o, INT64_MAX);
    return QE_OK;
  }
  best_free(b);
  return QE_NO_MEMORY;
}

static void restore(qe_species *s, const best *b) {
  size_t size = (size_t)s->moments.inputs;
  for (int32_t o = 0; o < s->moments.outputs; o++) {
    s->scales.gain[s->place.branch][o] = b->gain[o];
    s->scales.offset[o] = b->offset[o];
  }
  memcpy(s->conv->weight, b->codes, size * (size_t)s->moments.outputs);
}

/* What the species has found becomes the network's, and its convolution runs. */
static qe_status apply(const qe_species *s, qe_guided *walk) {
  qe_network_prove_layer(walk->network, (size_t)s->place.conv);
  QE_TRY(qe_scales_put(&s->scales, walk->network, s->place.at));
  return qe_trace_run(&walk->student, s->place.conv);
}

/* Measures what the network has now, and takes the next target. */
static qe_status look(qe_species *s, const qe_guided *walk, qe_buffer *q, best *b) {
  qe_buffer *clamped = NULL, *error = NULL;
  qe_desc desc = qe_trace_desc(&walk->student, s->place.conv);
  int64_t *sum = QE_NEW_ARRAY(int64_t, s->moments.outputs), *square = QE_NEW_ARRAY(int64_t, s->moments.outputs);
  qe_status status = sum && square ? qe_target_clamped(walk, &s->place, q, &clamped, &error) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_channel_moments(walk->student.queue, desc, error, sum, square);
  for (int32_t o = 0; status == QE_OK && o < s->moments.outputs; o++)
    if (square[o] < b->error[o]) keep(s, b, o, square[o]);
  if (status == QE_OK) status = qe_moments_retarget(&walk->student, s->place.conv, clamped, &s->moments);
  qe_buffer_free(clamped);
  qe_buffer_free(error);
  qe_free(sum);
  qe_free(square);
  return status;
}

qe_status qe_clamped_improve(qe_species *s, qe_guided *walk, qe_buffer *q) {
  best b;
  qe_local_options options = s->options;
  QE_TRY(best_new(s, &b));
  s->options.starts = s->options.rounds = 1; /* the target changes before more would pay */
  qe_status status = look(s, walk, q, &b);
  for (int32_t pass = 0; status == QE_OK && pass < s->options.clamped; pass++) {
    status = qe_species_improve(s);
    if (status == QE_OK) status = apply(s, walk);
    if (status == QE_OK) status = look(s, walk, q, &b);
  }
  s->options = options;
  restore(s, &b);
  best_free(&b);
  return status == QE_OK ? apply(s, walk) : status;
}
