/* Stage `eda`: proposals from the main effects of codes.
 *
 * A code's effect is the sum, over all individuals of the group that had it, of what their losses differ from the mean
 * of their generation. Where codes change seldom and independently, that is a least-squares estimate of each change's
 * share, from all individuals, not only from the selected. */
#include "core/base/alloc.h"
#include "core/evolve/eda_parts.h"
#include "core/search/order.h"

#include <string.h>

static int64_t *effects_of(const qe_eda_search *s, int64_t j) {
  return s->effect + j * s->distribution->width;
}

size_t qe_eda_effects(const qe_eda_search *s) {
  return s->options.ladder ? (size_t)(s->position.count * s->distribution->width) : 0;
}

qe_status qe_eda_begin_effects(qe_eda_search *s) {
  size_t count = qe_eda_effects(s);
  QE_TRY(qe_reserve(&s->effect, &s->effects, count, sizeof *s->effect));
  if (count > 0) memset(s->effect, 0, count * sizeof *s->effect);
  return QE_OK;
}

void qe_eda_add_effects(qe_eda_search *s, const int64_t *loss, int32_t runners) {
  int64_t mean = 0, count = s->position.count;
  if (!s->options.ladder) return;
  for (int32_t i = 0; i < runners; i++) mean += loss[i];
  mean /= runners;
  for (int32_t i = 0; i < runners; i++) {
    const uint8_t *choice = s->choice + s->rank[i] * count;
    for (int64_t j = 0; j < count; j++) effects_of(s, j)[choice[j]] += loss[i] - mean;
  }
}

/* The candidate of a variable with the least effect, but for the context's; -1: it has no other. */
static int32_t best_change(const qe_eda_search *s, int64_t j, int32_t context) {
  int32_t variable = s->order[s->position.at + j], best = -1;
  for (int32_t k = 0; k < s->distribution->candidates[variable]; k++)
    if (k != context && (best < 0 || effects_of(s, j)[k] < effects_of(s, j)[best])) best = k;
  return best;
}

/* Changes [count] of the variables and their order, the most helpful first; how many of them help. */
static qe_status order_changes(const qe_eda_search *s, const uint8_t *context, uint8_t *change, int32_t *order,
                               int64_t *helpful) {
  int64_t count = s->position.count;
  int64_t *key = QE_NEW_ARRAY(int64_t, count);
  if (!key) return QE_NO_MEMORY;
  *helpful = 0;
  for (int64_t j = 0; j < count; j++) {
    int32_t best = best_change(s, j, context[j]);
    change[j] = best < 0 ? context[j] : (uint8_t)best;
    key[j] = best < 0 ? 0 : effects_of(s, j)[best];
    *helpful += key[j] < 0;
  }
  qe_status status = qe_order_ascending(key, count, order);
  qe_free(key);
  return status;
}

qe_status qe_eda_climb(const qe_eda_search *s, uint8_t *candidate, void *genome, int32_t *rungs) {
  int64_t helpful, done = 0;
  size_t bytes = s->evolution->layout->bytes;
  uint8_t *change = QE_NEW_ARRAY(uint8_t, s->position.count);
  int32_t *order = QE_NEW_ARRAY(int32_t, s->position.count);
  qe_status status = change && order ? order_changes(s, candidate, change, order, &helpful) : QE_NO_MEMORY;
  *rungs = 0;
  for (int32_t rung = s->options.ladder; status == QE_OK && rung > 0; rung--) {
    int64_t until = helpful >> rung;
    if (until == done) continue;
    for (; done < until; done++) candidate[order[done]] = change[order[done]];
    qe_eda_write(s, candidate, (uint8_t *)genome + (size_t)(*rungs)++ * bytes);
  }
  qe_free(order);
  qe_free(change);
  return status;
}
