/* Node perturbation: the noise, networks cut behind a layer, and the direction of the votes. */
#include "core/evolve/backward.h"
#include "core/evolve/cut.h"
#include "core/evolve/perturb.h"
#include "core/evolve/trace.h"
#include "cpu_ref/ref.h"
#include "tests/small_network.h"

enum { CLASSES = 4, TRAIN = 96, SIDE = 8 };

/* ---- noise ---- */

enum { HEIGHT = 12, WIDTH = 10, CHANNELS = 8, NOISY = 6, IMAGES = 4 };
static const qe_noise plain_noise = {
    .draws = 2, .antithetic = 1, .chance = 64, .size = 3, .block = {4, 3}, .channels = NOISY, .low = 10, .high = 250};

typedef struct noisy {
  uint8_t x[IMAGES * HEIGHT * WIDTH * CHANNELS], y[4 * IMAGES * HEIGHT * WIDTH * CHANNELS];
  int8_t n[2 * IMAGES * HEIGHT * WIDTH * NOISY];
} noisy;

/* The reference on the images from `first` on. */
static void perturb(const qe_noise *noise, int32_t first, int32_t images, noisy *to) {
  int64_t words = ((int64_t)((HEIGHT - 1) / noise->block[0] + 1) * ((WIDTH - 1) / noise->block[1] + 1) * NOISY + 7) / 8;
  int64_t parts = noise->antithetic ? noise->draws / 2 : noise->draws;
  int32_t counter[4] = {7, 1, (int32_t)(first * parts * words), 0};
  qe_call call = {.op = QE_OP_int_perturb, .operands = 4, .attrs = {.noise = *noise}};
  qe_desc x = qe_map(QE_U8, images, HEIGHT, WIDTH, CHANNELS), desc[QE_MAX_OPERANDS];
  OK(qe_op_shapes(call.op, &call.attrs, &x, desc));
  void *const data[] = {to->x + (size_t)first * HEIGHT * WIDTH * CHANNELS, counter, to->y, to->n};
  for (int i = 0; i < call.operands; i++) call.operand[i] = (qe_operand){.desc = desc[i], .data = data[i]};
  OK(qe_ref_int_perturb(&call));
}

static void test_noise(void **state) {
  (void)state;
  static noisy all, part;
  int64_t set = 0, negative = 0, values = 0;
  for (size_t i = 0; i < sizeof all.x; i++) all.x[i] = part.x[i] = (uint8_t)(i % 251);
  perturb(&plain_noise, 0, IMAGES, &all);
  const int64_t image = (int64_t)HEIGHT * WIDTH;
  for (int64_t p = 0; p < IMAGES * image; p++)
    for (int64_t c = 0; c < CHANNELS; c++) {
      int64_t up = ((p / image * 2) * image + p % image) * CHANNELS + c, down = up + image * CHANNELS;
      int32_t x = all.x[p * CHANNELS + c], n = c < NOISY ? 3 * all.n[p * NOISY + c] : 0;
      int32_t high = x + n, low = x - n;
      if (c < NOISY) {
        high = high < 10 ? 10 : high > 250 ? 250 : high;
        low = low < 10 ? 10 : low > 250 ? 250 : low;
      }
      assert_int_equal(all.y[up], high);
      assert_int_equal(all.y[down], low);
      if (c >= NOISY) continue;
      int64_t h = p % image / WIDTH, w = p % WIDTH, block = p / image * image + h / 4 * 4 * WIDTH + w / 3 * 3;
      assert_int_equal(all.n[p * NOISY + c], all.n[block * NOISY + c]);
    }
  /* Chunks of images draw the same. */
  perturb(&plain_noise, 2, 2, &part);
  assert_memory_equal(part.n, all.n + 2 * image * NOISY, (size_t)(2 * image * NOISY));
  qe_noise single = plain_noise;
  single.block[0] = single.block[1] = 1;
  perturb(&single, 0, IMAGES, &all);
  for (int64_t i = 0; i < IMAGES * image * NOISY; i++, values++) {
    set += all.n[i] != 0;
    negative += all.n[i] < 0;
  }
  assert_true(set > values / 4 - values / 40 && set < values / 4 + values / 40);
  assert_true(negative > set / 2 - set / 12 && negative < set / 2 + set / 12);
}

