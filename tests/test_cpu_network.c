/* The cpu backend's engine for whole integer networks against the same networks run op by op on `ref`: the same bits
 * for every instruction set that this machine has and every form of convolution. */
#include "core/dispatch/population.h"
#include "tests/network_draw.h"

enum { CLASSES = 7, IMAGES = 45, CANDIDATES = 5 };

typedef struct images {
  uint8_t *pixels;
  int32_t index[IMAGES], labels[IMAGES];
  size_t bytes; /* of all */
} images;

static void images_draw(images *to, draws *from, const qe_desc *shape) {
  int64_t count = qe_count(shape) * IMAGES;
  to->bytes = (size_t)count;
  to->pixels = qe_alloc(to->bytes);
  assert_non_null(to->pixels);
  int32_t style = draw_range(from, 0, 2); /* 1: only the least and largest pixels */
  for (int64_t i = 0; i < count; i++)
    to->pixels[i] = (uint8_t)(style == 1 ? 255 * draw_range(from, 0, 1) : draw_range(from, 0, 255));
  for (int32_t i = 0; i < IMAGES; i++) {
    to->index[i] = draw_range(from, 0, IMAGES - 1);
    to->labels[i] = draw_range(from, 0, CLASSES - 1);
  }
}

typedef struct outcome {
  int64_t loss[CANDIDATES], hits[CANDIDATES];
  int32_t logits[CANDIDATES * IMAGES * CLASSES];
} outcome;

typedef struct evaluation {
  const qe_network *network;
  const qe_genome_layout *layout; /* NULL: the network as it is */
  const uint8_t *genomes, *parent;
  int64_t count, bound;
  size_t memory;
} evaluation;

