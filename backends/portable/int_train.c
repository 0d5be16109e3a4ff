/* Integer ops of search and training on the portable kernels: sums over pixels in parts, gradients, gates. */
#include "backends/portable/conv.h"

enum { BLOCK = 4, LEAST_SLICE = 64, MOST_PARTS = 32, ITEMS_A_UNIT = 2048, MOST_PART_BYTES = 64 << 20 };

static int64_t pieces(int64_t count, int64_t size) {
  return (count + size - 1) / size;
}

/* Pixels of a part, so that `items` work-items a part keep the device busy and partial results stay small. */
static int64_t slice_of(const qe_device *device, int64_t pixels, int64_t items, int64_t part_bytes, int64_t most) {
  int64_t parts = pieces((int64_t)((const portable_device *)device)->limits.units * ITEMS_A_UNIT, items);
  if (parts > most) parts = most;
  if (parts > MOST_PART_BYTES / part_bytes) parts = MOST_PART_BYTES / part_bytes;
  if (parts < 1) parts = 1;
  int64_t slice = pieces(pixels, parts);
  return slice < LEAST_SLICE ? LEAST_SLICE : slice;
}

static portable_operand memory_of(const qe_operand *operand) {
  return (portable_operand){operand->buffer, operand->offset};
}

/* ---- Gram matrices and weight gradients ---- */

/* All but the parts and the rows, from the map. */
static qk_params_outer outer_params(const qe_call *call, const qe_operand *x) {
  const qe_window *window = &call->attrs.window;
  const int32_t *dim = x->desc.dim;
  qk_params_outer params = {.columns = window->kernel[0] * window->kernel[1] * dim[QE_C],
                            .channels = dim[QE_C],
                            .x_height = dim[QE_H],
                            .x_width = dim[QE_W],
                            .y_height = qe_window_extent(window, 0, dim[QE_H]),
                            .y_width = qe_window_extent(window, 1, dim[QE_W]),
                            .kernel_w = window->kernel[1],
                            .dilation_h = window->dilation[0],
                            .dilation_w = window->dilation[1],
                            PORTABLE_STEPS(window),
                            .x_type = portable_code_type(x),
                            .x_fours = dim[QE_C] % BLOCK == 0 && x->offset % BLOCK == 0};
  params.pixels = (int64_t)dim[QE_N] * params.y_height * params.y_width;
  params.rows = params.columns;
  return params;
}

/* The kernel's sums into scratch memory: [parts][rows][columns] of 64 bits. */
static qe_status run_outer(qe_queue *queue, portable_launch *launch, qk_params_outer *params, qe_buffer **scratch) {
  int64_t blocks = pieces(params->rows, BLOCK) * pieces(params->columns, BLOCK);
  int64_t bytes = (int64_t)params->rows * params->columns * (int64_t)sizeof(int64_t);
  params->slice = slice_of(queue->device, params->pixels, blocks, bytes, MOST_PARTS);
  params->parts = (qk_int)pieces(params->pixels, params->slice);
  QE_TRY(portable_scratch(queue, (size_t)(params->parts * bytes), scratch));
  launch->operand[launch->operands++] = (portable_operand){*scratch, 0};
  launch->params = params;
  launch->params_bytes = sizeof *params;
  portable_flat(queue->device, launch, blocks * params->parts);
  return portable_run(queue, launch);
}

qe_status portable_int_gram(qe_queue *queue, const qe_call *call) {
  qk_params_outer params = outer_params(call, &call->operand[0]);
  portable_launch launch = {.kernel = QK_qk_int_gram, .operands = 1, .operand = {memory_of(&call->operand[0])}};
  qe_buffer *scratch = NULL;
  QE_TRY(run_outer(queue, &launch, &params, &scratch));
  portable_launch end = {.kernel = QK_qk_int_gram_end,
                         .operands = 2,
                         .operand = {{scratch, 0}, memory_of(&call->operand[1])},
                         .params = &params,
                         .params_bytes = sizeof params};
  portable_flat(queue->device, &end, qe_count(&call->operand[1].desc));
  return portable_run(queue, &end);
}

