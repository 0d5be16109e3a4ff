/* What the files that build the program of a training step share; nobody else includes this. */
#ifndef QE_EVOLVE_SCRATCH_BUILD_INTERNAL_H
#define QE_EVOLVE_SCRATCH_BUILD_INTERNAL_H

#include "core/evolve/scratch_parts.h"

/* An error on its way to a unit's output. */
typedef struct qe_error_part {
  qe_value value;
  int32_t unit; /* it comes from */
  bool skip, above;
  int32_t coarser;
} qe_error_part;

typedef struct qe_error_target {
  qe_error_part from[3];
  int count;
  qe_value stats[2]; /* of the unit's sums: sums by channel, and of squares */
  qe_value error;    /* of the unit's sums, s8 */
  qe_value wide;     /* of its output codes, s8 */
  qe_value noise;    /* on its output codes, s8 */
} qe_error_target;

typedef struct qe_scratch_builder {
  qe_scratch *trainer;
  qe_scratch_plan *plan;
  qe_program *program;
  qe_value *tensor;        /* [layers] */
  int32_t *population;     /* [layers] */
  qe_error_target *target; /* [units] */
  qe_value labels;
  int64_t macs;              /* of an image */
  int32_t candidates;        /* networks that run at once */
  const qe_block *constants; /* of each */
  const qe_constant_places *place;
} qe_scratch_builder;

/* Whether errors of unit `from` go on to `unit`. */
bool qe_scratch_wants(const qe_scratch *trainer, int32_t unit, const qe_scratch_unit *from);
/* Lays out and allocates the blocks. */
QE_CHECKED qe_status qe_scratch_memory(qe_scratch *trainer);
/* Allocates a block of which everything has its place. */
QE_CHECKED qe_status qe_scratch_make_block(const qe_scratch *trainer, qe_block *block);

/* A value at a place of a block. */
QE_CHECKED qe_status qe_scratch_bind_block(const qe_scratch_builder *b, const char *name, qe_desc desc,
                                           const qe_block *block, size_t at, qe_value *value);
/* Sums of a value by channel and of its squares: to the results, and as values for calls (NULL: not wanted). */
QE_CHECKED qe_status qe_scratch_sums(const qe_scratch_builder *b, qe_value value, size_t at, qe_value sums[2]);
/* e where the code of `y` lies between low and high. */
QE_CHECKED qe_status qe_scratch_gate(const qe_scratch_builder *b, qe_value e, qe_value y, int32_t low, int32_t high,
                                     qe_value *gated);
/* The maker's requantiser. */
QE_CHECKED qe_status qe_scratch_maker(const qe_scratch_builder *b, const qe_error_maker *maker, const qe_value *input,
                                      qe_value *made);
/* That of errors of a normalisation's output, which makes those of its sums; `stats`: the sums' own. */
QE_CHECKED qe_status qe_scratch_norm_maker(const qe_scratch_builder *b, const qe_error_maker *maker, qe_value error,
                                           qe_value sums, const qe_value stats[2], qe_value *made);
/* The convolution's input as its op reads it. */
QE_CHECKED qe_status qe_scratch_conv_input(const qe_scratch_builder *b, const qe_network_layer *conv, qe_value *x);
/* The step's augmented images as codes, and their labels. */
QE_CHECKED qe_status qe_scratch_images(qe_scratch_builder *b);
/* Layers start...stop-1 of the network. */
QE_CHECKED qe_status qe_scratch_layers(qe_scratch_builder *b, int32_t start, int32_t stop, qe_value *tensor);
/* Loss and hits of logits, to the results. */
QE_CHECKED qe_status qe_scratch_loss(const qe_scratch_builder *b, qe_value logits, size_t loss, size_t hits);

/* Everything of a unit behind the forward pass: statistics, error, votes, what goes on to other units. */
QE_CHECKED qe_status qe_scratch_errors(qe_scratch_builder *b, size_t at);
/* Of the error of a unit's output codes, through its clamp and its normalisation: the error of its sums. */
QE_CHECKED qe_status qe_scratch_to_sums(qe_scratch_builder *b, size_t at, qe_value error);
/* A second pass with noise on what the units with a source of noise or feedback give. */
QE_CHECKED qe_status qe_scratch_noise(qe_scratch_builder *b);
/* The error that noise, or the feedback matrix, gives a unit; the own logits' unit has had its error. */
QE_CHECKED qe_status qe_scratch_noise_error(qe_scratch_builder *b, size_t at);
QE_CHECKED qe_status qe_scratch_feedback_error(qe_scratch_builder *b, size_t at);

#endif
