/* train --find-rate: suggests a learning rate. */
#ifndef QE_TOOLS_FIND_RATE_H
#define QE_TOOLS_FIND_RATE_H

#include "core/methods/method.h"
#include "tools/command.h"

/* Sweeps, writes find-rate.csv, .json and .svg into --out where that is given, and prints the suggestion. `progress` is
 * called after every batch. */
QE_CHECKED qe_status qe_train_find_rate(const qe_options *options, const qe_method *method, const qe_setting *setting,
                                        qe_progress_function progress, void *context);

#endif
