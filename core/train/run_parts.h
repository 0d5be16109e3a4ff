/* What the files of runs share; nobody else includes this. */
#ifndef QE_TRAIN_RUN_PARTS_H
#define QE_TRAIN_RUN_PARTS_H

#include "core/train/board.h"
#include "core/train/run.h"

struct qe_run {
  qe_run_options options;
  qe_run_events events;
  int lock;                   /* on the folder; -1: none */
  char *metrics, *checkpoint; /* paths; NULL without a folder */
  qe_board *board;            /* TensorBoard's events; NULL without a folder */
  qe_tensors *resumed;        /* NULL: starts anew, or used up */
  char *resumed_from;         /* its file */
  bool interim;               /* the newest checkpoint is the next one's to replace, see qe_run_save_state */
  double saved_at;            /* when it was written, or the run opened; qe_run_clock */
  bool stated;                /* state.json is kept, see qe_run_begin */
  const char *phase;          /* running */
  qe_trainer *trainer;        /* of the phase */
  qe_model *twin;             /* see qe_run_keep_twin */
  int64_t steps_before;       /* batches of the phases before this one */
  int epoch_at;               /* where the phase was resumed: what was told by then is not told again */
  int64_t step_at;
  double best; /* held-out loss of the best model so far; below 0: none */
  qe_train_progress newest;
  qe_epoch_function after_epoch;
  void *after_epoch_context;
};

double qe_run_clock(void); /* seconds */
/* Write a file of the folder unless it says the same already; `text` NULL: nothing. */
QE_CHECKED qe_status qe_run_keep_file(const qe_run *run, const char *file, const char *text);

/* ---- run_checkpoint.c ---- */

/* The newest sound checkpoint of the folder into run->resumed. QE_NOT_FOUND: there is none. */
QE_CHECKED qe_status qe_run_find_checkpoint(qe_run *run);
/* Whether there is one, sound or not. */
QE_CHECKED qe_status qe_run_has_checkpoint(const qe_run *run, bool *has);
/* A number of the metadata of run->resumed, or `missing`. */
int64_t qe_run_resumed_number(const qe_run *run, const char *key, int64_t missing);

/* ---- whole.c ---- */

#define QE_PIPELINE_FILE "pipeline.json"
#define QE_SEARCH_FILE "search.json"

/* Whether options.pipeline or options.search say that the folder holds runs, rather than being one. */
bool qe_run_is_whole(const qe_run *run);
/* Whether such a folder may be opened; opens it, once it is locked. */
QE_CHECKED qe_status qe_run_check_whole(qe_run *run);
QE_CHECKED qe_status qe_run_open_whole(qe_run *run);
/* QE_USAGE when the folder of a run of one method is such a folder. */
QE_CHECKED qe_status qe_run_refuse_whole(const qe_run *run);

/* ---- pipeline.c ---- */

/* QE_USAGE when steps of the folder that have begun are others than those of options.pipeline. */
QE_CHECKED qe_status qe_run_check_steps(const qe_run *run);

/* ---- run_state.c ---- */

/* The run goes on. */
QE_CHECKED qe_status qe_run_state_running(const qe_run *run);

/* ---- run_metrics.c ---- */

/* Lines of metrics.jsonl and TensorBoard's events after an epoch and after a batch. */
QE_CHECKED qe_status qe_run_log_epoch(qe_run *run, const qe_model *model, const qe_epoch_report *report);
QE_CHECKED qe_status qe_run_log_step(qe_run *run, const qe_train_progress *progress);

#endif
