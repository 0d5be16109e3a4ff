/* The model zoo: parameter and multiply-add counts against the published ones, bits of every layer, initial values. */
#include "core/graph/layers.h"
#include "tests/fixture.h"

static qe_graph *build(const qe_model_spec *spec) {
  qe_graph *graph;
  OK(qe_model_build(spec, &graph));
  return graph;
}

static int input_bits(const qe_graph *graph, const char *layer) {
  return qe_graph_bits(graph, graph->node[qe_graph_find_node(graph, layer)].input[0]);
}

static qe_model_spec quantized(const char *name, int weights, int activations) {
  qe_model_spec spec = qe_model_default(name);
  spec.bits.weights = weights;
  spec.bits.activations = activations;
  return spec;
}

static bool is_weighted(const qe_node_info *node) {
  return node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
}

/* ---- counts ---- */

/* He et al. 2016, table 6: layers and millions of parameters, to two digits; option A. */
static void published_counts(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int layers;
    double millions;
  } published[] = {
      {"resnet8", 8, 0.08},   {"resnet20", 20, 0.27}, {"resnet32", 32, 0.46},
      {"resnet44", 44, 0.66}, {"resnet56", 56, 0.85}, {"resnet110", 110, 1.7},
  };
  for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
    for (const char *shortcut = "AB"; *shortcut; shortcut++) {
      qe_model_spec spec = qe_model_default(published[i].name);
      spec.shortcut = *shortcut;
      qe_graph *graph = build(&spec);
      double unit = published[i].millions < 1 ? 0.01 : 0.1;
      double millions = (double)qe_graph_cost(graph, -1).params / 1e6;
      if (*shortcut == 'A' && fabs(millions - published[i].millions) > unit / 2)
        fail_msg("%s has %.4f M parameters, published are %.2f M", spec.name, millions, published[i].millions);
      int layers = 0;
      for (size_t n = 0; n < graph->nodes; n++)
        layers += is_weighted(&graph->node[n]) && !strstr(graph->node[n].name, "shortcut");
      assert_int_equal(layers, published[i].layers);
      qe_graph_free(graph);
    }
  }
}

static void exact_counts(void **state) {
  (void)state;
  qe_model_spec spec = qe_model_default("resnet20");
  qe_graph *graph = build(&spec);
  assert_int_equal(qe_graph_cost(graph, -1).params, 269722);
  assert_int_equal(qe_graph_cost(graph, -1).macs, 40551040);
  assert_int_equal(qe_graph_cost(graph, -1).bit_ops, INT64_C(40551040) * 1024 - INT64_C(442368) * (1024 - 256));
  assert_int_equal(qe_graph_cost(graph, -1).bits, 269722 * 32);
  qe_graph_free(graph);

  spec.shortcut = 'B';
  graph = build(&spec);
  assert_int_equal(qe_graph_cost(graph, -1).params, 269722 + 16 * 32 + 32 * 64 + 2 * 32 + 2 * 64);
  assert_int_equal(qe_graph_cost(graph, -1).macs, 40813184); /* 40.8 M */
  qe_graph_free(graph);

  spec = qe_model_default("mlp");
  graph = build(&spec);
  int64_t layers = 3072 * 256 + 256 * 256 + 256 * 10;
  assert_int_equal(qe_graph_cost(graph, -1).macs, layers);
  assert_int_equal(qe_graph_cost(graph, -1).params, layers + 2 * 256 + 10 + 2 * 2 * 256);
  qe_graph_free(graph);
}

