/* Integer networks with images in vector lanes: what the engine, its kernels and its convolution forms share.
 *
 * A map of codes is a grid of vectors. A vector holds `lanes` images of 2 channels, u8: [image][2], 2 * lanes bytes; a
 * pixel is a run of vectors, one a pair of channels; around the pixels lies a ring that holds code 0. Each byte is
 * stored = code + zero, where `zero` is the map's own constant (0 for codes that are not negative). The missing partner
 * of an odd channel count holds code 0, and its weights are 0.
 *
 * Packings of a vector's 2 * lanes bytes:
 *   CPU_PAIRS     [lanes][2 channels] u8
 *   CPU_CRUMBS    2-bit codes: a byte's low nibble holds channels c (bits 0-1) and c + 1 (bits 2-3); a vector covers 4
 *                 channels: in each 32 bytes, 16 images of channels 0 and 1, then the same 16 images of channels 2 and
 * 3 CPU_BITS      1-bit codes: a byte's low nibble holds 4 channels; a vector covers 8, halves of each 32 bytes
 * likewise
 *
 * One image alone has its pixels in the lanes instead ("positions"): then a plane of padded rows is a run of bytes
 * [position][2] a pair of channels, and a vector is `lanes` positions that follow each other.
 *
 * Sums lie in scratch memory [rows][sites][outputs][lanes]: as s16, less the output's centre, images in order; or as
 * s32, in two vectors of lanes / 2: first the images 0-3 of every 8, then the images 4-7 (what unpacklo/unpackhi of s16
 * with 16-byte lanes give, and what packs undoes). A "site" is a vector of output: a pixel, or `lanes` positions. */
#ifndef QE_BACKENDS_CPU_LANES_H
#define QE_BACKENDS_CPU_LANES_H

#include "core/base/op.h"

enum { CPU_MAX_LANES = 32 };

typedef enum cpu_packing { CPU_PAIRS, CPU_CRUMBS, CPU_BITS, CPU_PACKINGS } cpu_packing;
typedef enum cpu_sums { CPU_SUMS_S16, CPU_SUMS_S32 } cpu_sums;

/* A convolution as the forms see it; the network's convolution, linear layer or flattened linear layer. */
typedef struct cpu_conv_shape {
  qe_window window;              /* window.channels: all output channels */
  int32_t height, width, inputs; /* of the map that is read, without ring; inputs: all channels */
  int32_t out_height, out_width;
  int32_t zero; /* stored value of code 0 */
  int32_t most; /* largest stored value; the least is 0 */
} cpu_conv_shape;

/* One run of a form: output rows that lie one below the other. All strides in bytes. */
typedef struct cpu_conv_task {
  const cpu_conv_shape *shape;
  const void *prepared;
  const uint8_t *in;                   /* the first vector of the first tap of the first site; its ring is readable */
  int64_t in_row, in_pixel, in_vector; /* from a tap's row, column or vector to the next */
  int64_t in_site, in_line;            /* from a site, or a row of sites, to the next */
  int32_t rows, sites;
  void *sums;
  void *scratch; /* scratch_bytes() of this thread, aligned to 64 */
} cpu_conv_task;

/* A way to compute sums. */
typedef struct cpu_form {
  const char *name;
  cpu_packing packing; /* of the map that is read */
  cpu_sums sums;
  int32_t rows;   /* output rows made at a time: out_height is a multiple of it where the form takes the shape */
  bool positions; /* can work on positions in the lanes too */
  /* Whether the shape and the range of stored values suit. The best form is chosen elsewhere. */
  bool (*takes)(const cpu_conv_shape *shape);
  size_t (*prepared_bytes)(const cpu_conv_shape *shape);
  size_t (*scratch_bytes)(const cpu_conv_shape *shape, int32_t sites);
  /* Weights [outputs, kernel h, kernel w, inputs of a group] s8 into `prepared` (64-byte aligned), and the centre of
   * each output (0 for s32 sums): sums + centre = sum of code * weight, exactly. False: these weights could overflow
   * this form's sums; another form must take them. */
  bool (*prepare)(const cpu_conv_shape *shape, const int8_t *weights, void *prepared, int32_t *centre);
  void (*run)(const cpu_conv_task *task);
} cpu_form;

