/* Loss surfaces: their points evaluated one side after the other. */
#include "core/surface/surface.h"

#include "core/base/alloc.h"
#include "core/graph/codes.h"
#include "core/graph/integer.h"
#include "core/surface/images.h"
#include "core/surface/integers.h"
#include "core/surface/layout.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

qe_surface_options qe_surface_defaults(void) {
  return (qe_surface_options){.grid = 31,
                              .path = 31,
                              .margin = 0.3,
                              .reach = 1,
                              .by_filter = true,
                              .rounded = true,
                              .estimate = true,
                              .images = 512,
                              .norm_images = 256,
                              .seed = 1};
}

typedef struct making {
  qe_device *device;
  const qe_surface_model *model;
  const qe_surface_options *options;
  qe_surface_images_used images;
  qe_surface *surface;
  qe_surface_layout layout;
  float *values; /* of the point at work */
  bool rounded;  /* the models have quantised weights: there are two sides */
  qe_surface_report report;
  void *context;
  double seconds; /* of float programs, without statistics */
  int64_t spent;  /* candidate-images that went through them */
} making;

/* ---- notes ---- */

static qe_status note(qe_surface *surface, const char *key, const char *text) {
  return qe_tensors_set_meta(surface->notes, key, text);
}

static qe_status note_number(qe_surface *surface, const char *key, int64_t number) {
  char text[32];
  snprintf(text, sizeof text, "%lld", (long long)number);
  return note(surface, key, text);
}

static qe_status note_setting(const making *m, const qe_dataset *data) {
  const qe_surface_options *options = m->options;
  const qe_model *model = m->model[0].model;
  QE_TRY(note(m->surface, "network", model->spec.name));
  QE_TRY(note(m->surface, "data", data->name ? data->name : ""));
  QE_TRY(note_number(m->surface, "train_images", m->images.train));
  QE_TRY(note_number(m->surface, "test_images", m->images.test));
  QE_TRY(note_number(m->surface, "norm_images", options->estimate ? m->images.norm : 0));
  QE_TRY(note(m->surface, "corners", options->rounded ? "rounded" : "shadow"));
  QE_TRY(note_number(m->surface, "seed", (int64_t)options->seed));
  return note(m->surface, "directions", options->by_filter ? "filter" : "whole");
}

static qe_status note_rate(const making *m, const char *side, const char *how, int64_t spent, double seconds) {
  char key[32], text[160];
  snprintf(key, sizeof key, "%s_rate", side);
  QE_TRY(note_number(m->surface, key, seconds > 0 ? (int64_t)((double)spent / seconds) : 0));
  snprintf(key, sizeof key, "%s_candidate_images", side);
  QE_TRY(note_number(m->surface, key, spent));
  snprintf(text, sizeof text, "%s, backend %s", how, m->device->backend->name);
  return note(m->surface, side, text);
}

/* ---- points ---- */

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static qe_status tell(const making *m, qe_surface_side side, size_t done, int64_t spent, double seconds) {
  int64_t first = m->rounded ? (int64_t)m->surface->points : 0;
  qe_surface_progress progress = {.side = side,
                                  .points = (int64_t)done + (side == QE_SIDE_REAL ? first : 0),
                                  .all = first + (int64_t)(m->surface->points - m->surface->saved),
                                  .per_second = seconds > 0 ? (double)spent / seconds : 0};
  return m->report ? m->report(m->context, &progress) : QE_OK;
}

/* Parameters of point `at`, with the statistics that it is to have: saved models keep theirs. */
static qe_status make_values(const making *m, size_t at, qe_surface_programs *programs) {
  QE_TRY(qe_blend_values(&m->layout.space, &m->layout.blend[at], m->values));
  if (!m->options->estimate || at >= m->surface->points - m->surface->saved) return QE_OK;
  return qe_surface_programs_estimate(programs, m->values);
}

static qe_status run_integers(const making *m, qe_surface_programs *programs, qe_surface_integers *integers) {
  double seconds;
  int64_t spent;
  size_t first = (size_t)(qe_surface_marks(m->surface) - m->surface->point);
  for (size_t i = 0; i < m->surface->points; i++) {
    QE_TRY(make_values(m, i, programs));
    QE_TRY(qe_surface_integers_add(integers, m->values, &m->surface->point[i]));
    if (i + 1 >= first)
      QE_TRY(qe_surface_integers_flush(integers)); /* models are evaluated alone, exactly as they are */
    spent = qe_surface_integers_spent(integers, &seconds);
    QE_TRY(tell(m, QE_SIDE_ROUNDED, i + 1, spent, seconds));
  }
  QE_TRY(qe_surface_integers_flush(integers));
  spent = qe_surface_integers_spent(integers, &seconds);
  char how[96];
  snprintf(how, sizeof how, "integer networks as one population, engine %s", qe_surface_integers_engine(integers));
  return note_rate(m, "quantised", how, spent, seconds);
}

static qe_status evaluate_integers(making *m) {
  qe_surface_programs programs = {0};
  qe_surface_integers *integers = NULL;
  qe_status status = QE_OK;
  if (m->options->estimate)
    status =
        qe_surface_programs_open(m->device, m->model[0].model, &m->images, m->options->batch, true, false, &programs);
  if (status == QE_OK)
    status = qe_surface_integers_open(m->device, m->layout.space.graph, &m->images, m->options, &integers);
  if (status == QE_OK) status = run_integers(m, &programs, integers);
  qe_surface_integers_close(integers);
  qe_surface_programs_close(&programs);
  return status;
}