/* Exact counts of published implementations and papers; docs/models.md names the sources. */
static void counts_of_the_others(void **state) {
  (void)state;
  static const struct {
    const char *name;
    char shortcut;
    int64_t params, macs; /* macs 0: not published for convolutions and linear layers alone */
  } published[] = {
      {"preresnet20", 'B', 272282, 0},
      {"preresnet56", 'B', 855578, 0},
      {"preresnet110", 'B', 1730522, 0},
      {"mobilenet-v2-cifar", 'A', 2236682, 87976448},
      {"resnet18", 'B', 11689512, 1814073344},
      {"resnet34", 'B', 21797672, 3663761408},
      {"resnet50", 'B', 25557032, 4089184256},
      {"mobilenet-v2", 'A', 3504872, 300774272},
      /* torchvision's 61,100,840 with gamma and beta of two hidden linear layers and five convolutions for their bias
       */
      {"alexnet", 'A', 61100840 + 1152 + 2 * 4096, 714188480},
      {"lenet5", 'A', 61706, 416520},
      {"lenet5-caffe", 'A', 431080, 2293000},
  };
  for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
    qe_model_spec spec = qe_model_default(published[i].name);
    if (strstr(spec.name, "preresnet"))
      spec.shortcut = 'B';
    else
      assert_int_equal(spec.shortcut, published[i].shortcut);
    qe_graph *graph = build(&spec);
    qe_cost cost = qe_graph_cost(graph, -1);
    if (cost.params != published[i].params) fail_msg("%s has %lld parameters", spec.name, (long long)cost.params);
    if (published[i].macs && cost.macs != published[i].macs)
      fail_msg("%s has %lld multiply-adds", spec.name, (long long)cost.macs);
    qe_graph_free(graph);
  }
}

/* By hand: the papers give figures of two digits (4.6 M, 0.61 G). */
static void counts_of_vgg_small(void **state) {
  (void)state;
  static const int64_t channels[] = {3, 128, 128, 256, 256, 512, 512}, pixels[] = {1024, 1024, 256, 256, 64, 64};
  int64_t params = 512 * 16 * 10 + 10, macs = 512 * 16 * 10;
  for (int i = 0; i < 6; i++) {
    params += channels[i] * channels[i + 1] * 9 + 2 * channels[i + 1];
    macs += channels[i] * channels[i + 1] * 9 * pixels[i];
  }
  qe_model_spec spec = qe_model_default("vgg-small");
  qe_graph *graph = build(&spec);
  assert_int_equal(qe_graph_cost(graph, -1).params, params);
  assert_int_equal(qe_graph_cost(graph, -1).macs, macs);
  qe_graph_free(graph);
}

/* The bare sum has codes of both signs at the residual bits, and nothing but batch norm and the add reads it. */
static void pre_activation_streams(void **state) {
  (void)state;
  qe_model_spec spec = quantized("preresnet20", 2, 2);
  qe_graph *graph = build(&spec);
  const qe_node_info *sum = &graph->node[qe_graph_find_node(graph, "stage1.0.sum")];
  assert_int_equal(sum->quantizer.bits, 8);
  assert_int_equal(sum->quantizer.grid, QE_GRID_SIGNED);
  assert_int_equal(sum->consumers, 2);
  assert_int_equal(input_bits(graph, "stage1.1.conv1"), 2);
  assert_int_equal(input_bits(graph, "stage3.2.conv2"), 2);
  qe_graph_free(graph);

  spec = quantized("mobilenet-v2", 4, 4);
  graph = build(&spec);
  const qe_node_info *low = &graph->node[qe_graph_find_node(graph, "block2.sum_low")];
  assert_int_equal(low->quantizer.grid, QE_GRID_SIGNED);
  assert_int_equal(low->quantizer.bits, 4); /* block 3 adds to it */
  assert_int_equal(qe_graph_bits(graph, qe_graph_find_node(graph, "block2.sum")), 8);
  assert_int_equal(qe_graph_find_node(graph, "block3.sum_low"), -1); /* block 4 does not */
  assert_int_equal(input_bits(graph, "block4.expand"), 4);
  qe_graph_free(graph);
}

static void shapes_of_the_last_layers(void **state) {
  (void)state;
  qe_model_spec spec = qe_model_default("resnet20");
  spec.height = 24;
  spec.width = 40;
  spec.channels = 1;
  spec.classes = 7;
  qe_graph *graph = build(&spec);
  qe_desc logits = qe_map(QE_F32, 1, 1, 1, 7), last = qe_map(QE_F32, 1, 6, 10, 64);
  assert_true(qe_same_desc(&graph->node[qe_graph_output(graph)].output, &logits));
  assert_true(qe_same_desc(&graph->node[qe_graph_find_node(graph, "stage3.2.relu2")].output, &last));
  qe_graph_free(graph);
}

