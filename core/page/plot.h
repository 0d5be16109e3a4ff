/* Charts of a page, as inline SVG that scales with its place: line charts with a table of their points beneath,
 * histograms, strips of a map. Colours are numbers of a palette that stays apart for the colour-blind on light and on
 * dark ground. */
#ifndef QE_PAGE_PLOT_H
#define QE_PAGE_PLOT_H

#include "core/page/page.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_COLOURS = 6 };

typedef enum qe_stroke { QE_STROKE_SOLID, QE_STROKE_DASHED, QE_STROKE_DOTTED, QE_STROKE_THIN, QE_STROKES } qe_stroke;

/* x does not fall; a y that is not finite, or 1e30 and more, leaves a gap, with a cross at the chart's top. */
typedef struct qe_plot_line {
  const char *name;  /* in table, tooltip and legend */
  const char *label; /* at the line's end; NULL: none */
  int colour;
  qe_stroke stroke;
  bool points; /* with a dot at each point */
  const double *x, *y;
  size_t count;
} qe_plot_line;

/* A vertical line with a word: where a phase ends. */
typedef struct qe_plot_edge {
  double x;
  const char *text;
} qe_plot_edge;

typedef struct qe_line_chart {
  const char *title, *y_unit, *x_title;
  const qe_plot_line *line;
  size_t lines;
  const qe_plot_edge *edge;
  size_t edges;
  bool from_zero; /* the y axis begins at 0 */
} qe_line_chart;

/* A <figure>; nothing when no line has a finite point. */
void qe_page_line_chart(qe_page *page, const qe_line_chart *chart);

/* An item of a <ul class="key">: a sample of the line and its name. */
void qe_page_key(qe_page *page, const char *name, int colour, qe_stroke stroke);

/* Bars over `bins` equally wide places; `before`: NULL, or what stands in grey behind them. `low`, `high`: what is
 * written below the first and the last; `zero`: place of a mark, below 0: none. */
typedef struct qe_histogram {
  const char *title, *note; /* note: NULL for none */
  const char *low, *high;
  const int64_t *count, *before;
  int bins;
  double zero;
} qe_histogram;
void qe_page_histogram(qe_page *page, const qe_histogram *histogram);

/* A row of a <div class="map">: a name and cells, each from 0 (ground) to 1 (colour); below 0: none. */
void qe_page_strip(qe_page *page, const char *name, const double *cell, size_t cells);

/* ---- axes ---- */

/* 1, 2 or 5 times a power of ten: steps of at most `most` on the way from low to high; 1 when that is no range. */
double qe_tick_step(double low, double high, int most);
/* The range of a chart's y axis: the values' own with a margin, but for the highest of them where these would flatten
 * the rest; *cut: whether any are left out. Values that a line would leave a gap for are passed over; false: there are
 * no others. */
bool qe_plot_range(double *values, size_t count, bool from_zero, double *low, double *high, bool *cut);

#ifdef __cplusplus
}
#endif
#endif
