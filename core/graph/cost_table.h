/* What a network costs, layer by layer: one table for graphs and for integer networks. */
#ifndef QE_GRAPH_COST_TABLE_H
#define QE_GRAPH_COST_TABLE_H

#include "core/base/json.h"
#include "core/dispatch/network.h"
#include "core/graph/graph.h"

typedef struct qe_cost_row {
  const char *layer;
  int weight_bits, act_bits; /* 0: has none */
  int64_t params, macs, bit_ops, bytes;
} qe_cost_row;

typedef struct qe_cost_table {
  qe_cost_row *row; /* convolutions and linear layers; of an integer network the requantisers together, too */
  size_t rows, capacity;
  qe_cost_row sum;
} qe_cost_table;

/* Names stay the graph's or the network's. */
QE_CHECKED qe_status qe_cost_of_graph(const qe_graph *graph, qe_cost_table *table);
QE_CHECKED qe_status qe_cost_of_network(const qe_network *network, qe_cost_table *table);
void qe_cost_table_free(qe_cost_table *table);

void qe_cost_table_print(const qe_cost_table *table, FILE *file);
/* Members "params", "macs", "bit_operations", "bytes" and "layers" of the open object. */
void qe_cost_table_json(const qe_cost_table *table, qe_json *json);

#endif
