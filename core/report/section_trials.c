/* Section of searches over settings: what each trial had and came to, from trials.jsonl. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json_read.h"
#include "core/page/plot.h"
#include "core/report/report_parts.h"
#include "core/train/search_folder.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DESCRIPTION_LIMIT = 1 << 20 };

void qe_report_search_free(qe_report_search *search) {
  if (!search) return;
  qe_trial_list_free(&search->trials);
  qe_free(search->path);
  qe_free(search->name);
  qe_free(search->objective);
  qe_free(search);
}

/* ---- reading ---- */

static qe_status read_objective(const char *path, char **objective) {
  cJSON *root;
  const cJSON *item;
  QE_TRY(qe_json_find(path, "search.json", DESCRIPTION_LIMIT, &root));
  *objective = qe_strdup("");
  cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(root, "objectives")) {
    const char *name = cJSON_GetStringValue(item);
    char *longer = *objective && name ? qe_format("%s%s%s", *objective, **objective ? "," : "", name) : NULL;
    if (!longer) continue;
    qe_free(*objective);
    *objective = longer;
  }
  cJSON_Delete(root);
  return *objective ? QE_OK : QE_NO_MEMORY;
}

static qe_status read_search(const char *path, qe_report_search *search) {
  char *journal = qe_path_join(path, QE_TRIALS_FILE);
  search->path = qe_report_bare_path(path);
  search->name = search->path ? qe_report_path_name(search->path) : NULL;
  qe_status status = journal && search->name ? qe_trial_list_read(journal, &search->trials) : QE_NO_MEMORY;
  qe_free(journal);
  if (status == QE_OK) status = qe_run_stand_read(path, &search->stand);
  if (status == QE_OK) status = read_objective(path, &search->objective);
  if (status != QE_OK || qe_trial_list_best(&search->trials) >= 0) return status;
  return qe_fail(QE_NOT_FOUND, "%s: a search of which no trial has come to a result yet", path);
}

qe_status qe_report_search_open(const char *path, qe_report_search **out) {
  qe_report_search *search = QE_NEW(qe_report_search);
  if (!search) return QE_NO_MEMORY;
  qe_status status = read_search(path, search);
  if (status == QE_OK)
    *out = search;
  else
    qe_report_search_free(search);
  return status;
}

/* ---- charts ---- */

/* Number `index` of the objectives, as people call it; what is minimised of right answers are the wrong ones. */
static const char *objective_name(const qe_report_search *search, int index, char text[QE_NUMBER_TEXT]) {
  const char *at = search->objective;
  for (; index > 0 && strchr(at, ','); index--) at = strchr(at, ',') + 1;
  snprintf(text, QE_NUMBER_TEXT, "%.*s", (int)strcspn(at, ","), at);
  if (strcmp(text, "loss") == 0) return "held-out loss";
  return strcmp(text, "top1") == 0 ? "wrong held-out answers, %" : text;
}

/* Values of the trials by their numbers, and the least up to each. */
static void write_course(qe_page *page, const qe_report_search *search, double *room) {
  size_t count = search->trials.count;
  double *x = room, *y = room + count, *least = room + 2 * count, best = HUGE_VAL;
  for (size_t i = 0; i < count; i++) {
    x[i] = (double)i + 1;
    y[i] = search->trials.trial[i].value[0];
    if (y[i] < best) best = y[i];
    least[i] = best;
  }
  const qe_plot_line line[] = {
      {.name = "trial", .colour = 0, .stroke = QE_STROKE_THIN, .points = true, .x = x, .y = y, .count = count},
      {.name = "best so far",
       .label = "best",
       .colour = 1,
       .stroke = QE_STROKE_DASHED,
       .x = x,
       .y = least,
       .count = count}};
  char title[QE_NUMBER_TEXT];
  qe_page_line_chart(
      page, &(qe_line_chart){
                .title = objective_name(search, 0, title), .y_unit = "", .x_title = "trial", .line = line, .lines = 2});
}

