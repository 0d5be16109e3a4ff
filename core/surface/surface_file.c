/* Surfaces on disk: safetensors for programs, CSV for people; and what is asked of a surface in memory. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/surface/surface.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLACES = 3, MOST_MARKS = 10000 };

/* ---- in memory ---- */

void qe_surface_free(qe_surface *surface) {
  if (!surface) return;
  for (size_t i = 0; surface->mark && i < surface->marks; i++) qe_free(surface->mark[i].name);
  qe_free(surface->mark);
  qe_free(surface->point);
  qe_tensors_free(surface->notes);
  qe_free(surface);
}

static const char *const role_name[QE_ROLES] = {"corner", "mark", "average", "tuned", "mean"};

const char *qe_surface_role_name(qe_surface_role role) {
  return role_name[role];
}

qe_surface_role qe_surface_role_find(const char *name) {
  int role = 0;
  while (role < QE_ROLES && strcmp(name, role_name[role]) != 0) role++;
  return (qe_surface_role)role;
}

const qe_surface_point *qe_surface_path(const qe_surface *surface) {
  return surface->point + (size_t)surface->grid * (size_t)surface->grid;
}

const qe_surface_point *qe_surface_marks(const qe_surface *surface) {
  size_t path = surface->legs > 0 ? (size_t)surface->legs * (size_t)(surface->path - 1) + 1 : 0;
  return qe_surface_path(surface) + path;
}

const qe_surface_point *qe_surface_saved(const qe_surface *surface) {
  return qe_surface_marks(surface) + surface->marks;
}

const char *qe_surface_note(const qe_surface *surface, const char *key) {
  const char *text = surface->notes ? qe_tensors_get_meta(surface->notes, key) : NULL;
  return text ? text : "";
}

bool qe_surface_has(const qe_surface *surface, qe_surface_side side) {
  for (size_t i = 0; i < surface->points; i++)
    if (isfinite(surface->point[i].value[side][QE_TEST_LOSS])) return true;
  return false;
}

/* ---- safetensors ---- */

static const char *const side_name[QE_SURFACE_SIDES] = {"quantised", "unquantised"};

static qe_status give_values(const qe_surface *surface, qe_tensors *tensors) {
  const int64_t count = (int64_t)surface->points;
  float *block = QE_NEW_ARRAY(float, count *QE_SURFACE_VALUES);
  if (!block) return QE_NO_MEMORY;
  for (int64_t i = 0; i < count; i++)
    memcpy(block + PLACES * i, (float[]){surface->point[i].x, surface->point[i].y, surface->point[i].off},
           PLACES * sizeof *block);
  qe_status status = qe_tensors_add(tensors, "place", QE_F32, 2, (int64_t[]){count, PLACES}, block);
  for (int side = 0; status == QE_OK && side < QE_SURFACE_SIDES; side++) {
    for (int64_t i = 0; i < count; i++)
      memcpy(block + QE_SURFACE_VALUES * i, surface->point[i].value[side], QE_SURFACE_VALUES * sizeof *block);
    status = qe_tensors_add(tensors, side_name[side], QE_F32, 2, (int64_t[]){count, QE_SURFACE_VALUES}, block);
  }
  qe_free(block);
  return status;
}

static qe_status set_number(qe_tensors *tensors, const char *key, int64_t value) {
  char text[32];
  snprintf(text, sizeof text, "%lld", (long long)value);
  return qe_tensors_set_meta(tensors, key, text);
}

static qe_status give_meta(const qe_surface *surface, qe_tensors *tensors) {
  for (size_t i = 0; i < surface->notes->meta_count; i++)
    QE_TRY(qe_tensors_set_meta(tensors, surface->notes->meta[i].key, surface->notes->meta[i].value));
  QE_TRY(set_number(tensors, "grid", surface->grid));
  QE_TRY(set_number(tensors, "path", surface->path));
  QE_TRY(set_number(tensors, "legs", surface->legs));
  QE_TRY(set_number(tensors, "marks", (int64_t)surface->marks));
  QE_TRY(set_number(tensors, "saved", (int64_t)surface->saved));
  QE_TRY(set_number(tensors, "by_directions", surface->directions));
  for (size_t i = 0; i < surface->marks; i++) {
    char key[32];
    snprintf(key, sizeof key, "mark.%zu", i);
    QE_TRY(qe_tensors_set_meta(tensors, key, surface->mark[i].name));
    snprintf(key, sizeof key, "role.%zu", i);
    QE_TRY(qe_tensors_set_meta(tensors, key, qe_surface_role_name(surface->mark[i].role)));
  }
  return QE_OK;
}

