/* JSON writer onto a growing text (RFC 8259). */
#include "core/base/json.h"

#include "core/base/alloc.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

/* printf and strtod follow the locale, JSON does not: whatever stands for the decimal point becomes one. */
static char *fix_point(char *text) {
  for (char *at = text; *at; at++)
    if (*at == ',') *at = '.';
  return text;
}

static char *not_finite(double value, char *text) {
  snprintf(text, QE_REAL_TEXT, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
  return text;
}

char *qe_real_text(double value, char text[QE_REAL_TEXT]) {
  if (!isfinite(value)) return not_finite(value, text);
  for (int digits = 6; digits <= 17; digits++) {
    snprintf(text, QE_REAL_TEXT, "%.*g", digits, value);
    if (strtod(text, NULL) == value) break;
  }
  return fix_point(text);
}

char *qe_float_text(float value, char text[QE_REAL_TEXT]) {
  if (!isfinite(value)) return not_finite((double)value, text);
  for (int digits = 6; digits <= 9; digits++) {
    snprintf(text, QE_REAL_TEXT, "%.*g", digits, (double)value);
    if (strtof(text, NULL) == value) break;
  }
  return fix_point(text);
}

/* ---- text ---- */

int qe_utf8_length(const char *text) {
  const unsigned char *at = (const unsigned char *)text;
  if (at[0] == 0) return 0;
  if (at[0] < 0x80) return 1;
  int length = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;
  if (at[0] < 0xC2 || at[0] > 0xF4) return 0;
  for (int i = 1; i < length; i++)
    if ((at[i] & 0xC0) != 0x80) return 0;
  if (at[0] == 0xE0 && at[1] < 0xA0) return 0; /* overlong */
  if (at[0] == 0xED && at[1] > 0x9F) return 0; /* surrogates */
  if (at[0] == 0xF0 && at[1] < 0x90) return 0; /* overlong */
  if (at[0] == 0xF4 && at[1] > 0x8F) return 0; /* beyond U+10FFFF */
  return length;
}

static void put(qe_json *json, const char *text, size_t length) {
  if (json->status != QE_OK) return;
  json->status = qe_reserve(&json->text, &json->capacity, json->length + length + 1, 1);
  if (json->status != QE_OK) return;
  memcpy(json->text + json->length, text, length);
  json->length += length;
  json->text[json->length] = 0;
}

static void put_escape(qe_json *json, unsigned char byte) {
  static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: character, letter after the backslash */
  char escape[8];
  for (const char *pair = named; *pair; pair += 2) {
    if ((unsigned char)*pair != byte) continue;
    snprintf(escape, sizeof escape, "\\%c", pair[1]);
    put(json, escape, 2);
    return;
  }
  snprintf(escape, sizeof escape, "\\u%04x", byte);
  put(json, escape, 6);
}

static void put_string(qe_json *json, const char *text) {
  put(json, "\"", 1);
  while (*text) {
    unsigned char byte = (unsigned char)*text;
    int length = qe_utf8_length(text);
    if (length == 0) {
      put(json, "\xEF\xBF\xBD", 3);
      length = 1;
    } else if (byte < 0x20 || byte == 0x7F || byte == '"' || byte == '\\') {
      put_escape(json, byte);
    } else {
      put(json, text, (size_t)length);
    }
    text += length;
  }
  put(json, "\"", 1);
}

/* ---- structure ---- */

/* Comma and key before a value; a value that has no place here sets the status. */
static void begin_value(qe_json *json, const char *key) {
  if (json->status != QE_OK) return;
  bool in_object = json->depth > 0 && json->closer[json->depth - 1] == '}';
  if (in_object != (key != NULL) || (json->depth == 0 && json->length > 0)) {
    json->status = qe_fail(QE_USAGE, "JSON writer: value %s has no place after: %.60s", key ? key : "without a key",
                           json->text ? json->text : "");
    return;
  }
  char last = json->length ? json->text[json->length - 1] : '[';
  if (last != '[' && last != '{') put(json, ",", 1);
  if (!key) return;
  put_string(json, key);
  put(json, ":", 1);
}

static void open_container(qe_json *json, const char *key, const char *opener, char closer) {
  begin_value(json, key);
  if (json->status == QE_OK && json->depth == QE_JSON_DEPTH)
    json->status = qe_fail(QE_USAGE, "JSON writer: more than %d levels", QE_JSON_DEPTH);
  if (json->status != QE_OK) return;
  json->closer[json->depth++] = closer;
  put(json, opener, 1);
}

void qe_json_open_object(qe_json *json, const char *key) {
  open_container(json, key, "{", '}');
}

void qe_json_open_array(qe_json *json, const char *key) {
  open_container(json, key, "[", ']');
}

void qe_json_close(qe_json *json) {
  if (json->status == QE_OK && json->depth == 0) json->status = qe_fail(QE_USAGE, "JSON writer: nothing to close");
  if (json->status == QE_OK) put(json, &json->closer[--json->depth], 1);
}

static void put_value(qe_json *json, const char *key, const char *text) {
  begin_value(json, key);
  put(json, text, strlen(text));
}

void qe_json_text(qe_json *json, const char *key, const char *text) {
  begin_value(json, key);
  if (text)
    put_string(json, text);
  else
    put(json, "null", 4);
}

void qe_json_int(qe_json *json, const char *key, int64_t value) {
  char text[QE_REAL_TEXT];
  snprintf(text, sizeof text, "%" PRId64, value);
  put_value(json, key, text);
}

void qe_json_real(qe_json *json, const char *key, double value) {
  char text[QE_REAL_TEXT];
  put_value(json, key, isfinite(value) ? qe_real_text(value, text) : "null");
}

void qe_json_float(qe_json *json, const char *key, float value) {
  char text[QE_REAL_TEXT];
  put_value(json, key, isfinite(value) ? qe_float_text(value, text) : "null");
}

void qe_json_bool(qe_json *json, const char *key, bool value) {
  put_value(json, key, value ? "true" : "false");
}

void qe_json_null(qe_json *json, const char *key) {
  put_value(json, key, "null");
}

qe_status qe_json_finish(qe_json *json, char **text, size_t *length) {
  qe_status status = json->status;
  *text = NULL;
  if (status == QE_OK && (json->depth > 0 || json->length == 0))
    status = qe_fail(QE_USAGE, "JSON writer: %s", json->depth ? "a container is left open" : "nothing was written");
  if (status == QE_OK) {
    *text = json->text;
    if (length) *length = json->length;
    json->text = NULL;
  }
  qe_json_drop(json);
  return status;
}

void qe_json_drop(qe_json *json) {
  qe_free(json->text);
  *json = (qe_json){0};
}
