/* An integer network as plain data: codes, s32 sums, and one requantiser of integer multiply-adds where branches meet.
 * What is evaluated with it is what runs on small hardware, the same bits on every backend.
 *
 * Batch norm, biases, steps, ReLU, average pool and the logits' scale are folded into multipliers (M), offsets (B) and
 * a shift (S) for each requantiser: y = clamp((sum_i v_i M_i[c] + B[c]) >> S), the rounding half folded into B. */
#ifndef QE_DISPATCH_NETWORK_H
#define QE_DISPATCH_NETWORK_H

#include "core/base/op.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What one code of a tensor is worth: mantissa * 2^exponent; mantissa 0: unknown. Nothing is computed with it but the
 * ratio of two networks' tensors. */
typedef struct qe_unit {
  int32_t mantissa, exponent;
} qe_unit;
enum { QE_UNIT_EXPONENT = 256 }; /* exponents lie within +- this */

/* One call of an integer op, made for one image and one candidate; its output is the tensor of the same number. */
typedef struct qe_network_layer {
  char *name; /* of the graph node it comes from */
  qe_op op;
  int inputs;
  int input[2]; /* tensors, all of layers before; layer 0 gathers images and has none */
  qe_attrs attrs;
  qe_desc output;
  int32_t low, high; /* range that the output's values are proven to lie in, for these weights */
  qe_unit unit;      /* of the output; sums of a convolution have none */
  int8_t *weight;    /* int_conv2d: codes [outputs, kernel h, kernel w, inputs] */
  qe_desc weight_desc;
  qe_code_grid grid;      /* of the weights */
  int32_t *multiplier[2]; /* requantisers: [C] of each branch */
  int64_t *offset;        /* requantisers: [C] */
} qe_network_layer;

typedef struct qe_network {
  qe_network_layer *layer; /* layer 0 gathers images; the last gives logits, s32 in units of 2^-8 bits */
  size_t layers, capacity;
} qe_network;

void qe_network_free(qe_network *network); /* NULL is fine */

/* Append a layer and take over its memory, its name too. When this fails the memory stays the caller's. */
QE_CHECKED qe_status qe_network_add(qe_network *network, const qe_network_layer *layer);
/* A copy with memory of its own. */
QE_CHECKED qe_status qe_network_copy(const qe_network *network, qe_network **copy);
/* Frees what a layer owns. */
void qe_network_layer_clear(qe_network_layer *layer);

/* QE_FORMAT with the layer's name where the description is not sound: an op that is not an integer op, an input that
 * does not come before, shapes that do not fit each other, codes outside their grid, missing constants, sums that could
 * overflow. What a file or a caller made passes here before anything is computed with it. */
QE_CHECKED qe_status qe_network_check(const qe_network *network);

/* QE_SHAPE with what `who` ("the network") takes unless it is for such images and as many classes. */
QE_CHECKED qe_status qe_network_takes(const qe_network *network, const char *who, int height, int width, int channels,
                                      int classes);

/* Makes ranges (low, high) and `narrow` of every layer what they are for the network's weights: after weights,
 * multipliers or offsets were changed. The network must be sound but for these. */
void qe_network_prove(qe_network *network);
/* The same of one layer; those before it have been proven. */
void qe_network_prove_layer(qe_network *network, size_t at);

/* Whether two layers of the same number, but for their names, compute the same of the same inputs. */
bool qe_network_same_layer(const qe_network_layer *a, const qe_network_layer *b);

/* What sums of a requantiser with these multipliers and offsets fit, for branches whose values reach at most
 * `reach` in magnitude: 16-bit multipliers and s32, or s64, or not even that: then it must not run. */
typedef enum qe_sum_width { QE_SUM_NARROW, QE_SUM_WIDE, QE_SUM_OVERFLOWS } qe_sum_width;
qe_sum_width qe_requant_width(const qe_network_layer *layer, const int32_t *const multiplier[2], const int64_t *offset,
                              const int64_t reach[2]);

/* Multiply-adds an image of a layer's convolution, 0 for other layers; bits of the codes that a tensor can hold, by its
 * range (0...15: 4). */
int64_t qe_network_macs(const qe_network *network, size_t layer);
int32_t qe_network_bits(const qe_network *network, size_t tensor);

/* A line a layer: op, types, range, bits, shift, narrow or wide. */
void qe_network_dump(const qe_network *network, FILE *file);

/* Range of one output channel's sums for weights [kernel h, kernel w, inputs] and input values low...high; padding
 * adds 0. */
void qe_sum_range(const int8_t *weight, int64_t count, int64_t low, int64_t high, int64_t *least, int64_t *most);

#ifdef __cplusplus
}
#endif
#endif
