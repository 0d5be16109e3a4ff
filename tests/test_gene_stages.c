/* The stages that search requantisers and neighbouring codes: what moves do to the integers, and whole searches on a
 * small network: the same bits on every device and when resumed, acceptance by the true fitness, budgets. */
#include "core/base/hash.h"
#include "core/evolve/stages.h"
#include "tests/small_network.h"

enum { CLASSES = 4, TRAIN = 120, SIDE = 6, HELD = 24 };

static const qe_move_search_options few = {
    .pairs = 6, .batch = 40, .amplitude = {8, 8, 4}, .spread = 1, .generations = 6, .accept = {.check = 60}};

/* ---- moves ---- */

static qe_moves *all_moves(const qe_network *network, bool by_channel) {
  qe_moves_options options = {.kind = {true, true, true}, .by_channel = by_channel};
  qe_moves *moves;
  OK(qe_moves_new(network, &options, &moves));
  return moves;
}

/* The network after moves. */
static qe_network *moved(const qe_network *network, const qe_moves *moves, const int32_t *value, uint64_t seed,
                         const qe_dataset *data) {
  qe_network *copy = small_network(seed, data);
  char *genome = qe_alloc(moves->layout->bytes);
  assert_true(qe_moves_apply(moves, network, value, genome));
  OK(qe_genome_to_network(moves->layout, genome, copy));
  OK(qe_network_check(copy));
  qe_free(genome);
  return copy;
}

static bool same_constants(const qe_network_layer *a, const qe_network_layer *b) {
  size_t channels = (size_t)a->output.dim[QE_C];
  for (int k = 0; k < a->inputs; k++)
    if (memcmp(a->multiplier[k], b->multiplier[k], channels * sizeof(int32_t)) != 0) return false;
  return memcmp(a->offset, b->offset, channels * sizeof(int64_t)) == 0;
}

static void assert_scaled(const qe_network_layer *was, const qe_network_layer *is, int branch, double factor) {
  for (int32_t c = 0; c < was->output.dim[QE_C]; c++) {
    double wanted = fmax(fmin(was->multiplier[branch][c] * factor, INT32_MAX), -INT32_MAX);
    if (fabs(is->multiplier[branch][c] - wanted) > 0.5 + 1e-8 * fabs(wanted))
      fail_msg("%s, branch %d, channel %d: %d, must be %f", was->name, branch, c, is->multiplier[branch][c], wanted);
  }
}

static void assert_offsets_scaled(const qe_network_layer *was, const qe_network_layer *is, double factor) {
  int32_t shift = was->attrs.requant.shift;
  double half = shift ? ldexp(1, shift - 1) : 0;
  for (int32_t c = 0; c < was->output.dim[QE_C]; c++) {
    double wanted = ((double)was->offset[c] - half) * factor + half;
    if (fabs((double)is->offset[c] - wanted) > 0.5 + 1e-8 * fabs(wanted - half))
      fail_msg("%s, channel %d: offset %lld, must be %f", was->name, c, (long long)is->offset[c], wanted);
  }
}

/* Layers of small_network: 1 conv, 2 wide, 3 coarse, 4 conv, 5 codes, 6 conv, 7 wide (with the skip 2), 8 coarse,
 * 9 pool, 10 codes, 11 linear, 12 logits. A step of `at` by 2^(v/256): M and B of `at` divided by it, M of the branches
 * that read the codes multiplied, nothing else. */
static void check_step(int32_t at, int32_t v, const int32_t *reader, const int *branch, int readers) {
  qe_dataset *data = small_data(SIDE, 3, CLASSES, 4, 4);
  qe_network *network = small_network(1, data);
  qe_moves *moves = all_moves(network, false);
  int32_t *value = QE_NEW_ARRAY(int32_t, moves->moves);
  for (size_t i = 0; i < moves->moves; i++)
    if (moves->move[i].kind == QE_MOVE_STEP && moves->move[i].layer == at) value[i] = v;
  qe_network *after = moved(network, moves, value, 1, data);
  double ratio = exp2(v / 256.0);
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *was = &network->layer[i], *is = &after->layer[i];
    bool reads[2] = {false, false};
    for (int k = 0; k < readers; k++)
      if ((size_t)reader[k] == i) reads[branch[k]] = true;
    if (!was->offset) continue;
    if ((int32_t)i != at && !reads[0] && !reads[1]) assert_true(same_constants(was, is));
    for (int b = 0; b < was->inputs; b++)
      assert_scaled(was, is, b, (int32_t)i == at ? 1 / ratio : reads[b] ? ratio : 1);
    if ((int32_t)i == at) assert_offsets_scaled(was, is, 1 / ratio);
    if ((int32_t)i != at) assert_offsets_scaled(was, is, 1);
  }
  qe_network_free(after);
  qe_free(value);
  qe_moves_free(moves);
  qe_network_free(network);
  qe_dataset_free(data);
}

