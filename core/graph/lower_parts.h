/* What lower.c and the layers share while a graph becomes a program. */
#ifndef QE_GRAPH_LOWER_PARTS_H
#define QE_GRAPH_LOWER_PARTS_H

#include "core/graph/lower.h"

struct qe_pairing;

typedef struct qe_lowering {
  const qe_graph *graph;
  const char *prefix; /* of the names of its values */
  qe_program *program;
  int32_t batch;
  bool training;      /* batch statistics in batch norm, and a backward pass follows */
  bool plain;         /* quantisers off: weights as they are, activation quantisers as ReLU */
  bool last_batch;    /* running statistics are those of the batch */
  bool silent;        /* batch statistics leave the running ones alone */
  bool recomputing;   /* inside the backward pass: forward functions must not update state */
  qe_value *output;   /* of each node; QE_NO_VALUE: not made yet */
  qe_value *gradient; /* of each node's output; QE_NO_VALUE: none yet */
  qe_value *param;    /* bound value of each parameter */
  qe_value *param_gradient;
  bool *param_gradient_used;
  bool *needs_gradient; /* of each node: something trained lies at or below it */
  qe_value *weight;     /* conv, linear: the weights as used (quantised), kept for the backward pass */
  qe_value *saved[2];   /* batch norm: mean and variance of each node */
  qe_value *gate;       /* conv, linear, quant: of the node's quantiser; QE_NO_VALUE: always on */
  qe_value *late;       /* pairs (from, to) of parameter gradients to be added at the end */
  size_t lates, late_capacity;
  qe_buffer *kept; /* as in the options, with start */
  qe_node start;
  const struct qe_pairing *pairing; /* NULL: the only network of the program */
} qe_lowering;

/* Two networks that become one program. */
typedef struct qe_pairing {
  const qe_lower_twin *twin;
  qe_lowering *side[QE_NETS];
  float scale; /* factor of every loss's gradient */
} qe_pairing;

enum { QE_NO_VALUE = -1 };

/* A temporary of the node's output shape (or of `desc`) at the lowering's batch, named "node.what". */
QE_CHECKED qe_status qe_lower_temp(qe_lowering *lowering, qe_node node, const char *what, const qe_desc *desc,
                                   qe_value *value);
QE_CHECKED qe_status qe_lower_call(qe_lowering *lowering, qe_op op, const qe_attrs *attrs, const qe_value *values);
/* The value of a node's output, made again when it was not kept. */
QE_CHECKED qe_status qe_lower_output(qe_lowering *lowering, qe_node node, qe_value *value);
/* Add `value` to the gradient of a node's output; nothing happens when no parameter below needs it. */
QE_CHECKED qe_status qe_lower_add_gradient(qe_lowering *lowering, qe_node node, qe_value value);
/* Whether anything trained lies at or below the node. */
bool qe_lower_needs_gradient(const qe_lowering *lowering, qe_node node);
/* Where to write the gradient of a parameter: its slot at the first use, a temporary added later at the next ones. */
QE_CHECKED qe_status qe_lower_param_gradient(qe_lowering *lowering, qe_node node, int param, qe_value *value);
/* Attributes of the op `quant` for a quantizer. */
qe_attrs qe_quant_attrs(const qe_quantizer *quantizer, const qe_desc *desc);
/* Where an activation quantiser's output is to go: a temporary, or its place in `kept`. */
QE_CHECKED qe_status qe_lower_kept_output(qe_lowering *lowering, qe_node node, qe_value *value);
/* Fake quantisation of x into y, and its gradients, by the node's gate if it has one. */
QE_CHECKED qe_status qe_lower_quant(qe_lowering *lowering, qe_node node, const qe_attrs *attrs, qe_value x,
                                    qe_value step, qe_value y);
QE_CHECKED qe_status qe_lower_quant_grad(qe_lowering *lowering, qe_node node, const qe_attrs *attrs,
                                         const qe_value dy_x_step[3], qe_value dx, qe_value dstep);
/* A descriptor with N set to the lowering's batch. */
qe_desc qe_lower_desc(const qe_lowering *lowering, const qe_desc *image);

/* ---- parts of a lowering, in this order: lower_kept.c, lower.c, lower_twin.c ---- */

/* Outputs of the nodes before `start` that are kept. */
QE_CHECKED qe_status qe_lower_take_kept(qe_lowering *lowering);
QE_CHECKED qe_status qe_lowering_begin(qe_lowering *lowering, qe_buffer *params, qe_buffer *gradients);
void qe_lowering_end(qe_lowering *lowering);
QE_CHECKED qe_status qe_lower_forward(qe_lowering *lowering);
/* The loss with the labels and, with options->backward, its gradient times `scale`. */
QE_CHECKED qe_status qe_lower_loss(qe_lowering *lowering, const qe_lower_options *options,
                                   const qe_lower_buffers *buffers, float scale, qe_value *gradient);
QE_CHECKED qe_status qe_lower_backward(qe_lowering *lowering, qe_value gradient, bool keep_outputs);

/* The twin's forward pass from the other's input. */
QE_CHECKED qe_status qe_lower_twin_forward(const qe_pairing *pairing);
/* What both forward passes give: the losses between the networks into their buffers. */
QE_CHECKED qe_status qe_lower_guidance(const qe_pairing *pairing, const qe_lower_buffers *buffers);
/* Adds the other network's guidance to the gradient of a side's logits. */
QE_CHECKED qe_status qe_lower_guide_gradient(const qe_pairing *pairing, int side, qe_value *gradient);
/* Adds what hints say to the gradient of a node's output. */
QE_CHECKED qe_status qe_lower_hint_gradients(qe_lowering *lowering, qe_node node);
/* The rest of the twin's part, where it is trained: its loss and its backward pass. */
QE_CHECKED qe_status qe_lower_twin_backward(const qe_pairing *pairing, const qe_lower_options *options,
                                            const qe_lower_buffers *buffers);

#endif
