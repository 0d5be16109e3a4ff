/* Tests of progressive quantisation: its stages, their bits, epochs and rates, and what one hands to the next. How it
 * is resumed: test_runs.c. */
#include "core/graph/layers.h"
#include "core/methods/method.h"
#include "tests/saved.h"

/* ---- stages ---- */

static const qe_bits two_bits = {.weights = 2, .activations = 2};

static qe_train_options options_of(int32_t epochs) {
  qe_train_options options = qe_train_defaults();
  options.epochs = epochs;
  options.schedule.rate = 0.5;
  return options;
}

/* "w8a8:6@0.5 w4a4:6@0.5 ..." */
static const char *course_text(const qe_progressive_setting *setting, const qe_bits *bits, int32_t epochs) {
  static char text[512];
  qe_train_options options = options_of(epochs);
  qe_progressive_course course;
  size_t used = 0;
  OK(qe_progressive_read(setting, bits, &options, &course));
  for (int i = 0; i < course.stages; i++)
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%s:%d@%g", i ? " " : "", course.stage[i].name,
                             course.stage[i].epochs, course.stage[i].rate);
  return text;
}

static void schemes_give_stages(void **state) {
  (void)state;
  static const struct {
    const char *scheme;
    int weights, activations;
    const char *stages;
  } rows[] = {
      {NULL, 2, 2, "w8a8:6@0.5 w4a4:6@0.5 w2a2:12@0.5"},
      {"precision", 3, 3, "w8a8:6@0.5 w4a4:6@0.5 w3a3:12@0.5"},
      {"precision", 2, 4, "w8a8:6@0.5 w4a4:6@0.5 w2a4:12@0.5"},
      {"precision", 1, 1, "w8a8:4@0.5 w4a4:4@0.5 w2a2:4@0.5 w1a1:12@0.5"},
      {"precision", 2, 32, "w8a32:6@0.5 w4a32:6@0.5 w2a32:12@0.5"},
      {"precision", 8, 8, "w8a8:24@0.5"},
      {"direct", 2, 2, "w2a2:24@0.5"},
      {"two-stage", 2, 2, "w2a32:12@0.5 w2a2:12@0.5"},
      {"two-stage", 32, 4, "w32a4:24@0.5"},
      {"two-stage", 4, 32, "w4a32:24@0.5"},
      {"two-stage-precision", 2, 2, "w8a32:2@0.5 w4a32:2@0.5 w2a32:2@0.5 w2a8:2@0.5 w2a4:2@0.5 w2a2:14@0.5"},
      {"two-stage-precision", 2, 32, "w8a32:6@0.5 w4a32:6@0.5 w2a32:12@0.5"},
      {"two-stage-precision", 32, 2, "w32a8:6@0.5 w32a4:6@0.5 w32a2:12@0.5"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    qe_bits bits = {.weights = rows[i].weights, .activations = rows[i].activations};
    qe_progressive_setting setting = {.stages = rows[i].scheme};
    assert_string_equal(course_text(&setting, &bits, 24), rows[i].stages);
  }
}

static void stages_are_named(void **state) {
  (void)state;
  qe_progressive_setting setting = {.stages = "w8a32,w2a5,w2a2"};
  assert_string_equal(course_text(&setting, &two_bits, 3), "w8a32:1@0.5 w2a5:1@0.5 w2a2:1@0.5");
  setting.epochs = "4,5,6";
  setting.rates = "0.1,0,1e-3";
  assert_string_equal(course_text(&setting, &two_bits, 3), "w8a32:4@0.1 w2a5:5@0 w2a2:6@0.001");
}

static void wrong_stages_are_refused(void **state) {
  (void)state;
  static const struct {
    qe_progressive_setting setting;
    const char *says;
  } rows[] = {
      {{.stages = "w2"}, "write w4a32"},
      {{.stages = "w9a2,w2a2"}, "bits 1 to 8 or 32"},
      {{.stages = "w4a4,"}, "write w4a32"},
      {{.stages = "precise"}, "or precision, two-stage"},
      {{.stages = ""}, "must end with w2a2"},
      {{.stages = "w4a4,w4a2"}, "must end with w2a2"},
      {{.stages = "w4a4,w4a4,w2a2"}, "w4a4 comes twice"},
      {{.stages = "w32a32,w2a2"}, "float epochs"},
      {{.epochs = "1,2"}, "2 numbers, there are 3 stages"},
      {{.epochs = "1,2,0"}, "whole numbers from 1 on"},
      {{.epochs = "1,2.5,1"}, "whole numbers from 1 on"},
      {{.epochs = "1,,2"}, "a number for each stage"},
      {{.rates = "0.1,0.2,-1"}, "a number for each stage"},
      {{.rates = "0.1,0.2,nan"}, "a number for each stage"},
      {{.rates = "0.1,0.2,0.3,"}, "a number for each stage"},
  };
  qe_progressive_course course;
  qe_train_options options = options_of(24);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    FAILS(QE_USAGE, qe_progressive_read(&rows[i].setting, &two_bits, &options, &course), rows[i].says);
  options.epochs = 2;
  FAILS(QE_USAGE, qe_progressive_read(&(qe_progressive_setting){0}, &two_bits, &options, &course),
        "2 epochs for 3 stages");
  qe_bits none = {.weights = QE_FLOAT_BITS, .activations = QE_FLOAT_BITS};
  FAILS(QE_USAGE, qe_progressive_read(&(qe_progressive_setting){0}, &none, &options, &course), "set weight-bits");
}

/* A layer with bits of its own is no lower than the stage, and float where the stage is. */
static void exceptions_follow_the_stage(void **state) {
  (void)state;
  static const struct {
    int weights, activations;
    const char *layers;
  } rows[] = {{8, 8, "a=w8a8,b=w8,c=a8"},
              {4, 4, "a=w4a4,b=w8,c=a4"},
              {4, 32, "a=w4,b=w8"},
              {32, 3, "a=a4,c=a3"},
              {2, 2, "a=w3a4,b=w8,c=a2"}};
  qe_bits end = {.weights = 2, .activations = 2, .layers = "a=w3a4,b=w8,c=a2"};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    qe_progressive_stage stage = {.weights = rows[i].weights, .activations = rows[i].activations};
    qe_bits bits;
    char *text;
    OK(qe_progressive_bits(&stage, &end, &bits, &text));
    assert_string_equal(bits.layers, rows[i].layers);
    assert_int_equal(bits.weights, stage.weights);
    assert_int_equal(bits.activations, stage.activations);
    qe_free(text);
  }
}

