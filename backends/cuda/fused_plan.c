/* Plan of the engine `fused`: where tensors lie in shared memory, and the stages as the kernel reads them. */
#include "backends/cuda/fused.h"

#include "core/base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum {
  OLDEST = 80,                                /* compute capability that has these matrix instructions */
  ALIGNED = 128,                              /* of a map's place */
  ROW_BYTES = 16,                             /* of a chunk, what a lane of ldmatrix reads */
  MOST_TAPS = (1 << QK_FUSED_PLACE_BITS) - 4, /* along an axis: places are packed in words */
  MOST_CHANNELS = QK_FUSED_GROUP << (QK_FUSED_PLACE_BITS - 1),
  MOST_BYTES = 1 << 29 /* of weights: offsets are 32 bits */
};

static int32_t rounded(int32_t value, int32_t to) {
  return (value + to - 1) / to * to;
}

/* ---- what the engine takes ---- */

/* What keeps all that follows far from the limits of its types. */
static const char *refuse_layer(const cuda_device *device, const qe_network_layer *layer) {
  const int32_t *dim = layer->output.dim, *kernel = layer->attrs.window.kernel;
  if ((size_t)qe_count(&layer->output) > device->shared_most) return "a tensor larger than shared memory";
  if (dim[QE_H] > MOST_TAPS || dim[QE_W] > MOST_TAPS || dim[QE_C] > MOST_CHANNELS)
    return "a tensor of too many rows, columns or channels";
  if (layer->weight && (kernel[0] > MOST_TAPS || kernel[1] > MOST_TAPS)) return "a window of too many taps";
  return NULL;
}

const char *fused_refuse(const qe_device *base, const qe_network *network) {
  const cuda_device *device = (const cuda_device *)base;
  if (device->capability < OLDEST) return "needs compute capability 8.0";
  if (!cuda_multiplies_codes(device)) return "needs a build with device code for compute capability 8.0 or newer";
  for (size_t i = 0; i < network->layers; i++) {
    const char *why = refuse_layer(device, &network->layer[i]);
    if (why) return why;
  }
  return qe_stages_refuse(network);
}

/* ---- maps ---- */

static int32_t larger(int64_t a, int64_t b) {
  int64_t c = a > b ? a : b;
  return c > INT32_MAX ? INT32_MAX : (int32_t)c;
}

static bool is_pixels(const fused_plan *plan, int32_t tensor) {
  return plan->map[tensor].words == 1;
}

/* A window's taps as the kernel reads them: four pixels at a time where a pixel is a word. */
static int32_t taps_across(const fused_plan *plan, const qe_stage_source *from) {
  int32_t taps = from->window.kernel[1];
  return is_pixels(plan, from->tensor) ? rounded(taps, 4) : taps;
}

/* How far the windows of a convolution reach beyond the map. */
static void grow_ring(fused_plan *plan, const qe_stage_source *from) {
  fused_map *map = &plan->map[from->tensor];
  const qe_window *w = &from->window;
  const int32_t size[2] = {map->height, map->width}, taps[2] = {w->kernel[0], taps_across(plan, from)};
  for (int axis = 0; axis < 2; axis++) {
    int64_t last = (int64_t)(qe_window_extent(w, axis, size[axis]) - 1) * w->stride[axis] - w->pad[axis] +
                   (int64_t)(taps[axis] - 1) * w->dilation[axis];
    map->ring[axis] = larger(map->ring[axis], w->pad[axis]);
    map->ring[2 + axis] = larger(map->ring[2 + axis], last - (size[axis] - 1));
  }
}

/* Images of few channels have one word a pixel, unless they are a skip connection's codes. */
static bool may_be_pixels(const fused_plan *plan) {
  if (plan->network->layer[0].output.dim[QE_C] > QK_FUSED_WORD) return false;
  for (size_t s = 0; s < plan->stages->stages; s++)
    if (plan->stages->stage[s].skip == 0) return false;
  return true;
}

/* An even number of chunks a pixel gets one more, so that eight neighbouring pixels lie in different banks. */
static int32_t pixel_bytes(int32_t words) {
  int32_t bytes = words * QK_FUSED_WORD;
  return words > 1 && bytes / ROW_BYTES % 2 == 0 ? bytes + ROW_BYTES : bytes;
}

