/* Pipelines in a report: their steps are its runs; the head of the page, and accuracy through all of them. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/page/plot.h"
#include "core/report/report_parts.h"

#include <math.h>
#include <string.h>

void qe_report_pipeline_free(qe_report_pipeline *pipeline) {
  if (!pipeline) return;
  qe_pipeline_free(&pipeline->list);
  qe_free(pipeline->run);
  qe_free(pipeline->path);
  qe_free(pipeline->name);
  qe_free(pipeline);
}

/* ---- reading ---- */

/* Whether there is anything of the step to report on. */
static qe_status has_begun(const char *folder, bool *begun) {
  static const char *const files[] = {"config.yaml", "metrics.jsonl"};
  *begun = false;
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    char *path = qe_path_join(folder, files[i]);
    if (!path) return QE_NO_MEMORY;
    *begun |= qe_file_exists(path);
    qe_free(path);
  }
  return QE_OK;
}

static qe_status open_step(qe_report_pipeline *pipeline, size_t step, qe_report *report) {
  char *folder = qe_path_join(pipeline->path, pipeline->list.step[step].folder);
  bool begun = false;
  qe_status status = folder ? has_begun(folder, &begun) : QE_NO_MEMORY;
  pipeline->run[step] = -1;
  if (status == QE_OK && begun) {
    status = qe_report_add_run(report, folder);
    if (status == QE_OK) pipeline->run[step] = (int)report->runs - 1;
  }
  qe_free(folder);
  return status;
}

qe_status qe_report_pipeline_open(const char *path, qe_report *report, qe_report_pipeline **out) {
  qe_report_pipeline *pipeline = QE_NEW(qe_report_pipeline);
  if (!pipeline) return QE_NO_MEMORY;
  pipeline->path = qe_report_bare_path(path);
  pipeline->name = pipeline->path ? qe_report_path_name(pipeline->path) : NULL;
  qe_status status = pipeline->name ? qe_pipeline_read(path, &pipeline->list) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_run_stand_read(path, &pipeline->stand);
  if (status == QE_OK && !(pipeline->run = QE_NEW_ARRAY(int, pipeline->list.steps))) status = QE_NO_MEMORY;
  for (size_t i = 0; status == QE_OK && i < pipeline->list.steps; i++) status = open_step(pipeline, i, report);
  if (status == QE_OK)
    *out = pipeline;
  else
    qe_report_pipeline_free(pipeline);
  return status;
}

/* ---- the head of the page ---- */

static const qe_report_run *run_of(const qe_report *report, size_t step) {
  int run = report->pipeline->run[step];
  return run >= 0 ? report->run[run] : NULL;
}

/* What an evaluation found, else what the run itself did. A search's network is an integer one. */
static void take_scores(const qe_report_run *run, qe_score *trained, qe_score *integer) {
  const qe_findings *found = &run->found;
  bool searches = run->network != NULL;
  *trained = found->real.images > 0 ? found->real : searches ? (qe_score){0} : run->scores.final;
  *integer = found->integer.images > 0 ? found->integer : searches ? run->scores.final : run->scores.integer;
  if (searches) *trained = (qe_score){0};
}

static void write_percent_cell(qe_page *page, const qe_score *score) {
  if (score->images > 0)
    qe_page_add(page, "<td>%.2f %%</td>", score->top1);
  else
    qe_page_add(page, "<td></td>");
}

static void write_lengths(qe_page *page, const qe_report_run *run) {
  const qe_history *h = &run->history;
  char text[QE_NUMBER_TEXT];
  qe_page_add(page, "<td>%s</td>", run->cost.sum.bytes > 0 ? qe_bytes_text((double)run->cost.sum.bytes, text) : "");
  if (h->end > 0)
    qe_page_add(page, "<td>%s %s</td>", qe_count_text(h->end, text),
                h->searches  ? "images"
                : h->end > 1 ? "epochs"
                             : "epoch");
  else
    qe_page_add(page, "<td></td>");
  qe_page_add(page, "<td>%s</td>", h->seconds > 0 ? qe_seconds_text(h->seconds, text) : "");
}

static void write_step(qe_page *page, const qe_report *report, size_t at) {
  const qe_pipeline_step *step = &report->pipeline->list.step[at];
  const qe_report_run *run = run_of(report, at);
  qe_score trained, integer;
  qe_page_add(page, "<tr><th scope=\"row\">%zu ", at + 1);
  qe_page_words(page, "", step->name, "</th>");
  qe_page_words(page, "<td class=\"text\">", step->method, "</td>");
  if (!run) {
    qe_page_add(page, "<td></td><td></td><td></td><td></td><td></td><td></td><td class=\"text\">not begun</td></tr>\n");
    return;
  }
  take_scores(run, &trained, &integer);
  write_percent_cell(page, &trained);
  write_percent_cell(page, &integer);
  const qe_score *score = integer.images > 0 ? &integer : &trained;
  if (score->images > 0)
    qe_page_add(page, "<td>%.4f</td>", score->loss);
  else
    qe_page_add(page, "<td></td>");
  write_lengths(page, run);
  qe_page_add(page, "<td class=\"text\">%s</td></tr>\n", qe_report_run_finished(run) ? "" : qe_report_run_stand(run));
}

