/* Bits of layers: places of networks, text and file; what they cost against the built network; budgets and tables. */
#include "core/models/allocation.h"
#include "core/models/bit_cost.h"
#include "core/models/latency_file.h"
#include "tests/failing.h"
#include "tests/saved.h"

static qe_model_spec quantized(const char *name, int weights, int activations) {
  qe_model_spec spec = qe_model_default(name);
  spec.bits.weights = weights;
  spec.bits.activations = activations;
  return spec;
}

static const qe_bit_place *place_of(const qe_bit_map *map, const char *layer, char letter) {
  for (int32_t p = 0; p < map->places; p++)
    if (map->place[p].letter == letter && strcmp(map->place[p].layer, layer) == 0) return &map->place[p];
  fail_msg("no place %s %c", layer, letter);
  return NULL;
}

static void write_text(const char *name, const char *text) {
  OK(qe_file_write(path_of(name), text, strlen(text)));
}

/* ---- places ---- */

static void places_of_resnet20(void **state) {
  (void)state;
  qe_model_spec spec = quantized("resnet20", 3, 4);
  qe_bit_map *map;
  OK(qe_bit_map_new(&spec, &map));
  assert_int_equal(map->layers, 20);
  assert_int_equal(map->places, 40); /* every layer reads a code of its own */
  int32_t open = 0, edges = 0;
  for (int32_t p = 0; p < map->places; p++) {
    open += map->place[p].open;
    edges += map->place[p].edge;
    assert_int_equal(map->place[p].least, 1);
  }
  assert_int_equal(open, 39); /* not the image */
  assert_int_equal(edges, 3); /* weights of the first and last layer, the last one's code */
  assert_false(place_of(map, "conv1", 'a')->open);
  assert_int_equal(place_of(map, "conv1", 'w')->bits, 8);
  assert_int_equal(place_of(map, "stage1.0.conv1", 'w')->bits, 3);
  assert_int_equal(place_of(map, "stage1.0.conv1", 'a')->bits, 4);
  assert_int_equal(place_of(map, "stage1.0.conv1", 'a')->count, 32 * 32 * 16);
  assert_int_equal(place_of(map, "stage3.2.conv2", 'w')->count, 9 * 64 * 64);
  assert_true(place_of(map, "fc", 'a')->edge);
  qe_bit_map_free(map);
}

/* With a 1x1 convolution as shortcut two layers read one code, and one of them decides its bits. */
static void shared_codes(void **state) {
  (void)state;
  qe_model_spec spec = quantized("resnet20", 3, 4);
  spec.shortcut = 'B';
  qe_bit_map *map;
  OK(qe_bit_map_new(&spec, &map));
  assert_int_equal(map->layers, 22);
  assert_int_equal(map->places, 42);
  assert_true(place_of(map, "stage2.0.conv1", 'a')->open);
  qe_bit_map_free(map);
}

/* Signed codes have two bits at least, and what is said of single layers changes nothing of where places are. */
static void signed_codes_and_exceptions(void **state) {
  (void)state;
  qe_model_spec spec = quantized("mobilenet-v2-cifar", 4, 4);
  qe_bit_map *map;
  OK(qe_bit_map_new(&spec, &map));
  int32_t with_sign = 0;
  for (int32_t p = 0; p < map->places; p++) with_sign += map->place[p].open && map->place[p].least == 2;
  assert_true(with_sign > 0);
  qe_bit_map_free(map);

  spec = quantized("mlp", 3, 3);
  spec.bits.layers = "fc1=w5,fc2=a6,fc3=w4";
  OK(qe_bit_map_new(&spec, &map));
  assert_int_equal(place_of(map, "fc1", 'w')->bits, 5);
  assert_int_equal(place_of(map, "fc2", 'a')->bits, 6);
  assert_true(place_of(map, "fc1", 'w')->edge);
  assert_true(place_of(map, "fc3", 'w')->edge);
  assert_false(place_of(map, "fc2", 'w')->edge);
  qe_bit_map_free(map);
}

