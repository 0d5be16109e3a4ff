/* The engine `batched` of the portable backends against the same networks run op by op on `ref`: the same bits in every
 * layout, with every kernel put first, for all kinds of calls. */
enum { CLASSES = 7, IMAGES = 45, COUNT = IMAGES, CANDIDATES = 6 };
#include "tests/population_draw.h"

typedef struct outcome {
  int64_t loss[CANDIDATES], hits[CANDIDATES];
  int32_t logits[CANDIDATES][IMAGES * CLASSES];
} outcome;

/* A network with candidates and images. */
typedef struct scene {
  qe_network *network;
  qe_genome_layout *layout; /* NULL: nothing evolves */
  uint8_t *genomes, *parent;
  bool plain; /* every kernel takes some of its convolutions, those of bits aside */
  bool bits;  /* these do, too */
  images on;
  outcome wanted;
} scene;

typedef struct way {
  const char *what;
  bool parent;
  int64_t bound;
  size_t memory;
  int32_t batch;
} way;

/* ---- devices ---- */

static const char *const backends[] = {"opencl", "cuda"};
enum { BACKENDS = sizeof backends / sizeof *backends };
static qe_device *portable[BACKENDS]; /* NULL: not here */

static int open_devices(void **state) {
  if (fixture_open(state)) return -1;
  qe_open_options options = {.threads = 1};
  for (int i = 0; i < BACKENDS; i++)
    if (qe_device_open(fixture_registry, backends[i], 0, &options, &portable[i]) != QE_OK) portable[i] = NULL;
  return 0;
}

static int close_devices(void **state) {
  for (int i = 0; i < BACKENDS; i++) qe_device_close(portable[i]);
  return fixture_close(state);
}

/* A layout and a kernel that go first; NULL: as the engine chooses. `only`: the one backend that has the kernel. */
typedef struct choice {
  const char *form, *kernel, *only;
} choice;

/* clang-format off */
static const choice choices[] = {
    {NULL, NULL, NULL},
    {"lanes", "short 4x4", NULL}, {"lanes", "short 4x2", NULL}, {"lanes", "short 4x1", NULL}, {"lanes", "int 4x4", NULL},
    {"lanes", "int 4x2", NULL},   {"lanes", "int 4x1", NULL},   {"lanes", "int 1x4", NULL},
    {"rows", "plain", NULL},
    {"rows", "band 16", NULL},    {"rows", "band 32", NULL},    {"rows", "band 64", NULL},
    {"rows", "tile 16", NULL},    {"rows", "tile 32", NULL},    {"rows", "tile 64", NULL},
    {"rows", "mma 16", "cuda"},   {"rows", "mma 32", "cuda"},   {"rows", "mma 64", "cuda"},
    {"rows", "wgmma 16", "cuda"}, {"rows", "wgmma 32", "cuda"}, {"rows", "wgmma 64", "cuda"},
    {"rows", "bits 16", "cuda"},  {"rows", "bits 32", "cuda"},  {"rows", "bits 64", "cuda"}};
/* clang-format on */
enum { CHOICES = sizeof choices / sizeof *choices };

static void set_variable(const char *name, const char *value) {
  if (value)
    setenv(name, value, 1);
  else
    unsetenv(name);
}

static void set_choice(const choice *c) {
  set_variable("QEVO_BATCHED_FORM", c ? c->form : NULL);
  set_variable("QEVO_BATCHED_KERNEL", c ? c->kernel : NULL);
}

/* ---- scenes ---- */

/* Some values of a gene changed. */
static void change_gene(draws *from, const qe_gene *gene, bool all, uint8_t *genome) {
  uint8_t *part = genome + gene->offset;
  if (gene->kind == QE_GENE_MULTIPLIER) {
    ((int32_t *)(void *)part)[draw_range(from, 0, (int32_t)gene->count - 1)] /= 2;
    return;
  }
  if (gene->kind == QE_GENE_OFFSET) {
    ((int64_t *)(void *)part)[draw_range(from, 0, (int32_t)gene->count - 1)] /= 2;
    return;
  }
  codes_change(from, gene, all ? gene->count : 1 + gene->count / 50, part);
}

