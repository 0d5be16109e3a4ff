/* Population evaluation op by op, on every device, against each candidate as a network of its own: whatever the chunks,
 * with a parent and with a bound; what a call must be. */
#include "core/graph/integer.h"
#include "core/train/trainer.h"

enum { CLASSES = 5, IMAGES = 13, COUNT = 21, CANDIDATES = 9 };
#include "tests/population_draw.h"

typedef struct outcome {
  int64_t loss[CANDIDATES], hits[CANDIDATES];
  int32_t logits[CANDIDATES][COUNT * CLASSES];
} outcome;

/* A network, its candidates, and images on every device. */
typedef struct scene {
  qe_network *network, *scratch; /* the same; one is for the candidates' values */
  qe_genome_layout *layout;
  uint8_t *genomes, *parent;
  images on;
  outcome alone; /* each candidate as a network of its own, on ref */
} scene;

static const network_limits limits = {.extent = 6, .channels = 5, .blocks = 5};

static uint8_t *genome_of(const scene *s, int candidate) {
  return s->genomes + (size_t)candidate * s->layout->bytes;
}

/* ---- candidates ---- */

static void draw_gene(draws *from, const qe_gene *gene, uint8_t *genome) {
  uint8_t *part = genome + gene->offset;
  if (gene->kind == QE_GENE_WEIGHT) {
    codes_change(from, gene, 5, part);
    return;
  }
  int64_t at = draw_range(from, 0, (int32_t)gene->count - 1);
  if (gene->kind == QE_GENE_MULTIPLIER)
    ((int32_t *)(void *)part)[at] /= 2;
  else
    ((int64_t *)(void *)part)[at] += draw_range(from, -5, 5);
}

/* The parent's values from some gene on changed; the first candidate is the parent itself. */
static void draw_candidates(draws *from, scene *s) {
  s->parent = qe_alloc(s->layout->bytes);
  s->genomes = qe_alloc(CANDIDATES * s->layout->bytes);
  qe_genome_from_network(s->layout, s->network, s->parent);
  for (int i = 0; i < CANDIDATES; i++) {
    memcpy(genome_of(s, i), s->parent, s->layout->bytes);
    size_t first = (size_t)draw_range(from, 0, (int32_t)s->layout->genes - 1);
    for (size_t g = first; i > 0 && g < s->layout->genes; g++) draw_gene(from, &s->layout->gene[g], genome_of(s, i));
  }
}

/* ---- running ---- */

typedef struct setting {
  qe_device *device;
  size_t memory;
  int32_t batch;
  bool parent;
  int64_t bound;
  char **explain; /* NULL, or receives the engine's words (free) */
} setting;

static qe_buffer *upload(const scene *s, qe_queue *queue) {
  qe_buffer *pixels;
  OK(images_upload(&s->on, queue, &pixels));
  return pixels;
}

static void run(const scene *s, const setting *with, outcome *to) {
  qe_queue *queue;
  qe_population *population;
  qe_population_options options = {.memory = with->memory, .engine = "op by op", .batch = with->batch};
  OK(qe_queue_new(with->device, &queue));
  qe_buffer *pixels = upload(s, queue);
  OK(qe_population_new(queue, s->network, s->layout, &options, &population));
  assert_string_equal(qe_population_engine(population), "op by op");
  qe_population_call call = images_call(&s->on, pixels, s->genomes, CANDIDATES);
  if (with->parent) call.parent = s->parent;
  call.bound = with->bound;
  memset(to, 0xAA, sizeof *to);
  OK(qe_population_run(population, &call, &(qe_population_result){to->loss, to->hits, to->logits[0]}));
  if (with->explain) *with->explain = population_explained(population);
  qe_population_free(population);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
}

/* The oracle: values into a network, which runs as it is. */
static void run_alone(scene *s) {
  qe_queue *queue;
  OK(qe_queue_new(fixture_device[0], &queue));
  qe_buffer *pixels = upload(s, queue);
  for (int i = 0; i < CANDIDATES; i++) {
    qe_population *population;
    OK(qe_genome_to_network(s->layout, genome_of(s, i), s->scratch));
    OK(qe_network_check(s->scratch));
    OK(qe_population_new(queue, s->scratch, NULL, &(qe_population_options){.engine = "op by op"}, &population));
    qe_population_call call = images_call(&s->on, pixels, NULL, 1);
    qe_population_result result = {&s->alone.loss[i], &s->alone.hits[i], s->alone.logits[i]};
    OK(qe_population_run(population, &call, &result));
    qe_population_free(population);
  }
  qe_buffer_free(pixels);
  qe_queue_free(queue);
}

