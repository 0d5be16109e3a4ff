/* What the files of fields share; nobody else includes this. */
#ifndef QE_PAGE_FIELD_PARTS_H
#define QE_PAGE_FIELD_PARTS_H

#include "core/page/field.h"

/* A sign's outline around 0: `corners` points at radii that take turns, the first straight up. */
typedef struct qe_sign_shape {
  int corners;
  double radius[2];
  bool bright; /* white with a dark edge, else dark with a white one */
} qe_sign_shape;
extern const qe_sign_shape qe_sign_shapes[QE_SIGNS];
void qe_sign_corner(const qe_sign_shape *shape, int at, double *x, double *y);

/* Whether a mark lies within the outermost points, half a cell more on each side. */
bool qe_field_shows(const qe_field *field, const qe_field_mark *mark);

/* A cell a value as RGB, the highest row first: new memory (qe_free), NULL with a message. */
uint8_t *qe_field_cells(const qe_field *field);

/* Pieces of the contour line of a level, grid columns and rows as coordinates. */
typedef void (*qe_contour_piece)(void *context, double x0, double y0, double x1, double y1);
void qe_field_contour(const qe_field *field, double level, qe_contour_piece piece, void *context);

#endif
