/* Lowering of a trained graph to its integer network (core/dispatch/network.h).
 *
 * Batch norm, biases, steps, ReLU, average pool and the logits' scale are folded into the requantisers' multipliers,
 * offsets and shifts. */
#ifndef QE_GRAPH_INTEGER_H
#define QE_GRAPH_INTEGER_H

#include "core/dispatch/network.h"
#include "core/graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `values`: the graph's flat parameter vector. QE_REFUSED with the node's name where the network is not on integer
 * grids throughout, where a sum could overflow, or where a layer has no integer form. */
QE_CHECKED qe_status qe_network_from_graph(const qe_graph *graph, const float *values, qe_network **network);

/* The codes of a convolution's or linear layer's weights, in their order (new, qe_free), and their grid. QE_REFUSED
 * when they are float or do not fit 8 bits. */
QE_CHECKED qe_status qe_graph_weight_codes(const qe_graph *graph, const float *values, qe_node at, int8_t **codes,
                                           qe_code_grid *grid);

#ifdef __cplusplus
}
#endif
#endif