qe_status qe_surface_write(const qe_surface *surface, const char *path) {
  qe_tensors *tensors = qe_tensors_new();
  qe_status status = tensors ? give_values(surface, tensors) : QE_NO_MEMORY;
  if (status == QE_OK) status = give_meta(surface, tensors);
  if (status == QE_OK) status = qe_tensors_write(tensors, path);
  qe_tensors_free(tensors);
  return status;
}

static qe_status get_number(const qe_tensors *tensors, const char *path, const char *key, int64_t most,
                            int64_t *value) {
  const char *text = qe_tensors_get_meta(tensors, key);
  char *end = NULL;
  *value = text ? strtoll(text, &end, 10) : -1;
  if (text && end != text && !*end && *value >= 0 && *value <= most) return QE_OK;
  return qe_fail(QE_FORMAT, "%s is no loss surface: its metadata have no \"%s\" from 0 to %lld", path, key,
                 (long long)most);
}

static qe_status get_block(const qe_tensors *tensors, const char *path, const char *name, int64_t points, int64_t each,
                           const float **block) {
  const qe_named_tensor *found = qe_tensors_find(tensors, name);
  if (!found || found->dtype != QE_F32 || found->rank != 2 || found->shape[0] != points || found->shape[1] != each)
    return qe_fail(QE_FORMAT, "%s is no sound loss surface: tensor \"%s\" must be F32 [%lld, %lld]", path, name,
                   (long long)points, (long long)each);
  *block = found->data;
  return QE_OK;
}

static qe_status take_values(qe_surface *surface, const qe_tensors *tensors, const char *path) {
  const int64_t count = (int64_t)surface->points;
  const float *place = NULL, *side[QE_SURFACE_SIDES] = {NULL};
  QE_TRY(get_block(tensors, path, "place", count, PLACES, &place));
  for (int s = 0; s < QE_SURFACE_SIDES; s++)
    QE_TRY(get_block(tensors, path, side_name[s], count, QE_SURFACE_VALUES, &side[s]));
  surface->point = QE_NEW_ARRAY(qe_surface_point, count);
  if (!surface->point) return QE_NO_MEMORY;
  for (int64_t i = 0; i < count; i++) {
    qe_surface_point *point = &surface->point[i];
    *point = (qe_surface_point){.x = place[PLACES * i], .y = place[PLACES * i + 1], .off = place[PLACES * i + 2]};
    for (int s = 0; s < QE_SURFACE_SIDES; s++)
      memcpy(point->value[s], side[s] + QE_SURFACE_VALUES * i, sizeof point->value[s]);
  }
  return QE_OK;
}

static qe_status take_marks(qe_surface *surface, const qe_tensors *tensors, const char *path) {
  size_t marks = surface->marks;
  surface->marks = 0;
  surface->mark = QE_NEW_ARRAY(qe_surface_mark, marks);
  if (!surface->mark) return QE_NO_MEMORY;
  for (size_t i = 0; i < marks; i++) {
    char key[32];
    snprintf(key, sizeof key, "mark.%zu", i);
    const char *name = qe_tensors_get_meta(tensors, key);
    snprintf(key, sizeof key, "role.%zu", i);
    const char *role = qe_tensors_get_meta(tensors, key);
    surface->mark[i].role = role ? qe_surface_role_find(role) : QE_ROLES;
    if (!name || surface->mark[i].role == QE_ROLES)
      return qe_fail(QE_FORMAT, "%s is no sound loss surface: mark %zu has no name or no role", path, i);
    if (!(surface->mark[i].name = qe_strdup(name))) return QE_NO_MEMORY;
    surface->marks++;
  }
  return QE_OK;
}

