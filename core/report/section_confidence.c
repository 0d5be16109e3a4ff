/* Section of searches: how sure of each layer's weights the distributions are, over time. */
#include "core/base/alloc.h"
#include "core/page/plot.h"
#include "core/report/report_parts.h"

#include <math.h>

enum { MOST_COLUMNS = 120 };

static double least_mean(const qe_history *h) {
  double least = 1;
  for (size_t i = 0; i < h->cells; i++) least = fmin(least, h->cell[i].mean);
  return fmin(floor(least * 50) / 50, 0.98);
}

void qe_section_confidence(qe_page *page, const qe_report *report, const qe_report_run *run) {
  (void)report;
  const qe_history *h = &run->history;
  char text[QE_NUMBER_TEXT];
  if (h->cells == 0) return;
  size_t every = (h->columns + MOST_COLUMNS - 1) / MOST_COLUMNS, columns = (h->columns + every - 1) / every;
  double low = least_mean(h), *cell = QE_NEW_ARRAY(double, columns);
  if (!cell) {
    page->status = page->status == QE_OK ? QE_NO_MEMORY : page->status;
    return;
  }
  qe_page_add(
      page,
      "<p>Mean probability of the likeliest code of a layer's weights; a column is a cycle, to %s "
      "candidate-images. Ground: %.2f, full colour: 1.</p>\n<div class=\"map\" role=\"img\" aria-label=\"Map of "
      "confidence by layer and cycle\">\n",
      qe_count_text(h->column[h->columns - 1], text), low);
  for (size_t l = 0; l < h->layers; l++) {
    for (size_t i = 0; i < columns; i++) cell[i] = -1;
    for (size_t i = 0; i < h->cells; i++)
      if (h->cell[i].layer == l && h->cell[i].column % every == 0)
        cell[h->cell[i].column / every] = (h->cell[i].mean - low) / (1 - low);
    qe_page_strip(page, h->layer[l], cell, columns);
  }
  qe_page_add(page, "</div>\n");
  qe_free(cell);
}
