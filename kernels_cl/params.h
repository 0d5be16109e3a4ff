/* Parameters that the host hands to kernels by value: one text for the host's C, OpenCL C and CUDA. Members are 4 bytes
 * each (qk_int, float) or qk_long in front, so that all three lay them out alike. */
#ifndef QK_PARAMS_H
#define QK_PARAMS_H

#if defined(__OPENCL_VERSION__)
typedef int qk_int;
typedef long qk_long;
#else
typedef int qk_int;
typedef long long qk_long;
#endif

/* Element-wise ops on `count` values. */
typedef struct qk_params_flat {
  qk_long count;
  qk_int parts; /* partial results of a launch before */
  qk_int unused;
} qk_params_flat;

/* Types of codes and sums that a kernel learns at run time. */
#define QK_TYPE_U8 0
#define QK_TYPE_S8 1
#define QK_TYPE_S32 2

#define QK_SHARE_ALL 256 /* mix: shares are 256ths */

/* Images by index: int_gather, augment, mix. */
typedef struct qk_params_images {
  qk_long each; /* values of an image */
  qk_int op, count, images;
  qk_int height, width, channels;
  qk_int pad, flip, cutout;
  qk_int jittered, jitter[3]; /* jittered: one of them is not 0 */
  qk_int unused;
} qk_params_images;

/* Requantisers; each: results of a candidate. The shared branches have those of one candidate only. */
typedef struct qk_params_requant {
  qk_long count, each;
  qk_int channels;
  qk_int unit; /* results of a work-item: 1, or 4 where all operands are aligned to it */
  qk_int v_type, u_type, y_type;
  qk_int v_shared, u_shared;
  qk_int shift, low, high, narrow;
} qk_params_requant;

typedef struct qk_params_int_loss {
  qk_long rows; /* candidates * images */
  qk_int op, images, classes;
  qk_int shift; /* int_softmax_error: fraction bits of the error */
} qk_params_int_loss;

/* Packed codes; each, bytes: of a candidate. A word is eight codes. */
typedef struct qk_params_pack {
  qk_long each, bytes, words, candidates;
  qk_int bits, low, spacing;
} qk_params_pack;

/* Noise on codes; parts: draws, or pairs of them, of an image; words: blocks of 8 noise values of one such part. */
typedef struct qk_params_perturb {
  qk_long count, words; /* count: of noise values and copied codes, of all parts */
  qk_int height, width, channels, noisy;
  qk_int block_h, block_w;
  qk_int parts, antithetic, chance, size;
  qk_int low, high, is_signed;
} qk_params_perturb;

typedef struct qk_params_concat {
  qk_long rows;
  qk_int a_channels, b_channels;
} qk_params_concat;

/* x is taken at every stride-th place, with zero channels around. */
typedef struct qk_params_subsample {
  qk_long count; /* of what is written */
  qk_int x_height, x_width, x_channels;
  qk_int y_height, y_width, y_channels;
  qk_int stride_h, stride_w, before;
} qk_params_subsample;

/* Windows over x [images, h, w, channels]; candidates are images, too. */
typedef struct qk_params_pool {
  qk_long count; /* of what is written */
  qk_int channels, x_height, x_width, y_height, y_width;
  qk_int kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
  qk_int type; /* of codes */
} qk_params_pool;

/* Convolution: the map x [images, x_height, x_width, groups * inputs], weights [groups * outputs, kernel_h, kernel_w,
 * inputs] and the map y; `inputs` and `outputs` are those of one group. */
typedef struct qk_params_conv {
  qk_long pixels; /* of the matrix product's rows: of y, or of x for the gradient of x */
  qk_long depth;  /* grad_w: pixels of y, which are summed over */
  qk_int slice;   /* grad_w: pixels of one partial sum */
  qk_int slices;
  qk_int x_height, x_width, y_height, y_width;
  qk_int groups, inputs, outputs;
  qk_int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
  qk_int candidates, x_shared; /* integer */
  qk_int type;                 /* integer: of x */
  qk_int aligned;              /* integer: x and the sums start on multiples of 16 bytes */
} qk_params_conv;

