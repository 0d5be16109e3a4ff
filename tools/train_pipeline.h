/* train with a pipeline: the steps of a config, one after the other, in one folder. */
#ifndef QE_TOOLS_TRAIN_PIPELINE_H
#define QE_TOOLS_TRAIN_PIPELINE_H

#include "tools/command.h"

/* Checks every step before any is trained; then trains, or plans (--dry-run). The options hold the steps. */
QE_CHECKED qe_status qe_train_pipeline(qe_options *options);

#endif
