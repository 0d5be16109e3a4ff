/* Lowering: a graph at a batch size becomes a program for a device. */
#ifndef QE_GRAPH_LOWER_H
#define QE_GRAPH_LOWER_H

#include "core/dispatch/program.h"
#include "core/graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Quantisers that can be switched off: gate of_node[n] of the buffer (s32, 0: off) is that of node n's quantiser; -1:
 * it is always on. */
typedef struct qe_lower_gates {
  const int32_t *of_node;
  qe_buffer *buffer;
} qe_lower_gates;
/* What a network takes over from another one's logits: a loss between s, its own, and t, which count as given.
 * Probabilities are those of the logits divided by the temperature T; all but the last are times T^2. */
#define QE_GUIDE_LIST(X)                                                                                               \
  X(KL, "kl")           /* KL(softmax t || softmax s): Hinton, Vinyals, Dean, 2015 */                                  \
  X(REVERSE, "reverse") /* KL(softmax s || softmax t): where t is small, s is to be small */                           \
  X(BOTH, "jeffreys")   /* the mean of both */                                                                         \
  X(MSE, "mse")         /* mean of (s - t)^2 over the classes */

typedef enum qe_guide {
#define X(id, name) QE_GUIDE_##id,
  QE_GUIDE_LIST(X)
#undef X
      QE_GUIDES
} qe_guide;

/* And from a feature map of the other's. */
#define QE_HINT_LIST(X)                                                                                                \
  X(NONE, "none")                                                                                                      \
  X(SQUARE, "square")       /* mean squared difference (FitNets: Romero et al., 2015) */                               \
  X(CODES, "codes")         /* the same of both maps quantised as the first one is (Zhuang et al., 2018, eq. 6) */     \
  X(ATTENTION, "attention") /* op hint_attention: for any numbers of channels */

typedef enum qe_hint_form {
#define X(id, name) QE_HINT_##id,
  QE_HINT_LIST(X)
#undef X
      QE_HINT_FORMS
} qe_hint_form;

const char *qe_guide_name(qe_guide guide);
const char *qe_hint_form_name(qe_hint_form form);

/* The two networks of a program. */
enum { QE_NET_OWN, QE_NET_TWIN, QE_NETS };

/* Two nodes whose outputs are compared. */
typedef struct qe_hint {
  qe_node node[QE_NETS];
} qe_hint;

/* A second network in the program: it reads the same batch, and what each gives guides the other. */
typedef struct qe_lower_twin {
  const qe_graph *graph; /* of the same images and classes */
  qe_buffer *params;
  qe_buffer *gradients; /* NULL: it is not trained */
  bool training;        /* batch norm on batch statistics */
  bool silent;          /* which leave the running ones alone: they are the other network's */
  bool plain;           /* quantisers off */
  qe_guide guide;
  float temperature;
  /* Of the parts of each network's loss: that of the labels, of the other's logits, of each hint. */
  float label_weight[QE_NETS], guide_weight[QE_NETS], hint_weight[QE_NETS];
  qe_hint_form hint_form;
  const qe_hint *hint; /* [hints]; read while lowering only */
  int hints;
} qe_lower_twin;

typedef struct qe_lower_options {
  int32_t batch;
  bool training;              /* batch norm on batch statistics */
  bool backward;              /* loss gradient and parameter gradients */
  bool plain;                 /* quantisers off: the float network of the same parameters */
  float smoothing;            /* label smoothing */
  float scale;                /* factor of the loss gradient; 0: 1 / batch */
  int32_t images;             /* of the data set from which batches are drawn */
  int32_t pad;                /* augmentation: zero padding of the random crop */
  bool flip;                  /* augmentation: random horizontal flip */
  int32_t cutout;             /* augmentation: side of the square that is cut out; 0: none */
  int32_t jitter[QE_JITTERS]; /* augmentation: colours, in 256ths; see qe_attrs */
  int32_t mixup; /* augmentation: above 0: images of the batch are mixed in pairs; what the value is, is the caller's */
  qe_lower_gates gates;      /* of_node NULL: none */
  bool keep_outputs;         /* every node's output can be read after a run */
  bool last_batch;           /* training: running statistics become those of the batch, whatever the nodes' momentum */
  const qe_lower_twin *twin; /* with backward: a second network; NULL: none. Read while lowering only */
  qe_buffer *arena;          /* as in qe_plan_options; NULL: its own */
  /* Without backward: what activation quantisers give lies in `kept` (NULL: in the arena), and nodes before `start` do
   * not run: what is read of them lies there, left by a program of as large a batch whose graph agrees in them. */
  qe_buffer *kept;
  qe_node start;
} qe_lower_options;

/* Where the program finds what it reads and leaves what it makes; all on the program's device. */
typedef struct qe_lower_buffers {
  qe_buffer *params;    /* the flat parameter vector */
  qe_buffer *gradients; /* the same layout; NULL without backward */
  qe_buffer *images;    /* u8 [1,images,H,W,C] */
  qe_buffer *index;     /* s32 [batch]: images of this batch */
  qe_buffer *counter;   /* s32 [4]: seed, position (op augment) */
  qe_buffer *labels;    /* s32 [batch] */
  qe_buffer *loss;      /* f32 [batch] */
  qe_buffer *hits;      /* s32 [batch]: 0, 1; mixed: 0...256 (op mix_xent) */
  /* Only where images are mixed. */
  qe_buffer *rows;         /* s32 [batch]: 0, 1, 2, ... */
  qe_buffer *other;        /* s32 [batch]: of the batch's images, with whom each is mixed */
  qe_buffer *share;        /* s32 [batch]: 256ths that are its own */
  qe_buffer *other_labels; /* s32 [batch] */
  /* Only with a twin; losses without their weights. */
  qe_buffer *guidance;  /* f32 [batch]: of the network's logits from the twin's */
  qe_buffer *hints;     /* f32 [batch]: of the hints, summed; only where there are any */
  qe_buffer *twin_loss; /* as loss and hits, of a twin that is trained */
  qe_buffer *twin_hits;
} qe_lower_buffers;

typedef struct qe_lowered {
  qe_program *program;
  qe_value *output; /* of each node; readable with keep_outputs only, the logits always */
  size_t nodes;
} qe_lowered;

QE_CHECKED qe_status qe_lower(const qe_graph *graph, qe_device *device, const qe_lower_options *options,
                              const qe_lower_buffers *buffers, qe_lowered *lowered);
void qe_lowered_free(qe_lowered *lowered);

/* Bytes of options.kept. */
size_t qe_lower_kept_bytes(const qe_graph *graph, int32_t batch);
/* The last options.start that leaves out no node from `most` on; 0: all must run. */
qe_node qe_lower_start(const qe_graph *graph, qe_node most);

#ifdef __cplusplus
}
#endif
#endif