static void the_zoo_lists_its_names(void **state) {
  (void)state;
  int count = 0;
  for (; qe_model_name(count); count++) {
    qe_model_spec spec = quantized(qe_model_name(count), 4, 4);
    qe_graph_free(build(&spec));
  }
  assert_int_equal(count, 21);
  assert_null(qe_model_name(-1));
  qe_graph *graph = NULL;
  qe_model_spec spec = qe_model_default("resnet21");
  FAILS(QE_USAGE, qe_model_build(&spec, &graph), "resnet21");
  FAILS(QE_USAGE, qe_model_build(&spec, &graph), "resnet20, resnet32");
  assert_null(graph);
}

/* ---- bits ---- */

static int weight_bits(const qe_graph *graph, const char *layer) {
  return graph->node[qe_graph_find_node(graph, layer)].quantizer.bits;
}

static void bits_of_every_layer(void **state) {
  (void)state;
  static const struct {
    int weights, activations, edges, edge_weights, edge_inputs;
  } asked[] = {{4, 4, 8, 8, 8},   {2, 3, 8, 8, 8},   {4, 4, 0, 4, 4},     {5, 2, 6, 6, 6}, {4, 4, 32, 32, 32},
               {3, 32, 8, 8, 32}, {32, 4, 8, 32, 8}, {32, 32, 8, 32, 32}, {1, 1, 8, 8, 8}};
  for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
    for (int m = 0; m < 3; m++) {
      qe_model_spec spec = quantized(m == 2 ? "mlp" : "resnet20", asked[i].weights, asked[i].activations);
      spec.bits.edges = asked[i].edges;
      spec.shortcut = m == 1 ? 'B' : 'A';
      qe_graph *graph = build(&spec);
      const char *first = m == 2 ? "fc1" : "conv1", *last = m == 2 ? "fc3" : "fc";
      for (size_t n = 0; n < graph->nodes; n++) {
        const qe_node_info *node = &graph->node[n];
        if (!is_weighted(node)) continue;
        bool is_first = strcmp(node->name, first) == 0, is_last = strcmp(node->name, last) == 0;
        assert_int_equal(node->quantizer.bits, is_first || is_last ? asked[i].edge_weights : asked[i].weights);
        int wanted = is_first ? 8 : is_last ? asked[i].edge_inputs : asked[i].activations;
        if (input_bits(graph, node->name) != wanted)
          fail_msg("row %zu, %s reads %d bits, must be %d", i, node->name, input_bits(graph, node->name), wanted);
        if (node->quantizer.bits == 1) assert_int_equal(node->quantizer.grid, QE_GRID_ODD);
      }
      qe_graph_free(graph);
    }
  }
}

/* The skip connection carries residual_bits, of which the low code is made by a shift and the same step. */
static void residual_streams(void **state) {
  (void)state;
  static const struct {
    int residual, shift;
  } asked[] = {{8, 3}, {6, 1}, {5, 1}, {4, -1}, {32, -2}}; /* -1: one code; -2: a float skip connection */
  for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
    qe_model_spec spec = quantized("resnet20", 4, 4);
    spec.bits.residual = asked[i].residual;
    qe_graph *graph = build(&spec);
    qe_node wide = qe_graph_find_node(graph, "stage1.0.relu2"), low = qe_graph_find_node(graph, "stage1.0.relu2_low");
    const qe_node_info *add = &graph->node[qe_graph_find_node(graph, "stage1.1.add")];
    assert_int_equal(add->input[1], wide);
    assert_int_equal(qe_graph_bits(graph, wide), asked[i].residual);
    assert_int_equal(input_bits(graph, "stage1.1.conv1"), 4);
    assert_true((low >= 0) == (asked[i].shift != -1));
    if (asked[i].shift > 0) {
      const qe_node_info *a = &graph->node[wide], *b = &graph->node[low];
      assert_int_equal(a->quantizer.step_shift, asked[i].shift);
      assert_int_equal(b->quantizer.step_shift, 0);
      assert_true(b->quantizer.round_up && !a->quantizer.round_up);
      assert_int_equal(a->param[QE_QUANT_STEP], b->param[QE_QUANT_STEP]);
      assert_int_equal(b->input[0], wide);
    }
    /* nobody reads a low code of the last block */
    assert_int_equal(qe_graph_find_node(graph, "stage3.2.relu2_low"), -1);
    qe_graph_free(graph);
  }
}

