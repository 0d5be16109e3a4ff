/* The choice among engines of a backend: on a device with three engines that compute nothing and whose time the test
 * sets. The fastest runs, for each kind of call; small calls are not measured; engines that fail are out. */
enum { CLASSES = 3, IMAGES = 2, COUNT = 300, CANDIDATES = 64 };
#include "tests/population_draw.h"

/* What the fake engines do. */
enum { WHOLE, PREFIX, THIRD, ENGINES };
static int64_t now, cost[ENGINES], cost_with_parent[ENGINES];
static qe_status opening[ENGINES], running[ENGINES];
static size_t memory_given[ENGINES];
static int opened[ENGINES], runs[ENGINES], longest_call[ENGINES];

static int64_t fake_clock(void) {
  return now;
}

static qe_status open_fake(int which, const qe_population_options *options, void **state) {
  static int places[ENGINES];
  if (opening[which] != QE_OK) return qe_fail(opening[which], "engine %d does not open", which);
  memory_given[which] = options->memory;
  opened[which]++;
  *state = &places[which];
  return QE_OK;
}

static qe_status run_fake(int which, const qe_population_call *call, const qe_population_result *result) {
  runs[which]++;
  if (call->candidates > longest_call[which]) longest_call[which] = call->candidates;
  now += call->parent ? cost_with_parent[which] : cost[which];
  for (int32_t i = 0; i < call->candidates; i++) {
    result->loss[i] = i * call->count;
    result->hits[i] = which;
  }
  return running[which] == QE_OK ? QE_OK : qe_fail(running[which], "engine %d does not run", which);
}

#define FAKE(which, word)                                                                                              \
  static qe_status open_##which(qe_queue *queue, const qe_network *network, const qe_genome_layout *layout,            \
                                const qe_population_options *options, void **state) {                                  \
    (void)queue;                                                                                                       \
    (void)network;                                                                                                     \
    (void)layout;                                                                                                      \
    return open_fake(which, options, state);                                                                           \
  }                                                                                                                    \
  static void close_##which(void *state) {                                                                             \
    (void)state;                                                                                                       \
    opened[which]--;                                                                                                   \
  }                                                                                                                    \
  static qe_status run_##which(void *state, const qe_population_call *call, const qe_population_result *result) {      \
    (void)state;                                                                                                       \
    return run_fake(which, call, result);                                                                              \
  }                                                                                                                    \
  static void explain_##which(const void *state, FILE *file) {                                                         \
    (void)state;                                                                                                       \
    fputs("engine " word "\n", file);                                                                                  \
  }                                                                                                                    \
  static const qe_network_engine engine_##which = {                                                                    \
      .name = word, .open = open_##which, .close = close_##which, .run = run_##which, .explain = explain_##which};

FAKE(WHOLE, "whole")
FAKE(PREFIX, "prefix")
FAKE(THIRD, "third")

static const qe_network_engine *const *fake_engines(const qe_device *device, int *count) {
  static const qe_network_engine *const list[] = {&engine_WHOLE, &engine_PREFIX, &engine_THIRD};
  (void)device;
  *count = ENGINES;
  return list;
}

/* ---- the scene ---- */

typedef struct scene {
  qe_device_table table;
  const qe_device_table *usual;
  qe_queue *queue;
  qe_network *network;
  qe_genome_layout *layout;
  uint8_t *genomes, *parent;
  images on;
  qe_buffer *pixels;
  qe_population *population;
  int64_t loss[CANDIDATES], hits[CANDIDATES];
} scene;

static void open_scene(scene *s) {
  draws from = {.seed = 3};
  qe_device *device = fixture_device[0];
  memset(s, 0, sizeof *s);
  s->usual = device->table;
  s->table = *device->table;
  s->table.engines = fake_engines;
  device->table = &s->table;
  OK(qe_queue_new(device, &s->queue));
  s->network = network_drawn(&from, (network_limits){.extent = 5, .channels = 4, .blocks = 4}, CLASSES);
  OK(qe_genome_layout_new(s->network, NULL, &s->layout));
  s->parent = qe_alloc(s->layout->bytes);
  s->genomes = qe_alloc(CANDIDATES * s->layout->bytes);
  qe_genome_from_network(s->layout, s->network, s->parent);
  for (int i = 0; i < CANDIDATES; i++) memcpy(s->genomes + (size_t)i * s->layout->bytes, s->parent, s->layout->bytes);
  images_draw(&s->on, &from, &s->network->layer[0].output);
  OK(images_upload(&s->on, s->queue, &s->pixels));
  for (int i = 0; i < ENGINES; i++) {
    cost[i] = cost_with_parent[i] = 10;
    opening[i] = running[i] = QE_OK;
    opened[i] = runs[i] = longest_call[i] = 0;
  }
}

static qe_status open_population(scene *s) {
  qe_population_options options = {.memory = 3 << 20, .clock = fake_clock};
  return qe_population_new(s->queue, s->network, s->layout, &options, &s->population);
}

static void close_scene(scene *s) {
  qe_population_free(s->population);
  for (int i = 0; i < ENGINES; i++) assert_int_equal(opened[i], 0);
  qe_buffer_free(s->pixels);
  qe_queue_free(s->queue);
  fixture_device[0]->table = s->usual;
  qe_free(s->on.pixels);
  qe_free(s->genomes);
  qe_free(s->parent);
  qe_genome_layout_free(s->layout);
  qe_network_free(s->network);
}

