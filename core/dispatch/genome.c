/* Genomes: their layout over a network, and their values in and out of it. */
#include "core/dispatch/genome.h"

#include "core/base/alloc.h"
#include "core/dispatch/network_parts.h"

#include <string.h>

enum { PART_ALIGNMENT = 8 };

/* ---- layout ---- */

static qe_status add_gene(qe_genome_layout *layout, qe_gene gene) {
  QE_TRY(qe_reserve(&layout->gene, &layout->capacity, layout->genes + 1, sizeof gene));
  gene.offset = layout->bytes;
  layout->gene[layout->genes++] = gene;
  layout->bytes += (gene.bytes + PART_ALIGNMENT - 1) / PART_ALIGNMENT * PART_ALIGNMENT;
  return QE_OK;
}

static qe_status add_layer(qe_genome_layout *layout, const qe_network_layer *layer, int32_t at) {
  if (layer->weight) {
    qe_gene gene = {.kind = QE_GENE_WEIGHT, .layer = at, .count = qe_count(&layer->weight_desc), .grid = layer->grid};
    gene.bytes = qe_packed_bytes(gene.count, gene.grid.bits);
    return add_gene(layout, gene);
  }
  if (!layer->offset)
    return qe_fail(QE_USAGE, "layer %s has neither weights nor multipliers: nothing evolves", layer->name);
  qe_gene gene = {.kind = QE_GENE_MULTIPLIER, .layer = at, .count = layer->output.dim[QE_C]};
  gene.bytes = (size_t)gene.count * sizeof(int32_t);
  for (; gene.branch < layer->inputs; gene.branch++) QE_TRY(add_gene(layout, gene));
  gene = (qe_gene){.kind = QE_GENE_OFFSET, .layer = at, .count = gene.count};
  gene.bytes = (size_t)gene.count * sizeof(int64_t);
  return add_gene(layout, gene);
}

static const qe_gene *find_gene(const qe_genome_layout *layout, int32_t layer, qe_gene_kind kind, int32_t branch) {
  for (size_t i = 0; i < layout->genes; i++) {
    const qe_gene *gene = &layout->gene[i];
    if (gene->layer == layer && gene->kind == kind && gene->branch == branch) return gene;
  }
  return NULL;
}

int64_t qe_genome_reach(const qe_genome_layout *layout, const qe_network *network, int32_t tensor) {
  const qe_network_layer *layer = &network->layer[tensor];
  const qe_gene *gene = find_gene(layout, tensor, QE_GENE_WEIGHT, 0);
  if (!gene) return qe_network_reach(network, (size_t)tensor);
  int64_t low = gene->grid.low, high = gene->grid.high, largest = -low > high ? -low : high;
  int64_t each = gene->count / layer->weight_desc.dim[QE_N];
  return each * largest * qe_network_reach(network, (size_t)layer->input[0]);
}

/* A requantiser that does not evolve must hold for all weights that may come before it. */
static qe_status check_fixed(const qe_genome_layout *layout, const qe_network *network, int32_t at) {
  const qe_network_layer *layer = &network->layer[at];
  if (!layer->offset || find_gene(layout, at, QE_GENE_OFFSET, 0)) return QE_OK;
  if (qe_genome_width(layout, network, NULL, at) != QE_SUM_OVERFLOWS) return QE_OK;
  return qe_fail(QE_REFUSED, "layer %s: with other weights before it, its sums could pass 64 bits", layer->name);
}

static qe_status fill_layout(qe_genome_layout *layout, const qe_network *network, const bool *evolves) {
  for (size_t i = 0; i < network->layers; i++)
    if (evolves ? evolves[i] : network->layer[i].weight != NULL)
      QE_TRY(add_layer(layout, &network->layer[i], (int32_t)i));
  for (size_t i = 0; i < network->layers; i++) QE_TRY(check_fixed(layout, network, (int32_t)i));
  return QE_OK;
}

qe_status qe_genome_layout_new(const qe_network *network, const bool *evolves, qe_genome_layout **out) {
  QE_TRY(qe_network_check(network));
  qe_genome_layout *layout = QE_NEW(qe_genome_layout);
  if (!layout) return QE_NO_MEMORY;
  qe_status status = fill_layout(layout, network, evolves);
  if (status == QE_OK)
    *out = layout;
  else
    qe_genome_layout_free(layout);
  return status;
}

void qe_genome_layout_free(qe_genome_layout *layout) {
  if (!layout) return;
  qe_free(layout->gene);
  qe_free(layout);
}

