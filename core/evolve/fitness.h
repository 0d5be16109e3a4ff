/* Fitness of candidates: genomes to losses on batches of training images, in exact integers, so that every backend and
 * any number of devices gives the same. */
#ifndef QE_EVOLVE_FITNESS_H
#define QE_EVOLVE_FITNESS_H

#include "core/data/dataset.h"
#include "core/dispatch/dispatch.h"
#include "core/dispatch/population.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qe_fitness_loss {
  QE_FITNESS_LABELS,  /* cross-entropy with the labels */
  QE_FITNESS_TEACHER, /* KL divergence from the teacher's distribution */
  QE_FITNESS_BOTH     /* the sum of both */
} qe_fitness_loss;

typedef struct qe_fitness_options {
  uint64_t seed;
  int32_t held_out;           /* training images kept apart, the classes in proportion; 0: none */
  int32_t pad;                /* augmented batches: pixels of padding for the random crop */
  bool flip;                  /* augmented batches: mirror half of the images */
  int32_t cutout;             /* augmented batches: side of the square that is cut out; 0: none */
  int32_t jitter[QE_JITTERS]; /* augmented batches: colours, in 256ths; see qe_attrs */
  int32_t mixup;              /* augmented batches: images mixed in pairs, alpha as for qe_mixup_init; 0: not */
  qe_fitness_loss loss;
  /* Of the loss with a teacher, T: both networks' logits / T, the divergence times T^2 (Hinton, Vinyals, Dean,
   * "Distilling the Knowledge in a Neural Network", 2015, section 2); 0 is 1. */
  int32_t temperature;
  const qe_network *teacher; /* NULL: none; else of the same images and classes */
  size_t memory;             /* as qe_population_options.memory */
} qe_fitness_options;

typedef enum qe_fitness_part {
  QE_FITNESS_TRAIN,   /* training images but the held-out ones */
  QE_FITNESS_HELD_OUT /* those; the whole training part where none are held out */
} qe_fitness_part;

enum { QE_MOST_TEMPERATURE = 64 };

/* Which images. The same (part, number, count, augmented) and seed are the same pixels everywhere. */
typedef struct qe_fitness_batch {
  qe_fitness_part part;
  uint64_t number; /* of the draw: images without repetition in one batch while there are enough */
  int32_t count;
  bool augmented;
} qe_fitness_batch;

typedef struct qe_fitness qe_fitness;

/* Devices, network, layout, data and teacher must outlive it. Candidates are shared out over the devices. network NULL:
 * none yet; qe_fitness_look needs none. */
QE_CHECKED qe_status qe_fitness_new(qe_device *const *device, int devices, const qe_network *network,
                                    const qe_genome_layout *layout, const qe_dataset *data,
                                    const qe_fitness_options *options, qe_fitness **fitness);
void qe_fitness_free(qe_fitness *fitness); /* NULL is fine */

/* From now on candidates are genomes of this layout over this network, or the network has other values than before:
 * images, teacher and the count of what was spent stay. Both must outlive the fitness or its next qe_fitness_use; after
 * a failure only qe_fitness_free and qe_fitness_use may follow. */
QE_CHECKED qe_status qe_fitness_use(qe_fitness *fitness, const qe_network *network, const qe_genome_layout *layout);

/* Images of a part. */
int32_t qe_fitness_images(const qe_fitness *fitness, qe_fitness_part part);

/* Losses (sum over the batch, Q16 bits) and right answers of `candidates` genomes, [candidates] each; hits may be NULL.
 * genomes NULL: the network as it was when the fitness was made or qe_fitness_use was called, one candidate. parent (or
 * NULL) and bound as in qe_population_call; a dropped candidate has loss QE_DROPPED and 0 hits. */
QE_CHECKED qe_status qe_fitness_run(qe_fitness *fitness, const qe_fitness_batch *batch, const void *genomes,
                                    int32_t candidates, const void *parent, int64_t bound, int64_t *loss,
                                    int64_t *hits);

/* The same, every loss in `parts` sums over equal parts of the batch's images (the last parts one less), [parts,
 * candidates]: what differences of losses are tested by. Nobody is dropped. */
QE_CHECKED qe_status qe_fitness_run_parts(qe_fitness *fitness, const qe_fitness_batch *batch, int32_t parts,
                                          const void *genomes, int32_t candidates, const void *parent, int64_t *loss);

/* A batch's images, for stages that run networks of their own on the first device. Valid until the next call with this
 * fitness. */
typedef struct qe_fitness_view {
  qe_queue *queue;
  qe_buffer *images; /* u8 [image_count, H, W, C], only to be read */
  int32_t image_count;
  const int32_t *index;   /* [count], in 0...image_count-1 */
  const int32_t *labels;  /* [count] */
  const int32_t *target;  /* [count, classes]: the teacher's distributions, Q16; NULL where the loss has no teacher */
  const int64_t *entropy; /* [count]: theirs, Q16 bits; NULL as above */
  int32_t temperature;
  int32_t count, classes;
  qe_fitness_loss loss;
} qe_fitness_view;
QE_CHECKED qe_status qe_fitness_look(qe_fitness *fitness, const qe_fitness_batch *batch, qe_fitness_view *view);
/* The loss of image i of the view with these logits, Q16 bits. */
int64_t qe_fitness_loss_of(const qe_fitness_view *view, int32_t i, const int32_t *logits);

/* Candidate-images evaluated so far: candidates times images of every run. */
int64_t qe_fitness_spent(const qe_fitness *fitness);
/* For a resumed run. */
void qe_fitness_set_spent(qe_fitness *fitness, int64_t spent);

#ifdef __cplusplus
}
#endif
#endif
