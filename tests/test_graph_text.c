/* Descriptions of networks: the whole zoo to text and back, what a description may leave open, places and suggestions
 * of errors, damaged text, and model files that carry their description. */
#include "core/graph/layers.h"
#include "core/graph/text.h"
#include "core/train/trainer.h"
#include "tests/saved.h"

static const qe_text_values usual = {
    .height = 8,
    .width = 8,
    .channels = 3,
    .classes = 5,
    .bits = {[QE_TEXT_WEIGHT] = 3, [QE_TEXT_ACT] = 4, [QE_TEXT_FIRST_LAST] = 8, [QE_TEXT_RESIDUAL] = 6}};

static char *text_of(const qe_graph *graph) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *file = open_memstream(&text, &bytes);
  assert_non_null(file);
  qe_graph_dump(graph, file);
  assert_int_equal(fclose(file), 0);
  return text;
}

static qe_status read_text(const char *text, qe_graph **graph) {
  unsigned used;
  return qe_graph_read_text("a.net", text, strlen(text), &usual, &used, graph);
}

/* ---- there and back ---- */

static bool same_quantizer(const qe_node_info *a, const qe_node_info *b) {
  const qe_quantizer *p = &a->quantizer, *q = &b->quantizer;
  if (p->bits == QE_FLOAT_BITS || p->bits == 0) return p->bits == q->bits;
  return p->bits == q->bits && p->rule == q->rule && p->grid == q->grid && p->per_channel == q->per_channel &&
         p->step_shift == q->step_shift && p->round_up == q->round_up;
}

static void check_same(const qe_graph *a, const qe_graph *b) {
  assert_int_equal(a->nodes, b->nodes);
  assert_int_equal(a->params, b->params);
  for (size_t i = 0; i < a->nodes; i++) {
    const qe_node_info *p = &a->node[i], *q = &b->node[i];
    assert_string_equal(p->name, q->name);
    assert_ptr_equal(p->layer, q->layer);
    assert_memory_equal(p->input, q->input, sizeof p->input);
    assert_memory_equal(p->param, q->param, sizeof p->param);
    assert_true(qe_same_desc(&p->output, &q->output));
    assert_true(same_quantizer(p, q));
    assert_int_equal(p->consumers, q->consumers);
    assert_memory_equal(p->attrs.pad_channels, q->attrs.pad_channels, sizeof p->attrs.pad_channels);
    assert_memory_equal(p->attrs.window.pad, q->attrs.window.pad, sizeof p->attrs.window.pad);
    assert_true(p->attrs.window.groups == q->attrs.window.groups || p->layer != &qe_layer_conv);
  }
  for (size_t i = 0; i < a->params; i++) {
    assert_string_equal(a->param[i].name, b->param[i].name);
    assert_int_equal(a->param[i].group, b->param[i].group);
    assert_int_equal(a->param[i].offset, b->param[i].offset);
    assert_true(qe_same_desc(&a->param[i].desc, &b->param[i].desc));
  }
}

static void check_round_trip(const qe_graph *graph) {
  qe_graph *again = NULL;
  char *text = text_of(graph);
  OK(read_text(text, &again));
  char *second = text_of(again);
  assert_string_equal(text, second);
  check_same(graph, again);
  free(text);
  free(second);
  qe_graph_free(again);
}

static void the_zoo_survives_its_text(void **state) {
  (void)state;
  static const int bits[][3] = {{32, 32, 8}, {4, 4, 8}, {2, 3, 32}, {1, 1, 4}, {8, 8, 8}};
  for (int m = 0; qe_model_name(m); m++)
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
      qe_model_spec spec = qe_model_default(qe_model_name(m));
      spec.shortcut = i % 2 ? 'B' : 'A';
      spec.bits.weights = bits[i][0];
      spec.bits.activations = bits[i][1];
      spec.bits.residual = bits[i][2];
      spec.bits.per_channel = i == 2;
      spec.bits.weight_rule = i == 1 ? QE_RULE_L2_ODD : QE_RULE_LSQ;
      qe_graph *graph;
      OK(qe_model_build(&spec, &graph));
      check_round_trip(graph);
      qe_graph_free(graph);
    }
}

