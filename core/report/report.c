/* Reports: runs in, the page out. */
#include "core/report/report.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/report/report_parts.h"
#include "core/train/search_folder.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct section {
  const char *id, *title;
  bool all; /* once, about all runs */
  qe_section_function write;
} sections[] = {
#define QE_SECTION_ALL(id, title, function) {#id, title, true, function},
#define QE_SECTION_RUN(id, title, function) {#id, title, false, function},
#include "core/report/sections.def"
#undef QE_SECTION_ALL
#undef QE_SECTION_RUN
};
enum { SECTIONS = sizeof sections / sizeof *sections };

/* ---- runs ---- */

qe_status qe_report_new(qe_report **report) {
  *report = QE_NEW(qe_report);
  return *report ? QE_OK : QE_NO_MEMORY;
}

void qe_report_free(qe_report *report) {
  if (!report) return;
  for (size_t i = 0; i < report->runs; i++) qe_report_run_free(report->run[i]);
  qe_report_pipeline_free(report->pipeline);
  qe_report_search_free(report->search);
  qe_free(report->run);
  qe_free(report);
}

/* Runs of the same name are told apart by their paths. */
static qe_status name_apart(const qe_report *report) {
  for (size_t i = 0; i < report->runs; i++)
    for (size_t k = 0; k < report->runs; k++) {
      qe_report_run *run = report->run[i];
      if (i == k || strcmp(run->name, report->run[k]->name) != 0 || strcmp(run->path, run->name) == 0) continue;
      char *name = qe_strdup(run->path);
      if (!name) return QE_NO_MEMORY;
      qe_free(run->name);
      run->name = name;
    }
  return QE_OK;
}

/* Beside other runs a pipeline's steps are runs like them, named after both. */
static qe_status take_apart(qe_report *report, qe_report_pipeline *pipeline) {
  qe_status status = QE_OK;
  for (size_t i = 0; status == QE_OK && i < pipeline->list.steps; i++) {
    if (pipeline->run[i] < 0) continue;
    qe_report_run *run = report->run[pipeline->run[i]];
    char *name = qe_format("%s/%s", pipeline->name, pipeline->list.step[i].folder);
    if (!name) status = QE_NO_MEMORY;
    if (!name) continue;
    qe_free(run->name);
    run->name = name;
  }
  qe_report_pipeline_free(pipeline);
  return status == QE_OK ? name_apart(report) : status;
}

static qe_status add_pipeline(qe_report *report, const char *path) {
  qe_report_pipeline *pipeline;
  bool alone = report->runs == 0;
  QE_TRY(qe_report_pipeline_open(path, report, &pipeline));
  if (!alone) return take_apart(report, pipeline);
  report->pipeline = pipeline;
  return QE_OK;
}

static qe_status add(qe_report *report, const char *path) {
  return qe_pipeline_is(path) ? add_pipeline(report, path) : qe_report_add_run(report, path);
}

/* The best trial is named after its search, too; the runs of its steps are not. */
static qe_status name_trial(qe_report *report, const qe_report_search *search, const char *trial, size_t first) {
  char **name = report->pipeline ? &report->pipeline->name : &report->run[first]->name;
  if (!report->pipeline && qe_pipeline_is(trial)) return QE_OK;
  char *longer = qe_format("%s/%s", search->name, qe_path_name(trial));
  if (!longer) return QE_NO_MEMORY;
  qe_free(*name);
  *name = longer;
  return name_apart(report);
}

/* Beside other runs a search is its best trial. */
static qe_status add_search(qe_report *report, const char *path) {
  qe_report_search *search;
  bool alone = report->runs == 0;
  size_t first = report->runs;
  QE_TRY(qe_report_search_open(path, &search));
  char *trial = qe_trial_folder(search->path, qe_trial_list_best(&search->trials) + 1);
  qe_status status = trial ? add(report, trial) : QE_NO_MEMORY;
  if (status == QE_OK) status = name_trial(report, search, trial, first);
  qe_free(trial);
  if (alone)
    report->search = search;
  else
    qe_report_search_free(search);
  return status;
}

qe_status qe_report_add(qe_report *report, const char *path) {
  qe_report_pipeline *before = report->pipeline;
  report->pipeline = NULL;
  qe_report_search_free(report->search);
  report->search = NULL;
  if (before) QE_TRY(take_apart(report, before));
  return qe_search_is(path) ? add_search(report, path) : add(report, path);
}

qe_status qe_report_add_run(qe_report *report, const char *path) {
  qe_report_run *run;
  QE_TRY(qe_reserve(&report->run, &report->capacity, report->runs + 1, sizeof *report->run));
  QE_TRY(qe_report_run_open(path, &run));
  report->run[report->runs++] = run;
  return name_apart(report);
}

