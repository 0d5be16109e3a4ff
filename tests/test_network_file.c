/* Files of integer networks: what is written comes back, and whatever is damaged is refused (seen under
 * AddressSanitizer) or still a sound network. */
#include "core/base/file.h"
#include "core/dispatch/network_file.h"
#include "core/graph/integer.h"
#include "core/train/trainer.h"
#include "tests/network_draw.h"

static char folder[FIXTURE_PATH];

static int open_all(void **state) {
  folder_new(folder);
  return fixture_open(state);
}
static int close_all(void **state) {
  folder_remove(folder);
  return fixture_close(state);
}

static const char *path_of(const char *name) {
  static char path[2][2 * FIXTURE_PATH];
  static int next;
  next = !next;
  snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
  return path[next];
}

static qe_network *drawn(uint64_t seed, int32_t blocks) {
  draws from = {seed, 0};
  network_limits limits = {.extent = 5, .channels = 5, .blocks = blocks};
  qe_network *network = network_drawn(&from, limits, 4);
  qe_network_prove(network);
  return network;
}

/* ---- what comes back ---- */

static void assert_same_layer(const qe_network_layer *a, const qe_network_layer *b) {
  size_t channels = (size_t)a->output.dim[QE_C];
  assert_string_equal(a->name, b->name);
  assert_int_equal(a->op, b->op);
  assert_int_equal(a->inputs, b->inputs);
  for (int k = 0; k < a->inputs; k++) assert_int_equal(a->input[k], b->input[k]);
  assert_true(qe_same_desc(&a->output, &b->output));
  assert_int_equal(a->low, b->low);
  assert_int_equal(a->high, b->high);
  assert_int_equal(a->unit.mantissa, b->unit.mantissa);
  assert_int_equal(a->unit.exponent, b->unit.exponent);
  assert_memory_equal(&a->attrs.requant, &b->attrs.requant, sizeof a->attrs.requant);
  assert_memory_equal(a->attrs.pad_channels, b->attrs.pad_channels, sizeof a->attrs.pad_channels);
  if (a->weight) {
    assert_memory_equal(&a->attrs.window, &b->attrs.window, sizeof a->attrs.window);
    assert_memory_equal(&a->grid, &b->grid, sizeof a->grid);
    assert_true(qe_same_desc(&a->weight_desc, &b->weight_desc));
    assert_memory_equal(a->weight, b->weight, (size_t)qe_count(&a->weight_desc));
  }
  for (int k = 0; a->offset && k < a->inputs; k++)
    assert_memory_equal(a->multiplier[k], b->multiplier[k], channels * sizeof(int32_t));
  if (a->offset) assert_memory_equal(a->offset, b->offset, channels * sizeof(int64_t));
}

static void check_round_trip(const qe_network *network) {
  qe_network *back;
  char *first, *second;
  size_t first_bytes, second_bytes;
  OK(qe_network_write(network, path_of("a")));
  OK(qe_network_read(path_of("a"), &back));
  assert_int_equal(network->layers, back->layers);
  for (size_t i = 0; i < network->layers; i++) assert_same_layer(&network->layer[i], &back->layer[i]);
  OK(qe_network_write(back, path_of("b")));
  OK(qe_file_read(path_of("a"), 1 << 26, &first, &first_bytes));
  OK(qe_file_read(path_of("b"), 1 << 26, &second, &second_bytes));
  assert_int_equal(first_bytes, second_bytes);
  assert_memory_equal(first, second, first_bytes);
  qe_free(first);
  qe_free(second);
  qe_network_free(back);
}

static void test_round_trip(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    qe_network *network = drawn(seed, 6);
    check_round_trip(network);
    qe_network_free(network);
  }
}

