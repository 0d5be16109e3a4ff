/* Pipelines: runs one after the other in one folder, each from the model of the one before (docs/recipes.md).
 *
 * The folder holds config.yaml, pipeline.json (the steps), state.json, and of each step that has begun a run folder of
 * its own ("2-polish"). A process that is killed at any moment leaves a folder that can be resumed: steps that have
 * finished stay, the one at work goes on from its checkpoint. */
#ifndef QE_TRAIN_PIPELINE_H
#define QE_TRAIN_PIPELINE_H

#include "core/train/run.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_pipeline_step {
  char *name, *method; /* "polish", "coevolution" */
  char *folder;        /* within the pipeline's: "2-polish" */
} qe_pipeline_step;

/* Starts as {0}. */
typedef struct qe_pipeline {
  qe_pipeline_step *step;
  size_t steps, capacity;
} qe_pipeline;

void qe_pipeline_free(qe_pipeline *pipeline);
/* Append a step. */
QE_CHECKED qe_status qe_pipeline_add(qe_pipeline *pipeline, const char *name, const char *method);
/* New text (qe_free) of pipeline.json, for qe_run_options. */
QE_CHECKED qe_status qe_pipeline_text(const qe_pipeline *pipeline, char **text);
/* Whether the folder is that of a pipeline; its steps. QE_NOT_FOUND: it is none, QE_FORMAT: they cannot be read. */
bool qe_pipeline_is(const char *folder);
QE_CHECKED qe_status qe_pipeline_read(const char *folder, qe_pipeline *pipeline);

/* Trains step `step` in `folder`; `resume`: there is a run, to go on with. */
typedef qe_status (*qe_pipeline_train)(void *context, int step, const char *folder, bool resume);

/* One step after the other, but for those that have finished. `run` has been opened with qe_pipeline_text; of each step
 * that trains, `train` has to keep state.json (qe_run_begin, qe_run_end). At the end the last step's best model lies in
 * the folder as best.safetensors, too. */
QE_CHECKED qe_status qe_pipeline_run(qe_run *run, const qe_pipeline *pipeline, qe_pipeline_train train, void *context);

/* What a run has come to, as its folder's result.json tells: so who reads the folder need not evaluate. */
typedef struct qe_run_scores {
  qe_score start, final, integer; /* as in qe_result; images 0: there is none */
} qe_run_scores;

/* Members of an object: "top1", "loss", "images", "integer_top1", "integer_loss", "start_top1", "start_loss". */
void qe_run_scores_json(qe_json *json, const qe_run_scores *scores);
/* Replaces result.json of the run's folder, if it has one; the text as it shall stand there. */
QE_CHECKED qe_status qe_run_keep_result(const qe_run *run, const char *text);
/* All images are 0 where there is no such file, or none that can be read. Fails only without memory. */
QE_CHECKED qe_status qe_run_read_scores(const char *folder, qe_run_scores *scores);

#ifdef __cplusplus
}
#endif
#endif
