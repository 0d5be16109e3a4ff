/* Packing and genomes: exact inverses for every grid and count, the layout, values in and out of networks. */
#include "core/dispatch/genome.h"
#include "tests/network_draw.h"

static const network_limits limits = {.extent = 5, .channels = 6, .blocks = 4};

static qe_network *drawn(uint64_t seed) {
  draws from = {seed, 0};
  qe_network *network = network_drawn(&from, limits, 4);
  qe_network_prove(network);
  return network;
}

/* ---- packing ---- */

static int32_t codes_of(const qe_code_grid *grid) {
  return (grid->high - grid->low) / grid->spacing + 1;
}

/* Every bit of the stream, by its place. */
static uint32_t field_at(const uint8_t *packed, int64_t index, int32_t bits) {
  uint32_t field = 0;
  for (int32_t bit = 0; bit < bits; bit++) {
    int64_t at = index * bits + bit;
    field |= (uint32_t)(packed[at / 8] >> at % 8 & 1) << bit;
  }
  return field;
}

static void check_packing(draws *from, const qe_code_grid *grid, int64_t count) {
  size_t bytes = qe_packed_bytes(count, grid->bits);
  int8_t *codes = qe_alloc((size_t)count), *back = qe_alloc((size_t)count);
  uint8_t *packed = qe_alloc(bytes);
  assert_int_equal(bytes, (count * grid->bits + 7) / 8);
  for (int64_t i = 0; i < count; i++)
    codes[i] = (int8_t)(grid->low + grid->spacing * draw_range(from, 0, codes_of(grid) - 1));
  memset(packed, 0xFF, bytes);
  qe_pack(grid, codes, count, packed);
  for (int64_t i = 0; i < count; i++)
    assert_int_equal(grid->low + grid->spacing * (int32_t)field_at(packed, i, grid->bits), codes[i]);
  if (count * grid->bits % 8) assert_int_equal(packed[bytes - 1] >> count * grid->bits % 8, 0);
  qe_unpack(grid, packed, count, back);
  assert_memory_equal(codes, back, (size_t)count);
  assert_int_equal(qe_codes_find_bad(grid, codes, count), -1);
  assert_int_equal(qe_packed_find_bad(grid, packed, count), -1);
  qe_free(codes);
  qe_free(back);
  qe_free(packed);
}

static void test_packing_is_exact(void **state) {
  (void)state;
  draws from = {3, 0};
  for (int32_t bits = 1; bits <= 8; bits++)
    for (int64_t count = 1; count <= 70; count++)
      for (int32_t spacing = 1; spacing <= (bits < 8 ? 2 : 1); spacing++) {
        int32_t most = spacing * ((1 << bits) - 1);
        const qe_code_grid full = {bits, -((most + 1) / 2), spacing, most - (most + 1) / 2};
        check_packing(&from, &full, count);
        qe_code_grid less = full; /* the symmetric grid: a field that is no code */
        if (bits > 1) less.low += spacing;
        check_packing(&from, &less, count);
      }
}

static void test_bad_fields_are_found(void **state) {
  (void)state;
  for (int32_t bits = 2; bits <= 8; bits++)
    for (int64_t at = 0; at < 37; at++) {
      const qe_code_grid grid = {bits, 1 - (1 << (bits - 1)), 1, (1 << (bits - 1)) - 1};
      uint8_t packed[40] = {0};
      for (int32_t bit = 0; bit < bits; bit++) packed[(at * bits + bit) / 8] |= (uint8_t)(1 << (at * bits + bit) % 8);
      assert_int_equal(qe_packed_find_bad(&grid, packed, 37), at);
      assert_int_equal(qe_packed_find_bad(&grid, packed, at), -1);
    }
  const qe_code_grid odd = {2, -3, 2, 3};
  const int8_t codes[4] = {-3, 1, 2, 3}, low[1] = {-5};
  assert_int_equal(qe_codes_find_bad(&odd, codes, 4), 2);
  assert_int_equal(qe_codes_find_bad(&odd, low, 1), 0);
}

