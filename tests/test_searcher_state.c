/* Searchers: state, changes of the function, what is no number, bad input, memory. */
#include "tests/failing.h"
#include "tests/searcher_rig.h"

/* ---- state ---- */

static const struct {
  qe_searcher_kind kind;
  function f;
  int32_t objectives;
} all[] = {{QE_SEARCHER_CMA, f_penalty, 1},
           {QE_SEARCHER_RANDOM, f_noise, 1},
           {QE_SEARCHER_GREEDY, f_noise, 1},
           {QE_SEARCHER_DISTRIBUTION, f_noise, 1},
           {QE_SEARCHER_PARETO, f_two, 2}};
enum { ALL = sizeof all / sizeof *all };

/* Integers, choices and reals beside each other. */
static void open_mixed(rig *r, int which) {
  qe_searcher_options options = {.kind = all[which].kind, .population = 12, .seed = 9};
  open_rig(r, 9, QE_SEARCH_INTEGER, 2, 8, 4, &options, all[which].objectives, 4.5);
  qe_searcher_free(r->searcher);
  for (int32_t i = 0; i < 9; i++) r->variable[i].kind = (qe_search_kind)(i % 3);
  r->variable[8].kind = QE_SEARCH_INTEGER;
  r->variable[8].low = r->variable[8].high = 4;
  OK(qe_searcher_new(&r->space, &options, &r->searcher));
}

static void same_state(const qe_searcher *a, const qe_searcher *b) {
  qe_tensors *x = qe_tensors_new(), *y = qe_tensors_new();
  OK(qe_searcher_save(a, x));
  OK(qe_searcher_save(b, y));
  assert_int_equal(x->count, y->count);
  for (size_t i = 0; i < x->count; i++) {
    assert_int_equal(x->items[i].bytes, y->items[i].bytes);
    if (memcmp(x->items[i].data, y->items[i].data, x->items[i].bytes) != 0) fail_msg("%s differs", x->items[i].name);
  }
  qe_tensors_free(x);
  qe_tensors_free(y);
}

/* Stopped after any turn, candidates asked for or not, the search goes on with the same bits. */
static void goes_on_with_the_same_bits(void **state) {
  (void)state;
  for (int which = 0; which < ALL; which++) {
    rig whole;
    open_mixed(&whole, which);
    for (int32_t stop = 0; stop < 14; stop++) {
      rig part;
      const double *x;
      int32_t count;
      qe_tensors *saved = qe_tensors_new();
      open_mixed(&part, which);
      if (stop % 2) OK(qe_searcher_ask(whole.searcher, &x, &count));
      OK(qe_searcher_save(whole.searcher, saved));
      OK(qe_searcher_load(part.searcher, saved));
      same_state(whole.searcher, part.searcher);
      turn(&whole, all[which].f);
      turn(&part, all[which].f);
      same_state(whole.searcher, part.searcher);
      qe_tensors_free(saved);
      qe_searcher_free(part.searcher);
    }
    qe_searcher_free(whole.searcher);
  }
}

static void states_of_others(void **state) {
  (void)state;
  for (int which = 0; which < ALL; which++) {
    rig r, other;
    qe_tensors *saved = qe_tensors_new();
    open_mixed(&r, which);
    open_mixed(&other, (which + 1) % ALL);
    for (int i = 0; i < 3; i++) turn(&r, all[which].f);
    OK(qe_searcher_save(r.searcher, saved));
    assert_int_equal(qe_searcher_load(other.searcher, saved), QE_FORMAT);
    qe_tensors_free(saved);
    qe_searcher_free(r.searcher);
    qe_searcher_free(other.searcher);
  }
}

