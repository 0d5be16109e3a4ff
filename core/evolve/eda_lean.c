/* Stage `eda`: what the teacher's weights, which have more bits, say about each code at the start. */
#include "core/base/alloc.h"
#include "core/base/wide.h"
#include "core/evolve/eda_parts.h"

#include <string.h>

static const qe_network_layer *twin_of(const qe_network *teacher, const qe_network_layer *layer) {
  for (size_t i = 0; i < teacher->layers; i++) {
    const qe_network_layer *other = &teacher->layer[i];
    if (other->weight && strcmp(other->name, layer->name) == 0 &&
        qe_same_shape(&other->weight_desc, &layer->weight_desc))
      return other;
  }
  return NULL;
}

/* A teacher's code is worth sum(codes * teacher's) / sum(teacher's^2) codes of the row, by least squares. */
static void lean_row(qe_eda_search *s, const qe_gene *gene, int64_t first, const int8_t *code, const int8_t *theirs,
                     int64_t count) {
  int64_t both = 0, square = 0;
  for (int64_t k = 0; k < count; k++) {
    both += code[k] * theirs[k];
    square += theirs[k] * theirs[k];
  }
  if (both <= 0) return;
  int64_t unit = square * gene->grid.spacing;
  for (int64_t k = 0; k < count; k++) {
    int64_t off = (int64_t)((qe_s128)(theirs[k] * both - code[k] * square) * QE_EDA_STEP / unit);
    int32_t lean = (int32_t)(off < -QE_EDA_STEP ? -QE_EDA_STEP : off > QE_EDA_STEP ? QE_EDA_STEP : off);
    qe_eda_lean(s->distribution, first + k, s->context[first + k], lean);
  }
}

qe_status qe_eda_lean_to(qe_eda_search *s, const qe_network *teacher) {
  const qe_evolution *evolution = s->evolution;
  for (size_t g = 0; g < evolution->layout->genes; g++) {
    const qe_gene *gene = &evolution->layout->gene[g];
    if (gene->kind != QE_GENE_WEIGHT) continue;
    const qe_network_layer *layer = &evolution->network->layer[gene->layer], *other = twin_of(teacher, layer);
    if (!other) continue;
    int8_t *codes = qe_alloc((size_t)gene->count);
    if (!codes) return QE_NO_MEMORY;
    qe_status status = qe_genome_codes(gene, evolution->genome, codes);
    int64_t rows = layer->weight_desc.dim[QE_N], each = gene->count / rows;
    for (int64_t o = 0; status == QE_OK && o < rows; o++)
      lean_row(s, gene, s->variables.start[g] + o * each, codes + o * each, other->weight + o * each, each);
    qe_free(codes);
    QE_TRY(status);
  }
  return QE_OK;
}
