/* What trainer.c, trainer_state.c and diagnose.c share; nobody else includes this. */
#ifndef QE_TRAIN_TRAINER_PARTS_H
#define QE_TRAIN_TRAINER_PARTS_H

#include "core/graph/hints.h"
#include "core/train/learner.h"
#include "core/train/session.h"

enum { QE_EVALS = 4 }; /* evaluation sessions: train or test store, plain or averaged parameters */

struct qe_trainer {
  qe_device *device;
  qe_queue *queue;
  qe_model *model;
  const qe_dataset *data;
  qe_train_options options;
  qe_learner own, twin; /* twin: of options.distill; one of zeros where it has no parameters of its own */
  qe_model *made;       /* the twin's model, where the options brought none */
  qe_image_store train_images, test_images;
  qe_session train, eval[QE_EVALS], twin_eval[2]; /* twin_eval: plain or averaged parameters */
  qe_gates *gates;                                /* of the training session; NULL: none */
  int32_t *kept, *held, *order; /* image numbers: trained on, held out, this epoch's order of places in `kept` */
  int32_t kept_count;
  int64_t epoch_steps, updates_total;
  qe_train_variants variants; /* enter NULL: none */
  const qe_graph *running;    /* that the session `train` was lowered from */
  float *varied;              /* the flat vector on the host, for the variants; NULL: none */
  /* position */
  int epoch;             /* completed */
  int64_t step, updates; /* batches done of the running epoch; parameter updates done in all */
  double loss_sum;       /* of the running epoch */
  int64_t hits;
  qe_twin_sums twin_sums;
  double rate, gradient_norm; /* of the last update */
};

/* Batch, augmentation and quantisers of the training session. */
qe_lower_options qe_trainer_lowering(const qe_trainer *trainer);

/* The session `train` of a graph, in place of the one that was there. */
QE_CHECKED qe_status qe_trainer_lower(qe_trainer *trainer, const qe_graph *graph);
/* Around a batch; nothing without variants. */
QE_CHECKED qe_status qe_trainer_enter(qe_trainer *trainer);
QE_CHECKED qe_status qe_trainer_leave(qe_trainer *trainer);

/* The mean loss of a batch above which training counts as diverged: 100 times that of guessing. */
double qe_trainer_loss_limit(const qe_trainer *trainer);

/* The session that evaluates on the test images, or on those of the training store (held-out ones too). Its memory is
 * only taken when first asked for. */
QE_CHECKED qe_status qe_trainer_eval_session(qe_trainer *trainer, bool test, bool averaged, qe_session **session);

/* ---- trainer_twin.c ---- */

/* The second network that the options ask for, if any. */
QE_CHECKED qe_status qe_trainer_new_twin(qe_trainer *trainer);
/* What the training program is to know of it; `hint` has QE_MOST_HINTS places, and both must outlive the lowering. */
QE_CHECKED qe_status qe_trainer_lower_twin(const qe_trainer *trainer, qe_lower_twin *twin, qe_hint *hint);
/* Whether its parameters are trained. */
bool qe_trainer_trains_twin(const qe_trainer *trainer);
/* Means over `images`. */
qe_distill_score qe_trainer_distill_score(const qe_trainer *trainer, int64_t images);

/* The squared gradient norm or the loss is not finite, or the loss above its limit: say where it began. Returns
 * QE_DIVERGED. */
qe_status qe_trainer_diagnose(qe_trainer *trainer, const int32_t *index, uint64_t position, double loss);

#endif
