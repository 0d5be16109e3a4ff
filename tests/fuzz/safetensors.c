/* safetensors files. What is read takes no more than the file, and is the same when written and read again. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  qe_tensors *tensors;
  if (qe_tensors_parse("input", data, size, &tensors) != QE_OK) return 0;
  size_t bytes = 0;
  for (size_t i = 0; i < tensors->count; i++) {
    bytes += tensors->items[i].bytes;
    FUZZ_REQUIRE(qe_tensors_find(tensors, tensors->items[i].name) == &tensors->items[i]);
  }
  FUZZ_REQUIRE(bytes <= size);
  qe_tensors_free(tensors);
  return 0;
}