static void float_and_described_networks(void **state) {
  (void)state;
  qe_model_spec spec = qe_model_default("mlp");
  qe_bit_map *map;
  OK(qe_bit_map_new(&spec, &map));
  for (int32_t p = 0; p < map->places; p++) assert_false(map->place[p].open);
  qe_bit_map_free(map);
  spec.net = "x";
  FAILS(QE_USAGE, qe_bit_map_new(&spec, &map), "says the bits of its layers itself");
}

/* ---- bits drawn at random: text, graph and costs agree ---- */

static void draw_bits(const qe_bit_map *map, uint64_t seed, int32_t *bits) {
  qe_bit_map_default(map, bits);
  for (int32_t p = 0; p < map->places; p++) {
    const qe_bit_place *place = &map->place[p];
    uint32_t word = qe_philox_draw(seed, QE_STREAM_TEST, (uint64_t)p).word[0];
    if (place->open) bits[p] = place->least + (int32_t)qe_below(word, (uint32_t)(9 - place->least));
  }
}

static qe_graph *build_with(const qe_model_spec *spec, const qe_bit_map *map, const int32_t *bits) {
  qe_model_spec own = *spec;
  qe_graph *graph;
  char *text;
  OK(qe_bit_map_text(map, bits, &text));
  own.bits.layers = text;
  OK(qe_model_build(&own, &graph));
  qe_free(text);
  return graph;
}

static void check_draw(const qe_model_spec *spec, const qe_bit_map *map, const qe_bit_costs *costs, uint64_t seed) {
  int32_t bits[512], back[512];
  draw_bits(map, seed, bits);
  qe_graph *graph = build_with(spec, map, bits);
  qe_bit_map_of_graph(map, graph, back);
  for (int32_t p = 0; p < map->places; p++)
    if (back[p] != bits[p])
      fail_msg("%s: %s %c has %d bits, asked for were %d", spec->name, map->place[p].layer, map->place[p].letter,
               back[p], bits[p]);
  qe_cost cost = qe_graph_cost(graph, -1);
  assert_true(qe_bit_cost_of(costs, QE_BIT_COST_BIT_OPS, bits) == (double)cost.bit_ops);
  assert_true(qe_bit_cost_of(costs, QE_BIT_COST_BYTES, bits) == (double)((cost.bits + 7) / 8));
  qe_graph_free(graph);
}

static void costs_are_those_of_the_graph(void **state) {
  (void)state;
  for (int32_t i = 0; qe_model_name(i); i++) {
    const char *name = qe_model_name(i);
    if (strstr(name, "110") || strstr(name, "56") || strstr(name, "44")) continue; /* as their smaller kin */
    qe_model_spec spec = quantized(name, 3, 4);
    qe_bit_map *map;
    qe_bit_costs *costs;
    OK(qe_bit_map_new(&spec, &map));
    OK(qe_bit_costs_new(map, &costs));
    assert_true(map->places <= 512);
    for (uint64_t seed = 0; seed < 4; seed++) check_draw(&spec, map, costs, seed);
    qe_bit_costs_free(costs);
    qe_bit_map_free(map);
  }
}

static void means_leave_edges_out(void **state) {
  (void)state;
  qe_model_spec spec = quantized("resnet20", 3, 4);
  qe_bit_map *map;
  qe_bit_costs *costs;
  int32_t bits[64];
  OK(qe_bit_map_new(&spec, &map));
  OK(qe_bit_costs_new(map, &costs));
  qe_bit_map_default(map, bits);
  assert_true(qe_bit_cost_of(costs, QE_BIT_COST_WEIGHT_BITS, bits) == 3);
  assert_true(qe_bit_cost_of(costs, QE_BIT_COST_ACT_BITS, bits) == 4);
  assert_true(isnan(qe_bit_cost_of(costs, QE_BIT_COST_LATENCY, bits)));
  assert_true(isnan(qe_bit_cost_of(costs, QE_BIT_COST_ENERGY, bits)));
  qe_bit_costs_free(costs);
  qe_bit_map_free(map);
}

/* ---- the file ---- */

