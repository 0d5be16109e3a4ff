/* What trains one network: its parameters, gradients and optimizer state on the device, and the programs of an update.
 * A trainer has one, or two where a second network is trained beside it. */
#ifndef QE_TRAIN_LEARNER_H
#define QE_TRAIN_LEARNER_H

#include "core/train/trainer.h"

typedef struct qe_learner {
  qe_queue *queue;
  qe_model *model;
  const qe_train_options *options;
  size_t trained_bytes;                         /* of the flat vector: the groups that are trained; 0: none is */
  float *state;                                 /* the group that is not trained, as it was before the running step */
  float *zeros;                                 /* [trained_bytes]: what a sum of gradients starts from */
  float host_hyper[2 * QE_HYPERS], host_square; /* of transfers under way */
  qe_buffer *params, *gradients, *total, *momentum, *second, *average;
  qe_buffer *hyper;  /* [2][QE_HYPERS]: with weight decay, without */
  qe_buffer *square; /* f32 [1]: squared gradient norm */
  qe_program *norm, *update, *accumulate;
} qe_learner;

/* Queue, model and options must outlive it. Not `trained`: parameters only. To be freed whatever is returned. */
QE_CHECKED qe_status qe_learner_new(qe_queue *queue, qe_model *model, const qe_train_options *options, bool trained,
                                    qe_learner *learner);
void qe_learner_free(qe_learner *learner); /* one of zeros is fine; the queue has been waited for */

/* The model's values to the device, and what is there (or its moving average, where there is one) back. */
QE_CHECKED qe_status qe_learner_upload(qe_learner *learner);
QE_CHECKED qe_status qe_learner_download(qe_learner *learner, bool averaged);

/* Around a batch, on the queue: keep the running statistics; add its gradients up and, after the `last` of an update,
 * read their squared norm; put the statistics back. */
QE_CHECKED qe_status qe_learner_keep_state(qe_learner *learner);
QE_CHECKED qe_status qe_learner_gather(qe_learner *learner, bool last);
QE_CHECKED qe_status qe_learner_restore_state(qe_learner *learner);
/* One update, the one after `updates` others. Nothing waits: the next step's batch goes up while this runs, and its
 * failure shows at the next wait. */
QE_CHECKED qe_status qe_learner_update(qe_learner *learner, double rate, int64_t updates);

/* The whole state to and from the tensors of a checkpoint. */
QE_CHECKED qe_status qe_learner_give(qe_learner *learner, qe_tensors *tensors);
QE_CHECKED qe_status qe_learner_take(qe_learner *learner, const qe_tensors *tensors, const char *file);

size_t qe_learner_bytes(const qe_learner *learner);

#endif