/* ---- scenes ---- */

/* kind 0: all weights evolve; 1: all that can; 2: some of it. */
static void choose_genes(draws *from, scene *s, int kind) {
  bool *evolves = QE_NEW_ARRAY(bool, s->network->layers);
  size_t some = 0;
  for (size_t i = 0; i < s->network->layers; i++) {
    const qe_network_layer *layer = &s->network->layer[i];
    evolves[i] = (layer->weight || layer->offset) && (kind == 1 || draw_range(from, 0, 2) == 0);
    if (evolves[i]) some++;
  }
  if (!some) evolves[s->network->layers - 1] = true;
  OK(qe_genome_layout_new(s->network, kind == 0 ? NULL : evolves, &s->layout));
  qe_free(evolves);
}

static void finish_scene(draws *from, scene *s, int kind) {
  qe_network_prove(s->network);
  qe_network_prove(s->scratch);
  choose_genes(from, s, kind);
  draw_candidates(from, s);
  images_draw(&s->on, from, &s->network->layer[0].output);
  run_alone(s);
}

static void draw_scene(uint64_t seed, scene *s) {
  draws first = {seed, 0}, second = {seed, 0};
  memset(s, 0, sizeof *s);
  s->network = network_drawn(&first, limits, CLASSES);
  s->scratch = network_drawn(&second, limits, CLASSES);
  finish_scene(&first, s, (int)(seed % 3));
}

static void free_scene(scene *s) {
  qe_network_free(s->network);
  qe_network_free(s->scratch);
  qe_genome_layout_free(s->layout);
  qe_free(s->genomes);
  qe_free(s->parent);
  qe_free(s->on.pixels);
}

static void assert_same(const scene *s, const setting *with, const outcome *got, const char *what, uint64_t seed) {
  for (int i = 0; i < CANDIDATES; i++) {
    bool dropped = s->alone.loss[i] > with->bound;
    int64_t loss = dropped ? QE_DROPPED : s->alone.loss[i], hits = dropped ? 0 : s->alone.hits[i];
    bool logits = dropped || memcmp(got->logits[i], s->alone.logits[i], sizeof got->logits[i]) == 0;
    if (got->loss[i] != loss || got->hits[i] != hits || !logits)
      fail_msg("%s, seed %d, %s, candidate %d: loss %lld, must be %lld; hits %lld, must be %lld; logits %s", what,
               (int)seed, with->device->backend->name, i, (long long)got->loss[i], (long long)loss,
               (long long)got->hits[i], (long long)hits, logits ? "equal" : "differ");
  }
}

/* The least memory (a power of two) that does, by trial. */
static size_t least_memory(const scene *s, qe_device *device) {
  qe_queue *queue;
  OK(qe_queue_new(device, &queue));
  size_t memory = 1;
  for (;; memory *= 2) {
    qe_population *population;
    qe_population_options options = {.memory = memory, .engine = "op by op"};
    qe_status status = qe_population_new(queue, s->network, s->layout, &options, &population);
    if (status == QE_OK) {
      qe_population_free(population);
      break;
    }
    assert_int_equal(status, QE_NO_MEMORY);
    assert_non_null(strstr(qe_message(), "one candidate and one image need"));
  }
  qe_queue_free(queue);
  return memory;
}

static void check_scene(const scene *s, uint64_t seed) {
  FOR_EACH_DEVICE(device) {
    outcome got;
    int64_t middle = s->alone.loss[seed % CANDIDATES];
    const struct {
      const char *what;
      setting with;
    } ways[] = {
        {"at once", {device, 0, 0, false, INT64_MAX, NULL}},
        {"small batches", {device, 0, 8, false, INT64_MAX, NULL}},
        {"little memory", {device, 3 * least_memory(s, device), 0, false, INT64_MAX, NULL}},
        {"parent", {device, 0, 0, true, INT64_MAX, NULL}},
        {"parent, small batches", {device, 0, 5, true, INT64_MAX, NULL}},
        {"parent, little memory", {device, 4 * least_memory(s, device), 0, true, INT64_MAX, NULL}},
        {"bound", {device, 0, 4, false, middle, NULL}},
        {"parent and bound", {device, 0, 4, true, middle - 1, NULL}},
        {"bound 0", {device, 0, 0, false, 0, NULL}},
        {"bound below 0", {device, 0, 0, false, -1, NULL}},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
      run(s, &ways[i].with, &got);
      assert_same(s, &ways[i].with, &got, ways[i].what, seed);
    }
  }
}

