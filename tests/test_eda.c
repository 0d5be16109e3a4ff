/* Estimation of distribution: exact sums, frequencies of samples, order by confidence, windows of candidates. */
#include "core/search/eda.h"
#include "core/search/order.h"
#include "tests/failing.h"
#include "tests/fixture.h"

enum { VARIABLES = 300, INDIVIDUALS = 64, ROUNDS = 60 };

static qe_eda *drawn_eda(draws *from, qe_eda_prior prior) {
  uint8_t most[VARIABLES], centre[VARIABLES];
  for (int i = 0; i < VARIABLES; i++) {
    most[i] = (uint8_t)(i % 7 == 0 ? 255 : draw_range(from, 0, 15));
    centre[i] = (uint8_t)draw_range(from, 0, most[i]);
  }
  qe_eda *eda;
  OK(qe_eda_new(VARIABLES, most, centre, &prior, &eda));
  OK(qe_eda_check(eda));
  return eda;
}

static void list_all(int32_t *list) {
  for (int32_t i = 0; i < VARIABLES; i++) list[i] = i;
}

/* ---- candidates ---- */

static void test_candidates(void **state) {
  (void)state;
  const uint8_t most[] = {15, 15, 15, 3, 0, 255, 255, 255}, centre[] = {0, 7, 15, 3, 0, 0, 100, 255};
  const int first[2][8] = {{0, 6, 14, 2, 0, 0, 99, 254}, {0, 0, 0, 0, 0, 0, 93, 240}};
  const int candidates[2][8] = {{2, 3, 2, 2, 1, 2, 3, 2}, {16, 16, 16, 4, 1, 16, 16, 16}};
  for (int all = 0; all < 2; all++) {
    qe_eda *eda;
    qe_eda_prior prior = {.radius = !all, .spread = 1000, .floor = 30};
    OK(qe_eda_new(8, most, centre, &prior, &eda));
    OK(qe_eda_check(eda));
    assert_int_equal(eda->width, all ? 16 : 3);
    for (int i = 0; i < 8; i++) {
      assert_int_equal(eda->first[i], first[all][i]);
      assert_int_equal(eda->candidates[i], candidates[all][i]);
      assert_int_equal(eda->first[i] + qe_eda_argmax(eda, i), centre[i]);
    }
    const uint16_t *share = eda->share + eda->width;
    assert_int_equal(share[all ? 6 : 0], 1000);
    if (all) assert_int_equal(share[9], 500);
    if (all) assert_int_equal(share[15], 30);
    qe_eda_free(eda);
  }
}

/* A centre that moves takes its candidates along, up to the ends of the grid. */
static void test_recentre(void **state) {
  (void)state;
  const uint8_t most = 15, centre = 7;
  qe_eda *eda;
  OK(qe_eda_new(1, &most, &centre, &(qe_eda_prior){.radius = 2, .spread = 400, .floor = 5}, &eda));
  qe_eda_recentre(eda, 0, 14);
  qe_eda_flatten(eda, 0, 14);
  OK(qe_eda_check(eda));
  assert_int_equal(eda->first[0], 12);
  assert_int_equal(eda->candidates[0], 4);
  const uint16_t expected[] = {200, 400, QE_EDA_ONE - 1000, 400, 0};
  assert_memory_equal(eda->share, expected, sizeof expected);
  qe_eda_flatten(eda, 0, 12); /* at the end of its candidates */
  OK(qe_eda_check(eda));
  assert_int_equal(eda->share[3], 100);
  qe_eda_free(eda);
}

/* A value half way to the next one is the least confident; one beyond it has all there. */
static void test_lean(void **state) {
  (void)state;
  const uint8_t most = 15, centre = 7;
  const int32_t lean[] = {0, 128, -128, 64, 256, -256}, up[] = {1000, 4000, 30, 2250, 4000, 30},
                down[] = {1000, 30, 4000, 250, 30, 4000};
  qe_eda *eda;
  OK(qe_eda_new(1, &most, &centre, &(qe_eda_prior){.radius = 1, .spread = 1000, .floor = 30}, &eda));
  for (int i = 0; i < 6; i++) {
    qe_eda_lean(eda, 0, 7, lean[i]);
    OK(qe_eda_check(eda));
    assert_int_equal(eda->share[0], down[i]);
    assert_int_equal(eda->share[2], up[i]);
  }
  qe_eda_recentre(eda, 0, 15); /* no value beyond the last */
  qe_eda_lean(eda, 0, 15, 128);
  OK(qe_eda_check(eda));
  assert_int_equal(eda->share[0], 30);
  qe_eda_free(eda);
}

