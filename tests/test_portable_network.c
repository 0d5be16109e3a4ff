/* The portable kernels in whole integer networks: random networks and populations op by op on OpenCL against ref, and
 * what becomes of an index or a label out of range. Skipped where no OpenCL device is. */
#include "core/dispatch/population.h"
#include "tests/network_draw.h"

enum { CLASSES = 5, IMAGES = 9, COUNT = 11, CANDIDATES = 5, NETWORKS = 14 };

static qe_device *opencl;

static int open_devices(void **state) {
  if (fixture_open(state)) return -1;
  if (qe_device_open(fixture_registry, "opencl", 0, &(qe_open_options){0}, &opencl) != QE_OK) opencl = NULL;
  return 0;
}

static int close_devices(void **state) {
  qe_device_close(opencl);
  return fixture_close(state);
}

/* ---- populations ---- */

typedef struct scene {
  qe_network *network;
  qe_genome_layout *layout;
  uint8_t *genomes; /* the parent, then the candidates */
  uint8_t *pixels;
  size_t pixel_bytes;
  int32_t index[COUNT], labels[COUNT];
} scene;

typedef struct outcome {
  int64_t loss[CANDIDATES], hits[CANDIDATES];
  int32_t logits[CANDIDATES][COUNT * CLASSES];
} outcome;

/* Fields of drawn grids use all their bits, so that any bytes are codes. */
static void change_gene(draws *from, const qe_gene *gene, uint8_t *genome) {
  uint8_t *part = genome + gene->offset;
  size_t whole = (size_t)gene->count * (size_t)gene->grid.bits / 8;
  if (gene->kind == QE_GENE_MULTIPLIER)
    ((int32_t *)(void *)part)[0] /= 2;
  else if (gene->kind == QE_GENE_OFFSET)
    ((int64_t *)(void *)part)[0] += 3;
  else
    for (int k = 0; k < 4 && whole; k++) part[draw_range(from, 0, (int32_t)whole - 1)] = (uint8_t)draw_word(from);
}

/* Candidate i differs from the parent from its i-th part of the genes on. */
static void draw_genomes(draws *from, scene *s) {
  s->genomes = qe_alloc((CANDIDATES + 1) * s->layout->bytes);
  assert_non_null(s->genomes);
  qe_genome_from_network(s->layout, s->network, s->genomes);
  for (size_t i = 0; i < CANDIDATES; i++) {
    uint8_t *genome = s->genomes + (i + 1) * s->layout->bytes;
    memcpy(genome, s->genomes, s->layout->bytes);
    for (size_t g = s->layout->genes * i / CANDIDATES; g < s->layout->genes; g++)
      change_gene(from, &s->layout->gene[g], genome);
  }
}

static void draw_scene(uint64_t seed, scene *s) {
  draws from = {seed, 0};
  network_limits limits = {.extent = 9, .channels = seed % 3 ? 21 : 6, .blocks = 5};
  *s = (scene){.network = network_drawn(&from, limits, CLASSES)};
  qe_network_prove(s->network);
  bool *evolves = QE_NEW_ARRAY(bool, s->network->layers);
  assert_non_null(evolves);
  for (size_t i = 0; i < s->network->layers; i++) {
    const qe_network_layer *layer = &s->network->layer[i];
    evolves[i] = layer->weight || (seed % 2 && layer->offset);
  }
  OK(qe_genome_layout_new(s->network, evolves, &s->layout));
  qe_free(evolves);
  draw_genomes(&from, s);
  s->pixel_bytes = (size_t)qe_count(&s->network->layer[0].output) * IMAGES;
  s->pixels = qe_alloc(s->pixel_bytes);
  assert_non_null(s->pixels);
  for (size_t i = 0; i < s->pixel_bytes; i++) s->pixels[i] = (uint8_t)draw_word(&from);
  for (int i = 0; i < COUNT; i++) {
    s->index[i] = draw_range(&from, 0, IMAGES - 1);
    s->labels[i] = draw_range(&from, 0, CLASSES - 1);
  }
}

static void free_scene(scene *s) {
  qe_network_free(s->network);
  qe_genome_layout_free(s->layout);
  qe_free(s->genomes);
  qe_free(s->pixels);
}