/* Convolution through columns: windows of `images` images, the channels of one group. */
typedef struct qk_params_columns {
  qk_int images, height, width, channels; /* the map; all its channels */
  qk_int first_channel, group_channels;   /* of the group */
  qk_int out_h, out_w;
  qk_int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
} qk_params_columns;

/* Sum of `parts` vectors of `count` values; `add`: and of what is there. */
typedef struct qk_params_parts {
  qk_long count;
  qk_int parts, add;
} qk_params_parts;

/* Sums over the pixels of y of rows times the codes of x's patch: of the patch itself, or of errors dy. */
typedef struct qk_params_outer {
  qk_long pixels, slice; /* of y; of one part */
  qk_int parts;
  qk_int rows, columns; /* of the result: codes of a patch or channels of dy; codes of a patch */
  qk_int channels, x_height, x_width, y_height, y_width;
  qk_int kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
  qk_int x_type, x_fours; /* fours: four codes are a word, at a multiple of 4 bytes */
  qk_int dy_type, dy_fours;
} qk_params_outer;

/* Two values of one shape. */
typedef struct qk_params_pair {
  qk_long count, slice; /* values; pixels of one part */
  qk_int channels, parts;
  qk_int a_type, b_type;
  qk_int low, high;
} qk_params_pair;

/* Constants of the derivative of a normalisation. */
typedef struct qk_params_norm {
  qk_int channels, values, shift;
} qk_params_norm;

/* ---- stages of whole networks; backends/portable/engine.h says what slots, units and the two layouts are ---- */

/* How a requantiser's sums are proven to fit: s64 only; s32; two of s32, one of them in units of 2^limb. */
#define QK_WIDE 0
#define QK_NARROW 1
#define QK_LIMBS 2

/* Pixels of a work-group of network_tile.cl, for 16, 32 and 64 channels; words of four codes that it has in local
 * memory at most. The initial values of numbers in tunables.def: the host asks portable_tuned. */
#ifndef QK_TILE_PIXELS_16
#define QK_TILE_PIXELS_16 128
#endif
#ifndef QK_TILE_PIXELS_32
#define QK_TILE_PIXELS_32 64
#endif
#ifndef QK_TILE_PIXELS_64
#define QK_TILE_PIXELS_64 64
#endif
#ifndef QK_BAND_PIXELS_16
#define QK_BAND_PIXELS_16 256
#endif
#ifndef QK_BAND_PIXELS_32
#define QK_BAND_PIXELS_32 256
#endif
#ifndef QK_BAND_PIXELS_64
#define QK_BAND_PIXELS_64 128
#endif
#ifndef QK_BAND_WORDS
#define QK_BAND_WORDS 4096
#endif
#define QK_TILE_BLOCK 4 /* pixels and channels of a work-item; of a band: twice as many pixels */

/* Codes of one tensor. Slots from `own` on read slot 0. */
typedef struct qk_net_map {
  qk_long slot;            /* bytes from a slot to the next */
  qk_int unit, row, pixel; /* bytes from one to the next */
  qk_int own;
  qk_int height, width, channels;
  qk_int bits, is_signed; /* of a stored code */
  qk_int present;         /* 0: there is no such tensor */
} qk_net_map;

/* What makes sums: a window over a map. */
typedef struct qk_net_source {
  qk_net_map map;
  qk_long weight_stride; /* bytes from a genome's weights to the next's; 0: all have the same */
  qk_int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
  qk_int inputs, outputs;    /* of a group; inputs 0: no weights, each channel by itself */
  qk_int bits, low, spacing; /* of the weights */
  qk_int run;                /* products whose sum fits 16 bits */
  /* Bands: rows of an image with what its windows reach, pixels of a row likewise, and of the largest band; groups of
   * eight inputs in local memory at a time. */
  qk_int band_height, band_width, band_pixels, band_groups;
} qk_net_source;

