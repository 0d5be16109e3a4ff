/* Building graphs: shapes of every layer type, errors that stick, parameter layout, costs, dumps. */
#include "core/graph/layers.h"
#include "tests/fixture.h"

static const qe_quantizer floats = {.bits = QE_FLOAT_BITS};
static const qe_quantizer act4 = {.bits = 4, .rule = QE_RULE_LSQ, .grid = QE_GRID_UNSIGNED};

static qe_graph *new_graph(int32_t height, int32_t width, int32_t channels) {
  qe_graph *graph;
  OK(qe_graph_new(&graph));
  qe_node input = qe_graph_input(graph, "input", height, width, channels);
  assert_int_equal(input, 0);
  return graph;
}

static void assert_shape(const qe_graph *graph, qe_node node, int32_t height, int32_t width, int32_t channels) {
  if (node < 0) fail_msg("%s", qe_message());
  const qe_desc *got = &graph->node[node].output;
  qe_desc wanted = qe_map(QE_F32, 1, height, width, channels);
  char first[QE_DESC_TEXT], second[QE_DESC_TEXT];
  if (!qe_same_desc(got, &wanted))
    fail_msg("%s is %s, must be %s", graph->node[node].name, qe_desc_text(got, first), qe_desc_text(&wanted, second));
}