static void file_and_back(void **state) {
  (void)state;
  qe_model_spec spec = quantized("resnet20", 3, 4), read = qe_model_default("resnet20");
  qe_bit_map *map;
  qe_graph *graph;
  int32_t bits[64], back[64];
  char *layers = NULL;
  OK(qe_bit_map_new(&spec, &map));
  draw_bits(map, 7, bits);
  OK(qe_bits_file_write(path_of("bits"), map, &spec, bits, "two lines\nof comment"));
  OK(qe_bits_file_read(path_of("bits"), &read, &layers));
  assert_int_equal(read.bits.weights, 3);
  assert_int_equal(read.bits.activations, 4);
  assert_ptr_equal(read.bits.layers, layers);
  OK(qe_model_build(&read, &graph));
  qe_bit_map_of_graph(map, graph, back);
  for (int32_t p = 0; p < map->places; p++) assert_int_equal(back[p], bits[p]);
  qe_graph_free(graph);
  qe_free(layers);
  qe_bit_map_free(map);
}

/* What was said of single layers before stays, and has the first word. */
static void file_beside_layer_bits(void **state) {
  (void)state;
  qe_model_spec spec = quantized("mlp", 3, 3);
  spec.bits.layers = "fc2=w7";
  char *layers = NULL;
  qe_graph *graph;
  write_text("bits", "# a comment\n\nfc2 w2a5 # and one here\nfc1\tw6\r\nothers a4\n");
  OK(qe_bits_file_read(path_of("bits"), &spec, &layers));
  assert_string_equal(layers, "fc2=w7,fc2=w2a5,fc1=w6");
  OK(qe_model_build(&spec, &graph));
  assert_int_equal(graph->node[qe_graph_find_node(graph, "fc2")].quantizer.bits, 7);
  assert_int_equal(graph->node[qe_graph_find_node(graph, "fc1")].quantizer.bits, 6);
  assert_int_equal(spec.bits.weights, 3);
  assert_int_equal(spec.bits.activations, 4);
  qe_graph_free(graph);
  qe_free(layers);
}

static void files_with_faults(void **state) {
  (void)state;
  static const struct {
    const char *text, *message;
    qe_status status;
  } fault[] = {
      {"fc1 w4\nfc22 w3\n",
       "bits:2: mlp has no conv or linear layer called 'fc22'; --dump FILE lists them; did you "
       "mean fc2?",
       QE_USAGE},
      {"fc1 w4\nfc1 a3\n", "bits:2: a second line for fc1", QE_FORMAT},
      {"others w4\nothers w3\n", "bits:2: a second line for 'others'", QE_FORMAT},
      {"fc1 w9\n", "bits:1: fc1: 'w9': write w3, a4 or both, bits 1 to 8 or 32", QE_FORMAT},
      {"fc1 w-1\n", "'w-1': write w3", QE_FORMAT},
      {"fc1 4\n", "'4': write w3", QE_FORMAT},
      {"fc1 w\n", "'w': write w3", QE_FORMAT},
      {"fc1 w4 w4\n", "fc1 has two numbers of bits for its weights", QE_FORMAT},
      {"fc1\n", "'fc1': write LAYER w3 a4", QE_FORMAT},
      {"fc1 a3\n", "bits: model mlp for 32x32 images: layer bits: fc1=a3: the input of that layer has 8 bits",
       QE_USAGE},
      {"fc1=w3\n", "'fc1=w3': write LAYER w3 a4", QE_FORMAT},
  };
  for (size_t i = 0; i < sizeof fault / sizeof *fault; i++) {
    qe_model_spec spec = quantized("mlp", 3, 3);
    char *layers = NULL;
    write_text("bits", fault[i].text);
    FAILS(fault[i].status, qe_bits_file_read(path_of("bits"), &spec, &layers), fault[i].message);
    assert_null(layers);
    assert_null(spec.bits.layers);
    assert_int_equal(spec.bits.weights, 3);
  }
  qe_model_spec spec = quantized("mlp", 3, 3);
  char *layers = NULL;
  FAILS(QE_NOT_FOUND, qe_bits_file_read(path_of("none"), &spec, &layers), "none");
  OK(qe_file_write(path_of("bits"), "fc1 w3\0", 7));
  FAILS(QE_FORMAT, qe_bits_file_read(path_of("bits"), &spec, &layers), "0 byte");
}

