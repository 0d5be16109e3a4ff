/* CMA-ES: weights and constants by number of variables and population. */
#include "core/search/cma_internal.h"

#include <math.h>

int32_t qe_cma_default_population(int32_t n) {
  return 4 + (int32_t)floor(3 * log((double)n)); /* Tutorial, eq. 48 */
}

/* Rates of the paths and of the covariance. */
static void set_rates(int32_t variables, bool diagonal, cma_settings *set) {
  double n = variables, s = set->selected;
  set->rate_sigma = (s + 2) / (n + s + 5); /* Tutorial, eq. 55 */
  /* Eq. 55 has inner = 1; pycma 4.5 damps more where s > n, for with 1 the step size shrinks too fast (its issue 231).
   */
  double inner = fmax(1, 3 * (1 - pow(0.5, n / 9)));
  set->damping = 1 + 2 * fmax(0, sqrt(inner * (s - 1) / (n + 1)) - 1) + set->rate_sigma;
  if (diagonal) { /* as pycma has them: PPSN 2008 with n degrees of freedom rather than n^2 */
    set->rate_path = (1 + 1 / n + s / n) / (sqrt(n) + 1 / n + 2 * s / n);
    set->rate_one = 1 / (n + 2 * sqrt(n) + s / n);
    set->rate_parent = fmin(1 - set->rate_one, (0.25 + s + 1 / s - 2) / (n + 4 * sqrt(n) + s / 2));
  } else { /* Tutorial, eqs. 56, 57 (slower for populations below 6, as in pycma), 58 with alpha_cov = 2 */
    set->rate_path = (4 + s / n) / (n + 4 + 2 * s / n);
    set->rate_one = fmin(1, set->population / 6.0) * 2 / ((n + 1.3) * (n + 1.3) + s);
    set->rate_parent = fmin(1 - set->rate_one, 2 * (0.25 + s + 1 / s - 2) / ((n + 2) * (n + 2) + s));
  }
}

static double sum_of(const double *value, int32_t first, int32_t stop) {
  double sum = 0;
  for (int32_t i = first; i < stop; i++) sum += value[i];
  return sum;
}

/* (sum w)^2 / sum w^2. */
static double effective(const double *weight, int32_t first, int32_t stop) {
  double sum = sum_of(weight, first, stop), squares = 0;
  for (int32_t i = first; i < stop; i++) squares += weight[i] * weight[i];
  return squares > 0 ? sum * sum / squares : 0;
}

/* The sum of the negative weights: eqs. 50...53, so that the covariance does not shrink by itself, stays positive
 * definite and learns from bad steps no faster than from good ones. */
static double negative_sum(const double *weight, int32_t n, const cma_settings *set) {
  double bad = effective(weight, set->parents, set->population);
  double sum = fmin(1 + set->rate_one / set->rate_parent, 1 + 2 * bad / (set->selected + 2));
  return fmin(sum, (1 - set->rate_one - set->rate_parent) / (n * set->rate_parent));
}

/* arXiv 2205.13482 has 1 / (n * population). With reals beside the integers it is too little: while the reals converge
 * the integers hardly change; arXiv 2504.07884 has this for them, so that an integer changes
 * in 27 % of the samples at least. */
static double default_margin(int32_t n, int32_t population, int32_t integers) {
  return integers < n ? 1 - pow(0.73, 1.0 / integers) : 1.0 / ((double)n * population);
}

void qe_cma_set(int32_t n, int32_t integers, int32_t population, const qe_cma_options *options, cma_settings *set,
                double *weight) {
  *set = (cma_settings){.population = population, .parents = population / 2};
  for (int32_t i = 0; i < population; i++) weight[i] = log((population + 1) / 2.0) - log(i + 1.0); /* eq. 49 */
  set->selected = effective(weight, 0, set->parents);
  set_rates(n, options->diagonal, set);
  double good = sum_of(weight, 0, set->parents), bad = -sum_of(weight, set->parents, population);
  double negative = options->passive || bad <= 0 ? 0 : negative_sum(weight, n, set) / bad;
  for (int32_t i = 0; i < population; i++) weight[i] *= i < set->parents ? 1 / good : negative;
  double v = n;
  set->length = sqrt(v) * (1 - 1 / (4 * v) + 1 / (21 * v * v));
  set->gap = (int64_t)fmax(1, 1 / (10 * v * (set->rate_one + set->rate_parent))); /* Tutorial, B.2 */
  if (integers > 0) set->margin = options->margin > 0 ? options->margin : default_margin(n, population, integers);
  set->flat_span = 10 + (int32_t)ceil(30 * v / population); /* Tutorial, B.3 */
  set->stagnation_span = (int32_t)fmin(20000, 120 + 100 * v * sqrt(v) / population);
  if (set->stagnation_span < set->flat_span) set->stagnation_span = set->flat_span;
}
