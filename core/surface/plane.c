/* Planes: an orthonormal frame whose first axis goes from the first model to the second. */
#include "core/surface/plane.h"

#include <math.h>
#include <string.h>

/* (a - from) . (b - from) over the weights. */
static double product(const qe_blend_space *space, int from, int a, int b) {
  const float *origin = space->values[from], *left = space->values[a], *right = space->values[b];
  int64_t weights = qe_blend_weights(space->graph);
  double sum = 0;
  for (int64_t i = 0; i < weights; i++)
    sum += ((double)left[i] - (double)origin[i]) * ((double)right[i] - (double)origin[i]);
  return sum;
}

double qe_plane_distance(const qe_blend_space *space, int a, int b) {
  return sqrt(product(space, a, b, b));
}

qe_status qe_plane_through(const qe_blend_space *space, const int model[QE_BLEND_MODELS], qe_plane *plane) {
  const double thin = 1e-4; /* of the height to the longest side */
  memcpy(plane->model, model, sizeof plane->model);
  double first = product(space, model[0], model[1], model[1]), second = product(space, model[0], model[2], model[2]);
  plane->edge = sqrt(first);
  plane->slant = first > 0 ? product(space, model[0], model[1], model[2]) / plane->edge : 0;
  plane->height = sqrt(fmax(second - plane->slant * plane->slant, 0));
  double longest = sqrt(fmax(first, second));
  if (plane->edge > thin * longest && plane->height > thin * longest) return QE_OK;
  return qe_fail(QE_USAGE, "the weights of the three models lie on a line, so no plane goes through them; take models "
                           "that differ, or one model and two directions");
}

void qe_plane_place(const qe_blend_space *space, const qe_plane *plane, int model, double *x, double *y, double *off) {
  const int *of = plane->model;
  *x = product(space, of[0], model, of[1]) / plane->edge;
  *y = (product(space, of[0], model, of[2]) - plane->slant * *x) / plane->height;
  *off = sqrt(fmax(product(space, of[0], model, model) - *x * *x - *y * *y, 0));
}

qe_blend qe_plane_blend(const qe_plane *plane, double x, double y) {
  qe_blend blend = {.model = {plane->model[0], plane->model[1], plane->model[2]}};
  blend.share[2] = y / plane->height;
  blend.share[1] = (x - blend.share[2] * plane->slant) / plane->edge;
  return blend;
}
