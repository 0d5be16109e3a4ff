/* What the files of the stage `votes` share; nobody else includes this. */
#ifndef QE_EVOLVE_VOTES_PARTS_H
#define QE_EVOLVE_VOTES_PARTS_H

#include "core/evolve/votes.h"
#include "core/search/flips.h"

/* What a generation's batches are for; from QE_VOTES_GROUP on those of groups. */
enum { QE_VOTES_ASK, QE_VOTES_COMPARE, QE_VOTES_GROUP, QE_VOTES_BATCHES = 2048 };

/* One generation: a gene and what is known of it. */
typedef struct qe_votes_round {
  qe_evolution *evolution;
  const qe_votes_options *options;
  int64_t generation;
  const qe_gene *gene;
  int8_t *codes; /* [gene->count], of the context */
} qe_votes_round;

/* Whether the source can vote on a layer. */
bool qe_votes_can(const qe_evolution *evolution, const qe_votes_options *options, const qe_gene *gene);
/* A batch or a seed that no other generation of the search has. */
uint64_t qe_votes_number(const qe_votes_round *round, int32_t what);
uint64_t qe_votes_seed(const qe_votes_round *round);
/* What a source knows of a layer. */
typedef struct qe_votes_answer {
  qe_vote_sums sums;
  int64_t *gram; /* [K, K], K = codes of an output: of the layer's inputs; NULL: not known */
} qe_votes_answer;
/* Votes on the gene's codes; what they cost is added to what the fitness has spent. */
QE_CHECKED qe_status qe_votes_ask(const qe_votes_round *round, qe_votes_answer *answer);
/* Candidate-images of that. */
int64_t qe_votes_cost(const qe_evolution *evolution, const qe_votes_options *options, const qe_gene *gene);

#endif