/* Trials that none is better than in all objectives, by the first two. */
static void write_front(qe_page *page, const qe_report_search *search, double *room) {
  size_t count = search->trials.count, kept = 0;
  double *x = room, *y = room + count;
  if (search->trials.objectives < 2) return;
  for (int32_t i = 0; i < (int32_t)count; i++) {
    const double *value = search->trials.trial[i].value;
    if (!qe_trial_list_on_front(&search->trials, i)) continue;
    size_t at = kept++;
    for (; at > 0 && x[at - 1] > value[1]; at--) {
      x[at] = x[at - 1];
      y[at] = y[at - 1];
    }
    x[at] = value[1];
    y[at] = value[0];
  }
  const qe_plot_line line = {.name = "front", .colour = 0, .points = true, .x = x, .y = y, .count = kept};
  char names[2][QE_NUMBER_TEXT];
  qe_page_line_chart(page, &(qe_line_chart){.title = objective_name(search, 0, names[0]),
                                            .y_unit = "on the front",
                                            .x_title = objective_name(search, 1, names[1]),
                                            .line = &line,
                                            .lines = 1});
}

/* ---- the table ---- */

static void write_fact(qe_page *page, const qe_trial *trial, const char *name, const char *format) {
  double value = qe_trial_fact_of(trial, name);
  char text[QE_NUMBER_TEXT];
  if (!isfinite(value))
    qe_page_add(page, "<td></td>");
  else if (strcmp(format, "bytes") == 0)
    qe_page_add(page, "<td>%s</td>", qe_bytes_text(value, text));
  else if (strcmp(format, "seconds") == 0)
    qe_page_add(page, "<td>%s</td>", qe_seconds_text(value, text));
  else
    qe_page_add(page, "<td>%.*f</td>", strcmp(format, "loss") == 0 ? 4 : 2, value);
}

static void write_row(qe_page *page, const qe_trial_list *list, int32_t at) {
  const qe_trial *trial = &list->trial[at];
  bool best = at == qe_trial_list_best(list), front = list->objectives > 1 && qe_trial_list_on_front(list, at);
  qe_page_add(page, "<tr><th scope=\"row\">%d%s</th>", trial->number, best ? " best" : front ? " front" : "");
  for (int32_t i = 0; i < list->n; i++) qe_page_words(page, "<td>", trial->text[i], "</td>");
  write_fact(page, trial, "loss", "loss");
  write_fact(page, trial, "top1", "per cent");
  write_fact(page, trial, "bytes", "bytes");
  write_fact(page, trial, "seconds", "seconds");
  qe_page_words(page, "<td class=\"text\">", trial->failure ? trial->failure : "", "</td></tr>\n");
}

static void write_table(qe_page *page, const qe_trial_list *list) {
  qe_page_add(page, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Trials\"><table><thead><tr>"
                    "<th>trial</th>");
  for (int32_t i = 0; i < list->n; i++) qe_page_words(page, "<th>", list->name[i], "</th>");
  qe_page_add(page, "<th>loss</th><th>top-1, %%</th><th>size</th><th>time</th><th></th></tr></thead><tbody>\n");
  for (int32_t i = 0; i < (int32_t)list->count; i++) write_row(page, list, i);
  qe_page_add(page, "</tbody></table></div>\n");
}

void qe_section_trials(qe_page *page, const qe_report *report, const qe_report_run *run) {
  const qe_report_search *search = report->search;
  (void)run;
  if (!search) return;
  double *room = QE_NEW_ARRAY(double, 3 * search->trials.count);
  if (!room) {
    page->status = QE_NO_MEMORY;
    return;
  }
  qe_page_add(page,
              "<p>Each trial is a run; losses and right answers here are of held-out training images. The best one "
              "by ");
  qe_page_words(page, "", search->objective, "");
  qe_page_add(page, " is trial %d: all else on this page is of its run. The search: %s.</p>\n<div class=\"charts\">\n",
              qe_trial_list_best(&search->trials) + 1, qe_run_state_name(search->stand.state));
  write_course(page, search, room);
  write_front(page, search, room);
  qe_page_add(page, "</div>\n");
  write_table(page, &search->trials);
  qe_free(room);
}
