/* Captured models of SQWA in the run folder or in memory, and lists of them. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/methods/sqwa_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 40 };

static const char *file_of(int32_t number, char name[NAME]) {
  if (number == QE_CAPTURED_EMA)
    snprintf(name, NAME, "ema.safetensors");
  else
    snprintf(name, NAME, "capture-%02d.safetensors", number);
  return name;
}

qe_status qe_captures_open(const qe_run *run, const char *from, int32_t count, qe_captures *captures) {
  char *path = NULL;
  *captures = (qe_captures){.run = run, .from = from, .count = count};
  if (from) return QE_OK;
  QE_TRY(qe_run_path(run, "", &path));
  if (!path && !(captures->held = QE_NEW_ARRAY(qe_model *, count + 1))) return QE_NO_MEMORY;
  qe_free(path);
  return QE_OK;
}

void qe_captures_close(qe_captures *captures) {
  for (int32_t i = 0; captures->held && i <= captures->count; i++) qe_model_free(captures->held[i]);
  qe_free(captures->held);
  memset(captures, 0, sizeof *captures);
}

static qe_status copy(const qe_model *model, qe_model **out) {
  return qe_model_requantize(model, &model->spec.bits, out);
}

qe_status qe_captures_put(const qe_captures *captures, int32_t number, const qe_model *model,
                          const char *const *facts) {
  char name[NAME];
  if (!captures->held) return qe_run_save_model(captures->run, model, file_of(number, name), facts);
  qe_model_free(captures->held[number]);
  captures->held[number] = NULL;
  return copy(model, &captures->held[number]);
}

qe_status qe_captures_get(const qe_captures *captures, int32_t number, qe_model **model) {
  char name[NAME], *path;
  file_of(number, name);
  if (captures->held)
    return captures->held[number] ? copy(captures->held[number], model)
                                  : qe_fail(QE_NOT_FOUND, "%s was not kept", name);
  if (captures->from)
    path = qe_path_join(captures->from, name);
  else
    QE_TRY(qe_run_path(captures->run, name, &path));
  if (!path) return QE_NO_MEMORY;
  qe_status status = qe_model_read(path, model, NULL);
  qe_free(path);
  return status;
}

/* ---- lists ---- */

void qe_capture_list_free(qe_capture_list *list) {
  qe_free(list->number);
  memset(list, 0, sizeof *list);
}

static qe_status bad_list(const char *text, int32_t count) {
  return qe_fail(QE_USAGE, "captures '%s': write numbers of captures, as in 1,3,5-7, each once, from 1 to %d", text,
                 count);
}

/* Marks the captures that the text names. */
static qe_status mark(const char *text, int32_t count, bool *named) {
  for (const char *at = text; *at;) {
    char *end;
    long first = strtol(at, &end, 10), last = first;
    bool good = end != at && *at >= '0' && *at <= '9';
    if (good && *end == '-') {
      at = end + 1;
      last = strtol(at, &end, 10);
      good = end != at && *at >= '0' && *at <= '9';
    }
    if (!good || first < 1 || last < first || last > count || (*end && *end != ',') || (*end && !end[1]))
      return bad_list(text, count);
    for (long i = first; i <= last; i++) {
      if (named[i - 1]) return bad_list(text, count);
      named[i - 1] = true;
    }
    at = end + (*end == ',');
  }
  return QE_OK;
}

qe_status qe_capture_list_read(const char *text, int32_t count, qe_capture_list *list) {
  *list = (qe_capture_list){.number = QE_NEW_ARRAY(int32_t, count + 1)};
  bool *named = QE_NEW_ARRAY(bool, count + 1);
  bool all = !text || !*text || strcmp(text, "all") == 0;
  qe_status status = list->number && named ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK && !all) status = mark(text, count, named);
  for (int32_t i = 0; status == QE_OK && i < count; i++)
    if (all || named[i]) list->number[list->count++] = i + 1;
  qe_free(named);
  if (status != QE_OK) qe_capture_list_free(list);
  return status;
}

char *qe_capture_list_text(const qe_capture_list *list) {
  char *text = qe_strdup("");
  for (int32_t i = 0; text && i < list->count;) {
    int32_t last = i;
    while (last + 1 < list->count && list->number[last + 1] == list->number[last] + 1) last++;
    char range[32] = "";
    if (last > i) snprintf(range, sizeof range, "-%d", list->number[last]);
    char *longer = qe_format("%s%s%d%s", text, i ? "," : "", list->number[i], range);
    qe_free(text);
    text = longer;
    i = last + 1;
  }
  return text;
}
