/* Targets: the teacher's requantiser run without its clamp, in finer units, less what the student already has. */
#include "core/evolve/target.h"

#include "core/base/alloc.h"
#include "core/base/wide.h"
#include "core/evolve/moments.h"

enum { TARGET_LIMIT = 1 << 30 };

/* Branches that meet, by real gains, into s32 values of QE_TARGET_BITS fraction bits. */
typedef struct meeting {
  int32_t low, high; /* clamp of the result; both 0: +- TARGET_LIMIT */
  int branches;
  qe_desc desc[2];
  qe_buffer *value[2];
  int64_t reach[2];
} meeting;

static void add_branch(meeting *m, const qe_trace *trace, int32_t tensor) {
  const qe_network_layer *layer = &trace->network->layer[tensor];
  int64_t low = layer->low, high = layer->high;
  m->desc[m->branches] = qe_trace_desc(trace, tensor);
  m->value[m->branches] = trace->tensor[tensor];
  m->reach[m->branches++] = -low > high ? -low : high;
}

/* A new buffer with sum_b gain[b] v_b + offset. */
static qe_status meet(qe_queue *queue, const meeting *m, const qe_scales *scales, qe_buffer **result) {
  qe_network_layer layer = {.name = (char *)(uintptr_t) "target", .inputs = m->branches, .output = m->desc[0]};
  bool free = m->low == m->high;
  layer.attrs.requant =
      (qe_requant){.low = free ? -TARGET_LIMIT : m->low, .high = free ? TARGET_LIMIT : m->high, .to = QE_S32};
  layer.output.dtype = QE_S32;
  layer.offset = QE_NEW_ARRAY(int64_t, scales->channels);
  for (int b = 0; b < m->branches; b++) layer.multiplier[b] = QE_NEW_ARRAY(int32_t, scales->channels);
  bool all = layer.offset && layer.multiplier[0] && (m->branches == 1 || layer.multiplier[1]);
  qe_status status = all ? qe_scales_set(scales, m->reach, &layer) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_buffer_new(queue->device, qe_bytes(&layer.output), result);
  if (status == QE_OK) {
    qe_trace_requant how = {.multiplier = {layer.multiplier[0], layer.multiplier[1]},
                            .offset = layer.offset,
                            .requant = layer.attrs.requant};
    status = qe_trace_requantise(queue, m->branches, m->desc, m->value, &how, *result);
    if (status != QE_OK) {
      qe_buffer_free(*result);
      *result = NULL;
    }
  }
  qe_free(layer.offset);
  qe_free(layer.multiplier[0]);
  qe_free(layer.multiplier[1]);
  return status;
}

/* A requantiser's value before the clamp, times ratio [C] (NULL: 1) * 2^QE_TARGET_BITS; `only`: that branch alone, -1:
 * all. */
static qe_status unclamped(const qe_trace *trace, int32_t at, int32_t only, const qe_gain *ratio, qe_buffer **result) {
  const qe_network_layer *layer = &trace->network->layer[at];
  qe_scales all, some;
  meeting m = {0};
  QE_TRY(qe_scales_new(layer->inputs, layer->output.dim[QE_C], &all));
  qe_scales_get(layer, &all);
  some = (qe_scales){.offset = all.offset, .channels = all.channels};
  for (int b = 0; b < layer->inputs; b++) {
    if (only >= 0 && b != only) continue;
    some.gain[m.branches] = all.gain[b];
    add_branch(&m, trace, layer->input[b]);
  }
  for (int32_t c = 0; c < all.channels; c++) {
    qe_gain finer = qe_gain_times(ratio ? ratio[c] : (qe_gain){1, 0}, (qe_gain){1, QE_TARGET_BITS});
    for (int b = 0; b < m.branches; b++) some.gain[b][c] = qe_gain_times(some.gain[b][c], finer);
    some.offset[c] = qe_gain_times(some.offset[c], finer);
  }
  qe_status status = meet(trace->queue, &m, &some, result);
  qe_scales_free(&all);
  return status;
}

