/* The points of a surface. */
#include "core/surface/layout.h"

#include "core/base/alloc.h"

#include <math.h>
#include <string.h>

/* ---- models ---- */

static bool same_layers(const qe_graph *a, const qe_graph *b) {
  bool same = a->nodes == b->nodes;
  for (size_t i = 0; same && i < a->nodes; i++)
    same = a->node[i].layer == b->node[i].layer && strcmp(a->node[i].name, b->node[i].name) == 0 &&
           memcmp(a->node[i].output.dim, b->node[i].output.dim, sizeof a->node[i].output.dim) == 0;
  return same;
}

static bool same_params(const qe_graph *a, const qe_graph *b) {
  bool same = a->params == b->params && qe_graph_param_bytes(a) == qe_graph_param_bytes(b);
  for (size_t i = 0; same && i < a->params; i++)
    same = strcmp(a->param[i].name, b->param[i].name) == 0 && a->param[i].offset == b->param[i].offset &&
           qe_bytes(&a->param[i].desc) == qe_bytes(&b->param[i].desc);
  return same;
}

qe_status qe_surface_alike(const qe_surface_model *a, const qe_surface_model *b) {
  const qe_graph *one = a->model->graph, *other = b->model->graph;
  bool same = same_layers(one, other);
  for (size_t i = 0; same && i < one->nodes; i++)
    if (!qe_same_quantizer(&one->node[i].quantizer, &other->node[i].quantizer))
      return qe_fail(QE_USAGE,
                     "%s and %s differ in the bits or the rule of layer %s; a surface goes through models with the "
                     "same quantisers",
                     a->name, b->name, one->node[i].name);
  if (same && same_params(one, other)) return QE_OK;
  return qe_fail(QE_USAGE, "%s and %s are not of the same network at the same bits", a->name, b->name);
}

static qe_status copy_values(const qe_surface_model *model, size_t models, bool rounded, qe_surface_layout *l) {
  size_t bytes = qe_graph_param_bytes(model[0].model->graph);
  l->values = QE_NEW_ARRAY(float *, models);
  if (!l->values) return QE_NO_MEMORY;
  l->models = models;
  for (size_t i = 0; i < models; i++) {
    QE_TRY(qe_surface_alike(&model[0], &model[i]));
    if (!(l->values[i] = qe_alloc(bytes))) return QE_NO_MEMORY;
    memcpy(l->values[i], model[i].model->values, bytes);
    if (rounded) QE_TRY(qe_blend_round_weights(model[i].model->graph, l->values[i]));
  }
  l->space = (qe_blend_space){.graph = model[0].model->graph, .values = (const float *const *)l->values};
  return QE_OK;
}

/* The first, the middle and the last of the corners. */
static void choose_corners(const qe_surface_model *model, size_t models, qe_surface_layout *l) {
  int found = 0, all = 0;
  for (size_t i = 0; i < models; i++) all += model[i].role == QE_ROLE_CORNER;
  l->corners = all < QE_BLEND_MODELS ? all : QE_BLEND_MODELS;
  const int wanted[QE_BLEND_MODELS] = {0, l->corners == 2 ? 1 : (all - 1) / 2, all - 1};
  for (size_t i = 0; i < models; i++) {
    if (model[i].role != QE_ROLE_CORNER) continue;
    for (int c = 0; c < l->corners; c++)
      if (wanted[c] == found) l->corner[c] = (int)i;
    found++;
  }
}

static qe_status make_directions(const qe_surface_options *options, qe_surface_layout *l) {
  const qe_graph *graph = l->space.graph;
  for (int d = 0; d < QE_BLEND_DIRECTIONS; d++) {
    l->direction[d] = QE_NEW_ARRAY(float, qe_blend_weights(graph));
    if (!l->direction[d]) return QE_NO_MEMORY;
    qe_blend_direction(graph, l->values[l->corner[0]], options->seed, d, options->by_filter, l->direction[d]);
    l->space.direction[d] = l->direction[d];
  }
  return QE_OK;
}

