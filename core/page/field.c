/* Fields as SVG. */
#include "core/page/field.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/page/field_parts.h"
#include "core/page/picture.h"
#include "core/page/plot.h"

#include <math.h>
#include <string.h>

/* The picture's own units. */
enum {
  SIDE = 300,
  LEFT = 56,
  TOP = 12,
  BOTTOM = 46,
  BAR = 14,
  BAR_GAP = 14,
  WIDTH = 440,
  HEIGHT = TOP + SIDE + BOTTOM
};
enum { TICKS = 5, BAR_CELLS = 64, TICK_APART = 19, HEAD = 20 };

/* Cells lie around their points: half of one more on each side. */
static double part_of(double value, double low, double high, int points) {
  double half = (high - low) / (points - 1) / 2;
  return (value - low + half) / (high - low + 2 * half);
}

static double place_x(const qe_field *f, double x) {
  return LEFT + SIDE * part_of(x, f->x0, f->x1, f->columns);
}

static double place_y(const qe_field *f, double y) {
  return TOP + SIDE * (1 - part_of(y, f->y0, f->y1, f->rows));
}

/* ---- the map ---- */

static void add_cells(qe_page *page, const qe_field *f) {
  uint8_t *cells = qe_field_cells(f);
  if (!cells) {
    if (page->status == QE_OK) page->status = QE_NO_MEMORY;
    return;
  }
  qe_page_add(page,
              "<image x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" preserveAspectRatio=\"none\" "
              "style=\"image-rendering:pixelated\" href=\"",
              LEFT, TOP, SIDE, SIDE);
  qe_page_png(page, cells, f->rows, f->columns, 3);
  qe_page_add(page, "\"/>\n");
  qe_free(cells);
}

typedef struct drawing {
  qe_page *page;
  const qe_field *field;
} drawing;

static void draw_piece(void *context, double x0, double y0, double x1, double y1) {
  const drawing *d = context;
  double dx = (double)SIDE / d->field->columns, dy = (double)SIDE / d->field->rows;
  qe_page_add(d->page, "M%.1f %.1fL%.1f %.1f", LEFT + (x0 + 0.5) * dx, TOP + SIDE - (y0 + 0.5) * dy,
              LEFT + (x1 + 0.5) * dx, TOP + SIDE - (y1 + 0.5) * dy);
}

static void add_contours(qe_page *page, const qe_field *f) {
  drawing d = {page, f};
  for (int i = 0; i < f->scale.levels; i++) {
    qe_page_add(page, "<path fill=\"none\" stroke=\"%s\" stroke-opacity=\".75\" stroke-width=\"1\" d=\"",
                qe_field_part(&f->scale, f->scale.level[i]) < 0.5 ? "#fff" : "#000");
    qe_field_contour(f, f->scale.level[i], draw_piece, &d);
    qe_page_add(page, "\"/>\n");
  }
}

/* ---- axes ---- */

static void add_axis(qe_page *page, const qe_field *f, bool of_x) {
  double low = of_x ? f->x0 : f->y0, high = of_x ? f->x1 : f->y1, step = qe_tick_step(low, high, TICKS);
  char text[QE_NUMBER_TEXT];
  for (int i = 0; i <= TICKS; i++) {
    double at = (ceil(low / step) + i) * step;
    if (at > high + step * 1e-9) break;
    if (fabs(at) < step * 1e-6) at = 0;
    qe_number_text(at, text);
    if (of_x)
      qe_page_add(page, "<text class=\"faint mid\" x=\"%.1f\" y=\"%d\">%s</text>", place_x(f, at), TOP + SIDE + 17,
                  text);
    else
      qe_page_add(page, "<text class=\"faint end\" x=\"%d\" y=\"%.1f\">%s</text>", LEFT - 7, place_y(f, at) + 4, text);
  }
  if (of_x)
    qe_page_add(page, "<text class=\"faint mid\" x=\"%d\" y=\"%d\">", LEFT + SIDE / 2, TOP + SIDE + 38);
  else
    qe_page_add(page, "<text class=\"faint mid\" transform=\"translate(13 %d) rotate(-90)\">", TOP + SIDE / 2);
  qe_page_words(page, "", of_x ? f->x_title : f->y_title, "</text>\n");
}

static double bar_place(const qe_field *f, double value) {
  return TOP + SIDE * (1 - qe_field_part(&f->scale, value));
}

