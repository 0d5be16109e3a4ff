/* Float convolution, fully connected layers and their gradients on the portable kernels. */
#include "backends/portable/conv.h"

/* ---- shared with the integer convolution ---- */

/* Which operands are the input map, the weights and the output map. */
static const struct conv_roles {
  int x, w, y;
  bool linear;
} roles[QE_OPS] = {
    [QE_OP_conv2d] = {0, 1, 2, false},        [QE_OP_linear] = {0, 1, 2, true},
    [QE_OP_conv2d_grad_x] = {2, 1, 0, false}, [QE_OP_linear_grad_x] = {2, 1, 0, true},
    [QE_OP_conv2d_grad_w] = {1, 2, 0, false}, [QE_OP_linear_grad_w] = {1, 2, 0, true},
    [QE_OP_int_conv2d] = {0, 1, 2, false},    [QE_OP_int_conv2d_grad_x] = {2, 1, 0, false},
};

qk_params_conv portable_conv_params(const qe_call *call) {
  static const qe_window single = {.stride = {1, 1}, .dilation = {1, 1}};
  const struct conv_roles *role = &roles[call->op];
  const qe_window *window = role->linear ? &single : &call->attrs.window;
  const qe_desc *x = &call->operand[role->x].desc, *w = &call->operand[role->w].desc;
  const qe_desc *y = &call->operand[role->y].desc;
  int32_t groups = x->dim[QE_C] / w->dim[QE_C];
  return (qk_params_conv){.pixels = (int64_t)y->dim[QE_N] * y->dim[QE_H] * y->dim[QE_W],
                          .x_height = x->dim[QE_H],
                          .x_width = x->dim[QE_W],
                          .y_height = y->dim[QE_H],
                          .y_width = y->dim[QE_W],
                          .groups = groups,
                          .inputs = w->dim[QE_C],
                          .outputs = w->dim[QE_N] / groups,
                          .kernel_h = w->dim[QE_H],
                          .kernel_w = w->dim[QE_W],
                          .dilation_h = window->dilation[0],
                          .dilation_w = window->dilation[1],
                          PORTABLE_STEPS(window),
                          .candidates = y->dim[QE_P],
                          .x_shared = x->dim[QE_P] == 1,
                          .type = x->dtype == QE_U8 ? QK_TYPE_U8 : QK_TYPE_S8};
}

enum { LEAST_COLUMNS = 8, TILE_LOCAL_BYTES = 12288, MOST_GROUPS = 65535, MOST_EXTENT = 1 << 28 };

static int64_t pieces(int64_t count, int64_t size) {
  return (count + size - 1) / size;
}

int portable_tile_launch(const qe_device *device, int64_t rows, int32_t columns, int32_t groups,
                         portable_launch *launch) {
  int32_t most = ((const portable_device *)device)->limits.group / 4, width = 16;
  int index = 0;
  for (; width < columns && width * 2 <= most && index < PORTABLE_TILES - 1; index++) width *= 2;
  launch->groups[0] = (size_t)pieces(rows, PORTABLE_TILE_ROWS);
  launch->groups[1] = (size_t)(groups * pieces(columns, width));
  launch->groups[2] = 1;
  launch->local[0] = (size_t)width * 4;
  launch->local[1] = launch->local[2] = 1;
  return index;
}

static bool is_small(const qk_params_conv *p) {
  int64_t reach_h = (int64_t)p->dilation_h * p->kernel_h, reach_w = (int64_t)p->dilation_w * p->kernel_w;
  int64_t taps = (int64_t)p->kernel_h * p->kernel_w;
  return reach_h < MOST_EXTENT && reach_w < MOST_EXTENT && taps * p->inputs < MOST_EXTENT &&
         taps * p->outputs < MOST_EXTENT && (int64_t)p->x_height * p->x_width < MOST_EXTENT &&
         (int64_t)p->y_height * p->y_width < MOST_EXTENT && p->candidates <= MOST_GROUPS &&
         (int64_t)p->groups * pieces(p->inputs > p->outputs ? p->inputs : p->outputs, 16) <= MOST_GROUPS;
}

const char *portable_tile_refuse(const qe_device *device, const qe_call *call) {
  const portable_limits *limits = &((const portable_device *)device)->limits;
  qk_params_conv p = portable_conv_params(call);
  bool to_x = call->op == QE_OP_conv2d_grad_x || call->op == QE_OP_linear_grad_x;
  if (limits->group < 64 || limits->local_bytes < TILE_LOCAL_BYTES) return "the device has no large work-groups";
  if ((to_x ? p.inputs : p.outputs) < LEAST_COLUMNS) return "has few channels in a group";
  if (!is_small(&p)) return "has very large extents";
  return NULL;
}

/* ---- forward and gradient of the input ---- */

typedef struct conv_kernels {
  qk_kernel tile[PORTABLE_TILES], plain;
} conv_kernels;

