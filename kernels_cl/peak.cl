/* Measured limits of a device: multiply-adds from registers and a copy; launched by backends/portable/peak.c.
 *
 * Eight independent chains a work-item hide the latency of a multiply-add; each step needs the one before, so that no
 * compiler can leave any out, and no sum overflows. Values come from the launch, so that nothing is known about them.
 */

KERNEL(qk_peak_float)(BUFFER(out), const qk_params_peak p) {
  OPERAND(float, out);
  float a = 0.5f + (float)p.seed * 1e-6f, b = 0.25f + (float)p.seed * 1e-6f, x = (float)local_id(0);
  float s0 = x, s1 = x + 1.0f, s2 = x + 2.0f, s3 = x + 3.0f, s4 = x + 4.0f, s5 = x + 5.0f, s6 = x + 6.0f, s7 = x + 7.0f;
  for (int round = 0; round < p.rounds; round++) {
    s0 = fma(s0, a, b);
    s1 = fma(s1, a, b);
    s2 = fma(s2, a, b);
    s3 = fma(s3, a, b);
    s4 = fma(s4, a, b);
    s5 = fma(s5, a, b);
    s6 = fma(s6, a, b);
    s7 = fma(s7, a, b);
  }
  out[flat_start()] = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7;
}

KERNEL(qk_peak_codes)(BUFFER(out), const qk_params_peak p) {
  OPERAND(int, out);
  uint w = (uint)p.seed;
  int more = p.rounds, x = (int)(local_id(0) * 0x01010101u);
  int s0 = x, s1 = x + 1, s2 = x + 2, s3 = x + 3, s4 = x + 4, s5 = x + 5, s6 = x + 6, s7 = x + 7;
  for (int round = 0; round < p.rounds; round++) {
    s0 = qk_dot((uint)s0, w, more);
    s1 = qk_dot((uint)s1, w, more);
    s2 = qk_dot((uint)s2, w, more);
    s3 = qk_dot((uint)s3, w, more);
    s4 = qk_dot((uint)s4, w, more);
    s5 = qk_dot((uint)s5, w, more);
    s6 = qk_dot((uint)s6, w, more);
    s7 = qk_dot((uint)s7, w, more);
  }
  out[flat_start()] = s0 ^ s1 ^ s2 ^ s3 ^ s4 ^ s5 ^ s6 ^ s7;
}

/* `count` is a multiple of four times the work-items: four words in flight for each of them. */
KERNEL(qk_peak_copy)(BUFFER(x), BUFFER(y), const qk_params_peak p) {
  OPERAND(const uint, x);
  OPERAND(uint, y);
  ulong stride = flat_stride();
  for (ulong i = flat_start(); i < (ulong)p.count; i += 4 * stride) {
    uint a = x[i], b = x[i + stride], c = x[i + 2 * stride], d = x[i + 3 * stride];
    y[i] = a;
    y[i + stride] = b;
    y[i + 2 * stride] = c;
    y[i + 3 * stride] = d;
  }
}
