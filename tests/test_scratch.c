/* Training from scratch in integers: counters, the direction of integer back-propagation, the same bits on every
 * device, exact resume. */
#include "core/evolve/scratch_parts.h"
#include "core/evolve/stages.h"
#include "core/graph/integer.h"
#include "tests/fixture.h"

enum { SIDE = 8, CHANNELS = 3, CLASSES = 4, TRAIN = 64, HELD = 16, BATCH = 8, WIDTH = 8 };

/* ---- a network of one residual block ---- */

static qe_network *small_network(const qe_dataset *data) {
  const net_options options = {.weight_bits = 4, .act_bits = 4};
  qe_quantizer weights = net_weights(&options);
  qe_graph *graph;
  OK(qe_graph_new(&graph));
  qe_node x = qe_graph_input(graph, "input", data->height, data->width, data->channels);
  x = net_conv(graph, "conv1", x, WIDTH, &options);
  qe_node wide = net_activation(graph, "wide", x, &options, 2, -1);
  x = net_conv(graph, "conv2", net_activation(graph, "low", wide, &options, 0, wide), WIDTH, &options);
  x = net_conv(graph, "conv3", net_activation(graph, "act2", x, &options, 0, -1), WIDTH, &options);
  x = net_activation(graph, "act3", qe_graph_add(graph, "add", x, wide), &options, 2, -1);
  x = net_activation(graph, "pool_quant", qe_graph_global_pool(graph, "pool", x), &options, 4, -1);
  qe_graph_linear(graph, "fc", x, data->classes, true, &weights);
  OK(qe_graph_finish(graph));
  qe_model *model = model_of(graph, 3);
  qe_network *network;
  OK(qe_network_from_graph(model->graph, model->values, &network));
  qe_model_free(model);
  return network;
}

typedef struct training {
  qe_dataset *data;
  qe_network *network;
  qe_queue *queue;
  int32_t kept[TRAIN];
  qe_scratch *trainer;
} training;

static qe_scratch_options options_of(qe_scratch_source from) {
  return (qe_scratch_options){.source = from,
                              .batch = BATCH,
                              .rate = 2048,
                              .momentum = 3,
                              .error_bits = 4,
                              .span = 256,
                              .cells = 2,
                              .directions = 4,
                              .steps = 2,
                              .pad = 1,
                              .flip = true};
}

/* Every source, and heads with errors that pass the borders of blocks. */
enum { FORMS = QE_SCRATCH_SOURCES + 1 };

static qe_scratch_options options_of_form(int form) {
  qe_scratch_options options = options_of(form < QE_SCRATCH_SOURCES ? (qe_scratch_source)form : QE_SCRATCH_HEADS);
  options.borders = form < QE_SCRATCH_SOURCES ? 0 : 2;
  return options;
}

/* On the first `images` of the training images. */
static void training_open_on(training *t, qe_device *device, int32_t images, const qe_scratch_options *options) {
  t->data = small_data(SIDE, CHANNELS, CLASSES, TRAIN, 8);
  t->network = small_network(t->data);
  for (int32_t i = 0; i < TRAIN; i++) t->kept[i] = i;
  OK(qe_queue_new(device, &t->queue));
  OK(qe_scratch_new(t->queue, t->network, t->data, t->kept, images, options, 5, &t->trainer));
}

static void training_open(training *t, qe_device *device, const qe_scratch_options *options) {
  training_open_on(t, device, TRAIN, options);
}

static void training_close(training *t) {
  qe_scratch_free(t->trainer);
  qe_queue_free(t->queue);
  qe_network_free(t->network);
  qe_dataset_free(t->data);
}

static void steps(training *t, int count, int32_t rate) {
  qe_scratch_score score = {0};
  for (int i = 0; i < count; i++) OK(qe_scratch_step(t->trainer, rate, &score));
}

/* ---- counters ---- */