qe_status qe_target_value(const qe_trace *trace, int32_t at, qe_buffer **value) {
  return unclamped(trace, at, -1, NULL, value);
}

/* ---- units ---- */

/* The root of each channel's sum of squares, [C]. */
static qe_status magnitudes(const qe_trace *trace, int32_t at, int64_t *root) {
  qe_desc desc = qe_trace_desc(trace, at);
  int32_t channels = desc.dim[QE_C];
  int64_t *sum = QE_NEW_ARRAY(int64_t, channels), *square = QE_NEW_ARRAY(int64_t, channels);
  qe_buffer *value = NULL;
  qe_status status = sum && square ? qe_target_value(trace, at, &value) : QE_NO_MEMORY;
  desc.dtype = QE_S32;
  if (status == QE_OK) status = qe_channel_moments(trace->queue, desc, value, sum, square);
  for (int32_t c = 0; status == QE_OK && c < channels; c++) root[c] = qe_integer_root((qe_s128)square[c] << 32);
  qe_buffer_free(value);
  qe_free(sum);
  qe_free(square);
  return status;
}

static qe_status ratios_of_values(const qe_guided *walk, const qe_guided_place *place, int32_t channels,
                                  qe_gain *ratio) {
  int64_t *student = QE_NEW_ARRAY(int64_t, channels), *teacher = QE_NEW_ARRAY(int64_t, channels);
  qe_status status = student && teacher ? magnitudes(&walk->student, place->at, student) : QE_NO_MEMORY;
  if (status == QE_OK) status = magnitudes(&walk->teacher, place->teacher_at, teacher);
  for (int32_t c = 0; status == QE_OK && c < channels; c++)
    ratio[c] = student[c] > 0 && teacher[c] > 0 ? qe_gain_ratio(student[c], teacher[c], 0) : (qe_gain){1, 0};
  qe_free(student);
  qe_free(teacher);
  return status;
}

qe_status qe_target_ratios(const qe_guided *walk, const qe_guided_place *place, qe_gain *ratio) {
  const qe_network_layer *own = &walk->network->layer[place->at];
  qe_unit student = own->unit, teacher = walk->teacher.network->layer[place->teacher_at].unit;
  int32_t channels = own->output.dim[QE_C];
  if (!student.mantissa || !teacher.mantissa) return ratios_of_values(walk, place, channels, ratio);
  for (int32_t c = 0; c < channels; c++) ratio[c] = qe_gain_of_units(teacher, student);
  return QE_OK;
}

/* ---- the target ---- */

/* q = target - what the student's other branch adds, in place of the target. */
static qe_status subtract_other(const qe_trace *student, const qe_guided_place *place, qe_buffer **target) {
  const qe_network_layer *layer = &student->network->layer[place->at];
  int other = 1 - place->branch;
  qe_scales all, some;
  qe_buffer *result = NULL;
  meeting m = {.branches = 1, .desc = {qe_trace_desc(student, place->at)}, .value = {*target}, .reach = {TARGET_LIMIT}};
  m.desc[0].dtype = QE_S32;
  add_branch(&m, student, layer->input[other]);
  QE_TRY(qe_scales_new(2, layer->output.dim[QE_C], &all));
  qe_scales_get(layer, &all);
  some =
      (qe_scales){.gain = {all.gain[place->branch], all.gain[other]}, .offset = all.offset, .channels = all.channels};
  for (int32_t c = 0; c < all.channels; c++) {
    qe_gain added = some.gain[1][c];
    some.gain[0][c] = (qe_gain){1, 0};
    some.gain[1][c] = (qe_gain){-added.mantissa, added.exponent + QE_TARGET_BITS};
    some.offset[c] = (qe_gain){0, 0};
  }
  qe_status status = meet(student->queue, &m, &some, &result);
  qe_scales_free(&all);
  if (status != QE_OK) return status;
  qe_buffer_free(*target);
  *target = result;
  return QE_OK;
}

