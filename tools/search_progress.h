/* Progress of a search: one redrawn line on a terminal, plain lines elsewhere. */
#ifndef QE_TOOLS_SEARCH_PROGRESS_H
#define QE_TOOLS_SEARCH_PROGRESS_H

#include "core/train/run.h"
#include "tools/progress.h"

/* Call after every generation: draws as often as qe_progress_update does; with `hash` a line that stays each time,
 * ended by the network's hash. */
void qe_search_progress(qe_progress *progress, const qe_search_report *report, bool hash);

/* The line for a terminal `width` columns wide (0: any width), cut to fit; returns `text`. */
char *qe_search_line(const qe_search_report *report, bool hash, int width, char text[QE_PROGRESS_LINE]);

#endif
