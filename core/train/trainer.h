/* The trainer: a model, a data set and a device; epochs of gradient steps, evaluation, and its whole state as tensors.
 *
 * Everything that a run depends on is a function of (seed, epoch, step), so a trainer restored from its state goes on
 * as if it had never stopped. */
#ifndef QE_TRAIN_TRAINER_H
#define QE_TRAIN_TRAINER_H

#include "core/data/dataset.h"
#include "core/dispatch/dispatch.h"
#include "core/dispatch/network.h"
#include "core/graph/lower.h"
#include "core/models/model.h"
#include "core/train/distill.h"
#include "core/train/gates.h"
#include "core/train/schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qe_optimizer { QE_OPTIMIZER_SGD, QE_OPTIMIZER_ADAM } qe_optimizer;

typedef struct qe_train_options {
  uint64_t seed;
  int32_t epochs, batch, eval_batch; /* images a step; images an evaluation step (0: chosen) */
  int32_t epochs_before;             /* of the phases before: order and augmentation go on behind them */
  int32_t accumulate;                /* batches a parameter update */
  qe_optimizer optimizer;
  qe_schedule schedule;
  double momentum, beta2, epsilon; /* SGD's momentum or Adam's beta 1; Adam's others */
  bool nesterov;
  double weight_decay; /* of weights only: batch norm, biases and steps are left alone */
  double clip_norm;    /* 0: off */
  double ema;          /* decay of the parameters' moving average; 0: off */
  bool ema_beside;     /* the moving average is kept, but the parameters themselves are the model */
  float smoothing;     /* label smoothing */
  int32_t pad;         /* random crop: zero padding; 0: off */
  bool flip;
  int32_t cutout;             /* side of the square that is cut out of each image; 0: off */
  double jitter[QE_JITTERS];  /* colour jitter, 0...1: factors are 1 - x ... 1 + x; 0: off */
  double mixup;               /* images are mixed in pairs, with shares from Beta(mixup, mixup); 0: off, at most 16 */
  int32_t held_out;           /* training images kept apart; 0: none */
  qe_gate_options gates;      /* stochastic precision */
  bool plain;                 /* train the float network of a quantised graph's parameters */
  qe_distill_options distill; /* a second network to learn from; `plain` trains without */
} qe_train_options;

qe_train_options qe_train_defaults(void);
/* QE_USAGE where an option is out of range, or the data are too few for them. */
QE_CHECKED qe_status qe_train_check(const qe_train_options *options, const qe_dataset *data);
/* The members of `lower` that augmentation has. */
void qe_train_augment(const qe_train_options *options, qe_lower_options *lower);

typedef struct qe_score {
  double loss; /* mean cross-entropy in nats; label smoothing counts while training */
  double top1; /* per cent; of mixed training images, each label that is found counts by its share */
  int64_t images;
} qe_score;

/* Of a training with a second network: means an image of this epoch so far. */
typedef struct qe_distill_score {
  qe_score twin;          /* of a twin that is trained, with the labels; images 0: there is none */
  double guidance, hints; /* losses between the networks, without their weights; below 0: there is none */
} qe_distill_score;

typedef struct qe_train_progress {
  int epoch, epochs;   /* from 1 */
  int64_t step, steps; /* batches done of this epoch */
  qe_score train;      /* of this epoch so far */
  qe_distill_score distill;
  double rate; /* learning rate */
  double gradient_norm;
  double images_per_second;
} qe_train_progress;

/* Called after every batch; anything but QE_OK ends the epoch there with that status (QE_INTERRUPTED: state is good).
 */
typedef qe_status (*qe_progress_function)(void *context, const qe_train_progress *progress);

typedef struct qe_trainer qe_trainer;

/* Model and data must outlive the trainer; the model's values are written by qe_trainer_download only. Unless
 * options.plain, steps that were never fitted are trained from where they are. */
QE_CHECKED qe_status qe_trainer_new(qe_device *device, qe_model *model, const qe_dataset *data,
                                    const qe_train_options *options, qe_trainer **trainer);
void qe_trainer_free(qe_trainer *trainer); /* NULL is fine */

/* Variants of the network: other graphs with the same parameters in the same places, as those of other bits are, that
 * take turns in training. `values` is the flat parameter vector, of which only the groups of steps and of what is not
 * trained hold values and count. */
typedef struct qe_train_variants {
  void *context;
  /* Before a batch of update `update` (counted from the training's first): the graph that it runs, valid until the next
   * call, with its own values in place of the model's. */
  qe_status (*enter)(void *context, int64_t update, float *values, const qe_graph **graph);
  /* After it, and the update if the batch was its last: back to the model's own values. */
  qe_status (*leave)(void *context, float *values);
  /* What is kept beside the model, with the trainer's state. */
  qe_status (*give)(void *context, qe_tensors *tensors);
  qe_status (*take)(void *context, const qe_tensors *tensors, const char *file);
} qe_train_variants;

/* From the next batch on. Steps have no momentum then: it would be another variant's. Not with options.ema or
 * options.gates. */
QE_CHECKED qe_status qe_trainer_vary(qe_trainer *trainer, const qe_train_variants *variants);

/* Train to the end of the current epoch. QE_DIVERGED names epoch, step and layer; parameters are those before the
 * step that diverged. */
