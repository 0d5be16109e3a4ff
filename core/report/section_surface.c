/* Section: a loss surface, as `report surface` has left it in a run's folder. */
#include "core/base/alloc.h"
#include "core/page/plot.h"
#include "core/report/report_parts.h"
#include "core/report/surface_view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what it is ---- */

static void add_side(qe_page *page, const qe_surface *surface, const char *side, const char *head) {
  const char *how = qe_surface_note(surface, side), *rate;
  char key[32], text[QE_NUMBER_TEXT];
  if (!*how) return;
  qe_page_words(page, head, how, "");
  snprintf(key, sizeof key, "%s_rate", side);
  rate = qe_surface_note(surface, key);
  if (*rate) qe_page_add(page, ", %s candidate-images/s", qe_count_text(strtod(rate, NULL), text));
  qe_page_add(page, ". ");
}

static void add_geometry(qe_page *page, const qe_surface *surface) {
  bool shadow = strcmp(qe_surface_note(surface, "corners"), "shadow") == 0;
  if (surface->grid == 0) return;
  if (surface->directions) {
    qe_page_add(page, "<p>A plane of %d by %d points around the model, along two random directions, %s.</p>\n",
                surface->grid, surface->grid,
                strcmp(qe_surface_note(surface, "directions"), "filter") == 0
                    ? "each filter of them as long as the model's"
                    : "each as long as all weights together");
    return;
  }
  qe_page_add(page,
              "<p>A plane of %d by %d points through %s of three models, 1, 2 and 3. Distances are Euclidean, and the "
              "same along both axes. Other models are marked at the foot of their weights in the plane.</p>\n",
              surface->grid, surface->grid, shadow ? "the weights (before quantisation)" : "the quantised weights");
}

static void add_how(qe_page *page, const qe_surface *surface) {
  const char *norm = qe_surface_note(surface, "norm_images");
  qe_page_words(page, "<p class=\"note\">", qe_surface_note(surface, "network"), "");
  qe_page_words(page, " on ", qe_surface_note(surface, "data"), ", ");
  qe_page_words(page, "", qe_surface_note(surface, "train_images"), " training and ");
  qe_page_words(page, "", qe_surface_note(surface, "test_images"), " test images. ");
  add_side(page, surface, "quantised", "Quantised: ");
  if (*qe_surface_note(surface, "why_not_integer"))
    qe_page_words(page, "There is no integer network: ", qe_surface_note(surface, "why_not_integer"), ". ");
  add_side(page, surface, "unquantised", "Weights as they are: ");
  qe_page_add(page, "Activations are quantised as the models have it, on both sides. ");
  if (strcmp(norm, "0") != 0)
    qe_page_words(page, "Batch-norm statistics are estimated anew at every point, on ", norm,
                  " other training images; the models as they were saved have columns of their own in the table.");
  else
    qe_page_add(page, "Batch-norm statistics are blended from those of the models.");
  qe_page_add(page, "</p>\n");
}

/* ---- maps ---- */

static void add_map(qe_page *page, const qe_surface *surface, qe_surface_side side, int value) {
  qe_surface_field made;
  bool any;
  if (page->status != QE_OK) return;
  page->status = qe_surface_field_new(surface, side, value, &made, &any);
  if (page->status != QE_OK) return;
  if (any) qe_page_field(page, &made.field);
  qe_surface_field_free(&made);
}

static void add_maps(qe_page *page, const qe_surface *surface, int loss, int other) {
  qe_page_add(page, "<div class=\"charts\">\n");
  for (int i = 0; i < 2 * QE_SURFACE_SIDES; i++)
    add_map(page, surface, (qe_surface_side)(i % QE_SURFACE_SIDES), i < QE_SURFACE_SIDES ? loss : other);
  qe_page_add(page, "</div>\n");
}

