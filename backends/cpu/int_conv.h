/* What the integer convolution and its vectorised kernel share. */
#ifndef QE_BACKENDS_CPU_INT_CONV_H
#define QE_BACKENDS_CPU_INT_CONV_H

#include "core/base/op.h"

enum { CPU_INT_LANES = 16, CPU_INT_PIXELS = 4 };

typedef struct cpu_int_conv {
  int64_t outputs, padded; /* output channels of a group, and rounded up to CPU_INT_LANES */
  int32_t *turned;         /* weights [P][group][tap][input][padded] */
} cpu_int_conv;

/* Lines first...last-1 of the accumulators [P, N, H]. */
typedef void (*cpu_int_conv_kernel)(const qe_call *call, const cpu_int_conv *conv, int64_t first, int64_t last);

#endif
