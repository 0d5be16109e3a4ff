/* Options from YAML. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/options_internal.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { FILE_LIMIT = 1 << 20, DEPTH_LIMIT = 8, LABEL_TEXT = 512 };

/* ---- loading ---- */

typedef struct yaml_reader {
  qe_options *options;
  const char *name; /* of the file */
  qe_source source;
  yaml_parser_t parser;
  size_t *lines;      /* line + 1 on which each row was set; 0: not yet */
  bool in_step, kept; /* in a step of a list; whether the list counts */
} yaml_reader;

static size_t line_of(const yaml_event_t *event) {
  return event->start_mark.line + 1;
}

/* The next event; the caller deletes it. */
static qe_status next_event(yaml_reader *r, yaml_event_t *event) {
  memset(event, 0, sizeof *event);
  if (yaml_parser_parse(&r->parser, event)) return QE_OK;
  if (r->parser.error == YAML_MEMORY_ERROR) return qe_fail(QE_NO_MEMORY, "%s: out of memory", r->name);
  return qe_fail(QE_USAGE, "%s:%zu: not YAML: %s", r->name, r->parser.problem_mark.line + 1,
                 r->parser.problem ? r->parser.problem : "unreadable");
}

/* New text of a scalar event. */
static qe_status scalar_text(const yaml_reader *r, const yaml_event_t *event, char **text) {
  const char *value = (const char *)event->data.scalar.value;
  if (strlen(value) != event->data.scalar.length)
    return qe_fail(QE_USAGE, "%s:%zu: a value with a 0 byte", r->name, line_of(event));
  *text = qe_strdup(value);
  return *text ? QE_OK : QE_NO_MEMORY;
}

/* The items of a list with commas between, as new text. */
static qe_status list_text(yaml_reader *r, const char *key, char **text) {
  *text = qe_strdup("");
  qe_status status = *text ? QE_OK : QE_NO_MEMORY;
  for (bool more = true; more && status == QE_OK;) {
    yaml_event_t event;
    char *item = NULL, *longer = NULL;
    status = next_event(r, &event);
    if (status == QE_OK && event.type == YAML_SCALAR_EVENT) {
      status = scalar_text(r, &event, &item);
      if (status == QE_OK && !(longer = qe_format("%s%s%s", *text, **text ? "," : "", item))) status = QE_NO_MEMORY;
    } else if (status == QE_OK && event.type != YAML_SEQUENCE_END_EVENT) {
      status = qe_fail(QE_USAGE, "%s:%zu: %.60s: a list may hold plain values only", r->name, line_of(&event), key);
    } else {
      more = false;
    }
    if (longer) {
      qe_free(*text);
      *text = longer;
    }
    qe_free(item);
    yaml_event_delete(&event);
  }
  return status;
}

/* ---- mappings that are kept as they are ---- */

static qe_status write_item(yaml_reader *r, qe_json *json, const char *key, const yaml_event_t *event, int depth);

/* What an open mapping or list holds, up to its end. */
static qe_status write_items(yaml_reader *r, qe_json *json, bool keyed, int depth) {
  qe_status status = QE_OK;
  for (bool more = true; more && status == QE_OK;) {
    yaml_event_t event, value = {0};
    char *key = NULL;
    status = next_event(r, &event);
    more = status == QE_OK && event.type != YAML_MAPPING_END_EVENT && event.type != YAML_SEQUENCE_END_EVENT;
    if (more && keyed && event.type != YAML_SCALAR_EVENT)
      status = qe_fail(QE_USAGE, "%s:%zu: a key must be a plain word", r->name, line_of(&event));
    else if (more && keyed)
      status = scalar_text(r, &event, &key);
    if (more && keyed && status == QE_OK) status = next_event(r, &value);
    if (more && status == QE_OK) status = write_item(r, json, key, keyed ? &value : &event, depth);
    qe_free(key);
    yaml_event_delete(&value);
    yaml_event_delete(&event);
  }
  qe_json_close(json);
  return status;
}

/* Scalars become texts, whatever they look like. */
static qe_status write_item(yaml_reader *r, qe_json *json, const char *key, const yaml_event_t *event, int depth) {
  char *text = NULL;
  if (depth > DEPTH_LIMIT) return qe_fail(QE_USAGE, "%s:%zu: nested too deeply", r->name, line_of(event));
  if (event->type == YAML_MAPPING_START_EVENT || event->type == YAML_SEQUENCE_START_EVENT) {
    bool keyed = event->type == YAML_MAPPING_START_EVENT;
    if (keyed)
      qe_json_open_object(json, key);
    else
      qe_json_open_array(json, key);
    return write_items(r, json, keyed, depth + 1);
  }
  if (event->type != YAML_SCALAR_EVENT)
    return qe_fail(QE_USAGE, "%s:%zu: aliases are not supported", r->name, line_of(event));
  QE_TRY(scalar_text(r, event, &text));
  qe_json_text(json, key, text);
  qe_free(text);
  return QE_OK;
}

