/* One convolution with its requantiser under local search. */
#include "core/evolve/species.h"

#include "core/base/alloc.h"
#include "core/search/quadratic.h"

#include <string.h>

/* A channel while it is searched. */
typedef struct channel {
  const qe_species *s;
  int32_t o;
  qe_quadratic q;
  const int64_t *cross;       /* [K]: c */
  int8_t *codes, *start;      /* [K] */
  int64_t *product, *first;   /* [K]: Gw of the codes and of those at the start */
  int64_t *residual, *linear; /* [K]: Gw - c / gain, c / gain */
  qe_gain gain, offset;
} channel;

/* ---- sums ---- */

static void multiply(const qe_moments *m, const int8_t *codes, int64_t *product) {
  memset(product, 0, (size_t)m->inputs * sizeof *product);
  for (int64_t k = 0; k < m->inputs; k++)
    for (int64_t j = 0; codes[k] && j < m->inputs; j++) product[j] += codes[k] * m->gram[k * m->inputs + j];
}

static qe_s128 dot(const int8_t *codes, const int64_t *values, int32_t count) {
  qe_s128 sum = 0;
  for (int32_t k = 0; k < count; k++) sum += (qe_s128)codes[k] * values[k];
  return sum;
}

/* Sum of (gain w a + offset - q)^2 over the positions. Without a fit the moments are not about the means, and q has
 * lost the offset. */
static qe_s128 error_of(const channel *c) {
  const qe_moments *m = &c->s->moments;
  qe_s128 own = dot(c->codes, c->product, m->inputs), cross = dot(c->codes, c->cross, m->inputs);
  qe_s128 square = qe_gain_apply(c->gain, qe_gain_apply(c->gain, own, QE_TARGET_BITS), QE_TARGET_BITS);
  square += m->square[c->o] - 2 * qe_gain_apply(c->gain, cross, QE_TARGET_BITS);
  if (!c->s->options.fit) return square;
  qe_s128 mean = qe_gain_apply(c->gain, dot(c->codes, m->input, m->inputs), QE_TARGET_BITS) - m->target[c->o] +
                 qe_gain_apply(c->offset, m->count, QE_TARGET_BITS);
  return square + mean * mean / m->count;
}

/* ---- search and fit ---- */

static qe_status search(channel *c) {
  int64_t change, size = c->q.size;
  qe_gain inverse = qe_gain_ratio(1, c->gain.mantissa, -c->gain.exponent - QE_TARGET_BITS);
  if (c->gain.mantissa == 0) return QE_OK; /* the codes say nothing */
  for (int64_t k = 0; k < size; k++) {
    c->linear[k] = (int64_t)qe_gain_apply(inverse, c->cross[k], 0);
    c->residual[k] = c->product[k] - c->linear[k];
    if (c->residual[k] > c->q.room || c->residual[k] < -c->q.room)
      return qe_fail(QE_REFUSED, "the gain of channel %d is too small to search its codes", c->o);
  }
  QE_TRY(qe_quadratic_descend(&c->q, (uint64_t)c->o, c->codes, c->residual, &change));
  for (int64_t k = 0; k < size; k++) c->product[k] = c->residual[k] + c->linear[k];
  return QE_OK;
}

/* gain = w'c / w'Gw, offset = the mean that is left. A channel whose sums never vary keeps its gain. */
static void fit(channel *c) {
  const qe_moments *m = &c->s->moments;
  qe_s128 own = dot(c->codes, c->product, m->inputs), cross = dot(c->codes, c->cross, m->inputs);
  if (own > 0) c->gain = qe_gain_ratio(cross, own, -QE_TARGET_BITS);
  qe_s128 sum = qe_gain_apply(c->gain, dot(c->codes, m->input, m->inputs), QE_TARGET_BITS);
  c->offset = qe_gain_ratio(m->target[c->o] - sum, m->count, -QE_TARGET_BITS);
}

/* ---- a channel ---- */

static void take(const qe_species *s, int32_t o, channel *c) {
  const qe_moments *m = &s->moments;
  c->o = o;
  c->cross = m->cross + (int64_t)o * m->inputs;
  c->gain = s->scales.gain[s->place.branch][o];
  c->offset = s->scales.offset[o];
  memcpy(c->start, s->conv->weight + (int64_t)o * m->inputs, (size_t)m->inputs);
  memcpy(c->codes, c->start, (size_t)m->inputs);
  multiply(m, c->start, c->first);
  memcpy(c->product, c->first, (size_t)m->inputs * sizeof *c->first);
}