static void test_counters(void **state) {
  (void)state;
  enum { COUNT = 4096 };
  static const qe_code_grid grids[] = {{4, -8, 1, 7}, {2, -3, 2, 3}, {8, -127, 1, 127}, {1, -1, 2, 1}};
  static int8_t codes[COUNT];
  static int64_t votes[COUNT];
  for (size_t g = 0; g < sizeof grids / sizeof *grids; g++) {
    qe_counters counters;
    OK(qe_counters_new(&grids[g], COUNT, 0, 1, 256, &counters));
    qe_counters_codes(&counters, codes);
    assert_int_equal(qe_codes_find_bad(&grids[g], codes, COUNT), -1);
    int64_t before = 0, after = 0;
    for (int i = 0; i < COUNT; i++) {
      counters.value[i] = 0;
      votes[i] = i % 3 - 1;
    }
    qe_counters_vote(&counters, votes, 3, 64, 1, 0); /* a quarter of a unit, at random */
    for (int i = 0; i < COUNT; i++) {
      before += votes[i] * counters.value[i];
      if (votes[i] == 0) assert_int_equal(counters.value[i], 0);
    }
    assert_in_range(-before, COUNT / 6 - 120, COUNT / 6 + 120);
    for (int k = 0; k < 40; k++) qe_counters_vote(&counters, votes, 3, 256 << 8, 1, (uint64_t)k + 1);
    for (int i = 0; i < COUNT; i++) after += votes[i] * counters.value[i];
    assert_true(after < before);
    qe_counters_codes(&counters, codes);
    for (int i = 0; i < COUNT; i++)
      if (votes[i]) assert_int_equal(codes[i], votes[i] > 0 ? grids[g].low : grids[g].high);
    assert_true(qe_counters_sound(&counters));
    qe_counters_free(&counters);
  }
}

static int64_t squares_of(const qe_counters *counters, int first, int count) {
  int64_t sum = 0;
  for (int i = first; i < first + count; i++) sum += (int64_t)counters->value[i] * counters->value[i];
  return sum;
}

/* Groups beyond the size that suits 4 bits shrink to it, whatever their number; smaller ones stay as they are. */
static void test_hold(void **state) {
  (void)state;
  enum { COUNT = 3000, GROUP = 1000, END = 15 << 8, SIZE = END * 102 / 256 };
  static const qe_code_grid grid = {4, -15, 2, 15};
  qe_counters counters;
  OK(qe_counters_new(&grid, COUNT, 0, 1, 256, &counters));
  for (int i = 0; i < COUNT; i++)
    counters.value[i] = (int16_t)(i < GROUP ? (i % 2 ? END : -END) : i % 2 ? SIZE : -SIZE);
  for (int i = 2 * GROUP; i < COUNT; i++) counters.value[i] = (int16_t)(i % 2 ? SIZE + 1 : -SIZE);
  for (int k = 0; k < 20; k++) qe_counters_hold(&counters, GROUP, 1, (uint64_t)k);
  assert_in_range(squares_of(&counters, 0, GROUP) / GROUP, (SIZE - 3) * (SIZE - 3), (SIZE + 1) * (SIZE + 1));
  for (int i = 0; i < GROUP; i++) assert_true((counters.value[i] > 0) == (i % 2 == 1));
  for (int i = GROUP; i < 2 * GROUP; i++) assert_int_equal(counters.value[i], i % 2 ? SIZE : -SIZE);
  int moved = 0, more = 0; /* the last group is a unit too large in half of its counters: few move, both signs alike */
  for (int i = 2 * GROUP; i < COUNT; i++) {
    int by = (i % 2 ? SIZE + 1 : SIZE) - abs(counters.value[i]);
    assert_in_range(by + 2, 2, 4);
    moved += by > 0;
    more += by > 0 && i % 2;
  }
  assert_in_range(moved, GROUP / 4, GROUP);
  assert_in_range(more, moved / 2 - 80, moved / 2 + 80);
  qe_counters_free(&counters);
}

/* ---- the direction of the votes ---- */