/* Candidate 0 is new in all layers, 1 is the network itself, the others differ from some layer on. */
static void draw_genomes(draws *from, scene *s) {
  s->genomes = qe_calloc(CANDIDATES, s->layout->bytes);
  assert_non_null(s->genomes);
  for (int32_t p = 0; p < CANDIDATES; p++) {
    uint8_t *genome = s->genomes + (size_t)p * s->layout->bytes;
    qe_genome_from_network(s->layout, s->network, genome);
    int32_t start = draw_range(from, 0, (int32_t)s->layout->genes - 1);
    for (size_t g = 0; p != 1 && g < s->layout->genes; g++)
      if (p == 0 || (int32_t)g >= start) change_gene(from, &s->layout->gene[g], p == 0, genome);
  }
  s->parent = s->genomes + (size_t)draw_range(from, 1, CANDIDATES - 1) * s->layout->bytes;
}

/* evolving: 0 nothing, 1 all weights, 2 some layers, requantisers too. */
static qe_genome_layout *draw_layout(draws *from, const qe_network *network, int evolving) {
  qe_genome_layout *layout = NULL;
  bool *evolves = QE_NEW_ARRAY(bool, network->layers);
  assert_non_null(evolves);
  for (size_t i = 0; i < network->layers; i++) {
    bool may = network->layer[i].weight || network->layer[i].offset;
    evolves[i] = may && draw_range(from, 0, 1);
  }
  evolves[network->layers - 1] = true;
  if (evolving) OK(qe_genome_layout_new(network, evolving == 1 ? NULL : evolves, &layout));
  qe_free(evolves);
  return layout;
}

/* Whether the engine has the layout on this device; `kernel` that is forced must then be used somewhere. */
static bool has_choice(const qe_population *population, const choice *c, bool kernel) {
  char wanted[64], *text = population_explained(population);
  snprintf(wanted, sizeof wanted, "layout %s,", c->form ? c->form : "");
  bool has = !c->form || strstr(text, wanted);
  snprintf(wanted, sizeof wanted, "by %s", c->kernel ? c->kernel : "");
  if (has && kernel && c->kernel && !strstr(text, wanted)) fail_msg("%s is not used:\n%s", c->kernel, text);
  free(text);
  return has;
}

/* false: the device has no such layout. */
static bool evaluate(const scene *s, qe_device *device, const way *with, const char *engine, const choice *c,
                     outcome *to) {
  qe_queue *queue;
  qe_buffer *pixels;
  qe_population *population;
  qe_population_options options = {.memory = with->memory, .engine = engine, .batch = with->batch};
  memset(to, 0, sizeof *to);
  OK(qe_queue_new(device, &queue));
  OK(images_upload(&s->on, queue, &pixels));
  OK(qe_population_new(queue, s->network, s->layout, &options, &population));
  assert_string_equal(qe_population_engine(population), engine);
  qe_population_call call = images_call(&s->on, pixels, s->genomes, s->genomes ? CANDIDATES : 1);
  call.parent = with->parent ? s->parent : NULL;
  call.bound = with->bound;
  bool bits = c && c->kernel && strncmp(c->kernel, "bits", 4) == 0;
  bool has = !c || has_choice(population, c, bits ? s->bits : s->plain);
  if (has) OK(qe_population_run(population, &call, &(qe_population_result){to->loss, to->hits, to->logits[0]}));
  qe_population_free(population);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
  return has;
}

static void draw_scene(draws *from, network_limits limits, int evolving, scene *s) {
  *s = (scene){.network = network_drawn(from, limits, CLASSES), .plain = limits.plain};
  s->bits = limits.plain && limits.weight_bits == 1 && limits.act_bits == 1 && limits.channels % 32 == 0;
  OK(qe_network_check(s->network));
  s->layout = draw_layout(from, s->network, evolving);
  images_draw(&s->on, from, &s->network->layer[0].output);
  if (s->layout) draw_genomes(from, s);
  way plain = {.bound = INT64_MAX};
  evaluate(s, fixture_device[0], &plain, "op by op", NULL, &s->wanted);
}

