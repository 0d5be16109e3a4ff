/* Section of searches over bits: the bits of each layer over the rounds, what they cost, and accuracy against size with
 * uniform bits beside it. From the run's rounds.json. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json_read.h"
#include "core/page/plot.h"
#include "core/report/report_parts.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_BYTES = 1 << 24, MOST_BITS = 8, MOST_ROUNDS = 100 };

static const cJSON *member(const cJSON *item, const char *key) {
  return cJSON_GetObjectItemCaseSensitive(item, key);
}

static double number(const cJSON *item, const char *key) {
  const cJSON *value = member(item, key);
  return cJSON_IsNumber(value) ? value->valuedouble : (double)NAN;
}

static double cost(const cJSON *row, const char *name) {
  return number(member(row, "costs"), name);
}

/* The row of the allocation that a round went on with; NULL where the file is not as it should be. */
static const cJSON *chosen_of(const cJSON *round) {
  int64_t at;
  const cJSON *rows = member(round, "compared");
  if (!qe_json_whole(member(round, "chosen"), 0, INT32_MAX, &at)) return NULL;
  return cJSON_GetArrayItem(rows, (int)at);
}

static cJSON *read_rounds(const qe_report_run *run) {
  char *text = NULL, *path = run->folder ? qe_path_join(run->path, "rounds.json") : NULL;
  size_t bytes = 0;
  qe_status status = path ? qe_file_read(path, MOST_BYTES, &text, &bytes) : QE_NOT_FOUND;
  cJSON *all = status == QE_OK ? qe_json_parse(text, bytes) : NULL;
  qe_message_clear();
  qe_free(text);
  qe_free(path);
  return all;
}

/* ---- bits by layer ---- */

static int bits_at(const cJSON *row, int place) {
  int64_t bits = 0;
  return qe_json_whole(cJSON_GetArrayItem(member(row, "bits"), place), 1, 32, &bits) ? (int)bits : 0;
}

/* A strip a place, a cell a round. */
static void write_map(qe_page *page, const cJSON *all, const char *letter, const char *title) {
  const cJSON *place, *round;
  double cell[MOST_ROUNDS];
  int at = 0;
  qe_page_add(page, "<figure><figcaption>%s</figcaption><div class=\"map\" role=\"img\" aria-label=\"%s by round\">\n",
              title, title);
  cJSON_ArrayForEach(place, member(all, "places")) {
    const char *layer = cJSON_GetStringValue(member(place, "layer")), *of = cJSON_GetStringValue(member(place, "of"));
    size_t cells = 0;
    cJSON_ArrayForEach(round, member(all, "rounds")) {
      if (cells < MOST_ROUNDS) cell[cells++] = (double)bits_at(chosen_of(round), at) / MOST_BITS;
    }
    at++;
    if (layer && of && strcmp(of, letter) == 0 && cells > 0) qe_page_strip(page, layer, cell, cells);
  }
  qe_page_add(page, "</div></figure>\n");
}

static void write_bits_table(qe_page *page, const cJSON *all) {
  const cJSON *place, *round;
  int at = 0, number_of = 0;
  qe_page_add(page, "<details><summary>Data as a table</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                    "aria-label=\"Bits by layer and round\"><table><thead><tr><th>layer</th><th>of</th><th>count</th>");
  cJSON_ArrayForEach(round, member(all, "rounds")) qe_page_add(page, "<th>round %d</th>", ++number_of);
  qe_page_add(page, "</tr></thead><tbody>\n");
  cJSON_ArrayForEach(place, member(all, "places")) {
    char text[QE_NUMBER_TEXT];
    const char *layer = cJSON_GetStringValue(member(place, "layer")), *of = cJSON_GetStringValue(member(place, "of"));
    int64_t count = 0;
    (void)qe_json_whole(member(place, "count"), 0, INT64_C(1) << 53, &count);
    qe_page_words(page, "<tr><td>", layer ? layer : "", "</td>");
    qe_page_add(page, "<td>%s</td><td>%s</td>", of && *of == 'a' ? "input" : "weights", qe_whole_text(count, text));
    cJSON_ArrayForEach(round, member(all, "rounds")) qe_page_add(page, "<td>%d</td>", bits_at(chosen_of(round), at));
    qe_page_add(page, "</tr>\n");
    at++;
  }
  qe_page_add(page, "</tbody></table></div></details>\n");
}

/* ---- costs ---- */