/* Skip connections and outer layers of few bits are not below the stage's. */
static void places_follow_the_stage(void **state) {
  (void)state;
  static const struct {
    int weights, activations, edges, residual;
  } rows[] = {{8, 8, 8, 8}, {4, 32, 4, 3}, {2, 4, 4, 4}, {2, 2, 3, 3}};
  qe_bits end = {.weights = 2, .activations = 2, .edges = 3, .residual = 3};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    qe_progressive_stage stage = {.weights = rows[i].weights, .activations = rows[i].activations};
    qe_bits bits;
    char *text;
    OK(qe_progressive_bits(&stage, &end, &bits, &text));
    assert_int_equal(bits.edges, rows[i].edges);
    assert_int_equal(bits.residual, rows[i].residual);
    assert_null(text);
  }
}

/* Of every network: the stages can be built, and what a quantiser of the next stage rounds has its place in the one
 * before, so that its step is fitted to that. */
static void every_network_has_stages(void **state) {
  (void)state;
  qe_train_options options = options_of(24);
  qe_progressive_course course;
  OK(qe_progressive_read(&(qe_progressive_setting){.stages = "two-stage-precision"}, &two_bits, &options, &course));
  for (int m = 0; qe_model_name(m); m++) {
    qe_model_spec spec = qe_model_default(qe_model_name(m));
    qe_graph *before = NULL;
    for (int i = 0; i < course.stages; i++) {
      qe_graph *graph;
      spec.bits.weights = course.stage[i].weights;
      spec.bits.activations = course.stage[i].activations;
      OK(qe_model_build(&spec, &graph));
      for (size_t n = 0; before && n < graph->nodes; n++) {
        const qe_node_info *node = &graph->node[n];
        if (node->layer != &qe_layer_quant) continue;
        while (node->layer == &qe_layer_quant) node = &graph->node[node->input[0]];
        if (qe_graph_find_node(before, node->name) < 0) fail_msg("%s: %s is not there", spec.name, node->name);
      }
      qe_graph_free(before);
      before = graph;
    }
    qe_graph_free(before);
  }
}

