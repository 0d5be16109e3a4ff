/* Whether a resumed search is still the same. */
#ifndef QE_TOOLS_SEARCH_SAME_H
#define QE_TOOLS_SEARCH_SAME_H

#include "core/base/status.h"

/* QE_USAGE with the first line in which the text `config` says something else of a trial than config.yaml of the
 * folder, which it is to replace. Number of trials, device and checkpoints may change. */
QE_CHECKED qe_status qe_search_same(const char *folder, const char *config);

#endif
