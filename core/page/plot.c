/* Line charts. */
#include "core/page/plot.h"

#include "core/base/alloc.h"
#include "core/page/plot_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The picture's own units; style and labels are made for these. */
enum { WIDTH = 460, HEIGHT = 262, LEFT = 52, RIGHT = 104, TOP = 14, BOTTOM = 44, TICKS = 5, LABEL_STEP = 16 };
enum { MOST_POINTS = 400, MOST_LABELS = 12, LABEL_LETTERS = 13 };

typedef struct frame {
  double x0, x1, y0, y1;
  bool cut;
} frame;

static double place_x(const frame *f, double x) {
  return LEFT + (f->x1 > f->x0 ? (x - f->x0) / (f->x1 - f->x0) : 0.5) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const frame *f, double y) {
  double part = f->y1 > f->y0 ? (y - f->y0) / (f->y1 - f->y0) : 0.5;
  return TOP + (HEIGHT - TOP - BOTTOM) * (1 - fmin(fmax(part, 0), 1));
}

/* ---- ranges and axes ---- */

static qe_status find_frame(const qe_line_chart *chart, frame *f, bool *any) {
  size_t count = 0, all = 0;
  for (size_t i = 0; i < chart->lines; i++) all += chart->line[i].count;
  double *values = QE_NEW_ARRAY(double, all + 1);
  if (!values) return QE_NO_MEMORY;
  *f = (frame){.x0 = (double)INFINITY, .x1 = -(double)INFINITY};
  for (size_t i = 0; i < chart->lines; i++)
    for (size_t k = 0; k < chart->line[i].count; k++) {
      f->x0 = fmin(f->x0, chart->line[i].x[k]);
      f->x1 = fmax(f->x1, chart->line[i].x[k]);
      values[count++] = chart->line[i].y[k];
    }
  *any = qe_plot_range(values, count, chart->from_zero, &f->y0, &f->y1, &f->cut);
  if (f->x0 > 0 && f->x0 < 0.2 * f->x1) f->x0 = 0;
  qe_free(values);
  return QE_OK;
}

/* All numbers of an axis in the unit that suits its greatest one. */
static void add_tick(qe_page *page, const char *kind, double x, double y, double value, double step, double greatest) {
  char text[QE_NUMBER_TEXT];
  double clean = fabs(value) < step * 1e-6 ? 0 : value, unit = greatest >= 1e6 ? 1e6 : greatest >= 1e4 ? 1e3 : 1;
  const char *name = greatest >= 1e6 ? "\xC2\xA0M" : greatest >= 1e4 ? "\xC2\xA0k" : "";
  qe_page_add(page, "<text class=\"faint %s\" x=\"%.1f\" y=\"%.1f\">%s%s</text>", kind, x, y,
              qe_number_text(clean / unit, text), clean > 0 || clean < 0 ? name : "");
}