int qe_report_runs(const qe_report *report) {
  return (int)report->runs;
}

const char *qe_report_name(const qe_report *report, int run) {
  return report->run[run]->name;
}

const char *qe_report_config(const qe_report *report, int run, const char *key) {
  return qe_config_get(&report->run[run]->config, key);
}

bool qe_report_finished(const qe_report *report, int run) {
  return qe_report_run_finished(report->run[run]);
}

bool qe_report_ended(const qe_report *report, int run) {
  return qe_report_run_finished(report->run[run]) || qe_run_state_ended(report->run[run]->stand.state);
}

bool qe_report_all_ended(const qe_report *report) {
  if (report->search) return qe_run_state_ended(report->search->stand.state);
  if (report->pipeline) return qe_run_state_ended(report->pipeline->stand.state);
  for (int i = 0; i < (int)report->runs; i++)
    if (!qe_report_ended(report, i)) return false;
  return true;
}

const char *qe_report_stand(const qe_report *report, int run) {
  return qe_report_run_stand(report->run[run]);
}

bool qe_report_has_network(const qe_report *report, int run) {
  return report->run[run]->model || report->run[run]->network;
}

int32_t qe_report_image_side(const qe_report *report, int run) {
  const qe_report_run *r = report->run[run];
  if (r->model) return r->model->spec.height;
  return r->network ? r->network->layer[0].output.dim[QE_H] : 0;
}

qe_status qe_report_evaluate(qe_report *report, int run, qe_device *device, const qe_dataset *data, int32_t batch) {
  qe_status status = qe_findings_make(report->run[run], device, data, batch);
  if (status == QE_OK || status == QE_NO_MEMORY) return status;
  char text[512];
  snprintf(text, sizeof text, "%s", qe_message());
  QE_TRY(qe_report_say_not_evaluated(report, run, text));
  return qe_fail(status, "%s", text);
}

qe_status qe_report_say_not_evaluated(qe_report *report, int run, const char *why) {
  char *text = qe_strdup(why);
  if (!text) return QE_NO_MEMORY;
  qe_free(report->run[run]->why);
  report->run[run]->why = text;
  return QE_OK;
}

/* ---- the page ---- */

/* The run that is unfolded where there are several: the first; of a pipeline the last, which has its result. */
static size_t shown(const qe_report *report) {
  return report->pipeline && report->runs > 0 ? report->runs - 1 : 0;
}

static void write_run(qe_page *page, const qe_report *report, size_t at) {
  bool several = report->runs > 1;
  if (several) {
    qe_page_add(page, "<details class=\"run\"%s><summary>", at == shown(report) ? " open" : "");
    qe_page_words(page, "", report->run[at]->name, "</summary>\n");
  }
  for (int i = 0; i < SECTIONS; i++) {
    char id[64];
    if (sections[i].all) continue;
    snprintf(id, sizeof id, several ? "%s-%zu" : "%s", sections[i].id, at + 1);
    qe_page_mark mark = qe_page_begin_section(page, several ? 3 : 2, id, sections[i].title);
    sections[i].write(page, report, report->run[at]);
    qe_page_end_section(page, mark);
  }
  if (several) qe_page_add(page, "</details>\n");
}

static void write_body(qe_page *page, const qe_report *report) {
  for (int i = 0; i < SECTIONS; i++) {
    if (!sections[i].all) continue;
    qe_page_mark mark = qe_page_begin_section(page, 2, sections[i].id, sections[i].title);
    sections[i].write(page, report, NULL);
    qe_page_end_section(page, mark);
  }
  for (size_t i = 0; i < report->runs; i++) write_run(page, report, i);
}

/* Links to the sections that are there. */
static void write_contents(qe_page *page, const qe_report *report, const char *body) {
  char id[64], number[24] = "";
  if (report->runs > 1) snprintf(number, sizeof number, "-%zu", shown(report) + 1);
  qe_page_add(page, "<nav aria-label=\"Sections\">");
  for (int i = 0; i < SECTIONS; i++) {
    snprintf(id, sizeof id, " id=\"%s%s\"", sections[i].id, sections[i].all ? "" : number);
    const char *at = body ? strstr(body, id) : NULL;
    if (!at) continue;
    qe_page_add(page, "<a href=\"#%.*s\">%s</a>", (int)strlen(id) - 6, id + 5, sections[i].title);
  }
  qe_page_add(page, "</nav>\n");
}

