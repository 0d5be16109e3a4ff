/* Networks that run together: what each gives by itself on `ref`, whatever they share, on every instruction set. */
enum { CLASSES = 7, IMAGES = 45, COUNT = IMAGES, CANDIDATES = 1, KIN = 9 };
#include "tests/evaluation.h"
#include "tests/failing.h"

static const char *const isas[] = {"portable", "avx2", "avx512"};

/* One layer's constants a little different; a requantiser's codes perhaps of one bit less. */
static void change(draws *from, qe_network *network) {
  qe_network_layer *layer = &network->layer[draw_range(from, 1, (int32_t)network->layers - 1)];
  qe_requant *requant = &layer->attrs.requant;
  int32_t c = draw_range(from, 0, layer->output.dim[QE_C] - 1);
  if (layer->weight) {
    int32_t at = draw_range(from, 0, (int32_t)qe_count(&layer->weight_desc) - 1);
    layer->weight[at] = (int8_t)layer->grid.low;
  } else if (layer->offset && requant->to == QE_U8 && draw_range(from, 0, 1)) {
    requant->high /= 2;
  } else if (layer->offset) {
    layer->offset[c] -= layer->offset[c] / 16 + 1;
  }
  qe_network_prove(network);
}

static void draw_kin(draws *from, network_limits limits, qe_network *kin[KIN]) {
  kin[0] = network_drawn(from, limits, CLASSES);
  qe_network_prove(kin[0]);
  OK(qe_network_check(kin[0]));
  for (int32_t i = 1; i < KIN; i++) {
    const qe_network *of = kin[draw_range(from, 0, i - 1)];
    OK(qe_network_copy(of, &kin[i]));
    for (int32_t changes = draw_range(from, 0, 2); changes > 0; changes--) change(from, kin[i]);
    if (qe_network_check(kin[i]) == QE_OK) continue;
    qe_network_free(kin[i]);
    OK(qe_network_copy(of, &kin[i]));
  }
}

static void free_kin(qe_network *kin[KIN]) {
  for (int32_t i = 0; i < KIN; i++) qe_network_free(kin[i]);
}

static int64_t macs_of(const qe_network *network) {
  int64_t macs = 0;
  for (size_t i = 0; i < network->layers; i++) macs += qe_network_macs(network, i);
  return macs;
}

typedef struct scores {
  int64_t loss[KIN], hits[KIN], reused;
} scores;

static void run_together(qe_device *device, qe_network *const kin[KIN], const images *on, int64_t count, scores *to) {
  qe_queue *queue;
  qe_buffer *pixels;
  qe_population *population[KIN];
  OK(qe_queue_new(device, &queue));
  OK(images_upload(on, queue, &pixels));
  for (int32_t i = 0; i < KIN; i++) OK(qe_population_new(queue, kin[i], NULL, NULL, &population[i]));
  qe_population_call call = images_call(on, pixels, NULL, 1);
  call.count = count;
  qe_population_result result = {to->loss, to->hits, NULL};
  OK(qe_population_run_together(population, KIN, &call, &result, &to->reused));
  assert_true(qe_population_joins(population[0]) || to->reused == 0);
  for (int32_t i = 0; i < KIN; i++) qe_population_free(population[i]);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
}

static void open_cpu(const char *isa, int threads, qe_device **device) {
  qe_open_options options = {.threads = threads};
  setenv("QEVO_CPU_ISA", isa, 1);
  if (qe_device_open(fixture_registry, "cpu", 0, &options, device) != QE_OK) *device = NULL;
}

static void check_kin(draws *from, network_limits limits, uint64_t number, int64_t *reused) {
  qe_network *kin[KIN];
  qe_device *device;
  images on;
  static outcome wanted;
  static scores got;
  draw_kin(from, limits, kin);
  images_draw(&on, from, &kin[0]->layer[0].output);
  int64_t count = draw_range(from, 0, 1) ? IMAGES : draw_range(from, 1, 36);
  open_cpu(isas[number % 3], 1 + (int)(number / 3 % 3), &device);
  if (device) run_together(device, kin, &on, count, &got);
  for (int32_t i = 0; device && i < KIN; i++) {
    evaluation what = {.network = kin[i], .count = count, .bound = INT64_MAX};
    OK(evaluate(fixture_device[0], &what, &on, "op by op", &wanted));
    assert_int_equal(got.loss[i], wanted.loss[0]);
    assert_int_equal(got.hits[i], wanted.hits[0]);
  }
  if (device) *reused += got.reused;
  qe_device_close(device);
  qe_free(on.pixels);
  free_kin(kin);
}

static void test_kin_of_all_kinds(void **state) {
  (void)state;
  int64_t reused = 0;
  draws from = {.seed = 31};
  for (uint64_t i = 0; i < 60; i++)
    check_kin(&from, (network_limits){.extent = 9, .channels = 9, .blocks = 6}, i, &reused);
  assert_true(reused > 0);
}

/* Few bits at one place and more at another: forms with packings of their own. */
static void test_residual_kin(void **state) {
  (void)state;
  int64_t reused = 0;
  draws from = {.seed = 32};
  for (uint64_t i = 0; i < 18; i++)
    check_kin(&from,
              (network_limits){.extent = 8,
                               .channels = 16,
                               .blocks = 5,
                               .weight_bits = 1 + (int32_t)i % 4,
                               .act_bits = 1 + (int32_t)i / 4 % 3,
                               .plain = true},
              i, &reused);
  assert_true(reused > 0);
}

