/* A page of text that grows: HTML with inline SVG, readable on light and dark, nothing loaded from elsewhere. */
#ifndef QE_METHODS_PAGE_H
#define QE_METHODS_PAGE_H

#include "core/base/status.h"

#include <stddef.h>

/* Starts as {0}. The first failure sticks and shows when the page is written. */
typedef struct qe_page {
  char *text;
  size_t length, capacity;
  qe_status status;
} qe_page;

void qe_page_add(qe_page *page, const char *format, ...) QE_PRINTF(2, 3);
/* Text with what HTML reserves escaped. */
void qe_page_text(qe_page *page, const char *text);
/* Head and title; and the end, written to `path` atomically. The page is {0} afterwards. */
void qe_page_open(qe_page *page, const char *title);
QE_CHECKED qe_status qe_page_write(qe_page *page, const char *path);

/* ---- line charts ---- */

enum { QE_PLOT_TICKS = 6, QE_PLOT_WIDTH = 820, QE_PLOT_LEFT = 62, QE_PLOT_RIGHT = 14 };

/* A rectangle of the picture in which x0...x1 and y0...y1 lie. */
typedef struct qe_plot {
  double x0, x1, y0, y1;
  double top, height; /* pixels */
} qe_plot;

double qe_plot_x(const qe_plot *plot, double x);
double qe_plot_y(const qe_plot *plot, double y);
/* Grid lines and numbers of both axes. */
void qe_plot_axes(qe_page *page, const qe_plot *plot, const char *x_title, const char *y_title);
/* The numbers of the axis below alone. */
void qe_plot_axis_x(qe_page *page, const qe_plot *plot, const char *title);

#endif
