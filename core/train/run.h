/* A training run: its folder on disk, and the loop over epochs that every gradient method shares.
 *
 * Folder (docs/runs.md): config.yaml as resolved, metrics.jsonl (a line an epoch, or a step when asked), the same for
 * TensorBoard, checkpoint.safetensors (the whole state, replaced atomically) and the ones before it, last.safetensors
 * and best.safetensors (models). A process that is killed at any moment leaves a folder that can be resumed, and the
 * resumed run ends as the undisturbed one does, bit for bit where the backend is deterministic. */
#ifndef QE_TRAIN_RUN_H
#define QE_TRAIN_RUN_H

#include "core/base/json.h"
#include "core/train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_epoch_report {
  const char *phase; /* "float", "qat" */
  int epoch, epochs;
  qe_score train, test, held_out; /* images 0: not evaluated */
  double rate, gradient_norm, images_per_second, seconds;
  double quantised;         /* stochastic precision: portion at the end of the epoch; below 0: none */
  qe_distill_score distill; /* of this epoch, where there is a second network */
  qe_score twin_test;       /* of one that is trained; images 0: there is none */
} qe_epoch_report;

/* Where a search without gradients stands, after a generation. */
typedef struct qe_search_report {
  const char *stage;
  int64_t generation;          /* of the stage, from 1 */
  int64_t spent, budget;       /* candidate-images; budget 0: none */
  double best, mean, held_out; /* losses an image in nats; below 0: not evaluated */
  double confident;            /* per cent of the variables; below 0: the stage has no confidence */
  int64_t changed;             /* values of the network that are new */
  bool accepted;               /* there is a new best network */
  double images_per_second;    /* candidate-images, over the last generations */
  double seconds;              /* of the whole search */
  uint64_t hash;               /* of the network's weights, multipliers and offsets */
} qe_search_report;

/* What a run tells its caller; any function may be NULL. */
typedef struct qe_run_events {
  void *context;
  /* After each batch; QE_INTERRUPTED saves a checkpoint and ends the run. */
  qe_status (*progress)(void *context, const char *phase, const qe_train_progress *progress);
  void (*epoch)(void *context, const qe_epoch_report *report);
  /* After each generation of a search; QE_INTERRUPTED saves a checkpoint and ends the run. */
  qe_status (*generation)(void *context, const qe_search_report *report);
  void (*note)(void *context, const char *text);
  FILE *explain; /* the plans of the programs; NULL: nowhere */
} qe_run_events;

typedef struct qe_run_options {
  const char *folder;   /* NULL: nothing is written */
  const char *config;   /* text of config.yaml; NULL: none */
  const char *pipeline; /* the folder is of a pipeline, this the text of pipeline.json; NULL: it is of one run */
  const char *search;   /* the folder is of a search, this the text of search.json; NULL: it is of one run */
  const char *whole;    /* the folder of the pipeline or search that the run is part of; NULL: the run stands alone */
  bool resume;          /* go on from the folder's checkpoint */
  int save_every;       /* epochs between checkpoints; 0: only at the end of a phase */
  int64_t save_steps;   /* batches between further ones within an epoch; 0: none */
  double save_minutes;  /* further ones where the last is as old as this; 0: none */
  int keep;             /* the newest and how many before it are kept, together; below 1: 1 */
  int log_every;        /* batches between step lines; 0: none */
} qe_run_options;

typedef struct qe_run qe_run;

/* Makes the folder and locks it until qe_run_close. QE_USAGE: another process has it, or it holds a run already and not
 * `resume`. With `resume` the newest sound checkpoint is taken; a run that was stopped before its first one begins
 * again; QE_NOT_FOUND where there is no run. What was logged after the checkpoint is cut off. The options' texts must
 * outlive the run. */
