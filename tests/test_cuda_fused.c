/* The engine `fused` of the cuda backend on the emulated driver, against the same networks run op by op on `ref`: the
 * same bits for every kind of network that it takes. */
#include "core/dispatch/population.h"
#include "core/graph/integer.h"
#include "tests/network_draw.h"

enum { CLASSES = 7, IMAGES = 9, CANDIDATES = 5 };

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

/* ---- one evaluation ---- */

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
  bool no_logits;
} evaluation;

static qe_status evaluate(qe_device *device, const evaluation *what, const images *on, const char *engine,
                          outcome *to) {
  qe_queue *queue;
  qe_buffer *pixels;
  qe_population *population = NULL;
  qe_population_options options = {.memory = what->memory, .engine = engine};
  memset(to, 0, sizeof *to);
  OK(qe_queue_new(device, &queue));
  OK(qe_buffer_new(device, on->bytes, &pixels));
  OK(qe_queue_write(queue, pixels, 0, on->pixels, on->bytes));
  OK(qe_queue_wait(queue));
  qe_status status = qe_population_new(queue, what->network, what->layout, &options, &population);
  qe_population_call call = {.images = pixels,
                             .image_count = IMAGES,
                             .index = on->index,
                             .labels = on->labels,
                             .count = what->count,
                             .genomes = what->genomes,
                             .candidates = what->genomes ? CANDIDATES : 1,
                             .parent = what->parent,
                             .bound = what->bound};
  qe_population_result result = {to->loss, to->hits, what->no_logits ? NULL : to->logits};
  if (status == QE_OK) status = qe_population_run(population, &call, &result);
  qe_population_free(population);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
  return status;
}

static bool check_same(const outcome *got, const outcome *wanted, const qe_network *network, uint64_t number) {
  bool scores =
      memcmp(got->loss, wanted->loss, sizeof got->loss) == 0 && memcmp(got->hits, wanted->hits, sizeof got->hits) == 0;
  if (scores && memcmp(got->logits, wanted->logits, sizeof got->logits) == 0) return true;
  qe_network_dump(network, stderr);
  fail_msg("network %llu: loss %lld, must be %lld", (unsigned long long)number, (long long)got->loss[0],
           (long long)wanted->loss[0]);
  return false;
}

/* Whether the engine took the network. */
static bool check_network(draws *from, network_limits limits, uint64_t number) {
  qe_network *network = network_drawn(from, limits, CLASSES);
  static outcome wanted, got;
  images on;
  images_draw(&on, from, &network->layer[0].output);
  evaluation what = {.network = network, .count = draw_range(from, 1, IMAGES), .bound = INT64_MAX};
  qe_status status = evaluate(cuda, &what, &on, "fused", &got);
  if (status == QE_OK) {
    OK(evaluate(fixture_device[0], &what, &on, "op by op", &wanted));
    check_same(&got, &wanted, network, number);
  } else {
    assert_int_equal(status, QE_REFUSED);
  }
  qe_free(on.pixels);
  qe_network_free(network);
  return status == QE_OK;
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

/* ---- populations ---- */

/* Candidates near to the network's own genome: a few fields changed, one candidate equal, one all new; multipliers and
 * offsets a little off where they are genes. */
static uint8_t *genomes_draw(draws *from, const qe_network *network, const qe_genome_layout *layout) {
  uint8_t *genomes = qe_calloc(CANDIDATES, layout->bytes);
  int8_t *codes = qe_alloc(1 << 16);
  assert_true(genomes && codes);
  for (int32_t p = 0; p < CANDIDATES; p++) {
    uint8_t *genome = genomes + (size_t)p * layout->bytes;
    qe_genome_from_network(layout, network, genome);
    for (size_t g = 0; g < layout->genes; g++) {
      const qe_gene *gene = &layout->gene[g];
      if (p == 1 || (p > 1 && draw_range(from, 0, 2))) continue;
      if (gene->kind == QE_GENE_MULTIPLIER) {
        int32_t *m = (int32_t *)(void *)(genome + gene->offset);
        for (int64_t i = 0; i < gene->count; i++) m[i] -= m[i] / 16;
      } else if (gene->kind == QE_GENE_OFFSET) {
        int64_t *b = (int64_t *)(void *)(genome + gene->offset);
        for (int64_t i = 0; i < gene->count; i++) b[i] -= b[i] / 16;
      }
      if (gene->kind != QE_GENE_WEIGHT) continue;
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

static void check_bound(evaluation *what, const images *on, draws *from, const outcome *wanted) {
  static outcome got;
  what->bound = wanted->loss[draw_range(from, 0, CANDIDATES - 1)];
  what->no_logits = true;
  OK(evaluate(cuda, what, on, "fused", &got));
  for (int32_t p = 0; p < CANDIDATES; p++) {
    bool dropped = wanted->loss[p] > what->bound;
    assert_true(got.loss[p] == (dropped ? QE_DROPPED : wanted->loss[p]));
    assert_true(got.hits[p] == (dropped ? 0 : wanted->hits[p]));
  }
}

/* Whether the engine took the network. `some`: a part of the layers evolves, requantisers among them. */
static bool check_population(draws *from, network_limits limits, bool some, uint64_t number) {
  qe_network *network = network_drawn(from, limits, CLASSES);
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
    check_same(&got, &wanted, network, number);
    what.parent = genomes + layout->bytes;
    OK(evaluate(cuda, &what, &on, "fused", &got));
    check_same(&got, &wanted, network, number);
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

static void populations(void **state) {
  (void)state;
  draws from = {.seed = 33};
  int taken = 0;
  for (uint64_t i = 0; cuda && i < 40; i++)
    taken += check_population(&from, (network_limits){.extent = 8, .channels = 18, .blocks = 5}, i % 2 == 1, i);
  if (cuda) assert_int_equal(taken, 40);
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
      check_same(&got, &wanted, network, what.memory);
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
    check_same(&got, &wanted, network, i);
    qe_free(on.pixels);
    qe_network_free(network);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(networks_of_all_kinds),
      cmocka_unit_test(classifiers_of_images),
      cmocka_unit_test(plain_networks_of_all_bits),
      cmocka_unit_test(residual_networks),
      cmocka_unit_test(populations),
      cmocka_unit_test(memory_is_bounded),
      cmocka_unit_test(large_networks_are_refused),
      cmocka_unit_test(resnet20),
  };
  return cmocka_run_group_tests(tests, open_emulator, close_emulator);
}
