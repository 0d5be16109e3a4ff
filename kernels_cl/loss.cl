/* Softmax cross-entropy; contracts in cpu_ref/loss.c. An image's logits are shared by p.team work-items of a group,
 * which stand in columns of QK_GROUP / p.team: work-item t of a team is lane t * teams + its team. */
#include "kernels_cl/sums.h"

typedef struct image_softmax {
  int best;    /* first largest logit */
  float shift; /* its value */
  float rest;  /* sum of exp(z - shift) over the others; NaN when shift is not finite */
} image_softmax;

/* Places of the first largest logit, a column each. */
DEVICE void softmax_find_best(LOCAL float *value, LOCAL int *index, uint teams, uint team) {
  for (uint gap = team / 2; gap > 0; gap /= 2) {
    uint lane = local_id(0), other = lane + gap * teams;
    if (lane / teams < gap &&
        (value[other] > value[lane] || (value[other] == value[lane] && index[other] < index[lane]))) {
      value[lane] = value[other];
      index[lane] = index[other];
    }
    BARRIER();
  }
}

/* Valid in every work-item; z: NULL where there is no image. */
DEVICE image_softmax softmax_of(LOCAL float *high, LOCAL float *low, LOCAL int *index, GLOBAL const float *z,
                                int classes, uint team) {
  uint lane = local_id(0), teams = QK_GROUP / team, column = lane % teams;
  image_softmax result;
  BARRIER();
  high[lane] = z ? z[0] : 0.0f;
  index[lane] = 0;
  for (int c = (int)(lane / teams); z && c < classes; c += (int)team)
    if (z[c] > high[lane]) {
      high[lane] = z[c];
      index[lane] = c;
    }
  BARRIER();
  softmax_find_best(high, index, teams, team);
  result.best = index[column];
  result.shift = high[column];
  qk_sum sum = qk_sum_of(0.0f, 0.0f);
  for (int c = (int)(lane / teams); z && c < classes; c += (int)team)
    if (c != result.best) sum = qk_sum_add(sum, exp(z[c] - result.shift));
  (void)qk_sum_columns(high, low, sum, teams, team);
  result.rest = qk_sum_value(qk_sum_of(high[column], low[column])) + (result.shift - result.shift);
  return result;
}

DEVICE bool softmax_label_fits(GLOBAL int *fault, const qk_params_loss *p, qk_long n, int label) {
  bool fits = label >= 0 && label < p->classes;
  if (!fits) qk_report(fault, p->op, (int)n, label);
  return fits;
}

KERNEL(qk_softmax_xent)
(BUFFER(logits), BUFFER(label), BUFFER(loss), BUFFER(hit), BUFFER(fault), const qk_params_loss p) {
  LOCAL_ARRAY(float, high, QK_GROUP);
  LOCAL_ARRAY(float, low, QK_GROUP);
  LOCAL_ARRAY(int, index, QK_GROUP);
  OPERAND(const float, logits);
  OPERAND(const int, label);
  OPERAND(float, loss);
  OPERAND(int, hit);
  OPERAND(int, fault);
  uint team = (uint)p.team, teams = QK_GROUP / team, member = local_id(0) / teams;
  for (qk_long first = (qk_long)group_id(0) * teams; first < p.images; first += (qk_long)group_count(0) * teams) {
    qk_long n = first + local_id(0) % teams;
    GLOBAL const float *z = n < p.images ? logits + n * p.classes : 0;
    image_softmax softmax = softmax_of(high, low, index, z, p.classes, team);
    float log_rest = log1p(softmax.rest);
    qk_sum sum = qk_sum_of(0.0f, 0.0f);
    for (int c = (int)member; z && c < p.classes; c += (int)team) sum = qk_sum_add(sum, softmax.shift - z[c]);
    sum = qk_sum_columns(high, low, sum, teams, team);
    int right = z ? label[n] : 0;
    if (z && member == 0 && softmax_label_fits(fault, &p, n, right)) {
      loss[n] = (1.0f - p.smoothing) * ((softmax.shift - z[right]) + log_rest) +
                p.smoothing * (qk_sum_value(sum) / (float)p.classes + log_rest);
      hit[n] = softmax.best == right;
    }
  }
}

/* The best logit's probability is taken as 1 - rest / (1 + rest), so that nothing cancels where it is nearly 1. */
KERNEL(qk_softmax_xent_grad)(BUFFER(logits), BUFFER(label), BUFFER(dlogits), BUFFER(fault), const qk_params_loss p) {
  LOCAL_ARRAY(float, high, QK_GROUP);
  LOCAL_ARRAY(float, low, QK_GROUP);
  LOCAL_ARRAY(int, index, QK_GROUP);
  OPERAND(const float, logits);
  OPERAND(const int, label);
  OPERAND(float, dlogits);
  OPERAND(int, fault);
  uint team = (uint)p.team, teams = QK_GROUP / team, member = local_id(0) / teams;
  for (qk_long first = (qk_long)group_id(0) * teams; first < p.images; first += (qk_long)group_count(0) * teams) {
    qk_long n = first + local_id(0) % teams;
    GLOBAL const float *z = n < p.images ? logits + n * p.classes : 0;
    image_softmax softmax = softmax_of(high, low, index, z, p.classes, team);
    int right = z ? label[n] : 0;
    bool fits = member != 0 || !z || softmax_label_fits(fault, &p, n, right);
    for (int c = (int)member; z && fits && c < p.classes; c += (int)team) {
      bool best = c == softmax.best;
      float part = (best ? -softmax.rest : exp(z[c] - softmax.shift)) / (1.0f + softmax.rest);
      float whole = (best ? 1.0f : 0.0f) - (c == right ? 1.0f : 0.0f);
      float smooth = (c == right ? p.smoothing : 0.0f) - p.smoothing / (float)p.classes;
      dlogits[n * p.classes + c] = p.scale * (part + (whole + smooth));
    }
  }
}
