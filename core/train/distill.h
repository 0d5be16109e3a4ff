/* Distillation: what a second network in the training program is, and how it and the network learn from each other. */
#ifndef QE_TRAIN_DISTILL_H
#define QE_TRAIN_DISTILL_H

#include "core/graph/lower.h"
#include "core/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define QE_DISTILL_LIST(X)                                                                                             \
  X(NONE, "none")                                                                                                      \
  X(FROZEN, "frozen")   /* a trained network that stays as it is */                                                    \
  X(JOINT, "joint")     /* one that is trained at the same time, and may learn from the network, too */                \
  X(SELF, "self")       /* the network itself with its quantisers off, on batch statistics of its own */               \
  X(AVERAGE, "average") /* the network's moving average */

typedef enum qe_distill {
#define X(id, name) QE_DISTILL_##id,
  QE_DISTILL_LIST(X)
#undef X
      QE_DISTILLS
} qe_distill;

typedef struct qe_distill_options {
  qe_distill mode;
  qe_guide loss;
  qe_hint_form hint;
  const char *hint_at; /* see qe_hints_find; NULL: "stages" */
  const char *teacher; /* frozen, joint: model file; NULL: the float network of the network's own parameters */
  qe_model *twin;      /* the same as a model, which then outlives the trainer; NULL: the trainer makes one */
#define QE_DISTILL_REAL(field, name, initial, least, most, help) double field;
#include "core/train/distill_options.def"
#undef QE_DISTILL_REAL
} qe_distill_options;

qe_distill_options qe_distill_defaults(void);
/* Names; NULL past the last. */
const char *qe_distill_name(qe_distill mode);
/* Whether the second network has parameters of its own. */
bool qe_distill_has_model(qe_distill mode);
QE_CHECKED qe_status qe_distill_check(const qe_distill_options *options);
/* Whether options->teacher, where the mode takes one, is the file of a model for the images and classes of `spec`. */
QE_CHECKED qe_status qe_distill_check_teacher(const qe_distill_options *options, const qe_model_spec *spec);

/* The second network for a model: of options->teacher or, where that is NULL, the model at full precision as it is now.
 * QE_SHAPE when a file's is of other images or classes. */
QE_CHECKED qe_status qe_twin_new(const qe_model *model, const qe_distill_options *options, qe_model **twin);

#ifdef __cplusplus
}
#endif
#endif
