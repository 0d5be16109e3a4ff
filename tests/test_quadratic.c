/* Coordinate descent on quadratic forms: exact changes, minima against brute force, ties, bounds, restarts. */
#include "core/base/alloc.h"
#include "core/search/quadratic.h"
#include "tests/draws.h"
#include "tests/fixture.h"

enum { MOST = 40, ROWS = 60 };

static const qe_code_grid signed_grid = {.bits = 3, .low = -4, .spacing = 1, .high = 3},
                          odd_grid = {.bits = 2, .low = -3, .spacing = 2, .high = 3};

typedef struct problem {
  qe_quadratic q;
  int32_t a[ROWS][MOST], target[ROWS]; /* inputs and what they are to sum to */
  int64_t gram[MOST * MOST], residual[MOST];
  int8_t codes[MOST];
} problem;

static int32_t draw_code(draws *from, const qe_code_grid *grid) {
  return grid->low + grid->spacing * draw_range(from, 0, (grid->high - grid->low) / grid->spacing);
}

/* Squared error of codes, from the inputs. */
static int64_t error_of(const problem *p, const int8_t *codes) {
  int64_t error = 0;
  for (int i = 0; i < ROWS; i++) {
    int64_t sum = -p->target[i];
    for (int k = 0; k < p->q.size; k++) sum += codes[k] * p->a[i][k];
    error += sum * sum;
  }
  return error;
}

/* r at the codes, from the inputs. */
static void residual_of(const problem *p, const int8_t *codes, int64_t *residual) {
  for (int k = 0; k < p->q.size; k++) residual[k] = 0;
  for (int i = 0; i < ROWS; i++) {
    int64_t sum = -p->target[i];
    for (int k = 0; k < p->q.size; k++) sum += codes[k] * p->a[i][k];
    for (int k = 0; k < p->q.size; k++) residual[k] += sum * p->a[i][k];
  }
}

static void draw_problem(draws *from, int32_t size, const qe_code_grid *grid, problem *p) {
  memset(p, 0, sizeof *p);
  p->q = (qe_quadratic){.size = size, .gram = p->gram, .grid = *grid, .seed = 7};
  for (int i = 0; i < ROWS; i++) {
    p->target[i] = draw_range(from, -200, 200);
    for (int k = 0; k < size; k++) p->a[i][k] = draw_range(from, 0, 15) + (k ? p->a[i][k - 1] / 2 : 0);
  }
  for (int i = 0; i < ROWS; i++)
    for (int k = 0; k < size; k++)
      for (int j = 0; j < size; j++) p->gram[k * size + j] += p->a[i][k] * p->a[i][j];
  for (int k = 0; k < size; k++) p->codes[k] = (int8_t)draw_code(from, grid);
  residual_of(p, p->codes, p->residual);
}

static int64_t descend(problem *p, uint64_t row) {
  int64_t change, moves, residual[MOST], before = error_of(p, p->codes);
  int8_t start[MOST];
  memcpy(start, p->codes, sizeof start);
  OK(qe_quadratic_check(&p->q, p->residual, 1));
  OK(qe_quadratic_descend(&p->q, row, p->codes, p->residual, &change, &moves));
  assert_int_equal(change, error_of(p, p->codes) - before);
  assert_true(change <= 0);
  residual_of(p, p->codes, residual);
  assert_memory_equal(residual, p->residual, (size_t)p->q.size * sizeof *residual);
  assert_int_equal(qe_codes_find_bad(&p->q.grid, p->codes, p->q.size), -1);
  int64_t moved = 0;
  for (int k = 0; k < p->q.size; k++) moved += start[k] != p->codes[k];
  assert_int_equal(moved, moves);
  return before + change;
}

/* The least error of one or two moves from the codes. */
static int64_t best_near(problem *p, int moves) {
  int64_t least = error_of(p, p->codes);
  for (int k = 0; k < p->q.size; k++)
    for (int by = -p->q.grid.spacing; by <= p->q.grid.spacing; by += 2 * p->q.grid.spacing) {
      int32_t moved = p->codes[k] + by;
      if (moved < p->q.grid.low || moved > p->q.grid.high) continue;
      p->codes[k] = (int8_t)moved;
      int64_t error = moves > 1 ? best_near(p, moves - 1) : error_of(p, p->codes);
      p->codes[k] = (int8_t)(moved - by);
      if (error < least) least = error;
    }
  return least;
}

