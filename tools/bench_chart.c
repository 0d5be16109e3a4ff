/* The rows of a bench as one HTML page (core/page): bars with their numbers, rows of other programs beside them. */
#define _GNU_SOURCE /* open_memstream */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json_read.h"
#include "core/page/plot.h"
#include "tools/bench.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

enum { PEERS_LIMIT = 64 << 20 };

typedef struct bar {
  const char *bench, *name, *backend, *device, *unit, *error;
  double value, peak_percent, ratio; /* 0: not known */
  bool peer, parity, failed;
} bar;

typedef struct chart {
  bar *bars;
  size_t count, capacity;
  cJSON *peers;
  const char *backend[QE_COLOURS]; /* whose colour it is */
} chart;

/* ---- bars ---- */

static qe_status add_bar(chart *c, const bar *more) {
  QE_TRY(qe_reserve(&c->bars, &c->capacity, c->count + 1, sizeof *more));
  c->bars[c->count++] = *more;
  return QE_OK;
}

static qe_status add_rows(chart *c, const qe_bench_row *rows, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const qe_bench_row *row = &rows[i];
    double value = qe_bench_value(row);
    bar more = {.bench = row->bench,
                .name = row->name,
                .backend = row->backend,
                .device = row->device,
                .unit = row->unit,
                .error = row->error,
                .value = value,
                .peak_percent = row->peak > 0 ? 100 * value / row->peak : 0,
                .ratio = qe_bench_ratio(rows, count, i),
                .parity = row->parity,
                .failed = row->failed};
    QE_TRY(add_bar(c, &more));
  }
  return QE_OK;
}

static const char *text_of(const cJSON *row, const char *key) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, key));
  return text ? text : "";
}

static double value_of(const chart *c, const bar *like) {
  for (size_t i = 0; i < c->count; i++)
    if (!c->bars[i].peer && strcmp(c->bars[i].bench, like->bench) == 0 && strcmp(c->bars[i].name, like->name) == 0)
      return c->bars[i].value;
  return 0;
}

/* The file holds a list of rows or an object with the list `rows`. */
static qe_status add_peers(chart *c, const char *path) {
  char *text = NULL;
  size_t bytes = 0;
  if (!path) return QE_OK;
  QE_TRY(qe_file_read(path, PEERS_LIMIT, &text, &bytes));
  c->peers = qe_json_parse(text, bytes);
  qe_free(text);
  const cJSON *list = cJSON_IsArray(c->peers) ? c->peers : cJSON_GetObjectItemCaseSensitive(c->peers, "rows"), *row;
  if (!cJSON_IsArray(list)) return qe_fail(QE_FORMAT, "%s holds no JSON list of rows", path);
  cJSON_ArrayForEach(row, list) {
    double value = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(row, "value"));
    bar more = {.bench = text_of(row, "bench"),
                .name = text_of(row, "case"),
                .backend = text_of(row, "backend"),
                .device = text_of(row, "device"),
                .unit = text_of(row, "unit"),
                .error = text_of(row, "failed"),
                .value = value > 0 && isfinite(value) ? value : 0,
                .peer = true,
                .parity = true};
    double base = value_of(c, &more);
    more.failed = more.value == 0;
    more.ratio = base > 0 ? more.value / base : 0;
    QE_TRY(add_bar(c, &more));
  }
  return QE_OK;
}

static int colour_of(chart *c, const bar *of) {
  for (int i = 0; i < QE_COLOURS; i++) {
    if (!c->backend[i]) c->backend[i] = of->backend;
    if (strcmp(c->backend[i], of->backend) == 0) return i;
  }
  return QE_COLOURS - 1;
}

/* ---- the page ---- */

static void add_pair(qe_page *page, const char *key, const char *text) {
  qe_page_words(page, "<dt>", key, "</dt>");
  qe_page_words(page, "<dd>", text, "</dd>\n");
}

static void add_bar_row(chart *c, qe_page *page, const bar *of, double longest) {
  char text[QE_NUMBER_TEXT], kind[8] = "bpeer";
  qe_page_words(page, "<tr><th scope=\"row\">", of->backend, "</th>");
  if (of->failed) {
    qe_page_words(page, "<td class=\"text wrap bad\" colspan=\"4\">failed: ", of->error[0] ? of->error : "no value",
                  "</td></tr>\n");
    return;
  }
  if (!of->peer) snprintf(kind, sizeof kind, "b%d", colour_of(c, of));
  qe_page_add(page, "<td class=\"w\">");
  qe_page_bar(page, longest > 0 ? of->value / longest : 0, kind);
  qe_page_add(page, "</td><td>%s</td><td>", qe_number_text(of->value, text));
  if (of->ratio > 0) qe_page_add(page, "%.3g\xC3\x97", of->ratio);
  qe_page_add(page, "</td><td class=\"text faint\">");
  if (of->peak_percent > 0) qe_page_add(page, "%.3g %% of peak", of->peak_percent);
  if (!of->parity) qe_page_add(page, " <span class=\"bad\">differs from ref</span>");
  qe_page_add(page, "</td></tr>\n");
}

static bool same_case(const bar *a, const bar *b) {
  return strcmp(a->bench, b->bench) == 0 && strcmp(a->name, b->name) == 0;
}

