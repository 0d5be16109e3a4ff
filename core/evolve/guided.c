/* A walk along a student network with a teacher beside it. */
#include "core/evolve/guided.h"

#include <string.h>

/* The convolution of the same name and output shape; -1: none. */
static int32_t find_twin(const qe_network *teacher, const qe_network_layer *conv) {
  for (int32_t i = 0; i < (int32_t)teacher->layers; i++) {
    const qe_network_layer *layer = &teacher->layer[i];
    if (layer->weight && strcmp(layer->name, conv->name) == 0 && qe_same_shape(&layer->output, &conv->output)) return i;
  }
  return -1;
}

bool qe_guided_reader(const qe_network *network, int32_t tensor, int32_t *at, int32_t *branch) {
  for (int32_t i = tensor + 1; i < (int32_t)network->layers; i++)
    for (int k = 0; network->layer[i].offset && k < network->layer[i].inputs; k++)
      if (network->layer[i].input[k] == tensor) {
        *at = i;
        *branch = k;
        return true;
      }
  return false;
}

qe_status qe_guided_find(const qe_guided *walk, int32_t at, int32_t branch, qe_guided_place *place) {
  const qe_network_layer *conv = &walk->network->layer[walk->network->layer[at].input[branch]];
  *place = (qe_guided_place){.conv = walk->network->layer[at].input[branch], .at = at, .branch = branch};
  place->teacher_conv = place->teacher_at = place->teacher_branch = -1;
  if (!walk->teacher.network) return QE_OK;
  place->teacher_conv = find_twin(walk->teacher.network, conv);
  if (place->teacher_conv >= 0 &&
      qe_guided_reader(walk->teacher.network, place->teacher_conv, &place->teacher_at, &place->teacher_branch))
    return QE_OK;
  return qe_fail(QE_USAGE, "the teacher has no layer %s of the same shape: it must be a network of the same model",
                 conv->name);
}

qe_status qe_guided_advance(qe_guided *walk, int32_t stop) {
  for (; walk->teacher_next < stop; walk->teacher_next++) {
    QE_TRY(qe_trace_run(&walk->teacher, walk->teacher_next));
    qe_trace_forget(&walk->teacher, walk->teacher_next);
  }
  return QE_OK;
}

static qe_status visit_branch(qe_guided *walk, int32_t at, int32_t branch, const qe_guided_visitor *visitor) {
  qe_guided_place place;
  bool changed = false;
  QE_TRY(qe_guided_find(walk, at, branch, &place));
  if (walk->teacher.network) QE_TRY(qe_guided_advance(walk, place.teacher_at));
  QE_TRY(visitor->branch(visitor->context, walk, &place, &changed));
  if (changed) {
    qe_network_prove_layer(walk->network, (size_t)place.conv);
    QE_TRY(qe_trace_run(&walk->student, place.conv));
  }
  qe_network_prove_layer(walk->network, (size_t)at);
  return QE_OK;
}

static qe_status visit(qe_guided *walk, int32_t at, const qe_guided_visitor *visitor) {
  const qe_network_layer *layer = &walk->network->layer[at];
  if (!layer->offset) return QE_OK;
  for (int32_t b = 0; visitor->branch && b < layer->inputs; b++)
    if (walk->network->layer[layer->input[b]].weight) QE_TRY(visit_branch(walk, at, b, visitor));
  return visitor->requantiser ? visitor->requantiser(visitor->context, walk, at) : QE_OK;
}

static qe_status go(qe_guided *walk, const qe_guided_visitor *visitor) {
  for (int32_t at = 0; at < (int32_t)walk->network->layers; at++) {
    QE_TRY(visit(walk, at, visitor));
    QE_TRY(qe_trace_run(&walk->student, at));
    qe_trace_forget(&walk->student, at);
  }
  return QE_OK;
}

qe_status qe_guided_walk(qe_queue *queue, qe_network *student, const qe_network *teacher, qe_buffer *pixels,
                         int32_t images, const qe_guided_visitor *visitor) {
  qe_guided walk = {.network = student};
  QE_TRY(qe_trace_open(&walk.student, queue, student, pixels, images));
  qe_status status = QE_OK;
  if (teacher) status = qe_trace_open(&walk.teacher, queue, teacher, pixels, images);
  if (status == QE_OK) status = go(&walk, visitor);
  if (teacher) qe_trace_close(&walk.teacher);
  qe_trace_close(&walk.student);
  return status;
}
