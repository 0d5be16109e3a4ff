/* Steps by channel: histograms of an activation's values, the best range of each, and weights made anew for it. */
#include "core/evolve/channels.h"

#include "core/base/alloc.h"
#include "core/evolve/steps.h"
#include "core/evolve/target.h"

#include <string.h>

enum { BIN_BITS = 4, OCTAVE = 8, LEAST = -4 * OCTAVE, MOST = OCTAVE, RANGES = 4, MOST_HIGH = 127, ROOT_BITS = 30 };

/* 2^(i/8) in Q30. */
static const int32_t roots[OCTAVE] = {1073741824, 1170923762, 1276901417, 1392470869,
                                      1518500250, 1655936265, 1805811301, 1969251188};

static qe_gain power(int32_t eighths) {
  int32_t whole = (eighths - LEAST) / OCTAVE + LEAST / OCTAVE;
  return (qe_gain){roots[eighths - whole * OCTAVE], whole - ROOT_BITS};
}

/* ---- the list ---- */

qe_status qe_channels_new(const qe_network *network, qe_channels *channels) {
  *channels = (qe_channels){(int32_t)network->layers, QE_NEW_ARRAY(qe_gain *, network->layers)};
  return channels->ratio ? QE_OK : QE_NO_MEMORY;
}

void qe_channels_free(qe_channels *channels) {
  for (int32_t i = 0; channels->ratio && i < channels->layers; i++) qe_free(channels->ratio[i]);
  qe_free(channels->ratio);
  *channels = (qe_channels){0};
}

void qe_channels_end(const qe_channels *channels, qe_network *network) {
  for (int32_t i = 0; i < channels->layers; i++)
    if (channels->ratio[i]) network->layer[i].unit = (qe_unit){0, 0};
}

/* Tensor `to` has the ratios of `from`, whose channel 0 is its channel `first`; channels that are its own: 1. */
static qe_status pass(qe_channels *channels, const qe_network *network, int32_t from, int32_t to, int32_t first) {
  int32_t count = network->layer[to].output.dim[QE_C], there = network->layer[from].output.dim[QE_C];
  qe_gain *ratio = QE_NEW_ARRAY(qe_gain, count);
  if (!ratio) return QE_NO_MEMORY;
  for (int32_t c = 0; c < count; c++)
    ratio[c] = c >= first && c - first < there ? channels->ratio[from][c - first] : (qe_gain){1, 0};
  channels->ratio[to] = ratio;
  return QE_OK;
}

/* ---- what reads the tensor ---- */

static qe_status take_back(const qe_channels *channels, qe_network *network, int32_t at, int branch) {
  const qe_network_layer *layer = &network->layer[at];
  const qe_gain *ratio = channels->ratio[layer->input[branch]];
  qe_scales scales;
  QE_TRY(qe_scales_new(layer->inputs, layer->output.dim[QE_C], &scales));
  qe_scales_get(layer, &scales);
  for (int32_t c = 0; c < scales.channels; c++)
    scales.gain[branch][c] = qe_gain_times(scales.gain[branch][c], ratio[c]);
  qe_status status = qe_scales_put(&scales, network, at);
  qe_scales_free(&scales);
  return status;
}

static qe_status tell_readers(qe_channels *channels, qe_network *network, int32_t at) {
  for (int32_t i = at + 1; i < (int32_t)network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    for (int b = 0; b < layer->inputs; b++) {
      if (layer->input[b] != at || layer->weight) continue;
      if (layer->offset && !qe_steps_is_shift(network, layer)) {
        QE_TRY(take_back(channels, network, i, b));
        continue;
      }
      QE_TRY(pass(channels, network, at, i, layer->attrs.pad_channels[0]));
      QE_TRY(tell_readers(channels, network, i));
    }
  }
  return QE_OK;
}

/* ---- ranges ---- */

/* Values of a requantiser's channels before its clamp, counted in bins of 1/16 of a code that the convolution sees. */
typedef struct histogram {
  int32_t channels, bins, high;
  int64_t *count; /* [channels, bins]; the last bin: that and more */
} histogram;

static qe_status fill(const qe_trace *trace, int32_t at, int32_t shift, histogram *h) {
  qe_desc desc = qe_trace_desc(trace, at);
  int64_t values = qe_count(&desc);
  qe_buffer *buffer = NULL;
  int32_t *value = QE_NEW_ARRAY(int32_t, values);
  h->count = QE_NEW_ARRAY(int64_t, (int64_t)h->channels * h->bins);
  qe_status status = value && h->count ? qe_target_value(trace, at, &buffer) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_queue_read(trace->queue, buffer, 0, value, (size_t)values * sizeof *value);
  if (status == QE_OK) status = qe_queue_wait(trace->queue);
  for (int64_t i = 0; status == QE_OK && i < values; i++) {
    int32_t bin = value[i] >> (QE_TARGET_BITS + shift - BIN_BITS);
    if (bin >= 0) h->count[i % h->channels * h->bins + (bin < h->bins ? bin : h->bins - 1)]++;
  }
  qe_buffer_free(buffer);
  qe_free(value);
  return status;
}

