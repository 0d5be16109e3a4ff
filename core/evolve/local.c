/* The local search along a network. What a channel's gain * (w a) + offset leaves of its target q is, about the means,
 *   gain^2 (w'Gw - 2 w'c / gain) + sum q^2,   G = sum a a', c = sum q a,
 * so that the codes are searched with r = Gw - c / gain and the gain fitted as w'c / w'Gw, in turn. */
#include "core/evolve/local.h"

#include "core/base/alloc.h"
#include "core/base/wide.h"
#include "core/evolve/moments.h"
#include "core/evolve/target.h"
#include "core/search/quadratic.h"

#include <string.h>

qe_local_options qe_local_defaults(void) {
  return (qe_local_options){
#define QE_LOCAL_INT(field, name, initial, least, most, help) .field = initial,
#define QE_LOCAL_FLAG(field, name, initial, help) .field = initial,
#include "core/evolve/local_options.def"
#undef QE_LOCAL_INT
#undef QE_LOCAL_FLAG
      .seed = 1};
}

typedef struct search {
  const qe_local_options *options;
  const qe_local_events *events;
} search;

/* One convolution with its requantiser. */
typedef struct species {
  const qe_local_options *options;
  qe_network_layer *conv;
  const qe_guided_place *place;
  qe_moments moments;
  qe_scales scales;
  int64_t *residual; /* [O, K] */
  int64_t moved;
} species;

/* ---- sums of one channel ---- */

typedef struct channel_sums {
  qe_s128 own;   /* w'Gw */
  qe_s128 cross; /* w'c */
  qe_s128 sum;   /* of w a */
} channel_sums;

