/* Means of models that are quantised alike, as a running sum: models are added one at a time, and beside the sum only
 * the one being added is in memory.
 *
 * Where weights lie on a grid of fixed steps the sum is one of codes, exact in integers: N models with codes of b bits
 * make a wider grid whose step is the common one over N (Shin et al. 2020, section 3: 2^n - 1 models of two bits make
 * n + 1 bits). Everything else (batch norm, biases, steps of activations, float weights) is summed in double precision
 * in the order of adding. */
#ifndef QE_MODELS_AVERAGE_H
#define QE_MODELS_AVERAGE_H

#include "core/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qe_average_of {
  QE_AVERAGE_CODES,  /* weights as they are quantised: SQWA */
  QE_AVERAGE_VALUES, /* float shadow weights: SWA */
} qe_average_of;

typedef struct qe_average qe_average;

/* Whether two models have the same network and the same quantisers. */
bool qe_model_is_alike(const qe_model *a, const qe_model *b);

/* An empty sum. */
QE_CHECKED qe_status qe_average_new(qe_average_of of, qe_average **average);
void qe_average_free(qe_average *average); /* NULL is fine */
/* QE_USAGE with `name` unless the model has the network, the bits and, where codes are summed, the weight steps of
 * those before it; or where weights have no fixed grid (learned steps, DoReFa). A failed add leaves the sum as it was.
 */
QE_CHECKED qe_status qe_average_add(qe_average *average, const qe_model *model, const char *name);
int32_t qe_average_count(const qe_average *average);

/* The mean at the models' own bits and steps: its weights are the shadow weights of a low-bit model, which rounds them
 * to its grid. QE_USAGE when nothing was added. */
QE_CHECKED qe_status qe_average_mean(const qe_average *average, qe_model **mean);

/* How a layer's mean is kept on the wide grid. */
typedef struct qe_wide_layer {
  const char *name; /* the graph's of the wide model */
  int32_t bits;     /* of the wide grid */
  bool exact;       /* all sums of codes lie on it; else there are more than 8 bits, and the mean is rounded to these */
} qe_wide_layer;

/* The mean with the grid that its sums of codes lie on: what all models together are, as one. A layer whose sums pass 8
 * bits, and a sum of one grid too many, gets 8 bits and a step that is to be fitted (qe_fit_steps). Of a network of the
 * zoo the spec says the new bits, so that its file can be read; of a description the graph only. `layers` (may be NULL;
 * qe_free): one for each layer with quantised weights, `*count` of them. */
QE_CHECKED qe_status qe_average_wide(const qe_average *average, qe_model **wide, qe_wide_layer **layers, size_t *count);

#ifdef __cplusplus
}
#endif
#endif
