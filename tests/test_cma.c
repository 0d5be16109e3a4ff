/* CMA-ES: convergence within bounds of evaluations, what it learns, bounds, integers, restarts, state, bad input. */
#include "core/search/cma.h"
#include "tests/failing.h"
#include "tests/fixture.h"

enum { MOST = 40 }; /* variables */

typedef double (*objective)(const double *x, int32_t n);

/* ---- functions ---- */

static double sphere(const double *x, int32_t n) {
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += x[i] * x[i];
  return sum;
}

static double ellipsoid(const double *x, int32_t n) {
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += pow(1e6, (double)i / (n - 1)) * x[i] * x[i];
  return sum;
}

static double mild_ellipsoid(const double *x, int32_t n) {
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += pow(1e4, (double)i / (n - 1)) * x[i] * x[i];
  return sum;
}

/* The ellipsoid turned by 45 degrees in each pair of neighbours. */
static double rotated(const double *x, int32_t n) {
  double y[MOST];
  for (int32_t i = 0; i + 1 < n; i += 2) {
    y[i] = (x[i] + x[i + 1]) * 0.70710678118654752440;
    y[i + 1] = (x[i] - x[i + 1]) * 0.70710678118654752440;
  }
  return ellipsoid(y, n);
}

static double rosenbrock(const double *x, int32_t n) {
  double sum = 0;
  for (int32_t i = 0; i + 1 < n; i++) sum += 100 * pow(x[i + 1] - x[i] * x[i], 2) + pow(1 - x[i], 2);
  return sum;
}

static double rastrigin(const double *x, int32_t n) {
  double sum = 10 * n;
  for (int32_t i = 0; i < n; i++) sum += x[i] * x[i] - 10 * cos(6.28318530717958647693 * x[i]);
  return sum;
}

/* Least in the corner of the bounds -1...3. */
static double slope(const double *x, int32_t n) {
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += (i + 1) * (x[i] + 1);
  return sum;
}

static double not_a_number(const double *x, int32_t n) {
  (void)x;
  (void)n;
  return (double)NAN;
}

/* Half of the plane has no value. */
static double half_plane(const double *x, int32_t n) {
  return x[0] < 0 ? (double)NAN : sphere(x, n);
}

/* ---- searches ---- */

static void fill(qe_cma_variable *v, int32_t n, int32_t whole, double start, double bound) {
  for (int32_t i = 0; i < n; i++) {
    bool integer = i < whole;
    v[i] = (qe_cma_variable){.start = start, .low = -HUGE_VAL, .high = HUGE_VAL, .integer = integer};
    if (integer || bound > 0) v[i].low = integer ? -20 : -bound;
    if (integer || bound > 0) v[i].high = integer ? 20 : bound;
  }
}

static qe_cma *begin(int32_t n, int32_t whole, double start, const qe_cma_options *options) {
  qe_cma_variable v[MOST];
  qe_cma *cma = NULL;
  fill(v, n, whole, start, 0);
  OK(qe_cma_new(n, v, options, &cma));
  return cma;
}

static void generation(qe_cma *cma, objective f, int32_t n) {
  static double fitness[1 << 12];
  const double *x;
  int32_t count;
  OK(qe_cma_ask(cma, &x, &count));
  assert_true(count <= 1 << 12);
  for (int32_t k = 0; k < count; k++) fitness[k] = f(x + (int64_t)k * n, n);
  OK(qe_cma_tell(cma, fitness));
}

/* Evaluations until the target, or `limit` + 1. */
static int64_t search(qe_cma *cma, objective f, int32_t n, double target, int64_t limit) {
  double best = HUGE_VAL;
  while (qe_cma_stopped(cma) == QE_CMA_RUNNING && qe_cma_evaluations(cma) < limit) {
    generation(cma, f, n);
    if (qe_cma_best(cma, &best) && best < target) return qe_cma_evaluations(cma);
  }
  return limit + 1;
}

