/* Constants of the engine `fused`: where weights and requantisers lie for the kernel, and in which form.
 *
 * The fast requantiser takes the high word of a 64-bit sum, so its constants are scaled by a power of two that makes
 * the shift at least 32; the factor 16 of weights in nibbles and the factor 256 of skip codes are part of that scale.
 * It is exact, and taken where all of it is proven to fit. */
#include "backends/cuda/fused.h"

#include <string.h>

enum {
  ALIGNED = 128,
  NIBBLE_SHIFT = 4, /* sums of weights in nibbles are 16 times what they mean */
  SKIP_SHIFT = 8,   /* skip codes are read as 256 times what they mean */
  WORD_BITS = 32,
  BYTE_BITS = 8
};

static size_t aligned(size_t bytes) {
  return (bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
}

static int64_t magnitude(int64_t value) {
  return value < 0 ? value == INT64_MIN ? INT64_MAX : -value : value;
}

/* ---- weights ---- */

static bool fits_nibbles(const fused_plan *plan, int32_t layer) {
  const qe_code_grid *grid = &plan->network->layer[layer].grid;
  return grid->low >= -8 && grid->high <= 7 &&
         qe_genome_reach(plan->layout, plan->network, layer) <= INT32_MAX >> NIBBLE_SHIFT;
}

static const qe_gene *find_gene(const fused_plan *plan, int32_t layer, qe_gene_kind kind, int32_t branch) {
  for (size_t g = 0; g < plan->layout->genes; g++) {
    const qe_gene *gene = &plan->layout->gene[g];
    if (gene->layer == layer && gene->kind == kind && gene->branch == branch) return gene;
  }
  return NULL;
}

/* Room in the candidate's own constants or the common ones. */
static qk_int take_room(fused_plan *plan, bool own, size_t bytes) {
  size_t *used = own ? &plan->own_bytes : &plan->common_bytes;
  size_t at = *used;
  *used += aligned(bytes);
  return (qk_int)at;
}

void fused_plan_weights(fused_plan *plan, const qe_stage_source *from, qk_int place, qk_fused_source *to) {
  const qe_network_layer *layer = &plan->network->layer[from->layer];
  const qe_gene *gene = find_gene(plan, from->layer, QE_GENE_WEIGHT, 0);
  bool nibbles = (to->flags & QK_FUSED_NIBBLES) != 0, own = gene != NULL;
  int32_t groups = (from->window.channels + QK_FUSED_GROUP - 1) / QK_FUSED_GROUP;
  if (own) to->flags |= QK_FUSED_OWN_WEIGHTS;
  to->weights = take_room(plan, own, (size_t)groups * (size_t)to->steps * QK_FUSED_LANES * (nibbles ? 8 : 16));
  qk_fused_weights weights = {.from = (qk_int)(own ? gene->offset : plan->packed_bytes),
                              .to = to->weights,
                              .bits = layer->grid.bits,
                              .low = layer->grid.low,
                              .spacing = layer->grid.spacing,
                              .outputs = from->window.channels,
                              .channels = plan->map[from->tensor].channels / from->window.groups,
                              .groups = from->window.groups,
                              .kernel = {from->window.kernel[0], from->window.kernel[1]},
                              .pixels = (to->flags & QK_FUSED_PIXELS) != 0,
                              .steps = to->steps,
                              .place = place,
                              .nibbles = nibbles};
  if (own) {
    plan->own_weights.layer[plan->own_layers++] = weights;
    return;
  }
  plan->common_weights.layer[plan->common_layers++] = weights;
  plan->packed_bytes += aligned(qe_packed_bytes(qe_count(&layer->weight_desc), layer->grid.bits));
}

/* ---- requantisers ---- */

/* Bits of a clamp to 0...2^bits - 1; 0 for any other. */
static int32_t code_bits(const qe_requant *requant) {
  if (requant->low != 0 || requant->to != QE_U8) return 0;
  for (int32_t bits = 1; bits <= BYTE_BITS; bits++)
    if (requant->high == (1 << bits) - 1) return bits;
  return 0;
}

static qk_int byte_mask(int32_t bits) {
  return (qk_int)(0x01010101U * ((1U << bits) - 1));
}

static const qe_requant *requant_of(const fused_plan *plan, int32_t layer) {
  return &plan->network->layer[layer].attrs.requant;
}

/* Coarser codes from values that no clamp has passed yet: the first clamp must not be seen through the second. */
static bool set_fast_coarser(const fused_plan *plan, const qe_stage *stage, int64_t most, qk_fused_requant *r) {
  if (stage->coarser == QE_NO_LAYER) return true;
  const qe_requant *coarser = requant_of(plan, stage->coarser);
  int32_t bits = code_bits(coarser), lift = BYTE_BITS - bits - coarser->shift;
  if (!bits || lift < 0 || r->cut) return false;
  if ((requant_of(plan, stage->requant)->high + r->coarse_half) >> coarser->shift < coarser->high) return false;
  if (most >= INT32_MAX >> (lift + 1) || most + r->coarse_half >= INT32_MAX >> (lift + 1)) return false;
  r->coarse_times = 1 << lift;
  r->coarse_plus = r->coarse_half << lift;
  r->coarse_cut = BYTE_BITS - bits;
  r->coarse_mask = byte_mask(bits);
  return true;
}

/* Scale of the fast requantiser's constants, as an exponent of 2; -1 where it does not take the stage. */
static int32_t fast_scale(const fused_plan *plan, const qe_stage *stage, int32_t sums_shift, qk_fused_requant *r) {
  const qe_network_layer *layer = &plan->network->layer[stage->requant];
  const qe_requant *requant = &layer->attrs.requant;
  bool skips = stage->skip != QE_NO_LAYER;
  int32_t bits = code_bits(requant), main = stage->sums_branch;
  if (stage->from[1].layer != QE_NO_LAYER || !bits || plan->evolves[stage->requant] ||
      (skips && plan->network->layer[stage->skip].output.dtype != QE_U8))
    return -1;
  r->cut = BYTE_BITS - bits;
  r->mask = byte_mask(bits);
  int32_t shift = requant->shift - r->cut, scale = sums_shift;
  if (skips && scale < SKIP_SHIFT) scale = SKIP_SHIFT;
  if (scale < WORD_BITS - shift) scale = WORD_BITS - shift;
  r->shift = shift + scale - WORD_BITS;
  if (shift < 0 || r->shift >= WORD_BITS) return -1;
  int64_t reach = qe_genome_reach(plan->layout, plan->network, stage->from[0].layer), most = 0;
  const int64_t most_factor = INT32_MAX; /* 64 bits: it is shifted by up to WORD_BITS */
  for (int32_t c = 0; c < layer->output.dim[QE_C]; c++) {
    int64_t m = magnitude(layer->multiplier[main][c]), n = skips ? magnitude(layer->multiplier[1 - main][c]) : 0;
    int64_t sum = reach * m + n * UINT8_MAX + magnitude(layer->offset[c]); /* proven to fit 64 bits */
    if (m > most_factor >> (scale - sums_shift) || (skips && n > most_factor >> (scale - SKIP_SHIFT))) return -1;
    if (scale > 60 || sum > INT64_MAX >> (scale + 1)) return -1;
    most = sum > most ? sum : most;
  }
  return set_fast_coarser(plan, stage, most >> shift, r) ? scale : -1;
}

static int32_t sums_shift_of(const qk_fused_source *from) {
  return from->flags & QK_FUSED_NIBBLES ? NIBBLE_SHIFT : 0;
}

static void set_requant(const fused_plan *plan, const qe_stage *stage, qk_fused_stage *to) {
  const qe_requant *requant = requant_of(plan, stage->requant);
  qk_fused_requant *r = &to->requant;
  *r = (qk_fused_requant){.shift = requant->shift, .low = requant->low, .high = requant->high};
  for (int k = 0; k < 2; k++) r->sums_shift[k] = sums_shift_of(&to->from[k]);
  if (stage->coarser != QE_NO_LAYER) {
    const qe_requant *coarser = requant_of(plan, stage->coarser);
    r->coarse_shift = coarser->shift;
    r->coarse_half = coarser->shift > 0 ? 1 << (coarser->shift - 1) : 0;
    r->coarse_low = coarser->low;
    r->coarse_high = coarser->high;
  }
  qk_fused_requant fast = *r;
  if (to->kind != QK_FUSED_CONV || fast_scale(plan, stage, r->sums_shift[0], &fast) < 0) return;
  *r = fast;
  to->flags |= QK_FUSED_FAST;
  if (r->shift == 0 && stage->skip == QE_NO_LAYER && stage->coarser == QE_NO_LAYER) to->flags |= QK_FUSED_PLAIN;
}

static void place_constants(fused_plan *plan, const qe_stage *stage, qk_fused_stage *to) {
  const qe_gene *offset = find_gene(plan, stage->requant, QE_GENE_OFFSET, 0);
  bool own = offset != NULL;
  if (own) to->flags |= QK_FUSED_OWN_CONSTANTS;
  to->constants = take_room(plan, own, (size_t)to->words * QK_FUSED_WORD * sizeof(qk_fused_constants));
  if (!own) return;
  int32_t main = stage->sums_branch;
  const qe_gene *m = find_gene(plan, stage->requant, QE_GENE_MULTIPLIER, main),
                *n = find_gene(plan, stage->requant, QE_GENE_MULTIPLIER, 1 - main);
  plan->own_constants.layer[plan->own_requants++] = (qk_fused_genes){.from_m = (qk_int)m->offset,
                                                                     .from_n = n ? (qk_int)n->offset : -1,
                                                                     .from_b = (qk_int)offset->offset,
                                                                     .to = to->constants,
                                                                     .count = (qk_int)offset->count};
}

void fused_plan_requant(fused_plan *plan, const qe_stage *stage, qk_fused_stage *to) {
  for (int k = 0; k < 2; k++)
    if (stage->kind == QE_STAGE_CONV && stage->from[k].layer != QE_NO_LAYER && fits_nibbles(plan, stage->from[k].layer))
      to->from[k].flags |= QK_FUSED_NIBBLES;
  set_requant(plan, stage, to);
  place_constants(plan, stage, to);
}

/* ---- the network's own values ---- */

static int64_t scaled(int64_t value, int32_t exponent) {
  return value * (INT64_C(1) << exponent);
}

static void fill_constants(const fused_plan *plan, size_t at, qk_fused_constants *to) {
  const qe_stage *stage = &plan->stages->stage[at];
  const qk_fused_stage *kernel = &plan->params.stage[at];
  const qe_network_layer *layer = &plan->network->layer[stage->requant];
  int32_t main = stage->sums_branch, sums_shift = sums_shift_of(&kernel->from[0]);
  qk_fused_requant scratch = kernel->requant;
  int32_t scale = kernel->flags & QK_FUSED_FAST ? fast_scale(plan, stage, sums_shift, &scratch) : -1;
  bool fast = scale >= 0, skips = stage->skip != QE_NO_LAYER, two = layer->inputs == 2;
  for (int32_t c = 0; c < layer->output.dim[QE_C]; c++) {
    int64_t m = layer->multiplier[main][c], n = two ? layer->multiplier[1 - main][c] : 0;
    to[c].m = (qk_int)(fast ? scaled(m, scale - sums_shift) : m);
    to[c].n = (qk_int)(fast && skips ? scaled(n, scale - SKIP_SHIFT) : n);
    to[c].b = fast ? scaled(layer->offset[c], scale) : layer->offset[c];
  }
}

static void fill_weights(const fused_plan *plan, const qe_stage *stage, const qk_fused_stage *kernel, char *packed,
                         size_t *at) {
  for (int k = 0; k < 2; k++) {
    if (stage->from[k].layer == QE_NO_LAYER || (kernel->from[k].flags & QK_FUSED_OWN_WEIGHTS)) continue;
    const qe_network_layer *layer = &plan->network->layer[stage->from[k].layer];
    qe_pack(&layer->grid, layer->weight, qe_count(&layer->weight_desc), packed + *at);
    *at += aligned(qe_packed_bytes(qe_count(&layer->weight_desc), layer->grid.bits));
  }
}

void fused_fill_common(const fused_plan *plan, void *common, void *packed) {
  size_t at = 0;
  memset(common, 0, plan->common_bytes);
  for (size_t s = 0; s < plan->stages->stages; s++) {
    const qe_stage *stage = &plan->stages->stage[s];
    const qk_fused_stage *kernel = &plan->params.stage[s];
    if (stage->kind == QE_STAGE_CONV) fill_weights(plan, stage, kernel, packed, &at);
    if (stage->requant != QE_NO_LAYER && !(kernel->flags & QK_FUSED_OWN_CONSTANTS))
      fill_constants(plan, s, (qk_fused_constants *)(void *)((char *)common + kernel->constants));
  }
}
