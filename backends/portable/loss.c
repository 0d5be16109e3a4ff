/* Softmax cross-entropy, of mixed images too, on the portable kernels. */
#include "backends/portable/portable.h"

static qe_status run_loss(qe_queue *queue, const qe_call *call, qk_kernel kernel) {
  const qe_desc *logits = &call->operand[0].desc;
  int32_t group = portable_device_of(queue)->limits.group;
  qk_params_loss params = {
      .images = logits->dim[QE_N],
      .classes = logits->dim[QE_C],
      .team = 1,
      .op = (qk_int)call->op,
      .smoothing = call->attrs.smoothing,
      .scale = call->attrs.scale,
  };
  while (params.team < group && params.team < params.classes) params.team *= 2;
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_watch(queue, &launch);
  portable_flat(queue->device, &launch, params.images * params.team);
  return portable_run(queue, &launch);
}

qe_status portable_softmax_xent(qe_queue *queue, const qe_call *call) {
  return run_loss(queue, call, QK_qk_softmax_xent);
}

qe_status portable_softmax_xent_grad(qe_queue *queue, const qe_call *call) {
  return run_loss(queue, call, QK_qk_softmax_xent_grad);
}

qe_status portable_mix_xent(qe_queue *queue, const qe_call *call) {
  return run_loss(queue, call, QK_qk_mix_xent);
}

qe_status portable_mix_xent_grad(qe_queue *queue, const qe_call *call) {
  return run_loss(queue, call, QK_qk_mix_xent_grad);
}
