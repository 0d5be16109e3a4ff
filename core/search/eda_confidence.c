/* Estimation of distribution: confidence in values, and orders by it. */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/search/eda.h"
#include "core/search/order.h"

int32_t qe_eda_argmax(const qe_eda *eda, int64_t variable) {
  const uint16_t *share = eda->share + variable * eda->width;
  int32_t best = 0;
  for (int32_t k = 1; k < eda->candidates[variable]; k++)
    if (share[k] > share[best]) best = k;
  return best;
}

int32_t qe_eda_confidence(const qe_eda *eda, int64_t variable) {
  return eda->share[variable * eda->width + qe_eda_argmax(eda, variable)];
}

void qe_eda_histogram(const qe_eda *eda, int64_t start, int64_t stop, int64_t *bin, int32_t bins) {
  for (int32_t b = 0; b < bins; b++) bin[b] = 0;
  for (int64_t i = start; i < stop; i++) {
    int64_t at = (int64_t)qe_eda_confidence(eda, i) * bins / QE_EDA_ONE;
    bin[at < bins ? at : bins - 1]++;
  }
}

uint32_t qe_eda_word(const qe_eda_draw *draw, int64_t variable) {
  uint64_t index = (uint64_t)draw->number << 36 | (uint64_t)variable / 4;
  return qe_philox_draw(draw->seed, draw->stream, index).word[variable % 4];
}

qe_status qe_eda_by_confidence(const qe_eda *eda, const qe_eda_draw *draw, int32_t *order) {
  int64_t *key = QE_NEW_ARRAY(int64_t, eda->count);
  if (!key) return QE_NO_MEMORY;
  for (int64_t i = 0; i < eda->count; i++)
    key[i] = (int64_t)qe_eda_confidence(eda, i) << 32 | (int64_t)qe_eda_word(draw, i);
  qe_status status = qe_order_ascending(key, eda->count, order);
  qe_free(key);
  return status;
}
