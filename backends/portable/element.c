/* Element-wise ops on the portable kernels. */
#include "backends/portable/portable.h"

/* One launch over all elements of operand 0, the call's operands in their order. */
static qe_status run_flat(qe_queue *queue, const qe_call *call, qk_kernel kernel) {
  qk_params_flat params = {.count = qe_count(&call->operand[0].desc), .low = call->attrs.low, .high = call->attrs.high};
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, params.count);
  return portable_run(queue, &launch);
}

qe_status portable_add(qe_queue *queue, const qe_call *call) {
  return run_flat(queue, call, QK_qk_add);
}
