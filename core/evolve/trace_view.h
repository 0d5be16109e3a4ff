/* Traces over images of a fitness batch. */
#ifndef QE_EVOLVE_TRACE_VIEW_H
#define QE_EVOLVE_TRACE_VIEW_H

#include "core/evolve/fitness.h"
#include "core/evolve/trace.h"

/* A trace of `count` images of the view from `first` on, their codes in place: layer 0 must not be run. To be closed
 * with qe_trace_close whatever is returned. */
QE_CHECKED qe_status qe_trace_open_view(qe_trace *trace, qe_queue *queue, const qe_network *network,
                                        const qe_fitness_view *view, int32_t first, int32_t count);
/* The Gram matrix of a convolution's input, which is in the trace: [K, K] as the op int_gram has it. */
QE_CHECKED qe_status qe_trace_gram(const qe_trace *trace, int32_t conv, int64_t *gram);
/* The sums of errors times inputs for a convolution's weights, as the op int_conv2d_grad_w has them; errors s8, of its
 * outputs, in host memory. */
QE_CHECKED qe_status qe_trace_votes(const qe_trace *trace, int32_t conv, const int8_t *error, int64_t *votes);

#endif
