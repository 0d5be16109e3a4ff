/* Random draws of the tests: words of one Philox stream. */
#ifndef QE_TESTS_DRAWS_H
#define QE_TESTS_DRAWS_H

#include "core/base/rng.h"

typedef struct draws {
  uint64_t seed, index;
} draws;

static inline uint32_t draw_word(draws *from) {
  return qe_philox_draw(from->seed, QE_STREAM_TEST, from->index++).word[0];
}
/* Uniform integer in first...last. */
static inline int32_t draw_range(draws *from, int32_t first, int32_t last) {
  return first + (int32_t)qe_below(draw_word(from), (uint32_t)(last - first + 1));
}
/* Uniform real in (low, high). */
static inline float draw_real(draws *from, float low, float high) {
  return low + (high - low) * qe_uniform(draw_word(from));
}
static inline void draw_reals(draws *from, float *values, int64_t count, float low, float high) {
  for (int64_t i = 0; i < count; i++) values[i] = draw_real(from, low, high);
}

#endif