static void exceptions_by_layer(void **state) {
  (void)state;
  qe_model_spec spec = quantized("resnet20", 4, 4);
  spec.bits.layers = "stage1.0.conv1=w3a2,fc=w6,stage2.1.conv2=a7,stage3.0.conv1=a5w2,conv1=w32";
  qe_graph *graph = build(&spec);
  assert_int_equal(weight_bits(graph, "stage1.0.conv1"), 3);
  assert_int_equal(input_bits(graph, "stage1.0.conv1"), 2);
  assert_int_equal(weight_bits(graph, "fc"), 6);
  assert_int_equal(input_bits(graph, "fc"), 8);
  assert_int_equal(weight_bits(graph, "stage2.1.conv2"), 4);
  assert_int_equal(input_bits(graph, "stage2.1.conv2"), 7);
  assert_int_equal(weight_bits(graph, "stage3.0.conv1"), 2);
  assert_int_equal(input_bits(graph, "stage3.0.conv1"), 5);
  assert_int_equal(weight_bits(graph, "conv1"), 32);
  assert_int_equal(weight_bits(graph, "stage1.1.conv1"), 4);
  assert_int_equal(input_bits(graph, "stage1.1.conv1"), 4);
  qe_graph_free(graph);

  spec = qe_model_default("mlp"); /* a float network with one quantised layer */
  spec.bits.layers = "fc2=w2a3";
  graph = build(&spec);
  assert_int_equal(weight_bits(graph, "fc2"), 2);
  assert_int_equal(input_bits(graph, "fc2"), 3);
  assert_int_equal(weight_bits(graph, "fc1"), 32);
  qe_graph_free(graph);
}

static void bad_specs_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *layers, *text;
  } lists[] = {
      {"nosuch=w4", "'nosuch'"},
      {"bn1=w4", "'bn1'"},
      {"relu1=a4", "'relu1'"},
      {"conv1", "'conv1'"},
      {"conv1=", "'conv1='"},
      {"conv1=w", "'conv1=w'"},
      {"conv1=x4", "'conv1=x4'"},
      {"conv1=4", "'conv1=4'"},
      {"conv1=w4a", "'conv1=w4a'"},
      {"conv1=w9", "9"},
      {"conv1=w0", "'conv1=w0'"},
      {"fc=a16", "16"},
      {"conv1=a4", "8 bits"},
      {"stage2.0.shortcut=a2", "4 bits"},
      {"=w4", "''"},
      {"fc=w4,,conv1=w4", "''"},
      {"conv1=w4 ", "'conv1=w4 '"},
  };
  qe_graph *graph = NULL;
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
    qe_model_spec spec = quantized("resnet20", 4, 4);
    spec.bits.layers = lists[i].layers;
    spec.shortcut = 'B';
    FAILS(QE_USAGE, qe_model_build(&spec, &graph), lists[i].text);
    assert_non_null(strstr(qe_message(), "model resnet20"));
  }
  static const int bad[] = {0, 9, 16, -1, 33};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    qe_model_spec spec = quantized("resnet20", bad[i], 4);
    FAILS(QE_USAGE, qe_model_build(&spec, &graph), "weight bits");
    spec = quantized("resnet20", 4, bad[i]);
    FAILS(QE_USAGE, qe_model_build(&spec, &graph), "activation bits");
    spec = quantized("resnet20", 4, 4);
    spec.bits.residual = bad[i];
    FAILS(QE_USAGE, qe_model_build(&spec, &graph), "residual bits");
    spec = quantized("resnet20", 4, 4);
    spec.bits.edges = bad[i] ? bad[i] : 10;
    FAILS(QE_USAGE, qe_model_build(&spec, &graph), "first and last");
  }
  qe_model_spec spec = quantized("resnet20", 4, 4);
  spec.bits.residual = 3;
  FAILS(QE_USAGE, qe_model_build(&spec, &graph), "must not be below the activation bits");
  spec = qe_model_default("resnet20");
  spec.shortcut = 'C';
  FAILS(QE_USAGE, qe_model_build(&spec, &graph), "'C'");
  spec = qe_model_default("resnet20");
  spec.classes = 1;
  FAILS(QE_USAGE, qe_model_build(&spec, &graph), "1 classes");
  spec = qe_model_default("resnet20");
  spec.height = 0;
  FAILS(QE_SHAPE, qe_model_build(&spec, &graph), "input");
  assert_null(graph);
}