/* The file scores what the model scores, and its weights take just their bits. */
static void test_model_and_file_score_the_same(void **state) {
  (void)state;
  qe_dataset *data = small_data(8, 3, 4, 64, 40);
  qe_model_spec spec = qe_model_default("resnet20");
  qe_model *model;
  qe_network *network;
  qe_score of_model, of_file;
  spec.height = spec.width = 8;
  spec.classes = 4;
  spec.bits.weights = spec.bits.activations = 3;
  OK(qe_model_new(&spec, 1, &model));
  OK(qe_fit_steps(fixture_fast(), model, data, 1));
  OK(qe_network_from_graph(model->graph, model->values, &network));
  check_round_trip(network);
  qe_network_free(network);
  OK(qe_evaluate_integer(fixture_fast(), model, data, 16, NULL, &of_model));
  OK(qe_network_read(path_of("a"), &network));
  OK(qe_evaluate_network(fixture_fast(), network, data, 7, NULL, &of_file));
  assert_memory_equal(&of_model, &of_file, sizeof of_model);
  qe_tensors *tensors;
  OK(qe_tensors_read(path_of("a"), &tensors));
  assert_true(qe_network_is_file(tensors));
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    char name[64];
    snprintf(name, sizeof name, "%zu.%s.weight", i, layer->name);
    const qe_named_tensor *tensor = layer->weight ? qe_tensors_find(tensors, name) : NULL;
    if (layer->weight) assert_int_equal(tensor->bytes, (qe_count(&layer->weight_desc) * layer->grid.bits + 7) / 8);
  }
  qe_tensors_free(tensors);
  qe_network_free(network);
  qe_dataset *other = small_data(4, 3, 4, 8, 8);
  OK(qe_network_read(path_of("a"), &network));
  FAILS(QE_SHAPE, qe_evaluate_network(fixture_fast(), network, other, 7, NULL, &of_file), "8x8x3");
  qe_network_free(network);
  qe_model_free(model);
  qe_dataset_free(other);
  qe_dataset_free(data);
}

/* ---- damage ---- */

/* A damaged file is refused with its name, or is a network that passes the check. */
static void check_damaged(const char *bytes, size_t count) {
  const char *path = path_of("damaged");
  qe_network *network;
  FILE *file = fopen(path, "wb"); /* qe_file_write would sync it, thousands of times */
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, count, file), count);
  assert_int_equal(fclose(file), 0);
  qe_message_clear();
  qe_status status = qe_network_read(path, &network);
  if (status == QE_OK) {
    OK(qe_network_check(network));
    qe_network_free(network);
  } else {
    assert_int_equal(status, QE_FORMAT);
    assert_non_null(strstr(qe_message(), "damaged"));
  }
}

typedef struct sample {
  char *bytes;
  size_t count, header; /* of the header and the 8 bytes before it */
} sample;

static sample new_sample(void) {
  sample s;
  uint64_t length;
  qe_network *network = drawn(2, 2);
  OK(qe_network_write(network, path_of("sample")));
  OK(qe_file_read(path_of("sample"), 1 << 26, &s.bytes, &s.count));
  memcpy(&length, s.bytes, sizeof length);
  s.header = (size_t)length + sizeof length;
  qe_network_free(network);
  return s;
}

static void test_truncated_files(void **state) {
  (void)state;
  sample s = new_sample();
  for (size_t count = 0; count < s.count; count += count < s.header ? 3 : 11) check_damaged(s.bytes, count);
  check_damaged(s.bytes, s.count - 1);
  qe_free(s.bytes);
}

/* Every byte of the header, and some of the rest, becomes something else: a neighbour, a digit, what ends a text. */
static void test_corrupted_bytes(void **state) {
  (void)state;
  sample s = new_sample();
  const char others[] = {'9', '"', '-', ' ', (char)0xFF};
  draws from = {9, 0};
  for (size_t at = 0; at < s.count; at += at < s.header ? 1 : 7) {
    char kept = s.bytes[at];
    s.bytes[at] = (char)(kept ^ 1 << draw_range(&from, 0, 7));
    check_damaged(s.bytes, s.count);
    s.bytes[at] = others[at % sizeof others];
    check_damaged(s.bytes, s.count);
    s.bytes[at] = kept;
  }
  qe_free(s.bytes);
}

/* Digits of the layer list become other digits: sizes, inputs, shifts and bits that look right but are not. */
static void test_other_numbers(void **state) {
  (void)state;
  sample s = new_sample();
  for (size_t at = sizeof(uint64_t); at < s.header; at++) {
    char kept = s.bytes[at];
    if (kept < '0' || kept > '9') continue;
    for (int digit = 0; digit <= 9; digit++) {
      s.bytes[at] = (char)('0' + digit);
      check_damaged(s.bytes, s.count);
    }
    s.bytes[at] = kept;
  }
  qe_free(s.bytes);
}

