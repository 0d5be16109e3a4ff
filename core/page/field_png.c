/* Fields as pixels: cells alone, and the whole picture as a PNG file. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/page/field_parts.h"
#include "core/page/picture.h"

#include <math.h>
#include <string.h>

enum { SIDE = 620, BAR = 28, GAP = 22, WIDTH = SIDE + GAP + BAR, MARK_SCALE = 2 };

static double value_at(const qe_field *f, int row, int column) {
  return f->value[(size_t)row * (size_t)f->columns + (size_t)column];
}

uint8_t *qe_field_cells(const qe_field *f) {
  uint8_t *cells = qe_alloc((size_t)f->rows * (size_t)f->columns * 3);
  for (int i = 0; cells && i < f->rows * f->columns; i++) {
    int row = f->rows - 1 - i / f->columns;
    qe_field_colour(qe_field_part(&f->scale, value_at(f, row, i % f->columns)), cells + (size_t)i * 3);
  }
  return cells;
}

/* ---- the map ---- */

static int clamped(int value, int most) {
  return value < 0 ? 0 : value > most ? most : value;
}

/* Between the points linear, beyond the outermost as they are. x and y in pixels. */
static double smooth_at(const qe_field *f, int x, int y) {
  double column = (x + 0.5) / SIDE * f->columns - 0.5, row = (SIDE - y - 0.5) / SIDE * f->rows - 0.5;
  int left = clamped((int)floor(column), f->columns - 2), low = clamped((int)floor(row), f->rows - 2);
  double across = fmin(fmax(column - left, 0), 1), up = fmin(fmax(row - low, 0), 1);
  return (1 - up) * ((1 - across) * value_at(f, low, left) + across * value_at(f, low, left + 1)) +
         up * ((1 - across) * value_at(f, low + 1, left) + across * value_at(f, low + 1, left + 1));
}

static int band_at(const qe_field *f, int x, int y) {
  double value = smooth_at(f, x, y);
  int band = 0;
  while (band < f->scale.levels && value >= f->scale.level[band]) band++;
  return band;
}

static void draw_map(const qe_field *f, uint8_t *pixels) {
  for (int y = 0; y < SIDE; y++)
    for (int x = 0; x < SIDE; x++) {
      uint8_t *pixel = pixels + ((size_t)y * WIDTH + (size_t)x) * 3;
      int row = clamped((SIDE - 1 - y) * f->rows / SIDE, f->rows - 1), column = x * f->columns / SIDE;
      double part = qe_field_part(&f->scale, value_at(f, row, column));
      qe_field_colour(part, pixel);
      int band = band_at(f, x, y);
      if (x + 1 >= SIDE || y + 1 >= SIDE || (band == band_at(f, x + 1, y) && band == band_at(f, x, y + 1))) continue;
      for (int c = 0; c < 3; c++) pixel[c] = (uint8_t)((pixel[c] + 3 * (part < 0.5 ? 255 : 0)) / 4);
    }
}

static void draw_bar(uint8_t *pixels) {
  for (int y = 0; y < SIDE; y++)
    for (int x = SIDE + GAP; x < WIDTH; x++)
      qe_field_colour(1 - (y + 0.5) / SIDE, pixels + ((size_t)y * WIDTH + (size_t)x) * 3);
}

/* ---- marks ---- */

/* Whether a point lies in the sign's outline grown by `more`: an odd number of sides to its right. */
static bool inside(const qe_sign_shape *shape, double x, double y, double more) {
  bool in = false;
  double grown = (shape->radius[0] + more) / shape->radius[0];
  for (int i = 0; i < shape->corners; i++) {
    double ax, ay, bx, by;
    qe_sign_corner(shape, i, &ax, &ay);
    qe_sign_corner(shape, (i + 1) % shape->corners, &bx, &by);
    if ((ay * grown > y) == (by * grown > y)) continue;
    double cross = ax * grown + (y - ay * grown) / (by * grown - ay * grown) * (bx - ax) * grown;
    if (x < cross) in = !in;
  }
  return in;
}

static void draw_mark(const qe_field *f, const qe_field_mark *mark, uint8_t *pixels) {
  const int most = 12 * MARK_SCALE;
  const qe_sign_shape *shape = &qe_sign_shapes[mark->sign];
  double column = (mark->x - f->x0) / (f->x1 - f->x0) * (f->columns - 1) + 0.5;
  double row = (mark->y - f->y0) / (f->y1 - f->y0) * (f->rows - 1) + 0.5;
  int cx = (int)(column / f->columns * SIDE), cy = SIDE - (int)(row / f->rows * SIDE);
  for (int dy = -most; dy <= most; dy++)
    for (int dx = -most; dx <= most; dx++) {
      int x = cx + dx, y = cy + dy;
      if (x < 0 || y < 0 || x >= SIDE || y >= SIDE) continue;
      double at_x = (double)dx / MARK_SCALE, at_y = (double)dy / MARK_SCALE;
      if (!inside(shape, at_x, at_y, 1.5)) continue;
      bool edge = !inside(shape, at_x, at_y, 0);
      memset(pixels + ((size_t)y * WIDTH + (size_t)x) * 3, edge == shape->bright ? 17 : 255, 3);
    }
}

/* ---- the file ---- */

qe_status qe_field_write_png(const qe_field *f, const char *path) {
  const size_t bytes = (size_t)SIDE * WIDTH * 3;
  if (f->rows < 2 || f->columns < 2) return qe_fail(QE_USAGE, "%s: a field has at least 2 by 2 values", path);
  uint8_t *pixels = qe_alloc(bytes), *png = NULL;
  size_t length = 0;
  if (!pixels) return QE_NO_MEMORY;
  memset(pixels, 255, bytes);
  draw_map(f, pixels);
  draw_bar(pixels);
  for (size_t i = 0; i < f->marks; i++)
    if (qe_field_shows(f, &f->mark[i])) draw_mark(f, &f->mark[i], pixels);
  qe_status status = qe_png_of(pixels, SIDE, WIDTH, 3, &png, &length);
  if (status == QE_OK) status = qe_file_write(path, png, length);
  qe_free(png);
  qe_free(pixels);
  return status;
}