QE_CHECKED qe_status qe_trainer_epoch(qe_trainer *trainer, qe_progress_function progress, void *context);
/* Epochs completed; batches done of the running one; batches of an epoch. */
int qe_trainer_epochs_done(const qe_trainer *trainer);
int64_t qe_trainer_steps_done(const qe_trainer *trainer);
int64_t qe_trainer_epoch_steps(const qe_trainer *trainer);
/* Stochastic precision: the portion of the network that is quantised in the next batch, in the mean; below 0: there is
 * none. */
double qe_trainer_quantised(const qe_trainer *trainer);

typedef enum qe_split_part { QE_PART_TEST, QE_PART_HELD_OUT, QE_PART_TRAIN } qe_split_part;

/* Loss and top-1 of the network on a part of the data, without augmentation, with running statistics. `averaged`: of
 * the moving average (options.ema). */
QE_CHECKED qe_status qe_trainer_evaluate(qe_trainer *trainer, qe_split_part part, bool averaged, qe_score *score);

/* The second network of options.distill, or NULL: its values are those that qe_trainer_download has brought. It belongs
 * to the trainer unless it came with the options. */
const qe_model *qe_trainer_twin(const qe_trainer *trainer);
/* Its score on the test images (`averaged`: of its moving average, where it has one). */
QE_CHECKED qe_status qe_trainer_evaluate_twin(qe_trainer *trainer, bool averaged, qe_score *score);

/* Copy the parameters (or their moving average) from the device into the model's values, and back; those of the twin
 * too. */
QE_CHECKED qe_status qe_trainer_download(qe_trainer *trainer, bool averaged);
QE_CHECKED qe_status qe_trainer_upload(qe_trainer *trainer);

/* Whole state (parameters, optimizer, average, position) added to / taken from tensors of a checkpoint. */
QE_CHECKED qe_status qe_trainer_give(qe_trainer *trainer, qe_tensors *tensors);
QE_CHECKED qe_status qe_trainer_take(qe_trainer *trainer, const qe_tensors *tensors, const char *file);

/* The steps of quantisers that have none yet, from weights and from the activations of the float network on one batch
 * of training images. Changes the model's values; call before training. */
QE_CHECKED qe_status qe_fit_steps(qe_device *device, qe_model *model, const qe_dataset *data, uint64_t seed);
/* The same from the activations of `from`, the network at other bits as it was trained with its quantisers, before they
 * are rounded. */
QE_CHECKED qe_status qe_refit_steps(qe_device *device, const qe_model *from, qe_model *model, const qe_dataset *data,
                                    uint64_t seed);

/* Evaluate a model on the test images without a trainer. `explain`: the program's plan is written there; may be NULL.
 */
QE_CHECKED qe_status qe_evaluate(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t batch,
                                 FILE *explain, qe_score *score);

/* The same of the float network of its parameters. */
QE_CHECKED qe_status qe_evaluate_plain(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t batch,
                                       qe_score *score);
/* The same on the training images that a training with these options (seed, held_out) holds out. */
QE_CHECKED qe_status qe_evaluate_held_out(qe_device *device, const qe_model *model, const qe_dataset *data,
                                          const qe_train_options *options, qe_score *score);

/* What a network says of an image: the class of its first largest logit, and that class's softmax probability. */
typedef struct qe_answer {
  int32_t predicted;
  float confidence;
} qe_answer;

/* The same with what the network says of each test image: `answers` [test images], or NULL. */
QE_CHECKED qe_status qe_evaluate_answers(qe_device *device, const qe_model *model, const qe_dataset *data,
                                         int32_t batch, FILE *explain, qe_answer *answers, qe_score *score);

/* The same of the model's integer network (core/graph/integer.h), exactly as it would run on small hardware. */
QE_CHECKED qe_status qe_evaluate_integer(qe_device *device, const qe_model *model, const qe_dataset *data,
                                         int32_t batch, FILE *explain, qe_score *score);
/* Of an integer network, wherever it comes from. QE_SHAPE when the data are not of its image size and classes. */
QE_CHECKED qe_status qe_evaluate_network(qe_device *device, const qe_network *network, const qe_dataset *data,
                                         int32_t batch, FILE *explain, qe_score *score);

QE_CHECKED qe_status qe_evaluate_network_answers(qe_device *device, const qe_network *network, const qe_dataset *data,
                                                 int32_t batch, FILE *explain, qe_answer *answers, qe_score *score);

/* QE_FORMAT when the network is not sound, QE_SHAPE when the data are not of its image size and classes. */
QE_CHECKED qe_status qe_network_fits(const qe_network *network, const qe_dataset *data);

typedef struct qe_twins {
  qe_score real, integer; /* the float network with fake quantisers, and its integer network */
  double agreement;       /* per cent of the test images for which both predict the same class */
} qe_twins;

/* A model evaluated both ways. */
QE_CHECKED qe_status qe_evaluate_twins(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t batch,
                                       qe_twins *twins);

void qe_trainer_explain(const qe_trainer *trainer, FILE *file);
/* Where a step's time goes: the programs of a step, on the batch last trained on, each profiled by `runs` runs (see
 * qe_program_profile). Parameters and running statistics are updated as often; the position stays. */
QE_CHECKED qe_status qe_trainer_profile(qe_trainer *trainer, int runs, FILE *file);
/* Bytes of device memory that the trainer holds. */
size_t qe_trainer_bytes(const qe_trainer *trainer);

#ifdef __cplusplus
}
#endif
#endif
