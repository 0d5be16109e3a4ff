/* Searchers: what they find of functions whose best is known, budgets, fronts. */
#include "tests/searcher_rig.h"

/* ---- what they find ---- */

static void names(void **state) {
  (void)state;
  for (int i = 0; i < QE_SEARCHERS; i++) {
    assert_int_equal(qe_searcher_find(qe_searcher_name((qe_searcher_kind)i)), i);
    assert_true(strlen(qe_searcher_text((qe_searcher_kind)i)) > 10);
  }
  assert_int_equal(qe_searcher_find("none"), QE_SEARCHERS);
}

/* Bounds with much to spare over what was measured: cma some 700, distribution some 900, greedy 80. */
static void integers_without_a_budget(void **state) {
  (void)state;
  static const struct {
    qe_searcher_kind kind;
    int64_t trials;
  } row[] = {{QE_SEARCHER_CMA, 3000}, {QE_SEARCHER_DISTRIBUTION, 4000}, {QE_SEARCHER_GREEDY, 200}};
  for (size_t i = 0; i < sizeof row / sizeof *row; i++)
    for (uint64_t seed = 1; seed <= 3; seed++) {
      rig r;
      qe_searcher_options options = {.kind = row[i].kind, .seed = seed};
      open_rig(&r, 10, QE_SEARCH_INTEGER, 0, 6, 3, &options, 1, 0);
      double best = run(&r, f_bowl, row[i].trials);
      if (best > 0) fail_msg("%s, seed %d: best %g", qe_searcher_name(row[i].kind), (int)seed, best);
      qe_searcher_free(r.searcher);
    }
}

static void choices(void **state) {
  (void)state;
  static const struct {
    qe_searcher_kind kind;
    int64_t trials;
  } row[] = {{QE_SEARCHER_DISTRIBUTION, 6000}, {QE_SEARCHER_GREEDY, 200}};
  for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
    rig r;
    qe_searcher_options options = {.kind = row[i].kind, .seed = 5};
    open_rig(&r, 12, QE_SEARCH_CHOICE, 0, 6, 3, &options, 1, 0);
    double best = run(&r, f_apart, row[i].trials);
    if (best > 0) fail_msg("%s: best %g", qe_searcher_name(row[i].kind), best);
    qe_searcher_free(r.searcher);
  }
}

static void reals(void **state) {
  (void)state;
  static const qe_searcher_kind kind[] = {QE_SEARCHER_CMA, QE_SEARCHER_DISTRIBUTION};
  for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
    rig r;
    qe_searcher_options options = {.kind = kind[i], .seed = 5};
    open_rig(&r, 6, QE_SEARCH_REAL, -1, 8, 1, &options, 1, 0);
    double best = run(&r, f_bowl, 4000);
    if (best > 1e-6) fail_msg("%s: best %g", qe_searcher_name(kind[i]), best);
    qe_searcher_free(r.searcher);
  }
}

/* The least noise at a mean of `most` bits: the function is convex in each variable, so taking the best bit each time
 * is exact. */
static double least_noise(int32_t n, double low, double high, double most) {
  double x[MOST];
  for (int32_t i = 0; i < n; i++) x[i] = low;
  for (int32_t bits = (int32_t)floor((most - low) * n + 1e-9); bits > 0; bits--) {
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++) {
      double gain = sensitivity(i) * 0.75 * pow(0.25, x[i]);
      if (x[i] < high && (best < 0 || gain > sensitivity(best) * 0.75 * pow(0.25, x[best]))) best = i;
    }
    x[best]++;
  }
  return noise(x, n);
}

/* Bits of 38 places, 3 on average: how far each searcher is from the best, as measured, with room. */
static void bits_on_a_budget(void **state) {
  (void)state;
  static const struct {
    qe_searcher_kind kind;
    double ratio;
    int64_t trials;
  } row[] = {{QE_SEARCHER_CMA, 1.15, 4000},
             {QE_SEARCHER_RANDOM, 1.6, 4000},
             {QE_SEARCHER_GREEDY, 1 + 1e-9, 400},
             {QE_SEARCHER_DISTRIBUTION, 1.1, 4000}};
  const int32_t n = 38;
  double least = least_noise(n, 2, 8, 3);
  for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
    rig r;
    qe_searcher_options options = {.kind = row[i].kind, .seed = 11};
    open_rig(&r, n, QE_SEARCH_INTEGER, 2, 8, 3, &options, 1, 3);
    double best = run(&r, row[i].kind == QE_SEARCHER_CMA ? f_penalty : f_noise, row[i].trials);
    if (best > least * row[i].ratio) fail_msg("%s: %g, the least is %g", qe_searcher_name(row[i].kind), best, least);
    assert_true(over(&r.most, qe_searcher_best(r.searcher, NULL)) <= 0);
    qe_search_front front = qe_searcher_front(r.searcher);
    assert_int_equal(front.count, 1);
    assert_true(front.value[0] == best);
    qe_searcher_free(r.searcher);
  }
}