static qe_status take_all(qe_surface *surface, const qe_tensors *tensors, const char *path) {
  int64_t grid, legs, along, marks, saved, directions;
  QE_TRY(get_number(tensors, path, "grid", 10000, &grid));
  QE_TRY(get_number(tensors, path, "legs", 2, &legs));
  QE_TRY(get_number(tensors, path, "path", 1000000, &along));
  QE_TRY(get_number(tensors, path, "marks", MOST_MARKS, &marks));
  QE_TRY(get_number(tensors, path, "saved", marks, &saved));
  QE_TRY(get_number(tensors, path, "by_directions", 1, &directions));
  if (grid == 1 || (legs > 0 && along < 2)) return qe_fail(QE_FORMAT, "%s: a plane or a path of one point", path);
  *surface = (qe_surface){.grid = (int)grid,
                          .legs = (int)legs,
                          .path = (int)along,
                          .marks = (size_t)marks,
                          .saved = (size_t)saved,
                          .directions = directions != 0,
                          .points = (size_t)(grid * grid + (legs > 0 ? legs * (along - 1) + 1 : 0) + marks + saved)};
  QE_TRY(take_marks(surface, tensors, path));
  QE_TRY(take_values(surface, tensors, path));
  surface->notes = qe_tensors_new();
  if (!surface->notes) return QE_NO_MEMORY;
  for (size_t i = 0; i < tensors->meta_count; i++)
    QE_TRY(qe_tensors_set_meta(surface->notes, tensors->meta[i].key, tensors->meta[i].value));
  return QE_OK;
}

qe_status qe_surface_of_tensors(const qe_tensors *tensors, const char *file, qe_surface **out) {
  qe_surface *surface = QE_NEW(qe_surface);
  qe_status status = surface ? take_all(surface, tensors, file) : QE_NO_MEMORY;
  if (status == QE_OK)
    *out = surface;
  else
    qe_surface_free(surface);
  return status;
}

qe_status qe_surface_read(const char *path, qe_surface **surface) {
  qe_tensors *tensors;
  QE_TRY(qe_tensors_read(path, &tensors));
  qe_status status = qe_surface_of_tensors(tensors, path, surface);
  qe_tensors_free(tensors);
  return status;
}

/* ---- CSV ---- */

static void print_number(FILE *file, float value) {
  if (isfinite(value))
    fprintf(file, ",%.6g", (double)value);
  else
    fputc(',', file);
}

/* Quoted, as RFC 4180 has it. */
static void print_name(FILE *file, const char *name) {
  fputc('"', file);
  for (; *name; name++) fprintf(file, *name == '"' ? "\"\"" : "%c", *name);
  fputc('"', file);
}

static const char *const value_name[QE_SURFACE_VALUES] = {"train_loss", "train_error", "test_loss", "test_error"};

static void print_csv(FILE *file, const qe_surface *surface) {
  size_t path = (size_t)(qe_surface_path(surface) - surface->point);
  size_t first = (size_t)(qe_surface_marks(surface) - surface->point), last = first + surface->marks;
  fputs("part,name,x,y,off", file);
  for (int side = 0; side < QE_SURFACE_SIDES; side++)
    for (int v = 0; v < QE_SURFACE_VALUES; v++) fprintf(file, ",%s_%s", side_name[side], value_name[v]);
  fputc('\n', file);
  for (size_t i = 0; i < surface->points; i++) {
    const qe_surface_point *point = &surface->point[i];
    const qe_surface_mark *mark = i < first ? NULL : &surface->mark[i - (i < last ? first : last)];
    fputs(i < path ? "grid," : !mark ? "path," : i < last ? qe_surface_role_name(mark->role) : "saved", file);
    if (mark) fputc(',', file);
    if (mark) print_name(file, mark->name);
    print_number(file, point->x);
    print_number(file, point->y);
    print_number(file, point->off);
    for (int side = 0; side < QE_SURFACE_SIDES; side++)
      for (int v = 0; v < QE_SURFACE_VALUES; v++) print_number(file, point->value[side][v]);
    fputc('\n', file);
  }
}

qe_status qe_surface_write_csv(const qe_surface *surface, const char *path) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *file = open_memstream(&text, &bytes);
  qe_status status = file ? QE_OK : qe_fail(QE_NO_MEMORY, "%s: out of memory", path);
  if (file) {
    print_csv(file, surface);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed) status = qe_fail(QE_NO_MEMORY, "%s: out of memory", path);
  }
  if (status == QE_OK) status = qe_file_write(path, text, bytes);
  free(text);
  return status;
}
