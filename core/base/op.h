/* Ops: identity, attributes, operands and shapes, all derived from core/ops.def. */
#ifndef QE_BASE_OP_H
#define QE_BASE_OP_H

#include "core/base/pack.h"
#include "core/base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qe_op {
#define QE_OP(name, ...) QE_OP_##name,
#include "core/ops.def"
#undef QE_OP
  QE_OPS
} qe_op;

/* Shape classes (first argument of a row) and operand kinds; core/base/op_shape.c says what each means. */
typedef enum qe_shape_class {
  QE_CLASS_ELEMENT,       /* any shape, all operands alike */
  QE_CLASS_CHANNEL,       /* a map and vectors over its channels */
  QE_CLASS_CONV,          /* attrs.window */
  QE_CLASS_LINEAR,        /* attrs.window.channels outputs; the map's H = W = 1 */
  QE_CLASS_POOL,          /* attrs.window, channels and groups unused */
  QE_CLASS_CONCAT,        /* attrs.other: channels of the second map, of the same height and width */
  QE_CLASS_SUBSAMPLE,     /* attrs.window.stride, attrs.pad_channels */
  QE_CLASS_QUANT,         /* attrs.quant */
  QE_CLASS_LOSS,          /* logits: a map with H = W = 1 */
  QE_CLASS_AUGMENT,       /* attrs.images; pad, flip, cutout, jitter: see the op */
  QE_CLASS_INT_CONV,      /* codes; attrs.window, attrs.population */
  QE_CLASS_REQUANT,       /* codes or sums; attrs.requant, attrs.population */
  QE_CLASS_INT_POOL,      /* codes; attrs.window */
  QE_CLASS_INT_SUBSAMPLE, /* codes; as QE_CLASS_SUBSAMPLE */
  QE_CLASS_INT_GATHER,    /* codes of images; attrs.images */
  QE_CLASS_INT_GRAM,      /* codes; attrs.window, one group, channels unused */
  QE_CLASS_INT_CONV_GRAD, /* codes; attrs.window, one group; attrs.requant.from: type of the errors, s8 or s32 */
  QE_CLASS_INT_CONV_BACK, /* s32; attrs.window, one group */
  QE_CLASS_INT_PAIR,      /* codes or s32; attrs.requant.from: type of the second; low and high: see the op */
  QE_CLASS_INT_NORM,      /* sums over channels; attrs.images: values a channel; attrs.requant.shift */
  QE_CLASS_INT_AUGMENT,   /* u8; as QE_CLASS_AUGMENT */
  QE_CLASS_INT_ERROR,     /* integer logits: s32, H = W = 1; attrs.requant.shift: fraction bits of the error, 0...7 */
  QE_CLASS_INT_LOSS,      /* integer logits: s32, H = W = 1 */
  QE_CLASS_PERTURB,       /* codes; attrs.noise */
  QE_CLASS_PACK,          /* s8 codes, [P, ...]; attrs.grid */
  QE_CLASSES
} qe_shape_class;

typedef enum qe_kind {
  QE_KIND_MAP,             /* f32, the principal operand's shape */
  QE_KIND_POSITIVE,        /* the same, values not negative */
  QE_KIND_RESULT,          /* f32, what the class makes of the map */
  QE_KIND_WEIGHT,          /* f32, [1, outputs, kernel h, kernel w, inputs of a group] */
  QE_KIND_OTHER,           /* f32, the second map of a pair */
  QE_KIND_CHANNEL,         /* f32, [1,1,1,1,C] */
  QE_KIND_VARIANCE,        /* f32, [1,1,1,1,C], not negative */
  QE_KIND_SHAPE,           /* a map of which only the shape is used; its memory is not read */
  QE_KIND_STEP,            /* f32, positive: [1,1,1,1,1], or [1,N,1,1,1] when attrs.quant.per_channel */
  QE_KIND_SCALAR,          /* f32, [1,1,1,1,1] */
  QE_KIND_SCALAR_POSITIVE, /* f32, [1,1,1,1,1], positive */
  QE_KIND_HYPER,           /* f32, [1,1,1,1,QE_HYPERS]: see enum qe_hyper */
  QE_KIND_ROW,             /* f32, [1,N,1,1,1] */
  QE_KIND_ROW_COUNT,       /* s32, [1,N,1,1,1] */
  QE_KIND_LABEL,           /* s32, [1,N,1,1,1], 0 <= label < C */
  QE_KIND_INDEX,           /* s32, [1,N,1,1,1], 0 <= index < attrs.images */
  QE_KIND_SHARE,           /* s32, [1,N,1,1,1], 0...QE_SHARE_ALL: 256ths */
  QE_KIND_GATE,            /* s32, [1,1,1,1,1], 0 or 1 */
  QE_KIND_IMAGES,          /* u8, [1,attrs.images,H,W,C] */
  QE_KIND_COUNTER,         /* s32, [1,1,1,1,4]: seed low, seed high, position low, position high */
  QE_KIND_CODES,           /* the principal operand itself, of its own integer type */
  QE_KIND_CODE_WEIGHT,     /* s8, [population, outputs, kernel h, kernel w, inputs of a group] */
  QE_KIND_SUMS,            /* s32, what the class makes of the codes */
  QE_KIND_CODE_RESULT,     /* codes of the same type, what the class makes of them */
  QE_KIND_BRANCH,          /* attrs.requant.from, [population or 1 (attrs.requant.shared), N,H,W,C] */
  QE_KIND_REQUANTISED,     /* attrs.requant.to, [population,N,H,W,C] */
  QE_KIND_MULTIPLIER,      /* s32, [population,1,1,1,C] */
  QE_KIND_OFFSET,          /* s64, [population,1,1,1,C] */
  QE_KIND_ERROR,           /* s8 or s32, what the class makes of the codes */
  QE_KIND_WEIGHT_SUMS,     /* s64, [1, outputs, kernel h, kernel w, inputs] */
  QE_KIND_GRAM,            /* s64, [1,K,1,1,K], K = kernel h * kernel w * inputs, in the order of a weight's axes */
  QE_KIND_CHANNEL_SUMS,    /* s64, [1,1,1,1,C] */
  QE_KIND_INT_ROW,         /* s32, [P,N,1,1,1] */
  QE_KIND_PACKED,          /* u8, [P,1,1,1,bytes of the packed codes of one candidate] */
  QE_KIND_NOISE,           /* s8, [1,N * draws or pairs of draws,H,W,attrs.noise.channels] */
  QE_KINDS
} qe_kind;

