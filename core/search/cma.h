/* CMA-ES: minimises a function of real and integer variables from its values alone.
 *
 * Sources: Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772 ("Tutorial" in the comments); Ros and
 * Hansen, "A Simple Modification in CMA-ES Achieving Linear Time and Space Complexity", PPSN 2008 (diagonal form);
 * Auger and Hansen, "A Restart CMA Evolution Strategy with Increasing Population Size", CEC 2005 (IPOP); Hansen,
 * "Benchmarking a BI-Population CMA-ES on the BBOB-2009 Function Testbed", GECCO 2009 (BIPOP); Hamano, Saito, Nomura,
 * Shirakawa, "CMA-ES with Margin", GECCO 2022, arXiv 2205.13482, and "Marginal Probability-Based Integer Handling for
 * CMA-ES", arXiv 2212.09260 (integers); Hamano and others, "CatCMA with Margin", arXiv 2504.07884 (margin beside
 * reals); Marty, Hansen, Auger, Semet, Heron, "LB+IC-CMA-ES: Two Simple Modifications of CMA-ES to Handle Mixed-Integer
 * Problems", PPSN 2024 (centering of integers).
 *
 *   while (qe_cma_stopped(cma) == QE_CMA_RUNNING && calls are left) {
 *     QE_TRY(qe_cma_ask(cma, &candidates, &count));
 *     for (k = 0; k < count; k++) fitness[k] = f(candidates + k * n);
 *     QE_TRY(qe_cma_tell(cma, fitness));
 *   }
 *
 * The same calls give the same bits on one machine; other machines may differ in the last bits of log, exp, sin, cos
 * and LAPACK's eigenvectors. No call uses more than the calling thread, but for what LAPACK itself does. */
#ifndef QE_SEARCH_CMA_H
#define QE_SEARCH_CMA_H

#include "core/base/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  QE_CMA_FULL_VARIABLES = 4096,        /* at most, in full form: its matrices are n by n */
  QE_CMA_DIAGONAL_VARIABLES = 1 << 20, /* at most, in diagonal form */
  QE_CMA_POPULATION = 1 << 16          /* at most */
};

typedef struct qe_cma_variable {
  double start;     /* mean of the first sample, within the bounds */
  double spread;    /* first standard deviation in units of the step size; 0: 1 */
  double low, high; /* inclusive, low < high; -INFINITY or INFINITY: no bound. Integers where the variable is one */
  bool integer;
} qe_cma_variable;

/* What is done so that integers do not get stuck when the sample becomes narrower than a step. */
typedef enum qe_cma_integers {
  QE_CMA_MARGIN, /* the probability of leaving the present value keeps a floor; what left it counts as whole steps */
  QE_CMA_ROUND   /* nothing; for comparisons */
} qe_cma_integers;

typedef enum qe_cma_restarts {
  QE_CMA_NO_RESTARTS,
  QE_CMA_IPOP, /* each run with twice the population */
  QE_CMA_BIPOP /* that, in turn with runs of small populations and step sizes on as many evaluations */
} qe_cma_restarts;

typedef struct qe_cma_options {
  double sigma;       /* first step size, > 0; about a third of the range in which the optimum is thought to lie */
  int32_t population; /* candidates of a generation; 0: 4 + floor(3 ln n), else 4...QE_CMA_POPULATION */
  bool diagonal;      /* variances only: time and memory linear in n */
  bool passive;       /* no negative weights */
  qe_cma_integers integers;
  double margin; /* its floor, below 1/2; 0: 1 / (n population), beside reals 1 - 0.73^(1 / integers) */
  qe_cma_restarts restarts;
  int32_t runs; /* of a search with restarts, at most; 0: 9 more than the first */
  uint64_t seed;
} qe_cma_options;

