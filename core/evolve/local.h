/* The local search: each convolution's codes and its requantiser against the teacher's values at the same place, with
 * the inputs that the layers before, already improved, give. One species an output channel; no candidate-image. */
#ifndef QE_EVOLVE_LOCAL_H
#define QE_EVOLVE_LOCAL_H

#include "core/evolve/evolution.h"

#ifdef __cplusplus
extern "C" {
#endif

/* local_options.def says what each is. */
typedef struct qe_local_options {
#define QE_LOCAL_INT(field, name, initial, least, most, help) int32_t field;
#define QE_LOCAL_FLAG(field, name, initial, help) bool field;
#include "core/evolve/local_options.def"
#undef QE_LOCAL_INT
#undef QE_LOCAL_FLAG
  uint64_t seed; /* of the perturbed starts */
} qe_local_options;

/* All parts on. */
qe_local_options qe_local_defaults(void);

/* A layer that is done. Errors: squared, a value, in 2^-2*QE_TARGET_BITS squares of the requantiser's codes. */
typedef struct qe_local_report {
  const char *layer;
  int64_t before, after;
  int64_t moved; /* codes that changed */
} qe_local_report;

typedef struct qe_local_events {
  void *context;
  qe_status (*layer)(void *context, const qe_local_report *report); /* may be NULL */
} qe_local_events;

/* Improve `network` in place. `pixels`: u8 [images, H, W, C] on the queue's device, as layer 0 has them. Layers of more
 * than one group keep their codes. QE_USAGE when the teacher is not of the same model. */
QE_CHECKED qe_status qe_local_search(qe_queue *queue, qe_network *network, const qe_network *teacher, qe_buffer *pixels,
                                     int32_t images, const qe_local_options *options, const qe_local_events *events);

/* The stages `local` and `calibrate`, on options->images training images that are not held out. A generation is a
 * layer, or the whole of it. No candidate-image is spent. `local` needs a teacher: QE_USAGE. */
QE_CHECKED qe_status qe_local_run(qe_evolution *evolution, const qe_local_options *options);
QE_CHECKED qe_status qe_calibrate_run(qe_evolution *evolution, const qe_local_options *options);

#ifdef __cplusplus
}
#endif
#endif
