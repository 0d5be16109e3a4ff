/* Losses between two networks on the portable kernels. */
#include "backends/portable/portable.h"

static qe_status run_divergence(qe_queue *queue, const qe_call *call, qk_kernel kernel) {
  const qe_desc *logits = &call->operand[0].desc;
  qk_params_divergence params = {
      .images = logits->dim[QE_N],
      .classes = logits->dim[QE_C],
      .scale = call->attrs.scale,
      .temperature = call->attrs.temperature > 0 ? call->attrs.temperature : 1,
  };
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, params.images);
  return portable_run(queue, &launch);
}

qe_status portable_kl_div(qe_queue *queue, const qe_call *call) {
  return run_divergence(queue, call, QK_qk_kl_div);
}

qe_status portable_kl_div_grad(qe_queue *queue, const qe_call *call) {
  return run_divergence(queue, call, QK_qk_kl_div_grad);
}

static qk_params_hint params_of(const qe_call *call) {
  const qe_desc *a = &call->operand[0].desc, *b = &call->operand[1].desc;
  return (qk_params_hint){.images = a->dim[QE_N],
                          .pixels = (qk_long)a->dim[QE_H] * a->dim[QE_W],
                          .count = qe_count(a) / a->dim[QE_N],
                          .channels = {a->dim[QE_C], b->dim[QE_C]},
                          .scale = call->attrs.scale};
}

/* A work-group an image. */
static qe_status run_images(qe_queue *queue, const qe_call *call, qk_kernel kernel) {
  qk_params_hint params = params_of(call);
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, params.images * portable_device_of(queue)->limits.group);
  return portable_run(queue, &launch);
}

qe_status portable_hint_square(qe_queue *queue, const qe_call *call) {
  return run_images(queue, call, QK_qk_hint_square);
}

qe_status portable_hint_square_grad(qe_queue *queue, const qe_call *call) {
  qk_params_hint params = params_of(call);
  params.scale = (float)(2 * (double)call->attrs.scale / (double)params.count);
  params.count *= params.images;
  portable_launch launch = portable_launch_of(call, QK_qk_hint_square_grad, &params, sizeof params);
  portable_flat(queue->device, &launch, params.count);
  return portable_run(queue, &launch);
}

qe_status portable_hint_attention(qe_queue *queue, const qe_call *call) {
  return run_images(queue, call, QK_qk_hint_attention);
}

qe_status portable_hint_attention_grad(qe_queue *queue, const qe_call *call) {
  return run_images(queue, call, QK_qk_hint_attention_grad);
}