qe_status portable_int_conv2d_grad_w(qe_queue *queue, const qe_call *call) {
  const qe_operand *dy = &call->operand[0], *x = &call->operand[1], *dw = &call->operand[2];
  qk_params_outer params = outer_params(call, x);
  bool bytes = dy->desc.dtype == QE_S8;
  params.rows = dy->desc.dim[QE_C];
  params.dy_type = portable_code_type(dy);
  params.dy_fours = bytes && params.rows % BLOCK == 0 && dy->offset % BLOCK == 0;
  portable_launch launch = {.kernel = bytes ? QK_qk_int_grad_w : QK_qk_int_grad_w_long,
                            .operands = 2,
                            .operand = {memory_of(dy), memory_of(x)}};
  qe_buffer *scratch = NULL;
  QE_TRY(run_outer(queue, &launch, &params, &scratch));
  qk_params_parts parts = {.count = qe_count(&dw->desc), .parts = params.parts};
  portable_launch end = {.kernel = QK_qk_int_add_parts,
                         .operands = 2,
                         .operand = {{scratch, 0}, memory_of(dw)},
                         .params = &parts,
                         .params_bytes = sizeof parts};
  portable_flat(queue->device, &end, parts.count);
  return portable_run(queue, &end);
}

/* ---- input gradients ---- */

qe_status portable_int_conv2d_grad_x(qe_queue *queue, const qe_call *call) {
  const int32_t *dim = call->operand[2].desc.dim;
  qk_params_conv params = portable_conv_params(call);
  params.pixels = (int64_t)dim[QE_N] * dim[QE_H] * dim[QE_W];
  portable_launch launch = portable_launch_of(call, QK_qk_int_grad_x, &params, sizeof params);
  portable_flat(queue->device, &launch, qe_count(&call->operand[2].desc));
  return portable_run(queue, &launch);
}

/* ---- sums over channels, gates ---- */

static qk_params_pair pair_params(const qe_call *call) {
  const qe_operand *a = &call->operand[0];
  return (qk_params_pair){.count = qe_count(&a->desc),
                          .channels = a->desc.dim[QE_C],
                          .a_type = portable_code_type(a),
                          .b_type = portable_code_type(&call->operand[1]),
                          .low = call->attrs.requant.low,
                          .high = call->attrs.requant.high};
}

qe_status portable_int_channel_sums(qe_queue *queue, const qe_call *call) {
  qk_params_pair params = pair_params(call);
  int64_t pixels = params.count / params.channels, bytes = 2 * (int64_t)params.channels * (int64_t)sizeof(int64_t);
  qe_buffer *scratch = NULL;
  params.slice = slice_of(queue->device, pixels, params.channels, bytes, pixels);
  params.parts = (qk_int)pieces(pixels, params.slice);
  QE_TRY(portable_scratch(queue, (size_t)(params.parts * bytes), &scratch));
  portable_launch launch = {.kernel = QK_qk_int_channel_sums,
                            .operands = 3,
                            .operand = {memory_of(&call->operand[0]), memory_of(&call->operand[1]), {scratch, 0}},
                            .params = &params,
                            .params_bytes = sizeof params};
  portable_flat(queue->device, &launch, (int64_t)params.parts * params.channels);
  QE_TRY(portable_run(queue, &launch));
  portable_launch end = {.kernel = QK_qk_int_channel_sums_end,
                         .operands = 3,
                         .operand = {{scratch, 0}, memory_of(&call->operand[2]), memory_of(&call->operand[3])},
                         .params = &params,
                         .params_bytes = sizeof params};
  portable_flat(queue->device, &end, 2 * (int64_t)params.channels);
  return portable_run(queue, &end);
}

qe_status portable_int_norm_grad(qe_queue *queue, const qe_call *call) {
  qk_params_norm params = {
      .channels = call->operand[0].desc.dim[QE_C], .values = call->attrs.images, .shift = call->attrs.requant.shift};
  portable_launch launch = portable_launch_of(call, QK_qk_int_norm_grad, &params, sizeof params);
  portable_flat(queue->device, &launch, params.channels);
  return portable_run(queue, &launch);
}

qe_status portable_int_gate(qe_queue *queue, const qe_call *call) {
  qk_params_pair params = pair_params(call);
  portable_launch launch = portable_launch_of(call, QK_qk_int_gate, &params, sizeof params);
  portable_flat(queue->device, &launch, params.count);
  return portable_run(queue, &launch);
}
