/* Tile kernels without channels: element-wise ops, quantisers and optimizers. Compiled once an instruction set. */
#include "backends/cpu/kernels_isa.h"

void CPU_NAME(clamp_tile)(const cpu_tile *tile) {
  const float *x = tile->operand[0];
  float *y = tile->operand[1], low = tile->attrs->low, high = tile->attrs->high;
  CPU_SIMD for (int64_t k = 0; k < tile->count; k++) {
    float v = x[k] < low ? low : x[k];
    y[k] = v > high ? high : v;
  }
}

void CPU_NAME(clamp_grad_tile)(const cpu_tile *tile) {
  const float *dy = tile->operand[0], *x = tile->operand[1];
  float *dx = tile->operand[2], low = tile->attrs->low, high = tile->attrs->high;
  CPU_SIMD for (int64_t k = 0; k < tile->count; k++) {
    float v = x[k], d = dy[k];
    bool through = (v > low) & (v < high);
    dx[k] = through ? d : 0.0f;
  }
}

void CPU_NAME(add_tile)(const cpu_tile *tile) {
  const float *a = tile->operand[0], *b = tile->operand[1];
  float *y = tile->operand[2];
  CPU_SIMD for (int64_t k = 0; k < tile->count; k++) y[k] = a[k] + b[k];
}

void CPU_NAME(accumulate_tile)(const cpu_tile *tile) {
  const float *x = tile->operand[0];
  float *sum = tile->operand[1];
  CPU_SIMD for (int64_t k = 0; k < tile->count; k++) sum[k] += x[k];
}

/* The three grids of codes; v is the value in steps. */
enum grid { UNIT, UNIT_UP, ODD };

CPU_INLINE float code_of(enum grid grid, float v, float high) {
  if (grid == ODD) return 2.0f * round_even((v + high) / 2.0f) - high;
  return grid == UNIT_UP ? round_down(v + QE_HALF_UP) : round_even(v);
}

CPU_INLINE void quant_as(enum grid grid, const cpu_tile *tile) {
  const float *x = tile->operand[0];
  float *y = tile->operand[2], step = tile->params[0];
  float low = (float)tile->attrs->quant.low, high = (float)tile->attrs->quant.high;
  CPU_SIMD for (int64_t k = 0; k < tile->count; k++) {
    float code = code_of(grid, x[k] / step, high);
    code = code < low ? low : code;
    y[k] = step * (code > high ? high : code);
  }
}

/* params: the effective step */
void CPU_NAME(quant_tile)(const cpu_tile *tile) {
  if (tile->attrs->quant.odd)
    quant_as(ODD, tile);
  else if (tile->attrs->quant.round_up)
    quant_as(UNIT_UP, tile);
  else
    quant_as(UNIT, tile);
}

/* Sums run in this many lanes, enough to hide the time of an addition. */
enum { LANES = 64 };

CPU_INLINE float sum_of_lanes(const float *lane) {
  float sum = 0;
  for (int k = 0; k < LANES; k++) sum += lane[k];
  return sum;
}

/* dx of one element; adds its dy * slope to *sum. */
CPU_INLINE float quant_grad_of(enum grid grid, qe_step_grad rule, float d, float v, float low, float high, float *sum) {
  float limited = v < low ? low : v;
  limited = limited > high ? high : limited;
  float inside = rule == QE_STEP_LSQ ? code_of(grid, v, high) - v : 0.0f;
  bool through = (v > low) & (v < high);
  if (rule != QE_STEP_FIXED) *sum += d * (through ? inside : limited);
  return through ? d : 0.0f;
}

CPU_INLINE void quant_grad_as(enum grid grid, qe_step_grad rule, const cpu_tile *tile) {
  const float *dy = tile->operand[0], *x = tile->operand[1];
  float *dx = tile->operand[3], step = tile->params[0], lane[LANES] = {0};
  float low = (float)tile->attrs->quant.low, high = (float)tile->attrs->quant.high;
  int64_t whole = tile->count - tile->count % LANES;
  for (int64_t at = 0; at < whole; at += LANES)
    CPU_SIMD for (int64_t k = 0; k < LANES; k++) dx[at + k] =
        quant_grad_of(grid, rule, dy[at + k], x[at + k] / step, low, high, &lane[k]);
  for (int64_t at = whole; at < tile->count; at++)
    dx[at] = quant_grad_of(grid, rule, dy[at], x[at] / step, low, high, &lane[at - whole]);
  tile->sums[0] = sum_of_lanes(lane);
}

