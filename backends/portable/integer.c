/* The integer network's plain ops on the portable kernels: gather, requantisers, loss, packing. */
#include "backends/portable/portable.h"

/* Four values at a time where an image or candidate has a multiple of it and all operands lie on such places. */
static qk_int unit_of(const qe_call *call, int64_t each) {
  if (each % 4) return 1;
  for (int i = 0; i < call->operands; i++)
    if (call->operand[i].offset % 16) return 1;
  return 4;
}

qe_status portable_int_gather(qe_queue *queue, const qe_call *call) {
  const qe_desc *x = &call->operand[2].desc;
  int64_t each = qe_count(x) / x->dim[QE_N];
  qk_int unit = unit_of(call, each);
  qk_params_images params = {.op = call->op, .count = x->dim[QE_N], .each = each / unit, .images = call->attrs.images};
  qk_kernel kernel = unit == 4 ? QK_qk_int_gather_four : QK_qk_int_gather;
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, qe_count(x) / unit);
  portable_watch(queue, &launch);
  return portable_run(queue, &launch);
}

/* ---- requantisers ---- */

/* `u`: the second branch, or NULL. */
static qe_status run_requant(qe_queue *queue, const qe_call *call, qk_kernel kernel, const qe_operand *u) {
  const qe_operand *v = &call->operand[0], *y = &call->operand[call->operands - 1];
  const qe_requant *requant = &call->attrs.requant;
  int64_t count = qe_count(&y->desc), each = count / y->desc.dim[QE_P];
  qk_params_requant params = {.count = count,
                              .each = each,
                              .channels = y->desc.dim[QE_C],
                              .unit = unit_of(call, each),
                              .v_type = portable_code_type(v),
                              .u_type = u ? portable_code_type(u) : 0,
                              .y_type = portable_code_type(y),
                              .v_shared = v->desc.dim[QE_P] == 1,
                              .u_shared = u && u->desc.dim[QE_P] == 1,
                              .shift = requant->shift,
                              .low = requant->low,
                              .high = requant->high,
                              .narrow = requant->narrow};
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, count / params.unit);
  return portable_run(queue, &launch);
}

qe_status portable_int_requant(qe_queue *queue, const qe_call *call) {
  return run_requant(queue, call, QK_qk_int_requant, NULL);
}

qe_status portable_int_requant_add(qe_queue *queue, const qe_call *call) {
  return run_requant(queue, call, QK_qk_int_requant_add, &call->operand[2]);
}

/* ---- loss ---- */

static qe_status run_loss(qe_queue *queue, const qe_call *call, qk_kernel kernel) {
  const qe_desc *logits = &call->operand[0].desc;
  qk_params_int_loss params = {.rows = (int64_t)logits->dim[QE_P] * logits->dim[QE_N],
                               .op = call->op,
                               .images = logits->dim[QE_N],
                               .classes = logits->dim[QE_C],
                               .shift = call->attrs.requant.shift};
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, params.rows);
  portable_watch(queue, &launch);
  return portable_run(queue, &launch);
}

qe_status portable_int_loss(qe_queue *queue, const qe_call *call) {
  return run_loss(queue, call, QK_qk_int_loss);
}

qe_status portable_int_softmax_error(qe_queue *queue, const qe_call *call) {
  return run_loss(queue, call, QK_qk_int_softmax_error);
}

/* ---- packing ---- */

static qe_status run_pack(qe_queue *queue, const qe_call *call, qk_kernel kernel, const qe_desc *codes,
                          const qe_desc *packed) {
  const qe_code_grid *grid = &call->attrs.grid;
  int64_t each = qe_count(codes) / codes->dim[QE_P];
  qk_params_pack params = {.each = each,
                           .bytes = packed->dim[QE_C],
                           .words = (each + 7) / 8,
                           .candidates = codes->dim[QE_P],
                           .bits = grid->bits,
                           .low = grid->low,
                           .spacing = grid->spacing};
  portable_launch launch = portable_launch_of(call, kernel, &params, sizeof params);
  portable_flat(queue->device, &launch, params.words * params.candidates);
  return portable_run(queue, &launch);
}

qe_status portable_int_pack(qe_queue *queue, const qe_call *call) {
  return run_pack(queue, call, QK_qk_int_pack, &call->operand[0].desc, &call->operand[1].desc);
}

qe_status portable_int_unpack(qe_queue *queue, const qe_call *call) {
  return run_pack(queue, call, QK_qk_int_unpack, &call->operand[1].desc, &call->operand[0].desc);
}
