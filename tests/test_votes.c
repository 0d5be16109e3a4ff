/* The stage `votes`: flips by votes, paired comparisons, and whole searches on a small network. */
#include "core/base/hash.h"
#include "core/evolve/stages.h"
#include "core/search/flips.h"
#include "tests/small_network.h"

enum { CLASSES = 4, TRAIN = 160, SIDE = 6, HELD = 40 };

/* ---- flips ---- */

static const qe_code_grid grid = {.bits = 4, .low = -8, .spacing = 1, .high = 7};
enum { CODES = 6 };

static void fill_sums(qe_vote_sums *sums) {
  static const int64_t votes[3][CODES] = {{10, -4, 100, 0, 7, -50}, {12, -4, -90, 0, 7, -50}, {11, -4, 95, 0, 7, -50}};
  OK(qe_vote_sums_new(CODES, sums));
  for (int g = 0; g < 3; g++) qe_vote_sums_add(sums, votes[g]);
}

static void test_flips(void **state) {
  (void)state;
  qe_vote_sums sums;
  const int8_t codes[CODES] = {0, 0, 0, 0, -8, 0};
  int32_t order[CODES];
  int64_t flips;
  fill_sums(&sums);
  assert_int_equal(sums.sum[0], 33);
  assert_true(sums.square[1] == 48);
  /* 2 is not sure, 3 has no direction, 4 cannot go lower. */
  OK(qe_flips_rank(&sums, &grid, codes, NULL, 1, 24, order, &flips));
  assert_int_equal(flips, 3);
  assert_int_equal(order[0], 5);
  assert_int_equal(order[1], 0);
  assert_int_equal(order[2], 1);
  OK(qe_flips_rank(&sums, &grid, codes, NULL, 1, 0, order, &flips));
  assert_int_equal(flips, 4);
  const int32_t scale[2] = {1, 4096};
  const int8_t free_codes[CODES] = {0};
  OK(qe_flips_rank(&sums, &grid, free_codes, scale, 2, 24, order, &flips));
  assert_int_equal(order[1], 4); /* the second row counts more */
  int8_t moved[CODES] = {0};
  OK(qe_flips_rank(&sums, &grid, codes, NULL, 1, 24, order, &flips));
  assert_int_equal(qe_flips_make(&sums, &grid, order, flips, &(qe_flips_choice){.flips = 2}, moved), 2);
  assert_int_equal(moved[5], 1);
  assert_int_equal(moved[0], -1);
  assert_int_equal(moved[1], 0);
  qe_vote_sums_free(&sums);
}

/* Random halves differ, and are what the seed says. */
static void test_halves(void **state) {
  (void)state;
  enum { MANY = 600 };
  qe_vote_sums sums;
  int64_t votes[MANY], flips;
  int8_t codes[MANY] = {0}, half[3][MANY] = {{0}};
  int32_t order[MANY];
  for (int i = 0; i < MANY; i++) votes[i] = 1 + i;
  OK(qe_vote_sums_new(MANY, &sums));
  qe_vote_sums_add(&sums, votes);
  OK(qe_flips_rank(&sums, &grid, codes, NULL, 1, 0, order, &flips));
  for (int k = 0; k < 3; k++) {
    qe_flips_choice choice = {.flips = 200, .seed = 5, .variant = k ? 2 : 1};
    int64_t count = qe_flips_make(&sums, &grid, order, flips, &choice, half[k]);
    assert_true(count > 150 && count < 250);
    for (int i = 0; i < MANY - 400; i++) assert_int_equal(half[k][i], 0);
  }
  assert_memory_equal(half[1], half[2], MANY);
  assert_memory_not_equal(half[0], half[1], MANY);
  qe_vote_sums_free(&sums);
}