/* ---- from stage to stage ---- */

static float step_of(const qe_model *model, const char *name) {
  int at = qe_graph_find_param(model->graph, name);
  if (at < 0) fail_msg("no parameter is called %s", name);
  assert_true(model->graph->param[at].initialised);
  return *qe_model_values(model, at);
}

/* Steps are fitted to the network with its quantisers: where those round the first layer's weights to 0, its
 * activations are 0, too, for which the step is 1 / largest code. */
static void steps_come_from_the_network_before(void **state) {
  (void)state;
  qe_model_spec spec = small_spec(4);
  spec.bits.activation_rule = QE_RULE_L2;
  qe_model *before = new_model(&spec, 3), *next[2];
  OK(qe_fit_steps(fixture_fast(), before, data, 1));
  *qe_model_values(before, qe_graph_find_param(before->graph, "fc1.weight_step")) = 1e6f;
  spec.bits.activations = 2;
  for (int i = 0; i < 2; i++) OK(qe_model_requantize(before, &spec.bits, &next[i]));
  OK(qe_fit_steps(fixture_fast(), next[0], data, 1));
  OK(qe_refit_steps(fixture_fast(), before, next[1], data, 1));
  double plain = (double)step_of(next[0], "relu1.step"), real = (double)step_of(next[1], "relu1.step"), zero = 1.0 / 3;
  if (fabs(real - zero) > 1e-6 || fabs(plain - zero) < 0.01) fail_msg("steps %g and %g", plain, real);
  for (int i = 0; i < 2; i++) qe_model_free(next[i]);
  qe_model_free(before);
}

static void on_note(void *context, const char *text) {
  char *all = context;
  snprintf(all + strlen(all), 1024 - strlen(all), "%s\n", text);
}

/* A whole run: each stage is trained at its bits, from the last, and left as a model. */
static void stages_run_one_after_the_other(void **state) {
  (void)state;
  char notes[1024] = "";
  qe_run_events events = {.context = notes, .note = on_note};
  qe_setting setting = {.device = fixture_fast(), .data = data, .spec = small_spec(2), .options = options_of(4)};
  qe_result result;
  setting.options.schedule.rate = 0.02;
  setting.options.batch = 16;
  setting.progressive.stages = "two-stage";
  OK(qe_run_open(&(qe_run_options){.folder = path_of("run")}, &events, &setting.run));
  OK(qe_train_progressive(&setting, &result));
  qe_run_close(setting.run);
  const char *weights = strstr(notes, "w2a32: 2 epochs"), *both = strstr(notes, "w2a2: 2 epochs");
  assert_true(weights && both && weights < both);
  assert_true(result.quantized && result.final.images == 20 && result.start.images == 20 &&
              result.integer.images == 20);
  qe_model *stage, *last;
  OK(qe_model_read(path_of("run/stage-w2a32.safetensors"), &stage, NULL));
  OK(qe_model_read(path_of("run/last.safetensors"), &last, NULL));
  assert_int_equal(stage->spec.bits.activations, QE_FLOAT_BITS);
  assert_int_equal(last->spec.bits.activations, 2);
  qe_model_free(stage);
  qe_model_free(last);
  folder_remove(path_of("run"));
}

