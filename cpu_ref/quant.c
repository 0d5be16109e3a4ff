/* References: the uniform fake quantiser and its straight-through gradient, also with a gate.
 *
 * The forward op is bit-exact on every backend, so it is defined in single precision, one rounding an operation:
 *   eff  = step * 2^-step_shift                    (exact)
 *   v    = x / eff
 *   code = rint(v), halves to even                 unit grid
 *          floor(v + QE_HALF_UP)                   unit grid, round_up
 *          2 * rint((v + high) / 2) - high         odd grid (low and high odd)
 *   code = code < low ? low : code > high ? high : code
 *   y    = eff * code
 * NaN x gives NaN y; a code that rounds to -0 keeps its sign. One step for the tensor, or one for each index of axis N
 * (quant.per_channel). */
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

#include <math.h>

static float code_of(const qe_quant *quant, float v) {
  float low = (float)quant->low, high = (float)quant->high, code;
  if (quant->odd)
    code = 2.0f * rintf((v + high) / 2.0f) - high;
  else if (quant->round_up)
    code = floorf(v + QE_HALF_UP);
  else
    code = rintf(v);
  return code < low ? low : code > high ? high : code;
}

/* y = eff * code(x / eff), see above */
qe_status qe_ref_quant(const qe_call *call) {
  const qe_quant *quant = &call->attrs.quant;
  int64_t steps = desc_of(call, 1)->dim[QE_N], each = qe_count(desc_of(call, 0)) / steps;
  const float *x = f32_of(call, 0);
  float *y = f32_of(call, 2);
  for (int64_t s = 0; s < steps; s++) {
    float eff = ldexpf(f32_of(call, 1)[s], -quant->step_shift);
    for (int64_t k = s * each; k < (s + 1) * each; k++) y[k] = eff * code_of(quant, x[k] / eff);
  }
  return QE_OK;
}

/* What one element adds to the step's gradient, for dy = 1 and an effective step equal to the step. */
static double step_slope(const qe_quant *quant, float v) {
  if (quant->step_grad == QE_STEP_FIXED) return 0;
  if (v >= (float)quant->high) return quant->high;
  if (v <= (float)quant->low) return quant->low;
  return quant->step_grad == QE_STEP_LSQ ? (double)code_of(quant, v) - (double)v : 0;
}

/* Straight-through: dx = dy where low < v < high, else 0, v in single precision as above.
 * dstep = grad_scale * 2^-step_shift * sum of dy * slope, in double:
 *   FIXED  slope 0
 *   LSQ    code - v inside, low or high outside (Esser et al., 2020, eq. 3)
 *   PACT   0 inside, low or high outside (Choi et al., 2018, eq. 3: the clip is step * high)
 * NaN x: dx = 0, dstep is unspecified. */
qe_status qe_ref_quant_grad(const qe_call *call) {
  const qe_quant *quant = &call->attrs.quant;
  int64_t steps = desc_of(call, 2)->dim[QE_N], each = qe_count(desc_of(call, 1)) / steps;
  float low = (float)quant->low, high = (float)quant->high;
  const float *x = f32_of(call, 1);
  float *dx = f32_of(call, 3);
  for (int64_t s = 0; s < steps; s++) {
    float eff = ldexpf(f32_of(call, 2)[s], -quant->step_shift);
    double sum = 0;
    for (int64_t k = s * each; k < (s + 1) * each; k++) {
      float v = x[k] / eff, dy = f32_of(call, 0)[k];
      sum += (double)dy * step_slope(quant, v);
      dx[k] = v > low && v < high ? dy : 0.0f;
    }
    f32_of(call, 4)[s] = (float)((double)quant->grad_scale * ldexp(sum, -quant->step_shift));
  }
  return QE_OK;
}

/* The call without its operand `gate`, as the op of the same name without a gate takes it. */
static qe_call ungated(const qe_call *call, int gate) {
  qe_call plain = *call;
  plain.operands--;
  for (int i = gate; i < plain.operands; i++) plain.operand[i] = call->operand[i + 1];
  return plain;
}

static bool is_open(const qe_call *call, int gate) {
  return *(const int32_t *)call->operand[gate].data == 0;
}

/* Gate 1: as quant. Gate 0: what the float network has in the quantiser's place, bit for bit:
 *   y = x                     where low is below 0
 *   y = x < 0 ? 0 : x         ReLU, where it is not; NaN stays */
qe_status qe_ref_quant_gate(const qe_call *call) {
  QE_TRY(qe_call_check_values(call));
  if (!is_open(call, 2)) {
    qe_call plain = ungated(call, 2);
    return qe_ref_quant(&plain);
  }
  bool is_signed = call->attrs.quant.low < 0;
  const float *x = f32_of(call, 0);
  float *y = f32_of(call, 3);
  for (int64_t k = 0; k < qe_count(desc_of(call, 0)); k++) y[k] = is_signed || !(x[k] < 0) ? x[k] : 0.0f;
  return QE_OK;
}

/* Gate 1: as quant_grad. Gate 0: dx = dy, or where low is not below 0, x > 0 ? dy : 0; dstep = 0. */
qe_status qe_ref_quant_gate_grad(const qe_call *call) {
  QE_TRY(qe_call_check_values(call));
  if (!is_open(call, 3)) {
    qe_call plain = ungated(call, 3);
    return qe_ref_quant_grad(&plain);
  }
  bool is_signed = call->attrs.quant.low < 0;
  const float *dy = f32_of(call, 0), *x = f32_of(call, 1);
  float *dx = f32_of(call, 4);
  for (int64_t k = 0; k < qe_count(desc_of(call, 1)); k++) dx[k] = is_signed || x[k] > 0 ? dy[k] : 0.0f;
  for (int64_t s = 0; s < qe_count(desc_of(call, 5)); s++) f32_of(call, 5)[s] = 0;
  return QE_OK;
}
