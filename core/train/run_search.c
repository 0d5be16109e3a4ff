/* Runs of methods that have a loop of their own: generations, metrics, checkpoints and networks. */
#include "core/train/run_parts.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/dispatch/network_file.h"

#include <stdio.h>
#include <sys/stat.h>

qe_status qe_run_generation(qe_run *run, const qe_search_report *report) {
  return run->events.generation ? run->events.generation(run->events.context, report) : QE_OK;
}

qe_status qe_run_append(qe_run *run, qe_json *json) {
  char *line = NULL;
  qe_status status = qe_json_finish(json, &line, NULL);
  if (status == QE_OK && run->metrics) status = qe_file_append_line(run->metrics, line);
  qe_free(line);
  return status;
}

qe_status qe_run_save_state(qe_run *run, qe_tensors *tensors, const char *phase) {
  struct stat now;
  char bytes[32];
  if (!run->checkpoint) return QE_OK;
  snprintf(bytes, sizeof bytes, "%lld", stat(run->metrics, &now) == 0 ? (long long)now.st_size : 0);
  QE_TRY(qe_tensors_set_meta(tensors, "phase", phase));
  QE_TRY(qe_tensors_set_meta(tensors, "metrics_bytes", bytes));
  return qe_tensors_write(tensors, run->checkpoint);
}

const qe_tensors *qe_run_resumed(const qe_run *run) {
  return run->resumed;
}

void qe_run_drop_resumed(qe_run *run) {
  qe_tensors_free(run->resumed);
  run->resumed = NULL;
}

qe_status qe_run_path(const qe_run *run, const char *file, char **path) {
  *path = run->options.folder ? qe_path_join(run->options.folder, file) : NULL;
  return *path || !run->options.folder ? QE_OK : QE_NO_MEMORY;
}

qe_status qe_run_save_network(const qe_run *run, const qe_network *network, const char *file) {
  char *path;
  QE_TRY(qe_run_path(run, file, &path));
  qe_status status = path ? qe_network_write(network, path) : QE_OK;
  qe_free(path);
  return status;
}
