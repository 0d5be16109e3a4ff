/* Learning-rate schedules at points where their value is known. */
#include "core/train/schedule.h"
#include "tests/fixture.h"

enum { EPOCH = 10, TOTAL = 400 }; /* updates */

static double rate_at(const qe_schedule *schedule, int64_t step) {
  return qe_schedule_rate(schedule, step, TOTAL, EPOCH);
}

static void assert_near(double got, double wanted) {
  if (!(fabs(got - wanted) <= 1e-12)) fail_msg("the rate is %.15g, must be %.15g", got, wanted);
}

static void names(void **state) {
  (void)state;
  for (int kind = 0; kind < QE_SCHEDULES; kind++)
    assert_int_equal(qe_schedule_find(qe_schedule_name((qe_schedule_kind)kind)), kind);
  assert_int_equal(qe_schedule_find("linear"), QE_SCHEDULES);
}

static void constant(void **state) {
  (void)state;
  qe_schedule schedule = {.kind = QE_SCHEDULE_CONSTANT, .rate = 0.3, .min_rate = 0.1};
  assert_near(rate_at(&schedule, 0), 0.3);
  assert_near(rate_at(&schedule, TOTAL - 1), 0.3);
}

static void steps_fall_at_milestones(void **state) {
  (void)state;
  qe_schedule schedule = {
      .kind = QE_SCHEDULE_STEP, .rate = 0.8, .gamma = 0.5, .milestones = 3, .milestone = {10, 20, 25.5}};
  static const struct {
    int64_t step;
    double rate;
  } known[] = {{0, 0.8}, {99, 0.8}, {100, 0.4}, {199, 0.4}, {200, 0.2}, {254, 0.2}, {255, 0.1}, {399, 0.1}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    assert_near(rate_at(&schedule, known[i].step), known[i].rate);
}

/* A milestone is an epoch of the whole training, whatever the warm-up and to the very update. */
static void milestones_do_not_move_with_the_warmup(void **state) {
  (void)state;
  static const double warmups[] = {0, 0.1, 0.3, 0.5, 0.7, 1, 2.5, 5};
  for (int64_t epoch_steps = 1; epoch_steps < 800; epoch_steps += 7)
    for (size_t i = 0; i < sizeof warmups / sizeof *warmups; i++)
      for (int milestone = 6; milestone < 100; milestone += 9) {
        qe_schedule schedule = {.kind = QE_SCHEDULE_STEP,
                                .rate = 1,
                                .gamma = 0.1,
                                .warmup = warmups[i],
                                .milestones = 1,
                                .milestone = {milestone}};
        int64_t at = milestone * epoch_steps, total = 100 * epoch_steps;
        assert_near(qe_schedule_rate(&schedule, at - 1, total, epoch_steps), 1);
        assert_near(qe_schedule_rate(&schedule, at, total, epoch_steps), 0.1);
      }
}

static void warmup_rises_to_the_peak(void **state) {
  (void)state;
  for (int kind = 0; kind < QE_SCHEDULES; kind++) {
    if (kind == QE_SCHEDULE_ONECYCLE) continue;
    qe_schedule schedule = {.kind = (qe_schedule_kind)kind, .rate = 0.5, .warmup = 2, .cycle = 20, .gamma = 0.1};
    for (int step = 0; step < 20; step++) assert_near(rate_at(&schedule, step), 0.5 * (step + 1) / 21);
    double first = kind == QE_SCHEDULE_CYCLICAL        ? 0.5 * (1 - 1.0 / 200)
                   : kind == QE_SCHEDULE_COSINE_CYCLES ? 0.25 * (1 + cos(acos(-1.0) / 200))
                   : kind == QE_SCHEDULE_TRIANGULAR    ? 0.5 / 100
                                                       : 0.5;
    assert_near(rate_at(&schedule, 20), first);
  }
  qe_schedule forever = {.kind = QE_SCHEDULE_COSINE, .rate = 0.5, .warmup = 1000}; /* longer than the training */
  assert_near(rate_at(&forever, TOTAL - 1), 0.5 * TOTAL / (TOTAL + 1));
}

static void cosine(void **state) {
  (void)state;
  qe_schedule schedule = {.kind = QE_SCHEDULE_COSINE, .rate = 0.4, .min_rate = 0.02};
  assert_near(rate_at(&schedule, 0), 0.4);
  assert_near(rate_at(&schedule, TOTAL / 2), 0.21);
  assert_near(rate_at(&schedule, TOTAL), 0.02);
  assert_near(rate_at(&schedule, 2 * TOTAL), 0.02);
  assert_near(rate_at(&schedule, TOTAL / 3 * 3 / 4), 0.02 + 0.38 * 0.5 * (1 + cos(acos(-1.0) * 99 / 400)));
  schedule.warmup = 10;
  assert_near(rate_at(&schedule, 100), 0.4);
  assert_near(rate_at(&schedule, 250), 0.21);
  assert_near(rate_at(&schedule, 400), 0.02);
  for (int step = 100; step < 400; step++) assert_true(rate_at(&schedule, step + 1) < rate_at(&schedule, step));
}

/* SQWA: update i of a cycle of c has t = i / c; the last one has t = 1, the lowest rate, where models are captured. */
static void cyclical(void **state) {
  (void)state;
  qe_schedule schedule = {.kind = QE_SCHEDULE_CYCLICAL, .rate = 0.1, .min_rate = 0.01, .cycle = 4};
  for (int cycle = 0; cycle < 10; cycle++) {
    assert_near(rate_at(&schedule, 40 * cycle), 0.1 - 0.09 / 40);
    assert_near(rate_at(&schedule, 40 * cycle + 19), 0.055);
    assert_near(rate_at(&schedule, 40 * cycle + 39), 0.01);
  }
  static const double odd[] = {0.25, 0.73, 1.05, 2.31}; /* cycles and warm-ups that are no whole number of updates */
  for (int i = 0; i < 16; i++) {
    schedule.cycle = odd[i % 4];
    schedule.warmup = odd[i / 4];
    for (int step = 0; step < TOTAL; step++)
      assert_true(rate_at(&schedule, step) > 0 && rate_at(&schedule, step) <= 0.1 &&
                  (step < 30 || rate_at(&schedule, step) >= 0.01 - 1e-12));
  }
}

/* The other forms of a cycle end at the lowest rate, too; the middle and the peak are where they must be. */
static void forms_of_cycles(void **state) {
  (void)state;
  qe_schedule cosines = {.kind = QE_SCHEDULE_COSINE_CYCLES, .rate = 0.1, .min_rate = 0.01, .cycle = 4};
  qe_schedule triangles = cosines;
  triangles.kind = QE_SCHEDULE_TRIANGULAR;
  for (int cycle = 0; cycle < 10; cycle++) {
    assert_near(rate_at(&cosines, 40 * cycle + 19), 0.055);
    assert_near(rate_at(&cosines, 40 * cycle + 39), 0.01);
    assert_near(rate_at(&triangles, 40 * cycle + 9), 0.055);
    assert_near(rate_at(&triangles, 40 * cycle + 19), 0.1);
    assert_near(rate_at(&triangles, 40 * cycle + 39), 0.01);
    for (int step = 1; step < 40; step++)
      assert_true(rate_at(&cosines, 40 * cycle + step) < rate_at(&cosines, 40 * cycle + step - 1));
  }
  for (int kind = 0; kind < QE_SCHEDULES; kind++) {
    bool cycles = kind == QE_SCHEDULE_CYCLICAL || kind == QE_SCHEDULE_COSINE_CYCLES || kind == QE_SCHEDULE_TRIANGULAR;
    assert_int_equal(qe_schedule_has_cycles((qe_schedule_kind)kind), cycles);
  }
}

static void onecycle(void **state) {
  (void)state;
  qe_schedule schedule = {.kind = QE_SCHEDULE_ONECYCLE, .rate = 0.5, .min_rate = 0.001, .warmup = 10};
  assert_near(rate_at(&schedule, 0), 0.02 + 0.48 / 101);
  assert_near(rate_at(&schedule, 49), 0.02 + 0.48 * 50 / 101);
  assert_near(rate_at(&schedule, 100), 0.5);
  assert_near(rate_at(&schedule, 250), 0.001 + 0.499 / 2);
  assert_near(rate_at(&schedule, 400), 0.001);
  for (int step = 0; step < 100; step++) assert_true(rate_at(&schedule, step + 1) > rate_at(&schedule, step));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names),
      cmocka_unit_test(constant),
      cmocka_unit_test(steps_fall_at_milestones),
      cmocka_unit_test(milestones_do_not_move_with_the_warmup),
      cmocka_unit_test(warmup_rises_to_the_peak),
      cmocka_unit_test(cosine),
      cmocka_unit_test(cyclical),
      cmocka_unit_test(forms_of_cycles),
      cmocka_unit_test(onecycle),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
