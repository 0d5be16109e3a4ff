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
  char shortcut;    /* residual networks: 'A' (subsample, zero channels) or 'B' (1x1 convolution) */
  int32_t height, width, channels, classes;
  qe_bits bits;
} qe_model_spec;

/* All float, shortcut A, CIFAR-10's shapes. */
qe_model_spec qe_model_default(const char *name);

/* Builds and finishes the graph. QE_USAGE with the list of names when there is no such model. */
QE_CHECKED qe_status qe_model_build(const qe_model_spec *spec, qe_graph **graph);

/* Names of the zoo; NULL past the last. */
const char *qe_model_name(int index);

#ifdef __cplusplus
}
#endif
#endif