static void set_map(fused_plan *plan, int32_t tensor, int32_t stage) {
  const int32_t *dim = plan->network->layer[tensor].output.dim;
  fused_map *map = &plan->map[tensor];
  bool pixels = tensor == 0 && may_be_pixels(plan);
  *map = (fused_map){.stored = true,
                     .height = dim[QE_H],
                     .width = dim[QE_W],
                     .channels = dim[QE_C],
                     .words = pixels ? 1 : rounded(dim[QE_C], QK_FUSED_GROUP) / QK_FUSED_WORD,
                     .first = stage,
                     .last = plan->stages->reader[tensor],
                     .root = tensor};
  map->pixel = pixel_bytes(map->words);
  if (map->last < stage) map->last = stage;
}

static bool same_geometry(const fused_map *a, const fused_map *b) {
  return a->height == b->height && a->width == b->width && a->words == b->words &&
         memcmp(a->ring, b->ring, sizeof a->ring) == 0;
}

/* A stage's first output takes the place of the skip connection's codes that die there: each word is read by the thread
 * that then writes it, and nothing else of the stage reads them. */
static void take_over(fused_plan *plan, int32_t at) {
  const qe_stage *stage = &plan->stages->stage[at];
  int32_t out = stage->output[0] != QE_NO_LAYER ? stage->output[0] : stage->output[1], skip = stage->skip;
  if (out == QE_NO_LAYER || skip == QE_NO_LAYER || stage->from[0].tensor == skip) return; /* then from[1] is none */
  if (plan->map[skip].last != at || !same_geometry(&plan->map[skip], &plan->map[out])) return;
  int32_t root = plan->map[skip].root;
  plan->map[out].root = root;
  if (plan->map[root].last < plan->map[out].last) plan->map[root].last = plan->map[out].last;
}

/* The lowest place at which a map overlaps none that lives at the same time. */
static void place_map(fused_plan *plan, fused_map *map) {
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t i = 0; i < plan->network->layers; i++) {
      const fused_map *other = &plan->map[i];
      if (!other->stored || other->root != (int32_t)i || other->offset < 0) continue;
      if (other->last < map->first || map->last < other->first) continue;
      if (map->offset >= other->offset + other->bytes || other->offset >= map->offset + map->bytes) continue;
      map->offset = other->offset + other->bytes;
      moved = true;
    }
  }
}

/* Largest first. Places are found from 0 upwards; `offset` is -1 until then. */
static void place_maps(fused_plan *plan, int64_t *arena) {
  for (;;) {
    fused_map *next = NULL;
    for (size_t i = 0; i < plan->network->layers; i++) {
      fused_map *map = &plan->map[i];
      if (map->stored && map->root == (int32_t)i && map->offset < 0 && (!next || map->bytes > next->bytes)) next = map;
    }
    if (!next) break;
    fused_map placed = *next;
    placed.offset = 0;
    place_map(plan, &placed);
    next->offset = placed.offset;
    if (placed.offset + placed.bytes > *arena) *arena = placed.offset + placed.bytes;
  }
  for (size_t i = 0; i < plan->network->layers; i++)
    if (plan->map[i].stored) plan->map[i].offset = plan->map[plan->map[i].root].offset;
}

static void make_maps(fused_plan *plan, int64_t *arena) {
  const qe_stages *stages = plan->stages;
  for (size_t s = 0; s < stages->stages; s++)
    for (int k = 0; k < 2; k++)
      if (stages->stage[s].output[k] != QE_NO_LAYER) set_map(plan, stages->stage[s].output[k], (int32_t)s);
  for (size_t s = 0; s < stages->stages; s++)
    for (int k = 0; k < 2; k++)
      if (stages->stage[s].kind == QE_STAGE_CONV && stages->stage[s].from[k].layer != QE_NO_LAYER)
        grow_ring(plan, &stages->stage[s].from[k]);
  for (size_t s = 0; s < stages->stages; s++) take_over(plan, (int32_t)s);
  for (size_t i = 0; i < plan->network->layers; i++) {
    fused_map *map = &plan->map[i];
    map->row = map->pixel * ((int64_t)map->width + map->ring[1] + map->ring[3]);
    int64_t rows = (int64_t)map->height + map->ring[0] + map->ring[2];
    bool fits = map->row < INT32_MAX && rows < INT32_MAX / (map->row + 1);
    map->bytes = fits ? (map->row * rows + ALIGNED - 1) / ALIGNED * ALIGNED : INT32_MAX;
    map->offset = -1;
  }
  place_maps(plan, arena);
}

