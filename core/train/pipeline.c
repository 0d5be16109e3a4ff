/* Pipelines: their list of steps, and one step after the other. */
#include "core/train/pipeline.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json_read.h"
#include "core/train/run_parts.h"
#include "core/train/run_state.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

enum { STEPS_LIMIT = 1 << 20, MODEL_LIMIT = INT32_MAX };

/* ---- steps ---- */

static void step_free(qe_pipeline_step *step) {
  qe_free(step->name);
  qe_free(step->method);
  qe_free(step->folder);
}

void qe_pipeline_free(qe_pipeline *pipeline) {
  for (size_t i = 0; i < pipeline->steps; i++) step_free(&pipeline->step[i]);
  qe_free(pipeline->step);
  memset(pipeline, 0, sizeof *pipeline);
}

qe_status qe_pipeline_add(qe_pipeline *pipeline, const char *name, const char *method) {
  QE_TRY(qe_reserve(&pipeline->step, &pipeline->capacity, pipeline->steps + 1, sizeof *pipeline->step));
  qe_pipeline_step step = {qe_strdup(name), qe_strdup(method), qe_format("%zu-%s", pipeline->steps + 1, name)};
  if (step.name && step.method && step.folder) {
    pipeline->step[pipeline->steps++] = step;
    return QE_OK;
  }
  step_free(&step);
  return QE_NO_MEMORY;
}

qe_status qe_pipeline_text(const qe_pipeline *pipeline, char **text) {
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_open_array(&json, "steps");
  for (size_t i = 0; i < pipeline->steps; i++) {
    qe_json_open_object(&json, NULL);
    qe_json_text(&json, "name", pipeline->step[i].name);
    qe_json_text(&json, "method", pipeline->step[i].method);
    qe_json_text(&json, "folder", pipeline->step[i].folder);
    qe_json_close(&json);
  }
  qe_json_close(&json);
  qe_json_close(&json);
  return qe_json_finish(&json, text, NULL);
}

/* ---- reading ---- */

static const char *member(const cJSON *item, const char *key) {
  return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, key));
}

/* A step's folder follows from its number and name: what the file says must agree, and cannot lead elsewhere. */
static qe_status take_steps(const cJSON *root, const char *path, qe_pipeline *pipeline) {
  const cJSON *item, *list = cJSON_GetObjectItemCaseSensitive(root, "steps");
  cJSON_ArrayForEach(item, list) {
    const char *name = member(item, "name"), *method = member(item, "method"), *folder = member(item, "folder");
    if (!name || !method || !folder || strchr(name, '/'))
      return qe_fail(QE_FORMAT, "%s: a step without name, method or folder", path);
    QE_TRY(qe_pipeline_add(pipeline, name, method));
    if (strcmp(pipeline->step[pipeline->steps - 1].folder, folder) != 0)
      return qe_fail(QE_FORMAT, "%s: step %zu has the folder %.60s", path, pipeline->steps, folder);
  }
  return pipeline->steps > 0 ? QE_OK : qe_fail(QE_FORMAT, "%s: no list of steps", path);
}

qe_status qe_pipeline_read(const char *folder, qe_pipeline *pipeline) {
  char *text = NULL, *path = qe_path_join(folder, QE_PIPELINE_FILE);
  size_t bytes = 0;
  memset(pipeline, 0, sizeof *pipeline);
  qe_status status = path ? qe_file_read(path, STEPS_LIMIT, &text, &bytes) : QE_NO_MEMORY;
  if (status == QE_OK) {
    cJSON *root = qe_json_parse(text, bytes);
    status = take_steps(root, path, pipeline);
    cJSON_Delete(root);
  }
  if (status != QE_OK) qe_pipeline_free(pipeline);
  qe_free(text);
  qe_free(path);
  return status;
}

/* ---- the folder ---- */

/* A step that has begun stays what it is: others may change when the pipeline is resumed. */
static qe_status check_step(const char *folder, const qe_pipeline *was, const qe_pipeline *is, size_t i) {
  const qe_pipeline_step *old = &was->step[i], *new = i < is->steps ? &is->step[i] : NULL;
  char *path = qe_path_join(folder, old->folder);
  if (!path) return QE_NO_MEMORY;
  bool begun = qe_folder_exists(path);
  qe_free(path);
  if (!begun || (new &&strcmp(old->name, new->name) == 0 && strcmp(old->method, new->method) == 0)) return QE_OK;
  return qe_fail(QE_USAGE,
                 "%s: step %zu has begun as %s (%s), now it would be %s%s%s%s: a step that has begun keeps name and "
                 "method; choose another --out",
                 folder, i + 1, old->name, old->method, new ? new->name : "missing", new ? " (" : "",
                 new ? new->method : "", new ? ")" : "");
}

qe_status qe_run_check_steps(const qe_run *run) {
  qe_pipeline was, is = {0};
  const char *text = run->options.pipeline, *folder = run->options.folder;
  QE_TRY(qe_pipeline_read(folder, &was));
  cJSON *root = qe_json_parse(text, strlen(text));
  qe_status status = take_steps(root, "the pipeline", &is);
  for (size_t i = 0; status == QE_OK && i < was.steps; i++) status = check_step(folder, &was, &is, i);
  cJSON_Delete(root);
  qe_pipeline_free(&is);
  qe_pipeline_free(&was);
  return status;
}

/* ---- one after the other ---- */

static qe_status train_step(qe_run *run, const qe_pipeline *pipeline, int step, const char *folder,
                            qe_pipeline_train train, void *context) {
  const qe_pipeline_step *of = &pipeline->step[step];
  qe_run_stand stand;
  char *config = qe_path_join(folder, "config.yaml"), *metrics = qe_path_join(folder, "metrics.jsonl");
  qe_status status = config && metrics ? qe_run_stand_read(folder, &stand) : QE_NO_MEMORY;
  if (status == QE_OK && stand.state == QE_RUN_FINISHED) {
    qe_run_note(run, "step %d of %zu, %s: finished before", step + 1, pipeline->steps, of->name);
  } else if (status == QE_OK) {
    qe_run_note(run, "step %d of %zu, %s: %s, into %s", step + 1, pipeline->steps, of->name, of->method, folder);
    status = train(context, step, folder, qe_file_exists(config) || qe_file_exists(metrics));
  }
  qe_free(config);
  qe_free(metrics);
  return status;
}

/* The last step's best model, where a run of one method has its own. */
static qe_status keep_best(const qe_run *run, const char *folder) {
  char *from = qe_path_join(folder, "best.safetensors"), *to, *bytes = NULL;
  size_t size = 0;
  qe_status status = from ? qe_run_path(run, "best.safetensors", &to) : QE_NO_MEMORY;
  if (status == QE_OK) {
    status = qe_file_read(from, MODEL_LIMIT, &bytes, &size);
    if (status == QE_OK) status = qe_file_write(to, bytes, size);
    qe_free(to);
  }
  qe_free(bytes);
  qe_free(from);
  return status;
}

qe_status qe_pipeline_run(qe_run *run, const qe_pipeline *pipeline, qe_pipeline_train train, void *context) {
  qe_status status = QE_OK;
  for (size_t i = 0; status == QE_OK && i < pipeline->steps; i++) {
    char *folder = qe_path_join(run->options.folder, pipeline->step[i].folder);
    status = folder ? train_step(run, pipeline, (int)i, folder, train, context) : QE_NO_MEMORY;
    if (status == QE_OK && i + 1 == pipeline->steps) status = keep_best(run, folder);
    qe_free(folder);
  }
  return status;
}
