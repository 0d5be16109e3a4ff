/* Learning-rate schedules: pure functions of the step, so a resumed run has the same rates. */
#ifndef QE_TRAIN_SCHEDULE_H
#define QE_TRAIN_SCHEDULE_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QE_SCHEDULE_LIST(X)                                                                                            \
  X(CONSTANT, "constant")                                                                                              \
  X(STEP, "step")                                                                                                      \
  X(COSINE, "cosine")                                                                                                  \
  X(CYCLICAL, "cyclical")                                                                                              \
  X(ONECYCLE, "onecycle")                                                                                              \
  X(COSINE_CYCLES, "cosine-cycles")                                                                                    \
  X(TRIANGULAR, "triangular")

typedef enum qe_schedule_kind {
#define X(id, name) QE_SCHEDULE_##id,
  QE_SCHEDULE_LIST(X)
#undef X
      QE_SCHEDULES
} qe_schedule_kind;

enum { QE_MAX_MILESTONES = 16 };

typedef struct qe_schedule {
  qe_schedule_kind kind;
  double rate;     /* the peak */
  double min_rate; /* cosine, onecycle, and those with cycles: the lowest */
  double gamma;    /* step: factor at each milestone */
  double warmup;   /* epochs of linear rise from 0 to the peak; onecycle: its rising part, from rate / 25 */
  double cycle;   /* epochs a cycle: within one the rate falls from rate to min_rate, cyclical: linearly, cosine-cycles:
                   * as half a cosine; triangular: it rises from near min_rate to rate in the middle, and falls */
  int milestones; /* step */
  double milestone[QE_MAX_MILESTONES]; /* epochs */
} qe_schedule;

const char *qe_schedule_name(qe_schedule_kind kind);
/* The kind called `name`, or QE_SCHEDULES. */
qe_schedule_kind qe_schedule_find(const char *name);

/* Whether the kind repeats every `cycle` epochs, its lowest rate at the end of each. */
bool qe_schedule_has_cycles(qe_schedule_kind kind);

/* Rate for update number `step` (from 0) of `total`, with `epoch_steps` updates an epoch. */
double qe_schedule_rate(const qe_schedule *schedule, int64_t step, int64_t total, int64_t epoch_steps);

#ifdef __cplusplus
}
#endif
#endif