/* A stage for some slots: sums of one source or two, the requantiser, the skip connection, the coarser code. */
typedef struct qk_params_stage {
  qk_net_source source[2];
  qk_net_map skip, fine, coarse;
  qk_long m_stride, n_stride, offset_stride; /* bytes, as weight_stride */
  qk_long logits_slot;                       /* bytes */
  qk_int first_slot, slots, units, images;
  qk_int sources, logits; /* logits: s32 [slot, image, class] in the place of `fine` */
  qk_int height, width, channels;
  qk_int shift, low, high, sum_width, limb;
  qk_int coarse_shift, coarse_low, coarse_high;
} qk_params_stage;

/* Codes of a map moved: the largest of a window, or every stride-th with other channels before. */
typedef struct qk_params_move {
  qk_net_map from, to;
  qk_int first_slot, slots, units;
  qk_int largest;
  qk_int kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, before;
} qk_params_move;

typedef struct qk_params_net_gather {
  qk_net_map to;
  qk_int units, images;
} qk_params_net_gather;

/* Loss and hits of slots, added to s64 [genome, 2]. */
typedef struct qk_params_net_loss {
  qk_long logits_slot; /* bytes */
  qk_int first_slot, images, classes;
} qk_params_net_loss;

/* Packed weights of genomes to s16 [genome, outputs / block, weights of an output, block]. */
typedef struct qk_params_net_unpack {
  qk_long from_stride, to_stride; /* bytes from a genome to the next */
  qk_int genomes, outputs, each, block;
  qk_int bits, low, spacing;
} qk_params_net_unpack;

/* ---- chain.cl ---- */

enum {
  QK_BATCH = 4,   /* elements that a work-item takes through a chain at a time */
  QK_SLOTS = 4,   /* values of a chain that are kept on chip at a time */
  QK_STEPS = 8,   /* of a chain */
  QK_VECTORS = 5, /* operands of a step that are no maps */
  QK_BUFFERS = 6  /* that a chain's operands lie in */
};

enum {
  QK_STEP_CLAMP,
  QK_STEP_CLAMP_GRAD,
  QK_STEP_ADD,
  QK_STEP_BIAS_ADD,
  QK_STEP_CHANNEL_SUM,
  QK_STEP_BN_NORM,
  QK_STEP_BN_GRAD_SUMS,
  QK_STEP_BN_GRAD_X,
  QK_STEP_QUANT,
  QK_STEP_QUANT_GRAD,
  QK_STEP_ANY = -2
};

/* Frequent lists of steps that have a kernel of their own: X(kernel, then code and slots of six steps, or -1 and 0).
 * They are those of residual networks' training steps, forward and backward, and the most frequent single ops. */
