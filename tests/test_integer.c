/* The integer network: fixed-point functions, the ops against hand-computed values, and whole networks against their
 * fake-quantised float twins. */
#include "core/base/fixed.h"
#include "core/dispatch/population.h"
#include "core/graph/integer.h"
#include "core/train/trainer.h"
#include "cpu_ref/ref.h"
#include "tests/fixture.h"

static qe_dataset *data;

static int open_all(void **state) {
  data = small_data(8, 3, 5, 320, 200);
  return fixture_open(state);
}
static int close_all(void **state) {
  qe_dataset_free(data);
  return fixture_close(state);
}

/* ---- fixed point ---- */

static void test_powers_and_logarithms(void **state) {
  (void)state;
  for (int64_t x = 0; x < 40 * 256; x += 7)
    assert_true(fabs((double)qe_exp2_negative(x) - ldexp(exp2(-(double)x / 256), 30)) <= 1.0 + ldexp(1, -20));
  assert_int_equal(qe_exp2_negative(INT64_C(1) << 40), 0);
  assert_int_equal(qe_log2_q30(INT64_C(1) << 30), 0);
  assert_int_equal(qe_log2_q30(INT64_C(1) << 33), 3 << 16);
  for (int64_t x = INT64_C(1) << 30; x < INT64_C(1) << 40; x += x / 37)
    assert_true(fabs((double)qe_log2_q30(x) - 65536 * (log2((double)x) - 30)) <= 1.5);
}

/* ---- ops ---- */

static void test_requant_by_hand(void **state) {
  (void)state;
  int32_t v[4] = {100, -100, 7, 2000}, m[2] = {3, 5}, n[2] = {-2, 1};
  uint8_t u[4] = {10, 20, 30, 255}, y[4];
  int64_t offset[2] = {8, 9};
  qe_call call = {.op = QE_OP_int_requant_add, .operands = 6};
  call.attrs.requant = (qe_requant){.shift = 4, .low = 0, .high = 200, .from = QE_U8, .to = QE_U8};
  qe_desc sums = qe_map(QE_S32, 2, 1, 1, 2), codes = qe_map(QE_U8, 2, 1, 1, 2);
  const qe_operand operands[6] = {{.desc = sums, .data = v},
                                  {.desc = qe_vector(QE_S32, 2), .data = m},
                                  {.desc = codes, .data = u},
                                  {.desc = qe_vector(QE_S32, 2), .data = n},
                                  {.desc = qe_vector(QE_S64, 2), .data = offset},
                                  {.desc = codes, .data = y}};
  memcpy(call.operand, operands, sizeof operands);
  OK(qe_call_check(&call));
  OK(qe_ref_int_requant_add(&call));
  /* (300 - 20 + 8) >> 4 = 18; (-500 + 20 + 9) >> 4 = -30 -> 0; (21 - 60 + 8) >> 4 = -2 -> 0; 10264 >> 4 -> 200 */
  const uint8_t wanted[4] = {18, 0, 0, 200};
  assert_memory_equal(y, wanted, sizeof wanted);
}

/* In units of 2^-8 bits: two equal logits cost one bit, a hit is the first largest. */
static void test_loss_by_hand(void **state) {
  (void)state;
  int32_t logits[8] = {0, 0, -8000, -8000, 256, 0, -8000, -8000}, label[2] = {1, 1}, loss[2], hit[2];
  qe_call call = {.op = QE_OP_int_loss, .operands = 4};
  qe_desc row = qe_map(QE_S32, 2, 1, 1, 1);
  const qe_operand operands[4] = {{.desc = qe_map(QE_S32, 2, 1, 1, 4), .data = logits},
                                  {.desc = row, .data = label},
                                  {.desc = row, .data = loss},
                                  {.desc = row, .data = hit}};
  memcpy(call.operand, operands, sizeof operands);
  OK(qe_call_check(&call));
  OK(qe_ref_int_loss(&call));
  assert_in_range(loss[0], 65536 - 2, 65536 + 2);
  assert_true(fabs(loss[1] - 65536 * (log2(1.5) + 1)) <= 2);
  assert_int_equal(hit[0], 0);
  assert_int_equal(hit[1], 0);
  label[0] = 4;
  FAILS(QE_SHAPE, qe_ref_int_loss(&call), "label 4");
}

/* ---- networks ---- */

static qe_model *untrained(qe_model_spec spec) {
  qe_model *model;
  spec.height = spec.width = data->height;
  spec.channels = data->channels;
  spec.classes = data->classes;
  OK(qe_model_new(&spec, 1, &model));
  return model;
}

