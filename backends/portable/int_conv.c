/* Integer convolution on the portable kernels. */
#include "backends/portable/conv.h"

const char *portable_int_conv_refuse(const qe_device *device, const qe_call *call) {
  for (int i = 0; i < 2; i++)
    if (call->operand[i].offset % 4) return "lies at an odd address";
  return portable_tile_refuse(device, call);
}

qe_status portable_int_conv2d(qe_queue *queue, const qe_call *call) {
  static const qk_kernel tile[PORTABLE_TILES] = {QK_qk_int_conv_16, QK_qk_int_conv_32, QK_qk_int_conv_64};
  qk_params_conv params = portable_conv_params(call);
  portable_launch launch = portable_launch_of(call, tile[0], &params, sizeof params);
  params.aligned = call->operand[0].offset % 16 == 0 && call->operand[2].offset % 16 == 0;
  launch.kernel = tile[portable_tile_launch(queue->device, params.pixels, params.outputs, params.groups, &launch)];
  launch.groups[2] = (size_t)params.candidates;
  return portable_run(queue, &launch);
}

qe_status portable_plain_int_conv2d(qe_queue *queue, const qe_call *call) {
  qk_params_conv params = portable_conv_params(call);
  portable_launch launch = portable_launch_of(call, QK_qk_int_conv_plain, &params, sizeof params);
  portable_flat(queue->device, &launch, qe_count(&call->operand[2].desc));
  return portable_run(queue, &launch);
}
