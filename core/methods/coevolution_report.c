/* The report of a coevolution as one HTML file: fitness over candidate-images, confidence by layer, codes before and
 * after. Curves come from metrics.jsonl, so that a resumed run's report shows all of it. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json_read.h"
#include "core/methods/coevolution.h"
#include "core/methods/page.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { METRICS_LIMIT = 1 << 30, MOST_POINTS = 600, MOST_COLUMNS = 120, MOST_BARS = 16 };

typedef struct point {
  double spent, best, mean, held_out; /* losses below 0: none */
} point;

typedef struct ending { /* of a stage */
  char *stage;
  double spent, held_out;
} ending;

typedef struct cell { /* mean confidence of a layer at a time */
  size_t layer, column;
  double confidence;
} cell;

typedef struct history {
  point *points;
  ending *endings;
  cell *cells;
  char **layers;
  double *columns; /* candidate-images of each cycle */
  size_t point_count, point_capacity, ending_count, ending_capacity, cell_count, cell_capacity, layer_count,
      layer_capacity, column_count, column_capacity;
} history;

static void free_history(history *h) {
  for (size_t i = 0; i < h->ending_count; i++) qe_free(h->endings[i].stage);
  for (size_t i = 0; i < h->layer_count; i++) qe_free(h->layers[i]);
  qe_free(h->points);
  qe_free(h->endings);
  qe_free(h->cells);
  qe_free(h->layers);
  qe_free(h->columns);
}

/* ---- reading the metrics ---- */

static double number(const cJSON *line, const char *key) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(line, key);
  return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

static qe_status add_ending(history *h, const cJSON *line, const char *stage) {
  QE_TRY(qe_reserve(&h->endings, &h->ending_capacity, h->ending_count + 1, sizeof *h->endings));
  ending end = {qe_strdup(stage), number(line, "spent"), number(line, "held_out_loss")};
  if (!end.stage) return QE_NO_MEMORY;
  h->endings[h->ending_count++] = end;
  return QE_OK;
}

static qe_status find_layer(history *h, const char *name, size_t *at) {
  for (*at = 0; *at < h->layer_count; ++*at)
    if (strcmp(h->layers[*at], name) == 0) return QE_OK;
  QE_TRY(qe_reserve(&h->layers, &h->layer_capacity, h->layer_count + 1, sizeof *h->layers));
  h->layers[h->layer_count] = qe_strdup(name);
  if (!h->layers[h->layer_count]) return QE_NO_MEMORY;
  h->layer_count++;
  return QE_OK;
}

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

static qe_status add_confidence(history *h, const cJSON *line) {
  const cJSON *all = cJSON_GetObjectItemCaseSensitive(line, "confidence"), *bins;
  if (!cJSON_IsObject(all)) return QE_OK;
  QE_TRY(qe_reserve(&h->columns, &h->column_capacity, h->column_count + 1, sizeof *h->columns));
  cJSON_ArrayForEach(bins, all) {
    cell c = {.column = h->column_count, .confidence = mean_of(bins)};
    if (c.confidence < 0) continue;
    QE_TRY(find_layer(h, bins->string, &c.layer));
    QE_TRY(qe_reserve(&h->cells, &h->cell_capacity, h->cell_count + 1, sizeof *h->cells));
    h->cells[h->cell_count++] = c;
  }
  h->columns[h->column_count++] = number(line, "spent");
  return QE_OK;
}

static qe_status add_line(history *h, const cJSON *line) {
  const char *ended = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "ended"));
  if (ended) return add_ending(h, line, ended);
  if (number(line, "generation") < 0) return QE_OK;
  QE_TRY(qe_reserve(&h->points, &h->point_capacity, h->point_count + 1, sizeof *h->points));
  h->points[h->point_count++] =
      (point){number(line, "spent"), number(line, "best"), number(line, "mean"), number(line, "held_out")};
  return add_confidence(h, line);
}

static qe_status read_history(const qe_run *run, history *h) {
  char *path, *text = NULL;
  size_t bytes = 0;
  QE_TRY(qe_run_path(run, "metrics.jsonl", &path));
  qe_status status = qe_file_read(path, METRICS_LIMIT, &text, &bytes);
  qe_free(path);
  for (char *at = text; status == QE_OK && *at;) {
    size_t length = strcspn(at, "\n");
    cJSON *line = qe_json_parse(at, length); /* a line cut short is left out */
    if (line) status = add_line(h, line);
    cJSON_Delete(line);
    at += length + (at[length] == '\n');
  }
  qe_free(text);
  return status;
}

/* ---- fitness ---- */

