/* Stages of a planned network on one chunk of images. */
#include "backends/cpu/network.h"
#include "core/base/alloc.h"

#include <string.h>

static int32_t smaller(int32_t a, int32_t b) {
  return a < b ? a : b;
}

static size_t logits_bytes(const cpu_network *plan) {
  return (size_t)plan->classes * (size_t)plan->kernels->lanes * sizeof(int32_t);
}

size_t cpu_workspace_bytes(const cpu_network *plan) {
  return 2 * cpu_aligned(plan->arena_bytes) + 2 * cpu_aligned(plan->sums_bytes) + cpu_aligned(plan->scratch_bytes) +
         cpu_aligned(plan->columns_bytes) + cpu_aligned(logits_bytes(plan));
}

void cpu_workspace_set(const cpu_network *plan, void *memory, cpu_workspace *workspace) {
  uint8_t *at = memory;
  workspace->arena = at;
  workspace->parent = at += cpu_aligned(plan->arena_bytes);
  workspace->sums[0] = at += cpu_aligned(plan->arena_bytes);
  workspace->sums[1] = at += cpu_aligned(plan->sums_bytes);
  workspace->scratch = at += cpu_aligned(plan->sums_bytes);
  workspace->columns = at += cpu_aligned(plan->scratch_bytes);
  workspace->logits = (int32_t *)(void *)(at + cpu_aligned(plan->columns_bytes));
  memset(workspace->columns, 0, cpu_aligned(plan->columns_bytes));
  memset(workspace->sums[0], 0, 2 * cpu_aligned(plan->sums_bytes));
  for (size_t m = 0; m < plan->maps; m++) {
    const cpu_lane_map *map = &plan->map[m];
    memset(workspace->arena + map->offset, map->zero, map->bytes);
    memset(workspace->parent + map->offset, map->zero, map->bytes);
  }
}

typedef struct runner {
  const cpu_network *plan;
  const cpu_workspace *workspace;
  size_t first;
  uint8_t *arena;
  const uint8_t *before;
} runner;

/* Pixel (0, 0) of a map that is read: written in this run, or before it. */
static const uint8_t *input_map(const runner *r, const cpu_lane_map *map) {
  const uint8_t *arena = (size_t)map->written < r->first ? r->before : r->arena;
  return arena + map->offset + map->origin;
}

static uint8_t *output_map(const runner *r, const cpu_lane_map *map) {
  return r->arena + map->offset + map->origin;
}

/* The task of a producer's window, for output rows from `row` and sites from `site` on. */
static cpu_conv_task window_task(const runner *r, const cpu_producer *from, int32_t row, int32_t site) {
  const cpu_lane_map *in = &r->plan->map[from->input];
  const qe_window *window = &from->shape.window;
  int64_t down = (int64_t)row * window->stride[0] - window->pad[0];
  int64_t right = (int64_t)site * window->stride[1] - window->pad[1];
  return (cpu_conv_task){.shape = &from->shape,
                         .in = input_map(r, in) + down * in->row + right * in->pixel,
                         .in_row = in->row * window->dilation[0],
                         .in_pixel = in->pixel * window->dilation[1],
                         .in_vector = in->vector,
                         .in_site = in->pixel * window->stride[1],
                         .in_line = in->row * window->stride[0],
                         .sums = r->workspace->sums[0],
                         .scratch = r->workspace->scratch};
}

/* From a site to the next: a pixel, or a vector of positions. */
static int64_t site_bytes(const runner *r, const cpu_lane_map *map) {
  return map->planes ? 2 * (int64_t)r->plan->kernels->lanes : map->pixel;
}

static cpu_lane_out output_of(const runner *r, int32_t at, int32_t row, int32_t site) {
  if (at == CPU_NONE) return (cpu_lane_out){0};
  const cpu_lane_map *map = &r->plan->map[at];
  int64_t each = site_bytes(r, map);
  return (cpu_lane_out){.data = output_map(r, map) + row * map->row + site * each,
                        .site = each,
                        .line = map->row,
                        .vector = map->vector,
                        .packing = map->packing};
}

