/* Statistics of batch norm on the portable kernels; what else goes by channels is a chain. */
#include "backends/portable/chain.h"

static portable_operand memory_of(const qe_operand *operand) {
  return (portable_operand){operand->buffer, operand->offset};
}

static void split(double value, float *high, float *low) {
  *high = (float)value;
  *low = (float)(value - (double)*high);
}

static qk_params_running running_params(const qe_call *call) {
  const qe_desc *map = &call->operand[0].desc;
  double momentum = (double)call->attrs.momentum, rows = (double)(qe_count(map) / map->dim[QE_C]);
  qk_params_running params = {.count = map->dim[QE_C]};
  split(1 - momentum, &params.keep, &params.keep_rest);
  split(momentum, &params.take, &params.take_rest);
  split(rows > 1 ? momentum * rows / (rows - 1) : momentum, &params.take_var, &params.take_var_rest);
  return params;
}

/* Moments of the parts, into the scratch memory. */
static qe_status run_parts(qe_queue *queue, const qe_call *stats, const portable_grid *grid, qe_buffer *scratch) {
  qk_params_stats params = {grid->count, grid->channels, grid->width, grid->rows, grid->tiles, grid->parts, 0};
  portable_launch launch = {
      .kernel = QK_qk_bn_stats,
      .operands = 2,
      .operand = {memory_of(&stats->operand[0]), {scratch, 0}},
      .params = &params,
      .params_bytes = sizeof params,
      .groups = {(size_t)grid->parts * (size_t)grid->tiles, 1, 1},
      .local = {(size_t)portable_device_of(queue)->limits.group, 1, 1},
  };
  return portable_run(queue, &launch);
}

qe_status portable_stats_run(qe_queue *queue, const qe_call *stats, const qe_call *running) {
  const portable_limits *limits = &portable_device_of(queue)->limits;
  portable_grid grid = portable_grid_of(limits, stats);
  qe_buffer *scratch = NULL;
  size_t vector = (size_t)grid.channels * sizeof(float), partial = (size_t)grid.parts * 4 * vector;
  QE_TRY(portable_scratch(queue, partial + 2 * vector, &scratch));
  QE_TRY(run_parts(queue, stats, &grid, scratch));
  qk_params_stats_end params = {.channels = grid.channels, .width = portable_end_width(limits), .parts = grid.parts};
  portable_operand mean = memory_of(&stats->operand[1]), var = memory_of(&stats->operand[2]);
  if (stats->operand[1].dead) mean = (portable_operand){scratch, partial};
  if (stats->operand[2].dead) var = (portable_operand){scratch, partial + vector};
  portable_launch launch = {
      .kernel = QK_qk_bn_stats_end,
      .operands = 5,
      .operand = {{scratch, 0}, mean, var, mean, var},
      .params = &params,
      .params_bytes = sizeof params,
      .groups = {(size_t)((grid.channels + params.width - 1) / params.width), 1, 1},
      .local = {(size_t)limits->group, 1, 1},
  };
  if (running) {
    params.running = running_params(running);
    launch.operand[3] = memory_of(&running->operand[3]);
    launch.operand[4] = memory_of(&running->operand[4]);
  }
  return portable_run(queue, &launch);
}

qe_status portable_bn_stats(qe_queue *queue, const qe_call *call) {
  return portable_stats_run(queue, call, NULL);
}

qe_status portable_bn_running(qe_queue *queue, const qe_call *call) {
  qk_params_running params = running_params(call);
  portable_launch launch = {.kernel = QK_qk_bn_running, .params = &params, .params_bytes = sizeof params};
  for (int i = 1; i < call->operands; i++) launch.operand[launch.operands++] = memory_of(&call->operand[i]);
  portable_flat(queue->device, &launch, params.count);
  return portable_run(queue, &launch);
}
