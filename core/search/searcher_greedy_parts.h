/* The model behind the searcher `greedy`: the value of a base point and what single changes of it add.
 *
 * Each variable has levels: its values, or nine of them from its low to its high end where there are more than 17.
 * Levels are numbered over all variables. */
#ifndef QE_SEARCH_SEARCHER_GREEDY_PARTS_H
#define QE_SEARCH_SEARCHER_GREEDY_PARTS_H

#include "core/search/searcher_parts.h"

typedef struct qe_greedy_model {
  int64_t *first; /* [n + 1]: level with which a variable begins */
  double *base;   /* [n] */
  double *change; /* [first[n]]: while measuring the values told; then what the level adds to the base's value */
  int32_t *level; /* [n]: of a proposal in the making; -1: the base's value */
} qe_greedy_model;

QE_CHECKED qe_status qe_greedy_model_new(const qe_searcher *s, qe_greedy_model *model);
void qe_greedy_model_free(qe_greedy_model *model);
/* No change is known. */
void qe_greedy_model_forget(const qe_searcher *s, qe_greedy_model *model);
/* All changes are measured: takes the base's value off. */
void qe_greedy_model_finish(const qe_searcher *s, qe_greedy_model *model, double base_value);

int64_t qe_greedy_variable(const qe_searcher *s, const qe_greedy_model *model, int64_t level);
double qe_greedy_level(const qe_searcher *s, const qe_greedy_model *model, int64_t variable, int64_t level);
/* Whether the level is what the base has. */
bool qe_greedy_is_base(const qe_searcher *s, const qe_greedy_model *model, int64_t level);

/* The point x [n] that is best by the changes [first[n]] among those that greedy steps find allowed. */
void qe_greedy_propose(const qe_searcher *s, const qe_greedy_model *model, const double *change, double *x);

#endif
