/* Between f32 and bf16, for libraries that compute in bf16. */
#include "kernels_cl/platform.h"

#include "kernels_cl/params.h"

/* The upper half of an f32, rounded to nearest, ties to even; NaN stays NaN. */
DEVICE ushort to_bf16(float value) {
  uint bits = qk_float_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (ushort)(bits >> 16 | 0x40u);
  return (ushort)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

KERNEL(ck_to_bf16)(const float *x, ushort *y, const qk_params_flat p) {
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) y[i] = to_bf16(x[i]);
}

KERNEL(ck_from_bf16)(const ushort *x, float *y, const qk_params_flat p) {
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) y[i] = qk_bits_float((uint)x[i] << 16);
}
