/* Pre-activation ResNets for CIFAR: He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", 2016: batch
 * norm and non-linearity stand before each convolution, and the skip connection carries the bare sum. Where the shape
 * changes it is subsampled (shortcut A) or a 1x1 convolution of the activated value (B, without batch norm).
 *
 * Low-bit form: the sum is a code of both signs at the residual bits; batch norm and quantiser of the next block read
 * it, so an integer network requantises it once for the branch and adds it as it is. */
#include "core/models/parts.h"

#include <math.h>
#include <stdio.h>

static qe_node add_shortcut(const qe_builder *builder, const char *block, qe_node sum, qe_node active, int32_t stride,
                            int32_t channels) {
  qe_label name = qe_label_of(block, "shortcut");
  if (stride == 1 && builder->graph->status == QE_OK && builder->graph->node[sum].output.dim[QE_C] == channels)
    return sum;
  if (builder->spec->shortcut == 'A') return qe_graph_subsample(builder->graph, name.text, sum, stride, channels);
  return qe_add_conv(builder, name.text, active, qe_square(1, stride, 0, channels), QE_INNER_LAYER);
}

static qe_node add_block(const qe_builder *builder, const char *block, qe_node sum, int32_t stride, int32_t channels) {
  qe_label conv1 = qe_label_of(block, "conv1"), conv2 = qe_label_of(block, "conv2");
  qe_node x = qe_add_norm(builder, qe_label_of(block, "bn1").text, sum);
  qe_node active = qe_add_activation(builder, qe_label_of(block, "relu1").text, x, conv1.text, QE_INNER_LAYER);
  qe_node skip = add_shortcut(builder, block, sum, active, stride, channels);
  x = qe_add_conv(builder, conv1.text, active, qe_square(3, stride, 1, channels), QE_INNER_LAYER);
  x = qe_add_norm(builder, qe_label_of(block, "bn2").text, x);
  x = qe_add_activation(builder, qe_label_of(block, "relu2").text, x, conv2.text, QE_INNER_LAYER);
  x = qe_add_conv(builder, conv2.text, x, qe_square(3, 1, 1, channels), QE_INNER_LAYER);
  x = qe_graph_add(builder->graph, qe_label_of(block, "add").text, x, skip);
  return qe_add_signed_stream(builder, qe_label_of(block, "sum").text, x, NULL).wide;
}

qe_status qe_build_preresnet(const qe_builder *builder, int blocks) {
  const qe_model_spec *spec = builder->spec;
  qe_node x = qe_graph_input(builder->graph, "input", spec->height, spec->width, spec->channels);
  x = qe_add_conv(builder, "conv1", x, qe_square(3, 1, 1, 16), QE_EDGE_LAYER);
  x = qe_add_signed_stream(builder, "sum1", x, NULL).wide;
  for (int stage = 1; stage <= 3; stage++)
    for (int block = 0; block < blocks; block++) {
      char name[24];
      snprintf(name, sizeof name, "stage%d.%d", stage, block);
      x = add_block(builder, name, x, stage > 1 && block == 0 ? 2 : 1, 8 << stage);
    }
  x = qe_add_norm(builder, "bn", x);
  qe_add_pooled_classifier(builder, qe_add_last_activation(builder, "relu", x, INFINITY));
  return QE_OK;
}