static void keep(qe_species *s, const channel *c) {
  s->scales.gain[s->place.branch][c->o] = c->gain;
  s->scales.offset[c->o] = c->offset;
  memcpy(s->conv->weight + (int64_t)c->o * s->moments.inputs, c->codes, (size_t)s->moments.inputs);
}

/* Gains to start from, in eighths of the present one; a network without batch norm re-estimated may be far off. */
static const int32_t eighths[] = {8, 10, 6, 12, 5, 9, 7, 16, 4};

static qe_status improve(qe_species *s, channel *c) {
  qe_gain gain = c->gain, offset = c->offset;
  qe_s128 least = error_of(c);
  int32_t starts = s->options.search && s->options.fit ? s->options.starts : 1;
  for (int32_t start = 0; start < starts; start++) {
    c->gain = qe_gain_times(gain, (qe_gain){eighths[start], -3});
    c->offset = offset;
    memcpy(c->codes, c->start, (size_t)c->q.size);
    memcpy(c->product, c->first, (size_t)c->q.size * sizeof *c->first);
    for (int32_t round = 0; round < s->options.rounds; round++) {
      c->q.pairs = s->options.pairs && round == s->options.rounds - 1; /* they are slow: once the gain has settled */
      if (s->options.search) QE_TRY(search(c));
      if (s->options.fit) fit(c);
    }
    qe_s128 error = error_of(c);
    if (error >= least) continue;
    least = error;
    keep(s, c);
  }
  return QE_OK;
}

static void channel_free(channel *c) {
  qe_quadratic_close(&c->q);
  qe_free(c->codes);
  qe_free(c->start);
  qe_free(c->product);
  qe_free(c->first);
  qe_free(c->residual);
  qe_free(c->linear);
}

static qe_status channel_new(const qe_species *s, channel *c) {
  int32_t size = s->moments.inputs;
  *c = (channel){.s = s,
                 .codes = qe_alloc((size_t)size),
                 .start = qe_alloc((size_t)size),
                 .product = QE_NEW_ARRAY(int64_t, size),
                 .first = QE_NEW_ARRAY(int64_t, size),
                 .residual = QE_NEW_ARRAY(int64_t, size),
                 .linear = QE_NEW_ARRAY(int64_t, size)};
  bool all = c->codes && c->start && c->product && c->first && c->residual && c->linear;
  qe_status status = all ? qe_quadratic_open(s->moments.gram, size, &s->conv->grid, &c->q) : QE_NO_MEMORY;
  c->q.restarts = s->options.restarts;
  c->q.seed = s->options.seed;
  if (status != QE_OK) channel_free(c);
  return status;
}

qe_status qe_species_improve(qe_species *s) {
  channel c;
  QE_TRY(channel_new(s, &c));
  qe_status status = QE_OK;
  for (int32_t o = 0; status == QE_OK && o < s->moments.outputs; o++) {
    take(s, o, &c);
    status = improve(s, &c);
  }
  channel_free(&c);
  return status;
}

qe_status qe_species_error(const qe_species *s, qe_s128 *error) {
  channel c;
  QE_TRY(channel_new(s, &c));
  *error = 0;
  for (int32_t o = 0; o < s->moments.outputs; o++) {
    take(s, o, &c);
    *error += error_of(&c);
  }
  channel_free(&c);
  return QE_OK;
}

/* ---- making one ---- */

void qe_species_free(qe_species *s) {
  qe_moments_free(&s->moments);
  qe_scales_free(&s->scales);
}

/* Without a fit the target loses the offset. */
static qe_status lose_offset(qe_species *s) {
  int64_t *offset = QE_NEW_ARRAY(int64_t, s->moments.outputs);
  if (!offset) return QE_NO_MEMORY;
  for (int32_t o = 0; o < s->moments.outputs; o++)
    offset[o] = (int64_t)qe_gain_apply(s->scales.offset[o], 1, QE_TARGET_BITS);
  qe_moments_less(&s->moments, offset);
  qe_free(offset);
  return QE_OK;
}

static qe_status fill(qe_species *s, const qe_guided *walk, qe_buffer *q) {
  const qe_network_layer *requant = &walk->network->layer[s->place.at];
  QE_TRY(qe_moments_new(&walk->student, s->place.conv, q, &s->moments));
  QE_TRY(qe_scales_new(requant->inputs, requant->output.dim[QE_C], &s->scales));
  qe_scales_get(requant, &s->scales);
  if (!s->options.fit) return lose_offset(s);
  qe_moments_centre(&s->moments);
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