static void requantise(const runner *r, const cpu_stage *stage, const cpu_stage_weights *weights,
                       const cpu_conv_task *made, int32_t row, int32_t site) {
  const qe_network_layer *layer = &r->plan->network->layer[stage->requant];
  cpu_requant_task task = {
      .prepared = weights->requant,
      .sums = r->workspace->sums[0],
      .other = stage->from[1].layer == CPU_NONE ? NULL : r->workspace->sums[1],
      .rows = made->rows,
      .sites = made->sites,
      .out = {output_of(r, stage->output[0], row, site), output_of(r, stage->output[1], row, site)},
      .logits = layer->output.dtype == QE_S32 ? r->workspace->logits : NULL};
  if (stage->skip != CPU_NONE) {
    const cpu_lane_map *skip = &r->plan->map[stage->skip];
    task.skip_site = site_bytes(r, skip);
    task.skip = input_map(r, skip) + row * skip->row + site * task.skip_site;
    task.skip_line = skip->row;
    task.skip_vector = skip->vector;
  }
  r->plan->kernels->requant_run(&task);
}

/* Sums of one producer of a stage, for the rows and sites of the task. */
static void make_sums(const runner *r, const cpu_stage *stage, const cpu_stage_weights *weights, int which,
                      cpu_conv_task *task) {
  task->prepared = weights->prepared[which];
  task->sums = r->workspace->sums[which];
  if (stage->kind == QE_STAGE_CONV)
    weights->form[which]->run(task);
  else if (stage->kind == QE_STAGE_SUM_POOL)
    r->plan->kernels->sum_pool(task);
  else
    r->plan->kernels->load(task);
}

static void run_sums(const runner *r, const cpu_stage *stage, const cpu_stage_weights *weights) {
  int32_t height = stage->from[0].shape.out_height, width = stage->from[0].shape.out_width;
  for (int32_t row = 0; row < height; row += stage->rows)
    for (int32_t site = 0; site < width; site += stage->block) {
      cpu_conv_task task = {0};
      for (int k = 0; k < 2 && stage->from[k].layer != CPU_NONE; k++) {
        task = window_task(r, &stage->from[k], row, site);
        task.rows = smaller(stage->rows, height - row);
        task.sites = smaller(stage->block, width - site);
        make_sums(r, stage, weights, k, &task);
      }
      requantise(r, stage, weights, &task, row, site);
    }
}

static void clear_rings(const runner *r, const cpu_stage *stage) {
  for (int k = 0; k < 2; k++)
    if (stage->output[k] != CPU_NONE) {
      const cpu_lane_map *map = &r->plan->map[stage->output[k]];
      cpu_planes_clear(map, output_map(r, map));
    }
}

/* A producer's whole output as one row of sites, which are vectors of positions. */
static cpu_conv_task positions_task(const runner *r, const cpu_stage *stage, const cpu_producer *from, int32_t sites) {
  const cpu_lane_map *in = &r->plan->map[from->input];
  int32_t lanes = r->plan->kernels->lanes;
  cpu_conv_task task = window_task(r, from, 0, 0);
  task.rows = 1;
  task.in_site = 2 * (int64_t)lanes;
  if (!from->columns) return task;
  int32_t to = stage->output[0] != CPU_NONE ? stage->output[0] : stage->output[1];
  task.in_vector = task.in_site * sites;
  task.in_pixel = task.in_vector * in->vectors;
  task.in_row = task.in_pixel * from->shape.window.kernel[1];
  task.in = r->workspace->columns;
  cpu_planes_columns(in, input_map(r, in), &from->shape, r->plan->map[to].pitch, task.in_vector, r->workspace->columns);
  return task;
}

