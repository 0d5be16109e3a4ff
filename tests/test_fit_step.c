/* Steps of least squared error: known steps found again, the error against brute force, and the fit of a whole model.
 */
#include "core/train/fit_step.h"
#include "core/train/trainer.h"
#include "tests/fixture.h"

/* ---- the definition, plainly ---- */

static double code_of(double x, double step, int low, int high, bool odd) {
  double code = odd ? 2 * rint((x / step + high) / 2) - high : rint(x / step);
  return fmin(fmax(code, low), high);
}

static double error_of(const float *values, int64_t count, double step, int low, int high, bool odd) {
  double error = 0;
  for (int64_t i = 0; i < count; i++) {
    double difference = (double)values[i] - step * code_of((double)values[i], step, low, high, odd);
    error += difference * difference;
  }
  return error;
}

static double largest_of(const float *values, int64_t count) {
  double largest = 0;
  for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs((double)values[i]));
  return largest;
}

/* The least error over 4000 steps up to the largest magnitude. */
static double brute_force(const float *values, int64_t count, int low, int high, bool odd) {
  double best = HUGE_VAL, largest = largest_of(values, count);
  for (int i = 1; i <= 4000; i++) best = fmin(best, error_of(values, count, largest * i / 4000, low, high, odd));
  return best;
}

typedef struct fit_grid {
  int low, high;
  bool odd;
} fit_grid;

static const fit_grid grids[] = {{-1, 1, true},  {-3, 3, true},      {-15, 15, true},    {-255, 255, true},
                                 {-1, 1, false}, {-7, 7, false},     {-127, 127, false}, {-2, 1, false},
                                 {-8, 7, false}, {-128, 127, false}, {0, 1, false},      {0, 3, false},
                                 {0, 15, false}, {0, 255, false}};
enum { GRIDS = sizeof grids / sizeof *grids, COUNT = 1000 };

static void known_steps_are_found_again(void **state) {
  (void)state;
  static const float steps[] = {1.0f, 0.125f, 0.0371f, 1e-6f, 77.7f, 3e10f};
  for (int g = 0; g < GRIDS; g++)
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
      draws from = {(uint64_t)g, s};
      float values[COUNT];
      for (int i = 0; i < COUNT; i++) {
        int code = draw_range(&from, grids[g].low, grids[g].high);
        if (i < 2) code = i ? grids[g].high : grids[g].low; /* the grid is used to its ends */
        if (grids[g].odd && code % 2 == 0) code++;
        values[i] = steps[s] * (float)code;
      }
      float step = qe_fit_step(values, COUNT, grids[g].low, grids[g].high, grids[g].odd);
      if (fabsf(step - steps[s]) > 1e-5f * steps[s])
        fail_msg("codes %d...%d: the step is %g, must be %g", grids[g].low, grids[g].high, (double)step,
                 (double)steps[s]);
    }
}

/* Values on a grid, as of a network quantised before, of which only the middle is used: they are represented exactly.
 */
static void inner_codes_are_represented(void **state) {
  (void)state;
  for (int g = 0; g < GRIDS; g++) {
    if (grids[g].high > 15) continue;
    for (int most = 1; most <= grids[g].high; most++) {
      if (grids[g].odd && (most % 2 == 0 || 2 * most < grids[g].high)) continue; /* even codes would be needed */
      float values[COUNT];
      draws from = {(uint64_t)g, (uint64_t)most};
      int least = most < -grids[g].low ? -most : grids[g].low;
      for (int i = 0; i < COUNT; i++) {
        int code = i ? draw_range(&from, least, most) : most;
        if (grids[g].odd && code % 2 == 0) code++;
        values[i] = 0.0371f * (float)code;
      }
      float step = qe_fit_step(values, COUNT, grids[g].low, grids[g].high, grids[g].odd);
      double error = error_of(values, COUNT, (double)step, grids[g].low, grids[g].high, grids[g].odd);
      if (error > 1e-8) fail_msg("codes %d...%d of %d...%d: error %g", least, most, grids[g].low, grids[g].high, error);
    }
  }
}

static float draw_normal(draws *from) {
  float sum = 0;
  for (int i = 0; i < 12; i++) sum += draw_real(from, -0.5f, 0.5f);
  return sum;
}

/* Bell-shaped, uniform, heavy-tailed, shifted and few-valued data: the error is within 2 % of the least, for few values
 * on many codes within a small part of their energy. */
