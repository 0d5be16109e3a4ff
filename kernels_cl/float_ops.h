/* What chains of float ops share with single ops: values at places, batch norm, quantisers. */
#ifndef QK_FLOAT_OPS_H
#define QK_FLOAT_OPS_H

#include "kernels_cl/sums.h"

/* ---- places ---- */

/* The buffers that a kernel was given; a place (params.h) names one of them and the bytes from its start. */
typedef struct qk_memory {
  GLOBAL uchar *buffer0, *buffer1, *buffer2, *buffer3, *buffer4, *buffer5;
} qk_memory;

DEVICE GLOBAL float *qk_floats_at(qk_memory memory, qk_long place) {
  uint which = (uint)((ulong)place >> 56);
  GLOBAL uchar *low = which == 0 ? memory.buffer0 : which == 1 ? memory.buffer1 : memory.buffer2;
  GLOBAL uchar *high = which == 3 ? memory.buffer3 : which == 4 ? memory.buffer4 : memory.buffer5;
  return (GLOBAL float *)((which < 3 ? low : high) + ((ulong)place & 0xFFFFFFFFFFFFFFul));
}

/* ---- batch norm and quantisers: cpu_ref/norm.c, cpu_ref/quant.c ---- */

DEVICE float qk_inverse_deviation(float var, float epsilon) {
  return 1.0f / sqrt(var + epsilon);
}

/* `grid`: QK_GRID_... */
DEVICE float qk_quant_code(int grid, float v, float low, float high, float half_up) {
  float code = grid == QK_GRID_ODD  ? 2.0f * rint((v + high) * 0.5f) - high
               : grid == QK_GRID_UP ? floor(v + half_up)
                                    : rint(v);
  return code < low ? low : code > high ? high : code;
}

/* What one element adds to the step's gradient for dy = 1; `rule`: QK_RULE_... */
DEVICE float qk_step_slope(int rule, int grid, float v, float low, float high, float half_up) {
  if (rule == QK_RULE_FIXED) return 0.0f;
  if (v >= high) return high;
  if (v <= low) return low;
  return rule == QK_RULE_LSQ ? qk_quant_code(grid, v, low, high, half_up) - v : 0.0f;
}

/* What a quantiser whose gate is 0 does: nothing where low is below 0, else it is a ReLU. */
DEVICE float qk_open_value(float low, float x) {
  return low < 0.0f || !(x < 0.0f) ? x : 0.0f;
}

DEVICE float qk_open_grad(float low, float x, float dy) {
  return low < 0.0f || x > 0.0f ? dy : 0.0f;
}

#endif