static void add_key(qe_page *page, const qe_surface *surface) {
  static const struct {
    qe_surface_role role;
    qe_field_sign sign;
    const char *name;
  } rows[] = {{QE_ROLE_CORNER, QE_SIGN_DISC, "a model that the plane goes through"},
              {QE_ROLE_MARK, QE_SIGN_DOT, "another model"},
              {QE_ROLE_MEAN, QE_SIGN_TRIANGLE, "mean of the three"},
              {QE_ROLE_AVERAGE, QE_SIGN_STAR, "average"},
              {QE_ROLE_TUNED, QE_SIGN_DIAMOND, "fine-tuned"}};
  qe_page_add(page, "<ul class=\"key\">");
  for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
    bool is = false;
    for (size_t i = 0; i < surface->marks; i++) is |= surface->mark[i].role == rows[r].role;
    if (is) qe_page_sign(page, rows[r].sign, rows[r].name);
  }
  qe_page_add(page, "</ul>\n");
}

/* ---- marks as a table ---- */

static void add_cell(qe_page *page, float value, int places, const char *unit) {
  qe_page_add(page, "<td>");
  if (isfinite(value)) qe_page_add(page, "%.*f%s", places, (double)value, unit);
  qe_page_add(page, "</td>");
}

static void add_row(qe_page *page, const qe_surface *surface, size_t at, bool quantised) {
  const qe_surface_point *point = &qe_surface_marks(surface)[at], *saved = &qe_surface_saved(surface)[at];
  bool is_saved = at < surface->saved;
  qe_page_words(page, "<tr><td>", surface->mark[at].name, "</td>");
  if (surface->grid > 0 && !surface->directions) add_cell(page, point->off, 2, "");
  if (quantised && surface->saved > 0) {
    add_cell(page, is_saved ? saved->value[QE_SIDE_ROUNDED][QE_TEST_LOSS] : NAN, 4, "");
    add_cell(page, is_saved ? saved->value[QE_SIDE_ROUNDED][QE_TEST_ERROR] : NAN, 2, " %");
  }
  for (int side = quantised ? QE_SIDE_ROUNDED : QE_SIDE_REAL; side < QE_SURFACE_SIDES; side++) {
    add_cell(page, point->value[side][QE_TRAIN_LOSS], 4, "");
    add_cell(page, point->value[side][QE_TEST_LOSS], 4, "");
    add_cell(page, point->value[side][QE_TEST_ERROR], 2, " %");
  }
  qe_page_add(page, "</tr>\n");
}

static void add_table(qe_page *page, const qe_surface *surface) {
  bool quantised = qe_surface_has(surface, QE_SIDE_ROUNDED);
  qe_page_add(page, "<div class=\"scroll\" tabindex=\"0\"><table class=\"names\"><thead><tr><th>model</th>");
  if (surface->grid > 0 && !surface->directions) qe_page_add(page, "<th>from the<br>plane</th>");
  if (quantised && surface->saved > 0) qe_page_add(page, "<th>as saved:<br>test loss</th><th>test error</th>");
  if (quantised) qe_page_add(page, "<th>quantised:<br>training loss</th><th>test loss</th><th>test error</th>");
  qe_page_add(page,
              "<th>as they are:<br>training loss</th><th>test loss</th><th>test error</th></tr></thead><tbody>\n");
  for (size_t i = 0; i < surface->marks; i++) add_row(page, surface, i, quantised);
  qe_page_add(page, "</tbody></table></div>\n");
}

/* ---- paths ---- */

static const char *corner_name(const qe_surface *surface, int which) {
  for (size_t i = 0; i < surface->marks; i++)
    if (surface->mark[i].role == QE_ROLE_CORNER && which-- == 0) return surface->mark[i].name;
  return "";
}

