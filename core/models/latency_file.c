/* The latency table as a file. */
#include "core/models/latency_file.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/json_read.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

enum { FILE_LIMIT = 16 << 20, MOST_BITS = 8 }; /* bytes */
static const char format_name[] = "qevo-gpu latency 1";
static const double most_us = 1e15; /* so that sums stay finite */

qe_status qe_latency_add(qe_latency_table *table, const char *layer, int32_t weight_bits, int32_t code_bits,
                         double us) {
  QE_TRY(qe_reserve(&table->row, &table->capacity, table->rows + 1, sizeof *table->row));
  char *name = qe_strdup(layer);
  if (!name) return QE_NO_MEMORY;
  table->row[table->rows++] =
      (qe_latency_row){.layer = name, .weight_bits = weight_bits, .code_bits = code_bits, .us = us};
  return QE_OK;
}

void qe_latency_free_rows(qe_latency_table *table) {
  for (size_t i = 0; i < table->rows; i++) qe_free(table->row[i].layer);
  qe_free(table->row);
  table->row = NULL;
  table->rows = table->capacity = 0;
}

static void free_text(const char *text) {
  qe_free((void *)(uintptr_t)text);
}

void qe_latency_free(qe_latency_table *table) {
  qe_latency_free_rows(table);
  free_text(table->origin.machine);
  free_text(table->origin.backend);
  free_text(table->origin.device);
  free_text(table->origin.model);
  memset(table, 0, sizeof *table);
}

/* ---- writing ---- */

static void write_rows(const qe_latency_table *table, qe_json *json) {
  qe_json_open_array(json, "layers");
  for (size_t i = 0; i < table->rows; i++) {
    const qe_latency_row *row = &table->row[i];
    qe_json_open_object(json, NULL);
    qe_json_text(json, "layer", row->layer);
    qe_json_int(json, "weight_bits", row->weight_bits);
    qe_json_int(json, "code_bits", row->code_bits);
    qe_json_real(json, "us", row->us);
    qe_json_close(json);
  }
  qe_json_close(json);
}

qe_status qe_latency_write(const qe_latency_table *table, const char *path) {
  qe_json json = {0};
  char *text = NULL;
  size_t length = 0;
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "format", format_name);
  qe_json_text(&json, "machine", table->origin.machine);
  qe_json_text(&json, "backend", table->origin.backend);
  qe_json_text(&json, "device", table->origin.device);
  qe_json_text(&json, "model", table->origin.model);
  qe_json_int(&json, "height", table->origin.height);
  qe_json_int(&json, "width", table->origin.width);
  qe_json_int(&json, "channels", table->origin.channels);
  qe_json_int(&json, "batch", table->batch);
  qe_json_real(&json, "base_us", table->base_us);
  write_rows(table, &json);
  qe_json_close(&json);
  QE_TRY(qe_json_finish(&json, &text, &length));
  qe_status status = qe_file_write(path, text, length);
  qe_free(text);
  return status;
}

/* ---- reading ---- */

static qe_status take_text(const char *path, const cJSON *root, const char *key, const char **text) {
  const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, key));
  if (!value) return qe_fail(QE_FORMAT, "%s: has no text '%s': is it a file of `qevo-gpu bench latency`?", path, key);
  *text = qe_strdup(value);
  return *text ? QE_OK : QE_NO_MEMORY;
}

static qe_status take_whole(const char *path, const cJSON *root, const char *key, int64_t least, int64_t *value) {
  if (qe_json_whole(cJSON_GetObjectItemCaseSensitive(root, key), least, INT32_MAX, value)) return QE_OK;
  return qe_fail(QE_FORMAT, "%s: '%s' must be a whole number from %lld on", path, key, (long long)least);
}

static qe_status take_real(const char *path, const cJSON *root, const char *key, double *value) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, key);
  if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) <= most_us))
    return qe_fail(QE_FORMAT, "%s: '%s' must be a number, %g at most", path, key, most_us);
  *value = item->valuedouble;
  return QE_OK;
}

static qe_status take_row(const char *path, const cJSON *item, qe_latency_table *table) {
  int64_t weight_bits, code_bits;
  double us = 0;
  const char *layer = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "layer"));
  bool sound = layer &&
               qe_json_whole(cJSON_GetObjectItemCaseSensitive(item, "weight_bits"), 1, MOST_BITS, &weight_bits) &&
               qe_json_whole(cJSON_GetObjectItemCaseSensitive(item, "code_bits"), 1, MOST_BITS, &code_bits);
  if (!sound)
    return qe_fail(QE_FORMAT, "%s: row %zu of 'layers' needs a layer, weight_bits and code_bits of 1 to %d, and us",
                   path, table->rows + 1, (int)MOST_BITS);
  QE_TRY(take_real(path, item, "us", &us));
  return qe_latency_add(table, layer, (int32_t)weight_bits, (int32_t)code_bits, us);
}

static qe_status take_origin(const char *path, const cJSON *root, qe_cost_origin *origin) {
  int64_t height, width, channels;
  QE_TRY(take_text(path, root, "machine", &origin->machine));
  QE_TRY(take_text(path, root, "backend", &origin->backend));
  QE_TRY(take_text(path, root, "device", &origin->device));
  QE_TRY(take_text(path, root, "model", &origin->model));
  QE_TRY(take_whole(path, root, "height", 1, &height));
  QE_TRY(take_whole(path, root, "width", 1, &width));
  QE_TRY(take_whole(path, root, "channels", 1, &channels));
  origin->height = (int32_t)height;
  origin->width = (int32_t)width;
  origin->channels = (int32_t)channels;
  return QE_OK;
}

static qe_status take_table(const char *path, const cJSON *root, qe_latency_table *table) {
  const cJSON *rows = cJSON_GetObjectItemCaseSensitive(root, "layers"), *row;
  const char *format = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "format"));
  if (!format || strcmp(format, format_name) != 0)
    return qe_fail(QE_FORMAT, "%s: is no latency table ('%s'): `qevo-gpu bench latency` writes them", path,
                   format_name);
  QE_TRY(take_origin(path, root, &table->origin));
  QE_TRY(take_whole(path, root, "batch", 1, &table->batch));
  QE_TRY(take_real(path, root, "base_us", &table->base_us));
  if (!(table->base_us > 0)) return qe_fail(QE_FORMAT, "%s: 'base_us' must be above 0", path);
  if (!cJSON_IsArray(rows)) return qe_fail(QE_FORMAT, "%s: has no list 'layers'", path);
  cJSON_ArrayForEach(row, rows) QE_TRY(take_row(path, row, table));
  return QE_OK;
}

qe_status qe_latency_read(const char *path, qe_latency_table *table) {
  char *text = NULL;
  size_t bytes;
  memset(table, 0, sizeof *table);
  QE_TRY(qe_file_read(path, FILE_LIMIT, &text, &bytes));
  cJSON *root = qe_json_parse(text, bytes);
  qe_status status = cJSON_IsObject(root) ? take_table(path, root, table)
                                          : qe_fail(QE_FORMAT, "%s: is no JSON object, or there is no memory", path);
  cJSON_Delete(root);
  qe_free(text);
  return status;
}