/* ---- cuts ---- */

/* Every layer with codes that can be cut: the rest on the kept codes gives the whole network's logits. */
static void check_cut(qe_device *device, const qe_network *network, const qe_dataset *data, int32_t at) {
  qe_cut cut;
  if (qe_cut_new(network, at, &cut) != QE_OK) {
    qe_message_clear();
    return;
  }
  qe_queue *queue;
  qe_buffer *pixels, *codes;
  qe_trace trace;
  enum { COUNT = 6 };
  OK(qe_queue_new(device, &queue));
  OK(qe_trace_upload(queue, data->train_pixels, (size_t)COUNT * SIDE * SIDE * 3, &pixels));
  OK(qe_trace_open(&trace, queue, network, pixels, COUNT));
  for (int32_t i = 0; i < (int32_t)network->layers; i++) {
    trace.last[i] = INT32_MAX;
    OK(qe_trace_run(&trace, i));
  }
  uint8_t *joined = qe_alloc(COUNT * qe_bytes(&cut.desc)), *kept = qe_alloc(COUNT * qe_bytes(&cut.desc));
  for (int k = 0; k < cut.tensors; k++) {
    qe_desc desc = qe_trace_desc(&trace, cut.tensor[k]);
    OK(qe_queue_read(queue, trace.tensor[cut.tensor[k]], 0, kept, qe_bytes(&desc)));
    OK(qe_queue_wait(queue));
    qe_cut_join(&cut, network, k, kept, COUNT, joined);
  }
  OK(qe_trace_upload(queue, joined, COUNT * qe_bytes(&cut.desc), &codes));
  qe_population *rest;
  int32_t index[COUNT], logits[COUNT * CLASSES], wanted[COUNT * CLASSES];
  int64_t loss, hits;
  for (int32_t i = 0; i < COUNT; i++) index[i] = i;
  OK(qe_population_new(queue, cut.rest, NULL, NULL, &rest));
  qe_population_call call = {codes, COUNT, index, data->train_labels, COUNT, NULL, 1, NULL, INT64_MAX};
  OK(qe_population_run(rest, &call, &(qe_population_result){&loss, &hits, logits}));
  OK(qe_queue_read(queue, trace.tensor[network->layers - 1], 0, wanted, sizeof wanted));
  OK(qe_queue_wait(queue));
  assert_memory_equal(logits, wanted, sizeof wanted);
  qe_population_free(rest);
  qe_trace_close(&trace);
  qe_buffer_free(codes);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
  qe_free(joined);
  qe_free(kept);
  qe_cut_free(&cut);
}

static void test_cuts(void **state) {
  (void)state;
  qe_dataset *data = small_data(SIDE, 3, CLASSES, TRAIN, 4);
  qe_network *network = small_network(4, data);
  int several = 0;
  for (int32_t at = 1; at < (int32_t)network->layers; at++) {
    qe_cut cut;
    if (qe_cut_new(network, at, &cut) == QE_OK) several += cut.tensors > 1;
    qe_message_clear();
    qe_cut_free(&cut);
    FOR_EACH_DEVICE(device) check_cut(device, network, data, at);
  }
  assert_true(several > 0);
  qe_cut cut;
  FAILS(QE_REFUSED, qe_cut_new(network, 1, &cut), "no u8 codes");
  qe_network_free(network);
  qe_dataset_free(data);
}

/* ---- votes ---- */

static const qe_perturb_options options = {.pairs = 32, .chance = 128, .block = {1, 1}, .images = TRAIN};