static qe_status run_programs(making *m, qe_surface_side side, qe_surface_programs *programs) {
  m->seconds = 0;
  m->spent = 0;
  size_t points = m->surface->points - (side == QE_SIDE_REAL ? m->surface->saved : 0);
  for (size_t i = 0; i < points; i++) {
    QE_TRY(make_values(m, i, programs));
    double start = now();
    QE_TRY(qe_surface_programs_score(programs, m->values, m->surface->point[i].value[side]));
    m->seconds += now() - start;
    m->spent += m->images.train + m->images.test;
    QE_TRY(tell(m, side, i + 1, m->spent, m->seconds));
  }
  return note_rate(m, side == QE_SIDE_ROUNDED ? "quantised" : "unquantised",
                   side == QE_SIDE_ROUNDED ? "float programs with fake quantisers" : "float programs", m->spent,
                   m->seconds);
}

static qe_status evaluate_programs(making *m, qe_surface_side side) {
  qe_surface_programs programs;
  QE_TRY(qe_surface_programs_open(m->device, m->model[0].model, &m->images, m->options->batch, side == QE_SIDE_ROUNDED,
                                  true, &programs));
  qe_status status = run_programs(m, side, &programs);
  qe_surface_programs_close(&programs);
  return status;
}

/* ---- the whole ---- */

static bool has_codes(const qe_model *model) {
  qe_weight_codes codes;
  for (size_t i = 0; i < model->graph->nodes; i++)
    if (qe_weight_codes_of(model->graph, model->values, (qe_node)i, &codes)) return true;
  return false;
}

/* Whether the models have integer networks; why not becomes a note. */
static qe_status has_integer_network(const making *m, bool *has) {
  qe_network *network = NULL;
  const qe_model *model = m->model[m->layout.corner[0]].model;
  qe_status status = qe_network_from_graph(model->graph, model->values, &network);
  *has = status == QE_OK;
  qe_network_free(network);
  if (status != QE_REFUSED) return status;
  status = note(m->surface, "why_not_integer", qe_message());
  qe_message_clear();
  return status;
}

static qe_status evaluate_all(making *m) {
  bool integer = false;
  m->rounded = has_codes(m->model[0].model);
  if (m->rounded) QE_TRY(has_integer_network(m, &integer));
  if (m->rounded) QE_TRY(integer ? evaluate_integers(m) : evaluate_programs(m, QE_SIDE_ROUNDED));
  return evaluate_programs(m, QE_SIDE_REAL);
}

static qe_status check_data(const qe_surface_model *model, const qe_dataset *data) {
  const qe_graph *graph = model->model->graph;
  const int32_t *dim = graph->node[0].output.dim;
  int32_t classes = graph->node[qe_graph_output(graph)].output.dim[QE_C];
  if (dim[QE_H] == data->height && dim[QE_W] == data->width && dim[QE_C] == data->channels && classes == data->classes)
    return QE_OK;
  return qe_fail(QE_SHAPE, "%s is for images of %dx%dx%d and %d classes, the data have %dx%dx%d and %d", model->name,
                 dim[QE_H], dim[QE_W], dim[QE_C], classes, data->height, data->width, data->channels, data->classes);
}

static qe_status check_options(const qe_surface_options *options) {
  const int most = 1001;
  if (options->grid < 0 || options->grid == 1 || options->grid > most || options->path < 0 || options->path == 1 ||
      options->path > 100 * most)
    return qe_fail(QE_USAGE, "a surface has 2 to %d points a side, a path 2 or more; 0: none", most);
  if (options->margin >= 0 && options->reach > 0) return QE_OK;
  return qe_fail(QE_USAGE, "a surface's margin must not be negative, its reach above 0");
}

static qe_status make(making *m, const qe_dataset *data, size_t models) {
  qe_dataset *chosen = NULL;
  m->surface->notes = qe_tensors_new();
  m->values = qe_alloc(qe_graph_param_bytes(m->model[0].model->graph));
  if (!m->surface->notes || !m->values) return QE_NO_MEMORY;
  QE_TRY(check_data(&m->model[0], data));
  QE_TRY(qe_surface_lay_out(m->model, models, m->options, m->surface, &m->layout));
  int32_t norm = m->options->estimate ? m->options->norm_images : 0;
  QE_TRY(qe_surface_images(data, m->options->images, norm, m->options->seed, &chosen));
  int32_t all = chosen->train_images, wanted = m->options->images;
  m->images.data = chosen;
  m->images.train = wanted > 0 && wanted < data->train_images ? wanted : data->train_images;
  m->images.test = chosen->test_images;
  m->images.norm = all - m->images.train;
  qe_status status = note_setting(m, data);
  if (status == QE_OK) status = evaluate_all(m);
  qe_dataset_free(chosen);
  return status;
}

qe_status qe_surface_make(qe_device *device, const qe_dataset *data, const qe_surface_model *model, size_t models,
                          const qe_surface_options *options, qe_surface_report report, void *context,
                          qe_surface **surface) {
  QE_TRY(check_options(options));
  if (models == 0) return qe_fail(QE_USAGE, "a surface needs a model");
  making m = {.device = device, .model = model, .options = options, .report = report, .context = context};
  m.surface = QE_NEW(qe_surface);
  if (!m.surface) return QE_NO_MEMORY;
  qe_status status = make(&m, data, models);
  qe_surface_layout_free(&m.layout);
  qe_free(m.values);
  if (status == QE_OK)
    *surface = m.surface;
  else
    qe_surface_free(m.surface);
  return status;
}
