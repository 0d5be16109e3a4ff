/* What a search over settings may change: read, checked, given to the options of a trial. */
#include "tools/trial_space.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json_read.h"
#include "core/base/nearest.h"
#include "tools/train_choice.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL_TEXT = 512 };

static void variable_free(qe_trial_variable *v) {
  for (int i = 0; i < v->choices; i++) qe_free(v->choice[i]);
  void *list[] = {v->name, v->step, v->option, v->item, v->choice};
  for (size_t i = 0; i < sizeof list / sizeof *list; i++) qe_free(list[i]);
}

void qe_trial_space_free(qe_trial_space *space) {
  for (int i = 0; i < space->count; i++) variable_free(&space->variable[i]);
  qe_free(space->variable);
  qe_free(space->search);
  qe_free(space->origin);
  *space = (qe_trial_space){0};
}

static const char *label_of(const qe_trial_space *space, const char *name, char label[LABEL_TEXT]) {
  snprintf(label, LABEL_TEXT, "%s.%.80s", space->origin, name);
  return label;
}

/* ---- which option ---- */

/* "STEP.OPTION[ITEM]" into its parts. */
static qe_status split_name(qe_trial_variable *v) {
  const char *name = v->name, *bracket = strchr(name, '['), *end = name + strlen(name);
  const char *head_end = bracket && end[-1] == ']' ? bracket : end;
  const char *dot = memchr(name, '.', (size_t)(head_end - name)), *option = dot ? dot + 1 : name;
  v->option = qe_format("%.*s", (int)(head_end - option), option);
  if (dot) v->step = qe_format("%.*s", (int)(dot - name), name);
  if (head_end < end) v->item = qe_format("%.*s", (int)(end - bracket - 2), bracket + 1);
  return v->option && (v->step || !dot) && (v->item || head_end == end) ? QE_OK : QE_NO_MEMORY;
}

static bool in_list(const char *word, const char *const *list, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(word, list[i]) == 0) return true;
  return false;
}

bool qe_trial_is_of_search(const char *option) {
  return strncmp(option, "search-", 7) == 0;
}

bool qe_trial_has_in_common(const char *option) {
  static const char *const same[] = {"seed", "held-out", "data", "data-dir"};
  return in_list(option, same, sizeof same / sizeof *same);
}

static qe_status check_option(const qe_options *options, const qe_trial_variable *v, const char *label) {
  char hint[QE_HINT_TEXT];
  const qe_option *row = v->row;
  int step;
  if (!row || !qe_option_is_of(row, "train"))
    return qe_fail(QE_USAGE, "%s: no such option%s", label, qe_options_hint(options, v->option, "", hint));
  if (qe_trial_has_in_common(v->option))
    return qe_fail(QE_USAGE,
                   "%s: trials are compared on the same held-out images of the same seed and data: take it out", label);
  if (row->transient || row->type == QE_OPTION_STEPS || row->type == QE_OPTION_MAP || qe_trial_is_of_search(v->option))
    return qe_fail(QE_USAGE, "%s: says nothing about what a trial computes", label);
  if (v->item && row->type != QE_OPTION_TEXT)
    return qe_fail(QE_USAGE, "%s: %s is no list of NAME=VALUE that could have a %s", label, v->option, v->item);
  return v->step ? qe_options_find_step(options, label, v->step, &step) : QE_OK;
}

/* ---- which values ---- */

static const cJSON *member(const cJSON *item, const char *key) {
  return cJSON_GetObjectItemCaseSensitive(item, key);
}

/* A scalar as text; NULL: it is none. */
static const char *scalar(const cJSON *item, char room[QE_REAL_TEXT]) {
  if (cJSON_IsNumber(item)) return qe_real_text(item->valuedouble, room);
  if (cJSON_IsBool(item)) return cJSON_IsTrue(item) ? "true" : "false";
  return cJSON_GetStringValue(item);
}

static bool is_number(const char *text, double *value) {
  char *end;
  *value = strtod(text, &end);
  return end != text && !*end && isfinite(*value) && (isdigit((unsigned char)*text) || strchr("+-.", *text));
}

static qe_status read_number(const cJSON *spec, const char *key, const char *label, double *value) {
  char room[QE_REAL_TEXT];
  const char *text = scalar(member(spec, key), room);
  if (text && is_number(text, value)) return QE_OK;
  return qe_fail(QE_USAGE, "%s.%s%s%.60s: must be a number", label, key, text ? " " : "", text ? text : "");
}