static qe_model *trained(qe_model_spec spec) {
  qe_model *model = untrained(spec);
  qe_trainer *trainer;
  OK(qe_fit_steps(fixture_fast(), model, data, 1));
  qe_train_options options = qe_train_defaults();
  options.epochs = 3;
  options.batch = 32;
  options.schedule.rate = 0.05;
  options.pad = 0;
  options.flip = false;
  OK(qe_trainer_new(fixture_fast(), model, data, &options, &trainer));
  for (int epoch = 0; epoch < options.epochs; epoch++) OK(qe_trainer_epoch(trainer, NULL, NULL));
  OK(qe_trainer_download(trainer, false));
  qe_trainer_free(trainer);
  return model;
}

static qe_model_spec spec_of(const char *name, int weights, int activations) {
  qe_model_spec spec = qe_model_default(name);
  spec.bits.weights = weights;
  spec.bits.activations = activations;
  return spec;
}

/* Top-1 (per cent of 200 images) and loss (relative) of the integer network are those of the float network with fake
 * quantisers, but for rare roundings. */
static void check_twins(qe_model_spec spec, double top1_bound, double loss_bound) {
  qe_model *model = trained(spec);
  qe_score floats, integers, reference;
  OK(qe_evaluate(fixture_fast(), model, data, 50, NULL, &floats));
  OK(qe_evaluate_integer(fixture_fast(), model, data, 50, NULL, &integers));
  if (fabs(floats.top1 - integers.top1) > top1_bound || fabs(floats.loss - integers.loss) > loss_bound * floats.loss)
    fail_msg("%s w%da%d: float %.2f %% %.4f, integer %.2f %% %.4f", spec.name, spec.bits.weights, spec.bits.activations,
             floats.top1, floats.loss, integers.top1, integers.loss);
  qe_twins twins;
  OK(qe_evaluate_twins(fixture_fast(), model, data, 50, &twins));
  assert_memory_equal(&twins.real, &floats, sizeof floats);
  assert_memory_equal(&twins.integer, &integers, sizeof integers);
  assert_true(twins.agreement >= 100 - 4 * top1_bound && twins.agreement <= 100);
  assert_true(floats.top1 > 30); /* better than chance: logits differ between images */
  OK(qe_evaluate_integer(fixture_device[0], model, data, 7, NULL, &reference));
  assert_memory_equal(&integers, &reference, sizeof integers); /* the same bits, whatever the backend and the batch */
  qe_model_free(model);
}

static void test_resnet_w8a8(void **state) {
  (void)state;
  check_twins(spec_of("resnet20", 8, 8), 1, 0.01);
}

static void test_resnet_w4a4(void **state) {
  (void)state;
  check_twins(spec_of("resnet20", 4, 4), 1, 0.02);
}

static void test_resnet_w2a2_shortcut_b_per_channel(void **state) {
  (void)state;
  qe_model_spec spec = spec_of("resnet20", 2, 2);
  spec.shortcut = 'B';
  spec.bits.per_channel = true;
  check_twins(spec, 4, 0.1); /* hardly trained, it magnifies a flipped code twofold a layer */
}

/* Codes of both signs on the skip connection, and batch norm that reads codes. */
static void test_preresnet_w4a4(void **state) {
  (void)state;
  check_twins(spec_of("preresnet20", 4, 4), 1, 0.02);
}

static void test_preresnet_w3a3_shortcut_b(void **state) {
  (void)state;
  qe_model_spec spec = spec_of("preresnet20", 3, 3);
  spec.shortcut = 'B';
  check_twins(spec, 2, 0.05);
}

static void test_mlp_dorefa(void **state) {
  (void)state;
  qe_model_spec spec = spec_of("mlp", 4, 4);
  spec.bits.weight_rule = spec.bits.activation_rule = QE_RULE_DOREFA;
  spec.bits.edges = 6;
  check_twins(spec, 1, 0.02);
}

static float *values_of(qe_model *model, const char *name) {
  int param = qe_graph_find_param(model->graph, name);
  assert_true(param >= 0);
  return (float *)((char *)model->values + model->graph->param[param].offset);
}

/* Batch norm puts an edge of each channel's codes a fifty-thousandth of a code beside one of the integers that sums of
 * 2-bit codes are: every sum that can occur gets the code of the real value, though multipliers have 16 bits. */
