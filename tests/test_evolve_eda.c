/* Stage `eda` on a small network: it lowers the loss, gives the same on every device, and goes on where it was
 * stopped. */
#include "core/evolve/eda_parts.h"
#include "core/graph/integer.h"
#include "core/train/trainer.h"
#include "tests/fixture.h"

enum { SIDE = 8, CLASSES = 4, TRAIN = 96, GENERATIONS = 256 };

/* What a run told, and when it is to be stopped. */
typedef struct course {
  qe_evolution_report report[GENERATIONS];
  int64_t bins[QE_CONFIDENCE_BINS];
  int reports, stop_after; /* 0: never */
  char note[128];
} course;

static qe_status hear(void *context, const qe_evolution *evolution, const qe_evolution_report *report) {
  course *to = context;
  assert_string_equal(report->stage, "eda");
  assert_true(to->reports < GENERATIONS);
  to->report[to->reports++] = *report;
  for (int b = 0; report->confidence && b < QE_CONFIDENCE_BINS; b++) to->bins[b] = report->confidence[b];
  OK(qe_genome_check(evolution->layout, evolution->network, evolution->genome));
  return to->reports == to->stop_after ? QE_INTERRUPTED : QE_OK;
}

static void hear_note(void *context, const char *text) {
  course *to = context;
  snprintf(to->note, sizeof to->note, "%s", text);
}

/* ---- a network ---- */

static qe_dataset *data;

/* As residual_net, with codes between the pool and the classifier. */
static qe_graph *small_graph(const net_options *options) {
  qe_graph *graph;
  OK(qe_graph_new(&graph));
  qe_quantizer weights = net_weights(options);
  qe_node x = qe_graph_input(graph, "input", data->height, data->width, data->channels);
  x = net_conv(graph, "conv1", x, 8, options);
  qe_node wide = net_activation(graph, "wide", x, options, 2, -1);
  qe_node low = net_activation(graph, "low", wide, options, 0, wide);
  x = net_conv(graph, "conv2", low, 8, options);
  x = qe_graph_add(graph, "add", x, wide);
  x = net_activation(graph, "act2", x, options, 0, -1);
  x = qe_graph_global_pool(graph, "pool", x);
  x = net_activation(graph, "act3", x, options, 0, -1);
  x = qe_graph_linear(graph, "fc", x, data->classes, true, &weights);
  (void)x;
  OK(qe_graph_finish(graph));
  return graph;
}

/* Of the same random weights whatever the bits and the grid. */
static qe_network *network_of(int weight_bits, qe_rule rule) {
  net_options options = {.weight_bits = weight_bits, .act_bits = 4, .weight_rule = rule};
  qe_model *model = model_of(small_graph(&options), 7);
  qe_network *network;
  OK(qe_fit_steps(fixture_device[0], model, data, 7));
  OK(qe_network_from_graph(model->graph, model->values, &network));
  qe_model_free(model);
  return network;
}

/* `odd`: 2 bits on the grid -3 -1 1 3. */
static qe_network *small_network(bool odd) {
  return odd ? network_of(2, QE_RULE_DOREFA) : network_of(4, QE_RULE_LSQ);
}

static int open_all(void **state) {
  data = small_data(SIDE, 3, CLASSES, TRAIN, 8);
  return fixture_open(state);
}
static int close_all(void **state) {
  qe_dataset_free(data);
  return fixture_close(state);
}

static qe_evolution *small_evolution(qe_device *const *device, bool odd, course *to) {
  qe_evolution *evolution;
  qe_evolution_setup setup = {.device = device,
                              .devices = 1,
                              .data = data,
                              .measure = {.held_out = 32, .pad = 1, .flip = true},
                              .seed = 11,
                              .events = {.context = to, .generation = hear, .note = hear_note}};
  OK(qe_evolution_new(&setup, small_network(odd), &evolution));
  evolution->stage = "eda";
  return evolution;
}

