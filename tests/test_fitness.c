/* Fitness: the losses of a population by hand, batches, augmentation, the teacher's loss, several devices. */
#include "core/evolve/fitness_parts.h"
#include "cpu_ref/ref.h"
#include "tests/small_network.h"

enum { CLASSES = 4, TRAIN = 40, SIDE = 8, CANDIDATES = 7, COUNT = 24, TEMPERATURE = 3 };

typedef struct scene {
  qe_dataset *data;
  qe_network *network, *teacher;
  qe_genome_layout *layout;
  uint8_t *genomes;
} scene;

static void scene_open(scene *s) {
  draws from = {5, 0};
  s->data = small_data(SIDE, 3, CLASSES, TRAIN, 8);
  s->network = small_network(1, s->data);
  s->teacher = small_network(2, s->data);
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

/* ---- batches ---- */

static void count_images(const qe_fitness *fitness, int times[TRAIN]) {
  memset(times, 0, TRAIN * sizeof *times);
  for (int32_t i = 0; i < fitness->drawn.batch.count; i++) {
    times[fitness->drawn.index[i]]++;
    assert_int_equal(fitness->drawn.labels[i], fitness->data->train_labels[fitness->drawn.index[i]]);
  }
}

/* Images without repetition in a batch; held-out ones nowhere else; other numbers and seeds give other images. */
static void test_batches(void **state) {
  (void)state;
  enum { HELD = 8 };
  scene s;
  int first[TRAIN], second[TRAIN];
  int64_t loss;
  qe_fitness *fitness;
  scene_open(&s);
  qe_fitness_options options = {.seed = 3, .held_out = HELD};
  OK(qe_fitness_new(fixture_device, 1, s.network, s.layout, s.data, &options, &fitness));
  assert_int_equal(qe_fitness_images(fitness, QE_FITNESS_TRAIN), TRAIN - HELD);
  assert_int_equal(qe_fitness_images(fitness, QE_FITNESS_HELD_OUT), HELD);
  OK(qe_fitness_run(fitness, &(qe_fitness_batch){QE_FITNESS_HELD_OUT, 0, HELD, false}, NULL, 1, NULL, INT64_MAX, &loss,
                    NULL));
  count_images(fitness, first);
  OK(qe_fitness_draw(fitness, &(qe_fitness_batch){QE_FITNESS_TRAIN, 0, TRAIN - HELD, false}));
  count_images(fitness, second);
  for (int i = 0; i < TRAIN; i++) assert_int_equal(first[i] + second[i], 1);
  OK(qe_fitness_draw(fitness, &(qe_fitness_batch){QE_FITNESS_TRAIN, 7, 2 * (TRAIN - HELD), false}));
  count_images(fitness, first);
  for (int i = 0; i < TRAIN; i++) assert_int_equal(first[i], 2 * second[i]);
  OK(qe_fitness_draw(fitness, &(qe_fitness_batch){QE_FITNESS_TRAIN, 7, COUNT, false}));
  count_images(fitness, first);
  OK(qe_fitness_draw(fitness, &(qe_fitness_batch){QE_FITNESS_TRAIN, 8, COUNT, false}));
  count_images(fitness, second);
  assert_memory_not_equal(first, second, sizeof first);
  OK(qe_fitness_draw(fitness, &(qe_fitness_batch){QE_FITNESS_TRAIN, 7, COUNT, true}));
  count_images(fitness, second);
  assert_memory_equal(first, second, sizeof first);
  FAILS(QE_SHAPE, qe_fitness_draw(fitness, &(qe_fitness_batch){QE_FITNESS_TRAIN, 7, 0, true}), "0 images");
  qe_fitness_free(fitness);
  options.held_out = TRAIN;
  FAILS(QE_USAGE, qe_fitness_new(fixture_device, 1, s.network, s.layout, s.data, &options, &fitness), "held out");
  options = (qe_fitness_options){.pad = SIDE};
  FAILS(QE_USAGE, qe_fitness_new(fixture_device, 1, s.network, s.layout, s.data, &options, &fitness), "padding");
  options = (qe_fitness_options){.temperature = 65};
  FAILS(QE_USAGE, qe_fitness_new(fixture_device, 1, s.network, s.layout, s.data, &options, &fitness), "temperature");
  options = (qe_fitness_options){.loss = QE_FITNESS_BOTH};
  FAILS(QE_USAGE, qe_fitness_new(fixture_device, 1, s.network, s.layout, s.data, &options, &fitness), "no teacher");
  scene_close(&s);
}

/* Pixels of the drawn images as the op `augment` makes them. */
static void augment_by_op(const qe_fitness *fitness, uint8_t *pixels) {
  const qe_dataset *data = fitness->data;
  const qe_fitness_drawn *drawn = &fitness->drawn;
  qe_desc images = qe_map(QE_U8, data->train_images, SIDE, SIDE, 3), x = qe_map(QE_F32, TRAIN, SIDE, SIDE, 3);
  float *values = qe_alloc(qe_bytes(&x));
  assert_non_null(values);
  int32_t counter[4] = {(int32_t)(uint32_t)drawn->augment_seed, (int32_t)(uint32_t)(drawn->augment_seed >> 32), 0, 0};
  qe_call call = {.op = QE_OP_augment,
                  .operands = 4,
                  .attrs = {.images = TRAIN, .pad = fitness->options.pad, .flip = fitness->options.flip},
                  .operand = {{.desc = images, .data = data->train_pixels},
                              {.desc = qe_map(QE_S32, TRAIN, 1, 1, 1), .data = drawn->index},
                              {.desc = qe_vector(QE_S32, 4), .data = counter},
                              {.desc = x, .data = values}}};
  OK(qe_call_check(&call));
  OK(qe_ref_augment(&call));
  for (int64_t i = 0; i < qe_count(&x); i++) pixels[i] = (uint8_t)(values[i] * 64 + 128);
  qe_free(values);
}

static void test_augmented(void **state) {
  (void)state;
  scene s;
  qe_fitness *fitness;
  int64_t loss[CANDIDATES], hits[CANDIDATES], wanted[CANDIDATES], wanted_hits[CANDIDATES];
  size_t bytes = (size_t)TRAIN * SIDE * SIDE * 3;
  uint8_t *by_op = qe_alloc(bytes), *by_fitness = qe_alloc(bytes);
  scene_open(&s);
  FOR_EACH_DEVICE(device) {
    qe_fitness_options options = {.seed = 9, .pad = 2, .flip = true};
    OK(qe_fitness_new(&device, 1, s.network, s.layout, s.data, &options, &fitness));
    OK(qe_fitness_run(fitness, &(qe_fitness_batch){QE_FITNESS_TRAIN, 4, TRAIN, true}, s.genomes, CANDIDATES, NULL,
                      INT64_MAX, loss, hits));
    augment_by_op(fitness, by_op);
    qe_fitness_worker *worker = fitness->worker;
    OK(qe_queue_read(worker->queue, worker->augmented, 0, by_fitness, bytes));
    OK(qe_queue_wait(worker->queue));
    assert_memory_equal(by_op, by_fitness, bytes);
    int32_t kept[TRAIN];
    memcpy(kept, s.data->train_labels, sizeof kept);
    memcpy(s.data->train_labels, fitness->drawn.labels, sizeof kept);
    by_hand(&s, by_op, wanted, wanted_hits, NULL, false);
    memcpy(s.data->train_labels, kept, sizeof kept);
    assert_memory_equal(loss, wanted, sizeof loss);
    assert_memory_equal(hits, wanted_hits, sizeof hits);
    qe_fitness_free(fitness);
  }
  scene_close(&s);
  qe_free(by_op);
  qe_free(by_fitness);
}

/* ---- the teacher ---- */

/* T^2 times the divergence in bits of the distribution of logits `z` from that of `t`, in double precision. */
static double exact_loss(const int32_t *z, const int32_t *t, int32_t temperature) {
  double unit = 256.0 * temperature, sum = 0, norm = 0, loss = 0;
  for (int j = 0; j < CLASSES; j++) {
    sum += exp2(z[j] / unit);
    norm += exp2(t[j] / unit);
  }
  for (int j = 0; j < CLASSES; j++)
    loss += exp2(t[j] / unit) / norm * (log2(sum) - z[j] / unit - log2(norm) + t[j] / unit);
  return loss * temperature * temperature;
}

static void test_divergence(void **state) {
  (void)state;
  draws from = {6, 0};
  for (int k = 0; k < 5000; k++) {
    int32_t z[CLASSES], t[CLASSES], target[CLASSES], total = 0, width = draw_range(&from, 1, 8000);
    int32_t temperature = draw_range(&from, 1, 16);
    for (int j = 0; j < CLASSES; j++) {
      z[j] = draw_range(&from, -width, width);
      t[j] = draw_range(&from, -width, width);
    }
    qe_fitness_distribution(t, CLASSES, temperature, target);
    for (int j = 0; j < CLASSES; j++) {
      assert_true(target[j] >= 0);
      total += target[j];
    }
    assert_int_equal(total, 1 << 16);
    int64_t entropy = qe_fitness_entropy(target, CLASSES);
    double got = (double)qe_fitness_divergence(z, target, entropy, CLASSES, temperature) / 65536;
    double exact = exact_loss(z, t, temperature), scale = (double)temperature * temperature;
    /* A probability is off by 2^-16 a class, against logits as far apart as they are; and each logit, divided by the
     * temperature, by half of 1/256, which moves the probabilities and the logits themselves. */
    double apart = 2.0 * width / 256 / temperature, rounding = temperature > 1 ? 1.0 / 512 : 0;
    double bound = scale * (3e-4 + apart * (CLASSES / 65536.0 + rounding) + 2 * rounding);
    if (fabs(got - exact) > bound) fail_msg("case %d: %f, must be %f", k, got, exact);
  }
  int32_t far[CLASSES] = {INT32_MAX, INT32_MIN, 0, 0}, other[CLASSES] = {INT32_MIN, INT32_MAX, 0, 0}, target[CLASSES];
  qe_fitness_distribution(far, CLASSES, 1, target);
  assert_int_equal(target[0], 1 << 16);
  assert_int_equal(qe_fitness_entropy(target, CLASSES), 0);
  assert_int_equal(qe_fitness_divergence(far, target, 0, CLASSES, 1), 0);
  assert_true(qe_fitness_divergence(other, target, 0, CLASSES, 1) == INT32_MAX);
}

/* Losses of whole batches from logits by hand, of all images and, from what is kept, of some; with a bound. */
static void test_teacher(void **state) {
  (void)state;
  scene s;
  int64_t labels[CANDIDATES], hits[CANDIDATES], teacher_loss, teacher_hits, sum[CANDIDATES] = {0};
  static int32_t logits[CANDIDATES][TRAIN][CLASSES], wise[TRAIN][CLASSES];
  scene_open(&s);
  by_hand(&s, s.data->train_pixels, labels, hits, logits[0][0], false);
  by_hand(&s, s.data->train_pixels, &teacher_loss, &teacher_hits, wise[0], true);
  for (int i = 0; i < TRAIN; i++) {
    int32_t target[CLASSES];
    qe_fitness_distribution(wise[i], CLASSES, TEMPERATURE, target);
    int64_t entropy = qe_fitness_entropy(target, CLASSES);
    for (int p = 0; p < CANDIDATES; p++)
      sum[p] += qe_fitness_divergence(logits[p][i], target, entropy, CLASSES, TEMPERATURE);
  }
  FOR_EACH_DEVICE(device) {
    outcome got;
    qe_fitness_options options = {
        .seed = 3, .loss = QE_FITNESS_TEACHER, .temperature = TEMPERATURE, .teacher = s.teacher};
    qe_fitness_batch batch = {QE_FITNESS_TRAIN, 1, TRAIN, false};
    run(&s, &device, 1, &options, &batch, INT64_MAX, &got);
    assert_memory_equal(got.loss, sum, sizeof sum);
    assert_memory_equal(got.hits, hits, sizeof hits);
    run(&s, &device, 1, &options, &batch, sum[3], &got);
    for (int p = 0; p < CANDIDATES; p++) assert_true(got.loss[p] == (sum[p] > sum[3] ? QE_DROPPED : sum[p]));
    options.loss = QE_FITNESS_BOTH;
    run(&s, &device, 1, &options, &batch, sum[3] + labels[3], &got);
    for (int p = 0; p < CANDIDATES; p++) {
      bool dropped = sum[p] + labels[p] > sum[3] + labels[3];
      assert_true(got.loss[p] == (dropped ? QE_DROPPED : sum[p] + labels[p]));
      assert_true(got.hits[p] == (dropped ? 0 : hits[p]));
    }
  }
  scene_close(&s);
}

/* Mixed images are those of the augmented ones, by the shares drawn, and their loss is the teacher's on them. */
static void test_mixed(void **state) {
  (void)state;
  enum { EACH = SIDE * SIDE * 3 };
  scene s;
  qe_fitness *fitness;
  static int32_t logits[CANDIDATES][TRAIN][CLASSES], wise[TRAIN][CLASSES];
  static uint8_t plain[TRAIN][EACH], mixed[TRAIN][EACH], got[TRAIN][EACH];
  scene_open(&s);
  qe_fitness_options options = {
      .seed = 9, .pad = 2, .flip = true, .mixup = QE_MIXUP_ONE, .loss = QE_FITNESS_TEACHER, .teacher = s.teacher};
  qe_fitness_batch batch = {QE_FITNESS_TRAIN, 4, TRAIN, true};
  FOR_EACH_DEVICE(device) {
    int64_t loss[CANDIDATES], hits[CANDIDATES], by[CANDIDATES], wanted[CANDIDATES] = {0}, teacher_loss, teacher_hits;
    OK(qe_fitness_new(&device, 1, s.network, s.layout, s.data, &options, &fitness));
    OK(qe_fitness_run(fitness, &batch, s.genomes, CANDIDATES, NULL, INT64_MAX, loss, hits));
    augment_by_op(fitness, plain[0]);
    const qe_fitness_drawn *drawn = &fitness->drawn;
    int between = 0;
    for (int n = 0; n < TRAIN; n++) {
      int32_t share = drawn->share[n], other = drawn->other[n];
      assert_true(share >= 0 && share <= QE_SHARE_ALL && other != n);
      between += share > 0 && share < QE_SHARE_ALL;
      for (int i = 0; i < EACH; i++)
        mixed[n][i] = (uint8_t)((share * plain[n][i] + (QE_SHARE_ALL - share) * plain[other][i] + 128) >> 8);
    }
    assert_true(between > TRAIN / 2);
    OK(qe_queue_read(fitness->worker->queue, fitness->worker->augmented, 0, got, sizeof got));
    OK(qe_queue_wait(fitness->worker->queue));
    assert_memory_equal(got, mixed, sizeof got);
    by_hand(&s, mixed[0], by, hits, logits[0][0], false);
    by_hand(&s, mixed[0], &teacher_loss, &teacher_hits, wise[0], true);
    for (int i = 0; i < TRAIN; i++) {
      int32_t target[CLASSES];
      qe_fitness_distribution(wise[i], CLASSES, 1, target);
      for (int p = 0; p < CANDIDATES; p++)
        wanted[p] += qe_fitness_divergence(logits[p][i], target, qe_fitness_entropy(target, CLASSES), CLASSES, 1);
    }
    assert_memory_equal(loss, wanted, sizeof loss);
    qe_fitness_free(fitness);
  }
  options.loss = QE_FITNESS_BOTH;
  FAILS(QE_USAGE, qe_fitness_new(fixture_device, 1, s.network, s.layout, s.data, &options, &fitness), "no label");
  scene_close(&s);
}

/* What is kept of a teacher's images serves a later batch; augmented images are asked for anew. */
static void test_teacher_kept(void **state) {
  (void)state;
  scene s;
  qe_fitness *kept, *fresh;
  scene_open(&s);
  qe_fitness_options options = {.seed = 3, .pad = 1, .flip = true, .loss = QE_FITNESS_TEACHER, .teacher = s.teacher};
  qe_device *device = fixture_fast();
  OK(qe_fitness_new(&device, 1, s.network, s.layout, s.data, &options, &kept));
  for (uint64_t i = 0; i < 6; i++) {
    int64_t a[CANDIDATES], b[CANDIDATES];
    qe_fitness_batch batch = {QE_FITNESS_TRAIN, i / 2, i == 4 ? TRAIN : COUNT, i % 2 == 1};
    OK(qe_fitness_new(&device, 1, s.network, s.layout, s.data, &options, &fresh));
    OK(qe_fitness_run(kept, &batch, s.genomes, CANDIDATES, s.genomes, INT64_MAX, a, NULL));
    OK(qe_fitness_run(fresh, &batch, s.genomes, CANDIDATES, s.genomes, INT64_MAX, b, NULL));
    assert_memory_equal(a, b, sizeof a);
    qe_fitness_free(fresh);
  }
  qe_fitness_free(kept);
  scene_close(&s);
}

/* ---- several devices, other layouts ---- */

static void test_devices(void **state) {
  (void)state;
  scene s;
  scene_open(&s);
  qe_device *many[3] = {fixture_fast(), fixture_device[0], fixture_fast()};
  for (int loss = QE_FITNESS_LABELS; loss <= QE_FITNESS_BOTH; loss++) {
    outcome one, got;
    qe_fitness_options options = {
        .seed = 3, .pad = 1, .flip = true, .loss = (qe_fitness_loss)loss, .teacher = s.teacher};
    qe_fitness_batch batch = {QE_FITNESS_TRAIN, 5, COUNT, true};
    run(&s, fixture_device, 1, &options, &batch, INT64_MAX, &one);
    for (int devices = 2; devices <= 3; devices++) {
      run(&s, many, devices, &options, &batch, INT64_MAX, &got);
      assert_memory_equal(&one, &got, sizeof one);
      run(&s, many, devices, &options, &batch, one.loss[1], &got);
      for (int i = 0; i < CANDIDATES; i++)
        assert_true(got.loss[i] == (one.loss[i] > one.loss[1] ? QE_DROPPED : one.loss[i]));
    }
  }
  scene_close(&s);
}

/* More devices than candidates, many calls (the shares move), and every allocation of a call failing once. */
static void test_shares(void **state) {
  (void)state;
  scene s;
  qe_fitness *fitness;
  int64_t all[CANDIDATES], some[CANDIDATES];
  scene_open(&s);
  qe_device *many[3] = {fixture_device[0], fixture_fast(), fixture_fast()};
  qe_fitness_options options = {.seed = 3};
  qe_fitness_batch batch = {QE_FITNESS_TRAIN, 5, COUNT, false};
  OK(qe_fitness_new(many, 3, s.network, s.layout, s.data, &options, &fitness));
  OK(qe_fitness_run(fitness, &batch, s.genomes, CANDIDATES, NULL, INT64_MAX, all, NULL));
  for (int candidates = 1; candidates <= CANDIDATES; candidates++) {
    OK(qe_fitness_run(fitness, &batch, s.genomes, candidates, s.genomes, INT64_MAX, some, NULL));
    assert_memory_equal(all, some, (size_t)candidates * sizeof *all);
  }
  OK(qe_fitness_run(fitness, &batch, NULL, 1, NULL, INT64_MAX, some, NULL));
  assert_true(some[0] == all[0]);
  int64_t spent = qe_fitness_spent(fitness);
  qe_status status = QE_NO_MEMORY;
  for (int64_t nth = 1; status != QE_OK; nth++) { /* failures of one device, in its own thread */
    qe_message_clear();
    qe_alloc_fail_nth(nth);
    status = qe_fitness_run(fitness, &batch, s.genomes, CANDIDATES, NULL, INT64_MAX, some, NULL);
    qe_alloc_fail_nth(0);
    assert_true(status == QE_OK || (status == QE_NO_MEMORY && *qe_message()));
  }
  assert_memory_equal(all, some, sizeof all);
  assert_int_equal(qe_fitness_spent(fitness), spent + CANDIDATES * COUNT);
  qe_fitness_set_spent(fitness, spent);
  assert_true(qe_fitness_spent(fitness) == spent);
  qe_fitness_free(fitness);
  scene_close(&s);
}

/* Parts add up to the whole, and are those of the images in the order of the draw. */
static void test_parts(void **state) {
  (void)state;
  enum { PARTS = 5 };
  scene s;
  qe_fitness *fitness;
  int64_t whole[CANDIDATES], part[PARTS][CANDIDATES], sum[CANDIDATES] = {0}, by_hand_loss[CANDIDATES];
  scene_open(&s);
  qe_device *device = fixture_fast();
  for (int augmented = 0; augmented < 2; augmented++) {
    qe_fitness_options options = {.seed = 3, .pad = 1, .flip = true, .loss = QE_FITNESS_BOTH, .teacher = s.teacher};
    qe_fitness_batch batch = {QE_FITNESS_TRAIN, 5, COUNT - 1, augmented == 1};
    OK(qe_fitness_new(&device, 1, s.network, s.layout, s.data, &options, &fitness));
    OK(qe_fitness_run(fitness, &batch, s.genomes, CANDIDATES, NULL, INT64_MAX, whole, NULL));
    OK(qe_fitness_run_parts(fitness, &batch, PARTS, s.genomes, CANDIDATES, s.genomes, part[0]));
    assert_int_equal(qe_fitness_spent(fitness), 2 * CANDIDATES * (COUNT - 1));
    batch.count = (COUNT - 1) / PARTS + 1; /* the same draw, so its first images */
    OK(qe_fitness_run(fitness, &batch, s.genomes, CANDIDATES, NULL, INT64_MAX, by_hand_loss, NULL));
    for (int i = 0; i < CANDIDATES; i++) {
      sum[i] = 0;
      for (int k = 0; k < PARTS; k++) sum[i] += part[k][i];
      assert_true(sum[i] == whole[i] && part[0][i] == by_hand_loss[i] && part[1][i] != part[0][i]);
    }
    FAILS(QE_SHAPE, qe_fitness_run_parts(fitness, &batch, 6, s.genomes, 1, NULL, part[0]), "6 parts");
    qe_fitness_free(fitness);
  }
  scene_close(&s);
}

/* Other values in the network, then its requantisers as genes. */
static void test_use(void **state) {
  (void)state;
  scene s;
  qe_fitness *fitness;
  qe_genome_layout *other;
  int64_t all[CANDIDATES], loss;
  scene_open(&s);
  qe_device *device = fixture_fast();
  qe_fitness_options options = {.seed = 3};
  qe_fitness_batch batch = {QE_FITNESS_TRAIN, 5, COUNT, false};
  OK(qe_fitness_new(&device, 1, s.network, s.layout, s.data, &options, &fitness));
  OK(qe_fitness_run(fitness, &batch, s.genomes, CANDIDATES, NULL, INT64_MAX, all, NULL));
  OK(qe_genome_to_network(s.layout, s.genomes + 2 * s.layout->bytes, s.network));
  bool *evolves = QE_NEW_ARRAY(bool, s.network->layers);
  for (size_t i = 0; i < s.network->layers; i++) evolves[i] = s.network->layer[i].offset != NULL;
  OK(qe_genome_layout_new(s.network, evolves, &other));
  OK(qe_fitness_use(fitness, s.network, other));
  uint8_t *genome = qe_alloc(other->bytes);
  qe_genome_from_network(other, s.network, genome);
  OK(qe_fitness_run(fitness, &batch, genome, 1, NULL, INT64_MAX, &loss, NULL));
  assert_true(loss == all[2]);
  assert_int_equal(qe_fitness_spent(fitness), (CANDIDATES + 1) * COUNT);
  qe_fitness_free(fitness);
  qe_genome_layout_free(other);
  qe_free(genome);
  qe_free(evolves);
  scene_close(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_labels),       cmocka_unit_test(test_batches),    cmocka_unit_test(test_augmented),
      cmocka_unit_test(test_mixed),        cmocka_unit_test(test_divergence), cmocka_unit_test(test_teacher),
      cmocka_unit_test(test_teacher_kept), cmocka_unit_test(test_devices),    cmocka_unit_test(test_shares),
      cmocka_unit_test(test_use),          cmocka_unit_test(test_parts),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
