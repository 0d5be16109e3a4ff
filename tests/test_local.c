/* The local search and calibration on a small network with a skip connection: errors fall, the same on every device,
 * requantisers are what was asked for; and the arithmetic of gains. */
#include "core/evolve/calibrate.h"
#include "core/evolve/channels.h"
#include "core/evolve/local.h"
#include "core/evolve/moments.h"
#include "core/evolve/stages.h"
#include "core/evolve/target.h"
#include "core/graph/integer.h"
#include "core/train/trainer.h"
#include "tests/fixture.h"

enum { SIDE = 8, CLASSES = 4, TRAIN = 64, LAYERS = 16 };

static qe_dataset *data;

/* ---- networks ---- */

/* A stem, a residual block of two convolutions, a pool and a classifier that reads codes. */
static qe_graph *small_graph(const net_options *options) {
  qe_graph *graph;
  OK(qe_graph_new(&graph));
  qe_quantizer weights = net_weights(options);
  qe_node x = qe_graph_input(graph, "input", data->height, data->width, data->channels);
  x = net_conv(graph, "conv1", x, 8, options);
  qe_node wide = net_activation(graph, "wide", x, options, 2, -1);
  qe_node low = net_activation(graph, "low", wide, options, 0, wide);
  x = net_activation(graph, "act1", net_conv(graph, "conv2", low, 8, options), options, 0, -1);
  x = qe_graph_add(graph, "add", net_conv(graph, "conv3", x, 8, options), wide);
  x = net_activation(graph, "act2", x, options, 0, -1);
  x = net_activation(graph, "act3", qe_graph_global_pool(graph, "pool", x), options, 0, -1);
  x = qe_graph_linear(graph, "fc", x, data->classes, true, &weights);
  (void)x;
  OK(qe_graph_finish(graph));
  return graph;
}

/* Of the same float weights whatever the bits. */
static qe_network *small_network(int weight_bits, int act_bits) {
  net_options options = {.weight_bits = weight_bits, .act_bits = act_bits, .per_channel = true};
  qe_model *model = model_of(small_graph(&options), 7);
  qe_network *network;
  OK(qe_fit_steps(fixture_device[0], model, data, 7));
  OK(qe_network_from_graph(model->graph, model->values, &network));
  qe_model_free(model);
  return network;
}

static int open_all(void **state) {
  data = small_data(SIDE, 3, CLASSES, TRAIN, 8);
  return fixture_open(state);
}
static int close_all(void **state) {
  qe_dataset_free(data);
  return fixture_close(state);
}

typedef struct images {
  qe_queue *queue;
  qe_buffer *pixels;
} images;

static images images_open(qe_device *device) {
  images i;
  size_t bytes = (size_t)TRAIN * SIDE * SIDE * 3;
  OK(qe_queue_new(device, &i.queue));
  OK(qe_buffer_new(device, bytes, &i.pixels));
  OK(qe_queue_write(i.queue, i.pixels, 0, data->train_pixels, bytes));
  OK(qe_queue_wait(i.queue));
  return i;
}

static void images_close(images *i) {
  qe_queue_free(i->queue);
  qe_buffer_free(i->pixels);
}

static void assert_same_network(const qe_network *a, const qe_network *b) {
  assert_int_equal(a->layers, b->layers);
  for (size_t i = 0; i < a->layers; i++) {
    const qe_network_layer *x = &a->layer[i], *y = &b->layer[i];
    size_t channels = (size_t)x->output.dim[QE_C];
    assert_int_equal(x->attrs.requant.shift, y->attrs.requant.shift);
    if (x->weight) assert_memory_equal(x->weight, y->weight, (size_t)qe_count(&x->weight_desc));
    if (x->offset) assert_memory_equal(x->offset, y->offset, channels * sizeof *x->offset);
    for (int k = 0; x->offset && k < x->inputs; k++)
      assert_memory_equal(x->multiplier[k], y->multiplier[k], channels * sizeof *x->multiplier[k]);
  }
}