/* The bounds are some 1.5 times what nearly all seeds need (bench/results). */
static void test_converges(void **state) {
  (void)state;
  static const struct {
    const char *name;
    objective f;
    int32_t n;
    double start, sigma, target;
    int32_t population;
    bool diagonal;
    int64_t limit;
  } list[] = {
      {"sphere", sphere, 5, 3, 2, 1e-10, 0, false, 1400},
      {"sphere", sphere, 20, 3, 2, 1e-10, 0, false, 5500},
      {"ellipsoid", ellipsoid, 10, 3, 2, 1e-10, 0, false, 7500},
      {"rotated", rotated, 10, 3, 2, 1e-10, 0, false, 7500},
      {"rosenbrock", rosenbrock, 8, 0, 0.5, 1e-10, 0, false, 8000},
      {"rastrigin", rastrigin, 4, 3, 2, 1e-8, 200, false, 20000},
      {"ellipsoid, diagonal", ellipsoid, 40, 3, 2, 1e-10, 0, true, 18000},
      {"one variable", sphere, 1, 3, 2, 1e-10, 0, false, 700},
  };
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
    int32_t hits = 0;
    for (uint64_t seed = 1; seed <= 3; seed++) {
      qe_cma_options options = {
          .sigma = list[i].sigma, .population = list[i].population, .diagonal = list[i].diagonal, .seed = seed};
      qe_cma *cma = begin(list[i].n, 0, list[i].start, &options);
      hits += search(cma, list[i].f, list[i].n, list[i].target, list[i].limit) <= list[i].limit;
      qe_cma_free(cma);
    }
    if (hits < 2) fail_msg("%s in %d variables: only %d of 3 seeds converged", list[i].name, list[i].n, hits);
  }
}

/* After convergence the covariance is that of the level sets: the axes' variances in the ratio of 1 / curvature. */
static void test_learns_rotation(void **state) {
  (void)state;
  enum { N = 6 };
  qe_cma *cma = begin(N, 0, 3, &(qe_cma_options){.sigma = 2, .seed = 5});
  assert_true(search(cma, rotated, N, 1e-10, 20000) <= 20000);
  for (int32_t i = 0; i + 1 < N; i += 2) {
    double a = qe_cma_covariance(cma, i, i), b = qe_cma_covariance(cma, i + 1, i + 1);
    double c = qe_cma_covariance(cma, i, i + 1);
    assert_true(c < 0 || c > 0);
    assert_true(qe_cma_covariance(cma, i + 1, i) <= c && qe_cma_covariance(cma, i + 1, i) >= c); /* symmetric */
    double along = (a + b) / 2 + c, across = (a + b) / 2 - c, wanted = pow(1e6, 1.0 / (N - 1));
    if (!(along / across > wanted / 4 && along / across < wanted * 4))
      fail_msg("pair %d: ratio of variances %g, of curvatures %g", i, along / across, wanted);
  }
  qe_cma_free(cma);
}

/* Candidates never leave the bounds, and an optimum in a corner is found. */
static void test_bounds(void **state) {
  (void)state;
  enum { N = 6 };
  qe_cma_variable v[N];
  qe_cma *cma = NULL;
  for (int32_t i = 0; i < N; i++)
    v[i] = (qe_cma_variable){.start = 1, .low = -1, .high = i % 2 ? HUGE_VAL : 3, .integer = i == 2};
  OK(qe_cma_new(N, v, &(qe_cma_options){.sigma = 5, .seed = 2}, &cma));
  const double *x = NULL;
  double best = HUGE_VAL, mean[N];
  int32_t count;
  while (qe_cma_stopped(cma) == QE_CMA_RUNNING && !(best < 1e-6) && qe_cma_evaluations(cma) < 10000) {
    OK(qe_cma_ask(cma, &x, &count));
    qe_cma_mean(cma, mean);
    for (int32_t k = -1; k < count; k++)
      for (int32_t i = 0; i < N; i++) {
        double value = k < 0 ? mean[i] : x[k * N + i];
        assert_true(value >= v[i].low && value <= v[i].high);
        if (k >= 0 && v[i].integer) assert_true(value <= floor(value));
      }
    generation(cma, slope, N);
    (void)qe_cma_best(cma, &best);
  }
  if (!(best < 1e-6)) fail_msg("best %g after %lld evaluations", best, (long long)qe_cma_evaluations(cma));
  qe_cma_free(cma);
}

