/* One trial of a search over settings: a run with its values, in a folder of its own, and what it is worth. */
#ifndef QE_TOOLS_TRIAL_RUN_H
#define QE_TOOLS_TRIAL_RUN_H

#include "tools/setup.h"
#include "tools/trial_space.h"

/* Numbers of a trial's network: what the journal calls them, and objectives. Right answers and losses are of held-out
 * images. */
#define QE_TRIAL_FACT_LIST(X)                                                                                          \
  X(LOSS, "loss")                                                                                                      \
  X(TOP1, "top1")                                                                                                      \
  X(BYTES, "bytes")                                                                                                    \
  X(BIT_OPS, "bit-ops")                                                                                                \
  X(SECONDS, "seconds") /* no objective: it is not the same when the search is run again */

typedef enum qe_trial_fact_kind {
#define X(id, name) QE_TRIAL_##id,
  QE_TRIAL_FACT_LIST(X)
#undef X
      QE_TRIAL_KINDS
} qe_trial_fact_kind;
enum { QE_TRIAL_OBJECTIVES = QE_TRIAL_SECONDS };

const char *qe_trial_fact_name(qe_trial_fact_kind kind);

typedef struct qe_trial_objectives {
  qe_trial_fact_kind of[QE_TRIAL_OBJECTIVES];
  int32_t count;
} qe_trial_objectives;

/* search-objective. QE_USAGE with the names that there are. */
QE_CHECKED qe_status qe_trial_objectives_read(const qe_options *options, qe_trial_objectives *objectives);
/* What is minimised: the fact itself; of right answers the per cent that are wrong. */
double qe_trial_objective(qe_trial_fact_kind kind, double fact);

typedef struct qe_trial_runner {
  const qe_options *options;   /* the recipe */
  const qe_trial_space *space; /* outlives the runner */
  const char *folder;          /* of the search */
  qe_setup setup;              /* of trials of one method; kept from one to the next while it serves */
  qe_options *opened;          /* for whose options it was opened */
} qe_trial_runner;

void qe_trial_runner_close(qe_trial_runner *runner);

/* New options (qe_options_free): the recipe's with these values. `searching`: with those of the search, too. */
QE_CHECKED qe_status qe_trial_options(const qe_trial_runner *runner, char *const *text, const char *origin,
                                      bool searching, qe_options **options);
/* New text (qe_free): all of them, as a recipe; checked as far as can be before training. */
QE_CHECKED qe_status qe_trial_config(qe_trial_runner *runner, qe_options *options, char **config);
/* Plans the trial: a text, or objects of an array. */
QE_CHECKED qe_status qe_trial_plan(qe_trial_runner *runner, qe_options *options, qe_json *json, double *seconds);
/* Trains the trial or goes on with it, unless it has finished, and measures its best model: fact [QE_TRIAL_KINDS], NaN
 * where there is none. */
QE_CHECKED qe_status qe_trial_train(qe_trial_runner *runner, const qe_trial *trial, double *fact);
/* New text (qe_free): the folder with the trial's last run, which is of its last step in a pipeline. */
QE_CHECKED qe_status qe_trial_last_run(const qe_trial_runner *runner, int number, char **folder);

#endif
