/* The engine `batched`, launches: one a stage, with what its kernel needs to know of tensors, constants and genomes. */
#include "backends/portable/engine.h"

#include "core/base/alloc.h"

#include <string.h>

/* ---- kernels of the two layouts ---- */

static bool has_groups(const qe_stage *stage) {
  for (int k = 0; k < 2; k++)
    if (stage->from[k].layer != QE_NO_LAYER && stage->from[k].window.groups != 1) return true;
  return false;
}

/* ---- rows ---- */

static bool is_forced(const net_engine *e, const net_variant *variant) {
  return e->forced && strcmp(e->forced, variant->name) == 0;
}

/* Pixels of a tile; the number's initial value where no tuner has found another. */
static int32_t tile_pixels(const net_engine *e, const net_variant *variant) {
  if (!variant->block) return variant->pixels;
  return portable_tuned(portable_device_of(e->queue), (qk_tunable)variant->pixels);
}

static size_t tile_items(const net_engine *e, const net_variant *variant) {
  if (!variant->block) return (size_t)variant->items;
  return (size_t)(tile_pixels(e, variant) * variant->channels / variant->block);
}

bool net_takes_tile(const net_engine *e, const net_variant *variant, const qe_stage *stage) {
  const portable_limits *limits = &portable_device_of(e->queue)->limits;
  int32_t channels = e->network->layer[stage->from[0].layer].output.dim[QE_C];
  if (tile_items(e, variant) > limits->group_most || has_groups(stage)) return false;
  return variant->channels >= channels || variant->channels == 64 || is_forced(e, variant);
}

static int32_t divisor(int32_t a, int32_t b) {
  return b ? divisor(b, a % b) : a;
}

/* Rows of the input that the windows of as many pixels of output, one after the other, can meet: rows of all images are
 * counted on, those that an image's windows reach beyond it among them. */
static int64_t band_rows(const qk_net_source *source, const int32_t *output, int32_t pixels) {
  int32_t height = output[QE_H], width = output[QE_W], aligned = pixels % width == 0;
  int32_t rows = aligned ? pixels / width : (pixels + width - 2) / width + 1, most = 0;
  for (int32_t first = 0; first < height; first += aligned ? divisor(rows, height) : 1) {
    int32_t last = first + rows - 1;
    int32_t span = last / height * source->band_height + last % height * source->stride_h - first * source->stride_h;
    most = span > most ? span : most;
  }
  return (int64_t)most + (int64_t)(source->kernel_h - 1) * source->dilation_h + 1;
}

/* false: the band does not fit the local memory. */
static bool set_band(const net_engine *e, const net_variant *variant, const int32_t *output, qk_net_source *source) {
  enum { GROUPS_MOST = 4 };
  const int32_t words = portable_tuned(portable_device_of(e->queue), QK_TUNABLE_QK_BAND_WORDS);
  int64_t reach[2] = {(int64_t)(source->kernel_h - 1) * source->dilation_h,
                      (int64_t)(source->kernel_w - 1) * source->dilation_w};
  int64_t height = (int64_t)(output[QE_H] - 1) * source->stride_h + reach[0] + 1;
  int64_t width = (int64_t)(output[QE_W] - 1) * source->stride_w + reach[1] + 1;
  if (height > words || width > words) return false;
  source->band_height = (int32_t)height;
  source->band_width = (int32_t)width;
  int64_t pixels = band_rows(source, output, tile_pixels(e, variant)) * width, fit = words / (2 * pixels);
  int64_t groups = (source->inputs + 7) / 8;
  if (groups > GROUPS_MOST) groups = GROUPS_MOST;
  source->band_pixels = (int32_t)(pixels < words ? pixels : words);
  source->band_groups = (int32_t)(groups < fit ? groups : fit);
  return fit > 0;
}

static qk_net_source source_of(const net_engine *e, const qe_stage *stage, int which);

static bool takes_band(const net_engine *e, const net_variant *variant, const qe_stage *stage) {
  if (stage->from[1].layer != QE_NO_LAYER || !net_takes_tile(e, variant, stage)) return false;
  qk_net_source source = source_of(e, stage, 0);
  return set_band(e, variant, e->network->layer[stage->from[0].layer].output.dim, &source);
}

static bool takes_forced(const net_engine *e, const net_variant *variant, const qe_stage *stage) {
  (void)stage;
  return is_forced(e, variant);
}

