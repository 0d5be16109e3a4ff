/* Trials: a search whose every evaluation is costly and is kept. A searcher proposes, each trial's values and what came
 * of it are a line of a journal, and a process that is killed at any moment goes on where it was: the trials of the
 * journal are told to a new searcher, which draws the same candidates for the same values.
 *
 *   QE_TRY(qe_trial_search_open(&setting, &trials));
 *   while ((status = qe_trial_search_next(trials, &trial)) == QE_OK && trial) {
 *     evaluate trial->text;
 *     QE_TRY(qe_trial_search_record(trials, value, failure, fact, facts));
 *   }
 *
 * The first trial is the start, whatever the searcher. A candidate with the texts of an earlier trial is not tried
 * again. */
#ifndef QE_SEARCH_TRIALS_H
#define QE_SEARCH_TRIALS_H

#include "core/search/searcher.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_TRIAL_TEXT = 256, QE_TRIAL_FACTS = 8, QE_TRIAL_FACT_NAME = 24 };

/* Something that was measured beside the objectives. */
typedef struct qe_trial_fact {
  char name[QE_TRIAL_FACT_NAME];
  double value;
} qe_trial_fact;

typedef struct qe_trial {
  int32_t number; /* from 1 */
  char **text;    /* [n] values of the variables */
  double *value;  /* [objectives], all NaN: it has failed */
  char *failure;  /* why; NULL: it has not */
  qe_trial_fact fact[QE_TRIAL_FACTS];
  int32_t facts;
} qe_trial;

/* What a journal holds. */
typedef struct qe_trial_list {
  char **name; /* [n] of the variables; NULL: there is no trial */
  int32_t n, objectives;
  qe_trial *trial;
  size_t count, capacity;
} qe_trial_list;

/* The trials of a journal; none where there is no such file. A last line that was cut short is passed over. QE_FORMAT
 * with the line that is none. */
QE_CHECKED qe_status qe_trial_list_read(const char *journal, qe_trial_list *list);
void qe_trial_list_free(qe_trial_list *list);
/* Index of the trial with the least first objective, of equal ones the earliest; -1: none that has not failed. */
int32_t qe_trial_list_best(const qe_trial_list *list);
/* Whether no other trial is as good in all objectives and better in one. */
bool qe_trial_list_on_front(const qe_trial_list *list, int32_t at);
/* A measured number of a trial; NaN: it has none of that name. */
double qe_trial_fact_of(const qe_trial *trial, const char *name);

typedef struct qe_trial_search_setting {
  qe_search_space space; /* every variable has a name */
  qe_searcher_options searcher;
  int32_t most; /* trials, at least 1 */
  const char *journal;
  /* The text of a value, as it is tried and kept; the same text is the same trial. */
  void (*text)(void *context, int32_t variable, double x, char text[QE_TRIAL_TEXT]);
  void *context;
} qe_trial_search_setting;

typedef struct qe_trial_search qe_trial_search;

/* Reads the journal. QE_USAGE when the searcher cannot search the space; names and texts of `setting` stay the
 * caller's. */
QE_CHECKED qe_status qe_trial_search_open(const qe_trial_search_setting *setting, qe_trial_search **trials);
void qe_trial_search_free(qe_trial_search *trials); /* NULL is fine */

/* The trial to evaluate now, the same one until it is recorded; NULL: the search is over. QE_USAGE: the journal is of
 * another search. */
QE_CHECKED qe_status qe_trial_search_next(qe_trial_search *trials, const qe_trial **trial);
/* What came of it, durable when this returns: value [objectives], or NULL with the reason. A value that is not finite
 * is a failure. */
QE_CHECKED qe_status qe_trial_search_record(qe_trial_search *trials, const double *value, const char *failure,
                                            const qe_trial_fact *fact, int32_t facts);
/* The trials so far. */
const qe_trial_list *qe_trial_search_list(const qe_trial_search *trials);
/* Why the search is over before setting.most trials; NULL: it is not. */
const char *qe_trial_search_stopped(const qe_trial_search *trials);

#ifdef __cplusplus
}
#endif
#endif
