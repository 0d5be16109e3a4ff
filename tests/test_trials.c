/* Trials on functions that cost nothing: what is tried, kept, resumed after any trial, and refused. */
#include "core/base/file.h"
#include "core/search/trials.h"
#include "tests/fixture.h"

#include <math.h>

enum { MOST = 64 };
static char journal[FIXTURE_PATH];

/* A rate by its logarithm, a whole number, a choice: the least is at 10^-1.5, 5, 2. */
static const qe_search_variable variables[] = {
    {"rate", QE_SEARCH_REAL, -4, 0, -3}, {"epochs", QE_SEARCH_INTEGER, 1, 8, 2}, {"rule", QE_SEARCH_CHOICE, 0, 3, 0}};

static void write_text(void *context, int32_t i, double x, char text[QE_TRIAL_TEXT]) {
  (void)context;
  snprintf(text, QE_TRIAL_TEXT, "%.5g", i == 0 ? pow(10, x) : x);
}

/* What of the trial's texts is far from the best; a rate above 0.5 diverges. */
static double loss_of(const qe_trial *trial) {
  double rate = atof(trial->text[0]), epochs = atof(trial->text[1]);
  double apart = log10(rate) + 1.5;
  if (rate > 0.5) return (double)NAN;
  return apart * apart + 0.1 * (epochs - 5) * (epochs - 5) + (trial->text[2][0] == '2' ? 0 : 1);
}

static qe_trial_search_setting setting_of(qe_searcher_kind kind, int32_t most) {
  return (qe_trial_search_setting){
      .space = {.n = 3, .variable = variables, .objectives = kind == QE_SEARCHER_PARETO ? 2 : 1},
      .searcher = {.kind = kind, .seed = 3},
      .most = most,
      .journal = journal,
      .text = write_text};
}

/* Up to `most` further trials; how many there were. */
static int try_some(const qe_trial_search_setting *setting, int most, qe_trial_search **out) {
  const qe_trial *trial;
  int tried = 0;
  OK(qe_trial_search_open(setting, out));
  while (tried < most) {
    OK(qe_trial_search_next(*out, &trial));
    if (!trial) break;
    const qe_trial_fact fact[] = {{"epochs", atof(trial->text[1])}};
    double value[] = {loss_of(trial), atof(trial->text[1])};
    OK(qe_trial_search_record(*out, value, isnan(value[0]) ? "it has diverged" : NULL, fact, 1));
    tried++;
  }
  return tried;
}

static char *read_journal(void) {
  char *text;
  OK(qe_file_read(journal, 1 << 20, &text, NULL));
  return text;
}

static int begin(void **state) {
  (void)state;
  snprintf(journal, sizeof journal, "/tmp/qevo-trials-%d.jsonl", (int)getpid());
  return qe_file_remove(journal) == QE_OK ? 0 : -1;
}

static void test_finds(void **state) {
  (void)state;
  static const double within[QE_SEARCHERS] = {[QE_SEARCHER_CMA] = 0.3,
                                              [QE_SEARCHER_RANDOM] = 1,
                                              [QE_SEARCHER_GREEDY] = 0.3,
                                              [QE_SEARCHER_DISTRIBUTION] = 1.5,
                                              [QE_SEARCHER_PARETO] = 1};
  for (int kind = 0; kind < QE_SEARCHERS; kind++) {
    qe_trial_search *trials;
    qe_trial_search_setting setting = setting_of((qe_searcher_kind)kind, MOST);
    begin(NULL);
    int tried = try_some(&setting, MOST + 1, &trials);
    assert_int_equal(tried < MOST, qe_trial_search_stopped(trials) != NULL);
    const qe_trial_list *list = qe_trial_search_list(trials);
    int32_t best = qe_trial_list_best(list);
    assert_true(best >= 0 && qe_trial_list_on_front(list, best));
    assert_string_equal(list->trial[0].text[0], "0.001");
    if (list->trial[best].value[0] > within[kind])
      fail_msg("%s: the best of %d trials is %g", qe_searcher_name((qe_searcher_kind)kind), MOST,
               list->trial[best].value[0]);
    assert_true(qe_trial_fact_of(&list->trial[best], "epochs") == atof(list->trial[best].text[1]));
    assert_true(isnan(qe_trial_fact_of(&list->trial[best], "seconds")));
    qe_trial_search_free(trials);
  }
}

/* No two trials are the same, and one that failed says why. */
static void test_kept(void **state) {
  (void)state;
  qe_trial_search *trials;
  qe_trial_list list;
  qe_trial_search_setting setting = setting_of(QE_SEARCHER_RANDOM, MOST);
  assert_int_equal(try_some(&setting, MOST, &trials), MOST);
  qe_trial_search_free(trials);
  OK(qe_trial_list_read(journal, &list));
  assert_int_equal(list.count, MOST);
  int failed = 0;
  for (size_t i = 0; i < list.count; i++) {
    assert_int_equal(list.trial[i].number, i + 1);
    assert_int_equal(isnan(list.trial[i].value[0]) != 0, list.trial[i].failure != NULL);
    failed += list.trial[i].failure != NULL;
    if (list.trial[i].failure) assert_string_equal(list.trial[i].failure, "it has diverged");
    for (size_t k = 0; k < i; k++) {
      bool same = true;
      for (int v = 0; v < 3; v++) same &= strcmp(list.trial[i].text[v], list.trial[k].text[v]) == 0;
      assert_false(same);
    }
  }
  assert_true(failed > 0 && failed < MOST / 2);
  qe_trial_list_free(&list);
}

