/* Plan of an integer network in lanes: its stages get maps, forms are chosen, the arena is laid out. */
#include "backends/cpu/network.h"
#include "core/base/alloc.h"

#include <string.h>

enum { SUMS_BLOCK = 16 << 10 }; /* bytes of sums that a run of a form makes: they stay in the first-level cache */

/* ---- what the engine takes ---- */

/* The ring of a map holds code 0, which is the least of unsigned codes only. */
static bool has_signed_ring(const qe_network *network, const qe_network_layer *layer) {
  const int32_t *pad = layer->attrs.window.pad;
  if (layer->op != QE_OP_int_max_pool || network->layer[layer->input[0]].low >= 0) return false;
  return pad[0] || pad[1] || pad[2] || pad[3];
}

const char *cpu_network_refuse(const qe_network *network) {
  for (size_t i = 0; i < network->layers; i++)
    if (has_signed_ring(network, &network->layer[i])) return "a padded max-pool of signed codes";
  return qe_stages_refuse(network);
}

/* ---- stages on maps ---- */

static qe_status add_map(cpu_network *plan, const qe_stages *stages, int32_t layer, int32_t *at) {
  *at = CPU_NONE;
  if (layer == QE_NO_LAYER) return QE_OK;
  const qe_network_layer *from = &plan->network->layer[layer];
  QE_TRY(qe_reserve(&plan->map, &plan->map_capacity, plan->maps + 1, sizeof *plan->map));
  cpu_lane_map *to = &plan->map[plan->maps];
  memset(to, 0, sizeof *to);
  to->height = from->output.dim[QE_H];
  to->width = from->output.dim[QE_W];
  to->channels = from->output.dim[QE_C];
  to->zero = layer == 0 ? 128 : from->low < 0 ? -from->low : 0; /* images keep their pixels as they are */
  to->most = layer == 0 ? 255 : from->high + to->zero;
  if (to->most < to->zero) to->most = to->zero;
  to->written = stages->stage_of[layer];
  to->read = stages->reader[layer] == QE_NO_LAYER ? to->written : stages->reader[layer];
  *at = plan->map_of[layer] = (int32_t)plan->maps++;
  return QE_OK;
}

static int32_t map_of(const cpu_network *plan, int32_t tensor) {
  return tensor == QE_NO_LAYER ? CPU_NONE : plan->map_of[tensor];
}

/* The window of a stage on its input map. */
static cpu_producer producer_of(const cpu_network *plan, const qe_stage_source *source) {
  cpu_producer from = {.layer = source->layer, .input = map_of(plan, source->tensor)};
  if (from.input == CPU_NONE) return from;
  const qe_desc *output = &plan->network->layer[source->layer].output;
  const cpu_lane_map *in = &plan->map[from.input];
  from.shape = (cpu_conv_shape){.window = source->window,
                                .height = in->height,
                                .width = in->width,
                                .inputs = in->channels,
                                .out_height = output->dim[QE_H],
                                .out_width = output->dim[QE_W],
                                .zero = in->zero,
                                .most = in->most};
  return from;
}

static qe_status add_stage(cpu_network *plan, const qe_stages *stages, const qe_stage *from) {
  cpu_stage *to = &plan->stage[plan->stages];
  to->kind = from->kind;
  to->requant = from->requant;
  to->coarser = from->coarser;
  to->sums_branch = from->sums_branch;
  to->skip = map_of(plan, from->skip);
  for (int k = 0; k < 2; k++) {
    to->from[k] = producer_of(plan, &from->from[k]);
    QE_TRY(add_map(plan, stages, from->output[k], &to->output[k]));
  }
  if (from->kind == QE_STAGE_MAX_POOL || from->kind == QE_STAGE_SUBSAMPLE) { /* the same stored values, moved */
    plan->map[to->output[0]].zero = plan->map[to->from[0].input].zero;
    plan->map[to->output[0]].most = plan->map[to->from[0].input].most;
  }
  plan->stages++;
  return QE_OK;
}

