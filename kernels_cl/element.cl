/* Element-wise float ops; contracts in cpu_ref/element.c. */

KERNEL(qk_add)(BUFFER(a), BUFFER(b), BUFFER(y), const qk_params_flat p) {
  OPERAND(const float, a);
  OPERAND(const float, b);
  OPERAND(float, y);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) y[i] = a[i] + b[i];
}