#define KERNELS(kind)                                                                                                  \
  { {QK_qk_##kind##_16, QK_qk_##kind##_32, QK_qk_##kind##_64}, QK_qk_##kind##_plain }
static const conv_kernels forward = KERNELS(conv), grad_x = KERNELS(conv_grad_x), grad_w = KERNELS(conv_grad_w);

static qe_status run_tiles(qe_queue *queue, const qe_call *call, const conv_kernels *kernels) {
  qk_params_conv params = portable_conv_params(call);
  portable_launch launch = portable_launch_of(call, kernels->plain, &params, sizeof params);
  const qe_desc *written = &call->operand[2].desc;
  params.pixels = (int64_t)written->dim[QE_N] * written->dim[QE_H] * written->dim[QE_W];
  int32_t columns = kernels == &forward ? params.outputs : params.inputs;
  launch.kernel = kernels->tile[portable_tile_launch(queue->device, params.pixels, columns, params.groups, &launch)];
  return portable_run(queue, &launch);
}

static qe_status run_plain(qe_queue *queue, const qe_call *call, const conv_kernels *kernels) {
  qk_params_conv params = portable_conv_params(call);
  portable_launch launch = portable_launch_of(call, kernels->plain, &params, sizeof params);
  const qe_desc *written = &call->operand[2].desc;
  params.pixels = (int64_t)written->dim[QE_N] * written->dim[QE_H] * written->dim[QE_W];
  portable_flat(queue->device, &launch, qe_count(written));
  return portable_run(queue, &launch);
}

/* ---- gradient of the weights: partial sums over slices of the pixels, then one launch that adds them ---- */

enum { BUSY = 8, LEAST_SLICE = 512, MOST_SLICE = 1 << 18, MOST_PARTIAL_BYTES = 64 << 20 };

/* Slices so that `items` of each are about `wanted` in all. */
static void cut(qk_params_conv *params, int64_t items, int64_t wanted, int64_t weights) {
  int64_t depth = params->depth, slices = wanted / items, room = MOST_PARTIAL_BYTES / 4 / weights;
  if (slices > depth / LEAST_SLICE) slices = depth / LEAST_SLICE;
  if (slices > room) slices = room;
  if (slices > MOST_GROUPS) slices = MOST_GROUPS;
  if (slices < pieces(depth, MOST_SLICE)) slices = pieces(depth, MOST_SLICE);
  params->slice = (int32_t)(pieces(pieces(depth, slices), 64) * 64);
  params->slices = (int32_t)pieces(depth, params->slice);
}

static qe_status run_slices(qe_queue *queue, const qe_call *call, portable_launch *launch, int32_t slices) {
  int64_t weights = qe_count(&call->operand[2].desc);
  if (slices == 1) return portable_run(queue, launch);
  qe_buffer *scratch;
  QE_TRY(portable_scratch(queue, (size_t)(weights * slices) * sizeof(float), &scratch));
  launch->operand[2] = (portable_operand){scratch, 0};
  QE_TRY(portable_run(queue, launch));
  portable_operand sums = {call->operand[2].buffer, call->operand[2].offset};
  return portable_add_parts(queue, launch->operand[2], sums, &(qk_params_parts){.count = weights, .parts = slices});
}

static qe_status run_grad_w(qe_queue *queue, const qe_call *call, bool plain) {
  const portable_limits *limits = &portable_device_of(queue)->limits;
  qk_params_conv params = portable_conv_params(call);
  int64_t weights = qe_count(&call->operand[2].desc), busy = (int64_t)limits->units * BUSY;
  params.depth = params.pixels;
  params.pixels = (int64_t)params.kernel_h * params.kernel_w * params.inputs;
  portable_launch launch = portable_launch_of(call, grad_w.plain, &params, sizeof params);
  if (plain) {
    cut(&params, weights, busy * limits->group, weights);
    portable_flat(queue->device, &launch, weights * params.slices);
  } else {
    int width = portable_tile_launch(queue->device, params.pixels, params.outputs, params.groups, &launch);
    launch.kernel = grad_w.tile[width];
    cut(&params, (int64_t)(launch.groups[0] * launch.groups[1]), busy, weights);
    launch.groups[2] = (size_t)params.slices;
  }
  return run_slices(queue, call, &launch, params.slices);
}

/* ---- ops ---- */

#define OPS(op)                                                                                                        \
  qe_status portable_##op(qe_queue *queue, const qe_call *call) {                                                      \
    return run_tiles(queue, call, &forward);                                                                           \
  }                                                                                                                    \
  qe_status portable_plain_##op(qe_queue *queue, const qe_call *call) {                                                \
    return run_plain(queue, call, &forward);                                                                           \
  }                                                                                                                    \
  qe_status portable_##op##_grad_x(qe_queue *queue, const qe_call *call) {                                             \
    return run_tiles(queue, call, &grad_x);                                                                            \
  }                                                                                                                    \
  qe_status portable_plain_##op##_grad_x(qe_queue *queue, const qe_call *call) {                                       \
    return run_plain(queue, call, &grad_x);                                                                            \
  }                                                                                                                    \
  qe_status portable_##op##_grad_w(qe_queue *queue, const qe_call *call) {                                             \
    return run_grad_w(queue, call, false);                                                                             \
  }                                                                                                                    \
  qe_status portable_plain_##op##_grad_w(qe_queue *queue, const qe_call *call) {                                       \
    return run_grad_w(queue, call, true);                                                                              \
  }
OPS(conv2d)
OPS(linear)