/* Copies share all; whoever differs in the last layer shares all but that; and on `ref` nobody shares. */
static void test_what_is_shared(void **state) {
  (void)state;
  draws from = {.seed = 33};
  qe_network *kin[KIN];
  qe_device *device;
  images on;
  static scores got, alone;
  kin[0] = network_drawn(&from, (network_limits){.extent = 8, .channels = 8, .blocks = 4, .plain = true}, CLASSES);
  for (int32_t i = 1; i < KIN; i++) OK(qe_network_copy(kin[0], &kin[i]));
  images_draw(&on, &from, &kin[0]->layer[0].output);
  open_cpu("portable", 1, &device);
  if (!device) skip();
  run_together(device, kin, &on, COUNT, &got);
  assert_int_equal(got.reused, (KIN - 1) * macs_of(kin[0]));
  size_t last = kin[0]->layers - 2;
  assert_non_null(kin[0]->layer[last].weight);
  for (int32_t i = 1; i < KIN; i++) {
    qe_network_layer *layer = &kin[i]->layer[last];
    layer->weight[i] = (int8_t)(layer->weight[i] == layer->grid.low ? layer->grid.high : layer->grid.low);
    qe_network_prove(kin[i]);
  }
  run_together(device, kin, &on, COUNT, &got);
  assert_int_equal(got.reused, (KIN - 1) * (macs_of(kin[0]) - qe_network_macs(kin[0], last)));
  run_together(fixture_device[0], kin, &on, COUNT, &alone);
  assert_int_equal(alone.reused, 0);
  assert_memory_equal(got.loss, alone.loss, sizeof got.loss);
  assert_memory_equal(got.hits, alone.hits, sizeof got.hits);
  qe_device_close(device);
  qe_free(on.pixels);
  free_kin(kin);
}

static void test_calls_that_are_refused(void **state) {
  (void)state;
  draws from = {.seed = 34};
  qe_network *network = network_drawn(&from, (network_limits){.extent = 4, .channels = 4, .blocks = 1}, CLASSES);
  qe_queue *queue;
  qe_buffer *pixels;
  qe_population *population;
  images on;
  int64_t loss, hits;
  images_draw(&on, &from, &network->layer[0].output);
  OK(qe_queue_new(fixture_fast(), &queue));
  OK(images_upload(&on, queue, &pixels));
  OK(qe_population_new(queue, network, NULL, NULL, &population));
  qe_population_result result = {&loss, &hits, NULL};
  qe_population_call call = images_call(&on, pixels, NULL, 1);
  FAILS(QE_USAGE, qe_population_run_together(&population, 0, &call, &result, NULL), "without genomes");
  call.bound = 1;
  FAILS(QE_USAGE, qe_population_run_together(&population, 1, &call, &result, NULL), "bound");
  call.bound = INT64_MAX;
  on.index[3] = IMAGES;
  FAILS(QE_SHAPE, qe_population_run_together(&population, 1, &call, &result, NULL), "index");
  qe_population_free(population);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
  qe_free(on.pixels);
  qe_network_free(network);
}

/* What one run of two networks needs; made by test_memory_that_is_not_there. */
static struct {
  qe_queue *queue;
  qe_network *network;
  images on;
  qe_buffer *pixels;
} pair;

static qe_status run_pair(void) {
  qe_population *population[2] = {NULL, NULL};
  int64_t loss[2], hits[2], reused = 0;
  qe_population_result result = {loss, hits, NULL};
  qe_population_call call = images_call(&pair.on, pair.pixels, NULL, 1);
  qe_status status = qe_population_new(pair.queue, pair.network, NULL, NULL, &population[0]);
  if (status == QE_OK) status = qe_population_new(pair.queue, pair.network, NULL, NULL, &population[1]);
  if (status == QE_OK) status = qe_population_run_together(population, 2, &call, &result, &reused);
  if (status == QE_OK) status = qe_population_run(population[0], &call, &result);
  for (int i = 0; i < 2; i++) qe_population_free(population[i]);
  return status;
}

static void test_memory_that_is_not_there(void **state) {
  (void)state;
  draws from = {.seed = 35};
  network_limits limits = {.extent = 8, .channels = 8, .blocks = 1, .plain = true};
  pair.network = network_drawn(&from, limits, CLASSES);
  images_draw(&pair.on, &from, &pair.network->layer[0].output);
  OK(qe_queue_new(fixture_fast(), &pair.queue));
  OK(images_upload(&pair.on, pair.queue, &pair.pixels));
  check_failing_allocations(run_pair, 20, 0);
  qe_buffer_free(pair.pixels);
  qe_queue_free(pair.queue);
  qe_free(pair.on.pixels);
  qe_network_free(pair.network);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_kin_of_all_kinds),         cmocka_unit_test(test_residual_kin),
      cmocka_unit_test(test_what_is_shared),           cmocka_unit_test(test_calls_that_are_refused),
      cmocka_unit_test(test_memory_that_is_not_there),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