static void free_scene(scene *s) {
  qe_free(s->genomes);
  qe_free(s->on.pixels);
  qe_genome_layout_free(s->layout);
  qe_network_free(s->network);
}

/* ---- comparing ---- */

static void check_same(const scene *s, const way *with, const outcome *got, const char *label) {
  for (int i = 0; i < (s->genomes ? CANDIDATES : 1); i++) {
    bool dropped = s->wanted.loss[i] > with->bound;
    int64_t loss = dropped ? QE_DROPPED : s->wanted.loss[i], hits = dropped ? 0 : s->wanted.hits[i];
    bool logits = dropped || memcmp(got->logits[i], s->wanted.logits[i], sizeof got->logits[i]) == 0;
    if (got->loss[i] == loss && got->hits[i] == hits && logits) continue;
    qe_network_dump(s->network, stderr);
    fail_msg("%s, %s: candidate %d has loss %lld, must be %lld; hits %lld, must be %lld; logits %s", label, with->what,
             i, (long long)got->loss[i], (long long)loss, (long long)got->hits[i], (long long)hits,
             logits ? "equal" : "differ");
  }
}

static void check_way(const scene *s, qe_device *device, const choice *c, const way *with, uint64_t number) {
  static outcome got;
  char label[160];
  if (c->only && strcmp(c->only, device->backend->name) != 0) return;
  snprintf(label, sizeof label, "scene %llu on %s, layout %s, kernel %s", (unsigned long long)number,
           device->backend->name, c->form ? c->form : "of choice", c->kernel ? c->kernel : "of choice");
  set_choice(c);
  bool has = evaluate(s, device, with, "batched", c, &got);
  set_choice(NULL);
  if (has) check_same(s, with, &got, label);
}

