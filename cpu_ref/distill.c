/* References: losses between two networks, an image at a time: between their logits, and between maps of theirs. The
 * gradient ops give the gradient of scale * (sum over images of the loss). */
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

#include <math.h>

/* ---- logits ---- */

/* log softmax(z / temperature)[c] = (z[c] - best) / temperature - log_rest */
typedef struct softened {
  const float *z;
  int64_t top; /* its first largest */
  double best, temperature, log_rest;
} softened;

static softened soften(const float *z, int64_t classes, double temperature) {
  softened s = {.z = z, .temperature = temperature};
  double sum = 0;
  for (int64_t c = 1; c < classes; c++)
    if (z[c] > z[s.top]) s.top = c;
  s.best = (double)z[s.top];
  for (int64_t c = 0; c < classes; c++) sum += exp(((double)z[c] - s.best) / temperature);
  s.log_rest = log(sum);
  return s;
}

static double log_share(const softened *s, int64_t c) {
  return ((double)s->z[c] - s->best) / s->temperature - s->log_rest;
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
  return (((double)p->z[c] - p->best) - ((double)q->z[c] - (double)q->z[p->top])) / p->temperature;
}

static double mean_log_ratio(const softened *p, const softened *q, int64_t classes) {
  double sum = 0;
  for (int64_t c = 0; c < classes; c++) sum += exp(log_share(p, c)) * log_ratio(p, q, c);
  return sum;
}

static double temperature_of(const qe_call *call) {
  return call->attrs.temperature > 0 ? (double)call->attrs.temperature : 1;
}

/* loss[n] = T^2 * KL(p || q), in nats, with p = softmax(target / T), q = softmax(logits / T), T = attrs.temperature
 * (0: 1). The factor T^2 keeps the gradient's size (Hinton, Vinyals, Dean, 2015, section 2). An image with a NaN among
 * its logits gives NaN. */
qe_status qe_ref_kl_div(const qe_call *call) {
  int64_t images = desc_of(call, 0)->dim[QE_N], classes = desc_of(call, 0)->dim[QE_C];
  double temperature = temperature_of(call);
  for (int64_t n = 0; n < images; n++) {
    softened q = soften(f32_of(call, 0) + n * classes, classes, temperature),
             p = soften(f32_of(call, 1) + n * classes, classes, temperature);
    f32_of(call, 2)[n] = (float)(temperature * temperature * divergence(&p, &q, classes));
  }
  return QE_OK;
}

/* dlogits = scale * T * (q - p), dtarget = scale * T * p * (r - its mean over p) with r = log p - log q */
qe_status qe_ref_kl_div_grad(const qe_call *call) {
  int64_t images = desc_of(call, 0)->dim[QE_N], classes = desc_of(call, 0)->dim[QE_C];
  double temperature = temperature_of(call), factor = (double)call->attrs.scale * temperature;
  for (int64_t n = 0; n < images; n++) {
    softened q = soften(f32_of(call, 0) + n * classes, classes, temperature),
             p = soften(f32_of(call, 1) + n * classes, classes, temperature);
    double mean = mean_log_ratio(&p, &q, classes);
    for (int64_t c = 0; c < classes; c++) {
      double share = exp(log_share(&p, c));
      f32_of(call, 2)[n * classes + c] = (float)(factor * (exp(log_share(&q, c)) - share));
      f32_of(call, 3)[n * classes + c] = (float)(factor * share * (log_ratio(&p, &q, c) - mean));
    }
  }
  return QE_OK;
}

/* ---- maps ---- */

static int64_t values_of_an_image(const qe_desc *desc) {
  return qe_count(desc) / desc->dim[QE_N];
}

/* loss[n] = sum (a - b)^2 / (H * W * C) */
qe_status qe_ref_hint_square(const qe_call *call) {
  int64_t images = desc_of(call, 0)->dim[QE_N], count = values_of_an_image(desc_of(call, 0));
  for (int64_t n = 0; n < images; n++) {
    const float *a = f32_of(call, 0) + n * count, *b = f32_of(call, 1) + n * count;
    double sum = 0;
    for (int64_t k = 0; k < count; k++) sum += ((double)a[k] - (double)b[k]) * ((double)a[k] - (double)b[k]);
    f32_of(call, 2)[n] = (float)(sum / (double)count);
  }
  return QE_OK;
}