static void test_refusals(void **state) {
  (void)state;
  const uint8_t most = 15, centre = 7;
  qe_eda *eda;
  FAILS(QE_USAGE, qe_eda_new(1, &most, &centre, &(qe_eda_prior){.radius = 8}, &eda), "radius");
  FAILS(QE_USAGE, qe_eda_new(1, &most, &centre, &(qe_eda_prior){.radius = 1, .spread = 5000}, &eda), "spread");
  FAILS(QE_USAGE, qe_eda_new(1, &most, &centre, &(qe_eda_prior){.radius = 1, .floor = 2000}, &eda), "floor");
  FAILS(QE_USAGE, qe_eda_new(0, &most, &centre, &(qe_eda_prior){.radius = 1}, &eda), "variables");
  OK(qe_eda_new(1, &most, &centre, &(qe_eda_prior){.radius = 1}, &eda));
  eda->share[0]++;
  FAILS(QE_FORMAT, qe_eda_check(eda), "variable 0");
  qe_eda_free(eda);
}

/* ---- sampling and update ---- */

/* Chi-square over the candidates of many samples stays below what chance would pass once in some 10^9 cases. */
static void test_frequencies(void **state) {
  (void)state;
  enum { SAMPLES = 2048, REPEATS = 8 };
  draws from = {1, 0};
  qe_eda *eda = drawn_eda(&from, (qe_eda_prior){.radius = 0, .spread = 3000, .floor = 400});
  static uint8_t choice[SAMPLES * VARIABLES];
  static int64_t tally[VARIABLES][QE_EDA_CANDIDATES];
  int32_t list[VARIABLES];
  list_all(list);
  memset(tally, 0, sizeof tally);
  for (uint32_t number = 0; number < REPEATS; number++) {
    qe_eda_sample(eda, &(qe_eda_draw){9, QE_STREAM_TEST, number}, list, VARIABLES, SAMPLES, choice);
    for (int s = 0; s < SAMPLES; s++)
      for (int v = 0; v < VARIABLES; v++) tally[v][choice[s * VARIABLES + v]]++;
  }
  for (int v = 0; v < VARIABLES; v++) {
    const uint16_t *share = eda->share + v * eda->width;
    int64_t chi = 0; /* in 1/1024 */
    for (int k = 0; k < eda->candidates[v]; k++) {
      int64_t expected = (int64_t)SAMPLES * REPEATS * share[k] / QE_EDA_ONE, off = tally[v][k] - expected;
      assert_true(expected > 100);
      chi += 1024 * off * off / expected;
    }
    if (chi > 80 * 1024)
      fail_msg("variable %d: chi-square %d of %d candidates", v, (int)(chi / 1024), eda->candidates[v]);
    for (int k = eda->candidates[v]; k < QE_EDA_CANDIDATES; k++) assert_int_equal(tally[v][k], 0);
  }
  qe_eda_free(eda);
}

/* What a variable gets depends neither on the others in the list nor on how many individuals there are. */
static void test_draws_are_independent(void **state) {
  (void)state;
  draws from = {2, 0};
  qe_eda *eda = drawn_eda(&from, (qe_eda_prior){.radius = 1, .uniform = true, .floor = 10});
  uint8_t all[INDIVIDUALS][VARIABLES], some[INDIVIDUALS - 3][2];
  int32_t list[VARIABLES], two[2] = {250, 17};
  list_all(list);
  qe_eda_draw draw = {9, QE_STREAM_TEST, 4};
  qe_eda_sample(eda, &draw, list, VARIABLES, INDIVIDUALS, all[0]);
  qe_eda_sample(eda, &draw, two, 2, INDIVIDUALS - 3, some[0]);
  for (int i = 0; i < INDIVIDUALS - 3; i++) {
    assert_int_equal(some[i][0], all[i][250]);
    assert_int_equal(some[i][1], all[i][17]);
  }
  qe_eda_free(eda);
}

/* Sums stay exact and nothing falls below the floor, whatever is selected; what is always selected wins. */
static void test_update(void **state) {
  (void)state;
  draws from = {3, 0};
  qe_eda_prior prior = {.radius = 0, .spread = 1500, .floor = 33};
  qe_eda *eda = drawn_eda(&from, prior);
  static uint8_t choice[INDIVIDUALS * VARIABLES];
  int32_t list[VARIABLES], best[INDIVIDUALS];
  list_all(list);
  for (int round = 0; round < ROUNDS; round++) {
    int32_t chosen = draw_range(&from, 1, INDIVIDUALS), rate = draw_range(&from, 0, QE_EDA_ONE);
    qe_eda_sample(eda, &(qe_eda_draw){1, QE_STREAM_TEST, (uint32_t)round}, list, VARIABLES, INDIVIDUALS, choice);
    for (int i = 0; i < chosen; i++) best[i] = draw_range(&from, 0, INDIVIDUALS - 1);
    OK(qe_eda_update(eda, list, VARIABLES, choice, best, chosen, rate));
    OK(qe_eda_check(eda));
  }
  for (int i = 0; i < VARIABLES; i++) choice[i] = (uint8_t)(eda->candidates[i] - 1);
  for (int round = 0; round < ROUNDS; round++) {
    OK(qe_eda_update(eda, list, VARIABLES, choice, (int32_t[1]){0}, 1, QE_EDA_ONE / 4));
    OK(qe_eda_check(eda));
  }
  for (int i = 0; i < VARIABLES; i++) {
    assert_int_equal(qe_eda_argmax(eda, i), eda->candidates[i] - 1);
    assert_true(qe_eda_confidence(eda, i) >= QE_EDA_ONE - (eda->candidates[i] - 1) * (prior.floor + 4));
  }
  qe_eda_free(eda);
}

