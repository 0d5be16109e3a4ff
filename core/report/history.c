/* Reading metrics.jsonl. */
#include "core/report/history.h"

#include "core/base/alloc.h"
#include "core/base/json_read.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

enum { MOST_SERIES = 256 };

void qe_history_free(qe_history *h) {
  for (size_t i = 0; i < h->count; i++) {
    qe_free(h->series[i].key);
    qe_free(h->series[i].x);
    qe_free(h->series[i].y);
    qe_free(h->series[i].seconds);
  }
  for (size_t i = 0; i < h->edges; i++) qe_free(h->edge[i].name);
  for (size_t i = 0; i < h->rows; i++) {
    qe_free(h->row[i].name);
    qe_free(h->row[i].captures);
    qe_free(h->row[i].grid);
  }
  qe_free(h->row);
  for (size_t i = 0; i < h->layers; i++) qe_free(h->layer[i]);
  qe_free(h->series);
  qe_free(h->edge);
  qe_free(h->phase);
  qe_free(h->layer);
  qe_free(h->cell);
  qe_free(h->column);
  memset(h, 0, sizeof *h);
}

const qe_series *qe_history_find(const qe_history *h, const char *key) {
  for (size_t i = 0; i < h->count; i++)
    if (strcmp(h->series[i].key, key) == 0) return &h->series[i];
  return NULL;
}

double qe_history_last(const qe_history *h, const char *key, double x) {
  const qe_series *series = qe_history_find(h, key);
  double last = (double)NAN;
  for (size_t i = 0; series && i < series->count && series->x[i] <= x; i++)
    if (isfinite(series->y[i])) last = series->y[i];
  return last;
}

static double number(const cJSON *line, const char *key) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(line, key);
  return cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : (double)NAN;
}

static qe_status set_text(char **text, const char *value) {
  if (*text && strcmp(*text, value) == 0) return QE_OK;
  char *copy = qe_strdup(value);
  if (!copy) return QE_NO_MEMORY;
  qe_free(*text);
  *text = copy;
  return QE_OK;
}

/* ---- series ---- */

static qe_status series_of(qe_history *h, const char *key, qe_series **series) {
  *series = (qe_series *)(uintptr_t)qe_history_find(h, key);
  if (*series || h->count >= MOST_SERIES) return QE_OK;
  QE_TRY(qe_reserve(&h->series, &h->capacity, h->count + 1, sizeof *h->series));
  h->series[h->count] = (qe_series){.key = qe_strdup(key)};
  if (!h->series[h->count].key) return QE_NO_MEMORY;
  *series = &h->series[h->count++];
  return QE_OK;
}

/* Of a run that was resumed, what comes again takes the place of what was there. */
static void drop_overtaken(qe_series *s, double x, bool searches) {
  while (s->count > 0 && (searches ? s->x[s->count - 1] > x : s->x[s->count - 1] >= x)) s->count--;
}

static qe_status add_point(qe_history *h, const char *key, double x, double y, double seconds) {
  qe_series *s;
  QE_TRY(series_of(h, key, &s));
  if (!s) return QE_OK;
  drop_overtaken(s, x, h->searches);
  QE_TRY(qe_reserve(&s->x, &s->x_capacity, s->count + 1, sizeof *s->x));
  QE_TRY(qe_reserve(&s->y, &s->y_capacity, s->count + 1, sizeof *s->y));
  QE_TRY(qe_reserve(&s->seconds, &s->seconds_capacity, s->count + 1, sizeof *s->seconds));
  s->x[s->count] = x;
  s->y[s->count] = y;
  s->seconds[s->count++] = seconds;
  return QE_OK;
}

static bool is_place(const char *key) {
  static const char *const places[] = {"epoch", "epochs",     "step",    "steps",
                                       "spent", "generation", "seconds", "best_q16"};
  for (size_t i = 0; i < sizeof places / sizeof *places; i++)
    if (strcmp(places[i], key) == 0) return true;
  return false;
}