/* Every layer and key that the zoo does not have. */
static void odd_networks_survive_their_text(void **state) {
  (void)state;
  static const char odd[] =
      "x = input() shape=9x7x4 # an image\r\n"
      "\n"
      "  a=conv( x )channels=6 kernel=3x2 stride=2x1 pad=1,0,1,1 groups=2 bias bits=32\n"
      "b = conv(x) bits=2 rule=l2-odd grid=odd per_channel kernel=3 channels=6 stride=2x1 pad=1 dilation=1\n"
      "c = concat(a, b) shape=5x7x12\n"
      "d = batch_norm(c) epsilon=1e-3 momentum=0.30000001\n"
      "e = clamp(d) low=-1.5 high=inf\n"
      "f = subsample(e) channels=17 stride=2\n"
      "g = relu(f)\n"
      "h = max_pool(g) kernel=2 stride=1 pad=1,0,0,1\n"
      "i = quant(h) bits=4 rule=pact grid=signed step_shift=3\n"
      "j = quant(i) bits=3 round_up step=i.step\n"
      "k = add(i, j)\n"
      "l = global_pool(k)\n"
      "m = flatten(l)\n"
      "n = linear(m) channels=4 bias\n"
      "o = linear(n) channels=classes";
  qe_graph *graph = NULL;
  OK(read_text(odd, &graph));
  check_round_trip(graph);
  char *written = text_of(graph);
  assert_memory_equal(written, "x = input() shape=9x7x4\n", 24);
  assert_non_null(
      strstr(written, "a = conv(x) shape=5x7x6 channels=6 kernel=3x2 stride=2x1 pad=1,0,1,1 groups=2 bias bits=32\n"));
  assert_non_null(strstr(written, "d = batch_norm(c) shape=5x7x12 epsilon=0.001 momentum=0.3\n"));
  assert_non_null(strstr(written, "g = clamp(f) shape=3x4x17 low=0 high=inf\n"));
  assert_non_null(strstr(written, "j = quant(i) shape=3x4x17 bits=3 rule=lsq grid=unsigned round_up step=i.step\n"));
  assert_non_null(strstr(written, "o = linear(n) shape=1x1x5 channels=5 bits=3 rule=lsq grid=signed\n"));
  free(written);
  qe_graph_free(graph);
}

/* ---- what a description leaves open ---- */

static const char open_net[] = "input = input()\n"
                               "conv1 = conv(input) channels=8 kernel=3 pad=1 bits=first-last\n"
                               "bn1 = batch_norm(conv1)\n"
                               "relu1 = quant(bn1) bits=residual\n"
                               "low1 = quant(relu1)\n"
                               "conv2 = conv(low1) channels=8 kernel=3 pad=1\n"
                               "bn2 = batch_norm(conv2)\n"
                               "add = add(bn2, relu1)\n"
                               "relu2 = quant(add)\n"
                               "pool = global_pool(relu2)\n"
                               "codes = quant(pool) bits=first-last\n"
                               "fc = linear(codes) channels=classes bias bits=first-last\n";

static const qe_quantizer *quantizer_of(const qe_graph *graph, const char *node) {
  return &graph->node[qe_graph_find_node(graph, node)].quantizer;
}

static void bits_that_are_left_open(void **state) {
  (void)state;
  qe_text_values values = usual;
  values.act_rule = QE_RULE_PACT;
  values.per_channel = true;
  qe_graph *graph;
  unsigned used;
  OK(qe_graph_read_text("open", open_net, strlen(open_net), &values, &used, &graph));
  assert_int_equal(used, 15);
  assert_int_equal(quantizer_of(graph, "conv1")->bits, 8);
  assert_int_equal(quantizer_of(graph, "relu1")->bits, 6);
  assert_int_equal(quantizer_of(graph, "low1")->bits, 4);
  assert_int_equal(quantizer_of(graph, "low1")->rule, QE_RULE_PACT);
  assert_int_equal(quantizer_of(graph, "conv2")->bits, 3);
  assert_true(quantizer_of(graph, "conv2")->per_channel);
  assert_int_equal(quantizer_of(graph, "codes")->bits, 8);
  assert_int_equal(graph->node[qe_graph_output(graph)].output.dim[QE_C], 5);
  check_round_trip(graph); /* then all of it is said */
  qe_graph_free(graph);

  values.bits[QE_TEXT_WEIGHT] = values.bits[QE_TEXT_ACT] = QE_FLOAT_BITS;
  OK(qe_graph_read_text("open", open_net, strlen(open_net), &values, &used, &graph));
  for (size_t i = 0; i < graph->nodes; i++) assert_ptr_not_equal(graph->node[i].layer, &qe_layer_quant);
  assert_int_equal(quantizer_of(graph, "fc")->bits, QE_FLOAT_BITS);
  qe_graph_free(graph);
}