/* ---- requantisers: sums to codes ---- */

typedef struct cpu_requant_source {
  qe_requant attrs; /* shift, low, high */
  int32_t channels;
  const int32_t *m, *n; /* multipliers of the sums and of the second branch; n NULL: no branch */
  const int64_t *offset;
  cpu_sums sums;
  const int32_t *centre;        /* of each channel; NULL: 0 */
  const int64_t *least, *most;  /* range of each channel's true sum */
  int32_t skip_zero, skip_most; /* stored values of a second branch of codes */
  bool other_is_sums;           /* the second branch is sums too, and these take the place of the two above */
  cpu_sums other;
  const int32_t *other_centre; /* NULL: 0 */
  const int64_t *other_least, *other_most;
  int32_t zero; /* of the map that is written */
  bool logits;  /* write s32 values rather than codes */
  /* A second, coarser code made from the first: (code + half) >> low_shift, clamped; low_shift < 0: none. */
  int32_t low_shift, low_least, low_most, low_zero;
} cpu_requant_source;

typedef struct cpu_lane_out {
  uint8_t *data;              /* of the first site; NULL: not written */
  int64_t site, line, vector; /* byte strides; vector: of this packing */
  cpu_packing packing;
} cpu_lane_out;

typedef struct cpu_requant_task {
  const void *prepared;
  const void *sums;
  int32_t rows, sites;
  const void *other;   /* sums of the second branch, laid out as `sums`; NULL unless source.other_is_sums */
  const uint8_t *skip; /* pairs of the first site; NULL: no second branch of codes */
  int64_t skip_site, skip_line, skip_vector;
  cpu_lane_out out[2]; /* the code; the coarser code */
  int32_t *logits;     /* s32 [rows * sites][channels][lanes], images in order; NULL unless source.logits */
} cpu_requant_task;

/* Kernels of one instruction set. */
typedef struct cpu_lane_kernels {
  const char *name;
  int32_t lanes;
  /* All that the machine can run, the faster ones first, the most general last; NULL ends the list. */
  const cpu_form *const *(*forms)(void);
  /* Requantiser: constants of a layer into `prepared` (64-byte aligned); what is fast enough for these ranges is found
   * here. */
  size_t (*requant_bytes)(int32_t channels);
  void (*requant_prepare)(const cpu_requant_source *source, void *prepared);
  void (*requant_run)(const cpu_requant_task *task);
  const char *(*requant_kind)(const void *prepared); /* step, steps, narrow, limbs, high, middle, any */
  /* Images u8 [H, W, C] at image[0...lanes-1] (NULL: a lane of code 0) into the pairs of a map whose pixel (0, 0) is at
   * `to`; stored = pixel, so zero is 128. */
  void (*gather)(const uint8_t *const *image, int32_t height, int32_t width, int32_t channels, uint8_t *to, int64_t row,
                 int64_t pixel, int64_t vector);
  /* Pooling windows and moves of shape->inputs channels of maps of pairs. The ring is code 0, which adds nothing to a
   * sum, and is the least of codes that are not negative: others must not be max-pooled with padding. */
  void (*sum_pool)(const cpu_conv_task *task); /* sums s32 of codes */
  void (*load)(const cpu_conv_task *task);     /* sums s16: the codes */
  void (*max_pool)(const cpu_conv_task *task, uint8_t *to, int64_t to_line, int64_t to_site, int64_t to_vector);
  /* The task's in_site and in_line hold the stride; pad_channels[2] channels of code 0 before and after. */
  void (*subsample)(const cpu_conv_task *task, const int32_t *pad_channels, uint8_t *to, int64_t to_line,
                    int64_t to_site, int64_t to_vector);
  /* Of logits [classes][lanes]: loss Q16 and hit [lanes], as qe_ref_int_loss; labels in 0...classes-1. */
  void (*loss)(const int32_t *logits, int32_t classes, const int32_t *labels, int32_t *loss, int32_t *hit);
} cpu_lane_kernels;

extern const cpu_lane_kernels cpu_lane_kernels_portable;
extern const cpu_lane_kernels cpu_lane_kernels_avx2; /* x86-64 */
extern const cpu_lane_kernels cpu_lane_kernels_avx512;

#endif