/* Two codes that do the same: one of them moves, not both; and no code whose vote is not sure. */
static void test_descent(void **state) {
  (void)state;
  static const int64_t gram[9] = {10, 10, 0, 10, 10, 0, 0, 0, 10}, votes[3] = {-40, -39, -20};
  static const int32_t scale[1] = {4096};
  qe_vote_sums sums;
  int8_t codes[3] = {0};
  int64_t moved;
  OK(qe_vote_sums_new(3, &sums));
  for (int g = 0; g < 4; g++) qe_vote_sums_add(&sums, votes);
  qe_flips_curve curve = {1, gram, scale, 16};
  OK(qe_flips_descend(&sums, &grid, &curve, 2, 0, codes, &moved));
  assert_int_equal(moved, 1);
  assert_int_equal(codes[0] + codes[1], 1);
  assert_int_equal(codes[2], 0);
  memset(codes, 0, sizeof codes);
  curve.least = 33; /* all votes are 2 deviations from 0 */
  OK(qe_flips_descend(&sums, &grid, &curve, 2, 0, codes, &moved));
  assert_int_equal(moved, 0);
  qe_vote_sums_free(&sums);
}

/* ---- whole searches ---- */

typedef struct watcher {
  uint64_t hash; /* of every generation's numbers and weights */
  int64_t generations, accepted, spent, stop_at;
} watcher;

static qe_status on_generation(void *context, const qe_evolution *evolution, const qe_evolution_report *report) {
  watcher *w = context;
  const int64_t numbers[] = {report->generation, report->spent, report->best, report->mean, report->held_out};
  w->hash = qe_hash(w->hash, numbers, sizeof numbers);
  w->hash = qe_hash(w->hash, evolution->genome, evolution->layout->bytes);
  w->generations++;
  w->accepted += report->accepted;
  w->spent = report->spent;
  assert_int_equal(report->generation, w->generations);
  assert_true((report->changed > 0) == report->accepted);
  assert_true(evolution->budget == 0 || report->spent <= evolution->budget);
  OK(qe_network_check(evolution->network));
  return report->generation == w->stop_at ? QE_INTERRUPTED : QE_OK;
}

typedef struct trial {
  qe_votes_options options;
  int64_t budget;
  qe_device *device;
} trial;

static qe_votes_options few(qe_votes_source source) {
  qe_votes_options options = qe_votes_defaults();
  options.source = source;
  options.images = 120;
  options.groups = 6;
  options.pairs = 16;
  options.chance = 256;
  options.margin = 1;
  options.sure = 12;
  options.share = 1000;
  options.block = 1;
  options.flips = 8;
  options.batch = 64;
  options.confirm = 80;
  options.generations = 9;
  return options;
}

