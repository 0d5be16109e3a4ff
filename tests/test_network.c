/* The check of integer networks: sound ones pass, each malformed thing is refused by name; proven ranges, cost, text.
 */
#include "tests/network_draw.h"

#include <limits.h>

static const network_limits limits = {.extent = 7, .channels = 6, .blocks = 5};

static qe_network *drawn(uint64_t seed) {
  draws from = {seed, 0};
  return network_drawn(&from, limits, 5);
}

/* ---- a small network by hand ---- */

enum { GATHER, CONV, WIDE, LOW, CONV2, ADD, POOL, LOGITS, LAYERS };

static void constants(qe_network_layer *layer, int32_t m, int64_t offset) {
  int32_t channels = layer->output.dim[QE_C];
  layer->offset = QE_NEW_ARRAY(int64_t, channels);
  for (int b = 0; b < layer->inputs; b++) layer->multiplier[b] = QE_NEW_ARRAY(int32_t, channels);
  for (int32_t c = 0; c < channels; c++) {
    layer->offset[c] = offset;
    for (int b = 0; b < layer->inputs; b++) layer->multiplier[b][c] = m;
  }
}

static void add(qe_network *network, qe_network_layer layer) {
  char name[16];
  snprintf(name, sizeof name, "layer%zu", network->layers);
  layer.name = qe_strdup(name);
  OK(qe_network_add(network, &layer));
}

