/* Learning-rate schedules. */
#include "core/train/schedule.h"

#include <math.h>
#include <string.h>

static const char *const names[QE_SCHEDULES] = {
#define X(id, name) name,
    QE_SCHEDULE_LIST(X)
#undef X
};

const char *qe_schedule_name(qe_schedule_kind kind) {
  return names[kind];
}

qe_schedule_kind qe_schedule_find(const char *name) {
  int kind = 0;
  while (kind < QE_SCHEDULES && strcmp(names[kind], name) != 0) kind++;
  return (qe_schedule_kind)kind;
}

/* Where a step lies in the part after the warm-up. */
typedef struct place {
  double step, epoch_steps; /* updates since its start; updates an epoch */
  double updates;           /* of the whole training */
  double fraction;          /* of its whole, in [0, 1] */
} place;

static double constant_rate(const qe_schedule *s, const place *at) {
  (void)at;
  return s->rate;
}

static double step_rate(const qe_schedule *s, const place *at) {
  double rate = s->rate;
  for (int i = 0; i < s->milestones; i++)
    if (at->updates / at->epoch_steps >= s->milestone[i]) rate *= s->gamma;
  return rate;
}

static double cosine_rate(const qe_schedule *s, const place *at) {
  return s->min_rate + (s->rate - s->min_rate) * 0.5 * (1 + cos(3.14159265358979323846 * at->fraction));
}

/* Update i (from 1) of a cycle of c has t = i / c. A cycle or warm-up that is no whole number of updates makes the last
 * t 1. */
static double place_in_cycle(const qe_schedule *s, const place *at) {
  double cycle = s->cycle * at->epoch_steps;
  return fmin((fmod(at->step, cycle) + 1) / cycle, 1);
}

/* SQWA's discrete cycle: the rate is (1 - t) rate + t min_rate. */
static double cyclical_rate(const qe_schedule *s, const place *at) {
  double t = place_in_cycle(s, at);
  return (1 - t) * s->rate + t * s->min_rate;
}

/* As Garipov et al. 2018 (snapshots; warm restarts of Loshchilov and Hutter 2017), the last update at min_rate. */
static double cosine_cycle_rate(const qe_schedule *s, const place *at) {
  return s->min_rate + (s->rate - s->min_rate) * 0.5 * (1 + cos(3.14159265358979323846 * place_in_cycle(s, at)));
}

/* Smith 2017, from min_rate up to rate and back: t = 1/2 is the peak, t = 1 the lowest. */
static double triangular_rate(const qe_schedule *s, const place *at) {
  return s->min_rate + (s->rate - s->min_rate) * (1 - fabs(2 * place_in_cycle(s, at) - 1));
}

typedef double (*rate_function)(const qe_schedule *, const place *);
static const rate_function functions[QE_SCHEDULES] = {
    [QE_SCHEDULE_CONSTANT] = constant_rate,    [QE_SCHEDULE_STEP] = step_rate,
    [QE_SCHEDULE_COSINE] = cosine_rate,        [QE_SCHEDULE_CYCLICAL] = cyclical_rate,
    [QE_SCHEDULE_ONECYCLE] = cosine_rate,      [QE_SCHEDULE_COSINE_CYCLES] = cosine_cycle_rate,
    [QE_SCHEDULE_TRIANGULAR] = triangular_rate};

bool qe_schedule_has_cycles(qe_schedule_kind kind) {
  return kind == QE_SCHEDULE_CYCLICAL || kind == QE_SCHEDULE_COSINE_CYCLES || kind == QE_SCHEDULE_TRIANGULAR;
}

double qe_schedule_rate(const qe_schedule *schedule, int64_t step, int64_t total, int64_t epoch_steps) {
  double warm = schedule->warmup * (double)epoch_steps;
  if (warm > (double)total) warm = (double)total;
  double at = (double)step;
  if (at < warm) {
    double from = schedule->kind == QE_SCHEDULE_ONECYCLE ? schedule->rate / 25 : 0;
    return from + (schedule->rate - from) * (at + 1) / (warm + 1);
  }
  double length = (double)total - warm;
  place now = {at - warm, (double)epoch_steps, at, length > 0 ? (at - warm) / length : 0};
  if (now.fraction > 1) now.fraction = 1;
  return functions[schedule->kind](schedule, &now);
}
