/* Whether a proposal is better than the context: both on the same fresh images, in parts whose differences tell how
 * sure the answer is. */
#ifndef QE_EVOLVE_PAIRED_H
#define QE_EVOLVE_PAIRED_H

#include "core/evolve/fitness.h"

typedef struct qe_paired {
  qe_fitness_part part;
  bool augmented;
  uint64_t number; /* of the first part's batch; the others follow */
  int32_t images;  /* of a part's batch */
  int32_t parts;   /* at least 2 */
  int32_t margin;  /* 1/16 standard errors by which the proposal must be better */
} qe_paired;

typedef struct qe_paired_answer {
  bool better;
  int64_t before, after; /* losses an image of context and proposal, Q16 bits, on the images that were looked at */
} qe_paired_answer;

/* `genomes`: context and proposal. A proposal that is not ahead in the middle is given up there. */
QE_CHECKED qe_status qe_paired_test(qe_fitness *fitness, const qe_paired *how, const void *genomes,
                                    qe_paired_answer *answer);
/* Whether differences with this sum and sum of squares are below 0 by so many 1/16 standard errors of their mean. */
bool qe_paired_is_below(int64_t sum, const int64_t *difference, int32_t count, int32_t margin);

#endif
