/* Weight codes of a layer, as its fake quantiser rounds: single-precision arithmetic of cpu_ref/quant.c. */
#ifndef QE_GRAPH_CODES_H
#define QE_GRAPH_CODES_H

#include "core/graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_weight_codes {
  const float *values, *step; /* of the weight and its quantiser */
  int64_t count, each;        /* weights; of them of one step */
  int bits;
  int32_t low, high, spacing; /* of the grid */
  bool tanh;                  /* DoReFa: tanh(w) * factor is rounded, not the weight itself */
  float factor;
} qe_weight_codes;

/* Of a node in the flat parameter vector `values`, both of which must outlive it; false when the node has no weights on
 * a grid. */
bool qe_weight_codes_of(const qe_graph *graph, const float *values, qe_node node, qe_weight_codes *codes);
/* The code of weight i. */
int32_t qe_weight_code(const qe_weight_codes *codes, int64_t i);

#ifdef __cplusplus
}
#endif
#endif