/* Any number of a state replaced by any of these gives QE_FORMAT or a searcher that asks within its space. */
static void damaged_states(void **state) {
  (void)state;
  static const int64_t bad[] = {-1, 0, 1, 5, INT64_MAX, INT64_MIN, 0x7ff0000000000000, 0x7ff8000000000000};
  for (int which = 0; which < ALL; which++) {
    rig r;
    qe_tensors *saved = qe_tensors_new();
    open_mixed(&r, which);
    for (int i = 0; i < 3; i++) turn(&r, all[which].f);
    OK(qe_searcher_save(r.searcher, saved));
    for (size_t t = 0; t < saved->count; t++)
      for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
        int64_t *word = saved->items[t].data, count = (int64_t)(saved->items[t].bytes / sizeof *word);
        int64_t at = (int64_t)(b * 5) % count, old = word[at];
        word[at] = bad[b];
        qe_status status = qe_searcher_load(r.searcher, saved);
        assert_true(status == QE_OK || status == QE_FORMAT);
        if (status == QE_OK && !qe_searcher_stopped(r.searcher)) turn(&r, all[which].f);
        word[at] = old;
      }
    OK(qe_searcher_load(r.searcher, saved));
    qe_tensors_free(saved);
    qe_searcher_free(r.searcher);
  }
}

/* ---- the function changes ---- */

static void values_are_forgotten(void **state) {
  (void)state;
  for (int which = 0; which < ALL; which++) {
    rig r;
    qe_searcher_options options = {.kind = all[which].kind, .seed = 9};
    open_rig(&r, 8, QE_SEARCH_INTEGER, 0, 6, 3, &options, all[which].objectives, 0);
    for (int i = 0; i < 4 && !qe_searcher_stopped(r.searcher); i++) turn(&r, all[which].f);
    OK(qe_searcher_changed(r.searcher));
    assert_null(qe_searcher_best(r.searcher, NULL));
    assert_int_equal(qe_searcher_front(r.searcher).count, 0);
    assert_null(qe_searcher_stopped(r.searcher));
    turn(&r, all[which].objectives == 1 ? f_bowl : f_two);
    assert_non_null(qe_searcher_best(r.searcher, NULL));
    double best = run(&r, all[which].objectives == 1 ? f_bowl : f_two, 4000);
    if (all[which].kind == QE_SEARCHER_GREEDY || all[which].kind == QE_SEARCHER_CMA) assert_true(best == 0);
    qe_searcher_free(r.searcher);
  }
}

static bool same_reals(const double *a, const double *b, int32_t count) {
  for (int32_t i = 0; i < count; i++)
    if (!(a[i] <= b[i] && a[i] >= b[i])) return false;
  return true;
}

/* Points that a searcher keeps are asked for again. */
static void parents_again(void **state) {
  (void)state;
  rig r;
  const double *x;
  double parents[32 * 8];
  int32_t count;
  qe_searcher_options options = {.kind = QE_SEARCHER_PARETO, .population = 32, .seed = 9};
  open_rig(&r, 8, QE_SEARCH_INTEGER, 0, 6, 3, &options, 2, 0);
  OK(qe_searcher_ask(r.searcher, &x, &count));
  memcpy(parents, x, sizeof parents);
  turn(&r, f_two);
  OK(qe_searcher_changed(r.searcher));
  OK(qe_searcher_ask(r.searcher, &x, &count));
  assert_int_equal(count, 32);
  for (int32_t k = 0; k < count; k++) {
    bool found = false;
    for (int32_t i = 0; i < count; i++) found |= same_reals(x + 8 * k, parents + 8 * i, 8);
    assert_true(found);
  }
  qe_searcher_free(r.searcher);
}

/* Values that are no numbers, or infinite, are the worst; a generation of nothing else teaches nothing. */
static void no_numbers(void **state) {
  (void)state;
  static double value[POPULATION_MOST * 2];
  for (int i = 0; i < POPULATION_MOST * 2; i++) value[i] = i % 2 ? (double)NAN : HUGE_VAL;
  for (int which = 0; which < ALL; which++) {
    rig r;
    const double *x;
    int32_t count;
    open_mixed(&r, which);
    for (int i = 0; i < 3 && !qe_searcher_stopped(r.searcher); i++) {
      OK(qe_searcher_ask(r.searcher, &x, &count));
      OK(qe_searcher_tell(r.searcher, value));
      assert_null(qe_searcher_best(r.searcher, NULL));
    }
    if (!qe_searcher_stopped(r.searcher)) turn(&r, all[which].f);
    qe_searcher_free(r.searcher);
  }
}

