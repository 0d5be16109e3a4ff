/* Steps of least squared error, for the start of quantisation-aware training and for fixed quantisers. */
#ifndef QE_TRAIN_FIT_STEP_H
#define QE_TRAIN_FIT_STEP_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The step s > 0 that minimises sum (x - s code(x))^2 over values, codes clamped to low...high (odd: odd codes only).
 * A search over the clipping range, then the alternation of Shin et al. 2020 (codes, then s = sum x code / sum code^2)
 * until it is stable. All values 0 (or below 0 on an unsigned grid): 1 / high. */
float qe_fit_step(const float *values, int64_t count, int32_t low, int32_t high, bool odd);
/* The largest magnitude lies on the outermost code. */
float qe_max_step(const float *values, int64_t count, int32_t high);

#ifdef __cplusplus
}
#endif
#endif
