/* The engine `fused` of the cuda backend on the emulated driver, against the same networks run op by op on `ref`: the
 * same bits for every kind of network that it takes. */
#include "core/graph/integer.h"

enum { CLASSES = 7, IMAGES = 9, COUNT = IMAGES, CANDIDATES = 5, PAIRS = 60 };
#include "tests/evaluation.h"

static const char emulator[] = QE_BINARY_DIR "/tests/cuda_emulator/libcuda.so.1";
static qe_device *cuda; /* NULL where there is no emulator */

static int open_emulator(void **state) {
  bool there = access(emulator, R_OK) == 0;
  if (there) setenv("QEVO_CUDA_DRIVER", emulator, 1);
  setenv("EMULATED_CUDA_CAPABILITY", "9.0", 1); /* older devices are refused */
  if (fixture_open(state)) return -1;
  if (there && qe_device_open(fixture_registry, "cuda", 0, NULL, &cuda) != QE_OK) return -1;
  return 0;
}

static int close_emulator(void **state) {
  qe_device_close(cuda);
  return fixture_close(state);
}

static outcome of_ref, of_cuda;

/* Whether the engine took the network, which is freed; `of_cuda` then has what it gave. */
static bool check_drawn(draws *from, qe_network *network, uint64_t number) {
  images on;
  images_draw(&on, from, &network->layer[0].output);
  evaluation what = {.network = network, .count = draw_range(from, 1, IMAGES), .bound = INT64_MAX};
  qe_status status = evaluate(cuda, &what, &on, "fused", &of_cuda);
  if (status == QE_OK) {
    OK(evaluate(fixture_device[0], &what, &on, "op by op", &of_ref));
    check_same(&of_cuda, &of_ref, network, number, "the emulated device");
  } else {
    assert_int_equal(status, QE_REFUSED);
  }
  qe_free(on.pixels);
  qe_network_free(network);
  return status == QE_OK;
}

static bool check_network(draws *from, network_limits limits, uint64_t number) {
  return check_drawn(from, network_drawn(from, limits, CLASSES), number);
}

static void networks_of_all_kinds(void **state) {
  (void)state;
  draws from = {.seed = 31};
  int taken = 0;
  for (uint64_t i = 0; cuda && i < 60; i++)
    taken += check_network(&from, (network_limits){.extent = 9, .channels = 20, .blocks = 6}, i);
  if (cuda) assert_int_equal(taken, 60);
}

/* Windows of images that are wider than the taps of one chunk. */
static void classifiers_of_images(void **state) {
  (void)state;
  draws from = {.seed = 38};
  for (uint64_t i = 0; cuda && i < 12; i++)
    assert_true(check_network(&from, (network_limits){.extent = 19, .channels = 8, .blocks = 0}, i));
}

static void plain_networks_of_all_bits(void **state) {
  (void)state;
  draws from = {.seed = 32};
  for (int32_t bits = 1; cuda && bits <= 8; bits++)
    for (int32_t channels = 16; channels <= 64; channels *= 2) {
      network_limits limits = {.extent = 6 + bits % 3,
                               .channels = channels,
                               .blocks = 3,
                               .weight_bits = bits,
                               .act_bits = 9 - bits,
                               .plain = true};
      assert_true(check_network(&from, limits, (uint64_t)bits));
      limits.extent = channels == 64 ? 8 : 16; /* the forms that keep rows in registers */
      assert_true(check_network(&from, limits, (uint64_t)bits));
    }
}

/* Several tasks a warp, and maps that take each other's place. */
static void residual_networks(void **state) {
  (void)state;
  draws from = {.seed = 37};
  network_limits limits = {.extent = 16, .channels = 32, .blocks = 5, .weight_bits = 4, .act_bits = 4, .plain = true};
  for (uint64_t i = 0; cuda && i < 12; i++) assert_true(check_network(&from, limits, i));
}

/* Convolutions that read what they are added to, and then are its last readers: the sum must not take its place, since
 * neighbouring positions still read it. Maps of several tasks a warp. */
static qe_network *added_to_their_inputs(draws *from) {
  static const qe_window window = {
      .kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}, .groups = 1, .channels = 16};
  static const qe_window whole = {
      .kernel = {32, 32}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .channels = CLASSES};
  network_limits limits = {.weight_bits = 4, .act_bits = 4, .plain = true};
  network_draw d = {.from = from, .limits = limits, .network = QE_NEW(qe_network)};
  assert_non_null(d.network);
  qe_network_layer gather = {.op = QE_OP_int_gather, .low = -128, .high = 127, .output = qe_map(QE_S8, 1, 32, 32, 3)};
  int32_t x = drawn_add(&d, &gather);
  x = drawn_requant(&d, drawn_conv(&d, x, window), -1, QE_U8);
  for (int block = 0; block < 3; block++) x = drawn_requant(&d, drawn_conv(&d, x, window), x, QE_U8);
  /* The logits are a linear layer's sums, so that they tell every position. */
  qe_network_layer *logits = &d.network->layer[drawn_requant(&d, drawn_conv(&d, x, whole), -1, QE_S32)];
  logits->attrs.requant.shift = 0;
  logits->attrs.requant.narrow = 1;
  for (int32_t c = 0; c < CLASSES; c++) {
    logits->multiplier[0][c] = 1;
    logits->offset[c] = 0;
  }
  return d.network;
}