static void evaluate(qe_device *device, const evaluation *what, const images *on, const char *engine, outcome *to) {
  qe_queue *queue;
  qe_buffer *pixels;
  qe_population *population;
  qe_population_options options = {.memory = what->memory};
  memset(to, 0, sizeof *to);
  OK(qe_queue_new(device, &queue));
  OK(qe_buffer_new(device, on->bytes, &pixels));
  OK(qe_queue_write(queue, pixels, 0, on->pixels, on->bytes));
  OK(qe_queue_wait(queue));
  OK(qe_population_new(queue, what->network, what->layout, &options, &population));
  if (engine) assert_string_equal(qe_population_engine(population), engine);
  qe_population_call call = {.images = pixels,
                             .image_count = IMAGES,
                             .index = on->index,
                             .labels = on->labels,
                             .count = what->count,
                             .genomes = what->genomes,
                             .candidates = what->genomes ? CANDIDATES : 1,
                             .parent = what->parent,
                             .bound = what->bound};
  qe_population_result result = {to->loss, to->hits, what->bound < INT64_MAX ? NULL : to->logits};
  OK(qe_population_run(population, &call, &result));
  qe_population_free(population);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
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

static void check_same(const outcome *got, const outcome *wanted, const qe_network *network, const char *isa,
                       const char *form, uint64_t number) {
  bool scores =
      memcmp(got->loss, wanted->loss, sizeof got->loss) == 0 && memcmp(got->hits, wanted->hits, sizeof got->hits) == 0;
  if (scores && memcmp(got->logits, wanted->logits, sizeof got->logits) == 0) return;
  qe_network_dump(network, stderr);
  fail_msg("network %llu on %s, form %s: loss %lld, must be %lld", (unsigned long long)number, isa,
           form ? form : "of choice", (long long)got->loss[0], (long long)wanted->loss[0]);
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
  evaluate(fixture_device[0], &what, &on, "op by op", &wanted);
  for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
      qe_device *device;
      open_cpu(isas[i], forms[f], 1, &device);
      if (!device) continue;
      evaluate(device, &what, &on, "lanes", &got);
      check_same(&got, &wanted, network, isas[i], forms[f], number);
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

/* Candidates near to the network's own genome: a few fields changed, one candidate equal, one all new. */
static uint8_t *genomes_draw(draws *from, const qe_network *network, const qe_genome_layout *layout) {
  uint8_t *genomes = qe_calloc(CANDIDATES, layout->bytes);
  int8_t *codes = qe_alloc(1 << 16);
  assert_true(genomes && codes);
  for (int32_t p = 0; p < CANDIDATES; p++) {
    uint8_t *genome = genomes + (size_t)p * layout->bytes;
    qe_genome_from_network(layout, network, genome);
    for (size_t g = 0; g < layout->genes; g++) {
      const qe_gene *gene = &layout->gene[g];
      if (gene->kind != QE_GENE_WEIGHT || p == 1 || (p > 1 && draw_range(from, 0, 2))) continue;
      assert_true(gene->count <= 1 << 16);
      OK(qe_genome_codes(gene, genome, codes));
      int64_t changes = p == 0 ? gene->count : 1 + gene->count / 50;
      for (int64_t i = 0; i < changes; i++) {
        int32_t field = draw_range(from, 0, (gene->grid.high - gene->grid.low) / gene->grid.spacing);
        codes[qe_below(draw_word(from), (uint32_t)gene->count)] = (int8_t)(gene->grid.low + field * gene->grid.spacing);
      }
      qe_pack(&gene->grid, codes, gene->count, genome + gene->offset);
    }
  }
  qe_free(codes);
  return genomes;
}

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
  evaluate(fixture_device[0], &what, &on, "op by op", &wanted);
  open_cpu(isa, NULL, threads, &device);
  if (device) {
    evaluate(device, &what, &on, "lanes", &got);
    check_same(&got, &wanted, network, isa, NULL, number);
    what.parent = parent;
    evaluate(device, &what, &on, "lanes", &got);
    check_same(&got, &wanted, network, isa, "of choice, with a parent", number);
    what.bound = wanted.loss[draw_range(from, 0, CANDIDATES - 1)];
    evaluate(device, &what, &on, "lanes", &got);
    for (int32_t p = 0; p < CANDIDATES; p++) {
      bool dropped = wanted.loss[p] > what.bound;
      assert_true(got.loss[p] == (dropped ? QE_DROPPED : wanted.loss[p]));
      assert_true(got.hits[p] == (dropped ? 0 : wanted.hits[p]));
    }
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
  evaluate(device, &what, &on, "lanes", &wanted);
  int refused = 0, fitted = 0;
  for (what.memory = 1 << 10; what.memory < (size_t)1 << 24; what.memory *= 2) {
    qe_queue *queue;
    qe_population *population;
    qe_population_options options = {.memory = what.memory};
    OK(qe_queue_new(device, &queue));
    qe_message_clear();
    qe_status status = qe_population_new(queue, network, layout, &options, &population);
    if (status == QE_OK) {
      qe_population_free(population);
      evaluate(device, &what, &on, "lanes", &got);
      check_same(&got, &wanted, network, "portable", "of choice", what.memory);
      fitted++;
    } else {
      assert_int_equal(status, QE_NO_MEMORY);
      assert_non_null(strstr(qe_message(), "--memory"));
      refused++;
    }
    qe_queue_free(queue);
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
      evaluate(fixture_device[0], &what, &on, "op by op", &wanted);
      open_cpu(isas[i % 3], NULL, 1, &device);
      if (device) evaluate(device, &what, &on, NULL, &got);
      if (device) check_same(&got, &wanted, network, isas[i % 3], NULL, i);
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
      evaluate(fixture_device[0], &what, &on, "op by op", &wanted);
      evaluate(device, &what, &on, "lanes", &got);
      check_same(&got, &wanted, network, isas[i % 3], NULL, i);
    }
    qe_device_close(device);
    qe_free(genomes);
    qe_free(on.pixels);
    qe_genome_layout_free(layout);
    qe_network_free(network);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_networks_of_all_kinds), cmocka_unit_test(test_residual_networks),
      cmocka_unit_test(test_populations),           cmocka_unit_test(test_memory_is_bounded),
      cmocka_unit_test(test_damaged_networks),      cmocka_unit_test(test_random_genomes),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
