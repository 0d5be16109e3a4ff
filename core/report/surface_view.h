/* Loss surfaces as pictures: the section of a report, a page of its own, files. */
#ifndef QE_REPORT_SURFACE_VIEW_H
#define QE_REPORT_SURFACE_VIEW_H

#include "core/page/field.h"
#include "core/surface/surface.h"

/* Text, maps, marks and paths, without a heading. */
void qe_surface_view(qe_page *page, const qe_surface *surface);
/* A page with nothing else. */
QE_CHECKED qe_status qe_surface_write_page(const qe_surface *surface, const char *title, const char *path);
/* Each map as an SVG and a PNG file in the folder: quantised-test-loss.svg, … */
QE_CHECKED qe_status qe_surface_write_pictures(const qe_surface *surface, const char *folder);

/* ---- for the files of this view ---- */

/* A map of one value of one side; the arrays are freed by qe_surface_field_free. The scale is that of both sides. False
 * when there is nothing to show. */
typedef struct qe_surface_field {
  qe_field field;
  double *values;
  qe_field_mark *marks;
  char title[64];
} qe_surface_field;
QE_CHECKED qe_status qe_surface_field_new(const qe_surface *surface, qe_surface_side side, int value,
                                          qe_surface_field *made, bool *any);
void qe_surface_field_free(qe_surface_field *made);

#endif