/* ---- stages ---- */

static qk_fused_map kernel_map(const fused_map *map) {
  return (qk_fused_map){.origin = (qk_int)(map->offset + map->ring[0] * map->row + map->ring[1] * map->pixel),
                        .row = (qk_int)map->row,
                        .pixel = (qk_int)map->pixel};
}

/* A window's chunks of 16 codes, in the order in which the kernel takes them. */
typedef struct window_parts {
  int32_t rows, columns, subs; /* columns: of four taps each where a pixel is a word */
} window_parts;

static window_parts parts_of(const fused_plan *plan, const qe_stage_source *from) {
  bool pixels = is_pixels(plan, from->tensor);
  return (window_parts){.rows = from->window.kernel[0],
                        .columns = pixels ? taps_across(plan, from) / 4 : from->window.kernel[1],
                        .subs = pixels ? 1 : plan->map[from->tensor].words * QK_FUSED_WORD / QK_FUSED_GROUP};
}

static int32_t place_of(int32_t row, int32_t column, int32_t sub) {
  return row | column << QK_FUSED_PLACE_BITS | sub << 2 * QK_FUSED_PLACE_BITS;
}

/* Entry `at` of the order for any window: taps, in each its channels. Negative behind the last one. */
static int32_t place_any(const window_parts *parts, int32_t at) {
  int32_t tap = at / parts->subs, row = tap / parts->columns;
  return row < parts->rows ? place_of(row, tap % parts->columns, at % parts->subs) : -1;
}

/* [column][32 channels][row]. */
static int32_t place_by_columns(const window_parts *parts, int32_t at) {
  int32_t step = at / 2, row = step % 3, pair = step / 3, pairs = parts->subs / 2;
  return place_of(row, pair / pairs, pair % pairs * 2 + at % 2);
}

static int32_t place_of_form(const window_parts *parts, qk_fused_form form, int32_t at) {
  static const int32_t sixteen[10][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0},
                                         {2, 1}, {0, 2}, {1, 2}, {2, 2}, {-1, 0}};
  if (form == QK_FUSED_ANY) return place_any(parts, at);
  if (form != QK_FUSED_SIXTEEN) return place_by_columns(parts, at);
  return sixteen[at][0] < 0 ? -1 : place_of(sixteen[at][0], sixteen[at][1], 0);
}

/* Bytes from the window's corner; for no part of it those of the first, whose codes meet zero weights. */
static int32_t chunk_offset(const fused_plan *plan, const qe_stage_source *from, int32_t place) {
  const int32_t mask = (1 << QK_FUSED_PLACE_BITS) - 1;
  const fused_map *map = &plan->map[from->tensor];
  if (place < 0) return 0;
  int32_t row = place & mask, column = place >> QK_FUSED_PLACE_BITS & mask, sub = place >> 2 * QK_FUSED_PLACE_BITS;
  int64_t across = map->pixel * (is_pixels(plan, from->tensor) ? 4 : 1);
  return (int32_t)(row * from->window.dilation[0] * map->row + column * from->window.dilation[1] * across +
                   sub * QK_FUSED_GROUP);
}

/* Lists the window's parts for the preparation of weights, and their offsets for the kernel: where its table has the
 * same entries already, those serve. */
static qe_status add_chunks(fused_plan *plan, const qe_stage_source *from, qk_fused_form form, qk_fused_source *to) {
  window_parts parts = parts_of(plan, from);
  to->steps = (parts.rows * parts.columns * parts.subs + 1) / 2;
  size_t count = 2 * (size_t)to->steps, at = 0;
  QE_TRY(qe_reserve(&plan->chunk, &plan->chunk_capacity, plan->chunks + count, sizeof *plan->chunk));
  QE_TRY(qe_reserve(&plan->place, &plan->place_capacity, plan->places + count, sizeof *plan->place));
  int32_t *list = plan->chunk + plan->chunks;
  for (size_t i = 0; i < count; i++) {
    int32_t place = place_of_form(&parts, form, (int32_t)i);
    plan->place[plan->places + i] = place;
    list[i] = chunk_offset(plan, from, place);
  }
  while (memcmp(plan->chunk + at, list, count * sizeof *list) != 0) at++;
  to->chunk = (qk_int)at;
  if (at + count > plan->chunks) plan->chunks = at + count;
  plan->places += count;
  return QE_OK;
}

