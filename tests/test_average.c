/* Averages of models: sums of codes are exact, the wide grid holds them, and batch norm's statistics are those of the
 * weights that are there. */
#define _GNU_SOURCE /* open_memstream */
#include "core/graph/codes.h"
#include "core/graph/integer.h"
#include "core/graph/layers.h"
#include "core/models/average.h"
#include "core/train/renorm.h"
#include "core/train/session.h"
#include "tests/saved.h"

enum { MODELS = 15 };

static qe_model_spec spec_of(int bits, qe_rule rule, bool per_channel) {
  qe_model_spec spec = small_spec(bits);
  spec.bits.activations = 8;
  spec.bits.weight_rule = rule;
  spec.bits.per_channel = per_channel;
  return spec;
}

/* Every model other weights and vectors, all the same steps. */
static qe_model *drawn_model(const qe_model_spec *spec, int number) {
  qe_model *model = new_model(spec, (uint64_t)number + 1);
  draws from = {(uint64_t)number + 100, 0};
  for (size_t i = 0; i < model->graph->params; i++) {
    qe_param *param = &model->graph->param[i];
    float *values = qe_model_values(model, (int)i);
    bool step = strstr(param->name, "step") != NULL;
    param->initialised = true;
    for (int64_t k = 0; k < qe_count(&param->desc); k++) {
      if (step) values[k] = 0.03f + 0.001f * (float)k;
      if (!step && param->group != QE_GROUP_WEIGHT) values[k] = 0.5f + 0.01f * (float)draw_range(&from, 0, 50);
    }
  }
  return model;
}

static qe_average *average_of(qe_model *const *models, int count, qe_average_of of) {
  qe_average *average;
  OK(qe_average_new(of, &average));
  for (int i = 0; i < count; i++) OK(qe_average_add(average, models[i], "a model"));
  assert_int_equal(qe_average_count(average), count);
  return average;
}

static int weighted(const qe_graph *graph, size_t node) {
  const qe_layer *layer = graph->node[node].layer;
  return layer == &qe_layer_conv || layer == &qe_layer_linear;
}

/* The sum of the models' codes of one weight, by its definition. */
static int64_t sum_of(qe_model *const *models, int count, size_t node, int64_t weight) {
  int64_t sum = 0;
  for (int i = 0; i < count; i++) {
    qe_weight_codes codes;
    assert_true(qe_weight_codes_of(models[i]->graph, models[i]->values, (qe_node)node, &codes));
    sum += qe_weight_code(&codes, weight);
  }
  return sum;
}

/* Codes of the wide model, times what one of them is worth in the models' codes over their number. */
static void check_wide_layer(qe_model *const *models, int count, const qe_model *wide, size_t node,
                             const qe_wide_layer *layer) {
  const qe_model *first = models[0];
  qe_weight_codes own, codes;
  assert_true(qe_weight_codes_of(wide->graph, wide->values, (qe_node)node, &codes));
  assert_true(qe_weight_codes_of(first->graph, first->values, (qe_node)node, &own));
  assert_int_equal(codes.bits, layer->bits);
  assert_int_equal(codes.count, own.count);
  assert_int_equal(codes.each, own.each);
  if (!layer->exact) {
    assert_int_equal(layer->bits, 8);
    assert_false(wide->graph->param[wide->graph->node[node].param[QE_CONV_STEP]].initialised);
    return;
  }
  int64_t unit = lround((double)codes.step[0] / (double)own.step[0] * count);
  assert_true(unit == 1 || unit == 2);
  for (int64_t k = 0; k < codes.count; k++) {
    int64_t is = qe_weight_code(&codes, k) * unit, wanted = sum_of(models, count, node, k);
    if (is != wanted)
      fail_msg("weight %lld of %s: %lld, the sum is %lld", (long long)k, layer->name, (long long)is, (long long)wanted);
  }
}

