/* train --find-rate: the sweep as text, CSV, JSON and SVG. */
#include "tools/find_rate.h"

#include "core/base/alloc.h"
#include "core/base/file.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the curve ---- */

enum { WIDTH = 760, HEIGHT = 400, LEFT = 60, RIGHT = 20, TOP = 30, BOTTOM = 50 };

typedef struct frame {
  double x0, x1, y0, y1; /* decimal logarithms of the rate; losses */
} frame;

static double x_of(const frame *f, double rate) {
  return LEFT + (log10(rate) - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const frame *f, double loss) {
  double part = (loss - f->y0) / (f->y1 - f->y0);
  return TOP + (1 - fmin(fmax(part, 0), 1)) * (HEIGHT - TOP - BOTTOM);
}

/* Losses up to a bit above the first: what blows up behind the edge would flatten all before it. */
static frame frame_of(const qe_rate_sweep *sweep) {
  const qe_rate_point *point = sweep->point;
  frame f = {.x0 = log10(point[0].rate), .x1 = log10(point[sweep->points - 1].rate), .y0 = point[0].loss};
  double most = point[0].loss;
  for (int32_t i = 0; i < sweep->points; i++) {
    f.y0 = fmin(f.y0, point[i].loss);
    if (point[i].rate <= sweep->edge) most = fmax(most, point[i].loss);
  }
  f.y1 = f.y0 + 1.3 * fmax(most - f.y0, 1e-9);
  if (f.x1 <= f.x0) f.x1 = f.x0 + 1;
  return f;
}

static void curve(FILE *file, const frame *f, const qe_rate_sweep *sweep, const char *name) {
  bool smooth = strcmp(name, "smooth") == 0;
  fprintf(file, "<polyline class=\"%s\" points=\"", name);
  for (int32_t i = 0; i < sweep->points; i++) {
    const qe_rate_point *point = &sweep->point[i];
    double loss = smooth ? point->smooth : point->loss;
    if (isfinite(loss)) fprintf(file, "%.1f,%.1f ", x_of(f, point->rate), y_of(f, loss));
  }
  fputs("\"/>\n", file);
}

static void axes(FILE *file, const frame *f) {
  for (int power = (int)ceil(f->x0); power <= (int)floor(f->x1); power++)
    fprintf(file,
            "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/><text class=\"mid\" x=\"%.1f\" "
            "y=\"%d\">1e%d</text>\n",
            x_of(f, pow(10, power)), x_of(f, pow(10, power)), TOP, HEIGHT - BOTTOM, x_of(f, pow(10, power)),
            HEIGHT - BOTTOM + 18, power);
  for (int i = 0; i <= 4; i++) {
    double loss = f->y0 + (f->y1 - f->y0) * i / 4;
    fprintf(file,
            "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text class=\"end\" x=\"%d\" "
            "y=\"%.1f\">%.3g</text>\n",
            LEFT, WIDTH - RIGHT, y_of(f, loss), y_of(f, loss), LEFT - 8, y_of(f, loss) + 4, loss);
  }
  fprintf(file,
          "<text x=\"%d\" y=\"%d\">loss: of each step, and smoothed</text><text class=\"end\" x=\"%d\" "
          "y=\"%d\">learning rate</text>\n",
          LEFT, TOP - 12, WIDTH - RIGHT, HEIGHT - 12);
}

static void mark(FILE *file, const frame *f, double rate, const char *text, int line) {
  double x = x_of(f, rate);
  if (x < LEFT || x > WIDTH - RIGHT) return;
  fprintf(file,
          "<line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/><text x=\"%.1f\" y=\"%d\">%s "
          "%.2g</text>\n",
          x, x, TOP, HEIGHT - BOTTOM, x + 4, TOP + 14 + 16 * line, text, rate);
}

static void print_svg(FILE *file, const qe_rate_sweep *sweep) {
  frame f = frame_of(sweep);
  fprintf(file, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n", WIDTH,
          HEIGHT, WIDTH, HEIGHT);
  fputs(
      "<style>svg{background:#fff;color:#1c2024}text{font:12px system-ui,sans-serif;fill:currentColor}.end{text-anchor:"
      "end}.mid{text-anchor:middle}.grid{stroke:#d9dde2}.raw{fill:none;stroke:#b9c3ce}.smooth{fill:none;stroke:#2f6db3;"
      "stroke-width:2}.mark{stroke:#c8731e;stroke-dasharray:4 3}@media(prefers-color-scheme:dark){svg{background:"
      "#15181b;color:#e6e8ea}.grid{stroke:#343a40}.raw{stroke:#566270}.smooth{stroke:#6ea8e6}}</style>\n",
      file);
  axes(file, &f);
  curve(file, &f, sweep, "raw");
  curve(file, &f, sweep, "smooth");
  mark(file, &f, sweep->suggested, "suggested", 0);
  mark(file, &f, sweep->edge, "edge", 1);
  fputs("</svg>\n", file);
}

static void print_csv(FILE *file, const qe_rate_sweep *sweep) {
  fputs("rate,loss,smoothed\n", file);
  for (int32_t i = 0; i < sweep->points; i++)
    fprintf(file, "%.6g,%.6g,%.6g\n", sweep->point[i].rate, sweep->point[i].loss, sweep->point[i].smooth);
}

/* ---- files ---- */

static qe_status write_printed(const char *folder, const char *name, const qe_rate_sweep *sweep,
                               void (*print)(FILE *file, const qe_rate_sweep *sweep)) {
  char *text = NULL, *path = qe_path_join(folder, name);
  size_t bytes = 0;
  if (!path) return QE_NO_MEMORY;
  FILE *file = open_memstream(&text, &bytes);
  qe_status status = file ? QE_OK : qe_fail(QE_NO_MEMORY, "%s: out of memory", path);
  if (file) {
    print(file, sweep);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) status = qe_fail(QE_NO_MEMORY, "%s: out of memory", path);
  }
  if (status == QE_OK) status = qe_file_write(path, text, bytes);
  free(text);
  qe_free(path);
  return status;
}