QE_CHECKED qe_status qe_run_open(const qe_run_options *options, const qe_run_events *events, qe_run **run);
/* Whether qe_run_open would refuse the folder, as far as can be seen without writing. */
QE_CHECKED qe_status qe_run_check(const qe_run_options *options);
void qe_run_close(qe_run *run); /* NULL is fine */

/* The phase that the checkpoint to resume from was in; NULL when the run starts anew. */
const char *qe_run_resumed_phase(const qe_run *run);
/* After a failure: the message with how to go on, where there is a checkpoint. Returns the status. */
qe_status qe_run_explain(const qe_run *run, qe_status status);
/* The folder to name where it is told how to go on; NULL: there is none. */
const char *qe_run_resume_folder(const qe_run *run);
/* Tell a sentence to whoever watches; run NULL: to nobody. */
void qe_run_note(qe_run *run, const char *format, ...) QE_PRINTF(2, 3);

/* Called after each epoch of the phases to come, once its models are written and before its checkpoint is: what the
 * function writes is written again, the same, when the run is killed between the two. The trainer's model holds the
 * epoch's parameters (the moving average when that is the model). NULL: nothing. */
typedef qe_status (*qe_epoch_function)(void *context, qe_trainer *trainer, const qe_epoch_report *report);
void qe_run_after_epoch(qe_run *run, qe_epoch_function function, void *context);

/* The second network of phases that have one: handed over by the first of them (the run frees it), for the next to go
 * on with; NULL before that. */
void qe_run_keep_twin(qe_run *run, qe_model *twin);
qe_model *qe_run_twin(const qe_run *run);

/* Train `trainer` to its last epoch as the phase called `phase`, from the run's checkpoint when that is of this phase.
 * Evaluates on the test images after each epoch (and on the held-out ones, which then choose best.safetensors; else
 * best is the last). At the end the model holds the trained parameters (the moving average when there is one).
 * `final`: score on the test images. */
QE_CHECKED qe_status qe_run_phase(qe_run *run, qe_trainer *trainer, qe_model *model, const qe_train_options *options,
                                  const char *phase, qe_score *final);

/* Write the model with facts about how it was made: pairs of key and value, NULL past the last. */
QE_CHECKED qe_status qe_run_save_model(const qe_run *run, const qe_model *model, const char *file,
                                       const char *const *facts);

/* ---- for methods that have a loop of their own ---- */

/* Tell whoever watches and TensorBoard about a generation; returns what they want: QE_OK or QE_INTERRUPTED. */
QE_CHECKED qe_status qe_run_generation(qe_run *run, const qe_search_report *report);
/* Finish the JSON and append it to metrics.jsonl; without a folder it is dropped. */
QE_CHECKED qe_status qe_run_append(qe_run *run, qe_json *json);
/* Replace the checkpoint by the tensors, with `phase` and where the logs end added to their metadata. `interim`: the
 * next checkpoint takes its place, else this one is kept before it (options.keep). */
QE_CHECKED qe_status qe_run_save_state(qe_run *run, qe_tensors *tensors, const char *phase, bool interim);
/* Whether options.save_minutes have passed since the last checkpoint. */
bool qe_run_due(const qe_run *run);
/* The checkpoint to resume from, or NULL; its file; and drop it once it was taken over. */
const qe_tensors *qe_run_resumed(const qe_run *run);
const char *qe_run_resumed_from(const qe_run *run);
QE_CHECKED qe_status qe_run_drop_resumed(qe_run *run);
/* TensorBoard: histograms of the network's weight codes after `spent` candidate-images, and a score (NULL: none). */
QE_CHECKED qe_status qe_run_show_network(qe_run *run, const qe_network *network, const qe_score *held_out,
                                         int64_t spent);
/* New text (qe_free): the path of a file in the folder; *path is NULL without a folder. */
QE_CHECKED qe_status qe_run_path(const qe_run *run, const char *file, char **path);
QE_CHECKED qe_status qe_run_save_network(const qe_run *run, const qe_network *network, const char *file);

#ifdef __cplusplus
}
#endif
#endif
