/* What a requantiser on sums in lanes keeps of a layer, made by kernels_requant.c and used by kernels_epilogue.c. */
#ifndef QE_BACKENDS_CPU_EPILOGUE_H
#define QE_BACKENDS_CPU_EPILOGUE_H

#include "backends/cpu/kernels_isa.h"
#include "backends/cpu/lanes.h"

/* Ways to compute the same codes, the cheaper ones first. T stands for sum * m + second * n + offset. */
typedef enum epilogue_kind {
  EPILOGUE_STEP,   /* s16 sums, no second branch, 2 codes: one comparison */
  EPILOGUE_STEPS,  /* likewise, 3 or 4 codes: three comparisons */
  EPILOGUE_NARROW, /* s16 sums, s16 multipliers, T fits s32 */
  EPILOGUE_LIMBS,  /* s16 sums, multipliers of 31 bits in two halves, T fits s48 */
  EPILOGUE_HIGH,   /* s32 sums, shift of 32 and more: the high half of an s64 */
  EPILOGUE_MIDDLE, /* s32 sums, a smaller shift, T >> shift fits s32: 32 bits out of an s64 */
  EPILOGUE_ANY,    /* every legal requantiser, one value at a time */
  EPILOGUE_KINDS
} epilogue_kind;

/* What is added to the sums. */
typedef enum epilogue_branch {
  EPILOGUE_ALONE, /* nothing */
  EPILOGUE_CODES,
  EPILOGUE_SUMS, /* of the first branch's type, but for EPILOGUE_ANY */
  EPILOGUE_BRANCHES
} epilogue_branch;

enum { EPILOGUE_THRESHOLDS = 3 };

/* Constants of a channel, in order of use; [2]: of sum and second branch. Offsets hold what the centres, the codes'
 * zero and (but for EPILOGUE_ANY) the stored zero add; they are correct modulo the width of T, which is all it takes.
 */
typedef union epilogue_channel {
  struct {
    int32_t flip, threshold[EPILOGUE_THRESHOLDS]; /* two equal s16 each */
  } steps;
  struct {
    int16_t multiplier[2];
    int32_t offset;
  } narrow;
  struct {
    int16_t high[2], low[2];
    int32_t high_offset, low_offset;
  } limbs;
  struct {
    int32_t multiplier[2];
    int64_t offset;
  } wide;
} epilogue_channel;

typedef struct epilogue {
  epilogue_kind kind;
  epilogue_branch branch;
  cpu_sums sums, other;
  int32_t channels;
  int32_t shift;       /* that is left to do behind the kind's own */
  int32_t low, high;   /* codes */
  int32_t least, most; /* stored values, 0...255 */
  int32_t zero;
  bool logits;
  bool low_plain; /* no zero anywhere, shift >= 1, least 0: the coarser code in 4 instructions */
  int32_t low_shift, low_half, low_least, low_most, low_zero;
  /* `channels` of them and one more if odd. */
  _Alignas(16) epilogue_channel channel[];
} epilogue;

size_t CPU_NAME(requant_bytes)(int32_t channels);
void CPU_NAME(requant_prepare)(const cpu_requant_source *source, void *prepared);
const char *CPU_NAME(requant_kind)(const void *prepared);
void CPU_NAME(requant_run)(const cpu_requant_task *task);
/* `count` vectors of pairs, every `stride` bytes, to a packing of its own vector stride. Codes fit the packing. */
void CPU_NAME(pack_pairs)(const uint8_t *pairs, int64_t stride, int64_t count, cpu_packing packing, uint8_t *to,
                          int64_t vector);

#endif