static qe_status add_stages(cpu_network *plan, qe_stages *stages) {
  plan->stage = QE_NEW_ARRAY(cpu_stage, stages->stages);
  plan->map_of = QE_NEW_ARRAY(int32_t, plan->network->layers);
  if (!plan->stage || !plan->map_of) return QE_NO_MEMORY;
  for (size_t i = 0; i < plan->network->layers; i++) plan->map_of[i] = CPU_NONE;
  for (size_t s = 0; s < stages->stages; s++) QE_TRY(add_stage(plan, stages, &stages->stage[s]));
  plan->classes = plan->network->layer[plan->network->layers - 1].output.dim[QE_C];
  plan->stage_of = stages->stage_of; /* taken over */
  stages->stage_of = NULL;
  return QE_OK;
}

static qe_status plan_stages(cpu_network *plan, const bool *evolves) {
  qe_stages *stages;
  QE_TRY(qe_stages_new(plan->network, evolves, &stages));
  qe_status status = add_stages(plan, stages);
  qe_stages_free(stages);
  return status;
}

/* ---- forms and packings ---- */

static bool takes(const cpu_network *plan, const cpu_form *form, const cpu_producer *from) {
  const cpu_lane_map *map = &plan->map[from->input];
  if (map->planes && (!form->positions || form->rows > 1)) return false;
  return form->packing == map->packing && form->takes(&from->shape);
}

/* Whether a form with no other behind it can be relied on: all weights of the grid at either end are exact in it, and
 * every other setting has smaller sums. */
static qe_status takes_all_weights(const cpu_network *plan, const cpu_producer *from, const cpu_form *form, bool *all) {
  const qe_network_layer *layer = &plan->network->layer[from->layer];
  int64_t count = qe_count(&layer->weight_desc);
  int8_t *weights = qe_alloc((size_t)count);
  int32_t *centre = QE_NEW_ARRAY(int32_t, layer->output.dim[QE_C]);
  void *prepared = qe_alloc(form->prepared_bytes(&from->shape) + 1);
  qe_status status = weights && centre && prepared ? QE_OK : QE_NO_MEMORY;
  *all = true;
  for (int end = 0; status == QE_OK && *all && end < 2; end++) {
    memset(weights, end ? layer->grid.high : layer->grid.low, (size_t)count);
    *all = form->prepare(&from->shape, weights, prepared, centre);
  }
  qe_free(weights);
  qe_free(centre);
  qe_free(prepared);
  return status;
}

/* The packing that a convolution's best form reads; CPU_PAIRS unless that form is sure of all weights. */
static qe_status wanted_packing(const cpu_network *plan, const cpu_producer *from, cpu_packing *packing) {
  const cpu_form *order[CPU_MAX_FORMS];
  int32_t count = cpu_form_order(plan->kernels, &from->shape, plan->single, order), at = 0;
  bool all = false;
  while (at < count && !order[at]->takes(&from->shape)) at++;
  if (at < count && order[at]->packing != CPU_PAIRS) QE_TRY(takes_all_weights(plan, from, order[at], &all));
  *packing = all ? order[at]->packing : CPU_PAIRS;
  return QE_OK;
}

/* A map that only convolutions read is packed as their best form wants it, if they agree on it. */
static qe_status choose_packing(cpu_network *plan, int32_t map) {
  cpu_packing packing = CPU_PACKINGS;
  if (plan->stage[plan->map[map].written].requant == CPU_NONE) return QE_OK;
  for (size_t s = 0; s < plan->stages; s++) {
    const cpu_stage *stage = &plan->stage[s];
    if (stage->skip == map || (stage->from[0].input == map && stage->kind != QE_STAGE_CONV)) return QE_OK;
    for (int k = 0; k < 2; k++) {
      cpu_packing wanted;
      if (stage->from[k].input != map) continue;
      QE_TRY(wanted_packing(plan, &stage->from[k], &wanted));
      if (wanted == CPU_PAIRS || (packing != CPU_PACKINGS && packing != wanted)) return QE_OK;
      packing = wanted;
    }
  }
  if (packing != CPU_PACKINGS) plan->map[map].packing = packing;
  return QE_OK;
}

static void choose_forms(const cpu_network *plan, cpu_producer *from) {
  const cpu_form *order[CPU_MAX_FORMS];
  bool planes = plan->map[from->input].planes;
  int32_t count = cpu_form_order(plan->kernels, &from->shape, planes, order);
  for (int32_t i = 0; i < count; i++)
    if (takes(plan, order[i], from)) from->form[from->forms++] = order[i];
}