static void write_steps(qe_page *page, const qe_report *report) {
  qe_page_add(page, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Steps\"><table><thead><tr>"
                    "<th>step</th><th class=\"text\">method</th><th>top-1</th><th>integer network</th><th>loss</th>"
                    "<th>size</th><th>length</th><th>time</th><th></th></tr></thead><tbody>\n");
  for (size_t i = 0; i < report->pipeline->list.steps; i++) write_step(page, report, i);
  qe_page_add(
      page, "</tbody></table></div>\n<p class=\"note\">Test images. Top-1 as trained, with fake quantisers in floating "
            "point; integer network: the same weights in integers, or what a search made. The loss is the integer "
            "network's, where there is one. Each step starts from a step's model before it.</p>\n");
}

static void write_state(qe_page *page, const qe_report_pipeline *pipeline) {
  qe_run_state state = pipeline->stand.state;
  if (state == QE_RUN_FINISHED || state == QE_RUN_UNKNOWN) return;
  qe_page_add(page, "<p><span class=\"live%s\">%s</span></p>\n", state == QE_RUN_RUNNING ? "" : " stopped",
              qe_run_state_name(state));
  if (state == QE_RUN_FAILED) qe_page_words(page, "<p class=\"note bad\">", pipeline->stand.message, "</p>\n");
}

/* The network of the last step that has one. */
static const qe_report_run *last_network(const qe_report *report) {
  for (size_t i = report->runs; i-- > 0;)
    if (report->run[i]->model || report->run[i]->network) return report->run[i];
  return NULL;
}

void qe_report_pipeline_summary(qe_page *page, const qe_report *report) {
  const qe_report_pipeline *pipeline = report->pipeline;
  const qe_report_run *last = last_network(report);
  qe_page_words(page, "<h1>", pipeline->name, "</h1>\n");
  write_state(page, pipeline);
  qe_page_add(page, "<p class=\"lead\">A pipeline of <b>%zu step%s</b>: ", pipeline->list.steps,
              pipeline->list.steps == 1 ? "" : "s");
  for (size_t i = 0; i < pipeline->list.steps; i++)
    qe_page_words(page, i ? ", then " : "", pipeline->list.step[i].name, "");
  qe_page_add(page, ".</p>\n");
  if (last) qe_report_tiles(page, last);
  write_steps(page, report);
  for (size_t i = 0; i < report->runs; i++) qe_report_remarks(page, report->run[i], true);
}

/* ---- accuracy through all steps ---- */

typedef struct course {
  double *x, *y;
  size_t count, x_capacity, y_capacity;
  double base; /* minutes of the steps before */
} course;

static qe_status add_point(course *c, double x, double y) {
  QE_TRY(qe_reserve(&c->x, &c->x_capacity, c->count + 1, sizeof *c->x));
  QE_TRY(qe_reserve(&c->y, &c->y_capacity, c->count + 1, sizeof *c->y));
  c->x[c->count] = x;
  c->y[c->count++] = y;
  return QE_OK;
}

/* Test accuracy: of epochs by the metrics; of a search before and after it, since only then it looks at test images. */
static qe_status add_step(course *c, const qe_report_run *run) {
  const qe_series *series = qe_history_find(&run->history, "test_top1");
  double length = run->history.seconds / 60;
  for (size_t i = 0; series && !run->history.searches && i < series->count; i++)
    QE_TRY(add_point(c, c->base + series->seconds[i] / 60, series->y[i]));
  if (run->history.searches && run->scores.start.images > 0) QE_TRY(add_point(c, c->base, run->scores.start.top1));
  if (run->history.searches && run->scores.final.images > 0)
    QE_TRY(add_point(c, c->base + length, run->scores.final.top1));
  c->base += length;
  return QE_OK;
}

void qe_report_pipeline_course(qe_page *page, const qe_report *report) {
  course c = {0};
  size_t steps = report->pipeline->list.steps, edges = 0;
  qe_plot_edge *edge = QE_NEW_ARRAY(qe_plot_edge, steps);
  qe_status status = edge ? QE_OK : QE_NO_MEMORY;
  for (size_t i = 0; status == QE_OK && i < steps; i++) {
    const qe_report_run *run = run_of(report, i);
    if (!run) continue;
    status = add_step(&c, run);
    edge[edges++] = (qe_plot_edge){c.base, report->pipeline->list.step[i].name};
  }
  qe_plot_line line = {.name = "test", .points = true, .x = c.x, .y = c.y, .count = c.count};
  if (status == QE_OK && c.count > 1)
    qe_page_line_chart(page, &(qe_line_chart){.title = "Accuracy through all steps",
                                              .y_unit = "top-1 on test images, per cent",
                                              .x_title = "minutes of training",
                                              .line = &line,
                                              .lines = 1,
                                              .edge = edge,
                                              .edges = edges});
  else if (page->status == QE_OK)
    page->status = status;
  qe_free(edge);
  qe_free(c.x);
  qe_free(c.y);
}

qe_status qe_report_pipeline_join(const qe_report *report, bool searches, qe_history *joined) {
  qe_status status = QE_OK;
  memset(joined, 0, sizeof *joined);
  joined->searches = searches;
  for (size_t i = 0; status == QE_OK && i < report->pipeline->list.steps; i++) {
    const qe_report_run *run = run_of(report, i);
    if (run && run->history.lines > 0 && run->history.searches == searches)
      status = qe_history_append(joined, &run->history, report->pipeline->list.step[i].name);
  }
  if (status != QE_OK) qe_history_free(joined);
  return status;
}
