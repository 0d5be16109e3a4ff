/* Stages of an integer network: which layers go into one kernel together. */
#include "core/dispatch/stages.h"

#include "core/base/alloc.h"

#include <string.h>

/* ---- what can be cut into stages ---- */

static bool is_requant(const qe_network_layer *layer) {
  return layer->op == QE_OP_int_requant || layer->op == QE_OP_int_requant_add;
}

static bool makes_sums(const qe_network_layer *layer) {
  return layer->op == QE_OP_int_conv2d || layer->op == QE_OP_int_sum_pool;
}

static int readers_of(const qe_network *network, int32_t tensor, int32_t *last) {
  int readers = 0;
  for (size_t i = 0; i < network->layers; i++)
    for (int k = 0; k < network->layer[i].inputs; k++)
      if (network->layer[i].input[k] == tensor) {
        readers++;
        *last = (int32_t)i;
      }
  return readers;
}

/* A linear layer on a flattened map is a convolution whose kernel is the whole map. */
static bool is_flattened(const qe_network *network, const qe_network_layer *layer) {
  if (layer->op != QE_OP_int_conv2d) return false;
  const qe_desc *from = &network->layer[layer->input[0]].output;
  return from->dim[QE_C] != layer->weight_desc.dim[QE_C] * layer->attrs.window.groups;
}

static const char *refuse_layer(const qe_network *network, int32_t at) {
  const qe_network_layer *layer = &network->layer[at];
  int32_t reader = QE_NO_LAYER;
  int readers = readers_of(network, at, &reader);
  if (makes_sums(layer) && (readers != 1 || !is_requant(&network->layer[reader])))
    return "sums that are not read by one requantiser";
  if (is_requant(layer)) {
    int sums = 0, pools = 0;
    for (int k = 0; k < layer->inputs; k++) {
      sums += makes_sums(&network->layer[layer->input[k]]);
      pools += network->layer[layer->input[k]].op == QE_OP_int_sum_pool;
    }
    if (sums == 2 && pools) return "a pool's sums that meet other sums";
    if (layer->output.dtype == QE_S32 && (size_t)at + 1 != network->layers)
      return "a requantiser to s32 before the last layer";
  }
  const int32_t *pad = layer->attrs.window.pad;
  if (is_flattened(network, layer) && (pad[0] || pad[1] || pad[2] || pad[3])) return "a padded linear layer";
  return NULL;
}

const char *qe_stages_refuse(const qe_network *network) {
  for (size_t i = 0; i < network->layers; i++) {
    const char *why = refuse_layer(network, (int32_t)i);
    if (why) return why;
  }
  const qe_network_layer *last = &network->layer[network->layers - 1];
  if (!is_requant(last) || last->output.dtype != QE_S32 || last->output.dim[QE_H] != 1 || last->output.dim[QE_W] != 1)
    return "a network that does not end in a requantiser to logits";
  return NULL;
}

/* ---- layers to stages ---- */

/* Of a window that is no convolution's only what its op reads; the rest may hold anything. */
static void set_plain_window(const qe_network_layer *layer, qe_window *window) {
  bool pools = layer->op == QE_OP_int_sum_pool || layer->op == QE_OP_int_max_pool;
  window->dilation[0] = window->dilation[1] = window->groups = 1;
  window->channels = layer->output.dim[QE_C];
  if (pools) return;
  memset(window->pad, 0, sizeof window->pad);
  window->kernel[0] = window->kernel[1] = 1;
  if (layer->op != QE_OP_int_subsample) window->stride[0] = window->stride[1] = 1;
}

static qe_stage_source source_of(const qe_network *network, int32_t at) {
  const qe_network_layer *layer = &network->layer[at];
  qe_stage_source from = {.layer = at, .tensor = layer->input[0], .window = layer->attrs.window};
  if (layer->op != QE_OP_int_conv2d) set_plain_window(layer, &from.window);
  if (!is_flattened(network, layer)) return from;
  const qe_desc *in = &network->layer[from.tensor].output;
  for (int axis = 0; axis < 2; axis++) {
    from.window.kernel[axis] = in->dim[QE_H + axis];
    from.window.stride[axis] = from.window.dilation[axis] = 1;
  }
  return from;
}

static const qe_stage empty = {
    .from = {{.layer = QE_NO_LAYER, .tensor = QE_NO_LAYER}, {.layer = QE_NO_LAYER, .tensor = QE_NO_LAYER}},
    .requant = QE_NO_LAYER,
    .coarser = QE_NO_LAYER,
    .skip = QE_NO_LAYER,
    .output = {QE_NO_LAYER, QE_NO_LAYER}};

