/* The cpu backend's engine for whole integer networks against the same networks run op by op on `ref`: the same bits
 * for every instruction set that this machine has and every form of convolution. */
enum { CLASSES = 7, IMAGES = 45, COUNT = IMAGES, CANDIDATES = 5 };
#include "tests/evaluation.h"

/* On the cpu, whose own choice must be `lanes`. */
static void run_lanes(qe_device *device, const evaluation *what, const images *on, outcome *to) {
  OK(evaluate(device, what, on, NULL, to));
  assert_string_equal(to->engine, "lanes");
}

static void run_reference(const evaluation *what, const images *on, outcome *to) {
  OK(evaluate(fixture_device[0], what, on, "op by op", to));
}

static void open_cpu(const char *isa, const char *form, int threads, qe_device **device) {
  qe_open_options options = {.threads = threads};
  setenv("QEVO_CPU_ISA", isa, 1);
  if (form)
    setenv("QEVO_CPU_FORM", form, 1);
  else
    unsetenv("QEVO_CPU_FORM");
  if (qe_device_open(fixture_registry, "cpu", 0, &options, device) != QE_OK) *device = NULL;
}

static const char *const isas[] = {"portable", "avx2", "avx512"};
static const char *const forms[] = {NULL, "winograd", "direct", "wide", "vnni", "plain", "lookup2", "lookup1"};

static void check_on(const outcome *got, const outcome *wanted, const qe_network *network, uint64_t number,
                     const char *isa, const char *form) {
  char where[64];
  snprintf(where, sizeof where, "%s, form %s", isa, form ? form : "of choice");
  check_same(got, wanted, network, number, where);
}

/* One network on every instruction set and with every form put first. */
static void check_network(draws *from, network_limits limits, uint64_t number) {
  qe_network *network = network_drawn(from, limits, CLASSES);
  OK(qe_network_check(network));
  static outcome wanted, got;
  images on;
  images_draw(&on, from, &network->layer[0].output);
  /* Full chunks, parts of one, and a few images at the end, which go one by one. */
  evaluation what = {
      .network = network, .count = draw_range(from, 0, 1) ? IMAGES : draw_range(from, 33, 36), .bound = INT64_MAX};
  run_reference(&what, &on, &wanted);
  for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
      qe_device *device;
      open_cpu(isas[i], forms[f], 1, &device);
      if (!device) continue;
      run_lanes(device, &what, &on, &got);
      check_on(&got, &wanted, network, number, isas[i], forms[f]);
      qe_device_close(device);
    }
  qe_free(on.pixels);
  qe_network_free(network);
}

static void test_networks_of_all_kinds(void **state) {
  (void)state;
  draws from = {.seed = 11};
  for (uint64_t i = 0; i < 60; i++) check_network(&from, (network_limits){.extent = 9, .channels = 9, .blocks = 6}, i);
}

static void test_residual_networks(void **state) {
  (void)state;
  draws from = {.seed = 12};
  static const int32_t bits[][2] = {{4, 4}, {2, 2}, {1, 1}, {8, 8}, {3, 2}, {4, 1}};
  for (uint64_t i = 0; i < sizeof bits / sizeof *bits; i++)
    for (int32_t channels = 16; channels <= 32; channels += 16)
      check_network(&from,
                    (network_limits){.extent = 8,
                                     .channels = channels,
                                     .blocks = 5,
                                     .weight_bits = bits[i][0],
                                     .act_bits = bits[i][1],
                                     .plain = true},
                    i);
}

/* ---- populations ---- */

static void check_population(draws *from, uint64_t number, const char *isa, int threads) {
  network_limits limits = {.extent = 8, .channels = 8, .blocks = 5, .weight_bits = draw_range(from, 1, 5)};
  qe_network *network = network_drawn(from, limits, CLASSES);
  qe_genome_layout *layout;
  qe_device *device;
  static outcome wanted, got;
  images on;
  OK(qe_genome_layout_new(network, NULL, &layout));
  images_draw(&on, from, &network->layer[0].output);
  uint8_t *genomes = genomes_draw(from, network, layout),
          *parent = genomes + (size_t)draw_range(from, 1, 2) * layout->bytes;
  evaluation what = {.network = network, .layout = layout, .genomes = genomes, .count = IMAGES, .bound = INT64_MAX};
  run_reference(&what, &on, &wanted);
  open_cpu(isa, NULL, threads, &device);
  if (device) {
    run_lanes(device, &what, &on, &got);
    check_on(&got, &wanted, network, number, isa, NULL);
    what.parent = parent;
    run_lanes(device, &what, &on, &got);
    check_on(&got, &wanted, network, number, isa, "of choice, with a parent");
    what.bound = wanted.loss[draw_range(from, 0, CANDIDATES - 1)];
    what.no_logits = true;
    run_lanes(device, &what, &on, &got);
    check_bounded(&got, &wanted, what.bound);
    qe_device_close(device);
  }
  qe_free(genomes);
  qe_free(on.pixels);
  qe_genome_layout_free(layout);
  qe_network_free(network);
}