static void run(const scene *s, qe_device *device, bool parent, outcome *to) {
  qe_queue *queue;
  qe_buffer *images;
  qe_population *population;
  OK(qe_queue_new(device, &queue));
  OK(qe_buffer_new(device, s->pixel_bytes, &images));
  OK(qe_queue_write(queue, images, 0, s->pixels, s->pixel_bytes));
  OK(qe_population_new(queue, s->network, s->layout, &(qe_population_options){.engine = "op by op", .batch = 8},
                       &population));
  qe_population_call call = {.images = images,
                             .image_count = IMAGES,
                             .index = s->index,
                             .labels = s->labels,
                             .count = COUNT,
                             .genomes = s->genomes + s->layout->bytes,
                             .candidates = CANDIDATES,
                             .parent = parent ? s->genomes : NULL,
                             .bound = INT64_MAX};
  memset(to, 0xAA, sizeof *to);
  OK(qe_population_run(population, &call, &(qe_population_result){to->loss, to->hits, to->logits[0]}));
  qe_population_free(population);
  qe_buffer_free(images);
  qe_queue_free(queue);
}

static void test_populations_as_on_ref(void **state) {
  (void)state;
  if (!opencl) skip();
  for (uint64_t seed = 1; seed <= NETWORKS; seed++) {
    scene s;
    outcome wanted, got;
    draw_scene(seed, &s);
    run(&s, fixture_device[0], false, &wanted);
    for (int parent = 0; parent < 2; parent++) {
      run(&s, opencl, parent, &got);
      for (int i = 0; i < CANDIDATES; i++)
        if (got.loss[i] != wanted.loss[i] || got.hits[i] != wanted.hits[i] ||
            memcmp(got.logits[i], wanted.logits[i], sizeof got.logits[i]) != 0)
          fail_msg("seed %d, candidate %d%s: loss %lld, must be %lld", (int)seed, i, parent ? " from the parent" : "",
                   (long long)got.loss[i], (long long)wanted.loss[i]);
    }
    free_scene(&s);
  }
}

/* ---- faults ---- */

/* Operand `at` of an op holds the values 0, 1, `bad`, 2: the next wait must say so, the one after it not. */
static void check_fault(qe_op op, const qe_attrs *attrs, qe_desc principal, int at, int32_t bad) {
  qe_queue *queue;
  qe_buffer *buffer[QE_MAX_OPERANDS] = {NULL};
  qe_desc desc[QE_MAX_OPERANDS];
  qe_bound_call bound = {0};
  qe_call call = {.op = op, .operands = qe_op_get_info(op)->operands, .attrs = *attrs};
  const int32_t values[] = {0, 1, bad, 2};
  char text[64];
  OK(qe_queue_new(opencl, &queue));
  OK(qe_op_shapes(op, attrs, &principal, desc));
  for (int i = 0; i < call.operands; i++) {
    OK(qe_buffer_new(opencl, qe_bytes(&desc[i]), &buffer[i]));
    qe_operand_set(&call.operand[i], desc[i], buffer[i], 0);
  }
  OK(qe_queue_write(queue, buffer[at], 0, values, sizeof values));
  OK(qe_call_bind(opencl, &call, NULL, &bound));
  OK(qe_call_run(queue, &call, &bound));
  snprintf(text, sizeof text, "%s: the value %d at place 2", qe_op_get_info(op)->name, bad);
  FAILS(QE_SHAPE, qe_queue_wait(queue), text);
  OK(qe_queue_wait(queue));
  qe_call_release(&bound);
  for (int i = 0; i < call.operands; i++) qe_buffer_free(buffer[i]);
  qe_queue_free(queue);
}

static void test_values_out_of_range(void **state) {
  (void)state;
  if (!opencl) skip();
  qe_attrs attrs = {.images = 3, .pad = 1, .flip = 1};
  const int32_t bad[] = {-1, 3, INT32_MIN, INT32_MAX};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    check_fault(QE_OP_int_gather, &attrs, qe_map(QE_S8, 4, 5, 3, 2), 1, bad[i]);
    check_fault(QE_OP_int_gather, &attrs, qe_map(QE_S8, 4, 2, 3, 2), 1, bad[i]);
    check_fault(QE_OP_augment, &attrs, qe_map(QE_F32, 4, 5, 3, 2), 1, bad[i]);
    for (int at = 1; at <= 2; at++) check_fault(QE_OP_int_mix, &attrs, qe_map(QE_U8, 4, 5, 3, 2), at, bad[i]);
    check_fault(QE_OP_mix, &attrs, qe_map(QE_F32, 4, 5, 3, 2), 3, bad[i] == 3 ? 257 : bad[i]);
    for (int at = 1; at <= 2; at++) check_fault(QE_OP_mix_xent, &attrs, qe_map(QE_F32, 4, 1, 1, 3), at, bad[i]);
    check_fault(QE_OP_int_loss, &attrs, qe_map(QE_S32, 4, 1, 1, 3), 1, bad[i]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_populations_as_on_ref),
                                     cmocka_unit_test(test_values_out_of_range)};
  return cmocka_run_group_tests(tests, open_devices, close_devices);
}
