/* Targets: the teacher's requantiser run without its clamp, in finer units, less what the student already has. */
#include "core/evolve/target.h"

#include "core/base/alloc.h"
#include "core/base/wide.h"
#include "core/evolve/moments.h"

enum { TARGET_LIMIT = 1 << 30 };

/* Branches that meet, by real gains, into s32 values of QE_TARGET_BITS fraction bits. */
typedef struct meeting {
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
  layer.attrs.requant = (qe_requant){.low = -TARGET_LIMIT, .high = TARGET_LIMIT, .to = QE_S32};
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
    if (status != QE_OK) qe_buffer_free(*result);
  }
  qe_free(layer.offset);
  qe_free(layer.multiplier[0]);
  qe_free(layer.multiplier[1]);
  return status;
}

/* A requantiser's value before the clamp, times ratio * 2^QE_TARGET_BITS; `only`: that branch alone, -1: all. */
static qe_status unclamped(const qe_trace *trace, int32_t at, int32_t only, qe_gain ratio, qe_buffer **result) {
  const qe_network_layer *layer = &trace->network->layer[at];
  qe_scales all, some;
  meeting m = {0};
  QE_TRY(qe_scales_new(layer->inputs, layer->output.dim[QE_C], &all));
  qe_scales_get(layer, &all);
  some = (qe_scales){.offset = all.offset, .channels = all.channels};
  qe_gain finer = {ratio.mantissa, ratio.exponent + QE_TARGET_BITS};
  for (int b = 0; b < layer->inputs; b++) {
    if (only >= 0 && b != only) continue;
    some.gain[m.branches] = all.gain[b];
    add_branch(&m, trace, layer->input[b]);
  }
  for (int32_t c = 0; c < all.channels; c++) {
    for (int b = 0; b < m.branches; b++) some.gain[b][c] = qe_gain_times(some.gain[b][c], finer);
    some.offset[c] = qe_gain_times(some.offset[c], finer);
  }
  qe_status status = meet(trace->queue, &m, &some, result);
  qe_scales_free(&all);
  return status;
}

/* ---- units ---- */

static qe_status second_moment(const qe_trace *trace, int32_t at, qe_s128 *total) {
  qe_desc desc = qe_trace_desc(trace, at);
  int32_t channels = desc.dim[QE_C];
  int64_t *sum = QE_NEW_ARRAY(int64_t, channels), *square = QE_NEW_ARRAY(int64_t, channels);
  qe_buffer *value = NULL;
  qe_status status = sum && square ? unclamped(trace, at, -1, (qe_gain){1, 0}, &value) : QE_NO_MEMORY;
  desc.dtype = QE_S32;
  if (status == QE_OK) status = qe_channel_moments(trace->queue, desc, value, sum, square);
  *total = 0;
  for (int32_t c = 0; status == QE_OK && c < channels; c++) *total += square[c];
  qe_buffer_free(value);
  qe_free(sum);
  qe_free(square);
  return status;
}

qe_status qe_target_ratio(const qe_guided *walk, const qe_guided_place *place, qe_gain *ratio) {
  enum { ROOT_BITS = 32 };
  qe_unit student = walk->network->layer[place->at].unit;
  qe_unit teacher = walk->teacher.network->layer[place->teacher_at].unit;
  if (student.mantissa && teacher.mantissa) {
    *ratio = qe_gain_of_units(teacher, student);
    return QE_OK;
  }
  qe_s128 of_student, of_teacher;
  QE_TRY(second_moment(&walk->student, place->at, &of_student));
  QE_TRY(second_moment(&walk->teacher, place->teacher_at, &of_teacher));
  *ratio = of_student > 0 && of_teacher > 0 ? qe_gain_ratio(qe_integer_root(of_student), qe_integer_root(of_teacher), 0)
                                            : (qe_gain){1, 0};
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
  int inputs = walk->network->layer[place->at].inputs;
  bool both = skip_error && inputs == walk->teacher.network->layer[place->teacher_at].inputs;
  qe_gain ratio;
  QE_TRY(qe_target_ratio(walk, place, &ratio));
  QE_TRY(unclamped(&walk->teacher, place->teacher_at, both ? -1 : place->teacher_branch, ratio, q));
  if (!both || inputs == 1) return QE_OK;
  qe_status status = subtract_other(&walk->student, place, q);
  if (status != QE_OK) qe_buffer_free(*q);
  return status;
}