static void shapes_of_every_layer(void **state) {
  (void)state;
  qe_graph *g = new_graph(32, 28, 12);
  const struct {
    qe_window window;
    int32_t height, width;
  } convs[] = {
      {{{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, 16}, 32, 28}, {{{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, 1, 16}, 16, 14},
      {{{7, 5}, {2, 1}, {1, 1}, {3, 2, 3, 2}, 4, 8}, 16, 28},  {{{3, 3}, {1, 1}, {2, 3}, {0, 0, 0, 0}, 12, 24}, 28, 22},
      {{{1, 1}, {3, 3}, {1, 1}, {0, 0, 0, 0}, 1, 5}, 11, 10},  {{{2, 2}, {2, 2}, {1, 1}, {1, 0, 0, 1}, 2, 6}, 16, 14},
  };
  for (size_t i = 0; i < sizeof convs / sizeof *convs; i++) {
    char name[16];
    snprintf(name, sizeof name, "conv%zu", i);
    qe_node conv = qe_graph_conv(g, name, 0, &convs[i].window, i % 2, &floats);
    assert_shape(g, conv, convs[i].height, convs[i].width, convs[i].window.channels);
    const qe_node_info *info = &g->node[conv];
    const qe_desc *weight = &g->param[info->param[QE_CONV_WEIGHT]].desc;
    qe_desc wanted = qe_map(QE_F32, convs[i].window.channels, convs[i].window.kernel[0], convs[i].window.kernel[1],
                            12 / convs[i].window.groups);
    assert_true(qe_same_desc(weight, &wanted));
    assert_true((info->param[QE_CONV_BIAS] >= 0) == (i % 2 == 1));
    assert_int_equal(info->param[QE_CONV_STEP], -1);
  }
  qe_node conv = 1;
  assert_shape(g, qe_graph_batch_norm(g, "bn", conv, 1e-5f, 0.1f), 32, 28, 16);
  assert_shape(g, qe_graph_clamp(g, "relu", conv, 0, INFINITY), 32, 28, 16);
  assert_shape(g, qe_graph_quant(g, "quant", conv, &act4, -1), 32, 28, 16);
  assert_shape(g, qe_graph_add(g, "add", conv, conv), 32, 28, 16);
  assert_shape(g, qe_graph_concat(g, "concat", conv, 0), 32, 28, 28);
  assert_shape(g, qe_graph_max_pool(g, "max", conv, &(qe_window){{3, 2}, {2, 2}, {1, 1}, {1, 0, 1, 0}, 1, 0}), 16, 14,
               16);
  assert_shape(g, qe_graph_avg_pool(g, "avg", conv, &(qe_window){{4, 4}, {4, 3}, {1, 1}, {0, 0, 0, 0}, 1, 0}), 8, 9,
               16);
  assert_shape(g, qe_graph_subsample(g, "sub", conv, 2, 21), 16, 14, 21);
  const qe_node_info *sub = &g->node[qe_graph_find_node(g, "sub")];
  assert_int_equal(sub->attrs.pad_channels[0], 2);
  assert_int_equal(sub->attrs.pad_channels[1], 3);
  assert_shape(g, qe_graph_subsample(g, "sub3", conv, 3, 16), 11, 10, 16);
  qe_node pool = qe_graph_global_pool(g, "pool", conv);
  assert_shape(g, pool, 1, 1, 16);
  assert_shape(g, qe_graph_linear(g, "fc", pool, 10, true, &floats), 1, 1, 10);
  qe_node flat = qe_graph_flatten(g, "flatten", conv);
  assert_shape(g, flat, 1, 1, 32 * 28 * 16);
  assert_shape(g, qe_graph_linear(g, "last", flat, 3, false, &floats), 1, 1, 3);
  assert_int_equal(g->node[conv].consumers, 12); /* the add counts twice */
  OK(qe_graph_finish(g));
  OK(qe_graph_finish(g)); /* once more does no harm */
  qe_graph_free(g);
}

/* ---- errors ---- */

/* A building function that must fail on a fresh graph (input 8x8x4, conv "c" 8x8x6, flat "f"). */
typedef struct bad_node {
  qe_node (*build)(qe_graph *graph);
  qe_status status;
  const char *text[2]; /* both in the message */
} bad_node;

static qe_node bad_duplicate(qe_graph *g) {
  return qe_graph_clamp(g, "c", 0, 0, 1);
}
static qe_node bad_add(qe_graph *g) {
  return qe_graph_add(g, "sum", 0, 1);
}
static qe_node bad_concat(qe_graph *g) {
  return qe_graph_concat(g, "join", 1, 2);
}
static qe_node bad_input(qe_graph *g) {
  return qe_graph_clamp(g, "lost", 99, 0, 1);
}
static qe_node bad_negative(qe_graph *g) {
  return qe_graph_clamp(g, "lost", -1, 0, 1);
}
static qe_node bad_global(qe_graph *g) {
  return qe_graph_global_pool(g, "lost", 99);
}
static qe_node bad_sample(qe_graph *g) {
  return qe_graph_subsample(g, "lost", -1, 2, 8);
}
static qe_node bad_fewer(qe_graph *g) {
  return qe_graph_subsample(g, "narrow", 1, 2, 5);
}
static qe_node bad_stride(qe_graph *g) {
  return qe_graph_subsample(g, "still", 1, 0, 6);
}
static qe_node bad_second_input(qe_graph *g) {
  return qe_graph_input(g, "again", 8, 8, 4);
}
static qe_node bad_linear(qe_graph *g) {
  return qe_graph_linear(g, "square", 1, 10, true, &floats);
}
static qe_node bad_outputs(qe_graph *g) {
  return qe_graph_linear(g, "none", 2, 0, true, &floats);
}
static qe_node bad_kernel(qe_graph *g) {
  qe_window window = qe_square(9, 1, 0, 4);
  return qe_graph_conv(g, "large", 0, &window, false, &floats);
}
static qe_node bad_groups(qe_graph *g) {
  qe_window window = qe_square(3, 1, 1, 6);
  window.groups = 3;
  return qe_graph_conv(g, "grouped", 0, &window, false, &floats);
}
static qe_node bad_zero_groups(qe_graph *g) {
  qe_window window = qe_square(3, 1, 1, 6);
  window.groups = 0;
  return qe_graph_conv(g, "groupless", 0, &window, false, &floats);
}
static qe_node bad_pool(qe_graph *g) {
  qe_window window = qe_square(2, 2, 2, 0);
  return qe_graph_max_pool(g, "padded", 0, &window);
}
static qe_node bad_bits(qe_graph *g) {
  qe_window window = qe_square(3, 1, 1, 6);
  return qe_graph_conv(g, "wide", 0, &window, false, &(qe_quantizer){.bits = 9});
}
static qe_node bad_no_bits(qe_graph *g) {
  return qe_graph_quant(g, "bitless", 0, &(qe_quantizer){.grid = QE_GRID_UNSIGNED}, -1);
}
static qe_node bad_float_quant(qe_graph *g) {
  return qe_graph_quant(g, "float", 0, &floats, -1);
}
static qe_node bad_share(qe_graph *g) {
  return qe_graph_quant(g, "sharing", 0, &act4, 1);
}
static qe_node bad_share_itself(qe_graph *g) {
  return qe_graph_quant(g, "sharing", 0, &act4, 3);
}
static qe_node bad_one_bit(qe_graph *g) {
  return qe_graph_linear(g, "single", 2, 4, false, &(qe_quantizer){.bits = 1, .grid = QE_GRID_SYMMETRIC});
}
static qe_node bad_channels(qe_graph *g) {
  qe_quantizer quantizer = act4;
  quantizer.per_channel = true;
  return qe_graph_quant(g, "channelwise", 0, &quantizer, -1);
}

static const bad_node bad_nodes[] = {
    {bad_duplicate, QE_USAGE, {"two nodes are called c", ""}},
    {bad_add, QE_SHAPE, {"node sum", "f32[1,1,8,8,6]"}},
    {bad_concat, QE_SHAPE, {"node join", "must be"}},
    {bad_input, QE_USAGE, {"node lost", "no node of this graph"}},
    {bad_negative, QE_USAGE, {"node lost", "no node of this graph"}},
    {bad_global, QE_USAGE, {"node lost", "no node of this graph"}},
    {bad_sample, QE_USAGE, {"node lost", "no node of this graph"}},
    {bad_fewer, QE_SHAPE, {"node narrow", "not negative"}},
    {bad_stride, QE_SHAPE, {"node still", "positive"}},
    {bad_second_input, QE_USAGE, {"node again", "first node"}},
    {bad_linear, QE_SHAPE, {"node square", "flatten first"}},
    {bad_outputs, QE_SHAPE, {"node none", "at least one output"}},
    {bad_kernel, QE_SHAPE, {"node large", "does not fit"}},
    {bad_groups, QE_SHAPE, {"node grouped", "multiples of the groups"}},
    {bad_zero_groups, QE_SHAPE, {"node groupless", "multiples of the groups"}},
    {bad_pool, QE_SHAPE, {"node padded", "touch the image"}},
    {bad_bits, QE_USAGE, {"node wide", "9 bits"}},
    {bad_no_bits, QE_USAGE, {"node bitless", "0 bits"}},
    {bad_float_quant, QE_USAGE, {"node float", "32 bits"}},
    {bad_share, QE_USAGE, {"node sharing", "no quantiser"}},
    {bad_share_itself, QE_USAGE, {"node sharing", "no quantiser"}},
    {bad_one_bit, QE_USAGE, {"node single", "1 bit"}},
    {bad_channels, QE_USAGE, {"node channelwise", "per channel"}},
};

/* The failure sticks: what is built later returns -1 and changes nothing, and finish repeats the first message. */
static void errors_name_the_node_and_stick(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof bad_nodes / sizeof *bad_nodes; i++) {
    const bad_node *bad = &bad_nodes[i];
    qe_graph *g = new_graph(8, 8, 4);
    qe_window window = qe_square(3, 1, 1, 6);
    assert_int_equal(qe_graph_conv(g, "c", 0, &window, false, &floats), 1);
    assert_int_equal(qe_graph_flatten(g, "f", 1), 2);
    assert_int_equal(bad->build(g), -1);
    qe_message_clear();
    qe_node later = qe_graph_clamp(g, "later", 0, 0, 1);
    assert_int_equal(qe_graph_batch_norm(g, "bn", later, 1e-5f, 0.1f), -1);
    assert_int_equal(qe_graph_global_pool(g, "gp", later), -1);
    assert_int_equal(qe_graph_linear(g, "fc", later, 10, true, &floats), -1);
    assert_int_equal(qe_graph_quant(g, "q", later, &act4, -1), -1);
    FAILS(bad->status, qe_graph_finish(g), bad->text[0]);
    FAILS(bad->status, qe_graph_finish(g), bad->text[1]);
    qe_graph_free(g);
  }
}

static void odd_graphs_are_refused(void **state) {
  (void)state;
  qe_graph *g;
  OK(qe_graph_new(&g));
  FAILS(QE_USAGE, qe_graph_finish(g), "no node");
  assert_int_equal(qe_graph_input(g, "flat", 0, 8, 3), -1);
  FAILS(QE_SHAPE, qe_graph_finish(g), "node flat");
  qe_graph_free(g);

  g = new_graph(4, 4, 1);
  OK(qe_graph_finish(g));
  assert_int_equal(qe_graph_clamp(g, "tardy", 0, 0, 1), -1);
  assert_non_null(strstr(qe_message(), "tardy comes too late"));
  qe_graph_free(g);
  qe_graph_free(NULL);
}

/* ---- parameters ---- */

static qe_graph *quantized_net(bool per_channel, qe_rule rule) {
  qe_dataset data = {.height = 8, .width = 8, .channels = 3, .classes = 5};
  net_options options = {
      .weight_bits = 3, .act_bits = 4, .weight_rule = rule, .act_rule = rule, .per_channel = per_channel};
  return residual_net(&data, &options);
}

static void parameters_lie_in_groups(void **state) {
  (void)state;
  for (int rule = 0; rule < QE_RULES; rule++) {
    for (int per_channel = 0; per_channel < 2; per_channel++) {
      qe_graph *g = quantized_net(per_channel, (qe_rule)rule);
      bool learned = rule == QE_RULE_LSQ || rule == QE_RULE_PACT;
      for (size_t i = 0; i < g->params; i++) {
        const qe_param *param = &g->param[i];
        bool is_step = strstr(param->name, "step") != NULL;
        size_t end = param->offset + qe_bytes(&param->desc);
        assert_int_equal(param->offset % 64, 0);
        assert_true(param->offset >= g->group_offset[param->group] && end <= g->group_offset[param->group + 1]);
        assert_int_equal(qe_graph_find_param(g, param->name), i);
        for (size_t k = 0; k < i; k++) {
          const qe_param *other = &g->param[k];
          assert_true(other->offset >= end || other->offset + qe_bytes(&other->desc) <= param->offset);
        }
        if (strstr(param->name, "weight_step")) { /* PACT's weights have a fixed step */
          assert_int_equal(param->group, rule == QE_RULE_LSQ ? QE_GROUP_STEP : QE_GROUP_STATE);
          assert_int_equal(qe_count(&param->desc), per_channel ? (strstr(param->name, "fc") ? 5 : 8) : 1);
        } else if (is_step) {
          assert_int_equal(param->group, learned ? QE_GROUP_STEP : QE_GROUP_STATE);
          assert_int_equal(qe_count(&param->desc), 1);
        }
        if (strstr(param->name, "running")) assert_int_equal(param->group, QE_GROUP_STATE);
        if (strstr(param->name, "gamma") || strstr(param->name, "beta") || strstr(param->name, ".bias"))
          assert_int_equal(param->group, QE_GROUP_SCALE);
        if (strstr(param->name, ".weight") && !is_step) assert_int_equal(param->group, QE_GROUP_WEIGHT);
      }
      assert_int_equal(g->group_offset[0], 0);
      assert_int_equal(g->group_offset[QE_GROUPS], qe_graph_param_bytes(g));
      assert_int_equal(qe_graph_find_param(g, "nothing"), -1);
      assert_int_equal(qe_graph_find_node(g, "nothing"), -1);
      qe_graph_free(g);
    }
  }
}

static void quantisers_share_a_step(void **state) {
  (void)state;
  qe_graph *g = quantized_net(false, QE_RULE_LSQ);
  const qe_node_info *wide = &g->node[qe_graph_find_node(g, "wide")], *low = &g->node[qe_graph_find_node(g, "low")];
  assert_int_equal(wide->param[QE_QUANT_STEP], low->param[QE_QUANT_STEP]);
  assert_true(qe_graph_find_param(g, "wide.step") >= 0);
  assert_int_equal(qe_graph_find_param(g, "low.step"), -1);
  assert_int_equal(qe_graph_bits(g, qe_graph_find_node(g, "wide")), 6);
  assert_int_equal(qe_graph_bits(g, qe_graph_find_node(g, "low")), 4);
  qe_graph_free(g);
}

static void ranges_of_grids(void **state) {
  (void)state;
  static const struct {
    qe_grid grid;
    int bits, low, high;
  } known[] = {
      {QE_GRID_SYMMETRIC, 2, -1, 1},  {QE_GRID_SYMMETRIC, 8, -127, 127}, {QE_GRID_SIGNED, 2, -2, 1},
      {QE_GRID_SIGNED, 8, -128, 127}, {QE_GRID_ODD, 1, -1, 1},           {QE_GRID_ODD, 2, -3, 3},
      {QE_GRID_ODD, 8, -255, 255},    {QE_GRID_UNSIGNED, 1, 0, 1},       {QE_GRID_UNSIGNED, 4, 0, 15},
      {QE_GRID_UNSIGNED, 8, 0, 255},
  };
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    int32_t low, high;
    qe_grid_range(known[i].grid, known[i].bits, &low, &high);
    assert_int_equal(low, known[i].low);
    assert_int_equal(high, known[i].high);
  }
}

