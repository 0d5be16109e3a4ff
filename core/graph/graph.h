/* The graph: a network as nodes in topological order, with its parameters and quantisers.
 *
 * Shapes are for one image (N = 1); the batch comes with lowering (lower.h). Building functions return the new node or
 * -1 with a message; a failed build sticks, so a model may be written as a straight sequence and checked once. */
#ifndef QE_GRAPH_GRAPH_H
#define QE_GRAPH_GRAPH_H

#include "core/base/op.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t qe_node;

enum { QE_FLOAT_BITS = 32, QE_MAX_INPUTS = 2, QE_MAX_NODE_PARAMS = 6 };

/* How a step is found (numerics: quantisers). */
#define QE_RULE_LIST(X)                                                                                                \
  X(LSQ, "lsq", "learned step size (Esser et al. 2020)")                                                               \
  X(PACT, "pact", "learned clip (Choi et al. 2018); for weights the same as max")                                      \
  X(DOREFA, "dorefa", "DoReFa (Zhou et al. 2016): tanh-normalised weights, activations clipped at 1")                  \
  X(L2, "l2", "fixed step of least squared error (Shin et al. 2020)")                                                  \
  X(L2_ODD, "l2-odd", "the same on the odd codes: all 2^b of them, none of them 0")                                    \
  X(MAX, "max", "fixed step from the largest magnitude")

typedef enum qe_rule {
#define X(id, name, text) QE_RULE_##id,
  QE_RULE_LIST(X)
#undef X
      QE_RULES
} qe_rule;

typedef enum qe_grid {
  QE_GRID_SYMMETRIC, /* -(2^(b-1)-1) ... 2^(b-1)-1 */
  QE_GRID_SIGNED,    /* -2^(b-1) ... 2^(b-1)-1 */
  QE_GRID_ODD,       /* odd integers -(2^b-1) ... 2^b-1 */
  QE_GRID_UNSIGNED,  /* 0 ... 2^b-1 */
  QE_GRIDS
} qe_grid;

typedef struct qe_quantizer {
  int bits; /* 1...8, or QE_FLOAT_BITS: not quantised */
  qe_rule rule;
  qe_grid grid;
  bool per_channel; /* weights: a step for each output channel */
  int step_shift;   /* activations: the step is the parameter * 2^-step_shift */
  bool round_up;    /* activations: halves up */
} qe_quantizer;

const char *qe_rule_name(qe_rule rule);
const char *qe_grid_name(qe_grid grid);
/* Smallest and largest code of a grid at `bits`. */
void qe_grid_range(qe_grid grid, int bits, int32_t *low, int32_t *high);
/* Whether a step of one is a step of the other: the same bits, rule, grid, number of steps and shift. */
bool qe_same_quantizer(const qe_quantizer *a, const qe_quantizer *b);
/* The grid on which a rule puts weights of so many bits. */
qe_grid qe_weight_grid(qe_rule rule, int bits);

/* Parameters lie in one flat f32 vector, group after group, so that an optimizer step is a call a group. */
typedef enum qe_group {
  QE_GROUP_WEIGHT, /* trained, decayed */
  QE_GROUP_SCALE,  /* trained, not decayed: batch norm's gamma and beta, biases */
  QE_GROUP_STEP,   /* trained, not decayed, kept positive: quantiser steps */
  QE_GROUP_STATE,  /* not trained: running statistics, fixed steps */
  QE_GROUPS
} qe_group;

typedef struct qe_param {
  char *name; /* "stage1.0.conv1.weight" */
  qe_desc desc;
  qe_group group;
  qe_node node;     /* that first uses it */
  size_t offset;    /* bytes into the flat vector; final after qe_graph_finish */
  bool initialised; /* steps: a value was set (loaded or fitted), not only the default */
} qe_param;

struct qe_layer; /* layers.h */

typedef struct qe_node_info {
  const struct qe_layer *layer;
  char *name;
  int inputs;
  qe_node input[QE_MAX_INPUTS];
  qe_attrs attrs;
  qe_quantizer quantizer; /* conv, linear: of the weights; quant: of the activations */
  int params;
  int param[QE_MAX_NODE_PARAMS]; /* meaning by layer: layers.h */
  qe_desc output;
  int consumers;
} qe_node_info;

