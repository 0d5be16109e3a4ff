/* Chains of tile ops: each tile goes through all calls before the next is touched, so what passes between the calls
 * stays in the cache. A single op is a chain of one, so fusing changes no bit of a result. */
#include "backends/cpu/tiles.h"

#include "backends/cpu/parallel.h"
#include "backends/cpu/tile_ops.h"
#include "core/base/alloc.h"

enum { ALIGN = QE_ALIGNMENT / sizeof(float), CHUNK = 32768 /* elements that a thread takes at a time */ };

typedef struct tile_link {
  qe_call call; /* data of dead vectors and scalars: set by each run */
  const cpu_tile_op *op;
  cpu_tile_kernel kernel;           /* NULL: all is done after the tiles */
  bool map[QE_MAX_OPERANDS];        /* cut into tiles */
  int slot[QE_MAX_OPERANDS];        /* tile of scratch memory that holds a dead map; -1: in memory */
  int64_t private[QE_MAX_OPERANDS]; /* offset in the scratch memory of a dead vector; -1: in memory */
  int64_t params, sums;             /* offsets in the parameters, and in the sums of a tile */
} tile_link;

/* A dead value: what it is called, where it lies, the last call that touches it. */
typedef struct dead_value {
  const qe_buffer *buffer;
  size_t offset;
  int slot, last;
  int64_t private;
} dead_value;

typedef struct tile_chain {
  cpu_grid grid;
  int count, slots;
  int64_t tiles;
  int64_t privates, params, sums; /* elements: dead vectors, parameters, sums of a tile */
  tile_link *link;
} tile_chain;

static int64_t aligned(int64_t elements) {
  return (elements + ALIGN - 1) / ALIGN * ALIGN;
}

/* ---- preparing ---- */

typedef struct planner {
  const qe_call *calls;
  int count;
  dead_value value[CPU_CHAIN_MAX * QE_MAX_OPERANDS];
  int values;
  int slot_until[CPU_CHAIN_MAX * QE_MAX_OPERANDS]; /* the last call that needs the slot's content */
} planner;

static bool same_value(const qe_operand *a, const qe_operand *b) {
  return a->buffer == b->buffer && a->offset == b->offset;
}

/* The newest dead value of this name, or NULL. */
static dead_value *find_dead(planner *plan, const qe_operand *operand) {
  for (int i = plan->values - 1; i >= 0; i--)
    if (plan->value[i].buffer == operand->buffer && plan->value[i].offset == operand->offset) return &plan->value[i];
  return NULL;
}

/* The last call that touches the value written by call `from`. */
static int last_use(const planner *plan, const qe_operand *value, int from) {
  int last = from;
  for (int c = from + 1; c < plan->count; c++)
    for (int i = 0; i < plan->calls[c].operands; i++)
      if (same_value(&plan->calls[c].operand[i], value)) last = c;
  return last;
}

static int take_slot(tile_chain *chain, planner *plan, int call, int until) {
  int slot = 0;
  while (slot < chain->slots && plan->slot_until[slot] > call) slot++;
  if (slot == chain->slots) chain->slots++;
  plan->slot_until[slot] = until;
  return slot;
}

static void place_operand(tile_chain *chain, planner *plan, int call, int i) {
  tile_link *link = &chain->link[call];
  const qe_operand *operand = &link->call.operand[i];
  const qe_operand_info *info = &qe_op_get_info(link->call.op)->operand[i];
  link->map[i] = cpu_tile_operand_is_map(link->call.op, i);
  link->slot[i] = -1;
  link->private[i] = -1;
  if (!operand->dead || info->kind == QE_KIND_SHAPE) return;
  dead_value *value = find_dead(plan, operand);
  if (!value || info->role == QE_WRITE) {
    value = &plan->value[plan->values++];
    *value = (dead_value){operand->buffer, operand->offset, -1, last_use(plan, operand, call), -1};
    if (link->map[i]) {
      value->slot = take_slot(chain, plan, call, value->last);
    } else {
      value->private = chain->privates;
      chain->privates += aligned(qe_count(&operand->desc));
    }
  }
  link->slot[i] = value->slot;
  link->private[i] = value->private;
}

static qe_status plan_chain(tile_chain *chain, const cpu_kernels *kernels, const qe_call *calls) {
  planner *plan = QE_NEW(planner);
  if (!plan) return QE_NO_MEMORY;
  plan->calls = calls;
  plan->count = chain->count;
  for (int c = 0; c < chain->count; c++) {
    tile_link *link = &chain->link[c];
    link->call = calls[c];
    link->op = cpu_tile_op_of(&calls[c]);
    link->kernel = kernels->tile[calls[c].op];
    /* Inputs first: an output may take the slot of an input that dies here. */
    for (int write = 0; write < 2; write++)
      for (int i = 0; i < calls[c].operands; i++)
        if ((qe_op_get_info(calls[c].op)->operand[i].role == QE_WRITE) == write) place_operand(chain, plan, c, i);
    link->params = chain->params;
    link->sums = chain->sums;
    chain->params += aligned(link->op->vectors * chain->grid.pattern + link->op->scalars);
    chain->sums += link->op->channel_sums * chain->grid.channels + link->op->scalar_sums;
  }
  chain->sums = aligned(chain->sums);
  qe_free(plan);
  return QE_OK;
}

