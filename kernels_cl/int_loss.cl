/* Loss and hits of integer logits, exact; contract in cpu_ref/integer.c, powers and logarithms in core/base/fixed.h. */

/* 2^(-x / 256) in Q30 for x >= 0. */
DEVICE long exp2_negative(long x) {
  long whole = x >> 8;
  return whole > 30 ? 0 : (long)(qk_exp2_table[x & 255] >> whole);
}

/* log2(x / 2^30) in Q16 for 2^30 <= x < 2^62. */
DEVICE long log2_q30(long x) {
  int octave = 63 - (int)qk_leading_zeros(x);
  long mantissa = octave >= 24 ? x >> (octave - 24) : x << (24 - octave); /* 1.24 */
  int index = (int)(mantissa >> 16) & 255;
  long rest = mantissa & 65535, low = qk_log2_table[index], high = qk_log2_table[index + 1];
  return (long)(octave - 30) * 65536 + low + (((high - low) * rest) >> 16);
}

/* A work-item does a row. */
KERNEL(qk_int_loss)
(BUFFER(logits), BUFFER(label), BUFFER(loss), BUFFER(hit), BUFFER(fault), const qk_params_int_loss p) {
  OPERAND(const int, logits);
  OPERAND(const int, label);
  OPERAND(int, loss);
  OPERAND(int, hit);
  OPERAND(int, fault);
  for (ulong row = flat_start(); row < (ulong)p.rows; row += flat_stride()) {
    GLOBAL const int *z = logits + row * (ulong)p.classes;
    ulong n;
    (void)qk_split(row, (ulong)p.images, &n);
    int truth = label[n], best = 0, top = z[0];
    if (truth < 0 || truth >= p.classes) {
      qk_report(fault, p.op, (int)n, truth);
      truth = 0;
    }
    for (int j = 1; j < p.classes; j++)
      if (z[j] > top) {
        best = j;
        top = z[j];
      }
    long sum = 0;
    for (int j = 0; j < p.classes; j++) sum += exp2_negative((long)top - z[j]);
    long bits = log2_q30(sum) + ((long)top - z[truth]) * 256;
    loss[row] = bits > 2147483647 ? 2147483647 : (int)bits;
    hit[row] = best == truth;
  }
}
