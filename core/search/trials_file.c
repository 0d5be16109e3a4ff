/* Journals of trials: a JSON object a line; and what can be asked of a list of them. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/json_read.h"
#include "core/search/trials_parts.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { JOURNAL_LIMIT = 1 << 28 };

/* ---- trials in memory ---- */

void qe_trial_free(qe_trial *trial, int32_t n) {
  for (int32_t i = 0; trial->text && i < n; i++) qe_free(trial->text[i]);
  qe_free(trial->text);
  qe_free(trial->value);
  qe_free(trial->failure);
  *trial = (qe_trial){0};
}

qe_status qe_trial_new(qe_trial *trial, int32_t n, int32_t objectives) {
  *trial = (qe_trial){.text = QE_NEW_ARRAY(char *, n), .value = QE_NEW_ARRAY(double, objectives)};
  if (trial->text && trial->value) return QE_OK;
  qe_trial_free(trial, n);
  return QE_NO_MEMORY;
}

qe_status qe_trial_set_text(char **at, const char *text) {
  char *copy = qe_strdup(text);
  if (!copy) return QE_NO_MEMORY;
  qe_free(*at);
  *at = copy;
  return QE_OK;
}

qe_status qe_trial_list_add(qe_trial_list *list, qe_trial *trial) {
  QE_TRY(qe_reserve(&list->trial, &list->capacity, list->count + 1, sizeof *list->trial));
  list->trial[list->count++] = *trial;
  *trial = (qe_trial){0};
  return QE_OK;
}

void qe_trial_list_free(qe_trial_list *list) {
  for (size_t i = 0; i < list->count; i++) qe_trial_free(&list->trial[i], list->n);
  for (int32_t i = 0; list->name && i < list->n; i++) qe_free(list->name[i]);
  qe_free(list->name);
  qe_free(list->trial);
  *list = (qe_trial_list){0};
}

int32_t qe_trial_list_best(const qe_trial_list *list) {
  int32_t best = -1;
  for (int32_t i = 0; i < (int32_t)list->count; i++) {
    double value = list->trial[i].value[0];
    if (isfinite(value) && (best < 0 || value < list->trial[best].value[0])) best = i;
  }
  return best;
}

bool qe_trial_list_on_front(const qe_trial_list *list, int32_t at) {
  const double *own = list->trial[at].value;
  if (!isfinite(own[0])) return false;
  for (size_t i = 0; i < list->count; i++) {
    bool worse = false, better = false;
    for (int32_t m = 0; m < list->objectives; m++) {
      worse |= !(list->trial[i].value[m] <= own[m]);
      better |= list->trial[i].value[m] < own[m];
    }
    if (better && !worse) return false;
  }
  return true;
}

double qe_trial_fact_of(const qe_trial *trial, const char *name) {
  for (int32_t i = 0; i < trial->facts; i++)
    if (strcmp(trial->fact[i].name, name) == 0) return trial->fact[i].value;
  return (double)NAN;
}

/* ---- writing ---- */

qe_status qe_trial_write(const char *journal, const qe_trial *trial, const qe_search_variable *variable, int32_t n,
                         int32_t objectives) {
  qe_json json = {0};
  char *line;
  qe_json_open_object(&json, NULL);
  qe_json_int(&json, "trial", trial->number);
  qe_json_open_object(&json, "values");
  for (int32_t i = 0; i < n; i++) qe_json_text(&json, variable[i].name, trial->text[i]);
  qe_json_close(&json);
  qe_json_open_array(&json, "objectives");
  for (int32_t i = 0; i < objectives; i++) qe_json_real(&json, NULL, trial->value[i]);
  qe_json_close(&json);
  if (trial->failure) qe_json_text(&json, "failed", trial->failure);
  qe_json_open_object(&json, "facts");
  for (int32_t i = 0; i < trial->facts; i++) qe_json_real(&json, trial->fact[i].name, trial->fact[i].value);
  qe_json_close(&json);
  qe_json_close(&json);
  QE_TRY(qe_json_finish(&json, &line, NULL));
  qe_status status = qe_file_append_line(journal, line);
  qe_free(line);
  return status;
}

qe_status qe_trial_trim(const char *journal) {
  char *text, *last;
  if (!qe_file_exists(journal)) return QE_OK;
  QE_TRY(qe_file_read(journal, JOURNAL_LIMIT, &text, NULL));
  last = strrchr(text, '\n');
  qe_status status = qe_file_cut(journal, last ? last + 1 - text : 0);
  qe_free(text);
  return status;
}

/* ---- reading ---- */

