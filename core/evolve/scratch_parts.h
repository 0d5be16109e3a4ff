/* What the files of the stage `scratch` share; nobody else includes this. */
#ifndef QE_EVOLVE_SCRATCH_PARTS_H
#define QE_EVOLVE_SCRATCH_PARTS_H

#include "core/base/wide.h"
#include "core/dispatch/network_program.h"
#include "core/evolve/counters.h"
#include "core/evolve/scratch.h"

enum { QE_NONE = -1 };
enum { QE_PAIR = 2 };                  /* candidates of a direction: with it, against it */
enum { QE_STEP_BITS = 40 };            /* fraction bits of the steps of errors */
enum { QE_ERROR_SHIFT = 20 };          /* of the requantisers of errors */
enum { QE_SOFTMAX_BITS = 7 };          /* fraction bits of the softmax error */
enum { QE_MOST_MULTIPLIER = 1 << 13 }; /* of sums, so that those of 4-bit layers fit 32 bits */

/* Where the error at a unit's output comes from. */
typedef enum qe_error_source {
  QE_ERROR_LOSS,     /* the unit gives logits: softmax error */
  QE_ERROR_ABOVE,    /* from the units that read it */
  QE_ERROR_FEEDBACK, /* a matrix for each class and channel, times the softmax error of the network's logits */
  QE_ERROR_NONE,     /* it has none: votes come from candidates */
  QE_ERROR_NOISE     /* the noise that it was given, times the sign of the change of loss */
} qe_error_source;

/* Numbers of one channel kept over the steps, and what they make of a requantiser. */
typedef struct qe_scratch_norm {
  int64_t *mean, *square; /* [C] of the sums and their squares: running means, in units of 2^-QE_NORM_BITS */
  int32_t spread;         /* output codes that one standard deviation becomes */
  int32_t centre;         /* output code of the mean where no bias has moved it */
} qe_scratch_norm;
enum { QE_NORM_BITS = 8 };

/* Errors become codes of few bits: one requantiser, its step adapted to the errors it has seen. */
typedef struct qe_error_maker {
  int inputs;
  struct {
    int32_t unit;    /* whose error it comes from; QE_NONE: a feedback matrix */
    bool skip;       /* its wide error, times the skip connection's multiplier; else the error of its sums */
    bool wide;       /* its wide error as it is */
    bool above;      /* its error from above the border, at its weight */
    int32_t coarser; /* shift of the coarser code that it comes through */
  } from[2];
  bool of_sums; /* gives the error of the unit's sums: times its multipliers, and the device takes mean and slope away;
                 * else the error of its output codes */
  int32_t bits;
  uint64_t step; /* real value of a code, 2^-QE_STEP_BITS units */
  int32_t channels;
  int64_t count;                      /* values of a step */
  size_t multiplier[2], offset, sums; /* bytes into the constants and the results */
} qe_error_maker;

/* Sums, the requantiser that reads them, and what the training keeps for them. */
typedef struct qe_scratch_unit {
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
  qe_scratch_norm norm;
  qe_counters weights;        /* of conv */
  qe_counters bias;           /* of all but logits: 1/256 of a fifth of the spread */
  qe_error_maker error, wide; /* of its sums; of its output codes where it comes from above (inputs 0: not) */
  qe_error_maker above;       /* of its output codes, of the units above where a head reads it; inputs 0: not */
  size_t stats;               /* bytes into the results: [C] sums and [C] squares of `sums`, s64 */
  size_t votes;               /* bytes into the results: s64 */
  size_t inputs;              /* bytes into the results: sums of what conv reads, [inputs of a place], s64 */
  int32_t *feedback;          /* [classes, C], feedback only */
  int64_t feedback_count;
  size_t feedback_codes; /* bytes into errors */
  size_t noise;          /* bytes into the results: s32 [batch, C], sums over the map */
  size_t counter;        /* of its noise: bytes into the batch */
} qe_scratch_unit;

typedef struct qe_scratch_plan {
  qe_network *network; /* a copy with the local heads appended */
  size_t own;          /* layers of the network itself */
  int32_t *unit_of;    /* [layers]: the unit whose requantiser makes the tensor, also through coarser codes and moves */
  qe_scratch_unit *unit;
  size_t units, capacity;
  size_t own_logits; /* the unit of the network's own logits */
} qe_scratch_plan;

/* Cuts the network into units and appends the heads that `options` ask for. QE_REFUSED with the layer's name for what
 * has no rule. */
QE_CHECKED qe_status qe_scratch_plan_new(const qe_network *network, const qe_scratch_options *options,
                                         qe_scratch_plan **plan);
void qe_scratch_plan_free(qe_scratch_plan *plan); /* NULL is fine */

/* Whether the unit gives logits. */
bool qe_unit_is_logits(const qe_scratch_plan *plan, const qe_scratch_unit *unit);

/* Memory for the unit's means, its spread and the shift of its requantiser, which stays, from the grid of its codes and
 * what random weights will give; multipliers as if the means were as expected. */
QE_CHECKED qe_status qe_norm_new(qe_scratch_plan *plan, qe_scratch_unit *unit);
/* Sums over `count` values a channel and sums of squares, [C] each, enter the running means as one part of `parts`; 1:
 * nothing is left of what they were. */
void qe_norm_take(qe_scratch_norm *norm, const int64_t *sums, const int64_t *squares, int32_t channels, int64_t count,
                  int32_t parts);
/* Multipliers and offsets of the unit's requantiser from means and biases. */
void qe_norm_apply(const qe_scratch_plan *plan, qe_scratch_unit *unit);