/* residual = Gw on the way. */
static channel_sums sums_of(const species *s, int32_t o) {
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

static qe_gain gain_of(const species *s, int32_t o) {
  return s->scales.gain[s->place->branch][o];
}

/* Sum of (gain w a + offset - q)^2 over the positions, in units of q. Without a fit the moments are not about the
 * means, and q has lost the offset. */
static qe_s128 error_of(const species *s, int32_t o) {
  const qe_moments *m = &s->moments;
  channel_sums sums = sums_of(s, o);
  qe_gain gain = gain_of(s, o);
  qe_s128 square = qe_gain_apply(gain, qe_gain_apply(gain, sums.own, QE_TARGET_BITS), QE_TARGET_BITS);
  square += m->square[o] - 2 * qe_gain_apply(gain, sums.cross, QE_TARGET_BITS);
  if (!s->options->fit) return square;
  qe_s128 mean = qe_gain_apply(gain, sums.sum, QE_TARGET_BITS) - m->target[o] +
                 qe_gain_apply(s->scales.offset[o], m->count, QE_TARGET_BITS);
  return square + mean * mean / m->count;
}

/* A value, over all channels. */
static int64_t total_error(const species *s) {
  qe_s128 total = 0;
  for (int32_t o = 0; o < s->moments.outputs; o++) total += error_of(s, o);
  return (int64_t)(total / ((qe_s128)s->moments.count * s->moments.outputs));
}

/* ---- search and fit ---- */

/* r = Gw - c / gain; false where the channel has no gain: its codes say nothing. */
static bool set_residual(const species *s, int32_t o) {
  const qe_moments *m = &s->moments;
  qe_gain gain = gain_of(s, o), inverse = qe_gain_ratio(1, gain.mantissa, -gain.exponent - QE_TARGET_BITS);
  if (gain.mantissa == 0) return false;
  (void)sums_of(s, o);
  for (int64_t k = 0; k < m->inputs; k++)
    s->residual[o * m->inputs + k] -= (int64_t)qe_gain_apply(inverse, m->cross[o * m->inputs + k], 0);
  return true;
}

static qe_status search_codes(species *s) {
  qe_quadratic q = {.size = s->moments.inputs,
                    .gram = s->moments.gram,
                    .grid = s->conv->grid,
                    .pairs = s->options->pairs,
                    .restarts = s->options->restarts,
                    .seed = s->options->seed};
  for (int32_t o = 0; o < s->moments.outputs; o++) {
    int64_t change, moves, *residual = s->residual + (int64_t)o * q.size;
    if (!set_residual(s, o)) continue;
    QE_TRY(qe_quadratic_check(&q, residual, 1));
    QE_TRY(qe_quadratic_descend(&q, (uint64_t)o, s->conv->weight + (int64_t)o * q.size, residual, &change, &moves));
  }
  return QE_OK;
}

/* gain = w'c / w'Gw, offset = the mean that is left. A channel whose sums never vary keeps its gain. */
static void fit(species *s) {
  const qe_moments *m = &s->moments;
  for (int32_t o = 0; o < m->outputs; o++) {
    channel_sums sums = sums_of(s, o);
    if (sums.own > 0) s->scales.gain[s->place->branch][o] = qe_gain_ratio(sums.cross, sums.own, -QE_TARGET_BITS);
    qe_s128 rest = m->target[o] - qe_gain_apply(gain_of(s, o), sums.sum, QE_TARGET_BITS);
    s->scales.offset[o] = qe_gain_ratio(rest, m->count, -QE_TARGET_BITS);
  }
}

static qe_status improve(species *s, qe_network *network) {
  for (int32_t round = 0; round < s->options->rounds; round++) {
    if (s->options->search) QE_TRY(search_codes(s));
    if (s->options->fit) fit(s);
  }
  qe_network_prove_layer(network, (size_t)s->place->conv);
  return s->options->fit ? qe_scales_put(&s->scales, network, s->place->at) : QE_OK;
}

/* ---- a layer of the walk ---- */

static qe_status species_new(species *s, const qe_guided *walk, const qe_guided_place *place) {
  const qe_network_layer *requant = &walk->network->layer[place->at];
  qe_buffer *q = NULL;
  QE_TRY(qe_target_new(walk, place, s->options->skip_error, &q));
  qe_status status = qe_moments_new(&walk->student, place->conv, q, &s->moments);
  qe_buffer_free(q);
  QE_TRY(status);
  QE_TRY(qe_scales_new(requant->inputs, requant->output.dim[QE_C], &s->scales));
  qe_scales_get(requant, &s->scales);
  s->residual = QE_NEW_ARRAY(int64_t, (int64_t)s->moments.inputs * s->moments.outputs);
  if (!s->residual) return QE_NO_MEMORY;
  if (s->options->fit) {
    qe_moments_centre(&s->moments);
    return QE_OK;
  }
  for (int32_t o = 0; o < s->moments.outputs; o++)
    s->residual[o] = (int64_t)qe_gain_apply(s->scales.offset[o], 1, QE_TARGET_BITS);
  qe_moments_less(&s->moments, s->residual);
  return QE_OK;
}

static void species_free(species *s) {
  qe_moments_free(&s->moments);
  qe_scales_free(&s->scales);
  qe_free(s->residual);
}

static int64_t differences(const int8_t *a, const int8_t *b, int64_t count) {
  int64_t different = 0;
  for (int64_t i = 0; i < count; i++) different += a[i] != b[i];
  return different;
}

static qe_status improve_and_tell(const search *of, species *s, qe_network *network) {
  int64_t count = qe_count(&s->conv->weight_desc);
  int8_t *before = qe_alloc((size_t)count);
  if (!before) return QE_NO_MEMORY;
  memcpy(before, s->conv->weight, (size_t)count);
  qe_local_report report = {.layer = s->conv->name, .before = total_error(s)};
  qe_status status = improve(s, network);
  report.after = total_error(s);
  report.moved = differences(before, s->conv->weight, count);
  qe_free(before);
  QE_TRY(status);
  return of->events && of->events->layer ? of->events->layer(of->events->context, &report) : QE_OK;
}

static qe_status visit(void *context, qe_guided *walk, const qe_guided_place *place, bool *changed) {
  const search *of = context;
  species s = {.options = of->options, .conv = &walk->network->layer[place->conv], .place = place};
  if (s.conv->attrs.window.groups != 1) return QE_OK;
  qe_status status = species_new(&s, walk, place);
  if (status == QE_OK) status = improve_and_tell(of, &s, walk->network);
  *changed = true;
  species_free(&s);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "local search, layer %s", s.conv->name);
}

qe_status qe_local_search(qe_queue *queue, qe_network *network, const qe_network *teacher, qe_buffer *pixels,
                          int32_t images, const qe_local_options *options, const qe_local_events *events) {
  search of = {.options = options, .events = events};
  return qe_guided_walk(queue, network, teacher, pixels, images, visit, &of);
}