/* A form that is quick here; `beyond`: with all that the paper does not have. */
static qe_eda_options quick(bool beyond) {
  qe_eda_options options = qe_eda_defaults();
  options.individuals = 21;
  options.best = 5;
  options.batch = 32;
  options.spread = 300;
  options.group = 150;
  options.generations = 3;
  options.share = 5000;
  options.cycles = 2;
  if (beyond) {
    options.group_by = QE_EDA_BY_LAYER;
    options.races = 2;
    options.ladder = 4;
    options.mirror = options.elitism = options.restart = options.recentre = options.adapt = options.augmented = true;
  }
  return options;
}

static int64_t held_out_loss(qe_evolution *evolution) {
  qe_fitness_batch batch = {.part = QE_FITNESS_HELD_OUT, .count = 32};
  int64_t loss;
  OK(qe_fitness_run(evolution->fitness, &batch, evolution->genome, 1, NULL, INT64_MAX, &loss, NULL));
  return loss;
}

static void assert_same_report(const qe_evolution_report *a, const qe_evolution_report *b) {
  assert_int_equal(a->generation, b->generation);
  assert_int_equal(a->spent, b->spent);
  assert_int_equal(a->best, b->best);
  assert_int_equal(a->mean, b->mean);
  assert_int_equal(a->held_out, b->held_out);
  assert_int_equal(a->confident_per_myriad, b->confident_per_myriad);
  assert_int_equal(a->changed, b->changed);
  assert_int_equal(a->accepted, b->accepted);
}

/* ---- what it does ---- */

static void test_loss_falls(void **state) {
  (void)state;
  course to = {0};
  qe_device *device = fixture_fast();
  qe_evolution *evolution = small_evolution(&device, false, &to);
  qe_eda_options options = quick(true);
  options.cycles = 6;
  options.generations = 5;
  options.individuals = 64;
  options.best = 12;
  options.augmented = false;
  int64_t before = held_out_loss(evolution), accepted = 0;
  OK(qe_eda_run(evolution, &options));
  int64_t after = held_out_loss(evolution);
  if (after > before * 3 / 4) fail_msg("the loss was %lld and is %lld", (long long)before, (long long)after);
  for (int i = 0; i < to.reports; i++) {
    const qe_evolution_report *report = &to.report[i];
    assert_int_equal(report->generation, i + 1);
    assert_true(report->best >= 0 && report->best <= report->mean + report->mean / 2);
    assert_true(report->confident_per_myriad >= 0 && report->confident_per_myriad <= 10000);
    assert_int_equal(report->changed > 0, report->accepted);
    if (report->accepted) accepted = report->held_out;
  }
  assert_int_equal(accepted, after / 32);
  assert_non_null(strstr(to.note, "6 cycles are done"));
  int64_t sum = 0;
  for (int b = 0; b < QE_CONFIDENCE_BINS; b++) sum += to.bins[b];
  assert_int_equal(sum, evolution->layout->gene[0].count);
  qe_evolution_free(evolution);
}

/* The context, the end of a stage, and how it got there. */
typedef struct outcome {
  course course;
  uint8_t genome[4096];
} outcome;

static void run_on(qe_device *device, const qe_eda_options *options, bool odd, outcome *to) {
  memset(to, 0, sizeof *to);
  qe_evolution *evolution = small_evolution(&device, odd, &to->course);
  OK(qe_eda_run(evolution, options));
  assert_true(evolution->layout->bytes <= sizeof to->genome);
  memcpy(to->genome, evolution->genome, evolution->layout->bytes);
  qe_evolution_free(evolution);
}

static void assert_same_outcome(const outcome *a, const outcome *b) {
  assert_int_equal(a->course.reports, b->course.reports);
  for (int i = 0; i < a->course.reports; i++) assert_same_report(&a->course.report[i], &b->course.report[i]);
  assert_memory_equal(a->genome, b->genome, sizeof a->genome);
}