static void test_drawn_networks(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 36; seed++) {
    scene s;
    draw_scene(seed, &s);
    check_scene(&s, seed);
    free_scene(&s);
  }
}

/* ---- networks of the zoo ---- */

static qe_network *zoo_network(const qe_dataset *data, const char *name, int bits, char shortcut) {
  qe_model_spec spec = qe_model_default(name);
  qe_model *model;
  qe_network *network;
  spec.height = spec.width = data->height;
  spec.channels = data->channels;
  spec.classes = data->classes;
  spec.shortcut = shortcut;
  spec.bits.weights = spec.bits.activations = bits;
  spec.bits.weight_rule = bits == 1 ? QE_RULE_DOREFA : QE_RULE_LSQ;
  if (bits == 1) spec.bits.edges = 4;
  OK(qe_model_new(&spec, 1, &model));
  OK(qe_fit_steps(fixture_fast(), model, data, 1));
  OK(qe_network_from_graph(model->graph, model->values, &network));
  qe_model_free(model);
  return network;
}

static void test_zoo_networks(void **state) {
  (void)state;
  qe_dataset *data = small_data(8, 3, CLASSES, 40, 4);
  for (int bits = 1; bits <= 8; bits++) {
    const char *name = bits % 2 ? "resnet20" : "mlp";
    draws from = {(uint64_t)bits, 0};
    scene s = {.network = zoo_network(data, name, bits, bits % 4 == 1 ? 'B' : 'A'),
               .scratch = zoo_network(data, name, bits, bits % 4 == 1 ? 'B' : 'A')};
    finish_scene(&from, &s, 2);
    outcome got;
    setting ways[] = {{fixture_fast(), 0, 16, false, INT64_MAX, NULL}, {fixture_fast(), 0, 16, true, INT64_MAX, NULL}};
    for (int i = 0; i < 2; i++) {
      run(&s, &ways[i], &got);
      assert_same(&s, &ways[i], &got, name, (uint64_t)bits);
    }
    free_scene(&s);
  }
  qe_dataset_free(data);
}

/* ---- what is saved ---- */

/* Candidate images that ran through layer `layer`, and the parent's, from what the engine says of its programs. */
static void count_work(const char *text, int32_t layer, int32_t batch, int64_t *candidates, int64_t *parent) {
  *candidates = *parent = 0;
  for (const char *line = text; line; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    int population, first, last;
    long long runs;
    bool of_parent =
        sscanf(line, "parent, candidates %d, layers %d...%d: %lld", &population, &first, &last, &runs) == 4;
    if (!of_parent && sscanf(line, "candidates %d, layers %d...%d: %lld", &population, &first, &last, &runs) != 4)
      continue;
    if (layer >= first && layer <= last) *(of_parent ? parent : candidates) += (int64_t)population * runs * batch;
  }
}

/* All candidates differ from the parent in the last convolution only: the layers before run once for all. */
static void test_prefix_runs_once(void **state) {
  (void)state;
  scene s;
  outcome got;
  char *text;
  int64_t candidates, parent;
  draw_scene(3, &s); /* all weights evolve */
  const qe_gene *last = &s.layout->gene[s.layout->genes - 1];
  for (int i = 0; i < CANDIDATES; i++) {
    draws from = {(uint64_t)i, 7};
    memcpy(genome_of(&s, i), s.parent, s.layout->bytes);
    draw_gene(&from, last, genome_of(&s, i));
  }
  run_alone(&s);
  setting with = {fixture_fast(), 0, 7, true, INT64_MAX, &text};
  run(&s, &with, &got);
  assert_same(&s, &with, &got, "late changes", 3);
  count_work(text, 1, 7, &candidates, &parent);
  assert_int_equal(candidates, 0);
  assert_int_equal(parent, COUNT);
  count_work(text, last->layer, 7, &candidates, &parent);
  assert_int_equal(candidates, CANDIDATES * COUNT);
  assert_int_equal(parent, 0);
  free(text);
  with.parent = false;
  run(&s, &with, &got);
  count_work(text, 1, 7, &candidates, &parent);
  assert_int_equal(candidates, CANDIDATES * COUNT);
  free(text);
  free_scene(&s);
}

static void test_dropped_candidates_stop(void **state) {
  (void)state;
  scene s;
  outcome got;
  char *text;
  int64_t candidates, parent;
  draw_scene(3, &s);
  setting with = {fixture_fast(), 0, 1, false, 0, &text};
  for (int i = 0; i < CANDIDATES; i++) assert_true(s.alone.loss[i] > 0);
  run(&s, &with, &got);
  assert_same(&s, &with, &got, "dropped", 3);
  count_work(text, (int32_t)s.network->layers - 1, 1, &candidates, &parent);
  assert_true(candidates < CANDIDATES * COUNT / 2);
  free(text);
  free_scene(&s);
}

