/* Stage `eda`: estimation of distribution with cooperative coevolution (EDA+CC), and what is built on it.
 *
 * Source: Peng, Liu, Lu, Tang, "Training Quantized Deep Neural Networks via Cooperative Coevolution", 2021/22. Its
 * settings are not published; those here are our own.
 *
 * Every evolved weight is a variable with a probability for each candidate code. In each cycle the least confident
 * variables are cut into groups; a group is searched for some generations, all else at the context; then the context
 * takes the group's likeliest codes if they have a smaller loss on other images. */
#ifndef QE_EVOLVE_EDA_H
#define QE_EVOLVE_EDA_H

#include "core/evolve/evolution.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a group's variables have in common. Groups of one layer or block come last layer first, so that what lies before
 * it is computed once for all individuals. */
#define QE_EDA_GROUPING_LIST(X)                                                                                        \
  X(NETWORK, "network", "nothing: random over the network, as in the paper")                                           \
  X(LAYER, "layer", "their layer")                                                                                     \
  X(BLOCK, "block", "their residual block")

typedef enum qe_eda_grouping {
#define X(id, name, summary) QE_EDA_BY_##id,
  QE_EDA_GROUPING_LIST(X)
#undef X
      QE_EDA_GROUPINGS
} qe_eda_grouping;

/* Probabilities and rates in 1/10,000. The comments give the defaults. */
typedef struct qe_eda_options {
  int32_t individuals;  /* 64: a generation; 2...2048 */
  int32_t best;         /* 16: of them that are selected */
  int32_t rate;         /* 2000: P <- (1 - rate) P + rate * frequency among the best */
  int32_t spread;       /* 200: start probability of each neighbour of the start's code; at most 1250 */
  int32_t floor;        /* 10: least probability of a candidate; at most 312 */
  int32_t radius;       /* 1: candidates are codes so many steps of the grid from the start's; 0: all (16 at most) */
  bool uniform;         /* false: all candidates alike at the start instead, for random codes */
  int32_t batch;        /* 2000: images of a generation, new ones each */
  int32_t accept_batch; /* 10000: images on which context and proposal are compared */
  bool augmented;       /* false: the generations' images are augmented */
  qe_eda_grouping group_by;
  int32_t group;       /* 2700: variables of a group */
  int32_t generations; /* 8: of a group */
  int32_t share;       /* 1000: of the variables, the least confident, that a cycle takes up */
  int32_t confident;   /* 9900: a variable with this probability is confident, and rests */
  int32_t patience;    /* 5: cycles without any accepted proposal that end the stage; 0: no such end */
  int32_t cycles;      /* 0: at most; 0: no bound */
  bool plain;          /* false: no coevolution: all variables are one group, whatever their confidence */

  /* Beyond the paper. */
  int32_t races; /* 1: the batch in so many parts; the better half of the individuals runs on after each. 1...8 */
  bool elitism;  /* false: the context and the generation's best are individuals of the next; the last best is a
                    proposal, too */
  bool restart;  /* false: a failed group's distribution starts anew around the context */
  bool recentre; /* false: candidates move with the context: they lie around it, not around the start */
  bool adapt;    /* false: groups grow after a success and shrink after a failure */
} qe_eda_options;

/* The form of the paper. */
qe_eda_options qe_eda_defaults(void);
/* What gained most for each candidate-image on a quantised ResNet-20: docs/results.md. */
qe_eda_options qe_eda_tuned(void);
/* By name, QE_EDA_GROUPINGS when there is none; and the name. */
qe_eda_grouping qe_eda_grouping_find(const char *name);
const char *qe_eda_grouping_name(qe_eda_grouping grouping);

/* QE_USAGE with the option where one is out of its bounds. */
QE_CHECKED qe_status qe_eda_run(qe_evolution *evolution, const qe_eda_options *options);

#ifdef __cplusplus
}
#endif
#endif