static qe_status push_stage(qe_stages *s, const qe_stage *stage) {
  QE_TRY(qe_reserve(&s->stage, &s->capacity, s->stages + 1, sizeof *stage));
  int32_t number = (int32_t)s->stages;
  s->stage[s->stages++] = *stage;
  const int32_t part[] = {stage->from[0].layer, stage->from[1].layer, stage->requant, stage->coarser};
  for (size_t k = 0; k < sizeof part / sizeof *part; k++)
    if (part[k] != QE_NO_LAYER) s->stage_of[part[k]] = number;
  const int32_t read[] = {stage->from[0].tensor, stage->from[1].tensor, stage->skip};
  for (size_t k = 0; k < sizeof read / sizeof *read; k++)
    if (read[k] != QE_NO_LAYER) s->reader[read[k]] = number;
  return QE_OK;
}

/* Whether `layer` gives the codes of `of`, coarsened by a shift with halves up. */
static bool is_coarser(const qe_stages *s, const bool *evolves, int32_t layer, int32_t of) {
  const qe_network_layer *l = &s->network->layer[layer];
  const qe_requant *requant = &l->attrs.requant;
  if (l->op != QE_OP_int_requant || l->input[0] != of || l->output.dtype == QE_S32) return false;
  if (requant->shift > 8 || (evolves && evolves[layer])) return false;
  int64_t half = requant->shift > 0 ? INT64_C(1) << (requant->shift - 1) : 0;
  for (int32_t c = 0; c < l->output.dim[QE_C]; c++)
    if (l->multiplier[0][c] != 1 || l->offset[c] != half) return false;
  return true;
}

static void set_outputs(const qe_stages *s, const bool *evolves, qe_stage *stage) {
  int32_t layers = (int32_t)s->network->layers, only;
  if (s->network->layer[stage->requant].output.dtype == QE_S32) return;
  for (int32_t q = stage->requant + 1; q < layers && stage->coarser == QE_NO_LAYER; q++)
    if (is_coarser(s, evolves, q, stage->requant)) stage->coarser = stage->output[1] = q;
  if (stage->coarser == QE_NO_LAYER || readers_of(s->network, stage->requant, &only) > 1)
    stage->output[0] = stage->requant;
}

/* A requantiser with what it reads: sums and codes, two sums, or codes alone. */
static qe_stage requant_stage(const qe_stages *s, const bool *evolves, int32_t at) {
  const qe_network_layer *layer = &s->network->layer[at];
  qe_stage stage = empty;
  int sums = 0;
  stage.kind = QE_STAGE_LOAD;
  stage.requant = at;
  for (int k = 0; k < layer->inputs; k++) {
    const qe_network_layer *source = &s->network->layer[layer->input[k]];
    if (!makes_sums(source)) continue;
    if (sums == 0) stage.sums_branch = k;
    stage.kind = source->op == QE_OP_int_conv2d ? QE_STAGE_CONV : QE_STAGE_SUM_POOL;
    stage.from[sums++] = source_of(s->network, layer->input[k]);
  }
  if (stage.kind == QE_STAGE_LOAD) stage.from[0] = source_of(s->network, at);
  if (layer->inputs == 2 && sums < 2) stage.skip = layer->input[1 - stage.sums_branch];
  set_outputs(s, evolves, &stage);
  return stage;
}

static qe_stage move_stage(const qe_stages *s, int32_t at) {
  const qe_network_layer *layer = &s->network->layer[at];
  qe_stage stage = empty;
  stage.kind = layer->op == QE_OP_int_gather     ? QE_STAGE_GATHER
               : layer->op == QE_OP_int_max_pool ? QE_STAGE_MAX_POOL
                                                 : QE_STAGE_SUBSAMPLE;
  stage.from[0].layer = at;
  if (layer->inputs) stage.from[0] = source_of(s->network, at);
  stage.output[0] = at;
  return stage;
}

static qe_status fill(qe_stages *s, const bool *evolves) {
  size_t layers = s->network->layers;
  s->stage_of = QE_NEW_ARRAY(int32_t, layers);
  s->reader = QE_NEW_ARRAY(int32_t, layers);
  if (!s->stage_of || !s->reader) return QE_NO_MEMORY;
  for (size_t i = 0; i < layers; i++) s->stage_of[i] = s->reader[i] = QE_NO_LAYER;
  for (int32_t i = 0; i < (int32_t)layers; i++) {
    const qe_network_layer *layer = &s->network->layer[i];
    if (s->stage_of[i] != QE_NO_LAYER || makes_sums(layer)) continue; /* they go with their requantiser */
    qe_stage stage = is_requant(layer) ? requant_stage(s, evolves, i) : move_stage(s, i);
    QE_TRY(push_stage(s, &stage));
  }
  return QE_OK;
}

qe_status qe_stages_new(const qe_network *network, const bool *evolves, qe_stages **stages) {
  qe_stages *s = QE_NEW(qe_stages);
  if (!s) return QE_NO_MEMORY;
  s->network = network;
  qe_status status = fill(s, evolves);
  if (status == QE_OK)
    *stages = s;
  else
    qe_stages_free(s);
  return status;
}

void qe_stages_free(qe_stages *s) {
  if (!s) return;
  qe_free(s->stage);
  qe_free(s->stage_of);
  qe_free(s->reader);
  qe_free(s);
}
