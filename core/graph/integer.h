/* The integer network of a trained graph: codes, s32 sums, and one requantiser of integer multiply-adds where branches
 * meet. What is evaluated with it is what runs on small hardware, the same bits on every backend.
 *
 * Batch norm, biases, steps, ReLU, average pool and the logits' scale are folded into multipliers (M), offsets (B) and
 * a shift (S) for each requantiser: y = clamp((sum_i v_i M_i[c] + B[c]) >> S), the rounding half folded into B. */
#ifndef QE_GRAPH_INTEGER_H
#define QE_GRAPH_INTEGER_H

#include "core/dispatch/program.h"
#include "core/graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One call of an integer op, made for batch 1; its output is the tensor of the same number. */
typedef struct qe_int_layer {
  char *name; /* of the graph node it comes from */
  qe_op op;
  int inputs;
  int input[2]; /* tensors; the input image is tensor 0 */
  qe_attrs attrs;
  qe_desc output;
  int32_t low, high; /* range that the output's values are proven to lie in */
  int8_t *weight;    /* int_conv2d: codes [outputs, kernel h, kernel w, inputs] */
  qe_desc weight_desc;
  int weight_bits;
  int32_t *multiplier[2]; /* requantisers: [C] of each branch */
  int64_t *offset;        /* requantisers: [C] */
} qe_int_layer;

typedef struct qe_integer {
  qe_int_layer *layer; /* layer 0 gathers images; the last gives logits, s32 in units of 2^-8 bits */
  size_t layers, capacity;
} qe_integer;

/* `values`: the graph's flat parameter vector. QE_REFUSED with the node's name where the network is not on integer
 * grids throughout, where a sum could overflow, or where a layer has no integer form. */
QE_CHECKED qe_status qe_integer_new(const qe_graph *graph, const float *values, qe_integer **integer);
void qe_integer_free(qe_integer *integer); /* NULL is fine */

/* Bytes of weights, multipliers and offsets as qe_integer_lower lays them out. */
size_t qe_integer_bytes(const qe_integer *integer);

/* Buffers as for qe_lower: constants is qe_integer_bytes long and is filled here; loss is s32 [batch] in Q16 bits. */
typedef struct qe_integer_buffers {
  qe_buffer *constants, *images, *index, *labels, *loss, *hits;
} qe_integer_buffers;

/* A program that evaluates `batch` images of a data set of `images`. *logits (may be NULL): s32 [1,batch,1,1,classes],
 * kept. */
QE_CHECKED qe_status qe_integer_lower(const qe_integer *integer, qe_queue *queue, int32_t batch, int32_t images,
                                      const qe_integer_buffers *buffers, qe_program **program, qe_value *logits);

/* A line a layer: op, types, range, bits of multipliers, shift, narrow or wide. */
void qe_integer_dump(const qe_integer *integer, FILE *file);

#ifdef __cplusplus
}
#endif
#endif