static qe_status check_keys(const cJSON *spec, const char *label) {
  static const char *const keys[] = {"from", "to", "scale", "kind", "choices", "ordered", "start"};
  const cJSON *item;
  char hint[QE_NEAREST_TEXT];
  cJSON_ArrayForEach(item, spec) {
    qe_nearest nearest = {.word = item->string};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) qe_nearest_offer(&nearest, keys[i]);
    if (!in_list(item->string, keys, sizeof keys / sizeof *keys))
      return qe_fail(QE_USAGE,
                     "%s.%.60s: no such key%s; a variable has from and to, or choices; scale, kind, ordered, "
                     "start",
                     label, item->string, qe_nearest_hint(&nearest, "", hint));
  }
  return QE_OK;
}

/* One of two words; `second` stays as it is where the key is not there. */
static qe_status read_word(const cJSON *spec, const char *key, const char *label, const char *const word[2],
                           bool *second) {
  char room[QE_REAL_TEXT];
  const char *text = scalar(member(spec, key), room);
  if (!member(spec, key)) return QE_OK;
  *second = text && strcmp(text, word[1]) == 0;
  if (text && (*second || strcmp(text, word[0]) == 0)) return QE_OK;
  return qe_fail(QE_USAGE, "%s.%s %.60s: must be %s or %s", label, key, text ? text : "", word[0], word[1]);
}

static qe_status read_choices(const cJSON *list, const char *label, qe_trial_variable *v) {
  const cJSON *item;
  char room[QE_REAL_TEXT];
  int count = cJSON_GetArraySize(list);
  if (!cJSON_IsArray(list) || count < 2)
    return qe_fail(QE_USAGE, "%s: choices must be a list of at least two values", label);
  v->choice = QE_NEW_ARRAY(char *, count);
  if (!v->choice) return QE_NO_MEMORY;
  cJSON_ArrayForEach(item, list) {
    const char *text = scalar(item, room);
    if (!text || strlen(text) >= QE_TRIAL_TEXT)
      return qe_fail(QE_USAGE, "%s: a choice must be a plain value of up to %d characters", label, QE_TRIAL_TEXT - 1);
    if (in_list(text, (const char *const *)v->choice, (size_t)v->choices))
      return qe_fail(QE_USAGE, "%s: the choice %.60s stands there twice", label, text);
    if (!(v->choice[v->choices] = qe_strdup(text))) return QE_NO_MEMORY;
    v->choices++;
  }
  return QE_OK;
}

static qe_status read_range(const cJSON *spec, const char *label, qe_trial_variable *v) {
  static const char *const scales[2] = {"linear", "log"}, *const types[2] = {"real", "integer"};
  bool is_int = v->row->type == QE_OPTION_INT, is_real = v->row->type == QE_OPTION_REAL;
  if (!is_int && !is_real && !v->item)
    return qe_fail(QE_USAGE, "%s: %s is no number: it needs choices, as in [%s]", label, v->option,
                   v->row->type == QE_OPTION_FLAG ? "true, false"
                   : v->row->words                ? "lsq, dorefa"
                                                  : "A, B");
  QE_TRY(read_number(spec, "from", label, &v->from));
  QE_TRY(read_number(spec, "to", label, &v->to));
  v->whole = is_int;
  QE_TRY(read_word(spec, "scale", label, scales, &v->log));
  QE_TRY(read_word(spec, "kind", label, types, &v->whole));
  if (is_int && !v->whole) return qe_fail(QE_USAGE, "%s.kind real: %s takes whole numbers", label, v->option);
  if (!(v->from < v->to)) return qe_fail(QE_USAGE, "%s: from %g to %g: must rise", label, v->from, v->to);
  if (v->log && !(v->from > 0))
    return qe_fail(QE_USAGE, "%s: from %g: a logarithmic scale needs numbers above 0", label, v->from);
  if (v->whole && (fmod(v->from, 1) != 0 || fmod(v->to, 1) != 0 || fabs(v->from) > INT32_MAX || v->to > INT32_MAX))
    return qe_fail(QE_USAGE, "%s: from %g to %g: must be whole numbers, up to %d", label, v->from, v->to, INT32_MAX);
  return QE_OK;
}