static int compare(const void *a, const void *b) {
  double left = *(const double *)a, right = *(const double *)b;
  return (left > right) - (left < right);
}

/* The range of the losses but for the worst twentieth of the means: the first generations would flatten the rest. */
static qe_status find_range(const history *h, qe_plot *plot) {
  double *values = QE_NEW_ARRAY(double, 3 * h->point_count + h->ending_count + 1);
  if (!values) return QE_NO_MEMORY;
  size_t count = 0;
  for (size_t i = 0; i < h->point_count; i++) {
    const double of[3] = {h->points[i].best, h->points[i].mean, h->points[i].held_out};
    for (int k = 0; k < 3; k++)
      if (of[k] >= 0) values[count++] = of[k];
  }
  for (size_t i = 0; i < h->ending_count; i++)
    if (h->endings[i].held_out >= 0) values[count++] = h->endings[i].held_out;
  qsort(values, count, sizeof *values, compare);
  if (count > 0) {
    double low = values[0], high = values[(count - 1) * 19 / 20], margin = 0.06 * (high - low) + 1e-4;
    plot->y0 = fmax(0, low - margin);
    plot->y1 = high + margin;
  }
  qe_free(values);
  return QE_OK;
}

static double value_of(const point *p, int which) {
  return which == 0 ? p->best : which == 1 ? p->held_out : p->mean;
}

/* A curve of at most about MOST_POINTS points, each the mean of its neighbours. */
static void add_curve(qe_page *page, const history *h, const qe_plot *plot, int which) {
  size_t every = h->point_count / MOST_POINTS + 1, used = 0;
  for (size_t i = 0; i < h->point_count; i += every) {
    double sum = 0, spent = 0;
    int count = 0;
    for (size_t k = i; k < i + every && k < h->point_count; k++) {
      double value = value_of(&h->points[k], which);
      if (value < 0) continue;
      sum += value;
      spent += h->points[k].spent;
      count++;
    }
    if (count == 0) continue;
    if (used++ == 0) qe_page_add(page, "<polyline class=\"l%d\" points=\"", which);
    qe_page_add(page, "%.1f,%.1f ", qe_plot_x(plot, spent / count), qe_plot_y(plot, sum / count));
  }
  if (used) qe_page_add(page, "\"/>\n");
}

/* Where stages end, with their names, and the held-out loss there. */
static void add_endings(qe_page *page, const history *h, const qe_plot *plot) {
  for (size_t i = 0; i < h->ending_count; i++) {
    const ending *end = &h->endings[i];
    double x = qe_plot_x(plot, end->spent);
    qe_page_add(page, "<line class=\"edge\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x, plot->top,
                plot->top + plot->height);
    if (i > 0) {
      qe_page_add(page, "<text class=\"faint end\" x=\"%.1f\" y=\"%.1f\">", x - 4,
                  plot->top + 11 + 13 * (double)(i % 3));
      qe_page_text(page, end->stage);
      qe_page_add(page, "</text>");
    }
    if (end->held_out >= 0)
      qe_page_add(page, "<circle class=\"f1\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>", x, qe_plot_y(plot, end->held_out));
  }
}

static qe_status add_fitness(qe_page *page, const history *h) {
  qe_plot plot = {.y1 = 1, .top = 40, .height = 260};
  for (size_t i = 0; i < h->point_count; i++) plot.x1 = fmax(plot.x1, h->points[i].spent);
  for (size_t i = 0; i < h->ending_count; i++) plot.x1 = fmax(plot.x1, h->endings[i].spent);
  QE_TRY(find_range(h, &plot));
  qe_page_add(page, "<h2>Fitness</h2>\n<svg viewBox=\"0 0 %d 340\" role=\"img\">\n", QE_PLOT_WIDTH);
  qe_plot_axes(page, &plot, "candidate-images", "loss, nats");
  add_curve(page, h, &plot, 2);
  add_curve(page, h, &plot, 0);
  add_curve(page, h, &plot, 1);
  add_endings(page, h, &plot);
  static const char *const names[] = {"best of a generation", "held-out images", "mean of a generation"};
  for (int i = 0; i < 3; i++)
    qe_page_add(page,
                "<rect class=\"f%d\" x=\"%d\" y=\"5\" width=\"14\" height=\"4\"/><text x=\"%d\" y=\"11\">%s</text>", i,
                330 + 165 * i, 350 + 165 * i, names[i]);
  qe_page_add(page,
              "</svg>\n<p>Generations are evaluated on different images, so that their curves scatter. A dashed line "
              "is the end of a stage, its dot the loss on all held-out images.</p>\n");
  return QE_OK;
}