static void test_sums_beside_an_edge(void **state) {
  (void)state;
  enum { CHANNELS = 16 };
  qe_model *model = untrained(spec_of("resnet20", 2, 2));
  qe_network *network;
  double weight = (double)(*values_of(model, "stage1.0.conv1.weight_step") = 0.03f);
  double input = (double)(*values_of(model, "relu1.step") = 0.6f);
  double step = (double)(*values_of(model, "stage1.0.relu1.step") = 0.7f);
  float *gamma = values_of(model, "stage1.0.bn1.gamma"), *beta = values_of(model, "stage1.0.bn1.beta");
  const qe_node_info *norm = &model->graph->node[qe_graph_find_node(model->graph, "stage1.0.bn1")];
  double slope[CHANNELS];
  for (int c = 0; c < CHANNELS; c++) {
    gamma[c] = (c % 2 ? -1.0f : 1.0f) * (0.5f + 0.1f * (float)c);
    slope[c] = weight * input * (double)gamma[c] / sqrt(1 + (double)norm->attrs.epsilon) / step;
    double sum = (c % 2 ? -1 : 1) * (20 + 3 * c), aside = c % 4 < 2 ? 2e-5 : -2e-5;
    beta[c] = (float)(step * (0.5 + c % 3 + aside - slope[c] * sum));
  }
  OK(qe_network_from_graph(model->graph, model->values, &network));
  int checked = 0;
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    if (layer->op != QE_OP_int_requant || strcmp(layer->name, "stage1.0.relu1") != 0) continue;
    const qe_network_layer *sums = &network->layer[layer->input[0]];
    assert_true(layer->attrs.requant.narrow && sums->low < -60 && sums->high > 60);
    for (int c = 0; c < CHANNELS; c++) {
      for (int64_t sum = sums->low; sum <= sums->high; sum++, checked++) {
        double real = floor(slope[c] * (double)sum + (double)beta[c] / step + 0.5);
        int64_t code = (sum * layer->multiplier[0][c] + layer->offset[c]) >> layer->attrs.requant.shift;
        assert_int_equal(code < 0 ? 0 : code > 3 ? 3 : code, (int64_t)fmin(fmax(real, 0), 3));
      }
    }
  }
  assert_true(checked > 0);
  qe_network_free(network);
  qe_model_free(model);
}

/* Every network of the zoo has an integer form, and the cpu backend's engine takes it. */
static void check_lowers(const char *name, char shortcut) {
  qe_model_spec spec = spec_of(name, 4, 4);
  spec.shortcut = shortcut;
  qe_model *model = untrained(spec);
  qe_network *network;
  qe_population *population;
  qe_queue *queue;
  OK(qe_network_from_graph(model->graph, model->values, &network));
  OK(qe_network_check(network));
  OK(qe_queue_new(fixture_fast(), &queue));
  OK(qe_population_new(queue, network, NULL, NULL, &population));
  if (fixture_device[1]) assert_string_equal(qe_population_engine(population), "lanes");
  qe_population_free(population);
  qe_queue_free(queue);
  qe_network_free(network);
  qe_model_free(model);
}

static void test_the_zoo_lowers(void **state) {
  (void)state;
  static const char *const names[] = {"resnet20", "resnet32", "resnet44", "resnet56", "resnet110"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    for (int b = 0; b < 2; b++) check_lowers(names[i], b ? 'B' : 'A');
  check_lowers("mlp", 'A');
}

static void check_refused(qe_model_spec spec, const char *text) {
  qe_model *model;
  qe_network *network;
  OK(qe_model_new(&spec, 1, &model));
  FAILS(QE_REFUSED, qe_network_from_graph(model->graph, model->values, &network), text);
  qe_model_free(model);
}

static void test_refusals_name_the_layer(void **state) {
  (void)state;
  check_refused(spec_of("resnet20", QE_FLOAT_BITS, QE_FLOAT_BITS), "conv1");
  check_refused(spec_of("resnet20", 4, QE_FLOAT_BITS), "stage1.0.conv1");
  qe_model_spec skip = spec_of("resnet20", 4, 4);
  skip.bits.residual = QE_FLOAT_BITS;
  check_refused(skip, "stage1.0.add");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_powers_and_logarithms),
      cmocka_unit_test(test_requant_by_hand),
      cmocka_unit_test(test_loss_by_hand),
      cmocka_unit_test(test_resnet_w8a8),
      cmocka_unit_test(test_resnet_w4a4),
      cmocka_unit_test(test_resnet_w2a2_shortcut_b_per_channel),
      cmocka_unit_test(test_preresnet_w4a4),
      cmocka_unit_test(test_preresnet_w3a3_shortcut_b),
      cmocka_unit_test(test_mlp_dorefa),
      cmocka_unit_test(test_sums_beside_an_edge),
      cmocka_unit_test(test_the_zoo_lowers),
      cmocka_unit_test(test_refusals_name_the_layer),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