/* Allocations of a whole run fail, each some way behind the one before: it says so, and nothing is lost or leaks. */
static void allocations_can_fail(void **state) {
  (void)state;
  qe_status status = QE_NO_MEMORY;
  int64_t nth = 1;
  for (; status == QE_NO_MEMORY && nth < 100000; nth += 1 + nth / 8) {
    qe_setting setting = {.device = fixture_fast(), .data = data, .spec = small_spec(4), .options = options_of(2)};
    qe_result result;
    setting.spec.bits.weight_rule = QE_RULE_MAX; /* fits fast */
    setting.spec.bits.activation_rule = QE_RULE_DOREFA;
    setting.spec.bits.layers = "fc2=w5";
    setting.options.batch = 16;
    setting.options.gates = (qe_gate_options){.unit = QE_GATE_LAYER, .start = 0.5, .until = 1};
    qe_alloc_fail_nth(nth);
    status = qe_run_open(&(qe_run_options){0}, NULL, &setting.run);
    if (status == QE_OK) {
      status = qe_train_progressive(&setting, &result);
      qe_run_close(setting.run);
    }
    qe_alloc_fail_nth(0);
  }
  OK(status);
  assert_true(nth > 500);
}

static void plans_have_a_phase_a_stage(void **state) {
  (void)state;
  qe_setting setting = {.device = fixture_fast(), .data = data, .spec = small_spec(2), .options = options_of(8)};
  qe_plan plan;
  setting.options.batch = 16;
  setting.float_options = setting.options;
  OK(qe_plan_progressive(&setting, &plan));
  assert_int_equal(plan.phases, 4);
  static const char *const names[] = {"float", "w8a8", "w4a4", "w2a2"};
  for (int i = 0; i < 4; i++) assert_string_equal(plan.phase[i].name, names[i]);
  assert_int_equal(plan.phase[3].epochs, 4);
}

/* A sweep of the learning rate is made at the bits that training begins with. */
static void rates_are_swept_at_the_first_stage(void **state) {
  (void)state;
  qe_setting setting = {.device = fixture_fast(), .data = data, .spec = small_spec(2), .options = options_of(8)};
  qe_swept of;
  qe_rate_sweep sweep;
  setting.options.batch = 16;
  OK(qe_method_find_rate(qe_method_find("progressive"), &setting, NULL, NULL, &of, &sweep));
  assert_string_equal(of.option, "rate");
  assert_true(of.weights == 8 && of.activations == 8 && of.stage);
  float first = (float)sweep.point[0].loss;
  qe_rate_sweep_free(&sweep);
  OK(qe_method_find_rate(qe_method_find("qat"), &setting, NULL, NULL, &of, &sweep));
  assert_true(of.weights == 2 && of.activations == 2 && !of.stage);
  assert_true(fabsf((float)sweep.point[0].loss - first) > 1e-4F); /* another network */
  qe_rate_sweep_free(&sweep);
  setting.float_options = setting.options;
  OK(qe_method_find_rate(qe_method_find("progressive"), &setting, NULL, NULL, &of, &sweep));
  assert_string_equal(of.option, "float-rate");
  assert_true(of.weights == QE_FLOAT_BITS && of.activations == QE_FLOAT_BITS && !of.stage);
  qe_rate_sweep_free(&sweep);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(schemes_give_stages),
      cmocka_unit_test(stages_are_named),
      cmocka_unit_test(wrong_stages_are_refused),
      cmocka_unit_test(exceptions_follow_the_stage),
      cmocka_unit_test(places_follow_the_stage),
      cmocka_unit_test(every_network_has_stages),
      cmocka_unit_test(steps_come_from_the_network_before),
      cmocka_unit_test(stages_run_one_after_the_other),
      cmocka_unit_test(allocations_can_fail),
      cmocka_unit_test(plans_have_a_phase_a_stage),
      cmocka_unit_test(rates_are_swept_at_the_first_stage),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
