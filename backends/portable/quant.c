/* Quantisers on the portable kernels: with one step a chain of one, with a step for each channel kernels of their own.
 */
#include "backends/portable/chain.h"

#include <math.h>

/* A work-group for each step. */
static qe_status run_rows(qe_queue *queue, const qe_call *call, int step, qk_kernel kernel) {
  const qe_quant *quant = &call->attrs.quant;
  const portable_limits *limits = &portable_device_of(queue)->limits;
  qk_params_quant params = {
      .steps = qe_count(&call->operand[step].desc),
      .low = (float)quant->low,
      .high = (float)quant->high,
      .factor = ldexpf(1, -quant->step_shift),
      .grad_factor = ldexpf(quant->grad_scale, -quant->step_shift),
      .half_up = QE_HALF_UP,
      .grid = portable_quant_grid(quant),
      .rule = portable_quant_rule(quant),
  };
  params.each = qe_count(&call->operand[0].desc) / params.steps;
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, params.steps * limits->group);
  return portable_run(queue, &launch);
}

qe_status portable_quant(qe_queue *queue, const qe_call *call) {
  if (portable_step_of(call)) return portable_chain_single(queue, call);
  return run_rows(queue, call, 1, QK_qk_quant_rows);
}

qe_status portable_quant_gate(qe_queue *queue, const qe_call *call) {
  if (portable_step_of(call)) return portable_chain_single(queue, call);
  return run_rows(queue, call, 1, QK_qk_quant_gate_rows);
}

qe_status portable_quant_gate_grad(qe_queue *queue, const qe_call *call) {
  if (portable_step_of(call)) return portable_chain_single(queue, call);
  return run_rows(queue, call, 2, QK_qk_quant_gate_grad_rows);
}

qe_status portable_quant_grad(qe_queue *queue, const qe_call *call) {
  if (portable_step_of(call)) return portable_chain_single(queue, call);
  return run_rows(queue, call, 2, QK_qk_quant_grad_rows);
}