static void steps_per_channel(void **state) {
  (void)state;
  qe_model_spec spec = quantized("resnet20", 4, 4);
  spec.bits.per_channel = true;
  qe_graph *graph = build(&spec);
  int weight_steps = 0, activation_steps = 0;
  for (size_t i = 0; i < graph->params; i++) {
    const qe_param *param = &graph->param[i];
    if (!strstr(param->name, "step")) continue;
    bool of_weight = strstr(param->name, "weight_step") != NULL;
    weight_steps += of_weight;
    activation_steps += !of_weight;
    assert_int_equal(qe_count(&param->desc), of_weight ? graph->node[param->node].output.dim[QE_C] : 1);
  }
  assert_int_equal(weight_steps, 20);
  assert_int_equal(activation_steps, 20); /* a stream's two codes share theirs; 9 inner, 10 streams, the pool's */
  qe_graph_free(graph);
}

/* ---- initial values ---- */

static void initial_weights(void **state) {
  (void)state;
  qe_model_spec spec = quantized("resnet20", 4, 4), deeper = quantized("resnet32", 4, 4);
  qe_model *a, *b, *c, *d;
  OK(qe_model_new(&spec, 1, &a));
  OK(qe_model_new(&spec, 1, &b));
  OK(qe_model_new(&spec, 2, &c));
  OK(qe_model_new(&deeper, 1, &d));
  assert_true(same_values(a, b));
  assert_false(same_values(a, c));
  for (size_t i = 0; i < a->graph->params; i++) {
    const qe_param *param = &a->graph->param[i];
    const float *values = qe_model_values(a, (int)i);
    int64_t count = qe_count(&param->desc);
    int same = qe_graph_find_param(d->graph, param->name); /* draws go by name */
    if (same >= 0 && qe_same_desc(&d->graph->param[same].desc, &param->desc))
      assert_memory_equal(values, qe_model_values(d, same), (size_t)count * sizeof(float));
    assert_false(param->initialised);
    if (param->group == QE_GROUP_WEIGHT) { /* within 5 deviations of the mean and the variance 2 / fan in */
      double sum = 0, squares = 0, variance = 2.0 * param->desc.dim[QE_N] / (double)count;
      for (int64_t k = 0; k < count; k++) {
        sum += (double)values[k];
        squares += (double)values[k] * (double)values[k];
      }
      assert_true(fabs(sum / (double)count) < 5 * sqrt(variance / (double)count));
      assert_true(fabs(squares / (double)count / variance - 1) < 5 * sqrt(2.0 / (double)count));
    } else {
      bool zero = strstr(param->name, "bias") || strstr(param->name, "beta") || strstr(param->name, "running_mean");
      for (int64_t k = 0; k < count; k++) assert_true(values[k] == (zero ? 0.0f : 1.0f));
    }
  }
  qe_model_free(a);
  qe_model_free(b);
  qe_model_free(c);
  qe_model_free(d);
  qe_model_free(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(published_counts),        cmocka_unit_test(exact_counts),
      cmocka_unit_test(counts_of_the_others),    cmocka_unit_test(counts_of_vgg_small),
      cmocka_unit_test(pre_activation_streams),  cmocka_unit_test(shapes_of_the_last_layers),
      cmocka_unit_test(the_zoo_lists_its_names), cmocka_unit_test(bits_of_every_layer),
      cmocka_unit_test(residual_streams),        cmocka_unit_test(exceptions_by_layer),
      cmocka_unit_test(bad_specs_are_refused),   cmocka_unit_test(steps_per_channel),
      cmocka_unit_test(initial_weights),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
