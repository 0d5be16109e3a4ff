/* Option values: the table, checking and storing of values, getters. */
#include "core/base/alloc.h"
#include "core/base/json.h"
#include "core/base/json_read.h"
#include "core/base/options_internal.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows ---- */

const qe_option *qe_options_row(const qe_options *options, const char *name) {
  for (size_t i = 0; i < options->count; i++)
    if (strcmp(options->table[i].name, name) == 0) return &options->table[i];
  return NULL;
}

const qe_option *qe_options_row_nested(const qe_options *options, const char *key, char dashed[QE_KEY_TEXT]) {
  const qe_option *row = qe_options_row(options, key);
  snprintf(dashed, QE_KEY_TEXT, "%s", key);
  if (row) return row;
  for (char *at = dashed; (at = strchr(at, '.'));) *at = '-';
  return qe_options_row(options, dashed);
}

const qe_option *qe_options_row_of_letter(const qe_options *options, char letter) {
  for (size_t i = 0; i < options->count; i++)
    if (letter && options->table[i].letter == letter) return &options->table[i];
  return NULL;
}

/* Whether one of the words between spaces is `name`; NULL has them all. */
static bool has_word(const char *words, const char *name) {
  size_t length = strlen(name);
  for (const char *at = words; at; at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL)
    if (strncmp(at, name, length) == 0 && (at[length] == ' ' || at[length] == 0)) return true;
  return !words;
}

bool qe_option_is_of(const qe_option *row, const char *command) {
  return has_word(row->commands, command);
}

bool qe_option_is_heeded_by(const qe_option *row, const char *method) {
  return has_word(row->methods, method);
}

bool qe_options_belongs(const qe_options *options, const qe_option *row) {
  return qe_option_is_of(row, options->command);
}

static bool is_one_of(const char *words, const char *name) {
  const char *at = words, *word;
  size_t length;
  while ((word = qe_option_next_word(&at, &length)))
    if (strlen(name) == length && memcmp(name, word, length) == 0) return true;
  return false;
}

/* What other programs call so goes before what is spelled alike. */
static const char *hint_of(const qe_options *options, bool any, const char *name, const char *dashes,
                           char text[QE_HINT_TEXT]) {
  qe_nearest nearest = {.word = name};
  const qe_option *same = NULL;
  for (size_t i = 0; i < options->count; i++) {
    const qe_option *row = &options->table[i];
    if (!any && !qe_options_belongs(options, row)) continue;
    qe_nearest_offer(&nearest, row->name);
    if (is_one_of(row->also, name)) same = row;
  }
  if (!same) return qe_nearest_hint(&nearest, dashes, text);
  snprintf(text, QE_HINT_TEXT, "; did you mean %s%s?", dashes, same->name);
  return text;
}

const char *qe_options_hint(const qe_options *options, const char *name, const char *dashes, char text[QE_HINT_TEXT]) {
  return hint_of(options, false, name, dashes, text);
}

const char *qe_options_hint_any(const qe_options *options, const char *name, char text[QE_HINT_TEXT]) {
  return hint_of(options, true, name, "", text);
}

/* ---- what is allowed ---- */

const char *qe_option_next_word(const char **at, size_t *length) {
  const char *word = *at;
  if (!word || !*word) return NULL;
  *length = strcspn(word, "|");
  *at = word[*length] ? word + *length + 1 : NULL;
  return word;
}

static bool is_allowed_word(const qe_option *row, const char *value) {
  return is_one_of(row->words, value);
}

static bool has_range(const qe_option *row) {
  return row->range.low != 0 || row->range.high != 0;
}

static bool in_range(const qe_option *row, double value) {
  return !has_range(row) || (value >= row->range.low && value <= row->range.high);
}

static void range_text(const qe_option *row, char *text, size_t bytes) {
  static const char *const kinds[QE_OPTION_TYPES] = {
      [QE_OPTION_INT] = "a whole number", [QE_OPTION_REAL] = "a number", [QE_OPTION_INTS] = "whole numbers"};
  const char *each = row->type == QE_OPTION_INTS ? "numbers, " : "";
  if (!has_range(row))
    snprintf(text, bytes, "%s", kinds[row->type]);
  else if (isinf(row->range.high))
    snprintf(text, bytes, "%sat least %.15g", each, row->range.low);
  else
    snprintf(text, bytes, "%s%.15g…%.15g", each, row->range.low, row->range.high);
}

