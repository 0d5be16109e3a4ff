/* Losses between two networks; contracts in cpu_ref/distill.c. */
#include "kernels_cl/sums.h"

/* ---- logits: an image is little work, and one work-item's ---- */

/* Softmax of logits times `rate`: its first largest logit, that one's value, and the sum of exp((z - shift) * rate)
 * over the others; NaN where the shift is not finite. */
typedef struct image_softmax {
  int best;
  float shift, rest;
} image_softmax;

DEVICE image_softmax softmax_of(GLOBAL const float *z, int classes, float rate) {
  image_softmax softmax;
  qk_sum sum = qk_sum_of(0.0f, 0.0f);
  softmax.best = 0;
  for (int c = 1; c < classes; c++)
    if (z[c] > z[softmax.best]) softmax.best = c;
  softmax.shift = z[softmax.best];
  for (int c = 0; c < classes; c++)
    if (c != softmax.best) sum = qk_sum_add(sum, exp((z[c] - softmax.shift) * rate));
  softmax.rest = qk_sum_value(sum) + (softmax.shift - softmax.shift);
  return softmax;
}

/* Both softmaxes of an image, and the mean over p of x = ((target - its best) - (logit - that of the same class)) / T,
 * which is log p - log q but for a constant, and 0 where p is largest. */
typedef struct image_pair {
  image_softmax q, p;
  float origin; /* the logit of the target's best class */
  float rate, mean;
} image_pair;

DEVICE float pair_x(const image_pair *pair, float logit, float target) {
  return ((target - pair->p.shift) - (logit - pair->origin)) * pair->rate;
}

/* A class's probability less 1 where it is the best: nothing cancels where it is nearly 1. */
DEVICE float pair_part(const image_softmax *softmax, float rate, float z, int c) {
  return (c == softmax->best ? -softmax->rest : exp((z - softmax->shift) * rate)) / (1.0f + softmax->rest);
}

DEVICE float pair_share(const image_pair *pair, float target, int c) {
  float best = c == pair->p.best ? 1.0f : exp((target - pair->p.shift) * pair->rate);
  return best / (1.0f + pair->p.rest);
}

DEVICE image_pair pair_of(GLOBAL const float *s, GLOBAL const float *t, const qk_params_divergence *p) {
  image_pair pair;
  qk_sum sum = qk_sum_of(0.0f, 0.0f);
  pair.rate = 1.0f / p->temperature;
  pair.q = softmax_of(s, p->classes, pair.rate);
  pair.p = softmax_of(t, p->classes, pair.rate);
  pair.origin = s[pair.p.best];
  for (int c = 0; c < p->classes; c++) sum = qk_sum_add(sum, pair_share(&pair, t[c], c) * pair_x(&pair, s[c], t[c]));
  pair.mean = qk_sum_value(sum);
  return pair;
}

/* exp(u) - 1 - u, never below 0; 1e30 where it is too large to be of use. */
DEVICE float exp_excess(float u) {
  if (u > 60.0f) return 1e30f;
  if (u < -0.5f || u > 0.5f) return (exp(u) - 1.0f) - u;
  return u * u *
         (0.5f +
          u * (1.0f / 6 + u * (1.0f / 24 + u * (1.0f / 120 + u * (1.0f / 720 + u * (1.0f / 5040 + u / 40320))))));
}

/* KL = log(sum over p of exp(mean - x)) = log1p(sum over p of exp_excess(mean - x)): a sum of what is not negative, so
 * that little is lost where both networks nearly agree. */
KERNEL(qk_kl_div)(BUFFER(logits), BUFFER(target), BUFFER(loss), const qk_params_divergence p) {
  OPERAND(const float, logits);
  OPERAND(const float, target);
  OPERAND(float, loss);
  for (ulong n = flat_start(); n < (ulong)p.images; n += flat_stride()) {
    GLOBAL const float *s = logits + n * p.classes, *t = target + n * p.classes;
    image_pair pair = pair_of(s, t, &p);
    qk_sum sum = qk_sum_of(0.0f, 0.0f);
    for (int c = 0; c < p.classes; c++) {
      float excess = exp_excess(pair.mean - pair_x(&pair, s[c], t[c])), share = pair_share(&pair, t[c], c);
      sum = qk_sum_add(sum, excess < 1e29f ? share * excess : excess);
    }
    float value = qk_sum_value(sum);
    float lag = (pair.q.shift - pair.origin) * pair.rate + (log1p(pair.q.rest) - log1p(pair.p.rest));
    float apart = value < 1e20f ? log1p(value) : pair.mean + lag;
    loss[n] = p.temperature * p.temperature * apart;
  }
}