static void test_devices_agree(void **state) {
  (void)state;
  static outcome ref, other;
  if (!fixture_device[1]) skip();
  for (int beyond = 0; beyond < 2; beyond++) {
    qe_device *two;
    qe_eda_options options = quick(beyond);
    run_on(fixture_device[0], &options, false, &ref);
    run_on(fixture_device[1], &options, false, &other);
    assert_same_outcome(&ref, &other);
    OK(qe_device_open(fixture_registry, "cpu", 0, &(qe_open_options){.threads = 2}, &two));
    run_on(two, &options, false, &other);
    assert_same_outcome(&ref, &other);
    qe_device_close(two);
  }
}

/* ---- stopped and resumed ---- */

static void resume(qe_evolution *stopped, const qe_eda_options *options, int done, outcome *to) {
  qe_device *device = fixture_fast();
  qe_tensors *checkpoint = qe_tensors_new();
  OK(qe_evolution_give(stopped, checkpoint));
  qe_evolution *evolution = small_evolution(&device, false, &to->course);
  to->course.stop_after = 0;
  OK(qe_evolution_resume(evolution, checkpoint, "the checkpoint"));
  assert_int_equal(to->course.reports, done);
  OK(qe_eda_run(evolution, options));
  memcpy(to->genome, evolution->genome, evolution->layout->bytes);
  qe_evolution_free(evolution);
  qe_tensors_free(checkpoint);
}

static void test_resume(void **state) {
  (void)state;
  static outcome whole, parts;
  qe_device *device = fixture_fast();
  for (int beyond = 0; beyond < 2; beyond++) {
    qe_eda_options options = quick(beyond);
    run_on(device, &options, false, &whole);
    assert_true(whole.course.reports > 15);
    for (int stop = 1; stop < 15; stop += 2) {
      memset(&parts, 0, sizeof parts);
      parts.course.stop_after = stop;
      qe_evolution *evolution = small_evolution(&device, false, &parts.course);
      assert_int_equal(qe_eda_run(evolution, &options), QE_INTERRUPTED);
      assert_non_null(evolution->state);
      resume(evolution, &options, stop, &parts);
      qe_evolution_free(evolution);
      assert_same_outcome(&whole, &parts);
    }
  }
}

static void test_foreign_state(void **state) {
  (void)state;
  course to = {.stop_after = 2};
  qe_device *device = fixture_fast();
  qe_eda_options options = quick(true), other = options;
  qe_evolution *evolution = small_evolution(&device, false, &to);
  assert_int_equal(qe_eda_run(evolution, &options), QE_INTERRUPTED);
  other.radius = 2;
  FAILS(QE_FORMAT, qe_eda_run(evolution, &other), "eda.probability");
  qe_named_tensor *tensor = qe_tensors_find(evolution->state, "eda.probability");
  ((int16_t *)tensor->data)[0]++;
  FAILS(QE_FORMAT, qe_eda_run(evolution, &options), "variable 0");
  ((int16_t *)tensor->data)[0]--;
  ((uint8_t *)qe_tensors_find(evolution->state, "eda.elite")->data)[0] = 9;
  FAILS(QE_FORMAT, qe_eda_run(evolution, &options), "eda.elite");
  ((int32_t *)qe_tensors_find(evolution->state, "eda.order")->data)[0] = -1;
  FAILS(QE_FORMAT, qe_eda_run(evolution, &options), "eda.order");
  ((int64_t *)qe_tensors_find(evolution->state, "eda.position")->data)[2] = INT64_MAX;
  FAILS(QE_FORMAT, qe_eda_run(evolution, &options), "eda.position");
  qe_evolution_free(evolution);
}

/* ---- options ---- */