static void test_grids(void **state) {
  (void)state;
  const qe_code_grid bad[] = {{0, 0, 1, 0},    {9, -128, 1, 127}, {2, -3, 1, 3},  {2, -3, 2, 2}, {2, 0, 3, 3},
                              {8, -129, 1, 0}, {8, 0, 1, 128},    {4, 3, 1, 2},   {4, 0, 0, 1},  {8, -128, -1, 127},
                              {-1, 0, 1, 1},   {1, 0, 1, 2},      {32, 0, 1, 100}};
  const qe_code_grid good[] = {{1, -1, 2, 1}, {2, -1, 1, 1}, {8, -128, 1, 127}, {7, -127, 2, 127}, {1, 5, 1, 5}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(qe_grid_is_sound(&bad[i]));
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(qe_grid_is_sound(&good[i]));
}

/* ---- layout ---- */

static bool *all_that_can(const qe_network *network) {
  bool *evolves = QE_NEW_ARRAY(bool, network->layers);
  for (size_t i = 0; i < network->layers; i++) evolves[i] = network->layer[i].weight || network->layer[i].offset;
  return evolves;
}

static void check_layout(const qe_genome_layout *layout, const qe_network *network) {
  size_t end = 0;
  int32_t layer = 0;
  for (size_t i = 0; i < layout->genes; i++) {
    const qe_gene *gene = &layout->gene[i];
    assert_true(gene->layer >= layer && gene->layer < (int32_t)network->layers);
    assert_int_equal(gene->offset % 8, 0);
    assert_true(gene->offset >= end && gene->offset < end + 8);
    layer = gene->layer;
    end = gene->offset + gene->bytes;
  }
  assert_true(layout->bytes >= end && layout->bytes < end + 8 && layout->bytes % 8 == 0);
}

static void test_layout(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    qe_network *network = drawn(seed);
    qe_genome_layout *weights, *all;
    bool *evolves = all_that_can(network);
    OK(qe_genome_layout_new(network, NULL, &weights));
    OK(qe_genome_layout_new(network, evolves, &all));
    check_layout(weights, network);
    check_layout(all, network);
    assert_true(all->genes > weights->genes && weights->genes > 0);
    for (size_t i = 0; i < weights->genes; i++) assert_int_equal(weights->gene[i].kind, QE_GENE_WEIGHT);
    memset(evolves, 0, network->layers * sizeof *evolves);
    evolves[0] = true;
    qe_genome_layout *none;
    FAILS(QE_USAGE, qe_genome_layout_new(network, evolves, &none), "nothing evolves");
    qe_genome_layout_free(weights);
    qe_genome_layout_free(all);
    qe_free(evolves);
    qe_network_free(network);
  }
  qe_genome_layout_free(NULL);
}

/* ---- values ---- */

static bool same_constants(const qe_network *a, const qe_network *b) {
  bool same = a->layers == b->layers;
  for (size_t i = 0; same && i < a->layers; i++) {
    const qe_network_layer *x = &a->layer[i], *y = &b->layer[i];
    size_t channels = (size_t)x->output.dim[QE_C];
    same = x->low == y->low && x->high == y->high && x->attrs.requant.narrow == y->attrs.requant.narrow;
    if (x->weight) same = same && memcmp(x->weight, y->weight, (size_t)qe_count(&x->weight_desc)) == 0;
    for (int k = 0; x->offset && k < x->inputs; k++)
      same = same && memcmp(x->multiplier[k], y->multiplier[k], channels * sizeof(int32_t)) == 0;
    if (x->offset) same = same && memcmp(x->offset, y->offset, channels * sizeof(int64_t)) == 0;
  }
  return same;
}

/* Other valid values for every gene. */
static void scramble(draws *from, const qe_network *network) {
  for (size_t i = 0; i < network->layers; i++) {
    qe_network_layer *layer = &network->layer[i];
    int64_t count = layer->weight ? qe_count(&layer->weight_desc) : 0;
    for (int64_t k = 0; k < count; k++)
      layer->weight[k] =
          (int8_t)(layer->grid.low + layer->grid.spacing * draw_range(from, 0, codes_of(&layer->grid) - 1));
    for (int32_t c = 0; layer->offset && c < layer->output.dim[QE_C]; c++) {
      layer->offset[c] += draw_range(from, -9, 9);
      for (int b = 0; b < layer->inputs; b++) layer->multiplier[b][c] /= draw_range(from, 1, 3);
    }
  }
}

