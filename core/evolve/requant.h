/* The stage `requant`: multipliers and offsets of every channel as genes. */
#ifndef QE_EVOLVE_REQUANT_H
#define QE_EVOLVE_REQUANT_H

#include "core/evolve/move_search.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A gene for the multiplier of every branch and for the offset of every channel: some thousands. */
typedef struct qe_requant_options {
  bool gains, offsets; /* kinds of moves (moves.h), by channel */
  qe_move_search_options search;
} qe_requant_options;

QE_CHECKED qe_status qe_requant_run(qe_evolution *evolution, const qe_requant_options *options);

#ifdef __cplusplus
}
#endif
#endif
