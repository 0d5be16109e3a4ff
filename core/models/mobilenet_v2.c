/* MobileNet-V2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, table 2. A block
 * expands its channels by a 1x1 convolution, filters each by a depthwise 3x3 one, and projects to few channels without
 * a non-linearity. The form for CIFAR does not stride in the first convolution and in the second stage.
 *
 * Low-bit form: what a projection gives has codes of both signs; where a skip connection begins they are wide (residual
 * bits) with a low code beside them, elsewhere low only. */
#include "core/models/parts.h"

#include <stdio.h>

enum { BLOCKS = 17, FIRST_CHANNELS = 32, LAST_CHANNELS = 1280 };

typedef struct block_shape {
  int32_t expansion, channels, stride;
} block_shape;

/* Stages of table 2: expansion, channels, blocks, stride of the first block. */
static void shapes_of_blocks(bool cifar, block_shape *shape) {
  static const int32_t stage[7][4] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                                      {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  for (int s = 0; s < 7; s++)
    for (int32_t i = 0; i < stage[s][2]; i++) {
      bool strides = i == 0 && !(cifar && s == 1);
      *shape++ = (block_shape){stage[s][0], stage[s][1], strides ? stage[s][3] : 1};
    }
}

static int32_t channels_of(const qe_builder *builder, qe_node node) {
  return builder->graph->status == QE_OK ? builder->graph->node[node].output.dim[QE_C] : 0;
}

static qe_node add_relu6(const qe_builder *builder, const char *name, qe_node input, const char *reader) {
  return qe_add_clipped_activation(builder, name, input, 6, reader, QE_INNER_LAYER);
}

/* 1x1 convolution, batch norm, ReLU6. */
static qe_node add_expansion(const qe_builder *builder, const char *block, qe_node x, int32_t channels) {
  x = qe_add_conv(builder, qe_label_of(block, "expand").text, x, qe_square(1, 1, 0, channels), QE_INNER_LAYER);
  x = qe_add_norm(builder, qe_label_of(block, "expand_bn").text, x);
  return add_relu6(builder, qe_label_of(block, "expand_relu").text, x, qe_label_of(block, "depthwise").text);
}

/* Everything up to the projection's batch norm. */
static qe_node add_inner(const qe_builder *builder, const char *block, qe_node x, const block_shape *shape) {
  if (shape->expansion > 1) x = add_expansion(builder, block, x, shape->expansion * channels_of(builder, x));
  int32_t channels = channels_of(builder, x);
  qe_window window = qe_square(3, shape->stride, 1, channels);
  window.groups = channels;
  x = qe_add_conv(builder, qe_label_of(block, "depthwise").text, x, window, QE_INNER_LAYER);
  x = qe_add_norm(builder, qe_label_of(block, "depthwise_bn").text, x);
  qe_label project = qe_label_of(block, "project");
  x = add_relu6(builder, qe_label_of(block, "depthwise_relu").text, x, project.text);
  x = qe_add_conv(builder, project.text, x, qe_square(1, 1, 0, shape->channels), QE_INNER_LAYER);
  return qe_add_norm(builder, qe_label_of(block, "project_bn").text, x);
}

static bool skips(const block_shape *before, const block_shape *shape) {
  return shape->stride == 1 && shape->channels == before->channels;
}

static qe_node add_blocks(const qe_builder *builder, qe_node x, const block_shape *shape) {
  qe_stream stream = {x, x};
  for (int i = 0; i < BLOCKS; i++) {
    char block[16], reader[32] = "conv2";
    snprintf(block, sizeof block, "block%d", i + 1);
    if (i + 1 < BLOCKS) snprintf(reader, sizeof reader, "block%d.expand", i + 2);
    x = add_inner(builder, block, stream.low, &shape[i]);
    if (i > 0 && skips(&shape[i - 1], &shape[i]))
      x = qe_graph_add(builder->graph, qe_label_of(block, "add").text, x, stream.wide);
    qe_label name = qe_label_of(block, "sum");
    if (i + 1 < BLOCKS && skips(&shape[i], &shape[i + 1]))
      stream = qe_add_signed_stream(builder, name.text, x, reader);
    else
      stream.wide = stream.low = qe_add_signed_codes(builder, name.text, x, reader);
  }
  return stream.low;
}

qe_status qe_build_mobilenet_v2(const qe_builder *builder, int size) {
  bool cifar = size == 1;
  const qe_model_spec *spec = builder->spec;
  block_shape shape[BLOCKS];
  shapes_of_blocks(cifar, shape);
  qe_node x = qe_graph_input(builder->graph, "input", spec->height, spec->width, spec->channels);
  x = qe_add_conv(builder, "conv1", x, qe_square(3, cifar ? 1 : 2, 1, FIRST_CHANNELS), QE_EDGE_LAYER);
  x = qe_add_norm(builder, "bn1", x);
  x = add_relu6(builder, "relu1", x, "block1.depthwise");
  x = add_blocks(builder, x, shape);
  x = qe_add_conv(builder, "conv2", x, qe_square(1, 1, 0, LAST_CHANNELS), QE_INNER_LAYER);
  x = qe_add_norm(builder, "bn2", x);
  qe_add_pooled_classifier(builder, qe_add_last_activation(builder, "relu2", x, 6));
  return QE_OK;
}
