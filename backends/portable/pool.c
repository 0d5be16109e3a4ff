/* Pooling on the portable kernels. */
#include "backends/portable/portable.h"

static const qk_kernel kernels[QE_OPS] = {
    [QE_OP_max_pool] = QK_qk_max_pool,         [QE_OP_max_pool_grad] = QK_qk_max_pool_grad,
    [QE_OP_avg_pool] = QK_qk_avg_pool,         [QE_OP_avg_pool_grad] = QK_qk_avg_pool_grad,
    [QE_OP_int_sum_pool] = QK_qk_int_sum_pool, [QE_OP_int_max_pool] = QK_qk_int_max_pool,
    [QE_OP_int_spread] = QK_qk_int_spread,
};

/* x, y: the window's input and output; `written` counts the work-items. */
static qe_status run_pool(qe_queue *queue, const qe_call *call, const qe_desc *x, const qe_desc *y,
                          const qe_desc *written) {
  const qe_window *window = &call->attrs.window;
  qk_params_pool params = {.count = qe_count(written),
                           .channels = x->dim[QE_C],
                           .x_height = x->dim[QE_H],
                           .x_width = x->dim[QE_W],
                           .y_height = y->dim[QE_H],
                           .y_width = y->dim[QE_W],
                           .kernel_h = window->kernel[0],
                           .kernel_w = window->kernel[1],
                           PORTABLE_STEPS(window),
                           .type = x->dtype == QE_U8 ? QK_TYPE_U8 : QK_TYPE_S8};
  portable_launch launch = portable_launch_of(call, kernels[call->op], &params, sizeof params);
  portable_flat(queue->device, &launch, params.count);
  return portable_run(queue, &launch);
}

qe_status portable_pool(qe_queue *queue, const qe_call *call) {
  const qe_desc *x = &call->operand[0].desc, *y = &call->operand[1].desc;
  return run_pool(queue, call, x, y, y);
}

qe_status portable_pool_grad(qe_queue *queue, const qe_call *call) {
  const qe_desc *dy = &call->operand[0].desc, *dx = &call->operand[call->operands - 1].desc;
  return run_pool(queue, call, dx, dy, dx);
}