qe_status qe_target_new(const qe_guided *walk, const qe_guided_place *place, bool skip_error, qe_buffer **q) {
  const qe_network_layer *layer = &walk->network->layer[place->at];
  bool both = skip_error && layer->inputs == walk->teacher.network->layer[place->teacher_at].inputs;
  qe_gain *ratio = QE_NEW_ARRAY(qe_gain, layer->output.dim[QE_C]);
  *q = NULL;
  qe_status status = ratio ? qe_target_ratios(walk, place, ratio) : QE_NO_MEMORY;
  if (status == QE_OK)
    status = unclamped(&walk->teacher, place->teacher_at, both ? -1 : place->teacher_branch, ratio, q);
  if (status == QE_OK && both && layer->inputs > 1) status = subtract_other(&walk->student, place, q);
  qe_free(ratio);
  if (status == QE_OK) return QE_OK;
  qe_buffer_free(*q);
  *q = NULL;
  return status;
}

/* ---- the target that knows the clamp ---- */

/* A new buffer with a + sign b (b NULL: a), s32 of a shape, within the meeting's limits. */
static qe_status combine(qe_queue *queue, qe_desc desc, qe_buffer *a, qe_buffer *b, int32_t sign, int32_t low,
                         int32_t high, qe_buffer **result) {
  meeting m = {.low = low,
               .high = high,
               .branches = b ? 2 : 1,
               .desc = {desc, desc},
               .value = {a, b},
               .reach = {TARGET_LIMIT, TARGET_LIMIT}};
  qe_scales scales;
  QE_TRY(qe_scales_new(m.branches, desc.dim[QE_C], &scales));
  for (int32_t c = 0; c < scales.channels; c++) {
    scales.gain[0][c] = (qe_gain){1, 0};
    if (b) scales.gain[1][c] = (qe_gain){sign, 0};
  }
  qe_status status = meet(queue, &m, &scales, result);
  qe_scales_free(&scales);
  return status;
}

static int32_t limit_of(int64_t code) {
  int64_t limit = code * (1 << QE_TARGET_BITS);
  return (int32_t)(limit < -TARGET_LIMIT ? -TARGET_LIMIT : limit > TARGET_LIMIT ? TARGET_LIMIT : limit);
}

qe_status qe_target_clamped(const qe_guided *walk, const qe_guided_place *place, qe_buffer *q, qe_buffer **clamped,
                            qe_buffer **error) {
  enum { OWN, ALL, OTHER, TEACHER, STUDENT, PARTS };
  qe_queue *queue = walk->student.queue;
  const qe_requant *requant = &walk->network->layer[place->at].attrs.requant;
  int32_t low = limit_of(requant->low), high = limit_of(requant->high);
  qe_desc desc = qe_trace_desc(&walk->student, place->at);
  qe_buffer *part[PARTS] = {NULL};
  desc.dtype = QE_S32;
  *clamped = *error = NULL;
  qe_status status = unclamped(&walk->student, place->at, place->branch, NULL, &part[OWN]);
  if (status == QE_OK) status = qe_target_value(&walk->student, place->at, &part[ALL]);
  if (status == QE_OK) status = combine(queue, desc, part[ALL], part[OWN], -1, 0, 0, &part[OTHER]);
  if (status == QE_OK) status = combine(queue, desc, q, part[OTHER], 1, low, high, &part[TEACHER]);
  if (status == QE_OK) status = combine(queue, desc, part[ALL], NULL, 0, low, high, &part[STUDENT]);
  if (status == QE_OK) status = combine(queue, desc, part[TEACHER], part[STUDENT], -1, 0, 0, error);
  if (status == QE_OK) status = combine(queue, desc, part[OWN], *error, 1, 0, 0, clamped);
  for (int i = 0; i < PARTS; i++) qe_buffer_free(part[i]);
  if (status == QE_OK) return QE_OK;
  qe_buffer_free(*error);
  *error = NULL;
  return status;
}
