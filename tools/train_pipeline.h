/* train with a pipeline: the steps of a config, one after the other, in one folder. */
#ifndef QE_TOOLS_TRAIN_PIPELINE_H
#define QE_TOOLS_TRAIN_PIPELINE_H

#include "tools/pipeline_steps.h"

/* Checks every step before any is trained; then trains, or plans (--dry-run). The options hold the steps. */
QE_CHECKED qe_status qe_train_pipeline(qe_options *options);

/* The parts of it, for who trains pipelines as trials: a plan of every step, below a text or as objects of an array
 * (`json` NULL: text); *seconds grows by what they will take, NaN where that is not known. */
QE_CHECKED qe_status qe_plan_pipeline(qe_steps *steps, qe_json *json, double *seconds);
/* Trains what has not finished, in place->folder, which is also the options' `out`. `bare`: leaves no reports. */
QE_CHECKED qe_status qe_run_pipeline(qe_steps *steps, const qe_run_options *place, bool bare);

#endif
