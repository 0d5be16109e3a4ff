/* A chart's points as a table, for who cannot see it or wants the numbers; and the ranges of axes. */
#include "core/page/plot_parts.h"

#include "core/base/alloc.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_ROWS = 60 };

static int by_size(const void *a, const void *b) {
  double left = *(const double *)a, right = *(const double *)b;
  return (left > right) - (left < right);
}

/* ---- axes ---- */

double qe_tick_step(double low, double high, int most) {
  static const double nice[] = {1, 2, 5, 10};
  double rough = (high - low) / most;
  if (!(rough > 0) || !isfinite(rough)) return 1;
  double power = pow(10, floor(log10(rough)));
  for (int i = 0; i < 4; i++)
    if (nice[i] * power >= rough * (1 - 1e-12)) return nice[i] * power;
  return 10 * power;
}

bool qe_plot_range(double *values, size_t count, bool from_zero, double *low, double *high, bool *cut) {
  const double stretch = 6; /* times the range of nine tenths of the values: more is cut */
  size_t kept = 0;
  for (size_t i = 0; i < count; i++)
    if (qe_plot_shows(values[i])) values[kept++] = values[i];
  *cut = false;
  if (kept == 0) return false;
  qsort(values, kept, sizeof *values, by_size);
  double least = values[0], most = values[kept - 1], usual = values[(kept - 1) * 9 / 10];
  if (from_zero && least > 0) least = 0;
  if (usual > least && most - least > stretch * (usual - least)) {
    most = least + 1.5 * (usual - least);
    *cut = true;
  }
  double margin = most > least ? 0.04 * (most - least) : most > 0 || most < 0 ? 0.05 * fabs(most) : 1;
  *low = from_zero && least >= 0 ? 0 : least - margin;
  if (least >= 0) *low = fmax(*low, 0);
  *high = most + margin;
  return true;
}

/* ---- the table ---- */

/* All x of the chart, each once, in order; *count of them. */
static double *all_places(const qe_line_chart *chart, size_t *count) {
  size_t all = 0, kept = 0;
  for (size_t i = 0; i < chart->lines; i++) all += chart->line[i].count;
  double *x = QE_NEW_ARRAY(double, all + 1);
  if (!x) return NULL;
  all = 0;
  for (size_t i = 0; i < chart->lines; i++)
    for (size_t k = 0; k < chart->line[i].count; k++) x[all++] = chart->line[i].x[k];
  qsort(x, all, sizeof *x, by_size);
  for (size_t i = 0; i < all; i++)
    if (kept == 0 || x[i] > x[kept - 1]) x[kept++] = x[i];
  *count = kept;
  return x;
}

/* The last of the line's values at x; *at moves on with x. */
static void add_cell(qe_page *page, const qe_plot_line *line, double x, size_t *at) {
  char text[QE_NUMBER_TEXT];
  while (*at < line->count && line->x[*at] < x) ++*at;
  size_t last = *at;
  while (last + 1 < line->count && line->x[last + 1] <= x) last++;
  bool is = last < line->count && line->x[last] <= x;
  qe_page_add(page, "<td>%s</td>", is ? qe_number_text(line->y[last], text) : "");
}

static void add_rows(qe_page *page, const qe_line_chart *chart, const double *x, size_t count, size_t *at) {
  size_t every = (count + MOST_ROWS - 1) / MOST_ROWS;
  for (size_t i = (count - 1) % every; i < count; i += every) { /* the last is among them */
    char text[QE_NUMBER_TEXT];
    qe_page_add(page, "<tr><td>%s</td>", qe_number_text(x[i], text));
    for (size_t k = 0; k < chart->lines; k++)
      if (chart->line[k].count > 0) add_cell(page, &chart->line[k], x[i], &at[k]);
    qe_page_add(page, "</tr>\n");
  }
}

void qe_plot_table(qe_page *page, const qe_line_chart *chart) {
  size_t count = 0, *at = QE_NEW_ARRAY(size_t, chart->lines + 1);
  double *x = at ? all_places(chart, &count) : NULL;
  if (!x) {
    page->status = page->status == QE_OK ? QE_NO_MEMORY : page->status;
  } else if (count > 0) {
    qe_page_add(page,
                "<details><summary>Data as a table</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\"");
    qe_page_words(page, " aria-label=\"", chart->title, "\"><table><thead><tr><th scope=\"col\">");
    qe_page_words(page, "", chart->x_title, "</th>");
    for (size_t i = 0; i < chart->lines; i++)
      if (chart->line[i].count > 0) qe_page_words(page, "<th scope=\"col\">", chart->line[i].name, "</th>");
    qe_page_add(page, "</tr></thead><tbody>\n");
    add_rows(page, chart, x, count, at);
    qe_page_add(page, "</tbody></table></div></details>\n");
  }
  qe_free(x);
  qe_free(at);
}
