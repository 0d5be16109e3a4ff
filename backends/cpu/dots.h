/* Integer convolutions, and their input gradients, by dot products of words of 32 bits: neighbouring channels of a
 * pixel, two as s16 or four as bytes, times the same channels of the weights of a vector of results. What the host's
 * part (dots.c) and the vectorised kernel share. */
#ifndef QE_BACKENDS_CPU_DOTS_H
#define QE_BACKENDS_CPU_DOTS_H

#include "core/base/op.h"

enum { CPU_DOTS_PIXELS = 8, CPU_DOTS_PADDING = 16, CPU_DOTS_WORD = 4 /* bytes */ };

typedef struct cpu_dots_map {
  int64_t height, width, channels;
} cpu_dots_map;

typedef struct cpu_dots {
  const qe_window *window;
  bool transposed; /* the source is the window's output, the result its input */
  cpu_dots_map source, result;
  qe_dtype type;  /* of the source: s8 or u8 */
  int members;    /* of a word: 2, or 4 with a source of u8 */
  int64_t words;  /* of a pixel of the source */
  int64_t padded; /* channels of the result, a multiple of CPU_DOTS_PADDING */
  int64_t left;   /* packed source: zero pixels before each line */
  int64_t line;   /* pixels of a packed line with its zeros before and behind */
} cpu_dots;

/* One image: `source` to `result`. weights: [tap][words][padded] words; room: [height][line][words] words. */
typedef struct cpu_dots_image {
  const void *source;
  const uint8_t *weights;
  int32_t *result;
  uint8_t *room;
} cpu_dots_image;

typedef struct cpu_dots_kernels {
  void (*run)(const cpu_dots *plan, const cpu_dots_image *image);
  bool (*has_bytes)(void); /* words of four bytes */
} cpu_dots_kernels;

#endif
