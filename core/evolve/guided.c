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

/* The first requantiser that reads a tensor, and by which branch. */
static bool find_reader(const qe_network *network, int32_t tensor, int32_t *at, int32_t *branch) {
  for (int32_t i = tensor + 1; i < (int32_t)network->layers; i++)
    for (int k = 0; network->layer[i].offset && k < network->layer[i].inputs; k++)
      if (network->layer[i].input[k] == tensor) {
        *at = i;
        *branch = k;
        return true;
      }
  return false;
}

static qe_status find_place(const qe_guided *walk, int32_t at, int branch, qe_guided_place *place) {
  const qe_network_layer *conv = &walk->network->layer[walk->network->layer[at].input[branch]];
  *place = (qe_guided_place){.conv = walk->network->layer[at].input[branch], .at = at, .branch = branch};
  place->teacher_conv = place->teacher_at = place->teacher_branch = -1;
  if (!walk->teacher.network) return QE_OK;
  place->teacher_conv = find_twin(walk->teacher.network, conv);
  if (place->teacher_conv >= 0 &&
      find_reader(walk->teacher.network, place->teacher_conv, &place->teacher_at, &place->teacher_branch))
    return QE_OK;
  return qe_fail(QE_USAGE, "the teacher has no layer %s of the same shape: it must be a network of the same model",
                 conv->name);
}

/* Run the teacher up to what meets in its requantiser `at`. */
static qe_status advance_teacher(qe_guided *walk, int32_t *next, int32_t at) {
  for (; *next < at; (*next)++) {
    QE_TRY(qe_trace_run(&walk->teacher, *next));
    qe_trace_forget(&walk->teacher, *next);
  }
  return QE_OK;
}

static qe_status visit_branch(qe_guided *walk, int32_t at, int branch, int32_t *teacher_next, qe_guided_visit visit,
                              void *context) {
  qe_guided_place place;
  bool changed = false;
  QE_TRY(find_place(walk, at, branch, &place));
  if (walk->teacher.network) QE_TRY(advance_teacher(walk, teacher_next, place.teacher_at));
  QE_TRY(visit(context, walk, &place, &changed));
  if (changed) {
    qe_network_prove_layer(walk->network, (size_t)place.conv);
    QE_TRY(qe_trace_run(&walk->student, place.conv));
  }
  qe_network_prove_layer(walk->network, (size_t)at);
  return QE_OK;
}

static qe_status go(qe_guided *walk, qe_guided_visit visit, void *context) {
  int32_t teacher_next = 0;
  for (int32_t at = 0; at < (int32_t)walk->network->layers; at++) {
    const qe_network_layer *layer = &walk->network->layer[at];
    for (int b = 0; layer->offset && b < layer->inputs; b++)
      if (walk->network->layer[layer->input[b]].weight)
        QE_TRY(visit_branch(walk, at, b, &teacher_next, visit, context));
    QE_TRY(qe_trace_run(&walk->student, at));
    qe_trace_forget(&walk->student, at);
  }
  return QE_OK;
}

qe_status qe_guided_walk(qe_queue *queue, qe_network *student, const qe_network *teacher, qe_buffer *pixels,
                         int32_t images, qe_guided_visit visit, void *context) {
  qe_guided walk = {.network = student};
  QE_TRY(qe_trace_open(&walk.student, queue, student, pixels, images));
  qe_status status = QE_OK;
  if (teacher) status = qe_trace_open(&walk.teacher, queue, teacher, pixels, images);
  if (status == QE_OK) status = go(&walk, visit, context);
  if (teacher) qe_trace_close(&walk.teacher);
  qe_trace_close(&walk.student);
  return status;
}
