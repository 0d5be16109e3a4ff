/* Stage `votes`: a layer at a time, the last ones first, votes on its codes from forward passes propose some moves of
 * codes by several strengths; the best of these proposals on a fresh batch becomes the context when held-out images
 * confirm it. Votes come from one of the sources below. */
#ifndef QE_EVOLVE_VOTES_H
#define QE_EVOLVE_VOTES_H

#include "core/evolve/evolution.h"

#ifdef __cplusplus
extern "C" {
#endif

#define QE_VOTES_SOURCE_LIST(X)                                                                                        \
  X(NODES, "nodes", "node perturbation: noise on the layer's outputs, different in every image")                       \
  X(SIGNS, "signs", "weight perturbation: antithetic pairs of candidates with a few random moves")                     \
  X(BACKPROP, "backprop", "integer back-propagation, the rival of both")

typedef enum qe_votes_source {
#define X(id, name, summary) QE_VOTES_##id,
  QE_VOTES_SOURCE_LIST(X)
#undef X
      QE_VOTES_SOURCES
} qe_votes_source;

/* votes_options.def says what each is. */
typedef struct qe_votes_options {
#define QE_VOTES_INT(field, name, initial, least, most, help) int32_t field;
#define QE_VOTES_FLAG(field, name, initial, help) bool field;
#include "core/evolve/votes_options.def"
#undef QE_VOTES_INT
#undef QE_VOTES_FLAG
  qe_votes_source source;
  bool augmented; /* images are augmented */
} qe_votes_options;

qe_votes_options qe_votes_defaults(void);
/* By name, QE_VOTES_SOURCES when there is none. */
qe_votes_source qe_votes_source_find(const char *name);

/* QE_USAGE with the option where one is out of its bounds, or no layer can be voted on. */
QE_CHECKED qe_status qe_votes_run(qe_evolution *evolution, const qe_votes_options *options);

#ifdef __cplusplus
}
#endif
#endif
