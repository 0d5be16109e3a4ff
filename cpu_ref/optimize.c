/* References: gradient clipping and the optimizers' updates. Hyper-parameters are read by enum qe_hyper. */
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

#include <math.h>

static double hyper_of(const qe_call *call, enum qe_hyper which) {
  return (double)f32_of(call, 1)[which];
}

/* sum = sum over all elements of x^2 */
qe_status qe_ref_square_sum(const qe_call *call) {
  const float *x = f32_of(call, 0);
  double sum = 0;
  for (int64_t k = 0; k < qe_count(desc_of(call, 0)); k++) sum += (double)x[k] * (double)x[k];
  f32_of(call, 1)[0] = (float)sum;
  return QE_OK;
}

/* g *= min(1, clip / (sqrt(square_sum) + 1e-6)) when clip > 0; square_sum is that of all gradients together */
qe_status qe_ref_clip_norm(const qe_call *call) {
  double clip = hyper_of(call, QE_HYPER_CLIP), factor = clip / (sqrt((double)f32_of(call, 0)[0]) + 1e-6);
  float *g = f32_of(call, 2);
  if (clip > 0 && factor < 1)
    for (int64_t k = 0; k < qe_count(desc_of(call, 2)); k++) g[k] = (float)((double)g[k] * factor);
  return QE_OK;
}

/* g' = g + decay * w; m = momentum * m + g'; w -= rate * (nesterov ? g' + momentum * m : m)
 * (PyTorch's form of Sutskever et al., 2013: the rate is outside the momentum) */
qe_status qe_ref_sgd(const qe_call *call) {
  double rate = hyper_of(call, QE_HYPER_RATE), momentum = hyper_of(call, QE_HYPER_MOMENTUM);
  double decay = hyper_of(call, QE_HYPER_DECAY);
  bool nesterov = hyper_of(call, QE_HYPER_NESTEROV) > 0;
  const float *g = f32_of(call, 0);
  float *w = f32_of(call, 2), *m = f32_of(call, 3);
  for (int64_t k = 0; k < qe_count(desc_of(call, 0)); k++) {
    double gradient = (double)g[k] + decay * (double)w[k];
    double velocity = momentum * (double)m[k] + gradient;
    m[k] = (float)velocity;
    w[k] = (float)((double)w[k] - rate * (nesterov ? gradient + momentum * velocity : velocity));
  }
  return QE_OK;
}

/* AdamW (Loshchilov and Hutter, 2019): m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2;
 * w = w * (1 - rate * decay) - rate * (m * correction1) / (sqrt(v * correction2) + epsilon) */
qe_status qe_ref_adam(const qe_call *call) {
  double rate = hyper_of(call, QE_HYPER_RATE), decay = hyper_of(call, QE_HYPER_DECAY);
  double beta1 = hyper_of(call, QE_HYPER_MOMENTUM), beta2 = hyper_of(call, QE_HYPER_BETA2);
  double correction1 = hyper_of(call, QE_HYPER_CORRECTION1), correction2 = hyper_of(call, QE_HYPER_CORRECTION2);
  double epsilon = hyper_of(call, QE_HYPER_EPSILON);
  float *w = f32_of(call, 2), *m = f32_of(call, 3), *v = f32_of(call, 4);
  for (int64_t k = 0; k < qe_count(desc_of(call, 0)); k++) {
    double g = (double)f32_of(call, 0)[k];
    double first = beta1 * (double)m[k] + (1 - beta1) * g, second = beta2 * (double)v[k] + (1 - beta2) * g * g;
    m[k] = (float)first;
    v[k] = (float)second;
    w[k] = (float)((double)w[k] * (1 - rate * decay) -
                   rate * (first * correction1) / (sqrt(second * correction2) + epsilon));
  }
  return QE_OK;
}

/* Exponential moving average of the weights: average = decay * average + (1 - decay) * w, decay = hyper[AVERAGE] */
qe_status qe_ref_ema(const qe_call *call) {
  double rest = 1 - hyper_of(call, QE_HYPER_AVERAGE);
  const float *w = f32_of(call, 0);
  float *average = f32_of(call, 2);
  for (int64_t k = 0; k < qe_count(desc_of(call, 0)); k++)
    average[k] = (float)((1 - rest) * (double)average[k] + rest * (double)w[k]);
  return QE_OK;
}
