/* Integer networks as data: memory, proven ranges, cost, text. Their check is in network_check.c. */
#include "core/dispatch/network.h"

#include "core/base/alloc.h"
#include "core/dispatch/network_parts.h"

#include <string.h>

enum { NARROW_SHIFT = 31 };

void qe_network_layer_clear(qe_network_layer *layer) {
  qe_free(layer->name);
  qe_free(layer->weight);
  qe_free(layer->multiplier[0]);
  qe_free(layer->multiplier[1]);
  qe_free(layer->offset);
  memset(layer, 0, sizeof *layer);
}

qe_status qe_network_add(qe_network *network, const qe_network_layer *layer) {
  QE_TRY(qe_reserve(&network->layer, &network->capacity, network->layers + 1, sizeof *layer));
  network->layer[network->layers++] = *layer;
  return QE_OK;
}

void qe_network_free(qe_network *network) {
  if (!network) return;
  for (size_t i = 0; i < network->layers; i++) qe_network_layer_clear(&network->layer[i]);
  qe_free(network->layer);
  qe_free(network);
}

static void *copy_of(const void *memory, size_t bytes, bool *failed) {
  if (!memory) return NULL;
  void *copy = qe_alloc(bytes);
  if (copy)
    memcpy(copy, memory, bytes);
  else
    *failed = true;
  return copy;
}

static qe_status copy_layer(const qe_network_layer *from, qe_network *to) {
  qe_network_layer layer = *from;
  size_t channels = (size_t)from->output.dim[QE_C];
  bool failed = false;
  layer.name = copy_of(from->name, strlen(from->name) + 1, &failed);
  layer.weight = copy_of(from->weight, qe_bytes(&from->weight_desc), &failed);
  for (int b = 0; b < 2; b++) layer.multiplier[b] = copy_of(from->multiplier[b], channels * sizeof(int32_t), &failed);
  layer.offset = copy_of(from->offset, channels * sizeof(int64_t), &failed);
  qe_status status = failed ? QE_NO_MEMORY : qe_network_add(to, &layer);
  if (status != QE_OK) qe_network_layer_clear(&layer);
  return status;
}

qe_status qe_network_copy(const qe_network *network, qe_network **copy) {
  qe_network *made = QE_NEW(qe_network);
  qe_status status = made ? QE_OK : QE_NO_MEMORY;
  for (size_t i = 0; status == QE_OK && i < network->layers; i++) status = copy_layer(&network->layer[i], made);
  if (status == QE_OK)
    *copy = made;
  else
    qe_network_free(made);
  return status;
}

static bool same_memory(const void *a, const void *b, size_t bytes) {
  return (!a && !b) || (a && b && memcmp(a, b, bytes) == 0);
}

bool qe_network_same_layer(const qe_network_layer *a, const qe_network_layer *b) {
  const qe_attrs *x = &a->attrs, *y = &b->attrs;
  size_t channels = (size_t)a->output.dim[QE_C];
  bool same = a->op == b->op && a->inputs == b->inputs && qe_same_desc(&a->output, &b->output) && a->low == b->low &&
              a->high == b->high && memcmp(&x->window, &y->window, sizeof x->window) == 0 &&
              memcmp(&x->requant, &y->requant, sizeof x->requant) == 0 &&
              memcmp(x->pad_channels, y->pad_channels, sizeof x->pad_channels) == 0;
  for (int k = 0; same && k < a->inputs; k++) same = a->input[k] == b->input[k];
  for (int k = 0; same && k < 2; k++)
    same = same_memory(a->multiplier[k], b->multiplier[k], channels * sizeof *a->multiplier[k]);
  return same && same_memory(a->offset, b->offset, channels * sizeof *a->offset) &&
         (!a->weight || !b->weight || qe_same_desc(&a->weight_desc, &b->weight_desc)) &&
         same_memory(a->weight, b->weight, a->weight ? qe_bytes(&a->weight_desc) : 0);
}

/* ---- ranges ---- */

void qe_sum_range(const int8_t *weight, int64_t count, int64_t low, int64_t high, int64_t *least, int64_t *most) {
  enum { BLOCK = 1 << 16 }; /* whose sums fit 32 bits, which vectors add faster */
  int64_t above = 0, below = 0;
  for (int64_t start = 0; start < count; start += BLOCK) {
    int64_t stop = count - start < BLOCK ? count : start + BLOCK;
    int32_t positive = 0, negative = 0;
    for (int64_t i = start; i < stop; i++) {
      positive += weight[i] > 0 ? weight[i] : 0;
      negative += weight[i] < 0 ? weight[i] : 0;
    }
    above += positive;
    below += negative;
  }
  if (low > 0) low = 0; /* padding */
  if (high < 0) high = 0;
  *least = above * low + below * high;
  *most = above * high + below * low;
}

static uint64_t magnitude(int64_t value) {
  return value < 0 ? -(uint64_t)value : (uint64_t)value;
}

/* Each sum's magnitudes together, so that the order in which they are added does not matter. */
qe_sum_width qe_requant_width(const qe_network_layer *layer, const int32_t *const multiplier[2], const int64_t *offset,
                              const int64_t reach[2]) {
  bool narrow = layer->attrs.requant.shift <= NARROW_SHIFT;
  for (int32_t c = 0; c < layer->output.dim[QE_C]; c++) {
    uint64_t sum = magnitude(offset[c]);
    for (int b = 0; b < layer->inputs; b++) {
      uint64_t m = magnitude(multiplier[b][c]), product;
      if (m > INT16_MAX) narrow = false;
      if (__builtin_mul_overflow((uint64_t)reach[b], m, &product) || __builtin_add_overflow(sum, product, &sum))
        return QE_SUM_OVERFLOWS;
    }
    if (sum > INT64_MAX) return QE_SUM_OVERFLOWS;
    if (sum > INT32_MAX) narrow = false;
  }
  return narrow ? QE_SUM_NARROW : QE_SUM_WIDE;
}