static qe_status read_values(const cJSON *spec, const char *label, qe_trial_variable *v) {
  static const char *const truths[2] = {"false", "true"};
  if (cJSON_IsArray(spec)) return read_choices(spec, label, v);
  if (!cJSON_IsObject(spec)) return qe_fail(QE_USAGE, "%s: must be {from: …, to: …} or a list of choices", label);
  QE_TRY(check_keys(spec, label));
  if (!member(spec, "choices")) return read_range(spec, label, v);
  if (member(spec, "from") || member(spec, "to") || member(spec, "scale") || member(spec, "kind"))
    return qe_fail(QE_USAGE, "%s: has choices: from, to, scale and kind are for numbers in a range", label);
  QE_TRY(read_word(spec, "ordered", label, truths, &v->ordered));
  return read_choices(member(spec, "choices"), label, v);
}

/* ---- for the searcher ---- */

/* Where the value of the searcher's variable lies. */
static double place_of(const qe_trial_variable *v, double value) {
  return v->log ? log(value) : value;
}

static int choice_of(const qe_trial_variable *v, const char *text) {
  for (int i = 0; i < v->choices; i++)
    if (strcmp(v->choice[i], text) == 0) return i;
  return -1;
}

/* Where a search begins: what was said, else what the recipe has, else the middle. */
static qe_status find_start(const qe_trial_variable *v, const cJSON *spec, const char *own, const char *label,
                            double *start) {
  char room[QE_REAL_TEXT];
  const char *said = scalar(member(spec, "start"), room), *text = said ? said : own;
  double value = 0;
  int choice = text ? choice_of(v, text) : -1;
  bool inside = text && !v->choice && is_number(text, &value) && value >= v->from && value <= v->to;
  if (said && (v->choice ? choice < 0 : !inside))
    return qe_fail(QE_USAGE, "%s.start %.60s: is none of the variable's values", label, said);
  if (v->choice)
    *start = choice >= 0 ? choice : 0;
  else if (inside)
    *start = place_of(v, value);
  else
    *start = (place_of(v, v->from) + place_of(v, v->to)) / 2;
  if (v->whole && !v->log) *start = floor(*start);
  return QE_OK;
}

static void write_value(const qe_trial_variable *v, double x, char text[QE_TRIAL_TEXT]) {
  if (v->choice) {
    snprintf(text, QE_TRIAL_TEXT, "%s", v->choice[(int)x]);
    return;
  }
  double value = fmin(fmax(v->log ? exp(x) : x, v->from), v->to);
  if (v->whole) {
    snprintf(text, QE_TRIAL_TEXT, "%.0f", value);
    return;
  }
  /* Five digits are enough, unless they round it out of its range. */
  for (int digits = 5; digits <= 17; digits++) {
    snprintf(text, QE_TRIAL_TEXT, "%.*g", digits, value);
    double read = strtod(text, NULL);
    if (read >= v->from && read <= v->to) return;
  }
}

/* The start is a value as it is tried: a search that is resumed finds it in its config. */
static qe_search_variable searched(const qe_trial_variable *v, double start) {
  bool whole = v->whole && !v->log;
  char text[QE_TRIAL_TEXT];
  write_value(v, start, text);
  if (!v->choice) start = place_of(v, strtod(text, NULL));
  if (v->choice)
    return (qe_search_variable){v->name, v->ordered ? QE_SEARCH_INTEGER : QE_SEARCH_CHOICE, 0, v->choices - 1, start};
  return (qe_search_variable){v->name, whole ? QE_SEARCH_INTEGER : QE_SEARCH_REAL, place_of(v, v->from),
                              place_of(v, v->to), start};
}

void qe_trial_space_text(void *space, int32_t variable, double x, char text[QE_TRIAL_TEXT]) {
  write_value(&((const qe_trial_space *)space)->variable[variable], x, text);
}

/* ---- reading the whole ---- */

/* Files must be there before hours are spent on the trials before. */
static qe_status check_file(const qe_trial_variable *v, const char *text, const char *label) {
  if (v->row->type != QE_OPTION_PATH || !*text || strncmp(text, QE_STEP_PREFIX, strlen(QE_STEP_PREFIX)) == 0 ||
      qe_file_exists(text))
    return QE_OK;
  return qe_fail(QE_NOT_FOUND, "%s: %s: no such file, from here", label, text);
}

