/* What the files of charts share; nobody else includes this. */
#ifndef QE_PAGE_PLOT_PARTS_H
#define QE_PAGE_PLOT_PARTS_H

#include "core/page/plot.h"

/* The chart's points as a table, folded away. */
void qe_plot_table(qe_page *page, const qe_line_chart *chart);

#endif
