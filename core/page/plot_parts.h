/* What the files of charts share; nobody else includes this. */
#ifndef QE_PAGE_PLOT_PARTS_H
#define QE_PAGE_PLOT_PARTS_H

#include "core/page/plot.h"

#include <math.h>

/* Whether a value has a place in a chart: finite, and small enough for ranges and sums of such to be so, too. */
static inline bool qe_plot_shows(double y) {
  return fabs(y) < 1e30;
}

/* The chart's points as a table, folded away. */
void qe_plot_table(qe_page *page, const qe_line_chart *chart);

#endif