static void centre_and_deviation(void **state) {
  (void)state;
  for (int which = 0; which < ALL; which++) {
    rig r;
    double at[9], deviation[9];
    open_mixed(&r, which);
    for (int turns = 0; turns < 4; turns++) {
      qe_searcher_centre(r.searcher, at);
      qe_searcher_deviation(r.searcher, deviation);
      for (int i = 0; i < 9; i++) {
        assert_true(at[i] >= r.variable[i].low && at[i] <= r.variable[i].high);
        assert_true(deviation[i] >= 0 && deviation[i] < 10);
      }
      assert_true(at[8] == 4);
      turn(&r, all[which].f);
    }
    qe_searcher_free(r.searcher);
  }
}

/* ---- bad input ---- */

static void bad_input(void **state) {
  (void)state;
  qe_search_variable v = {.name = "bits", .kind = QE_SEARCH_INTEGER, .low = 2, .high = 8, .start = 3};
  qe_search_space space = {.n = 1, .variable = &v, .objectives = 1};
  qe_searcher_options options = {.kind = QE_SEARCHER_RANDOM};
  qe_searcher *s = NULL;
  double value = 0;
  v.start = 9;
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "variable 0 bits: start 9 must lie in its range 2...8");
  v.start = 3;
  v.low = 2.5;
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "must be whole");
  v.low = (double)NAN;
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "must be finite");
  v.low = 2;
  v.kind = QE_SEARCH_REAL;
  v.high = 2;
  v.start = 2;
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "the low end below the high one");
  v.kind = QE_SEARCH_INTEGER;
  options.kind = QE_SEARCHER_CMA;
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "there is nothing to search");
  v.high = 8;
  space.objectives = 2;
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "cma takes one objective, not 2: pareto takes several");
  space.objectives = 9;
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "9 objectives: must be 1...8");
  space.objectives = 1;
  space.n = 0;
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "0 variables: must be 1...4096");
  space.n = 1;
  options.population = -1;
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "population -1");
  options = (qe_searcher_options){.kind = QE_SEARCHER_PARETO, .population = 3};
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "population 3: pareto takes 4...4096");
  options = (qe_searcher_options){.width = 1.5};
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "width 1.5");
  options = (qe_searcher_options){.rate = -1};
  FAILS(QE_USAGE, qe_searcher_new(&space, &options, &s), "rate -1");
  options = (qe_searcher_options){.kind = QE_SEARCHER_RANDOM};
  OK(qe_searcher_new(&space, &options, &s));
  FAILS(QE_USAGE, qe_searcher_tell(s, &value), "call qe_searcher_ask first");
  qe_searcher_free(s);
}

/* ---- memory ---- */

static int tried;

static qe_status a_few_turns(void) {
  static double value[POPULATION_MOST * 2];
  qe_search_variable v[4];
  for (int i = 0; i < 4; i++)
    v[i] = (qe_search_variable){.kind = (qe_search_kind)(i % 3), .low = 2, .high = 8, .start = 3};
  qe_search_space space = {.n = 4, .variable = v, .objectives = all[tried].objectives};
  qe_searcher_options options = {.kind = all[tried].kind, .population = 6};
  qe_searcher *s = NULL;
  qe_status status = qe_searcher_new(&space, &options, &s);
  for (int i = 0; i < 8 && status == QE_OK && !qe_searcher_stopped(s); i++) {
    const double *x;
    int32_t count;
    status = qe_searcher_ask(s, &x, &count);
    for (int32_t k = 0; status == QE_OK && k < count; k++)
      all[tried].f(x + 4 * k, 4, value + k * all[tried].objectives);
    if (status == QE_OK) status = qe_searcher_tell(s, value);
  }
  qe_searcher_free(s);
  return status;
}

static void failing_allocations(void **state) {
  (void)state;
  for (tried = 0; tried < ALL; tried++) check_failing_allocations(a_few_turns, 5, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(goes_on_with_the_same_bits),
      cmocka_unit_test(states_of_others),
      cmocka_unit_test(damaged_states),
      cmocka_unit_test(values_are_forgotten),
      cmocka_unit_test(parents_again),
      cmocka_unit_test(no_numbers),
      cmocka_unit_test(centre_and_deviation),
      cmocka_unit_test(bad_input),
      cmocka_unit_test(failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