static void test_populations(void **state) {
  (void)state;
  draws from = {.seed = 13};
  for (uint64_t i = 0; i < 30; i++) check_population(&from, i, isas[i % 3], 1 + (int)(i / 3 % 3));
}

/* Too little memory for all candidates at a time: the same results; too little for one: an error with the cure. */
static void test_memory_is_bounded(void **state) {
  (void)state;
  draws from = {.seed = 14};
  qe_network *network = network_drawn(&from, (network_limits){.extent = 8, .channels = 8, .blocks = 3}, CLASSES);
  qe_genome_layout *layout;
  qe_device *device;
  static outcome wanted, got;
  images on;
  OK(qe_genome_layout_new(network, NULL, &layout));
  images_draw(&on, &from, &network->layer[0].output);
  uint8_t *genomes = genomes_draw(&from, network, layout);
  open_cpu("portable", NULL, 1, &device);
  evaluation what = {.network = network, .layout = layout, .genomes = genomes, .count = IMAGES, .bound = INT64_MAX};
  run_lanes(device, &what, &on, &wanted);
  int refused = 0, fitted = 0;
  for (what.memory = 1 << 10; what.memory < (size_t)1 << 24; what.memory *= 2) {
    qe_message_clear();
    qe_status status = evaluate(device, &what, &on, "lanes", &got);
    if (status == QE_OK) {
      check_on(&got, &wanted, network, what.memory, "portable", NULL);
      fitted++;
    } else {
      assert_int_equal(status, QE_NO_MEMORY);
      assert_non_null(strstr(qe_message(), "--memory"));
      refused++;
    }
  }
  assert_true(refused > 0 && fitted > 0);
  qe_device_close(device);
  qe_free(genomes);
  qe_free(on.pixels);
  qe_genome_layout_free(layout);
  qe_network_free(network);
}

/* ---- damaged networks and genomes ---- */

/* One field of one layer set to something else. */
static void damage(draws *from, qe_network *network) {
  qe_network_layer *layer = &network->layer[draw_range(from, 0, (int32_t)network->layers - 1)];
  qe_window *window = &layer->attrs.window;
  qe_requant *requant = &layer->attrs.requant;
  int32_t *const fields[] = {&layer->input[0],
                             &layer->input[1],
                             &layer->low,
                             &layer->high,
                             &layer->grid.bits,
                             &layer->grid.low,
                             &layer->grid.high,
                             &layer->grid.spacing,
                             &window->kernel[0],
                             &window->kernel[1],
                             &window->stride[0],
                             &window->stride[1],
                             &window->dilation[0],
                             &window->dilation[1],
                             &window->pad[0],
                             &window->pad[1],
                             &window->pad[2],
                             &window->pad[3],
                             &window->groups,
                             &window->channels,
                             &requant->shift,
                             &requant->low,
                             &requant->high,
                             &requant->narrow,
                             &layer->attrs.pad_channels[0]};
  enum { FIELDS = sizeof fields / sizeof *fields };
  static const int32_t extremes[] = {0, -1, 1, 2, 255, 256, INT32_MAX, INT32_MIN};
  int32_t which = draw_range(from, 0, FIELDS + 2), c = draw_range(from, 0, layer->output.dim[QE_C] - 1);
  int32_t value = draw_range(from, 0, 1) ? extremes[draw_range(from, 0, 7)] : draw_range(from, -3, 9);
  if (which < FIELDS) *fields[which] = value;
  if (which == FIELDS && layer->weight) layer->weight[0] = (int8_t)value;
  if (which == FIELDS + 1 && layer->multiplier[0]) layer->multiplier[0][c] = value;
  if (which == FIELDS + 2 && layer->offset) layer->offset[c] = (int64_t)value * (INT64_C(1) << draw_range(from, 0, 31));
}