/* The squared error of channel c's values on codes that are worth 2^(eighths/8) of what they were. */
static qe_s128 error_of(const histogram *h, int32_t c, int32_t eighths) {
  enum { FRACTION = 8 };
  int64_t step = (int64_t)qe_gain_apply(power(eighths), 1, FRACTION + BIN_BITS + 1);
  qe_s128 sum = 0;
  for (int32_t bin = 0; bin < h->bins; bin++) {
    int64_t value = (2 * (int64_t)bin + 1) << FRACTION, code = (value + step / 2) / step;
    int64_t off = value - (code < h->high ? code : h->high) * step;
    sum += (qe_s128)h->count[(int64_t)c * h->bins + bin] * off * off;
  }
  return sum;
}

static int32_t best_of(const histogram *h, int32_t c) {
  int32_t best = 0;
  qe_s128 least = error_of(h, c, 0);
  for (int32_t k = LEAST; k <= MOST; k++) {
    qe_s128 error = error_of(h, c, k);
    if (error >= least) continue;
    least = error;
    best = k;
  }
  return best;
}

/* ---- choosing ---- */

/* The tensor that a convolution with a teacher reads: `at` itself or a coarser grid of its codes; -1: none. */
static int32_t find_low(const qe_network *network, int32_t at) {
  for (int32_t i = at + 1; i < (int32_t)network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    if (layer->inputs < 1 || layer->input[0] != at) continue;
    if (layer->weight) return layer->attrs.window.groups == 1 ? at : -1;
    if (layer->inputs == 1 && qe_steps_is_shift(network, layer)) return find_low(network, i) == i ? i : -1;
  }
  return -1;
}

static qe_status scale(qe_network *network, int32_t at, const qe_gain *ratio) {
  const qe_network_layer *layer = &network->layer[at];
  qe_scales scales;
  QE_TRY(qe_scales_new(layer->inputs, layer->output.dim[QE_C], &scales));
  qe_scales_get(layer, &scales);
  for (int32_t c = 0; c < scales.channels; c++) {
    qe_gain inverse = qe_gain_ratio(1, ratio[c].mantissa, -ratio[c].exponent);
    for (int b = 0; b < layer->inputs; b++) scales.gain[b][c] = qe_gain_times(scales.gain[b][c], inverse);
    scales.offset[c] = qe_gain_times(scales.offset[c], inverse);
  }
  qe_status status = qe_scales_put(&scales, network, at);
  qe_scales_free(&scales);
  return status;
}

qe_status qe_channels_choose(qe_channels *channels, qe_guided *walk, int32_t at, int32_t strength) {
  qe_network *network = walk->network;
  const qe_network_layer *layer = &network->layer[at];
  int32_t low = find_low(network, at);
  if (low < 0 || layer->output.dtype != QE_U8 || layer->unit.mantissa == 0) return QE_OK;
  histogram h = {.channels = layer->output.dim[QE_C], .high = network->layer[low].attrs.requant.high};
  if (h.high > MOST_HIGH) return QE_OK;
  h.bins = RANGES * (h.high + 1) << BIN_BITS;
  qe_gain *ratio = QE_NEW_ARRAY(qe_gain, h.channels);
  qe_status status =
      ratio ? fill(&walk->student, at, low == at ? 0 : network->layer[low].attrs.requant.shift, &h) : QE_NO_MEMORY;
  for (int32_t c = 0; status == QE_OK && c < h.channels; c++) ratio[c] = power(best_of(&h, c) * strength / 8);
  qe_free(h.count);
  if (status == QE_OK) status = scale(network, at, ratio);
  qe_free(channels->ratio[at]); /* a coarser grid is chosen for once more, by its own values: weights start from that */
  channels->ratio[at] = ratio;
  return status == QE_OK ? tell_readers(channels, network, at) : status;
}

/* ---- weights made anew ---- */

