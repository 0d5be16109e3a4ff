/* Loss surfaces: losses and errors on a plane through three models, or around one along two directions, and on paths
 * from model to model; each point once with its weights quantised and once with them as they are.
 *
 * Quantised points are integer networks, evaluated as candidates of a population (core/dispatch/population.h) whose
 * weights, multipliers and offsets are genes. Models that have no integer network (float activations) and the points
 * with unquantised weights go through float programs. Both planes quantise activations as the models do. */
#ifndef QE_SURFACE_SURFACE_H
#define QE_SURFACE_SURFACE_H

#include "core/base/safetensors.h"
#include "core/data/dataset.h"
#include "core/dispatch/dispatch.h"
#include "core/surface/blend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what is asked for ---- */

typedef enum qe_surface_role {
  QE_ROLE_CORNER, /* the plane goes through it, and the path */
  QE_ROLE_MARK,   /* is marked in the plane, at the foot of its weights */
  QE_ROLE_AVERAGE,
  QE_ROLE_TUNED,
  QE_ROLE_MEAN, /* of the corners: a point, not a model */
  QE_ROLES
} qe_surface_role;
/* "corner", "mark", …; the role called so, or QE_ROLES. */
const char *qe_surface_role_name(qe_surface_role role);
qe_surface_role qe_surface_role_find(const char *name);

typedef struct qe_surface_model {
  const char *name;
  qe_surface_role role;
  const qe_model *model; /* all of one graph, with the same quantisers */
} qe_surface_model;

/* QE_USAGE unless both have the same network and the same quantisers. */
QE_CHECKED qe_status qe_surface_alike(const qe_surface_model *a, const qe_surface_model *b);

typedef struct qe_surface_options {
  int grid;            /* points of a side of the plane, at least 2; 0: no plane */
  int path;            /* points from a corner to the next, both counted, at least 2; 0: no path */
  double margin;       /* how far the plane goes beyond the corners, as a share of the longer side */
  double reach;        /* of directions: how far, in norms of the weights */
  bool by_filter;      /* of directions: each filter scaled to its own norm */
  bool rounded;        /* corners are the quantised weights, not those that they are rounded from */
  bool estimate;       /* batch-norm statistics are made anew at each point, not blended from the models' */
  int32_t images;      /* of training and test set each; 0: all */
  int32_t norm_images; /* of the training set, for statistics */
  int32_t batch;       /* images a step of float programs; 0: what suits */
  uint64_t seed;       /* of images and directions */
  size_t memory;       /* of the population, beside the images; 0: 1 GiB */
} qe_surface_options;

qe_surface_options qe_surface_defaults(void);

/* ---- what is found ---- */

enum { QE_TRAIN_LOSS, QE_TRAIN_ERROR, QE_TEST_LOSS, QE_TEST_ERROR, QE_SURFACE_VALUES }; /* nats; per cent */

typedef enum qe_surface_side { QE_SIDE_ROUNDED, QE_SIDE_REAL, QE_SURFACE_SIDES } qe_surface_side;

/* A point's values; not a number where it could not be evaluated. */
typedef struct qe_surface_point {
  float x, y, off; /* of the path: x from the first corner on; off: distance of a mark from the plane */
  float value[QE_SURFACE_SIDES][QE_SURFACE_VALUES];
} qe_surface_point;

typedef struct qe_surface_mark {
  char *name;
  qe_surface_role role;
} qe_surface_mark;

/* Points: the grid row by row from the lowest y, then the path, then the marks; then, where batch-norm statistics are
 * made anew for all of these, the models with the statistics that they were saved with, the first marks again: on the
 * quantised side only, for which they were trained. */
typedef struct qe_surface {
  int grid, path, legs; /* legs: pieces of the path */
  bool directions;      /* the plane is spanned by two directions, not by three models */
  qe_surface_point *point;
  size_t points;
  qe_surface_mark *mark;
  size_t marks, saved;
  qe_tensors *notes; /* metadata: how it was made, as texts */
} qe_surface;

void qe_surface_free(qe_surface *surface); /* NULL is fine */
const qe_surface_point *qe_surface_path(const qe_surface *surface);
const qe_surface_point *qe_surface_marks(const qe_surface *surface);
const qe_surface_point *qe_surface_saved(const qe_surface *surface);
/* A text that says how it was made: "network", "data", "quantised", "unquantised", …; "" when there is none. */
const char *qe_surface_note(const qe_surface *surface, const char *key);
/* Whether any point has a value on that side. */
bool qe_surface_has(const qe_surface *surface, qe_surface_side side);

/* ---- making one ---- */

typedef struct qe_surface_progress {
  qe_surface_side side;
  int64_t points, all; /* done, of both sides */
  double per_second;   /* candidate-images of that side */
} qe_surface_progress;
/* Anything but QE_OK ends it with that status. */
typedef qe_status (*qe_surface_report)(void *context, const qe_surface_progress *progress);

/* With three corners or more a plane through the first, the middle and the last; with one around it; with two only the
 * path. QE_USAGE, QE_SHAPE when models are not of one network and bits, or not for these data. */
QE_CHECKED qe_status qe_surface_make(qe_device *device, const qe_dataset *data, const qe_surface_model *model,
                                     size_t models, const qe_surface_options *options, qe_surface_report report,
                                     void *context, qe_surface **surface);

/* ---- files ---- */

#define QE_SURFACE_FOLDER "surface" /* within a run's folder */
#define QE_SURFACE_FILE "surface.safetensors"

/* All of it as safetensors: "place" [points, 3], "quantised" and "unquantised" [points, 4]; metadata. */
QE_CHECKED qe_status qe_surface_write(const qe_surface *surface, const char *path);
QE_CHECKED qe_status qe_surface_read(const char *path, qe_surface **surface);
/* The same of a file's tensors; `file` is for messages. */
QE_CHECKED qe_status qe_surface_of_tensors(const qe_tensors *tensors, const char *file, qe_surface **surface);
/* The same as CSV: a line a point. */
QE_CHECKED qe_status qe_surface_write_csv(const qe_surface *surface, const char *path);

#ifdef __cplusplus
}
#endif
#endif
