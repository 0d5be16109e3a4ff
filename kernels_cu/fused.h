/* What host and device of the engine `fused` share: the plan of a network that one thread block evaluates in shared
 * memory. All offsets and strides are bytes. */
#ifndef QK_FUSED_H
#define QK_FUSED_H

#include "kernels_cl/params.h"

enum {
  QK_FUSED_STAGES = 82, /* at most: they are passed by value, in 32 KiB */
  QK_FUSED_CONVS = 2 * QK_FUSED_STAGES,
  QK_FUSED_WARPS = 4,  /* of a thread block */
  QK_FUSED_GROUP = 16, /* output channels that a warp makes at a time, and channels of a chunk */
  QK_FUSED_TILES = 4,  /* tiles of 16 positions that a warp makes at a time */
  QK_FUSED_TILE = 16,
  QK_FUSED_FEW_TILES = 2, /* the same where the requantiser is not the fast one */
  QK_FUSED_LANES = 32,
  QK_FUSED_WORD = 4,    /* channels of a word */
  QK_FUSED_AHEAD = 1536 /* bytes behind all weights that may be read: three steps */
};

typedef enum qk_fused_kind {
  QK_FUSED_GATHER,
  QK_FUSED_CONV,
  QK_FUSED_SUM_POOL,
  QK_FUSED_LOAD,
  QK_FUSED_MAX_POOL,
  QK_FUSED_SUBSAMPLE
} qk_fused_kind;

/* Flags of a source, */
enum {
  QK_FUSED_SIGNED = 1,     /* the codes are s8 */
  QK_FUSED_PIXELS = 2,     /* the map has one word a pixel */
  QK_FUSED_NIBBLES = 4,    /* weights in 4 bits; the sums are 16 times what they mean */
  QK_FUSED_OWN_WEIGHTS = 8 /* a candidate's own, not all candidates' */
};

/* and of a stage. */
enum {
  QK_FUSED_OWN_CONSTANTS = 16,
  QK_FUSED_FAST = 32, /* constants are scaled for the fast requantiser */
  QK_FUSED_SKIP = 64,
  QK_FUSED_SKIP_SIGNED = 128,
  QK_FUSED_OUT = 256,     /* the codes are stored in out[0] */
  QK_FUSED_COARSER = 512, /* coarser codes are stored in out[1] */
  QK_FUSED_LOGITS = 1024, /* the last stage */
  QK_FUSED_CLEAR = 2048,  /* ring of out[0] must be cleared for every image */
  QK_FUSED_CLEAR_COARSER = 4096,
  QK_FUSED_TWO = 8192,   /* sums of two convolutions meet */
  QK_FUSED_PLAIN = 16384 /* fast, with neither skip nor coarser codes, and a shift of just 32 */
};

/* How a convolution reads its input. */
typedef enum qk_fused_form {
  QK_FUSED_ANY, /* any window */
  /* 3x3, stride 1, not in order; rows of the input stay in registers for the three taps below each other: */
  QK_FUSED_SIXTEEN, /* 16 input channels, rows of 16 */
  QK_FUSED_COLUMNS  /* input channels a multiple of 32 */
} qk_fused_form;

/* In which tiles a convolution's output is made where the requantiser is the fast one: 4 at a time. */
typedef enum qk_fused_layout {
  QK_FUSED_IN_ORDER,   /* position by position */
  QK_FUSED_ROWS_OF_16, /* a tile is 16 positions of a row, the 4 lie below each other: width % 16 = 0, height % 4 = 0 */
  QK_FUSED_ROWS_OF_8   /* a tile is two rows: width 8, height % 8 = 0 */
} qk_fused_layout;

/* Codes of one image in shared memory, a byte each, 4 channels a word; a pixel has whole words. */
typedef struct qk_fused_map {
  qk_int origin; /* of pixel (0, 0) */
  qk_int row, pixel;
} qk_fused_map;

/* Pixels of code 0 around a map. */
typedef struct qk_fused_ring {
  qk_int height, width; /* of the map without it */
  qk_int ring[4];       /* top, left, bottom, right */
} qk_fused_ring;

