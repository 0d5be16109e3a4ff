/* A run's config.yaml as rows of key, value and origin: for showing, and for finding model and data. Keys need not be
 * options of this version. */
#include "core/base/alloc.h"
#include "core/report/report_parts.h"

#include <string.h>
#include <yaml.h>

void qe_config_free(qe_config *config) {
  for (size_t i = 0; i < config->rows; i++) {
    qe_free(config->row[i].key);
    qe_free(config->row[i].value);
    qe_free(config->row[i].origin);
  }
  qe_free(config->row);
  memset(config, 0, sizeof *config);
}

const char *qe_config_get(const qe_config *config, const char *key) {
  for (size_t i = 0; i < config->rows; i++)
    if (strcmp(config->row[i].key, key) == 0) return config->row[i].value;
  return NULL;
}

bool qe_config_is_default(const qe_config_row *row) {
  return strncmp(row->origin, "default", strlen("default")) == 0;
}

/* Line number `line` of the text, and its length. */
static const char *line_of(const char *text, size_t line, size_t *length) {
  while (line-- > 0) {
    const char *end = strchr(text, '\n');
    if (!end) break;
    text = end + 1;
  }
  *length = strcspn(text, "\n");
  return text;
}

/* What stands behind the last " # " of the value's line, as qe_options_dump writes it. */
static char *origin_of(const char *text, const yaml_node_t *value) {
  size_t length = 0;
  const char *line = line_of(text, value->end_mark.line, &length);
  for (size_t at = length; at-- > 0;)
    if (strncmp(line + at, " # ", 3) == 0 && at + 3 <= length)
      return qe_format("%.*s", (int)(length - at - 3), line + at + 3);
  return qe_strdup("");
}

static qe_status add_row(qe_config *config, const char *text, const yaml_node_t *key, const yaml_node_t *value) {
  QE_TRY(qe_reserve(&config->row, &config->capacity, config->rows + 1, sizeof *config->row));
  qe_config_row row = {qe_strdup((const char *)key->data.scalar.value),
                       qe_strdup((const char *)value->data.scalar.value), origin_of(text, value)};
  if (row.key && row.value && row.origin) {
    config->row[config->rows++] = row;
    return QE_OK;
  }
  qe_free(row.key);
  qe_free(row.value);
  qe_free(row.origin);
  return QE_NO_MEMORY;
}

static qe_status read_document(qe_config *config, const char *name, const char *text, yaml_document_t *document) {
  yaml_node_t *root = yaml_document_get_root_node(document);
  if (!root) return QE_OK;
  if (root->type != YAML_MAPPING_NODE)
    return qe_fail(QE_FORMAT, "%s: must be a mapping, lines of the form \"name: value\"", name);
  for (yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++) {
    const yaml_node_t *key = yaml_document_get_node(document, pair->key),
                      *value = yaml_document_get_node(document, pair->value);
    if (key && value && key->type == YAML_SCALAR_NODE && value->type == YAML_SCALAR_NODE)
      QE_TRY(add_row(config, text, key, value));
  }
  return QE_OK;
}

qe_status qe_config_read(qe_config *config, const char *name, const char *text, size_t bytes) {
  yaml_parser_t parser;
  yaml_document_t document;
  if (!yaml_parser_initialize(&parser)) return qe_fail(QE_NO_MEMORY, "%s: out of memory", name);
  yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
  qe_status status = QE_OK;
  if (yaml_parser_load(&parser, &document)) {
    status = read_document(config, name, text, &document);
    yaml_document_delete(&document);
  } else {
    status = qe_fail(QE_FORMAT, "%s:%zu: not YAML: %s", name, parser.problem_mark.line + 1,
                     parser.problem ? parser.problem : "unreadable");
  }
  yaml_parser_delete(&parser);
  return status;
}
