/* Fitness: the losses of a population by hand, batches, augmentation, the teacher's loss, several devices. */
#include "core/base/rng.h"
#include "core/evolve/fitness.h"
#include "core/graph/integer.h"
#include "core/train/trainer.h"

enum { CLASSES = 4, TRAIN = 40, SIDE = 8, CANDIDATES = 7, COUNT = 24 };
#include "tests/fixture.h"

typedef struct scene {
  qe_dataset *data;
  qe_network *network, *teacher;
  qe_genome_layout *layout;
  uint8_t *genomes;
} scene;

/* A small low-bit network of the zoo on these data. */
static qe_network *zoo_network(uint64_t seed, const qe_dataset *data) {
  qe_model_spec spec = qe_model_default("resnet20");
  qe_model *model;
  qe_network *network;
  spec.height = spec.width = data->height;
  spec.channels = data->channels;
  spec.classes = data->classes;
  spec.bits.weights = spec.bits.activations = 4;
  OK(qe_model_new(&spec, seed, &model));
  OK(qe_fit_steps(fixture_fast(), model, data, seed));
  OK(qe_network_from_graph(model->graph, model->values, &network));
  qe_model_free(model);
  return network;
}

static void scene_open(scene *s) {
  draws from = {5, 0};
  s->data = small_data(SIDE, 3, CLASSES, TRAIN, 8);
  s->network = zoo_network(1, s->data);
  s->teacher = zoo_network(2, s->data);
  OK(qe_genome_layout_new(s->network, NULL, &s->layout));
  s->genomes = qe_calloc(CANDIDATES, s->layout->bytes);
  assert_non_null(s->genomes);
  for (int i = 0; i < CANDIDATES; i++) {
    uint8_t *genome = s->genomes + (size_t)i * s->layout->bytes;
    qe_genome_from_network(s->layout, s->network, genome);
    for (size_t g = 0; g < s->layout->genes; g++) {
      const qe_gene *gene = &s->layout->gene[g];
      int8_t *codes = qe_alloc((size_t)gene->count);
      OK(qe_genome_codes(gene, genome, codes));
      for (int k = 0; k < 20 * i; k++)
        codes[draw_range(&from, 0, (int32_t)gene->count - 1)] =
            (int8_t)draw_range(&from, gene->grid.low, gene->grid.high);
      qe_pack(&gene->grid, codes, gene->count, genome + gene->offset);
      qe_free(codes);
    }
  }
}

static void scene_close(scene *s) {
  qe_free(s->genomes);
  qe_genome_layout_free(s->layout);
  qe_network_free(s->teacher);
  qe_network_free(s->network);
  qe_dataset_free(s->data);
}

typedef struct outcome {
  int64_t loss[CANDIDATES], hits[CANDIDATES];
} outcome;

/* Fitness of all candidates; `device` [devices]. */
static void run(const scene *s, qe_device *const *device, int devices, const qe_fitness_options *options,
                const qe_fitness_batch *batch, int64_t bound, outcome *to) {
  qe_fitness *fitness;
  OK(qe_fitness_new(device, devices, s->network, s->layout, s->data, options, &fitness));
  memset(to, 0xAA, sizeof *to);
  OK(qe_fitness_run(fitness, batch, s->genomes, CANDIDATES, s->genomes, bound, to->loss, to->hits));
  assert_int_equal(qe_fitness_spent(fitness), CANDIDATES * batch->count);
  qe_fitness_free(fitness);
}

/* All candidates on all training images by a population, with logits [CANDIDATES, TRAIN, CLASSES]. */
static void by_hand(const scene *s, const uint8_t *pixels, int64_t *loss, int64_t *hits, int32_t *logits,
                    bool teacher) {
  qe_queue *queue;
  qe_buffer *images;
  qe_population *population;
  int32_t index[TRAIN];
  size_t bytes = (size_t)TRAIN * SIDE * SIDE * 3;
  for (int i = 0; i < TRAIN; i++) index[i] = i;
  OK(qe_queue_new(fixture_device[0], &queue));
  OK(qe_buffer_new(fixture_device[0], bytes, &images));
  OK(qe_queue_write(queue, images, 0, pixels, bytes));
  OK(qe_queue_wait(queue));
  OK(qe_population_new(queue, teacher ? s->teacher : s->network, teacher ? NULL : s->layout, NULL, &population));
  qe_population_call call = {.images = images,
                             .image_count = TRAIN,
                             .index = index,
                             .labels = s->data->train_labels,
                             .count = TRAIN,
                             .genomes = teacher ? NULL : s->genomes,
                             .candidates = teacher ? 1 : CANDIDATES,
                             .bound = INT64_MAX};
  OK(qe_population_run(population, &call, &(qe_population_result){loss, hits, logits}));
  qe_population_free(population);
  qe_buffer_free(images);
  qe_queue_free(queue);
}

/* A batch of all images gives what a population gives on all of them, whatever their order. */
static void test_labels(void **state) {
  (void)state;
  scene s;
  int64_t loss[CANDIDATES], hits[CANDIDATES];
  scene_open(&s);
  by_hand(&s, s.data->train_pixels, loss, hits, NULL, false);
  FOR_EACH_DEVICE(device) {
    outcome got, bounded;
    qe_fitness_options options = {.seed = 3};
    qe_fitness_batch batch = {QE_FITNESS_TRAIN, 11, TRAIN, false};
    run(&s, &device, 1, &options, &batch, INT64_MAX, &got);
    assert_memory_equal(got.loss, loss, sizeof loss);
    assert_memory_equal(got.hits, hits, sizeof hits);
    run(&s, &device, 1, &options, &batch, loss[2], &bounded);
    for (int i = 0; i < CANDIDATES; i++) {
      assert_true(bounded.loss[i] == (loss[i] > loss[2] ? QE_DROPPED : loss[i]));
      assert_true(bounded.hits[i] == (loss[i] > loss[2] ? 0 : hits[i]));
    }
  }
  scene_close(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_labels),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