#define QK_CHAINS(X)                                                                                                   \
  X(qk_chain_bn_quant, QK_STEP_BN_NORM, 0x10000, QK_STEP_QUANT, 0x1, -1, 0, -1, 0, -1, 0, -1, 0)                       \
  X(qk_chain_bn_quant_quant, QK_STEP_BN_NORM, 0x10000, QK_STEP_QUANT, 0x10001, QK_STEP_QUANT, 0x1, -1, 0, -1, 0, -1,   \
    0)                                                                                                                 \
  X(qk_chain_bn_add_quant, QK_STEP_BN_NORM, 0x10000, QK_STEP_ADD, 0x10001, QK_STEP_QUANT, 0x1, -1, 0, -1, 0, -1, 0)    \
  X(qk_chain_bn_add_quant_quant, QK_STEP_BN_NORM, 0x10000, QK_STEP_ADD, 0x10001, QK_STEP_QUANT, 0x10001,               \
    QK_STEP_QUANT, 0x1, -1, 0, -1, 0)                                                                                  \
  X(qk_chain_bn_clamp, QK_STEP_BN_NORM, 0x10000, QK_STEP_CLAMP, 0x1, -1, 0, -1, 0, -1, 0, -1, 0)                       \
  X(qk_chain_bn_add_clamp, QK_STEP_BN_NORM, 0x10000, QK_STEP_ADD, 0x10001, QK_STEP_CLAMP, 0x1, -1, 0, -1, 0, -1, 0)    \
  X(qk_chain_back_quant, QK_STEP_BN_NORM, 0x10020, QK_STEP_QUANT_GRAD, 0x10100, QK_STEP_BN_GRAD_SUMS, 0x201, -1, 0,    \
    -1, 0, -1, 0)                                                                                                      \
  X(qk_chain_back_add_quant, QK_STEP_BN_NORM, 0x10020, QK_STEP_ADD, 0x10001, QK_STEP_QUANT_GRAD, 0x10100,              \
    QK_STEP_BN_GRAD_SUMS, 0x201, -1, 0, -1, 0)                                                                         \
  X(qk_chain_back_fork_quant, QK_STEP_QUANT_GRAD, 0x10000, QK_STEP_ADD, 0x10100, QK_STEP_BN_NORM, 0x20030,             \
    QK_STEP_QUANT_GRAD, 0x10201, QK_STEP_BN_GRAD_SUMS, 0x301, -1, 0)                                                   \
  X(qk_chain_back_fork_add_quant, QK_STEP_QUANT_GRAD, 0x10000, QK_STEP_ADD, 0x10100, QK_STEP_BN_NORM, 0x20030,         \
    QK_STEP_ADD, 0x20002, QK_STEP_QUANT_GRAD, 0x10201, QK_STEP_BN_GRAD_SUMS, 0x301)                                    \
  X(qk_chain_back_clamp, QK_STEP_BN_NORM, 0x10020, QK_STEP_CLAMP_GRAD, 0x10100, QK_STEP_BN_GRAD_SUMS, 0x201, -1, 0,    \
    -1, 0, -1, 0)                                                                                                      \
  X(qk_chain_back_add_clamp, QK_STEP_BN_NORM, 0x10020, QK_STEP_ADD, 0x10001, QK_STEP_CLAMP_GRAD, 0x10100,              \
    QK_STEP_BN_GRAD_SUMS, 0x201, -1, 0, -1, 0)                                                                         \
  X(qk_chain_back_fork_clamp, QK_STEP_ADD, 0x10000, QK_STEP_BN_NORM, 0x20030, QK_STEP_CLAMP_GRAD, 0x10201,             \
    QK_STEP_BN_GRAD_SUMS, 0x301, -1, 0, -1, 0)                                                                         \
  X(qk_chain_back_fork_add_clamp, QK_STEP_ADD, 0x10000, QK_STEP_BN_NORM, 0x20030, QK_STEP_ADD, 0x20002,                \
    QK_STEP_CLAMP_GRAD, 0x10201, QK_STEP_BN_GRAD_SUMS, 0x301, -1, 0)                                                   \
  X(qk_chain_add, QK_STEP_ADD, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0)                                                   \
  X(qk_chain_quant, QK_STEP_QUANT, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0)                                               \
  X(qk_chain_quant_grad, QK_STEP_QUANT_GRAD, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0)                                     \
  X(qk_chain_bn_norm, QK_STEP_BN_NORM, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0)                                           \
  X(qk_chain_bn_grad_sums, QK_STEP_BN_GRAD_SUMS, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0)                                 \
  X(qk_chain_bn_grad_x, QK_STEP_BN_GRAD_X, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0)

/* Grids of codes and rules for the step's gradient, as cpu_ref/quant.c has them. */
enum { QK_GRID_UNIT, QK_GRID_UP, QK_GRID_ODD };
enum { QK_RULE_FIXED, QK_RULE_LSQ, QK_RULE_PACT };

