/* A walk along a student network, front to back, with a teacher beside it: at each requantiser that reads a
 * convolution's sums, both networks have made what meets there, and the student may be changed before it goes on. */
#ifndef QE_EVOLVE_GUIDED_H
#define QE_EVOLVE_GUIDED_H

#include "core/evolve/trace.h"

typedef struct qe_guided {
  qe_trace student, teacher; /* teacher.network NULL: there is none */
  qe_network *network;       /* the student's, to be changed */
  int32_t teacher_next;      /* the teacher's first layer that has not run */
} qe_guided;

/* Where the student stands: branch `branch` of requantiser `at` reads convolution `conv`; the teacher's are the
 * convolution of the same name and the requantiser that reads it. -1 without a teacher. */
typedef struct qe_guided_place {
  int32_t conv, at, branch;
  int32_t teacher_conv, teacher_at, teacher_branch;
} qe_guided_place;

/* What is done on the way; any function may be NULL. */
typedef struct qe_guided_visitor {
  void *context;
  /* At each convolution's branch of a requantiser. May change the convolution's weights and the requantiser's
   * constants; both are proven anew, and the convolution is run again where *changed says that its weights are new. */
  qe_status (*branch)(void *context, qe_guided *walk, const qe_guided_place *place, bool *changed);
  /* At each requantiser when that is done, before it runs. May change its constants, and those of layers behind. */
  qe_status (*requantiser)(void *context, qe_guided *walk, int32_t at);
} qe_guided_visitor;

/* `teacher` may be NULL. `pixels`: u8 [images, H, W, C] on the queue's device. QE_USAGE with the layer's name where the
 * teacher has no convolution of that name and output shape. */
QE_CHECKED qe_status qe_guided_walk(qe_queue *queue, qe_network *student, const qe_network *teacher, qe_buffer *pixels,
                                    int32_t images, const qe_guided_visitor *visitor);

/* For visitors: the place of a requantiser's branch that is a convolution, and the teacher run up to (without) layer
 * `stop`, nothing undone where it is further. */
QE_CHECKED qe_status qe_guided_find(const qe_guided *walk, int32_t at, int32_t branch, qe_guided_place *place);
QE_CHECKED qe_status qe_guided_advance(qe_guided *walk, int32_t stop);
/* The first requantiser that reads a tensor, and by which branch; false: none. */
bool qe_guided_reader(const qe_network *network, int32_t tensor, int32_t *at, int32_t *branch);

#endif