/* ---- costs and dumps ---- */

static void costs_of_a_network(void **state) {
  (void)state;
  qe_graph *g = quantized_net(true, QE_RULE_LSQ);
  qe_cost conv = qe_graph_cost(g, qe_graph_find_node(g, "conv2")), fc = qe_graph_cost(g, qe_graph_find_node(g, "fc"));
  assert_int_equal(conv.params, 8 * 9 * 8);
  assert_int_equal(conv.macs, 8 * 9 * 8 * 64);
  assert_int_equal(conv.bit_ops, conv.macs * 3 * 4);
  assert_int_equal(conv.bits, conv.params * 3);
  assert_int_equal(fc.params, 8 * 5 + 5);
  assert_int_equal(fc.bits, 8 * 5 * 3 + 5 * 32);
  qe_cost first = qe_graph_cost(g, qe_graph_find_node(g, "conv1")), all = qe_graph_cost(g, -1);
  assert_int_equal(first.bit_ops, 3 * 9 * 8 * 64 * 3 * 8); /* 8-bit images */
  assert_int_equal(all.params, first.params + conv.params + fc.params + 4 * 8);
  assert_int_equal(all.macs, first.macs + conv.macs + fc.macs);
  qe_graph_free(g);
}

static int count_lines(FILE *file, const char *with) {
  char line[1024];
  int count = 0;
  rewind(file);
  while (fgets(line, sizeof line, file)) count += strstr(line, with) != NULL;
  return count;
}