static void test_round_trip(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    draws from = {seed, 1000};
    qe_network *first = drawn(seed), *other = drawn(seed);
    bool *evolves = all_that_can(first);
    qe_genome_layout *layout;
    OK(qe_genome_layout_new(first, evolves, &layout));
    uint8_t *genome = qe_alloc(layout->bytes), *back = qe_alloc(layout->bytes);
    scramble(&from, other);
    qe_network_prove(other);
    qe_genome_from_network(layout, other, genome);
    OK(qe_genome_check(layout, first, genome));
    OK(qe_genome_to_network(layout, genome, first));
    assert_true(same_constants(first, other));
    OK(qe_network_check(first));
    memset(back, 0xFF, layout->bytes);
    qe_genome_from_network(layout, first, back);
    assert_memory_equal(genome, back, layout->bytes);
    qe_free(genome);
    qe_free(back);
    qe_free(evolves);
    qe_genome_layout_free(layout);
    qe_network_free(first);
    qe_network_free(other);
  }
}

static void test_first_difference(void **state) {
  (void)state;
  qe_network *network = drawn(5);
  bool *evolves = all_that_can(network);
  qe_genome_layout *layout;
  OK(qe_genome_layout_new(network, evolves, &layout));
  uint8_t *a = qe_alloc(layout->bytes), *b = qe_alloc(layout->bytes);
  qe_genome_from_network(layout, network, a);
  memcpy(b, a, layout->bytes);
  assert_int_equal(qe_genome_first_difference(layout, a, b, network->layers), network->layers);
  for (size_t i = layout->genes; i-- > 0;) {
    const qe_gene *gene = &layout->gene[i];
    b[gene->offset + gene->bytes - 1] ^= 1;
    assert_int_equal(qe_genome_first_difference(layout, a, b, network->layers), gene->layer);
  }
  qe_free(a);
  qe_free(b);
  qe_free(evolves);
  qe_genome_layout_free(layout);
  qe_network_free(network);
}

static void test_bad_genomes_change_nothing(void **state) {
  (void)state;
  uint64_t seed = 2;
  qe_network *network = drawn(seed), *untouched = drawn(seed);
  for (size_t i = 0; i < network->layers; i++) { /* room for a field that is no code */
    qe_network_layer *layer = &network->layer[i];
    for (int64_t k = 0; layer->weight && k < qe_count(&layer->weight_desc); k++) layer->weight[k] = 1;
    if (layer->weight) layer->grid = (qe_code_grid){3, -3, 1, 3};
    for (int64_t k = 0; layer->weight && k < qe_count(&layer->weight_desc); k++) untouched->layer[i].weight[k] = 1;
    if (layer->weight) untouched->layer[i].grid = layer->grid;
  }
  qe_network_prove(network);
  qe_network_prove(untouched);
  bool *evolves = all_that_can(network);
  qe_genome_layout *layout;
  OK(qe_genome_layout_new(network, evolves, &layout));
  uint8_t *genome = qe_alloc(layout->bytes);
  int64_t huge = INT64_MAX;
  for (size_t i = 0; i < layout->genes; i++) {
    const qe_gene *gene = &layout->gene[i];
    qe_genome_from_network(layout, network, genome);
    if (gene->kind == QE_GENE_WEIGHT) genome[gene->offset] = 0x07;
    if (gene->kind == QE_GENE_OFFSET) memcpy(genome + gene->offset, &huge, sizeof huge);
    if (gene->kind == QE_GENE_MULTIPLIER) continue;
    FAILS(QE_FORMAT, qe_genome_to_network(layout, genome, network), "genome, layer");
    assert_true(same_constants(network, untouched));
    int8_t codes[4096];
    if (gene->kind == QE_GENE_WEIGHT && gene->count <= (int64_t)sizeof codes)
      FAILS(QE_FORMAT, qe_genome_codes(gene, genome, codes), "weight 0 is no code of -3...3");
    if (gene->kind == QE_GENE_OFFSET) FAILS(QE_USAGE, qe_genome_codes(gene, genome, codes), "no weight");
  }
  qe_free(genome);
  qe_free(evolves);
  qe_genome_layout_free(layout);
  qe_network_free(network);
  qe_network_free(untouched);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_packing_is_exact),
      cmocka_unit_test(test_bad_fields_are_found),
      cmocka_unit_test(test_grids),
      cmocka_unit_test(test_layout),
      cmocka_unit_test(test_round_trip),
      cmocka_unit_test(test_first_difference),
      cmocka_unit_test(test_bad_genomes_change_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