/* A place in memory: the number of the buffer << 56, plus bytes from its start; -1: none. */
typedef struct qk_step {
  qk_long a, b, out; /* maps */
  qk_long vector[QK_VECTORS];
  qk_long gate; /* of a quantiser; -1: none, it is always on */
  float low, high;
  float factor;      /* 2^-step_shift of a quantiser, epsilon of a batch norm */
  qk_int code;       /* QK_STEP_... */
  qk_int grid, rule; /* quantisers */
  qk_int scalar;     /* quant_grad: which of the chain's scalar sums */
  qk_int slots;      /* four bits each, slot + 1 or 0: a from, a into, b from, b into, result into */
} qk_step;

typedef struct qk_params_chain {
  qk_step step[QK_STEPS];
  qk_long count, batches;
  qk_int steps, channels;
  qk_int width, rows;  /* of a work-group */
  qk_int tiles, parts; /* work-groups side by side over the channels, and one after the other */
  qk_int channel_sums, scalar_sums;
  float half_up; /* QE_HALF_UP */
  qk_int unused;
} qk_params_chain;

typedef struct qk_params_chain_end {
  qk_long channel[2], var, scalar[2]; /* places; var: the first channel sum is multiplied by 1 / sqrt(var + epsilon) */
  float epsilon, factor[2];
  qk_int channels, width, parts, groups; /* groups: work-groups of the chain */
  qk_int channel_sums, channel_groups;
  qk_int unused;
} qk_params_chain_end;

/* ---- quant.cl ---- */

typedef struct qk_params_quant {
  qk_long steps, each;
  float low, high, factor; /* factor: 2^-step_shift */
  float grad_factor, half_up;
  qk_int grid, rule; /* QK_GRID_..., QK_RULE_... */
  qk_int unused;
} qk_params_quant;

/* ---- channel.cl ---- */

/* As in qk_params_chain. */
typedef struct qk_params_stats {
  qk_long count;
  qk_int channels, width, rows, tiles, parts;
  qk_int unused;
} qk_params_stats;

/* running = keep * running + take * batch; each factor as a float and what that lacks. */
typedef struct qk_params_running {
  qk_long count;
  float keep, keep_rest, take, take_rest, take_var, take_var_rest;
} qk_params_running;

typedef struct qk_params_stats_end {
  qk_params_running running; /* count 0: no running averages */
  qk_int channels, width, parts;
  qk_int unused;
} qk_params_stats_end;

/* ---- optimize.cl: enum qe_hyper ---- */

enum {
  QK_HYPER_RATE,
  QK_HYPER_MOMENTUM,
  QK_HYPER_BETA2,
  QK_HYPER_EPSILON,
  QK_HYPER_DECAY,
  QK_HYPER_NESTEROV,
  QK_HYPER_CORRECTION1,
  QK_HYPER_CORRECTION2,
  QK_HYPER_CLIP,
  QK_HYPER_AVERAGE
};

/* ---- loss.cl ---- */

typedef struct qk_params_loss {
  qk_long images;
  qk_int classes;
  qk_int team; /* work-items an image, a power of two */
  qk_int op;   /* enum qe_op, for faults */
  float smoothing, scale;
  qk_int unused;
} qk_params_loss;

/* ---- distill.cl ---- */

typedef struct qk_params_divergence {
  qk_long images;
  qk_int classes;
  float scale, temperature;
  qk_int unused;
} qk_params_divergence;

typedef struct qk_params_hint {
  qk_long images, pixels, count; /* pixels of an image; values: of an image of the first map, or all of them */
  qk_int channels[2];            /* of the two maps */
  float scale;
  qk_int unused;
} qk_params_hint;

/* Measured limits: rounds of eight chains in registers, or `count` words to copy. */
typedef struct qk_params_peak {
  qk_long count;
  qk_int rounds, seed;
} qk_params_peak;

#endif