static bool takes_all(const net_engine *e, const net_variant *variant, const qe_stage *stage) {
  (void)e;
  (void)variant;
  (void)stage;
  return true;
}

#define TILE(channels)                                                                                                 \
  {                                                                                                                    \
    "tile " #channels, QK_qk_net_tile_##channels, QK_TUNABLE_QK_TILE_PIXELS_##channels, channels,                      \
        QK_TILE_BLOCK *QK_TILE_BLOCK, 0, 0, net_takes_tile                                                             \
  }
#define BAND(channels)                                                                                                 \
  {                                                                                                                    \
    "band " #channels, QK_qk_net_band_##channels, QK_TUNABLE_QK_BAND_PIXELS_##channels, channels,                      \
        2 * QK_TILE_BLOCK *QK_TILE_BLOCK, 0, 0, takes_band                                                             \
  }

static const net_variant rows_variants[] = {
    {"plain", QK_qk_net_sums, 0, 0, 0, 0, 0, takes_forced}, BAND(16), BAND(32), BAND(64), TILE(16), TILE(32), TILE(64),
    {"plain", QK_qk_net_sums, 0, 0, 0, 0, 0, takes_all},
};

const net_form net_rows = {.name = "rows",
                           .unit = 1,
                           .gather = QK_qk_net_gather,
                           .sums = QK_qk_net_sums,
                           .move = QK_qk_net_move,
                           .variant = rows_variants,
                           .variants = sizeof rows_variants / sizeof *rows_variants};

/* ---- lanes ---- */

/* Products of a code and a weight whose sum fits 16 bits; 0: not even two. */
static int32_t short_run(const net_engine *e, const qe_stage_source *from) {
  const qe_network_layer *in = &e->network->layer[from->tensor];
  const qe_code_grid *grid = &e->network->layer[from->layer].grid;
  int32_t code = -in->low > in->high ? -in->low : in->high, weight = -grid->low > grid->high ? -grid->low : grid->high;
  if (code < 1 || weight < 1) return INT16_MAX;
  return INT16_MAX / (code * weight);
}

enum { WORTHWHILE_RUN = 16, LANES_BLOCK = 4 };

static bool takes_block(const net_engine *e, const net_variant *variant, const qe_stage *stage) {
  for (int k = 0; k < 2; k++) {
    const qe_window *window = &stage->from[k].window;
    if (stage->from[k].layer == QE_NO_LAYER) continue;
    if (window->groups > 1 && window->channels / window->groups % variant->channels) return false;
  }
  if (is_forced(e, variant)) return true;
  int32_t width = e->network->layer[stage->from[0].layer].output.dim[QE_W];
  /* Sixteen sums want the 32 registers that come with vectors of 64 bytes. */
  int32_t tuned = portable_tuned(portable_device_of(e->queue), QK_TUNABLE_QK_LANES_PIXELS);
  int32_t usual = portable_device_of(e->queue)->limits.vector_bytes >= 64 ? 4 : 2;
  int32_t pixels = width == 1 ? 1 : tuned > 1 ? tuned : usual;
  if (width > 1) portable_uses(e->queue, QK_TUNABLE_QK_LANES_PIXELS);
  return variant->pixels == pixels;
}

static bool takes_short(const net_engine *e, const net_variant *variant, const qe_stage *stage) {
  for (int k = 0; k < 2; k++) {
    int32_t run = stage->from[k].layer == QE_NO_LAYER ? INT16_MAX : short_run(e, &stage->from[k]);
    if (run < 1 || (!e->forced && run < WORTHWHILE_RUN)) return false;
  }
  return takes_block(e, variant, stage);
}

static const net_variant lanes_variants[] = {
    {"short 4x4", QK_qk_lanes_short_4x4, 4, LANES_BLOCK, 0, 0, 0, takes_short},
    {"short 4x1", QK_qk_lanes_short_4x1, 1, LANES_BLOCK, 0, 0, 0, takes_short},
    {"short 4x2", QK_qk_lanes_short_4x2, 2, LANES_BLOCK, 0, 0, 0, takes_short},
    {"int 4x2", QK_qk_lanes_int_4x2, 2, LANES_BLOCK, 0, 0, 0, takes_block},
    {"int 4x4", QK_qk_lanes_int_4x4, 4, LANES_BLOCK, 0, 0, 0, takes_block},
    {"int 4x1", QK_qk_lanes_int_4x1, 1, LANES_BLOCK, 0, 0, 0, takes_block},
    {"int 1x4", QK_qk_lanes_int_1x4, 4, 1, 0, 0, 0, takes_all},
};

