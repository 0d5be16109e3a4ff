/* Section: curves of the metrics, runs over each other. */
#include "core/base/alloc.h"
#include "core/page/plot.h"
#include "core/report/report_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef enum along { ALONG_EPOCH, ALONG_SPENT, ALONG_SECONDS } along;
enum { DOTS = 1, QUIET = 2 };

/* Of curves.def: a chart, or (title NULL) a curve of the chart before it. */
typedef struct row {
  const char *title, *unit;
  along along;
  bool from_zero;
  const char *key, *name;
  int colour;
  qe_stroke alone, together; /* with one run, with several */
  int flags;
} row;

static const row rows[] = {
#define QE_CHART(says, of, place, zero) {.title = (says), .unit = (of), .along = ALONG_##place, .from_zero = (zero)},
#define QE_CURVE(id, says, number, one, several, has)                                                                  \
  {.key = (id),                                                                                                        \
   .name = (says),                                                                                                     \
   .colour = (number),                                                                                                 \
   .alone = QE_STROKE_##one,                                                                                           \
   .together = QE_STROKE_##several,                                                                                    \
   .flags = (has)},
#include "core/report/curves.def"
#undef QE_CHART
#undef QE_CURVE
};
enum { ROWS = sizeof rows / sizeof *rows };
static const char *const axis_title[] = {"epoch", "candidate-images", "seconds"};

typedef struct chart {
  qe_plot_line *line;
  char **name;
  size_t lines, capacity, names, name_capacity;
  size_t runs; /* that it shows */
} chart;

static bool shows(const qe_report_run *run, const row *chart_row) {
  return run->history.searches == (chart_row->along != ALONG_EPOCH);
}

/* Whether a curve of a search gets along: some stages spend no candidate-images. */
static bool has_course(const qe_series *series) {
  return series->x[series->count - 1] > series->x[0];
}

static qe_status add_line(chart *c, const qe_report *report, size_t at, const row *chart_row, const row *of,
                          bool labelled) {
  bool several = report->runs > 1;
  const qe_report_run *run = report->run[at];
  const qe_series *series = qe_history_find(&run->history, of->key);
  bool extra = several && (of->flags & QUIET) && of != chart_row + 1;
  if (!series || series->count == 0 || extra) return QE_OK;
  if (chart_row->along == ALONG_SPENT && !(of->flags & DOTS) && !has_course(series)) return QE_OK;
  QE_TRY(qe_reserve(&c->line, &c->capacity, c->lines + 1, sizeof *c->line));
  QE_TRY(qe_reserve(&c->name, &c->name_capacity, c->names + 1, sizeof *c->name));
  char *name = several ? qe_format("%s, %s", run->name, of->name) : qe_strdup(of->name);
  if (!name) return QE_NO_MEMORY;
  c->name[c->names++] = name;
  c->line[c->lines++] = (qe_plot_line){.name = name,
                                       .label = several             ? labelled ? run->name : NULL
                                                : of->flags & QUIET ? NULL
                                                                    : of->name,
                                       .colour = several ? (int)(at % QE_COLOURS) : of->colour,
                                       .stroke = several ? of->together : of->alone,
                                       .points = (of->flags & DOTS) != 0,
                                       .x = chart_row->along == ALONG_SECONDS ? series->seconds : series->x,
                                       .y = series->y,
                                       .count = series->count};
  return QE_OK;
}

static qe_status add_run(chart *c, const qe_report *report, size_t at, const row *chart_row) {
  bool labelled = true;
  if (!shows(report->run[at], chart_row)) return QE_OK;
  for (const row *of = chart_row + 1; of < rows + ROWS && !of->title; of++) {
    size_t before = c->lines;
    QE_TRY(add_line(c, report, at, chart_row, of, labelled));
    if (c->lines > before) labelled = false;
  }
  c->runs += !labelled;
  return QE_OK;
}

/* Ends of phases and stages, of a run that is alone. The start of a search is none. */
static qe_status take_edges(const qe_report_run *run, const row *chart_row, qe_plot_edge **edge, size_t *edges) {
  *edges = 0;
  if (chart_row->along == ALONG_SECONDS || run->history.edges == 0) return QE_OK;
  *edge = QE_NEW_ARRAY(qe_plot_edge, run->history.edges);
  if (!*edge) return QE_NO_MEMORY;
  for (size_t i = 0; i < run->history.edges; i++)
    if (!run->history.searches || i > 0)
      (*edge)[(*edges)++] = (qe_plot_edge){run->history.edge[i].x, run->history.edge[i].name};
  return QE_OK;
}

