/* Files about bits by layer, by the first byte: b a bits file, l a latency table, e an energy table. Bits that were
 * read are written, and that file reads to the same; a table that was taken has a cost for them. */
#include "core/base/alloc.h"
#include "core/models/bit_cost.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <string.h>

enum { PLACES = 16 };

static qe_model_spec small_spec(void) {
  qe_model_spec spec = qe_model_default("mlp");
  spec.height = spec.width = 2;
  spec.bits.weights = 3;
  spec.bits.activations = 4;
  return spec;
}

static void bits_of_spec(const qe_model_spec *spec, qe_bit_map **map, int32_t *bits) {
  FUZZ_REQUIRE(qe_bit_map_new(spec, map) == QE_OK);
  FUZZ_REQUIRE((*map)->places <= PLACES);
  qe_bit_map_default(*map, bits);
}

static void try_bits(const char *path) {
  qe_model_spec spec = small_spec(), again = small_spec();
  char *layers = NULL, *layers_again = NULL;
  qe_bit_map *map, *map_again;
  int32_t bits[PLACES], bits_again[PLACES];
  if (qe_bits_file_read(path, &spec, &layers) != QE_OK) return;
  bits_of_spec(&spec, &map, bits);
  const char *copy = fuzz_path("copy");
  FUZZ_REQUIRE(qe_bits_file_write(copy, map, &spec, bits, NULL) == QE_OK);
  FUZZ_REQUIRE(qe_bits_file_read(copy, &again, &layers_again) == QE_OK);
  bits_of_spec(&again, &map_again, bits_again);
  for (int32_t p = 0; p < map->places; p++) FUZZ_REQUIRE(!map->place[p].open || bits[p] == bits_again[p]);
  qe_bit_map_free(map);
  qe_bit_map_free(map_again);
  qe_free(layers);
  qe_free(layers_again);
}

static void try_table(const char *path, bool latency) {
  qe_model_spec spec = small_spec();
  qe_cost_origin any = {0};
  qe_bit_map *map;
  qe_bit_costs *costs;
  int32_t bits[PLACES];
  bits_of_spec(&spec, &map, bits);
  FUZZ_REQUIRE(qe_bit_costs_new(map, &costs) == QE_OK);
  qe_status status = latency ? qe_bit_costs_take_latency(costs, path, &any) : qe_bit_costs_take_energy(costs, path);
  double cost = qe_bit_cost_of(costs, latency ? QE_BIT_COST_LATENCY : QE_BIT_COST_ENERGY, bits);
  FUZZ_REQUIRE(isnan(cost) == (status != QE_OK));
  qe_bit_costs_free(costs);
  qe_bit_map_free(map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1) return 0;
  const char *path = fuzz_path("input");
  fuzz_write(path, data + 1, size - 1);
  if (data[0] == 'b') try_bits(path);
  if (data[0] == 'l' || data[0] == 'e') try_table(path, data[0] == 'l');
  return 0;
}
