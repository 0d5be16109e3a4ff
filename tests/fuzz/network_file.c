/* Integer networks in files. What was read is given back, and that reads to a network again. */
#include "core/dispatch/network_file.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  qe_network *network, *again;
  qe_tensors *tensors = fuzz_tensors(data, size);
  if (!tensors) return 0;
  if (qe_network_take(tensors, "input", &network) == QE_OK) {
    qe_tensors *given = qe_tensors_new();
    FUZZ_REQUIRE(given && qe_network_give(network, given) == QE_OK);
    FUZZ_REQUIRE(qe_network_take(given, "given", &again) == QE_OK);
    FUZZ_REQUIRE(network->layers == again->layers);
    for (size_t i = 0; i < network->layers; i++)
      FUZZ_REQUIRE(network->layer[i].low == again->layer[i].low && network->layer[i].high == again->layer[i].high);
    qe_network_free(again);
    qe_network_free(network);
    qe_tensors_free(given);
  }
  qe_tensors_free(tensors);
  return 0;
}