static const cJSON *member(const cJSON *item, const char *key) {
  return cJSON_GetObjectItemCaseSensitive(item, key);
}

/* The first trial says which variables there are. */
static qe_status take_names(const cJSON *values, const cJSON *objectives, qe_trial_list *list) {
  const cJSON *item;
  list->n = cJSON_GetArraySize(values);
  list->objectives = cJSON_GetArraySize(objectives);
  list->name = QE_NEW_ARRAY(char *, list->n + 1);
  if (!list->name) return QE_NO_MEMORY;
  int32_t at = 0;
  cJSON_ArrayForEach(item, values) {
    list->name[at] = qe_strdup(item->string);
    if (!list->name[at++]) return QE_NO_MEMORY;
  }
  return QE_OK;
}

/* QE_FORMAT without a message: it is no trial of the list. */
static qe_status take_texts(const cJSON *values, const qe_trial_list *list, qe_trial *trial) {
  const cJSON *item;
  int32_t at = 0;
  if (!cJSON_IsObject(values) || cJSON_GetArraySize(values) != list->n) return QE_FORMAT;
  cJSON_ArrayForEach(item, values) {
    const char *text = cJSON_GetStringValue(item);
    if (!text || strlen(text) >= QE_TRIAL_TEXT || strcmp(item->string, list->name[at]) != 0) return QE_FORMAT;
    QE_TRY(qe_trial_set_text(&trial->text[at++], text));
  }
  return QE_OK;
}

/* null: it has failed. */
static qe_status take_values(const cJSON *objectives, const qe_trial_list *list, qe_trial *trial) {
  const cJSON *item;
  int32_t at = 0;
  if (!cJSON_IsArray(objectives) || cJSON_GetArraySize(objectives) != list->objectives) return QE_FORMAT;
  cJSON_ArrayForEach(item, objectives) {
    if (!cJSON_IsNull(item) && !cJSON_IsNumber(item)) return QE_FORMAT;
    trial->value[at++] = cJSON_IsNumber(item) ? item->valuedouble : (double)NAN;
  }
  return QE_OK;
}

static void take_facts(const cJSON *facts, qe_trial *trial) {
  const cJSON *item;
  cJSON_ArrayForEach(item, facts) {
    if (!cJSON_IsNumber(item) || trial->facts == QE_TRIAL_FACTS || !item->string) continue;
    qe_trial_fact *fact = &trial->fact[trial->facts++];
    snprintf(fact->name, sizeof fact->name, "%s", item->string);
    fact->value = item->valuedouble;
  }
}

static qe_status take_trial(const cJSON *root, qe_trial_list *list) {
  const cJSON *values = member(root, "values"), *objectives = member(root, "objectives");
  const char *failure = cJSON_GetStringValue(member(root, "failed"));
  int64_t number;
  qe_trial trial;
  bool sound = qe_json_whole(member(root, "trial"), 1, INT32_MAX, &number) && number == (int64_t)list->count + 1 &&
               cJSON_IsObject(values) && values->child && cJSON_IsArray(objectives) && objectives->child;
  if (!sound) return QE_FORMAT;
  if (!list->name) QE_TRY(take_names(values, objectives, list));
  QE_TRY(qe_trial_new(&trial, list->n, list->objectives));
  trial.number = (int32_t)number;
  qe_status status = take_texts(values, list, &trial);
  if (status == QE_OK) status = take_values(objectives, list, &trial);
  if (status == QE_OK && failure) status = qe_trial_set_text(&trial.failure, failure);
  take_facts(member(root, "facts"), &trial);
  if (status == QE_OK) status = qe_trial_list_add(list, &trial);
  qe_trial_free(&trial, list->n);
  return status;
}

static qe_status take_lines(char *text, const char *journal, qe_trial_list *list) {
  for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
    cJSON *root = qe_json_parse(line, (size_t)(end - line));
    qe_status status = take_trial(root, list);
    cJSON_Delete(root);
    if (status == QE_FORMAT)
      return qe_fail(QE_FORMAT, "%s: line %zu is not trial %zu of this search: the file is damaged or was changed",
                     journal, list->count + 1, list->count + 1);
    QE_TRY(status);
  }
  return QE_OK;
}

qe_status qe_trial_list_read(const char *journal, qe_trial_list *list) {
  char *text;
  *list = (qe_trial_list){0};
  if (!qe_file_exists(journal)) return QE_OK;
  QE_TRY(qe_file_read(journal, JOURNAL_LIMIT, &text, NULL));
  qe_status status = take_lines(text, journal, list);
  qe_free(text);
  if (status != QE_OK) qe_trial_list_free(list);
  return status;
}
