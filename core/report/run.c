/* A run as its folder tells it: config, metrics, networks. What cannot be read is noted and left out. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/dispatch/network_file.h"
#include "core/report/report_parts.h"

#include <stdlib.h>
#include <string.h>

enum { METRICS_LIMIT = 1 << 30, CONFIG_LIMIT = 1 << 20 };

void qe_report_run_free(qe_report_run *run) {
  if (!run) return;
  qe_findings_free(&run->found);
  for (size_t i = 0; i < run->layers; i++) qe_layer_weights_free(&run->layer[i]);
  qe_free(run->layer);
  qe_cost_table_free(&run->cost);
  qe_model_free(run->model);
  qe_network_free(run->network);
  qe_network_free(run->start);
  qe_network_free(run->teacher);
  qe_tensors_free(run->tensors);
  qe_surface_free(run->surface);
  qe_history_free(&run->history);
  qe_config_free(&run->config);
  qe_free(run->config_text);
  qe_free(run->network_file);
  qe_free(run->problem);
  qe_free(run->why);
  qe_free(run->path);
  qe_free(run->name);
  qe_free(run);
}

const char *qe_report_meta(const qe_report_run *run, const char *key) {
  return run->tensors ? qe_tensors_get_meta(run->tensors, key) : NULL;
}

const char *qe_report_method(const qe_report_run *run) {
  const char *stated = qe_config_get(&run->config, "method"), *phase = run->history.phase;
  if (stated) return stated;
  if (run->history.searches) return phase;
  if (!phase) phase = qe_report_meta(run, "phase");
  return !phase || strcmp(phase, "float") == 0 ? run->folder ? "qat" : "" : phase;
}

static int stages_of(const char *list) {
  int count = list && *list ? 1 : 0;
  for (; list && *list; list++) count += *list == ',';
  return count;
}

static bool only_float(const qe_report_run *run) {
  const char *weights = qe_config_get(&run->config, "weight-bits"), *codes = qe_config_get(&run->config, "act-bits"),
             *layers = qe_config_get(&run->config, "layer-bits");
  return weights && codes && strcmp(weights, "32") == 0 && strcmp(codes, "32") == 0 && (!layers || !*layers);
}

/* As the folder says, or by its metrics: a search ends when each of its stages has; other methods with the last epoch
 * of a phase that no other follows. */
bool qe_report_run_finished(const qe_report_run *run) {
  const qe_history *h = &run->history;
  if (!run->folder) return true;
  if (run->stand.state != QE_RUN_UNKNOWN) return run->stand.state == QE_RUN_FINISHED;
  if (h->searches) return h->edges > (size_t)stages_of(qe_config_get(&run->config, "stages"));
  if (h->epoch == 0 || h->epoch < h->epochs) return false;
  return strcmp(h->phase, "float") != 0 || only_float(run);
}

const char *qe_report_run_stand(const qe_report_run *run) {
  if (run->folder && run->stand.state != QE_RUN_UNKNOWN) return qe_run_state_name(run->stand.state);
  return qe_report_run_finished(run) ? "finished" : "not finished";
}

/* ---- reading ---- */

/* The failure at hand becomes a remark; running out of memory stays a failure. */
static qe_status note_problem(qe_report_run *run, qe_status status) {
  if (status == QE_OK || status == QE_NO_MEMORY) return status;
  if (!run->problem && !(run->problem = qe_strdup(qe_message()))) return QE_NO_MEMORY;
  qe_message_clear();
  return QE_OK;
}

/* The text of one of the folder's files; NULL where there is none. */
static qe_status read_text(qe_report_run *run, const char *file, size_t limit, char **text, size_t *bytes) {
  char *path = qe_path_join(run->path, file);
  *text = NULL;
  if (!path) return QE_NO_MEMORY;
  qe_status status = qe_file_read(path, limit, text, bytes);
  qe_free(path);
  if (status != QE_NOT_FOUND) return note_problem(run, status);
  qe_message_clear();
  return QE_OK;
}

static qe_status read_config(qe_report_run *run) {
  size_t bytes = 0;
  QE_TRY(read_text(run, "config.yaml", CONFIG_LIMIT, &run->config_text, &bytes));
  return run->config_text ? note_problem(run, qe_config_read(&run->config, "config.yaml", run->config_text, bytes))
                          : QE_OK;
}

static qe_status read_metrics(qe_report_run *run, bool *there) {
  size_t bytes = 0;
  char *text;
  QE_TRY(read_text(run, "metrics.jsonl", METRICS_LIMIT, &text, &bytes));
  qe_status status = text ? qe_history_read(&run->history, text, bytes) : QE_OK;
  *there = text != NULL;
  qe_free(text);
  return status;
}

