/* The plane through three models: coordinates in it, in the units of the weights. */
#ifndef QE_SURFACE_PLANE_H
#define QE_SURFACE_PLANE_H

#include "core/surface/blend.h"

typedef struct qe_plane {
  int model[QE_BLEND_MODELS];
  double edge, slant, height; /* models at (0, 0), (edge, 0), (slant, height); distances of the weights */
} qe_plane;

/* Euclidean, over the weights of two models. */
double qe_plane_distance(const qe_blend_space *space, int a, int b);
/* QE_USAGE when the three lie on a line (of which the message names the cure). */
QE_CHECKED qe_status qe_plane_through(const qe_blend_space *space, const int model[QE_BLEND_MODELS], qe_plane *plane);
/* Where a model's weights are: the foot in the plane, and the distance from it. */
void qe_plane_place(const qe_blend_space *space, const qe_plane *plane, int model, double *x, double *y, double *off);
qe_blend qe_plane_blend(const qe_plane *plane, double x, double y);

#endif