/* Sum of squares of the difference of two networks' logits over all images. */
static int64_t logit_error(images *i, const qe_network *a, const qe_network *b) {
  const qe_network *both[2] = {a, b};
  int32_t logits[2][TRAIN * CLASSES];
  int64_t error = 0;
  for (int k = 0; k < 2; k++) {
    qe_trace trace;
    OK(qe_trace_open(&trace, i->queue, both[k], i->pixels, TRAIN));
    for (int32_t at = 0; at < (int32_t)both[k]->layers; at++) OK(qe_trace_run(&trace, at));
    OK(qe_queue_read(i->queue, trace.tensor[both[k]->layers - 1], 0, logits[k], sizeof logits[k]));
    OK(qe_queue_wait(i->queue));
    qe_trace_close(&trace);
  }
  for (int n = 0; n < TRAIN * CLASSES; n++) {
    int64_t difference = logits[0][n] - logits[1][n];
    error += difference * difference;
  }
  return error;
}

/* ---- local search ---- */

typedef struct course {
  qe_local_report report[LAYERS];
  int reports;
} course;

static qe_status hear(void *context, const qe_local_report *report) {
  course *to = context;
  assert_true(to->reports < LAYERS);
  to->report[to->reports++] = *report;
  return QE_OK;
}

static void search(images *i, qe_network *student, const qe_network *teacher, const qe_local_options *options,
                   course *to) {
  qe_local_events events = {to, hear};
  OK(qe_local_search(i->queue, student, teacher, i->pixels, TRAIN, options, &events));
  OK(qe_network_check(student));
}

/* At every layer the error to the teacher falls, and so does that of the logits; every part of it helps. */
static void test_errors_fall(void **state) {
  (void)state;
  static const char *const layers[] = {"conv1", "conv2", "conv3", "fc"};
  images i = images_open(fixture_fast());
  qe_network *teacher = small_network(8, 6), *start = small_network(3, 4);
  int64_t before = logit_error(&i, start, teacher);
  for (int part = 0; part < 4; part++) {
    course to = {0};
    qe_network *student = small_network(3, 4);
    qe_local_options options = qe_local_defaults();
    options.steps = false;
    options.search = part != 1;
    options.fit = part != 2;
    options.skip_error = part != 3;
    search(&i, student, teacher, &options, &to);
    assert_int_equal(to.reports, 4);
    for (int k = 0; k < 4; k++) {
      assert_string_equal(to.report[k].layer, layers[k]);
      assert_true(to.report[k].after < to.report[k].before);
      assert_true(part == 1 ? to.report[k].moved == 0 : to.report[k].moved > 0);
    }
    assert_true(logit_error(&i, student, teacher) < before);
    qe_network_free(student);
  }
  qe_network_free(start);
  qe_network_free(teacher);
  images_close(&i);
}

/* Pairs and restarts leave no larger error in the first layer, where all else is equal. */
static void test_search_options(void **state) {
  (void)state;
  images i = images_open(fixture_fast());
  qe_network *teacher = small_network(8, 6);
  int64_t least = INT64_MAX;
  for (int form = 0; form < 3; form++) {
    course to = {0};
    qe_network *student = small_network(3, 4);
    qe_local_options options = qe_local_defaults();
    options.fit = options.steps = false;
    options.rounds = 1;
    options.pairs = form > 0;
    options.restarts = form > 1 ? 20 : 0;
    search(&i, student, teacher, &options, &to);
    assert_true(to.report[0].after <= least);
    least = to.report[0].after;
    qe_network_free(student);
  }
  qe_network_free(teacher);
  images_close(&i);
}

static void test_same_everywhere(void **state) {
  (void)state;
  qe_network *teacher = small_network(8, 6), *student[2] = {small_network(2, 3), small_network(2, 3)};
  qe_local_options options = qe_local_defaults();
  options.restarts = 2;
  options.channels = 4;
  for (int k = 0; k < 2; k++) {
    qe_device *device = fixture_device[k] ? fixture_device[k] : fixture_device[0];
    images i = images_open(device);
    course to = {0};
    OK(qe_calibrate(i.queue, student[k], teacher, i.pixels, TRAIN, NULL));
    search(&i, student[k], teacher, &options, &to);
    images_close(&i);
  }
  assert_same_network(student[0], student[1]);
  qe_network_free(student[0]);
  qe_network_free(student[1]);
  qe_network_free(teacher);
}

/* Without units the ratio is estimated, and near the true one. */
static void test_unknown_units(void **state) {
  (void)state;
  images i = images_open(fixture_fast());
  qe_network *teacher = small_network(8, 6), *student = small_network(4, 4);
  int64_t before = logit_error(&i, student, teacher);
  for (size_t k = 0; k + 1 < student->layers; k++) student->layer[k].unit = (qe_unit){0, 0};
  course to = {0};
  qe_local_options options = qe_local_defaults();
  search(&i, student, teacher, &options, &to);
  assert_true(logit_error(&i, student, teacher) < before);
  qe_network_free(student);
  qe_network_free(teacher);
  images_close(&i);
}

