/* A graph as text, a line a node, which can be read again: docs/models.md has the format. */
#ifndef QE_GRAPH_TEXT_H
#define QE_GRAPH_TEXT_H

#include "core/graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_TEXT_LIMIT = 1 << 20 }; /* bytes of a description */

/* Bits that a description may leave to whoever reads it. */
typedef enum qe_text_bits {
  QE_TEXT_WEIGHT,     /* weights that say nothing */
  QE_TEXT_ACT,        /* quantisers that say nothing */
  QE_TEXT_FIRST_LAST, /* 0: as the others; float where the others are */
  QE_TEXT_RESIDUAL,   /* float where activations are */
  QE_TEXT_BITS
} qe_text_bits;
/* The word for it behind bits=. */
const char *qe_text_bits_name(qe_text_bits bits);

/* What stands for all that a description leaves open. */
typedef struct qe_text_values {
  int32_t height, width, channels; /* of an input without a shape */
  int32_t classes;                 /* channels=classes */
  int bits[QE_TEXT_BITS];
  qe_rule weight_rule, act_rule;
  bool per_channel;
} qe_text_values;

/* Reads a description and finishes its graph. `used`: bit 1 << qe_text_bits of each that it left open. QE_FORMAT with
 * "name:line:column: ...", and the nearest word where one was not understood. Reading what qe_graph_dump writes gives
 * the same graph. */
QE_CHECKED qe_status qe_graph_read_text(const char *name, const char *text, size_t bytes, const qe_text_values *values,
                                        unsigned *used, qe_graph **graph);

#ifdef __cplusplus
}
#endif
#endif