#define FOR_EACH_PORTABLE(device)                                                                                      \
  for (int device##_at = 0; device##_at < BACKENDS; device##_at++)                                                     \
    for (qe_device *device = portable[device##_at]; device; device = NULL)

/* One network with every kernel put first. */
static void check_kernels(draws *from, network_limits limits, uint64_t number) {
  scene s;
  way plain = {.what = "at once", .bound = INT64_MAX};
  draw_scene(from, limits, draw_range(from, 0, 2), &s);
  FOR_EACH_PORTABLE(device)
  for (int i = 0; i < CHOICES; i++) check_way(&s, device, &choices[i], &plain, number);
  free_scene(&s);
}

static void test_networks_of_all_kinds(void **state) {
  (void)state;
  draws from = {.seed = 21};
  for (uint64_t i = 0; i < 24; i++) check_kernels(&from, (network_limits){.extent = 9, .channels = 9, .blocks = 6}, i);
}

static void test_residual_networks(void **state) {
  (void)state;
  draws from = {.seed = 22};
  /* of weights, of activations, channels */
  static const int32_t shape[][3] = {{4, 4, 33}, {2, 2, 20}, {1, 1, 33}, {8, 8, 20},
                                     {3, 2, 33}, {4, 1, 20}, {1, 1, 64}};
  for (uint64_t i = 0; i < sizeof shape / sizeof *shape; i++)
    check_kernels(&from,
                  (network_limits){.extent = 8,
                                   .channels = shape[i][2],
                                   .blocks = 5,
                                   .weight_bits = shape[i][0],
                                   .act_bits = shape[i][1],
                                   .plain = true},
                  i);
}

/* ---- calls of all kinds ---- */

static size_t least_memory(const scene *s, qe_device *device, const choice *c) {
  qe_queue *queue;
  size_t memory = 1024;
  set_choice(c);
  OK(qe_queue_new(device, &queue));
  for (;; memory += memory / 4) {
    qe_population *population;
    qe_population_options options = {.memory = memory, .engine = "batched"};
    qe_status status = qe_population_new(queue, s->network, s->layout, &options, &population);
    if (status == QE_OK) {
      qe_population_free(population);
      break;
    }
    assert_int_equal(status, QE_NO_MEMORY);
    assert_non_null(strstr(qe_message(), "one candidate and one image need"));
  }
  qe_queue_free(queue);
  set_choice(NULL);
  return memory;
}

static void check_calls(const scene *s, qe_device *device, const choice *c, uint64_t number) {
  size_t least = least_memory(s, device, c);
  int64_t middle = s->wanted.loss[number % CANDIDATES];
  const way ways[] = {
      {"at once", false, INT64_MAX, 0, 0},
      {"a few images at a time", false, INT64_MAX, 0, 7},
      {"the least memory", false, INT64_MAX, least, 0},
      {"little memory, with a parent", true, INT64_MAX, 2 * least, 0},
      {"with a parent", true, INT64_MAX, 0, 0},
      {"with a bound", false, middle, 0, 16},
      {"with a parent and a bound just below", true, middle - 1, 0, 5},
      {"little memory, with a parent and a bound", true, middle, 2 * least, 0},
      {"no loss is allowed", true, -1, 0, 0},
  };
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) check_way(s, device, c, &ways[i], number);
}

static void test_calls_of_all_kinds(void **state) {
  (void)state;
  draws from = {.seed = 23};
  static const choice layouts[] = {{"lanes", NULL, NULL}, {"rows", NULL, NULL}};
  for (uint64_t i = 0; i < 12; i++) {
    scene s;
    network_limits limits = {.extent = 8, .channels = 8, .blocks = 5, .weight_bits = draw_range(&from, 1, 5)};
    draw_scene(&from, limits, 1 + (int)(i % 2), &s);
    FOR_EACH_PORTABLE(device)
    for (int k = 0; k < 2; k++) check_calls(&s, device, &layouts[k], i);
    free_scene(&s);
  }
}

/* One population, calls of different sizes, and one that is refused between them. */
static void test_calls_in_a_row(void **state) {
  (void)state;
  draws from = {.seed = 24};
  scene s;
  static outcome got;
  draw_scene(&from, (network_limits){.extent = 7, .channels = 6, .blocks = 5}, 1, &s);
  FOR_EACH_PORTABLE(device) {
    qe_queue *queue;
    qe_buffer *pixels;
    qe_population *population;
    OK(qe_queue_new(device, &queue));
    OK(images_upload(&s.on, queue, &pixels));
    OK(qe_population_new(queue, s.network, s.layout, &(qe_population_options){.engine = "batched"}, &population));
    const int32_t sizes[][2] = {{1, 1}, {CANDIDATES, 3}, {2, IMAGES}, {CANDIDATES, IMAGES}, {3, 2}, {1, IMAGES}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
      qe_population_call call = images_call(&s.on, pixels, s.genomes, sizes[k][0]);
      call.count = sizes[k][1];
      if (k % 2) call.parent = s.parent;
      qe_population_result result = {got.loss, got.hits, got.logits[0]};
      int32_t label = s.on.labels[0];
      s.on.labels[0] = CLASSES;
      FAILS(QE_SHAPE, qe_population_run(population, &call, &result), "label");
      s.on.labels[0] = label;
      OK(qe_population_run(population, &call, &result));
      for (int32_t i = 0; i < sizes[k][0]; i++)
        assert_memory_equal(got.logits[0] + (size_t)i * (size_t)call.count * CLASSES, s.wanted.logits[i],
                            (size_t)call.count * CLASSES * sizeof(int32_t));
    }
    qe_population_free(population);
    qe_buffer_free(pixels);
    qe_queue_free(queue);
  }
  free_scene(&s);
}

/* A genome that holds no code of the grid is refused before anything runs. */
static void test_damaged_genomes(void **state) {
  (void)state;
  draws from = {.seed = 25};
  scene s;
  draw_scene(&from, (network_limits){.extent = 5, .channels = 5, .blocks = 3, .weight_bits = 4}, 1, &s);
  qe_gene *gene = &s.layout->gene[0];
  qe_network_layer *layer = &s.network->layer[gene->layer];
  for (int64_t k = 0; k < gene->count; k++) layer->weight[k] = (int8_t)layer->grid.low;
  layer->grid.high -= layer->grid.spacing; /* the largest field is no code any more */
  gene->grid = layer->grid;
  qe_network_prove(s.network);
  for (int i = 0; i < CANDIDATES; i++) memset(s.genomes + (size_t)i * s.layout->bytes + gene->offset, 0, gene->bytes);
  s.genomes[2 * s.layout->bytes + gene->offset] = 0xFF;
  FOR_EACH_PORTABLE(device) {
    qe_queue *queue;
    qe_buffer *pixels;
    qe_population *population;
    int64_t loss[CANDIDATES], hits[CANDIDATES];
    OK(qe_queue_new(device, &queue));
    OK(images_upload(&s.on, queue, &pixels));
    OK(qe_population_new(queue, s.network, s.layout, &(qe_population_options){.engine = "batched"}, &population));
    qe_population_call call = images_call(&s.on, pixels, s.genomes, CANDIDATES);
    FAILS(QE_FORMAT, qe_population_run(population, &call, &(qe_population_result){loss, hits, NULL}),
          "population, candidate 2: genome, layer");
    qe_population_free(population);
    qe_buffer_free(pixels);
    qe_queue_free(queue);
  }
  free_scene(&s);
}

/* A launch has a dimension of candidates, of which CUDA takes no more than 65535. The emulated device would need
 * minutes for them. */
static void test_more_candidates_than_a_launch_takes(void **state) {
  (void)state;
  enum { MANY = 65535 + 9 };
  draws from = {.seed = 26};
  scene s;
  network_limits limits = {.extent = 1, .channels = 4, .blocks = 1, .weight_bits = 4, .act_bits = 4, .plain = true};
  draw_scene(&from, limits, 1, &s);
  size_t each = s.layout->bytes;
  uint8_t *genomes = qe_alloc(MANY * each);
  int64_t *loss = QE_NEW_ARRAY(int64_t, MANY), *hits = QE_NEW_ARRAY(int64_t, MANY);
  int32_t *logits = QE_NEW_ARRAY(int32_t, MANY * CLASSES);
  for (int32_t i = 0; i < MANY; i++) memcpy(genomes + (size_t)i * each, s.genomes + i % CANDIDATES * each, each);
  FOR_EACH_PORTABLE(device) {
    qe_queue *queue;
    qe_buffer *pixels;
    qe_population *population;
    if (strcmp(device->backend->name, "cuda") == 0 && getenv("QEVO_CUDA_DRIVER")) continue;
    OK(qe_queue_new(device, &queue));
    OK(images_upload(&s.on, queue, &pixels));
    OK(qe_population_new(queue, s.network, s.layout, &(qe_population_options){.engine = "batched"}, &population));
    qe_population_call call = images_call(&s.on, pixels, genomes, MANY);
    call.count = 1;
    OK(qe_population_run(population, &call, &(qe_population_result){loss, hits, logits}));
    for (int32_t i = 0; i < MANY; i++)
      assert_memory_equal(logits + (size_t)i * CLASSES, s.wanted.logits[i % CANDIDATES], CLASSES * sizeof *logits);
    char *text = population_explained(population);
    assert_non_null(strstr(text, "at most 65534 candidates"));
    free(text);
    qe_population_free(population);
    qe_buffer_free(pixels);
    qe_queue_free(queue);
  }
  qe_free(genomes);
  qe_free(loss);
  qe_free(hits);
  qe_free(logits);
  free_scene(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_networks_of_all_kinds), cmocka_unit_test(test_residual_networks),
      cmocka_unit_test(test_calls_of_all_kinds),    cmocka_unit_test(test_calls_in_a_row),
      cmocka_unit_test(test_damaged_genomes),       cmocka_unit_test(test_more_candidates_than_a_launch_takes),
  };
  return cmocka_run_group_tests(tests, open_devices, close_devices);
}
