/* Integer counters behind low-bit codes: what votes move when a network is trained without floating point. A code is
 * its counter rounded; the counter's distance to the next code's edge is how sure the code is. */
#ifndef QE_EVOLVE_COUNTERS_H
#define QE_EVOLVE_COUNTERS_H

#include "core/base/pack.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Counters of one layer. `fraction`: a distance of 1 between codes is 2^fraction units, so that low * 2^fraction and
 * high * 2^fraction fit s16. */
typedef struct qe_counters {
  qe_code_grid grid;
  int32_t fraction;
  int64_t count;
  int16_t *value;    /* [count], in low * 2^fraction ... high * 2^fraction */
  int64_t *momentum; /* [count], 2^decay times the decaying mean of the votes */
  uint64_t first;    /* index of the first counter's random draws: layers have ranges of their own */
} qe_counters;

/* The fraction bits of a grid: 12 less its bits, so that all codes take equally many steps from end to end. */
int32_t qe_counters_fraction(const qe_code_grid *grid);

/* Counters at 0 momentum, spread evenly over the middle span / 256 of the grid. */
QE_CHECKED qe_status qe_counters_new(const qe_code_grid *grid, int64_t count, uint64_t first, uint64_t seed,
                                     int32_t span, qe_counters *counters);
void qe_counters_free(qe_counters *counters);

/* M <- M + (votes - M) / 2^decay; each counter goes against the sign of its M by `rate` / 256 units, rounded at random
 * so that the mean is kept; then it is clamped to the grid. `step` numbers the draws. */
void qe_counters_vote(qe_counters *counters, const int64_t *votes, int32_t decay, int32_t rate, uint64_t seed,
                      uint64_t step);

/* Groups of `group` counters (a divisor of count), as of an output channel, whose normalisation leaves their size free:
 * where the root of a group's mean square is above what the grid's number of bits is best for, its counters shrink to
 * it, each rounded at random. Signs alone move counters outward, to the ends of the grid in the long run. */
void qe_counters_hold(qe_counters *counters, int64_t group, uint64_t seed, uint64_t step);

/* Whether all lie on their grid. */
bool qe_counters_sound(const qe_counters *counters);

/* code = the grid's code nearest to counter / 2^fraction, halves up; codes [count]. */
void qe_counters_codes(const qe_counters *counters, int8_t *codes);
/* How many lie at least a quarter of a spacing from the edge to the next code. */
int64_t qe_counters_confident(const qe_counters *counters);

#ifdef __cplusplus
}
#endif
#endif