KERNEL(qk_kl_div_grad)
(BUFFER(logits), BUFFER(target), BUFFER(dlogits), BUFFER(dtarget), const qk_params_divergence p) {
  OPERAND(const float, logits);
  OPERAND(const float, target);
  OPERAND(float, dlogits);
  OPERAND(float, dtarget);
  float factor = p.scale * p.temperature;
  for (ulong n = flat_start(); n < (ulong)p.images; n += flat_stride()) {
    GLOBAL const float *s = logits + n * p.classes, *t = target + n * p.classes;
    image_pair pair = pair_of(s, t, &p);
    for (int c = 0; c < p.classes; c++) {
      float whole = (c == pair.q.best ? 1.0f : 0.0f) - (c == pair.p.best ? 1.0f : 0.0f);
      float part = pair_part(&pair.q, pair.rate, s[c], c) - pair_part(&pair.p, pair.rate, t[c], c);
      dlogits[n * p.classes + c] = factor * (whole + part);
      dtarget[n * p.classes + c] = factor * pair_share(&pair, t[c], c) * (pair_x(&pair, s[c], t[c]) - pair.mean);
    }
  }
}

/* ---- maps: a work-group an image ---- */

KERNEL(qk_hint_square)(BUFFER(a), BUFFER(b), BUFFER(loss), const qk_params_hint p) {
  LOCAL_ARRAY(float, high, QK_GROUP);
  LOCAL_ARRAY(float, low, QK_GROUP);
  OPERAND(const float, a);
  OPERAND(const float, b);
  OPERAND(float, loss);
  for (qk_long n = group_id(0); n < p.images; n += group_count(0)) {
    qk_sum sum = qk_sum_of(0.0f, 0.0f);
    for (qk_long k = local_id(0); k < p.count; k += QK_GROUP) {
      float apart = a[n * p.count + k] - b[n * p.count + k];
      sum = qk_sum_add(sum, apart * apart);
    }
    sum = qk_sum_group(high, low, sum);
    if (local_id(0) == 0) loss[n] = qk_sum_value(sum) / (float)p.count;
  }
}

/* count: of all images; scale: the whole factor. */
KERNEL(qk_hint_square_grad)(BUFFER(a), BUFFER(b), BUFFER(da), const qk_params_hint p) {
  OPERAND(const float, a);
  OPERAND(const float, b);
  OPERAND(float, da);
  for (ulong i = flat_start(); i < (ulong)p.count; i += flat_stride()) da[i] = p.scale * (a[i] - b[i]);
}

/* ---- attention ---- */

#define QK_LEAST_MAP 8.67361738e-19f /* 2^-60 */

/* Of one image's two maps: their values are taken times `unit` (0: the map counts as 0), so that the largest is 1; what
 * the attentions A of these values give: sums of A a * A a, A b * A b, A a * A b. */
typedef struct attention_pair {
  GLOBAL const float *x[2];
  float unit[2];
  qk_sum square[2], product;
} attention_pair;

/* 1 / the largest value of each map, 0 where the map counts as 0; `part` has 2 * QK_GROUP places. */
DEVICE void attention_units(LOCAL float *part, attention_pair *pair, const qk_params_hint *p) {
  uint lane = local_id(0);
  BARRIER();
  for (int side = 0; side < 2; side++) {
    float largest = 0.0f;
    qk_long count = p->pixels * p->channels[side];
    for (qk_long k = lane; k < count; k += QK_GROUP) largest = fmax(largest, fabs(pair->x[side][k]));
    part[side * QK_GROUP + lane] = largest;
  }
  BARRIER();
  for (uint gap = QK_GROUP / 2; gap > 0; gap /= 2) {
    if (lane < gap) {
      part[lane] = fmax(part[lane], part[lane + gap]);
      part[QK_GROUP + lane] = fmax(part[QK_GROUP + lane], part[QK_GROUP + lane + gap]);
    }
    BARRIER();
  }
  pair->unit[0] = part[0] >= QK_LEAST_MAP ? 1.0f / part[0] : 0.0f;
  pair->unit[1] = part[QK_GROUP] >= QK_LEAST_MAP ? 1.0f / part[QK_GROUP] : 0.0f;
}

DEVICE float attention_at(GLOBAL const float *x, float unit, int channels, qk_long pixel) {
  qk_sum sum = qk_sum_of(0.0f, 0.0f);
  for (int c = 0; c < channels; c++) {
    float value = x[pixel * channels + c] * unit;
    sum = qk_sum_add(sum, value * value);
  }
  return qk_sum_value(sum);
}

DEVICE qk_sum attention_part(LOCAL float *part, int which, uint lane) {
  return qk_sum_of(part[2 * which * QK_GROUP + lane], part[(2 * which + 1) * QK_GROUP + lane]);
}

DEVICE void attention_put(LOCAL float *part, int which, uint lane, qk_sum sum) {
  part[2 * which * QK_GROUP + lane] = sum.high;
  part[(2 * which + 1) * QK_GROUP + lane] = sum.low;
}

