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

/* eda_options.def says what each is. */
typedef struct qe_eda_options {
#define QE_EDA_INT(field, name, initial, least, most, help) int32_t field;
#define QE_EDA_FLAG(field, name, initial, help) bool field;
#include "core/evolve/eda_options.def"
#undef QE_EDA_INT
#undef QE_EDA_FLAG
  qe_eda_grouping group_by; /* QE_EDA_BY_NETWORK by default */
  bool augmented;           /* the generations' images are augmented */
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