/* ---- one population, many calls ---- */

static void test_calls_of_all_sizes(void **state) {
  (void)state;
  scene s;
  outcome got;
  qe_queue *queue;
  qe_population *population;
  draw_scene(4, &s);
  OK(qe_queue_new(fixture_fast(), &queue));
  qe_buffer *pixels = upload(&s, queue);
  OK(qe_population_new(queue, s.network, s.layout, &(qe_population_options){.engine = "op by op"}, &population));
  char *text = population_explained(population);
  assert_non_null(strstr(text, "made by the first run"));
  free(text);
  const int32_t sizes[][2] = {{1, 1}, {CANDIDATES, 3}, {2, COUNT}, {CANDIDATES, COUNT}, {3, 2}, {1, COUNT}};
  for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
    qe_population_call call = images_call(&s.on, pixels, s.genomes, CANDIDATES);
    call.candidates = sizes[k][0];
    call.count = sizes[k][1];
    if (k % 2) call.parent = s.parent;
    OK(qe_population_run(population, &call, &(qe_population_result){got.loss, got.hits, got.logits[0]}));
    for (int32_t i = 0; i < sizes[k][0]; i++)
      assert_memory_equal(got.logits[0] + (size_t)i * (size_t)call.count * CLASSES, s.alone.logits[i],
                          (size_t)call.count * CLASSES * sizeof(int32_t));
  }
  qe_population_free(population);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
  free_scene(&s);
}

/* Without a layout nothing evolves: all candidates are the network. */
static void test_nothing_evolves(void **state) {
  (void)state;
  scene s;
  outcome got;
  qe_queue *queue;
  qe_population *population;
  draw_scene(6, &s);
  OK(qe_queue_new(fixture_fast(), &queue));
  qe_buffer *pixels = upload(&s, queue);
  OK(qe_population_new(queue, s.network, NULL, NULL, &population));
  qe_population_call call = images_call(&s.on, pixels, s.genomes, CANDIDATES);
  OK(qe_population_run(population, &call, &(qe_population_result){got.loss, got.hits, got.logits[0]}));
  for (int i = 0; i < CANDIDATES; i++) { /* candidate 0 is the parent, which is the network */
    assert_int_equal(got.loss[i], s.alone.loss[0]);
    assert_memory_equal(got.logits[i], s.alone.logits[0], sizeof got.logits[i]);
  }
  qe_population_free(population);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
  free_scene(&s);
}

/* ---- what is refused ---- */

#define REFUSES(wanted, change, text)                                                                                  \
  do {                                                                                                                 \
    qe_population_call call = images_call(&s.on, pixels, s.genomes, CANDIDATES);                                       \
    change;                                                                                                            \
    FAILS(wanted, qe_population_run(population, &call, &result), text);                                                \
    assert_memory_equal(&got, &before, sizeof got);                                                                    \
  } while (0)

static void test_bad_calls_change_nothing(void **state) {
  (void)state;
  scene s;
  static outcome got, before;
  qe_queue *queue;
  qe_population *population;
  draw_scene(3, &s);
  OK(qe_queue_new(fixture_fast(), &queue));
  qe_buffer *pixels = upload(&s, queue);
  OK(qe_population_new(queue, s.network, s.layout, NULL, &population));
  memset(&got, 0x55, sizeof got);
  before = got;
  qe_population_result result = {got.loss, got.hits, got.logits[0]};
  int32_t bad_index[COUNT], bad_label[COUNT];
  memcpy(bad_index, s.on.index, sizeof bad_index);
  memcpy(bad_label, s.on.labels, sizeof bad_label);
  bad_index[COUNT - 1] = IMAGES;
  bad_label[2] = -1;
  REFUSES(QE_SHAPE, call.index = bad_index, "index 13 at 20");
  REFUSES(QE_SHAPE, call.labels = bad_label, "label -1 at 2");
  REFUSES(QE_SHAPE, call.count = 0, "0 images");
  REFUSES(QE_SHAPE, call.image_count = IMAGES + 1, "14 images");
  REFUSES(QE_SHAPE, call.image_count = 0, "0 images");
  REFUSES(QE_SHAPE, call.candidates = 0, "0 candidates");
  REFUSES(QE_SHAPE, call.genomes = NULL, "without genomes");
  REFUSES(QE_USAGE, call.genomes = s.genomes + 1, "multiple of 8");
  qe_population_free(population);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
  free_scene(&s);
}

