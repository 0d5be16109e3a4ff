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

/* What an image shows: two labels, the second the first again where there is one, and the part of each. */
typedef struct image_answer {
  int label[2], share[2];
  bool fits; /* else nothing else is meant */
} image_answer;

DEVICE bool softmax_fits(GLOBAL int *fault, const qk_params_loss *p, qk_long n, int value, int limit) {
  bool fits = value >= 0 && value < limit;
  if (!fits) qk_report(fault, p->op, (int)n, value);
  return fits;
}

/* other, share: NULL where images are not mixed. */
DEVICE image_answer softmax_answer(GLOBAL int *fault, const qk_params_loss *p, qk_long n, GLOBAL const int *label,
                                   GLOBAL const int *other, GLOBAL const int *share) {
  image_answer answer;
  answer.label[0] = answer.label[1] = label[n];
  answer.share[0] = QK_SHARE_ALL;
  answer.fits = softmax_fits(fault, p, n, label[n], p->classes);
  if (other) {
    answer.label[1] = other[n];
    answer.share[0] = share[n];
    answer.fits = answer.fits && softmax_fits(fault, p, n, other[n], p->classes) &&
                  softmax_fits(fault, p, n, share[n], QK_SHARE_ALL + 1);
  }
  answer.share[1] = QK_SHARE_ALL - answer.share[0];
  return answer;
}

/* The part of class c, 0...1. */
DEVICE float softmax_target(const image_answer *answer, int c) {
  int share = (c == answer->label[0] ? answer->share[0] : 0) + (c == answer->label[1] ? answer->share[1] : 0);
  return (float)share * (1.0f / QK_SHARE_ALL);
}

/* A part of 0 adds nothing, whatever its logit. */
DEVICE float softmax_miss(const image_answer *answer, int k, GLOBAL const float *z, float shift, float log_rest) {
  float part = (float)answer->share[k] * (1.0f / QK_SHARE_ALL);
  return answer->share[k] > 0 ? part * ((shift - z[answer->label[k]]) + log_rest) : 0.0f;
}

DEVICE void softmax_loss(LOCAL float *high, LOCAL float *low, LOCAL int *index, GLOBAL const float *logits,
                         GLOBAL const int *label, GLOBAL const int *other, GLOBAL const int *share, GLOBAL float *loss,
                         GLOBAL int *hit, GLOBAL int *fault, const qk_params_loss *p) {
  uint team = (uint)p->team, teams = QK_GROUP / team, member = local_id(0) / teams;
  for (qk_long first = (qk_long)group_id(0) * teams; first < p->images; first += (qk_long)group_count(0) * teams) {
    qk_long n = first + local_id(0) % teams;
    GLOBAL const float *z = n < p->images ? logits + n * p->classes : 0;
    image_softmax softmax = softmax_of(high, low, index, z, p->classes, team);
    float log_rest = log1p(softmax.rest);
    qk_sum sum = qk_sum_of(0.0f, 0.0f);
    for (int c = (int)member; z && c < p->classes; c += (int)team) sum = qk_sum_add(sum, softmax.shift - z[c]);
    sum = qk_sum_columns(high, low, sum, teams, team);
    if (!z || member != 0) continue;
    image_answer answer = softmax_answer(fault, p, n, label, other, share);
    if (!answer.fits) continue;
    float miss =
        softmax_miss(&answer, 0, z, softmax.shift, log_rest) + softmax_miss(&answer, 1, z, softmax.shift, log_rest);
    int found = (softmax.best == answer.label[0] ? answer.share[0] : 0) +
                (softmax.best == answer.label[1] ? answer.share[1] : 0);
    loss[n] = (1.0f - p->smoothing) * miss + p->smoothing * (qk_sum_value(sum) / (float)p->classes + log_rest);
    hit[n] = other ? found : found / QK_SHARE_ALL;
  }
}

/* The best logit's probability is taken as 1 - rest / (1 + rest), so that nothing cancels where it is nearly 1. */
DEVICE void softmax_grad(LOCAL float *high, LOCAL float *low, LOCAL int *index, GLOBAL const float *logits,
                         GLOBAL const int *label, GLOBAL const int *other, GLOBAL const int *share,
                         GLOBAL float *dlogits, GLOBAL int *fault, const qk_params_loss *p) {
  uint team = (uint)p->team, teams = QK_GROUP / team, member = local_id(0) / teams;
  for (qk_long first = (qk_long)group_id(0) * teams; first < p->images; first += (qk_long)group_count(0) * teams) {
    qk_long n = first + local_id(0) % teams;
    GLOBAL const float *z = n < p->images ? logits + n * p->classes : 0;
    image_softmax softmax = softmax_of(high, low, index, z, p->classes, team);
    if (!z) continue;
    image_answer answer = softmax_answer(fault, p, n, label, other, share);
    for (int c = (int)member; answer.fits && c < p->classes; c += (int)team) {
      bool best = c == softmax.best;
      float target = softmax_target(&answer, c);
      float part = (best ? -softmax.rest : exp(z[c] - softmax.shift)) / (1.0f + softmax.rest);
      float whole = (best ? 1.0f : 0.0f) - target;
      float smooth = p->smoothing * target - p->smoothing / (float)p->classes;
      dlogits[n * p->classes + c] = p->scale * (part + (whole + smooth));
    }
  }
}

#define SOFTMAX_LOCALS                                                                                                 \
  LOCAL_ARRAY(float, high, QK_GROUP);                                                                                  \
  LOCAL_ARRAY(float, low, QK_GROUP);                                                                                   \
  LOCAL_ARRAY(int, index, QK_GROUP);                                                                                   \
  OPERAND(const float, logits);                                                                                        \
  OPERAND(const int, label);                                                                                           \
  OPERAND(int, fault)

KERNEL(qk_softmax_xent)
(BUFFER(logits), BUFFER(label), BUFFER(loss), BUFFER(hit), BUFFER(fault), const qk_params_loss p) {
  SOFTMAX_LOCALS;
  OPERAND(float, loss);
  OPERAND(int, hit);
  softmax_loss(high, low, index, logits, label, 0, 0, loss, hit, fault, &p);
}

KERNEL(qk_softmax_xent_grad)(BUFFER(logits), BUFFER(label), BUFFER(dlogits), BUFFER(fault), const qk_params_loss p) {
  SOFTMAX_LOCALS;
  OPERAND(float, dlogits);
  softmax_grad(high, low, index, logits, label, 0, 0, dlogits, fault, &p);
}

KERNEL(qk_mix_xent)
(BUFFER(logits), BUFFER(label), BUFFER(other), BUFFER(share), BUFFER(loss), BUFFER(hit), BUFFER(fault),
 const qk_params_loss p) {
  SOFTMAX_LOCALS;
  OPERAND(const int, other);
  OPERAND(const int, share);
  OPERAND(float, loss);
  OPERAND(int, hit);
  softmax_loss(high, low, index, logits, label, other, share, loss, hit, fault, &p);
}

KERNEL(qk_mix_xent_grad)
(BUFFER(logits), BUFFER(label), BUFFER(other), BUFFER(share), BUFFER(dlogits), BUFFER(fault), const qk_params_loss p) {
  SOFTMAX_LOCALS;
  OPERAND(const int, other);
  OPERAND(const int, share);
  OPERAND(float, dlogits);
  softmax_grad(high, low, index, logits, label, other, share, dlogits, fault, &p);
}
