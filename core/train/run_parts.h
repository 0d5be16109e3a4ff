/* What the files of runs share; nobody else includes this. */
#ifndef QE_TRAIN_RUN_PARTS_H
#define QE_TRAIN_RUN_PARTS_H

#include "core/train/run.h"

struct qe_run {
  qe_run_options options;
  qe_run_events events;
  char *metrics, *checkpoint; /* paths; NULL without a folder */
  qe_tensors *resumed;        /* NULL: starts anew, or used up */
  const char *phase;          /* running */
  double best;                /* held-out loss of the best model so far; below 0: none */
  qe_train_progress newest;
};

#endif
