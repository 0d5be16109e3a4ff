/* Genomes: what evolves of an integer network, packed. The codes of every evolved layer at its bits, layer after layer,
 * and, where asked for, requantisers' multipliers (s32) and offsets (s64), little-endian; each part starts on a
 * multiple of 8 bytes. */
#ifndef QE_DISPATCH_GENOME_H
#define QE_DISPATCH_GENOME_H

#include "core/dispatch/network.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qe_gene_kind { QE_GENE_WEIGHT, QE_GENE_MULTIPLIER, QE_GENE_OFFSET } qe_gene_kind;

typedef struct qe_gene {
  qe_gene_kind kind;
  int32_t layer;        /* of the network */
  int32_t branch;       /* multipliers: which */
  int64_t count;        /* values */
  qe_code_grid grid;    /* weights */
  size_t offset, bytes; /* in the genome */
} qe_gene;

typedef struct qe_genome_layout {
  qe_gene *gene; /* in the order of the layers */
  size_t genes, capacity;
  size_t bytes; /* of a genome, a multiple of 8 */
} qe_genome_layout;

/* `evolves` [layers]: whether a layer's weights (int_conv2d) or its multipliers and offsets (requantisers) are part of
 * the genome; NULL: the weights of every layer, no requantiser. QE_USAGE when a layer has nothing that evolves. */
QE_CHECKED qe_status qe_genome_layout_new(const qe_network *network, const bool *evolves, qe_genome_layout **layout);
void qe_genome_layout_free(qe_genome_layout *layout); /* NULL is fine */

/* The network's own values as a genome of layout->bytes bytes. */
void qe_genome_from_network(const qe_genome_layout *layout, const qe_network *network, void *genome);
/* A genome's values into the network; QE_FORMAT with layer and index where a field is no code of its grid. The proven
 * ranges of the layers behind are made anew. */
QE_CHECKED qe_status qe_genome_to_network(const qe_genome_layout *layout, const void *genome, qe_network *network);
/* What qe_genome_to_network refuses, changing nothing. `genome` starts on a multiple of 8 bytes. */
QE_CHECKED qe_status qe_genome_check(const qe_genome_layout *layout, const qe_network *network, const void *genome);

/* Largest magnitude of a tensor's values whatever codes the genes before it hold. */
int64_t qe_genome_reach(const qe_genome_layout *layout, const qe_network *network, int32_t tensor);
/* What the sums of a requantiser fit for all such values, with the genome's multipliers and offsets where it has some
 * (genome NULL: with the network's). */
qe_sum_width qe_genome_width(const qe_genome_layout *layout, const qe_network *network, const void *genome,
                             int32_t layer);

/* One gene's codes, s8 [count]. QE_FORMAT as above. */
QE_CHECKED qe_status qe_genome_codes(const qe_gene *gene, const void *genome, int8_t *codes);
/* The first layer in which two genomes differ; the number of layers when they are equal. */
int32_t qe_genome_first_difference(const qe_genome_layout *layout, const void *a, const void *b, size_t layers);

#ifdef __cplusplus
}
#endif
#endif