static void run_positions(const runner *r, const cpu_stage *stage, const cpu_stage_weights *weights) {
  int32_t lanes = r->plan->kernels->lanes, positions = cpu_planes_positions(r->plan, stage);
  int32_t sites = (positions + lanes - 1) / lanes;
  cpu_conv_task whole[2] = {{0}};
  for (int k = 0; k < 2 && stage->from[k].layer != CPU_NONE; k++)
    whole[k] = positions_task(r, stage, &stage->from[k], sites);
  for (int32_t site = 0; site < sites; site += stage->block) {
    cpu_conv_task task = {0};
    for (int k = 0; k < 2 && stage->from[k].layer != CPU_NONE; k++) {
      task = whole[k];
      task.in += site * task.in_site;
      task.sites = smaller(stage->block, sites - site);
      make_sums(r, stage, weights, k, &task);
    }
    requantise(r, stage, weights, &task, 0, site);
  }
  clear_rings(r, stage);
}

static void run_pooled(const runner *r, const cpu_stage *stage, const cpu_stage_weights *weights) {
  const cpu_lane_map *in = &r->plan->map[stage->from[0].input];
  cpu_conv_task task = {.rows = 1, .sites = 1};
  cpu_planes_sum_pool(in, input_map(r, in), &stage->from[0].shape, r->plan->kernels->lanes, r->workspace->sums[0]);
  requantise(r, stage, weights, &task, 0, 0);
}

static void move_planes(const runner *r, const cpu_stage *stage) {
  const cpu_lane_map *in = &r->plan->map[stage->from[0].input], *to = &r->plan->map[stage->output[0]];
  if (stage->kind == QE_STAGE_MAX_POOL)
    cpu_planes_max_pool(in, input_map(r, in), &stage->from[0].shape, to, output_map(r, to));
  else
    cpu_planes_subsample(in, input_map(r, in), &r->plan->network->layer[stage->from[0].layer].attrs, to,
                         output_map(r, to));
}

static void run_move(const runner *r, const cpu_stage *stage) {
  const cpu_lane_map *to = &r->plan->map[stage->output[0]];
  cpu_conv_task task = window_task(r, &stage->from[0], 0, 0);
  task.rows = stage->from[0].shape.out_height;
  task.sites = stage->from[0].shape.out_width;
  if (stage->kind == QE_STAGE_MAX_POOL) {
    r->plan->kernels->max_pool(&task, output_map(r, to), to->row, to->pixel, to->vector);
    return;
  }
  const qe_attrs *attrs = &r->plan->network->layer[stage->from[0].layer].attrs;
  r->plan->kernels->subsample(&task, attrs->pad_channels, output_map(r, to), to->row, to->pixel, to->vector);
}

static void run_gather(const runner *r, const cpu_stage *stage, const cpu_chunk *chunk) {
  const cpu_lane_map *to = &r->plan->map[stage->output[0]];
  if (to->planes) {
    cpu_planes_gather(chunk->image[0], to, output_map(r, to));
    return;
  }
  r->plan->kernels->gather(chunk->image, to->height, to->width, to->channels, output_map(r, to), to->row, to->pixel,
                           to->vector);
}

void cpu_network_run(const cpu_network *plan, const cpu_stage_weights *weights, const cpu_workspace *workspace,
                     const cpu_chunk *chunk, size_t first, size_t last, uint8_t *arena, const uint8_t *before) {
  runner r = {plan, workspace, first, arena, before};
  for (size_t s = first; s < last; s++) {
    const cpu_stage *stage = &plan->stage[s];
    bool planes = stage->from[0].input != CPU_NONE && plan->map[stage->from[0].input].planes;
    if (stage->kind == QE_STAGE_GATHER)
      run_gather(&r, stage, chunk);
    else if (stage->requant == CPU_NONE)
      planes ? move_planes(&r, stage) : run_move(&r, stage);
    else if (!planes)
      run_sums(&r, stage, &weights[s]);
    else
      stage->kind == QE_STAGE_SUM_POOL ? run_pooled(&r, stage, &weights[s]) : run_positions(&r, stage, &weights[s]);
  }
}