/* The grid's codes of values [count] at a step: nearest, clamped; returns the squared error. */
static qe_s128 round_to(const qe_code_grid *grid, const int64_t *value, int32_t count, int64_t step, int8_t *codes) {
  qe_s128 error = 0;
  for (int32_t i = 0; i < count; i++) {
    int64_t from = value[i] - grid->low * step, unit = step * grid->spacing;
    int64_t place = from <= 0 ? 0 : (from + unit / 2) / unit, last = (grid->high - grid->low) / grid->spacing;
    int64_t code = grid->low + (place < last ? place : last) * grid->spacing, off = value[i] - code * step;
    codes[i] = (int8_t)code;
    error += (qe_s128)off * off;
  }
  return error;
}

/* Codes of a row of values and the step with the least squared error; 0: all values are 0. */
static int64_t round_row(const qe_code_grid *grid, const int64_t *value, int32_t count, int8_t *codes, int8_t *trial) {
  enum { TRIES = 24, FULL = 32 };
  int64_t most = 0, best = 0;
  qe_s128 least = 0;
  for (int32_t i = 0; i < count; i++) {
    int64_t size = value[i] < 0 ? -value[i] : value[i];
    most = size > most ? size : most;
  }
  for (int32_t k = 0; most > 0 && k < TRIES; k++) {
    int64_t step = most * (FULL - k) / ((int64_t)grid->high * FULL);
    if (step < 1) break;
    qe_s128 error = round_to(grid, value, count, step, trial);
    if (best > 0 && error >= least) continue;
    least = error;
    best = step;
    memcpy(codes, trial, (size_t)count);
  }
  return best;
}

/* What the teacher's codes are worth in the student's output, beside the steps by channel: see qe_channels_weigh. */
static qe_gain unit_gain(const qe_guided *walk, const qe_guided_place *place) {
  const qe_network *student = walk->network, *teacher = walk->teacher.network;
  const qe_network_layer *from = &student->layer[student->layer[place->conv].input[0]],
                         *from_teacher = &teacher->layer[teacher->layer[place->teacher_conv].input[0]];
  return qe_gain_times(qe_gain_of_units(from->unit, from_teacher->unit),
                       qe_gain_of_units(teacher->layer[place->teacher_at].unit, student->layer[place->at].unit));
}

static void weigh_rows(const qe_guided *walk, const qe_guided_place *place, const qe_gain *ratio,
                       const qe_scales *teacher, qe_scales *scales, int64_t *value, int8_t *trial) {
  enum { FRACTION = 16 };
  qe_network_layer *conv = &walk->network->layer[place->conv];
  const int8_t *theirs = walk->teacher.network->layer[place->teacher_conv].weight;
  int32_t rows = conv->weight_desc.dim[QE_N], inputs = conv->weight_desc.dim[QE_C];
  int32_t count = (int32_t)(qe_count(&conv->weight_desc) / rows);
  qe_gain unit = unit_gain(walk, place);
  for (int32_t o = 0; o < rows; o++) {
    for (int32_t k = 0; k < count; k++)
      value[k] = (int64_t)qe_gain_apply(ratio[k % inputs], theirs[(int64_t)o * count + k], FRACTION);
    int64_t step = round_row(&conv->grid, value, count, conv->weight + (int64_t)o * count, trial);
    if (step == 0) continue;
    qe_gain own = qe_gain_times(teacher->gain[place->teacher_branch][o], (qe_gain){step, -FRACTION});
    scales->gain[place->branch][o] = qe_gain_times(own, unit);
  }
}

qe_status qe_channels_weigh(const qe_channels *channels, qe_guided *walk, const qe_guided_place *place) {
  qe_network *network = walk->network;
  qe_network_layer *conv = &network->layer[place->conv], *requant = &network->layer[place->at];
  const qe_network_layer *theirs = &walk->teacher.network->layer[place->teacher_at];
  const qe_gain *ratio = channels->ratio[conv->input[0]];
  if (!ratio) return QE_OK;
  qe_scales scales = {0}, teacher = {0};
  int64_t count = qe_count(&conv->weight_desc);
  int64_t *value = QE_NEW_ARRAY(int64_t, count);
  int8_t *trial = qe_alloc((size_t)count);
  qe_status status = value && trial ? qe_scales_new(requant->inputs, requant->output.dim[QE_C], &scales) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_scales_new(theirs->inputs, theirs->output.dim[QE_C], &teacher);
  if (status == QE_OK) {
    qe_scales_get(requant, &scales);
    qe_scales_get(theirs, &teacher);
    weigh_rows(walk, place, ratio, &teacher, &scales, value, trial);
    qe_network_prove_layer(network, (size_t)place->conv);
    status = qe_scales_put(&scales, network, place->at);
  }
  if (status == QE_OK) status = qe_trace_run(&walk->student, place->conv);
  qe_scales_free(&scales);
  qe_scales_free(&teacher);
  qe_free(value);
  qe_free(trial);
  return status;
}
