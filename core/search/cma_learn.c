/* CMA-ES: what a generation teaches: mean, paths, covariance, step size; and the roots of the covariance. */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "core/search/cma_internal.h"

#include <dlfcn.h>
#include <lapacke.h>
#include <math.h>
#include <string.h>

static double squared(const double *vector, int32_t n) {
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += vector[i] * vector[i];
  return sum;
}

void qe_cma_multiply(const qe_cma *cma, const double *matrix, const double *in, double *out) {
  int32_t n = cma->n;
  if (cma->options.diagonal) {
    for (int32_t i = 0; i < n; i++) out[i] = matrix[i] * in[i];
    return;
  }
  memset(out, 0, (size_t)n * sizeof *out);
  for (int32_t j = 0; j < n; j++) /* symmetric: rows are columns, and the inner loop has no sum to keep in order */
    for (int32_t i = 0; i < n; i++) out[i] += matrix[(int64_t)j * n + i] * in[j];
}

double qe_cma_variance(const qe_cma *cma, int32_t i) {
  return cma->covariance[cma->options.diagonal ? i : (int64_t)i * cma->n + i];
}

/* ---- paths ---- */

/* Tutorial, eqs. 41...43: the mean moves; the path of the step size. */
static void move_mean(qe_cma *cma) {
  const cma_settings *set = &cma->set;
  int32_t n = cma->n;
  memset(cma->shift, 0, (size_t)n * sizeof *cma->shift);
  for (int32_t k = 0; k < set->parents; k++) {
    const double *step = cma->step + (int64_t)cma->order[k] * n;
    for (int32_t i = 0; i < n; i++) cma->shift[i] += cma->weight[k] * step[i];
  }
  for (int32_t i = 0; i < n; i++) cma->mean[i] += cma->sigma * cma->shift[i];
  qe_cma_multiply(cma, cma->inverse, cma->shift, cma->standard);
  double keep = 1 - set->rate_sigma, add = sqrt(set->rate_sigma * (2 - set->rate_sigma) * set->selected);
  for (int32_t i = 0; i < n; i++) cma->path_sigma[i] = keep * cma->path_sigma[i] + add * cma->standard[i];
}

/* Tutorial, eq. 45 and h_sigma: the path of the covariance, halted while the step size still grows fast. Returns h. */
static bool move_path(qe_cma *cma) {
  const cma_settings *set = &cma->set;
  double fresh = 1 - pow(1 - set->rate_sigma, 2 * (double)(cma->generation + 1));
  bool steady = sqrt(squared(cma->path_sigma, cma->n) / fresh) < (1.4 + 2 / (cma->n + 1.0)) * set->length;
  double keep = 1 - set->rate_path, add = steady ? sqrt(set->rate_path * (2 - set->rate_path) * set->selected) : 0;
  for (int32_t i = 0; i < cma->n; i++) cma->path[i] = keep * cma->path[i] + add * cma->shift[i];
  return steady;
}

/* ---- covariance ---- */

/* covariance += scale * vector * vector^T. */
static void add_outer(qe_cma *cma, double scale, const double *vector) {
  int32_t n = cma->n;
  double *c = cma->covariance;
  if (cma->options.diagonal) {
    for (int32_t i = 0; i < n; i++) c[i] += scale * vector[i] * vector[i];
    return;
  }
  for (int32_t i = 0; i < n; i++) {
    double part = scale * vector[i];
    for (int32_t j = 0; j < n; j++) c[(int64_t)i * n + j] += part * vector[j];
  }
}

/* Rounding of scale * v_i * v_j differs from that of scale * v_j * v_i: the lower half is taken for both. */
static void mirror_lower(double *c, int32_t n) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < i; j++) c[j * n + i] = c[i * n + j];
}

/* Tutorial, eqs. 46 and 47. Negative weights count steps at the length sqrt(n), so that the matrix stays positive. */
static void learn_covariance(qe_cma *cma, bool steady) {
  const cma_settings *set = &cma->set;
  int32_t n = cma->n;
  double all = 0, lost = steady ? 0 : set->rate_one * set->rate_path * (2 - set->rate_path);
  for (int32_t k = 0; k < set->population; k++) all += cma->weight[k];
  double keep = 1 + lost - set->rate_one - set->rate_parent * all;
  int64_t count = cma->options.diagonal ? n : (int64_t)n * n;
  for (int64_t i = 0; i < count; i++) cma->covariance[i] *= keep;
  add_outer(cma, set->rate_one, cma->path);
  for (int32_t k = 0; k < set->population; k++) {
    const double *step = cma->step + (int64_t)cma->order[k] * n;
    double weight = cma->weight[k];
    if (weight < 0) {
      qe_cma_multiply(cma, cma->inverse, step, cma->standard);
      weight *= n / (squared(cma->standard, n) + 1e-12);
    }
    if (weight < 0 || weight > 0) add_outer(cma, set->rate_parent * weight, step);
  }
  if (!cma->options.diagonal) mirror_lower(cma->covariance, n);
}

