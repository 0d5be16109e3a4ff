/* What the files on fitness share; nobody else includes this. */
#ifndef QE_EVOLVE_FITNESS_PARTS_H
#define QE_EVOLVE_FITNESS_PARTS_H

#include "core/data/mixup.h"
#include "core/evolve/fitness.h"

/* A device with the training images and what evaluates candidates on them. */
typedef struct qe_fitness_worker {
  qe_device *device;
  qe_queue *queue;
  qe_buffer *images;    /* u8 [train_images, H, W, C] */
  qe_buffer *augmented; /* of the present batch where that is augmented, else of one before; NULL: none yet */
  qe_buffer *unmixed;   /* the same before images were mixed; NULL where they are not */
  qe_buffer *draws;     /* what the op that augments reads: counter, indices; NULL: nothing yet */
  qe_population *population;
  int32_t *logits; /* [logit_capacity], for losses with a teacher */
  size_t logit_capacity;
  int64_t rate; /* candidate-images a second: by it candidates are shared out, never a result made */
} qe_fitness_worker;

/* The images of the batch that was run last. */
typedef struct qe_fitness_drawn {
  bool valid;
  qe_fitness_batch batch;
  uint64_t augment_seed;
  int32_t *index;         /* [count], of training images */
  int32_t *labels;        /* [count] */
  int32_t *row;           /* [count], 0, 1, 2, ...: the same images when they have been augmented */
  int32_t *other, *share; /* [count]: rows that others are mixed with, and the share that stays; NULL: no mixing */
  int32_t *target;        /* [count, classes]: the teacher's distribution, Q16; NULL without a teacher */
  int64_t *entropy;       /* [count]: of the targets, Q16 bits; NULL without a teacher */
  size_t capacity;        /* images */
} qe_fitness_drawn;

/* The teacher's distributions of training images as they are, kept. */
typedef struct qe_fitness_teacher {
  qe_population *population; /* on the first device; NULL: no teacher */
  int32_t *target;           /* [train_images, classes], Q16 */
  bool *known;               /* [train_images] */
  int32_t *missing;          /* [train_images] */
} qe_fitness_teacher;

struct qe_fitness {
  qe_fitness_options options;
  qe_mixup mixup; /* where options.mixup is not 0 */
  const qe_dataset *data;
  int32_t *part[2]; /* images of each part, indices of training images */
  int32_t images[2];
  int32_t *pool; /* [train_images], for drawing */
  qe_fitness_worker *worker;
  int workers;
  size_t genome_bytes;
  qe_fitness_teacher teacher;
  qe_fitness_drawn drawn;
  int64_t spent;
};

/* Make `drawn` the batch, its augmented images on every device, the teacher's distributions with it. */
QE_CHECKED qe_status qe_fitness_draw(qe_fitness *fitness, const qe_fitness_batch *batch);
void qe_fitness_drawn_free(qe_fitness_drawn *drawn);

QE_CHECKED qe_status qe_fitness_teacher_new(qe_fitness *fitness);
void qe_fitness_teacher_free(qe_fitness_teacher *teacher);
/* Fill drawn.target for the images drawn. */
QE_CHECKED qe_status qe_fitness_teach(qe_fitness *fitness);

/* The distribution 2^(z / 256 T) / sum of logits z in units of 2^-8 bits, Q16: not negative, the sum exactly 2^16. */
void qe_fitness_distribution(const int32_t *logits, int32_t classes, int32_t temperature, int32_t *target);
/* What such a distribution's cross-entropy cannot fall below, Q16 bits. */
int64_t qe_fitness_entropy(const int32_t *target, int32_t classes);
/* T^2 times the KL divergence of the logits' distribution at temperature T from the target, whose entropy is given;
 * Q16 bits, 0...2^31 - 1. */
int64_t qe_fitness_divergence(const int32_t *logits, const int32_t *target, int64_t entropy, int32_t classes,
                              int32_t temperature);

/* Candidates of one call that one worker evaluates. */
typedef struct qe_fitness_job {
  const qe_fitness *fitness;
  qe_fitness_worker *worker;
  const void *genomes, *parent;
  int32_t candidates;
  int32_t first, count; /* images of the batch drawn */
  int64_t bound;
  int64_t *loss, *hits;
} qe_fitness_job;

/* On the batch drawn. */
QE_CHECKED qe_status qe_fitness_evaluate(const qe_fitness_job *job);
/* The job's candidates shared out over all workers; results lie where the job says, in the candidates' order. */
QE_CHECKED qe_status qe_fitness_share(qe_fitness *fitness, const qe_fitness_job *job);

#endif
