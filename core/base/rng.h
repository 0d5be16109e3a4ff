/* Philox-4x32-10 counter-based random numbers: the same draws on every backend, in any order, from any thread.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 * Header only and in the common subset of C and OpenCL C, so that kernels can compile the same text. */
#ifndef QE_BASE_RNG_H
#define QE_BASE_RNG_H

#ifndef QE_INLINE /* kernels_cl/platform.h has it for devices, and the integer types */
#include <stdint.h>
#define QE_INLINE static inline
#endif

typedef struct qe_philox {
  uint32_t word[4];
} qe_philox;

/* Streams: the third counter word says what a draw is for, so that no two purposes share one. */
enum {
  QE_STREAM_INIT = 1,        /* initial weights */
  QE_STREAM_SHUFFLE = 2,     /* order of the images in an epoch */
  QE_STREAM_AUGMENT = 3,     /* crop and flip of an image */
  QE_STREAM_SPLIT = 4,       /* held-out images */
  QE_STREAM_CROP = 5,        /* random-resized crop of an image */
  QE_STREAM_COLOUR = 6,      /* colour jitter of an image */
  QE_STREAM_CUTOUT = 7,      /* where an image is cut out */
  QE_STREAM_MIX = 8,         /* partner and share of a mixed image */
  QE_STREAM_TEST = 9,        /* drawn cases of the tests */
  QE_STREAM_GATE = 16,       /* gates of stochastic precision */
  QE_STREAM_SURFACE = 17,    /* directions of a loss surface: + which of the two */
  QE_STREAM_DESCENT = 24,    /* perturbed starts of a quadratic descent */
  QE_STREAM_BATCH = 40,      /* fitness batches: + qe_fitness_part */
  QE_STREAM_GENES = 44,      /* changes of genes that the gene stages propose */
  QE_STREAM_EDA_SAMPLE = 48, /* candidates of a generation's individuals */
  QE_STREAM_EDA_ORDER = 49,  /* order of equally confident variables */
  QE_STREAM_EDA_GROUP = 50,  /* order of a cycle's variables in its groups */
  QE_STREAM_CMA = 56,        /* steps of CMA-ES */
  QE_STREAM_CMA_RUN = 57,    /* where its next run starts, and how large it is */
  QE_STREAM_SEARCH = 58,     /* candidates of the other searchers */
  QE_STREAM_BITS = 62,       /* random bits of layers in training */
  QE_STREAM_PERTURB = 72,    /* noise on codes (int_perturb) */
  QE_STREAM_VOTES = 73,      /* what the stage votes draws */
  QE_STREAM_COUNTERS = 80,   /* start and rounding of counters */
  QE_STREAM_SCRATCH = 81,    /* noise and directions of a training from scratch */
  QE_STREAM_SHRINK = 82      /* rounding of counters that shrink */
};

QE_INLINE void qe_philox_mul(uint32_t a, uint32_t b, uint32_t *high, uint32_t *low) {
  uint64_t product = (uint64_t)a * b;
  *high = (uint32_t)(product >> 32);
  *low = (uint32_t)product;
}

/* Four 32-bit words for (seed, stream, index): key = seed, counter = (index, stream, 0). */
QE_INLINE qe_philox qe_philox_draw(uint64_t seed, uint32_t stream, uint64_t index) {
  uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
  uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = stream, c3 = 0;
  for (int round = 0; round < 10; round++) {
    uint32_t high0, low0, high1, low1;
    qe_philox_mul(0xD2511F53u, c0, &high0, &low0);
    qe_philox_mul(0xCD9E8D57u, c2, &high1, &low1);
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  qe_philox draw = {{c0, c1, c2, c3}};
  return draw;
}

/* Uniform integer in [0, bound) from one word, by multiply and shift; the bias is below bound / 2^32. */
QE_INLINE uint32_t qe_below(uint32_t word, uint32_t bound) {
  return (uint32_t)(((uint64_t)word * bound) >> 32);
}

/* Uniform real in (0, 1), exact: the middles of 2^23 intervals (24 bits and a half would round up to 1). */
QE_INLINE float qe_uniform(uint32_t word) {
  return ((float)(word >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

#endif
