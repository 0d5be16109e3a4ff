/* Kernels by rows of the losses between two networks; a row is an image, and its sums are in double. Contracts in
 * cpu_ref/distill.c. Compiled once an instruction set. */
#include "backends/cpu/kernels_isa.h"

#include <math.h>

CPU_INLINE const qe_desc *desc_of(const qe_call *call, int operand) {
  return &call->operand[operand].desc;
}
CPU_INLINE int64_t values_of_an_image(const qe_call *call, int operand) {
  const qe_desc *desc = desc_of(call, operand);
  return (int64_t)desc->dim[QE_H] * desc->dim[QE_W] * desc->dim[QE_C];
}
/* Image n of an operand. */
CPU_INLINE float *image_of(const qe_call *call, int operand, int64_t n) {
  return (float *)call->operand[operand].data + n * values_of_an_image(call, operand);
}

/* ---- logits ---- */

typedef struct softened {
  const float *z;
  int64_t top;                 /* its first largest */
  double best, rate, log_rest; /* rate: 1 / temperature */
} softened;

static softened soften(const float *z, int64_t classes, double rate) {
  softened s = {.z = z, .rate = rate};
  double sum = 0;
  for (int64_t c = 1; c < classes; c++)
    if (z[c] > z[s.top]) s.top = c;
  s.best = (double)z[s.top];
  for (int64_t c = 0; c < classes; c++) sum += exp(((double)z[c] - s.best) * rate);
  s.log_rest = log(sum);
  return s;
}

CPU_INLINE double log_share(const softened *s, int64_t c) {
  return ((double)s->z[c] - s->best) * s->rate - s->log_rest;
}

static double divergence(const softened *from, const softened *to, int64_t classes) {
  double sum = 0;
  for (int64_t c = 0; c < classes; c++) {
    double log_p = log_share(from, c);
    sum += exp(log_p) * (log_p - log_share(to, c));
  }
  return sum;
}

/* log p - log q but for a constant: 0 where p is largest, so that nothing cancels where that is nearly all of it. */
static double log_ratio(const softened *p, const softened *q, int64_t c) {
  return (((double)p->z[c] - p->best) - ((double)q->z[c] - (double)q->z[p->top])) * p->rate;
}

static double mean_log_ratio(const softened *p, const softened *q, int64_t classes) {
  double sum = 0;
  for (int64_t c = 0; c < classes; c++) sum += exp(log_share(p, c)) * log_ratio(p, q, c);
  return sum;
}

static double temperature_of(const qe_call *call) {
  return call->attrs.temperature > 0 ? (double)call->attrs.temperature : 1;
}

void CPU_NAME(kl_div_rows)(const qe_call *call, int64_t first, int64_t last) {
  int64_t classes = values_of_an_image(call, 0);
  double temperature = temperature_of(call);
  for (int64_t n = first; n < last; n++) {
    softened q = soften(image_of(call, 0, n), classes, 1 / temperature),
             p = soften(image_of(call, 1, n), classes, 1 / temperature);
    *image_of(call, 2, n) = (float)(temperature * temperature * divergence(&p, &q, classes));
  }
}

void CPU_NAME(kl_div_grad_rows)(const qe_call *call, int64_t first, int64_t last) {
  int64_t classes = values_of_an_image(call, 0);
  double temperature = temperature_of(call), factor = (double)call->attrs.scale * temperature;
  for (int64_t n = first; n < last; n++) {
    float *dlogits = image_of(call, 2, n), *dtarget = image_of(call, 3, n);
    softened q = soften(image_of(call, 0, n), classes, 1 / temperature),
             p = soften(image_of(call, 1, n), classes, 1 / temperature);
    double mean = mean_log_ratio(&p, &q, classes);
    for (int64_t c = 0; c < classes; c++) {
      double share = exp(log_share(&p, c));
      dlogits[c] = (float)(factor * (exp(log_share(&q, c)) - share));
      dtarget[c] = (float)(factor * share * (log_ratio(&p, &q, c) - mean));
    }
  }
}

/* ---- maps ---- */

enum { PARTS = 16, PIECE = 1024 }; /* sums side by side; values that are summed as floats */

