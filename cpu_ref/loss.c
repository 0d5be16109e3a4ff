/* References: softmax cross-entropy with label smoothing. logits [N,C] (H = W = 1), one label an image, or two and the
 * share of the first. */
#include "cpu_ref/index.h"
#include "cpu_ref/ref.h"

#include <math.h>

/* What image n shows: label[0], and label[1] where two are mixed; share: of each, in 256ths. */
typedef struct answer {
  int32_t label[2], share[2];
} answer;

static answer answer_of(const qe_call *call, int64_t n, bool mixed) {
  int32_t first = s32_of(call, 1)[n], share = mixed ? s32_of(call, 3)[n] : QE_SHARE_ALL;
  return (answer){{first, mixed ? s32_of(call, 2)[n] : first}, {share, QE_SHARE_ALL - share}};
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

/* loss[n] = - sum over c of target[c] * log softmax(z)[c], in nats; a share of 0 adds nothing, whatever its logit. */
static qe_status run_loss(const qe_call *call, bool mixed) {
  int64_t images = desc_of(call, 0)->dim[QE_N], classes = desc_of(call, 0)->dim[QE_C];
  double smoothing = (double)call->attrs.smoothing;
  int results = mixed ? 4 : 2;
  QE_TRY(qe_call_check_values(call));
  for (int64_t n = 0; n < images; n++) {
    const float *z = f32_of(call, 0) + n * classes;
    answer right = answer_of(call, n, mixed);
    double normaliser = log_sum_exp(z, classes), rest = 0, miss = 0;
    int32_t hit = 0;
    for (int64_t c = 0; c < classes; c++) rest += normaliser - (double)z[c];
    for (int k = 0; k < 2; k++) {
      if (right.share[k] > 0) miss += right.share[k] * (normaliser - (double)z[right.label[k]]) / QE_SHARE_ALL;
      if (first_largest(z, classes) == right.label[k]) hit += right.share[k];
    }
    f32_of(call, results)[n] = (float)((1 - smoothing) * miss + smoothing / (double)classes * rest);
    s32_of(call, results + 1)[n] = mixed ? hit : hit / QE_SHARE_ALL;
  }
  return QE_OK;
}

/* dlogits = scale * (softmax(z) - target); scale is 1 / N for the mean over a batch */
static qe_status run_gradient(const qe_call *call, bool mixed) {
  int64_t images = desc_of(call, 0)->dim[QE_N], classes = desc_of(call, 0)->dim[QE_C];
  double smoothing = (double)call->attrs.smoothing, scale = (double)call->attrs.scale;
  QE_TRY(qe_call_check_values(call));
  for (int64_t n = 0; n < images; n++) {
    const float *z = f32_of(call, 0) + n * classes;
    answer right = answer_of(call, n, mixed);
    double normaliser = log_sum_exp(z, classes);
    for (int64_t c = 0; c < classes; c++) {
      double part = (c == right.label[0] ? right.share[0] : 0) + (c == right.label[1] ? right.share[1] : 0);
      double target = (1 - smoothing) * part / QE_SHARE_ALL + smoothing / (double)classes;
      f32_of(call, mixed ? 4 : 2)[n * classes + c] = (float)(scale * (exp((double)z[c] - normaliser) - target));
    }
  }
  return QE_OK;
}

/* target = (1 - smoothing) * onehot(label) + smoothing / C (Szegedy et al., 2016, section 7); hit[n] = 1 when the first
 * largest logit is the label's, else 0 */
qe_status qe_ref_softmax_xent(const qe_call *call) {
  return run_loss(call, false);
}

qe_status qe_ref_softmax_xent_grad(const qe_call *call) {
  return run_gradient(call, false);
}

/* Of images mixed in pairs (op mix): with w = share[n] / 256, target = (1 - smoothing) * (w onehot(label) + (1 - w)
 * onehot(other)) + smoothing / C, so that the loss is w times that of one label plus 1 - w times that of the other
 * (Zhang et al., 2018). hit[n], in 256ths: the share of the label that the first largest logit has; 0 when it has
 * neither. */
qe_status qe_ref_mix_xent(const qe_call *call) {
  return run_loss(call, true);
}

qe_status qe_ref_mix_xent_grad(const qe_call *call) {
  return run_gradient(call, true);
}
