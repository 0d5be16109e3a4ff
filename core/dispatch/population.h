/* Population evaluation: P candidates' genomes on N images give P losses and P hit counts.
 *
 * Sums are exact integers, so that chunks, threads, backends and their order change no result. A backend may have
 * engines for whole networks (qe_device_table.engines); elsewhere the network runs op by op as a program in which
 * candidates are the population axis. */
#ifndef QE_DISPATCH_POPULATION_H
#define QE_DISPATCH_POPULATION_H

#include "core/dispatch/backend.h"
#include "core/dispatch/genome.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_population qe_population;

typedef struct qe_population_options {
  size_t memory; /* bytes that it may take beside the images; 0: 1 GiB. More candidates and images run in chunks */
  /* NULL: of the backend's engines that take the network the one that is fastest on such calls (measured when they
   * first come), or op by op; else the name of one of its engines, or "op by op". */
  const char *engine;
  int32_t batch;          /* images at a time at most; 0: what suits the backend */
  int64_t (*clock)(void); /* nanoseconds, for that choice; NULL: the monotonic clock */
} qe_population_options;

/* What is evaluated on what. All arrays but `images` are the host's. */
typedef struct qe_population_call {
  const qe_buffer *images; /* u8 [image_count, H, W, C] on the device, as layer 0 has them */
  int32_t image_count;
  const int32_t *index;  /* [count], in 0...image_count-1 */
  const int32_t *labels; /* [count], of the images index[i] */
  int64_t count;         /* N */
  const void *genomes;   /* P genomes, one every layout->bytes; NULL: the network as it is, P = 1 */
  int32_t candidates;    /* P */
  /* A genome near to which the candidates lie, or NULL: layers before the first difference run once for all. */
  const void *parent;
  /* Candidates whose loss sum passes this are dropped; INT64_MAX: none. */
  int64_t bound;
} qe_population_call;

/* [P] each, the caller's. A dropped candidate has loss QE_DROPPED and 0 hits; which ones are dropped depends on their
 * whole loss alone, not on when it was seen. */
typedef struct qe_population_result {
  int64_t *loss;   /* sum over the images, Q16 bits */
  int64_t *hits;   /* right answers */
  int32_t *logits; /* NULL, or [P, N, classes] in units of 2^-8 bits; not filled for dropped candidates */
} qe_population_result;

#define QE_DROPPED INT64_MAX

/* `network` and `layout` (NULL: nothing evolves) must outlive the population. QE_NO_MEMORY when one candidate and one
 * image do not fit options->memory. Of options->engine: QE_NOT_FOUND when the backend has none of that name, QE_REFUSED
 * when that one does not take the network. */
QE_CHECKED qe_status qe_population_new(qe_queue *queue, const qe_network *network, const qe_genome_layout *layout,
                                       const qe_population_options *options, qe_population **population);
void qe_population_free(qe_population *population); /* NULL is fine */
/* Returns when the results are in place. QE_FORMAT for a genome that holds no code of the grid, QE_SHAPE for an index
 * or label out of range; nothing is then changed. */
QE_CHECKED qe_status qe_population_run(qe_population *population, const qe_population_call *call,
                                       const qe_population_result *result);

/* Networks without genomes on the same images, each a population of its own on one queue: result->loss[i] and hits[i]
 * are those that qe_population_run gives of population[i] for the call, which has no genomes and no bound;
 * result->logits is NULL. Where qe_population_joins says so of all, leading layers in which networks agree run once.
 * `reused` (or NULL): multiply-adds of an image, over all networks, that were not made because another had made them.
 */
QE_CHECKED qe_status qe_population_run_together(qe_population *const *population, int32_t count,
                                                const qe_population_call *call, const qe_population_result *result,
                                                int64_t *reused);
bool qe_population_joins(const qe_population *population);

/* Which engine ran the last call, or will run the first: the backend's name for it, or "op by op". */
const char *qe_population_engine(const qe_population *population);
/* What it does and with which kernels, for people; a line a layer. */
void qe_population_explain(const qe_population *population, FILE *file);

#ifdef __cplusplus
}
#endif
#endif