/* All sorts of options on both kinds of grid; that every context is sound is checked after each generation. */
static void test_forms(void **state) {
  (void)state;
  const qe_eda_options least = {.individuals = 2,
                                .best = 1,
                                .rate = 10000,
                                .batch = 1,
                                .accept_batch = 1,
                                .group = 1,
                                .generations = 1,
                                .share = 1,
                                .confident = 10000,
                                .cycles = 3,
                                .races = 1,
                                .uniform = true};
  static outcome to;
  for (int form = 0; form < 8; form++) {
    qe_eda_options options = quick(form & 1);
    options.group_by = (qe_eda_grouping)(form % QE_EDA_GROUPINGS);
    options.plain = form == 2;
    options.uniform = form == 3 || form == 4;
    options.radius = form == 4 || form == 5 ? 0 : 2;
    if (form == 6) options = least;
    run_on(fixture_fast(), &options, form & 1, &to);
    if (form == 2) assert_int_equal(to.course.reports, 2 * 3); /* one group a cycle */
  }
}

/* The probabilities of a step up and down at the start, for the first layer's weights, from the teacher's in double
 * precision. */
static void test_remainder(void **state) {
  (void)state;
  enum { SPREAD = 800 };
  course to = {0};
  qe_device *device = fixture_fast();
  qe_evolution *evolution = small_evolution(&device, false, &to);
  qe_network *teacher = network_of(8, QE_RULE_LSQ);
  const qe_gene *gene = &evolution->layout->gene[0];
  int8_t *codes = qe_alloc((size_t)gene->count), *theirs = teacher->layer[gene->layer].weight;
  OK(qe_genome_codes(gene, evolution->genome, codes));
  qe_eda_search s = {.evolution = evolution};
  OK(qe_eda_variables_new(evolution->network, evolution->layout, QE_EDA_BY_NETWORK, &s.variables));
  s.context = QE_NEW_ARRAY(uint8_t, s.variables.count);
  uint8_t *most = QE_NEW_ARRAY(uint8_t, s.variables.count);
  for (int64_t i = 0; i < s.variables.count; i++) {
    s.context[i] = qe_eda_get(&s.variables.place[i], evolution->genome);
    most[i] = (uint8_t)((1 << s.variables.place[i].bits) - 1);
  }
  const qe_eda_prior prior = {.radius = 1, .spread = SPREAD};
  OK(qe_eda_new(s.variables.count, most, s.context, &prior, &s.distribution));
  OK(qe_eda_lean_to(&s, teacher));
  OK(qe_eda_check(s.distribution));
  int64_t rows = evolution->network->layer[gene->layer].weight_desc.dim[QE_N], each = gene->count / rows;
  for (int64_t o = 0; o < rows; o++) {
    double both = 0, square = 0;
    for (int64_t k = o * each; k < (o + 1) * each; k++) {
      both += codes[k] * theirs[k];
      square += theirs[k] * theirs[k];
    }
    for (int64_t k = o * each; k < (o + 1) * each; k++) {
      int32_t centre = s.context[k] - s.distribution->first[k];
      double p = fmin(fmax(0.5 + theirs[k] * both / square - codes[k], 0), 1), wanted = 4 * SPREAD * p * p;
      if (centre + 1 >= s.distribution->candidates[k]) continue;
      double got = s.distribution->share[k * s.distribution->width + centre + 1];
      if (fabs(got - wanted) > 8 * SPREAD / 256.0 + 1) fail_msg("weight %d: %g, not %g", (int)k, got, wanted);
    }
  }
  qe_eda_variables_free(&s.variables);
  qe_eda_free(s.distribution);
  qe_free(s.context);
  qe_free(most);
  qe_free(codes);
  qe_evolution_free(evolution);
  qe_network_free(teacher);
}

