/* Stage `eda`: which variables a cycle takes up, and how they are cut into groups. */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/evolve/eda_parts.h"
#include "core/search/order.h"

#include <string.h>

static qe_eda_draw draw_of(const qe_eda_search *s, uint32_t stream) {
  return (qe_eda_draw){s->evolution->seed, stream, (uint32_t)s->position.cycle};
}

/* Of the variables by confidence, order [count], those that a cycle takes up are the first so many. */
static int64_t chosen_count(const qe_eda_search *s, const int32_t *order) {
  const int32_t confident = s->options.confident * QE_EDA_ONE / 10000;
  int64_t most = (s->variables.count * s->options.share + 9999) / 10000, chosen = 0;
  if (s->options.plain) return s->variables.count;
  while (chosen < most && qe_eda_confidence(s->distribution, order[chosen]) < confident) chosen++;
  return chosen;
}

/* Random, but those of the last units first. */
static qe_status arrange(const qe_eda_search *s, int32_t *chosen, int64_t count) {
  qe_eda_draw draw = draw_of(s, QE_STREAM_EDA_GROUP);
  int64_t *key = QE_NEW_ARRAY(int64_t, count);
  int32_t *order = QE_NEW_ARRAY(int32_t, count);
  qe_status status = key && order ? QE_OK : QE_NO_MEMORY;
  for (int64_t i = 0; status == QE_OK && i < count; i++)
    key[i] = (int64_t)(UINT16_MAX - s->variables.place[chosen[i]].unit) << 32 | qe_eda_word(&draw, chosen[i]);
  if (status == QE_OK) status = qe_order_ascending(key, count, order);
  for (int64_t i = 0; status == QE_OK && i < count; i++) order[i] = chosen[order[i]];
  if (status == QE_OK) memcpy(chosen, order, (size_t)count * sizeof *order);
  qe_free(order);
  qe_free(key);
  return status;
}

qe_status qe_eda_begin_cycle(qe_eda_search *s) {
  qe_eda_position *position = &s->position;
  position->cycle++;
  position->at = position->chosen = position->accepted = 0;
  qe_eda_draw draw = draw_of(s, QE_STREAM_EDA_ORDER);
  QE_TRY(qe_eda_by_confidence(s->distribution, &draw, s->order));
  int64_t chosen = chosen_count(s, s->order);
  if (chosen > 0 && !s->options.plain) QE_TRY(arrange(s, s->order, chosen));
  position->chosen = chosen;
  return QE_OK;
}

qe_status qe_eda_begin_group(qe_eda_search *s) {
  qe_eda_position *position = &s->position;
  const int32_t *group = s->order + position->at;
  int64_t most = position->chosen - position->at, count = 0;
  if (!s->options.plain && most > position->size) most = position->size;
  while (count < most &&
         (s->options.plain || s->variables.place[group[count]].unit == s->variables.place[group[0]].unit))
    count++;
  position->count = count;
  position->elite = 0;
  QE_TRY(qe_eda_begin_slopes(s));
  return qe_reserve(&s->choice, &s->choices, (size_t)(count * s->options.individuals), 1);
}