typedef struct qe_graph {
  qe_node_info *node;
  size_t nodes, node_capacity;
  qe_param *param;
  size_t params, param_capacity;
  size_t group_offset[QE_GROUPS + 1]; /* bytes; final after qe_graph_finish */
  bool finished;
  qe_status status; /* the first failure of a building function */
  char *error;
} qe_graph;

QE_CHECKED qe_status qe_graph_new(qe_graph **graph);
void qe_graph_free(qe_graph *graph);

/* ---- building ---- */

/* An image: f32 [1,1,H,W,C], values (pixel - 128) / 64. */
qe_node qe_graph_input(qe_graph *graph, const char *name, int32_t height, int32_t width, int32_t channels);
/* Convolution; window.channels outputs. `bias`: with a bias a channel. */
qe_node qe_graph_conv(qe_graph *graph, const char *name, qe_node input, const qe_window *window, bool bias,
                      const qe_quantizer *weights);
qe_node qe_graph_linear(qe_graph *graph, const char *name, qe_node input, int32_t outputs, bool bias,
                        const qe_quantizer *weights);
qe_node qe_graph_batch_norm(qe_graph *graph, const char *name, qe_node input, float epsilon, float momentum);
/* min(max(x, low), high); ReLU is 0, INFINITY. */
qe_node qe_graph_clamp(qe_graph *graph, const char *name, qe_node input, float low, float high);
/* Activation quantiser; also the ReLU of a quantised network, for the grid starts at 0. `share` not -1: a quant node
 * whose step parameter is used (with this quantizer's own step_shift). */
qe_node qe_graph_quant(qe_graph *graph, const char *name, qe_node input, const qe_quantizer *activations,
                       qe_node share);
qe_node qe_graph_add(qe_graph *graph, const char *name, qe_node a, qe_node b);
qe_node qe_graph_concat(qe_graph *graph, const char *name, qe_node a, qe_node b);
qe_node qe_graph_max_pool(qe_graph *graph, const char *name, qe_node input, const qe_window *window);
qe_node qe_graph_avg_pool(qe_graph *graph, const char *name, qe_node input, const qe_window *window);
qe_node qe_graph_global_pool(qe_graph *graph, const char *name, qe_node input);
qe_node qe_graph_flatten(qe_graph *graph, const char *name, qe_node input);
/* ResNet's option A shortcut: every stride-th pixel, zero channels before and after up to `channels`. */
qe_node qe_graph_subsample(qe_graph *graph, const char *name, qe_node input, int32_t stride, int32_t channels);
/* Lay out the parameters and check the whole; call once, after the last node (the logits). */
QE_CHECKED qe_status qe_graph_finish(qe_graph *graph);

/* A square window: one kernel, stride and padding for both axes. */
qe_window qe_square(int32_t kernel, int32_t stride, int32_t pad, int32_t channels);

/* ---- asking ---- */

static inline qe_node qe_graph_output(const qe_graph *graph) {
  return (qe_node)graph->nodes - 1;
}
/* Index of the parameter called `name`, or -1. */
int qe_graph_find_param(const qe_graph *graph, const char *name);
/* Node called `name`, or -1. */
qe_node qe_graph_find_node(const qe_graph *graph, const char *name);
/* Bytes of the flat parameter vector. */
size_t qe_graph_param_bytes(const qe_graph *graph);

typedef struct qe_cost {
  int64_t params;  /* trained weights, biases, gammas, betas; steps and running statistics not counted */
  int64_t macs;    /* multiply-adds an image of convolutions and linear layers */
  int64_t bit_ops; /* sum of macs * weight bits * activation bits; 32 x 32 for float */
  int64_t bits;    /* storage: weights at their bits, all other trained parameters at 32 */
} qe_cost;
/* Of one node, or of the whole graph for node -1. */
qe_cost qe_graph_cost(const qe_graph *graph, qe_node node);
/* The quantiser or the image whose codes a node's output carries; -1: float. */
qe_node qe_graph_coder(const qe_graph *graph, qe_node node);
/* Bits of the codes that a node's output carries: the quantiser's, 8 for the input image, 32 for float. */
int qe_graph_bits(const qe_graph *graph, qe_node node);
/* Whether it is a convolution or a linear layer. */
bool qe_node_is_weighted(const qe_node_info *node);

/* A line a node: name, layer, inputs, shape, attributes; text.h reads it again. */
void qe_graph_dump(const qe_graph *graph, FILE *file);
/* Graphviz source. */
void qe_graph_dot(const qe_graph *graph, FILE *file);

#ifdef __cplusplus
}
#endif
#endif
