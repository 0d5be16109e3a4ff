/* Calibration along a network: each channel's mean and deviation set by its requantiser. */
#include "core/evolve/calibrate.h"

#include "core/base/alloc.h"
#include "core/evolve/moments.h"
#include "core/evolve/target.h"

qe_calibrate_options qe_calibrate_defaults(void) {
  return (qe_calibrate_options){.mean = {0, 1}, .deviation = {1, 3}, .logits = 512};
}

/* ---- sums of a convolution's output ---- */

typedef struct sums {
  int64_t count, *sum, *square;
} sums;

static void sums_free(sums *s) {
  qe_free(s->sum);
  qe_free(s->square);
}

static qe_status sums_new(const qe_trace *trace, int32_t conv, sums *s) {
  qe_desc desc = qe_trace_desc(trace, conv);
  int32_t channels = desc.dim[QE_C];
  *s = (sums){qe_count(&desc) / channels, QE_NEW_ARRAY(int64_t, channels), QE_NEW_ARRAY(int64_t, channels)};
  qe_status status = s->sum && s->square ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_channel_moments(trace->queue, desc, trace->tensor[conv], s->sum, s->square);
  if (status != QE_OK) sums_free(s);
  return status;
}

static qe_gain deviation_of(const sums *s, int32_t c) {
  qe_s128 square = (qe_s128)s->sum[c] * s->sum[c], variance = (qe_s128)s->count * s->square[c] - square;
  return qe_gain_root(qe_gain_ratio(variance, (qe_s128)s->count * s->count, 0));
}

static qe_gain mean_of(const sums *s, int32_t c) {
  return qe_gain_ratio(s->sum[c], s->count, 0);
}

/* a + b, to FRACTION bits. */
static qe_gain total(qe_gain a, qe_gain b) {
  enum { FRACTION = 24 };
  return (qe_gain){(int64_t)(qe_gain_apply(a, 1, FRACTION) + qe_gain_apply(b, 1, FRACTION)), -FRACTION};
}

/* ---- a layer of the walk ---- */

/* What a channel's share is to have. */
typedef struct aim {
  qe_gain mean, deviation; /* the deviation with the sign of the gain */
} aim;

static aim aim_of_range(const qe_calibrate_options *options, const qe_requant *requant) {
  if (requant->to == QE_S32) return (aim){{0, 0}, {options->logits, 0}};
  return (aim){qe_gain_ratio((qe_s128)options->mean[0] * requant->high, options->mean[1], 0),
               qe_gain_ratio((qe_s128)options->deviation[0] * requant->high, options->deviation[1], 0)};
}

static aim aim_of_teacher(const qe_scales *scales, int32_t branch, const sums *s, qe_gain ratio, int32_t c) {
  qe_gain gain = qe_gain_times(scales->gain[branch][c], ratio), offset = qe_gain_times(scales->offset[c], ratio);
  return (aim){total(qe_gain_times(gain, mean_of(s, c)), offset), qe_gain_times(gain, deviation_of(s, c))};
}

static void aim_at(qe_scales *scales, int32_t branch, const sums *s, int32_t c, aim at) {
  qe_gain own = deviation_of(s, c), *gain = &scales->gain[branch][c];
  if (own.mantissa) *gain = qe_gain_times(at.deviation, qe_gain_ratio(1, own.mantissa, -own.exponent));
  qe_gain shift = qe_gain_times(*gain, mean_of(s, c));
  scales->offset[c] = total(at.mean, (qe_gain){-shift.mantissa, shift.exponent});
}

static qe_status take_aims_of_teacher(const qe_guided *walk, const qe_guided_place *place, aim *aims,
                                      int32_t channels) {
  const qe_network_layer *requant = &walk->teacher.network->layer[place->teacher_at];
  qe_gain *ratio = QE_NEW_ARRAY(qe_gain, channels);
  qe_scales scales = {0};
  sums s = {0};
  qe_status status = ratio ? qe_target_ratios(walk, place, ratio) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_scales_new(requant->inputs, channels, &scales);
  if (status == QE_OK) status = sums_new(&walk->teacher, place->teacher_conv, &s);
  if (status == QE_OK) {
    qe_scales_get(requant, &scales);
    for (int32_t c = 0; c < channels; c++) aims[c] = aim_of_teacher(&scales, place->teacher_branch, &s, ratio[c], c);
    sums_free(&s);
  }
  qe_scales_free(&scales);
  qe_free(ratio);
  return status;
}

static qe_status take_aims(const qe_guided *walk, const qe_guided_place *place, const qe_calibrate_options *options,
                           aim *aims, int32_t channels) {
  if (walk->teacher.network) return take_aims_of_teacher(walk, place, aims, channels);
  aim same = aim_of_range(options, &walk->network->layer[place->at].attrs.requant);
  for (int32_t c = 0; c < channels; c++) aims[c] = same;
  return QE_OK;
}

static qe_status visit(void *context, qe_guided *walk, const qe_guided_place *place, bool *changed) {
  const qe_network_layer *requant = &walk->network->layer[place->at];
  int32_t channels = requant->output.dim[QE_C];
  qe_scales scales = {0};
  sums s = {0};
  aim *aims = QE_NEW_ARRAY(aim, channels);
  qe_status status = aims ? take_aims(walk, place, context, aims, channels) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_scales_new(requant->inputs, channels, &scales);
  if (status == QE_OK) status = sums_new(&walk->student, place->conv, &s);
  if (status == QE_OK) {
    qe_scales_get(requant, &scales);
    for (int32_t c = 0; c < channels; c++) aim_at(&scales, place->branch, &s, c, aims[c]);
    status = qe_scales_put(&scales, walk->network, place->at);
    sums_free(&s);
  }
  *changed = false;
  qe_scales_free(&scales);
  qe_free(aims);
  return status;
}

qe_status qe_calibrate(qe_queue *queue, qe_network *network, const qe_network *teacher, qe_buffer *pixels,
                       int32_t images, const qe_calibrate_options *options) {
  qe_calibrate_options copy = options ? *options : qe_calibrate_defaults();
  qe_guided_visitor visitor = {.context = &copy, .branch = visit};
  return qe_guided_walk(queue, network, teacher, pixels, images, &visitor);
}