/* ---- integers ---- */

static double upper_tail(double x) {
  return 0.5 * erfc(x * 0.70710678118654752440);
}

/* Whatever was told, each integer leaves its value with a probability at its floor: margin at the ends of its range,
 * half of it to each side in between. */
static void check_floor(const qe_cma *cma, int32_t n, int32_t whole, double margin) {
  double mean[MOST], deviation[MOST], slack = 1 - 1e-6;
  qe_cma_mean(cma, mean);
  qe_cma_deviation(cma, deviation);
  for (int32_t i = 0; i < whole && i < n; i++) {
    double cell = floor(mean[i] + 0.5);
    double below = upper_tail((mean[i] - cell + 0.5) / deviation[i]),
           above = upper_tail((cell + 0.5 - mean[i]) / deviation[i]);
    if (cell > -20 && cell < 20) {
      assert_true(below >= margin / 2 * slack && above >= margin / 2 * slack);
    } else {
      assert_true((cell > 0 ? below : above) >= margin * slack);
    }
  }
}

static void test_margin_floor(void **state) {
  (void)state;
  enum { N = 8 };
  for (uint64_t seed = 1; seed <= 4; seed++) {
    int32_t whole = seed % 2 ? N : N / 2;
    objective f = seed < 3 ? sphere : mild_ellipsoid;
    qe_cma *cma = begin(N, whole, 11, &(qe_cma_options){.sigma = 3, .population = 10, .seed = seed});
    for (int32_t g = 0; g < 300 && qe_cma_stopped(cma) == QE_CMA_RUNNING; g++) {
      generation(cma, f, N);
      check_floor(cma, N, whole, whole < N ? 1 - pow(0.73, 1.0 / whole) : 1.0 / (N * 10));
    }
    qe_cma_free(cma);
  }
}

/* A wide step size drives the mean of binary and of bounded variables far out: the floor holds there too. */
static void test_margin_at_the_ends(void **state) {
  (void)state;
  enum { N = 4 };
  qe_cma_variable v[N];
  qe_cma *cma = NULL;
  fill(v, N, N, 0, 0);
  OK(qe_cma_new(N, v, &(qe_cma_options){.sigma = 30, .population = 8, .margin = 0.05, .seed = 4}, &cma));
  for (int32_t g = 0; g < 100 && qe_cma_stopped(cma) == QE_CMA_RUNNING; g++) {
    generation(cma, slope, N); /* least at -20 */
    check_floor(cma, N, N, 0.05);
  }
  double best;
  assert_non_null(qe_cma_best(cma, &best));
  assert_true(best < -19 * 10 + 0.5);
  qe_cma_free(cma);
}

/* Where rounding gets stuck, the margin does not. */
static void test_margin_against_rounding(void **state) {
  (void)state;
  enum { N = 10, SEEDS = 6 };
  int32_t hits[2] = {0};
  for (int32_t which = 0; which < 2; which++)
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
      qe_cma_options options = {.sigma = 3, .integers = which ? QE_CMA_ROUND : QE_CMA_MARGIN, .seed = seed};
      qe_cma *cma = begin(N, N / 2, 11, &options);
      hits[which] += search(cma, mild_ellipsoid, N, 1e-10, 15000) <= 15000;
      qe_cma_free(cma);
    }
  assert_int_equal(hits[0], SEEDS);
  assert_true(hits[1] < SEEDS);
}

/* What has left its value counts as a whole step: without that these need some 6600 evaluations rather than 4300. */
static void test_whole_steps(void **state) {
  (void)state;
  enum { N = 20, SEEDS = 5 };
  int64_t sum = 0;
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    qe_cma *cma = begin(N, N, 10, &(qe_cma_options){.sigma = 3, .seed = seed});
    sum += search(cma, mild_ellipsoid, N, 1e-10, 20000);
    qe_cma_free(cma);
  }
  if (sum > SEEDS * 5300) fail_msg("%d searches took %lld evaluations each", SEEDS, (long long)(sum / SEEDS));
}

/* ---- runs ---- */