/* ---- confidence ---- */

static double least_confidence(const history *h) {
  double least = 1;
  for (size_t i = 0; i < h->cell_count; i++) least = fmin(least, h->cells[i].confidence);
  return fmin(floor(least * 50) / 50, 0.98);
}

static void add_scale(qe_page *page, double low, double y) {
  for (int i = 0; i < 6; i++)
    qe_page_add(page,
                "<rect class=\"cold\" x=\"%d\" y=\"%.1f\" width=\"24\" height=\"12\"/>"
                "<rect class=\"f0\" fill-opacity=\"%.2f\" x=\"%d\" y=\"%.1f\" width=\"24\" height=\"12\"/>",
                160 + 24 * i, y, i / 5.0, 160 + 24 * i, y);
  qe_page_add(page,
              "<text class=\"end faint\" x=\"154\" y=\"%.1f\">%.2f</text><text class=\"faint\" x=\"310\" "
              "y=\"%.1f\">1</text>\n",
              y + 10, low, y + 10);
}

static void add_confidence_map(qe_page *page, const history *h) {
  enum { ROW = 16, LEFT = 160, WIDTH = QE_PLOT_WIDTH - LEFT - 10 };
  if (h->cell_count == 0) return;
  size_t every = (h->column_count + MOST_COLUMNS - 1) / MOST_COLUMNS, columns = (h->column_count + every - 1) / every;
  double low = least_confidence(h), wide = (double)WIDTH / (double)columns, bottom = ROW * (double)h->layer_count;
  qe_page_add(page, "<h2>Confidence by layer</h2>\n<svg viewBox=\"0 0 %d %.0f\" role=\"img\">\n", QE_PLOT_WIDTH,
              bottom + 44);
  for (size_t i = 0; i < h->layer_count; i++) {
    qe_page_add(page, "<text class=\"end\" x=\"%d\" y=\"%.1f\">", LEFT - 8, ROW * (double)i + 12);
    qe_page_text(page, h->layers[i]);
    qe_page_add(page, "</text><rect class=\"cold\" x=\"%d\" y=\"%zu\" width=\"%d\" height=\"%d\"/>\n", LEFT, ROW * i,
                WIDTH, ROW - 1);
  }
  for (size_t i = 0; i < h->cell_count; i++) {
    const cell *c = &h->cells[i];
    if (c->column % every != 0) continue;
    qe_page_add(page, "<rect class=\"f0\" fill-opacity=\"%.2f\" x=\"%.2f\" y=\"%zu\" width=\"%.2f\" height=\"%d\"/>",
                fmax(0, (c->confidence - low) / (1 - low)), LEFT + wide * (double)(c->column / every), ROW * c->layer,
                wide, ROW - 1);
  }
  add_scale(page, low, bottom + 16);
  qe_page_add(page, "<text class=\"end faint\" x=\"%d\" y=\"%.1f\">cycles, to %.3g M candidate-images</text></svg>\n",
              QE_PLOT_WIDTH - 10, bottom + 26, h->columns[h->column_count - 1] / 1e6);
  qe_page_add(page, "<p>Mean probability of the likeliest code of a layer's weights, one column a cycle.</p>\n");
}

/* ---- codes ---- */

static void count_codes(const qe_network_layer *layer, int bars, int64_t *counts) {
  int64_t count = qe_count(&layer->weight_desc);
  int codes = (layer->grid.high - layer->grid.low) / layer->grid.spacing + 1;
  for (int64_t i = 0; i < count; i++) {
    int field = (layer->weight[i] - layer->grid.low) / layer->grid.spacing;
    counts[field * bars / codes]++;
  }
}

static int64_t count_changed(const qe_network_layer *a, const qe_network_layer *b) {
  int64_t count = qe_count(&a->weight_desc), changed = 0;
  for (int64_t i = 0; i < count; i++) changed += a->weight[i] != b->weight[i];
  return changed;
}