static void test_ends(void **state) {
  (void)state;
  course to = {0};
  qe_device *device = fixture_fast();
  qe_evolution *evolution = small_evolution(&device, false, &to);
  qe_eda_options options = quick(false);
  options.individuals = options.batch = 4; /* drifts to some code or other */
  options.best = 2;
  options.rate = 9000;
  options.group = options.share = 10000;
  options.cycles = options.patience = 0;
  OK(qe_eda_run(evolution, &options));
  assert_non_null(strstr(to.note, "all variables are confident"));
  assert_int_equal(to.report[to.reports - 1].confident_per_myriad, 10000);
  to.reports = 0;
  options = quick(false);
  options.cycles = 0;
  options.patience = 1;
  options.rate = 1; /* too slow for any code to change */
  OK(qe_eda_run(evolution, &options));
  assert_non_null(strstr(to.note, "1 cycles gained nothing"));
  options = quick(true);
  options.cycles = 0;
  evolution->budget = qe_evolution_spent(evolution) + 5000;
  OK(qe_eda_run(evolution, &options));
  assert_non_null(strstr(to.note, "budget"));
  assert_true(qe_evolution_spent(evolution) <= evolution->budget);
  assert_true(qe_evolution_left(evolution) < 1000);
  qe_evolution_free(evolution);
}

static void test_refusals(void **state) {
  (void)state;
  course to = {0};
  qe_device *device = fixture_fast();
  qe_evolution *evolution = small_evolution(&device, false, &to);
  qe_eda_options options = quick(false);
  options.best = 22;
  FAILS(QE_USAGE, qe_eda_run(evolution, &options), "eda-best");
  options = quick(false);
  options.individuals = 1;
  FAILS(QE_USAGE, qe_eda_run(evolution, &options), "eda-individuals");
  options = quick(false);
  options.races = 7;
  FAILS(QE_USAGE, qe_eda_run(evolution, &options), "eda-races");
  options = quick(false);
  options.spread = 10;
  FAILS(QE_USAGE, qe_eda_run(evolution, &options), "eda-confident");
  assert_int_equal(qe_eda_grouping_find("network"), QE_EDA_BY_NETWORK);
  assert_int_equal(qe_eda_grouping_find("nothing"), QE_EDA_GROUPINGS);
  assert_string_equal(qe_eda_grouping_name(QE_EDA_BY_BLOCK), "block");
  qe_evolution_free(evolution);
}

static qe_evolution *scarce;
static void *scarce_start;

/* From the same context each time, so that each run allocates the same. */
static qe_status run_scarce(void) {
  qe_eda_options options = quick(true);
  options.augmented = false;
  options.individuals = options.batch = options.accept_batch = 4;
  options.best = options.generations = options.races = options.cycles = 1;
  options.group_by = QE_EDA_BY_NETWORK;
  options.share = 1000;
  qe_status status = qe_evolution_take(scarce, scarce_start, NULL);
  return status == QE_OK ? qe_eda_run(scarce, &options) : status;
}

/* Whichever allocation fails, the stage says so. A run may need fewer than the first: fitness keeps what it has. */
static void test_memory(void **state) {
  (void)state;
  course to = {0};
  int failures = 0;
  qe_device *device = fixture_fast();
  scarce = small_evolution(&device, false, &to);
  scarce->events = (qe_evolution_events){0};
  scarce_start = qe_calloc(1, scarce->layout->bytes);
  assert_non_null(scarce_start);
  memcpy(scarce_start, scarce->genome, scarce->layout->bytes);
  int64_t before = qe_alloc_count();
  OK(run_scarce());
  int64_t needed = qe_alloc_count() - before;
  for (int64_t nth = 1; nth <= needed; nth++) {
    qe_alloc_fail_nth(nth);
    qe_status status = run_scarce();
    qe_alloc_fail_nth(0);
    assert_true(status == QE_OK || status == QE_NO_MEMORY);
    failures += status == QE_NO_MEMORY;
  }
  assert_true(failures > 30);
  qe_free(scarce_start);
  qe_evolution_free(scarce);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_loss_falls), cmocka_unit_test(test_devices_agree), cmocka_unit_test(test_resume),
      cmocka_unit_test(test_forms),      cmocka_unit_test(test_remainder),     cmocka_unit_test(test_foreign_state),
      cmocka_unit_test(test_ends),       cmocka_unit_test(test_refusals),      cmocka_unit_test(test_memory),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
