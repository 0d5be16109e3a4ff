/* What writing and reading a description share: the layers and keys of its lines. */
#ifndef QE_GRAPH_TEXT_PARTS_H
#define QE_GRAPH_TEXT_PARTS_H

#include "core/graph/layers.h"
#include "core/graph/text.h"

#include <stddef.h>

enum { QE_TEXT_WORD = 96 }; /* bytes of a word, its 0 included */

/* What the keys of a line say; what is not given is 0, or as qe_text_line_empty has it. */
typedef struct qe_text_line {
  int32_t shape[3]; /* height, width, channels of the output */
  int32_t channels;
  qe_window window;
  float low, high, epsilon, momentum;
  bool bias;
  qe_quantizer quantizer; /* bits: 0 when not given, -1 - qe_text_bits for a word */
  bool rule_given, grid_given;
  qe_node step; /* quantiser whose step it shares; -1: its own */
} qe_text_line;

extern const qe_text_line qe_text_line_empty;

typedef enum qe_text_kind {
  QE_TEXT_KIND_SHAPE,    /* 32x32x16 */
  QE_TEXT_KIND_CHANNELS, /* a count, or `classes` */
  QE_TEXT_KIND_PAIR,     /* 3x3, or 3 for both */
  QE_TEXT_KIND_PADS,     /* top,left,bottom,right, or 1 for all */
  QE_TEXT_KIND_COUNT,
  QE_TEXT_KIND_REAL,
  QE_TEXT_KIND_FLAG, /* the key alone */
  QE_TEXT_KIND_BITS,
  QE_TEXT_KIND_RULE,
  QE_TEXT_KIND_GRID,
  QE_TEXT_KIND_STEP /* NODE.step */
} qe_text_kind;

/* The keys, in the order in which they are written: X(id, name, kind, member of qe_text_line). */
#define QE_TEXT_KEYS(X)                                                                                                \
  X(SHAPE, "shape", SHAPE, shape)                                                                                      \
  X(CHANNELS, "channels", CHANNELS, channels)                                                                          \
  X(KERNEL, "kernel", PAIR, window.kernel)                                                                             \
  X(STRIDE, "stride", PAIR, window.stride)                                                                             \
  X(PAD, "pad", PADS, window.pad)                                                                                      \
  X(DILATION, "dilation", PAIR, window.dilation)                                                                       \
  X(GROUPS, "groups", COUNT, window.groups)                                                                            \
  X(LOW, "low", REAL, low)                                                                                             \
  X(HIGH, "high", REAL, high)                                                                                          \
  X(EPSILON, "epsilon", REAL, epsilon)                                                                                 \
  X(MOMENTUM, "momentum", REAL, momentum)                                                                              \
  X(BIAS, "bias", FLAG, bias)                                                                                          \
  X(BITS, "bits", BITS, quantizer.bits)                                                                                \
  X(RULE, "rule", RULE, quantizer.rule)                                                                                \
  X(GRID, "grid", GRID, quantizer.grid)                                                                                \
  X(PER_CHANNEL, "per_channel", FLAG, quantizer.per_channel)                                                           \
  X(STEP_SHIFT, "step_shift", COUNT, quantizer.step_shift)                                                             \
  X(ROUND_UP, "round_up", FLAG, quantizer.round_up)                                                                    \
  X(STEP, "step", STEP, step)

typedef enum qe_text_key_id {
#define X(id, name, kind, member) QE_TEXT_KEY_##id,
  QE_TEXT_KEYS(X)
#undef X
      QE_TEXT_KEY_COUNT
} qe_text_key_id;

typedef struct qe_text_key {
  const char *name;
  qe_text_kind kind;
  size_t place; /* in qe_text_line */
} qe_text_key;
extern const qe_text_key qe_text_keys[QE_TEXT_KEY_COUNT];

typedef struct qe_text_layer {
  const char *name;
  const qe_layer *layer; /* NULL: a name for a special case, read but never written */
  int inputs;
  unsigned keys, needed; /* bits 1 << qe_text_key_id */
  qe_node (*add)(qe_graph *graph, const char *name, const qe_node *input, const qe_text_line *line);
} qe_text_layer;
/* Ends with a row whose name is NULL. */
extern const qe_text_layer qe_text_layers[];

#endif