static void draw_path(qe_page *page, const qe_surface *surface, bool loss, double *x, double *y, size_t count) {
  static const char *const name[QE_SURFACE_SIDES][2] = {{"training, quantised", "test, quantised"},
                                                        {"training, as they are", "test, as they are"}};
  const int value[2] = {loss ? QE_TRAIN_LOSS : QE_TRAIN_ERROR, loss ? QE_TEST_LOSS : QE_TEST_ERROR};
  qe_plot_line line[QE_SURFACE_SIDES * 2];
  qe_plot_edge edge[2];
  for (size_t i = 0; i < count; i++) x[i] = (double)qe_surface_path(surface)[i].x;
  for (int k = 0; k < QE_SURFACE_SIDES * 2; k++) {
    int side = k / 2, part = k % 2;
    double *to = y + (size_t)k * count;
    for (size_t i = 0; i < count; i++) to[i] = (double)qe_surface_path(surface)[i].value[side][value[part]];
    line[k] = (qe_plot_line){.name = name[side][part],
                             .colour = side,
                             .stroke = part == 0 ? QE_STROKE_DASHED : QE_STROKE_SOLID,
                             .x = x,
                             .y = to,
                             .count = count};
  }
  for (int leg = 0; leg < surface->legs; leg++)
    edge[leg] = (qe_plot_edge){x[(size_t)(leg + 1) * (size_t)(surface->path - 1)], corner_name(surface, leg + 1)};
  qe_page_line_chart(page, &(qe_line_chart){.title = loss ? "Loss from model to model" : "Error from model to model",
                                            .y_unit = loss ? "nats" : "%",
                                            .x_title = "distance of weights along the path",
                                            .line = line,
                                            .lines = QE_SURFACE_SIDES * 2,
                                            .edge = edge,
                                            .edges = (size_t)surface->legs});
}

static void add_path(qe_page *page, const qe_surface *surface) {
  size_t count = (size_t)(qe_surface_marks(surface) - qe_surface_path(surface));
  if (count == 0 || page->status != QE_OK) return;
  double *x = QE_NEW_ARRAY(double, count), *y = QE_NEW_ARRAY(double, 2 * QE_SURFACE_SIDES * count);
  if (!x || !y) page->status = QE_NO_MEMORY;
  qe_page_words(page, "<p>Along straight lines from ", corner_name(surface, 0), "");
  for (int leg = 0; leg < surface->legs; leg++) qe_page_words(page, " to ", corner_name(surface, leg + 1), "");
  qe_page_add(page, ":</p>\n<ul class=\"key\">");
  qe_page_key(page, "test, quantised weights", 0, QE_STROKE_SOLID);
  qe_page_key(page, "training, quantised weights", 0, QE_STROKE_DASHED);
  qe_page_key(page, "test, weights as they are", 1, QE_STROKE_SOLID);
  qe_page_key(page, "training, weights as they are", 1, QE_STROKE_DASHED);
  qe_page_add(page, "</ul>\n<div class=\"charts\">\n");
  for (int i = 0; page->status == QE_OK && i < 2; i++) draw_path(page, surface, i == 0, x, y, count);
  qe_page_add(page, "</div>\n");
  qe_free(x);
  qe_free(y);
}

/* ---- the whole ---- */

void qe_surface_view(qe_page *page, const qe_surface *surface) {
  add_geometry(page, surface);
  add_how(page, surface);
  if (surface->grid > 0) {
    add_maps(page, surface, QE_TEST_LOSS, QE_TRAIN_LOSS);
    add_key(page, surface);
    qe_page_add(page, "<details><summary>Maps of the errors</summary>\n");
    add_maps(page, surface, QE_TEST_ERROR, QE_TRAIN_ERROR);
    qe_page_add(page, "</details>\n");
  }
  add_table(page, surface);
  add_path(page, surface);
}

void qe_section_surface(qe_page *page, const qe_report *report, const qe_report_run *run) {
  (void)report;
  if (run->surface) qe_surface_view(page, run->surface);
}

qe_status qe_surface_write_page(const qe_surface *surface, const char *title, const char *path) {
  qe_page page = {0};
  qe_page_open(&page, title, 0);
  qe_page_words(&page, "<h1>", title, "</h1>\n");
  qe_surface_view(&page, surface);
  return qe_page_write(&page, path);
}
