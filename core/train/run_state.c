/* state.json of a run folder: how the run stands. */
#include "core/train/run_state.h"

#include "core/train/run_parts.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/json_read.h"
#include "core/base/lock.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#define STATE_FILE "state.json"

enum { STATE_LIMIT = 1 << 16 };

static const char *const state_name[QE_RUN_STATES] = {"unknown",     "running", "finished",
                                                      "interrupted", "failed",  "killed"};

const char *qe_run_state_name(qe_run_state state) {
  return state_name[state];
}

bool qe_run_state_ended(qe_run_state state) {
  return state > QE_RUN_RUNNING;
}

static qe_status write_state(const qe_run *run, qe_run_state state, const char *message) {
  char *path, *text = NULL;
  qe_json json = {0};
  QE_TRY(qe_run_path(run, STATE_FILE, &path));
  if (!path) return QE_OK;
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "state", state_name[state]);
  if (message && *message) qe_json_text(&json, "message", message);
  qe_json_close(&json);
  qe_status status = qe_json_finish(&json, &text, NULL);
  if (status == QE_OK) status = qe_file_write(path, text, strlen(text));
  qe_free(text);
  qe_free(path);
  return status;
}

qe_status qe_run_begin(qe_run *run) {
  run->stated = true;
  return run->resumed ? QE_OK : qe_run_state_running(run);
}

qe_status qe_run_state_running(const qe_run *run) {
  return run->stated ? write_state(run, QE_RUN_RUNNING, NULL) : QE_OK;
}

qe_status qe_run_end(const qe_run *run, qe_status status) {
  if (status == QE_OK) {
    if (write_state(run, QE_RUN_FINISHED, NULL) != QE_OK) qe_message_clear();
    return QE_OK;
  }
  if (run->resumed) return status;
  char message[sizeof((qe_run_stand *)0)->message];
  snprintf(message, sizeof message, "%s", qe_message());
  char *whole = qe_strdup(qe_message());
  if (write_state(run, status == QE_INTERRUPTED ? QE_RUN_INTERRUPTED : QE_RUN_FAILED, message) == QE_OK || !whole) {
    qe_free(whole);
    return status;
  }
  qe_status again = qe_fail(status, "%s", whole);
  qe_free(whole);
  return again;
}

static void take_state(const cJSON *root, qe_run_stand *stand) {
  const char *state = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "state")),
             *message = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "message"));
  for (int i = QE_RUN_RUNNING; state && i < QE_RUN_KILLED; i++)
    if (strcmp(state, state_name[i]) == 0) stand->state = (qe_run_state)i;
  if (message) snprintf(stand->message, sizeof stand->message, "%s", message);
}

static qe_status read_state(const char *folder, qe_run_stand *stand) {
  cJSON *root;
  *stand = (qe_run_stand){.state = QE_RUN_UNKNOWN};
  QE_TRY(qe_json_find(folder, STATE_FILE, STATE_LIMIT, &root));
  take_state(root, stand);
  cJSON_Delete(root);
  return QE_OK;
}

/* A run that ends between the first look and that at the lock has written its state by then: hence the second look. */
qe_status qe_run_stand_read(const char *folder, qe_run_stand *stand) {
  QE_TRY(read_state(folder, stand));
  if (stand->state != QE_RUN_RUNNING || qe_folder_is_locked(folder)) return QE_OK;
  QE_TRY(read_state(folder, stand));
  if (stand->state == QE_RUN_RUNNING) stand->state = QE_RUN_KILLED;
  return QE_OK;
}