/* Valid in every work-item; `part` has 6 * QK_GROUP places. */
DEVICE void attention_pair_of(LOCAL float *part, GLOBAL const float *a, GLOBAL const float *b, const qk_params_hint *p,
                              attention_pair *pair) {
  qk_sum zero = qk_sum_of(0.0f, 0.0f), aa = zero, bb = zero, ab = zero;
  uint lane = local_id(0);
  pair->x[0] = a;
  pair->x[1] = b;
  attention_units(part, pair, p);
  for (qk_long i = lane; i < p->pixels; i += QK_GROUP) {
    float of_a = attention_at(a, pair->unit[0], p->channels[0], i),
          of_b = attention_at(b, pair->unit[1], p->channels[1], i);
    aa = qk_sum_merge(aa, qk_product(of_a, of_a));
    bb = qk_sum_merge(bb, qk_product(of_b, of_b));
    ab = qk_sum_merge(ab, qk_product(of_a, of_b));
  }
  BARRIER();
  attention_put(part, 0, lane, aa);
  attention_put(part, 1, lane, bb);
  attention_put(part, 2, lane, ab);
  BARRIER();
  for (uint gap = QK_GROUP / 2; gap > 0; gap /= 2) {
    for (int which = 0; lane < gap && which < 3; which++)
      attention_put(part, which, lane,
                    qk_sum_merge(attention_part(part, which, lane), attention_part(part, which, lane + gap)));
    BARRIER();
  }
  pair->square[0] = attention_part(part, 0, 0);
  pair->square[1] = attention_part(part, 1, 0);
  pair->product = attention_part(part, 2, 0);
}

/* a / b with about twice the digits of a float. */
DEVICE qk_sum attention_ratio(qk_sum a, qk_sum b) {
  float quotient = a.high / b.high;
  float rest = fma(-quotient, b.high, a.high) + (a.low - quotient * b.low);
  return qk_sum_of(quotient, rest / b.high);
}

DEVICE qk_sum attention_root(qk_sum a) {
  float root = sqrt(a.high);
  return qk_sum_of(root, (fma(-root, root, a.high) + a.low) / (2.0f * root));
}

/* factor * a - b, where both may nearly be the same. */
DEVICE float attention_apart(qk_sum factor, float a, float b) {
  return fma(factor.high, a, -b) + factor.low * a;
}

KERNEL(qk_hint_attention)(BUFFER(a), BUFFER(b), BUFFER(loss), const qk_params_hint p) {
  LOCAL_ARRAY(float, part, 6 * QK_GROUP);
  OPERAND(const float, a);
  OPERAND(const float, b);
  OPERAND(float, loss);
  for (qk_long n = group_id(0); n < p.images; n += group_count(0)) {
    attention_pair pair;
    attention_pair_of(part, a + n * p.pixels * p.channels[0], b + n * p.pixels * p.channels[1], &p, &pair);
    bool both = pair.unit[0] > 0.0f && pair.unit[1] > 0.0f;
    qk_sum ratio = qk_sum_of(0.0f, 0.0f), sum = ratio;
    if (both) ratio = attention_root(attention_ratio(pair.square[0], pair.square[1]));
    for (qk_long i = local_id(0); both && i < p.pixels; i += QK_GROUP) {
      float apart = attention_apart(ratio, attention_at(pair.x[1], pair.unit[1], p.channels[1], i),
                                    attention_at(pair.x[0], pair.unit[0], p.channels[0], i));
      sum = qk_sum_add(sum, apart * apart);
    }
    sum = qk_sum_group(part, part + QK_GROUP, sum);
    float one = pair.unit[0] > 0.0f || pair.unit[1] > 0.0f ? 1.0f : 0.0f; /* one of them is 0, or both are */
    if (local_id(0) == 0) loss[n] = both ? qk_sum_value(sum) / qk_sum_value(pair.square[0]) : one;
  }
}

/* da = 4 scale x (cosine U(a) - U(b)) / |A(a)| = 4 scale x (product / square a * A(a) - A(b)) / (|A(a)| |A(b)|), in
 * units of the values that were taken. */
KERNEL(qk_hint_attention_grad)(BUFFER(a), BUFFER(b), BUFFER(da), const qk_params_hint p) {
  LOCAL_ARRAY(float, part, 6 * QK_GROUP);
  OPERAND(const float, a);
  OPERAND(const float, b);
  OPERAND(float, da);
  for (qk_long n = group_id(0); n < p.images; n += group_count(0)) {
    qk_long at = n * p.pixels * p.channels[0];
    attention_pair pair;
    attention_pair_of(part, a + at, b + n * p.pixels * p.channels[1], &p, &pair);
    bool both = pair.unit[0] > 0.0f && pair.unit[1] > 0.0f;
    qk_sum ratio = qk_sum_of(0.0f, 0.0f);
    float factor = 0.0f;
    if (both) {
      ratio = attention_ratio(pair.product, pair.square[0]);
      factor = 4.0f * p.scale * pair.unit[0] / sqrt(qk_sum_value(pair.square[0]) * qk_sum_value(pair.square[1]));
    }
    for (qk_long i = local_id(0); i < p.pixels; i += QK_GROUP) {
      float pull = both ? attention_apart(ratio, attention_at(pair.x[0], pair.unit[0], p.channels[0], i),
                                          attention_at(pair.x[1], pair.unit[1], p.channels[1], i))
                        : 0.0f;
      for (int c = 0; c < p.channels[0]; c++) {
        qk_long k = i * p.channels[0] + c;
        da[at + k] = pair.x[0][k] * pair.unit[0] * (factor * pull);
      }
    }
  }
}