static void write_cost_row(qe_page *page, const char *name, const cJSON *row) {
  char text[QE_NUMBER_TEXT];
  qe_page_words(page, "<tr><td>", name, "</td>");
  qe_page_add(page, "<td>%.3f</td><td>%.3f</td>", cost(row, "weight-bits"), cost(row, "act-bits"));
  qe_page_add(page, "<td>%s</td>", qe_bytes_text(cost(row, "bytes"), text));
  qe_page_add(page, "<td>%s</td>", qe_count_text(cost(row, "bit-ops"), text));
  qe_page_add(page, "<td>%.4f</td><td>%.2f %%</td></tr>\n", number(row, "loss"), number(row, "top1"));
}

static void write_costs(qe_page *page, const cJSON *all) {
  const cJSON *round, *row, *last = NULL;
  int at = 0, width;
  char name[48];
  qe_page_add(page,
              "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Costs of the allocations\"><table>"
              "<thead><tr><th>allocation</th><th>mean weight bits</th><th>mean code bits</th><th>size</th>"
              "<th>bit-operations</th><th>loss</th><th>right</th></tr></thead><tbody>\n");
  cJSON_ArrayForEach(round, member(all, "rounds")) {
    snprintf(name, sizeof name, "round %d", ++at);
    if (chosen_of(round)) write_cost_row(page, name, chosen_of(round));
    last = round;
  }
  cJSON_ArrayForEach(row, member(last, "uniform")) {
    width = (int)lround(fmax(cost(row, "weight-bits"), 0));
    snprintf(name, sizeof name, "uniform, %d bits", width);
    write_cost_row(page, name, row);
  }
  qe_page_add(page, "</tbody></table></div>\n");
}

/* ---- accuracy against size ---- */

typedef struct points {
  double x[MOST_ROUNDS], y[MOST_ROUNDS];
  size_t count;
} points;

static void add_point(points *p, const cJSON *row) {
  double x = cost(row, "bytes") / 1024, y = number(row, "top1");
  size_t at = p->count;
  if (at == MOST_ROUNDS || !isfinite(x) || !isfinite(y)) return;
  for (; at > 0 && p->x[at - 1] > x; at--) {
    p->x[at] = p->x[at - 1];
    p->y[at] = p->y[at - 1];
  }
  p->x[at] = x;
  p->y[at] = y;
  p->count++;
}

/* Of all points those that no smaller one is as good as. */
static void keep_front(points *p) {
  size_t kept = 0;
  for (size_t i = 0; i < p->count; i++) {
    if (kept > 0 && p->y[i] <= p->y[kept - 1]) continue;
    p->x[kept] = p->x[i];
    p->y[kept++] = p->y[i];
  }
  p->count = kept;
}

static void write_front(qe_page *page, const cJSON *all) {
  const cJSON *round = NULL, *row, *last = NULL;
  points uniform = {.count = 0}, found = {.count = 0}, chosen = {.count = 0};
  cJSON_ArrayForEach(round, member(all, "rounds")) last = round;
  cJSON_ArrayForEach(row, member(last, "uniform")) add_point(&uniform, row);
  cJSON_ArrayForEach(row, member(last, "compared")) add_point(&found, row);
  cJSON_ArrayForEach(row, member(last, "front")) add_point(&found, row);
  if (last && chosen_of(last)) add_point(&chosen, chosen_of(last));
  keep_front(&found);
  const qe_plot_line line[] = {
      {.name = "uniform bits",
       .label = "uniform",
       .colour = 1,
       .points = true,
       .x = uniform.x,
       .y = uniform.y,
       .count = uniform.count},
      {.name = "found",
       .label = "found",
       .colour = 0,
       .stroke = QE_STROKE_DASHED,
       .points = true,
       .x = found.x,
       .y = found.y,
       .count = found.count},
      {.name = "chosen", .colour = 2, .points = true, .x = chosen.x, .y = chosen.y, .count = chosen.count}};
  qe_page_line_chart(page, &(qe_line_chart){.title = "Right answers by size, before the last round's training",
                                            .y_unit = "%",
                                            .x_title = "KiB",
                                            .line = line,
                                            .lines = sizeof line / sizeof *line});
}

void qe_section_rounds(qe_page *page, const qe_report *report, const qe_report_run *run) {
  (void)report;
  cJSON *all = read_rounds(run);
  if (cJSON_GetArraySize(member(all, "rounds")) > 0) {
    qe_page_add(page,
                "<p>Each row is a layer, each cell the round's choice: the fuller the colour the more bits, up to %d. "
                "Losses and right answers are those of integer networks on training images, with the weights of "
                "before the round's training; those of uniform bits are of the last round.</p>\n"
                "<div class=\"charts\">\n",
                MOST_BITS);
    write_map(page, all, "w", "Bits of weights");
    write_map(page, all, "a", "Bits of the codes that a layer reads");
    write_front(page, all);
    qe_page_add(page, "</div>\n");
    write_costs(page, all);
    write_bits_table(page, all);
  }
  cJSON_Delete(all);
}