int64_t qe_network_reach(const qe_network *network, size_t tensor) {
  const qe_network_layer *layer = &network->layer[tensor];
  int64_t low = layer->low, high = layer->high;
  return -low > high ? -low : high;
}

qe_sum_width qe_network_width(const qe_network *network, size_t at) {
  const qe_network_layer *layer = &network->layer[at];
  const int32_t *const multiplier[2] = {layer->multiplier[0], layer->multiplier[1]};
  int64_t reach[2] = {0};
  for (int b = 0; b < layer->inputs; b++) reach[b] = qe_network_reach(network, (size_t)layer->input[b]);
  return qe_requant_width(layer, multiplier, layer->offset, reach);
}

static void prove_sums(const qe_network *network, qe_network_layer *layer) {
  const qe_network_layer *source = &network->layer[layer->input[0]];
  int32_t outputs = layer->weight_desc.dim[QE_N];
  int64_t each = qe_count(&layer->weight_desc) / outputs, lowest = 0, highest = 0;
  for (int32_t o = 0; o < outputs; o++) {
    int64_t low, high;
    qe_sum_range(layer->weight + o * each, each, source->low, source->high, &low, &high);
    if (low < lowest) lowest = low;
    if (high > highest) highest = high;
  }
  layer->low = (int32_t)lowest; /* the shape rule of int_conv2d keeps them in 32 bits */
  layer->high = (int32_t)highest;
}

/* At the edge a window may hold one code only. */
static void prove_pool(const qe_network *network, qe_network_layer *layer) {
  const qe_network_layer *source = &network->layer[layer->input[0]];
  int32_t window = layer->attrs.window.kernel[0] * layer->attrs.window.kernel[1];
  layer->low = source->low < 0 ? source->low * window : source->low;
  layer->high = source->high > 0 ? source->high * window : source->high;
}

static void prove_moved(const qe_network *network, qe_network_layer *layer) {
  const qe_network_layer *source = &network->layer[layer->input[0]];
  bool padded = layer->op == QE_OP_int_subsample;
  layer->low = padded && source->low > 0 ? 0 : source->low;
  layer->high = padded && source->high < 0 ? 0 : source->high;
}

void qe_network_prove_layer(qe_network *network, size_t at) {
  qe_network_layer *layer = &network->layer[at];
  qe_requant *requant = &layer->attrs.requant;
  if (layer->weight) {
    prove_sums(network, layer);
  } else if (layer->offset) { /* logits are made once an image: nothing is gained by narrow ones */
    requant->narrow = qe_network_width(network, at) == QE_SUM_NARROW && requant->to != QE_S32;
    layer->low = requant->low;
    layer->high = requant->high;
  } else if (layer->op == QE_OP_int_sum_pool) {
    prove_pool(network, layer);
  } else if (layer->inputs) {
    prove_moved(network, layer);
  } else {
    layer->low = INT8_MIN;
    layer->high = INT8_MAX;
  }
}

void qe_network_prove(qe_network *network) {
  for (size_t i = 0; i < network->layers; i++) qe_network_prove_layer(network, i);
}

/* ---- cost and text ---- */

int64_t qe_network_macs(const qe_network *network, size_t layer) {
  const qe_network_layer *at = &network->layer[layer];
  return at->weight ? qe_count(&at->weight_desc) * at->output.dim[QE_H] * at->output.dim[QE_W] : 0;
}

int32_t qe_network_bits(const qe_network *network, size_t tensor) {
  const qe_network_layer *layer = &network->layer[tensor];
  int64_t codes = (int64_t)layer->high - layer->low + 1;
  int32_t bits = 0;
  while (INT64_C(1) << bits < codes) bits++;
  return bits > 0 ? bits : 1;
}

void qe_network_dump(const qe_network *network, FILE *file) {
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    char text[QE_DESC_TEXT];
    fprintf(file, "%zu %s = %s(", i, layer->name, qe_op_get_info(layer->op)->name);
    for (int k = 0; k < layer->inputs; k++) fprintf(file, "%s%d", k ? ", " : "", layer->input[k]);
    fprintf(file, ") %s %d...%d", qe_desc_text(&layer->output, text), layer->low, layer->high);
    if (layer->weight) fprintf(file, " weight_bits=%d", layer->grid.bits);
    if (layer->offset)
      fprintf(file, " shift=%d %s", layer->attrs.requant.shift, layer->attrs.requant.narrow ? "narrow" : "wide");
    fputc('\n', file);
  }
}

qe_status qe_network_takes(const qe_network *network, const char *who, int height, int width, int channels,
                           int classes) {
  const int32_t *image = network->layer[0].output.dim;
  int32_t own = network->layer[network->layers - 1].output.dim[QE_C];
  if (image[QE_H] == height && image[QE_W] == width && image[QE_C] == channels && own == classes) return QE_OK;
  return qe_fail(QE_SHAPE,
                 "%s takes %dx%dx%d images of %d classes, the data are %dx%dx%d of %d: choose other --data (of a "
                 "folder: another --image-size)",
                 who, image[QE_H], image[QE_W], image[QE_C], own, height, width, channels, classes);
}
