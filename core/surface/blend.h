/* Points between models: a flat parameter vector made of those of several, and of directions. */
#ifndef QE_SURFACE_BLEND_H
#define QE_SURFACE_BLEND_H

#include "core/models/model.h"

enum { QE_BLEND_MODELS = 3, QE_BLEND_DIRECTIONS = 2 };

/* values[model[0]] + sum_i share[i] (values[model[i]] - values[model[0]]) + sum_d along[d] direction[d], i from 1: the
 * first one's share is what the others leave of 1, and a point at the first model is that model bit for bit. */
typedef struct qe_blend {
  int model[QE_BLEND_MODELS];
  double share[QE_BLEND_MODELS]; /* [0] is not read */
  double along[QE_BLEND_DIRECTIONS];
} qe_blend;

/* Flat parameter vectors of one graph. */
typedef struct qe_blend_space {
  const qe_graph *graph;
  const float *const *values;                  /* of each model */
  const float *direction[QE_BLEND_DIRECTIONS]; /* of the weights, the first floats of the vector; NULL: none */
} qe_blend_space;

/* Steps and running variances are blended by their logarithms, so that they stay positive beyond the models too, and
 * kept within a factor of 8 of the models' own. QE_NO_MEMORY. */
QE_CHECKED qe_status qe_blend_values(const qe_blend_space *space, const qe_blend *blend, float *values);

/* The weights' share of a flat vector: floats from its start. */
int64_t qe_blend_weights(const qe_graph *graph);

/* Quantised weights in place of those that they are rounded from. QE_REFUSED for DoReFa's rule, which would not round
 * them to themselves. */
QE_CHECKED qe_status qe_blend_round_weights(const qe_graph *graph, float *values);

/* A direction for the weights: normal values by the seed and `which`, scaled for each filter (an output channel of a
 * layer) to the norm that the filter has in `values` (Li et al., "Visualizing the Loss Landscape of Neural Nets",
 * 2018), or as a whole to that of all weights. `direction` has qe_blend_weights floats. */
void qe_blend_direction(const qe_graph *graph, const float *values, uint64_t seed, int which, bool by_filter,
                        float *direction);

#endif
