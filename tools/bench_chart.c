/* The rows of a bench as one HTML file: bars in SVG with their numbers as text, nothing loaded from elsewhere, readable
 * on light and on dark. Rows of other programs stand beside them. */
#define _GNU_SOURCE /* open_memstream */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json_read.h"
#include "tools/bench.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

enum {
  LABEL_WIDTH = 190, /* pixels of the name before a bar */
  BAR_WIDTH = 330,   /* of the longest bar of a case */
  CHART_WIDTH = 820,
  ROW_HEIGHT = 22,
  COLOURS = 6, /* in the style sheet */
  PEERS_LIMIT = 64 << 20
};

typedef struct bar {
  const char *bench, *name, *backend, *device, *unit, *error;
  double value, peak_percent, ratio; /* 0: not known */
  bool peer, parity, failed;
} bar;

typedef struct chart {
  bar *bars;
  size_t count, capacity;
  cJSON *peers;
  const char *backend[COLOURS]; /* whose colour it is */
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
  for (int i = 0; i < COLOURS; i++) {
    if (!c->backend[i]) c->backend[i] = of->backend;
    if (strcmp(c->backend[i], of->backend) == 0) return i;
  }
  return COLOURS - 1;
}

/* ---- HTML ---- */

static const char style[] =
    ":root{color-scheme:light "
    "dark;--page:#fff;--text:#1c2024;--faint:#60666d;--line:#d9dde2;--peer:#9aa1a9;--bad:#b3261e;"
    "--c0:#2f6db3;--c1:#c8731e;--c2:#2c8a57;--c3:#7b5bb3;--c4:#b3437c;--c5:#55707f}"
    "@media(prefers-color-scheme:dark){:root{--page:#15181b;--text:#e6e8ea;--faint:#9aa1a9;--line:#343a40;--peer:#"
    "6b727a;"
    "--bad:#f2857c;--c0:#6ea8e6;--c1:#e39a52;--c2:#5cbf8a;--c3:#ab8fe0;--c4:#e07fb0;--c5:#8aa7b8}}"
    "body{background:var(--page);color:var(--text);font:15px/1.45 system-ui,sans-serif;max-width:860px;margin:2rem "
    "auto;"
    "padding:0 1rem}h1{font-size:1.4rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--line)}"
    "h3{font-size:1rem;margin:1.1rem 0 .2rem}h3 span,p.note{color:var(--faint);font-weight:400}"
    "svg{display:block;width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--text)}"
    "svg .bad{fill:var(--bad)}.c0{fill:var(--c0)}.c1{fill:var(--c1)}.c2{fill:var(--c2)}.c3{fill:var(--c3)}"
    ".c4{fill:var(--c4)}.c5{fill:var(--c5)}.peer{fill:var(--peer)}dl{display:grid;grid-template-columns:max-content "
    "1fr;"
    "gap:.1rem 1rem}dt{color:var(--faint)}dd{margin:0;overflow-wrap:anywhere}";

static void put_text(FILE *file, const char *text) {
  for (; *text; text++) {
    const char *escaped = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : NULL;
    if (*text == '"') escaped = "&quot;";
    if (escaped)
      fputs(escaped, file);
    else if ((unsigned char)*text >= ' ')
      fputc(*text, file);
  }
}

static void put_pair(FILE *file, const char *key, const char *text) {
  fprintf(file, "<dt>%s</dt><dd>", key);
  put_text(file, text);
  fputs("</dd>\n", file);
}

/* Four digits, or all before the point: 0.1234, 12.34, 123457. */
static void put_number(FILE *file, double value) {
  if (value >= 1000)
    fprintf(file, "%.0f", value);
  else
    fprintf(file, "%.4g", value);
}

