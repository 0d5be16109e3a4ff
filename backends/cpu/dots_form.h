/* One form of the kernel in kernels_dots.c, which includes this text once a form: TARGET is the function attribute,
 * FORM the name, MADD(sum, a, b) adds up the products of two vectors of words, a of the source. */
#define FORM_JOIN_(a, b) a##_##b
#define FORM_JOIN(a, b) FORM_JOIN_(a, b)

/* BLOCK pixels of a run, `vectors` vectors of channels. */
TARGET CPU_INLINE void FORM_JOIN(block, FORM)(const run_of_pixels *run, int64_t first, int64_t channel,
                                              const int vectors) {
  int64_t words = run->plan->words, weight_line = run->plan->padded * CPU_DOTS_WORD, pixel = run->source_step;
  vec sum[BLOCK * MOST_VECTORS];
#pragma GCC unroll 16
  for (int k = 0; k < BLOCK * vectors; k++) sum[k] = vec_zero();
  for (int t = 0; t < run->taps; t++) {
    const uint8_t *w = run->tap[t].weights + channel * CPU_DOTS_WORD, *from = run->tap[t].source + first * pixel;
#pragma GCC unroll 1
    for (int64_t word = 0; word < words; word++, w += weight_line, from += CPU_DOTS_WORD) {
      vec right[MOST_VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) right[v] = vec_load(w + v * VEC);
#pragma GCC unroll 8
      for (int q = 0; q < BLOCK; q++) {
        vec value = vec_broadcast32(from + q * pixel);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[q * vectors + v] = MADD(sum[q * vectors + v], value, right[v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < BLOCK; q++)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) store(run, first + q, channel + v * WORDS, sum[q * vectors + v]);
}

TARGET static void FORM_JOIN(pixels, FORM)(const run_of_pixels *run) {
  for (int64_t first = 0; first < run->count; first += BLOCK) {
    int64_t channel = 0;
    for (; channel + MOST_VECTORS * WORDS <= run->plan->padded; channel += MOST_VECTORS * WORDS)
      FORM_JOIN(block, FORM)(run, first, channel, MOST_VECTORS);
    for (; channel < run->plan->padded; channel += WORDS) FORM_JOIN(block, FORM)(run, first, channel, 1);
  }
}

#undef FORM_JOIN
#undef FORM_JOIN_
#undef FORM
#undef TARGET
#undef MADD