/* Whether the option takes the ends, or each choice; tried on a copy. */
static qe_status check_values(const qe_trial_variable *v, const char *label, const qe_options *options) {
  qe_options *copy;
  char text[QE_REAL_TEXT];
  QE_TRY(qe_options_copy(options, &copy));
  qe_status status = QE_OK;
  for (int i = 0; status == QE_OK && i < v->choices; i++)
    status = qe_trial_variable_apply(v, v->choice[i], label, "check", copy);
  for (int i = 0; status == QE_OK && !v->choice && i < 2; i++)
    status = qe_trial_variable_apply(v, qe_real_text(i ? v->to : v->from, text), label, "check", copy);
  for (int i = 0; status == QE_OK && i < v->choices; i++) status = check_file(v, v->choice[i], label);
  qe_options_free(copy);
  return status;
}

static qe_status read_variable(const qe_options *options, const cJSON *spec, qe_trial_space *space) {
  char label[LABEL_TEXT], *own = NULL;
  qe_trial_variable *v = &space->variable[space->count];
  double start = 0;
  label_of(space, spec->string, label);
  for (int i = 0; i < space->count; i++)
    if (strcmp(space->variable[i].name, spec->string) == 0) return qe_fail(QE_USAGE, "%s: stands there twice", label);
  space->count++;
  if (!(v->name = qe_strdup(spec->string))) return QE_NO_MEMORY;
  QE_TRY(split_name(v));
  v->row = qe_options_row(options, v->option);
  QE_TRY(check_option(options, v, label));
  QE_TRY(read_values(spec, label, v));
  QE_TRY(check_values(v, label, options));
  QE_TRY(qe_trial_variable_now(options, v, &own));
  qe_status status = find_start(v, spec, own, label, &start);
  qe_free(own);
  if (status == QE_OK) space->search[space->count - 1] = searched(v, start);
  return status;
}

static qe_status read_variables(const qe_options *options, const cJSON *root, qe_trial_space *space) {
  const cJSON *spec;
  int count = cJSON_GetArraySize(root);
  space->origin = qe_format("%s: search.variables", qe_option_origin(options, "search-variables"));
  if (!space->origin) return QE_NO_MEMORY;
  if (!cJSON_IsObject(root) || count == 0) return qe_fail(QE_USAGE, "%s: names no variable", space->origin);
  space->variable = QE_NEW_ARRAY(qe_trial_variable, count);
  space->search = QE_NEW_ARRAY(qe_search_variable, count);
  if (!space->variable || !space->search) return QE_NO_MEMORY;
  cJSON_ArrayForEach(spec, root) QE_TRY(read_variable(options, spec, space));
  return QE_OK;
}

qe_status qe_trial_space_read(const qe_options *options, qe_trial_space *space) {
  const char *text = qe_option_text(options, "search-variables");
  *space = (qe_trial_space){0};
  cJSON *root = qe_json_parse(text, strlen(text));
  qe_status status = read_variables(options, root, space);
  cJSON_Delete(root);
  if (status != QE_OK) qe_trial_space_free(space);
  return status;
}

/* ---- telling ---- */

void qe_trial_space_json(const qe_trial_space *space, qe_json *json) {
  qe_json_open_array(json, "variables");
  for (int i = 0; i < space->count; i++) {
    const qe_trial_variable *v = &space->variable[i];
    qe_json_open_object(json, NULL);
    qe_json_text(json, "name", v->name);
    if (!v->choice) {
      qe_json_real(json, "from", v->from);
      qe_json_real(json, "to", v->to);
      qe_json_text(json, "scale", v->log ? "log" : "linear");
      qe_json_text(json, "kind", v->whole ? "integer" : "real");
    } else {
      qe_json_open_array(json, "choices");
      for (int k = 0; k < v->choices; k++) qe_json_text(json, NULL, v->choice[k]);
      qe_json_close(json);
      qe_json_bool(json, "ordered", v->ordered);
    }
    char start[QE_TRIAL_TEXT];
    write_value(v, space->search[i].start, start);
    qe_json_text(json, "start", start);
    qe_json_close(json);
  }
  qe_json_close(json);
}

const char *qe_trial_variable_text(const qe_trial_variable *v, char text[QE_TRIAL_TEXT]) {
  if (!v->choice) {
    snprintf(text, QE_TRIAL_TEXT, "%.6g\xE2\x80\xA6%.6g%s%s", v->from, v->to, v->whole ? ", whole" : "",
             v->log ? ", log" : "");
    return text;
  }
  size_t used = 0;
  text[0] = 0;
  for (int i = 0; i < v->choices && used + 8 < QE_TRIAL_TEXT; i++)
    used += (size_t)snprintf(text + used, QE_TRIAL_TEXT - used, "%s%s", i ? ", " : "", v->choice[i]);
  return text;
}