/* A model or an integer network, whichever the file holds. `tensors` may be NULL. */
static qe_status read_network(const char *path, qe_model **model, qe_network **network, qe_tensors **tensors) {
  qe_tensors *read;
  QE_TRY(qe_tensors_read(path, &read));
  qe_status status = QE_OK;
  if (qe_network_is_file(read))
    status = qe_network_take(read, path, network);
  else if (model)
    status = qe_model_read(path, model, NULL);
  if (status == QE_OK && tensors)
    *tensors = read;
  else
    qe_tensors_free(read);
  return status;
}

/* One of the folder's networks, if it has it. */
static qe_status read_one(qe_report_run *run, const char *file, qe_model **model, qe_network **network,
                          qe_tensors **tensors, bool *there) {
  char *path = qe_path_join(run->path, file);
  if (!path) return QE_NO_MEMORY;
  *there = qe_file_exists(path);
  qe_status status = *there ? note_problem(run, read_network(path, model, network, tensors)) : QE_OK;
  qe_free(path);
  return status;
}

/* What `report surface` has left in the folder. */
static qe_status read_surface(qe_report_run *run) {
  char *path = qe_path_join(run->path, QE_SURFACE_FOLDER "/" QE_SURFACE_FILE);
  if (!path) return QE_NO_MEMORY;
  qe_status status = qe_file_exists(path) ? note_problem(run, qe_surface_read(path, &run->surface)) : QE_OK;
  qe_free(path);
  return status;
}

static qe_status read_folder(qe_report_run *run) {
  static const char *const files[] = {"best.safetensors", "last.safetensors"};
  bool metrics = false, network = false, any = false;
  QE_TRY(read_config(run));
  QE_TRY(read_metrics(run, &metrics));
  QE_TRY(read_surface(run));
  for (int i = 0; i < 2 && !run->model && !run->network; i++) {
    QE_TRY(read_one(run, files[i], &run->model, &run->network, &run->tensors, &network));
    any |= network;
    if (!(run->model || run->network)) continue;
    if (!(run->network_file = qe_strdup(files[i]))) return QE_NO_MEMORY;
  }
  if (!metrics && !any && !run->config_text && !run->problem)
    return qe_fail(QE_FORMAT,
                   "%s is no run: it has neither config.yaml nor metrics.jsonl nor a network; give a folder that "
                   "'qevo-gpu train --out' wrote",
                   run->path);
  if (!run->network) return QE_OK;
  QE_TRY(read_one(run, "start.safetensors", NULL, &run->start, NULL, &network));
  return read_one(run, "teacher.safetensors", NULL, &run->teacher, NULL, &network);
}

static qe_status read_file(qe_report_run *run) {
  QE_TRY(read_network(run->path, &run->model, &run->network, &run->tensors));
  run->network_file = qe_strdup(qe_path_name(run->path));
  return run->network_file ? QE_OK : QE_NO_MEMORY;
}

static qe_status find_cost(qe_report_run *run) {
  if (run->model) return qe_cost_of_graph(run->model->graph, &run->cost);
  return run->network ? qe_cost_of_network(run->network, &run->cost) : QE_OK;
}

char *qe_report_path_name(const char *path) {
  const char *name = qe_path_name(path);
  if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && *name) return qe_strdup(name);
  char *real = realpath(path, NULL);
  char *copy = qe_strdup(real && *qe_path_name(real) ? qe_path_name(real) : path);
  free(real);
  return copy;
}

char *qe_report_bare_path(const char *path) {
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') length--;
  return qe_format("%.*s", (int)length, path);
}

static qe_status open_run(qe_report_run *run, const char *path) {
  run->path = qe_report_bare_path(path);
  run->name = run->path ? qe_report_path_name(run->path) : NULL;
  if (!run->name) return QE_NO_MEMORY;
  run->folder = qe_folder_exists(run->path);
  if (run->folder) QE_TRY(qe_run_stand_read(run->path, &run->stand));
  if (run->folder) QE_TRY(qe_run_read_scores(run->path, &run->scores));
  if (!run->folder && !qe_file_exists(run->path))
    return qe_fail(QE_NOT_FOUND, "%s: there is no such run, model or integer network", path);
  QE_TRY(run->folder ? read_folder(run) : read_file(run));
  QE_TRY(find_cost(run));
  return qe_report_count_weights(run);
}

qe_status qe_report_run_open(const char *path, qe_report_run **out) {
  qe_report_run *run = QE_NEW(qe_report_run);
  if (!run) return QE_NO_MEMORY;
  qe_status status = open_run(run, path);
  if (status == QE_OK)
    *out = run;
  else
    qe_report_run_free(run);
  return status;
}
