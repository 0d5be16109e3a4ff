/* CMA-ES with margin (arXiv 2205.13482, section 4): the probability that a sample leaves the present value of an
 * integer keeps a floor, by a change of the mean and of a diagonal matrix A (here: stretch) that multiplies steps. What
 * is learned (covariance, paths, step size) is that of the steps without A. */
#include "core/search/cma_internal.h"

#include <math.h>

static double tail_of(double x) {
  return 0.5 * erfc(x * 0.70710678118654752440);
}

double qe_cma_quantile(double tail) {
  /* Newton on ln P, which is concave: from the right end that P(x) <= exp(-x^2 / 2) / 2 gives, it never leaves the
   * right side of the solution. */
  double x = sqrt(-2 * log(2 * tail)), wanted = log(tail);
  for (int32_t i = 0; i < 40; i++) {
    double p = tail_of(x), density = 0.39894228040143267794 * exp(-0.5 * x * x);
    double next = x + (log(p) - wanted) * p / density;
    if (!(next < x)) break;
    x = next;
  }
  return x > 0 ? x : 0;
}

/* At the least or largest value only one threshold is there: the mean stays so near it that the other side has the
 * probability `margin` (section 4.2: for the leftmost and the rightmost value). */
static void keep_edge(qe_cma *cma, int32_t i, double threshold, double deviation) {
  double limit = qe_cma_quantile(cma->set.margin) * deviation, distance = cma->mean[i] - threshold;
  if (distance > limit) cma->mean[i] = threshold + limit;
  if (distance < -limit) cma->mean[i] = threshold - limit;
}

/* Between two thresholds each side gets at least half the margin; what it gets is taken from the other two parts in
 * proportion to what they have above their floors. Mean and A solve the two equations of the tails. */
static void keep_between(qe_cma *cma, int32_t i, double low, double high, double deviation) {
  double floor = cma->set.margin / 2;
  double below = tail_of((cma->mean[i] - low) / deviation), above = tail_of((high - cma->mean[i]) / deviation);
  if (below >= floor && above >= floor) return;
  double inside = fmax(0, 1 - below - above);
  below = fmax(below, floor);
  above = fmax(above, floor);
  double sum = below + above + inside, part = (1 - sum) / (sum - 3 * floor);
  double reach_low = qe_cma_quantile(below + part * (below - floor));
  double reach_high = qe_cma_quantile(above + part * (above - floor));
  double bare = deviation / cma->stretch[i];
  cma->stretch[i] = (high - low) / ((reach_low + reach_high) * bare);
  cma->mean[i] = (low * reach_high + high * reach_low) / (reach_low + reach_high);
}

void qe_cma_keep_margin(qe_cma *cma) {
  if (cma->options.integers != QE_CMA_MARGIN) return;
  for (int32_t i = 0; i < cma->n; i++) {
    const qe_cma_variable *v = &cma->variable[i];
    if (!v->integer) continue;
    double deviation = cma->sigma * cma->stretch[i] * sqrt(qe_cma_variance(cma, i));
    double cell = fmin(fmax(floor(cma->mean[i] + 0.5), v->low), v->high);
    if (!(deviation > 0) || !isfinite(cell)) continue; /* the run ends */
    if (cell <= v->low) {
      keep_edge(cma, i, cell + 0.5, deviation);
    } else if (cell >= v->high) {
      keep_edge(cma, i, cell - 0.5, deviation);
    } else {
      keep_between(cma, i, cell - 0.5, cell + 0.5, deviation);
    }
  }
}

/* ---- centring ---- */

/* A variable that has left the mean's value counts as the value it was evaluated at, not as where it was drawn: most
 * draws lie near the edge of their cell, and what is learned from them would be steps too short. `bias` is how far all
 * of these move; draws on the mean's own value give way towards its middle as far as that balances it. */
static void centre_variable(qe_cma *cma, int32_t i) {
  const qe_cma_variable *v = &cma->variable[i];
  double scale = cma->sigma * cma->stretch[i], middle = fmin(fmax(floor(cma->mean[i] + 0.5), v->low), v->high);
  double bias = 0, below = 0, above = 0; /* what draws on the middle's value could move down and up */
  for (int32_t k = 0; k < cma->set.parents; k++) {
    int64_t at = (int64_t)cma->order[k] * cma->n + i;
    double away = cma->candidate[at] - (cma->mean[i] + scale * cma->step[at]);
    if (cma->candidate[at] < middle || cma->candidate[at] > middle) {
      bias += away;
      cma->step[at] = (cma->candidate[at] - cma->mean[i]) / scale;
    } else {
      below += fmin(away, 0);
      above += fmax(away, 0);
    }
  }
  double room = bias < 0 ? above : below, part = room * bias < 0 ? fmin(1, -bias / room) : 0;
  for (int32_t k = 0; part > 0 && k < cma->set.parents; k++) {
    int64_t at = (int64_t)cma->order[k] * cma->n + i;
    double away = middle - (cma->mean[i] + scale * cma->step[at]);
    bool stays = !(cma->candidate[at] < middle || cma->candidate[at] > middle);
    if (stays && away * bias < 0) cma->step[at] += part * away / scale;
  }
}

void qe_cma_centre_integers(qe_cma *cma) {
  if (cma->options.integers != QE_CMA_MARGIN) return;
  for (int32_t i = 0; i < cma->n; i++)
    if (cma->variable[i].integer && cma->sigma * cma->stretch[i] > 0) centre_variable(cma, i);
}
