/* Tests of stochastic precision: which quantisers share a gate, how gates are drawn, and what training with them is. */
#include "tests/training.h"

#include "core/graph/layers.h"
#include "core/train/gates.h"

static qe_gates *gates_of(const qe_graph *graph, qe_gate_options options) {
  qe_gates *gates;
  OK(qe_gates_new(fixture_device[0], graph, &options, &gates));
  return gates;
}

static qe_graph *resnet20(int weights, int activations) {
  qe_model_spec spec = qe_model_default("resnet20");
  qe_graph *graph;
  spec.bits.weights = weights;
  spec.bits.activations = activations;
  OK(qe_model_build(&spec, &graph));
  return graph;
}

static int32_t gate_at(const qe_graph *graph, const qe_gates *gates, const char *name) {
  qe_node node = qe_graph_find_node(graph, name);
  if (node < 0) fail_msg("no node is called %s", name);
  return gates->of_node[node];
}

/* ---- units ---- */

static void units_are_layers_blocks_or_all(void **state) {
  (void)state;
  qe_graph *graph = resnet20(2, 2);
  static const struct {
    qe_gate_unit unit;
    int32_t units, first, inner, last;
  } rows[] = {{QE_GATE_LAYER, 20, 0, 2, 19}, {QE_GATE_BLOCK, 11, 0, 1, 10}, {QE_GATE_NETWORK, 1, 0, 0, 0}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (int separate = 0; separate < 2; separate++) {
      qe_gates *gates = gates_of(graph, (qe_gate_options){.unit = rows[i].unit, .separate = separate});
      int32_t to_activations = separate ? gates->units : 0;
      assert_int_equal(gates->units, rows[i].units);
      assert_int_equal(gates->count, rows[i].units << separate);
      assert_int_equal(gate_at(graph, gates, "conv1"), rows[i].first);
      assert_int_equal(gate_at(graph, gates, "stage1.0.conv2"), rows[i].inner);
      assert_int_equal(gate_at(graph, gates, "stage1.0.relu1"), rows[i].inner + to_activations);
      assert_int_equal(gate_at(graph, gates, "fc"), rows[i].last);
      assert_int_equal(gate_at(graph, gates, "pool_quant"), rows[i].last + to_activations);
      assert_int_equal(gate_at(graph, gates, "input"), -1);
      assert_int_equal(gate_at(graph, gates, "stage1.0.bn1"), -1);
      qe_gates_free(gates);
    }
  qe_graph_free(graph);
}

/* The wide and the low code that the first block reads are its own; float weights have no gate, their inputs do. */
static void activations_go_with_the_layer_that_reads_them(void **state) {
  (void)state;
  qe_graph *graph = resnet20(QE_FLOAT_BITS, 2);
  qe_gates *gates = gates_of(graph, (qe_gate_options){.unit = QE_GATE_BLOCK});
  assert_int_equal(gates->units, 11);
  assert_int_equal(gate_at(graph, gates, "stage1.0.conv1"), -1);
  assert_int_equal(gate_at(graph, gates, "relu1"), 1);
  assert_int_equal(gate_at(graph, gates, "relu1_low"), 1);
  assert_int_equal(gate_at(graph, gates, "stage1.0.relu2"), 2);
  qe_gates_free(gates);
  qe_graph_free(graph);
}

/* ---- growth and draws ---- */

static void portions_grow_to_the_whole(void **state) {
  (void)state;
  static const struct {
    qe_gate_growth growth;
    double half, near;
  } rows[] = {{QE_GROWTH_LINEAR, 0.6, 0.9},
              {QE_GROWTH_COSINE, 0.6, 0.97},
              {QE_GROWTH_CUBIC, 0.9, 0.98},
              {QE_GROWTH_CONSTANT, 0.2, 0.2}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    qe_gate_options options = {.growth = rows[i].growth, .start = 0.2, .until = 0.8};
    assert_true(fabs(qe_gates_portion(&options, 0) - 0.2) < 1e-12);
    assert_true(fabs(qe_gates_portion(&options, 0.4) - rows[i].half) < 1e-12);
    assert_true(fabs(qe_gates_portion(&options, 0.7) - rows[i].near) < 0.03);
    assert_true(qe_gates_portion(&options, 0.8) >= 1 && qe_gates_portion(&options, 1) >= 1);
    options.until = 0;
    assert_true(qe_gates_portion(&options, 0) >= 1);
  }
}

static int32_t ones_of(const qe_gates *gates) {
  int32_t ones = 0;
  for (int32_t g = 0; g < gates->count; g++) ones += gates->host[g];
  return ones;
}

/* In the mean the portion is on, whatever the draw; of `count` it is within one of it each time; front and back are
 * runs of units. */
static void draws_are_the_portion(void **state) {
  (void)state;
  enum { DRAWS = 4000, UNITS = 11 };
  qe_graph *graph = resnet20(2, 2);
  for (int draw = 0; draw < QE_DRAWS; draw++) {
    qe_gates *gates = gates_of(graph, (qe_gate_options){.unit = QE_GATE_BLOCK,
                                                        .draw = (qe_gate_draw)draw,
                                                        .growth = QE_GROWTH_CONSTANT,
                                                        .start = 0.4,
                                                        .until = 0.5});
    int32_t sum = 0, of_unit[UNITS] = {0};
    for (uint64_t number = 0; number < DRAWS; number++) {
      qe_gates_draw(gates, 7, number, 0.25);
      int32_t ones = ones_of(gates), falls = 0, rises = 0;
      for (int g = 0; g < UNITS; g++) of_unit[g] += gates->host[g];
      for (int g = 1; g < UNITS; g++) falls += gates->host[g - 1] > gates->host[g];
      for (int g = 1; g < UNITS; g++) rises += gates->host[g - 1] < gates->host[g];
      if (draw != QE_DRAW_INDEPENDENT) assert_in_range(ones, 4, 5);
      if (draw == QE_DRAW_FRONT) assert_true(gates->host[0] && falls == 1 && rises == 0);
      if (draw == QE_DRAW_BACK) assert_true(gates->host[UNITS - 1] && falls == 0 && rises == 1);
      sum += ones;
    }
    assert_true(fabs((double)sum / DRAWS - 0.4 * UNITS) < 0.1);
    for (int g = 0; g < UNITS && draw <= QE_DRAW_COUNT; g++) assert_true(fabs((double)of_unit[g] / DRAWS - 0.4) < 0.04);
    qe_gates_draw(gates, 7, 0, 0.5);
    assert_int_equal(ones_of(gates), UNITS);
    qe_gates_free(gates);
  }
  qe_graph_free(graph);
}

/* The same for the same seed and batch, others for others. */
static void draws_are_numbered(void **state) {
  (void)state;
  qe_graph *graph = resnet20(2, 2);
  for (int draw = 0; draw <= QE_DRAW_COUNT; draw++) {
    qe_gates *gates = gates_of(
        graph, (qe_gate_options){
                   .unit = QE_GATE_LAYER, .draw = (qe_gate_draw)draw, .start = 0.5, .until = 1, .separate = true});
    int32_t first[40], differ[3] = {0};
    assert_int_equal(gates->count, 40);
    qe_gates_draw(gates, 7, 5, 0);
    memcpy(first, gates->host, sizeof first);
    qe_gates_draw(gates, 7, 6, 0);
    for (int g = 0; g < 40; g++) differ[0] += first[g] != gates->host[g];
    qe_gates_draw(gates, 8, 5, 0);
    for (int g = 0; g < 40; g++) differ[1] += first[g] != gates->host[g];
    for (int g = 0; g < 20; g++) differ[2] += first[g] != first[g + 20]; /* weights and activations */
    for (int i = 0; i < 3; i++) assert_true(differ[i] > 2);
    qe_gates_draw(gates, 7, 5, 0);
    assert_memory_equal(first, gates->host, sizeof first);
    qe_gates_free(gates);
  }
  qe_graph_free(graph);
}

static void wrong_portions_are_refused(void **state) {
  (void)state;
  qe_graph *graph = resnet20(2, 2);
  qe_gates *gates = NULL;
  qe_gate_options options = {.unit = QE_GATE_LAYER, .start = 1.5};
  FAILS(QE_USAGE, qe_gates_new(fixture_device[0], graph, &options, &gates), "each must be in 0...1");
  options.start = 0.5;
  options.until = (double)NAN;
  FAILS(QE_USAGE, qe_gates_new(fixture_device[0], graph, &options, &gates), "each must be in 0...1");
  assert_null(gates);
  qe_graph_free(graph);
}

/* ---- training ---- */

static qe_train_options gated_options(double start) {
  qe_train_options options = usual_options();
  options.gates = (qe_gate_options){
      .unit = QE_GATE_LAYER, .growth = QE_GROWTH_CONSTANT, .start = start, .until = start < 1 ? 1 : 0};
  return options;
}

static bool same_but_steps(const qe_model *a, const qe_model *b) {
  for (size_t i = 0; i < a->graph->params; i++) {
    const qe_param *param = &a->graph->param[i];
    if (param->group == QE_GROUP_STEP) continue;
    if (memcmp(qe_model_values(a, (int)i), qe_model_values(b, (int)i), qe_bytes(&param->desc)) != 0) return false;
  }
  return true;
}

/* With all gates on it is the quantised network that is trained, with all off the float one, bit for bit. */
static void open_and_closed_gates_are_the_two_networks(void **state) {
  (void)state;
  const net_options nets[] = {low_bit_net, {.weight_bits = 3, .act_bits = 3, .per_channel = true}};
  for (int net = 0; net < 2; net++) FOR_EACH_DEVICE(device) {
      qe_train_options plain = usual_options(), on = gated_options(1), off = gated_options(0);
      qe_model *quantised = trained(device, &nets[net], &plain, 6), *all = trained(device, &nets[net], &on, 6);
      plain.plain = true;
      qe_model *real = trained(device, &nets[net], &plain, 6), *none = trained(device, &nets[net], &off, 6);
      assert_true(same_values(quantised, all));
      assert_true(same_but_steps(real, none));
      assert_false(same_but_steps(quantised, real));
      qe_model_free(quantised);
      qe_model_free(all);
      qe_model_free(real);
      qe_model_free(none);
    }
}

/* Steps of quantisers that were off stay. */
static void steps_behind_open_gates_stay(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    qe_train_options off = gated_options(0);
    qe_model *start = new_model(&low_bit_net), *none = trained(device, &low_bit_net, &off, 6);
    for (size_t i = 0; i < start->graph->params; i++)
      if (start->graph->param[i].group == QE_GROUP_STEP)
        assert_true(*qe_model_values(start, (int)i) == *qe_model_values(none, (int)i));
    qe_model_free(start);
    qe_model_free(none);
  }
}