/* Stopped after any trial, with a line cut short on top: the journal of the undisturbed search. */
static void test_resumed(void **state) {
  (void)state;
  static const qe_searcher_kind kinds[] = {QE_SEARCHER_CMA, QE_SEARCHER_GREEDY, QE_SEARCHER_PARETO};
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    qe_trial_search *trials;
    qe_trial_search_setting setting = setting_of(kinds[k], 40);
    begin(NULL);
    int all = try_some(&setting, MOST, &trials);
    assert_true(all > 30);
    qe_trial_search_free(trials);
    char *whole = read_journal();
    for (int stop = 0; stop < all; stop += 7) {
      begin(NULL);
      assert_int_equal(try_some(&setting, stop, &trials), stop);
      qe_trial_search_free(trials);
      OK(qe_file_append(journal, "{\"trial\":4", 10, false));
      assert_int_equal(try_some(&setting, MOST, &trials), all - stop);
      qe_trial_search_free(trials);
      char *again = read_journal();
      assert_string_equal(whole, again);
      qe_free(again);
    }
    qe_free(whole);
  }
}

/* Few values: a search ends when it has nothing new. */
static void test_exhausted(void **state) {
  (void)state;
  qe_trial_search *trials;
  qe_trial_search_setting setting = setting_of(QE_SEARCHER_RANDOM, MOST);
  setting.space.variable = variables + 2;
  setting.space.n = 1;
  OK(qe_trial_search_open(&setting, &trials));
  const qe_trial *trial;
  for (int i = 0; i < 4; i++) {
    OK(qe_trial_search_next(trials, &trial));
    assert_non_null(trial);
    double value = i;
    OK(qe_trial_search_record(trials, &value, NULL, NULL, 0));
  }
  OK(qe_trial_search_next(trials, &trial));
  assert_null(trial);
  assert_non_null(qe_trial_search_stopped(trials));
  FAILS(QE_USAGE, qe_trial_search_record(trials, NULL, "late", NULL, 0), "qe_trial_search_next first");
  qe_trial_search_free(trials);
}

static void test_refused(void **state) {
  (void)state;
  qe_trial_search *trials;
  const qe_trial *trial;
  qe_trial_list list;
  qe_trial_search_setting setting = setting_of(QE_SEARCHER_CMA, 20), other = setting;
  assert_int_equal(try_some(&setting, 12, &trials), 12);
  qe_trial_search_free(trials);
  other.space.n = 2;
  FAILS(QE_USAGE, qe_trial_search_open(&other, &trials), "another number of variables");
  other = setting;
  other.searcher.seed = 4;
  OK(qe_trial_search_open(&other, &trials));
  FAILS(QE_USAGE, qe_trial_search_next(trials, &trial), "trial 2 had rate ");
  qe_trial_search_free(trials);
  other = setting_of(QE_SEARCHER_PARETO, 20);
  FAILS(QE_USAGE, qe_trial_search_open(&other, &trials), "another number of objectives");
  setting.space.objectives = 2;
  FAILS(QE_USAGE, qe_trial_search_open(&setting, &trials), "takes one objective");
  static const char *const bad[] = {"{}\n",
                                    "3\n",
                                    "{\"trial\":1,\"values\":{},\"objectives\":[1]}\n",
                                    "{\"trial\":2,\"values\":{\"a\":\"1\"},\"objectives\":[1]}\n",
                                    "{\"trial\":1,\"values\":{\"a\":1},\"objectives\":[1]}\n",
                                    "{\"trial\":1,\"values\":{\"a\":\"1\"},\"objectives\":[\"1\"]}\n"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    OK(qe_file_write(journal, bad[i], strlen(bad[i])));
    FAILS(QE_FORMAT, qe_trial_list_read(journal, &list), "line 1 is not trial 1");
  }
}

static qe_status whole_life(const qe_trial_search_setting *setting) {
  const qe_trial *trial;
  qe_trial_search *trials;
  QE_TRY(qe_trial_search_open(setting, &trials));
  qe_status status = qe_trial_search_next(trials, &trial);
  while (status == QE_OK && trial) {
    double value = loss_of(trial);
    status = qe_trial_search_record(trials, &value, NULL, NULL, 0);
    if (status == QE_OK) status = qe_trial_search_next(trials, &trial);
  }
  qe_trial_search_free(trials);
  return status;
}

/* Without memory at any moment: said, and what is in the journal is gone on with. */
static void test_without_memory(void **state) {
  (void)state;
  qe_trial_search_setting setting = setting_of(QE_SEARCHER_RANDOM, 6);
  qe_status status = whole_life(&setting);
  OK(status);
  char *whole = read_journal();
  begin(NULL);
  status = QE_NO_MEMORY;
  for (int64_t nth = 1; status != QE_OK; nth += 3) {
    qe_alloc_fail_nth(nth);
    status = whole_life(&setting);
    qe_alloc_fail_nth(0);
    assert_true(nth < 5000 && (status == QE_OK || status == QE_NO_MEMORY));
  }
  char *again = read_journal();
  assert_string_equal(whole, again);
  qe_free(again);
  qe_free(whole);
}

static int end(void **state) {
  (void)state;
  return qe_file_remove(journal) == QE_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_finds, begin, end),
      cmocka_unit_test_setup_teardown(test_kept, begin, end),
      cmocka_unit_test_setup_teardown(test_resumed, begin, end),
      cmocka_unit_test_setup_teardown(test_exhausted, begin, end),
      cmocka_unit_test_setup_teardown(test_refused, begin, end),
      cmocka_unit_test_setup_teardown(test_without_memory, begin, end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