static qk_fused_layout layout_of(const qk_fused_stage *to) {
  if (!(to->flags & QK_FUSED_FAST)) return QK_FUSED_IN_ORDER;
  if (to->width % QK_FUSED_TILE == 0 && to->height % QK_FUSED_TILES == 0) return QK_FUSED_ROWS_OF_16;
  return to->width == 8 && to->height % (2 * QK_FUSED_TILES) == 0 ? QK_FUSED_ROWS_OF_8 : QK_FUSED_IN_ORDER;
}

/* The forms that keep rows of the input in registers. */
static qk_fused_form form_of(const qe_stage_source *from, const qk_fused_stage *to) {
  const qe_window *w = &from->window;
  int32_t channels = to->in_words * QK_FUSED_WORD;
  for (int axis = 0; axis < 2; axis++)
    if (w->kernel[axis] != 3 || w->stride[axis] != 1 || w->dilation[axis] != 1) return QK_FUSED_ANY;
  if (to->layout == QK_FUSED_IN_ORDER || (to->from[0].flags & (QK_FUSED_PIXELS | QK_FUSED_SIGNED))) return QK_FUSED_ANY;
  if (channels % (2 * QK_FUSED_GROUP) == 0) return QK_FUSED_COLUMNS;
  return channels == QK_FUSED_GROUP && to->layout == QK_FUSED_ROWS_OF_16 ? QK_FUSED_SIXTEEN : QK_FUSED_ANY;
}

static const qk_fused_kind kernel_kind[] = {
    [QE_STAGE_GATHER] = QK_FUSED_GATHER,     [QE_STAGE_CONV] = QK_FUSED_CONV,
    [QE_STAGE_SUM_POOL] = QK_FUSED_SUM_POOL, [QE_STAGE_LOAD] = QK_FUSED_LOAD,
    [QE_STAGE_MAX_POOL] = QK_FUSED_MAX_POOL, [QE_STAGE_SUBSAMPLE] = QK_FUSED_SUBSAMPLE};

static bool is_signed(const fused_plan *plan, int32_t tensor) {
  return plan->network->layer[tensor].output.dtype == QE_S8;
}

/* What a window needs of the map it reads. */
static void set_source(const fused_plan *plan, const qe_stage *stage, const qe_stage_source *from,
                       qk_fused_source *to) {
  const fused_map *map = &plan->map[from->tensor];
  const qe_window *w = &from->window;
  to->map = kernel_map(map);
  if (is_signed(plan, from->tensor)) to->flags |= QK_FUSED_SIGNED;
  if (stage->kind != QE_STAGE_CONV) return;
  if (is_pixels(plan, from->tensor)) to->flags |= QK_FUSED_PIXELS;
  to->map.origin -= w->pad[0] * to->map.row + w->pad[1] * to->map.pixel;
  to->map.row *= w->stride[0];
  to->map.pixel *= w->stride[1];
  to->step = (qk_int)map->pixel * w->dilation[1];
}

static void set_input(const fused_plan *plan, const qe_stage *stage, qk_fused_stage *to) {
  const qe_stage_source *from = &stage->from[0];
  if (stage->kind == QE_STAGE_GATHER) {
    to->in_channels = plan->network->layer[0].output.dim[QE_C];
    return;
  }
  const fused_map *map = &plan->map[from->tensor];
  to->in_words = map->words;
  to->in_height = map->height;
  to->in_width = map->width;
  to->in_channels = map->channels;
  to->pad_channels = plan->network->layer[from->layer].attrs.pad_channels[0];
  for (int axis = 0; axis < 2; axis++) {
    to->kernel[axis] = from->window.kernel[axis];
    to->stride[axis] = from->window.stride[axis];
    to->pad[axis] = from->window.pad[axis];
  }
  for (int k = 0; k < 2; k++)
    if (stage->from[k].layer != QE_NO_LAYER) set_source(plan, stage, &stage->from[k], &to->from[k]);
  if (stage->from[1].layer != QE_NO_LAYER) to->flags |= QK_FUSED_TWO;
}

