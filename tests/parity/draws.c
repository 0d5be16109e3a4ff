/* Draws: words of a Philox stream, one after the other. */
#include "tests/parity/parity.h"

parity_draws parity_draws_start(uint64_t seed, uint32_t substream) {
  return (parity_draws){.seed = seed, .next = (uint64_t)substream << 40};
}

uint32_t parity_word(parity_draws *draws) {
  if (!draws->left) {
    draws->block = qe_philox_draw(draws->seed, QE_STREAM_TEST, draws->next++);
    draws->left = 4;
  }
  return draws->block.word[--draws->left];
}

int32_t parity_range(parity_draws *draws, int32_t low, int32_t high) {
  return low + (int32_t)qe_below(parity_word(draws), (uint32_t)(high - low) + 1);
}

float parity_real(parity_draws *draws) {
  return qe_uniform(parity_word(draws));
}

bool parity_chance(parity_draws *draws, int32_t percent) {
  return parity_range(draws, 0, 99) < percent;
}

int32_t parity_pick(parity_draws *draws, const int32_t *list, size_t count) {
  return list[parity_range(draws, 0, (int32_t)count - 1)];
}