static void vote(qe_device *device, const qe_network *network, const qe_dataset *data, int32_t conv, int64_t *votes,
                 int64_t *gram) {
  qe_fitness_options measure = {.seed = 3};
  qe_fitness_batch batch = {QE_FITNESS_TRAIN, 0, TRAIN, false};
  qe_fitness_view view;
  qe_fitness *fitness;
  qe_perturb *perturbed;
  OK(qe_fitness_new(&device, 1, network, NULL, data, &measure, &fitness));
  OK(qe_fitness_look(fitness, &batch, &view));
  OK(qe_perturb_new(device, network, conv, &options, &perturbed));
  OK(qe_perturb_vote(perturbed, &view, 11, 0, TRAIN, votes));
  if (gram) OK(qe_perturb_gram(perturbed, gram));
  FAILS(QE_SHAPE, qe_perturb_vote(perturbed, &view, 11, 1, TRAIN, votes), "from 1 on");
  qe_perturb_free(perturbed);
  qe_fitness_free(fitness);
}

/* Change of the loss by one code up less that by one code down, for every weight. */
static void differences(const qe_network *network, const qe_dataset *data, int32_t conv, int64_t *difference) {
  qe_device *device = fixture_fast();
  bool *evolves = QE_NEW_ARRAY(bool, network->layers);
  evolves[conv] = true;
  qe_genome_layout *layout;
  OK(qe_genome_layout_new(network, evolves, &layout));
  const qe_gene *gene = &layout->gene[0];
  qe_fitness_options measure = {.seed = 3};
  qe_fitness_batch batch = {QE_FITNESS_TRAIN, 0, TRAIN, false};
  qe_fitness *fitness;
  OK(qe_fitness_new(&device, 1, network, layout, data, &measure, &fitness));
  size_t candidates = 2 * (size_t)gene->count;
  char *genomes = qe_calloc(candidates, layout->bytes);
  int8_t *codes = qe_alloc((size_t)gene->count);
  int64_t *loss = QE_NEW_ARRAY(int64_t, candidates);
  for (int64_t i = 0; i < gene->count; i++)
    for (int k = 0; k < 2; k++) {
      char *genome = genomes + (size_t)(2 * i + k) * layout->bytes;
      memcpy(codes, network->layer[conv].weight, (size_t)gene->count);
      int32_t code = codes[i] + (k ? -gene->grid.spacing : gene->grid.spacing);
      if (code >= gene->grid.low && code <= gene->grid.high) codes[i] = (int8_t)code;
      qe_pack(&gene->grid, codes, gene->count, genome + gene->offset);
    }
  OK(qe_fitness_run(fitness, &batch, genomes, (int32_t)candidates, NULL, INT64_MAX, loss, NULL));
  for (int64_t i = 0; i < gene->count; i++) difference[i] = loss[2 * i] - loss[2 * i + 1];
  qe_free(loss);
  qe_free(codes);
  qe_free(genomes);
  qe_fitness_free(fitness);
  qe_genome_layout_free(layout);
  qe_free(evolves);
}

static double cosine(const qe_network_layer *requantiser, const int64_t *votes, const int64_t *difference,
                     int64_t count, int64_t rows) {
  double product = 0, a = 0, b = 0;
  for (int64_t i = 0; i < count; i++) {
    int32_t m = requantiser->multiplier[0][i / (count / rows)];
    double vote = (double)votes[i] * (m < 0 ? -m : m), change = (double)difference[i];
    product += vote * change;
    a += vote * vote;
    b += change * change;
  }
  return product / sqrt(a * b);
}