enum { QE_SHARE_ALL = 256, QE_JITTER_ALL = 256 };

/* Colour jitter, in the order in which it is applied. */
enum { QE_JITTER_BRIGHTNESS, QE_JITTER_CONTRAST, QE_JITTER_SATURATION, QE_JITTERS };

/* Hyper-parameters of the optimizer ops, in device memory so that a captured program need not change with them. */
enum qe_hyper {
  QE_HYPER_RATE,        /* learning rate */
  QE_HYPER_MOMENTUM,    /* SGD's momentum; Adam's beta 1 */
  QE_HYPER_BETA2,       /* Adam's beta 2 */
  QE_HYPER_EPSILON,     /* Adam's epsilon */
  QE_HYPER_DECAY,       /* weight decay: SGD's L2 term, AdamW's decoupled decay */
  QE_HYPER_NESTEROV,    /* 1: Nesterov momentum */
  QE_HYPER_CORRECTION1, /* Adam: 1 / (1 - beta1^t) */
  QE_HYPER_CORRECTION2, /* Adam: 1 / (1 - beta2^t) */
  QE_HYPER_CLIP,        /* largest gradient norm; 0: no clipping */
  QE_HYPER_AVERAGE,     /* decay of the exponential moving average */
  QE_HYPER_SPARE,
  QE_HYPERS
};

typedef struct qe_window {
  int32_t kernel[2], stride[2], dilation[2]; /* height, width */
  int32_t pad[4];                            /* top, left, bottom, right */
  int32_t groups;
  int32_t channels; /* output channels */
} qe_window;

typedef enum qe_step_grad {
  QE_STEP_FIXED, /* the step's gradient is 0 */
  QE_STEP_LSQ,   /* Esser et al., "Learned Step Size Quantization", 2020, eq. 3 */
  QE_STEP_PACT   /* Choi et al., "PACT", 2018, eq. 3, for the step: clip = step * high */
} qe_step_grad;

/* What a half-up quantiser adds before floor: the 2^-12 keeps exact halves up although step * code / step may come out
 * a few ulp low; codes on a grid of 2^-7 or coarser are not touched by it. */
#define QE_HALF_UP 0.500244140625f

/* A uniform quantiser; see cpu_ref/quant.c. */
typedef struct qe_quant {
  int32_t low, high;   /* codes */
  int32_t odd;         /* 1: only odd codes (DoReFa's grid) */
  int32_t round_up;    /* 1: halves up (QE_HALF_UP), as the integer requantiser does; 0: halves to even */
  int32_t step_shift;  /* the effective step is step * 2^-step_shift */
  int32_t per_channel; /* 1: a step for each index of axis N (a weight's output channel) */
  qe_step_grad step_grad;
  float grad_scale; /* factor of the step's gradient */
} qe_quant;

