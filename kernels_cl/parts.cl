/* The last step of sums that several launches or work-groups have a part in. */

/* y[i] = (add ? y[i] : 0) + sum over k of parts[k][i], with the rounding errors carried along (Kahan 1965). */
KERNEL(qk_add_parts)(BUFFER(parts), BUFFER(y), const qk_params_parts p) {
  OPERAND(const float, parts);
  OPERAND(float, y);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) {
    float sum = p.add ? y[i] : 0.0f, lost = 0.0f;
    for (int k = 0; k < p.parts; k++) {
      float value = parts[(ulong)k * (ulong)p.count + i] - lost, next = sum + value;
      lost = (next - sum) - value;
      sum = next;
    }
    y[i] = sum;
  }
}
