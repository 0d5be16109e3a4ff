/* Points of a surface as candidates of a population: integer networks of one structure. */
#ifndef QE_SURFACE_INTEGERS_H
#define QE_SURFACE_INTEGERS_H

#include "core/surface/programs.h"

typedef struct qe_surface_integers qe_surface_integers;

/* `graph` must outlive it. */
QE_CHECKED qe_status qe_surface_integers_open(qe_device *device, const qe_graph *graph,
                                              const qe_surface_images_used *images, const qe_surface_options *options,
                                              qe_surface_integers **integers);
void qe_surface_integers_close(qe_surface_integers *integers); /* NULL is fine */

/* Parameters of a point, whose values go to *point when it has been evaluated: at once, or with later ones, or by
 * qe_surface_integers_flush. A point that has no integer network (QE_REFUSED of qe_network_from_graph) is left as it
 * is. */
QE_CHECKED qe_status qe_surface_integers_add(qe_surface_integers *integers, const float *values,
                                             qe_surface_point *point);
QE_CHECKED qe_status qe_surface_integers_flush(qe_surface_integers *integers);

/* Candidate-images evaluated, the seconds that took, and which engine did it last ("" before the first call). */
int64_t qe_surface_integers_spent(const qe_surface_integers *integers, double *seconds);
const char *qe_surface_integers_engine(const qe_surface_integers *integers);

#endif