static void test_steps(void **state) {
  (void)state;
  for (int32_t v = -700; v <= 700; v += 93) {
    check_step(2, v, (const int32_t[]){5, 7}, (const int[]){0, 1}, 2); /* through its coarser code, and the skip */
    check_step(5, v, (const int32_t[]){7}, (const int[]){0}, 1);
    check_step(7, v, (const int32_t[]){10}, (const int[]){0}, 1); /* through the coarser code and the pool */
    check_step(10, v, (const int32_t[]){12}, (const int[]){0}, 1);
    check_step(12, v, NULL, NULL, 0);
  }
}

/* Steps of all layers at once, and nothing: multipliers of a layer follow both its own step and those it reads. */
static void test_moves_together(void **state) {
  (void)state;
  qe_dataset *data = small_data(SIDE, 3, CLASSES, 4, 4);
  qe_network *network = small_network(2, data);
  for (int by_channel = 0; by_channel < 2; by_channel++) {
    qe_moves *moves = all_moves(network, by_channel);
    int32_t *value = QE_NEW_ARRAY(int32_t, moves->moves);
    qe_network *same = moved(network, moves, value, 2, data);
    for (size_t i = 0; i < network->layers; i++)
      if (network->layer[i].offset) assert_true(same_constants(&network->layer[i], &same->layer[i]));
    qe_network_free(same);
    for (size_t i = 0; i < moves->moves; i++) {
      const qe_move *move = &moves->move[i];
      if (move->kind == QE_MOVE_STEP && (move->layer == 2 || move->layer == 7)) value[i] = move->layer == 2 ? 50 : -30;
      if (move->kind == QE_MOVE_GAIN && move->layer == 7 && move->branch == 0) value[i] = 7;
      if (move->kind == QE_MOVE_OFFSET && move->layer == 5 && move->channel <= 0) value[i] = -5;
    }
    qe_network *after = moved(network, moves, value, 2, data);
    for (int b = 0; b < 2; b++)
      for (int32_t c = 0; c < 4; c++) {
        double wanted = network->layer[7].multiplier[b][c] * exp2(((b == 0 ? 7 : 50) + 30) / 256.0);
        assert_true(fabs(after->layer[7].multiplier[b][c] - wanted) <= 2);
      }
    int64_t unit = INT64_C(1) << network->layer[5].attrs.requant.shift;
    for (int32_t c = 0; c < 4; c++) {
      int64_t change = after->layer[5].offset[c] - network->layer[5].offset[c];
      assert_true(change == (by_channel && c > 0 ? 0 : -5 * unit / 64 - (5 * unit % 64 != 0)));
    }
    qe_network_free(after);
    qe_free(value);
    qe_moves_free(moves);
  }
  qe_network_free(network);
  qe_dataset_free(data);
}

/* Where sums could pass 64 bits the network's own values stay. */
static void test_moves_overflow(void **state) {
  (void)state;
  qe_dataset *data = small_data(SIDE, 3, CLASSES, 4, 4);
  qe_network *network = small_network(3, data);
  qe_moves *moves = all_moves(network, false);
  int32_t *value = QE_NEW_ARRAY(int32_t, moves->moves);
  char *genome = qe_alloc(moves->layout->bytes), *own = qe_alloc(moves->layout->bytes);
  network->layer[12].offset[0] = INT64_MAX / 8;
  qe_genome_from_network(moves->layout, network, own);
  for (size_t i = 0; i < moves->moves; i++)
    if (moves->move[i].kind == QE_MOVE_OFFSET && moves->move[i].layer == 7) value[i] = 1;
  assert_true(qe_moves_apply(moves, network, value, genome));
  assert_memory_not_equal(genome, own, moves->layout->bytes);
  for (int32_t c = 0; c < 4; c++) network->layer[7].offset[c] = INT64_MAX;
  assert_false(qe_moves_apply(moves, network, value, genome));
  qe_genome_from_network(moves->layout, network, own);
  assert_memory_equal(genome, own, moves->layout->bytes);
  qe_moves_options none = {.by_channel = true};
  qe_moves *nothing;
  FAILS(QE_USAGE, qe_moves_new(network, &none, &nothing), "nothing evolves");
  qe_free(genome);
  qe_free(own);
  qe_free(value);
  qe_moves_free(moves);
  qe_network_free(network);
  qe_dataset_free(data);
}

/* ---- searches ---- */

typedef struct watcher {
  uint64_t hash; /* of all reports and networks */
  int64_t generations, accepted, stop_at;
  int64_t last_held_out;
} watcher;