const char *qe_option_allowed(const qe_option *row, char text[QE_ALLOWED_TEXT]) {
  const char *at = row->words, *word;
  size_t used = 0, length;
  text[0] = 0;
  if (row->type == QE_OPTION_INT || row->type == QE_OPTION_REAL || row->type == QE_OPTION_INTS)
    range_text(row, text, QE_ALLOWED_TEXT);
  if (row->type == QE_OPTION_FLAG) snprintf(text, QE_ALLOWED_TEXT, "true or false");
  if (row->type == QE_OPTION_STEPS) snprintf(text, QE_ALLOWED_TEXT, "a list of steps, in a recipe or config file");
  if (row->type == QE_OPTION_MAP)
    snprintf(text, QE_ALLOWED_TEXT, "a mapping, in a recipe or config file; here a JSON object");
  used = strlen(text);
  while ((word = qe_option_next_word(&at, &length)) && used + length + 8 < QE_ALLOWED_TEXT) {
    const char *between = used == 0 ? "" : at ? ", " : " or ";
    used += (size_t)snprintf(text + used, QE_ALLOWED_TEXT - used, "%s%.*s", between, (int)length, word);
  }
  return text;
}

/* ---- reading a value ---- */

static bool read_flag(const qe_option *row, const char *text, qe_option_value *value) {
  static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};
  (void)row;
  for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
    if (strcmp(text, yes[i]) != 0 && strcmp(text, no[i]) != 0) continue;
    value->integer = strcmp(text, yes[i]) == 0;
    return true;
  }
  return false;
}

static bool starts_number(const char *text) {
  if (*text == '+' || *text == '-') text++;
  return (*text >= '0' && *text <= '9') || *text == '.';
}

static bool read_int(const qe_option *row, const char *text, qe_option_value *value) {
  char *end;
  errno = 0;
  long long number = strtoll(text, &end, 10);
  bool is_number = starts_number(text) && end != text && *end == 0 && errno == 0;
  value->integer = is_number ? number : 0;
  value->real = (double)value->integer;
  value->is_word = !is_number;
  return is_allowed_word(row, text) || (is_number && in_range(row, value->real));
}

static bool read_real(const qe_option *row, const char *text, qe_option_value *value) {
  char *end;
  double number = strtod(text, &end);
  bool is_number = starts_number(text) && end != text && *end == 0 && isfinite(number);
  value->real = is_number ? number : 0;
  value->is_word = !is_number;
  return is_allowed_word(row, text) || (is_number && in_range(row, value->real));
}

static bool read_text(const qe_option *row, const char *text, qe_option_value *value) {
  (void)row, (void)text, (void)value;
  return true;
}

static bool read_choice(const qe_option *row, const char *text, qe_option_value *value) {
  (void)value;
  return is_allowed_word(row, text);
}

/* Fills value->list, which has place for a number in every second byte of the text. */
static bool read_ints(const qe_option *row, const char *text, qe_option_value *value) {
  value->is_word = is_allowed_word(row, text);
  while (*text && !value->is_word) {
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (!starts_number(text) || end == text || errno || !in_range(row, (double)number)) return false;
    value->list[value->list_count++] = number;
    if (*end == ',' && end[1])
      end++;
    else if (*end)
      return false;
    text = end;
  }
  return true;
}

static bool read_steps(const qe_option *row, const char *text, qe_option_value *value) {
  (void)row, (void)text, (void)value;
  return false;
}

/* Nothing, or an object. */
static bool read_map(const qe_option *row, const char *text, qe_option_value *value) {
  (void)row, (void)value;
  if (!*text) return true;
  cJSON *root = qe_json_parse(text, strlen(text));
  bool is = cJSON_IsObject(root);
  cJSON_Delete(root);
  return is;
}

