/* The trials of a search over settings, one after the other. */
#ifndef QE_TOOLS_TRIAL_LOOP_H
#define QE_TOOLS_TRIAL_LOOP_H

#include "tools/trial_run.h"

typedef struct qe_trial_loop {
  qe_trial_runner *runner;
  const qe_trial_objectives *objectives;
  qe_trial_search *search;
  int32_t most;  /* trials, for messages */
  bool keep_all; /* models of all trials stay, not only the best one's */
} qe_trial_loop;

/* Until the search is over, with progress on stderr: each trial is trained and recorded, the best one's models and
 * recipe are copied into the search's folder, the page there is written. A trial whose settings do not fit together, or
 * that diverges, has failed and is noted. QE_DIVERGED: all have. */
QE_CHECKED qe_status qe_trial_loop_run(const qe_trial_loop *loop);

#endif
