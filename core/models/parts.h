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

/* A convolution (no bias) or linear layer (bias) with its weight quantiser. */
qe_node qe_add_conv(const qe_builder *builder, const char *name, qe_node input, qe_window window, qe_place place);
qe_node qe_add_linear(const qe_builder *builder, const char *name, qe_node input, int32_t outputs, qe_place place);
/* The non-linearity whose output `reader` (a conv or linear layer) reads: a quantiser at that layer's input bits, or
 * ReLU when those are float. */
qe_node qe_add_activation(const qe_builder *builder, const char *name, qe_node input, const char *reader,
                          qe_place place);
qe_quantizer qe_activation_quantizer(const qe_builder *builder, int bits);

/* A residual stream: the non-linearity with the wide code that skip connections carry, and the low code that a
 * convolution reads, made from the wide one by a shift. Without a difference between them both are one node. */
typedef struct qe_stream {
  qe_node wide, low;
} qe_stream;
/* `reader`: the first convolution that reads it; NULL: nobody needs the low code. */
qe_stream qe_add_stream(const qe_builder *builder, const char *name, qe_node input, const char *reader);

qe_status qe_build_resnet_cifar(const qe_builder *builder, int blocks);
qe_status qe_build_mlp(const qe_builder *builder, int hidden_layers);

#endif
