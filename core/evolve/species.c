/* One convolution with its requantiser under local search. */
#include "core/evolve/species.h"

#include "core/base/alloc.h"
#include "core/search/quadratic.h"

#include <string.h>

/* ---- sums of one channel ---- */

typedef struct channel_sums {
  qe_s128 own;   /* w'Gw */
  qe_s128 cross; /* w'c */
  qe_s128 sum;   /* of w a */
} channel_sums;

/* residual = Gw on the way. */
static channel_sums sums_of(const qe_species *s, int32_t o) {
  const qe_moments *m = &s->moments;
  const int8_t *w = s->conv->weight + (int64_t)o * m->inputs;
  int64_t *product = s->residual + (int64_t)o * m->inputs;
  channel_sums sums = {0};
  memset(product, 0, (size_t)m->inputs * sizeof *product);
  for (int64_t k = 0; k < m->inputs; k++)
    for (int64_t j = 0; j < m->inputs; j++) product[j] += w[k] * m->gram[k * m->inputs + j];
  for (int64_t k = 0; k < m->inputs; k++) {
    sums.own += (qe_s128)w[k] * product[k];
    sums.cross += (qe_s128)w[k] * m->cross[o * m->inputs + k];
    sums.sum += (qe_s128)w[k] * m->input[k];
  }
  return sums;
}

static qe_gain gain_of(const qe_species *s, int32_t o) {
  return s->scales.gain[s->place.branch][o];
}

/* Sum of (gain w a + offset - q)^2 over the positions, in units of q. Without a fit the moments are not about the
 * means, and q has lost the offset. */
static qe_s128 error_of(const qe_species *s, int32_t o) {
  const qe_moments *m = &s->moments;
  channel_sums sums = sums_of(s, o);
  qe_gain gain = gain_of(s, o);
  qe_s128 square = qe_gain_apply(gain, qe_gain_apply(gain, sums.own, QE_TARGET_BITS), QE_TARGET_BITS);
  square += m->square[o] - 2 * qe_gain_apply(gain, sums.cross, QE_TARGET_BITS);
  if (!s->options.fit) return square;
  qe_s128 mean = qe_gain_apply(gain, sums.sum, QE_TARGET_BITS) - m->target[o] +
                 qe_gain_apply(s->scales.offset[o], m->count, QE_TARGET_BITS);
  return square + mean * mean / m->count;
}

qe_s128 qe_species_error(const qe_species *s) {
  qe_s128 total = 0;
  for (int32_t o = 0; o < s->moments.outputs; o++) total += error_of(s, o);
  return total;
}

/* ---- search and fit ---- */

/* r = Gw - c / gain. */
static void set_residual(const qe_species *s, int32_t o) {
  const qe_moments *m = &s->moments;
  qe_gain gain = gain_of(s, o), inverse = qe_gain_ratio(1, gain.mantissa, -gain.exponent - QE_TARGET_BITS);
  (void)sums_of(s, o);
  for (int64_t k = 0; k < m->inputs; k++)
    s->residual[o * m->inputs + k] -= (int64_t)qe_gain_apply(inverse, m->cross[o * m->inputs + k], 0);
}

static qe_status search_codes(qe_species *s) {
  qe_quadratic q = {.size = s->moments.inputs,
                    .gram = s->moments.gram,
                    .grid = s->conv->grid,
                    .pairs = s->options.pairs,
                    .restarts = s->options.restarts,
                    .seed = s->options.seed};
  for (int32_t o = 0; o < s->moments.outputs; o++) set_residual(s, o);
  QE_TRY(qe_quadratic_check(&q, s->residual, s->moments.outputs));
  for (int32_t o = 0; o < s->moments.outputs; o++) {
    int64_t change, at = (int64_t)o * q.size;
    if (gain_of(s, o).mantissa == 0) continue; /* its codes say nothing */
    QE_TRY(qe_quadratic_descend(&q, (uint64_t)o, s->conv->weight + at, s->residual + at, &change, NULL));
  }
  return QE_OK;
}

/* gain = w'c / w'Gw, offset = the mean that is left. A channel whose sums never vary keeps its gain. */
static void fit(qe_species *s) {
  const qe_moments *m = &s->moments;
  for (int32_t o = 0; o < m->outputs; o++) {
    channel_sums sums = sums_of(s, o);
    if (sums.own > 0) s->scales.gain[s->place.branch][o] = qe_gain_ratio(sums.cross, sums.own, -QE_TARGET_BITS);
    qe_s128 rest = m->target[o] - qe_gain_apply(gain_of(s, o), sums.sum, QE_TARGET_BITS);
    s->scales.offset[o] = qe_gain_ratio(rest, m->count, -QE_TARGET_BITS);
  }
}

qe_status qe_species_improve(qe_species *s) {
  for (int32_t round = 0; round < s->options.rounds; round++) {
    if (s->options.search) QE_TRY(search_codes(s));
    if (s->options.fit) fit(s);
  }
  return QE_OK;
}

/* ---- making one ---- */

void qe_species_free(qe_species *s) {
  qe_moments_free(&s->moments);
  qe_scales_free(&s->scales);
  qe_free(s->residual);
}

static qe_status fill(qe_species *s, const qe_guided *walk, qe_buffer *q) {
  const qe_network_layer *requant = &walk->network->layer[s->place.at];
  QE_TRY(qe_moments_new(&walk->student, s->place.conv, q, &s->moments));
  QE_TRY(qe_scales_new(requant->inputs, requant->output.dim[QE_C], &s->scales));
  qe_scales_get(requant, &s->scales);
  s->residual = QE_NEW_ARRAY(int64_t, (int64_t)s->moments.inputs * s->moments.outputs);
  if (!s->residual) return QE_NO_MEMORY;
  if (s->options.fit) {
    qe_moments_centre(&s->moments);
    return QE_OK;
  }
  for (int32_t o = 0; o < s->moments.outputs; o++)
    s->residual[o] = (int64_t)qe_gain_apply(s->scales.offset[o], 1, QE_TARGET_BITS);
  qe_moments_less(&s->moments, s->residual);
  return QE_OK;
}

qe_status qe_species_new(qe_species *s, const qe_guided *walk, const qe_guided_place *place,
                         const qe_local_options *options, qe_buffer *q) {
  *s = (qe_species){.options = *options, .conv = &walk->network->layer[place->conv], .place = *place};
  qe_status status = fill(s, walk, q);
  if (status != QE_OK) {
    qe_species_free(s);
    *s = (qe_species){0};
  }
  return status;
}
