/* Stage `eda`: its state as tensors of a checkpoint. */
#include "core/base/alloc.h"
#include "core/evolve/eda_parts.h"

#include <string.h>

/* An array of the stage and the tensor that it is saved as; bytes 0: not now. */
typedef struct field {
  const char *name;
  qe_dtype dtype; /* s16 stands for u16 of the same bits */
  void *data;
  size_t bytes;
} field;

enum { FIELDS = 7 };

/* The position comes first: the sizes of the others follow from it. */
static void list_fields(const qe_eda_search *s, void *position, field list[FIELDS]) {
  size_t count = (size_t)s->variables.count, elite = s->position.elite ? (size_t)s->position.count : 0;
  qe_eda *p = s->distribution;
  const field fields[FIELDS] = {
      {"eda.position", QE_S64, position, sizeof s->position},
      {"eda.probability", QE_S16, p->share, count * (size_t)p->width * sizeof *p->share},
      {"eda.first", QE_U8, p->first, count},
      {"eda.candidates", QE_U8, p->candidates, count},
      {"eda.order", QE_S32, s->order, (size_t)s->position.chosen * sizeof *s->order},
      {"eda.elite", QE_U8, s->elite, elite},
      {"eda.slopes", QE_S64, s->slope, s->position.inside ? qe_eda_slopes(s) * sizeof *s->slope : 0},
  };
  memcpy(list, fields, sizeof fields);
}

qe_status qe_eda_save(const void *stage, qe_tensors *state) {
  const qe_eda_search *s = stage;
  qe_eda_position position = s->position;
  field list[FIELDS];
  list_fields(s, &position, list);
  for (int i = 0; i < FIELDS; i++) {
    int64_t shape[1] = {(int64_t)(list[i].bytes / qe_dtype_bytes(list[i].dtype))};
    if (shape[0] > 0) QE_TRY(qe_tensors_add(state, list[i].name, list[i].dtype, 1, shape, list[i].data));
  }
  return QE_OK;
}

static qe_status load_field(const qe_tensors *state, const field *to) {
  if (to->bytes == 0) return QE_OK;
  const qe_named_tensor *tensor = qe_tensors_find(state, to->name);
  if (!tensor || tensor->dtype != to->dtype || tensor->bytes != to->bytes)
    return qe_fail(QE_FORMAT,
                   "the checkpoint's tensor %s is missing or of another size: resume with the options and the "
                   "network of the run",
                   to->name);
  memcpy(to->data, tensor->data, to->bytes);
  return QE_OK;
}

/* Whether the numbers fit the network. */
static bool is_sound(const qe_eda_search *s) {
  const qe_eda_position *p = &s->position;
  bool whole = p->cycle >= 0 && p->generation >= 0 && p->generation < 1 << 28 && p->inside >= 0 && p->size > 0;
  bool group = p->at >= 0 && p->count >= 0 && p->chosen >= 0 && p->chosen <= s->variables.count && p->at <= p->chosen &&
               p->count <= p->chosen;
  return whole && group && (p->inside == 0 || p->at + p->count <= p->chosen) && (p->inside > 0 || !p->elite);
}

static qe_status check(const qe_eda_search *s) {
  QE_TRY(qe_eda_check(s->distribution));
  for (int64_t i = 0; i < s->variables.count; i++) {
    int32_t candidate = s->context[i] - s->distribution->first[i];
    if (candidate < 0 || candidate >= s->distribution->candidates[i])
      return qe_fail(QE_FORMAT, "the checkpoint's distribution is of another network: weight %lld", (long long)i);
  }
  for (int64_t i = 0; i < s->position.chosen; i++)
    if (s->order[i] < 0 || s->order[i] >= s->variables.count)
      return qe_fail(QE_FORMAT, "the checkpoint's tensor eda.order names variable %d", s->order[i]);
  for (int64_t j = 0; s->position.elite && j < s->position.count; j++)
    if (s->elite[j] >= s->distribution->candidates[s->order[s->position.at + j]])
      return qe_fail(QE_FORMAT, "the checkpoint's tensor eda.elite names no candidate of its variable %lld",
                     (long long)j);
  return QE_OK;
}

qe_status qe_eda_load(qe_eda_search *s, const qe_tensors *state) {
  field list[FIELDS];
  list_fields(s, &s->position, list);
  QE_TRY(load_field(state, &list[0]));
  if (!is_sound(s)) return qe_fail(QE_FORMAT, "the checkpoint's tensor eda.position does not fit the network");
  QE_TRY(qe_eda_begin_slopes(s));
  list_fields(s, &s->position, list);
  for (int i = 1; i < FIELDS; i++) QE_TRY(load_field(state, &list[i]));
  QE_TRY(check(s));
  return qe_reserve(&s->choice, &s->choices, (size_t)(s->position.count * s->options.individuals), 1);
}