static qe_status add_points(qe_history *h, const cJSON *line, double x, double seconds) {
  const cJSON *item;
  cJSON_ArrayForEach(item, line) {
    if (!item->string || is_place(item->string) || !(cJSON_IsNumber(item) || cJSON_IsNull(item))) continue;
    double y = cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : (double)NAN;
    QE_TRY(add_point(h, item->string, x, y, seconds));
  }
  h->end = fmax(h->end, x);
  return QE_OK;
}

static qe_status add_edge(qe_history *h, const char *name, double x) {
  QE_TRY(qe_reserve(&h->edge, &h->edge_capacity, h->edges + 1, sizeof *h->edge));
  h->edge[h->edges] = (qe_edge){qe_strdup(name), x};
  if (!h->edge[h->edges].name) return QE_NO_MEMORY;
  h->edges++;
  return QE_OK;
}

/* ---- epochs ---- */

static qe_status enter_phase(qe_history *h, const char *phase) {
  if (h->phase && strcmp(h->phase, phase) != 0 && h->epoch > 0) {
    h->base += h->epoch;
    h->epoch = 0;
    QE_TRY(add_edge(h, h->phase, h->base));
  }
  return set_text(&h->phase, phase);
}

static qe_status add_epoch(qe_history *h, const cJSON *line) {
  int64_t epoch = 0, epochs = 0;
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(line, "epoch");
  const char *phase = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "phase"));
  if (!qe_json_whole(item, 1, INT32_MAX, &epoch)) return QE_OK;
  QE_TRY(enter_phase(h, phase ? phase : ""));
  double step = number(line, "step"), steps = number(line, "steps"), x = h->base + (double)epoch;
  if (cJSON_GetObjectItemCaseSensitive(line, "step")) {
    if (!(steps > 0 && step >= 0 && step <= steps)) return QE_OK;
    return add_points(h, line, x - 1 + step / steps, h->seconds);
  }
  double seconds = number(line, "seconds");
  if (epoch > h->epoch && seconds > 0) h->seconds += seconds;
  h->epoch = (int)epoch;
  if (qe_json_whole(cJSON_GetObjectItemCaseSensitive(line, "epochs"), 1, INT32_MAX, &epochs)) h->epochs = (int)epochs;
  return add_points(h, line, x, h->seconds);
}

/* ---- searches ---- */

/* The mean of a list of [hundredth, count]; below 0 when it is empty. */
static double mean_of(const cJSON *bins) {
  double sum = 0, count = 0;
  const cJSON *bin;
  cJSON_ArrayForEach(bin, bins) {
    const cJSON *at = cJSON_GetArrayItem(bin, 0), *weights = cJSON_GetArrayItem(bin, 1);
    if (!cJSON_IsNumber(at) || !cJSON_IsNumber(weights)) continue;
    sum += weights->valuedouble * (at->valuedouble + 0.5) / 100;
    count += weights->valuedouble;
  }
  return count > 0 ? sum / count : -1;
}

static qe_status find_layer(qe_history *h, const char *name, size_t *at) {
  for (*at = 0; *at < h->layers; ++*at)
    if (strcmp(h->layer[*at], name) == 0) return QE_OK;
  QE_TRY(qe_reserve(&h->layer, &h->layer_capacity, h->layers + 1, sizeof *h->layer));
  h->layer[h->layers] = qe_strdup(name);
  if (!h->layer[h->layers]) return QE_NO_MEMORY;
  h->layers++;
  return QE_OK;
}