static void test_bad_genomes_are_named(void **state) {
  (void)state;
  scene s;
  static outcome got, before;
  qe_queue *queue;
  qe_population *population;
  draw_scene(3, &s);
  qe_gene *gene = &s.layout->gene[0];
  qe_network_layer *layer = &s.network->layer[gene->layer];
  for (int64_t k = 0; k < gene->count; k++) layer->weight[k] = (int8_t)layer->grid.low;
  layer->grid.high -= layer->grid.spacing; /* the largest field is no code any more */
  gene->grid = layer->grid;
  qe_network_prove(s.network);
  OK(qe_queue_new(fixture_fast(), &queue));
  qe_buffer *pixels = upload(&s, queue);
  OK(qe_population_new(queue, s.network, s.layout, NULL, &population));
  memset(&got, 0x55, sizeof got);
  before = got;
  qe_population_result result = {got.loss, got.hits, got.logits[0]};
  for (int i = 0; i < CANDIDATES; i++) memset(genome_of(&s, i) + gene->offset, 0, gene->bytes);
  memset(s.parent + gene->offset, 0, gene->bytes);
  genome_of(&s, 4)[gene->offset] = 0xFF;
  REFUSES(QE_FORMAT, (void)call, "population, candidate 4: genome, layer");
  genome_of(&s, 4)[gene->offset] = 0;
  s.parent[gene->offset] = 0xFF;
  REFUSES(QE_FORMAT, call.parent = s.parent, "population, parent: genome, layer");
  qe_population_free(population);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
  free_scene(&s);
}

static void test_bad_networks_are_refused(void **state) {
  (void)state;
  scene s;
  qe_queue *queue;
  qe_population *population;
  draw_scene(1, &s);
  OK(qe_queue_new(fixture_fast(), &queue));
  s.network->layer[1].input[0] = 1;
  FAILS(QE_FORMAT, qe_population_new(queue, s.network, s.layout, NULL, &population), "layer 1");
  qe_queue_free(queue);
  free_scene(&s);
}

/* ---- the choice of the engine ---- */

static const char *refuse_all(const qe_device *device, const qe_network *network) {
  (void)device;
  (void)network;
  return "it takes none";
}

static qe_status refuse_to_open(qe_queue *queue, const qe_network *network, const qe_genome_layout *layout,
                                const qe_population_options *options, void **to) {
  (void)queue;
  (void)network;
  (void)layout;
  (void)options;
  *to = NULL;
  return qe_fail(QE_REFUSED, "it does not open");
}

static const qe_network_engine *const *two_engines(const qe_device *device, int *count) {
  static const qe_network_engine unwilling = {.name = "unwilling", .refuse = refuse_all},
                                 closed = {.name = "closed", .open = refuse_to_open};
  static const qe_network_engine *const list[] = {&unwilling, &closed};
  (void)device;
  *count = 2;
  return list;
}

static void test_engines_by_name(void **state) {
  (void)state;
  scene s;
  qe_population *population;
  qe_queue *queue;
  qe_device *device = fixture_fast();
  const qe_device_table *table = device->table;
  qe_device_table other = *table;
  other.engines = two_engines;
  draw_scene(1, &s);
  OK(qe_queue_new(device, &queue));
  device->table = &other;
  OK(qe_population_new(queue, s.network, s.layout, NULL, &population));
  assert_string_equal(qe_population_engine(population), "op by op");
  assert_string_equal(qe_message(), "");
  qe_population_free(population);
  qe_population_options options = {.engine = "unwilling"};
  FAILS(QE_REFUSED, qe_population_new(queue, s.network, s.layout, &options, &population), "it takes none");
  options.engine = "closed";
  FAILS(QE_REFUSED, qe_population_new(queue, s.network, s.layout, &options, &population), "it does not open");
  options.engine = "none such";
  FAILS(QE_NOT_FOUND, qe_population_new(queue, s.network, s.layout, &options, &population),
        "there are 'unwilling', 'closed', 'op by op'");
  device->table = table;
  qe_queue_free(queue);
  free_scene(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_drawn_networks),           cmocka_unit_test(test_zoo_networks),
      cmocka_unit_test(test_prefix_runs_once),         cmocka_unit_test(test_dropped_candidates_stop),
      cmocka_unit_test(test_calls_of_all_sizes),       cmocka_unit_test(test_nothing_evolves),
      cmocka_unit_test(test_bad_calls_change_nothing), cmocka_unit_test(test_bad_genomes_are_named),
      cmocka_unit_test(test_bad_networks_are_refused), cmocka_unit_test(test_engines_by_name),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