/* A small histogram with its corner at (x, y): the start behind, what it has become before it. */
static void add_histogram(qe_page *page, const qe_network_layer *start, const qe_network_layer *now, double x,
                          double y) {
  enum { WIDE = 142, HIGH = 62 };
  int codes = (start->grid.high - start->grid.low) / start->grid.spacing + 1,
      bars = codes < MOST_BARS ? codes : MOST_BARS;
  int64_t before[MOST_BARS] = {0}, after[MOST_BARS] = {0}, most = 1;
  count_codes(start, bars, before);
  count_codes(now, bars, after);
  for (int i = 0; i < bars; i++) {
    most = before[i] > most ? before[i] : most;
    most = after[i] > most ? after[i] : most;
  }
  double each = (double)WIDE / bars;
  for (int i = 0; i < bars; i++) {
    double old = HIGH * (double)before[i] / (double)most, new = HIGH *(double)after[i] / (double)most;
    qe_page_add(page,
                "<rect class=\"f2\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>"
                "<rect class=\"f0\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
                x + each * i, y + HIGH - old, each - 1, old, x + each * (i + 0.3), y + HIGH - new, 0.4 * each, new);
  }
  qe_page_add(page, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x + WIDE,
              y + HIGH + 0.5, y + HIGH + 0.5);
  qe_page_add(page,
              "<text class=\"faint\" x=\"%.1f\" y=\"%.1f\">%d</text><text class=\"faint end\" x=\"%.1f\" "
              "y=\"%.1f\">%d</text>",
              x, y + HIGH + 13, start->grid.low, x + WIDE, y + HIGH + 13, start->grid.high);
  qe_page_add(page, "<text x=\"%.1f\" y=\"%.1f\">", x, y - 18);
  qe_page_text(page, now->name);
  qe_page_add(page, "</text><text class=\"faint\" x=\"%.1f\" y=\"%.1f\">%.2f %% changed</text>\n", x, y - 4,
              100 * (double)count_changed(start, now) / (double)qe_count(&start->weight_desc));
}

static void add_codes(qe_page *page, const qe_network *start, const qe_network *now) {
  enum { COLUMNS = 5, CELL_WIDE = 164, CELL_HIGH = 124 };
  size_t weighted = 0, at = 0;
  for (size_t i = 0; i < now->layers; i++) weighted += now->layer[i].weight != NULL;
  qe_page_add(page,
              "<h2>Codes of the weights</h2>\n<p>Grey: at the start; colour: now. Layers with more than %d codes are "
              "drawn in %d bars.</p>\n<svg viewBox=\"0 0 %d %zu\" role=\"img\">\n",
              MOST_BARS, MOST_BARS, QE_PLOT_WIDTH, (weighted + COLUMNS - 1) / COLUMNS * CELL_HIGH);
  for (size_t i = 0; i < now->layers && i < start->layers; i++) {
    if (!now->layer[i].weight || !start->layer[i].weight) continue;
    add_histogram(page, &start->layer[i], &now->layer[i], (double)(at % COLUMNS * CELL_WIDE),
                  (double)(at / COLUMNS * CELL_HIGH) + 36);
    at++;
  }
  qe_page_add(page, "</svg>\n");
}

/* ---- the whole ---- */

static void add_row(qe_page *page, const char *name, const qe_score *start, const qe_score *now) {
  if (now->images == 0) return;
  qe_page_add(page, "<tr><td>%s, %lld images</td><td>%.2f %%</td><td>%.2f %%</td><td>%.4f</td><td>%.4f</td></tr>\n",
              name, (long long)now->images, start->top1, now->top1, start->loss, now->loss);
}

static void add_summary(qe_page *page, const qe_setting *setting, const qe_result *result) {
  qe_page_add(page, "<p>Stages: ");
  qe_page_text(page, *setting->search.stages ? setting->search.stages : "none");
  qe_page_add(page, ". Data: ");
  qe_page_text(page, setting->data->source);
  qe_page_add(page, ". Seed %llu. %lld candidate-images in %.0f s.</p>\n", (unsigned long long)setting->options.seed,
              (long long)result->candidate_images, result->seconds);
  if (result->held_out.images == 0 && result->final.images == 0) return;
  qe_page_add(page, "<table><tr><th></th><th>top-1, start</th><th>now</th><th>loss, start</th><th>now</th></tr>\n");
  add_row(page, "test", &result->start, &result->final);
  add_row(page, "held out", &result->start_held_out, &result->held_out);
  qe_page_add(page, "</table>\n");
}

qe_status qe_coevolution_report(const qe_setting *setting, const qe_network *start, const qe_network *now,
                                const qe_result *result) {
  char *path;
  history h = {0};
  qe_page page = {0};
  QE_TRY(qe_run_path(setting->run, "report.html", &path));
  if (!path) return QE_OK;
  qe_status status = read_history(setting->run, &h);
  qe_page_open(&page, "Cooperative coevolution");
  add_summary(&page, setting, result);
  if (status == QE_OK) status = add_fitness(&page, &h);
  add_confidence_map(&page, &h);
  add_codes(&page, start, now);
  if (status == QE_OK)
    status = qe_page_write(&page, path);
  else
    qe_free(page.text);
  free_history(&h);
  qe_free(path);
  return status;
}