static void test_votes(void **state) {
  (void)state;
  qe_dataset *data = small_data(SIDE, 3, CLASSES, TRAIN, 4);
  qe_network *network = small_network(4, data);
  int voted = 0;
  for (int32_t conv = 1; conv < (int32_t)network->layers; conv++) {
    const qe_network_layer *layer = &network->layer[conv];
    if (!layer->weight || !qe_perturb_can(network, conv)) continue;
    int64_t count = qe_count(&layer->weight_desc), rows = layer->weight_desc.dim[QE_N], size = count / rows;
    int64_t *votes = QE_NEW_ARRAY(int64_t, count), *others = QE_NEW_ARRAY(int64_t, count);
    int64_t *gram = QE_NEW_ARRAY(int64_t, size * size);
    vote(fixture_device[0], network, data, conv, votes, gram);
    vote(fixture_fast(), network, data, conv, others, NULL);
    assert_memory_equal(votes, others, (size_t)count * sizeof *votes);
    for (int64_t k = 0; k < size; k++) assert_true(gram[k * size + k] >= 0);
    differences(network, data, conv, others);
    double agreement = cosine(&network->layer[conv + 1], votes, others, count, rows);
    if (agreement < 0.3) fail_msg("layer %d: cosine %.3f to the differences of the loss", conv, agreement);
    voted++;
    assert_true(qe_perturb_cost(network, conv, 10, 4) > 10);
    qe_free(votes);
    qe_free(others);
    qe_free(gram);
  }
  assert_int_equal(voted, 3);
  qe_network_free(network);
  qe_dataset_free(data);
}

/* Back-propagation on the same terms, also of the classifier; two halves of the images in one unit add up. */
static void test_backward(void **state) {
  (void)state;
  qe_dataset *data = small_data(SIDE, 3, CLASSES, TRAIN, 4);
  qe_network *network = small_network(4, data);
  qe_fitness_options measure = {.seed = 3};
  qe_fitness_batch batch = {QE_FITNESS_TRAIN, 0, TRAIN, false};
  qe_device *device = fixture_fast();
  qe_fitness_view view;
  qe_fitness *fitness;
  OK(qe_fitness_new(&device, 1, network, NULL, data, &measure, &fitness));
  OK(qe_fitness_look(fitness, &batch, &view));
  for (int32_t conv = 1; conv < (int32_t)network->layers; conv++) {
    const qe_network_layer *layer = &network->layer[conv];
    if (!layer->weight) continue;
    assert_true(qe_backward_can(network, conv));
    int64_t count = qe_count(&layer->weight_desc), rows = layer->weight_desc.dim[QE_N];
    int64_t *votes = QE_NEW_ARRAY(int64_t, count), *others = QE_NEW_ARRAY(int64_t, count);
    int32_t exponent = INT32_MIN, same = INT32_MIN;
    OK(qe_backward_vote(fixture_device[0], network, conv, &view, 0, TRAIN, &exponent, votes, NULL));
    OK(qe_backward_vote(device, network, conv, &view, 0, TRAIN, &same, others, NULL));
    assert_int_equal(same, exponent);
    assert_memory_equal(votes, others, (size_t)count * sizeof *votes);
    differences(network, data, conv, others);
    double agreement = cosine(&network->layer[conv + 1], votes, others, count, rows);
    if (agreement < 0.3) fail_msg("layer %d: cosine %.3f to the differences of the loss", conv, agreement);
    qe_free(votes);
    qe_free(others);
  }
  qe_fitness_free(fitness);
  qe_network_free(network);
  qe_dataset_free(data);
}

static void test_refused(void **state) {
  (void)state;
  qe_dataset *data = small_data(SIDE, 3, CLASSES, TRAIN, 4);
  qe_network *network = small_network(4, data);
  qe_perturb *perturbed;
  int32_t head = (int32_t)network->layers - 2;
  FAILS(QE_REFUSED, qe_perturb_new(fixture_fast(), network, head, &options, &perturbed), "u8 codes");
  FAILS(QE_REFUSED, qe_perturb_new(fixture_fast(), network, 2, &options, &perturbed), "no convolution");
  qe_perturb_options none = options;
  none.pairs = 0;
  FAILS(QE_USAGE, qe_perturb_new(fixture_fast(), network, 1, &none, &perturbed), "pairs");
  assert_false(qe_perturb_can(network, head));
  qe_network_free(network);
  qe_dataset_free(data);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_noise), cmocka_unit_test(test_cuts),
                                     cmocka_unit_test(test_votes), cmocka_unit_test(test_backward),
                                     cmocka_unit_test(test_refused)};
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