const net_form net_lanes = {.name = "lanes",
                            .unit = 16,
                            .ring = true,
                            .unpacks = true,
                            .gather = QK_qk_lanes_gather,
                            .sums = QK_qk_lanes_sums,
                            .move = QK_qk_lanes_move,
                            .variant = lanes_variants,
                            .variants = sizeof lanes_variants / sizeof *lanes_variants};

/* ---- operands ---- */

static void add_operand(portable_launch *launch, qe_buffer *buffer, size_t offset) {
  launch->operand[launch->operands++] = (portable_operand){buffer, offset};
}

static void add_tensor(const net_engine *e, portable_launch *launch, int32_t tensor) {
  if (tensor == QE_NO_LAYER)
    add_operand(launch, NULL, 0);
  else
    add_operand(launch, e->arena, e->tensor[tensor].offset + (size_t)e->tensor[tensor].origin);
}

/* *stride: from a genome to the next. */
static void add_constant(const net_engine *e, portable_launch *launch, int32_t layer, int which, qk_long *stride) {
  *stride = 0;
  if (layer == QE_NO_LAYER) {
    add_operand(launch, NULL, 0);
    return;
  }
  const net_constant *constant = &e->constant[layer][which];
  add_operand(launch, constant->evolves ? e->genomes : e->constants, constant->offset);
  if (constant->evolves) *stride = (qk_long)e->layout->bytes;
}

static void add_weights(const net_engine *e, portable_launch *launch, size_t at, int which, qk_long *stride) {
  const qe_stage *stage = &e->stages->stage[at];
  int32_t layer = stage->kind == QE_STAGE_CONV ? stage->from[which].layer : QE_NO_LAYER;
  if (layer == QE_NO_LAYER || !e->form->unpacks) {
    add_constant(e, launch, layer, NET_WEIGHT, stride);
    return;
  }
  bool evolves = e->constant[layer][NET_WEIGHT].evolves;
  add_operand(launch, evolves ? e->weights : e->fixed_weights, e->stage[at].unpacked[which]);
  *stride = evolves ? (qk_long)e->unpacked_bytes : 0;
}

static qk_net_map map_of(const net_engine *e, int32_t tensor) {
  if (tensor == QE_NO_LAYER) return (qk_net_map){0};
  qk_net_map map = e->tensor[tensor].map;
  map.slot = (qk_long)map.unit * e->size.units;
  return map;
}

static qk_net_source source_of(const net_engine *e, const qe_stage *stage, int which) {
  const qe_stage_source *from = &stage->from[which];
  if (from->layer == QE_NO_LAYER) return (qk_net_source){0};
  const qe_window *window = &from->window;
  const qe_network_layer *layer = &e->network->layer[from->layer];
  qk_net_source source = {.map = map_of(e, from->tensor),
                          .kernel_h = window->kernel[0],
                          .kernel_w = window->kernel[1],
                          .dilation_h = window->dilation[0],
                          .dilation_w = window->dilation[1],
                          PORTABLE_STEPS(window),
                          .outputs = 1,
                          .run = INT16_MAX};
  if (stage->kind != QE_STAGE_CONV) return source;
  source.inputs = e->tensor[from->tensor].map.channels / window->groups;
  source.outputs = window->channels / window->groups;
  source.bits = layer->grid.bits;
  source.low = layer->grid.low;
  source.spacing = layer->grid.spacing;
  source.run = short_run(e, from);
  if (source.run < 1) source.run = 1;
  return source;
}

/* ---- launches ---- */

static void set_groups(portable_launch *launch, size_t items, size_t x, size_t y, size_t z) {
  launch->groups[0] = x;
  launch->groups[1] = y;
  launch->groups[2] = z;
  launch->local[0] = items;
  launch->local[1] = launch->local[2] = 1;
}

static qe_status run(net_engine *e, const portable_launch *launch) {
  e->launches++;
  return portable_run(e->queue, launch);
}

qe_status net_run_gather(net_engine *e, const qe_buffer *images, int32_t count) {
  qk_params_net_gather params = {.to = map_of(e, 0), .images = count};
  params.units = (count + e->form->unit - 1) / e->form->unit;
  portable_launch launch = {.kernel = e->form->gather, .params = &params, .params_bytes = sizeof params};
  add_operand(&launch, (qe_buffer *)(uintptr_t)images, 0); /* only read */
  add_operand(&launch, e->index, 0);
  add_tensor(e, &launch, 0);
  e->tensor[0].map.own = 1;
  if (e->form == &net_lanes)
    set_groups(&launch, 1, (size_t)params.to.height, (size_t)params.units, 1);
  else
    portable_flat(e->queue->device, &launch,
                  (int64_t)params.units * params.to.height * params.to.width * ((params.to.channels + 7) / 8));
  return run(e, &launch);
}