static qk_int reciprocal(int32_t divisor) {
  return divisor > 1 ? (qk_int)((UINT64_C(1) << 32) / (uint64_t)divisor + 1) : 0;
}

static void set_outputs(const fused_plan *plan, const qe_stage *stage, qk_fused_stage *to) {
  static const int flag[2] = {QK_FUSED_OUT, QK_FUSED_COARSER};
  int32_t result = stage->requant != QE_NO_LAYER ? stage->requant : stage->from[0].layer;
  const qe_desc *desc = &plan->network->layer[result].output;
  to->height = desc->dim[QE_H];
  to->width = desc->dim[QE_W];
  to->words = result == 0 ? plan->map[0].words : rounded(desc->dim[QE_C], QK_FUSED_GROUP) / QK_FUSED_WORD;
  to->per_width = reciprocal(to->width);
  to->per_across = reciprocal(to->width / QK_FUSED_TILE);
  to->per_groups = reciprocal(to->words * QK_FUSED_WORD / QK_FUSED_GROUP);
  to->per_words = reciprocal(to->words);
  to->constants = -1;
  if (desc->dtype == QE_S32) to->flags |= QK_FUSED_LOGITS;
  for (int k = 0; k < 2; k++) {
    if (stage->output[k] == QE_NO_LAYER) continue;
    const fused_map *map = &plan->map[stage->output[k]];
    to->flags |= flag[k];
    to->out[k] = kernel_map(map);
    to->ring[k] = (qk_fused_ring){.height = map->height, .width = map->width};
    memcpy(to->ring[k].ring, map->ring, sizeof map->ring);
  }
  if (stage->skip == QE_NO_LAYER) return;
  to->flags |= QK_FUSED_SKIP | (is_signed(plan, stage->skip) ? QK_FUSED_SKIP_SIGNED : 0);
  to->skip = kernel_map(&plan->map[stage->skip]);
  to->skip_words = plan->map[stage->skip].words;
}

/* ---- rings ---- */

static bool has_ring(const fused_map *map) {
  return map->ring[0] || map->ring[1] || map->ring[2] || map->ring[3];
}

/* Whether a map's ring still is as an earlier map of the same place and geometry left it: `holder` [layers] tells for
 * each map whether its ring lies in memory unharmed. */
static bool ring_holds(fused_plan *plan, int32_t tensor, bool *holder) {
  const fused_map *map = &plan->map[tensor];
  bool holds = false;
  for (size_t i = 0; i < plan->network->layers; i++) {
    const fused_map *other = &plan->map[i];
    if (!holder[i]) continue;
    if (other->offset == map->offset && same_geometry(other, map))
      holds = true;
    else if (other->offset < map->offset + map->bytes && map->offset < other->offset + other->bytes)
      holder[i] = false;
  }
  holder[tensor] = true;
  return holds;
}

/* Images follow each other: the second pass sees what the first one left. */
static void find_cleared(fused_plan *plan, bool *holder) {
  static const int flag[2] = {QK_FUSED_CLEAR, QK_FUSED_CLEAR_COARSER};
  for (int pass = 0; pass < 2; pass++)
    for (size_t s = 0; s < plan->stages->stages; s++)
      for (int k = 0; k < 2; k++) {
        int32_t tensor = plan->stages->stage[s].output[k];
        if (tensor == QE_NO_LAYER || ring_holds(plan, tensor, holder) || !has_ring(&plan->map[tensor])) continue;
        if (pass) plan->params.stage[s].flags |= flag[k];
      }
}

/* ---- the whole ---- */

static qe_status make_stage(fused_plan *plan, size_t at) {
  const qe_stage *stage = &plan->stages->stage[at];
  qk_fused_stage *to = &plan->params.stage[at];
  to->kind = kernel_kind[stage->kind];
  set_outputs(plan, stage, to);
  set_input(plan, stage, to);
  if (stage->requant != QE_NO_LAYER) fused_plan_requant(plan, stage, to);
  if (stage->kind != QE_STAGE_CONV) return QE_OK;
  to->layout = layout_of(to);
  to->form = form_of(&stage->from[0], to);
  for (int k = 0; k < 2; k++) {
    size_t place = plan->places;
    if (stage->from[k].layer == QE_NO_LAYER) continue;
    QE_TRY(add_chunks(plan, &stage->from[k], (qk_fused_form)to->form, &to->from[k]));
    fused_plan_weights(plan, &stage->from[k], (qk_int)place, &to->from[k]);
  }
  return QE_OK;
}