void qe_cma_learn(qe_cma *cma) {
  const cma_settings *set = &cma->set;
  move_mean(cma);
  learn_covariance(cma, move_path(cma));
  double change = sqrt(squared(cma->path_sigma, cma->n)) / set->length - 1; /* Tutorial, eq. 44; e-fold at most */
  cma->sigma *= exp(fmin(1, set->rate_sigma / set->damping * change));
}

/* ---- roots ---- */

static bool well_conditioned(double least, double most) {
  return isfinite(most) && least > 0 && most < 1e14 * least;
}

static bool root_diagonal(qe_cma *cma) {
  double least = HUGE_VAL, most = 0;
  for (int32_t i = 0; i < cma->n; i++) {
    least = fmin(least, cma->covariance[i]);
    most = isfinite(cma->covariance[i]) ? fmax(most, cma->covariance[i]) : HUGE_VAL;
  }
  if (!well_conditioned(least, most)) return false;
  for (int32_t i = 0; i < cma->n; i++) {
    cma->root[i] = sqrt(cma->covariance[i]);
    cma->inverse[i] = 1 / cma->root[i];
  }
  return true;
}

/* The symmetric roots do not depend on the signs and the order of eigenvectors, nor on which ones a LAPACK chooses
 * among those of equal eigenvalues. vectors: eigenvectors in rows. */
static void make_roots(qe_cma *cma) {
  int64_t n = cma->n;
  memset(cma->root, 0, (size_t)(n * n) * sizeof *cma->root);
  memset(cma->inverse, 0, (size_t)(n * n) * sizeof *cma->inverse);
  for (int64_t k = 0; k < n; k++) {
    const double *vector = cma->vectors + k * n;
    double length = sqrt(cma->values[k]);
    for (int64_t i = 0; i < n; i++) {
      double longer = vector[i] * length, shorter = vector[i] / length;
      for (int64_t j = 0; j <= i; j++) {
        cma->root[i * n + j] += longer * vector[j];
        cma->inverse[i * n + j] += shorter * vector[j];
      }
    }
  }
  mirror_lower(cma->root, cma->n);
  mirror_lower(cma->inverse, cma->n);
}

/* OpenBLAS's threads spin while they wait for each other, which on a busy machine takes seconds for a small matrix; and
 * one thread gives the same bits whatever the machine. Other LAPACKs lack these functions. */
static lapack_int eigen(qe_cma *cma) {
  int (*get_threads)(void) = NULL;
  void (*set_threads)(int) = NULL;
  void *get = dlsym(RTLD_DEFAULT, "openblas_get_num_threads"), *set = dlsym(RTLD_DEFAULT, "openblas_set_num_threads");
  memcpy(&get_threads, &get, sizeof get); /* ISO C has no cast of these */
  memcpy(&set_threads, &set, sizeof set);
  int threads = get && set ? get_threads() : 1;
  lapack_int n = cma->n, work = 1 + 6 * n + 2 * n * n, whole = 3 + 5 * n;
  if (threads > 1) set_threads(1);
  lapack_int info = LAPACKE_dsyevd_work(LAPACK_COL_MAJOR, 'V', 'L', n, cma->vectors, n, cma->values, cma->work, work,
                                        cma->whole_work, whole);
  if (threads > 1) set_threads(threads);
  return info;
}

bool qe_cma_decompose(qe_cma *cma) {
  int32_t n = cma->n;
  if (cma->generation - cma->decomposed < cma->set.gap) return true;
  cma->decomposed = cma->generation;
  if (cma->options.diagonal) return root_diagonal(cma);
  int64_t count = (int64_t)n * n;
  for (int64_t i = 0; i < count; i++)
    if (!isfinite(cma->covariance[i])) return false;
  memcpy(cma->vectors, cma->covariance, (size_t)count * sizeof *cma->vectors);
  if (eigen(cma) != 0 || !well_conditioned(cma->values[0], cma->values[n - 1])) return false;
  make_roots(cma);
  return true;
}