static void write_title(char *title, size_t room, const qe_report *report) {
  if (report->search)
    snprintf(title, room, "%s", report->search->name);
  else if (report->pipeline || report->runs == 1)
    snprintf(title, room, "%s", report->pipeline ? report->pipeline->name : report->run[0]->name);
  else
    snprintf(title, room, "%zu runs: %s, \xE2\x80\xA6", report->runs, report->runs ? report->run[0]->name : "");
}

qe_status qe_report_write(const qe_report *report, const char *path, int reload) {
  qe_page page = {0}, body = {0};
  char title[256];
  write_title(title, sizeof title, report);
  qe_page_open(&page, title, reload);
  qe_report_summary(&page, report, reload > 0);
  write_body(&body, report);
  write_contents(&page, report, body.text);
  if (body.status == QE_OK && body.text) qe_page_add(&page, "%s", body.text);
  if (page.status == QE_OK) page.status = body.status;
  qe_page_add(&page, "<p class=\"note\">Made by <code>qevo-gpu report</code>. Everything on this page is in this file; "
                     "charts can be pointed at, and have their numbers beneath.</p>\n");
  qe_page_drop(&body);
  return qe_page_write(&page, path);
}

qe_status qe_report_folder(const char *folder) {
  qe_report *report;
  char *path = qe_path_join(folder, "report.html");
  QE_TRY(path ? qe_report_new(&report) : QE_NO_MEMORY);
  qe_status status = qe_report_add(report, folder);
  if (status == QE_OK) status = qe_report_write(report, path, 0);
  qe_report_free(report);
  qe_free(path);
  return status;
}

/* ---- JSON ---- */

static void score_json(qe_json *json, const char *name, const qe_score *score) {
  if (score->images == 0) return;
  qe_json_open_object(json, name);
  qe_json_real(json, "top1", score->top1);
  qe_json_real(json, "loss", score->loss);
  qe_json_int(json, "images", score->images);
  qe_json_close(json);
}

static void run_json(qe_json *json, const qe_report_run *run) {
  const qe_findings *found = &run->found;
  qe_json_open_object(json, NULL);
  qe_json_text(json, "name", run->name);
  qe_json_text(json, "path", run->path);
  qe_json_text(json, "method", qe_report_method(run));
  qe_json_bool(json, "finished", qe_report_run_finished(run));
  if (run->folder) qe_json_text(json, "state", qe_run_state_name(run->stand.state));
  qe_json_text(json, "model", run->model ? run->model->spec.name : qe_config_get(&run->config, "model"));
  qe_json_int(json, "metrics_lines", run->history.lines);
  qe_json_int(json, "damaged_lines", run->history.broken);
  if (run->history.searches)
    qe_json_real(json, "candidate_images", run->history.end);
  else
    qe_json_real(json, "epochs", run->history.end);
  qe_json_real(json, "seconds", run->history.seconds);
  if (run->model || run->network) {
    qe_json_text(json, "network", run->network_file);
    qe_cost_table_json(&run->cost, json);
  }
  if (found->data) {
    qe_json_text(json, "data", found->source);
    qe_json_text(json, "backend", found->backend);
  }
  score_json(json, "integer", &found->integer);
  score_json(json, "float_twin", &found->real);
  score_json(json, "start", &found->start);
  score_json(json, "teacher", &found->teacher);
  if (found->integer.images > 0 && found->real.images > 0) qe_json_real(json, "agreement", found->agreement);
  if (run->why) qe_json_text(json, "not_evaluated", run->why);
  if (run->problem) qe_json_text(json, "problem", run->problem);
  qe_json_close(json);
}

static void search_json(qe_json *json, const qe_report_search *search) {
  qe_json_open_object(json, "search");
  qe_json_text(json, "name", search->name);
  qe_json_text(json, "path", search->path);
  qe_json_text(json, "state", qe_run_state_name(search->stand.state));
  qe_json_int(json, "trials", (int64_t)search->trials.count);
  qe_json_int(json, "best", qe_trial_list_best(&search->trials) + 1);
  qe_json_close(json);
}

void qe_report_json(const qe_report *report, qe_json *json) {
  if (report->search) search_json(json, report->search);
  if (report->pipeline) {
    qe_json_open_object(json, "pipeline");
    qe_json_text(json, "name", report->pipeline->name);
    qe_json_text(json, "path", report->pipeline->path);
    qe_json_text(json, "state", qe_run_state_name(report->pipeline->stand.state));
    qe_json_int(json, "steps", (int64_t)report->pipeline->list.steps);
    qe_json_close(json);
  }
  qe_json_open_array(json, "runs");
  for (size_t i = 0; i < report->runs; i++) run_json(json, report->run[i]);
  qe_json_close(json);
}
