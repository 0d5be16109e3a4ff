/* The integer network as a program: one call a layer, then the integer loss. A tensor is made once for all candidates
 * until a layer that varies comes. */
#include "core/dispatch/network_program.h"

#include "core/base/alloc.h"

#include <string.h>

/* ---- constants ---- */

qe_constant qe_network_constant(const qe_network_layer *layer, int which) {
  int32_t channels = layer->output.dim[QE_C];
  if (which == 0) return (qe_constant){layer->weight, layer->weight_desc};
  if (which < QE_NETWORK_CONSTANTS - 1) return (qe_constant){layer->multiplier[which - 1], qe_vector(QE_S32, channels)};
  return (qe_constant){layer->offset, qe_vector(QE_S64, channels)};
}

size_t qe_network_place_constants(const qe_network *network, int32_t population, qe_constant_places *places) {
  size_t bytes = 0;
  for (size_t i = 0; i < network->layers; i++)
    for (int k = 0; k < QE_NETWORK_CONSTANTS; k++) {
      qe_constant constant = qe_network_constant(&network->layer[i], k);
      places[i].at[k] = bytes;
      if (!constant.data) continue;
      size_t needed = qe_bytes(&constant.desc) * (size_t)population;
      bytes += (needed + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
    }
  return bytes;
}

/* ---- calls ---- */

typedef struct emitter {
  const qe_network_part *part;
  qe_program *program;
  qe_value *tensor;    /* of each layer; -1: not there yet */
  int32_t *population; /* that each tensor is made for */
} emitter;

static qe_desc desc_for(const emitter *e, size_t layer) {
  qe_desc desc = e->part->network->layer[layer].output;
  desc.dim[QE_P] = e->population[layer];
  desc.dim[QE_N] = e->part->batch;
  return desc;
}

/* A layer's tensor: in the caller's memory where the part says so. */
static qe_status make_tensor(emitter *e, size_t layer) {
  const qe_tensor_place *place = &e->part->tensor[layer];
  const char *name = e->part->network->layer[layer].name;
  qe_desc desc = desc_for(e, layer);
  return place->buffer ? qe_program_bind(e->program, name, desc, place->buffer, place->offset, &e->tensor[layer])
                       : qe_program_temp(e->program, name, desc, &e->tensor[layer]);
}

/* An input as the layer's op wants its shape: flattening is a view. */
static qe_status input_of(emitter *e, const qe_network_layer *layer, int which, qe_value *value) {
  int32_t source = layer->input[which];
  if (e->tensor[source] < 0) QE_TRY(make_tensor(e, (size_t)source));
  *value = e->tensor[source];
  if (!layer->weight) return QE_OK;
  qe_desc desc = qe_program_desc(e->program, *value);
  int32_t inputs = layer->weight_desc.dim[QE_C] * layer->attrs.window.groups;
  if (desc.dim[QE_C] == inputs) return QE_OK;
  desc.dim[QE_H] = desc.dim[QE_W] = 1;
  desc.dim[QE_C] = inputs;
  return qe_program_view(e->program, *value, "flat", desc, value);
}

static qe_status bind_constant(emitter *e, size_t at, int which, qe_value *value) {
  const qe_network_part *part = e->part;
  const qe_network_layer *layer = &part->network->layer[at];
  bool shared = e->population[at] == 1 && !part->varies[at];
  qe_desc desc = qe_network_constant(layer, which).desc;
  desc.dim[QE_P] = e->population[at];
  size_t offset = (shared ? part->shared_place : part->own_place)[at].at[which];
  return qe_program_bind(e->program, layer->name, desc, shared ? part->shared : part->own, offset, value);
}

/* Operands come as input, constant, input, constant, ..., remaining constants, output. */
static qe_status call_layer(emitter *e, size_t at, const qe_attrs *attrs) {
  const qe_network_layer *layer = &e->part->network->layer[at];
  qe_value values[QE_MAX_OPERANDS], bound[QE_NETWORK_CONSTANTS];
  int constants = 0, used = 0;
  for (int k = 0; k < QE_NETWORK_CONSTANTS; k++)
    if (qe_network_constant(layer, k).data) QE_TRY(bind_constant(e, at, k, &bound[constants++]));
  for (int k = 0; k < layer->inputs; k++) {
    QE_TRY(input_of(e, layer, k, &values[used++]));
    if (k < constants) values[used++] = bound[k];
  }
  for (int k = layer->inputs; k < constants; k++) values[used++] = bound[k];
  QE_TRY(make_tensor(e, at));
  values[used] = e->tensor[at];
  return qe_program_call(e->program, layer->op, attrs, values);
}

static qe_status emit_layer(emitter *e, size_t at) {
  const qe_network_part *part = e->part;
  const qe_network_layer *layer = &part->network->layer[at];
  bool varies = part->varies[at];
  for (int k = 0; k < layer->inputs; k++) varies = varies || e->population[layer->input[k]] > 1;
  e->population[at] = varies ? part->population : 1;
  qe_attrs attrs = layer->attrs;
  attrs.population = e->population[at];
  if (layer->offset) {
    attrs.requant.narrow = part->narrow[at];
    attrs.requant.shared = layer->inputs == 2 && e->population[layer->input[1]] == 1;
  }
  qe_status status = call_layer(e, at, &attrs);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "integer layer %s", layer->name);
}

static qe_status emit_loss(emitter *e) {
  const qe_network_part *part = e->part;
  size_t last = part->network->layers - 1;
  qe_desc row = qe_map(QE_S32, part->batch, 1, 1, 1), rows = row;
  rows.dim[QE_P] = e->population[last];
  qe_attrs attrs = {.population = e->population[last]};
  qe_value label, loss, hits;
  QE_TRY(qe_program_bind(e->program, "labels", row, part->labels, 0, &label));
  QE_TRY(qe_program_bind(e->program, "loss", rows, part->loss, 0, &loss));
  QE_TRY(qe_program_bind(e->program, "hits", rows, part->hits, 0, &hits));
  qe_program_keep(e->program, e->tensor[last]);
  return qe_program_call(e->program, QE_OP_int_loss, &attrs, (qe_value[]){e->tensor[last], label, loss, hits});
}

qe_status qe_network_program_add(qe_program *program, const qe_network_part *part, qe_value *tensor,
                                 int32_t *population) {
  emitter e = {part, program, tensor, population};
  for (int32_t i = 0; i < part->stop; i++)
    if (population[i] < 1) population[i] = 1;
  for (int32_t i = part->start; i < part->stop; i++) QE_TRY(emit_layer(&e, (size_t)i));
  return (size_t)part->stop == part->network->layers && part->labels ? emit_loss(&e) : QE_OK;
}

qe_status qe_network_program_new(qe_device *device, const qe_network_part *part, qe_program **program, qe_value *logits,
                                 int32_t *population) {
  size_t layers = part->network->layers;
  qe_program *made = NULL;
  qe_value *tensor = QE_NEW_ARRAY(qe_value, layers);
  int32_t *made_for = QE_NEW_ARRAY(int32_t, layers);
  qe_status status = tensor && made_for ? qe_program_new(device, "integer network", &made) : QE_NO_MEMORY;
  for (size_t i = 0; tensor && i < layers; i++) tensor[i] = -1;
  if (status == QE_OK) status = qe_network_program_add(made, part, tensor, made_for);
  if (status == QE_OK) {
    *program = made;
    *population = made_for[part->stop - 1];
    if (logits) *logits = tensor[part->stop - 1];
  } else {
    qe_program_free(made);
  }
  qe_free(tensor);
  qe_free(made_for);
  return status;
}
