/* Tests of core/train/find_rate: what is suggested of curves that are known, and the sweep itself. */
#include "core/base/alloc.h"
#include "core/train/find_rate.h"
#include "tests/training.h"

#include <math.h>

/* A sweep of 101 points from 1e-6 to 10 with these smoothed losses. */
static qe_rate_sweep sweep_of(double (*loss)(double power)) {
  qe_rate_sweep sweep = {.points = 101};
  sweep.point = QE_NEW_ARRAY(qe_rate_point, sweep.points);
  assert_non_null(sweep.point);
  for (int i = 0; i < sweep.points; i++) {
    double power = -6 + 7.0 * i / 100;
    sweep.point[i] = (qe_rate_point){.rate = pow(10, power), .loss = loss(power), .smooth = loss(power)};
  }
  qe_rate_sweep_judge(&sweep);
  return sweep;
}

static double falls_then_rises(double power) { /* lowest at 0.1, where it blows up at once */
  return power <= -1 ? 2 - (power + 6) * 0.2 : 1 + 100 * (power + 1);
}
static double flat_then_rises(double power) { /* a trained network: nothing to gain, all to lose above 0.01 */
  return power <= -2 ? 0.1 + 0.001 * sin(10 * power) : 0.1 + (power + 2);
}
static double only_falls(double power) {
  return 3 - 0.3 * power;
}

static void assert_near(double value, double expected) {
  if (fabs(log10(value / expected)) > 0.08) fail_msg("%g is not about %g", value, expected);
}

static void test_judging(void **state) {
  (void)state;
  qe_rate_sweep sweep = sweep_of(falls_then_rises);
  assert_near(sweep.lowest, 0.1);
  assert_near(sweep.edge, 0.1);
  assert_near(sweep.suggested, 0.01);
  qe_rate_sweep_free(&sweep);
  sweep = sweep_of(flat_then_rises);
  assert_near(sweep.edge, 0.01);
  assert_near(sweep.suggested, 0.001);
  qe_rate_sweep_free(&sweep);
  sweep = sweep_of(only_falls);
  assert_near(sweep.edge, 10);
  qe_rate_sweep_free(&sweep);
}

/* Rates rise by the same factor; values of the model stay; the same sweep again is the same. */
static void test_sweep(void **state) {
  (void)state;
  qe_train_options options = usual_options();
  const qe_rate_range range = {.low = 1e-5, .high = 10, .steps = 30};
  for (int accumulate = 1; accumulate <= 2; accumulate++) {
    qe_model *model = new_model(&float_net);
    size_t bytes = qe_graph_param_bytes(model->graph);
    float *before = qe_alloc(bytes);
    assert_non_null(before);
    memcpy(before, model->values, bytes);
    options.accumulate = accumulate;
    qe_rate_sweep sweep, again;
    OK(qe_find_rate(fixture_device[0], model, data, &options, &range, NULL, NULL, &sweep));
    OK(qe_find_rate(fixture_device[0], model, data, &options, &range, NULL, NULL, &again));
    assert_true(sweep.points > 10 && sweep.points <= range.steps + 1);
    assert_int_equal(sweep.points, again.points);
    for (int i = 0; i < sweep.points; i++) {
      assert_near(sweep.point[i].rate, 1e-5 * pow(1e6, i > 0 ? (i - 1) / 29.0 : 0));
      assert_true(sweep.point[i].loss == again.point[i].loss);
    }
    assert_true(sweep.suggested > 1e-6 && sweep.suggested <= 1);
    assert_true(sweep.suggested == 0.1 * sweep.edge && sweep.edge >= sweep.lowest);
    assert_int_equal(memcmp(before, model->values, bytes), 0);
    qe_rate_sweep_free(&sweep);
    qe_rate_sweep_free(&again);
    qe_free(before);
    qe_model_free(model);
  }
}

/* Rates beyond all reason end the sweep, as a result; a caller that stops it gets its own status. */
static void test_ends(void **state) {
  (void)state;
  qe_train_options options = usual_options();
  qe_model *model = new_model(&no_norm_net);
  qe_rate_sweep sweep;
  qe_rate_range range = {.low = 1e-3, .high = 1e9, .steps = 60};
  OK(qe_find_rate(fixture_device[0], model, data, &options, &range, NULL, NULL, &sweep));
  assert_true(sweep.diverged && sweep.points < 60 && sweep.edge < 1e6);
  qe_rate_sweep_free(&sweep);
  stop_at stop = {.steps = 5};
  assert_int_equal(qe_find_rate(fixture_device[0], model, data, &options, &range, count_down, &stop, &sweep),
                   QE_INTERRUPTED);
  assert_int_equal(stop.last.step, 5);
  assert_null(sweep.point);
  range.high = range.low;
  FAILS(QE_USAGE, qe_find_rate(fixture_device[0], model, data, &options, &range, NULL, NULL, &sweep), "must rise");
  qe_model_free(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_judging), cmocka_unit_test(test_sweep),
                                     cmocka_unit_test(test_ends)};
  return cmocka_run_group_tests(tests, open_all, close_all);
}