/* An integer requantiser: clamp((sum of branches * multipliers + offset) >> shift, low, high). */
typedef struct qe_requant {
  int32_t shift; /* 0...62, arithmetic */
  int32_t low, high;
  int32_t
      narrow; /* proven: multipliers fit s16; offset, every product and their sum fit s32; the shift is at most 31 */
  int32_t shared; /* 1: the second branch has P = 1, the same for all candidates */
  qe_dtype from;  /* type of the second branch */
  qe_dtype to;    /* type of the result */
} qe_requant;

/* Noise on codes; see cpu_ref/perturb.c. */
typedef struct qe_noise {
  int32_t draws;      /* results of an image; even where they are antithetic */
  int32_t antithetic; /* 1: draws come in pairs, the second with the first one's noise negated */
  int32_t chance;     /* 0...256: of 256 values as many are not zero, in the mean */
  int32_t size;       /* 1...255: what a value of 1 adds to the code */
  int32_t block[2];   /* rows and columns that share a value */
  int32_t channels;   /* with noise, the first ones; the others are copied */
  int32_t low, high;  /* clamp of the codes with noise */
} qe_noise;

/* The union of all attributes; an op reads those that its class and its reference name, the rest stay 0. */
typedef struct qe_attrs {
  qe_window window;
  qe_quant quant;
  qe_requant requant;
  qe_code_grid grid;          /* packing */
  qe_noise noise;             /* int_perturb */
  int32_t population;         /* integer ops: candidates; 0 means 1 */
  int32_t other;              /* concat, attention: channels of the second map */
  int32_t pad_channels[2];    /* subsample: zero channels before and after */
  int32_t images;             /* augment: images in the data set */
  int32_t pad, flip;          /* augment: zero pixels around for the random crop; 1: random horizontal flip */
  int32_t cutout;             /* augment: side of the square that is cut out; 0: none */
  int32_t jitter[QE_JITTERS]; /* augment: 0...QE_JITTER_ALL, how far factors may be from 1, in 256ths; all 0: none */
  float low, high;            /* clamp */
  float epsilon;              /* batch norm */
  float momentum;             /* batch norm: running = (1 - momentum) running + momentum batch */
  float smoothing;            /* label smoothing */
  float scale;                /* factor of the loss gradient */
  float temperature;          /* divergence of logits: they are divided by it; 0: by 1 */
} qe_attrs;

typedef enum qe_role { QE_READ, QE_UPDATE, QE_WRITE } qe_role;

enum { QE_MAX_OPERANDS = 8 };

enum qe_op_flags { QE_FLAG_INPLACE = 1, QE_FLAG_CHEAP = 2 };

typedef struct qe_operand_info {
  qe_role role;
  qe_kind kind;
  const char *name;
} qe_operand_info;

typedef struct qe_op_info {
  const char *name;
  qe_shape_class shape_class;
  int principal;
  double bound;
  unsigned flags;
  int operands;
  qe_operand_info operand[QE_MAX_OPERANDS];
} qe_op_info;

const qe_op_info *qe_op_get_info(qe_op op);
/* The op called `name`, or QE_OPS. */
qe_op qe_op_find(const char *name);

/* Descriptors of all operands from the principal operand's; desc has QE_MAX_OPERANDS places.
 * QE_SHAPE with the op's name and what does not fit. */
QE_CHECKED qe_status qe_op_shapes(qe_op op, const qe_attrs *attrs, const qe_desc *principal, qe_desc *desc);

/* Values of an s32 operand must be in 0...limit-1 (indices, labels, shares); 0: they may be any. */
int32_t qe_kind_limit(qe_kind kind, const qe_attrs *attrs, const qe_desc *principal);

/* Output extent of a window along axis 0 (height) or 1 (width); 0 when the window does not fit. */
int32_t qe_window_extent(const qe_window *window, int axis, int32_t input);

struct qe_buffer;

/* One operand of a call. */
typedef struct qe_operand {
  qe_desc desc;
  void *data;               /* host (or CUDA) address; NULL on devices whose memory has none */
  struct qe_buffer *buffer; /* the memory it lies in, and the bytes from its start */
  size_t offset;
  bool dead; /* written, but read by nobody after the claimed run: a fused kernel need not write it */
} qe_operand;

typedef struct qe_call {
  qe_op op;
  int operands;
  qe_attrs attrs;
  qe_operand operand[QE_MAX_OPERANDS];
} qe_call;

/* QE_OK when the call's operands are those that qe_op_shapes gives; else QE_SHAPE with the operand's name. */
QE_CHECKED qe_status qe_call_check(const qe_call *call);

/* The same for values with a limit, of a call whose operands lie in host memory: QE_SHAPE with operand, place and
 * value. */
QE_CHECKED qe_status qe_call_check_values(const qe_call *call);

enum { QE_CALL_TEXT = 640 };
/* One line: op, operand shapes and the attributes that are not 0, into text (QE_CALL_TEXT bytes). */
char *qe_call_text(const qe_call *call, char *text);

#ifdef __cplusplus
}
#endif
#endif
