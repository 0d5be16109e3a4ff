/* One evaluation of a network or of candidates by an engine, and what must be the same for two engines. Whoever
 * includes this has defined CLASSES, IMAGES, COUNT and CANDIDATES. */
#ifndef QE_TESTS_EVALUATION_H
#define QE_TESTS_EVALUATION_H

#include "tests/population_draw.h"

typedef struct outcome {
  int64_t loss[CANDIDATES], hits[CANDIDATES];
  int32_t logits[CANDIDATES * COUNT * CLASSES];
  const char *engine; /* that ran */
} outcome;

typedef struct evaluation {
  const qe_network *network;
  const qe_genome_layout *layout; /* NULL: the network as it is */
  const uint8_t *genomes, *parent;
  int64_t count, bound;
  size_t memory;
  bool no_logits;
} evaluation;

/* `engine`: the one that must run, or the call is refused; NULL: of the backend's choice. */
static inline qe_status evaluate(qe_device *device, const evaluation *what, const images *on, const char *engine,
                                 outcome *to) {
  qe_queue *queue;
  qe_buffer *pixels;
  qe_population *population = NULL;
  qe_population_options options = {.memory = what->memory, .engine = engine};
  memset(to, 0, sizeof *to);
  OK(qe_queue_new(device, &queue));
  OK(images_upload(on, queue, &pixels));
  qe_status status = qe_population_new(queue, what->network, what->layout, &options, &population);
  if (status == QE_OK) to->engine = qe_population_engine(population);
  qe_population_call call = images_call(on, pixels, what->genomes, what->genomes ? CANDIDATES : 1);
  call.count = what->count;
  call.parent = what->parent;
  call.bound = what->bound;
  qe_population_result result = {to->loss, to->hits, what->no_logits ? NULL : to->logits};
  if (status == QE_OK) status = qe_population_run(population, &call, &result);
  qe_population_free(population);
  qe_buffer_free(pixels);
  qe_queue_free(queue);
  return status;
}

/* `number` and `where` are for the message. */
static inline void check_same(const outcome *got, const outcome *wanted, const qe_network *network, uint64_t number,
                              const char *where) {
  bool scores =
      memcmp(got->loss, wanted->loss, sizeof got->loss) == 0 && memcmp(got->hits, wanted->hits, sizeof got->hits) == 0;
  if (scores && memcmp(got->logits, wanted->logits, sizeof got->logits) == 0) return;
  qe_network_dump(network, stderr);
  fail_msg("network %llu on %s: loss %lld, must be %lld", (unsigned long long)number, where, (long long)got->loss[0],
           (long long)wanted->loss[0]);
}

/* Candidates whose loss is above the bound are dropped. */
static inline void check_bounded(const outcome *got, const outcome *wanted, int64_t bound) {
  for (int32_t p = 0; p < CANDIDATES; p++) {
    bool dropped = wanted->loss[p] > bound;
    assert_true(got->loss[p] == (dropped ? QE_DROPPED : wanted->loss[p]));
    assert_true(got->hits[p] == (dropped ? 0 : wanted->hits[p]));
  }
}

/* Multipliers and offsets a little smaller, or some weights drawn anew: all of them, if `all`. */
static inline void gene_change(draws *from, const qe_gene *gene, bool all, uint8_t *genome) {
  if (gene->kind == QE_GENE_MULTIPLIER) {
    int32_t *m = (int32_t *)(void *)(genome + gene->offset);
    for (int64_t i = 0; i < gene->count; i++) m[i] -= m[i] / 16;
    return;
  }
  if (gene->kind == QE_GENE_OFFSET) {
    int64_t *b = (int64_t *)(void *)(genome + gene->offset);
    for (int64_t i = 0; i < gene->count; i++) b[i] -= b[i] / 16;
    return;
  }
  codes_change(from, gene, all ? gene->count : 1 + gene->count / 50, genome + gene->offset);
}

/* Candidates near to the network's own genome: some genes changed, candidate 0 in all of them, candidate 1 in none. */
static inline uint8_t *genomes_draw(draws *from, const qe_network *network, const qe_genome_layout *layout) {
  uint8_t *genomes = qe_calloc(CANDIDATES, layout->bytes);
  assert_non_null(genomes);
  for (int32_t p = 0; p < CANDIDATES; p++) {
    uint8_t *genome = genomes + (size_t)p * layout->bytes;
    qe_genome_from_network(layout, network, genome);
    for (size_t g = 0; g < layout->genes; g++)
      if (p == 0 || (p > 1 && draw_range(from, 0, 2) == 0)) gene_change(from, &layout->gene[g], p == 0, genome);
  }
  return genomes;
}

#endif