/* The mapping whose start was read, as new text. */
static qe_status map_text(yaml_reader *r, const yaml_event_t *event, char **text) {
  qe_json json = {0};
  qe_status status = write_item(r, &json, NULL, event, 1);
  if (status == QE_OK) return qe_json_finish(&json, text, NULL);
  qe_json_drop(&json);
  return status;
}

/* ---- keys and values ---- */

static qe_status set_step_name(yaml_reader *r, size_t line, const char *name) {
  char label[LABEL_TEXT];
  snprintf(label, sizeof label, "%.300s:%zu: name", r->name, line);
  QE_TRY(qe_option_steps_check_name(name, label));
  return r->kept ? qe_option_steps_set_name(r->options, name) : QE_OK;
}

/* Into the step at hand. */
static qe_status set_of_step(yaml_reader *r, const qe_option *row, const char *value, const char *label,
                             const char *origin) {
  QE_TRY(qe_option_steps_check_value(row, value, label));
  return r->kept ? qe_option_steps_add(r->options, row, value, label, origin) : QE_OK;
}

static qe_status set_key(yaml_reader *r, const char *key, size_t line, const char *value) {
  char label[LABEL_TEXT], origin[LABEL_TEXT], dashed[QE_KEY_TEXT], hint[QE_HINT_TEXT];
  const qe_option *row = qe_options_row_nested(r->options, key, dashed);
  if (r->in_step && strcmp(key, "name") == 0) return set_step_name(r, line, value);
  if (!row || strcmp(key, "config") == 0 || strcmp(key, "set") == 0)
    return qe_fail(QE_USAGE, "%s:%zu: %.60s: no such key%s", r->name, line, key,
                   row ? " in a config file" : qe_options_hint_any(r->options, dashed, hint));
  size_t *first = &r->lines[row - r->options->table];
  if (*first) return qe_fail(QE_USAGE, "%s:%zu: %s: already set on line %zu", r->name, line, key, *first);
  *first = line;
  snprintf(label, sizeof label, "%.300s:%zu: %s", r->name, line, key);
  snprintf(origin, sizeof origin, "%.300s:%zu", r->name, line);
  if (r->in_step) return set_of_step(r, row, value, label, origin);
  return qe_option_set(r->options, row->name, value, r->source, label, origin);
}

static qe_status read_mapping(yaml_reader *r, const char *prefix, int depth);

/* One step of a list, whose start was read: its own keys may be those of other steps, but not come twice. */
static qe_status read_step(yaml_reader *r, const char *key, const yaml_event_t *event) {
  char label[LABEL_TEXT];
  snprintf(label, sizeof label, "%.300s:%zu: %.60s", r->name, line_of(event), key);
  if (event->type != YAML_MAPPING_START_EVENT)
    return qe_fail(QE_USAGE, "%s: a step must be a mapping, as in \"- method: qat\" with its options below it", label);
  if (r->kept) QE_TRY(qe_option_steps_next(r->options, label));
  size_t *outside = r->lines;
  r->lines = QE_NEW_ARRAY(size_t, r->options->count);
  r->in_step = true;
  qe_status status = r->lines ? read_mapping(r, "", 1) : QE_NO_MEMORY;
  r->in_step = false;
  qe_free(r->lines);
  r->lines = outside;
  return status;
}

/* The steps of a list whose start was read. */
static qe_status read_steps(yaml_reader *r, const qe_option *row, size_t line) {
  size_t *first = &r->lines[row - r->options->table];
  qe_status status = QE_OK;
  int count = 0;
  if (*first) return qe_fail(QE_USAGE, "%s:%zu: %s: already set on line %zu", r->name, line, row->name, *first);
  *first = line;
  r->kept = qe_option_steps_begin(r->options, r->source);
  for (bool more = true; more && status == QE_OK;) {
    yaml_event_t event;
    status = next_event(r, &event);
    more = event.type != YAML_SEQUENCE_END_EVENT;
    if (status == QE_OK && more) status = read_step(r, row->name, &event);
    count += more;
    yaml_event_delete(&event);
  }
  if (status != QE_OK || count > 0) return status;
  return qe_fail(QE_USAGE, "%s:%zu: %s: a list without steps", r->name, line, row->name);
}