/* da = scale * 2 * (a - b) / (H * W * C) */
qe_status qe_ref_hint_square_grad(const qe_call *call) {
  double factor = 2 * (double)call->attrs.scale / (double)values_of_an_image(desc_of(call, 0));
  const float *a = f32_of(call, 0), *b = f32_of(call, 1);
  for (int64_t k = 0; k < qe_count(desc_of(call, 0)); k++)
    f32_of(call, 2)[k] = (float)(factor * ((double)a[k] - (double)b[k]));
  return QE_OK;
}

/* Attention at a pixel: the sum of its squared channels. */
static double attention(const float *x, int64_t channels) {
  double sum = 0;
  for (int64_t c = 0; c < channels; c++) sum += (double)x[c] * (double)x[c];
  return sum;
}

static const double least_map = 0x1p-60; /* maps of smaller values count as 0 */

/* Two maps of one image: pixels, and for each map the factor that makes its attention a vector of length 1 (0 where it
 * counts as 0 everywhere). */
typedef struct pair {
  const float *x[2];
  int64_t channels[2], pixels;
  double factor[2], cosine;
} pair;

static double unit_attention(const pair *p, int side, int64_t pixel) {
  return p->factor[side] * attention(p->x[side] + pixel * p->channels[side], p->channels[side]);
}

static double largest_of(const float *x, int64_t count) {
  double largest = 0;
  for (int64_t k = 0; k < count; k++) largest = fmax(largest, fabs((double)x[k]));
  return largest;
}

static pair pair_of(const qe_call *call, int64_t n) {
  const qe_desc *a = desc_of(call, 0), *b = desc_of(call, 1);
  int64_t pixels = (int64_t)a->dim[QE_H] * a->dim[QE_W];
  pair p = {.channels = {a->dim[QE_C], b->dim[QE_C]}, .pixels = pixels, .factor = {1, 1}};
  double square[2] = {0, 0};
  for (int side = 0; side < 2; side++) {
    p.x[side] = f32_of(call, side) + n * pixels * p.channels[side];
    for (int64_t i = 0; i < pixels; i++) square[side] += unit_attention(&p, side, i) * unit_attention(&p, side, i);
    p.factor[side] = largest_of(p.x[side], pixels * p.channels[side]) >= least_map ? 1 / sqrt(square[side]) : 0;
  }
  for (int64_t i = 0; i < pixels; i++) p.cosine += unit_attention(&p, 0, i) * unit_attention(&p, 1, i);
  return p;
}

/* loss[n] = sum over pixels of (A(a) / |A(a)| - A(b) / |A(b)|)^2 with A(x) = the sum over channels of x^2 at each pixel
 * (Zagoruyko and Komodakis, "Paying More Attention to Attention", 2017, eq. 2 with p = 2, squared); 0...2, whatever the
 * sizes of the maps and their numbers of channels. A map without a value of 2^-60 or more has the attention 0. */
qe_status qe_ref_hint_attention(const qe_call *call) {
  for (int64_t n = 0; n < desc_of(call, 0)->dim[QE_N]; n++) {
    pair p = pair_of(call, n);
    double sum = 0;
    for (int64_t i = 0; i < p.pixels; i++) {
      double apart = unit_attention(&p, 0, i) - unit_attention(&p, 1, i);
      sum += apart * apart;
    }
    f32_of(call, 2)[n] = (float)sum;
  }
  return QE_OK;
}

/* da = scale * 4 * a * (cosine * U(a) - U(b)) / |A(a)| with U = A / |A| and the cosine of both; 0 where a has the
 * attention 0 */
qe_status qe_ref_hint_attention_grad(const qe_call *call) {
  for (int64_t n = 0; n < desc_of(call, 0)->dim[QE_N]; n++) {
    pair p = pair_of(call, n);
    float *da = f32_of(call, 2) + n * p.pixels * p.channels[0];
    for (int64_t i = 0; i < p.pixels; i++) {
      double pull = p.cosine * unit_attention(&p, 0, i) - unit_attention(&p, 1, i);
      for (int64_t c = 0; c < p.channels[0]; c++) {
        int64_t k = i * p.channels[0] + c;
        da[k] = (float)(4 * (double)call->attrs.scale * p.factor[0] * pull * (double)p.x[0][k]);
      }
    }
  }
  return QE_OK;
}