/* Without a floor: by hand. 3/4 (20000, 10000, 2768) + 1/4 (1/3, 2/3, 0) is 17730.67, 12961.33, 2076. */
static void test_update_by_hand(void **state) {
  (void)state;
  const uint8_t most = 2, centre = 1;
  qe_eda *eda;
  OK(qe_eda_new(1, &most, &centre, &(qe_eda_prior){.radius = 1}, &eda));
  memcpy(eda->share, (const uint16_t[]){20000, 10000, 2768}, 3 * sizeof *eda->share);
  const uint8_t choice[] = {2, 1, 0, 1};
  OK(qe_eda_update(eda, (int32_t[]){0}, 1, choice, (int32_t[]){1, 2, 3}, 3, QE_EDA_ONE / 4));
  const uint16_t expected[] = {17731, 12961, 2076};
  assert_memory_equal(eda->share, expected, sizeof expected);
  qe_eda_free(eda);
}

/* ---- confidence ---- */

static void test_order(void **state) {
  (void)state;
  draws from = {4, 0};
  qe_eda *eda = drawn_eda(&from, (qe_eda_prior){.radius = 1, .spread = 2000, .floor = 3});
  int32_t order[VARIABLES], other[VARIABLES];
  int64_t bin[10], sum = 0;
  OK(qe_eda_by_confidence(eda, &(qe_eda_draw){1, QE_STREAM_TEST, 1}, order));
  OK(qe_eda_by_confidence(eda, &(qe_eda_draw){1, QE_STREAM_TEST, 2}, other));
  bool seen[VARIABLES] = {false};
  for (int i = 0; i < VARIABLES; i++) {
    assert_false(seen[order[i]]);
    seen[order[i]] = true;
    int32_t confidence = qe_eda_confidence(eda, order[i]);
    if (i) assert_true(qe_eda_confidence(eda, order[i - 1]) <= confidence);
    assert_int_equal(confidence, qe_eda_confidence(eda, other[i]));
  }
  assert_memory_not_equal(order, other, sizeof order); /* equal ones in another order */
  qe_eda_histogram(eda, 10, VARIABLES, bin, 10);
  for (int b = 0; b < 10; b++) sum += bin[b];
  assert_int_equal(sum, VARIABLES - 10);
  assert_int_equal(bin[0] + bin[1] + bin[2], 0);
  assert_true(bin[8] > VARIABLES / 2); /* 1 - 2 * 2000 / 32768 */
  assert_true(bin[9] > 0);             /* ends of grids */
  qe_eda_free(eda);
}

static void test_sort(void **state) {
  (void)state;
  enum { KEYS = 1000 };
  draws from = {6, 0};
  int64_t key[KEYS] = {0};
  int32_t order[KEYS];
  for (int count = 0; count < KEYS; count += 1 + count / 3) {
    for (int i = 0; i < count; i++) key[i] = draw_range(&from, 0, count / 2);
    if (count) key[0] = INT64_MAX;
    OK(qe_order_ascending(key, count, order));
    for (int i = 1; i < count; i++)
      assert_true(key[order[i - 1]] < key[order[i]] || (key[order[i - 1]] == key[order[i]] && order[i - 1] < order[i]));
  }
}

/* ---- memory ---- */

static qe_status make_and_use(void) {
  const uint8_t most[] = {15, 3}, centre[] = {4, 0}, choice[] = {1, 0, 2, 1};
  int32_t list[] = {0, 1}, best[] = {1, 0}, order[2];
  qe_eda *eda;
  QE_TRY(qe_eda_new(2, most, centre, &(qe_eda_prior){.radius = 1, .spread = 100, .floor = 1}, &eda));
  qe_status status = qe_eda_update(eda, list, 2, choice, best, 2, 100);
  if (status == QE_OK) status = qe_eda_by_confidence(eda, &(qe_eda_draw){1, QE_STREAM_TEST, 1}, order);
  qe_eda_free(eda);
  return status;
}

static void test_memory(void **state) {
  (void)state;
  check_failing_allocations(make_and_use, 5, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_candidates),
      cmocka_unit_test(test_recentre),
      cmocka_unit_test(test_lean),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_frequencies),
      cmocka_unit_test(test_update),
      cmocka_unit_test(test_draws_are_independent),
      cmocka_unit_test(test_order),
      cmocka_unit_test(test_update_by_hand),
      cmocka_unit_test(test_sort),
      cmocka_unit_test(test_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
