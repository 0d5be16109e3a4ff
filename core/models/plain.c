/* Networks without skip connections: VGG-small, AlexNet, LeNet-5. Max pools stand behind the quantiser: it is
 * monotonic, so the order does not change the result, and an integer network pools codes. */
#include "core/models/parts.h"

#include <stdio.h>

static qe_node add_input(const qe_builder *builder) {
  const qe_model_spec *spec = builder->spec;
  return qe_graph_input(builder->graph, "input", spec->height, spec->width, spec->channels);
}

/* A layer of a chain: what stands behind the weights has its number, "bn3", "relu3", "pool3". */
typedef struct chain_layer {
  const char *name;
  int32_t channels, kernel, stride, pad; /* kernel 0: linear */
  int32_t pool;                          /* size of the max pool of stride 2 behind it; 0: none */
} chain_layer;

static qe_node add_numbered(const qe_builder *builder, qe_node x, const chain_layer *layer, int number, bool norm) {
  qe_place place = number == 1 ? QE_EDGE_LAYER : QE_INNER_LAYER;
  qe_window window = qe_square(layer->kernel, layer->stride, layer->pad, layer->channels);
  char name[16];
  if (!layer->kernel)
    x = norm ? qe_add_unbiased_linear(builder, layer->name, x, layer->channels, place)
             : qe_add_linear(builder, layer->name, x, layer->channels, place);
  else
    x = norm ? qe_add_conv(builder, layer->name, x, window, place)
             : qe_add_biased_conv(builder, layer->name, x, window, place);
  if (!norm) return x;
  snprintf(name, sizeof name, "bn%d", number);
  return qe_add_norm(builder, name, x);
}

/* The layers one after the other, then the linear layer `last` to the logits. `norm`: batch norm instead of biases. */
static qe_status add_chain(const qe_builder *builder, const chain_layer *layer, int layers, const char *last,
                           bool norm) {
  qe_node x = add_input(builder);
  bool flat = false;
  for (int i = 0; i < layers; i++) {
    char relu[16], pool[16];
    snprintf(relu, sizeof relu, "relu%d", i + 1);
    snprintf(pool, sizeof pool, "pool%d", i + 1);
    if (!layer[i].kernel && !flat) x = qe_graph_flatten(builder->graph, "flatten", x);
    flat |= !layer[i].kernel;
    x = add_numbered(builder, x, &layer[i], i + 1, norm);
    bool end = i + 1 == layers;
    x = qe_add_activation(builder, relu, x, end ? last : layer[i + 1].name, end ? QE_EDGE_LAYER : QE_INNER_LAYER);
    qe_window window = qe_square(layer[i].pool, 2, 0, 0);
    if (layer[i].pool) x = qe_graph_max_pool(builder->graph, pool, x, &window);
  }
  if (!flat) x = qe_graph_flatten(builder->graph, "flatten", x);
  qe_add_linear(builder, last, x, builder->spec->classes, QE_EDGE_LAYER);
  return QE_OK;
}

/* Cai et al., "Deep Learning with Low Precision by Half-wave Gaussian Quantization", 2017, and Zhang et al., "LQ-Nets",
 * 2018: the BNN network of Courbariaux et al. 2016 with one linear layer instead of three. */
qe_status qe_build_vgg_small(const qe_builder *builder, int size) {
  (void)size;
  static const chain_layer layers[] = {{"conv1", 128, 3, 1, 1, 0}, {"conv2", 128, 3, 1, 1, 2},
                                       {"conv3", 256, 3, 1, 1, 0}, {"conv4", 256, 3, 1, 1, 2},
                                       {"conv5", 512, 3, 1, 1, 0}, {"conv6", 512, 3, 1, 1, 2}};
  return add_chain(builder, layers, sizeof layers / sizeof *layers, "fc", true);
}

/* Krizhevsky et al. 2012 in the one-tower shape of Krizhevsky, "One weird trick for parallelizing convolutional neural
 * networks", 2014, which torchvision has; batch norm in the place of biases, response normalisation and dropout, as
 * low-bit papers train it (Zhou et al., "DoReFa-Net", 2016; LQ-Nets). */
qe_status qe_build_alexnet(const qe_builder *builder, int size) {
  (void)size;
  static const chain_layer layers[] = {
      {"conv1", 64, 11, 4, 2, 3}, {"conv2", 192, 5, 1, 2, 3}, {"conv3", 384, 3, 1, 1, 0}, {"conv4", 256, 3, 1, 1, 0},
      {"conv5", 256, 3, 1, 1, 3}, {"fc6", 4096, 0, 1, 0, 0},  {"fc7", 4096, 0, 1, 0, 0}};
  return add_chain(builder, layers, sizeof layers / sizeof *layers, "fc8", true);
}

/* LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, with ReLU, max pools and full
 * connections from the first pool on; images below 32 x 32 are padded by two pixels, as there. */
qe_status qe_build_lenet5(const qe_builder *builder, int size) {
  (void)size;
  chain_layer layers[] = {{"conv1", 6, 5, 1, builder->spec->height < 32 ? 2 : 0, 2},
                          {"conv2", 16, 5, 1, 0, 2},
                          {"fc3", 120, 0, 1, 0, 0},
                          {"fc4", 84, 0, 1, 0, 0}};
  return add_chain(builder, layers, sizeof layers / sizeof *layers, "fc5", false);
}

/* The wider one of Caffe's examples, which papers on compression call LeNet-5 (Han et al., "Deep Compression", 2016).
 */
qe_status qe_build_lenet5_caffe(const qe_builder *builder, int size) {
  (void)size;
  static const chain_layer layers[] = {{"conv1", 20, 5, 1, 0, 2}, {"conv2", 50, 5, 1, 0, 2}, {"fc3", 500, 0, 1, 0, 0}};
  return add_chain(builder, layers, sizeof layers / sizeof *layers, "fc4", false);
}