static qe_status add_confidence(qe_history *h, const cJSON *line, double x) {
  const cJSON *all = cJSON_GetObjectItemCaseSensitive(line, "confidence"), *bins;
  if (!cJSON_IsObject(all)) return QE_OK;
  QE_TRY(qe_reserve(&h->column, &h->column_capacity, h->columns + 1, sizeof *h->column));
  cJSON_ArrayForEach(bins, all) {
    qe_confidence_cell cell = {.column = h->columns, .mean = mean_of(bins)};
    if (!(cell.mean >= 0) || !bins->string) continue;
    QE_TRY(find_layer(h, bins->string, &cell.layer));
    QE_TRY(qe_reserve(&h->cell, &h->cell_capacity, h->cells + 1, sizeof *h->cell));
    h->cell[h->cells++] = cell;
  }
  h->column[h->columns++] = x;
  return QE_OK;
}

static qe_status add_search(qe_history *h, const cJSON *line, double spent) {
  const char *ended = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "ended"));
  const char *phase = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "phase"));
  double seconds = number(line, "seconds");
  h->searches = true;
  if (seconds >= 0) h->seconds = seconds;
  QE_TRY(set_text(&h->phase, phase ? phase : ""));
  if (ended) QE_TRY(add_edge(h, ended, spent));
  QE_TRY(add_confidence(h, line, spent));
  return add_points(h, line, spent, h->seconds);
}

/* ---- rows ---- */

static qe_status copy_text(const cJSON *line, const char *key, char **text) {
  const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, key));
  return !value || (*text = qe_strdup(value)) ? QE_OK : QE_NO_MEMORY;
}

static qe_status add_row(qe_history *h, const cJSON *line) {
  QE_TRY(qe_reserve(&h->row, &h->row_capacity, h->rows + 1, sizeof *h->row));
  qe_history_row *row = &h->row[h->rows++];
  *row = (qe_history_row){.test_loss = number(line, "test_loss"),
                          .test_top1 = number(line, "test_top1"),
                          .held_out_loss = number(line, "held_out_loss"),
                          .held_out_top1 = number(line, "held_out_top1"),
                          .integer_top1 = number(line, "integer_top1"),
                          .bytes = number(line, "bytes")};
  QE_TRY(copy_text(line, "row", &row->name));
  QE_TRY(copy_text(line, "captures", &row->captures));
  return copy_text(line, "grid", &row->grid);
}

static qe_status add_line(qe_history *h, const cJSON *line) {
  double spent = number(line, "spent");
  if (!cJSON_IsObject(line)) {
    h->broken++;
    return QE_OK;
  }
  if (cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "row"))) return add_row(h, line);
  return spent >= 0 ? add_search(h, line, spent) : add_epoch(h, line);
}

qe_status qe_history_read(qe_history *h, const char *text, size_t bytes) {
  qe_status status = QE_OK;
  for (size_t at = 0; status == QE_OK && at < bytes;) {
    const char *end = memchr(text + at, '\n', bytes - at);
    size_t length = end ? (size_t)(end - (text + at)) : bytes - at;
    cJSON *line = length > 0 ? qe_json_parse(text + at, length) : NULL;
    h->lines += length > 0;
    if (line)
      status = add_line(h, line);
    else if (length > 0 && end) /* the last one may be on its way */
      h->broken++;
    cJSON_Delete(line);
    at += length + 1;
  }
  return status;
}

/* ---- one after the other ---- */

qe_status qe_history_append(qe_history *h, const qe_history *part, const char *name) {
  double x = h->end, seconds = h->seconds;
  for (size_t i = 0; i < part->count; i++) {
    const qe_series *s = &part->series[i];
    for (size_t k = 0; k < s->count; k++) QE_TRY(add_point(h, s->key, x + s->x[k], s->y[k], seconds + s->seconds[k]));
  }
  for (size_t i = 0; i < part->edges; i++) {
    bool is_start = part->searches && i == 0;
    if (!is_start || h->edges == 0) QE_TRY(add_edge(h, part->edge[i].name, x + part->edge[i].x));
  }
  h->end = x + part->end;
  h->seconds = seconds + part->seconds;
  h->lines += part->lines;
  return add_edge(h, name, h->end);
}