static void skips_that_are_inputs(void **state) {
  (void)state;
  draws from = {.seed = 39};
  int telling = 0;
  for (uint64_t i = 0; cuda && i < 8; i++) {
    assert_true(check_drawn(&from, added_to_their_inputs(&from), i));
    telling += memcmp(of_cuda.logits, of_cuda.logits + CLASSES, CLASSES * sizeof *of_cuda.logits) != 0;
  }
  if (cuda) assert_true(telling >= 3); /* whose logits depend on the image */
}

/* ---- populations ---- */

static void check_bound(evaluation *what, const images *on, draws *from, const outcome *wanted) {
  static outcome got;
  what->bound = wanted->loss[draw_range(from, 0, CANDIDATES - 1)];
  what->no_logits = true;
  OK(evaluate(cuda, what, on, "fused", &got));
  check_bounded(&got, wanted, what->bound);
}

/* Whether the engine took the network, which is freed. `some`: a part of the layers evolves, requantisers too. */
static bool check_evolved(draws *from, qe_network *network, bool some, uint64_t number) {
  qe_genome_layout *layout;
  bool *evolves = QE_NEW_ARRAY(bool, network->layers);
  static outcome wanted, got;
  images on;
  assert_non_null(evolves);
  for (size_t i = 0; i < network->layers; i++)
    evolves[i] = (network->layer[i].weight || network->layer[i].offset) && draw_range(from, 0, 2);
  OK(qe_genome_layout_new(network, some ? evolves : NULL, &layout));
  images_draw(&on, from, &network->layer[0].output);
  uint8_t *genomes = genomes_draw(from, network, layout);
  evaluation what = {.network = network, .layout = layout, .genomes = genomes, .count = IMAGES, .bound = INT64_MAX};
  qe_status status = evaluate(cuda, &what, &on, "fused", &got);
  if (status == QE_OK) {
    OK(evaluate(fixture_device[0], &what, &on, "op by op", &wanted));
    check_same(&got, &wanted, network, number, "the emulated device");
    what.parent = genomes + layout->bytes;
    OK(evaluate(cuda, &what, &on, "fused", &got));
    check_same(&got, &wanted, network, number, "the emulated device");
    check_bound(&what, &on, from, &wanted);
  } else {
    assert_int_equal(status, QE_REFUSED);
  }
  qe_free(evolves);
  qe_free(genomes);
  qe_free(on.pixels);
  qe_genome_layout_free(layout);
  qe_network_free(network);
  return status == QE_OK;
}

static bool check_population(draws *from, network_limits limits, bool some, uint64_t number) {
  return check_evolved(from, network_drawn(from, limits, CLASSES), some, number);
}

static void populations(void **state) {
  (void)state;
  draws from = {.seed = 33};
  int taken = 0;
  for (uint64_t i = 0; cuda && i < 40; i++)
    taken += check_population(&from, (network_limits){.extent = 8, .channels = 18, .blocks = 5}, i % 2 == 1, i);
  if (cuda) assert_int_equal(taken, 40);
}

/* Nearly all stages add up two convolutions, which are more than a plan has stages. */
static qe_network *of_pairs(draws *from) {
  static const qe_window window = {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1, .channels = 16};
  network_limits limits = {.weight_bits = 2, .act_bits = 4, .plain = true};
  network_draw d = {.from = from, .limits = limits, .network = QE_NEW(qe_network)};
  assert_non_null(d.network);
  qe_network_layer gather = {.op = QE_OP_int_gather, .low = -128, .high = 127, .output = qe_map(QE_S8, 1, 2, 2, 3)};
  int32_t x = drawn_add(&d, &gather);
  for (int pair = 0; pair < PAIRS; pair++) {
    int32_t sums = drawn_conv(&d, x, window);
    x = drawn_requant(&d, sums, drawn_conv(&d, x, window), QE_U8);
  }
  drawn_head(&d, x, CLASSES);
  return d.network;
}

static void pairs_of_convolutions(void **state) {
  (void)state;
  draws from = {.seed = 40};
  if (!cuda) return;
  assert_true(check_drawn(&from, of_pairs(&from), 0));
  assert_true(check_evolved(&from, of_pairs(&from), false, 0));
}

