/* The engine `batched`, what a network fixes: tensors and how they lie, constants, kernels. */
#include "backends/portable/engine.h"

#include "core/base/alloc.h"
#include "core/dispatch/dispatch.h"

#include <stdlib.h>
#include <string.h>

enum { EIGHT = 8, ALIGNED = QE_ALIGNMENT };

static size_t aligned(size_t bytes) {
  return (bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
}

/* ---- constants: what evolves lies in the genomes, the rest once ---- */

static net_constant *constant_of_gene(net_engine *e, const qe_gene *gene) {
  net_constant *constant = e->constant[gene->layer];
  if (gene->kind == QE_GENE_WEIGHT) return &constant[NET_WEIGHT];
  if (gene->kind == QE_GENE_OFFSET) return &constant[NET_OFFSET];
  return &constant[gene->branch == 0 ? NET_M : NET_N];
}

/* All constants of the network are a genome in which everything evolves. */
static qe_status write_constants(net_engine *e, const qe_genome_layout *all) {
  char *values = qe_calloc(1, all->bytes + ALIGNED);
  qe_status status = values ? qe_buffer_new(e->queue->device, all->bytes + ALIGNED, &e->constants) : QE_NO_MEMORY;
  if (status == QE_OK) {
    qe_genome_from_network(all, e->network, values);
    status = qe_queue_write(e->queue, e->constants, 0, values, all->bytes + ALIGNED);
    qe_status waited = qe_queue_wait(e->queue);
    if (status == QE_OK) status = waited;
  }
  qe_free(values);
  return status;
}

static qe_status plan_constants(net_engine *e) {
  const qe_network *network = e->network;
  bool *evolves = QE_NEW_ARRAY(bool, network->layers);
  qe_genome_layout *all = NULL;
  if (!evolves) return QE_NO_MEMORY;
  for (size_t i = 0; i < network->layers; i++) evolves[i] = network->layer[i].weight || network->layer[i].offset;
  qe_status status = qe_genome_layout_new(network, evolves, &all);
  qe_free(evolves);
  QE_TRY(status);
  for (size_t i = 0; i < all->genes; i++)
    *constant_of_gene(e, &all->gene[i]) = (net_constant){.offset = all->gene[i].offset};
  for (size_t i = 0; i < e->layout->genes; i++)
    *constant_of_gene(e, &e->layout->gene[i]) = (net_constant){true, e->layout->gene[i].offset};
  e->constant_bytes = all->bytes + ALIGNED;
  status = write_constants(e, all);
  qe_genome_layout_free(all);
  return status;
}

/* ---- tensors ---- */

static int32_t bits_of(const qe_network_layer *layer) {
  int32_t least = layer->low < 0 ? layer->low : 0, most = layer->high, bits = 1;
  if (least < 0) { /* two's complement */
    while (least < -(1 << (bits - 1)) || most > (1 << (bits - 1)) - 1) bits *= 2;
    return bits;
  }
  while (most > (1 << bits) - 1) bits *= 2;
  return bits;
}

static void set_tensor(net_engine *e, int32_t layer) {
  const qe_network_layer *from = &e->network->layer[layer];
  net_tensor *tensor = &e->tensor[layer];
  tensor->map = (qk_net_map){.height = from->output.dim[QE_H],
                             .width = from->output.dim[QE_W],
                             .channels = from->output.dim[QE_C],
                             .bits = e->form == &net_rows && layer != 0 ? bits_of(from) : EIGHT,
                             .is_signed = from->low < 0,
                             .present = 1};
  tensor->written = e->stages->stage_of[layer];
  tensor->read = e->stages->reader[layer] < tensor->written ? tensor->written : e->stages->reader[layer];
  tensor->shared = tensor->written < e->first_evolving;
}

static void grow(int32_t *ring, int64_t reach) {
  if (reach > *ring) *ring = (int32_t)reach;
}

/* How far a convolution's windows reach beyond the tensor. */
static void set_ring(net_engine *e, const qe_stage_source *from) {
  const qe_desc *out = &e->network->layer[from->layer].output, *in = &e->network->layer[from->tensor].output;
  const qe_window *window = &from->window;
  for (int axis = 0; axis < 2; axis++) {
    int64_t last = (int64_t)(out->dim[QE_H + axis] - 1) * window->stride[axis] - window->pad[axis] +
                   (int64_t)(window->kernel[axis] - 1) * window->dilation[axis];
    grow(&e->tensor[from->tensor].ring[axis], window->pad[axis]);
    grow(&e->tensor[from->tensor].ring[2 + axis], last - (in->dim[QE_H + axis] - 1));
  }
}

static qe_status lay_out(net_engine *e, int32_t layer) {
  net_tensor *t = &e->tensor[layer];
  int64_t groups = (t->map.channels + EIGHT - 1) / EIGHT;
  int64_t pixel = e->form == &net_rows ? groups * t->map.bits : (int64_t)t->map.channels * e->form->unit;
  int64_t row = pixel * (t->map.width + t->ring[1] + t->ring[3]);
  int64_t unit = row * (t->map.height + t->ring[0] + t->ring[2]);
  if (unit > INT32_MAX - ALIGNED)
    return qe_fail(QE_REFUSED, "layer %s: an image of 2^31 bytes or more", e->network->layer[layer].name);
  t->map.pixel = (int32_t)pixel;
  t->map.row = (int32_t)row;
  t->map.unit = (int32_t)aligned((size_t)unit);
  t->origin = t->ring[0] * row + t->ring[1] * pixel;
  return QE_OK;
}

static qe_status plan_tensors(net_engine *e) {
  for (size_t s = 0; s < e->stages->stages; s++) {
    const qe_stage *stage = &e->stages->stage[s];
    for (int k = 0; k < 2; k++)
      if (stage->output[k] != QE_NO_LAYER) set_tensor(e, stage->output[k]);
  }
  for (size_t s = 0; e->form->ring && s < e->stages->stages; s++) {
    const qe_stage *stage = &e->stages->stage[s];
    for (int k = 0; stage->kind == QE_STAGE_CONV && k < 2; k++)
      if (stage->from[k].layer != QE_NO_LAYER) set_ring(e, &stage->from[k]);
  }
  for (size_t i = 0; i < e->network->layers; i++)
    if (e->tensor[i].map.present) QE_TRY(lay_out(e, (int32_t)i));
  return QE_OK;
}

/* ---- kernels ---- */

static const net_variant *first_taking(const net_engine *e, const net_variant *variant, int count, bool forced,
                                       const qe_stage *stage) {
  for (int v = 0; v < count; v++) {
    if (forced && strcmp(variant[v].name, e->forced) != 0) continue;
    if (variant[v].takes(e, &variant[v], stage)) return &variant[v];
  }
  return NULL;
}

/* The kernel asked for by name where it takes the stage; else the best of the backend's own, then of the portable. */
static void choose_variant(net_engine *e, size_t at) {
  const qe_stage *stage = &e->stages->stage[at];
  const portable_driver *driver = portable_device_of(e->queue)->driver;
  const net_variant **chosen = &e->stage[at].variant;
  int own = 0;
  const net_variant *of_driver =
      e->form == &net_rows && driver->variants ? driver->variants(e->queue->device, &own) : NULL;
  if (stage->kind != QE_STAGE_CONV) return;
  for (int pass = e->forced ? 0 : 1; pass < 2 && !*chosen; pass++) {
    *chosen = first_taking(e, of_driver, own, pass == 0, stage);
    if (!*chosen) *chosen = first_taking(e, e->form->variant, e->form->variants, pass == 0, stage);
  }
}

/* Room for a stage's unpacked weights, in blocks of the variant's channels. */
static void place_weights(net_engine *e, size_t at) {
  const qe_stage *stage = &e->stages->stage[at];
  for (int k = 0; e->form->unpacks && e->stage[at].variant && k < 2; k++) {
    int32_t layer = stage->from[k].layer;
    if (layer == QE_NO_LAYER) continue;
    const qe_desc *weights = &e->network->layer[layer].weight_desc;
    int64_t block = e->stage[at].variant->channels, blocks = (weights->dim[QE_N] + block - 1) / block;
    size_t bytes = aligned((size_t)(qe_count(weights) / weights->dim[QE_N] * blocks * block) * sizeof(int16_t));
    size_t *to = e->constant[layer][NET_WEIGHT].evolves ? &e->unpacked_bytes : &e->fixed_bytes;
    e->stage[at].unpacked[k] = *to;
    *to += bytes;
  }
}

static int64_t parts(int64_t value, int32_t limb) {
  return ((value < 0 ? -value : value) >> limb) + 1;
}

/* Whether both parts of the sums fit 32 bits: v m + u n + b = (v m' + u n' + b') 2^limb + the rest. */
static bool fits_limb(const net_engine *e, const qe_network_layer *layer, int32_t limb) {
  if (layer->attrs.requant.shift >= limb + 31) return false;
  for (int32_t c = 0; c < layer->output.dim[QE_C]; c++) {
    if (layer->offset[c] == INT64_MIN) return false;
    int64_t small = INT64_C(1) << limb, large = parts(layer->offset[c], limb);
    for (int b = 0; b < layer->inputs; b++) {
      int64_t reach = qe_genome_reach(e->layout, e->network, layer->input[b]);
      small += reach << limb;
      large += reach * parts(layer->multiplier[b][c], limb);
    }
    if (small > INT32_MAX || large > INT32_MAX - (small >> limb) - 1) return false;
  }
  return true;
}

enum { LIMB_MOST = 24 };

/* Proven for all codes of the grids. */
static void set_width(const net_engine *e, int32_t layer, net_stage *stage) {
  const qe_network_layer *of = &e->network->layer[layer];
  if (e->constant[layer][NET_OFFSET].evolves) return;
  if (qe_genome_width(e->layout, e->network, NULL, layer) == QE_SUM_NARROW) stage->width = QK_NARROW;
  for (int32_t limb = 1; stage->width == QK_WIDE && limb <= LIMB_MOST && limb <= of->attrs.requant.shift; limb++) {
    if (!fits_limb(e, of, limb)) continue;
    stage->width = QK_LIMBS;
    stage->limb = limb;
  }
}

static void plan_kernels(net_engine *e) {
  for (size_t s = 0; s < e->stages->stages; s++) {
    const qe_stage *stage = &e->stages->stage[s];
    choose_variant(e, s);
    place_weights(e, s);
    if (stage->requant != QE_NO_LAYER) set_width(e, stage->requant, &e->stage[s]);
    for (int k = 0; e->form->ring && k < 2; k++) { /* pixels that are read behind a row's end */
      if (stage->kind != QE_STAGE_CONV || stage->from[k].layer == QE_NO_LAYER) continue;
      size_t slack = (size_t)(e->stage[s].variant->pixels * stage->from[k].window.stride[1]) *
                     (size_t)e->tensor[stage->from[k].tensor].map.pixel;
      if (slack > e->slack) e->slack = slack;
    }
  }
}

/* ---- the whole ---- */

static void find_first_evolving(net_engine *e) {
  e->first_evolving = (int32_t)e->stages->stages;
  for (size_t i = 0; i < e->layout->genes; i++) {
    int32_t stage = e->stages->stage_of[e->layout->gene[i].layer];
    if (stage < e->first_evolving) e->first_evolving = stage;
  }
}

static qe_status plan_stages(net_engine *e) {
  bool *evolves = QE_NEW_ARRAY(bool, e->network->layers);
  if (!evolves) return QE_NO_MEMORY;
  for (size_t i = 0; i < e->layout->genes; i++) evolves[e->layout->gene[i].layer] = true;
  qe_status status = qe_stages_new(e->network, evolves, &e->stages);
  qe_free(evolves);
  QE_TRY(status);
  find_first_evolving(e);
  e->stage = QE_NEW_ARRAY(net_stage, e->stages->stages);
  return e->stage ? QE_OK : QE_NO_MEMORY;
}

qe_status net_plan(net_engine *e) {
  size_t layers = e->network->layers;
  QE_TRY(plan_stages(e));
  e->tensor = QE_NEW_ARRAY(net_tensor, layers);
  e->constant = qe_calloc(layers, sizeof *e->constant);
  e->base_genome = qe_calloc(1, e->layout->bytes + 1);
  if (!e->tensor || !e->constant || !e->base_genome) return QE_NO_MEMORY;
  qe_genome_from_network(e->layout, e->network, e->base_genome);
  QE_TRY(plan_constants(e));
  QE_TRY(plan_tensors(e));
  plan_kernels(e);
  if (!e->fixed_bytes) return QE_OK;
  QE_TRY(qe_buffer_new(e->queue->device, e->fixed_bytes, &e->fixed_weights));
  return net_run_unpack(e, false, 1);
}

void net_plan_free(net_engine *e) {
  qe_buffer_free(e->constants);
  qe_buffer_free(e->fixed_weights);
  qe_stages_free(e->stages);
  qe_free(e->stage);
  qe_free(e->tensor);
  qe_free(e->constant);
  qe_free(e->base_genome);
}

int32_t net_first_stage(const net_engine *e, const void *genome, const void *parent) {
  int32_t first = (int32_t)e->stages->stages - 1;
  for (size_t i = 0; i < e->layout->genes; i++) {
    const qe_gene *gene = &e->layout->gene[i];
    int32_t stage = e->stages->stage_of[gene->layer];
    if (stage < first &&
        memcmp((const char *)genome + gene->offset, (const char *)parent + gene->offset, gene->bytes) != 0)
      first = stage;
  }
  return first;
}