static uint64_t hash_network(uint64_t hash, const qe_network *network) {
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    size_t channels = (size_t)layer->output.dim[QE_C];
    if (layer->weight) hash = qe_hash(hash, layer->weight, (size_t)qe_count(&layer->weight_desc));
    for (int b = 0; b < 2 && layer->multiplier[b]; b++) hash = qe_hash(hash, layer->multiplier[b], channels * 4);
    if (layer->offset) hash = qe_hash(hash, layer->offset, channels * 8);
  }
  return hash;
}

static qe_status on_generation(void *context, const qe_evolution *evolution, const qe_evolution_report *report) {
  watcher *w = context;
  const int64_t numbers[] = {report->generation, report->spent, report->best, report->mean, report->held_out};
  w->hash = hash_network(qe_hash(w->hash, numbers, sizeof numbers), evolution->network);
  w->generations++;
  w->accepted += report->accepted;
  assert_int_equal(report->generation, w->generations);
  assert_true((report->changed > 0) == report->accepted);
  assert_true(report->best <= report->mean);
  assert_true(evolution->budget == 0 || report->spent <= evolution->budget);
  OK(qe_network_check(evolution->network));
  return report->generation == w->stop_at ? QE_INTERRUPTED : QE_OK;
}

typedef struct trial {
  const char *stages;
  qe_evolution_options options;
  int64_t budget;
  qe_device *device[2];
  int devices;
} trial;

static qe_evolution *evolution_for(const trial *t, const qe_dataset *data, const qe_network *teacher, watcher *w) {
  qe_evolution_setup setup = {.device = t->device,
                              .devices = t->devices,
                              .data = data,
                              .teacher = teacher,
                              .measure = {.held_out = HELD, .loss = QE_FITNESS_BOTH, .pad = 1, .flip = true},
                              .seed = 5,
                              .budget = t->budget,
                              .events = {.context = w, .generation = on_generation}};
  qe_evolution *evolution;
  OK(qe_evolution_new(&setup, small_network(4, data), &evolution));
  return evolution;
}

static int64_t held_out_loss(qe_evolution *evolution) {
  int64_t loss;
  qe_fitness_batch all = {QE_FITNESS_HELD_OUT, 0, HELD, false};
  OK(qe_fitness_run(evolution->fitness, &all, evolution->genome, 1, NULL, INT64_MAX, &loss, NULL));
  return loss;
}

/* A whole run, interrupted at `stop_at` and taken up again by another evolution when that is not 0. */
static watcher run(const trial *t, int64_t stop_at, int64_t *before, int64_t *after) {
  qe_dataset *data = small_data(SIDE, 3, CLASSES, TRAIN, 4);
  qe_network *teacher = small_network(6, data);
  watcher w = {.hash = QE_HASH_START, .stop_at = stop_at};
  const qe_search_stage *stage[QE_MOST_STAGES];
  OK(qe_search_stages_find(t->stages, stage));
  qe_evolution *evolution = evolution_for(t, data, teacher, &w);
  *before = held_out_loss(evolution);
  qe_fitness_set_spent(evolution->fitness, 0);
  qe_status status = qe_evolution_run(evolution, stage, &t->options, NULL);
  if (stop_at) {
    qe_tensors *tensors = qe_tensors_new();
    assert_int_equal(status, QE_INTERRUPTED);
    OK(qe_evolution_give(evolution, tensors));
    qe_evolution_free(evolution);
    w.stop_at = 0;
    evolution = evolution_for(t, data, teacher, &w);
    OK(qe_evolution_resume(evolution, tensors, "checkpoint"));
    qe_tensors_free(tensors);
    status = qe_evolution_run(evolution, stage, &t->options, NULL);
  }
  OK(status);
  w.hash = hash_network(w.hash, evolution->network);
  *after = held_out_loss(evolution);
  qe_evolution_free(evolution);
  qe_network_free(teacher);
  qe_dataset_free(data);
  return w;
}

/* All held-out images decide, so their loss only falls; devices, their number and a break change nothing. */
static void check_stage(const char *stages, const qe_evolution_options *options) {
  int64_t before, after, then;
  trial t = {.stages = stages, .options = *options, .device = {fixture_device[0], fixture_fast()}, .devices = 1};
  watcher once = run(&t, 0, &before, &after);
  assert_int_equal(once.generations, 6);
  assert_true(once.accepted > 0);
  assert_true(after < before);
  watcher broken = run(&t, 3, &before, &then);
  assert_true(broken.hash == once.hash && then == after);
  t.devices = 2;
  assert_true(run(&t, 0, &before, &then).hash == once.hash);
  t.device[0] = fixture_fast();
  t.devices = 1;
  assert_true(run(&t, 0, &before, &then).hash == once.hash);
  t.budget = 3000;
  watcher bounded = run(&t, 0, &before, &then);
  assert_true(bounded.generations > 0 && bounded.generations < 6);
}

