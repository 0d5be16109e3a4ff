/* What the integer input gradient and its vectorised kernel share. Errors and weights are packed into words of two s16,
 * neighbouring output channels of one pixel. */
#ifndef QE_BACKENDS_CPU_GRAD_X_H
#define QE_BACKENDS_CPU_GRAD_X_H

#include "core/base/op.h"

enum { CPU_GRAD_X_PIXELS = 8, CPU_GRAD_X_PADDING = 16 };

typedef struct cpu_grad_x {
  int64_t pairs;          /* of output channels */
  int64_t padded;         /* input channels, a multiple of CPU_GRAD_X_PADDING */
  int64_t left, line;     /* packed errors: zero pixels before a line, pixels of a line with its zeros around it */
  const int16_t *weights; /* [tap][pairs][padded][2] */
} cpu_grad_x;

/* Image `image` of dx; `room` takes the packed errors of an image, [OH][line][pairs][2]. */
typedef void (*cpu_grad_x_kernel)(const qe_call *call, const cpu_grad_x *plan, int64_t image, int16_t *room);

#endif