/* ---- values ---- */

static const char *part_of(const qe_gene *gene, const void *genome) {
  return (const char *)genome + gene->offset;
}

/* Where a gene's values lie in the network. */
static void *values_of(const qe_gene *gene, const qe_network *network) {
  const qe_network_layer *layer = &network->layer[gene->layer];
  if (gene->kind == QE_GENE_WEIGHT) return layer->weight;
  if (gene->kind == QE_GENE_MULTIPLIER) return layer->multiplier[gene->branch];
  return layer->offset;
}

void qe_genome_from_network(const qe_genome_layout *layout, const qe_network *network, void *genome) {
  memset(genome, 0, layout->bytes);
  for (size_t i = 0; i < layout->genes; i++) {
    const qe_gene *gene = &layout->gene[i];
    char *part = (char *)genome + gene->offset;
    if (gene->kind == QE_GENE_WEIGHT)
      qe_pack(&gene->grid, values_of(gene, network), gene->count, part);
    else
      memcpy(part, values_of(gene, network), gene->bytes);
  }
}

static qe_status check_fields(const qe_gene *gene, const void *genome) {
  int64_t bad = qe_packed_find_bad(&gene->grid, part_of(gene, genome), gene->count);
  if (bad < 0) return QE_OK;
  return qe_fail(QE_FORMAT, "genome, layer %d: weight %lld is no code of %d...%d in steps of %d", gene->layer,
                 (long long)bad, gene->grid.low, gene->grid.high, gene->grid.spacing);
}

qe_sum_width qe_genome_width(const qe_genome_layout *layout, const qe_network *network, const void *genome,
                             int32_t layer) {
  const qe_network_layer *at = &network->layer[layer];
  const int32_t *multiplier[2] = {at->multiplier[0], at->multiplier[1]};
  const int64_t *offset = at->offset;
  int64_t reach[2] = {0};
  const qe_gene *gene = genome ? find_gene(layout, layer, QE_GENE_OFFSET, 0) : NULL;
  if (gene) offset = (const int64_t *)(const void *)part_of(gene, genome);
  for (int b = 0; b < at->inputs; b++) {
    gene = genome ? find_gene(layout, layer, QE_GENE_MULTIPLIER, b) : NULL;
    if (gene) multiplier[b] = (const int32_t *)(const void *)part_of(gene, genome);
    reach[b] = qe_genome_reach(layout, network, at->input[b]);
  }
  return qe_requant_width(at, multiplier, offset, reach);
}

qe_status qe_genome_check(const qe_genome_layout *layout, const qe_network *network, const void *genome) {
  for (size_t i = 0; i < layout->genes; i++) {
    const qe_gene *gene = &layout->gene[i];
    if (gene->kind == QE_GENE_WEIGHT)
      QE_TRY(check_fields(gene, genome));
    else if (gene->kind == QE_GENE_OFFSET && qe_genome_width(layout, network, genome, gene->layer) == QE_SUM_OVERFLOWS)
      return qe_fail(QE_FORMAT, "genome, layer %d: its multipliers and offsets can pass 64 bits", gene->layer);
  }
  return QE_OK;
}

qe_status qe_genome_to_network(const qe_genome_layout *layout, const void *genome, qe_network *network) {
  QE_TRY(qe_genome_check(layout, network, genome));
  for (size_t i = 0; i < layout->genes; i++) {
    const qe_gene *gene = &layout->gene[i];
    if (gene->kind == QE_GENE_WEIGHT)
      qe_unpack(&gene->grid, part_of(gene, genome), gene->count, values_of(gene, network));
    else
      memcpy(values_of(gene, network), part_of(gene, genome), gene->bytes);
  }
  qe_network_prove(network);
  return QE_OK;
}

qe_status qe_genome_codes(const qe_gene *gene, const void *genome, int8_t *codes) {
  if (gene->kind != QE_GENE_WEIGHT) return qe_fail(QE_USAGE, "the gene of layer %d is no weight", gene->layer);
  QE_TRY(check_fields(gene, genome));
  qe_unpack(&gene->grid, part_of(gene, genome), gene->count, codes);
  return QE_OK;
}

int32_t qe_genome_first_difference(const qe_genome_layout *layout, const void *a, const void *b, size_t layers) {
  for (size_t i = 0; i < layout->genes; i++) {
    const qe_gene *gene = &layout->gene[i];
    if (memcmp(part_of(gene, a), part_of(gene, b), gene->bytes) != 0) return gene->layer;
  }
  return (int32_t)layers;
}