static void add_axes(qe_page *page, const qe_line_chart *chart, const frame *f) {
  double step = qe_tick_step(f->y0, f->y1, TICKS), x_step = qe_tick_step(f->x0, f->x1, TICKS);
  const double right = WIDTH - RIGHT, bottom = HEIGHT - BOTTOM;
  /* A step is at least a TICKS-th of the range. */
  for (int i = 0; i <= TICKS; i++) {
    double at = (ceil(f->y0 / step) + i) * step, y = place_y(f, at);
    if (at > f->y1 + step * 1e-9) break;
    qe_page_add(page, "<line class=\"grid\" x1=\"%d\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, right, y, y);
    add_tick(page, "end", LEFT - 7, y + 4, at, step, f->y1);
  }
  qe_page_add(page, "<line class=\"axis\" x1=\"%d\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", LEFT, right, bottom,
              bottom);
  for (int i = 0; i <= TICKS; i++) {
    double at = (ceil(f->x0 / x_step) + i) * x_step;
    if (at > f->x1 + x_step * 1e-9) break;
    add_tick(page, "mid", place_x(f, at), bottom + 17, at, x_step, f->x1);
  }
  qe_page_add(page, "<text class=\"faint mid\" x=\"%.1f\" y=\"%.1f\">", (LEFT + right) / 2, bottom + 36);
  qe_page_words(page, "", chart->x_title, "</text>\n");
}

static void add_edges(qe_page *page, const qe_line_chart *chart, const frame *f) {
  for (size_t i = 0; i < chart->edges; i++) {
    double x = place_x(f, chart->edge[i].x);
    if (chart->edge[i].x < f->x0 || chart->edge[i].x > f->x1) continue;
    qe_page_add(page, "<line class=\"edge\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>", x, x, TOP, HEIGHT - BOTTOM);
    bool before = x > LEFT + 70;
    qe_page_add(page, "<text class=\"faint%s\" x=\"%.1f\" y=\"%d\">", before ? " end" : "", x + (before ? -5 : 5),
                TOP + 9 + 15 * (int)(i % 3));
    qe_page_words(page, "", chart->edge[i].text, "</text>\n");
  }
}

/* ---- lines ---- */

/* Points start...stop-1 as their means; false: none of their y is finite. */
static bool mean_point(const qe_plot_line *line, size_t start, size_t stop, double *x, double *y) {
  double count = 0;
  *x = *y = 0;
  for (size_t i = start; i < stop && i < line->count; i++) {
    if (!qe_plot_shows(line->y[i])) continue;
    *x += line->x[i];
    *y += line->y[i];
    count++;
  }
  if (count > 0) {
    *x /= count;
    *y /= count;
  }
  return count > 0;
}

static size_t points_together(const qe_plot_line *line) {
  return line->count / MOST_POINTS + 1;
}

static void add_data(qe_page *page, const qe_plot_line *line, bool of_x) {
  size_t every = points_together(line);
  const char *space = "";
  for (size_t i = 0; i < line->count; i += every) {
    double x, y;
    if (!mean_point(line, i, i + every, &x, &y)) continue;
    qe_page_add(page, "%s%.6g", space, of_x ? x : y);
    space = " ";
  }
}

static void add_path(qe_page *page, const qe_plot_line *line, const frame *f) {
  size_t every = points_together(line);
  bool down = false;
  for (size_t i = 0; i < line->count; i += every) {
    double x, y;
    bool is = mean_point(line, i, i + every, &x, &y);
    if (is) qe_page_add(page, "%c%.1f %.1f", down ? 'L' : 'M', place_x(f, x), place_y(f, y));
    down = is;
  }
}

static void add_dots(qe_page *page, const qe_plot_line *line, const frame *f) {
  size_t every = points_together(line);
  bool lone = line->count == 1;
  for (size_t i = 0; i < line->count; i += every) {
    double x, y;
    if (!mean_point(line, i, i + every, &x, &y)) {
      double at = place_x(f, line->x[i]);
      qe_page_add(page, "<path class=\"l s%d\" d=\"M%.1f %dl8 8m0 -8l-8 8\"><title>not finite</title></path>",
                  line->colour, at - 4, TOP);
    } else if (line->points || lone) {
      qe_page_add(page, "<circle class=\"f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>", line->colour, place_x(f, x),
                  place_y(f, y));
    }
  }
}

static const char *const stroke_class[QE_STROKES] = {"", " dash", " dots", " thin"};

static void add_line(qe_page *page, const qe_plot_line *line, const frame *f) {
  qe_page_add(page, "<path class=\"l s%d%s\" data-x=\"", line->colour % QE_COLOURS, stroke_class[line->stroke]);
  add_data(page, line, true);
  qe_page_add(page, "\" data-y=\"");
  add_data(page, line, false);
  qe_page_words(page, "\" data-name=\"", line->name, "\" d=\"");
  add_path(page, line, f);
  qe_page_add(page, "\"/>\n");
  add_dots(page, line, f);
}

/* ---- labels at the lines' ends ---- */

typedef struct end_label {
  const qe_plot_line *line;
  double y;
} end_label;

static int higher(const void *a, const void *b) {
  double left = ((const end_label *)a)->y, right = ((const end_label *)b)->y;
  return (left > right) - (left < right);
}

static bool last_point(const qe_plot_line *line, double *y) {
  for (size_t i = line->count; i-- > 0;)
    if (qe_plot_shows(line->y[i])) {
      *y = line->y[i];
      return true;
    }
  return false;
}

/* Labels keep their order and stand LABEL_STEP apart at least. */
static void spread(end_label *label, int count) {
  const double lowest = HEIGHT - BOTTOM + 4;
  qsort(label, (size_t)count, sizeof *label, higher);
  for (int i = 1; i < count; i++) label[i].y = fmax(label[i].y, label[i - 1].y + LABEL_STEP);
  for (int i = count; i-- > 0;) label[i].y = fmin(label[i].y, lowest - LABEL_STEP * (double)(count - 1 - i));
}

/* At most LABEL_LETTERS characters of the text. */
static void add_short(qe_page *page, const char *text) {
  char copy[4 * LABEL_LETTERS + 8];
  size_t used = 0;
  int letters = 0;
  for (const char *at = text; *at && letters < LABEL_LETTERS && used + 4 < sizeof copy - 4; letters++) do
      copy[used++] = *at++;
    while ((*at & 0xC0) == 0x80 && used + 4 < sizeof copy - 4);
  bool whole = strlen(text) == used;
  copy[used] = 0;
  qe_page_words(page, "", copy, whole ? "" : "\xE2\x80\xA6");
}

static void add_labels(qe_page *page, const qe_line_chart *chart, const frame *f) {
  end_label label[MOST_LABELS];
  int count = 0;
  for (size_t i = 0; i < chart->lines && count < MOST_LABELS; i++) {
    double y;
    if (chart->line[i].label && last_point(&chart->line[i], &y))
      label[count++] = (end_label){&chart->line[i], place_y(f, y) + 4};
  }
  spread(label, count);
  for (int i = 0; i < count; i++) {
    qe_page_add(page, "<text class=\"strong f%d\" x=\"%d\" y=\"%.1f\">", label[i].line->colour % QE_COLOURS,
                WIDTH - RIGHT + 7, label[i].y);
    add_short(page, label[i].line->label);
    qe_page_add(page, "</text>\n");
  }
}

/* ---- the whole ---- */

static void add_description(qe_page *page, const qe_line_chart *chart) {
  char text[QE_NUMBER_TEXT];
  qe_page_words(page, "<title>", chart->title, "</title><desc>");
  qe_page_words(page, "Line chart over ", chart->x_title, ".");
  for (size_t i = 0; i < chart->lines; i++) {
    double y;
    if (!last_point(&chart->line[i], &y)) continue;
    qe_page_words(page, " ", chart->line[i].name, "");
    qe_page_add(page, " ends at %s.", qe_number_text(y, text));
  }
  qe_page_add(page, "</desc>\n");
}

static void add_svg(qe_page *page, const qe_line_chart *chart, const frame *f) {
  qe_page_add(page, "<svg viewBox=\"0 0 %d %d\" role=\"img\" data-plot=\"%d %d %d %d %.9g %.9g\" data-unit=\"", WIDTH,
              HEIGHT, LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM, f->x0, f->x1);
  qe_page_words(page, "", chart->x_title, "\">");
  add_description(page, chart);
  add_axes(page, chart, f);
  add_edges(page, chart, f);
  for (size_t i = 0; i < chart->lines; i++)
    if (chart->line[i].count > 0) add_line(page, &chart->line[i], f);
  add_labels(page, chart, f);
  qe_page_add(page, "</svg>\n");
}

void qe_page_line_chart(qe_page *page, const qe_line_chart *chart) {
  frame f;
  bool any = false;
  if (page->status == QE_OK) page->status = find_frame(chart, &f, &any);
  if (page->status != QE_OK || !any) return;
  qe_page_words(page, "<figure class=\"chart\"><figcaption>", chart->title, "");
  if (chart->y_unit) qe_page_words(page, " <span>", chart->y_unit, "</span>");
  qe_page_add(page, "</figcaption>\n");
  add_svg(page, chart, &f);
  if (f.cut) qe_page_add(page, "<p class=\"note\">The highest values are cut at the top.</p>\n");
  qe_plot_table(page, chart);
  qe_page_add(page, "</figure>\n");
}

void qe_page_key(qe_page *page, const char *name, int colour, qe_stroke stroke) {
  qe_page_add(page, "<li><svg viewBox=\"0 0 32 10\" aria-hidden=\"true\"><path class=\"l s%d%s\" d=\"M1 5H31\"/></svg>",
              colour % QE_COLOURS, stroke_class[stroke]);
  qe_page_words(page, "", name, "</li>\n");
}