/* ---- steps by channel ---- */

static double real(qe_gain gain) {
  return ldexp((double)gain.mantissa, gain.exponent);
}

typedef struct channel_walk {
  qe_channels channels;
} channel_walk;

static int32_t named(const qe_network *network, const char *name) {
  int32_t at = 0;
  while (strcmp(network->layer[at].name, name) != 0) at++;
  return at;
}

static qe_status choose_steps(void *context, qe_guided *walk, int32_t at) {
  channel_walk *c = context;
  return strcmp(walk->network->layer[at].name, "wide") == 0 ? qe_channels_choose(&c->channels, walk, at, 8) : QE_OK;
}

static qe_status weigh(void *context, qe_guided *walk, const qe_guided_place *place, bool *changed) {
  channel_walk *c = context;
  *changed = false;
  return qe_channels_weigh(&c->channels, walk, place);
}

/* `wide` makes channel c's values 2^-(c % 4) of what they were where `shrunk`. What steps its channels get, and what is
 * left of the logits' error. */
static double steps_of(images *i, bool shrunk, double *step) {
  qe_network *teacher = small_network(8, 6), *student = small_network(8, 5);
  for (int k = 0; shrunk && k < 2; k++) {
    qe_network *network = k ? student : teacher;
    qe_network_layer *wide = &network->layer[named(network, "wide")];
    for (int32_t c = 0; c < wide->output.dim[QE_C]; c++) {
      wide->multiplier[0][c] /= 1 << c % 4;
      wide->offset[c] /= 1 << c % 4;
    }
    qe_network_prove(network);
  }
  double before = (double)logit_error(i, student, teacher);
  channel_walk c = {0};
  qe_guided_visitor visitor = {.context = &c, .branch = weigh, .requantiser = choose_steps};
  OK(qe_channels_new(student, &c.channels));
  OK(qe_guided_walk(i->queue, student, teacher, i->pixels, TRAIN, &visitor));
  qe_channels_end(&c.channels, student);
  int32_t wide = named(student, "wide");
  assert_non_null(c.channels.ratio[named(student, "low")]);
  for (int32_t k = 0; k < student->layer[wide].output.dim[QE_C]; k++) step[k] = log2(real(c.channels.ratio[wide][k]));
  assert_int_equal(student->layer[wide].unit.mantissa, 0);
  qe_channels_free(&c.channels);
  OK(qe_network_check(student));
  double after = (double)logit_error(i, student, teacher);
  qe_network_free(student);
  qe_network_free(teacher);
  return after / before;
}

/* A channel with values 2^-k of what they were gets a step 2^-k of what it got, and what reads it makes up for that. */
static void test_channels(void **state) {
  (void)state;
  images i = images_open(fixture_fast());
  double plain[8], shrunk[8];
  assert_true(steps_of(&i, false, plain) < 1.2);
  assert_true(steps_of(&i, true, shrunk) < 1.2);
  for (int c = 0; c < 8; c++)
    if (fabs(plain[c] - shrunk[c] - c % 4) > 0.26) fail_msg("channel %d: %g, then %g", c, plain[c], shrunk[c]);
  images_close(&i);
}

static void test_other_teacher(void **state) {
  (void)state;
  images i = images_open(fixture_fast());
  qe_network *teacher = small_network(8, 6), *student = small_network(4, 4);
  for (size_t k = 0; k < teacher->layers; k++)
    if (strcmp(teacher->layer[k].name, "conv2") == 0) teacher->layer[k].name[4] = '9';
  qe_local_options options = qe_local_defaults();
  FAILS(QE_USAGE, qe_local_search(i.queue, student, teacher, i.pixels, TRAIN, &options, NULL), "conv2");
  qe_network_free(student);
  qe_network_free(teacher);
  images_close(&i);
}

/* ---- calibration ---- */