static void test_layers(void **state) {
  (void)state;
  check_stage("layers", &(qe_evolution_options){.layers = few});
}

static void test_requant(void **state) {
  (void)state;
  qe_evolution_options options = {.requant = few};
  options.requant.spread = 3;
  options.requant.augmented = options.requant.accept.augmented = true;
  check_stage("requant", &options);
}

static void test_neighbours(void **state) {
  (void)state;
  check_stage(
      "neighbours",
      &(qe_evolution_options){
          .neighbours = {.candidates = 12, .batch = 40, .moves = 6, .generations = 6, .accept = {.check = 60}}});
}

/* A margin that no difference reaches: nothing is accepted, and the network stays. */
static void test_margin(void **state) {
  (void)state;
  int64_t before, after;
  trial t = {.stages = "layers", .options = {.layers = few}, .device = {fixture_fast()}, .devices = 1};
  t.options.layers.accept.margin = 4;
  watcher some = run(&t, 0, &before, &after);
  assert_true(some.accepted > 0 && after < before);
  t.options.layers.accept.margin = 40;
  watcher none = run(&t, 0, &before, &after);
  assert_true(none.accepted == 0 && after == before);
}

/* What no run can be made of. */
static void test_refused(void **state) {
  (void)state;
  qe_dataset *data = small_data(SIDE, 3, CLASSES, TRAIN, 4);
  watcher w = {.hash = QE_HASH_START};
  trial t = {.device = {fixture_fast()}, .devices = 1};
  qe_network *teacher = small_network(6, data);
  qe_evolution *evolution = evolution_for(&t, data, teacher, &w);
  qe_move_search_options layers = few;
  layers.pairs = 0;
  FAILS(QE_USAGE, qe_layers_run(evolution, &layers), "pairs");
  layers = few;
  memset(layers.amplitude, 0, sizeof layers.amplitude);
  FAILS(QE_USAGE, qe_layers_run(evolution, &layers), "nothing evolves");
  FAILS(QE_USAGE, qe_neighbours_run(evolution, &(qe_neighbours_options){.candidates = 0}), "candidates");
  evolution->state = qe_tensors_new();
  evolution->stage = "layers";
  layers = few;
  FAILS(QE_FORMAT, qe_layers_run(evolution, &layers), "another stage");
  qe_evolution_free(evolution);
  qe_network_free(teacher);
  qe_dataset_free(data);
}

/* ---- memory ---- */

static qe_status run_without(qe_network *network, const qe_network *teacher, const qe_dataset *data) {
  qe_device *device = fixture_fast();
  qe_evolution_options options = {
      .layers = few, .neighbours = {.candidates = 2, .batch = 4, .moves = 3, .generations = 1, .accept = {.check = 4}}};
  options.layers.generations = 1;
  options.layers.pairs = 1;
  options.layers.batch = options.layers.accept.check = 4;
  qe_evolution_setup setup = {.device = &device,
                              .devices = 1,
                              .data = data,
                              .teacher = teacher,
                              .measure = {.held_out = HELD, .loss = QE_FITNESS_BOTH, .pad = 1, .flip = true},
                              .save_every = 1};
  options.layers.augmented = true;
  const qe_search_stage *stage[QE_MOST_STAGES];
  qe_evolution *evolution;
  QE_TRY(qe_evolution_new(&setup, network, &evolution));
  qe_status status = qe_search_stages_find("layers,neighbours", stage);
  if (status == QE_OK) status = qe_evolution_run(evolution, stage, &options, NULL);
  qe_evolution_free(evolution);
  return status;
}

/* The nth allocation fails, for every n: an error, nothing lost, nothing used that is gone. */
static void test_every_allocation_fails_once(void **state) {
  (void)state;
  qe_dataset *data = small_data(SIDE, 3, CLASSES, TRAIN, 4);
  qe_network *teacher = small_network(6, data);
  qe_status status = QE_NO_MEMORY;
  int64_t nth = 0;
  for (; status != QE_OK; nth++) {
    qe_network *network = small_network(4, data);
    qe_alloc_fail_nth(nth + 1);
    status = run_without(network, teacher, data);
    qe_alloc_fail_nth(0);
    assert_true(status == QE_OK || status == QE_NO_MEMORY);
  }
  assert_true(nth > 200);
  qe_network_free(teacher);
  qe_dataset_free(data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_steps),
      cmocka_unit_test(test_moves_together),
      cmocka_unit_test(test_moves_overflow),
      cmocka_unit_test(test_layers),
      cmocka_unit_test(test_requant),
      cmocka_unit_test(test_neighbours),
      cmocka_unit_test(test_margin),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_every_allocation_fails_once),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