/* Sum of the squares of x, or of x - y. */
CPU_INLINE double square_sum(const float *x, const float *y, int64_t count) {
  double sum = 0;
  for (int64_t at = 0; at < count; at += PIECE) {
    float part[PARTS] = {0};
    int64_t end = smaller(count, at + PIECE), k = at;
    for (; k + PARTS <= end; k += PARTS) CPU_SIMD for (int64_t i = 0; i < PARTS; i++) {
        float value = y ? x[k + i] - y[k + i] : x[k + i];
        part[i] += value * value;
      }
    for (int64_t i = 0; k + i < end; i++) {
      float value = y ? x[k + i] - y[k + i] : x[k + i];
      part[i] += value * value;
    }
    for (int64_t i = 0; i < PARTS; i++) sum += (double)part[i];
  }
  return sum;
}

void CPU_NAME(hint_square_rows)(const qe_call *call, int64_t first, int64_t last) {
  int64_t count = values_of_an_image(call, 0);
  for (int64_t n = first; n < last; n++)
    *image_of(call, 2, n) = (float)(square_sum(image_of(call, 0, n), image_of(call, 1, n), count) / (double)count);
}

void CPU_NAME(hint_square_grad_rows)(const qe_call *call, int64_t first, int64_t last) {
  int64_t count = values_of_an_image(call, 0);
  float factor = (float)(2 * (double)call->attrs.scale / (double)count);
  const float *a = image_of(call, 0, first), *b = image_of(call, 1, first);
  float *da = image_of(call, 2, first);
  CPU_SIMD for (int64_t k = 0; k < (last - first) * count; k++) da[k] = factor * (a[k] - b[k]);
}

/* ---- attention ---- */

static const float least_map = 0x1p-60f;

/* Pixels, with the attention of maps `a` and `b` and what is to be known of all of them. */
typedef struct pair {
  const float *x[2];
  int64_t channels[2], pixels;
  double factor[2], cosine; /* factor: 1 / length of the attention, or 0 */
} pair;

CPU_INLINE double attention(const pair *p, int side, int64_t pixel) {
  return square_sum(p->x[side] + pixel * p->channels[side], NULL, p->channels[side]);
}

static bool has_values(const float *x, int64_t count) {
  float largest = 0;
  for (int64_t k = 0; k < count && largest < least_map; k++) largest = fmaxf(largest, fabsf(x[k]));
  return largest >= least_map;
}

static pair pair_of(const qe_call *call, int64_t n) {
  double square[2] = {0, 0}, product = 0;
  pair p = {.x = {image_of(call, 0, n), image_of(call, 1, n)},
            .channels = {desc_of(call, 0)->dim[QE_C], desc_of(call, 1)->dim[QE_C]}};
  p.pixels = values_of_an_image(call, 0) / p.channels[0];
  for (int64_t i = 0; i < p.pixels; i++) {
    double a = attention(&p, 0, i), b = attention(&p, 1, i);
    square[0] += a * a;
    square[1] += b * b;
    product += a * b;
  }
  for (int side = 0; side < 2; side++)
    p.factor[side] = has_values(p.x[side], p.pixels * p.channels[side]) ? 1 / sqrt(square[side]) : 0;
  p.cosine = product * p.factor[0] * p.factor[1];
  return p;
}

void CPU_NAME(hint_attention_rows)(const qe_call *call, int64_t first, int64_t last) {
  for (int64_t n = first; n < last; n++) {
    pair p = pair_of(call, n);
    double sum = 0;
    for (int64_t i = 0; i < p.pixels; i++) {
      double apart = p.factor[0] * attention(&p, 0, i) - p.factor[1] * attention(&p, 1, i);
      sum += apart * apart;
    }
    *image_of(call, 2, n) = (float)sum;
  }
}

void CPU_NAME(hint_attention_grad_rows)(const qe_call *call, int64_t first, int64_t last) {
  for (int64_t n = first; n < last; n++) {
    pair p = pair_of(call, n);
    double scale = 4 * (double)call->attrs.scale * p.factor[0];
    for (int64_t i = 0; i < p.pixels; i++) {
      const float *a = p.x[0] + i * p.channels[0];
      float *da = image_of(call, 2, n) + i * p.channels[0];
      double pull = p.cosine * p.factor[0] * attention(&p, 0, i) - p.factor[1] * attention(&p, 1, i);
      float factor = (float)(scale * pull);
      CPU_SIMD for (int64_t c = 0; c < p.channels[0]; c++) da[c] = factor * a[c];
    }
  }
}
