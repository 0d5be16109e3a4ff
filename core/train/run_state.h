/* How a run stands, as its folder's state.json says: a process that was killed could not write it, its lock tells. */
#ifndef QE_TRAIN_RUN_STATE_H
#define QE_TRAIN_RUN_STATE_H

#include "core/train/run.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qe_run_state {
  QE_RUN_UNKNOWN, /* no state.json, or it cannot be read */
  QE_RUN_RUNNING,
  QE_RUN_FINISHED,
  QE_RUN_INTERRUPTED, /* by Ctrl-C, SIGTERM or SIGHUP, with a checkpoint */
  QE_RUN_FAILED,
  QE_RUN_KILLED, /* never written: it says running, and no process has the folder */
  QE_RUN_STATES
} qe_run_state;

typedef struct qe_run_stand {
  qe_run_state state;
  char message[512]; /* of QE_RUN_FAILED and QE_RUN_INTERRUPTED; else "" */
} qe_run_stand;

/* "running", as in state.json. */
const char *qe_run_state_name(qe_run_state state);
/* Whether the run has ended, in whatever way; false where that is not known. */
bool qe_run_state_ended(qe_run_state state);

/* From here on state.json is kept: the run begins, or will go on once its checkpoint has been accepted. */
QE_CHECKED qe_status qe_run_begin(qe_run *run);
/* The run ends with this status, whose message is kept. That this cannot be written changes nothing, nor does it when
 * the checkpoint was refused. Returns the status. */
QE_CHECKED qe_status qe_run_end(const qe_run *run, qe_status status);
/* What the folder says. Fails only without memory: what cannot be read is QE_RUN_UNKNOWN. */
QE_CHECKED qe_status qe_run_stand_read(const char *folder, qe_run_stand *stand);

#ifdef __cplusplus
}
#endif
#endif