/* ---- tables ---- */

static const char *const mlp_layers[] = {"fc1", "fc2", "fc3"};

static qe_cost_origin origin_here(void) {
  return (qe_cost_origin){.machine = "a machine",
                          .backend = "cpu",
                          .device = "a processor",
                          .model = "mlp",
                          .height = 32,
                          .width = 32,
                          .channels = 3};
}

/* Each layer adds 10 us a weight bit and 1 us a code bit, measured at 2 and 6 bits. */
static void write_latency(const char *name, int32_t layers) {
  qe_latency_table table = {.origin = origin_here(), .batch = 256, .base_us = 100};
  for (int32_t i = 0; i < layers; i++)
    for (int32_t weight = 2; weight <= 6; weight += 4)
      for (int32_t code = 2; code <= 6; code += 4)
        OK(qe_latency_add(&table, mlp_layers[i], weight, code, 10.0 * weight + code));
  OK(qe_latency_write(&table, path_of(name)));
  qe_latency_free_rows(&table);
}

typedef struct rig {
  qe_bit_map *map;
  qe_bit_costs *costs;
  int32_t bits[16];
} rig;

static rig open_rig(void) {
  rig r;
  qe_model_spec spec = quantized("mlp", 3, 4);
  OK(qe_bit_map_new(&spec, &r.map));
  OK(qe_bit_costs_new(r.map, &r.costs));
  qe_bit_map_default(r.map, r.bits);
  return r;
}

static void close_rig(rig *r) {
  qe_bit_costs_free(r->costs);
  qe_bit_map_free(r->map);
}

static void latency_between_measured_bits(void **state) {
  (void)state;
  rig r = open_rig();
  qe_cost_origin here = origin_here();
  write_latency("latency", 3);
  OK(qe_bit_costs_take_latency(r.costs, path_of("latency"), &here));
  /* fc1: w8 a8, beyond what was measured, so as w6 a6; fc2: w3 a4; fc3: w8 a8 */
  assert_true(fabs(qe_bit_cost_of(r.costs, QE_BIT_COST_LATENCY, r.bits) - (100 + 66 + 34 + 66)) < 1e-9);
  close_rig(&r);
}

static void tables_of_elsewhere(void **state) {
  (void)state;
  rig r = open_rig();
  qe_cost_origin here[5];
  static const char *const message[] = {"machine 'a machine', this is 'mine'", "backend 'cpu', this is 'cuda'",
                                        "device 'a processor', this is 'mine'", "model 'mlp', this is 'resnet20'",
                                        "images of 32x32x3, these are 28x32x3"};
  for (int i = 0; i < 5; i++) here[i] = origin_here();
  here[0].machine = "mine";
  here[1].backend = "cuda";
  here[2].device = "mine";
  here[3].model = "resnet20";
  here[4].height = 28;
  write_latency("latency", 3);
  for (int i = 0; i < 5; i++)
    FAILS(QE_USAGE, qe_bit_costs_take_latency(r.costs, path_of("latency"), &here[i]), message[i]);
  write_latency("latency", 2);
  qe_cost_origin any = {0};
  FAILS(QE_USAGE, qe_bit_costs_take_latency(r.costs, path_of("latency"), &any), "says nothing of the layer fc3");
  assert_true(isnan(qe_bit_cost_of(r.costs, QE_BIT_COST_LATENCY, r.bits)));
  close_rig(&r);
}