/* New text: the same object without blanks and needless escapes, as YAML can read it too. */
static char *plain_map(const char *text) {
  cJSON *root = qe_json_parse(text, strlen(text));
  char *printed = root ? cJSON_PrintUnformatted(root) : NULL, *copy = printed ? qe_strdup(printed) : NULL;
  if (!printed) (void)qe_fail(QE_NO_MEMORY, "out of memory for a mapping");
  cJSON_free(printed);
  cJSON_Delete(root);
  return copy;
}

/* New text: the value as it is kept. */
static char *kept_text(const qe_option *row, const char *text, const qe_option_value *value) {
  if (row->type == QE_OPTION_MAP && *text) return plain_map(text);
  return qe_strdup(row->type != QE_OPTION_FLAG ? text : value->integer ? "true" : "false");
}

static bool (*const readers[QE_OPTION_TYPES])(const qe_option *, const char *, qe_option_value *) = {
    [QE_OPTION_FLAG] = read_flag, [QE_OPTION_INT] = read_int,     [QE_OPTION_REAL] = read_real,
    [QE_OPTION_TEXT] = read_text, [QE_OPTION_PATH] = read_text,   [QE_OPTION_CHOICE] = read_choice,
    [QE_OPTION_INTS] = read_ints, [QE_OPTION_STEPS] = read_steps, [QE_OPTION_MAP] = read_map,
};

static bool is_utf8(const char *text) {
  while (*text) {
    int length = qe_utf8_length(text);
    if (length == 0) return false;
    text += length;
  }
  return true;
}

void qe_option_value_free(qe_option_value *value) {
  qe_free(value->text);
  qe_free(value->origin);
  qe_free(value->list);
}

/* "; did you mean sgd?": of the words that a row allows the nearest to the text; "" for a number that is out of range.
 */
static const char *word_hint(const qe_option *row, const char *text, char hint[QE_HINT_TEXT]) {
  enum { WORDS = 32, WORD_TEXT = 32 };
  static const char flag_words[] = "true|false|yes|no|on|off";
  const char *at = row->type == QE_OPTION_FLAG ? flag_words : row->words, *word;
  char copy[WORDS][WORD_TEXT];
  size_t length;
  qe_nearest nearest = {.word = text};
  hint[0] = 0;
  if (starts_number(text)) return hint;
  for (int i = 0; i < WORDS && (word = qe_option_next_word(&at, &length)); i++) {
    snprintf(copy[i], WORD_TEXT, "%.*s", (int)length, word);
    qe_nearest_offer(&nearest, copy[i]);
  }
  return qe_nearest_hint(&nearest, "", hint);
}

/* Check and copy; on success value's memory is the caller's. */
static qe_status value_make(const qe_option *row, const char *text, const char *label, const char *origin,
                            qe_option_value *value) {
  char allowed[QE_ALLOWED_TEXT], hint[QE_HINT_TEXT];
  if (!is_utf8(text)) return qe_fail(QE_USAGE, "%s: the value is not UTF-8 text", label);
  if (row->type == QE_OPTION_INTS) {
    value->list = QE_NEW_ARRAY(int64_t, strlen(text) / 2 + 1);
    if (!value->list) return QE_NO_MEMORY;
  }
  if (!readers[row->type](row, text, value))
    return qe_fail(QE_USAGE, "%s %.200s: must be %s%s", label, text, qe_option_allowed(row, allowed),
                   word_hint(row, text, hint));
  value->text = kept_text(row, text, value);
  value->origin = origin ? qe_strdup(origin) : NULL;
  return value->text && (value->origin || !origin) ? QE_OK : QE_NO_MEMORY;
}

qe_status qe_option_check(const qe_option *row, const char *text, const char *label) {
  qe_option_value made = {0};
  qe_status status = value_make(row, text, label, NULL, &made);
  qe_option_value_free(&made);
  return status;
}

qe_status qe_option_set(qe_options *options, const char *name, const char *value, qe_source source, const char *label,
                        const char *origin) {
  const qe_option *row = qe_options_row(options, name);
  if (!row) return qe_fail(QE_USAGE, "%s: no such option: %.60s", label, name);
  qe_option_value made = {.source = source}, *stored = &options->values[row - options->table];
  qe_status status = value_make(row, value, label, origin, &made);
  if (status == QE_OK && source >= stored->source) {
    qe_option_value old = *stored;
    *stored = made;
    made = old;
  }
  qe_option_value_free(&made);
  return status;
}

