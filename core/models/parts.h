/* What the models share: the bits of a layer and the quantisers made from them. */
#ifndef QE_MODELS_PARTS_H
#define QE_MODELS_PARTS_H

#include "core/models/models.h"

typedef struct qe_builder {
  qe_graph *graph;
  const qe_model_spec *spec;
} qe_builder;

typedef enum qe_place { QE_INNER_LAYER, QE_EDGE_LAYER } qe_place;

/* Bits of a conv or linear layer's weights, and of the activations it reads, with the spec's exceptions applied. */
int qe_weight_bits(const qe_builder *builder, const char *layer, qe_place place);
int qe_input_bits(const qe_builder *builder, const char *layer, qe_place place);

/* Convolutions and linear layers with their weight quantisers. */
qe_node qe_add_conv(const qe_builder *builder, const char *name, qe_node input, qe_window window, qe_place place);
qe_node qe_add_biased_conv(const qe_builder *builder, const char *name, qe_node input, qe_window window,
                           qe_place place);
qe_node qe_add_linear(const qe_builder *builder, const char *name, qe_node input, int32_t outputs, qe_place place);
qe_node qe_add_unbiased_linear(const qe_builder *builder, const char *name, qe_node input, int32_t outputs,
                               qe_place place);
qe_node qe_add_norm(const qe_builder *builder, const char *name, qe_node input);

/* The non-linearity whose output `reader` (a conv or linear layer) reads: a quantiser at that layer's input bits, or
 * ReLU when those are float. `place` is the reader's. */
qe_node qe_add_activation(const qe_builder *builder, const char *name, qe_node input, const char *reader,
                          qe_place place);
/* The same with a float non-linearity that ends at `high` (ReLU6); a quantiser learns where it ends. */
qe_node qe_add_clipped_activation(const qe_builder *builder, const char *name, qe_node input, float high,
                                  const char *reader, qe_place place);

/* A residual stream: the non-linearity with the wide code that skip connections carry, and the low code that a
 * convolution reads, made from the wide one by a shift. Without a difference between them both are one node. */
typedef struct qe_stream {
  qe_node wide, low;
} qe_stream;
/* `reader`: the first convolution that reads it; NULL: nobody needs the low code. */
qe_stream qe_add_stream(const qe_builder *builder, const char *name, qe_node input, const char *reader);
/* The same with a max pool "pool1" of the wide code. */
qe_stream qe_add_pooled_stream(const qe_builder *builder, const char *name, qe_node input, const qe_window *pool,
                               const char *reader);
/* Without a non-linearity: codes of both signs, of 2 bits at least; float values stay as they are. */
qe_stream qe_add_signed_stream(const qe_builder *builder, const char *name, qe_node input, const char *reader);
/* The low code alone, where no skip connection begins. */
qe_node qe_add_signed_codes(const qe_builder *builder, const char *name, qe_node input, const char *reader);

/* The non-linearity that the global average pool reads: at the residual bits, as the last of a ResNet's stream. */
qe_node qe_add_last_activation(const qe_builder *builder, const char *name, qe_node input, float high);

/* Global average pool, its code, and the linear layer "fc" to the logits. */
void qe_add_pooled_classifier(const qe_builder *builder, qe_node input);

/* "block.part" */
typedef struct qe_label {
  char text[64];
} qe_label;
qe_label qe_label_of(const char *block, const char *part);

/* `size` is the zoo's column of that name (models.c). */
qe_status qe_build_resnet_cifar(const qe_builder *builder, int blocks);
qe_status qe_build_resnet(const qe_builder *builder, int depth);
qe_status qe_build_preresnet(const qe_builder *builder, int blocks);
qe_status qe_build_vgg_small(const qe_builder *builder, int size);
qe_status qe_build_alexnet(const qe_builder *builder, int size);
qe_status qe_build_lenet5(const qe_builder *builder, int size);
qe_status qe_build_lenet5_caffe(const qe_builder *builder, int size);
qe_status qe_build_mobilenet_v2(const qe_builder *builder, int size);
/* Of spec->net; `open_bits` as in qe_model_read_net. */
qe_status qe_build_net(const qe_model_spec *spec, qe_graph **graph, unsigned *open_bits);
qe_status qe_build_mlp(const qe_builder *builder, int hidden_layers);

#endif