/* Why a run ended. */
#define QE_CMA_STOP_LIST(X)                                                                                            \
  X(RUNNING, "running")                                                                                                \
  X(FLAT, "the best fitness of the last generations is the same to 1e-12")                                             \
  X(NARROW, "the sample is narrower than 1e-11 of the first one in every variable")                                    \
  X(WIDE, "the step size has grown 10000 times: the first one was too small, or the function has no minimum")          \
  X(STAGNATION, "no better fitness over many generations")                                                             \
  X(CONDITION, "the covariance is no longer well conditioned (1e14)")                                                  \
  X(BUDGET, "a small run has had its share of evaluations")

typedef enum qe_cma_stop {
#define X(id, text) QE_CMA_##id,
  QE_CMA_STOP_LIST(X)
#undef X
      QE_CMA_STOPS
} qe_cma_stop;

typedef struct qe_cma qe_cma;

/* options->diagonal is the user's choice: beyond some 200 variables the full form takes long to learn. variable [n] is
 * copied. QE_USAGE with the variable or the option where one is out of its bounds. */
QE_CHECKED qe_status qe_cma_new(int32_t n, const qe_cma_variable *variable, const qe_cma_options *options,
                                qe_cma **cma);
void qe_cma_free(qe_cma *cma); /* NULL is fine */

/* The candidates [count, n] of the generation, within the bounds and integers where they must be; the same ones until
 * qe_cma_tell, valid until then. Starts the next run where one has ended, often with another count. QE_USAGE where the
 * search has stopped; QE_NO_MEMORY changes nothing. */
QE_CHECKED qe_status qe_cma_ask(qe_cma *cma, const double **candidates, int32_t *count);
/* Their fitness [count], smaller is better. NaN is worse than anything; a generation with no fitness below infinity
 * teaches nothing. QE_USAGE unless candidates were asked for; QE_NO_MEMORY changes nothing. */
QE_CHECKED qe_status qe_cma_tell(qe_cma *cma, const double *fitness);

/* The function has changed: the best candidate and what the end of a run goes by are forgotten, the distribution stays.
 * Candidates that were asked for and not told are asked for again. */
void qe_cma_forget_values(qe_cma *cma);

/* QE_CMA_RUNNING as long as qe_cma_ask has candidates, else why the last run ended; and why the newest run that ended
 * did, restarted or not. */
qe_cma_stop qe_cma_stopped(const qe_cma *cma);
qe_cma_stop qe_cma_last_stop(const qe_cma *cma);
const char *qe_cma_stop_text(qe_cma_stop stop);

/* The best candidate [n] of all runs and its fitness (may be NULL); NULL before there is one below infinity. */
const double *qe_cma_best(const qe_cma *cma, double *fitness);
int64_t qe_cma_evaluations(const qe_cma *cma);
int64_t qe_cma_generations(const qe_cma *cma); /* of this run */
int32_t qe_cma_run(const qe_cma *cma);         /* 0: the first */

/* The distribution of the next sample. mean [n] lies within the bounds, integers not rounded; deviation [n] is that of
 * each variable by itself. covariance: the element of two variables, without step size and margin. */
double qe_cma_sigma(const qe_cma *cma);
void qe_cma_mean(const qe_cma *cma, double *mean);
void qe_cma_deviation(const qe_cma *cma, double *deviation);
double qe_cma_covariance(const qe_cma *cma, int32_t row, int32_t column);

/* All that the next generations depend on, as tensors added to `state`; and back, into a search made with the same
 * variables and options, which then goes on with the same bits. Candidates asked for and not told are asked for again.
 * qe_cma_load: QE_FORMAT with the tensor where the state is damaged or of another search; it, and QE_NO_MEMORY, leave a
 * search that only fits qe_cma_free or another qe_cma_load. */
QE_CHECKED qe_status qe_cma_save(const qe_cma *cma, qe_tensors *state);
QE_CHECKED qe_status qe_cma_load(qe_cma *cma, const qe_tensors *state);

#ifdef __cplusplus
}
#endif
#endif