static void test_restarts(void **state) {
  (void)state;
  enum { N = 3 };
  for (int32_t which = 0; which < 2; which++) {
    qe_cma_variable v[N];
    qe_cma *cma = NULL;
    fill(v, N, 0, 4, 5);
    qe_cma_options options = {.sigma = 1, .restarts = which ? QE_CMA_BIPOP : QE_CMA_IPOP, .runs = 9, .seed = 3};
    OK(qe_cma_new(N, v, &options, &cma));
    int32_t first = 0, most = 0, count;
    const double *x;
    double best = HUGE_VAL;
    while (qe_cma_stopped(cma) == QE_CMA_RUNNING && qe_cma_evaluations(cma) < 200000) {
      OK(qe_cma_ask(cma, &x, &count));
      if (first == 0) first = count;
      if (!which) assert_int_equal(count, first << qe_cma_run(cma));
      if (count > most) most = count;
      generation(cma, rastrigin, N);
      if (qe_cma_best(cma, &best) && best < 1e-8) break;
    }
    if (!(best < 1e-8)) fail_msg("%s: best %g after %d runs", which ? "BIPOP" : "IPOP", best, qe_cma_run(cma) + 1);
    assert_true(most > first && qe_cma_run(cma) > 0 && qe_cma_last_stop(cma) != QE_CMA_RUNNING);
    qe_cma_free(cma);
  }
}

static void test_stops(void **state) {
  (void)state;
  qe_cma *cma = begin(4, 0, 1, &(qe_cma_options){.sigma = 1, .seed = 1});
  const double *x;
  int32_t count;
  (void)search(cma, sphere, 4, -1, 100000);
  assert_true(qe_cma_stopped(cma) == QE_CMA_FLAT || qe_cma_stopped(cma) == QE_CMA_NARROW);
  FAILS(QE_USAGE, qe_cma_ask(cma, &x, &count), "stopped");
  qe_cma_free(cma);
  cma = begin(4, 0, 1, &(qe_cma_options){.sigma = 1, .seed = 1});
  (void)search(cma, slope, 4, -HUGE_VAL, 100000);
  assert_int_equal(qe_cma_stopped(cma), QE_CMA_WIDE);
  qe_cma_free(cma);
  for (int32_t i = 0; i <= QE_CMA_STOPS; i++) assert_true(strlen(qe_cma_stop_text((qe_cma_stop)i)) > 0);
}

/* ---- fitness that is none ---- */

static void test_nan(void **state) {
  (void)state;
  qe_cma *cma = begin(5, 0, 3, &(qe_cma_options){.sigma = 2, .seed = 1});
  assert_true(search(cma, half_plane, 5, 1e-9, 5000) <= 5000);
  assert_true(qe_cma_best(cma, NULL)[0] >= 0);
  qe_cma_free(cma);

  cma = begin(5, 0, 3, &(qe_cma_options){.sigma = 2, .seed = 1});
  for (int32_t g = 0; g < 5; g++) generation(cma, not_a_number, 5);
  double mean[5];
  qe_cma_mean(cma, mean);
  for (int32_t i = 0; i < 5; i++) assert_true(mean[i] >= 3 && mean[i] <= 3);
  assert_null(qe_cma_best(cma, NULL));
  assert_true(search(cma, sphere, 5, 1e-9, 5000) <= 5000); /* it goes on */
  qe_cma_free(cma);

  cma = begin(5, 0, 3, &(qe_cma_options){.sigma = 2, .seed = 1});
  (void)search(cma, not_a_number, 5, 0, 100000);
  assert_int_equal(qe_cma_stopped(cma), QE_CMA_FLAT);
  qe_cma_free(cma);
}

/* ---- state ---- */

enum { RESUME = 7 };

static qe_status new_resumed(bool diagonal, qe_cma **cma) {
  qe_cma_variable v[RESUME];
  fill(v, RESUME, 3, 4, 15);
  return qe_cma_new(RESUME, v,
                    &(qe_cma_options){.sigma = 2, .diagonal = diagonal, .restarts = QE_CMA_BIPOP, .seed = 77}, cma);
}