/* random, distribution and pareto ask only for what is allowed. */
static void asks_are_allowed(void **state) {
  (void)state;
  static const qe_searcher_kind kind[] = {QE_SEARCHER_RANDOM, QE_SEARCHER_DISTRIBUTION, QE_SEARCHER_PARETO};
  for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
    rig r;
    const double *x;
    int32_t count;
    qe_searcher_options options = {.kind = kind[i], .seed = 2};
    open_rig(&r, 20, QE_SEARCH_INTEGER, 2, 8, 3, &options, 1, 3);
    for (int generation = 0; generation < 5; generation++) {
      OK(qe_searcher_ask(r.searcher, &x, &count));
      for (int32_t k = 0; k < count; k++) assert_true(over(&r.most, x + 20 * k) <= 0);
      turn(&r, f_noise);
    }
    qe_searcher_free(r.searcher);
  }
}

/* Where nothing is allowed the best is what exceeds least. */
static void nothing_allowed(void **state) {
  (void)state;
  rig r;
  qe_searcher_options options = {.kind = QE_SEARCHER_RANDOM, .seed = 2};
  open_rig(&r, 4, QE_SEARCH_INTEGER, 2, 8, 8, &options, 1, 1);
  run(&r, f_noise, 100);
  const double *best = qe_searcher_best(r.searcher, NULL);
  for (int32_t i = 0; i < 4; i++) assert_true(best[i] == 2);
  assert_int_equal(qe_searcher_front(r.searcher).count, 0);
  qe_searcher_free(r.searcher);
}

static double unknown(void *context, const double *x) {
  (void)context;
  return x[0] > 4 ? 0.0 : (double)NAN;
}

/* What cannot be told is not allowed. */
static void excess_that_is_no_number(void **state) {
  (void)state;
  rig r;
  qe_searcher_options options = {.kind = QE_SEARCHER_RANDOM, .seed = 2};
  open_rig(&r, 4, QE_SEARCH_INTEGER, 2, 8, 3, &options, 1, 0);
  qe_searcher_free(r.searcher);
  r.space.excess = unknown;
  OK(qe_searcher_new(&r.space, &options, &r.searcher));
  turn(&r, f_noise);
  assert_true(qe_searcher_best(r.searcher, NULL)[0] > 4);
  qe_searcher_free(r.searcher);
}

/* ---- several objectives ---- */

static void check_front(const rig *r, qe_search_front front) {
  for (int32_t a = 0; a < front.count; a++) {
    double again[2];
    f_two(front.at + a * r->space.n, r->space.n, again);
    assert_true(again[0] == front.value[2 * a] && again[1] == front.value[2 * a + 1]);
    if (a > 0) assert_true(front.value[2 * a] >= front.value[2 * (a - 1)]);
    for (int32_t b = 0; b < front.count; b++) {
      const double *u = front.value + 2 * a, *v = front.value + 2 * b;
      bool dominates = u[0] <= v[0] && u[1] <= v[1] && (u[0] < v[0] || u[1] < v[1]);
      assert_false(dominates);
    }
  }
}

/* log(noise) is nearly linear in the mean bits: the mean over the front of log(noise / least noise at as many bits). */
static void front_of_bits(void **state) {
  (void)state;
  rig r;
  const int32_t n = 12;
  qe_searcher_options options = {.kind = QE_SEARCHER_PARETO, .seed = 3};
  open_rig(&r, n, QE_SEARCH_INTEGER, 2, 8, 4, &options, 2, 0);
  run(&r, f_two, 6000);
  qe_search_front front = qe_searcher_front(r.searcher);
  check_front(&r, front);
  double gap = 0;
  for (int32_t k = 0; k < front.count; k++)
    gap += log(front.value[2 * k] / least_noise(n, 2, 8, front.value[2 * k + 1])) / front.count;
  if (front.count < 50 || gap > 0.25) fail_msg("%d points on the front, %g away from it", front.count, gap);
  assert_true(front.value[2 * (front.count - 1) + 1] == 2); /* its ends */
  assert_true(front.value[1] > 7);
  qe_searcher_free(r.searcher);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names),
      cmocka_unit_test(integers_without_a_budget),
      cmocka_unit_test(choices),
      cmocka_unit_test(reals),
      cmocka_unit_test(bits_on_a_budget),
      cmocka_unit_test(asks_are_allowed),
      cmocka_unit_test(nothing_allowed),
      cmocka_unit_test(excess_that_is_no_number),
      cmocka_unit_test(front_of_bits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