static qe_status run(scene *s, int32_t candidates, bool with_parent) {
  qe_population_call call = images_call(&s->on, s->pixels, s->genomes, candidates);
  if (with_parent) call.parent = s->parent;
  return qe_population_run(s->population, &call, &(qe_population_result){.loss = s->loss, .hits = s->hits});
}

static void assert_engine(scene *s, int which, const char *name) {
  assert_int_equal(s->hits[CANDIDATES - 1], which);
  assert_int_equal(s->loss[CANDIDATES - 1], (CANDIDATES - 1) * COUNT); /* of all images, not of a trial's */
  assert_string_equal(qe_population_engine(s->population), name);
}

/* ---- tests ---- */

static void each_kind_of_call_has_its_fastest(void **state) {
  (void)state;
  scene s;
  open_scene(&s);
  cost[PREFIX] = 11;
  cost_with_parent[PREFIX] = 3;
  OK(open_population(&s));
  assert_int_equal(memory_given[WHOLE], 1 << 20);
  assert_string_equal(qe_population_engine(s.population), "whole");
  OK(run(&s, CANDIDATES, false));
  assert_engine(&s, WHOLE, "whole"); /* equal to `third`: the first stays */
  OK(run(&s, CANDIDATES, true));
  assert_engine(&s, PREFIX, "prefix");
  cost[WHOLE] = 100; /* measured once */
  int before = runs[PREFIX];
  OK(run(&s, CANDIDATES, false));
  assert_engine(&s, WHOLE, "whole");
  assert_int_equal(runs[PREFIX], before);
  char *text = population_explained(s.population);
  assert_non_null(strstr(text, "all layers of each candidate: whole 0 us, prefix 0 us, third 0 us, so whole\n"));
  assert_non_null(strstr(text, "0/8 of the multiply-adds are the candidates' own:"));
  assert_non_null(strstr(text, "engine third\n"));
  free(text);
  close_scene(&s);
}

/* A parent that differs from the first layer on is no gain: such calls are of the kind of those without one. */
static void calls_are_told_apart_by_what_is_new_in_them(void **state) {
  (void)state;
  scene s;
  open_scene(&s);
  cost_with_parent[THIRD] = 5;
  OK(open_population(&s));
  OK(run(&s, CANDIDATES, false));
  int before = runs[WHOLE];
  const qe_gene *gene = &s.layout->gene[0];
  for (int i = 0; i < CANDIDATES; i++) {
    draws from = {.seed = 5, .index = (uint64_t)i << 32};
    uint8_t *genome = s.genomes + (size_t)i * s.layout->bytes;
    while (memcmp(genome, s.parent, s.layout->bytes) == 0) codes_change(&from, gene, 1, genome + gene->offset);
  }
  OK(run(&s, CANDIDATES, true));
  assert_int_equal(runs[WHOLE], before + 1);
  assert_engine(&s, WHOLE, "whole");
  memcpy(s.parent, s.genomes, s.layout->bytes);
  for (int i = 0; i < CANDIDATES; i++) memcpy(s.genomes + (size_t)i * s.layout->bytes, s.parent, s.layout->bytes);
  OK(run(&s, CANDIDATES, true));
  assert_engine(&s, THIRD, "third");
  close_scene(&s);
}

static void small_calls_are_not_measured(void **state) {
  (void)state;
  scene s;
  open_scene(&s);
  cost[WHOLE] = 20;
  OK(open_population(&s));
  OK(run(&s, 2, false));
  assert_int_equal(runs[WHOLE], 1);
  assert_int_equal(runs[PREFIX] + runs[THIRD], 0);
  OK(run(&s, CANDIDATES, false));
  assert_engine(&s, PREFIX, "prefix");
  OK(run(&s, 2, false)); /* what is known holds for them too */
  assert_string_equal(qe_population_engine(s.population), "prefix");
  close_scene(&s);
}

static void engines_that_fail_are_left_out(void **state) {
  (void)state;
  scene s;
  open_scene(&s);
  opening[WHOLE] = QE_REFUSED;
  running[PREFIX] = QE_NO_MEMORY;
  cost[PREFIX] = 1;
  OK(open_population(&s));
  OK(run(&s, CANDIDATES, false));
  assert_engine(&s, THIRD, "third");
  running[THIRD] = QE_DEVICE;
  FAILS(QE_DEVICE, run(&s, CANDIDATES, true), "engine 2 does not run");
  close_scene(&s);
}

/* One that is left has all of the memory; without any, networks run op by op, or the want of memory is said. */
static void a_choice_of_one_or_none(void **state) {
  (void)state;
  scene s;
  open_scene(&s);
  opening[WHOLE] = opening[THIRD] = QE_NO_MEMORY;
  OK(open_population(&s));
  assert_int_equal(memory_given[PREFIX], 3 << 20);
  OK(run(&s, CANDIDATES, false));
  assert_int_equal(runs[PREFIX], 1);
  qe_population_free(s.population);
  s.population = NULL;
  opening[PREFIX] = QE_REFUSED;
  FAILS(QE_NO_MEMORY, open_population(&s), "does not open");
  opening[WHOLE] = opening[THIRD] = QE_REFUSED;
  OK(open_population(&s));
  assert_string_equal(qe_population_engine(s.population), "op by op");
  close_scene(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_kind_of_call_has_its_fastest),
      cmocka_unit_test(calls_are_told_apart_by_what_is_new_in_them),
      cmocka_unit_test(small_calls_are_not_measured),
      cmocka_unit_test(engines_that_fail_are_left_out),
      cmocka_unit_test(a_choice_of_one_or_none),
  };
  return cmocka_run_group_tests_name("population choice", tests, fixture_open, fixture_close);
}
