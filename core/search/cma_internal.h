/* CMA-ES: what its files share. Vectors are [n]; matrices [n, n] symmetric, in diagonal form their diagonal [n]. */
#ifndef QE_SEARCH_CMA_INTERNAL_H
#define QE_SEARCH_CMA_INTERNAL_H

#include "core/search/cma.h"

/* Constants of a run, by n and population (Tutorial, table 1). */
typedef struct cma_settings {
  int32_t population, parents;
  double selected;              /* mu_eff */
  double rate_sigma, damping;   /* c_sigma, d_sigma */
  double rate_path;             /* c_c */
  double rate_one, rate_parent; /* c_1, c_mu */
  double length;                /* E|N(0, I)| */
  double margin;
  int64_t gap;       /* generations from a decomposition to the next */
  int32_t flat_span; /* generations that CMA_FLAT and CMA_STAGNATION look back */
  int32_t stagnation_span;
} cma_settings;

/* Numbers of the search that its state has, in this order. */
#define CMA_NUMBER_LIST(X)                                                                                             \
  X(run)         /* 0: the first */                                                                                    \
  X(population)  /* of this run */                                                                                     \
  X(generation)  /* of this run */                                                                                     \
  X(evaluations) /* of all runs; the draws go by it */                                                                 \
  X(run_evaluations)                                                                                                   \
  X(decomposed)       /* generation of the newest decomposition */                                                     \
  X(stop)             /* of this run: qe_cma_stop */                                                                   \
  X(last_stop)        /* of the newest run that ended */                                                               \
  X(small)            /* whether this run is a small one of BIPOP */                                                   \
  X(large_population) /* of the newest large run */                                                                    \
  X(large_run)        /* evaluations of it */                                                                          \
  X(small_spent)      /* evaluations of all small runs, and of the first */                                            \
  X(large_spent)      /* of all large runs */                                                                          \
  X(has_best)

#define CMA_REAL_LIST(X)                                                                                               \
  X(sigma)                                                                                                             \
  X(first_sigma) /* of this run */                                                                                     \
  X(best_fitness)

struct qe_cma {
  int32_t n;
  qe_cma_options options;
  qe_cma_variable *variable;
  cma_settings set;
#define X(name) int64_t name;
  CMA_NUMBER_LIST(X)
#undef X
#define X(name) double name;
  CMA_REAL_LIST(X)
#undef X
  double *mean, *path_sigma, *path; /* in full coordinates: reals not yet folded into their bounds */
  double *stretch;                  /* what margin multiplies steps with; 1 for reals */
  double *best;
  double *covariance, *root, *inverse;   /* root: symmetric, of the covariance at its newest decomposition */
  double *best_history, *median_history; /* [stagnation_span] rings by generation */
  /* derived from the above */
  double *step, *candidate; /* [population, n] */
  double *weight;           /* [population]: positive ones, then negative ones */
  int32_t *order;           /* [population]: by fitness */
  int64_t *key;             /* [population] */
  bool asked;
  double *work, *values, *vectors; /* of the decomposition; work [n] at least */
  int32_t *whole_work;
  double *shift, *standard; /* mean step, and in coordinates of the sample */
};

/* 4 + floor(3 ln n). */
int32_t qe_cma_default_population(int32_t n);
/* Constants and weights [population] of a run; `integers` of the n variables are such. */
void qe_cma_set(int32_t n, int32_t integers, int32_t population, const qe_cma_options *options, cma_settings *set,
                double *weight);

/* Memory of a run with this population, constants and weights for it. QE_NO_MEMORY changes nothing. */
QE_CHECKED qe_status qe_cma_fit(qe_cma *cma, int32_t population);
/* The first run, and the one after a run that has ended. QE_NO_MEMORY changes nothing. */
QE_CHECKED qe_status qe_cma_begin(qe_cma *cma);
QE_CHECKED qe_status qe_cma_restart(qe_cma *cma);

/* Mean, paths, covariance and step size from the order of the steps. */
void qe_cma_learn(qe_cma *cma);
/* Where it is due, the roots of the covariance; false where it is ill conditioned, and they stay as they were. */
bool qe_cma_decompose(qe_cma *cma);
/* out = matrix * in; not in place. */
void qe_cma_multiply(const qe_cma *cma, const double *matrix, const double *in, double *out);
double qe_cma_variance(const qe_cma *cma, int32_t i);

/* Mean and stretch of the integer variables so that each keeps its floor of probability. */
void qe_cma_keep_margin(qe_cma *cma);
/* Steps of the parents' integer variables become those to the values that were evaluated: integer centering (Marty,
 * Hansen, Auger, Semet, Heron, "LB+IC-CMA-ES", PPSN 2024). */
void qe_cma_centre_integers(qe_cma *cma);
/* x with P(N(0, 1) > x) = tail, for tail in (0, 1/2]. */
double qe_cma_quantile(double tail);

/* Why the run ends after this generation; best and median: of its fitness. */
qe_cma_stop qe_cma_judge(qe_cma *cma, double best, double median);

/* A word to real in (0, 1), 53 bits. */
double qe_cma_uniform(uint32_t high, uint32_t low);

#endif
