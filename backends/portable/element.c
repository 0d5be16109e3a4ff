/* The normalised tanh on the portable kernels; other element-wise ops are chains. */
#include "backends/portable/portable.h"

enum { LARGEST_PARTS = 256 }; /* every group of the second launch reads them all */

/* The largest |x| of operand x in parts, then the op with them. */
static qe_status run_tanh(qe_queue *queue, const qe_call *call, int x, qk_kernel kernel) {
  qk_params_flat params = {.count = qe_count(&call->operand[0].desc)};
  portable_launch largest = {.kernel = QK_qk_largest, .params = &params, .params_bytes = sizeof params};
  portable_flat(queue->device, &largest, params.count);
  if (largest.groups[0] > LARGEST_PARTS) largest.groups[0] = LARGEST_PARTS;
  qe_buffer *scratch = NULL;
  QE_TRY(portable_scratch(queue, largest.groups[0] * sizeof(float), &scratch));
  largest.operand[largest.operands++] = (portable_operand){call->operand[x].buffer, call->operand[x].offset};
  largest.operand[largest.operands++] = (portable_operand){scratch, 0};
  QE_TRY(portable_run(queue, &largest));
  params.parts = (qk_int)largest.groups[0];
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  launch.operand[launch.operands++] = (portable_operand){scratch, 0};
  portable_flat(queue->device, &launch, params.count);
  return portable_run(queue, &launch);
}

qe_status portable_tanh_norm(qe_queue *queue, const qe_call *call) {
  return run_tanh(queue, call, 0, QK_qk_tanh_norm);
}

qe_status portable_tanh_norm_grad(qe_queue *queue, const qe_call *call) {
  return run_tanh(queue, call, 1, QK_qk_tanh_norm_grad);
}
