/* A network cut behind one of its layers. Layer 0 of the rest gathers images as every network does, so codes come as
 * pixel - 128: a requantiser that adds 128 gives them back. Where several tensors lie side by side in an image, a
 * convolution by a unit matrix takes each one out. */
#include "core/evolve/cut.h"

#include "core/base/alloc.h"

#include <string.h>

enum { CODE_ZERO = 128 };

/* ---- which tensors are kept ---- */

static bool is_read_behind(const qe_network *network, int32_t tensor, int32_t at) {
  for (size_t i = (size_t)at + 1; i < network->layers; i++)
    for (int k = 0; k < network->layer[i].inputs; k++)
      if (network->layer[i].input[k] == tensor) return true;
  return false;
}

static qe_status keep(qe_cut *cut, const qe_network *network, int32_t tensor) {
  const qe_network_layer *layer = &network->layer[tensor];
  const qe_desc *desc = &layer->output, *first = &network->layer[cut->tensor[0]].output;
  if (desc->dtype != QE_U8) return qe_fail(QE_REFUSED, "the network cannot be cut: %s gives no u8 codes", layer->name);
  if (desc->dim[QE_H] != first->dim[QE_H] || desc->dim[QE_W] != first->dim[QE_W])
    return qe_fail(QE_REFUSED, "the network cannot be cut: %s has another height or width", layer->name);
  if (cut->tensors == QE_CUT_TENSORS)
    return qe_fail(QE_REFUSED, "the network cannot be cut: more than %d tensors cross", QE_CUT_TENSORS);
  cut->tensor[cut->tensors++] = tensor;
  cut->desc.dim[QE_C] += desc->dim[QE_C];
  return QE_OK;
}

static qe_status find_tensors(qe_cut *cut, const qe_network *network, int32_t at) {
  cut->tensor[0] = at;
  cut->desc = network->layer[at].output;
  cut->desc.dim[QE_C] = 0;
  QE_TRY(keep(cut, network, at));
  for (int32_t i = 0; i < at; i++)
    if (is_read_behind(network, i, at)) QE_TRY(keep(cut, network, i));
  return QE_OK;
}

/* ---- the rest ---- */

static void *copy_of(const void *from, size_t bytes) {
  void *to = from ? qe_alloc(bytes) : NULL;
  if (to) memcpy(to, from, bytes);
  return to;
}

static qe_status add_layer(qe_network *rest, qe_network_layer *layer) {
  qe_status status = layer->name ? qe_network_add(rest, layer) : QE_NO_MEMORY;
  if (status != QE_OK) qe_network_layer_clear(layer);
  return status;
}

/* A layer behind the cut; `now` [layers]: numbers of tensors in the rest. */
static qe_status add_copy(qe_network *rest, const qe_network_layer *from, const int32_t *now) {
  qe_network_layer layer = *from;
  size_t channels = (size_t)from->output.dim[QE_C];
  layer.name = qe_strdup(from->name);
  layer.weight = copy_of(from->weight, from->weight ? qe_bytes(&from->weight_desc) : 0);
  layer.offset = copy_of(from->offset, channels * sizeof *from->offset);
  bool complete = !from->weight == !layer.weight && !from->offset == !layer.offset;
  for (int k = 0; k < 2; k++) {
    layer.multiplier[k] = copy_of(from->multiplier[k], channels * sizeof *from->multiplier[k]);
    complete = complete && !from->multiplier[k] == !layer.multiplier[k];
    if (k < layer.inputs) layer.input[k] = now[from->input[k]];
  }
  if (complete) return add_layer(rest, &layer);
  qe_network_layer_clear(&layer);
  return QE_NO_MEMORY;
}

