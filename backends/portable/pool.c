/* Pooling on the portable kernels. */
#include "backends/portable/portable.h"

/* x, y: the window's input and output; `written` counts the work-items. */
static qe_status run_pool(qe_queue *queue, const qe_call *call, qk_kernel kernel, const qe_desc *x, const qe_desc *y,
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
                           .stride_h = window->stride[0],
                           .stride_w = window->stride[1],
                           .pad_top = window->pad[0],
                           .pad_left = window->pad[1],
                           .type = x->dtype == QE_U8 ? QK_TYPE_U8 : QK_TYPE_S8};
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, params.count);
  return portable_run(queue, &launch);
}

static qe_status run_forward(qe_queue *queue, const qe_call *call, qk_kernel kernel) {
  const qe_desc *x = &call->operand[0].desc, *y = &call->operand[1].desc;
  return run_pool(queue, call, kernel, x, y, y);
}

static qe_status run_gradient(qe_queue *queue, const qe_call *call, qk_kernel kernel) {
  const qe_desc *dy = &call->operand[0].desc, *dx = &call->operand[call->operands - 1].desc;
  return run_pool(queue, call, kernel, dx, dy, dx);
}

qe_status portable_max_pool(qe_queue *queue, const qe_call *call) {
  return run_forward(queue, call, QK_qk_max_pool);
}

qe_status portable_avg_pool(qe_queue *queue, const qe_call *call) {
  return run_forward(queue, call, QK_qk_avg_pool);
}

qe_status portable_int_sum_pool(qe_queue *queue, const qe_call *call) {
  return run_forward(queue, call, QK_qk_int_sum_pool);
}

qe_status portable_int_max_pool(qe_queue *queue, const qe_call *call) {
  return run_forward(queue, call, QK_qk_int_max_pool);
}

qe_status portable_max_pool_grad(qe_queue *queue, const qe_call *call) {
  return run_gradient(queue, call, QK_qk_max_pool_grad);
}

qe_status portable_avg_pool_grad(qe_queue *queue, const qe_call *call) {
  return run_gradient(queue, call, QK_qk_avg_pool_grad);
}
