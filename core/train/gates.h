/* Stochastic precision: in each step a drawn part of the network runs quantised, the rest in full precision, until the
 * part has grown to the whole. Each quantiser has a gate (ops quant_gate, quant_gate_grad); the gates of a step are
 * drawn here, so they are the same on every backend.
 * Source: Zhuang et al., "Effective Training of Convolutional Neural Networks with Low-bitwidth Weights and
 * Activations", 2021; units, draws and growth are ours. */
#ifndef QE_TRAIN_GATES_H
#define QE_TRAIN_GATES_H

#include "core/graph/lower.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What has one gate. A block are the layers whose names are alike up to the last dot. */
#define QE_GATE_UNIT_LIST(X)                                                                                           \
  X(OFF, "off")                                                                                                        \
  X(LAYER, "layer")                                                                                                    \
  X(BLOCK, "block")                                                                                                    \
  X(NETWORK, "network")

/* How the part is drawn when it is a portion p of the units. */
#define QE_GATE_DRAW_LIST(X)                                                                                           \
  X(INDEPENDENT, "independent") /* each unit with probability p */                                                     \
  X(COUNT, "count")             /* so many units, any */                                                               \
  X(FRONT, "front")             /* so many from the input on */                                                        \
  X(BACK, "back")               /* so many up to the output */

/* How p grows from `start` to 1 while t goes from 0 to 1. */
#define QE_GATE_GROWTH_LIST(X)                                                                                         \
  X(LINEAR, "linear")     /* start + (1 - start) t */                                                                  \
  X(COSINE, "cosine")     /* half a wave: slow at both ends */                                                         \
  X(CUBIC, "cubic")       /* 1 - (1 - start) (1 - t)^3: fast at first */                                               \
  X(CONSTANT, "constant") /* start, then 1 */

#define X(id, name) QE_GATE_##id,
typedef enum qe_gate_unit { QE_GATE_UNIT_LIST(X) QE_GATE_UNITS } qe_gate_unit;
#undef X
#define X(id, name) QE_DRAW_##id,
typedef enum qe_gate_draw { QE_GATE_DRAW_LIST(X) QE_DRAWS } qe_gate_draw;
#undef X
#define X(id, name) QE_GROWTH_##id,
typedef enum qe_gate_growth { QE_GATE_GROWTH_LIST(X) QE_GROWTHS } qe_gate_growth;
#undef X

/* All 0: no gates. */
typedef struct qe_gate_options {
  qe_gate_unit unit;
  qe_gate_draw draw;
  qe_gate_growth growth;
  double start, until; /* portion at the beginning; part of the phase after which all is quantised, 0...1 */
  bool separate;       /* weights and activations have gates of their own */
} qe_gate_options;

/* By name; QE_GATE_UNITS, QE_DRAWS, QE_GROWTHS: there is none. */
qe_gate_unit qe_gate_unit_find(const char *name);
qe_gate_draw qe_gate_draw_find(const char *name);
qe_gate_growth qe_gate_growth_find(const char *name);

/* QE_USAGE where a portion is not in 0...1. */
QE_CHECKED qe_status qe_gates_check(const qe_gate_options *options);

typedef struct qe_gates {
  qe_gate_options options;
  int32_t units, count; /* gates: the units', or twice as many where weights and activations are separate */
  int32_t *of_node;     /* gate of a node's quantiser; -1: it has none */
  int32_t *host;        /* [count]: of the last draw */
  qe_buffer *buffer;    /* s32 [count] */
} qe_gates;

/* The gates of a graph's quantisers; an activation's belongs to the layer with weights that comes next. */
QE_CHECKED qe_status qe_gates_new(qe_device *device, const qe_graph *graph, const qe_gate_options *options,
                                  qe_gates **gates);
void qe_gates_free(qe_gates *gates); /* NULL is fine */

/* The portion that is quantised when `t` of the phase is done, 0...1. */
double qe_gates_portion(const qe_gate_options *options, double t);
/* The gates of batch `number` into gates->host: a function of the seed, the number and t. */
void qe_gates_draw(qe_gates *gates, uint64_t seed, uint64_t number, double t);

#ifdef __cplusplus
}
#endif
#endif
