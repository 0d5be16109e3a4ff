/* Plan of an integer network in lanes: layers become stages and maps, forms are chosen, the arena is laid out. */
#include "backends/cpu/network.h"
#include "core/base/alloc.h"

#include <string.h>

enum { SUMS_BLOCK = 16 << 10 }; /* bytes of sums that a run of a form makes: they stay in the first-level cache */

/* ---- what the engine takes ---- */

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
  const qe_desc *from = &network->layer[layer->input[0]].output;
  return layer->op == QE_OP_int_conv2d && from->dim[QE_C] != layer->weight_desc.dim[QE_C] * layer->attrs.window.groups;
}

static const char *refuse_layer(const qe_network *network, int32_t at) {
  const qe_network_layer *layer = &network->layer[at];
  int32_t reader = CPU_NONE;
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
  const qe_window *window = &layer->attrs.window;
  bool padded = window->pad[0] || window->pad[1] || window->pad[2] || window->pad[3];
  if (padded && is_flattened(network, layer)) return "a padded linear layer";
  if (layer->op == QE_OP_int_max_pool && padded && network->layer[layer->input[0]].low < 0)
    return "a padded max-pool of signed codes";
  return NULL;
}

const char *cpu_network_refuse(const qe_network *network) {
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

typedef struct planner {
  cpu_network *plan;
  const qe_network *network;
  const bool *evolves; /* [layers] */
  bool *taken;         /* [layers]: is part of another layer's stage */
} planner;

static qe_status add_map(planner *p, int32_t layer, int32_t *map) {
  const qe_network_layer *from = &p->network->layer[layer];
  cpu_network *plan = p->plan;
  QE_TRY(qe_reserve(&plan->map, &plan->map_capacity, plan->maps + 1, sizeof *plan->map));
  cpu_lane_map *to = &plan->map[plan->maps];
  memset(to, 0, sizeof *to);
  to->height = from->output.dim[QE_H];
  to->width = from->output.dim[QE_W];
  to->channels = from->output.dim[QE_C];
  to->zero = layer == 0 ? 128 : from->low < 0 ? -from->low : 0; /* images keep their pixels as they are */
  to->most = layer == 0 ? 255 : from->high + to->zero;
  if (to->most < to->zero) to->most = to->zero;
  to->written = (int32_t)plan->stages;
  to->read = CPU_NONE;
  *map = plan->map_of[layer] = (int32_t)plan->maps++;
  return QE_OK;
}

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

/* The window of a stage on its input map; a requantiser of codes alone has none. */
static void set_shape(const planner *p, cpu_producer *from) {
  const qe_network_layer *layer = &p->network->layer[from->layer];
  const cpu_lane_map *in = &p->plan->map[from->input];
  cpu_conv_shape *shape = &from->shape;
  shape->window = layer->attrs.window;
  if (layer->op != QE_OP_int_conv2d) set_plain_window(layer, &shape->window);
  if (is_flattened(p->network, layer)) {
    shape->window.kernel[0] = in->height;
    shape->window.kernel[1] = in->width;
    for (int axis = 0; axis < 2; axis++) shape->window.stride[axis] = shape->window.dilation[axis] = 1;
  }
  shape->height = in->height;
  shape->width = in->width;
  shape->inputs = in->channels;
  shape->out_height = layer->output.dim[QE_H];
  shape->out_width = layer->output.dim[QE_W];
  shape->zero = in->zero;
  shape->most = in->most;
}

static qe_status push_stage(planner *p, const cpu_stage *stage) {
  cpu_network *plan = p->plan;
  QE_TRY(qe_reserve(&plan->stage, &plan->stage_capacity, plan->stages + 1, sizeof *stage));
  plan->stage[plan->stages] = *stage;
  const int32_t read[] = {stage->from[0].input, stage->from[1].input, stage->skip};
  for (size_t k = 0; k < sizeof read / sizeof *read; k++)
    if (read[k] != CPU_NONE) plan->map[read[k]].read = (int32_t)plan->stages;
  plan->stages++;
  return QE_OK;
}

static const cpu_stage empty = {
    .from = {{.layer = CPU_NONE, .input = CPU_NONE}, {.layer = CPU_NONE, .input = CPU_NONE}},
    .requant = CPU_NONE,
    .coarser = CPU_NONE,
    .skip = CPU_NONE,
    .output = {CPU_NONE, CPU_NONE}};

/* Whether `layer` gives the codes of `of`, coarsened by a shift with halves up. */
static bool is_coarser(const planner *p, int32_t layer, int32_t of) {
  const qe_network_layer *l = &p->network->layer[layer];
  const qe_requant *requant = &l->attrs.requant;
  if (l->op != QE_OP_int_requant || l->input[0] != of || l->output.dtype == QE_S32) return false;
  if (requant->shift > 8 || p->evolves[layer] || p->taken[layer]) return false;
  int64_t half = requant->shift > 0 ? INT64_C(1) << (requant->shift - 1) : 0;
  for (int32_t c = 0; c < l->output.dim[QE_C]; c++)
    if (l->multiplier[0][c] != 1 || l->offset[c] != half) return false;
  return true;
}

static qe_status add_outputs(planner *p, cpu_stage *stage) {
  const qe_network_layer *requant = &p->network->layer[stage->requant];
  if (requant->output.dtype == QE_S32) return QE_OK;
  int32_t only = CPU_NONE;
  for (int32_t q = stage->requant + 1; q < (int32_t)p->network->layers && stage->coarser == CPU_NONE; q++)
    if (is_coarser(p, q, stage->requant)) stage->coarser = q;
  int readers = readers_of(p->network, stage->requant, &only);
  if (stage->coarser == CPU_NONE || readers > 1) QE_TRY(add_map(p, stage->requant, &stage->output[0]));
  if (stage->coarser == CPU_NONE) return QE_OK;
  p->taken[stage->coarser] = true;
  return add_map(p, stage->coarser, &stage->output[1]);
}

/* A requantiser with what it reads: sums and codes, two sums, or codes alone. */
static qe_status plan_requant(planner *p, int32_t at) {
  const qe_network_layer *layer = &p->network->layer[at];
  cpu_stage stage = empty;
  int sums = 0;
  stage.kind = CPU_STAGE_LOAD;
  stage.requant = at;
  for (int k = 0; k < layer->inputs; k++) {
    const qe_network_layer *source = &p->network->layer[layer->input[k]];
    if (!makes_sums(source)) continue;
    if (sums == 0) stage.sums_branch = k;
    stage.kind = source->op == QE_OP_int_conv2d ? CPU_STAGE_CONV : CPU_STAGE_SUM_POOL;
    stage.from[sums].layer = layer->input[k];
    stage.from[sums++].input = p->plan->map_of[source->input[0]];
  }
  if (stage.kind == CPU_STAGE_LOAD) {
    stage.from[0].layer = at;
    stage.from[0].input = p->plan->map_of[layer->input[0]];
  }
  if (layer->inputs == 2 && sums < 2) stage.skip = p->plan->map_of[layer->input[1 - stage.sums_branch]];
  for (int k = 0; k < 2; k++)
    if (stage.from[k].layer != CPU_NONE) set_shape(p, &stage.from[k]);
  QE_TRY(add_outputs(p, &stage));
  return push_stage(p, &stage);
}

static qe_status plan_move(planner *p, int32_t at) {
  const qe_network_layer *layer = &p->network->layer[at];
  cpu_stage stage = empty;
  stage.kind = layer->op == QE_OP_int_gather     ? CPU_STAGE_GATHER
               : layer->op == QE_OP_int_max_pool ? CPU_STAGE_MAX_POOL
                                                 : CPU_STAGE_SUBSAMPLE;
  stage.from[0].layer = at;
  if (layer->inputs) {
    stage.from[0].input = p->plan->map_of[layer->input[0]];
    set_shape(p, &stage.from[0]);
  }
  QE_TRY(add_map(p, at, &stage.output[0]));
  if (layer->inputs) { /* the same stored values, moved */
    p->plan->map[stage.output[0]].zero = p->plan->map[stage.from[0].input].zero;
    p->plan->map[stage.output[0]].most = p->plan->map[stage.from[0].input].most;
  }
  return push_stage(p, &stage);
}

static qe_status plan_layers(planner *p) {
  for (int32_t i = 0; i < (int32_t)p->network->layers; i++) {
    const qe_network_layer *layer = &p->network->layer[i];
    if (p->taken[i] || makes_sums(layer)) continue;
    QE_TRY(is_requant(layer) ? plan_requant(p, i) : plan_move(p, i));
  }
  p->plan->classes = p->network->layer[p->network->layers - 1].output.dim[QE_C];
  return QE_OK;
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
    if (stage->skip == map || (stage->from[0].input == map && stage->kind != CPU_STAGE_CONV)) return QE_OK;
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
  size_t element = stage->kind == CPU_STAGE_SUM_POOL ? sizeof(int32_t) : sizeof(int16_t);
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
    if (from->layer == CPU_NONE || stage->kind != CPU_STAGE_CONV) continue;
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
    if (stage->kind == CPU_STAGE_SUBSAMPLE || stage->kind == CPU_STAGE_LOAD) continue;
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
    if (map->read < map->written) map->read = map->written;
    place_map(plan, m);
  }
}

/* ---- the whole ---- */

static qe_status plan_all(planner *p) {
  cpu_network *plan = p->plan;
  p->taken = QE_NEW_ARRAY(bool, p->network->layers);
  plan->map_of = QE_NEW_ARRAY(int32_t, p->network->layers);
  if (!p->taken || !plan->map_of) return QE_NO_MEMORY;
  for (size_t i = 0; i < p->network->layers; i++) plan->map_of[i] = CPU_NONE;
  QE_TRY(plan_layers(p));
  set_rings(plan);
  if (plan->single) QE_TRY(cpu_planes_choose(plan));
  QE_TRY(choose(plan));
  lay_out(plan);
  return QE_OK;
}

qe_status cpu_network_new(const qe_network *network, const bool *evolves, const cpu_lane_kernels *kernels, bool single,
                          cpu_network **out) {
  cpu_network *plan = QE_NEW(cpu_network);
  if (!plan) return QE_NO_MEMORY;
  plan->network = network;
  plan->kernels = kernels;
  plan->single = single;
  planner p = {.plan = plan, .network = network, .evolves = evolves};
  qe_status status = plan_all(&p);
  qe_free(p.taken);
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
  qe_free(plan);
}