static qe_evolution *evolution_for(const trial *t, const qe_dataset *data, const qe_network *teacher, watcher *w) {
  qe_evolution_setup setup = {.device = &t->device,
                              .devices = 1,
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

static int64_t loss_of(qe_evolution *evolution, qe_fitness_part part, int32_t images) {
  int64_t loss, spent = qe_fitness_spent(evolution->fitness);
  qe_fitness_batch all = {part, 0, images, false};
  OK(qe_fitness_run(evolution->fitness, &all, evolution->genome, 1, NULL, INT64_MAX, &loss, NULL));
  qe_fitness_set_spent(evolution->fitness, spent);
  return loss;
}

/* A run, interrupted at `stop_at` and taken up again by another evolution when that is not 0. `before` and `after`:
 * loss of held-out and of training images. */
static watcher run(const trial *t, int64_t stop_at, int64_t before[2], int64_t after[2]) {
  qe_dataset *data = small_data(SIDE, 3, CLASSES, TRAIN, 4);
  qe_network *teacher = small_network(6, data);
  watcher w = {.hash = QE_HASH_START, .stop_at = stop_at};
  const qe_search_stage *stage[QE_MOST_STAGES];
  qe_evolution_options options = {.votes = t->options};
  OK(qe_search_stages_find("votes", stage));
  qe_evolution *evolution = evolution_for(t, data, teacher, &w);
  before[0] = loss_of(evolution, QE_FITNESS_HELD_OUT, HELD);
  before[1] = loss_of(evolution, QE_FITNESS_TRAIN, TRAIN - HELD);
  qe_status status = qe_evolution_run(evolution, stage, &options, NULL);
  if (stop_at) {
    qe_tensors *tensors = qe_tensors_new();
    assert_int_equal(status, QE_INTERRUPTED);
    OK(qe_evolution_give(evolution, tensors));
    qe_evolution_free(evolution);
    w.stop_at = 0;
    evolution = evolution_for(t, data, teacher, &w);
    OK(qe_evolution_resume(evolution, tensors, "checkpoint"));
    qe_tensors_free(tensors);
    status = qe_evolution_run(evolution, stage, &options, NULL);
  }
  OK(status);
  w.hash = qe_hash(w.hash, evolution->genome, evolution->layout->bytes);
  after[0] = loss_of(evolution, QE_FITNESS_HELD_OUT, HELD);
  after[1] = loss_of(evolution, QE_FITNESS_TRAIN, TRAIN - HELD);
  qe_evolution_free(evolution);
  qe_network_free(teacher);
  qe_dataset_free(data);
  return w;
}

/* The loss falls, also on images that accepted nothing; devices and a break change nothing; the budget holds. */
static void check_source(qe_votes_source source) {
  int64_t before[2], after[2], then[2];
  trial t = {.options = few(source), .device = fixture_fast()};
  watcher once = run(&t, 0, before, after);
  assert_int_equal(once.generations, 9);
  assert_true(once.accepted > 0);
  assert_true(after[0] < before[0] && after[1] < before[1]);
  watcher broken = run(&t, 3, before, then);
  assert_true(broken.hash == once.hash && then[0] == after[0]);
  t.device = fixture_device[0];
  t.options.generations = 2;
  watcher reference = run(&t, 0, before, then);
  t.device = fixture_fast();
  assert_true(run(&t, 0, before, then).hash == reference.hash);
  t.options.generations = 9;
  t.budget = once.spent / 2;
  watcher bounded = run(&t, 0, before, then);
  assert_true(bounded.generations > 0 && bounded.generations < 9);
}

static void test_nodes(void **state) {
  (void)state;
  check_source(QE_VOTES_NODES);
}

static void test_backprop(void **state) {
  (void)state;
  check_source(QE_VOTES_BACKPROP);
}

static void test_signs(void **state) {
  (void)state;
  check_source(QE_VOTES_SIGNS);
}

/* Nothing is so much better: the network stays, and each round over the layers without success brings the end nearer.
 */
static void test_never_worse(void **state) {
  (void)state;
  int64_t before[2], after[2];
  trial t = {.options = few(QE_VOTES_NODES), .device = fixture_fast()};
  t.options.sure = 1600;
  t.options.generations = 0;
  t.options.patience = 2;
  watcher w = run(&t, 0, before, after);
  assert_int_equal(w.accepted, 0);
  assert_true(w.generations > 0);
  assert_true(after[0] == before[0] && after[1] == before[1]);
}

static void test_refused(void **state) {
  (void)state;
  qe_dataset *data = small_data(SIDE, 3, CLASSES, TRAIN, 4);
  qe_network *teacher = small_network(6, data);
  watcher w = {.hash = QE_HASH_START};
  trial t = {.options = few(QE_VOTES_NODES), .device = fixture_fast()};
  qe_evolution *evolution = evolution_for(&t, data, teacher, &w);
  qe_votes_options options = t.options;
  options.pairs = 0;
  FAILS(QE_USAGE, qe_votes_run(evolution, &options), "pairs");
  options = t.options;
  options.groups = 121;
  FAILS(QE_USAGE, qe_votes_run(evolution, &options), "121 groups of 120 images");
  evolution->state = qe_tensors_new();
  FAILS(QE_FORMAT, qe_votes_run(evolution, &t.options), "not of this stage");
  assert_int_equal(qe_votes_source_find("signs"), QE_VOTES_SIGNS);
  assert_int_equal(qe_votes_source_find("none"), QE_VOTES_SOURCES);
  qe_evolution_free(evolution);
  qe_network_free(teacher);
  qe_dataset_free(data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_flips),       cmocka_unit_test(test_halves),  cmocka_unit_test(test_descent),
      cmocka_unit_test(test_nodes),       cmocka_unit_test(test_signs),   cmocka_unit_test(test_backprop),
      cmocka_unit_test(test_never_worse), cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