/* ---- the plane ---- */

static qe_blend only(int model) {
  return (qe_blend){.model = {model, model, model}};
}

/* Corners and, where they are not further away than the plane is wide, marks. */
static void find_box(const qe_surface *surface, const qe_surface_layout *l, double low[2], double high[2]) {
  const qe_plane *plane = &l->plane;
  low[0] = fmin(0, plane->slant);
  high[0] = fmax(plane->edge, plane->slant);
  low[1] = 0;
  high[1] = plane->height;
  double side = fmax(high[0] - low[0], high[1] - low[1]);
  const double far[4] = {low[0] - side, high[0] + side, low[1] - side, high[1] + side};
  for (size_t i = 0; i < surface->marks; i++) {
    const qe_surface_point *mark = &qe_surface_marks(surface)[i];
    double x = (double)mark->x, y = (double)mark->y;
    if (!(x > far[0] && x < far[1] && y > far[2] && y < far[3])) continue;
    low[0] = fmin(low[0], x);
    high[0] = fmax(high[0], x);
    low[1] = fmin(low[1], y);
    high[1] = fmax(high[1], y);
  }
}

/* A square, so that distances are the same along both axes. */
static void lay_grid(const qe_surface_options *options, qe_surface *surface, qe_surface_layout *l) {
  double low[2] = {-options->reach, -options->reach}, high[2] = {options->reach, options->reach}, margin = 0;
  if (l->corners == QE_BLEND_MODELS) {
    find_box(surface, l, low, high);
    margin = options->margin;
  }
  double side = fmax(high[0] - low[0], high[1] - low[1]) * (1 + 2 * margin), step = side / (surface->grid - 1);
  double x0 = (low[0] + high[0] - side) / 2, y0 = (low[1] + high[1] - side) / 2;
  for (int i = 0; i < surface->grid * surface->grid; i++) {
    qe_surface_point *point = &surface->point[i];
    point->x = (float)(x0 + step * (i % surface->grid));
    point->y = (float)(y0 + step * (i / surface->grid));
    double x = (double)point->x, y = (double)point->y; /* as they will be told */
    l->blend[i] = l->corners == QE_BLEND_MODELS ? qe_plane_blend(&l->plane, x, y) : only(l->corner[0]);
    if (l->corners < QE_BLEND_MODELS) memcpy(l->blend[i].along, (double[]){x, y}, sizeof l->blend[i].along);
  }
}

/* ---- the path ---- */

static void lay_path(qe_surface *surface, qe_surface_layout *l) {
  size_t at = (size_t)surface->grid * (size_t)surface->grid;
  double start = 0;
  for (int leg = 0; leg < surface->legs; leg++) {
    int from = l->corner[leg], to = l->corner[leg + 1];
    double length = qe_plane_distance(&l->space, from, to);
    for (int i = leg > 0; i < surface->path; i++, at++) {
      double share = (double)i / (surface->path - 1);
      surface->point[at].x = (float)(start + share * length);
      l->blend[at] = (qe_blend){.model = {from, to, from}, .share = {0, share, 0}};
    }
    start += length;
  }
}

/* ---- marks ---- */

static void place_mark(const qe_surface_model *model, const qe_surface_layout *l, int at, qe_surface_point *point) {
  double x = (double)NAN, y = (double)NAN, off = 0;
  if (l->corners == QE_BLEND_MODELS)
    qe_plane_place(&l->space, &l->plane, at, &x, &y, &off);
  else if (l->corners == 1 && model->role == QE_ROLE_CORNER)
    x = y = 0;
  point->x = (float)x;
  point->y = (float)y;
  point->off = (float)off;
}

static qe_status add_mark(qe_surface *surface, const char *name, qe_surface_role role) {
  surface->mark[surface->marks].role = role;
  surface->mark[surface->marks].name = qe_strdup(name);
  return surface->mark[surface->marks++].name ? QE_OK : QE_NO_MEMORY;
}

static bool is_corner(const qe_surface_layout *l, int model) {
  for (int c = 0; c < l->corners; c++)
    if (l->corner[c] == model) return true;
  return false;
}

