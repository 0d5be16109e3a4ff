/* What integer.c and integer_requant.c share while a graph becomes an integer network; nobody else includes this. */
#ifndef QE_GRAPH_INTEGER_PARTS_H
#define QE_GRAPH_INTEGER_PARTS_H

#include "core/graph/integer.h"

enum { QE_INT_BRANCHES = 2 };

/* value[c] = sum_b scale[b][c] * tensor[b] + bias[c] */
typedef struct qe_int_form {
  int branches;
  int tensor[QE_INT_BRANCHES];
  double *scale[QE_INT_BRANCHES]; /* [C] */
  double *bias;                   /* [C] */
  bool rectified;                 /* then max(0, .) of it */
} qe_int_form;

typedef struct qe_int_lowering {
  const qe_graph *graph;
  const float *values;
  qe_network *network;
  qe_int_form *form; /* of each node */
} qe_int_lowering;

/* One tensor at one scale, nothing added: codes on a grid. */
QE_CHECKED qe_status qe_int_form_codes(qe_int_form *form, int tensor, double scale, int32_t channels);
bool qe_int_is_codes(const qe_int_form *form, int32_t channels);
float *qe_int_param(const qe_int_lowering *l, int param);

/* The unit of codes at a step. */
qe_unit qe_int_unit(double step);

/* Append a layer for a node and prove its range; its memory is the network's then, or freed. */
QE_CHECKED qe_status qe_int_add_layer(qe_int_lowering *l, const qe_node_info *node, qe_network_layer *layer,
                                      int *tensor);

/* A quantiser node, and the logits at the end, as requantisers. */
QE_CHECKED qe_status qe_int_lower_quant(qe_int_lowering *l, qe_node at, qe_int_form *out);
QE_CHECKED qe_status qe_int_lower_logits(qe_int_lowering *l);

#endif