/* The scale's colours, with the values of contour lines that have room. */
static void add_bar(qe_page *page, const qe_field *f) {
  const int x = LEFT + SIDE + BAR_GAP;
  char text[QE_NUMBER_TEXT];
  uint8_t cells[BAR_CELLS * 3];
  for (int i = 0; i < BAR_CELLS; i++) qe_field_colour(1 - (i + 0.5) / BAR_CELLS, cells + (size_t)i * 3);
  qe_page_add(page, "<image x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" preserveAspectRatio=\"none\" href=\"", x, TOP,
              BAR, SIDE);
  qe_page_png(page, cells, BAR_CELLS, 1, 3);
  qe_page_add(page, "\"/>\n");
  double above = HEIGHT + TICK_APART;
  for (int i = 0; i < f->scale.levels; i++) {
    double y = bar_place(f, f->scale.level[i]);
    qe_page_add(page, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", x + BAR, x + BAR + 4, y, y);
    if (above - y < TICK_APART) continue;
    qe_page_add(page, "<text class=\"faint\" x=\"%d\" y=\"%.1f\">%s</text>", x + BAR + 7, y + 4,
                qe_number_text(f->scale.level[i], text));
    above = y;
  }
  qe_page_add(page, "\n");
}

/* ---- marks ---- */

static void add_sign(qe_page *page, qe_field_sign sign, double x, double y) {
  const qe_sign_shape *shape = &qe_sign_shapes[sign];
  qe_page_add(page, "<path fill=\"%s\" stroke=\"%s\" stroke-width=\"1.5\" d=\"", shape->bright ? "#fff" : "#111",
              shape->bright ? "#111" : "#fff");
  for (int i = 0; i < shape->corners; i++) {
    double dx, dy;
    qe_sign_corner(shape, i, &dx, &dy);
    qe_page_add(page, "%c%.1f %.1f", i ? 'L' : 'M', x + dx, y + dy);
  }
  qe_page_add(page, "z\">");
}

static void add_marks(qe_page *page, const qe_field *f) {
  for (size_t i = 0; i < f->marks; i++) {
    const qe_field_mark *mark = &f->mark[i];
    if (!qe_field_shows(f, mark)) continue;
    double x = place_x(f, mark->x), y = place_y(f, mark->y);
    add_sign(page, mark->sign, x, y);
    qe_page_words(page, "<title>", mark->name, "</title></path>");
    if (!mark->label) continue;
    qe_page_add(page, "<text class=\"strong halo mid\" x=\"%.1f\" y=\"%.1f\">", x, y < TOP + 28 ? y + 20 : y - 10);
    qe_page_words(page, "", mark->label, "</text>\n");
  }
}

/* ---- the whole ---- */

static void add_description(qe_page *page, const qe_field *f) {
  char low[QE_NUMBER_TEXT], high[QE_NUMBER_TEXT];
  qe_page_words(page, "<title>", f->title, "</title><desc>");
  qe_page_add(page, "Heat map with contour lines of %d by %d values from %s to %s.</desc>\n", f->columns, f->rows,
              qe_number_text(f->scale.low, low), qe_number_text(f->scale.high, high));
}

/* A file of its own has a style, a ground and its title in the picture; on a page these stand around it. */
static void open_svg(qe_page *page, const qe_field *f, bool alone) {
  if (!alone) {
    qe_page_add(page, "<svg viewBox=\"0 0 %d %d\" role=\"img\">", WIDTH, HEIGHT);
    return;
  }
  qe_page_add(page,
              "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" viewBox=\"0 %d %d %d\" role=\"img\">"
              "<style>text{font:12.5px system-ui,sans-serif;fill:#1b1f23}.faint{fill:#5b6168}.end{text-anchor:end}"
              ".mid{text-anchor:middle}.strong{font-weight:600}.axis{stroke:#5b6168}"
              ".halo{paint-order:stroke;stroke:#fff;stroke-width:3px}</style>"
              "<rect y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
              2 * WIDTH, -HEAD, WIDTH, HEIGHT + HEAD, -HEAD, WIDTH, HEIGHT + HEAD);
  qe_page_add(page, "<text class=\"strong\" x=\"%d\" y=\"-2\">", LEFT);
  qe_page_words(page, "", f->title, "");
  if (f->unit) qe_page_words(page, ", ", f->unit, "");
  qe_page_add(page, "</text>\n");
}

static void add_svg(qe_page *page, const qe_field *f, bool alone) {
  open_svg(page, f, alone);
  add_description(page, f);
  add_cells(page, f);
  add_contours(page, f);
  add_axis(page, f, true);
  add_axis(page, f, false);
  add_bar(page, f);
  add_marks(page, f);
  qe_page_add(page, "</svg>\n");
}

void qe_page_field(qe_page *page, const qe_field *f) {
  if (page->status != QE_OK || f->rows < 2 || f->columns < 2) return;
  qe_page_words(page, "<figure class=\"chart\"><figcaption>", f->title, "");
  if (f->unit) qe_page_words(page, " <span>", f->unit, "</span>");
  qe_page_add(page, "</figcaption>\n");
  add_svg(page, f, false);
  qe_page_add(page, "</figure>\n");
}

void qe_page_sign(qe_page *page, qe_field_sign sign, const char *name) {
  qe_page_add(page,
              "<li><svg class=\"sign\" viewBox=\"0 0 24 24\" aria-hidden=\"true\"><title>sign</title><desc>of the "
              "marks</desc>");
  add_sign(page, sign, 12, 12);
  qe_page_words(page, "</path></svg>", name, "</li>\n");
}

qe_status qe_field_write_svg(const qe_field *f, const char *path) {
  qe_page page = {0};
  if (f->rows < 2 || f->columns < 2) return qe_fail(QE_USAGE, "%s: a field has at least 2 by 2 values", path);
  add_svg(&page, f, true);
  qe_status status = page.status;
  if (status == QE_OK) status = qe_file_write(path, page.text, page.length);
  qe_page_drop(&page);
  return status;
}