static qe_status lay_marks(const qe_surface_model *model, qe_surface *surface, qe_surface_layout *l) {
  size_t first = (size_t)(qe_surface_marks(surface) - surface->point), saved = surface->points - surface->saved;
  for (size_t i = 0; i < l->models; i++) {
    bool spare = model[i].role == QE_ROLE_CORNER && !is_corner(l, (int)i);
    QE_TRY(add_mark(surface, model[i].name, spare ? QE_ROLE_MARK : model[i].role));
    place_mark(&model[i], l, (int)i, &surface->point[first + i]);
    l->blend[first + i] = only((int)i);
    if (i < surface->saved) l->blend[saved + i] = l->blend[first + i];
    if (i < surface->saved) surface->point[saved + i] = surface->point[first + i];
  }
  if (l->corners < QE_BLEND_MODELS) return QE_OK;
  const qe_plane *plane = &l->plane;
  size_t mean = first + l->models;
  surface->point[mean].x = (float)((plane->edge + plane->slant) / 3);
  surface->point[mean].y = (float)(plane->height / 3);
  l->blend[mean] = (qe_blend){.model = {l->corner[0], l->corner[1], l->corner[2]}, .share = {0, 1.0 / 3, 1.0 / 3}};
  return add_mark(surface, "mean of the three", QE_ROLE_MEAN);
}

/* ---- the whole ---- */

static qe_status count_points(const qe_surface_options *options, qe_surface *surface, const qe_surface_layout *l) {
  size_t marks = l->models + (l->corners == QE_BLEND_MODELS);
  surface->directions = l->corners == 1;
  surface->grid = l->corners == 2 ? 0 : options->grid;
  surface->legs = options->path > 0 ? l->corners - 1 : 0;
  surface->path = surface->legs > 0 ? options->path : 0;
  surface->saved = options->estimate ? l->models : 0;
  surface->points = (size_t)surface->grid * (size_t)surface->grid + marks + surface->saved;
  if (surface->legs > 0) surface->points += (size_t)surface->legs * (size_t)(surface->path - 1) + 1;
  surface->point = QE_NEW_ARRAY(qe_surface_point, surface->points);
  surface->mark = QE_NEW_ARRAY(qe_surface_mark, marks);
  if (!surface->point || !surface->mark) return QE_NO_MEMORY;
  for (size_t i = 0; i < surface->points; i++)
    for (int v = 0; v < QE_SURFACE_SIDES * QE_SURFACE_VALUES; v++)
      surface->point[i].value[v / QE_SURFACE_VALUES][v % QE_SURFACE_VALUES] = NAN;
  return QE_OK;
}

qe_status qe_surface_lay_out(const qe_surface_model *model, size_t models, const qe_surface_options *options,
                             qe_surface *surface, qe_surface_layout *l) {
  choose_corners(model, models, l);
  if (l->corners == 0) return qe_fail(QE_USAGE, "a surface needs a model that it goes through");
  QE_TRY(copy_values(model, models, options->rounded, l));
  if (l->corners == 1) QE_TRY(make_directions(options, l));
  if (l->corners == QE_BLEND_MODELS) QE_TRY(qe_plane_through(&l->space, l->corner, &l->plane));
  QE_TRY(count_points(options, surface, l));
  l->blend = QE_NEW_ARRAY(qe_blend, surface->points);
  if (!l->blend) return QE_NO_MEMORY;
  QE_TRY(lay_marks(model, surface, l));
  if (surface->grid > 0) lay_grid(options, surface, l);
  lay_path(surface, l);
  return QE_OK;
}

void qe_surface_layout_free(qe_surface_layout *l) {
  for (size_t i = 0; l->values && i < l->models; i++) qe_free(l->values[i]);
  for (int d = 0; d < QE_BLEND_DIRECTIONS; d++) qe_free(l->direction[d]);
  qe_free(l->values);
  qe_free(l->blend);
  memset(l, 0, sizeof *l);
}
