/* Layer types: each is a small table of functions, found by name; adding one is a row in layers.c. */
#ifndef QE_GRAPH_LAYERS_H
#define QE_GRAPH_LAYERS_H

#include "core/graph/graph.h"
#include "core/graph/lower_parts.h"

/* Places in qe_node_info.param. */
enum { QE_CONV_WEIGHT, QE_CONV_BIAS, QE_CONV_STEP }; /* conv and linear; -1: none */
enum { QE_BN_GAMMA, QE_BN_BETA, QE_BN_MEAN, QE_BN_VAR };
enum { QE_QUANT_STEP };

typedef struct qe_layer {
  const char *name;
  /* Its output is recomputed in the backward pass unless something else needs it kept: element-wise and cheap. */
  bool cheap;
  /* The backward pass reads its input's values. */
  bool reads_input;
  /* Sets node->output from the inputs' outputs. */
  qe_status (*infer)(qe_graph *graph, qe_node_info *node);
  /* Emits the calls that make the node's output; returns it in *output. */
  qe_status (*forward)(qe_lowering *lowering, qe_node node, qe_value *output);
  /* Given the gradient of the output, emits parameter gradients and adds the inputs' gradients. */
  qe_status (*backward)(qe_lowering *lowering, qe_node node, qe_value gradient);
} qe_layer;

extern const qe_layer qe_layer_input, qe_layer_conv, qe_layer_linear, qe_layer_batch_norm, qe_layer_clamp,
    qe_layer_quant, qe_layer_add, qe_layer_concat, qe_layer_max_pool, qe_layer_avg_pool, qe_layer_flatten,
    qe_layer_subsample;

#endif