static qe_status run_move(net_engine *e, const qe_stage *stage, int32_t first, int32_t slots, int32_t units) {
  const qe_network_layer *layer = &e->network->layer[stage->from[0].layer];
  const qe_window *window = &stage->from[0].window;
  qk_params_move params = {.from = map_of(e, stage->from[0].tensor),
                           .to = map_of(e, stage->output[0]),
                           .first_slot = first,
                           .slots = slots,
                           .units = units,
                           .kernel_h = window->kernel[0],
                           .kernel_w = window->kernel[1],
                           PORTABLE_STEPS(window),
                           .before = stage->kind == QE_STAGE_SUBSAMPLE ? layer->attrs.pad_channels[0] : 0};
  portable_launch launch = {.kernel = e->form->move, .params = &params, .params_bytes = sizeof params};
  add_tensor(e, &launch, stage->from[0].tensor);
  add_tensor(e, &launch, stage->output[0]);
  if (e->form == &net_lanes)
    set_groups(&launch, 1, (size_t)params.to.height, (size_t)units, (size_t)slots);
  else
    portable_flat(e->queue->device, &launch,
                  (int64_t)slots * units * params.to.height * params.to.width * ((params.to.channels + 7) / 8));
  return run(e, &launch);
}

static void set_requant(const net_engine *e, const qe_stage *stage, const net_stage *how, qk_params_stage *params) {
  const qe_network_layer *layer = &e->network->layer[stage->requant];
  const qe_requant *requant = &layer->attrs.requant;
  params->sources = stage->from[1].layer == QE_NO_LAYER ? 1 : 2;
  params->logits = layer->output.dtype == QE_S32;
  params->logits_slot = (qk_long)e->size.units * e->form->unit * net_classes(e) * (qk_long)sizeof(int32_t);
  params->height = layer->output.dim[QE_H];
  params->width = layer->output.dim[QE_W];
  params->channels = layer->output.dim[QE_C];
  params->shift = requant->shift;
  params->low = requant->low;
  params->high = requant->high;
  params->sum_width = how->width;
  params->limb = how->limb;
  if (stage->coarser == QE_NO_LAYER) return;
  const qe_requant *coarser = &e->network->layer[stage->coarser].attrs.requant;
  params->coarse_shift = coarser->shift;
  params->coarse_low = coarser->low;
  params->coarse_high = coarser->high;
}

static void spread(const net_engine *e, const net_variant *variant, const qk_params_stage *params,
                   portable_launch *launch) {
  size_t slots = (size_t)params->slots, units = (size_t)params->units;
  int64_t pixels = (int64_t)params->units * params->height * params->width;
  if (e->form == &net_lanes) {
    int32_t blocks = variant ? (params->channels + variant->channels - 1) / variant->channels : 1;
    set_groups(launch, 1, (size_t)params->height * (size_t)blocks, units, slots);
  } else if (!variant || !variant->channels) {
    portable_flat(e->queue->device, launch, pixels * params->slots * ((params->channels + 7) / 8));
  } else {
    int32_t tile = tile_pixels(e, variant);
    set_groups(launch, tile_items(e, variant), (size_t)((pixels + tile - 1) / tile),
               (size_t)((params->channels + variant->channels - 1) / variant->channels), slots);
    portable_uses(e->queue, (qk_tunable)variant->pixels);
  }
}