static int32_t smaller(int32_t a, int32_t b) {
  return a < b ? a : b;
}

/* The stage's constants, and how much one run makes. */
static void size_producer(cpu_stage *stage, cpu_producer *from, size_t *element) {
  for (int i = 0; i < from->forms; i++) {
    const cpu_form *form = from->form[i];
    size_t bytes = form->prepared_bytes(&from->shape);
    if (form->sums == CPU_SUMS_S32) *element = sizeof(int32_t);
    if (form->rows > stage->rows) stage->rows = form->rows;
    if (bytes > from->prepared_bytes) from->prepared_bytes = bytes;
  }
}

static void size_stage(cpu_network *plan, cpu_stage *stage) {
  int32_t lanes = plan->kernels->lanes, channels = stage->from[0].shape.window.channels;
  size_t element = stage->kind == QE_STAGE_SUM_POOL ? sizeof(int32_t) : sizeof(int16_t);
  stage->rows = 1;
  for (int k = 0; k < 2; k++) size_producer(stage, &stage->from[k], &element);
  size_t site = (size_t)stage->rows * (size_t)channels * (size_t)lanes * element;
  int32_t block = (int32_t)(SUMS_BLOCK / site) & ~7, sites = stage->from[0].shape.out_width;
  if (plan->map[stage->from[0].input].planes) sites = (cpu_planes_positions(plan, stage) + lanes - 1) / lanes;
  stage->block = smaller(block < 8 ? 8 : block, sites);
  stage->requant_bytes = plan->kernels->requant_bytes(channels);
  if (site * (size_t)stage->block > plan->sums_bytes) plan->sums_bytes = site * (size_t)stage->block;
  for (int k = 0; k < 2; k++)
    for (int i = 0; i < stage->from[k].forms; i++) {
      size_t bytes = stage->from[k].form[i]->scratch_bytes(&stage->from[k].shape, stage->block);
      if (bytes > plan->scratch_bytes) plan->scratch_bytes = bytes;
    }
}

static qe_status choose_stage(cpu_network *plan, cpu_stage *stage) {
  for (int k = 0; k < 2; k++) {
    cpu_producer *from = &stage->from[k];
    if (from->layer == CPU_NONE || stage->kind != QE_STAGE_CONV) continue;
    choose_forms(plan, from);
    if (!from->forms)
      return qe_fail(QE_REFUSED, "no kernel takes the convolution %s", plan->network->layer[from->layer].name);
  }
  if (stage->requant != CPU_NONE) size_stage(plan, stage);
  return QE_OK;
}

static qe_status choose(cpu_network *plan) {
  for (size_t m = 0; !plan->single && m < plan->maps; m++) QE_TRY(choose_packing(plan, (int32_t)m));
  for (size_t s = 0; s < plan->stages; s++) QE_TRY(choose_stage(plan, &plan->stage[s]));
  return QE_OK;
}

/* ---- memory ---- */

static void grow(int32_t *ring, int64_t reach) {
  if (reach > *ring) *ring = (int32_t)reach;
}

static void set_ring(cpu_network *plan, const cpu_producer *from) {
  const qe_window *window = &from->shape.window;
  int32_t *ring = plan->map[from->input].ring;
  const int32_t extent[2] = {from->shape.out_height, from->shape.out_width},
                size[2] = {from->shape.height, from->shape.width};
  for (int axis = 0; axis < 2; axis++) {
    int64_t last = (int64_t)(extent[axis] - 1) * window->stride[axis] - window->pad[axis] +
                   (int64_t)(window->kernel[axis] - 1) * window->dilation[axis];
    grow(&ring[axis], window->pad[axis]);
    grow(&ring[2 + axis], last - (size[axis] - 1));
  }
}

/* How far the windows that read a map reach beyond it. */
static void set_rings(cpu_network *plan) {
  for (size_t s = 0; s < plan->stages; s++) {
    const cpu_stage *stage = &plan->stage[s];
    if (stage->kind == QE_STAGE_SUBSAMPLE || stage->kind == QE_STAGE_LOAD) continue;
    for (int k = 0; k < 2; k++)
      if (stage->from[k].input != CPU_NONE) set_ring(plan, &stage->from[k]);
  }
}