static qe_status make_stages(fused_plan *plan) {
  bool *holder = QE_NEW_ARRAY(bool, plan->network->layers);
  if (!holder) return QE_NO_MEMORY;
  qe_status status = QE_OK;
  for (size_t s = 0; status == QE_OK && s < plan->stages->stages; s++) status = make_stage(plan, s);
  find_cleared(plan, holder);
  qe_free(holder);
  return status;
}

static qe_status too_large(const cuda_device *device, int64_t bytes) {
  return qe_fail(QE_REFUSED, "the network's maps take %lld KiB of shared memory, a thread block has %zu",
                 (long long)(bytes >> 10) + 1, device->shared_most >> 10);
}

/* Behind the maps: constants of two stages, totals, the chunk table, logits. */
static void lay_out_shared(fused_plan *plan, int64_t arena) {
  qk_params_fused *params = &plan->params;
  params->classes = plan->network->layer[plan->network->layers - 1].output.dim[QE_C];
  params->stages = (qk_int)plan->stages->stages;
  params->chunks = (qk_int)plan->chunks;
  for (size_t s = 0; s < plan->stages->stages; s++)
    if (params->stage[s].constants >= 0)
      params->constants = larger(params->constants, params->stage[s].words * QK_FUSED_WORD);
  size_t used = (size_t)arena;
  params->constants_at = (qk_int)used;
  used += 2 * (size_t)params->constants * sizeof(qk_fused_constants);
  params->totals_at = (qk_int)used;
  used += 3 * sizeof(int64_t); /* and where a candidate's own constants lie */
  params->chunks_at = (qk_int)used;
  used += plan->chunks * sizeof(int32_t);
  params->logits_at = (qk_int)used;
  plan->shared_bytes = used + (size_t)rounded(params->classes, QK_FUSED_GROUP) * sizeof(int32_t);
}

static qe_status fill_plan(const cuda_device *device, fused_plan *plan) {
  const qe_network *network = plan->network;
  int64_t arena = 0;
  plan->evolves = QE_NEW_ARRAY(bool, network->layers);
  plan->map = QE_NEW_ARRAY(fused_map, network->layers);
  if (!plan->evolves || !plan->map) return QE_NO_MEMORY;
  for (size_t g = 0; g < plan->layout->genes; g++) plan->evolves[plan->layout->gene[g].layer] = true;
  QE_TRY(qe_stages_new(network, plan->evolves, &plan->stages));
  if (plan->stages->stages > QK_FUSED_STAGES)
    return qe_fail(QE_REFUSED, "the network has %zu stages, the kernel takes %d", plan->stages->stages,
                   QK_FUSED_STAGES);
  make_maps(plan, &arena);
  if (arena > (int64_t)device->shared_most) return too_large(device, arena);
  QE_TRY(make_stages(plan));
  if (plan->own_bytes > MOST_BYTES || plan->common_bytes > MOST_BYTES || plan->layout->bytes > MOST_BYTES)
    return qe_fail(QE_REFUSED, "the network has more than %d MiB of constants", MOST_BYTES >> 20);
  lay_out_shared(plan, arena);
  return plan->shared_bytes > device->shared_most ? too_large(device, (int64_t)plan->shared_bytes) : QE_OK;
}

qe_status fused_plan_new(const cuda_device *device, const qe_network *network, const qe_genome_layout *layout,
                         fused_plan **out) {
  static const qe_genome_layout nothing;
  fused_plan *plan = QE_NEW(fused_plan);
  if (!plan) return QE_NO_MEMORY;
  plan->network = network;
  plan->layout = layout ? layout : &nothing;
  qe_status status = fill_plan(device, plan);
  if (status == QE_OK)
    *out = plan;
  else
    fused_plan_free(plan);
  return status;
}

void fused_plan_free(fused_plan *plan) {
  if (!plan) return;
  qe_stages_free(plan->stages);
  qe_free(plan->evolves);
  qe_free(plan->map);
  qe_free(plan->chunk);
  qe_free(plan->place);
  qe_free(plan);
}
