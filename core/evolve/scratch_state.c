/* A training from scratch as tensors of a checkpoint: counters, momentum, running means, steps of the errors. Codes and
 * constants follow from these. */
#include "core/base/alloc.h"
#include "core/evolve/scratch_parts.h"

#include <stdio.h>
#include <string.h>

enum { NUMBERS = 3, POSITION = 2, NAME = 48 };

typedef struct field {
  const char *name;
  qe_dtype dtype;
  void *data;
  int64_t count; /* 0: the unit has none */
} field;

typedef qe_status (*visitor)(void *context, const char *name, const field *of);

static void pack_numbers(const qe_scratch_unit *unit, int64_t numbers[NUMBERS]) {
  numbers[0] = (int64_t)unit->error.step;
  numbers[1] = (int64_t)unit->wide.step;
  numbers[2] = (int64_t)unit->above.step;
}

static void unpack_numbers(const int64_t numbers[NUMBERS], qe_scratch_unit *unit) {
  unit->error.step = (uint64_t)numbers[0];
  unit->wide.step = (uint64_t)numbers[1];
  unit->above.step = (uint64_t)numbers[2];
}

/* Every array of a unit; numbers [NUMBERS] are the caller's. */
static qe_status visit_unit(const qe_scratch_plan *plan, size_t at, int64_t *numbers, visitor visit, void *context) {
  const qe_scratch_unit *unit = &plan->unit[at];
  int64_t channels = plan->network->layer[unit->requant].output.dim[QE_C];
  const field fields[] = {{"weights", QE_S16, unit->weights.value, unit->weights.count},
                          {"momentum", QE_S64, unit->weights.momentum, unit->weights.count},
                          {"bias", QE_S16, unit->bias.value, unit->bias.count},
                          {"bias_momentum", QE_S64, unit->bias.momentum, unit->bias.count},
                          {"mean", QE_S64, unit->norm.mean, channels},
                          {"square", QE_S64, unit->norm.square, channels},
                          {"feedback", QE_S32, unit->feedback, unit->feedback_count},
                          {"numbers", QE_S64, numbers, NUMBERS}};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    char name[NAME];
    if (fields[i].count == 0) continue;
    snprintf(name, sizeof name, "scratch.%zu.%s", at, fields[i].name);
    QE_TRY(visit(context, name, &fields[i]));
  }
  return QE_OK;
}

static qe_status save_field(void *context, const char *name, const field *of) {
  return qe_tensors_add(context, name, of->dtype, 1, &of->count, of->data);
}

qe_status qe_scratch_save(const void *stage, qe_tensors *state) {
  const qe_scratch *t = stage;
  int64_t position[POSITION] = {t->step, t->start}, count = POSITION;
  QE_TRY(qe_tensors_add(state, "scratch.position", QE_S64, 1, &count, position));
  for (size_t i = 0; i < t->plan->units; i++) {
    int64_t numbers[NUMBERS];
    pack_numbers(&t->plan->unit[i], numbers);
    QE_TRY(visit_unit(t->plan, i, numbers, save_field, state));
  }
  return QE_OK;
}

typedef struct loading {
  const qe_tensors *state;
} loading;

static qe_status load_field(void *context, const char *name, const field *of) {
  const qe_tensors *state = ((const loading *)context)->state;
  const qe_named_tensor *tensor = qe_tensors_find(state, name);
  if (!tensor || tensor->dtype != of->dtype || tensor->bytes != (size_t)of->count * qe_dtype_bytes(of->dtype))
    return qe_fail(QE_FORMAT,
                   "the checkpoint's tensor %s is missing or of another size: resume with the options and the network "
                   "of the run",
                   name);
  memcpy(of->data, tensor->data, tensor->bytes);
  return QE_OK;
}

static qe_status check_unit(const qe_scratch_unit *unit, size_t at) {
  bool sound = qe_counters_sound(&unit->weights) && qe_counters_sound(&unit->bias);
  const qe_error_maker *const makers[] = {&unit->error, &unit->wide, &unit->above};
  for (size_t k = 0; k < sizeof makers / sizeof *makers; k++)
    sound &= makers[k]->channels == 0 || (makers[k]->step >= 1 && makers[k]->step <= UINT64_C(1) << 60);
  return sound ? QE_OK
               : qe_fail(QE_FORMAT, "the checkpoint's tensors scratch.%zu hold values that no training gives", at);
}

qe_status qe_scratch_load(qe_scratch *t, const qe_tensors *state) {
  loading from = {state};
  int64_t position[POSITION];
  const field place = {"position", QE_S64, position, POSITION};
  QE_TRY(load_field(&from, "scratch.position", &place));
  if (position[0] < 0 || position[0] > INT64_MAX / t->options.batch || position[1] < 0)
    return qe_fail(QE_FORMAT, "the checkpoint's tensor scratch.position holds a number below 0");
  t->step = position[0];
  t->start = position[1];
  for (size_t i = 0; i < t->plan->units; i++) {
    int64_t numbers[NUMBERS];
    QE_TRY(visit_unit(t->plan, i, numbers, load_field, &from));
    unpack_numbers(numbers, &t->plan->unit[i]);
    QE_TRY(check_unit(&t->plan->unit[i], i));
  }
  for (size_t i = 0; i < t->plan->units; i++) qe_scratch_refresh(t, &t->plan->unit[i]);
  return QE_OK;
}
