/* Ops that only move values, and augmentation, on the portable kernels. */
#include "backends/portable/portable.h"

static qe_status run_concat(qe_queue *queue, const qe_call *call, qk_kernel kernel, int first) {
  const qe_desc *a = &call->operand[first].desc, *b = &call->operand[first + 1].desc;
  qk_params_concat params = {
      .rows = qe_count(a) / a->dim[QE_C], .a_channels = a->dim[QE_C], .b_channels = b->dim[QE_C]};
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, qe_count(a) + qe_count(b));
  return portable_run(queue, &launch);
}

qe_status portable_concat(qe_queue *queue, const qe_call *call) {
  return run_concat(queue, call, QK_qk_concat, 0);
}

qe_status portable_concat_grad(qe_queue *queue, const qe_call *call) {
  return run_concat(queue, call, QK_qk_concat_grad, 1);
}

static qe_status run_subsample(qe_queue *queue, const qe_call *call, qk_kernel kernel, const qe_desc *x,
                               const qe_desc *y) {
  const int32_t *stride = call->attrs.window.stride;
  qk_params_subsample params = {.count = qe_count(&call->operand[1].desc),
                                .x_height = x->dim[QE_H],
                                .x_width = x->dim[QE_W],
                                .x_channels = x->dim[QE_C],
                                .y_height = y->dim[QE_H],
                                .y_width = y->dim[QE_W],
                                .y_channels = y->dim[QE_C],
                                .stride_h = stride[0],
                                .stride_w = stride[1],
                                .before = call->attrs.pad_channels[0]};
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, params.count);
  return portable_run(queue, &launch);
}

qe_status portable_subsample(qe_queue *queue, const qe_call *call) {
  return run_subsample(queue, call, QK_qk_subsample, &call->operand[0].desc, &call->operand[1].desc);
}

qe_status portable_int_subsample(qe_queue *queue, const qe_call *call) {
  return run_subsample(queue, call, QK_qk_int_subsample, &call->operand[0].desc, &call->operand[1].desc);
}

qe_status portable_subsample_grad(qe_queue *queue, const qe_call *call) {
  return run_subsample(queue, call, QK_qk_subsample_grad, &call->operand[1].desc, &call->operand[0].desc);
}

_Static_assert(QK_SHARE_ALL == (int)QE_SHARE_ALL, "kernels and ops count shares alike");

static qe_status run_augment(qe_queue *queue, const qe_call *call, qk_kernel kernel) {
  const qe_desc *x = &call->operand[call->operands - 1].desc;
  int64_t group = portable_device_of(queue)->limits.group;
  qk_params_images params = {.each = qe_count(x) / x->dim[QE_N],
                             .op = call->op,
                             .count = x->dim[QE_N],
                             .images = call->attrs.images,
                             .height = x->dim[QE_H],
                             .width = x->dim[QE_W],
                             .channels = x->dim[QE_C],
                             .pad = call->attrs.pad,
                             .flip = call->attrs.flip,
                             .cutout = call->attrs.cutout};
  for (int k = 0; k < QE_JITTERS; k++) {
    params.jitter[k] = call->attrs.jitter[k];
    params.jittered |= params.jitter[k] != 0;
  }
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, params.count * group); /* a work-group an image */
  portable_watch(queue, &launch);
  return portable_run(queue, &launch);
}

qe_status portable_augment(qe_queue *queue, const qe_call *call) {
  return run_augment(queue, call, QK_qk_augment);
}

qe_status portable_int_augment(qe_queue *queue, const qe_call *call) {
  return run_augment(queue, call, QK_qk_int_augment);
}

qe_status portable_mix(qe_queue *queue, const qe_call *call) {
  return run_augment(queue, call, QK_qk_mix);
}

qe_status portable_int_mix(qe_queue *queue, const qe_call *call) {
  return run_augment(queue, call, QK_qk_int_mix);
}