/* New text (qe_free) of the whole as an object. */
static qe_status json_text(const qe_options *options, const qe_rate_sweep *sweep, const qe_swept *of, char **text) {
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "option", of->option);
  qe_json_int(&json, "weight_bits", of->weights);
  qe_json_int(&json, "act_bits", of->activations);
  qe_json_real(&json, "suggested", sweep->suggested);
  qe_json_real(&json, "edge", sweep->edge);
  qe_json_real(&json, "lowest", sweep->lowest);
  qe_json_bool(&json, "diverged", sweep->diverged);
  qe_json_text(&json, "out", qe_option_text(options, "out"));
  qe_json_open_array(&json, "points");
  for (int32_t i = 0; i < sweep->points; i++) {
    qe_json_open_object(&json, NULL);
    qe_json_real(&json, "rate", sweep->point[i].rate);
    qe_json_real(&json, "loss", sweep->point[i].loss);
    qe_json_real(&json, "smoothed", sweep->point[i].smooth);
    qe_json_close(&json);
  }
  qe_json_close(&json);
  qe_json_close(&json);
  return qe_json_finish(&json, text, NULL);
}

static qe_status write_files(const char *folder, const qe_rate_sweep *sweep, const char *json) {
  char *path = qe_path_join(folder, "find-rate.json");
  if (!path) return QE_NO_MEMORY;
  qe_status status = qe_file_write(path, json, strlen(json));
  if (status == QE_OK) status = write_printed(folder, "find-rate.csv", sweep, print_csv);
  if (status == QE_OK) status = write_printed(folder, "find-rate.svg", sweep, print_svg);
  qe_free(path);
  return status;
}

/* ---- the command ---- */

static const char *bits_text(int bits, char text[16]) {
  snprintf(text, 16, "%d-bit", bits);
  return bits == QE_FLOAT_BITS ? "float" : text;
}

static void print_text(const qe_rate_sweep *sweep, const qe_swept *of, const char *folder) {
  char weights[16], activations[16];
  printf("suggested: --%s %.2g\n", of->option, sweep->suggested);
  printf("a tenth of %.2g, the largest rate at which the smoothed loss stays within 5 %% of its lowest (at %.2g)%s\n",
         sweep->edge, sweep->lowest,
         sweep->diverged ? "" : "; training had not broken down at the highest rate tried: larger ones may do");
  if (strcmp(of->option, "float-rate") == 0)
    puts("of the full-precision training that comes first; give --init MODEL to find the rate of what follows it");
  else
    printf("of training with %s weights and %s activations%s\n", bits_text(of->weights, weights),
           bits_text(of->activations, activations), of->stage ? ", the first stage" : "");
  if (folder) printf("curve: %s/find-rate.svg, numbers beside it\n", folder);
}

static qe_status report(const qe_options *options, const qe_rate_sweep *sweep, const qe_swept *of) {
  const char *folder = qe_option_text(options, "out");
  char *json = NULL;
  qe_status status = json_text(options, sweep, of, &json);
  if (status == QE_OK && folder) status = write_files(folder, sweep, json);
  if (status == QE_OK && qe_option_flag(options, "json"))
    puts(json);
  else if (status == QE_OK)
    print_text(sweep, of, folder);
  qe_free(json);
  return status;
}

/* A folder that cannot be written is told before the sweep. */
static qe_status open_folder(const char *folder) {
  if (!folder) return QE_OK;
  QE_TRY(qe_make_folders(folder));
  return access(folder, W_OK | X_OK) == 0 ? QE_OK : qe_file_fail(folder, "write into the folder", errno);
}

qe_status qe_train_find_rate(const qe_options *options, const qe_method *method, const qe_setting *setting,
                             qe_progress_function progress, void *context) {
  qe_rate_sweep sweep;
  qe_swept of;
  if (method->searches)
    return qe_fail(QE_USAGE,
                   "--find-rate: the method %s has no learning rate; it is for methods with gradients, as qat",
                   method->name);
  QE_TRY(open_folder(qe_option_text(options, "out")));
  QE_TRY(qe_method_find_rate(method, setting, progress, context, &of, &sweep));
  qe_status status = report(options, &sweep, &of);
  qe_rate_sweep_free(&sweep);
  return status;
}
