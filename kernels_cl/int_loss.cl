/* Loss, hits and errors of integer logits, exact; contracts in cpu_ref/integer.c and cpu_ref/integer_train.c. */
#include "kernels_cl/index.h"
#include "kernels_cl/loss.h"

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
    int truth = label[n], right;
    if (truth < 0 || truth >= p.classes) {
      qk_report(fault, p.op, (int)n, truth);
      truth = 0;
    }
    loss[row] = qk_row_loss(z, p.classes, truth, &right);
    hit[row] = right;
  }
}

/* A work-item does a row. */
KERNEL(qk_int_softmax_error)
(BUFFER(logits), BUFFER(label), BUFFER(error), BUFFER(fault), const qk_params_int_loss p) {
  OPERAND(const int, logits);
  OPERAND(const int, label);
  OPERAND(schar, error);
  OPERAND(int, fault);
  for (ulong n = flat_start(); n < (ulong)p.rows; n += flat_stride()) {
    GLOBAL const int *z = logits + n * (ulong)p.classes;
    int truth = label[n], top = z[0];
    long sum = 0, one = (long)1 << p.shift;
    if (truth < 0 || truth >= p.classes) qk_report(fault, p.op, (int)n, truth);
    for (int j = 1; j < p.classes; j++) top = z[j] > top ? z[j] : top;
    for (int j = 0; j < p.classes; j++) sum += qk_exp2_negative((long)top - z[j]);
    for (int j = 0; j < p.classes; j++) {
      long part = qk_exp2_negative((long)top - z[j]) << p.shift;
      long rounded = (2 * part + sum) / (2 * sum) - (j == truth ? one : 0);
      error[n * (ulong)p.classes + (ulong)j] = (schar)(rounded > 127 ? 127 : rounded);
    }
  }
}