/* Values of a layer without rounding: what the straight-through derivative is the derivative of. */
static double relaxed(const qe_network *network, size_t at, double *const *value, int32_t n, int32_t h, int32_t w,
                      int32_t c) {
  const qe_network_layer *layer = &network->layer[at], *from = &network->layer[layer->input[0]];
  const double *x = value[layer->input[0]] + n * qe_count(&from->output);
  const int32_t *in = from->output.dim, *out = layer->output.dim;
  const qe_window *window = &layer->attrs.window;
  double sum = 0;
  if (layer->offset) {
    int64_t i = (((int64_t)n * out[QE_H] + h) * out[QE_W] + w) * out[QE_C] + c;
    const qe_requant *requant = &layer->attrs.requant;
    sum = (double)layer->offset[c] - ldexp(0.5, requant->shift);
    for (int b = 0; b < layer->inputs; b++) sum += value[layer->input[b]][i] * layer->multiplier[b][c];
    return fmin(fmax(ldexp(sum, -requant->shift), requant->low), requant->high);
  }
  for (int32_t kh = 0; kh < window->kernel[0]; kh++)
    for (int32_t kw = 0; kw < window->kernel[1]; kw++) {
      int32_t row = h * window->stride[0] - window->pad[0] + kh, column = w * window->stride[1] - window->pad[1] + kw;
      if (row < 0 || row >= in[QE_H] || column < 0 || column >= in[QE_W]) continue;
      const double *pixel = x + ((int64_t)row * in[QE_W] + column) * in[QE_C];
      if (!layer->weight) {
        sum += pixel[c];
        continue;
      }
      const double *weight = value[network->layers + at];
      for (int32_t k = 0; k < in[QE_C]; k++)
        sum += pixel[k] * weight[((c * window->kernel[0] + kh) * window->kernel[1] + kw) * in[QE_C] + k];
    }
  return sum;
}

/* Sums of a batch get the mean and, but for logits, the deviation back that they had when *mean and *deviation [C] were
 * made: what a requantiser that is calibrated anew each step does. */
static void normalise(double *sums, int64_t count, int32_t channels, double *mean, double *deviation, bool logits,
                      bool first) {
  for (int32_t c = 0; c < channels; c++) {
    double total = 0, square = 0, each = (double)(count / channels);
    for (int64_t i = c; i < count; i += channels) total += sums[i];
    total /= each;
    for (int64_t i = c; i < count; i += channels) square += (sums[i] - total) * (sums[i] - total);
    square = sqrt(square / each);
    if (first) {
      mean[c] = total;
      deviation[c] = square;
    }
    double scale = logits ? 1 : deviation[c] / square;
    for (int64_t i = c; i < count; i += channels) sums[i] = mean[c] + (sums[i] - total) * scale;
  }
}

/* Of the batch. value holds the layers' values, their weights, then means and deviations of sums. */
static double relaxed_loss(const qe_network *network, double *const *value, const int32_t *label, bool first) {
  double loss = 0;
  for (size_t at = 1; at < network->layers; at++) {
    const int32_t *dim = network->layer[at].output.dim;
    double *to = value[at], *mean = value[2 * network->layers + at];
    for (int32_t n = 0; n < BATCH; n++)
      for (int32_t h = 0; h < dim[QE_H]; h++)
        for (int32_t w = 0; w < dim[QE_W]; w++)
          for (int32_t c = 0; c < dim[QE_C]; c++) *to++ = relaxed(network, at, value, n, h, w, c);
    if (network->layer[at].output.dtype == QE_S32 && !network->layer[at].offset)
      normalise(value[at], to - value[at], dim[QE_C], mean, mean + dim[QE_C], at + 2 == network->layers, first);
  }
  const double *z = value[network->layers - 1];
  for (int32_t n = 0; n < BATCH; n++, z += CLASSES) {
    double sum = 0;
    for (int32_t j = 0; j < CLASSES; j++) sum += exp2((z[j] - z[label[n]]) / 256);
    loss += log(sum);
  }
  return loss;
}

/* Cosine between a convolution's votes and central differences of the relaxed loss over the batch, on every `each`th
 * weight. */