/* Stopped in the middle of an epoch, its state taken over by another trainer: it ends with the same bits. */
static void gated_training_is_resumed(void **state) {
  (void)state;
  qe_device *device = fixture_fast();
  qe_train_options options = gated_options(0.5);
  options.gates.growth = QE_GROWTH_LINEAR;
  qe_model *whole = trained(device, &low_bit_net, &options, -1);
  for (int64_t stop = 1; stop < 12; stop += 3) {
    qe_trainer *trainer;
    qe_model *model = new_model(&low_bit_net), *next = new_model(&low_bit_net);
    qe_tensors *tensors = qe_tensors_new();
    OK(qe_trainer_new(device, model, data, &options, &trainer));
    train(trainer, &options, stop);
    OK(qe_trainer_give(trainer, tensors));
    qe_trainer_free(trainer);
    OK(qe_trainer_new(device, next, data, &options, &trainer));
    OK(qe_trainer_take(trainer, tensors, "memory"));
    train(trainer, &options, -1);
    qe_trainer_free(trainer);
    assert_true(same_values(whole, next));
    qe_tensors_free(tensors);
    qe_model_free(model);
    qe_model_free(next);
  }
  qe_model_free(whole);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(units_are_layers_blocks_or_all),
      cmocka_unit_test(activations_go_with_the_layer_that_reads_them),
      cmocka_unit_test(portions_grow_to_the_whole),
      cmocka_unit_test(draws_are_the_portion),
      cmocka_unit_test(draws_are_numbered),
      cmocka_unit_test(wrong_portions_are_refused),
      cmocka_unit_test(open_and_closed_gates_are_the_two_networks),
      cmocka_unit_test(steps_behind_open_gates_stay),
      cmocka_unit_test(gated_training_is_resumed),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