/* params: the effective step; sums: sum of dy * slope */
void CPU_NAME(quant_grad_tile)(const cpu_tile *tile) {
  const qe_quant *quant = &tile->attrs->quant;
  if (quant->step_grad == QE_STEP_FIXED)
    quant_grad_as(UNIT, QE_STEP_FIXED, tile);
  else if (quant->step_grad == QE_STEP_PACT)
    quant_grad_as(UNIT, QE_STEP_PACT, tile);
  else if (quant->odd)
    quant_grad_as(ODD, QE_STEP_LSQ, tile);
  else if (quant->round_up)
    quant_grad_as(UNIT_UP, QE_STEP_LSQ, tile);
  else
    quant_grad_as(UNIT, QE_STEP_LSQ, tile);
}

/* params: the effective step, the gate; as the float network where the gate is 0 */
void CPU_NAME(quant_gate_tile)(const cpu_tile *tile) {
  cpu_tile inner = *tile;
  inner.operand[2] = tile->operand[3];
  if (tile->params[1] > 0) {
    CPU_NAME(quant_tile)(&inner);
    return;
  }
  const float *x = tile->operand[0];
  float *y = tile->operand[3];
  bool is_signed = tile->attrs->quant.low < 0;
  CPU_SIMD for (int64_t k = 0; k < tile->count; k++) y[k] = is_signed | !(x[k] < 0) ? x[k] : 0.0f;
}

/* params: the effective step, the gate; sums: as of quant_grad, 0 where the gate is 0 */
void CPU_NAME(quant_gate_grad_tile)(const cpu_tile *tile) {
  cpu_tile inner = *tile;
  inner.operand[3] = tile->operand[4];
  if (tile->params[1] > 0) {
    CPU_NAME(quant_grad_tile)(&inner);
    return;
  }
  const float *dy = tile->operand[0], *x = tile->operand[1];
  float *dx = tile->operand[4];
  bool is_signed = tile->attrs->quant.low < 0;
  CPU_SIMD for (int64_t k = 0; k < tile->count; k++) {
    float d = dy[k];
    dx[k] = is_signed | (x[k] > 0) ? d : 0.0f;
  }
  tile->sums[0] = 0;
}

/* sums: sum of x^2 */
void CPU_NAME(square_sum_tile)(const cpu_tile *tile) {
  const float *x = tile->operand[0];
  float lane[LANES] = {0};
  int64_t whole = tile->count - tile->count % LANES;
  for (int64_t at = 0; at < whole; at += LANES)
    CPU_SIMD for (int64_t k = 0; k < LANES; k++) lane[k] += x[at + k] * x[at + k];
  for (int64_t at = whole; at < tile->count; at++) lane[at - whole] += x[at] * x[at];
  tile->sums[0] = sum_of_lanes(lane);
}

/* params: the factor; 1 leaves all as it is */
void CPU_NAME(clip_norm_tile)(const cpu_tile *tile) {
  float *g = tile->operand[2], factor = tile->params[0];
  if (factor >= 1) return;
  CPU_SIMD for (int64_t k = 0; k < tile->count; k++) g[k] *= factor;
}

/* params: the hyper-parameters as they are */
void CPU_NAME(sgd_tile)(const cpu_tile *tile) {
  const float *g = tile->operand[0], *hyper = tile->params;
  float *w = tile->operand[2], *m = tile->operand[3];
  float rate = hyper[QE_HYPER_RATE], momentum = hyper[QE_HYPER_MOMENTUM], decay = hyper[QE_HYPER_DECAY];
  if (hyper[QE_HYPER_NESTEROV] > 0) {
    CPU_SIMD for (int64_t k = 0; k < tile->count; k++) {
      float gradient = g[k] + decay * w[k], velocity = momentum * m[k] + gradient;
      m[k] = velocity;
      w[k] -= rate * (gradient + momentum * velocity);
    }
  } else {
    CPU_SIMD for (int64_t k = 0; k < tile->count; k++) {
      float velocity = momentum * m[k] + (g[k] + decay * w[k]);
      m[k] = velocity;
      w[k] -= rate * velocity;
    }
  }
}

