/* A stage's constants: weights in the first form that is exact for them, and the requantiser that suits their sums. */
#include "backends/cpu/network.h"
#include "core/base/alloc.h"

#include <string.h>

size_t cpu_stage_weight_bytes(const cpu_stage *stage) {
  return cpu_aligned(stage->from[0].prepared_bytes) + cpu_aligned(stage->from[1].prepared_bytes) +
         cpu_aligned(stage->requant_bytes);
}

cpu_stage_source cpu_stage_source_of(const cpu_network *plan, const cpu_stage *stage) {
  cpu_stage_source source = {0};
  if (stage->requant == CPU_NONE) return source;
  const qe_network_layer *requant = &plan->network->layer[stage->requant];
  for (int k = 0; k < 2; k++)
    if (stage->from[k].layer != CPU_NONE) source.weight[k] = plan->network->layer[stage->from[k].layer].weight;
  for (int b = 0; b < 2; b++) source.multiplier[b] = requant->multiplier[b];
  source.offset = requant->offset;
  return source;
}

typedef struct ranges {
  int32_t *centre;       /* [channels] */
  int64_t *least, *most; /* [channels]: of the true sums */
  cpu_sums sums;
} ranges;

static qe_status ranges_new(const cpu_stage *stage, ranges *r) {
  int32_t channels = stage->from[0].shape.window.channels;
  r->centre = QE_NEW_ARRAY(int32_t, channels);
  r->least = QE_NEW_ARRAY(int64_t, channels);
  r->most = QE_NEW_ARRAY(int64_t, channels);
  r->sums = stage->kind == QE_STAGE_LOAD ? CPU_SUMS_S16 : CPU_SUMS_S32;
  return r->centre && r->least && r->most ? QE_OK : QE_NO_MEMORY;
}

static void ranges_free(ranges *r) {
  qe_free(r->centre);
  qe_free(r->least);
  qe_free(r->most);
}

static void set_ranges(const cpu_network *plan, const cpu_stage *stage, const cpu_producer *from, const int8_t *weight,
                       const ranges *r) {
  const cpu_lane_map *in = &plan->map[from->input];
  int64_t low = -in->zero, high = in->most - in->zero;
  const qe_window *window = &from->shape.window;
  int64_t taps = (int64_t)window->kernel[0] * window->kernel[1], each = taps * (from->shape.inputs / window->groups);
  for (int32_t c = 0; c < window->channels; c++) {
    if (stage->kind == QE_STAGE_CONV) {
      qe_sum_range(weight + c * each, each, low, high, &r->least[c], &r->most[c]);
    } else {
      int64_t terms = stage->kind == QE_STAGE_SUM_POOL ? taps : 1;
      r->least[c] = low * terms;
      r->most[c] = high * terms;
    }
  }
}

/* Weights in the first form that is exact for them. */
static qe_status prepare_weights(const cpu_network *plan, const cpu_producer *from, const int8_t *weight,
                                 void *prepared, const cpu_form **form, ranges *r) {
  for (int32_t i = 0; i < from->forms; i++) {
    if (!from->form[i]->prepare(&from->shape, weight, prepared, r->centre)) continue;
    *form = from->form[i];
    r->sums = (*form)->sums;
    return QE_OK;
  }
  return qe_fail(QE_REFUSED, "%s: no kernel is exact for these weights", plan->network->layer[from->layer].name);
}

static qe_status prepare_producer(const cpu_network *plan, const cpu_stage *stage, int which,
                                  const cpu_stage_source *source, cpu_stage_weights *weights, ranges *r) {
  const cpu_producer *from = &stage->from[which];
  if (from->layer == CPU_NONE) return QE_OK;
  QE_TRY(ranges_new(stage, r));
  set_ranges(plan, stage, from, source->weight[which], r);
  if (stage->kind != QE_STAGE_CONV) return QE_OK;
  return prepare_weights(plan, from, source->weight[which], weights->prepared[which], &weights->form[which], r);
}

static void set_other(const cpu_network *plan, const cpu_stage *stage, const ranges *other, cpu_requant_source *to) {
  if (stage->skip != CPU_NONE) {
    to->skip_zero = plan->map[stage->skip].zero;
    to->skip_most = plan->map[stage->skip].most;
    return;
  }
  to->other_is_sums = true;
  to->other = other->sums;
  to->other_centre = other->centre;
  to->other_least = other->least;
  to->other_most = other->most;
}

static void fill_requant(const cpu_network *plan, const cpu_stage *stage, const cpu_stage_source *source,
                         const ranges *r, void *prepared) {
  const qe_network_layer *layer = &plan->network->layer[stage->requant];
  const qe_requant *attrs = &layer->attrs.requant;
  int first = stage->sums_branch, second = 1 - first;
  cpu_requant_source from = {.attrs = *attrs,
                             .channels = stage->from[0].shape.window.channels,
                             .m = source->multiplier[first],
                             .n = layer->inputs == 2 ? source->multiplier[second] : NULL,
                             .offset = source->offset,
                             .sums = r[0].sums,
                             .centre = r[0].centre,
                             .least = r[0].least,
                             .most = r[0].most,
                             .zero = attrs->low < 0 ? -attrs->low : 0,
                             .logits = layer->output.dtype == QE_S32,
                             .low_shift = CPU_NONE};
  if (layer->inputs == 2) set_other(plan, stage, &r[1], &from);
  if (stage->output[0] != CPU_NONE) from.zero = plan->map[stage->output[0]].zero;
  if (stage->coarser != CPU_NONE) {
    const qe_requant *coarser = &plan->network->layer[stage->coarser].attrs.requant;
    from.low_shift = coarser->shift;
    from.low_least = coarser->low;
    from.low_most = coarser->high;
    from.low_zero = plan->map[stage->output[1]].zero;
  }
  plan->kernels->requant_prepare(&from, prepared);
}

qe_status cpu_stage_prepare(const cpu_network *plan, const cpu_stage *stage, const cpu_stage_source *source,
                            void *memory, cpu_stage_weights *weights) {
  char *second = (char *)memory + cpu_aligned(stage->from[0].prepared_bytes);
  *weights =
      (cpu_stage_weights){.prepared = {memory, second}, .requant = second + cpu_aligned(stage->from[1].prepared_bytes)};
  if (stage->requant == CPU_NONE) return QE_OK;
  ranges r[2] = {{0}};
  qe_status status = prepare_producer(plan, stage, 0, source, weights, &r[0]);
  if (status == QE_OK) status = prepare_producer(plan, stage, 1, source, weights, &r[1]);
  if (status == QE_OK) fill_requant(plan, stage, source, r, weights->requant);
  ranges_free(&r[0]);
  ranges_free(&r[1]);
  return status;
}
