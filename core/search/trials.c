/* Trials: the loop of asking, trying and telling, with its journal. */
#include "core/search/trials.h"

#include "core/base/alloc.h"
#include "core/search/trials_parts.h"

#include <math.h>
#include <string.h>

enum { MOST_BARREN = 50 }; /* generations without a new trial after which a search is over */

struct qe_trial_search {
  qe_trial_search_setting setting;
  qe_searcher *searcher;
  qe_trial_list list;
  size_t used;  /* trials of the list that were told or are the start: the rest is to be replayed */
  bool begun;   /* the start was tried */
  bool pending; /* `next` waits for its outcome */
  qe_trial next;
  double *start;           /* [n] */
  const double *candidate; /* [count, n] of the searcher's generation, those before `at` have their values */
  int32_t count, at;
  double *value; /* [capacity, objectives] */
  size_t capacity;
  int32_t barren;
  bool fresh; /* the generation had a new trial */
  const char *stopped;
};

void qe_trial_search_free(qe_trial_search *t) {
  if (!t) return;
  qe_trial_free(&t->next, t->setting.space.n);
  qe_trial_list_free(&t->list);
  qe_searcher_free(t->searcher);
  qe_free(t->start);
  qe_free(t->value);
  qe_free(t);
}

static qe_status say_other(const qe_trial_search *t, const char *what) {
  return qe_fail(QE_USAGE,
                 "%s is of another search (%s): variables, searcher, population and seed must stay as they were; "
                 "choose another --out",
                 t->setting.journal, what);
}

static qe_status check_list(const qe_trial_search *t) {
  const qe_search_space *space = &t->setting.space;
  if (t->list.count == 0) return QE_OK;
  if (t->list.n != space->n) return say_other(t, "another number of variables");
  if (t->list.objectives != space->objectives) return say_other(t, "another number of objectives");
  for (int32_t i = 0; i < space->n; i++)
    if (strcmp(t->list.name[i], space->variable[i].name) != 0) return say_other(t, t->list.name[i]);
  return QE_OK;
}

/* Names for a list that begins. */
static qe_status name_list(qe_trial_search *t) {
  if (t->list.name) return QE_OK;
  t->list.n = t->setting.space.n;
  t->list.objectives = t->setting.space.objectives;
  t->list.name = QE_NEW_ARRAY(char *, t->list.n);
  if (!t->list.name) return QE_NO_MEMORY;
  for (int32_t i = 0; i < t->list.n; i++)
    if (!(t->list.name[i] = qe_strdup(t->setting.space.variable[i].name))) return QE_NO_MEMORY;
  return QE_OK;
}

static qe_status open_trials(qe_trial_search *t) {
  const qe_search_space *space = &t->setting.space;
  QE_TRY(qe_searcher_new(space, &t->setting.searcher, &t->searcher));
  QE_TRY(qe_trial_trim(t->setting.journal));
  QE_TRY(qe_trial_list_read(t->setting.journal, &t->list));
  QE_TRY(check_list(t));
  QE_TRY(name_list(t));
  t->start = QE_NEW_ARRAY(double, space->n);
  if (!t->start) return QE_NO_MEMORY;
  for (int32_t i = 0; i < space->n; i++) t->start[i] = space->variable[i].start;
  return qe_trial_new(&t->next, space->n, space->objectives);
}

qe_status qe_trial_search_open(const qe_trial_search_setting *setting, qe_trial_search **trials) {
  qe_trial_search *t = QE_NEW(qe_trial_search);
  if (!t) return QE_NO_MEMORY;
  t->setting = *setting;
  qe_status status = open_trials(t);
  if (status == QE_OK)
    *trials = t;
  else
    qe_trial_search_free(t);
  return status;
}

const qe_trial_list *qe_trial_search_list(const qe_trial_search *t) {
  return &t->list;
}

const char *qe_trial_search_stopped(const qe_trial_search *t) {
  return t->stopped;
}

/* ---- one candidate after the other ---- */

/* The candidate at hand; NULL: the searcher has stopped. */
static qe_status take_candidate(qe_trial_search *t, const double **x) {
  *x = t->start;
  if (!t->begun) return QE_OK;
  *x = NULL;
  if (t->at == t->count) {
    t->stopped = qe_searcher_stopped(t->searcher);
    if (!t->stopped && t->barren >= MOST_BARREN) t->stopped = "the searcher proposes nothing new";
    if (t->stopped) return QE_OK;
    QE_TRY(qe_searcher_ask(t->searcher, &t->candidate, &t->count));
    QE_TRY(
        qe_reserve(&t->value, &t->capacity, (size_t)t->count, (size_t)t->setting.space.objectives * sizeof *t->value));
    t->at = 0;
    t->fresh = false;
  }
  *x = t->candidate + (int64_t)t->at * t->setting.space.n;
  return QE_OK;
}