/* What follows a key. */
static qe_status read_value(yaml_reader *r, const char *key, size_t line, int depth) {
  yaml_event_t event;
  char dashed[QE_KEY_TEXT], *value = NULL;
  const qe_option *row =
      r->in_step ? NULL
                 : qe_options_row_nested(r->options, key, dashed); /* steps have no keys with a form of their own */
  qe_option_type form = row ? row->type : QE_OPTION_TYPES;
  qe_status status = next_event(r, &event);
  if (status != QE_OK) return status;
  if (form == QE_OPTION_STEPS && event.type == YAML_SEQUENCE_START_EVENT)
    status = read_steps(r, row, line);
  else if (form == QE_OPTION_MAP && event.type == YAML_MAPPING_START_EVENT)
    status = map_text(r, &event, &value);
  else if (form == QE_OPTION_STEPS && event.type == YAML_MAPPING_START_EVENT)
    status = qe_fail(QE_USAGE, "%s:%zu: %s: must be a list: write \"- \" before the first option of each step", r->name,
                     line, key);
  else if (event.type == YAML_MAPPING_START_EVENT)
    status = read_mapping(r, key, depth + 1);
  else if (event.type == YAML_SEQUENCE_START_EVENT)
    status = list_text(r, key, &value);
  else if (event.type != YAML_SCALAR_EVENT)
    status = qe_fail(QE_USAGE, "%s:%zu: %.60s: aliases are not supported", r->name, line, key);
  else if (event.data.scalar.length == 0 && event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
    status = qe_fail(QE_USAGE, "%s:%zu: %.60s: needs a value", r->name, line, key);
  else
    status = scalar_text(r, &event, &value);
  if (status == QE_OK && value) status = set_key(r, key, line, value);
  qe_free(value);
  yaml_event_delete(&event);
  return status;
}

/* The pairs of a mapping whose start was read, up to its end. */
static qe_status read_mapping(yaml_reader *r, const char *prefix, int depth) {
  qe_status status = QE_OK;
  for (bool more = true; more && status == QE_OK;) {
    yaml_event_t event;
    char *part = NULL, *key = NULL;
    status = next_event(r, &event);
    if (status == QE_OK && event.type == YAML_MAPPING_END_EVENT) {
      more = false;
    } else if (status == QE_OK && event.type == YAML_SCALAR_EVENT && depth <= DEPTH_LIMIT) {
      status = scalar_text(r, &event, &part);
      if (status == QE_OK && !(key = qe_format("%s%s%s", prefix, *prefix ? "." : "", part))) status = QE_NO_MEMORY;
      if (status == QE_OK) status = read_value(r, key, line_of(&event), depth);
    } else if (status == QE_OK) {
      status = qe_fail(QE_USAGE, "%s:%zu: %s", r->name, line_of(&event),
                       depth > DEPTH_LIMIT ? "nested too deeply" : "a key must be a plain word");
    }
    qe_free(part);
    qe_free(key);
    yaml_event_delete(&event);
  }
  return status;
}

static qe_status read_stream(yaml_reader *r) {
  qe_status status = QE_OK;
  int documents = 0;
  for (bool more = true; more && status == QE_OK;) {
    yaml_event_t event;
    status = next_event(r, &event);
    if (status != QE_OK) break;
    yaml_event_type_t type = event.type;
    more = type != YAML_STREAM_END_EVENT;
    if (type == YAML_DOCUMENT_START_EVENT && documents++ > 0)
      status = qe_fail(QE_USAGE, "%s:%zu: a second document", r->name, line_of(&event));
    else if (type == YAML_MAPPING_START_EVENT)
      status = read_mapping(r, "", 1);
    else if (type == YAML_SEQUENCE_START_EVENT || type == YAML_ALIAS_EVENT ||
             (type == YAML_SCALAR_EVENT && event.data.scalar.length > 0))
      status =
          qe_fail(QE_USAGE, "%s:%zu: must be a mapping, lines of the form \"name: value\"", r->name, line_of(&event));
    yaml_event_delete(&event);
  }
  return status;
}

qe_status qe_options_load_text(qe_options *options, const char *name, const char *text, size_t bytes,
                               qe_source source) {
  yaml_reader r = {.options = options, .name = name, .source = source};
  r.lines = QE_NEW_ARRAY(size_t, options->count);
  if (!r.lines) return QE_NO_MEMORY;
  qe_status status;
  if (yaml_parser_initialize(&r.parser)) {
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    status = read_stream(&r);
    yaml_parser_delete(&r.parser);
  } else {
    status = qe_fail(QE_NO_MEMORY, "%s: out of memory", name);
  }
  qe_free(r.lines);
  return status;
}

qe_status qe_options_load(qe_options *options, const char *path, qe_source source) {
  char *text = NULL;
  size_t bytes;
  QE_TRY(qe_file_read(path, FILE_LIMIT, &text, &bytes));
  qe_status status = qe_options_load_text(options, path, text, bytes, source);
  qe_free(text);
  return status;
}