static double cosine(const training *t, const qe_network *network, double *const *value, size_t unit_at, int64_t each) {
  const qe_scratch *trainer = t->trainer;
  const qe_scratch_unit *unit = &trainer->plan->unit[unit_at];
  const int64_t *votes = (const int64_t *)(const void *)(trainer->results.host + unit->votes);
  const int32_t *index = (const int32_t *)(const void *)(trainer->batch.host + trainer->index);
  int64_t count = qe_count(&network->layer[unit->conv].weight_desc), size = SIDE * SIDE * CHANNELS;
  double product = 0, square = 0, norm = 0;
  int32_t label[BATCH];
  for (int64_t n = 0; n < BATCH; n++) {
    label[n] = t->data->train_labels[index[n]];
    for (int64_t k = 0; k < size; k++)
      value[0][n * size + k] = (double)t->data->train_pixels[index[n] * size + k] - 128;
  }
  (void)relaxed_loss(network, value, label, true);
  for (int64_t i = 0; i < count; i += each) {
    double *weight = value[network->layers + (size_t)unit->conv] + i, was = *weight, slope = 0;
    for (int sign = -1; sign <= 1; sign += 2) {
      *weight = was + sign * 0.01;
      slope += sign * relaxed_loss(network, value, label, false);
    }
    *weight = was;
    product += slope * (double)votes[i];
    square += slope * slope;
    norm += (double)votes[i] * (double)votes[i];
  }
  return product / sqrt(square * norm);
}

/* The votes of every layer point where the derivative of the relaxed network points, its normalisations over the batch
 * included, also where running means are those of other images; with 4 bits, whose step would be theirs, too, of the
 * same. */
static void test_direction(void **state) {
  (void)state;
  static const double least[2] = {0.88, 0.86};
  for (int low = 0; low < 2; low++) {
    qe_scratch_options options = options_of(QE_SCRATCH_BACKPROP);
    options.pad = 0;
    options.flip = false;
    options.error_bits = low ? 4 : 8;
    training t;
    training_open_on(&t, fixture_fast(), low ? BATCH : TRAIN, &options);
    steps(&t, 20, 0);
    qe_network *network; /* that the last step used: it moves the requantisers */
    OK(qe_network_copy(t.trainer->plan->network, &network));
    steps(&t, 1, 1);
    double **value = QE_NEW_ARRAY(double *, 3 * network->layers);
    assert_non_null(value);
    for (size_t i = 0; i < network->layers; i++) {
      const qe_network_layer *layer = &network->layer[i];
      value[i] = QE_NEW_ARRAY(double, BATCH *qe_count(&layer->output));
      value[2 * network->layers + i] = QE_NEW_ARRAY(double, 2 * layer->output.dim[QE_C]);
      int64_t count = layer->weight ? qe_count(&layer->weight_desc) : 0;
      value[network->layers + i] = QE_NEW_ARRAY(double, count + 1);
      for (int64_t k = 0; k < count; k++) value[network->layers + i][k] = layer->weight[k];
    }
    for (size_t u = 0; u < t.trainer->plan->units; u++) {
      if (t.trainer->plan->unit[u].conv == QE_NONE) continue;
      double is = cosine(&t, network, value, u, 7);
      if (is < least[low]) fail_msg("%d-bit errors, unit %zu: cosine %g", low ? 4 : 8, u, is);
    }
    for (size_t i = 0; i < 3 * network->layers; i++) qe_free(value[i]);
    qe_free(value);
    qe_network_free(network);
    training_close(&t);
  }
}

/* ---- the same bits, and resuming ---- */

static bool same_networks(const qe_network *a, const qe_network *b) {
  for (size_t i = 0; i < a->layers; i++) {
    const qe_network_layer *left = &a->layer[i], *right = &b->layer[i];
    size_t channels = (size_t)left->output.dim[QE_C];
    if (left->weight && memcmp(left->weight, right->weight, qe_bytes(&left->weight_desc)) != 0) return false;
    if (left->offset && memcmp(left->offset, right->offset, channels * sizeof *left->offset) != 0) return false;
    for (int k = 0; k < left->inputs; k++)
      if (left->offset && memcmp(left->multiplier[k], right->multiplier[k], channels * sizeof(int32_t)) != 0)
        return false;
  }
  return true;
}

