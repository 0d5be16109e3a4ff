/* Gradient clipping and the optimizers' updates on the portable kernels. */
#include "backends/portable/portable.h"

#define SAME(name)                                                                                                     \
  _Static_assert((int)QK_HYPER_##name == (int)QE_HYPER_##name, "params.h numbers them as enum qe_hyper")
SAME(RATE);
SAME(MOMENTUM);
SAME(BETA2);
SAME(EPSILON);
SAME(DECAY);
SAME(NESTEROV);
SAME(CORRECTION1);
SAME(CORRECTION2);
SAME(CLIP);
SAME(AVERAGE);
#undef SAME

/* One launch over all elements of operand `map`, the call's operands in their order. */
static qe_status run_flat(qe_queue *queue, const qe_call *call, int map, qk_kernel kernel) {
  qk_params_flat params = {.count = qe_count(&call->operand[map].desc)};
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, params.count);
  return portable_run(queue, &launch);
}

qe_status portable_square_sum(qe_queue *queue, const qe_call *call) {
  const qe_operand *x = &call->operand[0], *sum = &call->operand[1];
  qk_params_flat params = {.count = qe_count(&x->desc)};
  portable_launch launch = {.kernel = QK_qk_square_sum, .params = &params, .params_bytes = sizeof params};
  portable_flat(queue->device, &launch, params.count);
  qe_buffer *scratch = NULL;
  QE_TRY(portable_scratch(queue, launch.groups[0] * 2 * sizeof(float), &scratch));
  launch.operands = 2;
  launch.operand[0] = (portable_operand){x->buffer, x->offset};
  launch.operand[1] = (portable_operand){scratch, 0};
  QE_TRY(portable_run(queue, &launch));
  params.parts = (qk_int)launch.groups[0];
  launch.kernel = QK_qk_square_sum_end;
  launch.operand[0] = (portable_operand){scratch, 0};
  launch.operand[1] = (portable_operand){sum->buffer, sum->offset};
  launch.groups[0] = 1;
  return portable_run(queue, &launch);
}

qe_status portable_clip_norm(qe_queue *queue, const qe_call *call) {
  return run_flat(queue, call, 2, QK_qk_clip_norm);
}

qe_status portable_sgd(qe_queue *queue, const qe_call *call) {
  return run_flat(queue, call, 0, QK_qk_sgd);
}

qe_status portable_adam(qe_queue *queue, const qe_call *call) {
  return run_flat(queue, call, 0, QK_qk_adam);
}

qe_status portable_ema(qe_queue *queue, const qe_call *call) {
  return run_flat(queue, call, 0, QK_qk_ema);
}
