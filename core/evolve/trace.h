/* An integer network run layer by layer over one set of images: every tensor over all images, kept from the layer that
 * makes it to the last that needs it, so that a layer can be looked at, changed and run again. */
#ifndef QE_EVOLVE_TRACE_H
#define QE_EVOLVE_TRACE_H

#include "core/dispatch/dispatch.h"
#include "core/dispatch/network.h"

typedef struct qe_trace {
  qe_queue *queue;
  const qe_network *network;
  qe_buffer *pixels; /* u8 [images, H, W, C] */
  int32_t images;
  qe_buffer **tensor; /* [layers]; NULL: not made yet, or no more needed */
  int32_t *last;      /* [layers]: the last layer that needs the tensor */
} qe_trace;

/* `pixels` holds exactly `images` images; it and the network must outlive the trace. A convolution's input is kept
 * until the requantisers that read its sums have run. */
QE_CHECKED qe_status qe_trace_open(qe_trace *trace, qe_queue *queue, const qe_network *network, qe_buffer *pixels,
                                   int32_t images);
void qe_trace_close(qe_trace *trace); /* of zeros is fine */

/* Run layer `at` with the network's present constants; its inputs have run. Again is fine. Returns when it is done. */
QE_CHECKED qe_status qe_trace_run(qe_trace *trace, int32_t at);
/* Free the tensors that no layer behind `at` needs. */
void qe_trace_forget(qe_trace *trace, int32_t at);
/* The shape of a tensor over all images. */
qe_desc qe_trace_desc(const qe_trace *trace, int32_t at);
/* The input of a convolution as its op sees it: flattened where the window takes the whole map. */
qe_desc qe_trace_input_desc(const qe_trace *trace, const qe_network_layer *layer);

/* One call of an op, bound, run and waited for. */
QE_CHECKED qe_status qe_trace_call(qe_queue *queue, qe_call *call);
/* A buffer with a copy of host memory. */
QE_CHECKED qe_status qe_trace_upload(qe_queue *queue, const void *data, size_t bytes, qe_buffer **buffer);

/* A requantiser that is not the network's own: layer `at`'s branches by other constants into other memory. */
typedef struct qe_trace_requant {
  const int32_t *multiplier[2]; /* [C] of each branch */
  const int64_t *offset;        /* [C] */
  qe_requant requant;           /* narrow, shared and from are set here */
} qe_trace_requant;
QE_CHECKED qe_status qe_trace_requantise(qe_queue *queue, int branches, const qe_desc desc[2],
                                         qe_buffer *const value[2], const qe_trace_requant *how, qe_buffer *result);

#endif