static void put_bar(chart *c, FILE *file, const bar *of, double longest, int row) {
  int y = row * ROW_HEIGHT, baseline = y + 15;
  double width = longest > 0 ? BAR_WIDTH * of->value / longest : 0;
  fprintf(file, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", LABEL_WIDTH - 8, baseline);
  put_text(file, of->backend);
  fputs("</text>", file);
  if (of->failed) {
    fprintf(file, "<text class=\"bad\" x=\"%d\" y=\"%d\">failed: ", LABEL_WIDTH, baseline);
    put_text(file, of->error[0] ? of->error : "no value");
    fputs("</text>\n", file);
    return;
  }
  char colour[8] = "peer";
  if (!of->peer) snprintf(colour, sizeof colour, "c%d", colour_of(c, of));
  fprintf(file, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>", colour, LABEL_WIDTH,
          y + 3, width < 1 ? 1 : width, ROW_HEIGHT - 6);
  fprintf(file, "<text x=\"%.1f\" y=\"%d\">", LABEL_WIDTH + width + 7, baseline);
  put_number(file, of->value);
  if (of->ratio > 0) fprintf(file, " \xC2\xB7 %.3g\xC3\x97", of->ratio);
  if (of->peak_percent > 0) fprintf(file, " \xC2\xB7 %.3g %% of peak", of->peak_percent);
  fputs("</text>", file);
  if (!of->parity)
    fprintf(file, "<text class=\"bad\" x=\"%d\" y=\"%d\">differs from ref</text>", CHART_WIDTH - 95, baseline);
  fputc('\n', file);
}

static bool same_case(const bar *a, const bar *b) {
  return strcmp(a->bench, b->bench) == 0 && strcmp(a->name, b->name) == 0;
}

static void put_case(chart *c, FILE *file, const bar *first) {
  double longest = 0;
  int rows = 0;
  for (size_t i = 0; i < c->count; i++) {
    if (!same_case(&c->bars[i], first)) continue;
    if (c->bars[i].value > longest) longest = c->bars[i].value;
    rows++;
  }
  fputs("<h3>", file);
  put_text(file, first->name);
  fputs(" <span>", file);
  put_text(file, first->unit);
  fprintf(file, "</span></h3>\n<svg viewBox=\"0 0 %d %d\" role=\"img\">\n", CHART_WIDTH, rows * ROW_HEIGHT);
  rows = 0;
  for (size_t i = 0; i < c->count; i++)
    if (same_case(&c->bars[i], first)) put_bar(c, file, &c->bars[i], longest, rows++);
  fputs("</svg>\n", file);
}

/* All cases of the bench that bar `first` is the first of. */
static void put_bench(chart *c, FILE *file, const bar *first) {
  fputs("<h2>", file);
  put_text(file, first->bench);
  fputs("</h2>\n", file);
  for (size_t i = 0; i < c->count; i++) {
    bool met = strcmp(c->bars[i].bench, first->bench) != 0;
    for (size_t k = 0; k < i && !met; k++) met = same_case(&c->bars[k], &c->bars[i]);
    if (!met) put_case(c, file, &c->bars[i]);
  }
}

/* ---- where and when ---- */

static void put_processor(FILE *file) {
  char line[256];
  FILE *info = fopen("/proc/cpuinfo", "r");
  struct utsname system;
  if (uname(&system) == 0) put_pair(file, "system", system.sysname), put_pair(file, "architecture", system.machine);
  while (info && fgets(line, sizeof line, info)) {
    const char *colon = strchr(line, ':');
    if (strncmp(line, "model name", strlen("model name")) != 0 || !colon) continue;
    put_pair(file, "processor", colon + 1);
    break;
  }
  if (info) fclose(info);
}

static void put_command(FILE *file) {
  char text[2048];
  FILE *words = fopen("/proc/self/cmdline", "r");
  if (!words) return;
  size_t length = fread(text, 1, sizeof text - 1, words);
  fclose(words);
  for (size_t i = 0; i + 1 < length; i++)
    if (!text[i]) text[i] = ' ';
  text[length] = 0;
  put_pair(file, "command", text);
}

/* Of the same backend; other programs are told apart by what they ran on only. */
static bool same_device(const bar *a, const bar *b) {
  return a->peer == b->peer && strcmp(a->peer ? a->device : a->backend, b->peer ? b->device : b->backend) == 0;
}

static qe_status put_about(const qe_options *options, const chart *c, FILE *file) {
  char date[32] = "";
  time_t now = time(NULL);
  struct tm parts;
  if (gmtime_r(&now, &parts)) (void)strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &parts);
  fputs("<dl>\n", file);
  put_pair(file, "date", date);
  put_command(file);
  put_processor(file);
  for (size_t i = 0; i < c->count; i++) {
    size_t first = 0;
    while (!same_device(&c->bars[first], &c->bars[i])) first++;
    if (first == i) put_pair(file, c->bars[i].peer ? "peers" : c->bars[i].backend, c->bars[i].device);
  }
  fputs("</dl>\n<p class=\"note\">", file);
  fputs(
      "The bars of one case share a scale; the times sign is the ratio to the first backend; per cent are of the peak "
      "measured in the same run. Grey: other programs.<br>",
      file);
  QE_TRY(qe_bench_print_skipped(options, file, "<br>"));
  fputs("</p>\n", file);
  return QE_OK;
}

static qe_status put_page(const qe_options *options, chart *c, FILE *file) {
  fprintf(file,
          "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
          "content=\"width=device-width\"><title>qevo-gpu bench</title><style>%s</style></head><body>\n<h1>qevo-gpu "
          "bench</h1>\n",
          style);
  QE_TRY(put_about(options, c, file));
  for (size_t i = 0; i < c->count; i++) {
    size_t first = 0;
    while (strcmp(c->bars[first].bench, c->bars[i].bench) != 0) first++;
    if (first == i) put_bench(c, file, &c->bars[i]);
  }
  fputs("</body></html>\n", file);
  return QE_OK;
}

static qe_status write_page(const qe_options *options, chart *c, const char *path) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *file = open_memstream(&text, &bytes);
  if (!file) return qe_fail(QE_NO_MEMORY, "out of memory");
  qe_status status = put_page(options, c, file);
  if (fclose(file) != 0 && status == QE_OK) status = qe_fail(QE_NO_MEMORY, "out of memory");
  if (status == QE_OK) status = qe_file_write(path, text, bytes);
  free(text);
  return status;
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
