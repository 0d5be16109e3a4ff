/* Stage `eda`: proposals from the slopes of the loss.
 *
 * A variable's slope is the sum, over all individuals of the group, of how many steps its code lay above the context's
 * times what the individual's loss differed from the mean of its generation. Where codes change seldom and
 * independently, that is proportional to the least-squares estimate of what one step up costs; it uses all individuals,
 * not only the selected. */
#include "core/base/alloc.h"
#include "core/evolve/eda_parts.h"
#include "core/search/order.h"

#include <string.h>

size_t qe_eda_slopes(const qe_eda_search *s) {
  return s->options.ladder ? (size_t)s->position.count : 0;
}

qe_status qe_eda_begin_slopes(qe_eda_search *s) {
  size_t count = qe_eda_slopes(s);
  QE_TRY(qe_reserve(&s->slope, &s->slopes, count, sizeof *s->slope));
  if (count > 0) memset(s->slope, 0, count * sizeof *s->slope);
  return QE_OK;
}

void qe_eda_add_slopes(qe_eda_search *s, const int64_t *loss, int32_t runners) {
  int64_t mean = 0, count = s->position.count;
  if (!s->options.ladder) return;
  for (int32_t i = 0; i < runners; i++) mean += loss[i];
  mean /= runners;
  for (int64_t j = 0; j < count; j++) {
    int32_t context = qe_eda_context_candidate(s, j);
    for (int32_t i = 0; i < runners; i++)
      s->slope[j] += (s->choice[s->rank[i] * count + j] - context) * (loss[i] - mean);
  }
}

/* The variables' order, those with the steepest way down first; how many have one. */
static qe_status order_changes(const qe_eda_search *s, int32_t *order, int64_t *helpful) {
  int64_t *key = QE_NEW_ARRAY(int64_t, s->position.count);
  if (!key) return QE_NO_MEMORY;
  *helpful = 0;
  for (int64_t j = 0; j < s->position.count; j++) {
    int32_t below = qe_eda_context_candidate(s, j);
    int32_t above = s->distribution->candidates[s->order[s->position.at + j]] - 1 - below;
    if (s->slope[j] > 0 ? below > 0 : above > 0) key[j] = s->slope[j] > 0 ? -s->slope[j] : s->slope[j];
    *helpful += key[j] < 0;
  }
  qe_status status = qe_order_ascending(key, s->position.count, order);
  qe_free(key);
  return status;
}

qe_status qe_eda_descend(const qe_eda_search *s, uint8_t *candidate, void *genomes, int32_t *rungs) {
  int64_t helpful, done = 0;
  size_t bytes = s->evolution->layout->bytes;
  int32_t *order = QE_NEW_ARRAY(int32_t, s->position.count);
  qe_status status = order ? order_changes(s, order, &helpful) : QE_NO_MEMORY;
  *rungs = 0;
  for (int32_t rung = s->options.ladder; status == QE_OK && rung > 0; rung--) {
    int64_t until = helpful >> rung;
    if (until == done) continue;
    for (; done < until; done++) {
      uint8_t *at = &candidate[order[done]];
      *at = (uint8_t)(s->slope[order[done]] > 0 ? *at - 1 : *at + 1);
    }
    qe_eda_write(s, candidate, (uint8_t *)genomes + (size_t)(*rungs)++ * bytes);
  }
  qe_free(order);
  return status;
}
