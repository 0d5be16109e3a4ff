/* Noise on codes, on the portable kernels. */
#include "backends/portable/portable.h"

qe_status portable_int_perturb(qe_queue *queue, const qe_call *call) {
  const qe_desc *x = &call->operand[0].desc, *n = &call->operand[3].desc;
  const qe_noise *noise = &call->attrs.noise;
  int64_t across = (x->dim[QE_W] - 1) / noise->block[1] + 1, down = (x->dim[QE_H] - 1) / noise->block[0] + 1;
  int32_t antithetic = noise->antithetic != 0;
  qk_params_perturb params = {.count = qe_count(n) / noise->channels * x->dim[QE_C],
                              .words = (across * down * noise->channels + 7) / 8,
                              .height = x->dim[QE_H],
                              .width = x->dim[QE_W],
                              .channels = x->dim[QE_C],
                              .noisy = noise->channels,
                              .block_h = noise->block[0],
                              .block_w = noise->block[1],
                              .parts = noise->draws / (1 + antithetic),
                              .antithetic = antithetic,
                              .chance = noise->chance,
                              .size = noise->size,
                              .low = noise->low,
                              .high = noise->high,
                              .is_signed = x->dtype == QE_S8};
  portable_launch launch = portable_launch_of(call, QK_qk_int_perturb, &params, sizeof params);
  portable_flat(queue->device, &launch, params.count);
  return portable_run(queue, &launch);
}