static void same_candidates(qe_cma *a, qe_cma *b) {
  const double *x, *y;
  int32_t m, n;
  OK(qe_cma_ask(a, &x, &m));
  OK(qe_cma_ask(b, &y, &n));
  assert_int_equal(m, n);
  assert_memory_equal((const void *)x, (const void *)y, (size_t)(m * RESUME) * sizeof *x);
}

/* Saved in a file at some generation, also between asking and telling, and loaded: the same bits from there on, through
 * restarts. */
static void test_resume(void **state) {
  (void)state;
  for (int32_t diagonal = 0; diagonal < 2; diagonal++)
    for (int32_t stop = 0; stop < 700; stop += 233) {
      qe_cma *a = NULL, *b = NULL;
      qe_tensors *saved = qe_tensors_new(), *read = NULL;
      char path[FIXTURE_PATH];
      snprintf(path, sizeof path, "/tmp/qevo-cma-%d.safetensors", (int)getpid());
      OK(new_resumed(diagonal, &a));
      OK(new_resumed(diagonal, &b));
      for (int32_t g = 0; g < stop; g++) generation(a, rastrigin, RESUME);
      const double *x;
      int32_t count;
      if (stop % 2) OK(qe_cma_ask(a, &x, &count));
      OK(qe_cma_save(a, saved));
      OK(qe_tensors_write(saved, path));
      OK(qe_tensors_read(path, &read));
      OK(qe_cma_load(b, read));
      for (int32_t g = 0; g < 300; g++) {
        same_candidates(a, b);
        generation(a, rastrigin, RESUME);
        generation(b, rastrigin, RESUME);
      }
      assert_int_equal(qe_cma_run(a), qe_cma_run(b));
      double best[2] = {0};
      assert_memory_equal((const void *)qe_cma_best(a, &best[0]), (const void *)qe_cma_best(b, &best[1]),
                          RESUME * sizeof(double));
      unlink(path);
      qe_tensors_free(saved);
      qe_tensors_free(read);
      qe_cma_free(a);
      qe_cma_free(b);
    }
}

/* Each tensor missing or cut, and numbers that cannot be, are refused. */
static void test_damaged_state(void **state) {
  (void)state;
  qe_cma *a = NULL, *b = NULL;
  qe_tensors *saved = qe_tensors_new();
  OK(new_resumed(false, &a));
  OK(new_resumed(false, &b));
  for (int32_t g = 0; g < 20; g++) generation(a, rastrigin, RESUME);
  OK(qe_cma_save(a, saved));
  for (size_t i = 0; i < saved->count; i++) {
    qe_named_tensor *t = &saved->items[i];
    t->name[0] = 'x';
    FAILS(QE_FORMAT, qe_cma_load(b, saved), "no tensor");
    t->name[0] = 'c';
    t->shape[0]--;
    FAILS(QE_FORMAT, qe_cma_load(b, saved), "is not s64");
    t->shape[0]++;
    int64_t *value = t->data, kept = value[0], nan = INT64_C(0x7ff8000000000000);
    value[0] = i == 0 ? -1 : nan;
    if (!strstr(t->name, "history")) FAILS(QE_FORMAT, qe_cma_load(b, saved), "cma.");
    value[0] = kept;
  }
  qe_named_tensor *numbers = qe_tensors_find(saved, "cma.numbers");
  for (int64_t i = 0; i < numbers->shape[0]; i++) {
    int64_t *value = numbers->data, kept = value[i];
    value[i] = INT64_MAX;
    FAILS(QE_FORMAT, qe_cma_load(b, saved), "cma.numbers");
    value[i] = kept;
  }
  OK(qe_cma_load(b, saved));
  same_candidates(a, b);
  qe_cma_free(b);
  OK(new_resumed(true, &b));
  FAILS(QE_FORMAT, qe_cma_load(b, saved), "other options");
  qe_cma_free(a);
  qe_cma_free(b);
  qe_tensors_free(saved);
}

/* ---- refusals, memory ---- */

static void refuse(qe_cma_variable v, qe_cma_options options, int32_t n, const char *text) {
  qe_cma_variable list[2] = {{.low = -1, .high = 1}, v};
  qe_cma *cma = NULL;
  FAILS(QE_USAGE, qe_cma_new(n, list, &options, &cma), text);
  assert_null(cma);
}