static void check_wide(qe_model *const *models, int count, int wanted_bits) {
  qe_average *average = average_of(models, count, QE_AVERAGE_CODES);
  qe_model *wide;
  qe_wide_layer *layers;
  size_t layer_count, at = 0;
  OK(qe_average_wide(average, &wide, &layers, &layer_count));
  for (size_t i = 0; i < wide->graph->nodes; i++) {
    if (!weighted(wide->graph, i)) continue;
    assert_string_equal(layers[at].name, wide->graph->node[i].name);
    check_wide_layer(models, count, wide, i, &layers[at++]);
  }
  assert_int_equal(at, layer_count);
  assert_int_equal(layers[1].bits, wanted_bits); /* an inner layer; the first and the last have 8 bits */
  assert_true(layers[1].exact);
  assert_int_equal(layers[0].exact, count == 1);
  /* Its file is read again as it is: the spec says the new bits. */
  OK(qe_fit_steps(fixture_device[0], wide, data, 1));
  save(wide, "wide.safetensors");
  qe_model *again;
  OK(qe_model_read(path_of("wide.safetensors"), &again, NULL));
  assert_true(same_values(again, wide));
  for (size_t i = 0; i < wide->graph->nodes; i++)
    if (weighted(wide->graph, i))
      assert_memory_equal(&again->graph->node[i].quantizer.grid, &wide->graph->node[i].quantizer.grid, sizeof(qe_grid));
  qe_network *network;
  OK(qe_network_from_graph(again->graph, again->values, &network));
  qe_network_free(network);
  qe_model_free(again);
  qe_model_free(wide);
  qe_average_free(average);
  qe_free(layers);
}

static void wide_grids_hold_the_sums(void **state) {
  (void)state;
  static const struct {
    int bits;
    qe_rule rule;
    int count, wanted;
  } cases[] = {{2, QE_RULE_L2, 1, 2},      {2, QE_RULE_L2, 2, 3},     {2, QE_RULE_L2, 3, 3},
               {2, QE_RULE_L2, 7, 4},      {2, QE_RULE_L2, 15, 5},    {2, QE_RULE_MAX, 4, 4},
               {3, QE_RULE_L2, 7, 6},      {4, QE_RULE_L2, 15, 8},    {2, QE_RULE_L2_ODD, 1, 2},
               {2, QE_RULE_L2_ODD, 2, 3},  {2, QE_RULE_L2_ODD, 3, 4}, {2, QE_RULE_L2_ODD, 7, 5},
               {2, QE_RULE_L2_ODD, 14, 6}, {1, QE_RULE_L2, 2, 2},     {1, QE_RULE_L2, 7, 4}};
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
    for (int per_channel = 0; per_channel < 2; per_channel++) {
      qe_model_spec spec = spec_of(cases[c].bits, cases[c].rule, per_channel);
      qe_model *models[MODELS];
      for (int i = 0; i < cases[c].count; i++) models[i] = drawn_model(&spec, i);
      check_wide(models, cases[c].count, cases[c].wanted);
      for (int i = 0; i < cases[c].count; i++) qe_model_free(models[i]);
    }
}

/* Networks of the zoo, and one of a text, as a wide average with an integer network; of the zoo's a file is read as it
 * was written. */
static void check_network(const qe_model_spec *spec) {
  qe_model *models[3] = {drawn_model(spec, 0), drawn_model(spec, 1), drawn_model(spec, 2)}, *wide, *again;
  qe_average *average = average_of(models, 3, QE_AVERAGE_CODES);
  qe_network *network;
  OK(qe_average_wide(average, &wide, NULL, NULL));
  OK(qe_fit_steps(fixture_device[0], wide, data, 1)); /* weights only: the images do not matter */
  OK(qe_network_from_graph(wide->graph, wide->values, &network));
  qe_network_free(network);
  if (!spec->net) {
    save(wide, "zoo.safetensors");
    OK(qe_model_read(path_of("zoo.safetensors"), &again, NULL));
    assert_true(qe_model_is_alike(again, wide) && same_values(again, wide));
    qe_model_free(again);
  }
  qe_model_free(wide);
  qe_average_free(average);
  for (int i = 0; i < 3; i++) qe_model_free(models[i]);
}

static void wide_averages_of_networks(void **state) {
  (void)state;
  static const char *const names[] = {"resnet20",     "preresnet20", "mobilenet-v2-cifar",
                                      "lenet5-caffe", "lenet5",      "vgg-small"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    qe_model_spec spec = qe_model_default(names[i]);
    spec.bits.weights = 2;
    spec.bits.activations = 4;
    spec.bits.weight_rule = QE_RULE_L2;
    check_network(&spec);
  }
  qe_model_spec spec = spec_of(2, QE_RULE_L2, false);
  qe_model *model = new_model(&spec, 1);
  char *text = NULL;
  size_t bytes;
  FILE *file = open_memstream(&text, &bytes);
  assert_non_null(file);
  qe_graph_dump(model->graph, file);
  assert_int_equal(fclose(file), 0);
  spec.name = "own.net";
  spec.net = text;
  check_network(&spec);
  qe_model_free(model);
  free(text);
}

/* Weights: the sum of codes times the step over the number; all else: the mean. In any order, bit for bit what codes
 * are concerned. */
