/* Noise on codes; contract in cpu_ref/perturb.c. */
#include "core/base/rng.h"
#include "kernels_cl/index.h"

DEVICE int qk_noise_at(ulong seed, ulong position, ulong v, int chance) {
  qe_philox draw = qe_philox_draw(seed, QE_STREAM_PERTURB, position + v / 8);
  uint bits = draw.word[v % 8 / 2] >> (16 * (uint)(v % 2));
  if ((int)(bits & 255u) >= chance) return 0;
  return bits >> 8 & 1u ? -1 : 1;
}

DEVICE int qk_clamped(int code, int low, int high) {
  return code < low ? low : code > high ? high : code;
}

/* A work-item does a value of a part: of one draw, or of both of an antithetic pair. */
KERNEL(qk_int_perturb)(BUFFER(x), BUFFER(counter), BUFFER(y), BUFFER(n), const qk_params_perturb p) {
  OPERAND(const uchar, x);
  OPERAND(const uint, counter);
  OPERAND(uchar, y);
  OPERAND(schar, n);
  ulong seed = (ulong)counter[1] << 32 | counter[0], position = (ulong)counter[3] << 32 | counter[2];
  ulong each = (ulong)p.height * (ulong)p.width * (ulong)p.channels, across = (ulong)((p.width - 1) / p.block_w + 1);
  int type = p.is_signed ? QK_TYPE_S8 : QK_TYPE_U8;
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    qk_place at = qk_place_of(i, p.height, p.width, p.channels);
    ulong pixel = i / (ulong)p.channels, within = i - at.image * each;
    int code = qk_code(x, type, at.image / (ulong)p.parts * each + within), value = 0;
    if (at.c < (ulong)p.noisy) {
      ulong block = (ulong)(at.row / p.block_h) * across + (ulong)(at.column / p.block_w);
      value = qk_noise_at(seed, position + at.image * (ulong)p.words, block * (ulong)p.noisy + at.c, p.chance);
      n[pixel * (ulong)p.noisy + at.c] = (schar)value;
    }
    value *= p.size;
    int copied = at.c >= (ulong)p.noisy;
    ulong to = at.image * (ulong)(1 + p.antithetic) * each + within;
    y[to] = (uchar)(copied ? code : qk_clamped(code + value, p.low, p.high));
    if (p.antithetic) y[to + each] = (uchar)(copied ? code : qk_clamped(code - value, p.low, p.high));
  }
}
