/* What a training will take, before it starts: memory by part, and time from a few steps on the device. */
#ifndef QE_TRAIN_PLAN_H
#define QE_TRAIN_PLAN_H

#include "core/train/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

#define QE_PLAN_PART_LIST(X)                                                                                           \
  X(DATA, "data")                                                                                                      \
  X(PARAMETERS, "parameters")                                                                                          \
  X(GRADIENTS, "gradients")                                                                                            \
  X(OPTIMIZER, "optimizer")                                                                                            \
  X(ACTIVATIONS, "activations")                                                                                        \
  X(EVALUATION, "evaluation")                                                                                          \
  X(CANDIDATES, "candidates")                                                                                          \
  X(CHECKPOINT, "checkpoint")

typedef enum qe_plan_part {
#define X(id, name) QE_PLAN_##id,
  QE_PLAN_PART_LIST(X)
#undef X
      QE_PLAN_PARTS
} qe_plan_part;

const char *qe_plan_part_name(qe_plan_part part);

/* A phase of a run: an epoch of it, or a candidate-image of a search. */
typedef struct qe_plan_phase {
  const char *name;                                  /* "float", "qat"; of a search its stages */
  size_t device[QE_PLAN_PARTS], host[QE_PLAN_PARTS]; /* bytes */
  int64_t epochs;                                    /* 0: a search */
  int64_t budget;                                    /* of a search, candidate-images; 0: none */
  double images_per_second;                          /* of training steps; of a search candidate-images; 0: not timed */
  double epoch_seconds;                              /* with evaluation */
  double seconds;                                    /* of the whole phase; 0: not known */
  int64_t timed;                                     /* steps, or candidate-images, that the times come from */
} qe_plan_phase;

enum { QE_PLAN_PHASES = 16 };

typedef struct qe_plan {
  qe_plan_phase phase[QE_PLAN_PHASES]; /* one after the other */
  int phases;
  bool host_memory; /* the device's memory is the host's */
  size_t other;     /* host bytes of program, libraries and their scratch memory: measured when the first was timed */
  size_t peak;      /* the most host bytes while all this was made: what comes before the phases is in it */
} qe_plan;

/* Makes a trainer as the phase will, times some steps at rate 0 and an evaluation (not on the reference backend, which
 * is slow), and appends the phase. The model's values stay as they are. Fails where the phase would: out of memory, for
 * one. */
QE_CHECKED qe_status qe_plan_training(qe_device *device, qe_model *model, const qe_dataset *data,
                                      const qe_train_options *options, const char *name, qe_plan *plan);

/* ---- for methods ---- */

/* Bytes of a data set in host memory. */
size_t qe_plan_data_bytes(const qe_dataset *data);
/* Bytes that this process has resident, and the most that it has had; 0 where the system does not tell. */
size_t qe_plan_resident(void);
size_t qe_plan_peak(void);
/* Bytes that a phase holds in host memory, checkpoints while they are written with it or not. */
size_t qe_plan_held(const qe_plan *plan, const qe_plan_phase *phase, bool checkpoint);
/* Whether steps are worth timing on it. */
bool qe_plan_is_timed(const qe_device *device);
double qe_plan_clock(void); /* seconds */

#ifdef __cplusplus
}
#endif
#endif
