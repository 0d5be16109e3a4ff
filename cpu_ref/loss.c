/* References: softmax cross-entropy with label smoothing. logits [N,C] (H = W = 1), one label an image. */
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

#include <math.h>

static qe_status check_label(const qe_call *call, int64_t n) {
  int32_t label = s32_of(call, 1)[n], classes = desc_of(call, 0)->dim[QE_C];
  if (inside(label, classes)) return QE_OK;
  return qe_fail(QE_SHAPE, "%s: label[%lld] is %d, must be in 0...%d", qe_op_get_info(call->op)->name, (long long)n,
                 label, classes - 1);
}

/* Index of the first largest of z[0..count). */
static int64_t first_largest(const float *z, int64_t count) {
  int64_t best = 0;
  for (int64_t c = 1; c < count; c++)
    if (z[c] > z[best]) best = c;
  return best;
}

/* log(sum over c of exp(z[c])), shifted by the largest so that nothing overflows. */
static double log_sum_exp(const float *z, int64_t count) {
  double shift = (double)z[first_largest(z, count)], sum = 0;
  for (int64_t c = 0; c < count; c++) sum += exp((double)z[c] - shift);
  return shift + log(sum);
}

/* loss[n] = - sum over c of target[c] * log softmax(z)[c], in nats, with target = (1 - smoothing) * onehot(label) +
 * smoothing / C (Szegedy et al., 2016, section 7); hit[n] = 1 when the first largest logit is the label's, else 0 */
qe_status qe_ref_softmax_xent(const qe_call *call) {
  int64_t images = desc_of(call, 0)->dim[QE_N], classes = desc_of(call, 0)->dim[QE_C];
  double smoothing = (double)call->attrs.smoothing;
  for (int64_t n = 0; n < images; n++) {
    QE_TRY(check_label(call, n));
    const float *z = f32_of(call, 0) + n * classes;
    int32_t label = s32_of(call, 1)[n];
    double normaliser = log_sum_exp(z, classes), rest = 0;
    for (int64_t c = 0; c < classes; c++) rest += normaliser - (double)z[c];
    f32_of(call, 2)[n] =
        (float)((1 - smoothing) * (normaliser - (double)z[label]) + smoothing / (double)classes * rest);
    s32_of(call, 3)[n] = first_largest(z, classes) == label;
  }
  return QE_OK;
}

/* dlogits = scale * (softmax(z) - target); scale is 1 / N for the mean over a batch */
qe_status qe_ref_softmax_xent_grad(const qe_call *call) {
  int64_t images = desc_of(call, 0)->dim[QE_N], classes = desc_of(call, 0)->dim[QE_C];
  double smoothing = (double)call->attrs.smoothing, scale = (double)call->attrs.scale;
  for (int64_t n = 0; n < images; n++) {
    QE_TRY(check_label(call, n));
    const float *z = f32_of(call, 0) + n * classes;
    double normaliser = log_sum_exp(z, classes);
    for (int64_t c = 0; c < classes; c++) {
      double target = (c == s32_of(call, 1)[n] ? 1 - smoothing : 0) + smoothing / (double)classes;
      f32_of(call, 2)[n * classes + c] = (float)(scale * (exp((double)z[c] - normaliser) - target));
    }
  }
  return QE_OK;
}