static void add_case(chart *c, qe_page *page, const bar *first) {
  double longest = 0;
  for (size_t i = 0; i < c->count; i++)
    if (same_case(&c->bars[i], first) && c->bars[i].value > longest) longest = c->bars[i].value;
  qe_page_words(page, "<h3>", first->name, "");
  qe_page_words(page, " <span class=\"faint\">", first->unit, "</span></h3>\n");
  qe_page_words(page, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"", first->name,
                "\"><table class=\"bars\"><tbody>\n");
  for (size_t i = 0; i < c->count; i++)
    if (same_case(&c->bars[i], first)) add_bar_row(c, page, &c->bars[i], longest);
  qe_page_add(page, "</tbody></table></div>\n");
}

/* All cases of the bench that bar `first` is the first of. */
static void add_bench(chart *c, qe_page *page, const bar *first) {
  qe_page_mark mark = qe_page_begin_section(page, 2, first->bench, first->bench);
  for (size_t i = 0; i < c->count; i++) {
    bool met = strcmp(c->bars[i].bench, first->bench) != 0;
    for (size_t k = 0; k < i && !met; k++) met = same_case(&c->bars[k], &c->bars[i]);
    if (!met) add_case(c, page, &c->bars[i]);
  }
  (void)qe_page_end_section(page, mark);
}

/* ---- where and when ---- */

static void add_processor(qe_page *page) {
  char line[256];
  FILE *info = fopen("/proc/cpuinfo", "r");
  struct utsname system;
  if (uname(&system) == 0) {
    add_pair(page, "system", system.sysname);
    add_pair(page, "architecture", system.machine);
  }
  while (info && fgets(line, sizeof line, info)) {
    const char *colon = strchr(line, ':');
    if (strncmp(line, "model name", strlen("model name")) != 0 || !colon) continue;
    add_pair(page, "processor", colon + 1);
    break;
  }
  if (info) fclose(info);
}

static void add_command(qe_page *page) {
  char text[2048];
  FILE *words = fopen("/proc/self/cmdline", "r");
  if (!words) return;
  size_t length = fread(text, 1, sizeof text - 1, words);
  fclose(words);
  for (size_t i = 0; i + 1 < length; i++)
    if (!text[i]) text[i] = ' ';
  text[length] = 0;
  add_pair(page, "command", text);
}

/* Of the same backend; other programs are told apart by what they ran on only. */
static bool same_device(const bar *a, const bar *b) {
  return a->peer == b->peer && strcmp(a->peer ? a->device : a->backend, b->peer ? b->device : b->backend) == 0;
}

/* The backends left out, a line each. */
static qe_status add_skipped(const qe_options *options, qe_page *page) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *file = open_memstream(&text, &bytes);
  if (!file) return qe_fail(QE_NO_MEMORY, "out of memory");
  qe_status status = qe_bench_print_skipped(options, file, "");
  if (fclose(file) != 0 && status == QE_OK) status = qe_fail(QE_NO_MEMORY, "out of memory");
  for (char *line = text, *end; status == QE_OK && line && *line; line = end) {
    end = line + strcspn(line, "\n");
    if (*end) *end++ = 0;
    qe_page_words(page, "<br>", line, "");
  }
  free(text);
  return status;
}

static qe_status add_about(const qe_options *options, const chart *c, qe_page *page) {
  char date[32] = "";
  time_t now = time(NULL);
  struct tm parts;
  if (gmtime_r(&now, &parts)) (void)strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &parts);
  qe_page_add(page, "<dl>\n");
  add_pair(page, "date", date);
  add_command(page);
  add_processor(page);
  for (size_t i = 0; i < c->count; i++) {
    size_t first = 0;
    while (!same_device(&c->bars[first], &c->bars[i])) first++;
    if (first == i) add_pair(page, c->bars[i].peer ? "peers" : c->bars[i].backend, c->bars[i].device);
  }
  qe_page_add(page,
              "</dl>\n<p class=\"note\">The bars of one case share a scale; the times sign is the ratio to the first "
              "backend; per cent are of the peak measured in the same run. Grey: other programs.");
  QE_TRY(add_skipped(options, page));
  qe_page_add(page, "</p>\n");
  return QE_OK;
}

static qe_status write_page(const qe_options *options, chart *c, const char *path) {
  qe_page page = {0};
  qe_page_open(&page, "qevo-gpu bench", 0);
  qe_page_add(&page, "<h1>qevo-gpu bench</h1>\n");
  qe_status status = add_about(options, c, &page);
  for (size_t i = 0; i < c->count; i++) {
    size_t first = 0;
    while (strcmp(c->bars[first].bench, c->bars[i].bench) != 0) first++;
    if (first == i) add_bench(c, &page, &c->bars[i]);
  }
  if (page.status == QE_OK) page.status = status;
  return qe_page_write(&page, path);
}

qe_status qe_bench_write_chart(const qe_options *options, const qe_bench_row *rows, size_t count) {
  const char *path = qe_option_text(options, "chart");
  chart c = {0};
  if (!path) return QE_OK;
  qe_status status = add_rows(&c, rows, count);
  if (status == QE_OK) status = add_peers(&c, qe_option_text(options, "peers"));
  if (status == QE_OK) status = write_page(options, &c, path);
  cJSON_Delete(c.peers);
  qe_free(c.bars);
  return status;
}
