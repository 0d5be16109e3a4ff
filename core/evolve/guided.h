/* A walk along a student network, front to back, with a teacher beside it: at each requantiser that reads a
 * convolution's sums, both networks have made what meets there, and the student may be changed before it goes on. */
#ifndef QE_EVOLVE_GUIDED_H
#define QE_EVOLVE_GUIDED_H

#include "core/evolve/trace.h"

typedef struct qe_guided {
  qe_trace student, teacher; /* teacher.network NULL: there is none */
  qe_network *network;       /* the student's, to be changed */
} qe_guided;

/* Where the student stands: branch `branch` of requantiser `at` reads convolution `conv`; the teacher's are the
 * convolution of the same name and the requantiser that reads it. -1 without a teacher. */
typedef struct qe_guided_place {
  int32_t conv, at, branch;
  int32_t teacher_conv, teacher_at, teacher_branch;
} qe_guided_place;

/* May change the convolution's weights and the requantiser's constants; both are proven and the convolution is run
 * anew by the walk where *changed says that its weights are new. */
typedef qe_status (*qe_guided_visit)(void *context, qe_guided *walk, const qe_guided_place *place, bool *changed);

/* `teacher` may be NULL. `pixels`: u8 [images, H, W, C] on the queue's device. QE_USAGE with the layer's name where the
 * teacher has no convolution of that name and output shape. */
QE_CHECKED qe_status qe_guided_walk(qe_queue *queue, qe_network *student, const qe_network *teacher, qe_buffer *pixels,
                                    int32_t images, qe_guided_visit visit, void *context);

#endif