/* What passes the check gives the same bits by both ways and touches nothing outside its buffers (under ASan). */
static void test_damaged_networks(void **state) {
  (void)state;
  draws from = {.seed = 15};
  static outcome wanted, got;
  int refused = 0, taken = 0;
  for (uint64_t i = 0; i < 400; i++) {
    qe_network *network = network_drawn(&from, (network_limits){.extent = 6, .channels = 6, .blocks = 3}, CLASSES);
    images on;
    images_draw(&on, &from, &network->layer[0].output);
    damage(&from, network);
    qe_message_clear();
    if (qe_network_check(network) != QE_OK) {
      assert_true(qe_message()[0] != 0);
      refused++;
    } else {
      qe_device *device;
      evaluation what = {.network = network, .count = 7, .bound = INT64_MAX};
      run_reference(&what, &on, &wanted);
      open_cpu(isas[i % 3], NULL, 1, &device);
      if (device) OK(evaluate(device, &what, &on, NULL, &got));
      if (device) check_on(&got, &wanted, network, i, isas[i % 3], NULL);
      qe_device_close(device);
      taken++;
    }
    qe_free(on.pixels);
    qe_network_free(network);
  }
  assert_true(refused > 50 && taken > 50);
}

/* Random bytes are refused, or are a genome. */
static void test_random_genomes(void **state) {
  (void)state;
  draws from = {.seed = 16};
  static outcome wanted, got;
  for (uint64_t i = 0; i < 40; i++) {
    qe_network *network = network_drawn(&from, (network_limits){.extent = 6, .channels = 6, .blocks = 3}, CLASSES);
    qe_genome_layout *layout;
    qe_device *device;
    images on;
    OK(qe_genome_layout_new(network, NULL, &layout));
    images_draw(&on, &from, &network->layer[0].output);
    uint8_t *genomes = qe_calloc(CANDIDATES, layout->bytes);
    assert_non_null(genomes);
    for (size_t k = 0; k < CANDIDATES * layout->bytes; k++) genomes[k] = (uint8_t)draw_word(&from);
    bool good = true;
    for (int32_t p = 0; p < CANDIDATES; p++)
      good = good && qe_genome_check(layout, network, genomes + (size_t)p * layout->bytes) == QE_OK;
    open_cpu(isas[i % 3], NULL, 1, &device);
    evaluation what = {.network = network, .layout = layout, .genomes = genomes, .count = 9, .bound = INT64_MAX};
    if (device && good) {
      run_reference(&what, &on, &wanted);
      run_lanes(device, &what, &on, &got);
      check_on(&got, &wanted, network, i, isas[i % 3], NULL);
    }
    qe_device_close(device);
    qe_free(genomes);
    qe_free(on.pixels);
    qe_genome_layout_free(layout);
    qe_network_free(network);
  }
}

/* A name that is no form's is said, not passed over. */
static void test_unknown_form(void **state) {
  (void)state;
  static const char *const wrong[] = {"winogard", "direct wide", "wid"};
  draws from = {.seed = 41};
  qe_network *network = network_drawn(&from, (network_limits){.extent = 4, .channels = 4, .blocks = 1}, CLASSES);
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    qe_device *device;
    qe_queue *queue;
    qe_population *population = NULL;
    open_cpu("portable", wrong[i], 1, &device);
    if (!device) continue; /* no backend cpu here */
    OK(qe_queue_new(device, &queue));
    FAILS(QE_USAGE, qe_population_new(queue, network, NULL, NULL, &population), "QEVO_CPU_FORM");
    assert_non_null(strstr(qe_message(), wrong[i]));
    assert_non_null(strstr(qe_message(), "direct, "));
    qe_queue_free(queue);
    qe_device_close(device);
  }
  unsetenv("QEVO_CPU_FORM");
  qe_network_free(network);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_networks_of_all_kinds), cmocka_unit_test(test_residual_networks),
      cmocka_unit_test(test_populations),           cmocka_unit_test(test_memory_is_bounded),
      cmocka_unit_test(test_damaged_networks),      cmocka_unit_test(test_random_genomes),
      cmocka_unit_test(test_unknown_form),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