static void errors_are_near_the_least(void **state) {
  (void)state;
  for (int g = 0; g < GRIDS; g++)
    for (int kind = 0; kind < 5; kind++) {
      draws from = {(uint64_t)(100 * g + kind), 0};
      float values[COUNT];
      for (int i = 0; i < COUNT; i++) {
        float x = draw_normal(&from), u = draw_real(&from, -1, 1);
        const float drawn[] = {x, u, x * x * x, x + 2, rintf(2 * x) / 3};
        values[i] = 0.1f * drawn[kind];
      }
      float step = qe_fit_step(values, COUNT, grids[g].low, grids[g].high, grids[g].odd);
      double error = error_of(values, COUNT, (double)step, grids[g].low, grids[g].high, grids[g].odd);
      double energy = error_of(values, COUNT, 1e9, grids[g].low, grids[g].high, false);
      double least = brute_force(values, COUNT, grids[g].low, grids[g].high, grids[g].odd);
      if (!(step > 0) || error > 1.02 * least + (kind == 4 ? 2e-5 * energy : 0) + 1e-12)
        fail_msg("codes %d...%d odd %d, data %d: error %g at step %g, the least is %g", grids[g].low, grids[g].high,
                 grids[g].odd, kind, error, (double)step, least);
    }
}

static void degenerate_data(void **state) {
  (void)state;
  static const float zeros[8], below[4] = {-1, -2, -0.5f, 0}, one[1] = {0.6f}, tiny[2] = {1e-30f, -1e-30f};
  for (int g = 0; g < GRIDS; g++) {
    float step = qe_fit_step(zeros, 8, grids[g].low, grids[g].high, grids[g].odd);
    assert_true(step == 1.0f / (float)grids[g].high);
  }
  assert_true(qe_fit_step(below, 4, 0, 15, false) == 1.0f / 15);
  float step = qe_fit_step(one, 1, -7, 7, false);
  assert_true(error_of(one, 1, (double)step, -7, 7, false) < 1e-10);
  step = qe_fit_step(tiny, 2, -1, 1, true);
  assert_true(fabsf(step - 1e-30f) < 1e-35f);
  assert_true(qe_fit_step(NULL, 0, -7, 7, false) > 0);
}

static void largest_magnitude(void **state) {
  (void)state;
  static const float values[] = {0.5f, -3.5f, 2, 0}, zeros[2];
  assert_true(qe_max_step(values, 4, 7) == 0.5f);
  assert_true(qe_max_step(values, 4, 1) == 3.5f);
  assert_true(qe_max_step(zeros, 2, 127) == 1.0f / 127);
}

/* ---- a whole model ---- */

static float value_of(const qe_model *model, const char *name, int at) {
  int param = qe_graph_find_param(model->graph, name);
  if (param < 0) fail_msg("no parameter is called %s", name);
  return qe_model_values(model, param)[at];
}

static void steps_of_a_model(void **state) {
  (void)state;
  qe_dataset *data = small_data(8, 3, 4, 20, 4);
  FOR_EACH_DEVICE(device) {
    for (int rule = 0; rule < QE_RULES; rule++) {
      net_options options = {.weight_bits = 3,
                             .act_bits = 4,
                             .weight_rule = (qe_rule)rule,
                             .act_rule = (qe_rule)rule,
                             .per_channel = rule % 2};
      qe_model *model = model_of(residual_net(data, &options), 7);
      OK(qe_fit_steps(device, model, data, 1));
      qe_quantizer weights = net_weights(&options);
      int32_t low, high;
      qe_grid_range(weights.grid, 3, &low, &high);
      const float *w = qe_model_values(model, qe_graph_find_param(model->graph, "conv2.weight"));
      int each = options.per_channel ? 72 : 576;
      for (int i = 0; i < 576 / each; i++) {
        float wanted = rule == QE_RULE_DOREFA ? 1.0f / 7
                       : rule == QE_RULE_MAX || rule == QE_RULE_PACT
                           ? qe_max_step(w + i * each, each, high)
                           : qe_fit_step(w + i * each, each, low, high, weights.grid == QE_GRID_ODD);
        assert_true(value_of(model, "conv2.weight_step", i) == wanted);
      }
      for (size_t i = 0; i < model->graph->params; i++) {
        const qe_param *param = &model->graph->param[i];
        if (!strstr(param->name, "step")) continue;
        assert_true(param->initialised);
        assert_true(isfinite(*qe_model_values(model, (int)i)) && *qe_model_values(model, (int)i) > 0);
      }
      if (rule == QE_RULE_DOREFA) { /* a clip at 1, whatever the activations; the wide code's step is an exact shift */
        assert_true(value_of(model, "wide.step", 0) == 1.0f / 15);
        assert_true(value_of(model, "act2.step", 0) == 1.0f / 15);
      }
      float before = value_of(model, "act2.step", 0); /* what has a step keeps it */
      *qe_model_values(model, qe_graph_find_param(model->graph, "wide.step")) = 0.5f;
      OK(qe_fit_steps(device, model, data, 2));
      assert_true(value_of(model, "wide.step", 0) == 0.5f);
      assert_true(value_of(model, "act2.step", 0) == before);
      qe_model_free(model);
    }
  }
  qe_dataset_free(data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_steps_are_found_again), cmocka_unit_test(inner_codes_are_represented),
      cmocka_unit_test(errors_are_near_the_least),   cmocka_unit_test(degenerate_data),
      cmocka_unit_test(largest_magnitude),           cmocka_unit_test(steps_of_a_model),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
