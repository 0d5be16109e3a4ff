/* Mixup's draws: the distribution of shares, partners, independence of how a stream is cut into batches. */
#include "core/data/mixup.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { COUNT = 20000 };

static int32_t other[COUNT], share[COUNT];

/* Probability of each share by the definition: the density integrated by many small steps, the singular ends by their
 * closed form. */
static void beta_shares(double alpha, double *probability) {
  enum { STEPS = 2000 };
  double total = 0;
  for (int k = 0; k <= QE_SHARE_ALL; k++) {
    double low = fmax(0, (k - 0.5) / QE_SHARE_ALL), high = fmin(1, (k + 0.5) / QE_SHARE_ALL);
    probability[k] = 0;
    for (int i = 0; i < STEPS; i++) {
      double x = low + (high - low) * (i + 0.5) / STEPS;
      probability[k] += pow(x * (1 - x), alpha - 1) * (high - low) / STEPS;
    }
    if (k == 0 || k == QE_SHARE_ALL) probability[k] = pow(0.5 / QE_SHARE_ALL, alpha) / alpha;
    total += probability[k];
  }
  for (int k = 0; k <= QE_SHARE_ALL; k++) probability[k] /= total;
}

/* The table is the distribution: no cumulative probability is off by more than a thousandth. */
static void test_table_is_beta(void **state) {
  (void)state;
  static const double alphas[] = {0.05, 0.2, 0.4, 1, 2, 8, 16};
  for (size_t i = 0; i < sizeof alphas / sizeof *alphas; i++) {
    qe_mixup mixup;
    double probability[QE_SHARE_ALL + 1], sum = 0;
    beta_shares(alphas[i], probability);
    assert_int_equal(qe_mixup_init(&mixup, (int32_t)lround(alphas[i] * QE_MIXUP_ONE)), QE_OK);
    for (int k = 0; k < QE_SHARE_ALL; k++) {
      sum += probability[k];
      double got = ldexp((double)mixup.bound[k], -32);
      if (fabs(got - sum) > 1e-3) fail_msg("alpha %g: P(share <= %d) is %.6f, must be %.6f", alphas[i], k, got, sum);
      assert_true(k == 0 || mixup.bound[k] >= mixup.bound[k - 1]);
    }
  }
}

/* Mean 1/2 and variance 1 / (4 (2 alpha + 1)), within four standard errors. */
static void test_mean_and_variance(void **state) {
  (void)state;
  static const double alphas[] = {0.1, 0.2, 1, 4};
  for (size_t i = 0; i < sizeof alphas / sizeof *alphas; i++) {
    qe_mixup mixup;
    assert_int_equal(qe_mixup_init(&mixup, (int32_t)lround(alphas[i] * QE_MIXUP_ONE)), QE_OK);
    qe_mixup_draw(&mixup, 5, 1000, COUNT, other, share);
    double mean = 0, square = 0, wanted = 1 / (4 * (2 * alphas[i] + 1));
    for (int k = 0; k < COUNT; k++) {
      assert_in_range(share[k], 0, QE_SHARE_ALL);
      double x = (double)share[k] / QE_SHARE_ALL - 0.5;
      mean += x / COUNT;
      square += x * x / COUNT;
    }
    if (fabs(mean) > 4 * sqrt(wanted / COUNT)) fail_msg("alpha %g: mean %g", alphas[i], mean + 0.5);
    if (fabs(square - mean * mean - wanted) > 4 * wanted * sqrt(2.0 / COUNT))
      fail_msg("alpha %g: variance %g, must be near %g", alphas[i], square - mean * mean, wanted);
  }
}

/* Every image meets another one, each once, and batches differ in who meets whom. */
static void test_partners(void **state) {
  (void)state;
  enum { BATCH = 8, BATCHES = 400 };
  qe_mixup mixup;
  int seen[BATCH] = {0};
  assert_int_equal(qe_mixup_init(&mixup, QE_MIXUP_ONE), QE_OK);
  for (uint64_t batch = 0; batch < BATCHES; batch++) {
    unsigned met = 0;
    qe_mixup_draw(&mixup, 3, batch * BATCH, BATCH, other, share);
    for (int i = 0; i < BATCH; i++) {
      assert_int_not_equal(other[i], i);
      met |= 1u << other[i];
    }
    assert_int_equal(met, (1u << BATCH) - 1);
    seen[other[0]]++;
  }
  for (int i = 1; i < BATCH; i++) assert_in_range(seen[i], BATCHES / BATCH / 2, BATCHES / BATCH * 2);
  qe_mixup_draw(&mixup, 3, 0, 1, other, share);
  assert_int_equal(other[0], 0);
  qe_mixup_draw(&mixup, 3, 0, 2, other, share);
  assert_int_equal(other[0], 1);
  assert_int_equal(other[1], 0);
}

/* The share of an image follows from (seed, position) alone. */
static void test_shares_by_position(void **state) {
  (void)state;
  int32_t again[16];
  qe_mixup mixup;
  assert_int_equal(qe_mixup_init(&mixup, QE_MIXUP_ONE / 5), QE_OK);
  qe_mixup_draw(&mixup, 7, 100, 64, other, share);
  qe_mixup_draw(&mixup, 7, 116, 16, other, again);
  assert_memory_equal(share + 16, again, sizeof again);
  qe_mixup_draw(&mixup, 8, 116, 16, other, again);
  assert_memory_not_equal(share + 16, again, sizeof again);
}

static void test_alpha_out_of_range(void **state) {
  (void)state;
  static const int32_t bad[] = {0, -1, QE_MIXUP_MOST + 1, INT32_MIN, INT32_MAX};
  qe_mixup mixup;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(qe_mixup_init(&mixup, bad[i]), QE_USAGE);
  assert_int_equal(qe_mixup_init(&mixup, 1), QE_OK);
  assert_int_equal(qe_mixup_init(&mixup, QE_MIXUP_MOST), QE_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_table_is_beta),      cmocka_unit_test(test_mean_and_variance),
      cmocka_unit_test(test_partners),           cmocka_unit_test(test_shares_by_position),
      cmocka_unit_test(test_alpha_out_of_range),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