/* ---- refusals by name ---- */

/* The sample's tensors with `layers` instead of its list (NULL: as it is), then `change`, must be refused so. */
#define REFUSES(change, text)                                                                                          \
  do {                                                                                                                 \
    qe_tensors *tensors;                                                                                               \
    qe_network *network;                                                                                               \
    OK(qe_tensors_read(path_of("sample"), &tensors));                                                                  \
    change;                                                                                                            \
    FAILS(QE_FORMAT, qe_network_take(tensors, "the file", &network), text);                                            \
    qe_tensors_free(tensors);                                                                                          \
  } while (0)

static void test_refusals_name_the_reason(void **state) {
  (void)state;
  sample s = new_sample();
  const int64_t one = 1;
  REFUSES(OK(qe_tensors_set_meta(tensors, "format", "qevo-gpu network 2")), "the file: its format");
  REFUSES(OK(qe_tensors_set_meta(tensors, "format", "qevo-gpu model 1")), "the file: its format");
  REFUSES(OK(qe_tensors_set_meta(tensors, "layers", "{}")), "no JSON list");
  REFUSES(OK(qe_tensors_set_meta(tensors, "layers", "[")), "no JSON list");
  REFUSES(OK(qe_tensors_set_meta(tensors, "layers", "[7]")), "layer 0: it is not an object");
  REFUSES(OK(qe_tensors_set_meta(tensors, "layers", "[{}]")), "\"name\" is missing");
  REFUSES(OK(qe_tensors_set_meta(tensors, "layers", "[{\"name\":\"a\",\"op\":\"conv2d\"}]")), "no op of integer");
  REFUSES(OK(qe_tensors_set_meta(tensors, "layers", "[{\"name\":\"a\",\"op\":\"int_gather\",\"inputs\":[1]}]")),
          "\"inputs\" is not a list of 0");
  REFUSES(OK(qe_tensors_set_meta(tensors, "layers",
                                 "[{\"name\":\"a\",\"op\":\"int_gather\",\"inputs\":[],\"type\":\"s8\","
                                 "\"output\":[1,2.5,1]}]")),
          "\"output\" is missing, or no whole number");
  static const char *const units[] = {"[-1,2]", "[1,300]", "[1,-300]"};
  for (int i = 0; i < 3; i++) {
    char list[160];
    snprintf(list, sizeof list,
             "[{\"name\":\"a\",\"op\":\"int_gather\",\"inputs\":[],\"type\":\"s8\",\"output\":[1,1,1],\"unit\":%s}]",
             units[i]);
    REFUSES(OK(qe_tensors_set_meta(tensors, "layers", list)), "\"unit\" is no positive number");
  }
  REFUSES(OK(qe_tensors_add(tensors, "more", QE_U8, 1, &one, NULL)), "1 tensors belong to no layer");
  REFUSES(tensors->items[0].rank = 0, "must be");
  REFUSES(tensors->items[0].name[0] = 'x', "has no tensor for its");
  qe_free(s.bytes);
  qe_network *network;
  FAILS(QE_NOT_FOUND, qe_network_read(path_of("none"), &network), "none");
}

/* A list nested deeper than any real one must not exhaust the stack. */
static void test_deep_lists(void **state) {
  (void)state;
  sample s = new_sample();
  enum { DEPTH = 100000 };
  char *deep = qe_alloc(DEPTH + 1);
  memset(deep, '[', DEPTH);
  deep[DEPTH] = 0;
  REFUSES(OK(qe_tensors_set_meta(tensors, "layers", deep)), "no JSON list");
  qe_free(deep);
  qe_free(s.bytes);
}

static void test_bad_networks_are_not_written(void **state) {
  (void)state;
  qe_network *network = drawn(2, 2);
  network->layer[1].inputs = 2;
  FAILS(QE_FORMAT, qe_network_write(network, path_of("bad")), "layer 1");
  assert_false(qe_file_exists(path_of("bad")));
  qe_network_free(network);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_model_and_file_score_the_same),
      cmocka_unit_test(test_truncated_files), cmocka_unit_test(test_corrupted_bytes),
      cmocka_unit_test(test_other_numbers),   cmocka_unit_test(test_refusals_name_the_reason),
      cmocka_unit_test(test_deep_lists),      cmocka_unit_test(test_bad_networks_are_not_written),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