static void damaged_latency_files(void **state) {
  (void)state;
  static const char head[] = "{\"format\":\"qevo-gpu latency 1\",\"machine\":\"m\",\"backend\":\"b\",\"device\":\"d\","
                             "\"model\":\"mlp\",\"height\":32,\"width\":32,\"channels\":3,\"batch\":1,";
  static const struct {
    const char *tail, *message;
  } fault[] = {
      {"\"base_us\":0,\"layers\":[]}", "'base_us' must be above 0"},
      {"\"base_us\":\"1\",\"layers\":[]}", "'base_us' must be a number"},
      {"\"base_us\":1}", "no list 'layers'"},
      {"\"base_us\":1,\"layers\":[{\"layer\":\"fc1\",\"weight_bits\":9,\"code_bits\":1,\"us\":1}]}",
       "row 1 of 'layers'"},
      {"\"base_us\":1,\"layers\":[{\"layer\":\"fc1\",\"weight_bits\":1,\"code_bits\":1}]}", "'us' must be a number"},
      {"\"base_us\":1,\"layers\":[3]}", "row 1 of 'layers'"},
      {"\"base_us\":1,\"layers\":[", "is no JSON object"},
  };
  rig r = open_rig();
  qe_cost_origin any = {0};
  char text[1024];
  for (size_t i = 0; i < sizeof fault / sizeof *fault; i++) {
    snprintf(text, sizeof text, "%s%s", head, fault[i].tail);
    write_text("latency", text);
    FAILS(QE_FORMAT, qe_bit_costs_take_latency(r.costs, path_of("latency"), &any), fault[i].message);
  }
  write_text("latency", "[]");
  FAILS(QE_FORMAT, qe_bit_costs_take_latency(r.costs, path_of("latency"), &any), "is no JSON object");
  write_text("latency", "{}");
  FAILS(QE_FORMAT, qe_bit_costs_take_latency(r.costs, path_of("latency"), &any), "is no latency table");
  close_rig(&r);
}

static void energy_of_lines(void **state) {
  (void)state;
  rig r = open_rig();
  write_text("energy", "* 1 8 1 # picojoules a multiply-add\nfc2 3 4 7\n* 8 8 2.5\n");
  OK(qe_bit_costs_take_energy(r.costs, path_of("energy")));
  double macs = 3072 * 256 + 256 * 10; /* fc1 and fc3, w8 a8 */
  assert_true(fabs(qe_bit_cost_of(r.costs, QE_BIT_COST_ENERGY, r.bits) - (2.5e-3 * macs + 7)) < 1e-6);
  static const struct {
    const char *text, *message;
    qe_status status;
  } fault[] = {{"fc1 1 1\n", "energy:1: write LAYER", QE_FORMAT},
               {"* 1 1 1\nfc1 1 1 -2\n", "energy:2: write LAYER", QE_FORMAT},
               {"fc1 1 1 2 3\n", "energy:1: write LAYER", QE_FORMAT},
               {"* 0 1 2\n", "energy:1: write LAYER", QE_FORMAT},
               {"fc5 1 1 2\n", "energy:1: the network has no layer 'fc5'", QE_USAGE},
               {"fc1 1 1 2\n", "says nothing of the layer fc2", QE_USAGE}};
  for (size_t i = 0; i < sizeof fault / sizeof *fault; i++) {
    write_text("energy", fault[i].text);
    FAILS(fault[i].status, qe_bit_costs_take_energy(r.costs, path_of("energy")), fault[i].message);
  }
  close_rig(&r);
}

/* ---- budgets ---- */

static void budgets_and_penalty(void **state) {
  (void)state;
  rig r = open_rig();
  qe_budgets budgets;
  OK(qe_budgets_read("", r.costs, &budgets));
  assert_int_equal(budgets.count, 0);
  assert_true(qe_budgets_excess(&budgets, r.costs, r.bits) == -1);
  assert_true(qe_budgets_penalty(&budgets, r.costs, r.bits) == 0);
  OK(qe_budgets_read("weight-bits=2,act-bits=w3a5", r.costs, &budgets));
  assert_int_equal(budgets.count, 2);
  assert_true(budgets.budget[1].limit == 5);
  assert_true(fabs(qe_budgets_excess(&budgets, r.costs, r.bits) - 0.5) < 1e-12);
  assert_true(fabs(qe_budgets_penalty(&budgets, r.costs, r.bits) - QE_BUDGET_PRICE * 0.5) < 1e-12);
  OK(qe_budgets_read("bit-ops=w3a4,bytes=w3a4", r.costs, &budgets));
  assert_true(qe_budgets_excess(&budgets, r.costs, r.bits) == 0);
  assert_true(qe_budgets_penalty(&budgets, r.costs, r.bits) == 0);
  close_rig(&r);
}

