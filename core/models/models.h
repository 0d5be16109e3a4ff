/* The model zoo: named networks as graphs. */
#ifndef QE_MODELS_MODELS_H
#define QE_MODELS_MODELS_H

#include "core/graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a network is quantised. Layers are named as in the graph. */
typedef struct qe_bits {
  int weights, activations; /* 1...8, or QE_FLOAT_BITS */
  int edges;                /* weights of the first and last layer, and the last layer's input; 0: as the others */
  int residual;             /* the skip connection's code; QE_FLOAT_BITS: a float skip connection */
  qe_rule weight_rule, activation_rule;
  bool per_channel;   /* weight steps for each output channel */
  const char *layers; /* "stage1.0.conv1=w3a4,fc=w8": a conv or linear layer's weight bits and its input's; or NULL */
} qe_bits;

typedef struct qe_model_spec {
  const char *name; /* "resnet20" */
  const char *net;  /* a network's description as text (core/graph/text.h), which then decides; NULL: one of the zoo */
  char shortcut;    /* residual networks: 'A' (subsample, zero channels) or 'B' (1x1 convolution) */
  int32_t height, width, channels, classes;
  qe_bits bits;
} qe_model_spec;

/* All float, with shortcut, images and classes as published; an unknown name: shortcut A, CIFAR-10's shapes. */
qe_model_spec qe_model_default(const char *name);

/* Builds and finishes the graph. QE_USAGE with the list of names when there is no such model. */
QE_CHECKED qe_status qe_model_build(const qe_model_spec *spec, qe_graph **graph);

/* Whether a name stands for a file with a description: it ends in ".net". */
bool qe_model_is_file(const char *name);
/* The description in a file as the spec's network, at the spec's images, classes and bits where it leaves them open;
 * bits that it does not leave open become those that it has. `text` (qe_free) is what spec->net points to. QE_SHAPE
 * when it is for other images or classes. `open_bits`: bits 1 << qe_text_bits of those that it takes from the spec. */
QE_CHECKED qe_status qe_model_read_net(const char *path, qe_model_spec *spec, unsigned *open_bits, char **text);

/* Names of the zoo; NULL past the last. */
const char *qe_model_name(int index);

#ifdef __cplusplus
}
#endif
#endif