void cpu_chain_release(void *state) {
  tile_chain *chain = state;
  qe_free(chain->link);
  qe_free(chain);
}

qe_status cpu_chain_prepare(qe_device *device, const qe_call *calls, int count, void **state) {
  tile_chain *new = QE_NEW(tile_chain);
  if (!new) return QE_NO_MEMORY;
  new->count = count;
  new->grid = cpu_grid_of(calls);
  new->tiles = (new->grid.count + new->grid.tile - 1) / new->grid.tile;
  new->link = QE_NEW_ARRAY(tile_link, count);
  qe_status status = new->link ? plan_chain(new, ((cpu_device *)device)->kernels, calls) : QE_NO_MEMORY;
  if (status != QE_OK) {
    cpu_chain_release(new);
    return status;
  }
  *state = new;
  return QE_OK;
}

/* ---- running ---- */

typedef struct chain_run {
  const tile_chain *chain;
  float *privates, *params, *sums, *threads;
  int64_t thread_stride;
} chain_run;

static void run_link(const chain_run *run, const tile_link *link, int64_t tile, float *scratch) {
  const tile_chain *chain = run->chain;
  const cpu_grid *grid = &chain->grid;
  int64_t start = tile * grid->tile, left = grid->count - start;
  cpu_tile work = {
      .count = left < grid->tile ? left : grid->tile,
      .channels = grid->channels,
      .pattern = grid->pattern,
      .params = run->params + link->params,
      .sums = run->sums + tile * chain->sums + link->sums,
      .work = scratch,
      .attrs = &link->call.attrs,
  };
  for (int i = 0; i < link->call.operands; i++) {
    if (!link->map[i]) continue;
    if (link->slot[i] >= 0)
      work.operand[i] = scratch + CPU_WORK_VECTORS * grid->pattern + link->slot[i] * grid->tile;
    else
      work.operand[i] = (float *)link->call.operand[i].data + start;
  }
  link->kernel(&work);
}

static void run_tiles(void *context, int64_t first, int64_t last, int thread) {
  const chain_run *run = context;
  float *scratch = run->threads + thread * run->thread_stride;
  for (int64_t tile = first; tile < last; tile++)
    for (int c = 0; c < run->chain->count; c++)
      if (run->chain->link[c].kernel) run_link(run, &run->chain->link[c], tile, scratch);
}

static qe_status lay_out_scratch(qe_queue *queue, const tile_chain *chain, chain_run *run, double **work) {
  const cpu_grid *grid = &chain->grid;
  int64_t work_elements = aligned(4 * grid->channels + 4); /* 2 * channels doubles */
  run->chain = chain;
  run->thread_stride = CPU_WORK_VECTORS * grid->pattern + chain->slots * grid->tile + ALIGN;
  int64_t elements = chain->privates + chain->params + chain->tiles * chain->sums + work_elements +
                     cpu_device_of(queue)->threads * run->thread_stride;
  void *scratch;
  QE_TRY(cpu_queue_scratch((cpu_queue *)queue, (size_t)elements * sizeof(float), &scratch));
  *work = scratch;
  run->privates = (float *)scratch + work_elements;
  run->params = run->privates + chain->privates;
  run->sums = run->params + chain->params;
  run->threads = run->sums + chain->tiles * chain->sums;
  return QE_OK;
}

qe_status cpu_chain_run(qe_queue *queue, const qe_call *calls, int count, void *state) {
  (void)calls;
  (void)count;
  tile_chain *chain = state;
  chain_run run;
  double *work;
  QE_TRY(lay_out_scratch(queue, chain, &run, &work));
  for (int c = 0; c < chain->count; c++) {
    tile_link *link = &chain->link[c];
    for (int i = 0; i < link->call.operands; i++)
      if (link->private[i] >= 0) link->call.operand[i].data = run.privates + link->private[i];
    if (link->op->begin) link->op->begin(&link->call, &chain->grid, run.params + link->params);
  }
  bool tiles = false;
  for (int c = 0; c < chain->count; c++) tiles = tiles || chain->link[c].kernel;
  if (tiles) {
    int64_t chunk = CHUNK / chain->grid.tile;
    cpu_parallel(cpu_device_of(queue), chain->tiles, chunk < 1 ? 1 : chunk, chain->grid.count * chain->count, run_tiles,
                 &run);
  }
  for (int c = 0; c < chain->count; c++) {
    const tile_link *link = &chain->link[c];
    cpu_tile_sums sums = {run.sums + link->sums, chain->tiles, chain->sums, work};
    if (link->op->end) link->op->end(&link->call, &chain->grid, &sums);
  }
  return QE_OK;
}

/* ---- a single op ---- */

static const char *tiles_refuse(const qe_device *device, const qe_call *call) {
  (void)device;
  return cpu_tile_op_of(call) ? NULL : "has a step for each channel";
}

static qe_status tiles_prepare(qe_device *device, const qe_call *call, void **state) {
  return cpu_chain_prepare(device, call, 1, state);
}

static qe_status tiles_run(qe_queue *queue, const qe_call *call, void *state) {
  return cpu_chain_run(queue, call, 1, state);
}

const qe_impl cpu_impl_tiles = {
    .name = "tiles",
    .refuse = tiles_refuse,
    .prepare = tiles_prepare,
    .run = tiles_run,
    .release = cpu_chain_release,
};
