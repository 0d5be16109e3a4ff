/* train with variables: a search over settings, each trial a run of the method or pipeline. */
#ifndef QE_TOOLS_TRAIN_SEARCH_H
#define QE_TOOLS_TRAIN_SEARCH_H

#include "tools/command.h"

/* Whether the options name variables. QE_USAGE when something is said of a search and there are none. */
QE_CHECKED qe_status qe_search_wanted(const qe_options *options, bool *wanted);

/* Checks everything before anything is trained; then searches, or plans (--dry-run). Recipe, method or pipeline have
 * been chosen. */
QE_CHECKED qe_status qe_train_search(qe_options *options);

#endif
