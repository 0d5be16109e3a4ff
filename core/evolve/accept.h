/* Acceptance: proposals become the context only when the true fitness says so twice, on a fresh batch that context and
 * proposals share, and on held-out images, there by more than chance explains. */
#ifndef QE_EVOLVE_ACCEPT_H
#define QE_EVOLVE_ACCEPT_H

#include "core/evolve/evolution.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_accept_options {
  int32_t check;   /* images of the fresh training batch */
  int32_t confirm; /* images of the batch from the held-out part; 0: all of that part */
  int32_t margin;  /* by how much the best must be better on held-out images, in 1/4 of the standard error of the
                      difference; 0: anyhow */
  bool augmented;  /* the fresh batch is augmented */
  bool varied;     /* and so is the held-out one: networks that know their training images by heart */
} qe_accept_options;

typedef struct qe_verdict {
  int32_t winner;        /* number of the proposal to take; -1: the context stays */
  int64_t context, best; /* losses an image of the check, Q16 bits; best QE_DROPPED: none was better */
  int64_t before, after; /* losses an image on held-out images, of the context and of the best; -1: not looked at */
} qe_verdict;

/* genomes: the context, then `proposals` others, layout->bytes each. The batches' number is `number`; a search gives
 * each acceptance another. A tie is no gain; among equal proposals the first wins. */
QE_CHECKED qe_status qe_accept(qe_fitness *fitness, const qe_accept_options *options, uint64_t number,
                               const qe_genome_layout *layout, const void *genomes, int32_t proposals,
                               qe_verdict *verdict);

/* Numbers of batches that no two generations of a search share: `which` 0 or 1 of the generation of the stage that runs
 * now; below 2^51. */
static inline uint64_t qe_evolve_number(const qe_evolution *evolution, int64_t generation, int which) {
  return (uint64_t)evolution->stages_done << 40 | (uint64_t)generation << 1 | (unsigned)which;
}

/* Candidate-images that an acceptance costs at most. */
int64_t qe_accept_cost(const qe_fitness *fitness, const qe_accept_options *options, int32_t proposals);

#ifdef __cplusplus
}
#endif
#endif