/* What the candidate at hand has come to. The start is none of the searcher's. */
static qe_status tell(qe_trial_search *t, const double *value) {
  int32_t m = t->setting.space.objectives;
  if (!t->begun) {
    t->begun = true;
    return QE_OK;
  }
  memcpy(t->value + (int64_t)t->at * m, value, (size_t)m * sizeof *value);
  if (++t->at < t->count) return QE_OK;
  t->barren = t->fresh ? 0 : t->barren + 1;
  return qe_searcher_tell(t->searcher, t->value);
}

static qe_status fill_texts(qe_trial_search *t, const double *x) {
  char text[QE_TRIAL_TEXT];
  for (int32_t i = 0; i < t->setting.space.n; i++) {
    t->setting.text(t->setting.context, i, x[i], text);
    QE_TRY(qe_trial_set_text(&t->next.text[i], text));
  }
  return QE_OK;
}

/* The variable in which the two differ; -1: they are the same. */
static int32_t first_difference(const qe_trial_search *t, const qe_trial *a) {
  for (int32_t i = 0; i < t->setting.space.n; i++)
    if (strcmp(a->text[i], t->next.text[i]) != 0) return i;
  return -1;
}

static const qe_trial *find_same(const qe_trial_search *t) {
  for (size_t i = 0; i < t->used; i++)
    if (first_difference(t, &t->list.trial[i]) < 0) return &t->list.trial[i];
  return NULL;
}

static qe_status check_replayed(const qe_trial_search *t, const qe_trial *kept) {
  int32_t at = first_difference(t, kept);
  if (at < 0) return QE_OK;
  char *what = qe_format("trial %d had %s %s, now it would have %s", kept->number, t->list.name[at], kept->text[at],
                         t->next.text[at]);
  qe_status status = what ? say_other(t, what) : QE_NO_MEMORY;
  qe_free(what);
  return status;
}

/* The value that is known of the candidate at hand, or NULL: it must be tried. */
static qe_status find_known(qe_trial_search *t, const double **value) {
  const qe_trial *known = find_same(t);
  *value = NULL;
  if (!known && t->list.trial && t->used < t->list.count) {
    known = &t->list.trial[t->used];
    QE_TRY(check_replayed(t, known));
    t->used++;
    t->fresh = true;
  }
  if (known) *value = known->value;
  return QE_OK;
}

qe_status qe_trial_search_next(qe_trial_search *t, const qe_trial **trial) {
  *trial = NULL;
  while (!t->pending) {
    const double *x, *value;
    if (t->used == t->list.count && t->list.count >= (size_t)t->setting.most) return QE_OK;
    QE_TRY(take_candidate(t, &x));
    if (!x) return QE_OK;
    QE_TRY(fill_texts(t, x));
    QE_TRY(find_known(t, &value));
    t->pending = !value;
    if (value) QE_TRY(tell(t, value));
  }
  t->next.number = (int32_t)t->list.count + 1;
  *trial = &t->next;
  return QE_OK;
}

/* ---- what came of it ---- */

static qe_status fill_outcome(qe_trial_search *t, const double *value, const char *failure, const qe_trial_fact *fact,
                              int32_t facts) {
  int32_t m = t->setting.space.objectives;
  bool sound = value != NULL;
  for (int32_t i = 0; value && i < m; i++) sound &= isfinite(value[i]) != 0;
  for (int32_t i = 0; i < m; i++) t->next.value[i] = sound ? value[i] : (double)NAN;
  t->next.facts = facts < QE_TRIAL_FACTS ? facts : QE_TRIAL_FACTS;
  if (facts > 0) memcpy(t->next.fact, fact, (size_t)t->next.facts * sizeof *fact);
  return sound ? QE_OK : qe_trial_set_text(&t->next.failure, failure ? failure : "an objective is not finite");
}

qe_status qe_trial_search_record(qe_trial_search *t, const double *value, const char *failure,
                                 const qe_trial_fact *fact, int32_t facts) {
  const qe_search_space *space = &t->setting.space;
  qe_trial empty;
  if (!t->pending) return qe_fail(QE_USAGE, "no trial waits for its outcome: call qe_trial_search_next first");
  QE_TRY(fill_outcome(t, value, failure, fact, facts));
  QE_TRY(qe_trial_new(&empty, space->n, space->objectives));
  qe_status status = qe_trial_write(t->setting.journal, &t->next, space->variable, space->n, space->objectives);
  if (status == QE_OK) status = qe_trial_list_add(&t->list, &t->next);
  if (status != QE_OK) {
    qe_trial_free(&empty, space->n);
    return status;
  }
  t->next = empty;
  t->pending = false;
  t->fresh = true;
  t->used++;
  return tell(t, t->list.trial[t->list.count - 1].value);
}