/* Mean and deviation of conv2's share of its requantiser, channel by channel, in its output codes. */
static void share_of(images *i, const qe_network *network, double *mean, double *deviation) {
  qe_trace trace;
  int32_t conv = 0, at;
  while (strcmp(network->layer[conv].name, "conv2") != 0) conv++;
  for (at = conv; !network->layer[at].offset; at++) continue;
  OK(qe_trace_open(&trace, i->queue, network, i->pixels, TRAIN));
  for (int32_t k = 0; k <= conv; k++) OK(qe_trace_run(&trace, k));
  int64_t sum[8], square[8], count = (int64_t)TRAIN * SIDE * SIDE;
  OK(qe_channel_moments(i->queue, qe_trace_desc(&trace, conv), trace.tensor[conv], sum, square));
  const qe_network_layer *requant = &network->layer[at];
  double unit = ldexp(1, -requant->attrs.requant.shift);
  for (int c = 0; c < 8; c++) {
    double m = (double)sum[c] / (double)count, v = (double)square[c] / (double)count - m * m;
    mean[c] = (requant->multiplier[0][c] * m + (double)requant->offset[c]) * unit - 0.5;
    deviation[c] = requant->multiplier[0][c] * sqrt(v) * unit;
  }
  qe_trace_close(&trace);
}

static double step_of(const qe_network *network) {
  int32_t at = 0;
  while (strcmp(network->layer[at].name, "act1") != 0) at++;
  return ldexp(network->layer[at].unit.mantissa, network->layer[at].unit.exponent);
}

static void test_calibrate(void **state) {
  (void)state;
  images i = images_open(fixture_fast());
  qe_network *teacher = small_network(8, 6), *student = small_network(2, 4);
  double mean[2][8], deviation[2][8], ratio = step_of(teacher) / step_of(student);
  OK(qe_calibrate(i.queue, student, teacher, i.pixels, TRAIN, NULL));
  OK(qe_network_check(student));
  share_of(&i, teacher, mean[0], deviation[0]);
  share_of(&i, student, mean[1], deviation[1]);
  for (int c = 0; c < 8; c++) {
    if (fabs(mean[1][c] - mean[0][c] * ratio) > 0.02) fail_msg("mean %g, not %g", mean[1][c], mean[0][c] * ratio);
    if (fabs(deviation[1][c] - deviation[0][c] * ratio) > 0.02)
      fail_msg("deviation %g, not %g", deviation[1][c], deviation[0][c] * ratio);
  }
  qe_calibrate_options options = {.mean = {1, 5}, .deviation = {1, 3}, .logits = 512};
  OK(qe_calibrate(i.queue, student, NULL, i.pixels, TRAIN, &options));
  OK(qe_network_check(student));
  share_of(&i, student, mean[1], deviation[1]);
  for (int c = 0; c < 8; c++) {
    assert_true(fabs(mean[1][c] - 3) < 0.02);
    assert_true(fabs(deviation[1][c] - 5) < 0.02);
  }
  qe_network_free(student);
  qe_network_free(teacher);
  images_close(&i);
}

/* ---- stages ---- */

static void test_stages(void **state) {
  (void)state;
  qe_device *device = fixture_fast();
  qe_network *teacher = small_network(8, 6);
  qe_evolution *evolution;
  qe_evolution_setup setup = {
      .device = &device, .devices = 1, .data = data, .teacher = teacher, .measure = {.held_out = 16}, .seed = 3};
  qe_evolution_options options = {.local = qe_local_defaults()};
  const qe_search_stage *stage[QE_MOST_STAGES];
  OK(qe_search_stages_find("calibrate,local", stage));
  OK(qe_evolution_new(&setup, small_network(3, 3), &evolution));
  images i = images_open(device);
  int64_t before = logit_error(&i, evolution->network, teacher);
  OK(qe_evolution_run(evolution, stage, &options, NULL));
  assert_true(logit_error(&i, evolution->network, teacher) < before);
  OK(qe_genome_check(evolution->layout, evolution->network, evolution->genome));
  qe_evolution_free(evolution);
  setup.teacher = NULL;
  OK(qe_search_stages_find("local", stage));
  OK(qe_evolution_new(&setup, small_network(3, 3), &evolution));
  FAILS(QE_USAGE, qe_evolution_run(evolution, stage, &options, NULL), "teacher");
  qe_evolution_free(evolution);
  images_close(&i);
  qe_network_free(teacher);
}

/* ---- gains ---- */

static void assert_near(double got, double wanted) {
  if (fabs(got - wanted) > fabs(wanted) * 4e-9) fail_msg("%.17g, not %.17g", got, wanted);
}