static void write_chart(qe_page *page, const qe_report *report, const row *chart_row) {
  chart c = {0};
  qe_plot_edge *edge = NULL;
  size_t edges = 0;
  qe_status status = QE_OK;
  for (size_t i = 0; status == QE_OK && i < report->runs; i++) status = add_run(&c, report, i, chart_row);
  if (chart_row->along == ALONG_SPENT && c.lines == 1 && c.line[0].count == 1) c.lines = 0; /* a search's start alone */
  if (status == QE_OK && report->runs == 1 && c.lines > 0)
    status = take_edges(report->run[0], chart_row, &edge, &edges);
  if (status == QE_OK)
    qe_page_line_chart(page, &(qe_line_chart){.title = chart_row->title,
                                              .y_unit = chart_row->unit,
                                              .x_title = axis_title[chart_row->along],
                                              .line = c.line,
                                              .lines = c.lines,
                                              .edge = edge,
                                              .edges = edges,
                                              .from_zero = chart_row->from_zero});
  else if (page->status == QE_OK)
    page->status = status;
  for (size_t i = 0; i < c.names; i++) qe_free(c.name[i]);
  qe_free(c.name);
  qe_free(c.line);
  qe_free(edge);
}

/* ---- what the lines are ---- */

static bool any_has(const qe_report *report, const char *key) {
  for (size_t i = 0; i < report->runs; i++)
    if (qe_history_find(&report->run[i]->history, key)) return true;
  return false;
}

static void write_key(qe_page *page, const qe_report *report) {
  if (report->runs < 2) return;
  qe_page_add(page, "<ul class=\"key\">");
  for (size_t i = 0; i < report->runs; i++)
    if (report->run[i]->history.lines > 0)
      qe_page_key(page, report->run[i]->name, (int)(i % QE_COLOURS), QE_STROKE_SOLID);
  qe_page_add(page, "</ul>\n<p class=\"note\">A colour is a run. ");
  if (any_has(report, "test_loss")) qe_page_add(page, "Solid: test images; dotted: training images. ");
  if (any_has(report, "held_out_loss") && any_has(report, "test_loss")) qe_page_add(page, "Dashed: held-out images. ");
  if (any_has(report, "best"))
    qe_page_add(
        page, "Searches: solid is the network on all held-out images, dotted the best candidate of each generation. ");
  qe_page_add(page, "</p>\n");
}

static void write_note(qe_page *page, const qe_report *report) {
  const qe_history *h = &report->run[0]->history;
  if (report->runs == 1 && h->searches)
    qe_page_add(page, "<p class=\"note\">Best and mean are of a generation's candidates, on other images each time, so "
                      "that these curves scatter. Dots: the network on all held-out images when a stage ends.</p>\n");
  if (report->runs == 1 && !h->searches && h->edges > 0)
    qe_page_add(page,
                "<p class=\"note\">Epochs are counted through all phases; a dotted line is the end of one.</p>\n");
}

static void write_charts(qe_page *page, const qe_report *report) {
  for (int i = 0; i < ROWS; i++)
    if (rows[i].title) write_chart(page, report, &rows[i]);
}

/* The steps with gradients one after the other as one run, then those that search. */
static void write_joined(qe_page *page, const qe_report *report) {
  qe_report_pipeline_course(page, report);
  for (int searches = 0; searches < 2; searches++) {
    qe_report_run all = {.name = report->pipeline->name}, *run = &all;
    qe_status status = qe_report_pipeline_join(report, searches, &all.history);
    if (status == QE_OK && all.history.lines > 0) write_charts(page, &(qe_report){.run = &run, .runs = 1});
    if (status != QE_OK && page->status == QE_OK) page->status = status;
    qe_history_free(&all.history);
  }
}

void qe_section_course(qe_page *page, const qe_report *report, const qe_report_run *run) {
  (void)run;
  size_t start = page->length, empty;
  if (report->runs == 0) return;
  if (report->pipeline) {
    qe_page_add(page,
                "<p class=\"note\">Steps one after the other; a dotted line is the end of a step or of a phase in "
                "it. Epochs are those of steps with gradients, candidate-images those of searches.</p>\n");
  } else {
    write_key(page, report);
    write_note(page, report);
  }
  qe_page_add(page, "<div class=\"charts\">\n");
  empty = page->length;
  if (report->pipeline)
    write_joined(page, report);
  else
    write_charts(page, report);
  if (page->status != QE_OK) return;
  if (page->length > empty) {
    qe_page_add(page, "</div>\n");
  } else { /* no run has any course */
    page->length = start;
    page->text[start] = 0;
  }
}