static void test_devices_agree(void **state) {
  (void)state;
  for (int form = 0; form < FORMS; form++) {
    qe_scratch_options options = options_of_form(form);
    training t[2];
    for (int k = 0; k < 2; k++) {
      training_open(&t[k], k ? fixture_fast() : fixture_device[0], &options);
      steps(&t[k], 3, 0);
      steps(&t[k], 4, 2048);
    }
    assert_int_equal(t[0].trainer->plan->unit[0].above.inputs, form == QE_SCRATCH_SOURCES ? 2 : 0);
    if (!same_networks(t[0].trainer->plan->network, t[1].trainer->plan->network))
      fail_msg("form %d: the devices' networks differ", form);
    assert_false(same_networks(t[0].network, t[0].trainer->plan->network));
    for (int k = 0; k < 2; k++) training_close(&t[k]);
  }
}

static void test_resume(void **state) {
  (void)state;
  for (int form = 0; form < FORMS; form++) {
    qe_scratch_options options = options_of_form(form);
    training whole, part;
    training_open(&whole, fixture_fast(), &options);
    training_open(&part, fixture_fast(), &options);
    steps(&whole, 3, 0);
    steps(&whole, 3, 2048);
    qe_tensors *saved = qe_tensors_new();
    OK(qe_scratch_save(whole.trainer, saved));
    OK(qe_scratch_load(part.trainer, saved));
    steps(&whole, 3, 1024);
    steps(&part, 3, 1024);
    assert_true(same_networks(whole.trainer->plan->network, part.trainer->plan->network));
    int16_t *counter = (int16_t *)qe_tensors_find(saved, "scratch.0.weights")->data;
    *counter = INT16_MAX;
    FAILS(QE_FORMAT, qe_scratch_load(part.trainer, saved), "scratch.0");
    qe_tensors_free(saved);
    training_close(&whole);
    training_close(&part);
  }
}

/* ---- means ---- */

/* Means over an epoch of batches are those over all of its images at once, and nothing else moves. */
static void test_settle(void **state) {
  (void)state;
  qe_scratch_options options = options_of(QE_SCRATCH_BACKPROP);
  training parts, whole;
  options.pad = 0;
  options.flip = false;
  training_open(&parts, fixture_fast(), &options);
  options.batch = TRAIN;
  training_open(&whole, fixture_fast(), &options);
  steps(&whole, 1, 0);
  OK(qe_scratch_settle(parts.trainer, TRAIN / BATCH));
  const qe_scratch_unit *a = &parts.trainer->plan->unit[0], *b = &whole.trainer->plan->unit[0];
  for (int32_t c = 0; c < WIDTH; c++) {
    assert_in_range(llabs(a->norm.mean[c] - b->norm.mean[c]), 0, 2 * TRAIN / BATCH); /* each step rounds */
    assert_in_range(llabs(a->norm.square[c] - b->norm.square[c]), 0, 2 * TRAIN / BATCH);
  }
  assert_memory_equal(a->weights.value, b->weights.value, (size_t)a->weights.count * sizeof *a->weights.value);
  training_close(&parts);
  training_close(&whole);
}

/* ---- it learns ---- */

static void test_learns(void **state) {
  (void)state;
  for (int form = 0; form < FORMS; form++) {
    if (form == QE_SCRATCH_NODES) continue; /* takes longer than a test may */
    qe_scratch_options options = options_of_form(form);
    options.pad = 0;
    options.flip = false;
    training t;
    training_open(&t, fixture_fast(), &options);
    steps(&t, 20, 0);
    for (int rate = 8192; rate > 0; rate -= 16) steps(&t, 1, rate);
    qe_scratch_score score = {0};
    for (int i = 0; i < 8; i++) OK(qe_scratch_step(t.trainer, 1, &score));
    if (score.hits * 2 < score.images) fail_msg("form %d: %d of %d right", form, (int)score.hits, (int)score.images);
    training_close(&t);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_counters),      cmocka_unit_test(test_hold),   cmocka_unit_test(test_direction),
      cmocka_unit_test(test_devices_agree), cmocka_unit_test(test_resume), cmocka_unit_test(test_settle),
      cmocka_unit_test(test_learns),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