/* Too little memory for all candidates and images at a time: the same results; too little for one: an error. */
static void memory_is_bounded(void **state) {
  (void)state;
  draws from = {.seed = 34};
  network_limits limits = {.extent = 6, .channels = 16, .blocks = 2, .weight_bits = 4, .act_bits = 4, .plain = true};
  qe_network *network = network_drawn(&from, limits, CLASSES);
  qe_genome_layout *layout;
  static outcome wanted, got;
  images on;
  int refused = 0, fitted = 0;
  OK(qe_genome_layout_new(network, NULL, &layout));
  images_draw(&on, &from, &network->layer[0].output);
  uint8_t *genomes = genomes_draw(&from, network, layout);
  evaluation what = {.network = network, .layout = layout, .genomes = genomes, .count = IMAGES, .bound = INT64_MAX};
  if (cuda) OK(evaluate(fixture_device[0], &what, &on, "op by op", &wanted));
  for (what.memory = 1 << 9; cuda && what.memory < (size_t)1 << 22; what.memory += what.memory / 8) {
    qe_message_clear();
    qe_status status = evaluate(cuda, &what, &on, "fused", &got);
    if (status == QE_OK) {
      check_same(&got, &wanted, network, what.memory, "the emulated device");
      fitted++;
    } else {
      assert_int_equal(status, QE_NO_MEMORY);
      assert_non_null(strstr(qe_message(), "--memory"));
      refused++;
    }
  }
  if (cuda) assert_true(refused > 0 && fitted > 0);
  qe_free(genomes);
  qe_free(on.pixels);
  qe_genome_layout_free(layout);
  qe_network_free(network);
}

/* Maps that shared memory does not hold: refused by name, and another engine takes the network. */
static void large_networks_are_refused(void **state) {
  (void)state;
  static const int32_t extents[] = {118};
  draws from = {.seed = 36};
  for (size_t i = 0; cuda && i < sizeof extents / sizeof *extents; i++) {
    network_limits limits = {
        .extent = extents[i], .channels = 16, .blocks = 1, .weight_bits = 4, .act_bits = 4, .plain = true};
    qe_network *network = network_drawn(&from, limits, CLASSES);
    qe_population_options options = {.engine = "fused"};
    qe_population *population = NULL;
    qe_queue *queue;
    OK(qe_queue_new(cuda, &queue));
    FAILS(QE_REFUSED, qe_population_new(queue, network, NULL, &options, &population), "shared memory");
    options.engine = NULL;
    OK(qe_population_new(queue, network, NULL, &options, &population));
    assert_string_not_equal(qe_population_engine(population), "fused");
    qe_population_free(population);
    qe_queue_free(queue);
    qe_network_free(network);
  }
}

/* ---- trained networks ---- */

static qe_network *read_network(const char *name) {
  char path[FIXTURE_PATH];
  qe_model *model;
  qe_network *network;
  snprintf(path, sizeof path, "%s/models/resnet20-cifar10-%s-qat.safetensors", QE_SOURCE_DIR, name);
  OK(qe_model_read(path, &model, NULL));
  OK(qe_network_from_graph(model->graph, model->values, &network));
  qe_model_free(model);
  return network;
}

/* ResNet-20 as it is trained: the sizes that the kernel is made for. */
static void resnet20(void **state) {
  (void)state;
  static const char *const names[] = {"w4a4", "w2a2", "w8a8"};
  static outcome wanted, got;
  draws from = {.seed = 35};
  for (size_t i = 0; cuda && i < sizeof names / sizeof *names; i++) {
    qe_network *network = read_network(names[i]);
    images on;
    images_draw(&on, &from, &network->layer[0].output);
    evaluation what = {.network = network, .count = 3, .bound = INT64_MAX, .no_logits = true};
    OK(evaluate(fixture_fast(), &what, &on, NULL, &wanted));
    OK(evaluate(cuda, &what, &on, "fused", &got));
    check_same(&got, &wanted, network, i, "the emulated device");
    qe_free(on.pixels);
    qe_network_free(network);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(networks_of_all_kinds),      cmocka_unit_test(classifiers_of_images),
      cmocka_unit_test(skips_that_are_inputs),      cmocka_unit_test(plain_networks_of_all_bits),
      cmocka_unit_test(residual_networks),          cmocka_unit_test(populations),
      cmocka_unit_test(pairs_of_convolutions),      cmocka_unit_test(memory_is_bounded),
      cmocka_unit_test(large_networks_are_refused), cmocka_unit_test(resnet20),
  };
  return cmocka_run_group_tests(tests, open_emulator, close_emulator);
}