/* params: the hyper-parameters, then 1 - beta 1, 1 - beta 2, 1 - rate * decay */
void CPU_NAME(adam_tile)(const cpu_tile *tile) {
  const float *g = tile->operand[0], *hyper = tile->params;
  float *w = tile->operand[2], *m = tile->operand[3], *v = tile->operand[4];
  float beta1 = hyper[QE_HYPER_MOMENTUM], beta2 = hyper[QE_HYPER_BETA2], epsilon = hyper[QE_HYPER_EPSILON];
  float rest1 = hyper[QE_HYPERS], rest2 = hyper[QE_HYPERS + 1], shrink = hyper[QE_HYPERS + 2];
  float rate = hyper[QE_HYPER_RATE] * hyper[QE_HYPER_CORRECTION1], correction2 = hyper[QE_HYPER_CORRECTION2];
  CPU_SIMD for (int64_t k = 0; k < tile->count; k++) {
    float first = beta1 * m[k] + rest1 * g[k], second = beta2 * v[k] + rest2 * g[k] * g[k];
    m[k] = first;
    v[k] = second;
    w[k] = w[k] * shrink - rate * first / (__builtin_sqrtf(second * correction2) + epsilon);
  }
}

/* params: the decay, 1 - decay */
void CPU_NAME(ema_tile)(const cpu_tile *tile) {
  const float *w = tile->operand[0];
  float *average = tile->operand[2], decay = tile->params[0], rest = tile->params[1];
  CPU_SIMD for (int64_t k = 0; k < tile->count; k++) average[k] = decay * average[k] + rest * w[k];
}

/* e = exp(2 |x|) - 1 = 2^n (exp(r) - 1) + 2^n - 1, with 2 |x| = n log 2 + r, by the Taylor series of exp(r) - 1 on
 * |r| < 0.35; |x| is cut at 20, where tanh is 1 even in double precision. NaN stays NaN. */
CPU_INLINE float exponential_of(float x) {
  const float to_integer = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, kept in the low bits */
  float size = __builtin_fabsf(x), z = size >= 20.0f ? 40.0f : 2.0f * size;
  float shifted = z * 1.44269504f + to_integer, n = shifted - to_integer;
  uint32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127u) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  float r = (z - n * 0.693145752f) - n * 1.42860677e-6f;
  float series = 1.0f / 5040 + r * (1.0f / 40320);
  series = 1.0f / 720 + r * series;
  series = 1.0f / 120 + r * series;
  series = 1.0f / 24 + r * series;
  series = 1.0f / 6 + r * series;
  series = 0.5f + r * series;
  return power * (r + r * r * series) + (power - 1.0f);
}

/* tanh = e / (e + 2) */
void CPU_NAME(tanh)(const float *x, float *y, float factor, int64_t count) {
  CPU_SIMD for (int64_t k = 0; k < count; k++) {
    float v = x[k], e = exponential_of(v);
    y[k] = __builtin_copysignf(e / (e + 2.0f), v) * factor;
  }
}

/* 1 - tanh^2 = 4 (e + 1) / (e + 2)^2, without cancellation where tanh is near 1 */
void CPU_NAME(tanh_grad)(const float *dy, const float *x, float *dx, float factor, int64_t count) {
  CPU_SIMD for (int64_t k = 0; k < count; k++) {
    float e = exponential_of(x[k]), share = 2.0f / (e + 2.0f);
    float slope = share * (share * (e + 1.0f));
    dx[k] = dy[k] * (__builtin_fabsf(x[k]) >= 20.0f ? 0.0f : slope) * factor;
  }
}

float CPU_NAME(largest)(const float *x, int64_t count) {
  uint32_t largest = 0, infinity = 0x7F800000u; /* sizes are ordered as their bits are; NaN lies above infinity */
  _Pragma("omp simd reduction(max : largest)") for (int64_t k = 0; k < count; k++) {
    float size = __builtin_fabsf(x[k]);
    uint32_t bits;
    memcpy(&bits, &size, sizeof bits);
    bits = bits <= infinity ? bits : 0;
    largest = bits > largest ? bits : largest;
  }
  float value;
  memcpy(&value, &largest, sizeof value);
  return value;
}
