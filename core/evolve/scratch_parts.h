/* What the files of the stage `scratch` share; nobody else includes this. */
#ifndef QE_EVOLVE_SCRATCH_PARTS_H
#define QE_EVOLVE_SCRATCH_PARTS_H

#include "core/dispatch/network_program.h"
#include "core/evolve/counters.h"
#include "core/evolve/scratch.h"

enum { QE_NONE = -1 };
enum { QE_STEP_BITS = 40 };  /* fraction bits of the steps of errors */
enum { QE_ERROR_SHIFT = 20 }; /* of the requantisers of errors */

/* Where the error at a unit's output comes from. */
typedef enum qe_error_source {
  QE_ERROR_NONE,     /* none is needed */
  QE_ERROR_LOSS,     /* the unit gives logits: softmax error */
  QE_ERROR_ABOVE,    /* from the units that read it */
  QE_ERROR_FEEDBACK, /* a matrix for each class and channel, times the softmax error of the network's logits */
  QE_ERROR_NOISE     /* the noise that it was given, times the sign of the change of loss */
} qe_error_source;

/* Numbers of one channel kept over the steps, and what they make of a requantiser. */
typedef struct qe_norm {
  int64_t *mean, *square; /* [C] of the sums and their squares: running means, in units of 2^-QE_NORM_BITS */
  int32_t spread;         /* output codes that one standard deviation becomes */
  int32_t centre;         /* output code of the mean where no bias has moved it */
  int32_t frozen;         /* logits: the multiplier of all classes, found by the first calibration; 0: not yet */
} qe_norm;
enum { QE_NORM_BITS = 8 };

/* Errors become codes of few bits: one requantiser, its step adapted to the errors it has seen. */
typedef struct qe_error_maker {
  int inputs;
  struct {
    int32_t unit;    /* whose error it comes from; QE_NONE: a feedback matrix */
    bool skip;       /* its wide error, times the skip connection's multiplier; else the error of its sums */
    int32_t coarser; /* shift of the coarser code that it comes through */
  } from[2];
  bool of_sums;   /* gives the error of the unit's sums: times its multipliers; else the error of its output codes */
  int32_t bits;
  uint64_t step;  /* real value of a code, 2^-QE_STEP_BITS units */
  int32_t channels;
  int64_t count;  /* values of a step */
  size_t multiplier[2], offset, sums; /* bytes into the constants and the results */
} qe_error_maker;

/* Sums, the requantiser that reads them, and what the training keeps for them. */
typedef struct qe_unit {
  int32_t conv;    /* layer; QE_NONE: a sum pool makes the sums */
  int32_t sums;    /* layer of the sums */
  int32_t requant; /* layer */
  int32_t branch;  /* of the requantiser that the sums are */
  int32_t skip;    /* layer of the codes on the other branch, or QE_NONE */
  int32_t depth;   /* skip connections up to this one */
  bool boundary;   /* no skip connection passes by its output */
  bool local;      /* a layer of a local head */
  bool headed;     /* a local head reads its output */
  qe_error_source source;
  qe_norm norm;
  qe_counters weights; /* of conv */
  qe_counters bias;    /* of all but logits: 1/256 of a fifth of the spread */
  qe_error_maker error, wide; /* of its sums; of its output codes where a skip connection needs them (inputs 0: not) */
  size_t stats;               /* bytes into the results: [C] sums and [C] squares of `sums`, s64 */
  size_t votes;               /* bytes into the results: s64 */
} qe_unit;

typedef struct qe_plan {
  qe_network *network; /* a copy with the local heads appended */
  size_t own;          /* layers of the network itself */
  int32_t *unit_of;    /* [layers]: the unit whose requantiser makes the tensor, also through coarser codes and moves */
  qe_unit *unit;
  size_t units, capacity;
} qe_plan;

/* Cuts the network into units and appends the heads that `options` ask for. QE_REFUSED with the layer's name for what
 * has no rule. */
QE_CHECKED qe_status qe_plan_new(const qe_network *network, const qe_scratch_options *options, qe_plan **plan);
void qe_plan_free(qe_plan *plan); /* NULL is fine */

/* Whether the unit gives logits. */
bool qe_unit_is_logits(const qe_plan *plan, const qe_unit *unit);

/* Memory for the unit's means, its spread and the shift of its requantiser, which stays, from the grid of its codes and
 * what random weights will give; multipliers as if the means were as expected. */
QE_CHECKED qe_status qe_norm_new(qe_plan *plan, qe_unit *unit);
/* Sums over `count` values a channel and sums of squares, [C] each, enter the running means: they are taken as they are
 * the first time (`first`), else by 1/8. */
void qe_norm_take(qe_norm *norm, const int64_t *sums, const int64_t *squares, int32_t channels, int64_t count,
                  bool first);
/* Multipliers and offsets of the unit's requantiser from means and biases. */
void qe_norm_apply(const qe_plan *plan, qe_unit *unit);

#endif