/* Requantiser: y = clamp((v m + u n + b) >> shift, low, high), coarser = clamp((y + half) >> coarse_shift, ...).
 * Fast: y = high word of (v m + 256 u n + b) >> shift, clamped to 0...255 by the packing, then >> cut in each byte. */
typedef struct qk_fused_requant {
  qk_int shift, low, high;
  qk_int sums_shift[2]; /* what sums, and the other branch's, are to be shifted by before (not fast) */
  qk_int cut, mask;     /* fast */
  qk_int coarse_shift, coarse_half, coarse_low, coarse_high; /* not fast */
  qk_int coarse_times, coarse_plus, coarse_cut, coarse_mask; /* fast: (y times + plus), packed, then cut */
} qk_fused_requant;

/* What a stage reads; of convolutions also the weights. */
typedef struct qk_fused_source {
  qk_int flags;
  qk_fused_map map;    /* convolution: origin at the first window's corner, strides those of output positions */
  qk_int step;         /* PIXELS: from a pixel of the window to the next */
  qk_int steps, chunk; /* convolution: sums of 32 products, first entry in the chunk table */
  qk_int weights;      /* where they lie */
} qk_fused_source;

typedef struct qk_fused_stage {
  qk_int kind, form, layout, flags;
  qk_int height, width; /* of the output */
  qk_int words;         /* of an output pixel */
  /* 2^32 / n + 1 (n > 1) of width, tiles across, groups of 16 channels, words. */
  qk_int per_width, per_across, per_groups, per_words;
  qk_fused_source from[2];
  qk_int in_words, in_height, in_width;
  qk_int kernel[2], stride[2], pad[2]; /* pools, subsample */
  qk_int pad_channels, in_channels;    /* subsample */
  qk_int constants;                    /* where they lie; -1: there are none */
  qk_fused_requant requant;
  qk_fused_map out[2], skip;
  qk_int skip_words;
  qk_fused_ring ring[2];
} qk_fused_stage;

/* Constants of an output channel: m of the sums, n of the skip codes, b. */
typedef struct qk_fused_constants {
  qk_int m, n;
  qk_long b;
} qk_fused_constants;

typedef struct qk_params_fused {
  qk_long bound, own_stride, image_bytes;
  qk_int candidates, images, classes;                   /* images of this launch */
  qk_int item, items;                                   /* images of a work item, work items a candidate */
  qk_int stages, chunks;                                /* entries of the chunk table */
  qk_int constants;                                     /* channels of a stage at most */
  qk_int chunks_at, constants_at, logits_at, totals_at; /* in shared memory */
  qk_int want_logits, pad;
  qk_fused_stage stage[QK_FUSED_STAGES];
} qk_params_fused;

/* A convolution's weights: fields of a packed genome to B fragments. */
typedef struct qk_fused_weights {
  qk_int from, to;                  /* offset of the first field's byte in the genome, of the fragments in the target */
  qk_int bits, low, spacing;        /* of the grid */
  qk_int outputs, channels, groups; /* channels: inputs of one group */
  qk_int kernel[2];
  qk_int pixels;  /* 1: a chunk is 4 taps of a kernel row, one word each */
  qk_int steps;   /* of 32 products */
  qk_int place;   /* first entry in the list of places: which part of the window a chunk is */
  qk_int nibbles; /* 1: 4 bits a weight */
} qk_fused_weights;

/* Entry of that list: row, column and 16 channels of the window; negative: no part, weights 0. */
enum { QK_FUSED_PLACE_BITS = 10 };

typedef struct qk_params_fused_weights {
  qk_long from_stride, to_stride; /* from a candidate to the next */
  qk_fused_weights layer[QK_FUSED_CONVS];
} qk_params_fused_weights;

/* A requantiser's constants of a genome: s32 m[count], n[count] (from_n < 0: none), s64 b[count]. */
typedef struct qk_fused_genes {
  qk_int from_m, from_n, from_b, to, count;
} qk_fused_genes;

typedef struct qk_params_fused_constants {
  qk_long from_stride, to_stride;
  qk_fused_genes layer[QK_FUSED_STAGES];
} qk_params_fused_constants;

#endif
