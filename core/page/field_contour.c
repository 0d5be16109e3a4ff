/* Contour lines by marching squares, and the signs of marks. */
#include "core/page/field_parts.h"

#include <math.h>

/* ---- contours ---- */

typedef struct square {
  double value[4]; /* of the corners: lower left, lower right, upper right, upper left */
  int x, y;
} square;

/* Where the level crosses side `side` of the square (lower, right, upper, left); false: nowhere. */
static bool crossing(const square *s, double level, int side, double *x, double *y) {
  static const int corner_x[4] = {0, 1, 1, 0}, corner_y[4] = {0, 0, 1, 1};
  int other = (side + 1) % 4;
  double a = s->value[side], b = s->value[other];
  if ((a < level) == (b < level)) return false;
  double part = (level - a) / (b - a);
  *x = s->x + corner_x[side] + part * (corner_x[other] - corner_x[side]);
  *y = s->y + corner_y[side] + part * (corner_y[other] - corner_y[side]);
  return true;
}

/* Two crossings are joined; of four those that do not cut off the middle's side. */
static void contour_square(const square *s, double level, qe_contour_piece piece, void *context) {
  double x[4], y[4];
  int found = 0;
  for (int side = 0; side < 4; side++) found += crossing(s, level, side, &x[found], &y[found]);
  if (found == 2) piece(context, x[0], y[0], x[1], y[1]);
  if (found != 4) return;
  double middle = (s->value[0] + s->value[1] + s->value[2] + s->value[3]) / 4;
  int shift = (middle < level) == (s->value[0] < level); /* the middle is as the lower left corner */
  for (int i = 0; i < 4; i += 2) {
    int from = (i + shift + 3) % 4, to = (i + shift) % 4;
    piece(context, x[from], y[from], x[to], y[to]);
  }
}

void qe_field_contour(const qe_field *field, double level, qe_contour_piece piece, void *context) {
  for (int y = 0; y + 1 < field->rows; y++)
    for (int x = 0; x + 1 < field->columns; x++) {
      const double *row = field->value + (size_t)y * (size_t)field->columns + x, *next = row + field->columns;
      square s = {.value = {row[0], row[1], next[1], next[0]}, .x = x, .y = y};
      if (isfinite(row[0]) && isfinite(row[1]) && isfinite(next[0]) && isfinite(next[1]))
        contour_square(&s, level, piece, context);
    }
}

/* ---- signs ---- */

const qe_sign_shape qe_sign_shapes[QE_SIGNS] = {[QE_SIGN_DISC] = {24, {5.5, 5.5}, false},
                                                [QE_SIGN_DOT] = {16, {3, 3}, false},
                                                [QE_SIGN_STAR] = {10, {11, 5.2}, true},
                                                [QE_SIGN_DIAMOND] = {4, {4.6, 4.6}, false},
                                                [QE_SIGN_TRIANGLE] = {3, {7, 7}, false}};

void qe_sign_corner(const qe_sign_shape *shape, int at, double *x, double *y) {
  double angle = 2 * 3.14159265358979323846 * at / shape->corners, radius = shape->radius[at % 2];
  *x = radius * sin(angle);
  *y = -radius * cos(angle);
}

bool qe_field_shows(const qe_field *field, const qe_field_mark *mark) {
  double dx = (field->x1 - field->x0) / (field->columns - 1) / 2, dy = (field->y1 - field->y0) / (field->rows - 1) / 2;
  return mark->x >= field->x0 - dx && mark->x <= field->x1 + dx && mark->y >= field->y0 - dy &&
         mark->y <= field->y1 + dy;
}
