/* Quantisers with a step for each index of axis N: p.steps rows of p.each elements; contracts in cpu_ref/quant.c. Those
 * with one step are steps of chain.cl. */
#include "kernels_cl/float_ops.h"

KERNEL(qk_quant_rows)(BUFFER(x), BUFFER(step), BUFFER(y), const qk_params_quant p) {
  OPERAND(const float, x);
  OPERAND(const float, step);
  OPERAND(float, y);
  for (qk_long row = group_id(0); row < p.steps; row += group_count(0)) {
    float size = step[row] * p.factor;
    for (qk_long i = row * p.each + local_id(0); i < (row + 1) * p.each; i += QK_GROUP)
      y[i] = size * qk_quant_code(p.grid, qk_divide(x[i], size), p.low, p.high, p.half_up);
  }
}

KERNEL(qk_quant_grad_rows)(BUFFER(dy), BUFFER(x), BUFFER(step), BUFFER(dx), BUFFER(dstep), const qk_params_quant p) {
  LOCAL_ARRAY(float, high, QK_GROUP);
  LOCAL_ARRAY(float, low, QK_GROUP);
  OPERAND(const float, dy);
  OPERAND(const float, x);
  OPERAND(const float, step);
  OPERAND(float, dx);
  OPERAND(float, dstep);
  for (qk_long row = group_id(0); row < p.steps; row += group_count(0)) {
    float size = step[row] * p.factor;
    qk_sum sum = qk_sum_of(0.0f, 0.0f);
    for (qk_long i = row * p.each + local_id(0); i < (row + 1) * p.each; i += QK_GROUP) {
      float v = qk_divide(x[i], size), d = dy[i];
      sum = qk_sum_add(sum, d * qk_step_slope(p.rule, p.grid, v, p.low, p.high, p.half_up));
      dx[i] = v > p.low && v < p.high ? d : 0.0f;
    }
    sum = qk_sum_group(high, low, sum);
    if (local_id(0) == 0) dstep[row] = p.grad_factor * qk_sum_value(sum);
  }
}

KERNEL(qk_quant_gate_rows)
(BUFFER(x), BUFFER(step), BUFFER(gate), BUFFER(y), const qk_params_quant p) {
  OPERAND(const float, x);
  OPERAND(const float, step);
  OPERAND(const int, gate);
  OPERAND(float, y);
  bool open = gate[0] == 0;
  for (qk_long row = group_id(0); row < p.steps; row += group_count(0)) {
    float size = step[row] * p.factor;
    for (qk_long i = row * p.each + local_id(0); i < (row + 1) * p.each; i += QK_GROUP)
      y[i] = open ? qk_open_value(p.low, x[i])
                  : size * qk_quant_code(p.grid, qk_divide(x[i], size), p.low, p.high, p.half_up);
  }
}

KERNEL(qk_quant_gate_grad_rows)
(BUFFER(dy), BUFFER(x), BUFFER(step), BUFFER(gate), BUFFER(dx), BUFFER(dstep), const qk_params_quant p) {
  LOCAL_ARRAY(float, high, QK_GROUP);
  LOCAL_ARRAY(float, low, QK_GROUP);
  OPERAND(const float, dy);
  OPERAND(const float, x);
  OPERAND(const float, step);
  OPERAND(const int, gate);
  OPERAND(float, dx);
  OPERAND(float, dstep);
  bool open = gate[0] == 0;
  for (qk_long row = group_id(0); row < p.steps; row += group_count(0)) {
    float size = step[row] * p.factor;
    qk_sum sum = qk_sum_of(0.0f, 0.0f);
    for (qk_long i = row * p.each + local_id(0); i < (row + 1) * p.each; i += QK_GROUP) {
      float v = qk_divide(x[i], size), d = dy[i];
      if (!open) sum = qk_sum_add(sum, d * qk_step_slope(p.rule, p.grid, v, p.low, p.high, p.half_up));
      dx[i] = open ? qk_open_grad(p.low, x[i], d) : v > p.low && v < p.high ? d : 0.0f;
    }
    sum = qk_sum_group(high, low, sum);
    if (local_id(0) == 0) dstep[row] = p.grad_factor * qk_sum_value(sum);
  }
}