static void test_refusals(void **state) {
  (void)state;
  const qe_cma_variable good = {.low = -1, .high = 1};
  const qe_cma_options plain = {.sigma = 1};
  refuse(good, plain, 0, "variables");
  refuse(good, plain, QE_CMA_FULL_VARIABLES + 1, "diagonal");
  refuse(good, (qe_cma_options){.sigma = 0}, 2, "step size");
  refuse(good, (qe_cma_options){.sigma = (double)NAN}, 2, "step size");
  refuse(good, (qe_cma_options){.sigma = 1, .population = 3}, 2, "population 3");
  refuse(good, (qe_cma_options){.sigma = 1, .population = QE_CMA_POPULATION + 1}, 2, "population");
  refuse(good, (qe_cma_options){.sigma = 1, .margin = 0.5}, 2, "margin");
  refuse(good, (qe_cma_options){.sigma = 1, .integers = (qe_cma_integers)7}, 2, "integers");
  refuse(good, (qe_cma_options){.sigma = 1, .restarts = (qe_cma_restarts)7}, 2, "restarts");
  refuse(good, (qe_cma_options){.sigma = 1, .runs = -1}, 2, "runs");
  refuse((qe_cma_variable){.low = 1, .high = 1, .start = 1}, plain, 2, "variable 1: bounds");
  refuse((qe_cma_variable){.low = (double)NAN, .high = 1}, plain, 2, "variable 1: bounds");
  refuse((qe_cma_variable){.low = 1, .high = 2}, plain, 2, "variable 1: start");
  refuse((qe_cma_variable){.low = -1, .high = 2, .start = (double)NAN}, plain, 2, "variable 1: start");
  refuse((qe_cma_variable){.low = -1, .high = 2, .spread = -1}, plain, 2, "variable 1: spread");
  refuse((qe_cma_variable){.low = -1.5, .high = 2, .integer = true}, plain, 2, "integer must be one");
  qe_cma *cma = begin(2, 0, 1, &plain);
  FAILS(QE_USAGE, qe_cma_tell(cma, (const double[64]){0}), "not asked");
  qe_cma_free(cma);
  qe_cma_free(NULL);
}

/* A search through a restart, its state saved and loaded. */
static qe_status whole_search(void) {
  qe_cma *cma = NULL;
  qe_tensors *saved = NULL;
  qe_cma_variable v[RESUME];
  static double fitness[256];
  qe_status status = QE_OK;
  fill(v, RESUME, 3, 4, 15);
  QE_TRY(qe_cma_new(RESUME, v, &(qe_cma_options){.sigma = 2, .restarts = QE_CMA_IPOP, .seed = 7}, &cma));
  for (int32_t run = 0; run < 2; run = qe_cma_run(cma) + 1) { /* flat: ends soon */
    const double *x;
    int32_t count;
    QE_TRY_DONE(qe_cma_ask(cma, &x, &count));
    if (qe_cma_run(cma) > 0) break;
    for (int32_t k = 0; k < count; k++) fitness[k] = (double)NAN;
    QE_TRY_DONE(qe_cma_tell(cma, fitness));
  }
  saved = qe_tensors_new();
  status = saved ? qe_cma_save(cma, saved) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_cma_load(cma, saved);
done:
  qe_tensors_free(saved);
  qe_cma_free(cma);
  return status;
}

static void test_allocation_failures(void **state) {
  (void)state;
  check_failing_allocations(whole_search, 30, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_converges),
      cmocka_unit_test(test_learns_rotation),
      cmocka_unit_test(test_bounds),
      cmocka_unit_test(test_margin_floor),
      cmocka_unit_test(test_margin_at_the_ends),
      cmocka_unit_test(test_margin_against_rounding),
      cmocka_unit_test(test_whole_steps),
      cmocka_unit_test(test_restarts),
      cmocka_unit_test(test_stops),
      cmocka_unit_test(test_nan),
      cmocka_unit_test(test_resume),
      cmocka_unit_test(test_damaged_state),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_allocation_failures),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