static qe_network_layer conv_layer(int input, int32_t inputs) {
  qe_network_layer layer = {.op = QE_OP_int_conv2d, .inputs = 1, .input = {input}};
  layer.attrs.window = (qe_window){{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, 2};
  layer.weight_desc = qe_map(QE_S8, 2, 3, 3, inputs);
  layer.output = qe_map(QE_S32, 1, 4, 4, 2);
  layer.grid = (qe_code_grid){3, -3, 1, 3};
  layer.weight = qe_calloc((size_t)qe_count(&layer.weight_desc), 1);
  for (int64_t i = 0; i < qe_count(&layer.weight_desc); i++) layer.weight[i] = (int8_t)(i % 7 - 3);
  return layer;
}

static qe_network_layer requant_layer(int v, int u, int32_t shift, int32_t high) {
  qe_network_layer layer = {.op = u < 0 ? QE_OP_int_requant : QE_OP_int_requant_add,
                            .inputs = u < 0 ? 1 : 2,
                            .input = {v, u < 0 ? 0 : u},
                            .output = qe_map(QE_U8, 1, 4, 4, 2)};
  layer.attrs.requant =
      (qe_requant){.shift = shift, .high = high, .from = u < 0 && v != WIDE ? QE_S32 : QE_U8, .to = QE_U8};
  constants(&layer, 3, 1 << shift >> 1);
  return layer;
}

static qe_network *by_hand(void) {
  qe_network *network = QE_NEW(qe_network);
  add(network, (qe_network_layer){.op = QE_OP_int_gather, .output = qe_map(QE_S8, 1, 4, 4, 3)});
  add(network, conv_layer(GATHER, 3));
  add(network, requant_layer(CONV, -1, 4, 255));
  add(network, requant_layer(WIDE, -1, 5, 15));
  add(network, conv_layer(LOW, 2));
  add(network, requant_layer(CONV2, WIDE, 3, 15));
  qe_network_layer pool = {.op = QE_OP_int_sum_pool, .inputs = 1, .input = {ADD}, .output = qe_map(QE_S32, 1, 1, 1, 2)};
  pool.attrs.window = (qe_window){{4, 4}, {1, 1}, {1, 1}, {0}, 1, 2};
  add(network, pool);
  qe_network_layer logits = requant_layer(POOL, -1, 2, 1000);
  logits.output = qe_map(QE_S32, 1, 1, 1, 2);
  logits.attrs.requant.to = QE_S32;
  add(network, logits);
  qe_network_prove(network);
  return network;
}

/* ---- what passes ---- */

static void test_sound_networks_pass(void **state) {
  (void)state;
  qe_network *network = by_hand();
  OK(qe_network_check(network));
  assert_int_equal(network->layer[ADD].low, 0);
  assert_int_equal(network->layer[POOL].high, 15 * 16);
  assert_int_equal(network->layer[LOW].attrs.requant.narrow, 1);
  assert_int_equal(network->layer[LOGITS].attrs.requant.narrow, 0);
  assert_int_equal(qe_network_bits(network, LOW), 4);
  assert_int_equal(qe_network_bits(network, GATHER), 8);
  assert_int_equal(qe_network_macs(network, CONV), 2 * 9 * 3 * 16);
  assert_int_equal(qe_network_macs(network, ADD), 0);
  qe_network_free(network);
  qe_network_free(NULL);
  for (uint64_t seed = 1; seed <= 100; seed++) {
    network = drawn(seed);
    qe_network_prove(network);
    OK(qe_network_check(network));
    qe_network_free(network);
  }
}

static void test_sum_range(void **state) {
  (void)state;
  const int8_t weight[4] = {3, -2, 0, 5};
  int64_t least, most;
  qe_sum_range(weight, 4, 0, 15, &least, &most);
  assert_int_equal(least, -30);
  assert_int_equal(most, 120);
  qe_sum_range(weight, 4, 2, 15, &least, &most); /* padding adds 0 */
  assert_int_equal(least, -30);
  qe_sum_range(weight, 4, -128, 127, &least, &most);
  assert_int_equal(least, -8 * 128 - 2 * 127);
  assert_int_equal(most, 8 * 127 + 2 * 128);
}

static void test_dump(void **state) {
  (void)state;
  qe_network *network = by_hand();
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  qe_network_dump(network, file);
  fclose(file);
  assert_non_null(strstr(text, "0 layer0 = int_gather() s8[1,1,4,4,3] -128...127\n"));
  assert_non_null(strstr(text, "weight_bits=3"));
  assert_non_null(strstr(text, "5 layer5 = int_requant_add(4, 2) u8[1,1,4,4,2] 0...15 shift=3 narrow\n"));
  free(text);
  qe_network_free(network);
}

/* ---- what is refused ---- */

/* Break the network by hand with `change` to its layer `at`, and put it right again. */
#define BREAKS(at, change, text)                                                                                       \
  do {                                                                                                                 \
    qe_network *network = by_hand();                                                                                   \
    qe_network_layer *layer = &network->layer[at];                                                                     \
    qe_network_layer kept = *layer;                                                                                    \
    change;                                                                                                            \
    FAILS(QE_FORMAT, qe_network_check(network), text);                                                                 \
    *layer = kept;                                                                                                     \
    qe_network_free(network);                                                                                          \
  } while (0)

static void test_parts_are_checked(void **state) {
  (void)state;
  BREAKS(CONV, layer->op = QE_OP_conv2d, "layer 1 (layer1): op");
  BREAKS(CONV, layer->op = (qe_op)-7, "no op of integer networks");
  BREAKS(CONV, layer->op = QE_OP_int_gather, "gathers");
  BREAKS(GATHER, layer->op = QE_OP_int_max_pool, "gathers");
  BREAKS(CONV, layer->inputs = 2, "2 inputs, must be 1");
  BREAKS(ADD, layer->inputs = -1, "-1 inputs");
  BREAKS(LOW, layer->input[0] = LOW, "input 3, which is not a layer before it");
  BREAKS(LOW, layer->input[0] = -1, "input -1");
  BREAKS(ADD, layer->input[1] = INT_MAX, "input 2147483647");
  BREAKS(CONV, layer->weight = NULL, "missing");
  BREAKS(ADD, layer->offset = NULL, "missing");
  BREAKS(ADD, layer->multiplier[1] = NULL, "missing");
  BREAKS(POOL, layer->offset = kept.offset ? NULL : (int64_t *)&kept, "are not its op's");
  BREAKS(CONV, layer->name = NULL, "no name");
  BREAKS(CONV, layer->attrs.population = 3, "population");
}

static void test_shapes_are_checked(void **state) {
  (void)state;
  BREAKS(GATHER, layer->output.dtype = QE_U8, "layer 0");
  BREAKS(GATHER, layer->output.dtype = (qe_dtype)99, "no known type");
  BREAKS(GATHER, layer->output.dim[QE_N] = 2, "one image of one candidate");
  BREAKS(GATHER, layer->output.dim[QE_H] = INT32_MAX, "layer 0");
  BREAKS(GATHER, layer->output.dim[QE_C] = 0, "layer 0");
  BREAKS(CONV, layer->output.dim[QE_W] = 5, "its output is");
  BREAKS(CONV, layer->output.dtype = QE_S64, "its output is");
  BREAKS(CONV, layer->weight_desc.dim[QE_H] = 2, "its weight is");
  BREAKS(CONV, layer->weight_desc.dtype = QE_U8, "its weight is");
  BREAKS(CONV, layer->weight_desc.dim[QE_C] = INT32_MAX, "layer 1");
  BREAKS(CONV, layer->attrs.window.groups = 0, "layer 1");
  BREAKS(CONV, layer->attrs.window.stride[0] = 0, "does not fit");
  BREAKS(CONV, layer->attrs.window.kernel[1] = INT32_MAX, "does not fit");
  BREAKS(CONV, layer->attrs.window.dilation[1] = INT32_MAX, "does not fit");
  BREAKS(CONV, layer->attrs.window.pad[0] = -1, "does not fit");
  BREAKS(ADD, layer->input[1] = GATHER, "layer 5");
  BREAKS(ADD, layer->attrs.requant.from = QE_S8, "second branch");
  BREAKS(ADD, layer->attrs.requant.to = (qe_dtype)-1, "layer 5");
  BREAKS(POOL, layer->attrs.window.pad[0] = 4, "layer 6");
  BREAKS(LOGITS, layer->output.dtype = QE_U8, "logits");
}

static void test_values_are_checked(void **state) {
  (void)state;
  BREAKS(CONV, layer->weight[5] = 4; kept.grid = layer->grid, "weight 5 is 4");
  BREAKS(CONV, layer->grid.bits = 9, "no grid");
  BREAKS(CONV, layer->grid.bits = 0, "no grid");
  BREAKS(CONV, layer->grid.bits = 2, "no grid"); /* seven codes */
  BREAKS(CONV, layer->grid.spacing = 0, "no grid");
  BREAKS(CONV, layer->grid.spacing = 2, "weight 1 is -2");
  BREAKS(CONV, layer->grid.high = 200, "no grid");
  BREAKS(CONV, layer->grid.low = -300, "no grid");
  BREAKS(CONV, layer->low = 0, "its values lie in");
  BREAKS(CONV, layer->high -= 1, "its values lie in");
  BREAKS(LOW, layer->high = 300, "its values lie in");
  BREAKS(ADD, layer->attrs.requant.shift = 63, "shift");
  BREAKS(ADD, layer->attrs.requant.shift = -1, "shift");
  BREAKS(ADD, layer->attrs.requant.high = 256, "clamp");
  BREAKS(ADD, layer->attrs.requant.low = 16, "clamp");
  BREAKS(ADD, layer->multiplier[0][1] = 40000, "not narrow");
  BREAKS(ADD, layer->attrs.requant.shift = 32, "not narrow");
  BREAKS(ADD, layer->offset[0] = INT32_MAX, "not narrow");
  BREAKS(LOGITS, layer->offset[1] = INT64_MIN, "can pass 64 bits");
  BREAKS(LOGITS, layer->offset[1] = INT64_MAX, "can pass 64 bits");
}

static void test_ends_are_checked(void **state) {
  (void)state;
  qe_network none = {0};
  FAILS(QE_FORMAT, qe_network_check(&none), "0 layers");
  qe_network *network = by_hand();
  network->layers = POOL + 1;
  FAILS(QE_FORMAT, qe_network_check(network), "last layer");
  network->layers = 1;
  FAILS(QE_FORMAT, qe_network_check(network), "1 layers");
  network->layers = LAYERS;
  qe_network_free(network);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sound_networks_pass),
      cmocka_unit_test(test_sum_range),
      cmocka_unit_test(test_dump),
      cmocka_unit_test(test_parts_are_checked),
      cmocka_unit_test(test_shapes_are_checked),
      cmocka_unit_test(test_values_are_checked),
      cmocka_unit_test(test_ends_are_checked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