/* Codes from first...first + channels - 1 of the images, as sums. */
static qe_status add_slice(const qe_cut *cut, const qe_network_layer *from, int32_t first) {
  int32_t channels = from->output.dim[QE_C], all = cut->desc.dim[QE_C];
  qe_network_layer layer = {.op = QE_OP_int_conv2d, .inputs = 1, .input = {0}};
  qe_desc desc[QE_MAX_OPERANDS];
  layer.attrs.window =
      (qe_window){.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .channels = channels};
  layer.grid = (qe_code_grid){.bits = 2, .low = -2, .spacing = 1, .high = 1};
  QE_TRY(qe_op_shapes(layer.op, &layer.attrs, &cut->rest->layer[0].output, desc));
  layer.weight_desc = desc[1];
  layer.output = desc[2];
  layer.weight = qe_calloc((size_t)qe_count(&desc[1]), 1);
  layer.name = qe_strdup("slice");
  if (!layer.weight) {
    qe_network_layer_clear(&layer);
    return QE_NO_MEMORY;
  }
  for (int32_t c = 0; c < channels; c++) layer.weight[(int64_t)c * all + first + c] = 1;
  return add_layer(cut->rest, &layer);
}

/* The codes of one kept tensor, as they were, from the images. */
static qe_status add_source(const qe_cut *cut, const qe_network *network, int which, int32_t first) {
  const qe_network_layer *from = &network->layer[cut->tensor[which]];
  size_t channels = (size_t)from->output.dim[QE_C];
  if (cut->tensors > 1) QE_TRY(add_slice(cut, from, first));
  qe_network_layer layer = {.op = QE_OP_int_requant, .inputs = 1, .output = from->output};
  layer.input[0] = (int32_t)cut->rest->layers - 1;
  layer.attrs.requant = (qe_requant){.low = from->low, .high = from->high, .to = QE_U8};
  layer.attrs.requant.from = cut->rest->layer[layer.input[0]].output.dtype;
  layer.name = qe_strdup(from->name);
  layer.multiplier[0] = QE_NEW_ARRAY(int32_t, channels);
  layer.offset = QE_NEW_ARRAY(int64_t, channels);
  if (!layer.multiplier[0] || !layer.offset) {
    qe_network_layer_clear(&layer);
    return QE_NO_MEMORY;
  }
  for (size_t c = 0; c < channels; c++) {
    layer.multiplier[0][c] = 1;
    layer.offset[c] = CODE_ZERO;
  }
  return add_layer(cut->rest, &layer);
}

static qe_status build(qe_cut *cut, const qe_network *network, int32_t at, int32_t *now) {
  qe_network_layer gather = {.op = QE_OP_int_gather, .output = cut->desc, .low = -CODE_ZERO, .high = CODE_ZERO - 1};
  gather.output.dtype = QE_S8;
  gather.name = qe_strdup("codes");
  QE_TRY(add_layer(cut->rest, &gather));
  int32_t first = 0;
  for (int k = 0; k < cut->tensors; k++) {
    QE_TRY(add_source(cut, network, k, first));
    now[cut->tensor[k]] = (int32_t)cut->rest->layers - 1;
    first += network->layer[cut->tensor[k]].output.dim[QE_C];
  }
  for (size_t i = (size_t)at + 1; i < network->layers; i++) {
    QE_TRY(add_copy(cut->rest, &network->layer[i], now));
    now[i] = (int32_t)cut->rest->layers - 1;
  }
  qe_network_prove(cut->rest);
  return qe_network_check(cut->rest);
}

qe_status qe_cut_new(const qe_network *network, int32_t at, qe_cut *cut) {
  *cut = (qe_cut){0};
  qe_status status = find_tensors(cut, network, at);
  if (status != QE_OK) return status;
  int32_t *now = QE_NEW_ARRAY(int32_t, network->layers);
  cut->rest = QE_NEW(qe_network);
  status = now && cut->rest ? build(cut, network, at, now) : QE_NO_MEMORY;
  qe_free(now);
  if (status != QE_OK) qe_cut_free(cut);
  return status;
}

void qe_cut_free(qe_cut *cut) {
  qe_network_free(cut->rest);
  *cut = (qe_cut){0};
}

void qe_cut_join(const qe_cut *cut, const qe_network *network, int which, const uint8_t *codes, int64_t images,
                 uint8_t *to) {
  int64_t channels = network->layer[cut->tensor[which]].output.dim[QE_C], all = cut->desc.dim[QE_C], first = 0;
  for (int k = 0; k < which; k++) first += network->layer[cut->tensor[k]].output.dim[QE_C];
  int64_t pixels = images * cut->desc.dim[QE_H] * cut->desc.dim[QE_W];
  for (int64_t i = 0; i < pixels; i++) memcpy(to + i * all + first, codes + i * channels, (size_t)channels);
}
