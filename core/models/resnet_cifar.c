/* ResNets for CIFAR: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016, section 4.2.
 * A 3x3 convolution to 16 channels, three stages of basic blocks (16, 32, 64 channels; stages 2 and 3 halve the map),
 * global average pool, linear layer: 6 n + 2 weighted layers for n blocks a stage. */
#include "core/models/parts.h"

#include <stdio.h>

enum { NAME = 64 };
static const float epsilon = 1e-5f, momentum = 0.1f;

static qe_node add_shortcut(const qe_builder *builder, const char *block, qe_stream in, int32_t stride,
                            int32_t channels) {
  char name[NAME], bn[NAME];
  if (stride == 1 && builder->graph->status == QE_OK && builder->graph->node[in.wide].output.dim[QE_C] == channels)
    return in.wide;
  snprintf(name, sizeof name, "%s.shortcut", block);
  if (builder->spec->shortcut == 'A') return qe_graph_subsample(builder->graph, name, in.wide, stride, channels);
  snprintf(bn, sizeof bn, "%s.shortcut_bn", block);
  qe_node conv = qe_add_conv(builder, name, in.low, qe_square(1, stride, 0, channels), QE_INNER_LAYER);
  return qe_graph_batch_norm(builder->graph, bn, conv, epsilon, momentum);
}

/* `next`: the convolution that reads the block's output; NULL after the last block. */
static qe_stream add_block(const qe_builder *builder, const char *block, qe_stream in, int32_t stride, int32_t channels,
                           const char *next) {
  char name[7][NAME];
  static const char *const part[7] = {"conv1", "bn1", "relu1", "conv2", "bn2", "add", "relu2"};
  for (int i = 0; i < 7; i++) snprintf(name[i], NAME, "%s.%s", block, part[i]);
  qe_graph *graph = builder->graph;
  /* Before the block's own layers, so that batch norm, add and non-linearity stand together and run fused. */
  qe_node skip = add_shortcut(builder, block, in, stride, channels);
  qe_node x = qe_add_conv(builder, name[0], in.low, qe_square(3, stride, 1, channels), QE_INNER_LAYER);
  x = qe_graph_batch_norm(graph, name[1], x, epsilon, momentum);
  x = qe_add_activation(builder, name[2], x, name[3], QE_INNER_LAYER);
  x = qe_add_conv(builder, name[3], x, qe_square(3, 1, 1, channels), QE_INNER_LAYER);
  x = qe_graph_batch_norm(graph, name[4], x, epsilon, momentum);
  x = qe_graph_add(graph, name[5], x, skip);
  return qe_add_stream(builder, name[6], x, next);
}

qe_status qe_build_resnet_cifar(const qe_builder *builder, int blocks) {
  const qe_model_spec *spec = builder->spec;
  qe_graph *graph = builder->graph;
  qe_node x = qe_graph_input(graph, "input", spec->height, spec->width, spec->channels);
  x = qe_add_conv(builder, "conv1", x, qe_square(3, 1, 1, 16), QE_EDGE_LAYER);
  x = qe_graph_batch_norm(graph, "bn1", x, epsilon, momentum);
  qe_stream stream = qe_add_stream(builder, "relu1", x, "stage1.0.conv1");
  for (int stage = 1; stage <= 3; stage++) {
    for (int block = 0; block < blocks; block++) {
      char name[24], next[32];
      bool last = block == blocks - 1;
      snprintf(name, sizeof name, "stage%d.%d", stage, block);
      snprintf(next, sizeof next, "stage%d.%d.conv1", stage + last, last ? 0 : block + 1);
      int32_t stride = stage > 1 && block == 0 ? 2 : 1;
      stream = add_block(builder, name, stream, stride, 8 << stage, last && stage == 3 ? NULL : next);
    }
  }
  x = qe_graph_global_pool(graph, "pool", stream.wide);
  int bits = qe_input_bits(builder, "fc", QE_EDGE_LAYER);
  if (bits != QE_FLOAT_BITS) {
    qe_quantizer quantizer = qe_activation_quantizer(builder, bits);
    x = qe_graph_quant(graph, "pool_quant", x, &quantizer, -1);
  }
  qe_add_linear(builder, "fc", x, spec->classes, QE_EDGE_LAYER);
  return QE_OK;
}
