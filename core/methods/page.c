/* Pages of HTML, and the axes of charts in them. */
#include "core/methods/page.h"

#include "core/base/alloc.h"
#include "core/base/file.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static const char style[] =
    ":root{color-scheme:light dark;--page:#fff;--text:#1c2024;--faint:#60666d;--line:#d9dde2;--c0:#2f6db3;--c1:#c8731e;"
    "--c2:#2c8a57;--soft:#b9c3ce;--cold:#eef1f4}"
    "@media(prefers-color-scheme:dark){:root{--page:#15181b;--text:#e6e8ea;--faint:#9aa1a9;--line:#343a40;--c0:#6ea8e6;"
    "--c1:#e39a52;--c2:#5cbf8a;--soft:#566270;--cold:#22272c}}"
    "body{background:var(--page);color:var(--text);font:15px/1.45 system-ui,sans-serif;max-width:860px;margin:2rem "
    "auto;"
    "padding:0 1rem}h1{font-size:1.4rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--line)}"
    "p{color:var(--faint)}table{border-collapse:collapse}td,th{padding:.15rem 1.2rem .15rem 0;text-align:right;"
    "font-variant-numeric:tabular-nums}td:first-child,th:first-child{text-align:left}th{color:var(--faint);"
    "font-weight:400;border-bottom:1px solid var(--line)}svg{display:block;width:100%;height:auto}"
    "svg text{font:12px system-ui,sans-serif;fill:var(--text)}svg .faint{fill:var(--faint)}svg .end{text-anchor:end}"
    "svg .mid{text-anchor:middle}.grid{stroke:var(--line);stroke-width:1}.edge{stroke:var(--faint);stroke-width:1;"
    "stroke-dasharray:3 3}.l0,.l1,.l2{fill:none;stroke-width:1.8;stroke-linejoin:round}.l0{stroke:var(--c0)}"
    ".l1{stroke:var(--c1)}.l2{stroke:var(--soft);stroke-width:1.2}.f0{fill:var(--c0)}.f1{fill:var(--c1)}"
    ".f2{fill:var(--soft)}.cold{fill:var(--cold)}rect{shape-rendering:crispEdges}";

void qe_page_add(qe_page *page, const char *format, ...) {
  va_list args, again;
  if (page->status != QE_OK) return;
  va_start(args, format);
  va_copy(again, args);
  int bytes = vsnprintf(NULL, 0, format, args);
  va_end(args);
  page->status = bytes < 0 ? qe_fail(QE_IO, "cannot format a page")
                           : qe_reserve(&page->text, &page->capacity, page->length + (size_t)bytes + 1, 1);
  if (page->status == QE_OK) {
    vsnprintf(page->text + page->length, (size_t)bytes + 1, format, again);
    page->length += (size_t)bytes;
  }
  va_end(again);
}

void qe_page_text(qe_page *page, const char *text) {
  for (; *text; text++) {
    const char *escaped = *text == '&'   ? "&amp;"
                          : *text == '<' ? "&lt;"
                          : *text == '>' ? "&gt;"
                          : *text == '"' ? "&quot;"
                                         : NULL;
    if (escaped)
      qe_page_add(page, "%s", escaped);
    else
      qe_page_add(page, "%c", (unsigned char)*text < ' ' ? ' ' : *text);
  }
}

void qe_page_open(qe_page *page, const char *title) {
  qe_page_add(page, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
  qe_page_text(page, title);
  qe_page_add(page,
              "</title><meta name=\"viewport\" content=\"width=device-width\"><style>%s</style></head><body>\n<h1>",
              style);
  qe_page_text(page, title);
  qe_page_add(page, "</h1>\n");
}

qe_status qe_page_write(qe_page *page, const char *path) {
  qe_page_add(page, "</body></html>\n");
  qe_status status = page->status;
  if (status == QE_OK) status = qe_file_write(path, page->text, page->length);
  qe_free(page->text);
  *page = (qe_page){0};
  return status;
}

/* ---- charts ---- */

double qe_plot_x(const qe_plot *plot, double x) {
  double width = QE_PLOT_WIDTH - QE_PLOT_LEFT - QE_PLOT_RIGHT;
  return QE_PLOT_LEFT + (plot->x1 > plot->x0 ? (x - plot->x0) / (plot->x1 - plot->x0) : 0) * width;
}

double qe_plot_y(const qe_plot *plot, double y) {
  double part = plot->y1 > plot->y0 ? (y - plot->y0) / (plot->y1 - plot->y0) : 0;
  return plot->top + plot->height * (1 - fmin(fmax(part, 0), 1));
}

/* 1, 2 or 5 times a power of ten: steps of at most QE_PLOT_TICKS on the way from low to high. */
static double tick_step(double low, double high) {
  static const double nice[] = {1, 2, 5, 10};
  double rough = (high - low) / QE_PLOT_TICKS;
  if (!(rough > 0)) return 1;
  double power = pow(10, floor(log10(rough)));
  for (int i = 0; i < 4; i++)
    if (nice[i] * power >= rough) return nice[i] * power;
  return 10 * power;
}

static void add_number(qe_page *page, double value, double step) {
  if (fabs(step) >= 1e6)
    qe_page_add(page, "%g M", value / 1e6);
  else if (fabs(step) >= 1e4)
    qe_page_add(page, "%g k", value / 1e3);
  else
    qe_page_add(page, "%g", fabs(value) < step * 1e-6 ? 0 : value);
}

void qe_plot_axis_x(qe_page *page, const qe_plot *plot, const char *title) {
  double step = tick_step(plot->x0, plot->x1), bottom = plot->top + plot->height;
  for (double at = ceil(plot->x0 / step) * step; at <= plot->x1 + step * 1e-9; at += step) {
    qe_page_add(page, "<text class=\"mid faint\" x=\"%.1f\" y=\"%.1f\">", qe_plot_x(plot, at), bottom + 16);
    add_number(page, at, step);
    qe_page_add(page, "</text>");
  }
  qe_page_add(page, "<text class=\"end faint\" x=\"%d\" y=\"%.1f\">%s</text>\n", QE_PLOT_WIDTH - QE_PLOT_RIGHT,
              bottom + 32, title);
}

void qe_plot_axes(qe_page *page, const qe_plot *plot, const char *x_title, const char *y_title) {
  double step = tick_step(plot->y0, plot->y1);
  for (double at = ceil(plot->y0 / step) * step; at <= plot->y1 + step * 1e-9; at += step) {
    double y = qe_plot_y(plot, at);
    qe_page_add(page, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", QE_PLOT_LEFT,
                QE_PLOT_WIDTH - QE_PLOT_RIGHT, y, y);
    qe_page_add(page, "<text class=\"end faint\" x=\"%d\" y=\"%.1f\">", QE_PLOT_LEFT - 8, y + 4);
    add_number(page, at, step);
    qe_page_add(page, "</text>");
  }
  qe_page_add(page, "<text class=\"faint\" x=\"0\" y=\"%.1f\">%s</text>", plot->top - 10, y_title);
  qe_plot_axis_x(page, plot, x_title);
}
