/* Where the points of a surface are: plane, path and marks as blends of models. */
#ifndef QE_SURFACE_LAYOUT_H
#define QE_SURFACE_LAYOUT_H

#include "core/surface/plane.h"
#include "core/surface/surface.h"

typedef struct qe_surface_layout {
  qe_blend_space space;
  float **values;                        /* [models]: copies of the models' parameters */
  float *direction[QE_BLEND_DIRECTIONS]; /* with one corner */
  size_t models;
  int corner[QE_BLEND_MODELS], corners;
  qe_plane plane;  /* with three corners */
  qe_blend *blend; /* [points of the surface] */
} qe_surface_layout;

/* Fills the surface's points (places, no values), its marks, and the blends that make them. */
QE_CHECKED qe_status qe_surface_lay_out(const qe_surface_model *model, size_t models, const qe_surface_options *options,
                                        qe_surface *surface, qe_surface_layout *layout);
void qe_surface_layout_free(qe_surface_layout *layout); /* of zeros is fine */

#endif
