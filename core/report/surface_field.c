/* Maps of a loss surface, and as files. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/report/surface_view.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const side_title[QE_SURFACE_SIDES] = {"quantised weights", "weights as they are"};
static const char *const side_file[QE_SURFACE_SIDES] = {"quantised", "unquantised"};
static const char *const value_title[QE_SURFACE_VALUES] = {"Training loss", "Training error", "Test loss",
                                                           "Test error"};
static const char *const value_file[QE_SURFACE_VALUES] = {"train-loss", "train-error", "test-loss", "test-error"};
static const qe_field_sign sign_of[QE_ROLES] = {[QE_ROLE_CORNER] = QE_SIGN_DISC,
                                                [QE_ROLE_MARK] = QE_SIGN_DOT,
                                                [QE_ROLE_AVERAGE] = QE_SIGN_STAR,
                                                [QE_ROLE_TUNED] = QE_SIGN_DIAMOND,
                                                [QE_ROLE_MEAN] = QE_SIGN_TRIANGLE};

static qe_status fill_values(const qe_surface *surface, qe_surface_side side, int value, qe_surface_field *made,
                             bool *any) {
  size_t count = (size_t)surface->grid * (size_t)surface->grid, sides = 0;
  double *both = QE_NEW_ARRAY(double, QE_SURFACE_SIDES *count);
  made->values = QE_NEW_ARRAY(double, count);
  if (!both || !made->values) {
    qe_free(both);
    return QE_NO_MEMORY;
  }
  *any = false;
  for (size_t i = 0; i < count; i++) {
    made->values[i] = (double)surface->point[i].value[side][value];
    *any |= isfinite(made->values[i]);
    for (int s = 0; s < QE_SURFACE_SIDES; s++) both[sides++] = (double)surface->point[i].value[s][value];
  }
  bool logarithmic = value == QE_TRAIN_LOSS || value == QE_TEST_LOSS;
  *any &= qe_field_scale_of(both, sides, logarithmic, &made->field.scale);
  qe_free(both);
  return QE_OK;
}

static qe_status fill_marks(const qe_surface *surface, qe_surface_field *made) {
  static const char *const corner[] = {"1", "2", "3"};
  size_t corners = 0;
  made->marks = QE_NEW_ARRAY(qe_field_mark, surface->marks);
  if (!made->marks) return QE_NO_MEMORY;
  for (size_t i = 0; i < surface->marks; i++) {
    const qe_surface_point *point = &qe_surface_marks(surface)[i];
    qe_surface_role role = surface->mark[i].role;
    if (!isfinite(point->x) || !isfinite(point->y)) continue;
    qe_field_mark *mark = &made->marks[made->field.marks++];
    *mark = (qe_field_mark){
        .x = (double)point->x, .y = (double)point->y, .sign = sign_of[role], .name = surface->mark[i].name};
    if (role == QE_ROLE_CORNER && !surface->directions && corners < 3) mark->label = corner[corners++];
  }
  made->field.mark = made->marks;
  return QE_OK;
}

qe_status qe_surface_field_new(const qe_surface *surface, qe_surface_side side, int value, qe_surface_field *made,
                               bool *any) {
  *made = (qe_surface_field){0};
  *any = false;
  if (surface->grid < 2) return QE_OK;
  qe_status status = fill_values(surface, side, value, made, any);
  if (status == QE_OK) status = fill_marks(surface, made);
  if (status != QE_OK) {
    qe_surface_field_free(made);
    return status;
  }
  const qe_surface_point *last = &surface->point[(size_t)surface->grid * (size_t)surface->grid - 1];
  snprintf(made->title, sizeof made->title, "%s, %s", value_title[value], side_title[side]);
  qe_field *field = &made->field;
  field->title = made->title;
  field->unit = value == QE_TRAIN_LOSS || value == QE_TEST_LOSS ? "nats" : "%";
  field->x_title = surface->directions ? "along the first direction" : "distance of weights, from 1 towards 2";
  field->y_title = surface->directions ? "along the second direction" : "towards 3";
  field->value = made->values;
  field->rows = field->columns = surface->grid;
  field->x0 = (double)surface->point[0].x;
  field->y0 = (double)surface->point[0].y;
  field->x1 = (double)last->x;
  field->y1 = (double)last->y;
  const double most = 1e30;
  *any &= field->x1 > field->x0 && field->y1 > field->y0;
  *any &= field->x0 > -most && field->x1 < most && field->y0 > -most && field->y1 < most;
  return QE_OK;
}

void qe_surface_field_free(qe_surface_field *made) {
  qe_free(made->values);
  qe_free(made->marks);
  memset(made, 0, sizeof *made);
}

/* ---- files ---- */

static qe_status write_map(const qe_field *field, const char *folder, const char *name) {
  char *svg = qe_format("%s/%s.svg", folder, name), *png = qe_format("%s/%s.png", folder, name);
  qe_status status = svg && png ? qe_field_write_svg(field, svg) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_field_write_png(field, png);
  qe_free(svg);
  qe_free(png);
  return status;
}

qe_status qe_surface_write_pictures(const qe_surface *surface, const char *folder) {
  for (int i = 0; i < QE_SURFACE_SIDES * QE_SURFACE_VALUES; i++) {
    int side = i / QE_SURFACE_VALUES, value = i % QE_SURFACE_VALUES;
    qe_surface_field made;
    bool any;
    char name[64];
    snprintf(name, sizeof name, "%s-%s", side_file[side], value_file[value]);
    QE_TRY(qe_surface_field_new(surface, (qe_surface_side)side, value, &made, &any));
    qe_status status = any ? write_map(&made.field, folder, name) : QE_OK;
    qe_surface_field_free(&made);
    QE_TRY(status);
  }
  return QE_OK;
}