static void means_are_means(void **state) {
  (void)state;
  qe_model_spec spec = spec_of(2, QE_RULE_L2, true);
  qe_model *models[3] = {drawn_model(&spec, 0), drawn_model(&spec, 1), drawn_model(&spec, 2)};
  qe_model *turned[3] = {models[2], models[0], models[1]};
  qe_average *average = average_of(models, 3, QE_AVERAGE_CODES), *other = average_of(turned, 3, QE_AVERAGE_CODES);
  qe_average *shadows = average_of(models, 3, QE_AVERAGE_VALUES);
  qe_model *mean, *same, *swa;
  OK(qe_average_mean(average, &mean));
  OK(qe_average_mean(other, &same));
  OK(qe_average_mean(shadows, &swa));
  for (size_t i = 0; i < mean->graph->params; i++) {
    const qe_param *param = &mean->graph->param[i];
    const float *values = qe_model_values(mean, (int)i);
    assert_true(param->initialised);
    for (int64_t k = 0; k < qe_count(&param->desc); k++) {
      double sum = 0;
      for (int m = 0; m < 3; m++) sum += (double)qe_model_values(models[m], (int)i)[k] / 3;
      assert_true(fabs((double)qe_model_values(swa, (int)i)[k] - sum) < 1e-6);
      if (param->group != QE_GROUP_WEIGHT) assert_true(fabs((double)values[k] - sum) < 1e-6);
    }
    if (param->group == QE_GROUP_WEIGHT)
      assert_memory_equal(values, qe_model_values(same, (int)i), qe_bytes(&param->desc));
  }
  for (size_t i = 0; i < mean->graph->nodes; i++) {
    qe_weight_codes codes;
    if (!weighted(mean->graph, i)) continue;
    assert_true(qe_weight_codes_of(mean->graph, mean->values, (qe_node)i, &codes));
    for (int64_t k = 0; k < codes.count; k++) {
      double wanted = (double)sum_of(models, 3, i, k) * (double)codes.step[k / codes.each] / 3;
      assert_true(fabs((double)codes.values[k] - wanted) <= 1e-7 * fabs(wanted));
    }
  }
  qe_average_free(average);
  qe_average_free(other);
  qe_average_free(shadows);
  qe_model_free(mean);
  qe_model_free(same);
  qe_model_free(swa);
  for (int i = 0; i < 3; i++) qe_model_free(models[i]);
}

static void models_that_do_not_fit_are_refused(void **state) {
  (void)state;
  qe_model_spec ternary = spec_of(2, QE_RULE_L2, false), four = spec_of(4, QE_RULE_L2, false),
                learned = spec_of(2, QE_RULE_LSQ, false), tanh = spec_of(2, QE_RULE_DOREFA, false);
  qe_model *a = drawn_model(&ternary, 0), *b = drawn_model(&ternary, 1), *c = drawn_model(&four, 2);
  qe_model *l = drawn_model(&learned, 3), *d = drawn_model(&tanh, 4), *mean;
  qe_average *average;
  OK(qe_average_new(QE_AVERAGE_CODES, &average));
  FAILS(QE_USAGE, qe_average_mean(average, &mean), "no model to average");
  FAILS(QE_USAGE, qe_average_add(average, l, "learned"), "train with --weight-quantizer l2, l2-odd or max");
  FAILS(QE_USAGE, qe_average_add(average, d, "tanh"), "weight quantiser dorefa");
  OK(qe_average_add(average, a, "a"));
  FAILS(QE_USAGE, qe_average_add(average, c, "c"), "c is of another network or other bits");
  int step = qe_graph_find_param(b->graph, "fc2.weight_step");
  assert_true(step >= 0);
  qe_model_values(b, step)[0] *= 2;
  FAILS(QE_USAGE, qe_average_add(average, b, "b"), "b: fc2.weight_step differs from that of the models before it");
  assert_int_equal(qe_average_count(average), 1);
  OK(qe_average_mean(average, &mean)); /* the refused ones have left nothing */
  int weight = qe_graph_find_param(a->graph, "fc2.weight");
  qe_weight_codes codes;
  assert_true(qe_weight_codes_of(a->graph, a->values, qe_graph_find_node(a->graph, "fc2"), &codes));
  for (int64_t k = 0; k < codes.count; k++)
    assert_true(fabs((double)qe_model_values(mean, weight)[k] -
                     (double)qe_weight_code(&codes, k) * (double)codes.step[0]) < 1e-7);
  qe_average_free(average);
  qe_model *const all[] = {a, b, c, l, d, mean};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) qe_model_free(all[i]);
}