/* ---- the program of a step ---- */

/* Memory of the device and its mirror on the host. */
typedef struct qe_block {
  qe_buffer *buffer;
  uint8_t *host;
  size_t bytes;
} qe_block;

typedef struct qe_scratch {
  qe_scratch_options options;
  uint64_t seed;
  qe_queue *queue;
  const qe_dataset *data;
  qe_scratch_plan *plan;
  const int32_t *kept; /* [images]: training images that are not held out */
  int32_t images;
  int32_t *order; /* [images] of epoch `epoch` */
  int64_t epoch;
  qe_buffer *pixels;
  qe_block batch;     /* see the places below */
  qe_block constants; /* of all layers */
  qe_constant_places *place;
  qe_block errors;                     /* constants of the makers of errors */
  qe_block results;                    /* statistics and votes */
  size_t index, iota, labels, counter; /* bytes into batch */
  size_t loss, hits;                   /* bytes into results; with noise: */
  size_t noisy_loss, noisy_hits;
  size_t softmax;               /* bytes into results: s8 [batch, classes], error of the own logits */
  size_t one, minus_one, zeros; /* bytes into errors: constants */
  size_t *moves;                /* [layers]: of subsamples, bytes into errors */
  qe_program *program;
  qe_program *pair_program; /* rank1: the losses of two candidates; NULL for the other sources */
  qe_block pair;            /* their constants */
  qe_constant_places *pair_place;
  qe_block pair_results; /* s32 [2, batch] each: */
  size_t pair_loss, pair_hits;
  int8_t *pattern; /* signs of a layer */
  int64_t cost;    /* candidate-images a step, without those of pairs */
  int64_t step;    /* steps made, the warm ones (before votes count) included */
  int64_t warm;    /* of these */
  int64_t start;   /* candidate-images of the whole search when the stage began */
} qe_scratch;

/* Room in a block that is not allocated yet. */
size_t qe_block_place(qe_block *block, size_t bytes);
/* Builds and plans the program; fills the places of units, makers and blocks. */
QE_CHECKED qe_status qe_scratch_build(qe_scratch *trainer);

/* ---- errors ---- */

/* Largest code of an error. */
int32_t qe_error_most(const qe_error_maker *maker);
/* Multipliers of its inputs by the present steps: to `constants` at the maker's places. */
void qe_error_fill(const qe_scratch *trainer, const qe_scratch_unit *unit, const qe_error_maker *maker);
/* Adapts the step to the mean square of the codes that it gave: sums of squares [channels]. `fast`: at once. */
void qe_error_adapt(qe_error_maker *maker, const int64_t *squares, bool fast);

/* ---- noise ---- */

/* Places in the blocks: a unit's, where it has noise; the trainer's. */
void qe_scratch_place_noise(qe_scratch *trainer, qe_scratch_unit *unit);
void qe_scratch_place_signs(qe_scratch *trainer);
/* Constants and counters of the step's noise; a feedback matrix's codes: to the blocks' mirrors. */
void qe_scratch_fill_noise(const qe_scratch *trainer);
void qe_scratch_fill_feedback(const qe_scratch *trainer, const qe_scratch_unit *unit);
/* After a step: the matrix takes up what the noise has told. */
void qe_scratch_learn_feedback(const qe_scratch *trainer, qe_scratch_unit *unit);

/* ---- rank-one perturbation ---- */

/* The program of two candidates. */
QE_CHECKED qe_status qe_scratch_build_pair(qe_scratch *trainer);
/* Votes of the step's directions on the step's images: to the mirror of the results. */
QE_CHECKED qe_status qe_scratch_rank_votes(const qe_scratch *trainer);

/* ---- the trainer ---- */

/* What a step has seen. */
typedef struct qe_scratch_score {
  int64_t loss, hits, images; /* of the network's own logits, on the augmented training images; loss Q16 bits */
} qe_scratch_score;

/* Random codes, calibrated. `kept` [images]: training images that it may use. All must outlive it. */
QE_CHECKED qe_status qe_scratch_new(qe_queue *queue, const qe_network *network, const qe_dataset *data,
                                    const int32_t *kept, int32_t images, const qe_scratch_options *options,
                                    uint64_t seed, qe_scratch **trainer);
void qe_scratch_free(qe_scratch *trainer); /* NULL is fine */
/* One step on the next batch. rate 0: nothing but calibration, which forgets what it knew (the warm steps). */
QE_CHECKED qe_status qe_scratch_step(qe_scratch *trainer, int32_t rate, qe_scratch_score *score);
/* As many steps on as many batches in which nothing but the means of sums moves, which become those over all of them: a
 * running mean over a few batches is too rough for use. */
QE_CHECKED qe_status qe_scratch_settle(qe_scratch *trainer, int32_t steps);
/* The network's present codes, multipliers, offsets and shifts into `network`, which is of the same layers. */
void qe_scratch_give_network(const qe_scratch *trainer, qe_network *network);
/* Candidate-images of the next step. */
int64_t qe_scratch_cost(const qe_scratch *trainer);
/* Codes and constants of a unit from its counters, means and biases. */
void qe_scratch_refresh(const qe_scratch *trainer, qe_scratch_unit *unit);
/* Confident codes of 10,000. */
int32_t qe_scratch_confident(const qe_scratch *trainer);
/* All that is needed to go on, and back. QE_FORMAT when it is of another training. */
QE_CHECKED qe_status qe_scratch_save(const void *trainer, qe_tensors *state);
QE_CHECKED qe_status qe_scratch_load(qe_scratch *trainer, const qe_tensors *state);

#endif