/* ---- the object ---- */

static qe_status check_row(const qe_options *options, const qe_option *row) {
  if (qe_options_row(options, row->name) != row)
    return qe_fail(QE_USAGE, "option table: \"%s\" stands there twice", row->name);
  if (row->letter && (row->letter == 'h' || qe_options_row_of_letter(options, row->letter) != row))
    return qe_fail(QE_USAGE, "option table: \"%s\": the letter %c is taken", row->name, row->letter);
  if (row->type == QE_OPTION_CHOICE && !row->words)
    return qe_fail(QE_USAGE, "option table: \"%s\": a choice without words", row->name);
  return QE_OK;
}

qe_status qe_options_new(const qe_option *table, size_t count, const char *command, qe_options **options) {
  qe_status status = QE_NO_MEMORY;
  qe_options *made = QE_NEW(qe_options);
  *options = NULL;
  if (!made) return QE_NO_MEMORY;
  made->table = table;
  made->command = command;
  made->values = QE_NEW_ARRAY(qe_option_value, count);
  if (!made->values) goto done;
  made->count = count;
  for (size_t i = 0; i < count; i++) {
    QE_TRY_DONE(check_row(made, &table[i]));
    const char *initial = table[i].initial ? table[i].initial : table[i].type == QE_OPTION_FLAG ? "false" : NULL;
    if (initial) QE_TRY_DONE(qe_option_set(made, table[i].name, initial, QE_FROM_DEFAULT, table[i].name, NULL));
  }
  status = QE_OK;
done:
  if (status == QE_OK)
    *options = made;
  else
    qe_options_free(made);
  return status;
}

void qe_options_free(qe_options *options) {
  if (!options) return;
  for (size_t i = 0; i < options->count; i++) qe_option_value_free(&options->values[i]);
  qe_option_steps_free(&options->steps);
  qe_free(options->values);
  qe_free(options->positionals);
  qe_free(options);
}

/* ---- getters ---- */

/* The value of `name`, of a type in the set `types`; an unset one, with a message, when there is none. */
static const qe_option_value *get(const qe_options *options, const char *name, unsigned types) {
  static const qe_option_value unset;
  const qe_option *row = qe_options_row(options, name);
  if (row && (types >> row->type & 1)) return &options->values[row - options->table];
  (void)qe_fail(QE_USAGE, "bug: option \"%s\" %s", name, row ? "is of another type" : "is not in the table");
  return &unset;
}

enum {
  ANY_TYPE = (1 << QE_OPTION_TYPES) - 1,
  NUMBER = 1 << QE_OPTION_INT | 1 << QE_OPTION_REAL,
};

bool qe_option_flag(const qe_options *options, const char *name) {
  return get(options, name, 1u << QE_OPTION_FLAG)->integer != 0;
}

int64_t qe_option_int(const qe_options *options, const char *name) {
  return get(options, name, 1u << QE_OPTION_INT)->integer;
}

double qe_option_real(const qe_options *options, const char *name) {
  return get(options, name, NUMBER)->real;
}

const char *qe_option_text(const qe_options *options, const char *name) {
  return get(options, name, ANY_TYPE)->text;
}

const int64_t *qe_option_ints(const qe_options *options, const char *name, size_t *count) {
  const qe_option_value *value = get(options, name, 1u << QE_OPTION_INTS);
  *count = value->list_count;
  return value->list_count ? value->list : NULL;
}

bool qe_option_is(const qe_options *options, const char *name, const char *word) {
  const char *text = qe_option_text(options, name);
  return text && strcmp(text, word) == 0;
}

qe_source qe_option_source(const qe_options *options, const char *name) {
  return get(options, name, ANY_TYPE)->source;
}

const char *qe_option_origin(const qe_options *options, const char *name) {
  const char *origin = get(options, name, ANY_TYPE)->origin;
  return origin ? origin : "default";
}

bool qe_options_help_wanted(const qe_options *options) {
  return options->help_wanted;
}

int qe_options_positionals(const qe_options *options) {
  return options->positional_count;
}

const char *qe_options_positional(const qe_options *options, int index) {
  return index >= 0 && index < options->positional_count ? options->positionals[index] : NULL;
}
