/* What the benches of integer networks share: networks with random weights, their images, and evaluation on a device.
 */
#ifndef QE_TOOLS_BENCH_NETWORK_H
#define QE_TOOLS_BENCH_NETWORK_H

#include "core/data/dataset.h"
#include "core/dispatch/population.h"
#include "core/models/model.h"
#include "tools/bench.h"

enum { QE_BENCH_PICKS = 3 }; /* images that are compared with the reference: the first, the middle one, the last */

/* An integer network and the images that it is evaluated on: train_pixels of its data, all of them in order. */
typedef struct qe_bench_network {
  qe_model *model;
  qe_network *network;
  qe_dataset *data;
  int32_t *index; /* [images]: 0, 1, 2, ... */
  size_t memory;  /* of qe_population_options */
} qe_bench_network;

/* A chain of convolutions 3x3 with as many outputs as inputs, then pool and linear layer. */
typedef struct qe_bench_chain {
  int32_t layers, side, channels;
} qe_bench_chain;

/* A network of the zoo (`chain` NULL) or a chain, weights drawn at random, steps fitted to the activations. Its images
 * are pixels of `data`, a repetition of them where they do not suffice. `device` computes the float network once, on a
 * few images. */
QE_CHECKED qe_status qe_bench_network_new(qe_device *device, const char *model, const qe_bench_chain *chain,
                                          const qe_bits *bits, const qe_dataset *data, int32_t images,
                                          qe_bench_network **network);
void qe_bench_network_free(qe_bench_network *network); /* NULL is fine */

/* The network on a device, ready to be evaluated. */
typedef struct qe_bench_engine {
  const qe_bench_network *network;
  qe_queue *queue;
  qe_buffer *images;
  qe_population *population;
} qe_bench_engine;

QE_CHECKED qe_status qe_bench_engine_open(qe_device *device, const qe_bench_network *network,
                                          const qe_genome_layout *layout, qe_bench_engine *engine);
void qe_bench_engine_close(qe_bench_engine *engine);
/* A call on `count` images from image `first` on: the network as it is. */
qe_population_call qe_bench_call(const qe_bench_engine *engine, int64_t first, int64_t count);

/* Whether `logits` [images, classes] of the device are those of the reference, bit for bit, for some images of the
 * call; of candidate `candidate` when the call has genomes. Fills in row->parity and row->error. Logits that are the
 * same for two images are QE_DEVICE: such a network would hide faults. */
QE_CHECKED qe_status qe_bench_compare(const qe_bench_engine *ref, const qe_genome_layout *layout,
                                      const qe_population_call *call, int32_t candidate, const int32_t *logits,
                                      qe_bench_row *row);

/* --tune: has the device find and keep the numbers with which its kernels are fastest on at most this many of the
 * genomes and images; progress on stderr. Nothing else may be open on it. */
QE_CHECKED qe_status qe_bench_tune(qe_device *device, const qe_bench_network *network, const qe_genome_layout *layout,
                                   const void *genomes, int32_t candidates, int64_t images);

#endif
