/* Stage `eda`: a genome's weights as variables. */
#include "core/base/alloc.h"
#include "core/evolve/eda_parts.h"

/* The number of each layer's unit: itself, or of its residual block. A block ends where a skip connection meets. */
static void number_units(const qe_network *network, qe_eda_grouping grouping, uint16_t *unit) {
  uint16_t block = 0;
  for (size_t i = 0; i < network->layers; i++) {
    unit[i] = grouping == QE_EDA_BY_LAYER ? (uint16_t)i : block;
    if (grouping == QE_EDA_BY_BLOCK && network->layer[i].op == QE_OP_int_requant_add) block++;
  }
}

static void place_gene(const qe_gene *gene, uint16_t unit, qe_eda_place *place) {
  for (int64_t i = 0; i < gene->count; i++) {
    int64_t bit = i * gene->grid.bits;
    place[i] =
        (qe_eda_place){(uint32_t)((int64_t)gene->offset + bit / 8), (uint8_t)(bit % 8), (uint8_t)gene->grid.bits, unit};
  }
}

static qe_status fill(const qe_genome_layout *layout, const uint16_t *unit, qe_eda_variables *variables) {
  variables->start = QE_NEW_ARRAY(int64_t, layout->genes + 1);
  if (!variables->start) return QE_NO_MEMORY;
  for (size_t g = 0; g < layout->genes; g++) {
    const qe_gene *gene = &layout->gene[g];
    variables->start[g + 1] = variables->start[g] + (gene->kind == QE_GENE_WEIGHT ? gene->count : 0);
  }
  variables->count = variables->start[layout->genes];
  if (variables->count == 0) return qe_fail(QE_USAGE, "eda: no weights evolve; let some layers' weights do so");
  variables->place = QE_NEW_ARRAY(qe_eda_place, variables->count);
  if (!variables->place) return QE_NO_MEMORY;
  for (size_t g = 0; g < layout->genes; g++)
    if (layout->gene[g].kind == QE_GENE_WEIGHT)
      place_gene(&layout->gene[g], unit[layout->gene[g].layer], variables->place + variables->start[g]);
  return QE_OK;
}

qe_status qe_eda_variables_new(const qe_network *network, const qe_genome_layout *layout, qe_eda_grouping grouping,
                               qe_eda_variables *variables) {
  if (network->layers > UINT16_MAX || layout->bytes > UINT32_MAX)
    return qe_fail(QE_USAGE, "eda: a network of %zu layers and %zu bytes is too large", network->layers, layout->bytes);
  uint16_t *unit = QE_NEW_ARRAY(uint16_t, network->layers);
  if (!unit) return QE_NO_MEMORY;
  if (grouping != QE_EDA_BY_NETWORK) number_units(network, grouping, unit);
  qe_status status = fill(layout, unit, variables);
  qe_free(unit);
  return status;
}

void qe_eda_variables_free(qe_eda_variables *variables) {
  qe_free(variables->place);
  qe_free(variables->start);
}

uint8_t qe_eda_get(const qe_eda_place *place, const uint8_t *genome) {
  uint32_t word = genome[place->byte];
  if (place->shift + place->bits > 8) word |= (uint32_t)genome[place->byte + 1] << 8;
  return (uint8_t)(word >> place->shift & ((1U << place->bits) - 1));
}

void qe_eda_put(const qe_eda_place *place, uint8_t *genome, uint8_t value) {
  uint32_t mask = ((1U << place->bits) - 1) << place->shift, field = (uint32_t)value << place->shift;
  uint8_t *at = genome + place->byte;
  at[0] = (uint8_t)((at[0] & ~mask) | field);
  if (mask > UINT8_MAX) at[1] = (uint8_t)((at[1] & ~(mask >> 8)) | field >> 8);
}
