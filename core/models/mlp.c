/* A multi-layer perceptron on flattened images: hidden layers of 256 with batch norm. The smallest network that uses
 * the linear layer throughout; for MNIST-like sets and for tests. */
#include "core/models/parts.h"

#include <stdio.h>

qe_status qe_build_mlp(const qe_builder *builder, int hidden_layers) {
  const qe_model_spec *spec = builder->spec;
  qe_graph *graph = builder->graph;
  qe_node x = qe_graph_input(graph, "input", spec->height, spec->width, spec->channels);
  x = qe_graph_flatten(graph, "flatten", x);
  for (int layer = 1; layer <= hidden_layers; layer++) {
    char name[3][32], reader[32];
    snprintf(name[0], sizeof name[0], "fc%d", layer);
    snprintf(name[1], sizeof name[1], "bn%d", layer);
    snprintf(name[2], sizeof name[2], "relu%d", layer);
    snprintf(reader, sizeof reader, "fc%d", layer + 1);
    x = qe_add_linear(builder, name[0], x, 256, layer == 1 ? QE_EDGE_LAYER : QE_INNER_LAYER);
    x = qe_add_norm(builder, name[1], x);
    x = qe_add_activation(builder, name[2], x, reader, layer == hidden_layers ? QE_EDGE_LAYER : QE_INNER_LAYER);
  }
  char name[32];
  snprintf(name, sizeof name, "fc%d", hidden_layers + 1);
  qe_add_linear(builder, name, x, spec->classes, QE_EDGE_LAYER);
  return QE_OK;
}