/* Where it ends no move of one code, or with `pairs` of two, is better. */
static void test_local_minimum(void **state) {
  (void)state;
  draws from = {1, 0};
  static problem p;
  for (int i = 0; i < 60; i++) {
    draw_problem(&from, draw_range(&from, 1, 12), i % 2 ? &odd_grid : &signed_grid, &p);
    p.q.pairs = i % 3 == 0;
    int64_t error = descend(&p, 0);
    assert_int_equal(best_near(&p, p.q.pairs ? 2 : 1), error);
  }
}

static int64_t brute_force(problem *p, int32_t k) {
  if (k == p->q.size) return error_of(p, p->codes);
  int64_t least = INT64_MAX;
  for (int32_t code = p->q.grid.low; code <= p->q.grid.high; code += p->q.grid.spacing) {
    p->codes[k] = (int8_t)code;
    int64_t error = brute_force(p, k + 1);
    if (error < least) least = error;
  }
  return least;
}

/* Pairs and restarts find the least error of all codes in small problems. */
static void test_brute_force(void **state) {
  (void)state;
  draws from = {2, 0};
  static problem p;
  int found = 0;
  for (int i = 0; i < 20; i++) {
    draw_problem(&from, 5, &odd_grid, &p);
    p.q.pairs = true;
    p.q.restarts = 40;
    int64_t error = descend(&p, (uint64_t)i), least = brute_force(&p, 0);
    assert_true(error >= least);
    found += error == least;
  }
  assert_int_equal(found, 20);
}

/* More restarts never end worse; rows draw their own; the same row and seed give the same. */
static void test_restarts(void **state) {
  (void)state;
  draws from = {3, 0};
  static problem p, again;
  bool better = false;
  for (int i = 0; i < 10; i++) {
    draw_problem(&from, MOST, &signed_grid, &p);
    int64_t before = INT64_MAX;
    for (int32_t restarts = 0; restarts <= 32; restarts += 8) {
      again = p;
      again.q.gram = again.gram;
      again.q.restarts = restarts;
      int64_t error = descend(&again, 5);
      assert_true(error <= before);
      better = better || (restarts && error < before);
      before = error;
    }
    problem twin = p;
    twin.q.gram = twin.gram;
    twin.q.restarts = 32;
    assert_int_equal(descend(&twin, 5), before);
    assert_memory_equal(twin.codes, again.codes, sizeof twin.codes);
  }
  assert_true(better);
}

/* Of equal moves the lowest index is taken. */
static void test_ties(void **state) {
  (void)state;
  int64_t gram[4] = {1, 1, 1, 1}, residual[2] = {1, 1}, change, moves;
  int8_t codes[2] = {0, 0};
  qe_quadratic q = {.size = 2, .gram = gram, .grid = signed_grid};
  OK(qe_quadratic_descend(&q, 0, codes, residual, &change, &moves));
  assert_int_equal(change, -1);
  assert_int_equal(moves, 1);
  assert_int_equal(codes[0], -1);
  assert_int_equal(codes[1], 0);
}

/* What could pass 63 bits is refused, what cannot is not. */
static void test_bounds(void **state) {
  (void)state;
  int64_t gram[4] = {INT64_C(1) << 54, 0, 0, 1}, residual[2] = {0, 0};
  qe_quadratic q = {.size = 2, .gram = gram, .grid = signed_grid};
  OK(qe_quadratic_check(&q, residual, 1));
  residual[1] = -(INT64_C(1) << 60);
  FAILS(QE_REFUSED, qe_quadratic_check(&q, residual, 1), "63 bits");
  residual[1] = 0;
  gram[0] = INT64_MAX;
  FAILS(QE_REFUSED, qe_quadratic_check(&q, residual, 1), "63 bits");
}

static void test_no_memory(void **state) {
  (void)state;
  draws from = {4, 0};
  static problem p;
  draw_problem(&from, 8, &signed_grid, &p);
  int64_t change, failures = 0;
  for (int64_t nth = 1;; nth++, failures++) {
    qe_alloc_fail_nth(nth);
    qe_status status = qe_quadratic_descend(&p.q, 0, p.codes, p.residual, &change, NULL);
    qe_alloc_fail_nth(0);
    if (status == QE_OK) break;
    assert_int_equal(status, QE_NO_MEMORY);
  }
  assert_true(failures >= 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_local_minimum), cmocka_unit_test(test_brute_force), cmocka_unit_test(test_restarts),
      cmocka_unit_test(test_ties),          cmocka_unit_test(test_bounds),      cmocka_unit_test(test_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