/* Whatever allocation fails: a status, and nothing half made. */
static void allocations_can_fail(void **state) {
  (void)state;
  qe_model_spec spec = spec_of(2, QE_RULE_L2, true);
  qe_model *models[2] = {drawn_model(&spec, 0), drawn_model(&spec, 1)};
  qe_status status = QE_NO_MEMORY;
  for (int nth = 1; status == QE_NO_MEMORY; nth++) {
    qe_average *average = NULL;
    qe_model *mean = NULL, *wide = NULL;
    qe_wide_layer *layers = NULL;
    size_t count = 0;
    qe_alloc_fail_nth(nth);
    status = qe_average_new(QE_AVERAGE_CODES, &average);
    for (int i = 0; status == QE_OK && i < 2; i++) status = qe_average_add(average, models[i], "a model");
    if (status == QE_OK) status = qe_average_mean(average, &mean);
    if (status == QE_OK) status = qe_average_wide(average, &wide, &layers, &count);
    qe_alloc_fail_nth(0);
    assert_true(status == QE_OK || status == QE_NO_MEMORY);
    if (average && status != QE_OK) OK(qe_average_add(average, models[0], "again"));
    qe_average_free(average);
    qe_model_free(mean);
    qe_model_free(wide);
    qe_free(layers);
    assert_true(nth < 10000);
  }
  qe_model_free(models[0]);
  qe_model_free(models[1]);
}

/* ---- batch norm ---- */

static float *norm_values(const qe_model *model, const char *name) {
  int param = qe_graph_find_param(model->graph, name);
  assert_true(param >= 0);
  return qe_model_values(model, param);
}

/* The first layer's inputs do not depend on any statistics: its means over all images are those of the convolution's
 * outputs, which one forward pass over all images shows. */
static void statistics_are_those_of_the_weights(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    qe_model *model = model_of(residual_net(data, &(net_options){0}), 3),
             *again = model_of(residual_net(data, &(net_options){0}), 3);
    qe_renorm_options options = {.seed = 4, .batch = 16};
    for (int c = 0; c < 8; c++) norm_values(model, "conv1_norm.running_mean")[c] = 1000;
    OK(qe_renorm(device, model, data, &options));
    OK(qe_renorm(device, again, data, &options));
    assert_true(same_values(model, again)); /* what was there before does not matter */
    qe_renorm_options whole = {.seed = 9, .batch = data->train_images};
    OK(qe_renorm(device, again, data, &whole));
    for (int c = 0; c < 8; c++) {
      double mean = (double)norm_values(model, "conv1_norm.running_mean")[c];
      assert_true(fabs(mean - (double)norm_values(again, "conv1_norm.running_mean")[c]) < 1e-4 * (1 + fabs(mean)));
      assert_true(norm_values(model, "conv1_norm.running_var")[c] > 0);
    }
    /* With these statistics the network evaluates as it does on batch statistics: its normalised outputs have mean 0.
     */
    qe_score score;
    OK(qe_evaluate(device, model, data, 0, NULL, &score));
    assert_true(isfinite(score.loss));
    FAILS(QE_USAGE, qe_renorm(device, model, data, &(qe_renorm_options){.held_out = data->train_images}),
          "some must be left for the statistics");
    qe_model_free(model);
    qe_model_free(again);
  }
}

static void few_images_and_no_norm(void **state) {
  (void)state;
  qe_model *model = model_of(residual_net(data, &(net_options){.no_norm = true}), 3);
  qe_model *same = model_of(residual_net(data, &(net_options){.no_norm = true}), 3);
  OK(qe_renorm(fixture_device[0], model, data, &(qe_renorm_options){.batch = 8}));
  assert_true(same_values(model, same));
  qe_model_free(same);
  qe_model_free(model);
  model = model_of(residual_net(data, &(net_options){0}), 3);
  qe_renorm_options few = {.seed = 1, .batch = 1000, .images = 5}; /* a batch of all there are */
  OK(qe_renorm(fixture_device[0], model, data, &few));
  assert_true(norm_values(model, "conv1_norm.running_mean")[0] < 0 ||
              norm_values(model, "conv1_norm.running_mean")[0] > 0);
  qe_model_free(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(wide_grids_hold_the_sums), cmocka_unit_test(wide_averages_of_networks),
      cmocka_unit_test(means_are_means),          cmocka_unit_test(models_that_do_not_fit_are_refused),
      cmocka_unit_test(allocations_can_fail),     cmocka_unit_test(statistics_are_those_of_the_weights),
      cmocka_unit_test(few_images_and_no_norm),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