static void budgets_with_faults(void **state) {
  (void)state;
  rig r = open_rig();
  qe_budgets budgets;
  FAILS(QE_USAGE, qe_budgets_read("weight-bit=3", r.costs, &budgets), "did you mean weight-bits?");
  FAILS(QE_USAGE, qe_budgets_read("bytes", r.costs, &budgets), "write COST=LIMIT");
  FAILS(QE_USAGE, qe_budgets_read("bytes=", r.costs, &budgets), "must be a number above 0");
  FAILS(QE_USAGE, qe_budgets_read("bytes=-1", r.costs, &budgets), "must be a number above 0");
  FAILS(QE_USAGE, qe_budgets_read("bytes=1k", r.costs, &budgets), "must be a number above 0");
  FAILS(QE_USAGE, qe_budgets_read("bytes=w9a1", r.costs, &budgets), "write COST=w3a4");
  FAILS(QE_USAGE, qe_budgets_read("act-bits=3,act-bits=4", r.costs, &budgets), "act-bits has two limits");
  FAILS(QE_USAGE, qe_budgets_read("bytes=1000", r.costs, &budgets), "it cannot be kept");
  FAILS(QE_USAGE, qe_budgets_read("latency=5", r.costs, &budgets), "needs a latency table");
  FAILS(QE_USAGE, qe_budgets_read("energy=5", r.costs, &budgets), "needs a table with lines");
  close_rig(&r);
}

/* ---- memory ---- */

static qe_status all_of_it(void) {
  qe_model_spec spec = quantized("mlp", 3, 4);
  qe_bit_map *map = NULL;
  qe_bit_costs *costs = NULL;
  qe_budgets budgets;
  qe_cost_origin any = {0};
  char *text = NULL, *layers = NULL;
  int32_t bits[16];
  qe_status status = qe_bit_map_new(&spec, &map);
  if (status == QE_OK) qe_bit_map_default(map, bits);
  if (status == QE_OK) status = qe_bit_map_text(map, bits, &text);
  if (status == QE_OK) status = qe_bit_costs_new(map, &costs);
  if (status == QE_OK) status = qe_bit_costs_take_energy(costs, path_of("good energy"));
  if (status == QE_OK) status = qe_budgets_read("energy=w8a8,bytes=w8a8", costs, &budgets);
  if (status == QE_OK) status = qe_bits_file_write(path_of("good bits"), map, &spec, bits, NULL);
  if (status == QE_OK) status = qe_bits_file_read(path_of("good bits"), &spec, &layers);
  (void)any;
  qe_free(layers);
  qe_free(text);
  qe_bit_costs_free(costs);
  qe_bit_map_free(map);
  return status;
}

static void failing_allocations(void **state) {
  (void)state;
  write_text("good energy", "* 1 1 1\n");
  check_failing_allocations(all_of_it, 50, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(places_of_resnet20),
      cmocka_unit_test(shared_codes),
      cmocka_unit_test(signed_codes_and_exceptions),
      cmocka_unit_test(float_and_described_networks),
      cmocka_unit_test(costs_are_those_of_the_graph),
      cmocka_unit_test(means_leave_edges_out),
      cmocka_unit_test(file_and_back),
      cmocka_unit_test(file_beside_layer_bits),
      cmocka_unit_test(files_with_faults),
      cmocka_unit_test(latency_between_measured_bits),
      cmocka_unit_test(tables_of_elsewhere),
      cmocka_unit_test(damaged_latency_files),
      cmocka_unit_test(energy_of_lines),
      cmocka_unit_test(budgets_and_penalty),
      cmocka_unit_test(budgets_with_faults),
      cmocka_unit_test(failing_allocations),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