/* ---- errors ---- */

static void errors_say_where_and_what_is_near(void **state) {
  (void)state;
  static const struct {
    const char *text, *says;
  } bad[] = {
      {"", "no network"},
      {"# nothing\n\n", "no network"},
      {"x = input() shape=4x4x3\n", "no network"},
      {"x = input() shape=4x4x3\ny = convv(x) channels=2 kernel=3\n",
       "a.net:2:5: no layer is called 'convv'; did you mean conv?"},
      {"x = input() shape=4x4x3\ny = conv(z) channels=2 kernel=3\n",
       "a.net:2:10: no line before this one is called 'z'; did you mean x?"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=2 kernal=3\n",
       "a.net:2:24: conv has no key 'kernal'; did you mean kernel?"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=2\n", "a.net:2:23: conv needs kernel=, but the line ends"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=2 kernel=3 kernel=3\n", "a.net:2:33: kernel is given twice"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=2 kernel=3x\n",
       "a.net:2:33: a number is needed, but the line ends"},
      {"x = input() shape=4x4\n", "a.net:1:22: 3 numbers with 'x', but the line ends"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=2 kernel=3 pad=1,1\n", "4 numbers with ','"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=clases kernel=3\n", "did you mean classes?"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=2 kernel=3 bits=9\n",
       "a.net:2:38: 9 bits: must be 1 to 8, or 32"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=2 kernel=3 bits=weigth\n", "'weigth'; did you mean weight?"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=2 kernel=3 bits=4 rule=lqs\n", "'lqs'; did you mean lsq?"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=2 kernel=3 bits=4 grid=sined\n", "'sined'; did you mean signed?"},
      {"x = input() shape=4x4x3\ny = quant(x) step=x\n", "'x' is no step"},
      {"x = input() shape=4x4x3\ny = quant(x) step=x.step\n",
       "a.net:2:1: node y shares the step of a node that is no quantiser"},
      {"x = input() shape=4x4x3\ny = add(x)\n", "a.net:2:9: add takes 2 inputs, not 1"},
      {"x = input() shape=4x4x3\ny = add(x, x, x)\n", "add takes 2 inputs, not 3"},
      {"x = input() shape=4x4x3\ny = add(x, x\n", "',' or ')' is needed, but the line ends"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=2 kernel=9\n", "a.net:2:1: node y"},
      {"x = input() shape=4x4x3\ny = conv(x) channels=2 kernel=3 groups=2\n", "multiples of the groups"},
      {"x = input() shape=4x4x3\nx = flatten(x)\n", "two nodes are called x"},
      {"x = input() shape=4x4x3\ny = flatten(x) shape=1x1x47\n", "a.net:2:1: y gives 1x1x48, not 1x1x47"},
      {"x = input() shape=4x4x3\ny = clamp(x) low=1 high=0\n", "low must be below high"},
      {"x = input() shape=4x4x3\ny = clamp(x) low=0 high=nan\n", "'nan' is no number"},
      {"x = input() shape=4x4x3\ny = subsample(x) channels=4 stride=1x2\n", "one stride"},
      {"x = input() shape=4x4x3\ny = quant(x) step_shift=17\n", "step_shift"},
      {"x = input() shape=4x4x3\ny = flatten(x)\nz = flatten(x)\n", "nothing reads y"},
      {"x = input() shape=4x4x3\ny = relu(x)\n", "the last node, y, gives the logits"},
      {"x = input() shape=4x4x9999999\n", "a.net:1:23: a number above"},
      {"x input() shape=4x4x3\n", "a.net:1:3: '=' is needed behind the name, but 'i' stands here"},
      {"x = input() shape=4x4x3,\n", "a blank is needed behind a value, but ',' stands here"},
      {"x = input() \x01\n", "byte 0x01 stands here"},
      {"conv1 = conv(input) channels=2 kernel=1\n", "'input'"},
      {"x = input() shape=1x1x1048576\ny = linear(x) channels=1048576\nz = linear(y) channels=2",
       "more than 2^30 parameters"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    qe_graph *graph = NULL;
    FAILS(QE_FORMAT, read_text(bad[i].text, &graph), bad[i].says);
    assert_null(graph);
  }
  char word[200] = "x";
  memset(word + 1, 'y', 150);
  qe_graph *graph = NULL;
  FAILS(QE_FORMAT, read_text(word, &graph), "a.net:1:1: a word of more than");
}

/* Bytes changed, inserted and cut: an error or a graph, and never anything else. Text need not end in a 0. */
static void damaged_text_is_refused(void **state) {
  (void)state;
  enum { TRIALS = 4000 };
  draws from = {5, 0};
  size_t bytes = strlen(open_net), read = 0;
  for (int trial = 0; trial < TRIALS; trial++) {
    size_t length = (size_t)draw_range(&from, 0, (int32_t)bytes);
    if (trial % 2) length = bytes;
    char *text = malloc(length ? length : 1);
    assert_non_null(text);
    memcpy(text, open_net, length);
    for (int k = draw_range(&from, 0, 3); k > 0 && length; k--) {
      size_t at = (size_t)draw_range(&from, 0, (int32_t)length - 1),
             other = (size_t)draw_range(&from, 0, (int32_t)length - 1);
      text[at] = draw_range(&from, 0, 1) ? text[other] : (char)draw_range(&from, 0, 255);
    }
    qe_graph *graph = NULL;
    unsigned used;
    if (qe_graph_read_text("a.net", text, length, &usual, &used, &graph) == QE_OK) {
      read++;
      qe_graph_free(graph);
    }
    free(text);
  }
  assert_true(read > 0 && read < TRIALS);
}

/* Each allocation of a reading fails once; nothing leaks and the last reading succeeds. */
static void memory_that_is_not_there(void **state) {
  (void)state;
  for (int64_t nth = 1;; nth++) {
    qe_graph *graph = NULL;
    qe_alloc_fail_nth(nth);
    qe_status status = read_text(open_net, &graph);
    qe_alloc_fail_nth(0);
    if (status == QE_OK) {
      assert_true(nth > 10);
      qe_graph_free(graph);
      return;
    }
    assert_int_equal(status, QE_NO_MEMORY);
    assert_null(graph);
  }
}

/* ---- models ---- */

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
}

static void models_carry_their_description(void **state) {
  (void)state;
  qe_model_spec spec = small_spec(4);
  unsigned used;
  char *text;
  write_file(path_of("open.net"), open_net);
  OK(qe_model_read_net(path_of("open.net"), &spec, &used, &text));
  assert_string_equal(spec.name, "open.net");
  assert_int_equal(spec.bits.weights, 4);
  qe_model *model, *back;
  OK(qe_model_new(&spec, 3, &model));
  qe_free(text);
  for (size_t i = 0; i < model->graph->params; i++) model->graph->param[i].initialised = true;
  save(model, "described.safetensors");
  OK(qe_model_read(path_of("described.safetensors"), &back, NULL));
  assert_string_equal(back->spec.net, open_net);
  check_same(model->graph, back->graph);
  assert_true(same_values(model, back));
  qe_model_free(model);
  qe_model_free(back);

  write_file(path_of("other.net"),
             "x = input() shape=4x4x3\ny = flatten(x)\nz = linear(y) channels=5 bits=2 rule=lsq grid=signed\n");
  spec = small_spec(4);
  FAILS(QE_SHAPE, qe_model_read_net(path_of("other.net"), &spec, &used, &text), "4x4x3");
  spec.height = spec.width = 4;
  spec.channels = 3;
  spec.classes = 5;
  OK(qe_model_read_net(path_of("other.net"), &spec, &used, &text));
  assert_int_equal(used, 0);
  assert_int_equal(spec.bits.weights, 2); /* what it says, not what was asked for */
  assert_int_equal(spec.bits.activations, QE_FLOAT_BITS);
  spec.bits.layers = "z=w3";
  qe_graph *graph;
  FAILS(QE_USAGE, qe_model_build(&spec, &graph), "write bits= there");
  qe_free(text);
  FAILS(QE_NOT_FOUND, qe_model_read_net(path_of("nosuch.net"), &spec, &used, &text), "nosuch.net");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_zoo_survives_its_text),      cmocka_unit_test(odd_networks_survive_their_text),
      cmocka_unit_test(bits_that_are_left_open),        cmocka_unit_test(errors_say_where_and_what_is_near),
      cmocka_unit_test(damaged_text_is_refused),        cmocka_unit_test(memory_that_is_not_there),
      cmocka_unit_test(models_carry_their_description),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
