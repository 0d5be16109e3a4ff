/* Loss and hits of integer logits, exact; contract in cpu_ref/integer.c. */
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
