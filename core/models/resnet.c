/* ResNets: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016.
 * CIFAR (section 4.2): a 3x3 convolution to 16 channels, three stages of basic blocks (16, 32, 64 channels; stages 2
 * and 3 halve the map), global average pool, linear layer: 6 n + 2 weighted layers for n blocks a stage.
 * ImageNet (table 1): a 7x7 convolution of stride 2 and a max pool, four stages (64 to 512 channels). Bottleneck blocks
 * stride in their 3x3 convolution, as torchvision's do. */
#include "core/models/parts.h"

#include <stdio.h>

/* What a block adds to its path: basic (two 3x3) or bottleneck (1x1, 3x3, 1x1 to four times the channels). */
typedef struct block_form {
  int convs;
  int32_t expansion;
} block_form;
static const block_form basic = {2, 1}, bottleneck = {3, 4};

static qe_window window_of(const block_form *form, int conv, int32_t stride, int32_t channels) {
  bool last = conv == form->convs - 1;
  if (form->convs == 2) return qe_square(3, conv == 0 ? stride : 1, 1, channels);
  return conv == 1 ? qe_square(3, stride, 1, channels)
                   : qe_square(1, 1, 0, last ? channels * form->expansion : channels);
}

static qe_node add_shortcut(const qe_builder *builder, const char *block, qe_stream in, int32_t stride,
                            int32_t channels) {
  qe_label name = qe_label_of(block, "shortcut");
  if (stride == 1 && builder->graph->status == QE_OK && builder->graph->node[in.wide].output.dim[QE_C] == channels)
    return in.wide;
  if (builder->spec->shortcut == 'A') return qe_graph_subsample(builder->graph, name.text, in.wide, stride, channels);
  qe_node conv = qe_add_conv(builder, name.text, in.low, qe_square(1, stride, 0, channels), QE_INNER_LAYER);
  return qe_add_norm(builder, qe_label_of(block, "shortcut_bn").text, conv);
}

/* `next`: the convolution that reads the block's output; NULL after the last block. */
static qe_stream add_block(const qe_builder *builder, const block_form *form, const char *block, qe_stream in,
                           int32_t stride, int32_t channels, const char *next) {
  static const char *const conv[] = {"conv1", "conv2", "conv3"}, *const bn[] = {"bn1", "bn2", "bn3"},
                           *const relu[] = {"relu1", "relu2", "relu3"};
  /* Before the block's own layers, so that batch norm, add and non-linearity stand together and run fused. */
  qe_node skip = add_shortcut(builder, block, in, stride, channels * form->expansion), x = in.low;
  int last = form->convs - 1;
  for (int i = 0; i <= last; i++) {
    x = qe_add_conv(builder, qe_label_of(block, conv[i]).text, x, window_of(form, i, stride, channels), QE_INNER_LAYER);
    x = qe_add_norm(builder, qe_label_of(block, bn[i]).text, x);
    if (i < last)
      x = qe_add_activation(builder, qe_label_of(block, relu[i]).text, x, qe_label_of(block, conv[i + 1]).text,
                            QE_INNER_LAYER);
  }
  x = qe_graph_add(builder->graph, qe_label_of(block, "add").text, x, skip);
  return qe_add_stream(builder, qe_label_of(block, relu[last]).text, x, next);
}

/* All stages; stage s has blocks[s - 1] blocks of `channels` << (s - 1), and halves the map but for the first. */
static qe_stream add_stages(const qe_builder *builder, const block_form *form, const int *blocks, int stages,
                            int32_t channels, qe_stream stream) {
  for (int stage = 1; stage <= stages; stage++) {
    for (int block = 0; block < blocks[stage - 1]; block++) {
      char name[24], next[32];
      bool last = block == blocks[stage - 1] - 1;
      snprintf(name, sizeof name, "stage%d.%d", stage, block);
      snprintf(next, sizeof next, "stage%d.%d.conv1", stage + last, last ? 0 : block + 1);
      int32_t stride = stage > 1 && block == 0 ? 2 : 1;
      stream = add_block(builder, form, name, stream, stride, channels << (stage - 1),
                         last && stage == stages ? NULL : next);
    }
  }
  return stream;
}

static qe_node add_start(const qe_builder *builder, qe_window window) {
  const qe_model_spec *spec = builder->spec;
  qe_node x = qe_graph_input(builder->graph, "input", spec->height, spec->width, spec->channels);
  x = qe_add_conv(builder, "conv1", x, window, QE_EDGE_LAYER);
  return qe_add_norm(builder, "bn1", x);
}

qe_status qe_build_resnet_cifar(const qe_builder *builder, int blocks) {
  qe_node x = add_start(builder, qe_square(3, 1, 1, 16));
  qe_stream stream = qe_add_stream(builder, "relu1", x, "stage1.0.conv1");
  stream = add_stages(builder, &basic, (int[]){blocks, blocks, blocks}, 3, 16, stream);
  qe_add_pooled_classifier(builder, stream.wide);
  return QE_OK;
}

qe_status qe_build_resnet(const qe_builder *builder, int depth) {
  static const int blocks18[] = {2, 2, 2, 2}, blocks34[] = {3, 4, 6, 3};
  qe_window pool = qe_square(3, 2, 1, 0);
  qe_node x = add_start(builder, qe_square(7, 2, 3, 64));
  qe_stream stream = qe_add_pooled_stream(builder, "relu1", x, &pool, "stage1.0.conv1");
  stream = add_stages(builder, depth < 50 ? &basic : &bottleneck, depth == 18 ? blocks18 : blocks34, 4, 64, stream);
  qe_add_pooled_classifier(builder, stream.wide);
  return QE_OK;
}