static bool same_geometry(const cpu_lane_map *a, const cpu_lane_map *b) {
  return a->height == b->height && a->width == b->width && a->vectors == b->vectors && a->zero == b->zero &&
         a->packing == b->packing && a->planes == b->planes && a->pitch == b->pitch &&
         memcmp(a->ring, b->ring, sizeof a->ring) == 0;
}

/* The skip map that a stage's output can take the place of: its vectors are read before the same ones are written, and
 * nothing else of the stage or behind it reads them. CPU_NONE: there is none. */
static int32_t overwritten(const cpu_network *plan, int32_t at) {
  const cpu_stage *stage = &plan->stage[plan->map[at].written];
  int32_t first = stage->output[0] != CPU_NONE ? stage->output[0] : stage->output[1], skip = stage->skip;
  if (stage->requant == CPU_NONE || skip == CPU_NONE || first != at) return CPU_NONE;
  if (stage->from[0].input == skip || stage->from[1].input == skip) return CPU_NONE;
  bool dies = plan->map[skip].read == plan->map[at].written;
  return dies && same_geometry(&plan->map[skip], &plan->map[at]) ? skip : CPU_NONE;
}

/* Maps share memory only with maps of their geometry, so that rings are filled once and stay. */
static void place_map(cpu_network *plan, size_t at) {
  cpu_lane_map *map = &plan->map[at];
  int32_t skip = overwritten(plan, (int32_t)at);
  if (skip != CPU_NONE) {
    map->offset = plan->map[skip].offset;
    return;
  }
  for (size_t i = 0; i < at; i++) {
    const cpu_lane_map *other = &plan->map[i];
    if (!same_geometry(map, other)) continue;
    bool free = true;
    for (size_t k = 0; k < at && free; k++)
      free = plan->map[k].offset != other->offset || plan->map[k].read < map->written;
    if (!free) continue;
    map->offset = other->offset;
    return;
  }
  map->offset = plan->arena_bytes;
  plan->arena_bytes += cpu_aligned(map->bytes);
}

static void lay_out(cpu_network *plan) {
  static const int32_t channels_of_vector[CPU_PACKINGS] = {[CPU_PAIRS] = 2, [CPU_CRUMBS] = 4, [CPU_BITS] = 8};
  for (size_t m = 0; m < plan->maps; m++) {
    cpu_lane_map *map = &plan->map[m];
    int32_t each = channels_of_vector[map->packing], lanes = plan->kernels->lanes;
    int32_t rows = map->height + map->ring[0] + map->ring[2];
    map->vectors = (map->channels + each - 1) / each;
    map->vector = lanes * 2;
    if (!map->planes) map->pitch = map->width + map->ring[1] + map->ring[3];
    map->pixel = map->planes ? 2 : map->vector * map->vectors;
    map->row = map->pixel * map->pitch;
    if (map->planes)
      map->vector = (int64_t)cpu_aligned((size_t)(map->row * rows + 4 * lanes)); /* whole vectors behind */
    map->bytes = (size_t)(map->planes ? map->vector * map->vectors : map->row * rows);
    map->origin = (size_t)(map->row * map->ring[0] + map->pixel * map->ring[1]);
    place_map(plan, m);
  }
}

/* ---- the whole ---- */

static qe_status plan_all(cpu_network *plan, const bool *evolves) {
  QE_TRY(plan_stages(plan, evolves));
  set_rings(plan);
  if (plan->single) QE_TRY(cpu_planes_choose(plan));
  QE_TRY(choose(plan));
  lay_out(plan);
  return QE_OK;
}

qe_status cpu_network_new(const qe_network *network, const bool *evolves, const cpu_lane_kernels *kernels, bool single,
                          cpu_network **out) {
  QE_TRY(cpu_form_check(kernels));
  cpu_network *plan = QE_NEW(cpu_network);
  if (!plan) return QE_NO_MEMORY;
  plan->network = network;
  plan->kernels = kernels;
  plan->single = single;
  qe_status status = plan_all(plan, evolves);
  if (status != QE_OK) {
    cpu_network_free(plan);
    return status;
  }
  *out = plan;
  return QE_OK;
}

void cpu_network_free(cpu_network *plan) {
  if (!plan) return;
  qe_free(plan->stage);
  qe_free(plan->map);
  qe_free(plan->map_of);
  qe_free(plan->stage_of);
  qe_free(plan);
}