static void text_dump(void **state) {
  (void)state;
  qe_graph *g = quantized_net(true, QE_RULE_LSQ);
  FILE *file = tmpfile();
  assert_non_null(file);
  qe_graph_dump(g, file);
  assert_int_equal(count_lines(file, ""), g->nodes);
  for (size_t i = 0; i < g->nodes; i++) {
    char start[64];
    snprintf(start, sizeof start, "%s = %s(", g->node[i].name, g->node[i].layer->name);
    assert_int_equal(count_lines(file, start), 1);
  }
  assert_int_equal(count_lines(file, "bits=3 rule=lsq grid=signed per_channel"), 3);
  assert_int_equal(count_lines(file, "bits=6 rule=lsq grid=unsigned step_shift=2\n"), 1);
  assert_int_equal(
      count_lines(file, "low = quant(wide) shape=8x8x8 bits=4 rule=lsq grid=unsigned round_up step=wide.step"), 1);
  assert_int_equal(count_lines(file, "kernel=3x3 stride=1x1 pad=1,1,1,1"), 2);
  fclose(file);
  qe_graph_free(g);
}

static void graphviz_dump(void **state) {
  (void)state;
  qe_graph *g = quantized_net(false, QE_RULE_LSQ);
  char folder[FIXTURE_PATH], path[FIXTURE_PATH + 16], command[4 * FIXTURE_PATH];
  folder_new(folder);
  snprintf(path, sizeof path, "%s/net.dot", folder);
  FILE *file = fopen(path, "w+");
  assert_non_null(file);
  qe_graph_dot(g, file);
  assert_int_equal(count_lines(file, "label="), g->nodes);
  assert_int_equal(count_lines(file, "->"), g->nodes); /* each node but the input has one, the add two */
  assert_int_equal(count_lines(file, "3 bits"), 3);
  assert_int_equal(fclose(file), 0);
  int found = system("command -v dot >/dev/null 2>&1"), parsed = 0;
  if (found == 0) {
    snprintf(command, sizeof command, "dot -Tcanon -o %s/out %s 2> %s/errors", folder, path, folder);
    parsed = system(command);
  }
  folder_remove(folder);
  qe_graph_free(g);
  assert_int_equal(parsed, 0);
  if (found != 0) skip();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shapes_of_every_layer),   cmocka_unit_test(errors_name_the_node_and_stick),
      cmocka_unit_test(odd_graphs_are_refused),  cmocka_unit_test(parameters_lie_in_groups),
      cmocka_unit_test(quantisers_share_a_step), cmocka_unit_test(ranges_of_grids),
      cmocka_unit_test(costs_of_a_network),      cmocka_unit_test(text_dump),
      cmocka_unit_test(graphviz_dump),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