static qe_status run_requant(net_engine *e, size_t at, int32_t first, int32_t slots, int32_t images) {
  const qe_stage *stage = &e->stages->stage[at];
  const net_variant *variant = e->stage[at].variant;
  const qe_network_layer *layer = &e->network->layer[stage->requant];
  qk_params_stage params = {.source = {source_of(e, stage, 0), source_of(e, stage, 1)},
                            .skip = map_of(e, stage->skip),
                            .fine = map_of(e, stage->output[0]),
                            .coarse = map_of(e, stage->output[1]),
                            .first_slot = first,
                            .slots = slots,
                            .units = (images + e->form->unit - 1) / e->form->unit,
                            .images = images};
  if (variant && variant->takes == takes_band) {
    (void)set_band(e, variant, layer->output.dim, &params.source[0]);
    portable_uses(e->queue, QK_TUNABLE_QK_BAND_WORDS);
  }
  set_requant(e, stage, &e->stage[at], &params);
  portable_launch launch = {.kernel = variant ? variant->kernel : e->form->sums,
                            .params = &params,
                            .params_bytes = sizeof params,
                            .shared_bytes = variant ? variant->shared_bytes : 0};
  bool two = layer->inputs == 2;
  for (int k = 0; k < 2; k++) {
    add_tensor(e, &launch, stage->from[k].tensor);
    add_weights(e, &launch, at, k, &params.source[k].weight_stride);
  }
  add_constant(e, &launch, stage->requant, stage->sums_branch ? NET_N : NET_M, &params.m_stride);
  add_constant(e, &launch, two ? stage->requant : QE_NO_LAYER, stage->sums_branch ? NET_M : NET_N, &params.n_stride);
  add_constant(e, &launch, stage->requant, NET_OFFSET, &params.offset_stride);
  add_tensor(e, &launch, stage->skip);
  if (params.logits)
    add_operand(&launch, e->logits, 0);
  else
    add_tensor(e, &launch, stage->output[0]);
  add_tensor(e, &launch, stage->output[1]);
  add_operand(&launch, e->slots, 0);
  spread(e, variant, &params, &launch);
  return run(e, &launch);
}

qe_status net_run_stage(net_engine *e, size_t at, int32_t first, int32_t slots, int32_t own, int32_t images) {
  const qe_stage *stage = &e->stages->stage[at];
  for (int k = 0; k < 2; k++)
    if (stage->output[k] != QE_NO_LAYER)
      e->tensor[stage->output[k]].map.own = e->tensor[stage->output[k]].shared ? 1 : own;
  if (slots < 1) return QE_OK;
  if (stage->requant != QE_NO_LAYER) return run_requant(e, at, first, slots, images);
  return run_move(e, stage, first, slots, (images + e->form->unit - 1) / e->form->unit);
}

qe_status net_run_loss(net_engine *e, int32_t first, int32_t slots, int32_t images) {
  qk_params_net_loss params = {.first_slot = first, .images = images, .classes = net_classes(e)};
  params.logits_slot = (qk_long)e->size.units * e->form->unit * net_classes(e) * (qk_long)sizeof(int32_t);
  portable_launch launch = {.kernel = QK_qk_net_loss, .params = &params, .params_bytes = sizeof params};
  add_operand(&launch, e->logits, 0);
  add_operand(&launch, e->labels, 0);
  add_operand(&launch, e->slots, 0);
  add_operand(&launch, e->totals, 0);
  set_groups(&launch, (size_t)portable_device_of(e->queue)->limits.group, (size_t)slots, 1, 1);
  return run(e, &launch);
}

static qe_status unpack(net_engine *e, size_t at, int which, int32_t genomes) {
  int32_t layer = e->stages->stage[at].from[which].layer;
  const qe_network_layer *of = &e->network->layer[layer];
  qk_params_net_unpack params = {.genomes = genomes,
                                 .outputs = of->weight_desc.dim[QE_N],
                                 .each = (int32_t)(qe_count(&of->weight_desc) / of->weight_desc.dim[QE_N]),
                                 .block = e->stage[at].variant->channels,
                                 .bits = of->grid.bits,
                                 .low = of->grid.low,
                                 .spacing = of->grid.spacing};
  portable_launch launch = {.kernel = QK_qk_lanes_unpack, .params = &params, .params_bytes = sizeof params};
  add_constant(e, &launch, layer, NET_WEIGHT, &params.from_stride);
  add_weights(e, &launch, at, which, &params.to_stride);
  portable_flat(e->queue->device, &launch, (int64_t)genomes * params.outputs * params.each);
  return run(e, &launch);
}

qe_status net_run_unpack(net_engine *e, bool evolving, int32_t genomes) {
  for (size_t s = 0; e->form->unpacks && s < e->stages->stages; s++)
    for (int k = 0; k < 2; k++) {
      int32_t layer = e->stage[s].variant ? e->stages->stage[s].from[k].layer : QE_NO_LAYER;
      if (layer == QE_NO_LAYER || e->constant[layer][NET_WEIGHT].evolves != evolving) continue;
      QE_TRY(unpack(e, s, k, genomes));
    }
  return QE_OK;
}
