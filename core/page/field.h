/* Fields of a page: values on a grid as a heat map with contour lines and marks, as a figure, an SVG file or a PNG. */
#ifndef QE_PAGE_FIELD_H
#define QE_PAGE_FIELD_H

#include "core/page/page.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_FIELD_LEVELS = 12 };

/* How values become colours: from low to high; those beyond have the colour of the end. */
typedef struct qe_field_scale {
  double low, high;
  bool logarithmic;
  int levels;
  double level[QE_FIELD_LEVELS]; /* of the contour lines, rising */
} qe_field_scale;

/* A scale for all of the values: from the least to the greatest, but for the uppermost fiftieth where that is far above
 * the others. Values that are not finite do not count; false: there are no others. */
bool qe_field_scale_of(const double *values, size_t count, bool logarithmic, qe_field_scale *scale);
/* 0 to 1 along the scale; not a number stays one. */
double qe_field_part(const qe_field_scale *scale, double value);
/* Red, green, blue of a part of the scale: dark blue to yellow (viridis); grey where it is not a number. */
void qe_field_colour(double part, uint8_t colour[3]);

typedef enum qe_field_sign {
  QE_SIGN_DISC,
  QE_SIGN_DOT,
  QE_SIGN_STAR,
  QE_SIGN_DIAMOND,
  QE_SIGN_TRIANGLE,
  QE_SIGNS
} qe_field_sign;

typedef struct qe_field_mark {
  double x, y;
  qe_field_sign sign;
  const char *name;  /* for who points at it */
  const char *label; /* a letter or two beside it; NULL: none */
} qe_field_mark;

typedef struct qe_field {
  const char *title, *unit;
  const char *x_title, *y_title;
  const double *value;   /* [rows, columns], the lowest row first; not finite: a grey cell */
  int rows, columns;     /* at least 2 each */
  double x0, x1, y0, y1; /* of the outermost points */
  qe_field_scale scale;
  const qe_field_mark *mark;
  size_t marks; /* those outside are left out */
} qe_field;

/* A <figure>. */
void qe_page_field(qe_page *page, const qe_field *field);
/* An item of a <ul class="key">: a sign and its name. */
void qe_page_sign(qe_page *page, qe_field_sign sign, const char *name);
/* The same picture as a file of its own, on white; the PNG without letters. */
QE_CHECKED qe_status qe_field_write_svg(const qe_field *field, const char *path);
QE_CHECKED qe_status qe_field_write_png(const qe_field *field, const char *path);

#ifdef __cplusplus
}
#endif
#endif