static void test_gains(void **state) {
  (void)state;
  draws from = {9, 0};
  for (int k = 0; k < 2000; k++) {
    int64_t a = (int64_t)draw_range(&from, -1000000, 1000000) * (INT64_C(1) << draw_range(&from, 0, 42));
    int64_t b = (int64_t)draw_range(&from, 1, 1000000) << draw_range(&from, 0, 42);
    int32_t exponent = draw_range(&from, -40, 40);
    qe_s128 large = (qe_s128)a * b;
    qe_gain ratio = qe_gain_ratio(large, b, exponent), root = qe_gain_root(qe_gain_ratio(b, 3, exponent));
    assert_near(real(ratio), ldexp((double)a, exponent));
    assert_near(real(qe_gain_ratio(a, b, 0)), (double)a / (double)b);
    assert_near(real(qe_gain_times(ratio, root)), real(ratio) * real(root));
    assert_near(real(root), sqrt(ldexp((double)b / 3, exponent)));
  }
  assert_int_equal(qe_gain_ratio(5, 0, 0).mantissa, 0);
  assert_int_equal(qe_gain_ratio(0, 5, 0).mantissa, 0);
  assert_int_equal((int64_t)qe_gain_apply((qe_gain){1, -1}, 5, 0), 3); /* halves away from 0 */
  assert_int_equal((int64_t)qe_gain_apply((qe_gain){-1, -1}, 5, 0), -3);
  assert_int_equal((int64_t)qe_gain_apply((qe_gain){3, -2}, 1000, 2), 3000);
  assert_int_equal((int64_t)qe_gain_apply((qe_gain){3, -200}, 1000, 2), 0);
  assert_true(qe_gain_apply((qe_gain){3, 200}, -1000, 2) == -((qe_s128)1 << 100));
}

/* A requantiser made from another's gains computes the same to 1/128 of a code. */
static void test_scales(void **state) {
  (void)state;
  qe_network *network = small_network(4, 4);
  for (int32_t at = 0; at < (int32_t)network->layers; at++) {
    qe_network_layer *layer = &network->layer[at];
    if (!layer->offset) continue;
    int32_t channels = layer->output.dim[QE_C];
    qe_scales before, after;
    OK(qe_scales_new(layer->inputs, channels, &before));
    OK(qe_scales_new(layer->inputs, channels, &after));
    qe_scales_get(layer, &before);
    OK(qe_scales_put(&before, network, at));
    qe_scales_get(layer, &after);
    for (int32_t c = 0; c < channels; c++) {
      double error = fabs(real(after.offset[c]) - real(before.offset[c]));
      for (int b = 0; b < layer->inputs; b++) {
        const qe_network_layer *source = &network->layer[layer->input[b]];
        error += fabs(real(after.gain[b][c]) - real(before.gain[b][c])) * fmax(source->high, -source->low);
      }
      assert_true(error <= 1.0 / 128);
    }
    qe_scales_free(&before);
    qe_scales_free(&after);
  }
  OK(qe_network_check(network));
  qe_network_free(network);
}

/* ---- without memory ---- */

/* Any allocation may fail once: QE_NO_MEMORY, and nothing leaks; the network stays one that can be searched. */
static void test_no_memory(void **state) {
  (void)state;
  enum { APART = 53 }; /* not every one: there are thousands */
  images i = images_open(fixture_device[0]);
  qe_network *teacher = small_network(8, 6), *student = small_network(4, 4);
  qe_local_options options = qe_local_defaults();
  options.rounds = options.starts = options.clamped = 1;
  options.channels = 8;
  int failures = 0;
  for (int64_t nth = 1;; nth += APART, failures++) {
    qe_alloc_fail_nth(nth);
    qe_status status = qe_calibrate(i.queue, student, teacher, i.pixels, 4, NULL);
    if (status == QE_OK) status = qe_local_search(i.queue, student, teacher, i.pixels, 4, &options, NULL);
    qe_alloc_fail_nth(0);
    if (status == QE_OK) break;
    assert_int_equal(status, QE_NO_MEMORY);
  }
  assert_true(failures > 5);
  OK(qe_network_check(student));
  qe_network_free(student);
  qe_network_free(teacher);
  images_close(&i);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_errors_fall),     cmocka_unit_test(test_search_options),
      cmocka_unit_test(test_same_everywhere), cmocka_unit_test(test_unknown_units),
      cmocka_unit_test(test_channels),        cmocka_unit_test(test_other_teacher),
      cmocka_unit_test(test_calibrate),       cmocka_unit_test(test_stages),
      cmocka_unit_test(test_gains),           cmocka_unit_test(test_scales),
      cmocka_unit_test(test_no_memory),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
